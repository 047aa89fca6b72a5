//! Processors that do not come on: soft and hard lockups, RCU stalls, unanswered calls, stuck work.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{
    Draft, HINT, LIKELY, POSSIBLE, STRONG, alone, events, line, number_after, says, splats, symbol, task_of,
    word_after,
};
use crate::blame::{self, Mode, Role};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const LOCKUP: Detector = Detector {
    name: "lockup",
    claim: "A processor ran kernel code for long without letting others run, or without serving interrupts.",
    run: lockup,
};

pub(super) const RCU_STALL: Detector =
    Detector { name: "rcu-stall", claim: "A grace period of RCU does not end.", run: rcu_stall };

pub(super) const UNANSWERED_CALL: Detector = Detector {
    name: "unanswered-call",
    claim: "A processor does not answer a call of another one.",
    run: unanswered_call,
};

pub(super) const STUCK_WORK: Detector = Detector {
    name: "stuck-work",
    claim: "Work items wait, because one of them does not end.",
    run: stuck_work,
};

pub(super) const CPU_HOTPLUG: Detector = Detector {
    name: "cpu-hotplug",
    claim: "A processor was to come or to go, and did not.",
    run: cpu_hotplug,
};

/// What the processor did, by the innermost functions that are no crash path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// It spins for a spinlock.
    Spinning,
    /// It waits for other processors.
    Calling,
    /// It is in stop_machine.
    Stopping,
    /// It ran something.
    Running,
}

fn doing(splat: &Splat) -> Doing {
    let steps = blame::steps(splat);
    let inner = steps.iter().filter(|step| !matches!(step.role, Role::CrashPath | Role::Interrupt)).take(4);
    for step in inner {
        let name = step.name;
        if name.contains("spin_lock")
            || name.contains("queued_read_lock")
            || name.contains("queued_write_lock")
            || name.starts_with("kvm_wait")
            || name.starts_with("pv_wait")
            || name.contains(".text.lock")
        {
            return Doing::Spinning;
        }
        if name.starts_with("multi_cpu_stop") || name.starts_with("stop_machine") {
            return Doing::Stopping;
        }
        if name.starts_with("smp_call_function")
            || name.starts_with("csd_lock_wait")
            || name.starts_with("generic_exec_single")
            || name.starts_with("on_each_cpu")
            || name.contains("flush_tlb")
        {
            return Doing::Calling;
        }
        if step.role == Role::Ordinary {
            break;
        }
    }
    Doing::Running
}

fn lockup(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::SoftLockup, SplatKind::HardLockup]) {
        let hard = splat.kind == SplatKind::HardLockup;
        let word = if hard { "hard" } else { "soft" };
        let doing = doing(splat);
        let (class, score, claim) = match doing {
            Doing::Spinning => (
                Class::SpinlockHang,
                STRONG + 4,
                "A processor spins for a spinlock that is not released".to_owned(),
            ),
            Doing::Calling => (
                Class::CpuUnresponsive,
                LIKELY,
                "A processor waits for another one that does not answer its call".to_owned(),
            ),
            Doing::Stopping => (
                Class::CpuUnresponsive,
                LIKELY,
                "The processors wait in stop_machine for one that does not come".to_owned(),
            ),
            Doing::Running if hard => {
                (Class::HardLockup, STRONG, "A processor ran with interrupts off and did not end".to_owned())
            }
            Doing::Running => (
                Class::SoftLockup,
                STRONG,
                "A processor ran kernel code and did not let others run".to_owned(),
            ),
        };
        let mut draft =
            Draft::new(LOCKUP.name, class, score).at(index, splat, Mode::Stall).task(task_of(splat));
        // Who waits is not who does not answer.
        let waits = matches!(doing, Doing::Calling | Doing::Stopping);
        let silent = if waits { guilty_of_other(splat) } else { None };
        let hidden = waits && silent.is_none();
        if waits {
            draft = draft.nobody().function(silent);
        }
        draft = draft.title_in(format!("BUG: {word} lockup")).claim_in(claim).says(&splat.message);
        if let Some(seconds) = number_after(&splat.message, "stuck for") {
            draft = draft.seen(format!("The watchdog's thread did not run for {seconds} s."));
        }
        let empty = !waits && draft.current_function().is_none();
        draft
            .seen_if(doing == Doing::Spinning, "The innermost function is the slow path of a spinlock: who holds the lock is the cause, not who waits.")
            .against_if(empty, "The trace does not show what the processor ran.")
            .against_if(hidden, "The stack of the processor that does not answer is not shown.")
            .advice(match doing {
                Doing::Spinning => "Find the holder: a processor that took the lock and did not release it, or this one itself, by recursion or in an interrupt.",
                Doing::Calling | Doing::Stopping => "Look at the processor that does not answer: it runs with interrupts off.",
                Doing::Running => "Look for a loop without end or without cond_resched(), or for a list that became a circle.",
            })
            .push(out);
    }
}

/// The guilty function of another processor's stack, where the report shows one.
fn guilty_of_other(splat: &Splat) -> Option<String> {
    let guilty = |frames| blame::guilty_of(frames, Mode::Stall);
    splat.other_stacks.iter().find_map(|stack| guilty(&stack.frames)).map(|guilty| guilty.function)
}

fn rcu_stall(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::RcuStall]) {
        let starved = line(splat, "kthread starved for");
        let by_lock = doing(splat) == Doing::Spinning;
        let mut draft = Draft::new(RCU_STALL.name, Class::RcuStall, STRONG - 2).at(index, splat, Mode::Stall);
        // The stack of the stalled processor may stand under a heading of its own.
        if draft.current_function().is_none() {
            draft = draft.function(guilty_of_other(splat));
        }
        draft = draft
            .task(task_of(splat).or_else(|| splat.details.iter().find_map(|line| blocking_task(line))))
            .title_in("INFO: rcu detected stall")
            .claim_in("A grace period of RCU does not end, because a processor or a reader does not come on")
            .says(&splat.message);
        if let Some(text) = starved {
            draft = draft.says(text).against("RCU's own thread did not run: the processor time went to somebody else, and the stall is a consequence.");
        }
        draft
            .seen_if(by_lock, "The stalled processor spins for a lock.")
            .advice("Look at the processors and tasks that the report names: a reader that sleeps or loops, or a processor that is not run.")
            .push(out);
    }
}

/// `Tasks blocked on level-0 rcu_node (CPUs 0-3): P123`.
fn blocking_task(text: &str) -> Option<String> {
    let rest = text.split_once("Tasks blocked on")?.1;
    let pid = rest
        .split_whitespace()
        .find_map(|word| word.strip_prefix('P')?.split('/').next()?.parse::<u32>().ok())?;
    Some(format!("PID {pid}"))
}

fn unanswered_call(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::CsdLock]) {
        let text = line(splat, "CSD lock").unwrap_or(&splat.message);
        let target = word_after(text, "for CPU#").or_else(|| word_after(text, "on CPU#"));
        let other = guilty_of_other(splat);
        let mut draft = Draft::new(UNANSWERED_CALL.name, Class::CpuUnresponsive, STRONG + 2)
            .at(index, splat, Mode::Stall)
            .object(target.map(|cpu| format!("CPU {}", cpu.trim_start_matches('0'))));
        let known = other.is_some();
        draft = draft.function(other);
        draft
            .title_in("BUG: CSD lock, non-responsive processor")
            .claim(format!("A processor{} does not answer a call of another one.", target.map(|cpu| format!(" ({cpu})")).unwrap_or_default()))
            .says(text)
            .against_if(!known, "The stack of the processor that does not answer is not shown.")
            .advice("Look at what the silent processor runs: it has interrupts off, or its hypervisor does not run it.")
            .push(out);
    }
}

fn stuck_work(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::WorkqueueLockup]) {
        let flying: Vec<&str> = splat
            .details
            .iter()
            .filter_map(|line| word_after(line, "in-flight:"))
            .filter_map(|word| word.split_once(':').map(|(_, name)| name))
            .filter_map(symbol)
            .collect();
        let first = flying.first().map(|name| (*name).to_owned());
        let hog = line(splat, "hogged CPU for")
            .and_then(|text| word_after(text, "workqueue:"))
            .and_then(symbol)
            .map(str::to_owned);
        let function = first.clone().or(hog);
        let known = function.is_some();
        let seconds = number_after(&splat.message, "stuck for");
        Draft::new(STUCK_WORK.name, Class::WorkqueueStall, if known { STRONG } else { LIKELY })
            .at(index, splat, Mode::Stall)
            .nobody()
            .function(function)
            .title_in("BUG: workqueue lockup")
            .claim_in(match seconds {
                Some(seconds) => format!("A pool of workers did not come on for {seconds} s"),
                None => "A pool of workers does not come on".to_owned(),
            })
            .says(&splat.message)
            .seen_if(!flying.is_empty(), format!("In flight: {}.", flying.join(", ")))
            .against_if(!known, "The report does not name a work item that is in flight.")
            .push(out);
    }
    // Nobody else noticed, but a hog was told of.
    if !says_any(case, SplatKind::WorkqueueLockup)
        && let Some((index, splat)) =
            case.splats.iter().enumerate().find(|(_, splat)| says(splat, "hogged CPU for"))
    {
        Draft::new(STUCK_WORK.name, Class::WorkqueueStall, POSSIBLE)
            .splat(index)
            .title("workqueue: work hogged a processor")
            .claim("A work item kept a processor for long.")
            .says(&splat.message)
            .push(out);
    }
}

fn cpu_hotplug(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(event) = events(case, EventKind::CpuHotplug).find(|event| event.text.contains("CPU")) else {
        return;
    };
    let text = event.text.as_str();
    let number = ["wakeup CPU#", "taking CPU", "CPU "].iter().find_map(|mark| number_after(text, mark));
    let number = number.or_else(|| number_after(text, "CPU"));
    let goes = text.contains("die") || text.contains("down") || text.contains("dead");
    let name = number.map_or_else(|| "A processor".to_owned(), |cpu| format!("CPU {cpu}"));
    Draft::new(CPU_HOTPLUG.name, Class::CpuUnresponsive, if alone(case) { LIKELY } else { HINT + 6 })
        .object(number.map(|cpu| format!("CPU {cpu}")))
        .title(if goes { "CPU hotplug: a processor did not go down" } else { "CPU hotplug: a processor did not come up" })
        .claim(format!("{name} was to {}, and did not.", if goes { "go down" } else { "come up" }))
        .says(text)
        .seen_if(event.count > 1, format!("The line came {} times.", event.count))
        .advice("Look at the hypervisor or the firmware, which start and stop processors, and at a callback of CPU hotplug that does not end.")
        .push(out);
}

fn says_any(case: &Case<'_>, kind: SplatKind) -> bool {
    case.splats.iter().any(|splat| splat.kind == kind)
}
