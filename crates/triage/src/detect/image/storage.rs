//! I/O that does not end.

use kdive_linux::block::{Disk, Disks, Io, Issuers, Queue, Requests};
use kdive_linux::tasks::{TaskName, Tasks};
use kdive_target::{Kernel, Text};

use super::{SECOND, blamed, guilty, long, person};
use crate::blame::Mode;
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Requests.
pub(in crate::detect) const STORAGE: Detector =
    Detector { name: "io-in-memory", claim: "a disk has not answered requests for long", run: storage };

/// I/O that is older is no slow disk any more: drivers time out after 30 seconds.
const OLD_NS: u64 = 20 * SECOND;

fn storage(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some((disk, mut io, count)) = oldest(kernel) else { return };
    let age = age(&io).unwrap_or(0);
    if age < OLD_NS {
        return;
    }
    io.find_owners(kernel, &Issuers::new(kernel));
    let tasks = Tasks::find(kernel);
    let owner = io.owners.first().and_then(|owner| TaskName::at(&tasks, owner.task));
    let culprit = blamed(
        owner.as_ref().and_then(|task| guilty(kernel, task.task, Mode::Blocked)),
        Culprit { object: Some(disk.clone()), ..Culprit::default() },
    );
    let who = owner.as_ref().map(|task| format!("; {} waits for it", person(task))).unwrap_or_default();
    let claim = format!("the disk {disk} has not done I/O for {}{who}", long(age));
    let errors = case.events.iter().find(|event| event.kind == EventKind::BlockError);
    let mut supports = vec![Evidence::shown(
        format!(
            "{count} pieces of I/O on {disk} are not done; the oldest is {} ({})",
            long(age),
            io.stands.name()
        ),
        "blk",
    )];
    supports.extend(errors.map(|event| Evidence::seen(format!("the log: {}", event.text))));
    findings.push(Finding {
        detector: STORAGE.name,
        class: Class::IoHang,
        title: format!("INFO: task hung in {}", culprit.function.as_deref().unwrap_or("?")),
        claim,
        score: match age / SECOND {
            0..60 => 55,
            60..120 => 65,
            _ => 78,
        },
        culprit,
        supports,
        against: Vec::new(),
        advice: Vec::new(),
        splat: None,
    });
}

fn age(io: &Io) -> Option<u64> {
    io.age_ns.or(io.waited_ns)
}

/// The oldest I/O of all disks, its disk, and how much there is on that.
fn oldest(kernel: &Kernel) -> Option<(String, Io, usize)> {
    let requests = Requests::new(kernel);
    let disks = Disks::find(kernel).ok()?;
    let of_disk = |disk: &Disk| {
        let queue: Queue = kernel.load(disk.queue.clone().ok()?);
        if queue.has_no_requests() {
            return None;
        }
        let pending = requests.of_queue(&queue).all;
        let count = pending.len();
        let Ok(Text(name)) = disk.name.clone() else { return None };
        Some((name, pending.into_iter().max_by_key(age)?, count))
    };
    disks.all.iter().filter_map(of_disk).max_by_key(|(_, io, _)| age(io))
}
