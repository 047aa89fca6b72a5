//! Memory that ran out, leaks, or lies in pieces.

use kdive_base::Cancel;
use kdive_evidence::SplatKind;
use kdive_linux::extfrag;
use kdive_linux::meminfo::Use;
use kdive_target::Kernel;

use super::{ended_by, has_splat};
use crate::case::{Case, TriggerKind, ZoneFacts};
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};
use crate::image::memory::{MemoryUse, amount, caches, name, processes};

/// Who has the memory.
pub(in crate::detect) const PRESSURE: Detector =
    Detector { name: "memory-use", claim: "one user has most of memory", run: pressure };

/// Pieces.
pub(in crate::detect) const FRAGMENTATION: Detector = Detector {
    name: "fragmentation-in-memory",
    claim: "free memory lies in pieces too small for what is asked of it",
    run: fragmentation,
};

/// Of all memory in percent: one user of it that has more is the matter when memory ran out.
const DOMINANT: u64 = 35;
/// More than this of memory that the kernel itself cannot give back is worth a word on any machine.
const SUSPECT: u64 = 50;
/// Zones smaller than this (of old DMA) say nothing, in bytes.
const SMALL_ZONE: u64 = 64 << 20;

/// A user of memory, as a suspect.
struct Eater {
    class: Class,
    bytes: u64,
    what: String,
    culprit: Culprit,
    command: &'static str,
    /// The kernel has it for itself and cannot give it back: no process can explain it.
    is_kernel: bool,
}

fn pressure(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some(memory) = MemoryUse::find(kernel) else { return };
    let is_told = has_splat(case, &[SplatKind::OutOfMemory, SplatKind::AllocationFailure])
        || ended_by(case, &[TriggerKind::OutOfMemoryPanic]);
    let is_low = case.memory.zones.iter().filter(|zone| zone.size > Some(SMALL_ZONE)).any(below_minimum);
    let Some(eater) = eaters(kernel, memory).into_iter().max_by_key(|eater| eater.bytes) else { return };
    let percent = memory.percent(eater.bytes);
    let matters = match (is_told || is_low, eater.is_kernel) {
        (true, _) => percent >= DOMINANT,
        (false, true) => percent >= SUSPECT,
        (false, false) => false,
    };
    if !matters {
        return;
    }
    let claim =
        format!("{} of {} of memory went to {}", amount(eater.bytes), amount(memory.managed), eater.what);
    let mut supports =
        vec![Evidence::shown(format!("{} has {percent}% of memory", eater.what), eater.command)];
    for zone in case.memory.zones.iter().filter(|zone| zone.size > Some(SMALL_ZONE) && below_minimum(zone)) {
        let text = format!(
            "zone {} has {} free, below its minimum of {}",
            zone.name,
            amount(zone.free.unwrap_or(0)),
            amount(zone.min.unwrap_or(0))
        );
        supports.push(Evidence::shown(text, "kmem -z"));
    }
    let against = match (is_told, is_low) {
        (true, _) => Vec::new(),
        (false, true) => vec![Evidence::seen("the log tells of no allocation that failed")],
        (false, false) => vec![Evidence::seen("memory has not run out yet")],
    };
    findings.push(Finding {
        detector: PRESSURE.name,
        class: eater.class,
        title: match eater.class {
            Class::MemoryLeak => format!("memory leak in {}", eater.culprit.object.as_deref().unwrap_or("?")),
            _ => "Out of memory".into(),
        },
        claim,
        score: match (is_told, is_low) {
            (true, true) => 88,
            (true, false) => 80,
            (false, true) => 70,
            (false, false) => 45,
        },
        culprit: eater.culprit,
        supports,
        against,
        advice: Vec::new(),
        splat: None,
    });
}

fn below_minimum(zone: &ZoneFacts) -> bool {
    zone.free.zip(zone.min).is_some_and(|(free, min)| free < min)
}

/// Who could have taken it.
fn eaters(kernel: &Kernel, memory: &MemoryUse) -> Vec<Eater> {
    let object = |name: &str| Culprit { object: Some(name.to_owned()), ..Culprit::default() };
    let mut found = vec![
        Eater {
            class: Class::MemoryLeak,
            bytes: memory.unaccounted,
            what: "pages that no counter knows: a driver took them straight from the page allocator".into(),
            culprit: object("pages of no known owner"),
            command: "meminfo",
            is_kernel: true,
        },
        Eater {
            class: Class::OutOfMemory,
            bytes: memory.of(Use::Shmem),
            what: "tmpfs and shared memory".into(),
            culprit: object("tmpfs"),
            command: "pagecache",
            is_kernel: false,
        },
    ];
    if let Some(cache) = caches(kernel).iter().find(|cache| !cache.reclaimable) {
        found.push(Eater {
            class: Class::MemoryLeak,
            bytes: cache.bytes,
            what: format!("{} objects of the slab cache {}", cache.objects, cache.name),
            culprit: object(&cache.name),
            command: "slabtop",
            is_kernel: true,
        });
    }
    for of in [Use::Vmalloc, Use::PerCpu, Use::PageTables, Use::KernelStacks] {
        found.push(Eater {
            class: Class::MemoryLeak,
            bytes: memory.of(of),
            what: name(of).to_owned(),
            culprit: object(name(of)),
            command: "meminfo",
            is_kernel: true,
        });
    }
    found.push(Eater {
        class: Class::OutOfMemory,
        bytes: memory.of(Use::HugePages),
        what: "pools of huge pages".into(),
        culprit: object("huge pages"),
        command: "meminfo",
        is_kernel: false,
    });
    if let Some((process, _)) = processes(kernel).into_iter().next() {
        found.push(Eater {
            class: Class::OutOfMemory,
            bytes: memory.of(Use::Anonymous),
            what: format!("processes, {process} first"),
            culprit: Culprit { task: Some(process), ..Culprit::default() },
            command: "oom",
            is_kernel: false,
        });
    }
    found
}

/// Blocks of this order are asked for all day: stacks of tasks, slabs, jumbo frames.
const ORDER: usize = 3;
/// The share of free memory that such an allocation cannot use.
const UNUSABLE: f64 = 0.93;

fn fragmentation(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    // A zone with little free memory is short of it, not fragmented.
    let has_much = |zone: &&ZoneFacts| {
        zone.size > Some(SMALL_ZONE) && zone.free.zip(zone.size).is_some_and(|(free, size)| free > size / 8)
    };
    if !case.memory.zones.iter().any(|zone| has_much(&zone)) {
        return;
    }
    let Ok(zones) = extfrag::free(kernel, &Cancel::default()) else { return };
    let broken = zones.iter().find(|zone| {
        let name = zone.zone.as_ref().ok();
        let facts = case.memory.zones.iter().filter(has_much);
        let is_large = facts.into_iter().any(|facts| name == Some(&facts.name));
        is_large && zone.incomplete.is_none() && zone.unusable(ORDER).is_some_and(|share| share >= UNUSABLE)
    });
    let Some(zone) = broken else { return };
    let is_told = has_splat(case, &[SplatKind::AllocationFailure]);
    let name = zone.zone.clone().unwrap_or_else(|_| "?".into());
    let free = amount(zone.pages().saturating_mul(kdive_base::PAGE_SIZE));
    let claim = format!(
        "zone {name} has {free} free, and next to none of it in blocks of {} pages or more",
        1_u32 << ORDER
    );
    findings.push(Finding {
        detector: FRAGMENTATION.name,
        class: Class::Fragmentation,
        title: "page allocation failure: memory fragmentation".into(),
        supports: vec![Evidence::shown(claim.clone(), "frag")],
        claim,
        score: if is_told { 85 } else { 58 },
        culprit: Culprit { object: Some(format!("zone {name}")), ..Culprit::default() },
        against: match is_told {
            true => Vec::new(),
            false => vec![Evidence::seen("the log tells of no allocation that failed")],
        },
        advice: Vec::new(),
        splat: None,
    });
}
