//! Time sources that jump or stand, and machines that were paused.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, HINT, LIKELY, NOTE, POSSIBLE, STRONG, events, number_after, splats};
use crate::blame::{self, Mode};
use crate::case::{Case, Event, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const CLOCK: Detector = Detector {
    name: "time-source",
    claim: "The clock that the kernel counts time by jumps, stands, or loses ticks.",
    run: clock,
};

pub(super) const PAUSE: Detector = Detector {
    name: "paused-machine",
    claim: "The machine was paused: its processors did not run, and watchdogs took it for a lockup.",
    run: pause,
};

/// Functions that keep time: a lockup in them, after trouble with the clock, is the clock's.
fn keeps_time(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "do_timer",
        "timer_interrupt",
        "tick_do_update_jiffies64",
        "update_wall_time",
        "timekeeping_advance",
        "timekeeping_update",
        "ktime_get",
        "ktime_get_update_offsets_now",
        "tick_periodic",
        "tick_sched_do_timer",
        "do_timer_interrupt",
        "mark_offset_tsc",
        "mark_offset_hpet",
        "mark_offset_pmtmr",
        "hpet_readl",
        "read_hpet",
        "getnstimeofday",
        "update_process_times",
        "clocksource_watchdog",
        "tick_handle_periodic",
        "hpet_timer_handler",
        "acpi_pm_read",
        "do_timer_jiffy",
        "main_timer_handler",
    ];
    NAMES.contains(&name)
}

fn clock(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(event) = events(case, EventKind::ClockTrouble).next() else { return };
    let mut told = false;
    for (index, splat) in splats(case, &[SplatKind::HardLockup, SplatKind::SoftLockup, SplatKind::RcuStall]) {
        let steps = blame::steps(splat);
        let Some(step) = steps.iter().take(8).find(|step| keeps_time(step.name)) else { continue };
        told = true;
        with_advice(Draft::new(CLOCK.name, Class::ClockTrouble, STRONG + 6).at(index, splat, Mode::Fault).function(Some(step.name.to_owned())), case, Some(event))
            .title_in(if splat.kind == SplatKind::HardLockup { "NMI watchdog: lockup" } else { "BUG: soft lockup" })
            .claim(format!("A processor locked up in {}, which counts time, after the kernel had told of an unstable time source.", step.name))
            .says(&splat.message)
            .against("A driver that keeps interrupts off for long makes ticks late too.")
            .push(out);
        break;
    }
    if told {
        return;
    }
    // By itself it is the matter only where nothing else is. A dump may have lost what else there was.
    let is_text = case.image.is_none();
    let alone = is_text && case.splats.is_empty() && case.trigger.is_none() && case.crashed.is_none();
    let score = if alone { LIKELY - 10 } else { NOTE };
    with_advice(Draft::new(CLOCK.name, Class::ClockTrouble, score), case, Some(event))
        .title("clocksource: unstable time source")
        .claim(claim(&event.text))
        .against_if(!alone, "It does not end a kernel by itself, and virtual machines print it often.")
        .push(out);
}

fn claim(text: &str) -> String {
    let source =
        ["tsc", "TSC", "hpet", "acpi_pm", "kvm-clock"].iter().find(|source| text.contains(*source)).copied();
    let source = source
        .map_or("time source".to_owned(), |source| format!("time source {}", source.to_ascii_lowercase()));
    match delta(text) {
        Some(delta) => format!("The {source} is unstable: it jumped by {}.", seconds(delta)),
        None => format!("The {source} is unstable."),
    }
}

fn delta(text: &str) -> Option<i64> {
    number_after(text, "delta =").or_else(|| number_after(text, "delta:"))
}

/// Nanoseconds in words.
fn seconds(ns: i64) -> String {
    let magnitude = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    if magnitude >= 1_000_000_000 {
        format!("{sign}{}.{} s", magnitude / 1_000_000_000, magnitude % 1_000_000_000 / 100_000_000)
    } else {
        format!("{sign}{}.{} ms", magnitude / 1_000_000, magnitude % 1_000_000 / 100_000)
    }
}

fn with_advice(draft: Draft, case: &Case<'_>, event: Option<&Event>) -> Draft {
    let mut draft = draft.object(Some("the time source"));
    for event in events(case, EventKind::ClockTrouble).take(4) {
        draft = draft.says(&event.text);
    }
    if let Some(delta) = event.and_then(|event| delta(&event.text)) {
        let turns = (delta as f64 / 4_294_967_296.0).round();
        let off = (delta as f64 - turns * 4_294_967_296.0).abs();
        draft = draft.seen_if(turns.abs() >= 1.0 && off < 1000.0, format!("The jump is {turns} times 2^32 ns: a counter of 32 bits was read wrongly, or the value is no measured time."));
    }
    // `clock=` was replaced by `clocksource=` in 2.6.18.
    let old = case.system.release.as_deref().is_some_and(|release| {
        release.starts_with("2.4.")
            || release
                .strip_prefix("2.6.")
                .and_then(|rest| rest.split(['.', '-']).next()?.parse::<u32>().ok())
                .is_some_and(|minor| minor < 18)
    });
    let hpet = if old {
        "Boot with clock=hpet (kernels from 2.6.18 on call it clocksource=hpet)."
    } else {
        "Boot with another time source, for example clocksource=hpet (kernels before 2.6.18: clock=hpet)."
    };
    draft
        .advice(hpet)
        .advice("In a virtual machine use the paravirtual clock (kvm-clock, or Hyper-V's), a stable source on the host, and NTP on both.")
        .advice("Look for firmware settings and drivers that keep interrupts off (SMI, power saving).")
}

fn pause(case: &Case<'_>, out: &mut Vec<Finding>) {
    const TOGETHER: u64 = 3_000_000_000;
    let lockups: Vec<(usize, &Splat)> =
        splats(case, &[SplatKind::SoftLockup, SplatKind::RcuStall, SplatKind::HardLockup]).collect();
    let told = events(case, EventKind::MachinePaused).next();
    let mut cpus: Vec<u32> = Vec::new();
    if let Some(start) = lockups.first().and_then(|(_, splat)| splat.time_ns) {
        let at_once = lockups.iter().filter(|(_, splat)| {
            splat.kind == SplatKind::SoftLockup
                && splat.time_ns.is_some_and(|time| time.saturating_sub(start) < TOGETHER)
        });
        cpus = at_once.filter_map(|(_, splat)| splat.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
    }
    // Processors that spin for one lock come late together too.
    let unrelated = {
        let mut names: Vec<String> = lockups
            .iter()
            .filter_map(|(_, splat)| Some(blame::guilty(splat, Mode::Stall)?.function))
            .collect();
        names.sort();
        names.dedup();
        names.len() >= 2
    };
    let spinning = lockups
        .iter()
        .any(|(_, splat)| blame::steps(splat).first().is_some_and(|step| step.role == blame::Role::Lock));
    let together = cpus.len() >= 2 && unrelated && !spinning;
    if told.is_none() && !together {
        return;
    }
    let virtual_machine = case.system.hypervisor.is_some();
    let score = match (told.is_some(), together, lockups.is_empty()) {
        (true, true, _) => STRONG + 4,
        (true, false, false) => LIKELY,
        (true, false, true) => NOTE,
        (false, _, _) if virtual_machine => LIKELY + 4,
        (false, ..) => POSSIBLE.min(HINT + 10),
    };
    let mut draft = Draft::new(PAUSE.name, Class::HypervisorPause, score)
        .object(case.system.hypervisor.clone().or(Some("the hypervisor".to_owned())))
        .title("machine paused by its hypervisor")
        .claim("The machine did not run for a while: its hypervisor paused it, moved it or gave its processors to others.");
    if let Some(event) = told {
        draft = draft.says(&event.text);
    }
    if let Some((index, _)) = lockups.first() {
        draft = draft.splat(*index);
    }
    draft
        .seen_if(together, format!("{} processors were late at the same moment, in code that has nothing in common.", cpus.len()))
        .against_if(!virtual_machine, "Nothing in the log names a hypervisor.")
        .advice("Read the hypervisor's log at that time: snapshot, migration, overcommitted processors, stuck storage.")
        .push(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Trigger, TriggerKind};

    fn case() -> Case<'static> {
        let text =
            "Clocksource tsc unstable (delta = -25769803766 ns).  Enable clocksource failover".to_owned();
        Case {
            events: vec![Event { kind: EventKind::ClockTrouble, text, time_ns: None, count: 1 }],
            ..Case::default()
        }
    }

    fn judge(case: &Case<'_>) -> Finding {
        let mut out = Vec::new();
        clock(case, &mut out);
        out.remove(0)
    }

    #[test]
    fn a_jump_alone_is_the_matter_and_beside_a_forced_dump_it_is_a_note() {
        let found = judge(&case());
        assert_eq!((found.class, found.score), (Class::ClockTrouble, 60));
        assert!(found.claim.contains("-25.7 s"), "{}", found.claim);
        let forced =
            Case { trigger: Some(Trigger { kind: TriggerKind::Sysrq, text: String::new() }), ..case() };
        assert!(judge(&forced).score < 25);
    }
}
