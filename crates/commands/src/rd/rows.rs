//! Rows of sixteen bytes.

use std::fmt;

use kdive_base::{Missing, PAGE_SIZE, VirtAddr, VirtualMemory};
use kdive_target::{Kernel, Lacks};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};
use crate::words::{Annotator, Mode};

const ROW: u64 = 16;
/// Read at once: rows are small, and each read may decompress.
const BLOCK: usize = 64 << 10;
/// Missing memory that is skipped before the rest is given up: a hole this wide is no hole but the end.
const WIDEST_HOLE: u64 = 64 << 20;

/// The base that numbers are shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Radix {
    Hexadecimal,
    Signed,
    Unsigned,
}

/// How rows are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Bytes of a number: 1, 2, 4 or 8.
    pub(crate) size: usize,
    pub(crate) radix: Radix,
    /// Text behind the numbers.
    pub(crate) text: bool,
    pub(crate) symbolic: Mode,
    /// Numbers of 16 and 32 bits have their bytes turned around.
    pub(crate) network: bool,
    /// Offsets from here stand where addresses would.
    pub(crate) offsets_from: Option<u64>,
}

impl View {
    /// Hexadecimal numbers with text.
    pub(crate) const fn plain(size: usize) -> Self {
        Self {
            size,
            radix: Radix::Hexadecimal,
            text: true,
            symbolic: Mode::Plain,
            network: false,
            offsets_from: None,
        }
    }

    /// The number in some bytes of memory.
    fn number(&self, bytes: &[u8]) -> u64 {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        let number = u64::from_le_bytes(wide);
        match (self.network, self.size) {
            (true, 2) => u64::from((number as u16).swap_bytes()),
            (true, 4) => u64::from((number as u32).swap_bytes()),
            _ => number,
        }
    }

    /// Columns of a number.
    fn width(&self) -> usize {
        match (self.radix, self.size) {
            (Radix::Hexadecimal, size) => size * 2,
            (Radix::Unsigned, 8) => 20,
            (Radix::Signed, 8) => 15,
            (_, 4) => 12,
            (_, 2) => 5,
            (_, _) => 3,
        }
    }

    fn write(&self, number: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        let width = self.width();
        match (self.radix, self.size) {
            (Radix::Hexadecimal, _) => write!(out, "{number:0width$x} "),
            (Radix::Unsigned, _) => write!(out, "{number:>width$} "),
            (Radix::Signed, 1) => write!(out, "{:>width$} ", (number as u8).cast_signed()),
            (Radix::Signed, 2) => write!(out, "{:>width$} ", (number as u16).cast_signed()),
            (Radix::Signed, 4) => write!(out, "{:>width$} ", (number as u32).cast_signed()),
            (Radix::Signed, _) => write!(out, "{:>width$} ", number.cast_signed()),
        }
    }
}

/// Up to sixteen bytes of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// Address of the first number: virtual, physical, or an offset in the file.
    pub(crate) address: VirtAddr,
    /// The numbers; none where memory is missing.
    pub(crate) values: Vec<Option<Number>>,
    /// The bytes as text, with dots for what is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) text: String,
}

/// A number of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Number {
    pub(crate) value: VirtAddr,
    /// The symbol or slab cache that it points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

impl Render for Row {
    type View = View;
    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let address = self.address.0;
        let shown = view.offsets_from.map_or(address, |from| address.wrapping_sub(from));
        write!(out, "{shown:>16x}:  ")?;
        for number in &self.values {
            match number {
                Some(Number { name: Some(name), .. }) => write!(out, "{name:<16} ")?,
                Some(Number { value, name: None }) => view.write(value.0, out)?,
                None => write!(out, "{:?>1$} ", "?", view.width())?,
            }
        }
        if view.text {
            let lacking = (ROW as usize / view.size).saturating_sub(self.values.len());
            write!(out, "{:1$}  {2}", "", lacking * (view.width() + 1), self.text)?;
        }
        writeln!(out)
    }
}

/// A byte as text.
pub(crate) fn printable(byte: u8) -> char {
    if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }
}

/// Shows a range of memory; what is missing there is told as gaps.
///
/// # Errors
/// Nothing of it is in the dump.
pub(crate) fn show(
    cx: &mut Cx,
    memory: &dyn VirtualMemory,
    start: u64,
    bytes: u64,
    view: &View,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut range = Range::new(&kernel, memory, start, bytes, view);
    let mut any = false;
    while let Some(row) = range.next_row() {
        cx.cancel.check()?;
        out.row(&row, view)?;
        any = true;
    }
    let (missing, lacks) = range.gaps();
    if let Some(lacks) = lacks {
        cx.lacks(&lacks, "slab caches", String::new);
    }
    match missing.as_slice() {
        // Nothing at all could be shown.
        [first, ..] if !any => Err(Lacks::from(*first).into()),
        missing => {
            for missing in missing {
                cx.gaps.note("memory", missing.why, Some(missing.address.to_string()));
            }
            Ok(())
        }
    }
}

/// The rows of a range of memory. What is missing is left out by whole rows; in a row that is there in part it is marked.
pub(crate) struct Range<'m> {
    memory: &'m dyn VirtualMemory,
    view: View,
    annotator: Annotator<'m>,
    at: u64,
    /// Bytes from `at` on.
    left: u64,
    /// What was read from `block_at` on.
    block: Vec<u8>,
    block_at: u64,
    missing: Vec<Missing>,
    /// Missing bytes since the last row.
    hole: u64,
    /// Whether the last number was missing.
    in_hole: bool,
}

impl<'m> Range<'m> {
    pub(crate) fn new(
        kernel: &'m Kernel,
        memory: &'m dyn VirtualMemory,
        start: u64,
        bytes: u64,
        view: &View,
    ) -> Self {
        // The last byte of the address space is the last that can be read.
        let room = (u64::MAX - start).saturating_add(1);
        let annotator = Annotator::new(kernel, view.symbolic);
        let (block, missing) = (Vec::new(), Vec::new());
        let left = bytes.min(room);
        let (block_at, hole, in_hole) = (start, 0, false);
        Self { memory, view: *view, annotator, at: start, left, block, block_at, missing, hole, in_hole }
    }

    /// What was missing, and why slab objects could not be told.
    pub(crate) fn gaps(self) -> (Vec<Missing>, Option<Lacks>) {
        (self.missing, self.annotator.lacks)
    }

    /// The next row of which at least one number is there.
    pub(crate) fn next_row(&mut self) -> Option<Row> {
        while self.left > 0 {
            let (at, bytes) = (self.at, self.left.min(ROW));
            let numbers = self.numbers(at, bytes as usize);
            if numbers.iter().any(Option::is_some) {
                self.advance(bytes);
                self.hole = 0;
                return Some(self.row(at, &numbers));
            }
            // Nothing of this row, and so nothing before the next page.
            let skipped = ((PAGE_SIZE - at % PAGE_SIZE) / ROW * ROW).max(bytes);
            self.hole = self.hole.saturating_add(skipped);
            self.advance(if self.hole > WIDEST_HOLE { u64::MAX } else { skipped });
        }
        None
    }

    fn advance(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.at = self.at.wrapping_add(bytes);
        self.left -= bytes;
    }

    fn row(&mut self, at: u64, numbers: &[Option<Vec<u8>>]) -> Row {
        let mut text = String::new();
        let mut values = Vec::with_capacity(numbers.len());
        for bytes in numbers {
            match bytes {
                Some(bytes) => text.extend(bytes.iter().map(|&byte| printable(byte))),
                None => text.extend(std::iter::repeat_n('?', self.view.size)),
            }
            values.push(bytes.as_ref().map(|bytes| self.number(bytes)));
        }
        if !self.view.text {
            text.clear();
        }
        Row { address: VirtAddr(at), values, text }
    }

    fn number(&mut self, bytes: &[u8]) -> Number {
        let value = self.view.number(bytes);
        let mode = self.view.symbolic;
        let name = (mode != Mode::Plain).then(|| self.annotator.word(VirtAddr(0), value));
        let name = name.filter(|word| word.symbol.is_some() || word.cache.is_some());
        Number { value: VirtAddr(value), name: name.map(|word| word.text(mode)) }
    }

    /// The bytes of each number of a row; none for a number of which one byte is missing.
    fn numbers(&mut self, at: u64, bytes: usize) -> Vec<Option<Vec<u8>>> {
        let size = self.view.size;
        if let Some(row) = self.already_read(at, bytes) {
            let numbers = row.chunks(size).map(|number| Some(number.to_vec())).collect();
            self.in_hole = false;
            return numbers;
        }
        let starts = (0..bytes).step_by(self.view.size);
        starts
            .map(|start| {
                let mut number = vec![0; self.view.size.min(bytes - start)];
                match self.memory.read_exact(VirtAddr(at.wrapping_add(start as u64)), &mut number) {
                    Ok(()) => {
                        self.in_hole = false;
                        Some(number)
                    }
                    Err(missing) => {
                        self.note(missing);
                        None
                    }
                }
            })
            .collect()
    }

    /// The bytes of a row out of what was read already, or is now.
    fn already_read(&mut self, at: u64, bytes: usize) -> Option<&[u8]> {
        let inside = |block: &Vec<u8>, from: u64| {
            let start = usize::try_from(at.wrapping_sub(from)).ok()?;
            let range = start..start.checked_add(bytes)?;
            block.get(range.clone()).map(|_| range)
        };
        if inside(&self.block, self.block_at).is_none() {
            self.block.resize(BLOCK.min(usize::try_from(self.left).unwrap_or(BLOCK)), 0);
            let (count, _) = self.memory.read(VirtAddr(at), &mut self.block);
            self.block.truncate(count);
            self.block_at = at;
        }
        let range = inside(&self.block, self.block_at)?;
        self.block.get(range)
    }

    /// Keeps the first missing address of each stretch.
    fn note(&mut self, missing: Missing) {
        /// Stretches that are told apart.
        const MOST: usize = 1000;
        if !self.in_hole && self.missing.len() < MOST {
            self.missing.push(missing);
        }
        self.in_hole = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kdive_base::Why;
    use kdive_dump::{Input, InputFile};
    use kdive_target::OpenOptions;
    use proptest::prelude::*;

    use super::*;

    /// Bytes from an address on, with pages in them that are missing.
    struct Memory {
        start: u64,
        bytes: Vec<u8>,
        missing: Vec<u64>,
    }

    impl VirtualMemory for Memory {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            for (done, byte) in into.iter_mut().enumerate() {
                let here = at.add(done as u64);
                let stored = here.0.checked_sub(self.start).and_then(|index| self.bytes.get(index as usize));
                match stored.filter(|_| !self.missing.contains(&here.page_start().0)) {
                    Some(stored) => *byte = *stored,
                    None => return (done, Some(Missing::new(here, Why::Excluded))),
                }
            }
            (into.len(), None)
        }
    }

    /// A kernel in a dump of nothing: rows need one for symbols only.
    fn no_kernel() -> Arc<Kernel> {
        let file = InputFile::raw("nothing", Arc::new(vec![0_u8; 4096]), kdive_base::PhysAddr(0));
        let opened = kdive_dump::open(Input::from(file), &kdive_dump::Hints::default()).unwrap();
        Kernel::open(opened, OpenOptions::default(), Arc::new(())).unwrap()
    }

    fn shown(memory: &Memory, start: u64, bytes: u64, view: &View) -> (String, usize) {
        let kernel = no_kernel();
        let mut range = Range::new(&kernel, memory, start, bytes, view);
        let mut text = String::new();
        while let Some(row) = range.next_row() {
            row.render(view, &mut text).unwrap();
        }
        (text, range.gaps().0.len())
    }

    fn banner() -> Memory {
        Memory {
            start: 0xffff_ffff_9995_29e0,
            bytes: b"Linux version 6.12.117+deb12-cloud-amd64".to_vec(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn rows_are_crashs() {
        let memory = banner();
        let of = |bytes, view: &View| shown(&memory, memory.start, bytes, view).0;
        assert_eq!(
            of(24, &View::plain(8)),
            "ffffffff999529e0:  65762078756e694c 2e36206e6f697372   Linux version 6.\n\
             ffffffff999529f0:  642b3731312e3231                    12.117+d\n"
        );
        assert_eq!(
            of(20, &View::plain(4)),
            "ffffffff999529e0:  756e694c 65762078 6f697372 2e36206e   Linux version 6.\n\
             ffffffff999529f0:  312e3231                              12.1\n"
        );
        assert_eq!(
            of(3, &View::plain(1)),
            "ffffffff999529e0:  4c 69 6e                                          Lin\n"
        );
        let network = View { network: true, ..View::plain(2) };
        assert_eq!(of(4, &network), "ffffffff999529e0:  4c69 6e75                                 Linu\n");
        let signed = View { radix: Radix::Signed, text: false, ..View::plain(8) };
        assert_eq!(of(16, &signed), "ffffffff999529e0:  7311066746820913484 3329884633174733682 \n");
        let unsigned = View { radix: Radix::Unsigned, text: false, ..View::plain(8) };
        assert_eq!(of(8, &unsigned), "ffffffff999529e0:   7311066746820913484 \n");
        let offsets = View { offsets_from: Some(memory.start), ..View::plain(8) };
        assert!(of(24, &offsets).contains("\n              10:  642b"));
    }

    #[test]
    fn missing_pages_leave_their_rows_out() {
        let memory = Memory { start: 0x1000, bytes: vec![0x41; 3 * 4096], missing: vec![0x2000] };
        let (text, gaps) = shown(&memory, 0x1ff8, 4096 + 32, &View::plain(8));
        assert_eq!(
            text,
            "            1ff8:  4141414141414141 ????????????????   AAAAAAAA????????\n            \
             2ff8:  ???????????????? 4141414141414141   ????????AAAAAAAA\n            \
             3008:  4141414141414141 4141414141414141   AAAAAAAAAAAAAAAA\n"
        );
        assert_eq!(gaps, 1, "one hole is told once");
        // Far beyond the end: nothing, and an end.
        assert_eq!(shown(&memory, 0x4000, u64::MAX, &View::plain(8)), (String::new(), 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_byte_that_is_there_is_shown(
            start in 0_u64..0x5000,
            bytes in 0_u64..0x4000,
            missing in proptest::collection::vec(1_u64..5, 0..4),
        ) {
            let missing: Vec<u64> = missing.iter().map(|page| page << 12).collect();
            let memory = Memory { start: 0x1000, bytes: vec![7; 0x4000], missing };
            let kernel = no_kernel();
            let view = View::plain(1);
            let mut range = Range::new(&kernel, &memory, start, bytes, &view);
            let mut shown = 0;
            while let Some(row) = range.next_row() {
                shown += row.values.iter().flatten().count();
            }
            let there = |at: &u64| memory.read(VirtAddr(*at), &mut [0]).0 == 1;
            prop_assert_eq!(shown, (start..start + bytes).filter(there).count());
        }
    }
}
