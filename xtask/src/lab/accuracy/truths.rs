//! What each scenario is: the class of failure, and the functions that may be called guilty, by their names in `lab/crasher`.
//! The descriptor of a dump says what a seed made of these names.

/// What a scenario is.
pub(super) struct Truth {
    pub(super) scenario: &'static str,
    /// Classes that are right; none for a machine in which nothing is wrong.
    pub(super) classes: &'static [&'static str],
    /// Functions that are right; none where no function is to blame.
    pub(super) functions: &'static [&'static str],
    /// The module of the lab is to blame.
    pub(super) in_module: bool,
    /// Only with a vmlinux it can be seen; without one, nothing may be claimed.
    pub(super) needs_vmlinux: bool,
}

const fn truth(
    scenario: &'static str,
    classes: &'static [&'static str],
    functions: &'static [&'static str],
) -> Truth {
    Truth { scenario, classes, functions, in_module: !functions.is_empty(), needs_vmlinux: false }
}

pub(super) const TRUTHS: &[Truth] = &[
    truth("idle", &[], &[]),
    truth("load", &[], &[]),
    truth("sysrq", &["forced-dump"], &[]),
    truth("big", &["forced-dump"], &[]),
    truth("rich", &["forced-dump"], &[]),
    truth("null", &["null-dereference"], &["write_through", "crash_null"]),
    truth("wild", &["non-canonical", "wild-pointer"], &["write_through", "crash_wild"]),
    truth("bug", &["assertion"], &["fail_check", "crash_bug"]),
    truth("panic", &["panic"], &["crash_panic"]),
    truth("listdel", &["deleted-list-entry", "list-corruption"], &["crash_listdel"]),
    truth("doublefree", &["double-free", "slab-corruption"], &["crash_doublefree"]),
    truth("ascii", &["memory-overwrite", "list-corruption", "non-canonical"], &["crash_ascii"]),
    truth("stack", &["stack-overflow"], &["recurse"]),
    truth("softlockup", &["soft-lockup"], &["spin_without_preemption", "crash_softlockup"]),
    truth("hardlockup", &["hard-lockup"], &["spin_without_interrupts", "crash_hardlockup"]),
    truth("deadlock", &["deadlock"], &["take_both", "abba_one", "abba_two"]),
    truth("hung", &["deadlock", "hung-task"], &["follow_plan", "stuck_work_function", "flush_stuck_work"]),
    truth("spinlock", &["spinlock-hang", "deadlock"], &["spin_lock_again", "take_twice", "take_behind"]),
    truth("rcustall", &["rcu-stall"], &["read_for_ever"]),
    truth("deafcpu", &["cpu-unresponsive"], &["turn_deaf"]),
    truth("memory", &["cgroup-out-of-memory", "memory-leak", "out-of-memory"], &[]),
    truth("fragment", &["fragmentation"], &[]),
    truth("oom", &["out-of-memory", "memory-leak"], &[]),
    truth("slableak", &["memory-leak", "out-of-memory"], &[]),
    truth("stuck", &["io-hang", "filesystem-hang"], &[]),
    Truth {
        scenario: "bitflip",
        classes: &["bit-flip", "text-corruption"],
        functions: &["lcm"],
        in_module: false,
        needs_vmlinux: true,
    },
    truth("bpf", &["null-dereference", "wild-pointer"], &["fault_in_helper"]),
    truth("hardirq", &["panic"], &["panic_from_irq_work"]),
    truth("softirq", &["panic"], &["panic_from_timer"]),
    truth("nested", &["panic"], &["panic_from_irq_work"]),
    truth("ipi", &["panic"], &["panic_from_ipi"]),
    truth("nmi", &["panic"], &["panic_from_nmi"]),
    truth("useafterfree", &["use-after-free"], &["ask_peer", "crash_useafterfree"]),
    truth(
        "outofbounds",
        &["out-of-bounds", "memory-overwrite"],
        &["call_measure", "write_past", "crash_outofbounds"],
    ),
    truth("refcount", &["refcount"], &["put_twice", "crash_refcount"]),
    truth("divide", &["divide-error"], &["share_out", "crash_divide"]),
    truth("badjump", &["bad-jump"], &["call_data", "crash_badjump"]),
    truth("stackend", &["stack-corruption", "stack-overflow"], &["spoil_stack_end", "crash_stackend"]),
    truth("doublefault", &["double-fault", "stack-corruption"], &["lose_stack", "crash_doublefault"]),
    truth("bitpointer", &["bit-flip"], &["sum_peers", "crash_bitpointer"]),
    truth("pagetable", &["page-table-corruption"], &[]),
    Truth { in_module: true, ..truth("unload", &["use-after-unload"], &["-"]) },
    truth("rwsem", &["deadlock"], &["write_both", "sem_forth", "sem_back"]),
    truth("rtnl", &["deadlock"], &["configure", "net_first", "device_first"]),
    truth("initdies", &["init-died"], &[]),
    truth("tmpfs", &["out-of-memory"], &[]),
    truth("cgroupoom", &["cgroup-out-of-memory"], &[]),
    truth("mce", &["hardware-error"], &[]),
];

#[cfg(test)]
mod tests {
    use super::super::super::scenario::SCENARIOS;
    use super::TRUTHS;

    #[test]
    fn every_truth_is_of_a_scenario() {
        for truth in TRUTHS.iter().filter(|truth| truth.scenario != "mce") {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == truth.scenario), "{}", truth.scenario);
        }
    }
}
