//! `Mem-Info:` and what the OOM killer lists around it.

use crate::case::{CacheFacts, MemoryFacts, MemoryRequest, TaskMemory, ZoneFacts};

use super::scan::{after, decimal, number_after, word};

/// Bytes of a page on x86.
const PAGE: u64 = 4096;
const MOST_ZONES: usize = 512;
const MOST_TASKS: usize = 4096;
const MOST_KILLED: usize = 256;
const MOST_CACHES: usize = 1024;

/// What the reports of a log tell of memory: the numbers of the last, the request of the first, everybody who was killed.
#[derive(Debug, Default)]
pub(super) struct MemoryReports {
    pub(super) facts: MemoryFacts,
    /// Rows of tasks follow; the columns of their heading.
    columns: Vec<&'static str>,
    /// Rows of slab caches follow.
    caches: bool,
}

/// Whether a line is of such a report: its numbers are facts, and need not stand in its words.
pub(super) fn is_row(text: &str) -> bool {
    let starts = [
        "Mem-Info:",
        "Node ",
        "DMA ",
        "DMA32 ",
        "Normal ",
        "HighMem ",
        "Normal: ",
        "DMA: ",
        "HighMem: ",
        "lowmem_reserve[]",
        "protections[]",
        "active_anon:",
        "active_file:",
        "unevictable:",
        "slab_reclaimable:",
        "mapped:",
        "sec_pagetables:",
        "kernel_misc_reclaimable:",
        "free:",
        "Active:",
        "active:",
        "anon_inactive",
        "[  pid  ]",
        "[ pid ]",
        "Tasks state",
        "Free swap",
        "Total swap",
        "Swap cache stats",
        "Unreclaimable slab info:",
        "Name  ",
    ]
    .iter()
    .any(|mark| text.starts_with(mark));
    starts
        || cache(text).is_some()
        || is_counter(text)
        || [
            " pages RAM",
            " pages HighMem",
            " pages reserved",
            " pages in swap cache",
            " total pagecache pages",
            " pages hwpoisoned",
            " pages cma reserved",
        ]
        .iter()
        .any(|mark| text.contains(mark))
        || task(text).is_some()
}

impl MemoryReports {
    /// Takes a line, which may begin a report (`opens`). Lines of other things tell nothing. Whether it was a row of a table.
    pub(super) fn line(&mut self, text: &str, opens: bool) -> bool {
        if self.caches {
            self.caches = text.starts_with("Name ") || self.cache(text);
            if self.caches {
                return true;
            }
        }
        match text.as_bytes() {
            [b'[', ..] if !text.starts_with("[ pid ]") && !text.starts_with("[  pid  ]") => {
                let row = task(text);
                if let Some((pid, row)) = row {
                    self.task(pid, row);
                }
                return row.is_some();
            }
            [b'N', b'o', b'd', b'e', b' ', ..] => {
                let is_zone = self.zone(text);
                if !is_zone {
                    self.totals(text);
                }
                return is_zone;
            }
            _ => self.other_line(text, opens),
        }
        false
    }

    /// Takes a line of no table.
    fn other_line(&mut self, text: &str, opens: bool) {
        if text.starts_with("Unreclaimable slab info:") {
            self.facts.caches.clear();
            self.caches = true;
            return;
        }
        if opens && (text.contains("invoked oom-killer") || text.contains("page allocation failure")) {
            return self.request(text);
        }
        if text.starts_with("Mem-Info:") || text.starts_with("Mem-info:") {
            let old = std::mem::take(&mut self.facts);
            self.facts = MemoryFacts { request: old.request, killed: old.killed, ..MemoryFacts::default() };
            self.columns.clear();
        } else if text.starts_with("oom-kill:constraint=") {
            self.constraint(text);
        } else if text.contains("rocess ")
            && (text.contains("illed process") || text.contains("Kill process"))
        {
            self.killed(text);
        } else if text.starts_with("memory: usage ") {
            let limit = number_after(text, "limit ").map(|kilobytes| kilobytes.saturating_mul(1024));
            let request = self.facts.request.get_or_insert_default();
            request.limit = request.limit.or(limit);
        } else if text.starts_with("[  pid  ]") || text.starts_with("[ pid ]") {
            self.columns = columns(text);
            self.facts.tasks.clear();
        } else if !self.zone(text) {
            self.totals(text);
        }
    }

    /// `trigger invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0`, `a: page allocation failure: order:4, mode:0x40dc0(...)`.
    fn request(&mut self, text: &str) {
        if self.facts.request.is_some() {
            return;
        }
        let comm =
            text.split_once(" invoked oom-killer").or_else(|| text.split_once(": page allocation failure"));
        let order = number_after(text, "order=").or_else(|| number_after(text, "order:"));
        let gfp = after(text, "gfp_mask=").or_else(|| after(text, "mode:"));
        let gfp = gfp.map(|gfp| gfp.split([',', ' ']).next().unwrap_or(gfp).to_owned());
        self.facts.request = Some(MemoryRequest {
            comm: comm.map(|(comm, _)| comm.to_owned()),
            order: order.and_then(|order| i32::try_from(order).ok()),
            gfp,
            ..MemoryRequest::default()
        });
    }

    /// `kmalloc-64    448984KB     448988KB`: what is used, and what its slabs take.
    fn cache(&mut self, text: &str) -> bool {
        let Some((name, bytes)) = cache(text) else { return false };
        if self.facts.caches.len() < MOST_CACHES {
            self.facts.caches.push(CacheFacts { name: name.to_owned(), bytes, ..CacheFacts::default() });
        }
        true
    }

    fn constraint(&mut self, text: &str) {
        let request = self.facts.request.get_or_insert_default();
        let field =
            |name: &str| after(text, name).map(|rest| rest.split(',').next().unwrap_or(rest).to_owned());
        request.constraint = request.constraint.take().or_else(|| field("constraint="));
        request.cgroup = request.cgroup.take().or_else(|| field("oom_memcg="));
    }

    /// `Out of memory: Killed process 123 (comm) total-vm:17404kB, anon-rss:16432kB, file-rss:4kB, ...`.
    fn killed(&mut self, text: &str) {
        let Some((pid, rest)) = after(text, "rocess ").and_then(decimal) else { return };
        let Some((comm, rest)) = after(rest, "(").and_then(|rest| rest.split_once(')')) else { return };
        let kilobytes = |name: &str| number_after(rest, name).map(|kilobytes| kilobytes.saturating_mul(1024));
        let parts = [kilobytes("anon-rss:"), kilobytes("file-rss:"), kilobytes("shmem-rss:")];
        let known = parts.iter().any(Option::is_some);
        let killed = TaskMemory {
            pid: i32::try_from(pid).unwrap_or_default(),
            comm: comm.to_owned(),
            rss: known.then(|| parts.into_iter().flatten().fold(0, u64::saturating_add)),
            swap: None,
            oom_score_adj: None,
        };
        // Old kernels say it twice: `Kill process`, `Killed process`.
        let all = &mut self.facts.killed;
        let known = all.iter().position(|other| other.pid == killed.pid && other.comm == killed.comm);
        if let Some(other) = known.and_then(|at| all.get_mut(at)) {
            other.rss = other.rss.or(killed.rss);
        } else if all.len() < MOST_KILLED {
            all.push(killed);
        }
    }

    /// A row of the table of tasks, by the columns of its heading.
    fn task(&mut self, pid: i32, row: &str) {
        if self.facts.tasks.len() >= MOST_TASKS {
            return;
        }
        let pages = |value: &str| value.parse::<u64>().ok().map(|pages| pages.saturating_mul(PAGE));
        let mut task = TaskMemory { pid, ..TaskMemory::default() };
        let mut rest = row;
        for column in &self.columns {
            let (value, behind) = word(rest);
            match *column {
                "rss" => task.rss = pages(value),
                "swapents" => task.swap = pages(value),
                "oom_score_adj" => task.oom_score_adj = value.parse().ok(),
                // Names may have spaces.
                "name" => {
                    task.comm = rest.trim().to_owned();
                    break;
                }
                _ => {}
            }
            rest = behind;
        }
        if !task.comm.is_empty() {
            self.facts.tasks.push(task);
        }
    }

    /// `Node 0 DMA32 free:2380kB min:2620kB ... present:507740kB managed:458760kB`, and `Node 0 DMA32: 3*4kB (UM) 1*8kB ...`.
    fn zone(&mut self, text: &str) -> bool {
        let (node, rest) = match text.strip_prefix("Node ").and_then(decimal) {
            Some((node, rest)) => (u32::try_from(node).ok(), rest.trim_start()),
            None => (None, text),
        };
        let (name, values) = word(rest);
        if let Some(name) = name.strip_suffix(':') {
            let Some(zone) = self
                .facts
                .zones
                .iter_mut()
                .find(|zone| zone.name == name && (zone.node == node || node.is_none()))
            else {
                return false;
            };
            zone.blocks = values
                .split_whitespace()
                .filter_map(|block| decimal(block)?.1.starts_with('*').then_some(decimal(block)?.0))
                .take(32)
                .collect();
            return true;
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || !values.starts_with("free:") {
            return false;
        }
        let kilobytes =
            |mark: &str| number_after(values, mark).map(|kilobytes| kilobytes.saturating_mul(1024));
        if self.facts.zones.len() < MOST_ZONES {
            self.facts.zones.push(ZoneFacts {
                name: name.to_owned(),
                node,
                size: kilobytes(" managed:").or_else(|| kilobytes(" present:")),
                free: kilobytes("free:"),
                min: kilobytes(" min:"),
                low: kilobytes(" low:"),
                unreclaimable: values.contains("all_unreclaimable? yes"),
                blocks: Vec::new(),
            });
        }
        true
    }

    /// Numbers in pages: `slab_reclaimable:336 slab_unreclaimable:114343`.
    fn totals(&mut self, text: &str) {
        if let Some((count, rest)) = decimal(text) {
            let pages = Some(count.saturating_mul(PAGE));
            match rest.trim() {
                "pages RAM" | "pages of RAM" => self.facts.total = pages,
                "pages HighMem/MovableOnly" | "pages of HIGHMEM" | "pages HighMem" => {
                    self.facts.high_total = pages.filter(|bytes| *bytes > 0)
                }
                _ => {}
            }
            return;
        }
        let facts = &mut self.facts;
        if let Some(total) = number_after(text, "Total swap = ") {
            facts.swap = Some((total.saturating_mul(1024), facts.swap.map_or(0, |(_, free)| free)));
        } else if text.starts_with("Free swap") {
            let free = number_after(text, "=").or_else(|| number_after(text, "Free swap:"));
            facts.swap = Some((
                facts.swap.map_or(0, |(total, _)| total),
                free.unwrap_or_default().saturating_mul(1024),
            ));
        } else if text.starts_with("Node ") {
            let stacks = number_after(text, "kernel_stack:").map(|kilobytes| kilobytes.saturating_mul(1024));
            facts.kernel_stacks = sum(facts.kernel_stacks, stacks);
            return;
        }
        for token in text.split_whitespace() {
            let Some((name, value)) = token.split_once(':') else { continue };
            // Numbers with a unit are of a node or zone, whose sum stands here.
            let Some((count, "")) = decimal(value) else { continue };
            let slot = match name {
                "active_anon" | "inactive_anon" => &mut facts.anonymous,
                "active_file" | "inactive_file" => &mut facts.file,
                "slab_reclaimable" => &mut facts.slab_reclaimable,
                "slab_unreclaimable" => &mut facts.slab_unreclaimable,
                "slab" => &mut facts.slab,
                "shmem" => &mut facts.shmem,
                "pagetables" => &mut facts.page_tables,
                "unevictable" => &mut facts.unevictable,
                "free" => &mut facts.free,
                _ => continue,
            };
            *slot = sum(*slot, Some(count.saturating_mul(PAGE)));
        }
        if facts.slab.is_none() && facts.slab_unreclaimable.is_some() {
            facts.slab = sum(facts.slab_reclaimable, facts.slab_unreclaimable);
        }
    }
}

fn cache(text: &str) -> Option<(&str, u64)> {
    let mut columns = text.split_whitespace();
    let (name, used, total) = (columns.next()?, columns.next()?, columns.next()?);
    let kilobytes = |text: &str| text.strip_suffix("KB")?.parse::<u64>().ok();
    kilobytes(used)?;
    let total = kilobytes(total)?.saturating_mul(1024);
    columns.next().is_none().then_some((name, total))
}

/// A counter of a cgroup: `anon 8192`, `pgfault 123`.
fn is_counter(text: &str) -> bool {
    let mut columns = text.split_whitespace();
    let name =
        columns.next().is_some_and(|name| name.starts_with(|letter: char| letter.is_ascii_lowercase()));
    name && columns.next().is_some_and(|count| count.parse::<u64>().is_ok()) && columns.next().is_none()
}

fn sum(known: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (known, more) {
        (Some(known), Some(more)) => Some(known.saturating_add(more)),
        (known, more) => known.or(more),
    }
}

/// Columns of the heading of tasks, `name` the last.
fn columns(text: &str) -> Vec<&'static str> {
    const KNOWN: [&str; 14] = [
        "uid",
        "tgid",
        "total_vm",
        "rss",
        "rss_anon",
        "rss_file",
        "rss_shmem",
        "pgtables_bytes",
        "nr_ptes",
        "nr_pmds",
        "swapents",
        "cpu",
        "oom_score_adj",
        "name",
    ];
    let heading = text.split_once(']').map_or(text, |(_, rest)| rest);
    heading
        .split_whitespace()
        .map(|column| KNOWN.into_iter().find(|known| *known == column).unwrap_or(""))
        .collect()
}

/// `[    175]     0   175     4351     4277 ... hog-steady`: the number and the rest.
fn task(text: &str) -> Option<(i32, &str)> {
    let (pid, rest) = text.strip_prefix('[')?.split_once(']')?;
    let pid: i32 = pid.trim().parse().ok()?;
    // Numbers, and a name behind them.
    let numbers = rest.split_whitespace().take(6).filter(|value| value.parse::<i64>().is_ok()).count();
    (numbers == 6).then_some((pid, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_cgroup_is_read() {
        let mut reports = MemoryReports::default();
        for text in [
            "hog victim invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
            "memory: usage 24576kB, limit 24576kB, failcnt 20",
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name",
            "[    175]     0   175     4351     4277     4108        1       168    69632        2             -5 hog steady",
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/limited,task_memcg=/limited/inner,task=hog-steady,pid=175,uid=0",
            "Memory cgroup out of memory: Killed process 175 (hog-steady) total-vm:17404kB, anon-rss:16432kB, file-rss:4kB, shmem-rss:680kB, UID:0 pgtables:68kB oom_score_adj:0",
        ] {
            reports.line(text, true);
        }
        let facts = &reports.facts;
        let request = facts.request.as_ref().unwrap();
        assert_eq!(
            (request.comm.as_deref(), request.order, request.gfp.as_deref()),
            (Some("hog victim"), Some(0), Some("0xcc0(GFP_KERNEL)"))
        );
        assert_eq!(
            (request.constraint.as_deref(), request.cgroup.as_deref(), request.limit),
            (Some("CONSTRAINT_MEMCG"), Some("/limited"), Some(24576 << 10))
        );
        let task = TaskMemory {
            pid: 175,
            comm: "hog steady".to_owned(),
            rss: Some(4277 * 4096),
            swap: Some(2 * 4096),
            oom_score_adj: Some(-5),
        };
        assert_eq!(facts.tasks, [task]);
        assert_eq!((facts.killed[0].pid, facts.killed[0].rss), (175, Some((16432 + 4 + 680) << 10)));
    }

    #[test]
    fn zones_and_sums_of_the_last_report_count() {
        let mut reports = MemoryReports::default();
        for text in [
            "Mem-Info:",
            "free:1 free_pcp:0 free_cma:0",
            "Mem-Info:",
            "active_anon:2 inactive_anon:3 isolated_anon:0",
            "slab_reclaimable:336 slab_unreclaimable:114343",
            "mapped:2 shmem:0 pagetables:105",
            "free:1051 free_pcp:0 free_cma:0",
            "Node 0 active_anon:0kB inactive_anon:0kB kernel_stack:1200kB pagetables:420kB all_unreclaimable? yes",
            "Node 0 DMA32 free:2380kB boost:0kB min:2620kB low:3272kB high:3924kB present:507740kB managed:458760kB mlocked:0kB",
            "Node 0 DMA32: 3*4kB (UM) 0*8kB 1*16kB (U) = 28kB",
            "131058 pages RAM",
            "0 pages HighMem/MovableOnly",
            "Free swap  = 0kB",
            "Total swap = 8kB",
        ] {
            assert!(is_row(text), "{text}");
            reports.line(text, true);
        }
        let facts = &reports.facts;
        assert_eq!(
            (facts.free, facts.slab, facts.anonymous),
            (Some(1051 * 4096), Some((336 + 114_343) * 4096), Some(5 * 4096))
        );
        assert_eq!(
            (facts.total, facts.high_total, facts.swap, facts.kernel_stacks),
            (Some(131_058 * 4096), None, Some((8192, 0)), Some(1200 << 10))
        );
        let [zone] = &*facts.zones else { panic!("{:?}", facts.zones) };
        assert_eq!(
            (zone.name.as_str(), zone.node, zone.size, zone.min),
            ("DMA32", Some(0), Some(458_760 << 10), Some(2620 << 10))
        );
        assert_eq!(zone.blocks, [3, 0, 1]);
    }
}
