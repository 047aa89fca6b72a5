//! ELF cores of a kernel: copies of `/proc/vmcore`, makedumpfile `-E`, QEMU `dump-guest-memory`, `/proc/kcore`.
//!
//! 32 and 64 bits, both byte orders. Segments come in any order and may overlap; their number can exceed the 16 bits of
//! `e_phnum`, in which case it is `sh_info` of section 0 (the System V ABI's `PN_XNUM`).

use std::sync::Arc;

use kdive_base::bytes::until_nul;
use kdive_base::{ByteReader, Endian, Missing, PhysAddr, ReadAt, VirtAddr};

use crate::extents::{Extent, Extents};
use crate::facts::Facts;
use crate::flat::{Backing, FlatMemory, backed};
use crate::formats::{Format, Head, Source, single};
use crate::memory::{PhysicalMemory, Run, Segment, read_in_pieces};
use crate::notes::{Notes, read_notes};
use crate::open::Opened;
use crate::window::Window;
use crate::{Hints, OpenError};

pub(crate) const FORMAT: Format = Format { name: "ELF core", recognises, open };

const NAME: &str = FORMAT.name;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PN_XNUM: u32 = 0xffff;
/// The note that Red Hat's netdump and diskdump add to a partial dump.
const NT_DISKDUMP: u32 = 0x7000_0001;
/// `DUMP_ELF_INCOMPLETE` in `e_flags`: makedumpfile ran out of space.
pub(crate) const EF_INCOMPLETE: u32 = 1;

/// The fields of `Elf32_Ehdr` and `Elf64_Ehdr` that matter here.
#[derive(Clone, Debug)]
pub(crate) struct ElfHeader {
    pub(crate) endian: Endian,
    pub(crate) is_64: bool,
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    flags: u32,
    program_headers: u64,
    section_headers: u64,
    program_header_count: u32,
    section_count: u16,
    names_section: u16,
}

/// A program header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramHeader {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) virt: u64,
    pub(crate) phys: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
}

/// A section: its name, and where it is in the file.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl ElfHeader {
    /// Reads the header from the first bytes of a file; `None` if they are not ELF.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let ident = head.get(..16)?;
        let [0x7f, b'E', b'L', b'F', class, data, ..] = *ident else { return None };
        let is_64 = match class {
            1 => false,
            2 => true,
            _ => return None,
        };
        let endian = match data {
            1 => Endian::Little,
            2 => Endian::Big,
            _ => return None,
        };
        let mut reader = ByteReader::new(head, endian);
        reader.seek(16);
        let (kind, machine, _version) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let (_entry, program_headers, section_headers) =
            (word(&mut reader, is_64)?, word(&mut reader, is_64)?, word(&mut reader, is_64)?);
        let (flags, _header_bytes, _entry_bytes) = (reader.u32()?, reader.u16()?, reader.u16()?);
        let program_header_count = u32::from(reader.u16()?);
        // A dump that was cut here still has its program headers counted.
        let mut count = || reader.u16().unwrap_or(0);
        let (_section_bytes, section_count, names_section) = (count(), count(), count());
        Some(Self {
            endian,
            is_64,
            kind,
            machine,
            flags,
            program_headers,
            section_headers,
            program_header_count,
            section_count,
            names_section,
        })
    }

    fn entry_bytes(&self) -> u64 {
        if self.is_64 { 56 } else { 32 }
    }

    /// Program headers as announced, and those that the file still holds.
    pub(crate) fn program_headers(&self, file: &dyn ReadAt) -> (u64, Vec<ProgramHeader>) {
        let mut window = Window::new(file, 64 << 10);
        let count = match self.program_header_count {
            PN_XNUM => self.extended_count(&mut window).unwrap_or(PN_XNUM),
            count => count,
        };
        let room =
            file.len().saturating_sub(self.program_headers).checked_div(self.entry_bytes()).unwrap_or(0);
        let held = u64::from(count).min(room);
        let entry_bytes = self.entry_bytes();
        let headers = (0..held)
            .map_while(|index| {
                let at = self.program_headers.checked_add(index.checked_mul(entry_bytes)?)?;
                let raw = window.exact(at, if self.is_64 { 56 } else { 32 }).ok()?;
                ProgramHeader::parse(raw, self.endian, self.is_64)
            })
            .collect();
        (u64::from(count), headers)
    }

    /// The sections that have a name, as far as the file holds their headers.
    pub(crate) fn sections(&self, file: &dyn ReadAt) -> Vec<Section> {
        const LONGEST_NAME: usize = 64;
        let mut window = Window::new(file, 4096);
        let bytes = if self.is_64 { 64 } else { 40 };
        let mut header = |number: u16| {
            let at = u64::from(number).checked_mul(bytes)?.checked_add(self.section_headers)?;
            let mut reader =
                ByteReader::new(window.exact(at, usize::try_from(bytes).ok()?).ok()?, self.endian);
            let (name, _kind) = (reader.u32()?, reader.u32()?);
            let (_flags, _address) = (word(&mut reader, self.is_64)?, word(&mut reader, self.is_64)?);
            Some((name, word(&mut reader, self.is_64)?, word(&mut reader, self.is_64)?))
        };
        let headers: Vec<_> = (0..self.section_count).map_while(&mut header).collect();
        let Some((_, names, _)) = headers.get(usize::from(self.names_section)).copied() else {
            return Vec::new();
        };
        let section = |(name, offset, bytes): (u32, u64, u64)| {
            let name = window.get(names.checked_add(name.into())?, LONGEST_NAME).ok()?;
            Some(Section { name: until_nul(name).to_vec(), offset, bytes })
        };
        headers.into_iter().filter_map(section).collect()
    }

    /// `sh_info` of section 0.
    fn extended_count(&self, window: &mut Window<'_>) -> Option<u32> {
        let at = if self.is_64 { 44 } else { 28 };
        let raw = window.exact(self.section_headers.checked_add(at)?, 4).ok()?;
        self.endian.u32(raw, 0)
    }

    /// The name of `e_machine`, for the machines that Linux dumps come from.
    pub(crate) fn machine_name(&self) -> String {
        let name = match self.machine {
            3 => "i386",
            20 => "ppc",
            21 => "ppc64",
            22 => "s390",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv",
            258 => "loongarch",
            other => return format!("ELF machine {other}"),
        };
        name.to_owned()
    }
}

impl ProgramHeader {
    fn parse(raw: &[u8], endian: Endian, is_64: bool) -> Option<Self> {
        let mut reader = ByteReader::new(raw, endian);
        let kind = reader.u32()?;
        if is_64 {
            reader.skip(4)?; // p_flags comes second in 64-bit headers, next to last in 32-bit ones.
        }
        Some(Self {
            kind,
            offset: word(&mut reader, is_64)?,
            virt: word(&mut reader, is_64)?,
            phys: word(&mut reader, is_64)?,
            file_bytes: word(&mut reader, is_64)?,
            memory_bytes: word(&mut reader, is_64)?,
        })
    }

    /// The physical address, unless the header says that there is none (-1 in `/proc/kcore`).
    fn physical(&self, is_64: bool) -> Option<PhysAddr> {
        let none = if is_64 { u64::MAX } else { u64::from(u32::MAX) };
        (self.phys != none).then_some(PhysAddr(self.phys))
    }
}

fn word(reader: &mut ByteReader<'_>, is_64: bool) -> Option<u64> {
    if is_64 { reader.u64() } else { reader.u32().map(u64::from) }
}

fn recognises(head: &Head<'_>) -> bool {
    ElfHeader::parse(head.bytes)
        .is_some_and(|header| header.kind == ET_CORE && !is_user_core(&header, head.file))
}

/// Whether the notes are those of a process: `NT_AUXV` (6) or `NT_FILE`, which no kernel core has.
pub(crate) fn is_user_core(header: &ElfHeader, file: &dyn ReadAt) -> bool {
    const NT_AUXV: u32 = 6;
    const NT_FILE: u32 = 0x4649_4c45;
    if header.kind != ET_CORE {
        return false;
    }
    let (_, segments) = header.program_headers(file);
    let mut notes = Notes::default();
    for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE).take(4) {
        // Damaged notes are reported when the core is opened as a dump.
        let _ = read_notes(file, segment.offset, segment.file_bytes, header.endian, &mut notes);
    }
    notes.vmcoreinfo.is_none()
        && notes.other.iter().any(|note| note.name == "CORE" && matches!(note.kind, NT_AUXV | NT_FILE))
}

fn open(sources: &[Source], hints: &Hints) -> Result<Opened, OpenError> {
    let source = single(sources, NAME)?;
    let file = &source.data;
    let head = source.head()?;
    let truncated =
        |needs| OpenError::Truncated { name: source.name.clone(), format: NAME, needs, has: file.len() };
    let header = ElfHeader::parse(&head).ok_or_else(|| truncated(64))?;
    let (announced, segments) = header.program_headers(&**file);
    let headers_end = header.program_headers.saturating_add(announced.saturating_mul(header.entry_bytes()));
    let cut = (segments.len() as u64) < announced;
    let has_memory = segments.iter().any(|segment| segment.kind == PT_LOAD);
    if segments.is_empty() || (cut && !has_memory) {
        return Err(if cut {
            truncated(headers_end)
        } else {
            OpenError::damaged(&source.name, NAME, "the header lists no segments")
        });
    }
    let mut facts = describe(&header, source);
    if cut {
        facts
            .warnings
            .push(format!("truncated: only {} of {announced} segment headers are there", segments.len()));
    }
    if !has_memory {
        facts.warnings.push("the header lists no segments of memory: there is nothing but notes".into());
    }
    let notes = collect_notes(&header, &segments, &**file, &mut facts);
    let loads: Vec<ProgramHeader> = segments.into_iter().filter(|segment| segment.kind == PT_LOAD).collect();
    warn_if_cut(&loads, file.len(), &mut facts);
    if notes.other.iter().any(|note| note.kind == NT_DISKDUMP) {
        facts
            .warnings
            .push("pages were left out of this dump without a list of them: they read as zeros".into());
    }
    let memory = ElfMemory::new(&header, &loads, file, hints);
    Ok(Opened::new(Arc::new(memory), facts, notes))
}

fn describe(header: &ElfHeader, source: &Source) -> Facts {
    Facts {
        format: NAME,
        wrappers: source.wrappers.clone(),
        word_bits: Some(if header.is_64 { 64 } else { 32 }),
        big_endian: header.endian == Endian::Big,
        machine: Some(header.machine_name()),
        incomplete: header.flags & EF_INCOMPLETE != 0,
        ..Facts::default()
    }
}

fn collect_notes(
    header: &ElfHeader,
    segments: &[ProgramHeader],
    file: &dyn ReadAt,
    facts: &mut Facts,
) -> Notes {
    /// A dump has one segment of notes; old kernels wrote one for each processor.
    const MAX_NOTE_SEGMENTS: usize = 8192;
    let mut notes = Notes::default();
    for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE).take(MAX_NOTE_SEGMENTS) {
        if let Err(warning) = read_notes(file, segment.offset, segment.file_bytes, header.endian, &mut notes)
            && facts.warnings.len() < 16
        {
            facts.warnings.push(warning);
        }
    }
    notes
}

fn warn_if_cut(loads: &[ProgramHeader], has: u64, facts: &mut Facts) {
    let wants = loads.iter().map(|load| load.offset.saturating_add(load.file_bytes)).max().unwrap_or(0);
    if wants > has {
        facts
            .warnings
            .push(format!("truncated: the file ends at {has} bytes, its segments go on to {wants}"));
    }
}

struct ElfMemory {
    physical: FlatMemory,
    /// The same file by virtual address.
    virtual_: Extents<Backing>,
    segments: Vec<Segment>,
}

impl ElfMemory {
    fn new(header: &ElfHeader, loads: &[ProgramHeader], file: &Arc<dyn ReadAt>, hints: &Hints) -> Self {
        let backing = (0, file.len());
        // Old /proc/kcore writes 0 for "no physical address"; only one segment can really begin there.
        let zeros = loads.iter().filter(|load| load.phys == 0 && load.virt != 0).count();
        let physical = |load: &ProgramHeader| {
            load.physical(header.is_64).filter(|at| at.0 != 0 || load.virt == 0 || zeros == 1)
        };
        let by_physical = loads.iter().filter_map(|load| {
            let start = physical(load)?.0;
            Some(backed(start, load.memory_bytes, backing, load.offset, load.file_bytes))
        });
        // Without paging QEMU repeats the physical address, or writes 0.
        let virtual_loads = loads.iter().filter(|load| load.virt != 0 && load.virt != load.phys);
        let by_virtual = virtual_loads
            .clone()
            .map(|load| backed(load.virt, load.memory_bytes, backing, load.offset, load.file_bytes));
        let segments = virtual_loads.map(|load| Segment {
            virt: VirtAddr(load.virt),
            phys: physical(load),
            bytes: load.memory_bytes,
            file_bytes: load.file_bytes.min(load.memory_bytes),
        });
        Self {
            virtual_: Extents::overlay(present_first(by_virtual)),
            segments: segments.collect(),
            physical: FlatMemory::new(
                vec![Arc::clone(file)],
                Extents::overlay(present_first(by_physical)),
                hints,
            ),
        }
    }
}

/// Where segments overlap, bytes that are in the file win over those that are not, then the earlier header wins.
fn present_first(segments: impl Iterator<Item = [Extent<Backing>; 3]> + Clone) -> Vec<Extent<Backing>> {
    let present = segments.clone().map(|[present, ..]| present);
    present.chain(segments.flat_map(|[_, cut, absent]| [cut, absent])).collect()
}

impl PhysicalMemory for ElfMemory {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        self.physical.read(at, into)
    }

    fn next_run(&self, from: PhysAddr) -> Option<Run> {
        self.physical.next_run(from)
    }

    fn virtual_segments(&self) -> &[Segment] {
        &self.segments
    }

    fn read_virtual(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let (done, missing) =
            read_in_pieces(at.0, into, |at, into| self.physical.piece(Some(&self.virtual_), at, into));
        (done, missing.map(|(at, why)| Missing::new(VirtAddr(at), why)))
    }
}
