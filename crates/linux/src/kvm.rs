//! Virtual machines of KVM, their processors and memory (virt/kvm/kvm_main.c, arch/x86/kvm).

use kdive_base::{PAGE_SIZE, PhysAddr, VirtAddr};
use kdive_debuginfo::{Type, TypeId, Types};
use kdive_target::walk::{Order, RbLayout, XArrayLayout, xarray};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, walk};
use serde::Serialize;

use crate::tasks::{TaskName, Tasks};

/// What a virtual processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VcpuState {
    /// The guest's code runs, or ran when the machine died.
    InGuest,
    /// Its task is in KVM, on the way into the guest or out of it.
    InKvm,
    /// Its task is in KVM and was taken off its processor though it wanted to run.
    Preempted,
    /// The guest halted it: its task sleeps in KVM until an interrupt comes.
    Halted,
    /// It waits to be started by another (INIT, SIPI).
    WaitsForStart,
    /// Its task sleeps in KVM for another reason.
    Blocked,
    /// Its task has left KVM.
    InUserSpace,
    /// Nobody ran it yet.
    NeverRan,
}

impl VcpuState {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::InGuest => "in guest",
            Self::InKvm => "in kvm",
            Self::Preempted => "preempted",
            Self::Halted => "halted",
            Self::WaitsForStart => "waits for start",
            Self::Blocked => "blocked",
            Self::InUserSpace => "in user space",
            Self::NeverRan => "never ran",
        }
    }
}

/// A counter of a virtual processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// Its name, as debugfs has it.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// A virtual processor.
#[derive(Clone, Debug, Serialize)]
pub struct Vcpu {
    /// Its `struct kvm_vcpu`.
    pub kvm_vcpu: VirtAddr,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i32>,
    /// The task that runs it, or ran it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
    /// The processor that it is loaded on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i32>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<VcpuState>,
    /// How often it left the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exits: Option<u64>,
    /// Why it left the guest last (`SVM_EXIT_*`), on processors of AMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Where the guest's code was then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_ip: Option<VirtAddr>,
    /// Why it went back to user space last (`KVM_EXIT_*`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_to_user: Option<String>,
    /// Its counters that are not 0.
    pub counters: Vec<Counter>,
}

/// A stretch of the guest's physical memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemorySlot {
    /// Its `struct kvm_memory_slot`.
    pub kvm_memory_slot: VirtAddr,
    /// Its number.
    pub id: i16,
    /// The address space: 1 is that of system management mode.
    pub space: u16,
    /// Where it lies in the guest's physical memory.
    pub guest: PhysAddr,
    /// Its bytes.
    pub bytes: u64,
    /// Where it lies in the owner's memory.
    pub user: VirtAddr,
    /// Whether changed pages are noted, as for a migration.
    pub logs_dirty_pages: bool,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A virtual machine.
#[derive(Clone, Debug, Serialize)]
pub struct VirtualMachine {
    /// Its `struct kvm`.
    pub kvm: VirtAddr,
    /// The process that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<TaskName>,
    /// KVM gave it up because of a mistake of its own.
    pub bugged: bool,
    /// Bytes of the guest's memory.
    pub memory_bytes: u64,
    /// Its processors.
    pub vcpus: Vec<Vcpu>,
    /// Its memory, by address.
    pub slots: Vec<MemorySlot>,
    /// What could not be told: what, and why.
    #[serde(skip)]
    pub lacks: Vec<(&'static str, Lacks)>,
}

#[derive(Load)]
#[load(type = "kvm", module)]
struct RawVm {
    mm: Field<VirtAddr>,
    userspace_pid: Field<i32>,
    #[load(any("online_vcpus.counter"))]
    online: Field<u32>,
    /// Pointers (until 5.16).
    vcpus: Field<MemberAddress>,
    vcpu_array: Field<MemberAddress>,
    memslots: Field<MemberAddress>,
    vm_bugged: Field<bool>,
}

#[derive(Load)]
#[load(type = "kvm_vcpu", module)]
struct RawVcpu {
    #[load(address)]
    at: VirtAddr,
    cpu: Field<i32>,
    vcpu_id: Field<i32>,
    mode: Field<i32>,
    #[load(any("mutex.owner.counter"))]
    owner: Field<u64>,
    run: Field<VirtAddr>,
    #[load(any("wait.task"))]
    waits: Field<VirtAddr>,
    pid: Field<VirtAddr>,
    preempted: Field<bool>,
    #[load(any("arch.mp_state"))]
    mp_state: Field<i32>,
    stat: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "kvm_run", module)]
struct RawRun {
    exit_reason: Field<u32>,
}

#[derive(Load)]
#[load(type = "vcpu_svm", module)]
struct RawSvm {
    vmcb: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "vmcb", module)]
struct RawVmcb {
    #[load(any("control.exit_code"))]
    exit_code: Field<u64>,
    #[load(any("save.rip"))]
    rip: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "pid")]
struct RawPid {
    /// Of each namespace, the initial one first; each begins with the number.
    numbers: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "kvm_memslots", module)]
struct RawSlots {
    /// How many are in `memslots` (until 5.16).
    used_slots: Field<u32>,
    memslots: Field<MemberAddress>,
    gfn_tree: Field<MemberAddress>,
    /// Which of a slot's nodes is in the tree.
    node_idx: Field<u32>,
}

#[derive(Load)]
#[load(type = "kvm_memory_slot", module)]
struct RawSlot {
    #[load(address)]
    at: VirtAddr,
    base_gfn: Field<u64>,
    npages: Field<u64>,
    userspace_addr: Field<VirtAddr>,
    flags: Field<u32>,
    id: Field<i16>,
    as_id: Field<u16>,
}

/// Low bits of a mutex's owner are flags (kernel/locking/mutex.c).
const MUTEX_FLAGS: u64 = 7;
/// `IN_GUEST_MODE` (include/linux/kvm_host.h).
const IN_GUEST_MODE: i32 = 1;
// `KVM_MP_STATE_*` (include/uapi/linux/kvm.h).
const UNINITIALIZED: i32 = 1;
const INIT_RECEIVED: i32 = 2;
const HALTED: i32 = 3;
// `KVM_MEM_*` (include/uapi/linux/kvm.h).
const LOG_DIRTY_PAGES: u32 = 1;
const READONLY: u32 = 2;
const MOST_MACHINES: usize = 1 << 16;
/// `KVM_MAX_VCPUS` is 4096 at most.
const MOST_VCPUS: u32 = 1 << 13;
/// `KVM_USER_MEM_SLOTS` is 32,764 at most.
const MOST_SLOTS: u32 = 1 << 16;
const MOST_SPACES: u64 = 8;

/// Whether the module is loaded, or built in.
#[must_use]
pub fn is_there(kernel: &Kernel) -> bool {
    kernel.modules().named("kvm").is_some() || kernel.symbol("vm_list").is_ok()
}

/// All virtual machines, in the order in which they were made.
///
/// # Errors
/// The kernel does not say where they are, or the module's types are not known.
pub fn machines(kernel: &Kernel) -> Field<Vec<VirtualMachine>> {
    let of_module = kernel.symbols()?.by_name_in(Some("kvm"), "vm_list");
    let head = match of_module.first() {
        Some(symbol) => symbol.address,
        None => kernel.symbol("vm_list")?,
    };
    let link = kernel.module_member("kvm", &["vm_list"])?.offset;
    let reader = Reader::new(kernel);
    let mut found = Vec::new();
    for item in walk::list(kernel.memory(), head).take(MOST_MACHINES) {
        found.push(reader.machine(item?.sub(link)));
    }
    // New ones are added in front.
    found.reverse();
    Ok(found)
}

struct Reader<'k> {
    kernel: &'k Kernel,
    tasks: std::sync::Arc<Tasks>,
    machines: Loader<'k, RawVm>,
    vcpus: Loader<'k, RawVcpu>,
    slots: Loader<'k, RawSlot>,
    /// Names and places of counters.
    counters: Field<Vec<(String, u64)>>,
    is_amd: bool,
}

impl<'k> Reader<'k> {
    fn new(kernel: &'k Kernel) -> Self {
        let counters = || {
            let stat = kernel.module_member("kvm_vcpu", &["stat"])?;
            Ok(counters_of(kernel.all_types()?, stat.of))
        };
        Self {
            kernel,
            tasks: Tasks::find(kernel),
            machines: kernel.loader(),
            vcpus: kernel.loader(),
            slots: kernel.loader(),
            counters: counters(),
            is_amd: kernel.modules().named("kvm_amd").is_some(),
        }
    }

    fn machine(&self, at: VirtAddr) -> VirtualMachine {
        let raw = self.machines.load(at);
        let mut lacks = Vec::new();
        let vcpus = self.vcpus(&raw).map_err(|why| lacks.push(("processors", why))).unwrap_or_default();
        let slots = self.slots(&raw).map_err(|why| lacks.push(("memory", why))).unwrap_or_default();
        let memory = slots.iter().filter(|slot| slot.space == 0).map(|slot| slot.bytes);
        VirtualMachine {
            kvm: at,
            owner: self.owner(&raw),
            bugged: raw.vm_bugged.unwrap_or(false),
            memory_bytes: memory.fold(0, u64::saturating_add),
            vcpus,
            slots,
            lacks,
        }
    }

    /// The first thread of the process whose memory the machine uses. Its number alone may be another's by now.
    fn owner(&self, raw: &RawVm) -> Option<TaskName> {
        let mm = raw.mm.clone().ok()?;
        let of_mm = |pid: i32| self.tasks.with_pid(pid).find(|task| task.mm == Ok(mm)).map(TaskName::of);
        let by_number = raw.userspace_pid.clone().ok().and_then(of_mm);
        by_number.or_else(|| {
            let all = self.tasks.all().iter();
            let mut users = all.filter(|task| task.mm == Ok(mm) && task.is_group_leader() == Some(true));
            users.next().map(TaskName::of)
        })
    }

    fn vcpus(&self, raw: &RawVm) -> Field<Vec<Vcpu>> {
        let memory = self.kernel.memory();
        let count = raw.online.clone()?.min(MOST_VCPUS);
        let mut found = Vec::new();
        if let Ok(MemberAddress(tree)) = raw.vcpu_array {
            let layout = XArrayLayout::find(self.kernel)?;
            let head = layout.head(memory, tree)?;
            for entry in xarray(memory, layout, head).take(MOST_VCPUS as usize) {
                found.push(self.vcpu(VirtAddr(entry?.entry)));
            }
            return Ok(found);
        }
        let MemberAddress(first) = raw.vcpus.clone()?;
        for index in 0..u64::from(count) {
            let at = memory.pointer(first.add(index.saturating_mul(8)))?;
            if !at.is_null() {
                found.push(self.vcpu(at));
            }
        }
        Ok(found)
    }

    fn vcpu(&self, at: VirtAddr) -> Vcpu {
        let raw = self.vcpus.load(at);
        let counters = self.counters(&raw);
        let svm = self.is_amd.then(|| self.vmcb(raw.at)).and_then(Result::ok);
        let run: Option<RawRun> = raw.run.clone().ok().map(|at| self.kernel.load(at));
        let to_user = run.and_then(|run| run.exit_reason.ok());
        let exit = svm.as_ref().and_then(|vmcb| vmcb.exit_code.clone().ok());
        Vcpu {
            kvm_vcpu: at,
            id: raw.vcpu_id.clone().ok(),
            task: self.task(&raw),
            cpu: raw.cpu.clone().ok().filter(|&cpu| cpu >= 0),
            state: state(&raw),
            exits: counters.iter().find(|counter| counter.name == "exits").map(|counter| counter.value),
            last_exit: exit.and_then(svm_exit),
            guest_ip: exit.and(svm.and_then(|vmcb| vmcb.rip.ok())),
            last_to_user: to_user.filter(|&reason| reason != 0).map(user_exit),
            counters,
        }
    }

    fn vmcb(&self, vcpu: VirtAddr) -> Field<RawVmcb> {
        // `struct vcpu_svm` begins with the processor.
        let svm: RawSvm = self.kernel.load(vcpu);
        Ok(self.kernel.load(svm.vmcb?))
    }

    fn task(&self, raw: &RawVcpu) -> Option<TaskName> {
        let pid: RawPid = self.kernel.load(raw.pid.clone().ok().filter(|at| !at.is_null())?);
        let MemberAddress(first) = pid.numbers.ok()?;
        let number = self.kernel.memory().u32(first).ok()?.cast_signed();
        self.tasks.with_pid(number).next().map(TaskName::of)
    }

    fn counters(&self, raw: &RawVcpu) -> Vec<Counter> {
        let (Ok(places), Ok(MemberAddress(at))) = (&self.counters, &raw.stat) else { return Vec::new() };
        let counter = |(name, offset): &(String, u64)| {
            let value = self.kernel.memory().u64(at.add(*offset)).ok().filter(|&value| value != 0)?;
            Some(Counter { name: name.clone(), value })
        };
        places.iter().filter_map(counter).collect()
    }

    fn slots(&self, raw: &RawVm) -> Field<Vec<MemorySlot>> {
        let memory = self.kernel.memory();
        let MemberAddress(sets) = raw.memslots.clone()?;
        let spaces = self.kernel.module_member("kvm", &["memslots"])?.bytes.checked_div(8).unwrap_or(1);
        let mut found = Vec::new();
        for space in 0..spaces.min(MOST_SPACES) {
            let set = memory.pointer(sets.add(space.saturating_mul(8)))?;
            if !set.is_null() {
                self.slots_of(set, &mut found)?;
            }
        }
        found.sort_by_key(|slot| (slot.space, slot.guest));
        Ok(found)
    }

    fn slots_of(&self, set: VirtAddr, found: &mut Vec<MemorySlot>) -> Field<()> {
        let set: RawSlots = self.kernel.load(set);
        let Ok(MemberAddress(root)) = set.gfn_tree else {
            let MemberAddress(first) = set.memslots?;
            let size = self.slots.size()?;
            for index in 0..u64::from(set.used_slots?.min(MOST_SLOTS)) {
                found.push(self.slot(first.add(index.saturating_mul(size)))?);
            }
            return Ok(());
        };
        let nodes = self.kernel.module_member("kvm_memory_slot", &["gfn_node"])?;
        // Each slot has two, one for the set in use and one for the set being made.
        let node = nodes.bytes.checked_div(2).unwrap_or(0).saturating_mul(set.node_idx?.min(1).into());
        let inside = nodes.offset.saturating_add(node);
        let (layout, top) = (RbLayout::find(self.kernel)?, self.kernel.memory().pointer(root)?);
        for at in walk::rbtree(self.kernel.memory(), layout, top, Order::Sorted).take(MOST_SLOTS as usize) {
            found.push(self.slot(at?.at.sub(inside))?);
        }
        Ok(())
    }

    fn slot(&self, at: VirtAddr) -> Field<MemorySlot> {
        let raw = self.slots.load(at);
        let flags = raw.flags?;
        Ok(MemorySlot {
            kvm_memory_slot: raw.at,
            id: raw.id?,
            space: raw.as_id.unwrap_or(0),
            guest: PhysAddr(raw.base_gfn?.saturating_mul(PAGE_SIZE)),
            bytes: raw.npages?.saturating_mul(PAGE_SIZE),
            user: raw.userspace_addr?,
            logs_dirty_pages: flags & LOG_DIRTY_PAGES != 0,
            read_only: flags & READONLY != 0,
        })
    }
}

/// What a processor does: the mutex is held while its task is in KVM, the wait has a task while that sleeps.
fn state(raw: &RawVcpu) -> Option<VcpuState> {
    let is_in_kvm = raw.owner.clone().ok()? & !MUTEX_FLAGS != 0;
    let sleeps = raw.waits.clone().is_ok_and(|task| !task.is_null());
    Some(match (raw.mode.clone().ok()?, is_in_kvm) {
        _ if raw.pid.clone().is_ok_and(VirtAddr::is_null) => VcpuState::NeverRan,
        (_, false) => VcpuState::InUserSpace,
        (IN_GUEST_MODE, _) => VcpuState::InGuest,
        _ if sleeps => match raw.mp_state {
            Ok(HALTED) => VcpuState::Halted,
            Ok(UNINITIALIZED | INIT_RECEIVED) => VcpuState::WaitsForStart,
            _ => VcpuState::Blocked,
        },
        _ if raw.preempted == Ok(true) => VcpuState::Preempted,
        _ => VcpuState::InKvm,
    })
}

/// Counters of eight bytes, also those that all architectures have in a structure of their own.
fn counters_of(types: &Types, of: TypeId) -> Vec<(String, u64)> {
    let parts =
        members_of(types, of).into_iter().flat_map(|(name, at, of)| match types.stripped(of).as_deref() {
            Some(Type::Record(_)) => {
                let inside = members_of(types, of).into_iter();
                inside.map(|(name, offset, of)| (name, at.saturating_add(offset), of)).collect()
            }
            _ => vec![(name, at, of)],
        });
    let is_counter = |of: TypeId| matches!(types.stripped(of).as_deref(), Some(Type::Int { bytes: 8, .. }));
    parts.filter(|&(_, _, of)| is_counter(of)).map(|(name, at, _)| (name, at)).collect()
}

/// Names, places in bytes and types.
fn members_of(types: &Types, of: TypeId) -> Vec<(String, u64, TypeId)> {
    let of = types.stripped(of);
    let Some(Type::Record(record)) = of.as_deref() else { return Vec::new() };
    let members = record.members.iter();
    members
        .map(|member| {
            (member.name.as_deref().unwrap_or_default().to_owned(), member.bit_offset / 8, member.of)
        })
        .collect()
}

/// `SVM_EXIT_*` (arch/x86/include/uapi/asm/svm.h); `None` before the first exit.
fn svm_exit(code: u64) -> Option<String> {
    let name = match code as u32 {
        u32::MAX => return None,
        0x060 => "INTR",
        0x061 => "NMI",
        0x062 => "SMI",
        0x063 => "INIT",
        0x064 => "VINTR",
        0x06e => "RDTSC",
        0x072 => "CPUID",
        0x074 => "IRET",
        0x076 => "INVD",
        0x077 => "PAUSE",
        0x078 => "HLT",
        0x079 => "INVLPG",
        0x07b => "IOIO",
        0x07c => "MSR",
        0x07d => "TASK_SWITCH",
        0x07f => "SHUTDOWN",
        0x080 => "VMRUN",
        0x081 => "VMMCALL",
        0x087 => "RDTSCP",
        0x089 => "WBINVD",
        0x08a => "MONITOR",
        0x08b => "MWAIT",
        0x08d => "XSETBV",
        0x400 => "NPF",
        0x401 => "AVIC_INCOMPLETE_IPI",
        0x402 => "AVIC_UNACCELERATED_ACCESS",
        0x403 => "VMGEXIT",
        code @ 0x000..=0x00f => return Some(format!("READ_CR{code}")),
        code @ 0x010..=0x01f => return Some(format!("WRITE_CR{}", code & 0xf)),
        code @ 0x020..=0x02f => return Some(format!("READ_DR{}", code & 0xf)),
        code @ 0x030..=0x03f => return Some(format!("WRITE_DR{}", code & 0xf)),
        code @ 0x040..=0x05f => return Some(format!("EXCP {}", code & 0x1f)),
        code => return Some(format!("{code:#x}")),
    };
    Some(name.to_owned())
}

/// `KVM_EXIT_*` (include/uapi/linux/kvm.h).
fn user_exit(reason: u32) -> String {
    let name = match reason {
        1 => "EXCEPTION",
        2 => "IO",
        3 => "HYPERCALL",
        4 => "DEBUG",
        5 => "HLT",
        6 => "MMIO",
        7 => "IRQ_WINDOW_OPEN",
        8 => "SHUTDOWN",
        9 => "FAIL_ENTRY",
        10 => "INTR",
        11 => "SET_TPR",
        12 => "TPR_ACCESS",
        16 => "NMI",
        17 => "INTERNAL_ERROR",
        24 => "SYSTEM_EVENT",
        26 => "IOAPIC_EOI",
        27 => "HYPERV",
        29 => "X86_RDMSR",
        30 => "X86_WRMSR",
        31 => "DIRTY_RING_FULL",
        34 => "XEN",
        37 => "NOTIFY",
        39 => "MEMORY_FAULT",
        reason => return reason.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In KVM, outside of the guest, awake.
    fn vcpu() -> RawVcpu {
        RawVcpu {
            at: VirtAddr(0x1000),
            cpu: Ok(1),
            vcpu_id: Ok(0),
            mode: Ok(0),
            owner: Ok(0xffff_8880_0000_1000 | 1),
            run: Ok(VirtAddr(0x2000)),
            waits: Ok(VirtAddr(0)),
            pid: Ok(VirtAddr(0x3000)),
            preempted: Ok(false),
            mp_state: Ok(0),
            stat: Ok(MemberAddress(VirtAddr(0x4000))),
        }
    }

    #[test]
    fn states_follow_from_mutex_wait_and_mode() {
        let task = || Ok(VirtAddr(0xffff_8880_0000_1000));
        let cases = [
            (vcpu(), VcpuState::InKvm),
            (RawVcpu { mode: Ok(1), ..vcpu() }, VcpuState::InGuest),
            (RawVcpu { owner: Ok(0), ..vcpu() }, VcpuState::InUserSpace),
            (RawVcpu { owner: Ok(0), pid: Ok(VirtAddr(0)), ..vcpu() }, VcpuState::NeverRan),
            (RawVcpu { waits: task(), mp_state: Ok(3), ..vcpu() }, VcpuState::Halted),
            (RawVcpu { waits: task(), mp_state: Ok(1), ..vcpu() }, VcpuState::WaitsForStart),
            (RawVcpu { waits: task(), ..vcpu() }, VcpuState::Blocked),
            (RawVcpu { preempted: Ok(true), ..vcpu() }, VcpuState::Preempted),
        ];
        for (raw, expected) in cases {
            assert_eq!(state(&raw), Some(expected));
        }
        assert_eq!(state(&RawVcpu { mode: Err(Lacks::Types), ..vcpu() }), None);
    }

    #[test]
    fn exits_have_names() {
        assert_eq!(svm_exit(0x78).as_deref(), Some("HLT"));
        assert_eq!(svm_exit(0x4e).as_deref(), Some("EXCP 14"));
        assert_eq!(svm_exit(0xffff_ffff), None);
        assert_eq!((user_exit(2), user_exit(99)), ("IO".into(), "99".into()));
    }
}
