//! `kmem -p` and `-m`: the page structures.

use std::fmt;
use std::ops::Range;

use kdive_base::{GapLedger, Pfn, PhysAddr, VirtAddr};
use kdive_debuginfo::types::Type;
use kdive_linux::pages::{Page, PageArray, PageFlags, Pages, RawPage};
use kdive_target::{Lacks, Loader, Member};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::args::Args;
use crate::buffer::ReadyJson;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::settings::Radix;
use crate::sink::{Form, Part, Sink, SinkExt};
use crate::vtop::page::{self, PageLine, TITLES};

/// Frames whose lines one thread makes at a time.
const PIECE: u64 = 1 << 13;

/// Lines made by one thread, and what they lacked.
type Made = (Vec<u8>, GapLedger);

/// Appends what is shown of a page.
type MakeLine<'f> = dyn Fn(&RawPage<'_>, &mut FlagNames, Form, &mut Vec<u8>) + Sync + 'f;

/// Makes lines for all page structures, several pieces at a time, and gives them in order.
fn all(cx: &mut Cx, out: &mut dyn Sink, line: &MakeLine<'_>) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let array = PageArray::find(&kernel)?;
    let pieces: Vec<_> = array.pieces(PIECE).collect();
    let form = out.form();
    let make = |frames: &Range<Pfn>| -> Made {
        let (mut lines, mut gaps) = (Vec::new(), GapLedger::default());
        let mut names = FlagNames::default();
        let chunk = array.read(&kernel, frames);
        for (frames, missing) in &chunk.missing {
            let place = format!("frames {:#x} to {:#x}", frames.start.0, frames.end.0.saturating_sub(1));
            gaps.note("page structures", missing.why, Some(place));
        }
        for raw in chunk.pages() {
            if form == Form::Json && !lines.is_empty() {
                lines.push(b',');
            }
            line(&raw, &mut names, form, &mut lines);
        }
        (lines, gaps)
    };
    let batch = rayon::current_num_threads().saturating_mul(4).max(1);
    let (mut done, total) = (0_u64, pieces.len() as u64);
    for part in pieces.chunks(batch) {
        cx.cancel.check()?;
        let made: Vec<Made> = part.par_iter().map(make).collect();
        for (lines, gaps) in made {
            cx.gaps.absorb(gaps);
            if lines.is_empty() {
                continue;
            }
            let lines = ReadyJson(lines);
            let text = |to: &mut dyn fmt::Write| to.write_str(&String::from_utf8_lossy(&lines.0));
            out.take(Part::Row, &lines, &text)?;
        }
        done = done.saturating_add(part.len() as u64);
        cx.progress.step("page structures", done, Some(total));
    }
    Ok(())
}

/// The names of flags that were met: most pages have the same few.
#[derive(Default)]
struct FlagNames(FxHashMap<u64, String>);

impl FlagNames {
    fn of(&mut self, flags: u64, table: &PageFlags) -> &str {
        /// Bits above are the page's zone and node.
        const NAMED: u64 = (1 << 40) - 1;
        let flags = flags & NAMED;
        self.0.entry(flags).or_insert_with(|| table.names(flags).collect::<Vec<_>>().join(","))
    }
}

/// `kmem -p`.
pub(super) fn show(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if !args.operands.is_empty() {
        for word in &args.operands {
            let physical = physical(cx, args, word)?;
            out.heading(TITLES)?;
            page_at(cx, physical, out)?;
        }
        return Ok(());
    }
    let kernel = cx.kernel.clone();
    let pages = Pages::find(&kernel);
    let table = cx.known(pages.flags.clone(), "names of page flags", String::new).unwrap_or_default();
    let loader: Loader<'_, Page> = kernel.loader();
    out.heading(TITLES)?;
    all(cx, out, &|raw, names, form, lines| {
        let page = loader.load_read(raw.at, raw.bytes);
        let flags = page.flags.as_ref().map_or(0, |flags| *flags);
        let line = PageLine::new(&page, raw.pfn.start(), names.of(flags, &table));
        match form {
            Form::Text => line.text(lines),
            // A record of numbers and names: it has a form in JSON.
            Form::Json => drop(serde_json::to_writer(lines, &line)),
        }
    })
}

/// The line of one page; what it lacks is noted as a gap.
pub(super) fn page_at(cx: &mut Cx, at: PhysAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(row) = page::PageRow::new(cx, at) {
        out.row(&row, &false)?;
    }
    Ok(())
}

/// The physical address that a word of the user's stands for: of a page structure its frame's, of a kernel address where
/// it is mapped to, else the number itself.
pub(super) fn physical(cx: &Cx, args: &Args, word: &str) -> Result<PhysAddr, CommandError> {
    let address = crate::operand::address(cx, "kmem", word)?;
    if args.has("-P") || address.0 >> 63 == 0 {
        return Ok(PhysAddr(address.0));
    }
    match described(cx, address) {
        Some(frame) => Ok(frame),
        None => Ok(cx.kernel.space().translate(address).map_err(Lacks::from)?.phys),
    }
}

/// The kernel's address of a word of the user's: with `-P`, where the direct map has that physical address.
pub(super) fn kernel_address(cx: &Cx, args: &Args, word: &str) -> Result<VirtAddr, CommandError> {
    let address = crate::operand::address(cx, "kmem", word)?;
    if !args.has("-P") {
        return Ok(address);
    }
    let pages = Pages::find(&cx.kernel);
    let direct = pages.direct.as_ref().map_err(Lacks::clone)?;
    let mapped = direct.address_of(PhysAddr(address.0));
    mapped.ok_or_else(|| {
        CommandError::not_found(format!("kmem: {word}: the kernel does not map this physical address"))
    })
}

/// The frame that an address among the page structures is about.
pub(super) fn described(cx: &Cx, address: VirtAddr) -> Option<PhysAddr> {
    let pages = Pages::find(&cx.kernel);
    let map = pages.map.as_ref().ok()?;
    let inside = address.0.checked_sub(map.start.0)?;
    let pfn = map.pfn_of(address.sub(inside % map.page_bytes))?;
    let array = PageArray::find(&cx.kernel).ok()?;
    array.ranges().iter().any(|range| range.contains(&pfn)).then(|| pfn.start())
}

/// How a member of `struct page` is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// In decimal, signed or not.
    Decimal,
    /// In hexadecimal.
    Hex,
    /// A structure: its words in hexadecimal, with commas between.
    Words,
}

/// A member that was asked for.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    member: Member,
    shape: Shape,
}

impl Column {
    fn find(cx: &Cx, name: &str, hex: bool) -> Result<Self, CommandError> {
        let member = cx
            .kernel
            .member("page", &[name])
            .map_err(|_| CommandError::not_found(format!("kmem: invalid page struct member: {name}")))?;
        let types = cx.kernel.types()?;
        let kind = types.stripped(member.of);
        let shape = match (name, kind.as_deref()) {
            ("flags", _) => Shape::Words,
            ("_count" | "_mapcount", _) => Shape::Decimal,
            (_, Some(Type::Int { .. } | Type::Enum(_))) if !hex => Shape::Decimal,
            (_, Some(Type::Int { .. } | Type::Enum(_) | Type::Pointer { .. })) => Shape::Hex,
            _ => Shape::Words,
        };
        Ok(Self { name: name.to_owned(), member, shape })
    }

    /// The value in a page structure, as crash shows it.
    fn text(&self, page: &[u8]) -> String {
        let Member { offset, bytes, bits, signed, .. } = self.member;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let word = |at: usize, width: usize| kdive_base::Endian::Little.unsigned(page, at, width);
        let whole = word(at, bytes as usize).map(|value| match bits {
            Some((first, count)) => value >> first.min(63) & ((1 << count.min(63)) - 1),
            None => value,
        });
        match (self.shape, whole) {
            (Shape::Decimal, Some(value)) if signed || bytes == 4 && self.name == "_mapcount" => {
                let unused = 64_u32.saturating_sub(bytes as u32 * 8).min(63);
                (value << unused).cast_signed().wrapping_shr(unused).to_string()
            }
            (Shape::Decimal, Some(value)) => value.to_string(),
            (Shape::Hex | Shape::Words, Some(value)) => {
                format!("{value:0width$x}", width = bytes as usize * 2)
            }
            (_, None) => {
                let words = (0..bytes as usize / 8).filter_map(|index| word(at + index * 8, 8));
                words.map(|word| format!("{word:016x}")).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The chosen members of a page.
struct MemberRow<'a> {
    raw: &'a RawPage<'a>,
    columns: &'a [Column],
}

impl Serialize for MemberRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.columns.len() + 1))?;
        map.serialize_entry("page", &self.raw.at)?;
        for column in self.columns {
            map.serialize_entry(&column.name, &column.text(self.raw.bytes))?;
        }
        map.end()
    }
}

impl MemberRow<'_> {
    fn text(&self, lines: &mut Vec<u8>) {
        page::push_hex(lines, self.raw.at.0, 16, b'0');
        for column in self.columns {
            lines.extend(b"  ");
            lines.extend(column.text(self.raw.bytes).as_bytes());
        }
        lines.extend(b"  \n");
    }
}

/// `kmem -m`.
pub(super) fn members(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let hex = cx.settings.radix == Radix::Hexadecimal;
    let names = args.value("-m").unwrap_or_default().split(',');
    let columns: Vec<Column> = names.map(|name| Column::find(cx, name, hex)).collect::<Result<_, _>>()?;
    let titles: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let titles = format!("      PAGE        {}\n", titles.join("  "));
    let make = |raw: &RawPage<'_>, form: Form, lines: &mut Vec<u8>| {
        let row = MemberRow { raw, columns: &columns };
        match form {
            Form::Text => row.text(lines),
            Form::Json => drop(serde_json::to_writer(lines, &row)),
        }
    };
    if args.operands.is_empty() {
        out.heading(&titles)?;
        return all(cx, out, &|raw, _, form, lines| make(raw, form, lines));
    }
    let kernel = cx.kernel.clone();
    let array = PageArray::find(&kernel)?;
    for word in &args.operands {
        let pfn = physical(cx, args, word)?.pfn();
        let chunk = array.read(&kernel, &(pfn..Pfn(pfn.0.saturating_add(1))));
        for (_, missing) in &chunk.missing {
            cx.lacks(&Lacks::from(*missing), "page structure", || word.clone());
        }
        out.heading(&titles)?;
        for raw in chunk.pages() {
            let mut line = Vec::new();
            make(&raw, out.form(), &mut line);
            let line = ReadyJson(line);
            out.take(Part::Row, &line, &|to| to.write_str(&String::from_utf8_lossy(&line.0)))?;
        }
    }
    Ok(())
}
