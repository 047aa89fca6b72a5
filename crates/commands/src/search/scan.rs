//! Reads what ranges map, in large pieces and on several threads, and hands out what is found in the order of addresses.

use kdive_base::{Address, Missing, PAGE_SIZE, PhysAddr, VirtAddr, VirtualMemory, Why};
use kdive_dump::{PhysicalMemory, RunState};
use kdive_target::Mapped;
use rayon::prelude::*;

use super::pattern::{Hit, Pattern};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render;

/// Bytes read at once: they stay in a processor's cache until they are looked at.
const PIECE: usize = 256 << 10;
/// Bytes that one thread takes at a time.
const JOB: u64 = 1 << 20;
/// Jobs of a round, for each thread: one that takes longer than the others does not keep a thread waiting.
const JOBS: usize = 8;
/// Ranges of a job: small pages are many.
const JOB_RUNS: usize = 1024;
/// Ranges below this are read without asking the dump's index first.
const SMALL: u64 = 64 << 10;
/// Mapped bytes that are searched whatever there is; beyond, damaged tables that map the same memory again and again
/// are stopped at this multiple of the memory in the dump.
const FREE: u64 = 64 << 30;
const MOST_MAPPED: u64 = 4;

/// Runs of memory and what can be missing between them.
pub(crate) type Runs<'a> = dyn Iterator<Item = Result<Mapped, Missing>> + 'a;

/// Memory that was not searched, for one reason.
#[derive(Clone, Copy, Debug)]
struct Hole {
    why: Why,
    first: VirtAddr,
    bytes: u64,
}

/// Holes by their reason: of memory, and of page tables that would say where there is some.
#[derive(Clone, Debug, Default)]
struct Holes {
    memory: Vec<Hole>,
    tables: Vec<Hole>,
}

impl Holes {
    fn add(&mut self, why: Why, first: VirtAddr, bytes: u64) {
        if why == Why::NeverPresent {
            // No RAM was ever there: device memory, and what lies between banks. Nothing is lacking.
            return;
        }
        match self.memory.iter_mut().find(|hole| hole.why == why) {
            Some(hole) => hole.bytes = hole.bytes.saturating_add(bytes),
            None => self.memory.push(Hole { why, first, bytes }),
        }
    }

    fn add_table(&mut self, missing: &Missing) {
        if !self.tables.iter().any(|hole| hole.why == missing.why) {
            let Address::Virtual(first) = missing.address else { return };
            self.tables.push(Hole { why: missing.why, first, bytes: 0 });
        }
    }
}

/// A part of the work.
struct Job {
    runs: Vec<Mapped>,
    bytes: u64,
    buffer: Vec<u8>,
    hits: Vec<Hit>,
    holes: Holes,
}

/// Searches memory.
pub(crate) struct Scanner<'a> {
    pattern: &'a Pattern,
    physical: &'a dyn PhysicalMemory,
    /// The same memory by the addresses that are searched: a match can go on where a run ends.
    memory: &'a dyn VirtualMemory,
    jobs: Vec<Job>,
    holes: Holes,
    searched: u64,
    limit: u64,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(
        pattern: &'a Pattern,
        physical: &'a dyn PhysicalMemory,
        memory: &'a dyn VirtualMemory,
    ) -> Self {
        let job = || Job {
            runs: Vec::new(),
            bytes: 0,
            buffer: Vec::new(),
            hits: Vec::new(),
            holes: Holes::default(),
        };
        let count = rayon::current_num_threads().saturating_mul(JOBS);
        let jobs = std::iter::repeat_with(job).take(count).collect();
        Self { pattern, physical, memory, jobs, holes: Holes::default(), searched: 0, limit: FREE }
    }

    /// Searches runs, and hands each match to `found`, in the order of the runs.
    pub(crate) fn scan(
        &mut self,
        cx: &Cx,
        runs: &mut Runs<'_>,
        found: &mut dyn FnMut(&Hit) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut runs = Present { runs, physical: self.physical, rest: None };
        loop {
            let filled = self.fill(&mut runs);
            if filled == 0 {
                return Ok(());
            }
            cx.cancel.check()?;
            let jobs = self.jobs.get_mut(..filled).unwrap_or_default();
            let (pattern, physical, memory) = (self.pattern, self.physical, self.memory);
            jobs.par_iter_mut().for_each(|job| job.run(pattern, physical, memory));
            for job in jobs {
                for hit in &job.hits {
                    found(hit)?;
                }
                self.searched = self.searched.saturating_add(job.bytes);
                for hole in job.holes.memory.drain(..) {
                    self.holes.add(hole.why, hole.first, hole.bytes);
                }
            }
            cx.progress.step("bytes searched", self.searched, None);
            if self.searched > self.limit {
                self.limit = self.physical.totals(&cx.cancel)?.present.saturating_mul(MOST_MAPPED).max(FREE);
                if self.searched > self.limit {
                    let why = "the page tables map the same memory over and over";
                    return Err(CommandError::not_found(format!("search: stopped, for {why}")));
                }
            }
        }
    }

    /// Hands out work; how many jobs got some.
    fn fill(&mut self, runs: &mut Present<'_, '_>) -> usize {
        let mut filled = 0;
        for job in &mut self.jobs {
            job.runs.clear();
            job.bytes = 0;
            while job.bytes < JOB && job.runs.len() < JOB_RUNS {
                let Some(run) = runs.next(JOB - job.bytes, &mut self.holes) else { break };
                job.bytes = job.bytes.saturating_add(run.bytes);
                job.runs.push(run);
            }
            if job.runs.is_empty() {
                break;
            }
            filled += 1;
        }
        filled
    }

    /// Notes what was not searched, a gap for each reason.
    pub(crate) fn note_holes(self, cx: &mut Cx) {
        let place = |hole: &Hole| Some(format!("address {:#}", hole.first));
        for hole in &self.holes.memory {
            let size = match hole.bytes {
                few @ ..0x10_0000 => format!("{} KB", few.div_ceil(1024)),
                many => render::size(many),
            };
            cx.gaps.note(format!("{size} of memory"), hole.why, place(hole));
        }
        for hole in &self.holes.tables {
            cx.gaps.note("memory that a page table would tell of", hole.why, place(hole));
        }
    }
}

impl Job {
    fn run(&mut self, pattern: &Pattern, physical: &dyn PhysicalMemory, memory: &dyn VirtualMemory) {
        self.hits.clear();
        self.buffer.resize(PIECE.saturating_add(pattern.ahead()), 0);
        for run in &self.runs {
            search_run(run, &mut self.buffer, pattern, physical, memory, &mut self.hits, &mut self.holes);
        }
    }
}

fn search_run(
    run: &Mapped,
    buffer: &mut [u8],
    pattern: &Pattern,
    physical: &dyn PhysicalMemory,
    memory: &dyn VirtualMemory,
    hits: &mut Vec<Hit>,
    holes: &mut Holes,
) {
    let mut done = 0_u64;
    while done < run.bytes {
        let left = run.part(done, u64::MAX);
        let wanted = PIECE.min(usize::try_from(left.bytes).unwrap_or(PIECE));
        // With what a match at the end of the piece goes on in.
        let more = buffer.len().min(usize::try_from(left.bytes).unwrap_or(usize::MAX));
        let (mut count, missing) = match buffer.get_mut(..more) {
            Some(buffer) => physical.read(left.phys, buffer),
            None => return,
        };
        if count == more && wanted as u64 == left.bytes && pattern.ahead() > 0 {
            let behind = left.virt.add(left.bytes);
            count += buffer.get_mut(count..).map_or(0, |rest| memory.read(behind, rest).0);
        }
        pattern.find(buffer.get(..count).unwrap_or_default(), wanted, left.virt.0, hits);
        if count >= wanted {
            done = done.saturating_add(wanted as u64);
            continue;
        }
        // The page that stopped the reading is left out.
        let stopped = left.virt.add(count as u64);
        let skipped = (PAGE_SIZE - stopped.page_offset()).min(left.bytes.saturating_sub(count as u64));
        holes.add(missing.map_or(Why::NeverPresent, |missing| missing.why), stopped, skipped);
        done = done.saturating_add(count as u64).saturating_add(skipped);
    }
}

/// The parts of runs that are in the dump.
struct Present<'r, 'a> {
    runs: &'r mut Runs<'a>,
    physical: &'r dyn PhysicalMemory,
    rest: Option<Mapped>,
}

impl Present<'_, '_> {
    /// The next run, `most` bytes of it (rounded up to a page).
    fn next(&mut self, most: u64, holes: &mut Holes) -> Option<Mapped> {
        loop {
            let run = match self.rest.take() {
                Some(run) => run,
                None => match self.runs.next()? {
                    Ok(run) => run,
                    Err(missing) => {
                        holes.add_table(&missing);
                        continue;
                    }
                },
            };
            let (state, bytes) = if run.bytes <= SMALL {
                (RunState::Present, run.bytes)
            } else {
                match self.physical.next_run(run.phys) {
                    Some(known) => (known.state, known.bytes.min(run.bytes)),
                    None => (RunState::Missing(Why::NeverPresent), run.bytes),
                }
            };
            let most = most.next_multiple_of(PAGE_SIZE);
            let taken = match state {
                RunState::Present => bytes.min(most),
                RunState::Missing(_) => bytes,
            };
            self.rest = Some(run.part(taken, u64::MAX)).filter(|rest| rest.bytes > 0);
            match state {
                RunState::Present => return Some(run.part(0, taken)),
                RunState::Missing(why) => holes.add(why, run.virt, taken),
            }
        }
    }
}

/// Physical memory from `first` to `last`: each byte at its own address.
pub(super) fn physical_runs(
    physical: &dyn PhysicalMemory,
    first: u64,
    last: u64,
) -> impl Iterator<Item = Result<Mapped, Missing>> + '_ {
    let mut at = Some(first);
    std::iter::from_fn(move || {
        let from = at.filter(|&from| from <= last)?;
        let run = physical.next_run(PhysAddr(from))?;
        let bytes = run.bytes.min((last - from).saturating_add(1));
        at = from.checked_add(bytes).filter(|_| bytes > 0);
        Some(Ok(Mapped { virt: VirtAddr(from), phys: PhysAddr(from), bytes }))
    })
}
