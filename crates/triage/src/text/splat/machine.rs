//! What the machine, its interrupts and devices report; panics; operators; Rust.

use kdive_evidence::{Splat, SplatKind as Kind};

use crate::text::openings::{Opening, plain};
use crate::text::scan::{after, between, hex, number_after};
use crate::text::trace::symbol;

pub(super) const OPENINGS: &[Opening] = &[
    plain("NETDEV WATCHDOG: ", Kind::NetdevWatchdog),
    plain("nobody cared", Kind::IrqNobodyCared),
    plain("NMI received for unknown reason", Kind::Nmi),
    plain("NMI: IOCK error", Kind::Nmi),
    plain("NMI: PCI system error", Kind::Nmi),
    Opening {
        phrase: "Machine Check Exception: ",
        kind: Kind::MachineCheck,
        read: |text, splat| {
            splat.cpu = number_after(text, "CPU ").and_then(|cpu| u32::try_from(cpu).ok());
            true
        },
    },
    Opening { phrase: "ernel panic ", kind: Kind::Panic, read: panic },
    Opening { phrase: "ernel panic: ", kind: Kind::Panic, read: panic },
    plain("SysRq : Trigger a crash", Kind::Sysrq),
    plain("sysrq: Trigger a crash", Kind::Sysrq),
    plain("SysRq : Crashing the kernel by request", Kind::Sysrq),
    plain("SysRq : Trigger a crashdump", Kind::Sysrq),
    plain("rust_kernel: panicked at", Kind::RustPanic),
    plain("skb_over_panic: ", Kind::Bug),
    plain("skb_under_panic: ", Kind::Bug),
    plain("usercopy: Kernel memory ", Kind::Bug),
    Opening {
        phrase: "BUG: ",
        kind: Kind::Other,
        read: |text, _| text.starts_with("BUG: ") || text.contains(": BUG: ") || text.starts_with("[ BUG: "),
    },
    // A task of SysRq t or w; the head of a hung task has it too.
    Opening {
        phrase: " state:",
        kind: Kind::Other,
        read: |text, splat| text.starts_with("task:") && task(text, splat),
    },
    Opening {
        phrase: "NMI backtrace for cpu ",
        kind: Kind::Other,
        read: |text, splat| {
            splat.cpu = number_after(text, "for cpu ").and_then(|cpu| u32::try_from(cpu).ok());
            !text.contains("skipped")
        },
    },
    // Heads that got lost leave these.
    Opening { phrase: "Call Trace:", kind: Kind::Other, read: |text, _| text.starts_with("Call Trace:") },
    Opening { phrase: "RIP: 0010:", kind: Kind::Other, read: |text, _| text.starts_with("RIP: 0010:") },
    Opening { phrase: "EIP is at ", kind: Kind::Other, read: |text, _| text.starts_with("EIP is at ") },
    Opening { phrase: "[ cut here ]", kind: Kind::Other, read: |_, _| true },
    Opening { phrase: "[cut here ]", kind: Kind::Other, read: |_, _| true },
];

/// Where the machine stood: `RIP !INEXACT! 10:<ffffffffb8e93f8f> {pv_native_safe_halt+0xf/0x20}`.
pub(super) fn place(text: &str) -> Option<kdive_evidence::Place> {
    let rest = after(text, "RIP ")?;
    let address = between(rest, "<", ">").and_then(hex).map(|(address, ..)| kdive_base::VirtAddr(address));
    let place = between(rest, "{", "}").and_then(symbol).map(|(place, _)| place).unwrap_or_default();
    address.map(|_| kdive_evidence::Place { address, ..place })
}

/// What a panic is about, where that is a kind of its own.
fn panic(text: &str, splat: &mut Splat) -> bool {
    let Some(reason) = reason(text).filter(|_| !text.contains("[ end ")) else { return false };
    if let Some(place) = after(reason, "Kernel stack is corrupted in: ") {
        splat.kind = Kind::StackProtector;
        splat.ip = symbol(place).map(|(place, _)| place).or_else(|| {
            let (address, digits, _) = hex(place)?;
            (digits >= 8).then(|| kdive_evidence::Place {
                address: Some(kdive_base::VirtAddr(address)),
                ..Default::default()
            })
        });
    } else if reason.contains("corrupted stack end detected") {
        splat.kind = Kind::StackEnd;
    } else if reason.contains("achine check") {
        splat.kind = Kind::MachineCheck;
    } else if reason.contains("ut of memory") || reason.contains("eadlocked on memory") {
        splat.kind = Kind::OutOfMemory;
    } else if reason.contains("An NMI occurred") || reason.starts_with("NMI") {
        splat.kind = Kind::Nmi;
    }
    true
}

/// `task:kworker/0:1  state:D stack:0  pid:11  tgid:11  ppid:2 flags:0x00004000`.
fn task(text: &str, splat: &mut Splat) -> bool {
    let comm = between(text, "task:", " state:");
    splat.comm = comm.map(|comm| comm.trim().to_owned());
    splat.pid = number_after(text, " pid:").and_then(|pid| i32::try_from(pid).ok());
    splat.pid.is_some()
}

/// What stands behind `Kernel panic - not syncing:`.
pub(in crate::text) fn reason(text: &str) -> Option<&str> {
    let rest = after(text, "ernel panic")?;
    let rest = rest.trim_start_matches([' ', '-', ':']);
    let rest = rest.strip_prefix("not syncing").unwrap_or(rest);
    Some(rest.trim_start_matches([' ', ':']))
}
