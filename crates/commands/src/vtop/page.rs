//! crash's lines about a page and about an area of a process.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use kdive_base::{PhysAddr, VirtAddr};
use kdive_linux::pages::{Page, Pages};
use kdive_linux::path;
use kdive_linux::vma::Vma;
use kdive_target::{Field, Lacks};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Hex, Known, UNKNOWN};
use crate::sink::Render;

/// The numbers of a page structure.
#[derive(Debug, Serialize)]
struct PageFields {
    /// The `struct page`.
    page: VirtAddr,
    /// Where the frame begins.
    physical: PhysAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Hex>,
}

impl PageFields {
    fn new(page: &Page, physical: PhysAddr) -> Self {
        Self {
            page: page.at,
            physical,
            mapping: page.mapping.as_ref().ok().copied(),
            index: page.index.as_ref().ok().copied().map(Hex),
            count: page.refcount.as_ref().ok().copied(),
            flags: page.flags.as_ref().ok().copied().map(Hex),
        }
    }

    /// Appends the line in crash's layout; `names` are those of the flags, with commas between.
    fn text(&self, names: &str, line: &mut Vec<u8>) {
        push_hex(line, self.page.0, 16, b'0');
        let numbers = [
            (Some(self.physical.0), 8),
            (self.mapping.map(|at| at.0), 16),
            (self.index.as_ref().map(|index| index.0), 8),
        ];
        for (number, width) in numbers {
            line.push(b' ');
            push_known(line, number, width);
        }
        let _ = write!(line, " {:>2} ", Known(self.count));
        push_known(line, self.flags.as_ref().map(|flags| flags.0), 0);
        if !names.is_empty() {
            line.push(b' ');
            line.extend(names.as_bytes());
        }
        line.push(b'\n');
    }
}

/// What the page structure of a frame says.
#[derive(Debug, Serialize)]
pub(crate) struct PageRow {
    #[serde(flatten)]
    fields: PageFields,
    flag_names: Vec<String>,
    /// What it is used for, where the kernel marks that.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

impl PageRow {
    /// The page that a physical address is in. What it lacks is noted as a gap.
    pub(crate) fn new(cx: &mut Cx, at: PhysAddr) -> Option<Self> {
        let kernel = cx.kernel.clone();
        let pages = Pages::find(&kernel);
        let place = || format!("{at:#}");
        let page = cx.known(pages.page_of_frame(at), "page structure", place)?;
        let page: Page = kernel.load(page);
        // Of a frame that the machine does not have, or that the dump leaves out, there is nothing to show.
        if let Err(lacks @ Lacks::Missing(_)) = &page.flags {
            cx.lacks(lacks, "page structure", place);
            return None;
        }
        let parts = [
            ("MAPPING", page.mapping.as_ref().err()),
            ("INDEX", page.index.as_ref().err()),
            ("CNT", page.refcount.as_ref().err()),
            ("FLAGS", page.flags.as_ref().err()),
        ];
        let lacking: Vec<_> =
            parts.into_iter().filter_map(|(what, lacks)| Some((what, lacks?.clone()))).collect();
        cx.lacks_together(&lacking, || format!("page structure of {at:#}"));
        let names = cx.known(pages.flags.clone(), "names of page flags", String::new).unwrap_or_default();
        let kind = pages.type_of(&kernel, &page);
        let flags = page.flags.as_ref().ok();
        let flag_names = flags.iter().flat_map(|flags| names.names(**flags)).map(str::to_owned).collect();
        Some(Self { fields: PageFields::new(&page, at.page_start()), kind, flag_names })
    }
}

impl PageRow {
    /// In one line without columns.
    pub(crate) fn brief(&self) -> String {
        let mut text = self.fields.page.to_string();
        if let Some(kind) = &self.kind {
            let _ = write!(text, ", {kind}");
        }
        if let Some(count) = self.fields.count {
            let _ = write!(text, ", {count} references");
        }
        if !self.flag_names.is_empty() {
            let _ = write!(text, ", {}", self.flag_names.join(","));
        }
        text
    }
}

impl Render for PageRow {
    /// Whether the titles go before it.
    type View = bool;

    fn render(&self, titles: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        if *titles {
            out.write_str(TITLES)?;
        }
        let mut line = Vec::new();
        self.fields.text(&self.flag_names.join(","), &mut line);
        out.write_str(&String::from_utf8_lossy(&line))
    }
}

/// Titles of the lines about pages.
pub(crate) const TITLES: &str = "      PAGE       PHYSICAL      MAPPING       INDEX CNT FLAGS\n";

/// The line of one page among millions: nothing is allocated for it.
#[derive(Debug, Serialize)]
pub(crate) struct PageLine<'n> {
    #[serde(flatten)]
    fields: PageFields,
    flag_names: Names<'n>,
}

/// Names with commas between; in JSON a list.
#[derive(Debug)]
struct Names<'n>(&'n str);

impl Serialize for Names<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.split(',').filter(|name| !name.is_empty()))
    }
}

impl<'n> PageLine<'n> {
    pub(crate) fn new(page: &Page, physical: PhysAddr, flag_names: &'n str) -> Self {
        Self { fields: PageFields::new(page, physical), flag_names: Names(flag_names) }
    }

    /// Appends the line in crash's layout.
    pub(crate) fn text(&self, line: &mut Vec<u8>) {
        self.fields.text(self.flag_names.0, line);
    }
}

fn push_known(line: &mut Vec<u8>, number: Option<u64>, width: usize) {
    match number {
        Some(number) => push_hex(line, number, width, b' '),
        None => {
            line.resize(line.len() + width.saturating_sub(UNKNOWN.len()), b' ');
            line.extend(UNKNOWN.as_bytes());
        }
    }
}

/// Appends a number in hexadecimal, at least `width` digits wide.
pub(crate) fn push_hex(line: &mut Vec<u8>, value: u64, width: usize, pad: u8) {
    let digits = (u64::BITS - value.leading_zeros()).div_ceil(4).max(1);
    line.resize(line.len() + width.saturating_sub(digits as usize), pad);
    for digit in (0..digits).rev() {
        let digit = (value >> (digit * 4) & 0xf) as u8;
        line.push(if digit < 10 { b'0' + digit } else { b'a' + (digit - 10) });
    }
}

/// An area of a process.
#[derive(Debug, Serialize)]
pub(crate) struct VmaRow {
    pub(crate) vma: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flags: Option<Hex>,
    /// The file that it maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
}

/// The names of files that were met.
#[derive(Default)]
pub(crate) struct FileNames(FxHashMap<VirtAddr, Field<String>>);

impl FileNames {
    fn of(&mut self, cx: &Cx, file: VirtAddr) -> Field<String> {
        self.0.entry(file).or_insert_with(|| path::of_file(&cx.kernel, file)).clone()
    }
}

impl VmaRow {
    /// What is known of an area; what lacks is noted as a gap.
    pub(crate) fn new(cx: &mut Cx, vma: &Vma) -> Self {
        Self::with_files(cx, vma, &mut FileNames::default())
    }

    /// As [`VmaRow::new`], for one of several areas: they map the same files.
    pub(crate) fn with_files(cx: &mut Cx, vma: &Vma, names: &mut FileNames) -> Self {
        let place = || format!("vm_area_struct {:#}", vma.at);
        let file = cx.known(vma.file.clone(), "FILE of a VMA", place).filter(|file| !file.is_null());
        let file = file.and_then(|file| {
            let name = names.of(cx, file);
            cx.known(name, "FILE of a VMA", place)
        });
        Self {
            vma: vma.at,
            start: cx.known(vma.start.clone(), "START of a VMA", place),
            end: cx.known(vma.end.clone(), "END of a VMA", place),
            flags: cx.known(vma.flags.clone(), "FLAGS of a VMA", place).map(Hex),
            file,
        }
    }
}

/// Titles of [`VmaRow`].
pub(crate) const VMA_TITLES: &str = "      VMA           START       END     FLAGS FILE\n";

impl Render for VmaRow {
    /// Whether the titles go before it.
    type View = bool;

    fn render(&self, titles: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let hex = |number: Option<u64>| Known(number.map(|number| format!("{number:x}")));
        let (start, end) = (hex(self.start.map(|at| at.0)), hex(self.end.map(|at| at.0)));
        let (flags, file) = (hex(self.flags.map(|flags| flags.0)), self.file.as_deref().unwrap_or_default());
        if *titles {
            out.write_str(VMA_TITLES)?;
        }
        writeln!(out, "{} {start:>10} {end:>10} {flags} {file}", self.vma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_crashs() {
        let mut text = String::new();
        let fields = PageFields {
            page: VirtAddr(0xfffe_49b8_400a_3340),
            physical: PhysAddr(0x28c_d000),
            mapping: Some(VirtAddr(0xff32_52bf_81e2_0ad8)),
            index: Some(Hex(0)),
            count: Some(5),
            flags: Some(Hex(0xffff_fde0_2023)),
        };
        let flag_names = vec!["referenced".into(), "uptodate".into()];
        let page = PageRow { fields, flag_names, kind: None };
        page.render(&true, &mut text).unwrap();
        let vma = VmaRow {
            vma: VirtAddr(0xff32_52bf_831c_94d0),
            start: Some(VirtAddr(0x40_0000)),
            end: Some(VirtAddr(0x40_1000)),
            flags: Some(Hex(0x800_0071)),
            file: Some("/bin/busybox".into()),
        };
        vma.render(&true, &mut text).unwrap();
        assert_eq!(
            text,
            "      PAGE       PHYSICAL      MAPPING       INDEX CNT FLAGS\n\
             fffe49b8400a3340  28cd000 ff3252bf81e20ad8        0  5 fffffde02023 referenced,uptodate\n\
             \x20     VMA           START       END     FLAGS FILE\n\
             ff3252bf831c94d0     400000     401000 8000071 /bin/busybox\n"
        );
    }
}
