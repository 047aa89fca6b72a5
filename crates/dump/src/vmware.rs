//! VMware's `.vmss` (suspended) and `.vmsn` (snapshot), with their memory inside, or in a `.vmem` file beside them.
//!
//! Layout, little-endian: u32 magic, u32 version, u32 number of groups; groups of 80 bytes: name in 64, u64 offset, u64
//! bytes. A group is a list of tags ([`tags`]). The group `memory` has regions (page number in the image, page number in
//! the machine, pages) and, if the image is in this file, the block `Memory`; the group `cpu` has the registers.

mod registers;
mod tags;

use std::sync::Arc;

use kdive_base::bytes::until_nul;
use kdive_base::{ByteReader, Endian};

use self::tags::{Block, Tag, Tags};
use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::flat::{Backing, FlatMemory, backed};
use crate::formats::{Format, Head, Source};
use crate::notes::Notes;
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "VMware snapshot", recognises, open };

/// The last digit says whether sizes in the file have 32 bits (0) or 64.
const MAGICS: [u32; 6] = [0xbed0_bed0, 0xbed2_bed0, 0xbed2_bed2, 0xbed3_bed3, 0xbad1_bad1, 0xbad2_bad2];
const HEADER_BYTES: u64 = 12;
const GROUP_BYTES: usize = 80;
const GROUP_NAME: usize = 64;
/// Snapshots have some tens.
const MOST_GROUPS: u32 = 4096;
/// A machine has two or three.
const MOST_REGIONS: usize = 4096;
const PAGE_BYTES: u64 = 4096;

fn recognises(head: &Head<'_>) -> bool {
    Endian::Little.u32(head.bytes, 0).is_some_and(|magic| MAGICS.contains(&magic))
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let (state, image) = pair(sources)?;
    let mut snapshot = Snapshot::read(state)?;
    let place = match (snapshot.memory.take(), image) {
        (Some(block), _) if block.is_compressed => {
            let what = "its memory is compressed, which is not read";
            return Err(OpenError::damaged(&state.name, FORMAT.name, what));
        }
        (Some(block), _) => Place { file: state, at: block.at, bytes: block.bytes },
        (None, Some(image)) => {
            let ends = snapshot.regions.iter().map(|region| region.page.saturating_add(region.pages));
            let bytes = ends.max().map_or(image.data.len(), |pages| pages.saturating_mul(PAGE_BYTES));
            Place { file: image, at: 0, bytes }
        }
        (None, None) => {
            let what = "its memory is not in this file: give the .vmem file beside it as well";
            return Err(OpenError::damaged(&state.name, FORMAT.name, what));
        }
    };
    let extents = Extents::overlay(place.extents(&snapshot.regions));
    let mut facts = Facts {
        format: FORMAT.name,
        version: Some(snapshot.version),
        wrappers: state.wrappers.clone(),
        word_bits: Some(64),
        page_size: Some(PAGE_BYTES),
        warnings: snapshot.warnings,
        ..Facts::default()
    };
    let needs = place.at.saturating_add(place.bytes);
    if needs > place.file.data.len() {
        let (name, has) = (&place.file.name, place.file.data.len());
        facts
            .warnings
            .push(format!("{name}: truncated: the file ends at {has} bytes, its memory at {needs}"));
    }
    let memory = FlatMemory::new(vec![Arc::clone(&place.file.data)], extents, hints);
    let notes = Notes { cpus: snapshot.cpus.notes(), ..Notes::default() };
    Ok(Opened::new(Arc::new(memory), facts, notes))
}

/// The snapshot, and the image of memory that was given with it.
fn pair(sources: &[Source]) -> Result<(&Source, Option<&Source>), OpenError> {
    let mut state = None;
    let mut image = None;
    for source in sources {
        let bytes = source.head()?;
        let is_state = recognises(&Head { bytes: &bytes, file: &*source.data });
        let slot = if is_state { &mut state } else { &mut image };
        if let Some(first) = slot.replace(source) {
            return Err(OpenError::NotOneDump {
                first: first.name.clone(),
                second: source.name.clone(),
                why: format!("each is a whole {}", if is_state { "snapshot" } else { "image of memory" }),
            });
        }
    }
    Ok((state.ok_or(OpenError::NoFiles)?, image))
}

/// Pages of the image that follow one another in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Region {
    /// Number of the first page in the image.
    page: u64,
    /// Number of the first page in memory.
    pfn: u64,
    pages: u64,
}

/// Where the image is.
struct Place<'a> {
    file: &'a Source,
    at: u64,
    bytes: u64,
}

impl Place<'_> {
    /// Memory by its regions; without any, all of it from address 0 on.
    fn extents(&self, regions: &[Region]) -> Vec<Extent<Backing>> {
        let whole = [Region { page: 0, pfn: 0, pages: self.bytes / PAGE_BYTES }];
        let regions = if regions.is_empty() { &whole } else { regions };
        let extents = regions.iter().filter(|region| region.pages > 0).flat_map(|region| {
            let [page, start, bytes] =
                [region.page, region.pfn, region.pages].map(|pages| pages.saturating_mul(PAGE_BYTES));
            let held = bytes.min(self.bytes.saturating_sub(page));
            let file = (0, self.file.data.len());
            backed(start, bytes, file, self.at.saturating_add(page), held)
        });
        extents.collect()
    }
}

/// What the file says of the machine.
struct Snapshot {
    version: u32,
    memory: Option<Block>,
    regions: Vec<Region>,
    cpus: registers::Cpus,
    warnings: Vec<String>,
}

impl Snapshot {
    fn read(source: &Source) -> Result<Self, OpenError> {
        let mut window = Window::new(&*source.data, 16 << 10);
        let truncated = |needs| OpenError::Truncated {
            name: source.name.clone(),
            format: FORMAT.name,
            needs,
            has: source.data.len(),
        };
        let head = window.exact(0, HEADER_BYTES as usize).map_err(|_| truncated(HEADER_BYTES))?;
        let word = |at| Endian::Little.u32(head, at).unwrap_or(0);
        let (magic, version, groups) = (word(0), word(4), word(8));
        let mut snapshot = Self {
            version,
            memory: None,
            regions: Vec::new(),
            cpus: registers::Cpus::default(),
            warnings: Vec::new(),
        };
        // Each group once: many headers must not lead to one list of tags.
        let mut wanted = vec![b"memory".to_vec(), b"cpu".to_vec()];
        for number in 0..groups.min(MOST_GROUPS) {
            let at = u64::from(number).saturating_mul(GROUP_BYTES as u64).saturating_add(HEADER_BYTES);
            let group = window.exact(at, GROUP_BYTES).map_err(|_| truncated(at.saturating_add(80)))?;
            let mut reader = ByteReader::new(group, Endian::Little);
            let name = reader.take(GROUP_NAME).map(until_nul).unwrap_or_default().to_vec();
            let at = reader.u64().unwrap_or(0);
            if let Some(index) = wanted.iter().position(|wanted| *wanted == name) {
                wanted.swap_remove(index);
                snapshot.group(&name, Tags::new(&*source.data, at, magic & 0xf != 0));
            }
        }
        Ok(snapshot)
    }

    fn group(&mut self, name: &[u8], mut tags: Tags<'_>) {
        let take: fn(&mut Self, &Tag) = match name {
            b"memory" => Self::memory,
            _ => |snapshot, tag| snapshot.cpus.take(tag),
        };
        loop {
            match tags.next() {
                Ok(Some(tag)) => take(self, &tag),
                Ok(None) => return,
                Err(why) => {
                    let name = kdive_base::printable(name);
                    self.warnings.push(format!("the group {name} cannot be read at {:#x}: {why}", tags.at));
                    return;
                }
            }
        }
    }

    fn memory(&mut self, tag: &Tag) {
        let Some(value) = tag.number() else {
            if tag.name == b"Memory" && self.memory.is_none() {
                self.memory = tag.block;
            }
            return;
        };
        let member: fn(&mut Region) -> &mut u64 = match tag.name.as_slice() {
            b"regionPageNum" => |region| &mut region.page,
            b"regionPPN" => |region| &mut region.pfn,
            b"regionSize" => |region| &mut region.pages,
            _ => return,
        };
        let number = tag.indices.first().map_or(0, |number| *number as usize);
        if number >= MOST_REGIONS {
            return;
        }
        if self.regions.len() <= number {
            self.regions.resize(number.saturating_add(1), Region::default());
        }
        if let Some(region) = self.regions.get_mut(number) {
            *member(region) = value;
        }
    }
}
