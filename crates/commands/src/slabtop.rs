//! `slabtop`: slab caches by the memory that they take.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::slab::{SlabCache, Slabs, Usage};
use kdive_target::Field;
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{Known, in_unit, percent};
use crate::sink::{Render, Sink, SinkExt};

/// Ranks slab caches.
pub(crate) static SLABTOP: Command = Command {
    names: &["slabtop"],
    group: Group::Memory,
    summary: "slab caches by the memory that they take",
    operands: "",
    options: &[
        Opt::value(
            "-s",
            "key",
            "sort by c: memory (default), a: objects in use, f: memory of free objects, l: slabs, n: name, o: objects, \
             s: object size, u: use in percent",
        ),
        Opt::value("-n", "count", "only the first so many; 0 for all (default 20)"),
    ],
    help: include_str!("slabtop.md"),
    run: Run::Once(run),
};

/// Rows where none are asked for by number.
const USUAL: u64 = 20;

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let key = Key::parse(args.value("-s").unwrap_or("c"))?;
    let most = match args.value("-n").map(|word| operand::count("slabtop", word)).transpose()? {
        None => USUAL,
        Some(0) => u64::MAX,
        Some(most) => most,
    };
    let kernel = cx.kernel.clone();
    let caches = Slabs::find(&kernel).caches(&kernel)?;
    if let Some(lacks) = &caches.incomplete {
        cx.lacks(lacks, "list of slab caches", String::new);
    }
    let usages: Vec<Field<Usage>> = caches.list.par_iter().map(|cache| Usage::find(&kernel, cache)).collect();
    let mut rows = Vec::new();
    for (cache, usage) in caches.list.iter().zip(usages) {
        cx.cancel.check()?;
        rows.push(CacheRow::new(cx, cache, usage));
    }
    key.sort(&mut rows);
    let total = Total::of(&rows);
    out.header(&total, &())?;
    out.heading("     MEMORY    SHARE      OBJECTS       IN USE   USE  OBJSIZE    SLABS  NAME\n")?;
    for mut row in rows.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
        row.percent = row.bytes.map(|bytes| percent(bytes, total.bytes));
        out.row(&row, &())?;
    }
    Ok(())
}

/// What caches are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Memory,
    InUse,
    FreeMemory,
    Slabs,
    Name,
    Objects,
    ObjectSize,
    Use,
}

impl Key {
    fn parse(word: &str) -> Result<Self, UsageError> {
        Ok(match word {
            "c" => Self::Memory,
            "a" => Self::InUse,
            "f" => Self::FreeMemory,
            "l" => Self::Slabs,
            "n" => Self::Name,
            "o" => Self::Objects,
            "s" => Self::ObjectSize,
            "u" => Self::Use,
            _ => return Err(UsageError::new("slabtop", format!("-s {word}: one of c, a, f, l, n, o, s, u"))),
        })
    }

    /// The largest first; by name and by use the smallest. What is not known goes last.
    fn sort(self, rows: &mut [CacheRow]) {
        let descending = |number: fn(&CacheRow) -> Option<u64>| {
            move |row: &CacheRow| (Reverse(number(row)), row.name.clone())
        };
        match self {
            Self::Memory => rows.sort_by_cached_key(descending(|row| row.bytes)),
            Self::InUse => rows.sort_by_cached_key(descending(|row| row.allocated)),
            Self::FreeMemory => rows.sort_by_cached_key(descending(CacheRow::free_bytes)),
            Self::Slabs => rows.sort_by_cached_key(descending(|row| row.slabs)),
            Self::Objects => rows.sort_by_cached_key(descending(|row| row.objects)),
            Self::ObjectSize => rows.sort_by_cached_key(descending(|row| row.object_size.map(u64::from))),
            Self::Name => rows.sort_by_cached_key(|row| row.name.clone()),
            Self::Use => rows.sort_by_cached_key(|row| {
                (row.used_percent().unwrap_or(u64::MAX), Reverse(row.bytes), row.name.clone())
            }),
        }
    }
}

/// All caches together.
#[derive(Debug, Serialize)]
struct Total {
    caches: u64,
    bytes: u64,
    /// Of caches whose pages come back under pressure.
    reclaimable_bytes: u64,
    objects: u64,
    allocated: u64,
}

impl Total {
    fn of(rows: &[CacheRow]) -> Self {
        let sum = |number: &dyn Fn(&CacheRow) -> Option<u64>| {
            rows.iter().filter_map(number).fold(0, u64::saturating_add)
        };
        Self {
            caches: rows.len() as u64,
            bytes: sum(&|row| row.bytes),
            reclaimable_bytes: sum(&|row| row.bytes.filter(|_| row.reclaimable == Some(true))),
            objects: sum(&|row| row.objects),
            allocated: sum(&|row| row.allocated),
        }
    }
}

impl Render for Total {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let share = percent(self.allocated, self.objects);
        let (all, back) = (in_unit(self.bytes), in_unit(self.reclaimable_bytes));
        writeln!(
            out,
            "{} caches have {all} ({back} reclaimable); {share:.1}% of their {} objects are in use",
            self.caches, self.objects
        )
    }
}

/// A cache.
#[derive(Clone, Debug, Default, Serialize)]
struct CacheRow {
    cache: VirtAddr,
    name: String,
    /// Memory of its slabs.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Of all slab memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    /// Objects that its slabs have room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<u64>,
    /// Objects in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size: Option<u32>,
    /// From one object to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    stride: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slabs: Option<u64>,
    /// Whether its pages come back under pressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaimable: Option<bool>,
}

impl CacheRow {
    fn new(cx: &mut Cx, cache: &Arc<SlabCache>, usage: Field<Usage>) -> Self {
        let place = || format!("kmem_cache {}", cache.at);
        let usage = cx.known(usage, "numbers of a slab cache", place);
        let pages = usage.and_then(|usage| {
            let pages = cache.pages(usage.slabs, usage.objects);
            cx.known(pages, "MEMORY of a slab cache", place)
        });
        Self {
            cache: cache.at,
            name: cache.display_name().to_string(),
            bytes: pages.map(|pages| pages.saturating_mul(PAGE_SIZE)),
            percent: None,
            objects: usage.map(|usage| usage.objects),
            allocated: usage.map(|usage| usage.allocated()),
            object_size: cx.known(cache.object_size.clone(), "OBJSIZE of a slab cache", place),
            stride: cache.size.clone().ok(),
            slabs: usage.map(|usage| usage.slabs),
            reclaimable: cache.reclaimable.clone().ok(),
        }
    }

    fn used_percent(&self) -> Option<u64> {
        let (used, all) = self.allocated.zip(self.objects).filter(|(_, all)| *all > 0)?;
        u64::try_from(u128::from(used) * 100 / u128::from(all)).ok()
    }

    fn free_bytes(&self) -> Option<u64> {
        let used = self.allocated?.saturating_mul(self.stride?.into());
        Some(self.bytes?.saturating_sub(used))
    }
}

impl Render for CacheRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let share = self.percent.map(|share| format!("{share:.1}%"));
        write!(out, "{:>11}{:>9}", Known(self.bytes.map(in_unit)), Known(share))?;
        write!(out, "{:>13}{:>13}", Known(self.objects), Known(self.allocated))?;
        // A cache without slabs has no use in percent.
        let used = match self.objects {
            Some(0) => "-".to_owned(),
            _ => Known(self.used_percent().map(|used| format!("{used}%"))).to_string(),
        };
        write!(out, "{used:>6}{:>9}{:>9}", Known(self.object_size), Known(self.slabs))?;
        writeln!(out, "  {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, bytes: Option<u64>, objects: u64, allocated: u64) -> CacheRow {
        CacheRow {
            name: name.into(),
            bytes,
            objects: Some(objects),
            allocated: Some(allocated),
            stride: Some(64),
            ..CacheRow::default()
        }
    }

    fn sorted(key: &str) -> Vec<String> {
        let mut rows = vec![
            row("b", Some(8192), 128, 64),
            row("a", Some(4096), 64, 64),
            row("lost", None, 0, 0),
            row("c", Some(8192), 128, 10),
        ];
        Key::parse(key).unwrap().sort(&mut rows);
        rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn the_largest_is_first_and_what_is_not_known_last() {
        assert_eq!(sorted("c"), ["b", "c", "a", "lost"]);
        assert_eq!(sorted("f"), ["c", "b", "a", "lost"]);
        assert_eq!(sorted("u"), ["c", "b", "a", "lost"]);
        assert_eq!(sorted("n"), ["a", "b", "c", "lost"]);
        assert!(Key::parse("x").is_err());
    }

    #[test]
    fn a_row_has_its_columns() {
        let mut text = String::new();
        let row = CacheRow {
            percent: Some(33.3),
            object_size: Some(64),
            slabs: Some(2),
            ..row("kmalloc-64", Some(8192), 128, 64)
        };
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "       8 KB    33.3%          128           64   50%       64        2  kmalloc-64\n"
        );
    }
}
