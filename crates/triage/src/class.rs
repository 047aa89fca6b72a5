//! Classes of failure.

use serde::{Deserialize, Serialize};

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $category:ident, $text:literal;)*) => {
        /// What class of failure a finding claims.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Class { $($(#[$doc])* $name),* }

        impl Class {
            /// All classes.
            pub const ALL: &'static [Class] = &[$(Class::$name),*];

            /// What kind of cause it is.
            #[must_use]
            pub fn category(self) -> Category {
                match self { $(Class::$name => Category::$category),* }
            }

            /// In words, for a sentence.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Class::$name => $text),* }
            }
        }
    };
}

classes! {
    /// An access near address 0.
    NullDereference = Software, "NULL pointer dereference";
    /// A jump to address 0 or to no code.
    BadJump = Software, "jump to a bad address";
    /// A pointer that points to nothing mapped, of no known pattern.
    WildPointer = Software, "wild pointer";
    /// A pointer that is not canonical and of no known pattern.
    NonCanonical = Software, "non-canonical pointer";
    /// Memory used after it was freed.
    UseAfterFree = Software, "use after free";
    /// A list entry deleted twice, or used after it was deleted.
    DeletedListEntry = Software, "use of a deleted list entry";
    /// Links of a list that do not fit together, of no known pattern.
    ListCorruption = Software, "list corruption";
    /// An object freed twice.
    DoubleFree = Software, "double free";
    /// A write past the end of an object.
    OutOfBounds = Software, "write out of bounds";
    /// A free list or metadata of the slab allocator overwritten.
    SlabCorruption = Software, "slab corruption";
    /// Memory overwritten with foreign data, text for the most part.
    MemoryOverwrite = Software, "memory overwritten with foreign data";
    /// Memory used before it was initialised.
    Uninitialized = Software, "use of uninitialised memory";
    /// A data race found by KCSAN.
    DataRace = Software, "data race";
    /// Undefined behaviour found by UBSAN.
    UndefinedBehaviour = Software, "undefined behaviour";
    /// `BUG_ON()` was true.
    Assertion = Software, "assertion of the kernel";
    /// `WARN_ON()` was true and ended the kernel.
    Warning = Software, "warning";
    /// A division by zero.
    DivideError = Software, "division by zero";
    /// An instruction that is none.
    InvalidOpcode = Software, "invalid instruction";
    /// Another exception of the processor that code should not raise.
    ProcessorException = Software, "unexpected processor exception";
    /// A double fault of no other explanation.
    DoubleFault = Software, "double fault";
    /// The stack was too short.
    StackOverflow = Software, "kernel stack overflow";
    /// Something on the stack was overwritten.
    StackCorruption = Software, "kernel stack corruption";
    /// A reference count fell below zero or saturated.
    Refcount = Software, "reference count error";
    /// A reference that is never given back holds up an end.
    ReferenceLeak = Software, "leaked reference";
    /// A `struct page` in a state that it cannot be in.
    BadPageState = Software, "bad page state";
    /// A page table that does not hold entries.
    PageTableCorruption = Software, "page table corruption";
    /// A lock that is no lock any more.
    LockCorruption = Software, "corrupted or uninitialised lock";
    /// Tasks or processors that wait for one another in a circle.
    Deadlock = Hang, "deadlock";
    /// A deadlock that could be, by lockdep.
    PossibleDeadlock = Software, "possible deadlock";
    /// A processor that spins for a lock which is not released.
    SpinlockHang = Hang, "spinlock never released";
    /// A processor that did not schedule.
    SoftLockup = Hang, "soft lockup";
    /// A processor with interrupts off for long.
    HardLockup = Hang, "hard lockup";
    /// A grace period that does not end.
    RcuStall = Hang, "RCU stall";
    /// A processor that does not answer calls.
    CpuUnresponsive = Hang, "processor does not answer";
    /// Work items that do not come on.
    WorkqueueStall = Hang, "stuck work";
    /// Tasks that wait for a lock, and its holder does not come on.
    HungTask = Hang, "hung task";
    /// Tasks that wait for I/O which does not end.
    IoHang = Hang, "I/O hang";
    /// Tasks that wait for a server on the network.
    NetworkFilesystemHang = Hang, "network filesystem does not answer";
    /// A filesystem that is frozen, or a journal that does not come on.
    FilesystemHang = Hang, "filesystem does not come on";
    /// A filesystem that found itself damaged.
    FilesystemDamage = Environment, "damaged filesystem";
    /// A sleep where none is allowed.
    SleepInAtomic = Software, "sleep in atomic context";
    /// A timer, work or callback whose function is no code, or whose object is gone.
    CallbackCorruption = Software, "corrupted callback";
    /// A module that was built for another kernel.
    ModuleMismatch = Environment, "module of another kernel";
    /// A live patch that could not be applied, or does not finish.
    LivePatch = Software, "live patch in transition";
    /// Code of a module that is gone.
    UseAfterUnload = Software, "use of an unloaded module";
    /// No memory left.
    OutOfMemory = Resource, "out of memory";
    /// A memory cgroup at its limit.
    CgroupOutOfMemory = Resource, "memory cgroup out of memory";
    /// Memory that nobody gives back.
    MemoryLeak = Resource, "memory leak";
    /// Low memory of a 32-bit kernel used up.
    LowMemoryExhausted = Resource, "low memory exhausted";
    /// Free memory in pieces too small.
    Fragmentation = Resource, "memory fragmentation";
    /// Memory reclaim that does not come on.
    ReclaimStall = Resource, "memory reclaim does not come on";
    /// A table or limit is full.
    LimitReached = Resource, "limit reached";
    /// Kernel text differs from what was built.
    TextCorruption = Hardware, "kernel text damaged";
    /// One bit of a pointer or of data differs.
    BitFlip = Hardware, "flipped bit";
    /// A machine check or another report of the hardware itself.
    HardwareError = Hardware, "hardware error";
    /// Bad memory, by repetition.
    BadMemory = Hardware, "bad memory";
    /// A device wrote where it should not.
    DeviceOverwrite = Hardware, "memory overwritten by a device";
    /// A device failed or vanished.
    DeviceFailure = Hardware, "device failure";
    /// Firmware or its calls misbehaved.
    Firmware = Hardware, "firmware error";
    /// A clock that jumps or stands.
    ClockTrouble = Environment, "unstable time source";
    /// The hypervisor does not do for its guest what it should.
    HypervisorError = Environment, "hypervisor error";
    /// The hypervisor paused or starved the machine.
    HypervisorPause = Environment, "paused by the hypervisor";
    /// Interrupts that nobody handles, too many of them, or none.
    InterruptTrouble = Software, "interrupt trouble";
    /// A network queue that does not send.
    NetworkStall = Software, "network queue stalled";
    /// A packet buffer that is inconsistent.
    PacketCorruption = Software, "corrupted packet buffer";
    /// An operator asked for the dump.
    ForcedDump = Operator, "forced dump";
    /// A watchdog, a button or a cluster manager asked for the end.
    ExternalReset = Operator, "ended from outside";
    /// init died.
    InitDied = Environment, "init died";
    /// The machine could not start.
    BootFailure = Environment, "boot failure";
    /// Suspend or hibernation failed.
    PowerManagement = Software, "power management failure";
    /// A panic that says its reason itself and fits nothing else.
    Panic = Software, "panic";
    /// What there is does not suffice for a verdict.
    Insufficient = Unknown, "insufficient evidence";
}

/// Kinds of cause, which compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// A bug of the kernel or of a module.
    Software,
    /// Something waits, and does not come on.
    Hang,
    /// Memory or another resource ran out.
    Resource,
    /// The machine.
    Hardware,
    /// What the machine runs in: hypervisor, storage, configuration.
    Environment,
    /// Somebody wanted it.
    Operator,
    /// Not known.
    Unknown,
}
