//! The OOM killer's choice, computed anew (mm/oom_kill.c).

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::cgroup::{self, Cgroups, Group};
use crate::log;
use crate::meminfo::MemInfo;
use crate::mm::{Mm, MmLoader, PagesByKind};
use crate::tasks::{Task, Tasks};

/// `OOM_SCORE_ADJ_MIN`: never.
const NEVER: i16 = -1000;
/// `MMF_OOM_SKIP` (include/linux/sched/coredump.h, mm_types.h): the reaper has been there. The bit has not moved since 4.9.
const MMF_OOM_SKIP: u64 = 1 << 21;

/// Why the OOM killer passes a process by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spared {
    /// Process 1.
    Init,
    /// A thread of the kernel.
    KernelThread,
    /// It has no memory (any more).
    NoMemory,
    /// Its `oom_score_adj` is -1000.
    Adjusted,
    /// Its memory was reaped already.
    Reaped,
    /// It has borrowed its parent's memory (`vfork`).
    Vfork,
}

/// How bad a process is.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its thread group's leader.
    pub task: Task,
    /// Its `mm_struct`, if it has any memory.
    pub mm: Option<VirtAddr>,
    /// User number of the leader (`cred.uid`).
    pub uid: Field<u32>,
    /// Pages mapped.
    pub total_vm: Field<u64>,
    /// Pages in use, by kind.
    pub pages: Field<PagesByKind>,
    /// Bytes of page tables.
    pub page_table_bytes: Field<u64>,
    /// -1000 (never) to 1000 (first).
    pub adjustment: Field<i16>,
    /// Points (pages, with the adjustment), or why it is spared.
    pub badness: Field<Result<i64, Spared>>,
    /// Whether the OOM killer has chosen it before, and it is not gone yet.
    pub is_victim: bool,
}

/// What is counted against what: all of memory, or a group's.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Pages that may be had, swap included: what an adjustment of 1000 adds.
    pub total_pages: u64,
    /// The tasks that may be chosen; `None` for all.
    members: Option<FxHashSet<VirtAddr>>,
}

/// The table of the OOM killer.
#[derive(Clone, Debug)]
pub struct Table {
    /// Every process that could be asked, in the kernel's order.
    pub candidates: Vec<Candidate>,
    /// The index of the one that would be killed.
    pub chosen: Option<usize>,
    /// A victim that has not died yet: the OOM killer waits for it, and chooses nobody.
    pub waiting_for: Option<usize>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "signal_struct")]
struct Signal {
    oom_score_adj: Field<i16>,
    oom_mm: Field<VirtAddr>,
    oom_flag_origin: Field<bool>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "cred")]
struct Cred {
    #[load(any("uid.val", "uid"))]
    uid: Field<u32>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "task_struct")]
struct Vfork {
    vfork_done: Field<VirtAddr>,
}

impl Scope {
    /// All of memory.
    ///
    /// # Errors
    /// The kernel does not say how much that is.
    pub fn global(kernel: &Kernel) -> Field<Self> {
        let info = MemInfo::find(kernel);
        Ok(Self { total_pages: info.total?.saturating_add(info.swap_total.unwrap_or(0)), members: None })
    }

    /// The memory of a group and those below it.
    ///
    /// # Errors
    /// The group has no memory controller, or it cannot be read.
    pub fn of_group(kernel: &Kernel, groups: &Cgroups, group: &Group) -> Field<Self> {
        let hierarchy =
            groups.hierarchies.iter().find(|of| of.groups.iter().any(|known| known.at == group.at));
        let hierarchy = hierarchy.ok_or_else(|| Lacks::unavailable("the group is in no hierarchy"))?;
        let memory = group.memory.as_ref();
        let memory = memory.ok_or_else(|| Lacks::unavailable("the group has no memory controller"))?;
        let info = MemInfo::find(kernel);
        let swap = info.swap_total.clone().unwrap_or(0);
        let total_pages = match cgroup::memory_limit(memory, hierarchy.is_unified, swap)? {
            Some(limit) => limit.max(1),
            None => Self::global(kernel)?.total_pages,
        };
        let tasks = Tasks::find(kernel);
        let by_cset = cgroup::tasks_by_cset(kernel, tasks.all().iter().map(|task| task.at));
        let is_below = |other: &Group| {
            let rest = other.path.strip_prefix(group.path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut members = FxHashSet::default();
        for below in hierarchy.groups.iter().filter(|other| is_below(other)) {
            for cset in below.csets.clone()? {
                members.extend(by_cset.get(&cset).into_iter().flatten().copied());
            }
        }
        Ok(Self { total_pages, members: Some(members) })
    }
}

/// The table for a scope.
#[must_use]
pub fn table(kernel: &Kernel, scope: &Scope) -> Table {
    let tasks = Tasks::find(kernel);
    let mut threads: FxHashMap<i32, Vec<&Task>> = FxHashMap::default();
    for task in tasks.all().iter().filter(|task| !tasks.is_idle(task)) {
        if let Ok(tgid) = &task.tgid {
            threads.entry(*tgid).or_default().push(task);
        }
    }
    let in_scope = |task: &Task| scope.members.as_ref().is_none_or(|members| members.contains(&task.at));
    let leaders: Vec<&Task> = tasks
        .all()
        .iter()
        .filter(|task| !tasks.is_idle(task) && task.is_group_leader() == Some(true) && in_scope(task))
        .collect();
    let scorer = Scorer::new(kernel, scope.total_pages);
    let scored: Vec<(Candidate, bool)> = leaders
        .into_par_iter()
        .map(|leader| {
            let group = leader.tgid.as_ref().ok().and_then(|tgid| threads.get(tgid));
            scorer.candidate(leader, group.map(Vec::as_slice).unwrap_or_default())
        })
        .collect();
    let (chosen, waiting_for) = choose(&scored);
    Table { candidates: scored.into_iter().map(|(candidate, _)| candidate).collect(), chosen, waiting_for }
}

/// `oom_evaluate_task`: the last of the worst; a process that asked to be the first (`swapoff`) before all others. A
/// victim that still has its memory stops the search.
fn choose(scored: &[(Candidate, bool)]) -> (Option<usize>, Option<usize>) {
    let mut worst: Option<(usize, i64)> = None;
    for (index, (candidate, is_origin)) in scored.iter().enumerate() {
        let badness = candidate.badness.as_ref().ok().copied();
        if candidate.is_victim && badness != Some(Err(Spared::Reaped)) {
            return (None, Some(index));
        }
        let Some(Ok(points)) = badness else { continue };
        let points = if *is_origin { i64::MAX } else { points };
        if worst.is_none_or(|(_, most)| points >= most) {
            worst = Some((index, points));
        }
    }
    (worst.map(|(index, _)| index), None)
}

struct Scorer<'k> {
    kernel: &'k Kernel,
    loader: MmLoader<'k>,
    total_pages: u64,
}

impl<'k> Scorer<'k> {
    fn new(kernel: &'k Kernel, total_pages: u64) -> Self {
        Self { kernel, loader: MmLoader::new(kernel), total_pages }
    }

    /// The badness of a process, and whether it asked to be the first.
    fn candidate(&self, leader: &Task, threads: &[&Task]) -> (Candidate, bool) {
        let signal = leader.signal.clone().map(|at| self.kernel.load::<Signal>(at));
        let adjustment = signal.clone().and_then(|signal| signal.oom_score_adj);
        let has_memory = |task: &Task| task.mm.as_ref().ok().copied().filter(|mm| !mm.is_null());
        // A leader may have exited before its threads.
        let holder =
            [leader].into_iter().chain(threads.iter().copied()).find(|task| has_memory(task).is_some());
        let address = holder.and_then(has_memory);
        let mm = address.map(|at| self.loader.load(at));
        let none = || Lacks::unavailable("the process has no memory");
        // As the OOM killer reads the counters: what single tasks have not added to them does not count.
        let pages = mm.as_ref().map_or(Err(none()), |mm| self.loader.pages_by_kind(mm, &[]));
        let tables = mm.as_ref().map_or(Err(none()), |mm| mm.pgtables_bytes.clone());
        let badness = match self.spared(leader, holder, mm.as_ref(), &adjustment) {
            Ok(Some(spared)) => Ok(Err(spared)),
            Ok(None) => self.points(&pages, &tables, &adjustment).map(Ok),
            Err(lacks) => Err(lacks),
        };
        let is_set = |at: Field<VirtAddr>| at.is_ok_and(|at| !at.is_null());
        let candidate = Candidate {
            task: leader.clone(),
            mm: address,
            uid: leader.cred.clone().and_then(|at| self.kernel.load::<Cred>(at).uid),
            total_vm: mm.map_or(Err(none()), |mm| mm.total_vm),
            pages,
            page_table_bytes: tables,
            adjustment,
            badness,
            is_victim: signal.as_ref().is_ok_and(|signal| is_set(signal.oom_mm.clone())),
        };
        (candidate, signal.is_ok_and(|signal| signal.oom_flag_origin == Ok(true)))
    }

    fn spared(
        &self,
        leader: &Task,
        holder: Option<&Task>,
        mm: Option<&Mm>,
        adjustment: &Field<i16>,
    ) -> Field<Option<Spared>> {
        if leader.tgid == Ok(1) {
            return Ok(Some(Spared::Init));
        }
        if leader.is_kernel_thread() == Some(true) {
            return Ok(Some(Spared::KernelThread));
        }
        let (Some(holder), Some(mm)) = (holder, mm) else { return Ok(Some(Spared::NoMemory)) };
        if adjustment.clone()? == NEVER {
            return Ok(Some(Spared::Adjusted));
        }
        if mm.flags.clone().is_ok_and(|flags| flags.0.first().is_some_and(|word| word & MMF_OOM_SKIP != 0)) {
            return Ok(Some(Spared::Reaped));
        }
        let waits = self.kernel.load::<Vfork>(holder.at).vfork_done.is_ok_and(|at| !at.is_null());
        let parent = holder.real_parent.clone().ok().filter(|_| waits);
        let parent =
            parent.and_then(|at| Tasks::find(self.kernel).at(at).and_then(|task| task.mm.clone().ok()));
        Ok((parent == Some(mm.at)).then_some(Spared::Vfork))
    }

    /// `oom_badness`: pages in RAM, in swap and of page tables; a thousandth of all memory for each point of adjustment.
    fn points(
        &self,
        pages: &Field<PagesByKind>,
        page_table_bytes: &Field<u64>,
        adjustment: &Field<i16>,
    ) -> Field<i64> {
        let (pages, tables) = (pages.clone()?, page_table_bytes.clone()? / PAGE_SIZE);
        let used =
            pages.resident().saturating_add(u64::try_from(pages.swap).unwrap_or(0)).saturating_add(tables);
        Ok(points(used, adjustment.clone()?, self.total_pages))
    }
}

fn points(used: u64, adjustment: i16, total_pages: u64) -> i64 {
    let thousandth = i64::try_from(total_pages / 1000).unwrap_or(i64::MAX);
    let used = i64::try_from(used).unwrap_or(i64::MAX);
    used.saturating_add(i64::from(adjustment).saturating_mul(thousandth))
}

/// What `/proc/PID/oom_score` shows of a badness (since 5.9): 0 to 2000, 667 for nothing at all.
#[must_use]
pub fn score(badness: Result<i64, Spared>, total_pages: u64) -> u64 {
    let Ok(points) = badness else { return 0 };
    let total = i64::try_from(total_pages).unwrap_or(i64::MAX).max(1);
    let score = points.saturating_mul(1000).checked_div(total).unwrap_or(0).saturating_add(1000);
    u64::try_from(score.saturating_mul(2) / 3).unwrap_or(0)
}

/// A kill that the log tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kill {
    /// Time since boot in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// The process.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Whether a control group was out of memory, and not the system.
    pub of_group: bool,
    /// The group whose limit it was (`oom_memcg`), where the log says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// The kills that are still in the log, oldest first.
///
/// # Errors
/// The log cannot be found.
pub fn kills(kernel: &Kernel) -> Field<Vec<Kill>> {
    let mut kills = Vec::new();
    let mut group = None;
    for record in log::records(kernel)? {
        let Ok(record) = record else { continue };
        for line in record.text.lines() {
            if let Some(context) = line.split_once("oom-kill:").map(|(_, context)| context) {
                group =
                    context.split(',').find_map(|pair| pair.strip_prefix("oom_memcg=")).map(str::to_owned);
            }
            if let Some((pid, name, of_group)) = killed(line) {
                let group = group.take().filter(|_| of_group);
                kills.push(Kill { time_ns: record.time_ns, pid, name: name.to_owned(), of_group, group });
            }
        }
    }
    Ok(kills)
}

/// `Memory cgroup out of memory: Killed process 212 (hog-victim) total-vm:...`: the process, and whether a group's limit
/// was to blame.
fn killed(line: &str) -> Option<(i32, &str, bool)> {
    let (cause, rest) = line.split_once(": Killed process ")?;
    let (pid, rest) = rest.split_once(' ')?;
    let name = rest.strip_prefix('(')?;
    // The name may hold parentheses; what follows it does not.
    let name = name.split_once(") total-vm").or_else(|| name.rsplit_once(')'))?.0;
    Some((pid.parse().ok()?, name, cause.contains("cgroup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_pages_and_thousandths() {
        assert_eq!(points(500, 0, 100_000), 500);
        assert_eq!(points(500, 1000, 100_000), 100_500);
        assert_eq!(points(500, -999, 100_000), 500 - 99_900);
        assert_eq!(points(0, 500, 999), 0);
    }

    #[test]
    fn scores_are_procs() {
        assert_eq!(score(Ok(0), 100_000), 666);
        assert_eq!(score(Ok(100_000), 100_000), 1333);
        assert_eq!(score(Ok(-100_000), 100_000), 0);
        assert_eq!(score(Err(Spared::Init), 100_000), 0);
        assert_eq!(score(Ok(5), 0), 4000);
    }

    #[test]
    fn kills_are_read_from_the_log() {
        let line =
            "Memory cgroup out of memory: Killed process 212 (hog (x) y) total-vm:66548kB, anon-rss:1kB";
        assert_eq!(killed(line), Some((212, "hog (x) y", true)));
        assert_eq!(killed("Out of memory: Killed process 7 (bash) score 3"), Some((7, "bash", false)));
        assert_eq!(killed("Killed process"), None);
    }
}
