//! Single lines that tell something without being a complaint with a trace.

use crate::case::{Event, EventKind as Kind};

use super::lines::Line;

/// A phrase that tells an event.
pub(super) struct EventPhrase {
    pub(super) phrase: &'static str,
    kind: Kind,
}

const fn event(phrase: &'static str, kind: Kind) -> EventPhrase {
    EventPhrase { phrase, kind }
}

pub(super) const EVENTS: &[EventPhrase] = &[
    event("I/O error", Kind::BlockError),
    event("blk_update_request", Kind::BlockError),
    event("critical medium error", Kind::BlockError),
    event("critical target error", Kind::BlockError),
    event("timeout, aborting", Kind::BlockError),
    event("timeout, reset controller", Kind::BlockError),
    event("timeout, completion polled", Kind::BlockError),
    event("rejecting I/O to offline device", Kind::BlockError),
    event("task abort: ", Kind::BlockError),
    event("exception Emask", Kind::BlockError),
    event("rport-", Kind::BlockError),
    event("controller is down; will reset", Kind::BlockError),
    event("Failing path", Kind::MultipathFailure),
    event("failing path", Kind::MultipathFailure),
    event("remaining active paths: ", Kind::MultipathFailure),
    event("EXT4-fs error", Kind::FilesystemError),
    event("EXT3-fs error", Kind::FilesystemError),
    event("EXT2-fs error", Kind::FilesystemError),
    event("Remounting filesystem read-only", Kind::FilesystemError),
    event("Corruption of in-memory data", Kind::FilesystemError),
    event("Metadata corruption detected", Kind::FilesystemError),
    event("BTRFS error", Kind::FilesystemError),
    event("BTRFS critical", Kind::FilesystemError),
    event("Shutting down filesystem", Kind::FilesystemError),
    event("Detected aborted journal", Kind::FilesystemError),
    event("Filesystem has been shut down", Kind::FilesystemError),
    event("BTRFS: error", Kind::FilesystemError),
    event("not responding, still trying", Kind::NfsServer),
    event("not responding, timed out", Kind::NfsServer),
    event("[Hardware Error]", Kind::HardwareError),
    // The first line of a phrase is kept: what says hello must not hide what tells of errors.
    event(" UE memory", Kind::HardwareError),
    event(" CE memory", Kind::HardwareError),
    event("AER: Uncorrected", Kind::HardwareError),
    event("AER: Corrected", Kind::HardwareError),
    event("EDAC ", Kind::HardwareError),
    event("AER: ", Kind::HardwareError),
    event("DPC: containment event", Kind::HardwareError),
    event("Uncorrected error", Kind::HardwareError),
    event("Memory failure: ", Kind::PoisonedPage),
    event("DMAR: [", Kind::IommuFault),
    event("AMD-Vi: Event logged", Kind::IommuFault),
    event("IO_PAGE_FAULT", Kind::IommuFault),
    event("locksource tsc unstable", Kind::ClockTrouble),
    event("as unstable because", Kind::ClockTrouble),
    event("Marking TSC unstable", Kind::ClockTrouble),
    event("many lost ticks", Kind::ClockTrouble),
    event("time source seems to be instable", Kind::ClockTrouble),
    event("Falling back to HPET", Kind::ClockTrouble),
    event("hrtimer: interrupt took", Kind::ClockTrouble),
    event("Switched to NOHz mode on a jumping clock", Kind::ClockTrouble),
    event("Guest has been paused", Kind::MachinePaused),
    event("check_and_clear_guest_paused", Kind::MachinePaused),
    event("clock: time jumped", Kind::MachinePaused),
    event("Link is Down", Kind::NetworkDevice),
    event("NIC Link is Down", Kind::NetworkDevice),
    event("link is not ready", Kind::NetworkDevice),
    event("Detected Tx Unit Hang", Kind::NetworkDevice),
    event("unregister_netdevice: waiting for", Kind::NetdevReference),
    event("table full, dropping packet", Kind::LimitReached),
    event("file-max limit", Kind::LimitReached),
    event("fork rejected by pids", Kind::LimitReached),
    event("out of memory -- consider tuning tcp_mem", Kind::LimitReached),
    event("too many orphaned sockets", Kind::LimitReached),
    event("ossible SYN flooding", Kind::LimitReached),
    event("neighbour table overflow", Kind::LimitReached),
    event("neighbor table overflow", Kind::LimitReached),
    event("to out-of-data-space", Kind::LimitReached),
    event("Page fault caused by firmware", Kind::EfiRuntime),
    event("in EFI runtime service", Kind::EfiRuntime),
    event("disabled EFI Runtime Services", Kind::EfiRuntime),
    event(") by EFI ", Kind::EfiRuntime),
    event("[Firmware Bug]", Kind::Firmware),
    event("[Firmware Warn]", Kind::Firmware),
    event("being fenced", Kind::Fencing),
    event("fencing node", Kind::Fencing),
    event("ocfs2 is very sorry to be fencing", Kind::Fencing),
    event("initiating stonith", Kind::Fencing),
    event("PM: Some devices failed to", Kind::PowerManagement),
    event("failed to suspend", Kind::PowerManagement),
    event("failed to freeze", Kind::PowerManagement),
    event("Freezing of tasks failed", Kind::PowerManagement),
    event("Freezing user space processes failed", Kind::PowerManagement),
    event("Freezing remaining freezable tasks failed", Kind::PowerManagement),
    event("GPU HANG", Kind::GpuHang),
    event("ring gfx timeout", Kind::GpuHang),
    event(" timeout, signaled seq=", Kind::GpuHang),
    event("NVRM: Xid", Kind::GpuHang),
    event("Unable to mount root", Kind::Boot),
    event("No working init found", Kind::Boot),
    event(": version magic '", Kind::ModuleMismatch),
    event("disagrees about version of symbol", Kind::ModuleMismatch),
    event("no symbol version for ", Kind::ModuleMismatch),
    event("failed to validate module [", Kind::ModuleMismatch),
    event("starting patching transition", Kind::LivePatch),
    event("starting unpatching transition", Kind::LivePatch),
    event("patching complete", Kind::LivePatch),
    event("signaling remaining tasks", Kind::LivePatch),
    event("failed to enable patch '", Kind::LivePatch),
    event("jump_label: Fatal kernel bug", Kind::CodePatching),
    event("unexpected static call insn opcode", Kind::CodePatching),
    event("ftrace failed to modify", Kind::CodePatching),
    event("ftrace faulted on ", Kind::CodePatching),
    event("new suspected memory leaks", Kind::MemoryLeak),
    event("kmemleak: unreferenced object", Kind::MemoryLeak),
    event("HugeTLB: allocating ", Kind::MemoryPool),
    event("alloc failed, req-size: ", Kind::MemoryPool),
    event(") PFNs busy", Kind::MemoryPool),
    event("failed to report alive state", Kind::CpuHotplug),
    event("failed to report dead state", Kind::CpuHotplug),
    event("is stuck in kernel", Kind::CpuHotplug),
    event("do_boot_cpu failed(", Kind::CpuHotplug),
    event("failed to come online", Kind::CpuHotplug),
    event("Error taking CPU", Kind::CpuHotplug),
    event("didn't die", Kind::CpuHotplug),
    event("in #VC exception", Kind::ConfidentialGuest),
    event("in early #VC exception", Kind::ConfidentialGuest),
    event("Unhandled #VC exception", Kind::ConfidentialGuest),
    event("Failure in communication with VMM", Kind::ConfidentialGuest),
    event("Unexpected #VE: ", Kind::ConfidentialGuest),
    event("Failed to accept memory", Kind::ConfidentialGuest),
    event("Cannot accept memory", Kind::ConfidentialGuest),
    event("Busy inodes after unmount", Kind::BusyInodes),
    event("still in use (", Kind::BusyInodes),
    event("kernel stack regs at ", Kind::Unwinder),
    event("kernel stack frame pointer at ", Kind::Unwinder),
    event("WARNING: can't access registers at", Kind::Unwinder),
    event("WARNING: stack recursion on stack type", Kind::Unwinder),
    event("No irq handler for vector", Kind::LostInterrupt),
    event("avc:  denied", Kind::Noise),
    event("avc: denied", Kind::Noise),
];

/// The events of a log: the first line of each kind of phrase, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Events {
    found: Vec<(usize, Event)>,
}

impl Events {
    /// Notes an event, by its index in [`EVENTS`].
    pub(super) fn note(&mut self, index: usize, line: &Line<'_>) {
        let Some(phrase) = EVENTS.get(index) else { return };
        if let Some((_, event)) = self.found.iter_mut().find(|(known, _)| *known == index) {
            event.count = event.count.saturating_add(1);
            return;
        }
        let event =
            Event { kind: phrase.kind, text: line.text().to_owned(), time_ns: line.time_ns, count: 1 };
        self.found.push((index, event));
    }

    /// All, in the order of their first lines.
    pub(super) fn finish(self) -> Vec<Event> {
        self.found.into_iter().map(|(_, event)| event).collect()
    }
}
