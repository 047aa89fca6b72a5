//! Writes the pages of kdump-compressed files, and their descriptors.

use std::collections::VecDeque;

use super::kdump::{DESCRIPTOR_BYTES, Layout, Map};
use super::pack::{Entry, Packed};
use super::plan::Places;
use super::{FrameSet, PAGE, Plan, Sink, WriteError, Written};

/// Writes compressed pages and their descriptors.
pub(super) struct PageWriter<'a> {
    plan: &'a Plan<'a>,
    layout: &'a Layout,
    flag: u32,
    out: &'a mut dyn Sink,
    next_descriptor: u64,
    next_page: u64,
    zero_page: Option<u64>,
    written: Written,
    /// Pages that were written before their turn.
    early: VecDeque<Early>,
    /// Their descriptors are no longer where they were written first.
    withdrawn: bool,
    /// Pages of one GiB, its number before them, that could not be read.
    lost: Option<(u64, FrameSet)>,
    /// Some of their bits are still set in the file.
    bits_are_stale: bool,
}

/// Where a page is in the file.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    offset: u64,
    size: u32,
    flags: u32,
}

impl Descriptor {
    /// Of a page that is lost.
    const LOST: Self = Self { offset: 0, size: 0, flags: 0 };

    fn write(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.offset.to_le_bytes());
        into.extend_from_slice(&self.size.to_le_bytes());
        into.extend_from_slice(&self.flags.to_le_bytes());
        into.extend_from_slice(&[0; 8]);
    }
}

/// A page that was written before its turn.
struct Early {
    pfn: u64,
    /// Offset of its descriptor, unless a page before it is lost.
    at: u64,
    /// `None` if it could not be read.
    descriptor: Option<Descriptor>,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        layout: &'a Layout,
        flag: u32,
        pages_at: u64,
        out: &'a mut dyn Sink,
    ) -> Self {
        Self {
            plan,
            layout,
            flag,
            out,
            next_descriptor: layout.descriptors,
            next_page: pages_at,
            zero_page: None,
            written: Written::default(),
            early: VecDeque::new(),
            withdrawn: false,
            lost: None,
            bits_are_stale: false,
        }
    }

    /// Writes pages before their turn. Their descriptors go where they will be if no page is lost.
    pub(super) fn write_early(&mut self, packed: &Packed, places: &mut Places<'_>) -> Result<(), WriteError> {
        let mut at = self.next_page;
        self.out.write_at(at, &packed.bytes)?;
        self.next_page = at.saturating_add(packed.bytes.len() as u64);
        // Descriptors that follow one another, and where the first of them goes.
        let (mut run, mut run_at) = (Vec::new(), 0_u64);
        for &(pfn, entry) in &packed.entries {
            let descriptor = self.stored(entry, &mut at)?;
            let Some(place) = places.of(pfn) else { continue };
            let place = self.layout.descriptors.saturating_add(place.saturating_mul(DESCRIPTOR_BYTES));
            self.early.push_back(Early { pfn, at: place, descriptor });
            let Some(descriptor) = descriptor else { continue };
            if run_at.saturating_add(run.len() as u64) != place {
                self.write_run(run_at, &run)?;
                run.clear();
                run_at = place;
            }
            descriptor.write(&mut run);
        }
        self.write_run(run_at, &run)
    }

    fn write_run(&mut self, at: u64, descriptors: &[u8]) -> Result<(), WriteError> {
        if !descriptors.is_empty() {
            self.out.write_at(at, descriptors)?;
        }
        Ok(())
    }

    /// All others come now, in the order of the frames.
    pub(super) fn begin_rest(&mut self) {
        self.early.make_contiguous().sort_unstable_by_key(|early| early.pfn);
    }

    pub(super) fn write(&mut self, packed: &Packed) -> Result<(), WriteError> {
        let start = self.next_page;
        let mut at = start;
        self.next_page = start.saturating_add(packed.bytes.len() as u64);
        let bytes = packed.entries.len().saturating_mul(DESCRIPTOR_BYTES as usize);
        let mut descriptors = Vec::with_capacity(bytes);
        for &(pfn, entry) in &packed.entries {
            self.describe_early(pfn, &mut descriptors)?;
            let descriptor = self.stored(entry, &mut at)?;
            self.describe(pfn, descriptor, &mut descriptors)?;
        }
        self.out.write_at(start, &packed.bytes)?;
        self.write_descriptors(&descriptors)
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<Written, WriteError> {
        let mut descriptors = Vec::new();
        self.describe_early(u64::MAX, &mut descriptors)?;
        self.write_descriptors(&descriptors)?;
        Ok(Written { bytes: self.next_page, ..self.written })
    }

    fn write_descriptors(&mut self, descriptors: &[u8]) -> Result<(), WriteError> {
        // Before their descriptors, those after them have the wrong ones.
        self.clear_lost()?;
        self.out.write_at(self.next_descriptor, descriptors)?;
        self.next_descriptor = self.next_descriptor.saturating_add(descriptors.len() as u64);
        Ok(())
    }

    /// Where a page is stored, the next of them at `at`; `None` if it could not be read.
    fn stored(&mut self, entry: Entry, at: &mut u64) -> Result<Option<Descriptor>, WriteError> {
        let descriptor = match entry {
            Entry::Stored { bytes, compressed } => {
                let offset = *at;
                *at = at.saturating_add(bytes.into());
                Descriptor { offset, size: bytes, flags: if compressed { self.flag } else { 0 } }
            }
            Entry::Zero => {
                self.written.zero = self.written.zero.saturating_add(1);
                Descriptor { offset: self.zero_page()?, size: PAGE as u32, flags: 0 }
            }
            Entry::Unreadable => return Ok(None),
        };
        self.written.pages = self.written.pages.saturating_add(1);
        Ok(Some(descriptor))
    }

    /// Adds the descriptors of pages before a frame that were written before their turn.
    fn describe_early(&mut self, before: u64, into: &mut Vec<u8>) -> Result<(), WriteError> {
        while self.early.front().is_some_and(|early| early.pfn < before) {
            let Some(Early { pfn, descriptor, .. }) = self.early.pop_front() else { break };
            self.describe(pfn, descriptor, into)?;
        }
        Ok(())
    }

    /// Adds the descriptor of the next page.
    fn describe(
        &mut self,
        pfn: u64,
        descriptor: Option<Descriptor>,
        into: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        match descriptor {
            Some(descriptor) => descriptor.write(into),
            None => {
                self.written.unreadable = self.written.unreadable.saturating_add(1);
                if self.out.replaces() {
                    self.lose(pfn)?;
                } else {
                    // Its bit is written and stays: the page is lost.
                    Descriptor::LOST.write(into);
                }
            }
        }
        Ok(())
    }

    /// Where the one page of zeros is.
    fn zero_page(&mut self) -> Result<u64, WriteError> {
        if let Some(offset) = self.zero_page {
            return Ok(offset);
        }
        let offset = self.next_page;
        self.out.write_at(offset, &[0; PAGE])?;
        self.next_page = offset.saturating_add(PAGE as u64);
        self.zero_page = Some(offset);
        Ok(offset)
    }

    fn lose(&mut self, pfn: u64) -> Result<(), WriteError> {
        self.withdraw()?;
        let number = pfn.checked_div(FrameSet::FRAMES).unwrap_or(0);
        if self.lost.as_ref().is_none_or(|(of, _)| *of != number) {
            self.clear_lost()?;
            self.lost = Some((number, FrameSet::empty(number)));
        }
        if let Some((_, frames)) = &mut self.lost {
            frames.insert(pfn..pfn.saturating_add(1));
        }
        self.bits_are_stale = true;
        Ok(())
    }

    /// Takes back the descriptors of pages that were written before their turn: without the bit of a page before them they
    /// would be those of other pages. They are written once more in their turn.
    fn withdraw(&mut self) -> Result<(), WriteError> {
        if !std::mem::replace(&mut self.withdrawn, true) {
            for early in &self.early {
                self.out.write_at(early.at, &[0; DESCRIPTOR_BYTES as usize])?;
            }
        }
        Ok(())
    }

    /// Writes the bits of a GiB again without its lost pages.
    fn clear_lost(&mut self) -> Result<(), WriteError> {
        if let Some((number, lost)) = &self.lost
            && std::mem::take(&mut self.bits_are_stale)
        {
            let mut frames = (*self.plan.chosen(*number)).clone();
            frames.subtract(lost);
            self.layout.write_bits(Map::Dumped, *number, &frames, self.out)?;
        }
        Ok(())
    }
}
