//! What is said of a dump that was written, counted or checked.

use std::fmt;
use std::io::{self, Write as _};

use kdive_dump::{CheckedBy, FileDamage};
use kdive_filter::{RuleFound, Ruled, Usage, Verified};
use serde::Serialize;

/// What was written.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// The files.
    pub(super) files: Vec<String>,
    /// The dump level.
    pub(super) level: u8,
    /// Pages that the source has.
    pub(super) source_pages: u64,
    /// Pages whose contents are in the new dump.
    pub(super) pages: u64,
    /// Those of them that hold zeros only.
    pub(super) zero_pages: u64,
    /// Pages that could not be read from the source: the new dump says that they are missing.
    pub(super) unreadable_pages: u64,
    /// Pages that were kept because nothing told what they are used for.
    pub(super) unknown_pages: u64,
    /// What rules found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) rules: Vec<RuleFound>,
    /// Pages that rules decided on against the level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ruled: Option<Ruled>,
    /// Bytes of the new files.
    pub(super) bytes: u64,
    /// Seconds that it took.
    pub(super) seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.bytes.saturating_mul(1000) / self.source_pages.saturating_mul(4096).max(1);
        write!(
            f,
            "{}: level {}, {} of {} pages, {} ({}.{} % of the memory), {:.1} s",
            self.files.join(" "),
            self.level,
            self.pages,
            self.source_pages,
            size(self.bytes),
            percent / 10,
            percent % 10,
            self.seconds,
        )?;
        self.rules.iter().try_for_each(|found| write!(f, "\n{found}"))?;
        if let Some(Ruled { kept, dropped }) = self.ruled {
            write!(
                f,
                "\nrules keep {kept} pages that the level leaves out, and leave out {dropped} that it keeps"
            )?;
        }
        if self.unreadable_pages > 0 {
            write!(
                f,
                "\nnote: {} pages of the source cannot be read: they are missing",
                self.unreadable_pages
            )?;
        }
        if self.unknown_pages > 0 {
            let count = self.unknown_pages;
            write!(f, "\nnote: {count} pages have no page structure in the dump: they are kept")?;
        }
        Ok(())
    }
}

/// A table of pages by use.
pub(super) struct UsageTable<'a>(pub(super) &'a Usage);

impl fmt::Display for UsageTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(usage) = self;
        writeln!(f, "{:<14} {:>10} {:>12} {:>6} {:>6}  WHAT", "KIND", "PAGES", "SIZE", "%", "LEVEL")?;
        let percent = |pages: u64| pages as f64 * 100.0 / usage.pages.max(1) as f64;
        for row in &usage.rows {
            let level = row.level.map_or_else(|| "-".to_owned(), |level| level.to_string());
            let share = percent(row.pages);
            let (kind, pages, bytes, what) = (row.kind, row.pages, size(row.bytes), row.what);
            writeln!(f, "{kind:<14} {pages:>10} {bytes:>12} {share:>6.1} {level:>6}  {what}")?;
        }
        write!(f, "{:<14} {:>10} {:>12}", "all", usage.pages, size(usage.pages.saturating_mul(4096)))?;
        if usage.unknown > 0 {
            write!(
                f,
                "\nnote: {} frames have no page structure in the dump: they count as kept",
                usage.unknown
            )?;
        }
        Ok(())
    }
}

/// What checking found.
pub(super) struct Verdict<'a>(pub(super) &'a Verified);

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found) = self;
        for FileDamage { file, offset, bytes, why } in &found.files {
            let last = offset.saturating_add(*bytes).saturating_sub(1);
            writeln!(f, "{file}: bytes {offset:#x}-{last:#x}: {why}")?;
        }
        if let Some(why) = &found.unopened {
            writeln!(f, "which pages that concerns cannot be told: {why}")?;
        }
        for damage in &found.damage {
            let address = damage.first.saturating_mul(4096);
            let (first, last) = (damage.first, damage.first.saturating_add(damage.pages).saturating_sub(1));
            write!(f, "pfn {first:x}")?;
            if damage.pages > 1 {
                write!(f, "-{last:x} ({} pages)", damage.pages)?;
            }
            writeln!(f, " at {address:x}: {}", damage.why)?;
        }
        if found.incomplete {
            writeln!(f, "the dump says that its capture did not finish")?;
        }
        let state = if found.is_good() { "whole" } else { "damaged" };
        write!(f, "{state}: {} pages can be read, {} cannot", found.good, found.bad)?;
        if found.checked_by.contains(&CheckedBy::Nothing) {
            write!(f, "\nnote: the file has no hashes: damage that still decodes does not show")?;
        }
        Ok(())
    }
}

/// Prints data: as text, or as JSON. A reader that went away needs no more of it.
pub(super) fn show(text: &dyn fmt::Display, record: &impl Serialize, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let done = if json {
        serde_json::to_writer_pretty(&mut out, record).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{text}")
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}
