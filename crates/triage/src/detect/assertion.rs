//! Checks of the kernel's own: `BUG()`, `WARN()`, `panic()`, and `panic!` of Rust.

use kdive_evidence::{Splat, SplatKind};

use super::support::{
    Draft, LIKELY, NOTE, PROVEN, STRONG, forced, line, says, shorten, splats, task_of, triggered,
};
use super::{Detector, callback, list, lock, slab, stack};
use crate::blame::{self, Mode};
use crate::case::{Case, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;
use crate::title;

pub(super) const ASSERTION: Detector = Detector {
    name: "assertion",
    claim: "A check of the kernel's own (BUG, BUG_ON) found a state that must not be.",
    run: assertion,
};

pub(super) const WARNING: Detector = Detector {
    name: "warning",
    claim: "A check of the kernel's own (WARN, WARN_ON) found a state that should not be.",
    run: warning,
};

pub(super) const PANIC: Detector =
    Detector { name: "panic", claim: "Code called panic() and said why.", run: panic };

/// `0f 0b`: what `BUG()` compiles to on x86.
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Whether a splat is a `BUG()`: it says so, or the instruction is the one that `BUG()` compiles to.
pub(super) fn is_bug(splat: &Splat) -> bool {
    match splat.kind {
        SplatKind::Bug => true,
        SplatKind::InvalidOpcode => splat.code.as_ref().is_none_or(|code| {
            code.bytes.get(code.at..code.at.saturating_add(2)).is_none_or(|bytes| bytes == UD2)
        }),
        _ => false,
    }
}

/// Whether another detector knows more of this check.
fn is_special(splat: &Splat) -> bool {
    // Old kernels end `panic()` with `BUG()`.
    let from_panic = splat
        .ip
        .as_ref()
        .and_then(|ip| ip.function.as_deref())
        .is_some_and(|name| blame::plain(name) == "panic");
    from_panic
        || list::concerns(splat)
        || slab::concerns(splat)
        || lock::concerns(splat)
        || stack::concerns(splat)
        || super::net::is_packet_check(splat)
}

fn assertion(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in
        case.splats.iter().enumerate().filter(|(_, splat)| is_bug(splat) && !is_special(splat))
    {
        let told = splat.source.is_some();
        let shown = splat.code.is_some();
        let draft = Draft::new(ASSERTION.name, Class::Assertion, if told { STRONG } else { LIKELY }).at(
            index,
            splat,
            Mode::Fault,
        );
        let place = splat.source.as_ref().map_or_else(
            || "kernel BUG".to_owned(),
            |source| format!("kernel BUG at {}:{}", source.file, source.line),
        );
        let mut draft = draft
            .title_in(&place)
            .claim_in(match &splat.source {
                Some(source) => format!("An assertion of the kernel failed ({}:{})", source.file, source.line),
                None => "An assertion of the kernel failed".to_owned(),
            })
            .says(&splat.message)
            .seen_if(!told && shown, "The instruction that failed is ud2, which BUG() compiles to.")
            .against_if(!told && !shown, "Neither file and line nor code bytes are shown: an invalid instruction that is no BUG() would look alike.");
        if let Some(source) = &splat.source {
            draft = draft.advice(format!("Read the condition at {}:{} of exactly this kernel's source: the state that it forbids is what happened.", source.file, source.line));
        }
        draft.push(out);
    }
}

fn warning(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::Warning]) {
        if list::concerns(splat)
            || callback::concerns(splat)
            || slab::concerns(splat)
            || super::refcount::concerns(splat)
            || super::net::is_watchdog(splat)
        {
            continue;
        }
        let ended = triggered(case, TriggerKind::PanicOnWarn);
        let draft = Draft::new(WARNING.name, Class::Warning, if ended { STRONG } else { NOTE }).at(
            index,
            splat,
            Mode::Fault,
        );
        let draft = draft.title_in("WARNING").claim_in("A check of the kernel warned").says(&splat.message);
        let draft = match line(splat, "------------[ cut here") {
            Some(_) | None if ended => {
                draft.seen("panic_on_warn turned the warning into the end of the kernel.")
            }
            _ => draft.against(
                "A warning does not end a kernel: it tells of trouble, and may be the first sign of it.",
            ),
        };
        draft.push(out);
    }
}

/// What `panic()` says when something else, which has a splat or a detector of its own, made it be called.
const CONSEQUENCES: &[&str] = &[
    "Fatal exception",
    "Fatal exception in interrupt",
    "Fatal hardware error",
    "Aiee, killing interrupt handler",
    "Attempted to kill the idle task",
    "softlockup: hung tasks",
    "Hard LOCKUP",
    "hard LOCKUP",
    "nmi watchdog",
    "NMI Watchdog",
    "hung_task: blocked tasks",
    "RCU Stall",
    "panic_on_warn set",
    "UBSAN: panic_on_warn",
    "kernel: panic_on_warn",
    "KASAN: panic_on_warn",
    "sysrq triggered crash",
    "Out of memory",
    "System is deadlocked on memory",
    "out of memory",
    "Attempted to kill init",
    "Machine check",
    "machine check",
    "Timeout: Not all CPUs entered broadcast exception handler",
    "Fatal Machine check",
    "Fatal local machine check",
    "Uncorrected hardware",
    "NMI: Not continuing",
    "NMI IOCK error",
    "NMI: IOCK error",
    "NMI: PCI system error",
    "stack-protector",
    "corrupted stack end",
    "kernel stack overflow",
    "Unable to mount root fs",
    "No working init found",
    "No init found",
    "Requested init",
    "stack guard page",
    "Oops",
    "An NMI occurred",
    "bad magic",
    "workqueue lockup",
    "double fault",
    "scheduling while atomic",
    "panic forced after error",
    "panic from previous error",
    "DPM device timeout",
    "hpwdt",
    "kernel: fence",
];

/// Whether a panic's text says that something else is the cause.
pub(super) fn is_consequence(message: &str) -> bool {
    CONSEQUENCES.iter().any(|text| message.contains(text))
}

fn panic(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::Panic, SplatKind::RustPanic]) {
        let rust = splat.kind == SplatKind::RustPanic;
        if !rust && is_consequence(&splat.message)
            || says(splat, "sysrq triggered crash")
            || forced(case) && splat.message.is_empty()
        {
            continue;
        }
        let said = reason(&splat.message);
        let draft = Draft::new(PANIC.name, Class::Panic, if rust { PROVEN } else { STRONG - 4 })
            .at(index, splat, Mode::Fault)
            .task(task_of(splat));
        let draft = if rust {
            draft.title_in("rust_kernel: panicked").claim_in("Rust code panicked")
        } else {
            let title = format!("kernel panic: {}", title::general(said));
            draft.title(title).claim_in(format!("The kernel gave up by itself (\"{}\")", shorten(said)))
        };
        draft.says(&splat.message).push(out);
    }
}

/// What follows `Kernel panic - not syncing:`.
pub(super) fn reason(message: &str) -> &str {
    message.split_once("not syncing:").map_or(message, |(_, reason)| reason).trim()
}
