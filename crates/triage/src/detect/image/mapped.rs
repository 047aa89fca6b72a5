//! Mapped devices that let no I/O through: suspended, or without a path.

use kdive_linux::block::{Disks, Mapped};
use kdive_target::Kernel;

use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Device mapper.
pub(in crate::detect) const MAPPED: Detector = Detector {
    name: "mapped-device-holds-io",
    claim: "I/O waits in a mapped device that is suspended or has no path left",
    run: mapped,
};

/// I/O that a mapped device holds has nothing to wait for but an administrator or a path, however young it is.
const SCORE: u8 = 60;

fn mapped(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Ok(disks) = Disks::find(kernel) else { return };
    let holding: Vec<Holding> = disks
        .all
        .iter()
        .filter_map(|disk| Mapped::of(kernel, disk))
        .filter_map(|device| Holding::of(kernel, &device))
        .collect();
    let Some(first) = holding.first() else { return };
    let others = match holding.len() {
        1 => String::new(),
        count => format!(", and {} more", count.saturating_sub(1)),
    };
    findings.push(Finding {
        detector: MAPPED.name,
        class: Class::IoHang,
        title: format!("INFO: I/O hang on {}", first.name),
        claim: format!("I/O waits in the mapped device {}, {}{others}.", first.name, first.why),
        score: SCORE,
        culprit: Culprit { object: Some(first.name.clone()), ..Culprit::default() },
        supports: holding.iter().map(Holding::evidence).collect(),
        against: Vec::new(),
        advice: vec![first.advice.to_owned()],
        splat: None,
    });
}

/// A mapped device that holds I/O back.
struct Holding {
    name: String,
    why: &'static str,
    advice: &'static str,
    /// Bios that wait in it.
    bios: usize,
}

impl Holding {
    fn of(kernel: &Kernel, device: &Mapped) -> Option<Self> {
        let name = device.name(kernel).ok().flatten()?;
        let state = device.state().ok();
        let deferred = device.deferred(kernel).map_or(0, |bios| bios.len());
        if deferred > 0 && state.is_some_and(|state| state.suspended || state.suspended_internally) {
            let advice = "Resume the mapped device (dmsetup resume), and find who suspended it.";
            return Some(Self { name, why: "which is suspended", advice, bios: deferred });
        }
        let targets = device.targets(kernel).unwrap_or_default();
        let pathless = targets.iter().filter_map(|target| target.multipath(kernel)).find(|multipath| {
            let has_none = multipath.valid_paths.clone().is_ok_and(|paths| paths == 0);
            has_none
                && multipath.queues_without_path() == Ok(true)
                && multipath.paths(kernel).is_ok_and(|paths| !paths.is_empty())
        })?;
        let bios = pathless.queued(kernel).map_or(0, |bios| bios.len());
        let advice =
            "Bring a path back; no_path_retry instead of queue_if_no_path lets I/O fail instead of wait.";
        Some(Self { name, why: "which has no path left and queues (queue_if_no_path)", advice, bios })
    }

    fn evidence(&self) -> Evidence {
        let waiting = match self.bios {
            0 => String::new(),
            1 => "; 1 bio waits in it".to_owned(),
            count => format!("; {count} bios wait in it"),
        };
        Evidence::shown(format!("{} holds I/O back, {}{waiting}.", self.name, self.why), "blk -m")
    }
}
