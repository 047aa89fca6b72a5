//! `leaks`: objects that look lost.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::slab::leaks::{self, Leaks, Suspect, Threshold};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::in_unit;
use crate::sink::{Render, Sink, SinkExt};

/// Looks for leaks.
pub(crate) static LEAKS: Command = Command {
    names: &["leaks"],
    group: Group::Memory,
    summary: "slab objects that look lost: many of one content that nothing points to",
    operands: "",
    options: &[Opt::value("-n", "count", "from so many objects on (default 500, or 1 MB of them)")],
    help: include_str!("leaks.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let threshold = match args.value("-n").map(|word| operand::count("leaks", word)).transpose()? {
        Some(objects) => Threshold { objects: objects.max(2), bytes: u64::MAX },
        None => Threshold { objects: 500, bytes: 1 << 20 },
    };
    let found = leaks::find(&kernel, threshold, &cx.cancel)?;
    cx.cancel.check()?;
    if let Some((_, lacks)) = &found.skipped {
        cx.lacks(lacks, "objects of slab caches", String::new);
    }
    for suspect in &found.suspects {
        out.row(&Row::new(cx, suspect), &())?;
    }
    Ok(out.trailer(&Summary::new(&found), &())?)
}

/// Objects that look lost.
#[derive(Debug, Serialize)]
struct Row {
    cache: VirtAddr,
    cache_name: String,
    object_size: Option<u32>,
    /// Objects in use with this content.
    objects: u64,
    /// Those of them to which nothing points.
    unreferenced: u64,
    /// Memory of those.
    bytes: u64,
    /// One of them.
    example: VirtAddr,
    /// Text at its start, where there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Its first words.
    words: Vec<VirtAddr>,
    /// Names of functions and variables that it points to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    symbols: Vec<String>,
}

impl Row {
    fn new(cx: &Cx, of: &Suspect) -> Self {
        let (words, _) = of.content.as_chunks::<8>();
        let words: Vec<VirtAddr> = words.iter().map(|word| VirtAddr(u64::from_le_bytes(*word))).collect();
        let symbols = words.iter().filter_map(|word| cx.kernel.place(*word)).map(|place| place.to_string());
        let mut symbols: Vec<String> = symbols.collect();
        symbols.dedup();
        Self {
            cache: of.cache.at,
            cache_name: of.cache.display_name().to_string(),
            object_size: of.cache.object_size.clone().ok(),
            objects: of.objects,
            unreferenced: of.unreferenced,
            bytes: of.bytes,
            example: of.example,
            text: text(&of.content),
            words: words.into_iter().take(4).collect(),
            symbols,
        }
    }
}

/// Text of four letters and more at the start of an object.
fn text(content: &[u8]) -> Option<String> {
    let length = content.iter().take_while(|byte| (0x20..0x7f).contains(*byte)).count();
    let text = content.get(..length).filter(|text| text.len() >= 4)?;
    String::from_utf8(text.to_vec()).ok()
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "{}: {} in {} objects of {} with the same content; nothing points to {}",
            self.cache_name,
            in_unit(self.bytes),
            self.objects,
            self.object_size.map_or_else(|| "?".to_owned(), |size| format!("{size} bytes")),
            if self.unreferenced == self.objects {
                "any".to_owned()
            } else {
                format!("{} of them", self.unreferenced)
            }
        )?;
        write!(out, "  for example {}:", self.example)?;
        match &self.text {
            Some(text) => writeln!(out, " \"{text}\"")?,
            None => {
                self.words.iter().try_for_each(|word| write!(out, " {word}"))?;
                writeln!(out)?;
            }
        }
        if !self.symbols.is_empty() {
            writeln!(out, "  it points to {}", self.symbols.join(", "))?;
        }
        Ok(())
    }
}

/// How far the search went.
#[derive(Debug, Serialize)]
struct Summary {
    suspects: u64,
    bytes: u64,
    compared_objects: u64,
    searched_pages: u64,
    /// Pages of the kernel that are not in the dump: pointers may be in them.
    unread_pages: u64,
}

impl Summary {
    fn new(of: &Leaks) -> Self {
        Self {
            suspects: of.suspects.len() as u64,
            bytes: of.suspects.iter().fold(0, |sum, suspect| sum.saturating_add(suspect.bytes)),
            compared_objects: of.compared,
            searched_pages: of.searched_pages,
            unread_pages: of.unread_pages,
        }
    }
}

impl Render for Summary {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if self.suspects == 0 {
            write!(out, "no suspects among {} objects", self.compared_objects)?;
        } else {
            write!(out, "{} in all, of {} objects compared", in_unit(self.bytes), self.compared_objects)?;
        }
        match self.unread_pages {
            0 => writeln!(out),
            pages => writeln!(out, "; {pages} pages of the kernel could not be searched for pointers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_bytes() {
        assert_eq!(text(b"leaked\0\0"), Some("leaked".to_owned()));
        assert_eq!(text(b"abc\0"), None);
        assert_eq!(text(&[0xff; 8]), None);
    }
}
