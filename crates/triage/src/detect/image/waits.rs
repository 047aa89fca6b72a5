//! Tasks that wait for one another, and tasks that wait for what does not come.

use kdive_evidence::SplatKind;
use kdive_linux::locking::{Cause, Cycle, Hang, LockKind, Locks, Wait, hangs};
use kdive_target::Kernel;

use super::{SECOND, blamed, ended_by, guilty, has_splat, long, person, stack};
use crate::blame::{self, Mode};
use crate::case::{Case, TriggerKind};
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};
use crate::image::lock_name;

/// Circles of waits.
pub(in crate::detect) const DEADLOCK: Detector = Detector {
    name: "deadlock-in-memory",
    claim: "tasks hold locks and wait for one another in a circle",
    run: deadlock,
};

/// Waits that do not end.
pub(in crate::detect) const HANG: Detector =
    Detector { name: "hang-in-memory", claim: "tasks wait for long, all for one cause", run: hang };

/// Circles and causes that a report can use.
const MOST: usize = 4;
/// An unproven circle may be a passing state before this.
const CIRCLE_NS: u64 = 10 * SECOND;
/// From here on a wait is worth a word: no task of a healthy machine waits uninterruptibly for so long.
const HANG_NS: u64 = 20 * SECOND;

fn deadlock(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let locks = Locks::find(kernel);
    for cycle in locks.cycles.iter().take(MOST) {
        let waits = members(locks, cycle);
        let oldest = waits.iter().filter_map(|wait| wait.age_ns).max();
        // Processors that spin are told elsewhere: they have no age.
        if waits.iter().any(|wait| wait.kind == LockKind::Spinlock) || !cycle.sure && oldest < Some(CIRCLE_NS)
        {
            continue;
        }
        findings.push(of_cycle(kernel, cycle, &waits));
    }
}

/// The waits of a circle, in its order.
fn members<'l>(locks: &'l Locks, cycle: &Cycle) -> Vec<&'l Wait> {
    let of =
        |task: &kdive_linux::tasks::TaskName| locks.waits.iter().find(|wait| wait.task.task == task.task);
    cycle.tasks.iter().filter_map(of).collect()
}

fn of_cycle(kernel: &Kernel, cycle: &Cycle, waits: &[&Wait]) -> Finding {
    let names: Vec<String> = cycle.tasks.iter().map(person).collect();
    let locks: Vec<String> = waits.iter().map(|wait| lock_name(wait)).collect();
    // Who waits for longest took the first step into it.
    let first = waits.iter().max_by_key(|wait| wait.age_ns);
    let guilty = first.and_then(|wait| guilty(kernel, wait.task.task, Mode::Blocked));
    let culprit = blamed(
        guilty,
        Culprit {
            function: first.and_then(|wait| wait.function.clone()),
            task: names.first().cloned(),
            object: Some(locks.join(", ")),
            ..Culprit::default()
        },
    );
    let claim = match names.as_slice() {
        [one] => format!("{one} waits for {}, which it holds itself", locks.join(", ")),
        [one, other] => format!("{one} and {other} wait for each other: for {}", locks.join(" and ")),
        _ => format!("{} tasks wait for one another in a circle: {}", names.len(), names.join(", ")),
    };
    let mut supports = Vec::new();
    for (index, wait) in waits.iter().enumerate() {
        let holder = names.get(index.saturating_add(1)).or(names.first()).cloned().unwrap_or_default();
        let what = wait.function.as_deref().unwrap_or("a function that is not known");
        let age = wait.age_ns.map(|age| format!(" for {}", long(age))).unwrap_or_default();
        let text = format!(
            "{} has waited in {what}{age} for {}, which {holder} holds",
            person(&wait.task),
            lock_name(wait)
        );
        let command =
            wait.task.pid.map_or_else(|| format!("bt {:#}", wait.task.task), |pid| format!("bt {pid}"));
        supports.push(Evidence::shown(text, command));
    }
    if cycle.sure {
        supports.push(Evidence::shown("each lock is proven to be held by the next in the circle", "locks"));
    }
    let against = match cycle.sure {
        true => Vec::new(),
        false => vec![Evidence::shown("not every holder in the circle is proven", "locks")],
    };
    Finding {
        detector: DEADLOCK.name,
        class: Class::Deadlock,
        title: format!("INFO: task hung in {}", culprit.function.as_deref().unwrap_or("?")),
        claim,
        score: if cycle.sure { 93 } else { 60 },
        culprit,
        supports,
        against,
        advice: vec![
            "Take the locks in one order everywhere; until then, only a reboot frees the tasks.".into(),
        ],
        splat: None,
    }
}

fn hang(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let is_told = ended_by(case, &[TriggerKind::HungTaskPanic]) || has_splat(case, &[SplatKind::HungTask]);
    let least = if is_told { HANG_NS / 4 } else { HANG_NS };
    let found = hangs(kernel);
    let long_enough = found.iter().filter(|hang| hang.oldest_ns >= Some(least));
    for hang in long_enough.take(MOST) {
        findings.extend(of_hang(kernel, hang, is_told));
    }
}

/// The certainty of a hang, by how long it lasts.
fn score(oldest_ns: u64, is_told: bool) -> u8 {
    let by_age: u8 = match oldest_ns / SECOND {
        0..20 => 40,
        20..60 => 50,
        60..120 => 60,
        _ => 70,
    };
    by_age.saturating_add(if is_told { 15 } else { 0 })
}

fn of_hang(kernel: &Kernel, hang: &Hang, is_told: bool) -> Option<Finding> {
    let first = hang.tasks.first()?;
    let oldest = hang.oldest_ns?;
    let waiters = match hang.count {
        1 => format!("{} has waited", person(&first.wait.task)),
        count => format!("{count} tasks have waited"),
    };
    let shown = Evidence::shown(format!("{waiters} for up to {}", long(oldest)), "hang");
    let mut finding = Finding {
        detector: HANG.name,
        class: Class::HungTask,
        title: String::new(),
        claim: String::new(),
        score: score(oldest, is_told),
        culprit: Culprit::default(),
        supports: vec![shown],
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    };
    match &hang.cause {
        Cause::Deadlock { .. } => return None,
        Cause::Holder { task, running_on, sure, .. } => {
            let mode = if running_on.is_some() { Mode::Stall } else { Mode::Blocked };
            let lock =
                hang.tasks.iter().find(|member| member.depth == 0).map(|member| lock_name(&member.wait));
            finding.culprit = blamed(
                guilty(kernel, task.task, mode),
                Culprit { task: Some(person(task)), object: lock.clone(), ..Culprit::default() },
            );
            let holds = if *sure { "holds" } else { "seems to hold" };
            let lock = lock.unwrap_or_else(|| "what they wait for".into());
            finding.claim = format!("{waiters} for {}; {} {holds} {lock}", long(oldest), person(task));
            let where_ = finding.culprit.function.as_deref().unwrap_or("?");
            finding.supports.push(Evidence::shown(
                format!("{} is in {where_}", person(task)),
                task.pid.map_or_else(|| format!("bt {:#}", task.task), |pid| format!("bt {pid}")),
            ));
            if !sure {
                finding.score = finding.score.saturating_sub(15);
                finding.against.push(Evidence::shown("the holder is likely, not proven", "locks"));
            }
        }
        Cause::Event { kind, .. } => {
            let frames = stack(kernel, first.wait.task.task);
            let (class, what) = of_event(*kind, &frames);
            finding.class = class;
            finding.culprit = blamed(
                blame::guilty_of(&frames, Mode::Blocked),
                Culprit {
                    task: Some(person(&first.wait.task)),
                    object: Some(lock_name(&first.wait)),
                    ..Culprit::default()
                },
            );
            finding.claim = format!(
                "{waiters} for {} for {what}, and nothing in memory tells who is to end it",
                long(oldest)
            );
            finding.score = finding.score.saturating_sub(5);
        }
    }
    finding.title = format!("INFO: task hung in {}", finding.culprit.function.as_deref().unwrap_or("?"));
    Some(finding)
}

/// Functions on the stack of a task that waits, by what they wait for.
const EVENTS: &[(&[&str], Class, &str)] = &[
    (&["nfs", "rpc_", "cifs", "smb2_", "ceph_", "fuse_"], Class::NetworkFilesystemHang, "a server"),
    (
        &["jbd2_", "xlog_", "xfs_log_", "btrfs_commit_", "wait_current_trans"],
        Class::FilesystemHang,
        "a journal",
    ),
    (
        &["sb_start_", "__sb_start_write", "thaw_", "freeze_"],
        Class::FilesystemHang,
        "a file system that is frozen",
    ),
    (
        &[
            "io_schedule",
            "blk_mq_",
            "submit_bio_wait",
            "__wait_on_buffer",
            "folio_wait_writeback",
            "wait_on_page_writeback",
            "blkdev_",
            "dio_",
            "iomap_dio",
            "filemap_read",
            "filemap_fault",
        ],
        Class::IoHang,
        "I/O",
    ),
];

fn of_event(kind: LockKind, frames: &[kdive_evidence::TraceFrame]) -> (Class, &'static str) {
    let names = || frames.iter().filter_map(|frame| frame.place.function.as_deref());
    let begins = |starts: &[&str]| names().any(|name| starts.iter().any(|start| name.starts_with(start)));
    if let Some((_, class, what)) = EVENTS.iter().find(|(starts, ..)| begins(starts)) {
        return (*class, what);
    }
    match kind {
        LockKind::Folio | LockKind::Buffer => (Class::IoHang, "I/O"),
        LockKind::Rcu => (Class::RcuStall, "a grace period of RCU"),
        LockKind::Rpc => (Class::NetworkFilesystemHang, "a server"),
        LockKind::Work => (Class::WorkqueueStall, "a work item"),
        LockKind::Completion => (Class::HungTask, "a completion"),
        _ => (Class::HungTask, "something"),
    }
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, Place, TraceFrame};

    use super::*;

    #[test]
    fn what_is_waited_for_is_told_by_the_functions() {
        let frame = |name: &str| TraceFrame {
            place: Place { function: Some(name.into()), ..Place::default() },
            trust: FrameTrust::Orc,
            stack: None,
            inlined: false,
            interrupted: false,
        };
        let nfs = [frame("io_schedule"), frame("nfs_wait_bit_killable")];
        assert_eq!(of_event(LockKind::Bit, &nfs).0, Class::NetworkFilesystemHang);
        assert_eq!(of_event(LockKind::Bit, &nfs[..1]).0, Class::IoHang);
        assert_eq!(of_event(LockKind::Completion, &[frame("f")]).0, Class::HungTask);
    }

    #[test]
    fn a_longer_hang_is_surer() {
        assert!(score(30 * SECOND, false) < score(130 * SECOND, false));
        assert!(score(130 * SECOND, true) >= 75 && score(21 * SECOND, false) < 75);
    }
}
