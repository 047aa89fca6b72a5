//! `pagecache`: files by their pages in memory, and a cached file written out.

use std::cmp::Reverse;
use std::fmt;
use std::io::Write as _;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::fs::PageCache;
use kdive_linux::fs::cached::{self, CachedFile, Names};
use kdive_linux::pages::Pages;
use kdive_target::Lacks;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, in_unit};
use crate::sink::{Render, Sink, SinkExt};

/// Ranks files by cached pages.
pub(crate) static PAGECACHE: Command = Command {
    names: &["pagecache"],
    group: Group::Memory,
    summary: "files by their pages in memory; a cached file written out",
    operands: "[path | inode]",
    options: &[
        Opt::value("-n", "count", "only the first so many; 0 for all (default 20)"),
        Opt::value("-w", "file", "write the content of the file that is named into this file"),
    ],
    help: include_str!("pagecache.md"),
    run: Run::Once(run),
};

/// Rows where none are asked for by number.
const USUAL: u64 = 20;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    match (args.operands.as_slice(), args.value("-w")) {
        ([], None) => rank(cx, args, out),
        ([], Some(_)) => Err(UsageError::new("pagecache", "-w: which file?").into()),
        ([one], to) => {
            let file = find(cx, one)?;
            match to {
                None => {
                    let kernel = cx.kernel.clone();
                    let row = Row::new(cx, &file, &Names::find(&kernel));
                    Ok(out.row(&row, &())?)
                }
                Some(to) => write_out(cx, &file, to, out),
            }
        }
        ([_, _, ..], _) => Err(UsageError::new("pagecache", "one file at a time").into()),
    }
}

/// A file.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Size of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    inode: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode_number: Option<u64>,
    address_space: VirtAddr,
    super_block: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Row {
    fn new(cx: &mut Cx, file: &CachedFile, names: &Names<'_>) -> Self {
        let place = || format!("inode {}", file.inode.at);
        let path = names.of(file);
        let pages = cx.known(file.space.pages.clone(), "PAGES of a file", place);
        Self {
            pages,
            bytes: pages.map(|pages| pages.saturating_mul(PAGE_SIZE)),
            size: cx.known(file.inode.size.clone(), "SIZE of a file", place),
            inode: file.inode.at,
            inode_number: file.inode.number.clone().ok(),
            address_space: file.space.at,
            super_block: file.super_block,
            file_system: cx.known(file.file_system.clone(), "type of a file system", place),
            path: cx.known(path, "PATH of a file", place),
        }
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:>10}{:>11}", Known(self.pages), Known(self.bytes.map(in_unit)))?;
        let kind = Known(self.file_system.as_deref());
        write!(out, "{:>11}  {}  {kind:<9}  ", Known(self.size.map(in_unit)), self.inode)?;
        writeln!(out, "{}", Known(self.path.as_deref()))
    }
}

/// The files of the kernel; what cannot be followed is a gap.
fn all(cx: &mut Cx) -> Result<Vec<CachedFile>, CommandError> {
    let kernel = cx.kernel.clone();
    let (mut found, mut lacking) = (Vec::new(), Vec::new());
    cached::files(&kernel, &cx.cancel, &mut |file| match file {
        Ok(file) => found.push(file),
        Err(lacks) => lacking.push(lacks),
    })?;
    cx.cancel.check()?;
    for lacks in &lacking {
        cx.lacks(lacks, "files in memory", String::new);
    }
    Ok(found)
}

fn rank(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let most = args.value("-n").map(|word| operand::count("pagecache", word)).transpose()?.unwrap_or(USUAL);
    let mut files = all(cx)?;
    let pages = |file: &CachedFile| file.space.pages.clone().unwrap_or(0);
    files.sort_by_key(|file| (Reverse(pages(file)), file.inode.at));
    let total = files.iter().map(pages).fold(0, u64::saturating_add);
    out.header(&Total { files: files.len() as u64, pages: total }, &())?;
    out.heading("     PAGES     MEMORY       SIZE       INODE        TYPE       PATH\n")?;
    let most = if most == 0 { usize::MAX } else { usize::try_from(most).unwrap_or(usize::MAX) };
    let kernel = cx.kernel.clone();
    let names = Names::find(&kernel);
    for file in files.iter().take(most) {
        cx.cancel.check()?;
        let row = Row::new(cx, file, &names);
        out.row(&row, &())?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Total {
    files: u64,
    pages: u64,
}

impl Render for Total {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let amount = in_unit(self.pages.saturating_mul(PAGE_SIZE));
        writeln!(out, "{} files have {} pages ({amount}) in memory", self.files, self.pages)
    }
}

/// The file of a path or of an inode's address.
fn find(cx: &mut Cx, word: &str) -> Result<CachedFile, CommandError> {
    let kernel = cx.kernel.clone();
    let files = all(cx)?;
    let not_found = || CommandError::NotFound {
        what: format!("pagecache: no page of {word} is in memory"),
        hint: Some("`pagecache -n 0` lists all files that have pages".into()),
    };
    if word.starts_with('/') {
        let names = Names::find(&kernel);
        let named = |file: &CachedFile| names.of(file).is_ok_and(|path| path == word);
        return files.into_iter().find(named).ok_or_else(not_found);
    }
    let at = operand::address(cx, "pagecache", word)?;
    files.into_iter().find(|file| file.inode.at == at).ok_or_else(not_found)
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written<'p> {
    file: &'p str,
    /// Bytes of the file, as long as it was.
    bytes: u64,
    /// Pages with content.
    pages: u64,
    /// Pages of the file that are not in memory: zeros stand for them.
    absent_pages: u64,
    /// Pages in the cache that are not in the dump: zeros stand for them too.
    missing_pages: u64,
}

impl Render for Written<'_> {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(
            out,
            "{} bytes written to {}, {} pages of them from memory",
            self.bytes, self.file, self.pages
        )?;
        match self.absent_pages.saturating_add(self.missing_pages) {
            0 => writeln!(out),
            _ => writeln!(
                out,
                "; zeros for {} pages that were not cached and {} that are not in the dump",
                self.absent_pages, self.missing_pages
            ),
        }
    }
}

/// Writes a file as it was, in order, with zeros for what is not there.
fn write_out(cx: &mut Cx, file: &CachedFile, to: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let failed = |error: std::io::Error| CommandError::not_found(format!("pagecache: {to}: {error}"));
    let (size, pages) = (file.inode.size.clone()?, Pages::find(&kernel));
    let cache = PageCache::of(&kernel, &file.space)?;
    let mut written = Written { file: to, bytes: 0, pages: 0, absent_pages: 0, missing_pages: 0 };
    let mut target = cx.files.create(to).map_err(failed)?;
    let mut block = vec![0; PAGE_SIZE as usize];
    let zeros = vec![0; PAGE_SIZE as usize];
    let mut next = 0_u64;
    // A file system may claim a size that no memory could hold; what is behind the last page is left out then.
    const MOST_ZEROS: u64 = 1 << 22;
    let last = size.div_ceil(PAGE_SIZE);
    let mut put = |index: u64, bytes: &[u8], written: &mut Written<'_>| -> Result<(), CommandError> {
        let room = size.saturating_sub(index.saturating_mul(PAGE_SIZE)).min(PAGE_SIZE) as usize;
        let bytes = bytes.get(..room).unwrap_or(bytes);
        target.write_all(bytes).map_err(failed)?;
        written.bytes = written.bytes.saturating_add(bytes.len() as u64);
        Ok(())
    };
    for page in cache {
        cx.cancel.check()?;
        let page = match page {
            Ok(page) => page,
            Err(broken) => {
                cx.lacks(&Lacks::from(broken), "pages of a file", || file.inode.at.to_string());
                continue;
            }
        };
        if page.index < next || page.index >= last || page.index - next > MOST_ZEROS {
            continue;
        }
        while next < page.index {
            put(next, &zeros, &mut written)?;
            written.absent_pages = written.absent_pages.saturating_add(1);
            next = next.saturating_add(1);
        }
        let read =
            pages.address_of(page.page).and_then(|at| Ok(kernel.memory().read_exact(at, &mut block)?));
        match read {
            Ok(()) => {
                put(next, &block, &mut written)?;
                written.pages = written.pages.saturating_add(1);
            }
            Err(lacks) => {
                cx.lacks(&lacks, "content of a file", || format!("page {}", page.index));
                put(next, &zeros, &mut written)?;
                written.missing_pages = written.missing_pages.saturating_add(1);
            }
        }
        next = next.saturating_add(1);
    }
    for _ in 0..last.saturating_sub(next).min(MOST_ZEROS) {
        put(next, &zeros, &mut written)?;
        written.absent_pages = written.absent_pages.saturating_add(1);
        next = next.saturating_add(1);
    }
    target.flush().map_err(failed)?;
    Ok(out.row(&written, &())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said() {
        let written = Written { file: "x", bytes: 12_288, pages: 2, absent_pages: 1, missing_pages: 0 };
        let mut text = String::new();
        written.render(&(), &mut text).unwrap();
        Written { absent_pages: 0, ..written }.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "12288 bytes written to x, 2 pages of them from memory; zeros for 1 pages that were not cached and 0 that \
             are not in the dump\n12288 bytes written to x, 2 pages of them from memory\n"
        );
    }
}
