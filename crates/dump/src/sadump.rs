//! sadump: the dumper in the firmware of Fujitsu's machines. It writes one partition, or a set of disks, each in a file
//! here; or what was on them was copied to a medium.
//!
//! Layout, little-endian, in blocks: a partition's header, told by its signature and by words each of which is eleven times
//! the one before plus seven; a disk set's header, on the first of several disks; the dump's header; the states of the
//! processors; two bitmaps, the most significant bit first (what is RAM, what is in the dump); the pages, uncompressed. On
//! the other disks of a set pages follow their partition's header. A medium has a header of 4096 bytes before all.

mod header;
mod processors;

use std::io;
use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, ReadAt, Why};

use self::header::{Dump, Partition};
use crate::blocks::Blocks;
use crate::facts::Facts;
use crate::formats::{Format, Head, Source};
use crate::kdump::bitmap::{Bitmap, page_state};
use crate::memory::{PhysicalMemory, Run, RunState, read_in_pieces};
use crate::notes::Notes;
use crate::open::Opened;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "sadump", recognises, open };

fn recognises(head: &Head<'_>) -> bool {
    Partition::parse(head.bytes).is_some()
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let mut parts = sources.iter().map(Part::open).collect::<Result<Vec<_>, _>>()?;
    parts.sort_by_key(|part| part.partition.order);
    check_set(&parts)?;
    let Some(first) = parts.first() else { return Err(OpenError::NoFiles) };
    let source = first.source;
    let cut = |needs| OpenError::Truncated {
        name: source.name.clone(),
        format: FORMAT.name,
        needs,
        has: source.data.len(),
    };
    let dump_at = first.partition.dump_at(&*source.data);
    let dump = Dump::read(&*source.data, dump_at)
        .ok_or_else(|| cut(dump_at.saturating_add(Dump::BYTES)))?
        .check()
        .map_err(|what| OpenError::damaged(&source.name, FORMAT.name, what))?;
    if source.data.len() <= dump.pages_at {
        return Err(cut(dump.pages_at));
    }
    let mut facts = Facts {
        format: FORMAT.name,
        version: Some(dump.version),
        wrappers: source.wrappers.clone(),
        word_bits: Some(64),
        page_size: Some(dump.block),
        max_mapnr: Some(dump.max_mapnr),
        ..Facts::default()
    };
    let disks = first.partition.disks(&*source.data);
    let held = parts.iter().zip(1..).take_while(|(part, order)| part.partition.order <= *order).count();
    if held < disks {
        facts.warnings.push(format!("of the {disks} disks of the set only the first {held} are there"));
    }
    let notes = Notes { cpus: processors::read(&*source.data, &dump), ..Notes::default() };
    let memory = SadumpMemory::new(&parts, held, disks, &dump, hints);
    facts.warnings.extend(memory.warning());
    Ok(Opened::new(Arc::new(memory), facts, notes))
}

/// One file.
struct Part<'a> {
    source: &'a Source,
    partition: Partition,
}

impl<'a> Part<'a> {
    fn open(source: &'a Source) -> Result<Self, OpenError> {
        let partition = Partition::parse(&source.head()?);
        let partition = partition
            .ok_or_else(|| OpenError::damaged(&source.name, FORMAT.name, "it has no partition's header"))?;
        Ok(Self { source, partition })
    }
}

/// Whether the files, in the order of their disks, are of one set.
fn check_set(parts: &[Part<'_>]) -> Result<(), OpenError> {
    for pair in parts.windows(2) {
        let [one, other] = pair else { continue };
        let why =
            if one.partition.set != other.partition.set || one.partition.system != other.partition.system {
                "their headers name different sets or machines"
            } else if one.partition.order == other.partition.order {
                "each is the same disk of a set, or a whole dump"
            } else {
                continue;
            };
        let (first, second) = (one.source.name.clone(), other.source.name.clone());
        return Err(OpenError::NotOneDump { first, second, why: why.into() });
    }
    match parts.first() {
        Some(first) if first.partition.order > 1 => Err(OpenError::damaged(
            &first.source.name,
            FORMAT.name,
            format!("this is disk {} of a set: what is where is told on the first", first.partition.order),
        )),
        _ => Ok(()),
    }
}

/// A stretch of one of the files that holds pages.
struct Stretch {
    file: usize,
    at: u64,
    bytes: u64,
}

struct SadumpMemory {
    files: Blocks,
    stretches: Vec<Stretch>,
    block: u64,
    max_mapnr: u64,
    ram: Bitmap,
    dumped: Bitmap,
    /// What pages behind the last stretch are.
    behind: Why,
    zero_excluded: bool,
}

impl SadumpMemory {
    /// The memory in the first `held` of a set's disks.
    fn new(parts: &[Part<'_>], held: usize, disks: usize, dump: &Dump, hints: &Hints) -> Self {
        let held = parts.get(..held).unwrap_or_default();
        let files: Vec<Arc<dyn ReadAt>> = held.iter().map(|part| Arc::clone(&part.source.data)).collect();
        let stretches = held.iter().enumerate().map(|(file, part)| {
            let at = if file == 0 { dump.pages_at } else { part.partition.block };
            // Only a set's disk must say where the next one takes over.
            let end = if disks > 1 { part.partition.used } else { part.source.data.len() };
            Stretch { file, at, bytes: end.saturating_sub(at) }
        });
        let stretches = stretches.collect();
        let bits = files.first().map(|file| Arc::new(Turned(Arc::clone(file))));
        let bitmap = |at| {
            let none: Arc<dyn ReadAt> = Arc::new(Vec::new());
            Bitmap::new(bits.clone().map_or(none, |bits| bits), at, dump.max_mapnr)
        };
        Self {
            ram: bitmap(dump.ram_at),
            dumped: bitmap(dump.dumped_at),
            files: Blocks::new(files),
            stretches,
            block: dump.block,
            max_mapnr: dump.max_mapnr,
            behind: if held.len() < disks { Why::InMissingFile } else { Why::BeyondFileEnd },
            zero_excluded: hints.zero_excluded,
        }
    }

    /// What can be told cheaply of a file that was cut.
    fn warning(&self) -> Option<String> {
        /// Pages whose bitmap is counted without a thought: 32 GiB, 1 MiB of bitmap.
        const FEW_PAGES: u64 = 8 << 20;
        if self.max_mapnr > FEW_PAGES || self.behind == Why::InMissingFile {
            return None;
        }
        let needs = self.dumped.count().ok()?.saturating_mul(self.block);
        let has = self.stretches.iter().fold(0_u64, |sum, stretch| sum.saturating_add(stretch.bytes));
        (needs > has).then(|| format!("truncated: {needs} bytes of pages should be there, and are {has}"))
    }

    fn piece(&self, at: u64, into: &mut [u8]) -> Result<usize, Why> {
        let pfn = at.checked_div(self.block).ok_or(Why::NeverPresent)?;
        let inside = at.checked_rem(self.block).unwrap_or(0);
        let left = usize::try_from(self.block.saturating_sub(inside)).unwrap_or(usize::MAX);
        let count = left.min(into.len());
        let into = into.get_mut(..count).unwrap_or_default();
        let (set, rank) = self.dumped.bit_and_rank(pfn)?;
        if !set {
            return match page_state(&self.ram, &self.dumped, pfn).1 {
                RunState::Missing(Why::Excluded) if self.zero_excluded => {
                    into.fill(0);
                    Ok(count)
                }
                RunState::Missing(why) => Err(why),
                RunState::Present => Err(Why::Corrupt("bitmap")),
            };
        }
        let mut offset = rank.saturating_mul(self.block);
        for stretch in &self.stretches {
            if offset < stretch.bytes {
                return self.files.read(
                    stretch.file,
                    stretch.at.saturating_add(offset).saturating_add(inside),
                    into,
                );
            }
            offset = offset.saturating_sub(stretch.bytes);
        }
        Err(self.behind)
    }
}

impl PhysicalMemory for SadumpMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) = read_in_pieces(at.0, into, |at, into| self.piece(at, into));
        (done, missing.map(|(at, why)| Missing::new(PhysAddr(at), why)))
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        let first = from.0.checked_div(self.block).filter(|first| *first < self.max_mapnr)?;
        let (pages, state) = page_state(&self.ram, &self.dumped, first);
        let mut next = first.saturating_add(pages.max(1));
        while next < self.max_mapnr
            && let (pages, same) = page_state(&self.ram, &self.dumped, next)
            && same == state
        {
            next = next.saturating_add(pages.max(1));
        }
        let end = next.min(self.max_mapnr).saturating_mul(self.block);
        Some(Run { start: from, bytes: end.saturating_sub(from.0), state })
    }
}

/// A file whose bytes have their bits the other way around.
struct Turned(Arc<dyn ReadAt>);

impl ReadAt for Turned {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_at(offset, into)?;
        into.iter_mut().take(count).for_each(|byte| *byte = byte.reverse_bits());
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}
