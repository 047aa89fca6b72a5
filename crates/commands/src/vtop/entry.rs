//! A page-table entry in words: what it maps, or where its page was swapped to. Also `pte`.

use std::fmt;

use kdive_arch::x86_64::paging;
use kdive_arch::x86_64::swap;
use kdive_base::PhysAddr;
use kdive_linux::swap::area_path;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Hex, UNKNOWN, centered_number};
use crate::sink::{Render, Sink, SinkExt};

/// Takes page-table entries apart.
pub(crate) static PTE: Command = Command {
    names: &["pte"],
    group: Group::Memory,
    summary: "what a page-table entry says",
    operands: "contents...",
    options: &[],
    help: include_str!("../pte.md"),
    run: Run::Once(pte),
};

/// A page-table entry of the last level, or of one that maps a huge page.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    /// Its value.
    pub(super) value: Hex,
    #[serde(flatten)]
    pub(super) says: Says,
}

/// What it says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// A page is there.
    Page {
        /// Where its frame begins.
        physical: PhysAddr,
        /// The names of the bits that are set.
        flags: Vec<&'static str>,
    },
    /// The page was swapped out.
    Swap(SwapPlace),
    /// Nothing: it is zero.
    Nothing,
}

/// A place in swap.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SwapPlace {
    /// Number of the swap area.
    pub(super) area: u8,
    /// Its device or file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// Where in it, in pages.
    pub(super) offset: u64,
}

impl Entry {
    /// The entry with this value; a swap area whose name is not known is noted as a gap.
    pub(super) fn new(cx: &mut Cx, value: u64) -> Self {
        let flags = || paging::flag_names(value).collect();
        let says = match swap::decode(value) {
            None => Says::Nothing,
            Some(_) if paging::is_present(value) => {
                Says::Page { physical: paging::frame(value), flags: flags() }
            }
            Some(entry) => {
                let path = area_path(&cx.kernel, entry.area);
                let path = cx.known(path, "swap area", || format!("area {}", entry.area));
                Says::Swap(SwapPlace { area: entry.area, path, offset: entry.offset })
            }
        };
        Self { value: Hex(value), says }
    }
}

/// Text in the middle of a column; what cannot be halved goes behind it.
fn centered(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}

const PHYSICAL: &str = "PHYSICAL";

impl Render for Entry {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let value = format!("{:x}", self.value.0);
        let width = value.len().max(3);
        let (title, value) = (centered("PTE", width), centered_number(&value, width));
        let (physical, words) = match &self.says {
            Says::Swap(SwapPlace { path, offset, .. }) => {
                let (path, offset) = (path.as_deref().unwrap_or(UNKNOWN), offset.to_string());
                let widths = (path.len().max(4), offset.len().max(6));
                let titles = (centered("SWAP", widths.0), centered("OFFSET", widths.1));
                writeln!(out, "{title}  {}  {}", titles.0, titles.1)?;
                let cells = (centered_number(path, widths.0), centered_number(&offset, widths.1));
                return writeln!(out, "{value}  {}  {}", cells.0, cells.1);
            }
            Says::Page { physical, flags } => (physical.0, flags.join("|")),
            Says::Nothing => (0, "no mapping".to_owned()),
        };
        let physical = format!("{physical:x}");
        let width = physical.len().max(PHYSICAL.len());
        writeln!(out, "{title}  {}  FLAGS", centered(PHYSICAL, width))?;
        writeln!(out, "{value}  {}  ({words})", centered_number(&physical, width))
    }
}

fn pte(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return Err(UsageError::new("pte", "which entry?").into());
    }
    for word in &args.operands {
        let wrong = |_| UsageError::new("pte", format!("{word} is not a hexadecimal number"));
        let value = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).map_err(wrong)?;
        let entry = Entry::new(cx, value);
        out.row(&entry, &())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: u64, says: Says) -> String {
        let mut text = String::new();
        Entry { value: Hex(value), says }.render(&(), &mut text).unwrap();
        text
    }

    fn page(value: u64) -> String {
        let flags = paging::flag_names(value).collect();
        text(value, Says::Page { physical: paging::frame(value), flags })
    }

    #[test]
    fn entries_are_laid_out_as_crash_does() {
        assert_eq!(
            page(0xd8_e067),
            " PTE    PHYSICAL  FLAGS\nd8e067   d8e000   (PRESENT|RW|USER|ACCESSED|DIRTY)\n"
        );
        assert_eq!(
            page(0x8000_0000_0291_3025),
            "      PTE         PHYSICAL  FLAGS\n8000000002913025   2913000  (PRESENT|USER|ACCESSED|NX)\n"
        );
        assert_eq!(text(0, Says::Nothing), "PTE  PHYSICAL  FLAGS\n 0       0     (no mapping)\n");
        let place = SwapPlace { area: 0, path: Some("/dev/vdc".into()), offset: 1_125_899_906_840_068 };
        assert_eq!(
            text(0x13_f600, Says::Swap(place)),
            " PTE      SWAP         OFFSET     \n13f600  /dev/vdc  1125899906840068\n"
        );
    }
}
