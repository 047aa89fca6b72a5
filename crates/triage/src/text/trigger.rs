//! What ended the kernel, apart from why.

use crate::case::{Trigger, TriggerKind as Kind};

use super::splat::reason;

/// Phrases of lines that only tell the end.
pub(super) const TRIGGER_PHRASES: &[&str] =
    &["Kernel panic", "ernel panic", "Rebooting in ", "netdump activated"];

/// What a line says of the end.
pub(super) fn of(text: &str) -> Option<Trigger> {
    if text.contains("[ end ") {
        return None;
    }
    let kind = match reason(text) {
        Some(reason) => panic(reason),
        None if is_sysrq(text) => Kind::Sysrq,
        None => return None,
    };
    Some(Trigger { kind, text: text.to_owned() })
}

fn is_sysrq(text: &str) -> bool {
    let asks = text.contains("Trigger a crash") || text.contains("Crashing the kernel by request");
    asks && (text.contains("SysRq") || text.contains("sysrq"))
}

/// The kind of end that the reason of a panic tells.
fn panic(reason: &str) -> Kind {
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| reason.contains(phrase));
    if has(&["sysrq triggered crash"]) {
        Kind::Sysrq
    } else if has(&[
        "Fatal exception in interrupt",
        "killing interrupt handler",
        "kill the idle task",
        "Fatal exception in idle",
    ]) {
        Kind::FatalOops
    } else if has(&["Fatal exception", "panic_on_oops"]) {
        Kind::PanicOnOops
    } else if has(&["hung_task"]) {
        Kind::HungTaskPanic
    } else if has(&["softlockup"]) {
        Kind::SoftLockupPanic
    } else if has(&["Hard LOCKUP", "hard LOCKUP", "nmi watchdog", "NMI Watchdog"]) {
        Kind::HardLockupPanic
    } else if has(&["RCU Stall"]) {
        Kind::RcuStallPanic
    } else if has(&["panic_on_warn"]) {
        Kind::PanicOnWarn
    } else if has(&["ut of memory", "eadlocked on memory", "panic_on_oom"]) {
        Kind::OutOfMemoryPanic
    } else if has(&["achine check"]) {
        Kind::MachineCheck
    } else if has(&["kill init"]) {
        Kind::InitKilled
    } else if has(&["NMI", "hpwdt", "nmi"]) {
        Kind::NmiButton
    } else if has(&["panic_on_", "kdb"]) {
        Kind::PanicSwitch
    } else {
        Kind::Panic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_tell_what_ended_the_kernel() {
        for (text, kind) in [
            ("Kernel panic - not syncing: Fatal exception in interrupt", Kind::FatalOops),
            ("Kernel panic - not syncing: Fatal exception", Kind::PanicOnOops),
            ("Kernel panic - not syncing: hung_task: blocked tasks", Kind::HungTaskPanic),
            ("Kernel panic - not syncing: softlockup: hung tasks", Kind::SoftLockupPanic),
            ("Kernel panic - not syncing: Hard LOCKUP", Kind::HardLockupPanic),
            ("Kernel panic - not syncing: nmi watchdog", Kind::HardLockupPanic),
            ("Kernel panic - not syncing: RCU Stall", Kind::RcuStallPanic),
            ("Kernel panic - not syncing: kernel: panic_on_warn set ...", Kind::PanicOnWarn),
            (
                "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
                Kind::OutOfMemoryPanic,
            ),
            ("Kernel panic - not syncing: System is deadlocked on memory", Kind::OutOfMemoryPanic),
            ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b", Kind::InitKilled),
            ("Kernel panic: Aiee, killing interrupt handler!", Kind::FatalOops),
            ("Kernel panic - not syncing: Fatal machine check", Kind::MachineCheck),
            ("Kernel panic - not syncing: NMI: Not continuing", Kind::NmiButton),
            ("Kernel panic - not syncing: sysrq triggered crash", Kind::Sysrq),
            ("sysrq: Trigger a crash", Kind::Sysrq),
            ("SysRq : Crashing the kernel by request", Kind::Sysrq),
            (
                "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2",
                Kind::Panic,
            ),
        ] {
            assert_eq!(of(text).map(|trigger| trigger.kind), Some(kind), "{text}");
        }
        assert_eq!(of("everything is fine"), None);
    }
}
