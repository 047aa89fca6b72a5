//! Looking for VMCOREINFO in memory, for dumps without the note.
//!
//! The kernel keeps two copies (kernel/vmcore_info.c): the text in a page of its own (`vmcoreinfo_data`), and the ELF note
//! made of it (`vmcoreinfo_note`), page-aligned since 4.x and 4-byte aligned before.

use kdive_base::bytes::until_nul;
use kdive_base::{Cancel, Cancelled, Endian, PAGE_SIZE, PhysAddr};

use crate::memory::{PhysicalMemory, RunState};

const FIRST_LINE: &[u8] = b"OSRELEASE=";
const OWNER: &[u8] = b"VMCOREINFO\0";
/// `VMCOREINFO_BYTES` is one page; it may grow.
const MAX_TEXT: usize = 64 << 10;
const CHUNK: usize = 1 << 20;

/// Something in memory that looks like VMCOREINFO. There can be several: of the capture kernel, or a copy made by kexec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where the text begins.
    pub at: PhysAddr,
    /// The text, as `key=value` lines.
    pub text: Vec<u8>,
    /// Which of the two copies it is.
    pub form: Form,
}

/// What a [`Candidate`] was told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The header of the ELF note. The note is written at the time of the crash, and has `CRASHTIME=`.
    Note,
    /// A page that begins with the text's first line.
    Page,
}

/// Scans the present memory, in the order of addresses, for VMCOREINFO. Lazy: stop at the candidate that proves right.
/// Yields an error, once, when `cancel` is set.
pub fn find_vmcoreinfo<'a>(
    memory: &'a dyn PhysicalMemory,
    cancel: &'a Cancel,
) -> impl Iterator<Item = Result<Candidate, Cancelled>> + 'a {
    Scan { memory, cancel, next: Some(0), buffer: vec![0; CHUNK], found: Vec::new().into_iter() }
}

struct Scan<'a> {
    memory: &'a dyn PhysicalMemory,
    cancel: &'a Cancel,
    /// Where to go on; `None` at the end.
    next: Option<u64>,
    buffer: Vec<u8>,
    found: std::vec::IntoIter<Candidate>,
}

impl Iterator for Scan<'_> {
    type Item = Result<Candidate, Cancelled>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(candidate) = self.found.next() {
                return Some(Ok(candidate));
            }
            let at = self.next?;
            if let Err(cancelled) = self.cancel.check() {
                self.next = None;
                return Some(Err(cancelled));
            }
            self.step(at);
        }
    }
}

impl Scan<'_> {
    fn step(&mut self, at: u64) {
        let Some(run) = self.memory.next_run(PhysAddr(at)) else {
            self.next = None;
            return;
        };
        let run_end = run.start.0.checked_add(run.bytes);
        if run.state != RunState::Present {
            self.next = run_end;
            return;
        }
        let wanted = usize::try_from(run.bytes).unwrap_or(usize::MAX).min(CHUNK);
        let memory = self.memory;
        let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
        let (count, _) = memory.read(PhysAddr(at), buffer);
        let read = buffer.get(..count).unwrap_or_default();
        let found = hits(read, at).filter_map(|(at, form)| candidate(memory, at, form)).collect::<Vec<_>>();
        self.found = found.into_iter();
        // Past the page that could not be read, or on to the next piece.
        let next = if count == wanted {
            at.checked_add(wanted as u64)
        } else {
            at.checked_add(count as u64).and_then(|at| PhysAddr(at).page_start().0.checked_add(PAGE_SIZE))
        };
        self.next = next;
    }
}

fn candidate(memory: &dyn PhysicalMemory, at: PhysAddr, form: Form) -> Option<Candidate> {
    let (at, limit) = match form {
        Form::Page => (at, MAX_TEXT),
        Form::Note => {
            let mut header = [0; 12];
            memory.read(at, &mut header);
            let endian = if header.first() == Some(&0) { Endian::Big } else { Endian::Little };
            let limit = usize::try_from(endian.u32(&header, 4)?).ok()?;
            (at.add(24), limit.min(MAX_TEXT))
        }
    };
    let mut text = vec![0; limit];
    let (count, _) = memory.read(at, &mut text);
    text.truncate(count);
    text.truncate(until_nul(&text).len());
    text.starts_with(FIRST_LINE).then_some(Candidate { at, text, form })
}

/// Places in `bytes`, which begin at `at`, where VMCOREINFO may be. A note header that lies across two pieces is found by
/// neither; the kernels whose note is not page-aligned have the page as well.
fn hits(bytes: &[u8], at: u64) -> impl Iterator<Item = (PhysAddr, Form)> {
    let words = bytes.chunks_exact(4).enumerate();
    words.filter_map(move |(index, word)| {
        let offset = index.checked_mul(4)?;
        let here = PhysAddr(at.checked_add(offset as u64)?);
        match word {
            b"OSRE" if here.page_offset() == 0 => {
                bytes.get(offset..)?.starts_with(FIRST_LINE).then_some((here, Form::Page))
            }
            [0x0b, 0, 0, 0] | [0, 0, 0, 0x0b] => {
                let owner = bytes.get(offset.checked_add(12)?..)?;
                owner.starts_with(OWNER).then_some((here, Form::Note))
            }
            _ => None,
        }
    })
}
