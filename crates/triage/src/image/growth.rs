//! What changed in memory since an earlier dump of the same host, and what looks leaked.

use std::cmp::Reverse;

use kdive_base::{Cancel, PAGE_SIZE};
use kdive_linux::slab::leaks::{self, Threshold};
use kdive_linux::slab::tracks::{self, By};
use kdive_linux::system::{Clock, Uts};
use kdive_target::Kernel;
use rustc_hash::FxHashMap;

use super::memory::{MemoryUse, amount, caches, name, processes, zones};
use crate::report::{Change, MemoryGrowth, MemoryPicture, Report};

/// Rows of a list that a reader can still take in.
const MOST: usize = 8;
/// Growth below this is the weather, in bytes.
const SMALL: u64 = 1 << 20;
/// A cache that grew by so much and cannot be reclaimed is a suspect, in bytes.
const SUSPICIOUS: u64 = 4 << 20;

/// Adds to a report how memory changed since an earlier dump, which has this name.
pub fn grow(earlier: &Kernel, kernel: &Kernel, file: &str, report: &mut Report) {
    let growth = between(earlier, kernel, file);
    let picture = report.memory.get_or_insert_with(|| super::picture(kernel));
    picture.leaks.extend(suspects(kernel, &growth));
    picture.growth = Some(growth);
}

/// The growth from one kernel's memory to another's.
fn between(earlier: &Kernel, kernel: &Kernel, file: &str) -> MemoryGrowth {
    let age = |kernel: &Kernel| Clock::find(kernel).ok().map(|clock| clock.uptime_ns() / 1_000_000_000);
    let (then, now) = (age(earlier), age(kernel));
    let same_boot = earlier.symbol("init_task").ok() == kernel.symbol("init_task").ok() && then <= now;
    MemoryGrowth {
        before: file.to_owned(),
        seconds: then.zip(now).filter(|_| same_boot).and_then(|(then, now)| now.checked_sub(then)),
        doubts: doubts(earlier, kernel, same_boot),
        uses: changes(uses(earlier), uses(kernel)),
        caches: changes(bytes_of_caches(earlier), bytes_of_caches(kernel)),
        tasks: changes(tasks(earlier, same_boot), tasks(kernel, same_boot)),
        zones: changes(free(earlier), free(kernel)),
    }
}

/// Why both may not be comparable, in words.
fn doubts(earlier: &Kernel, kernel: &Kernel, same_boot: bool) -> Vec<String> {
    let (old, _) = Uts::find(earlier);
    let (new, _) = Uts::find(kernel);
    let mut doubts = Vec::new();
    if let (Some(old), Some(new)) = (&old.nodename, &new.nodename)
        && old != new
    {
        doubts.push(format!("the earlier dump is of another host ({old}, this one is {new})"));
    }
    if let (Some(old), Some(new)) = (&old.release, &new.release)
        && old != new
    {
        doubts.push(format!("the earlier dump is of another kernel ({old}, this one is {new})"));
    }
    if !same_boot {
        doubts.push("the earlier dump is of another boot: growth counts from nothing there too".to_owned());
    }
    doubts
}

fn uses(kernel: &Kernel) -> Vec<(String, u64)> {
    let Some(memory) = MemoryUse::find(kernel) else { return Vec::new() };
    let mut uses: Vec<_> = memory.shares.iter().map(|(of, bytes)| (name(*of).to_owned(), *bytes)).collect();
    uses.push(("nobody is known to have it".to_owned(), memory.unaccounted));
    uses
}

fn bytes_of_caches(kernel: &Kernel) -> Vec<(String, u64)> {
    caches(kernel).iter().map(|cache| (cache.name.clone(), cache.bytes)).collect()
}

/// Processes by name and number; of different boots by name alone, all of one name together.
fn tasks(kernel: &Kernel, by_number: bool) -> Vec<(String, u64)> {
    let all = processes(kernel);
    if by_number {
        return all;
    }
    let mut by_name: FxHashMap<String, u64> = FxHashMap::default();
    for (name, bytes) in all {
        let name = name.rsplit_once(" (PID ").map_or(name.as_str(), |(name, _)| name).to_owned();
        let sum = by_name.entry(name).or_default();
        *sum = sum.saturating_add(bytes);
    }
    by_name.into_iter().collect()
}

fn free(kernel: &Kernel) -> Vec<(String, u64)> {
    let of = |zone: &crate::case::ZoneFacts| {
        Some((format!("node {} {}, free", zone.node.unwrap_or(0), zone.name), zone.free?))
    };
    zones(kernel).iter().filter_map(of).collect()
}

/// What changed, the most first. What only one of both has was nothing in the other.
fn changes(before: Vec<(String, u64)>, after: Vec<(String, u64)>) -> Vec<Change> {
    let mut rows: FxHashMap<String, (u64, u64)> = FxHashMap::default();
    for (name, bytes) in before {
        let row = rows.entry(name).or_default();
        row.0 = row.0.saturating_add(bytes);
    }
    for (name, bytes) in after {
        let row = rows.entry(name).or_default();
        row.1 = row.1.saturating_add(bytes);
    }
    let mut changes: Vec<Change> = rows
        .into_iter()
        .map(|(name, (before, after))| Change { name, before, after })
        .filter(|change| change.before.abs_diff(change.after) >= SMALL)
        .collect();
    // Growth before shrinking; names make the order of equals one.
    changes.sort_by(|a, b| {
        let key = |change: &Change| {
            (
                Reverse(change.after.saturating_sub(change.before)),
                Reverse(change.before.abs_diff(change.after)),
            )
        };
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    changes.truncate(MOST);
    changes
}

/// What grew and cannot be reclaimed.
fn suspects(kernel: &Kernel, growth: &MemoryGrowth) -> Vec<String> {
    let pinned: Vec<&str> =
        caches(kernel).iter().filter(|cache| !cache.reclaimable).map(|cache| cache.name.as_str()).collect();
    let grown = growth.caches.iter().filter(|change| {
        change.after.saturating_sub(change.before) >= SUSPICIOUS && pinned.contains(&change.name.as_str())
    });
    let over = growth.seconds.filter(|&seconds| seconds > 0);
    grown
        .map(|change| {
            let more = change.after.saturating_sub(change.before);
            let pace = over.map_or_else(String::new, |seconds| {
                format!(", {} an hour", amount(more.saturating_mul(3600) / seconds))
            });
            format!(
                "The cache {} grew from {} to {}{pace}, and cannot be reclaimed.",
                change.name,
                amount(change.before),
                amount(change.after)
            )
        })
        .collect()
}

/// Adds to a picture what looks leaked: objects of one content that nothing points to, and who allocated most, where the
/// kernel kept that (`slab_debug=U`).
pub(super) fn leaked(kernel: &Kernel, picture: &mut MemoryPicture) {
    let threshold = Threshold { objects: 2000, bytes: SUSPICIOUS };
    let cancel = Cancel::default();
    if let Ok(found) = leaks::find(kernel, threshold, &cancel) {
        for suspect in found.suspects.iter().take(3) {
            picture.leaks.push(format!(
                "{} objects of {} hold the same content, and nothing points to {} of them: {} (kdive: leaks).",
                suspect.objects,
                suspect.cache.display_name(),
                suspect.unreferenced,
                amount(suspect.bytes)
            ));
        }
    }
    if let Ok(owners) = tracks::owners(kernel, By::Caller, &cancel) {
        for owner in owners.list.iter().take(3).filter(|owner| owner.bytes >= SUSPICIOUS) {
            let caller =
                kernel.place(owner.caller).map_or_else(|| owner.caller.to_string(), |at| at.to_string());
            picture.leaks.push(format!(
                "{} objects of {} were allocated at {caller}: {} (kdive: owners).",
                owner.objects,
                owner.cache.display_name(),
                amount(owner.bytes)
            ));
        }
    }
}

/// Whether slabs that cannot be reclaimed have so much that their objects are worth a search.
pub(super) fn slabs_are_the_matter(kernel: &Kernel) -> bool {
    let Some(memory) = MemoryUse::find(kernel) else { return false };
    let largest = caches(kernel).iter().find(|cache| !cache.reclaimable).map_or(0, |cache| cache.bytes);
    largest >= 16 * SUSPICIOUS.max(PAGE_SIZE) && memory.percent(largest) >= 20
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(rows: &[(&str, u64)]) -> Vec<(String, u64)> {
        rows.iter().map(|(name, megabytes)| ((*name).to_owned(), *megabytes << 20)).collect()
    }

    #[test]
    fn what_grew_most_comes_first_and_small_changes_are_none() {
        let before = named(&[("a", 100), ("gone", 50), ("same", 7)]);
        let after = named(&[("a", 120), ("new", 30), ("same", 7)]);
        let found = changes(before, after);
        let names: Vec<_> = found
            .iter()
            .map(|change| (change.name.as_str(), change.before >> 20, change.after >> 20))
            .collect();
        assert_eq!(names, [("new", 0, 30), ("a", 100, 120), ("gone", 50, 0)]);
    }
}
