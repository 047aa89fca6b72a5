//! What controllers count of a group (`struct mem_cgroup`, mm/memcontrol.c; `struct pids_cgroup`, kernel/cgroup/pids.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, Words};

/// A counter with a limit (`struct page_counter`), in pages.
#[derive(Clone, Debug)]
pub struct Counter {
    /// In use, by the group and all below it.
    pub usage: Field<u64>,
    /// The limit; `None` where there is none.
    pub max: Field<Option<u64>>,
    /// What throttles before the limit kills (v2); `None` where there is none.
    pub high: Field<Option<u64>>,
    /// The most that was ever in use.
    pub peak: Field<u64>,
    /// How often the limit was hit.
    pub failures: Field<u64>,
}

/// The memory controller of a group.
#[derive(Clone, Debug)]
pub struct MemoryController {
    /// Its `struct mem_cgroup`.
    pub at: VirtAddr,
    /// Memory.
    pub memory: Counter,
    /// Swap (v2), or memory and swap together (v1): they share their place.
    pub swap: Counter,
    /// Memory of the kernel itself, part of memory (`kmem`, where the kernel counts it apart).
    pub kernel: Counter,
    /// Times at the limit, out of memory, and kills, of the group and all below it: names without `MEMCG_`, in lower
    /// case, as `memory.events` has them.
    pub events: Vec<(String, u64)>,
    /// Whether the OOM killer takes the whole group (`memory.oom.group`).
    pub oom_group: Field<bool>,
}

/// The pids controller of a group.
#[derive(Clone, Debug)]
pub struct PidsController {
    /// Its `struct pids_cgroup`.
    pub at: VirtAddr,
    /// Tasks, those of groups below included.
    pub current: Field<u64>,
    /// The limit; `None` where there is none.
    pub max: Field<Option<u64>>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "mem_cgroup")]
struct MemoryFields {
    memory: Field<MemberAddress>,
    #[load(any("swap", "memsw"))]
    swap: Field<MemberAddress>,
    kmem: Field<MemberAddress>,
    memory_events: Field<Words>,
    oom_group: Field<bool>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "page_counter")]
struct CounterFields {
    #[load(any("usage.counter", "count.counter"))]
    usage: Field<i64>,
    #[load(any("max", "limit"))]
    max: Field<u64>,
    high: Field<u64>,
    watermark: Field<u64>,
    failcnt: Field<u64>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "pids_cgroup")]
struct PidsFields {
    #[load(any("counter.counter"))]
    counter: Field<i64>,
    #[load(any("limit.counter"))]
    limit: Field<i64>,
}

/// `PAGE_COUNTER_MAX`: no limit. It is `LONG_MAX / PAGE_SIZE`.
const NO_LIMIT: u64 = (i64::MAX as u64) / 4096;
/// `PIDS_MAX`: `PID_MAX_LIMIT` and one.
const NO_PIDS_LIMIT: i64 = 4 * 1024 * 1024;

impl CounterFields {
    fn counter(self) -> Counter {
        let limit = |pages: Field<u64>| pages.map(|pages| (pages < NO_LIMIT).then_some(pages));
        Counter {
            // Uncharging may run ahead for a moment.
            usage: self.usage.map(|pages| u64::try_from(pages).unwrap_or(0)),
            max: limit(self.max),
            high: limit(self.high),
            peak: self.watermark,
            failures: self.failcnt,
        }
    }
}

/// Loaders of controllers, bound once.
pub(super) struct Loaders<'k> {
    memory: Loader<'k, MemoryFields>,
    counter: Loader<'k, CounterFields>,
    pids: Loader<'k, PidsFields>,
    /// The controllers' `cgroup_subsys_state`s lie in them.
    memory_css: u64,
    pids_css: u64,
    events: Vec<String>,
}

impl<'k> Loaders<'k> {
    pub(super) fn new(kernel: &'k Kernel) -> Self {
        let mut events: Vec<_> = kernel.enumerators("memcg_memory_event").unwrap_or_default();
        events.sort_by_key(|(_, number)| *number);
        let names = events.iter().filter(|(name, _)| &**name != "MEMCG_NR_MEMORY_EVENTS");
        Self {
            memory: kernel.loader(),
            counter: kernel.loader(),
            pids: kernel.loader(),
            memory_css: kernel.offset_of("mem_cgroup", "css").unwrap_or(0),
            pids_css: kernel.offset_of("pids_cgroup", "css").unwrap_or(0),
            events: names.map(|(name, _)| name.trim_start_matches("MEMCG_").to_lowercase()).collect(),
        }
    }

    pub(super) fn memory(&self, css: VirtAddr) -> MemoryController {
        let at = css.sub(self.memory_css);
        let fields = self.memory.load(at);
        let counter = |place: Field<MemberAddress>| match place {
            Ok(MemberAddress(at)) => self.counter.load(at).counter(),
            Err(lacks) => lacking(&lacks),
        };
        let Words(counts) = fields.memory_events.unwrap_or(Words(Vec::new()));
        MemoryController {
            at,
            memory: counter(fields.memory),
            swap: counter(fields.swap),
            kernel: counter(fields.kmem),
            events: self.events.iter().cloned().zip(counts).collect(),
            oom_group: fields.oom_group,
        }
    }

    pub(super) fn pids(&self, css: VirtAddr) -> PidsController {
        let at = css.sub(self.pids_css);
        let fields = self.pids.load(at);
        PidsController {
            at,
            current: fields.counter.map(|count| u64::try_from(count).unwrap_or(0)),
            max: fields.limit.map(|limit| u64::try_from(limit).ok().filter(|_| limit <= NO_PIDS_LIMIT)),
        }
    }
}

fn lacking(lacks: &Lacks) -> Counter {
    let number = || Err(lacks.clone());
    let limit = || Err(lacks.clone());
    Counter { usage: number(), max: limit(), high: limit(), peak: number(), failures: number() }
}

impl Counter {
    /// Whether no page more could be charged: what processors hold charged in advance counts as free
    /// (`MEMCG_CHARGE_BATCH` pages).
    ///
    /// # Errors
    /// The counter cannot be read.
    pub fn is_at_limit(&self) -> Field<bool> {
        const BATCH: u64 = 64;
        let usage = self.usage.clone()?;
        Ok(self.max.clone()?.is_some_and(|max| max > 0 && usage.saturating_add(BATCH) > max))
    }
}

impl MemoryController {
    /// How often something happened (`oom_kill`).
    #[must_use]
    pub fn event(&self, name: &str) -> u64 {
        self.events.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
    }
}

/// `mem_cgroup_get_max`: what a group may have of memory and swap together, in pages; `None` without a limit. In v2
/// swap has a limit of its own, and no more than there is.
///
/// # Errors
/// The counters cannot be read.
pub fn memory_limit(of: &MemoryController, is_unified: bool, swap_total: u64) -> Field<Option<u64>> {
    let Some(memory) = of.memory.max.clone()? else { return Ok(None) };
    if !is_unified {
        let both = of.swap.max.clone().unwrap_or(None).unwrap_or(u64::MAX);
        return Ok(Some(both.min(memory.saturating_add(swap_total))));
    }
    let swap = of.swap.max.clone().unwrap_or(Some(0)).unwrap_or(u64::MAX).min(swap_total);
    Ok(Some(memory.saturating_add(swap)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(usage: u64, max: Option<u64>) -> Counter {
        Counter { usage: Ok(usage), max: Ok(max), high: Ok(None), peak: Ok(0), failures: Ok(0) }
    }

    #[test]
    fn a_group_is_at_its_limit_when_a_batch_does_not_fit() {
        assert_eq!(counter(6100, Some(6144)).is_at_limit(), Ok(true));
        assert_eq!(counter(6000, Some(6144)).is_at_limit(), Ok(false));
        assert_eq!(counter(6000, None).is_at_limit(), Ok(false));
        assert_eq!(counter(0, Some(0)).is_at_limit(), Ok(false));
    }

    #[test]
    fn swap_adds_to_what_a_group_may_have() {
        let of = |memory, swap| MemoryController {
            at: VirtAddr(0),
            memory: counter(0, memory),
            swap: counter(0, swap),
            kernel: counter(0, None),
            events: vec![("oom_kill".into(), 3)],
            oom_group: Ok(false),
        };
        assert_eq!(memory_limit(&of(Some(100), Some(0)), true, 50), Ok(Some(100)));
        assert_eq!(memory_limit(&of(Some(100), None), true, 50), Ok(Some(150)));
        assert_eq!(memory_limit(&of(Some(100), Some(120)), false, 50), Ok(Some(120)));
        assert_eq!(memory_limit(&of(None, Some(0)), true, 50), Ok(None));
        assert_eq!((of(None, None).event("oom_kill"), of(None, None).event("max")), (3, 0));
    }
}
