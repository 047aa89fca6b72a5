//! `vm -R`: what of a process's memory has to do with a number or with a file's name.

use kdive_base::{PhysAddr, VirtAddr};
use kdive_linux::vma::Vma;

use super::pages::{self, Places};
use super::{UserMemory, areas};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Sink, SinkExt};
use crate::vtop::page::{FileNames, VMA_TITLES, VmaRow};

/// What is looked for.
struct Reference<'w> {
    word: &'w str,
    /// The word as a number: hexadecimal, with or without `0x`.
    number: Option<u64>,
}

/// An area that was found, and the page of it that was.
struct Found {
    area: Vma,
    row: VmaRow,
    page: Option<VirtAddr>,
}

impl Reference<'_> {
    fn is_of_area(&self, row: &VmaRow) -> bool {
        let numbers = [Some(row.vma.0), row.start.map(|at| at.0), row.flags.as_ref().map(|flags| flags.0)];
        let number = self.number.is_some_and(|wanted| numbers.contains(&Some(wanted)));
        number || row.file.as_ref().is_some_and(|file| file.contains(self.word))
    }

    /// The page of an area at that address, or in that frame.
    fn page(&self, row: &VmaRow, places: Option<&Places>) -> Option<VirtAddr> {
        let (number, start, end) = (self.number?, row.start?, row.end?);
        let at = VirtAddr(number);
        if at.page_offset() != 0 {
            return None;
        }
        if start <= at && at < end {
            return Some(at);
        }
        places?.mapping(start, end, PhysAddr(number))
    }
}

/// Shows the areas and pages of a task, or nothing; whether there were any.
pub(super) fn show(
    cx: &mut Cx,
    memory: &UserMemory<'_>,
    word: &str,
    out: &mut dyn Sink,
) -> Result<bool, CommandError> {
    let Some(mm) = &memory.mm else { return Ok(false) };
    let number = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok();
    let reference = Reference { word, number };
    let places = match Places::new(cx, memory) {
        Ok(places) => Some(places),
        Err(CommandError::Lacks(lacks)) => {
            cx.lacks(&lacks, "pages of a process", || format!("mm_struct {}", mm.at));
            None
        }
        Err(error) => return Err(error),
    };
    let mut names = FileNames::default();
    let mut found = Vec::new();
    for area in areas(cx, mm.at)? {
        cx.cancel.check()?;
        let row = VmaRow::with_files(cx, &area, &mut names);
        let page = reference.page(&row, places.as_ref());
        if page.is_some() || reference.is_of_area(&row) {
            found.push(Found { area, row, page });
        }
    }
    let header = memory.header(cx);
    let is_header = number.is_some_and(|wanted| {
        [header.mm, header.pgd, Some(memory.task.at)].contains(&Some(VirtAddr(wanted)))
    });
    if found.is_empty() && !is_header {
        return Ok(false);
    }
    out.header(&header, &())?;
    // Titles come once for rows of areas, and again behind pages.
    let mut titles = true;
    for Found { area, row, page } in found {
        if titles {
            out.heading(VMA_TITLES)?;
        }
        out.row(&row, &false)?;
        titles = page.is_some();
        if let (Some(at), Some(places)) = (page, &places) {
            out.heading(pages::TITLES)?;
            places.one(cx, &area, &row, at, out)?;
        }
    }
    Ok(true)
}
