//! Memory that ran out: of the machine, of a cgroup, of a zone, or in pieces too small.

use kdive_evidence::{Splat, SplatKind, TraceFrame};

use super::Detector;
use super::support::{
    Draft, HINT, LIKELY, NOTE, POSSIBLE, PROVEN, STRONG, events, line, number_after, splats, triggered,
    word_after,
};
use crate::blame;
use crate::case::{Case, EventKind, MemoryFacts, TriggerKind, ZoneFacts};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const OUT_OF_MEMORY: Detector = Detector {
    name: "out-of-memory",
    claim: "Memory ran out: of the machine, or of a cgroup.",
    run: out_of_memory,
};

pub(super) const LOW_MEMORY: Detector = Detector {
    name: "low-memory",
    claim: "A 32-bit kernel ran out of memory that it can address directly, while high memory is free.",
    run: low_memory,
};

pub(super) const ALLOCATION: Detector = Detector {
    name: "allocation-failure",
    claim: "An allocation failed: free memory is in pieces too small, or in the wrong zone.",
    run: allocation,
};

pub(super) const RECLAIM: Detector = Detector {
    name: "reclaim",
    claim: "Many tasks reclaim memory at once and do not come on.",
    run: reclaim,
};

pub(super) const LIMIT: Detector =
    Detector { name: "limit", claim: "A table or a limit is full.", run: limit };

fn out_of_memory(case: &Case<'_>, out: &mut Vec<Finding>) {
    let ended = triggered(case, TriggerKind::OutOfMemoryPanic)
        || case.splats.iter().any(|splat| {
            splat.kind == SplatKind::Panic
                && (splat.message.contains("Out of memory") || splat.message.contains("deadlocked on memory"))
        });
    let ooms: Vec<(usize, &Splat)> = splats(case, &[SplatKind::OutOfMemory]).collect();
    let is_of_cgroup = |frame: &TraceFrame| {
        frame.place.function.as_deref().is_some_and(|name| blame::plain(name) == "mem_cgroup_out_of_memory")
    };
    let of_cgroup = |splat: &Splat| {
        splat.frames.iter().any(is_of_cgroup)
            || ["CONSTRAINT_MEMCG", "Memory cgroup out of memory", "oom_memcg=", "Task in /"]
                .iter()
                .any(|text| line(splat, text).is_some())
    };
    for group in [false, true] {
        // The last one tells how it ended.
        let mine: Vec<_> = ooms.iter().filter(|(_, splat)| of_cgroup(splat) == group).collect();
        let Some(&&(index, splat)) = mine.last() else { continue };
        let killed = mine.iter().rev().find_map(|(_, splat)| killed(splat));
        let class = if group { Class::CgroupOutOfMemory } else { Class::OutOfMemory };
        let score = match (group, ended) {
            (_, true) => PROVEN - 4,
            (false, false) => LIKELY,
            (true, false) => POSSIBLE + 4,
        };
        let cgroup = line(splat, "oom_memcg=")
            .and_then(|text| word_after(text, "oom_memcg="))
            .or_else(|| line(splat, "Task in /").and_then(|text| word_after(text, "limit of")));
        let mut draft = Draft::new(OUT_OF_MEMORY.name, class, score)
            .splat(index)
            .task(killed.clone())
            .object(cgroup.filter(|_| group).map(|name| format!("cgroup {name}")))
            .title(if group {
                "Memory cgroup out of memory"
            } else if ended {
                "kernel panic: Out of memory"
            } else {
                "Out of memory"
            })
            .claim(match (&killed, group, cgroup) {
                (Some(task), true, Some(cgroup)) => {
                    format!("The memory cgroup {cgroup} reached its limit, and {task} was killed.")
                }
                (Some(task), true, None) => {
                    format!("A memory cgroup reached its limit, and {task} was killed.")
                }
                (Some(task), false, _) => format!("The machine ran out of memory, and {task} was killed."),
                (None, true, _) => "A memory cgroup reached its limit.".to_owned(),
                (None, false, _) => "The machine ran out of memory.".to_owned(),
            })
            .says(&splat.message)
            .seen_if(mine.len() > 1, format!("The log has {} such reports.", mine.len()));
        if let Some(nodes) = bound_nodes(splat).filter(|_| !group) {
            draft = draft
                .object(Some(format!("NUMA nodes {nodes}")))
                .seen(format!("The task was bound to the NUMA nodes {nodes} by a memory policy or a cpuset: memory of other nodes was not for it."))
                .seen_if(other_nodes_are_free(&case.memory, nodes), "Other nodes have much free memory.")
                .advice("Look at the memory policy (numactl) and the cpuset of that task.");
        }
        if let Some(text) = line(splat, "Killed process").or(line(splat, "Kill process")) {
            draft = draft.says(text);
        }
        draft = if group {
            draft.advice("Raise the cgroup's limit, or look at what the killed task holds.")
        } else {
            where_it_went(draft, &case.memory)
        };
        draft = draft.against_if(!ended, "The killer ended a process, not the kernel.");
        if score > NOTE {
            draft.push(out)
        }
    }
    if ended && ooms.is_empty() {
        let index = case.splats.iter().position(|splat| splat.kind == SplatKind::Panic);
        let text = index.and_then(|index| case.splats.get(index)).map_or_else(
            || case.trigger.as_ref().map(|trigger| trigger.text.clone()).unwrap_or_default(),
            |splat| splat.message.clone(),
        );
        let draft = Draft::new(OUT_OF_MEMORY.name, Class::OutOfMemory, STRONG)
            .title("kernel panic: Out of memory")
            .claim("The machine ran out of memory, and no process was left to kill.")
            .says(&text);
        let draft = if let Some(index) = index { draft.splat(index) } else { draft };
        where_it_went(draft, &case.memory).push(out);
    }
}

/// The nodes that the killer was bound to: `oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=1,...`.
fn bound_nodes(splat: &Splat) -> Option<&str> {
    let text = line(splat, "oom-kill:constraint=")?;
    let field = |name: &str| text.split(',').find_map(|field| field.strip_prefix(name));
    match word_after(text, "constraint=")? {
        "CONSTRAINT_MEMORY_POLICY" => field("nodemask="),
        "CONSTRAINT_CPUSET" => field("mems_allowed="),
        _ => None,
    }
}

/// Whether zones of nodes that are not in a list such as `0` or `0-1` have more than twice their low watermark.
fn other_nodes_are_free(memory: &MemoryFacts, nodes: &str) -> bool {
    let within = |node: u32| {
        nodes.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            first
                .parse::<u32>()
                .ok()
                .zip(last.parse::<u32>().ok())
                .is_some_and(|(first, last)| (first..=last).contains(&node))
        })
    };
    memory.zones.iter().any(|zone| {
        zone.node.is_some_and(|node| !within(node))
            && zone.free.zip(zone.low).is_some_and(|(free, low)| free > low.saturating_mul(2))
    })
}

/// What holds the memory, as far as the report of the killer tells it.
fn where_it_went(mut draft: Draft, memory: &MemoryFacts) -> Draft {
    let Some(total) = memory.total.filter(|&total| total > 0) else {
        return draft
            .advice("Read the list of tasks and the Mem-Info lines of the report: who holds the memory?");
    };
    let share = |bytes: Option<u64>| bytes.map(|bytes| bytes.saturating_mul(100) / total);
    if let Some(percent) = share(memory.slab).filter(|&percent| percent >= 40) {
        draft = draft.seen(format!("The slab allocator holds {percent} % of memory: the kernel itself leaks or caches without bound.")).advice("Look at the slab caches (kdive: kmem -s): the largest one names what leaks.");
    }
    if let Some(percent) = share(memory.shmem).filter(|&percent| percent >= 40) {
        draft = draft.seen(format!("tmpfs and shared memory hold {percent} % of memory: files in memory, which killing a process does not free.")).advice("Look at what lies in tmpfs mounts (/dev/shm, /tmp, /run).");
    }
    if let Some((total, 0)) = memory.swap {
        draft = draft.seen_if(total > 0, "Swap is full.");
    }
    draft.advice("Look at the tasks and caches that hold most, and at what grew.")
}

/// `name (PID n)` of the killed process.
fn killed(splat: &Splat) -> Option<String> {
    let text = line(splat, "Killed process").or(line(splat, "Kill process"))?;
    let rest = text.split_once("rocess ")?.1;
    let pid: u32 = rest.split([' ', ',', '(']).next()?.parse().ok()?;
    let name = rest.split_once('(')?.1.split_once(')')?.0;
    Some(format!("{name} (PID {pid})"))
}

fn zone<'m>(memory: &'m MemoryFacts, name: &str) -> Option<&'m ZoneFacts> {
    memory.zones.iter().find(|zone| zone.name == name)
}

/// Tasks whose stack is in reclaim or waits for an allocation.
fn reclaimers(case: &Case<'_>) -> usize {
    let in_reclaim = |name: &str| {
        [
            "shrink_",
            "try_to_free_pages",
            "rebalance_",
            "do_try_to_free",
            "balance_classzone",
            "launder_page",
            "throttle_direct_reclaim",
            "congestion_wait",
        ]
        .iter()
        .any(|text| name.starts_with(text))
            || name == ".text.lock.vmscan"
    };
    let reclaiming = |frames: &[kdive_evidence::TraceFrame]| {
        frames
            .iter()
            .filter_map(|frame| frame.place.function.as_deref())
            .any(|name| in_reclaim(blame::plain(name)))
    };
    let crashed = case.crashed.iter().filter(|crashed| reclaiming(&crashed.frames)).count();
    let first = case.splats.iter().filter(|splat| reclaiming(&splat.frames)).count().min(1);
    case.stacks.iter().filter(|stack| reclaiming(&stack.frames)).count().saturating_add(crashed.max(first))
}

fn low_memory(case: &Case<'_>, out: &mut Vec<Finding>) {
    let memory = &case.memory;
    let high = zone(memory, "HighMem");
    let normal = zone(memory, "Normal");
    if !case.system.is_32_bit() && high.is_none() {
        return;
    }
    let (Some(high_free), Some(low_free)) =
        (high.and_then(|zone| zone.free), memory.low_free.or_else(|| normal.and_then(|zone| zone.free)))
    else {
        return;
    };
    let low_total = memory.low_total.or_else(|| normal.and_then(|zone| zone.size)).unwrap_or(0);
    let under_mark = normal
        .is_some_and(|zone| zone.free.zip(zone.min).is_some_and(|(free, min)| free < min.saturating_mul(2)));
    let scarce = low_total > 0 && low_free.saturating_mul(8) < low_total;
    // Blocks of one page only: not even a kernel stack of two pages can be had.
    let shattered = normal
        .is_some_and(|zone| zone.blocks.len() > 4 && zone.blocks.iter().skip(1).all(|&count| count == 0));
    let high_is_free = high_free > low_free.saturating_mul(4);
    if !high_is_free || !(under_mark || scarce || shattered) {
        return;
    }
    let waiting = reclaimers(case);
    let points = [
        under_mark,
        scarce,
        shattered,
        waiting >= 2,
        case.splats.iter().any(|splat| splat.kind == SplatKind::OutOfMemory),
    ]
    .iter()
    .filter(|&&point| point)
    .count();
    let score = match points {
        0 | 1 => POSSIBLE,
        2 => LIKELY,
        _ => STRONG,
    };
    let mb = |bytes: u64| bytes >> 20;
    Draft::new(LOW_MEMORY.name, Class::LowMemoryExhausted, score)
        .object(Some("zone Normal"))
        .title("low memory exhausted")
        .claim(format!("Low memory ran out ({} of {} MB free) while {} MB of high memory are free: the kernel cannot use those for itself.", mb(low_free), mb(low_total), mb(high_free)))
        .seen_if(under_mark, "The zone Normal is near or below its watermark.")
        .seen_if(shattered, "The zone Normal has free blocks of a single page only: whoever needs two pages in a row waits.")
        .seen_if(waiting > 0, format!("{waiting} tasks that are shown reclaim memory or wait for it."))
        .seen_if(memory.slab.is_some(), format!("The slab allocator holds {} MB of it.", mb(memory.slab.unwrap_or_default())))
        .against_if(waiting < 2, "Few tasks are seen to wait for memory.")
        .advice("Run less on this machine, or a 64-bit kernel: a 32-bit kernel manages much memory with little low memory, and every page needs some of it.")
        .advice("Until then: less RAM than 16 GB, smaller socket buffers and caches, or a kernel with a 4G/4G split where there is one.")
        .push(out);
}

fn allocation(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::AllocationFailure]).take(8) {
        let order = number_after(&splat.message, "order:")
            .or_else(|| number_after(&splat.message, "order: "))
            .unwrap_or(0);
        let dma = ["GFP_DMA", "__GFP_DMA"].iter().any(|flag| splat.message.contains(flag));
        let vmalloc = splat.message.contains("vmalloc");
        let contiguous = case
            .memory
            .zones
            .iter()
            .any(|zone| zone.free.zip(zone.min).is_some_and(|(free, min)| free > min.saturating_mul(4)));
        let atomic = splat.message.contains("GFP_ATOMIC") || splat.message.contains("mode:0x20");
        let (class, claim) = if vmalloc {
            (Class::OutOfMemory, "Address space or memory for vmalloc ran out".to_owned())
        } else if splat.message.starts_with("percpu:") {
            (Class::OutOfMemory, "The memory for per-CPU data ran out".to_owned())
        } else if dma {
            (Class::OutOfMemory, "The memory that devices of old can reach (zone DMA) ran out".to_owned())
        } else if order > 0 {
            (
                Class::Fragmentation,
                format!(
                    "No block of {} pages in a row was free",
                    1_u64.checked_shl(u32::try_from(order).unwrap_or(0)).unwrap_or(1)
                ),
            )
        } else {
            (Class::OutOfMemory, "A single page could not be had".to_owned())
        };
        let costly = order > 3;
        // A failed allocation is the matter only where nothing else ended the kernel.
        let alone = case.splats.iter().all(|splat| splat.kind == SplatKind::AllocationFailure);
        let score = if alone && case.trigger.is_none() {
            LIKELY - 6
        } else if order > 0 && contiguous {
            HINT + 6
        } else {
            NOTE
        };
        Draft::new(ALLOCATION.name, class, score)
            .at(index, splat, crate::blame::Mode::Fault)
            .title_in("page allocation failure")
            .claim_in(claim)
            .says(&splat.message)
            .seen_if(
                order > 0 && contiguous,
                "Zones have free memory well above their watermarks: it is in pieces too small.",
            )
            .against_if(
                atomic,
                "The caller could not wait: such failures are expected under load, and callers bear them.",
            )
            .against_if(costly, "Blocks of more than 8 pages are often refused: callers must bear it.")
            .push(out);
    }
}

fn reclaim(case: &Case<'_>, out: &mut Vec<Finding>) {
    let waiting = reclaimers(case);
    if waiting < 3 {
        return;
    }
    Draft::new(RECLAIM.name, Class::ReclaimStall, if waiting >= 8 { LIKELY } else { POSSIBLE + 4 })
        .title("memory reclaim does not come on")
        .claim(format!("{waiting} tasks reclaim memory at the same time."))
        .seen(format!("{waiting} of the stacks shown are in reclaim."))
        .advice("Look at free memory by zone, at swap and at dirty pages.")
        .push(out);
}

fn limit(case: &Case<'_>, out: &mut Vec<Finding>) {
    for event in events(case, EventKind::LimitReached) {
        let alone = case.splats.is_empty() && case.trigger.is_none();
        let (what, advice) = if event.text.contains("conntrack") {
            ("the table of tracked connections", "Raise net.netfilter.nf_conntrack_max, or track less.")
        } else if event.text.contains("file-max") {
            ("the number of open files", "Find the process that leaks files, or raise fs.file-max.")
        } else if event.text.contains("pids") || event.text.contains("fork") {
            ("the number of processes", "Find who forks, or raise pids.max.")
        } else if event.text.contains("tcp_mem") || event.text.contains("orphaned") {
            ("the memory of sockets", "Look at sockets with full queues; tune net.ipv4.tcp_mem.")
        } else if event.text.contains("out-of-data-space") {
            ("the space of a thin pool", "Extend the pool: until then writes wait, and then fail.")
        } else {
            ("a table", "Raise the limit, or find who fills it.")
        };
        Draft::new(LIMIT.name, Class::LimitReached, if alone { LIKELY - 6 } else { HINT })
            .object(Some(what))
            .title("limit reached")
            .claim(format!("A limit is reached: {what}."))
            .says(&event.text)
            .seen_if(event.count > 1, format!("The line came {} times.", event.count))
            .against_if(!alone, "It does not end a kernel.")
            .advice(advice)
            .push(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::System;

    fn starved(high_free: u64, blocks: Vec<u64>) -> Case<'static> {
        let zone = |name: &str, size: u64, free: u64, blocks: Vec<u64>| ZoneFacts {
            name: name.to_owned(),
            size: Some(size << 20),
            free: Some(free << 20),
            blocks,
            ..ZoneFacts::default()
        };
        Case {
            system: System { machine: Some("i686".to_owned()), ..System::default() },
            memory: MemoryFacts {
                zones: vec![zone("Normal", 880, 40, blocks), zone("HighMem", 16_000, high_free, Vec::new())],
                low_total: Some(539 << 20),
                low_free: Some(51 << 20),
                ..MemoryFacts::default()
            },
            ..Case::default()
        }
    }

    fn judge(case: &Case<'_>) -> Option<u8> {
        let mut out = Vec::new();
        low_memory(case, &mut out);
        out.first().map(|finding| finding.score)
    }

    #[test]
    fn low_memory_is_the_matter_only_while_high_memory_is_free() {
        assert_eq!(judge(&starved(3_200, vec![10_372, 0, 0, 0, 0, 0])), Some(LIKELY));
        assert_eq!(judge(&starved(3_200, vec![100, 50, 20, 10, 5, 3])), Some(POSSIBLE));
        assert_eq!(judge(&starved(100, vec![10_372, 0, 0, 0, 0, 0])), None);
        let wide = Case { system: System::default(), memory: MemoryFacts::default(), ..Case::default() };
        assert_eq!(judge(&wide), None);
    }

    #[test]
    fn the_killed_process_is_named() {
        let splat = Splat {
            message: "Out of memory: Killed process 123 (stress ng) total-vm:1kB".to_owned(),
            ..Splat::default()
        };
        assert_eq!(killed(&splat).as_deref(), Some("stress ng (PID 123)"));
    }
}
