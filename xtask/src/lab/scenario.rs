//! The scenarios: how each ends, and the frames that its backtrace must have.

use anyhow::{Result, bail};

/// How a scenario ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The kernel panics.
    Panic,
    /// The kernel panics once the lab has injected an NMI: emulated CPUs have no performance counters, hence no
    /// NMI watchdog of their own.
    PanicByNmi,
    /// The kernel panics once the lab has injected a machine check.
    PanicByMce,
    /// The system stays alive, and is dumped as it is.
    Alive,
    /// Whichever of the two comes first.
    Either,
}

/// A way to break a kernel.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) end: End,
    /// Functions that the panicking task's backtrace must have in this order, innermost first. `a|b`: one of them,
    /// by kernel; a star at the end stands for anything.
    pub(crate) frames: &'static [&'static str],
    /// Guest memory in MiB, when 512 is not enough.
    pub(crate) memory: u32,
    /// Seconds to wait for the end.
    pub(crate) patience: u32,
    /// More disks: one of virtio and one of NVMe that move a few kilobytes a second, and one with a file system.
    pub(crate) more_disks: bool,
    /// Whether its processors have 5-level paging; emulated nested paging has four.
    pub(crate) la57: bool,
}

const BASE: Scenario = Scenario {
    name: "",
    about: "",
    end: End::Panic,
    frames: &[],
    memory: 512,
    patience: 120,
    more_disks: false,
    la57: true,
};

/// The process that breaks the kernel inserts a module.
macro_rules! inserted {
    ($($frame:literal),*) => {
        &[$($frame,)* "do_one_initcall", "do_init_module", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    };
}

/// The process that breaks the kernel writes `c` to /proc/sysrq-trigger.
const SYSRQ: &[&str] =
    &["sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger", "vfs_write", "do_syscall_64"];

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "idle", about: "nothing happens: a live system", end: End::Alive, ..BASE },
    Scenario {
        name: "load",
        about: "only the evidence: list, rbtree, xarray, slab cache of known content",
        end: End::Alive,
        ..BASE
    },
    Scenario {
        name: "million",
        about: "the evidence, and a list of 1,000,000 objects scattered through slab",
        end: End::Alive,
        patience: 300,
        ..BASE
    },
    Scenario { name: "sysrq", about: "echo c >/proc/sysrq-trigger", frames: SYSRQ, ..BASE },
    Scenario {
        name: "null",
        about: "write through a null pointer",
        frames: inserted!("asm_exc_page_fault", "write_through", "crash_null"),
        ..BASE
    },
    Scenario {
        name: "wild",
        about: "write to an address that is not canonical",
        frames: inserted!("asm_exc_general_protection", "write_through", "crash_wild"),
        ..BASE
    },
    Scenario {
        name: "bug",
        about: "BUG()",
        frames: inserted!("asm_exc_invalid_op", "fail_check", "crash_bug"),
        ..BASE
    },
    Scenario { name: "panic", about: "panic()", frames: inserted!("panic", "crash_panic"), ..BASE },
    Scenario {
        name: "listdel",
        about: "list_del() twice",
        frames: inserted!("asm_exc_invalid_op|asm_exc_general_protection", "crash_listdel"),
        ..BASE
    },
    Scenario {
        name: "doublefree",
        about: "kmem_cache_free() twice; allocators with sheaves (7.x) do not notice",
        end: End::Either,
        frames: inserted!("asm_exc_invalid_op", "kmem_cache_free", "crash_doublefree"),
        ..BASE
    },
    Scenario {
        name: "stack",
        about: "endless recursion into the guard page: #DF",
        frames: &["asm_exc_double_fault", "recurse", "recurse", "recurse"],
        ..BASE
    },
    Scenario {
        name: "softlockup",
        about: "a CPU spins with preemption off, until the watchdog's timer",
        frames: inserted!(
            "panic",
            "watchdog_timer_fn",
            "asm_sysvec_apic_timer_interrupt",
            "spin_without_preemption",
            "crash_softlockup"
        ),
        ..BASE
    },
    Scenario {
        name: "hardlockup",
        about: "CPU 0 spins with interrupts off, until an injected NMI",
        end: End::PanicByNmi,
        frames: inserted!(
            "panic|nmi_panic",
            "exc_nmi",
            "end_repeat_nmi|asm_exc_nmi",
            "spin_without_interrupts",
            "crash_hardlockup"
        ),
        ..BASE
    },
    Scenario {
        name: "deadlock",
        about: "two threads take two mutexes in opposite orders; the hung-task watchdog panics",
        frames: &["panic", "watchdog", "kthread", "ret_from_fork"],
        ..BASE
    },
    Scenario {
        name: "hung",
        about: "a task waits for ever for each kind of lock, some in circles; a work item never ends",
        end: End::Alive,
        ..BASE
    },
    Scenario {
        name: "spinlock",
        about: "CPU 1 takes a spinlock twice, CPU 0 waits behind it, until the watchdog's timer",
        frames: &[
            "panic",
            "watchdog_timer_fn",
            "native_queued_spin_lock_slowpath|__pv_queued_spin_lock_slowpath",
            "spin_lock_again",
        ],
        ..BASE
    },
    Scenario {
        name: "rcustall",
        about: "CPU 1 spins as a reader of RCU; a task waits for the grace period",
        end: End::Alive,
        ..BASE
    },
    Scenario {
        name: "deafcpu",
        about: "CPU 1 spins with interrupts off; CPU 0 calls it and waits, until the watchdog's timer",
        frames: &["panic", "watchdog_timer_fn", "smp_call_function_single", "call_deaf_cpu"],
        ..BASE
    },
    Scenario {
        name: "traced",
        about: "probes of each kind, two instances of tracing, a live patch that one task holds up",
        end: End::Alive,
        patience: 300,
        ..BASE
    },
    Scenario {
        name: "mce",
        about: "a corrected machine check, then one that is fatal, both injected by the lab",
        end: End::PanicByMce,
        frames: &["mce_panic", "do_machine_check", "exc_machine_check"],
        ..BASE
    },
    Scenario { name: "ascii", about: "text over a page of slab objects", end: End::Either, ..BASE },
    Scenario { name: "bitflip", about: "one bit of the kernel's code flipped", end: End::Alive, ..BASE },
    Scenario { name: "moduleflip", about: "one bit of a module's code flipped", end: End::Alive, ..BASE },
    Scenario {
        name: "kvm",
        about: "a virtual machine of two processors, one running and one halted, then sysrq",
        frames: SYSRQ,
        la57: false,
        ..BASE
    },
    Scenario {
        name: "paused",
        about: "the machine stopped from outside for half a minute, then sysrq",
        frames: SYSRQ,
        patience: 300,
        ..BASE
    },
    Scenario { name: "oom", about: "every free page taken, owned by nobody", end: End::Either, ..BASE },
    Scenario { name: "slableak", about: "every free page taken by one slab cache", end: End::Either, ..BASE },
    Scenario {
        name: "memory",
        about: "4,000 lost objects of one content, a full tmpfs, a cgroup at its limit, a cached file",
        end: End::Alive,
        patience: 300,
        ..BASE
    },
    Scenario {
        name: "fragment",
        about: "half of memory free, but no block of more than two pages",
        end: End::Alive,
        patience: 300,
        ..BASE
    },
    Scenario {
        name: "hardirq",
        about: "panic from irq_work, in a hard interrupt",
        frames: inserted!(
            "panic",
            "panic_from_irq_work",
            "sysvec_irq_work",
            "asm_sysvec_irq_work",
            "raise_irq_work",
            "crash_hardirq"
        ),
        ..BASE
    },
    Scenario {
        name: "softirq",
        about: "panic from a timer, in a softirq",
        frames: inserted!(
            "panic",
            "panic_from_timer",
            "call_timer_fn",
            "__do_softirq|handle_softirqs",
            "asm_sysvec_apic_timer_interrupt",
            "spin_for_interrupt",
            "crash_softirq"
        ),
        ..BASE
    },
    Scenario {
        name: "nested",
        about: "panic from a hard interrupt in a softirq",
        frames: inserted!(
            "panic",
            "panic_from_irq_work",
            "asm_sysvec_irq_work",
            "raise_irq_work",
            "interrupt_from_timer",
            "__do_softirq|handle_softirqs",
            "asm_sysvec_apic_timer_interrupt",
            "spin_for_interrupt",
            "crash_nested"
        ),
        ..BASE
    },
    Scenario {
        name: "ipi",
        about: "panic in a function that another CPU asked for",
        frames: &["panic", "panic_from_ipi"],
        ..BASE
    },
    Scenario {
        name: "nmi",
        about: "panic from a module's NMI handler",
        end: End::PanicByNmi,
        frames: inserted!(
            "panic",
            "panic_from_nmi",
            "nmi_handle",
            "exc_nmi",
            "end_repeat_nmi|asm_exc_nmi",
            "spin_for_interrupt",
            "crash_nmi"
        ),
        ..BASE
    },
    Scenario {
        name: "kprobe",
        about: "panic from a kprobe that is a breakpoint",
        frames: inserted!(
            "panic",
            "panic_from_kprobe",
            "asm_exc_int3",
            "call_through_kprobe",
            "crash_kprobe"
        ),
        ..BASE
    },
    Scenario {
        name: "optprobe",
        about: "panic from a kprobe that is a jump",
        frames: inserted!(
            "panic",
            "panic_from_kprobe",
            "opt_pre_handler",
            "optimized_callback",
            "call_through_kprobe",
            "crash_optprobe"
        ),
        ..BASE
    },
    Scenario {
        name: "ftraceprobe",
        about: "panic from a kprobe that is an ftrace hook",
        frames: inserted!(
            "panic",
            "panic_from_kprobe",
            "kprobe_ftrace_handler",
            "traced",
            "call_through_kprobe",
            "crash_ftraceprobe"
        ),
        ..BASE
    },
    Scenario {
        name: "kretprobe",
        about: "panic in a function whose return address is a trampoline",
        frames: inserted!("panic", "panic_before_return", "call_through_kretprobe", "crash_kretprobe"),
        ..BASE
    },
    Scenario {
        name: "ftrace",
        about: "panic from an ftrace hook",
        frames: inserted!("panic", "panic_from_ftrace", "msleep", "sleep_through_hook", "crash_ftrace"),
        ..BASE
    },
    Scenario {
        name: "bpf",
        about: "a fault in a helper of a BPF program, JIT-compiled, two frames deep",
        frames: &[
            "asm_exc_page_fault",
            "fault_in_helper",
            "bpf_prog_*",
            "bpf_prog_*",
            "sk_filter_trim_cap",
            "unix_dgram_sendmsg",
            "do_syscall_64",
            "entry_SYSCALL_64_after_hwframe",
        ],
        ..BASE
    },
    Scenario {
        name: "useafterfree",
        about: "a pointer read out of an object after its free",
        frames: inserted!("asm_exc_general_protection", "ask_peer", "crash_useafterfree"),
        ..BASE
    },
    Scenario {
        name: "outofbounds",
        about: "text written past an object, into the pointers of the next",
        frames: inserted!("asm_exc_general_protection", "call_measure", "crash_outofbounds"),
        ..BASE
    },
    Scenario {
        name: "refcount",
        about: "a reference given back twice, with panic_on_warn",
        frames: inserted!("panic", "refcount_warn_saturate", "put_twice"),
        ..BASE
    },
    Scenario {
        name: "divide",
        about: "a division by zero",
        frames: inserted!("asm_exc_divide_error", "share_out", "crash_divide"),
        ..BASE
    },
    Scenario {
        name: "badjump",
        about: "a call of data",
        frames: inserted!("asm_exc_page_fault", "call_data", "crash_badjump"),
        ..BASE
    },
    Scenario {
        name: "stackend",
        about: "the end of a stack overwritten, which the scheduler sees",
        frames: inserted!("panic", "__schedule*", "schedule", "spoil_stack_end"),
        ..BASE
    },
    Scenario {
        name: "doublefault",
        about: "a stack pointer lost: #DF",
        frames: &["asm_exc_double_fault"],
        ..BASE
    },
    Scenario {
        name: "bitpointer",
        about: "one bit of a pointer flipped",
        frames: inserted!("sum_peers", "crash_bitpointer"),
        ..BASE
    },
    Scenario {
        name: "pagetable",
        about: "text in a page table",
        frames: inserted!("asm_exc_page_fault", "read_user_page", "crash_pagetable"),
        ..BASE
    },
    Scenario {
        name: "unload",
        about: "a timer of a module that was unloaded",
        frames: &["asm_exc_page_fault"],
        ..BASE
    },
    Scenario {
        name: "rwsem",
        about: "two threads take two rwsems in opposite orders; the hung-task watchdog panics",
        frames: &["panic", "watchdog", "kthread", "ret_from_fork"],
        ..BASE
    },
    Scenario {
        name: "rtnl",
        about: "the same with rtnl and a mutex",
        frames: &["panic", "watchdog", "kthread", "ret_from_fork"],
        ..BASE
    },
    Scenario { name: "initdies", about: "init ends", frames: &["panic", "do_exit"], ..BASE },
    Scenario {
        name: "tmpfs",
        about: "a file in tmpfs takes all memory, with panic_on_oom",
        frames: &["panic", "out_of_memory"],
        ..BASE
    },
    Scenario {
        name: "cgroupoom",
        about: "a process goes beyond the limit of its group, with panic_on_oom",
        frames: &["panic", "mem_cgroup_out_of_memory"],
        ..BASE
    },
    Scenario {
        name: "big",
        about: "1,500 processes of two threads, a filled page cache, then sysrq",
        frames: SYSRQ,
        memory: 4096,
        patience: 400,
        ..BASE
    },
    Scenario {
        name: "stuck",
        about: "I/O, a journal and packets that do not go on, each in a way of its own, then sysrq",
        frames: SYSRQ,
        patience: 300,
        more_disks: true,
        ..BASE
    },
    Scenario {
        name: "blocked",
        about: "NFS, xfs, btrfs, a block queue, a SCSI host, a network queue and readers of RCU that do not go on",
        end: End::Alive,
        memory: 768,
        patience: 400,
        ..BASE
    },
    Scenario {
        name: "rich",
        about: "something in every subsystem, and all of /proc written down, then sysrq",
        frames: SYSRQ,
        patience: 300,
        ..BASE
    },
];

/// The scenario of this name.
pub(crate) fn find(name: &str) -> Result<&'static Scenario> {
    match SCENARIOS.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => bail!("no scenario {name}: see `cargo xtask lab scenarios`"),
    }
}

pub(crate) fn print_table() {
    for scenario in SCENARIOS {
        let end = match scenario.end {
            End::Panic => "panics",
            End::PanicByNmi => "panics by NMI",
            End::PanicByMce => "panics by MCE",
            End::Alive => "stays alive",
            End::Either => "panics or stays",
        };
        println!("{:<12} {:<16} {}", scenario.name, end, scenario.about);
    }
}
