//! Where memory went.

use std::cmp::Reverse;

use kdive_base::PAGE_SIZE;
use kdive_linux::meminfo::{Account, MemInfo, Use};
use kdive_linux::mmzone::Nodes;
use kdive_linux::oom_kill::{self, Scope};
use kdive_linux::slab::{Slabs, Usage};
use kdive_target::{Field, Kernel};

use crate::case::{MemoryFacts, ZoneFacts};
use crate::class::{Category, Class};
use crate::report::{MemoryPicture, Report};

/// Rows of a list that a reader can still take in.
const MOST: usize = 8;

/// What memory is used for, in bytes. What could not be told is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryUse {
    /// What the page allocator was given.
    pub(crate) managed: u64,
    /// The shares.
    pub(crate) shares: Vec<(Use, u64)>,
    /// What nobody is known to have.
    pub(crate) unaccounted: u64,
}

impl MemoryUse {
    /// The account of a kernel, found once.
    pub(crate) fn find(kernel: &Kernel) -> Option<&Self> {
        kernel.once(|kernel| Self::account(kernel).ok()).as_ref()
    }

    fn account(kernel: &Kernel) -> Field<Self> {
        let info = MemInfo::find(kernel);
        let account = Account::find(kernel, &info)?;
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
        let shares =
            account.shares.iter().filter_map(|share| Some((share.of, bytes(*share.pages.as_ref().ok()?))));
        Ok(Self {
            managed: bytes(info.total?),
            shares: shares.collect(),
            unaccounted: account.unaccounted().map_or(0, |pages| bytes(u64::try_from(pages).unwrap_or(0))),
        })
    }

    /// The bytes of one share.
    pub(crate) fn of(&self, of: Use) -> u64 {
        self.shares
            .iter()
            .filter(|(share, _)| *share == of)
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// A part of what the page allocator has, in percent.
    pub(crate) fn percent(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(100) / self.managed.max(1)
    }
}

/// A slab cache and what it takes.
#[derive(Clone, Debug)]
pub(crate) struct CacheUse {
    pub(crate) name: String,
    /// Bytes of its pages.
    pub(crate) bytes: u64,
    /// Objects in use.
    pub(crate) objects: u64,
    pub(crate) reclaimable: bool,
}

/// The slab caches, those that take most first; found once.
pub(crate) fn caches(kernel: &Kernel) -> &[CacheUse] {
    struct Found(Vec<CacheUse>);
    let find = |kernel: &Kernel| {
        let Ok(caches) = Slabs::find(kernel).caches(kernel) else { return Found(Vec::new()) };
        let of = |cache: &std::sync::Arc<kdive_linux::slab::SlabCache>| {
            let usage = Usage::find(kernel, cache).ok()?;
            let pages = cache.pages(usage.slabs, usage.objects).ok()?;
            Some(CacheUse {
                name: cache.display_name().to_string(),
                bytes: pages.saturating_mul(PAGE_SIZE),
                objects: usage.allocated(),
                reclaimable: cache.reclaimable == Ok(true),
            })
        };
        let mut found: Vec<CacheUse> = caches.list.iter().filter_map(of).collect();
        found.sort_by_key(|cache| Reverse(cache.bytes));
        Found(found)
    };
    &kernel.once(find).0
}

/// Processes by the memory that they hold, in bytes, the largest first.
pub(crate) fn processes(kernel: &Kernel) -> Vec<(String, u64)> {
    let Ok(scope) = Scope::global(kernel) else { return Vec::new() };
    let table = oom_kill::table(kernel, &scope);
    let mut found: Vec<(String, u64)> = table
        .candidates
        .iter()
        .filter_map(|candidate| {
            let pages = candidate.pages.as_ref().ok()?.resident();
            let pid = candidate.task.pid.as_ref().ok()?;
            Some((format!("{} (PID {pid})", candidate.task.name()), pages.saturating_mul(PAGE_SIZE)))
        })
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    found.sort_by_key(|(_, bytes)| Reverse(*bytes));
    found
}

/// How memory stood, by the counters of the kernel; what those do not tell, as the log told it.
pub(super) fn facts(kernel: &Kernel, told: MemoryFacts) -> MemoryFacts {
    let info = MemInfo::find(kernel);
    let bytes = |pages: Field<u64>| pages.ok().map(|pages| pages.saturating_mul(PAGE_SIZE));
    let swap = bytes(info.swap_total).zip(bytes(info.swap_free));
    let shmem = MemoryUse::find(kernel).map(|memory| memory.of(Use::Shmem));
    MemoryFacts {
        zones: zones(kernel),
        total: bytes(info.total),
        free: bytes(info.free),
        slab: bytes(info.slab),
        shmem,
        swap,
        ..told
    }
}

pub(super) fn zones(kernel: &Kernel) -> Vec<ZoneFacts> {
    /// The first counter of a zone (`enum zone_stat_item`).
    const NR_FREE_PAGES: usize = 0;
    /// The first watermark (`enum zone_watermarks`).
    const WMARK_MIN: usize = 0;
    let Ok(nodes) = Nodes::find(kernel) else { return Vec::new() };
    let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
    let with_memory =
        nodes.zones().filter(|(_, zone)| zone.managed_pages.as_ref().is_ok_and(|pages| *pages > 0));
    with_memory
        .map(|(node, zone)| {
            let counter = zone.vm_stat.as_ref().ok().and_then(|words| words.0.get(NR_FREE_PAGES)).copied();
            let mark = zone.watermarks.as_ref().ok().and_then(|words| words.0.get(WMARK_MIN)).copied();
            ZoneFacts {
                name: zone.name(kernel).unwrap_or_else(|_| "?".into()),
                node: node.id.clone().ok(),
                size: zone.managed_pages.clone().ok().map(bytes),
                // A counter may be below zero for a moment.
                free: counter.map(|pages| bytes(u64::try_from(pages.cast_signed()).unwrap_or(0))),
                min: mark.map(bytes),
                ..ZoneFacts::default()
            }
        })
        .collect()
}

/// Whether a report is about memory, so that its picture belongs into it.
pub(super) fn is_the_matter(report: &Report) -> bool {
    let of_memory = |class: Class| class.category() == Category::Resource && class != Class::LimitReached;
    report.findings.iter().any(|finding| finding.score >= 25 && of_memory(finding.class))
}

/// The picture for a report.
#[must_use]
pub fn picture(kernel: &Kernel) -> MemoryPicture {
    let mut picture = MemoryPicture::default();
    if let Some(memory) = MemoryUse::find(kernel) {
        let mut uses: Vec<(String, u64)> =
            memory.shares.iter().map(|(of, bytes)| (name(*of).to_owned(), *bytes)).collect();
        uses.push(("nobody is known to have it".to_owned(), memory.unaccounted));
        uses.retain(|(_, bytes)| *bytes > 0);
        uses.sort_by_key(|(_, bytes)| Reverse(*bytes));
        picture.uses = uses;
    }
    picture.caches =
        caches(kernel).iter().take(MOST).map(|cache| (cache.name.clone(), cache.bytes)).collect();
    picture.tasks = processes(kernel).into_iter().take(MOST).collect();
    picture.zones = zones(kernel).iter().filter_map(zone_sentence).collect();
    picture
}

fn zone_sentence(zone: &ZoneFacts) -> Option<String> {
    let (size, free, min) = (zone.size?, zone.free?, zone.min?);
    let state = if free < min { "below" } else { "above" };
    let node = zone.node.unwrap_or(0);
    Some(format!(
        "node {node} {}: {} of {} free, {state} its minimum of {}",
        zone.name,
        amount(free),
        amount(size),
        amount(min)
    ))
}

/// Bytes in the largest unit that leaves at least one.
pub(crate) fn amount(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..0x10_0000 => (1 << 10, "KB"),
        0x10_0000..0x4000_0000 => (1_u64 << 20, "MB"),
        _ => (1 << 30, "GB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

/// A use in words.
pub(crate) fn name(of: Use) -> &'static str {
    match of {
        Use::Reserved => "reserved at boot",
        Use::Free => "free",
        Use::FreeOnCpus => "free, kept by processors",
        Use::Anonymous => "memory of processes",
        Use::Files => "files in the page cache",
        Use::Buffers => "block devices in the page cache",
        Use::Shmem => "tmpfs and shared memory",
        Use::SwapCache => "swap cache",
        Use::SlabReclaimable => "reclaimable slab",
        Use::SlabUnreclaimable => "unreclaimable slab",
        Use::KernelStacks => "kernel stacks",
        Use::PageTables => "page tables",
        Use::Vmalloc => "vmalloc and modules",
        Use::PerCpu => "per-CPU memory",
        Use::Zsmalloc => "zram and zswap",
        Use::HugePages => "pools of huge pages",
        Use::OtherReclaimable => "reclaimable memory of drivers",
        Use::Gpu => "graphics memory",
        Use::Balloon => "given back to the hypervisor",
        Use::Poisoned => "poisoned pages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([amount(512 << 10), amount(3 << 19), amount(4 << 30)], ["512 KB", "1.5 MB", "4 GB"]);
    }
}
