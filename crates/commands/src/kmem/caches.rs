//! Slab caches by name: which a command is about, and `kmem -s`, a line for each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::slab::{self, SlabCache, SlabCaches, Slabs, Usage};
use kdive_target::Field;
use rayon::prelude::*;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// Titles of [`CacheRow`].
pub(super) const TITLES: &str = "CACHE             OBJSIZE  ALLOCATED     TOTAL  SLABS  SSIZE  NAME\n";

/// A cache in numbers.
#[derive(Debug, Default, Serialize)]
pub(super) struct CacheRow {
    cache: VirtAddr,
    name: String,
    /// The name that it was asked for by, where that is not its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slabs: Option<u64>,
    /// Bytes of a slab.
    #[serde(skip_serializing_if = "Option::is_none")]
    slab_bytes: Option<u64>,
    /// Left out because the user said so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignored: bool,
}

impl CacheRow {
    /// The line of a cache; what it lacks is noted as a gap.
    pub(super) fn new(cx: &mut Cx, chosen: &Chosen, usage: Field<Usage>) -> Self {
        let cache = &chosen.cache;
        let place = || format!("kmem_cache {}", cache.at);
        if let Err(lacks) = &cache.name {
            cx.lacks(lacks, "NAME of a slab cache", place);
        }
        let usage = cx.known(usage, "numbers of a slab cache", place);
        let order = cx.known(cache.order.clone(), "SSIZE of a slab cache", place);
        Self {
            cache: cache.at,
            name: cache.display_name().to_string(),
            alias: chosen.alias.clone(),
            object_size: cx.known(cache.object_size.clone(), "OBJSIZE of a slab cache", place),
            allocated: usage.map(|usage| usage.allocated()),
            total: usage.map(|usage| usage.objects),
            slabs: usage.map(|usage| usage.slabs),
            slab_bytes: order.and_then(|order| PAGE_SIZE.checked_shl(order)),
            ignored: false,
        }
    }

    pub(super) fn ignored(cache: &SlabCache) -> Self {
        Self { cache: cache.at, name: cache.display_name().to_string(), ignored: true, ..Self::default() }
    }
}

impl Render for CacheRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if self.ignored {
            return writeln!(out, "{} [IGNORED]{:36}{}", self.cache, "", self.name);
        }
        let kbytes = Known(self.slab_bytes.map(|bytes| format!("{}k", bytes / 1024)));
        write!(out, "{}{:>9}{:>11}", self.cache, Known(self.object_size), Known(self.allocated))?;
        write!(out, "{:>10}{:>7}{kbytes:>7}  {}", Known(self.total), Known(self.slabs), self.name)?;
        match &self.alias {
            Some(alias) => writeln!(out, " ({alias})"),
            None => writeln!(out),
        }
    }
}

/// A cache that a command is about.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) cache: Arc<SlabCache>,
    /// The name that it was asked for by, where that is not its own.
    pub(super) alias: Option<String>,
    pub(super) ignored: bool,
}

/// The kernel's caches; why some may be lacking is noted as a gap.
pub(super) fn all(cx: &mut Cx) -> Result<SlabCaches, CommandError> {
    let kernel = cx.kernel.clone();
    let caches = Slabs::find(&kernel).caches(&kernel)?;
    if let Some(lacks) = &caches.incomplete {
        cx.lacks(lacks, "list of slab caches", String::new);
    }
    Ok(caches)
}

/// The caches of one name, which may be the alias of another, or all; those of `-I` are marked.
pub(super) fn choose(cx: &mut Cx, args: &Args, name: Option<&str>) -> Result<Vec<Chosen>, CommandError> {
    let caches = all(cx)?;
    let ignored: Vec<&str> = args.values(&["-I"]).flat_map(|names| names.split(',')).collect();
    let chosen = |cache: &Arc<SlabCache>, alias: Option<String>| {
        let ignored = cache.name.as_ref().is_ok_and(|name| ignored.contains(&&**name));
        Chosen { cache: cache.clone(), alias, ignored }
    };
    let Some(name) = name else {
        return Ok(caches.list.iter().map(|cache| chosen(cache, None)).collect());
    };
    let named: Vec<_> = caches
        .list
        .iter()
        .filter(|cache| cache.name.as_ref().is_ok_and(|own| **own == *name))
        .map(|cache| chosen(cache, None))
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let aliases = aliases(cx);
    let merged = aliases.iter().find(|(_, names)| names.iter().any(|alias| alias == name));
    let found = merged.and_then(|(at, _)| caches.list.iter().find(|cache| cache.at == *at));
    match found {
        Some(cache) => Ok(vec![chosen(cache, Some(name.to_owned()))]),
        None => Err(CommandError::NotFound {
            what: format!("kmem: there is no slab cache {name}, and no address of that name"),
            hint: Some("`kmem -s list` lists the caches".into()),
        }),
    }
}

/// The names of merged caches; why some may be lacking is noted as a gap.
fn aliases(cx: &mut Cx) -> BTreeMap<VirtAddr, Vec<String>> {
    const WHAT: &str = "names of merged slab caches";
    let Some(found) = cx.known(slab::aliases::find(&cx.kernel), WHAT, String::new) else {
        return BTreeMap::new();
    };
    if let Some(lacks) = &found.incomplete {
        cx.lacks(lacks, WHAT, String::new);
    }
    found.caches
}

/// `kmem -s`.
pub(super) fn summary(cx: &mut Cx, chosen: &[Chosen], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let usages: Vec<Option<Field<Usage>>> = chosen
        .par_iter()
        .map(|chosen| (!chosen.ignored).then(|| Usage::find(&kernel, &chosen.cache)))
        .collect();
    out.heading(TITLES)?;
    for (chosen, usage) in chosen.iter().zip(usages) {
        cx.cancel.check()?;
        let row = match usage {
            Some(usage) => CacheRow::new(cx, chosen, usage),
            None => CacheRow::ignored(&chosen.cache),
        };
        out.row(&row, &())?;
    }
    Ok(())
}

/// A cache in the list of names.
#[derive(Debug, Serialize)]
struct NameRow {
    cache: VirtAddr,
    name: String,
    /// Other names, of caches that were merged into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
}

impl Render for NameRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{} {}", self.cache, self.name)?;
        if !self.aliases.is_empty() {
            write!(out, " ({})", self.aliases.join(", "))?;
        }
        writeln!(out)
    }
}

/// `kmem -s list`.
pub(super) fn names(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let caches = all(cx)?;
    let merged = aliases(cx);
    for cache in &caches.list {
        let mut aliases = merged.get(&cache.at).cloned().unwrap_or_default();
        aliases.retain(|alias| cache.name.as_ref().is_ok_and(|name| **name != **alias));
        let row = NameRow { cache: cache.at, name: cache.display_name().to_string(), aliases };
        out.row(&row, &())?;
    }
    Ok(())
}

/// Refuses more than one operand, as crash does.
pub(super) fn one_operand(args: &Args) -> Result<Option<&str>, UsageError> {
    match args.operands.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(UsageError::new("kmem", "only one kmem_cache reference is allowed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = CacheRow {
            cache: VirtAddr(0xff27_0289_011d_9f00),
            name: "task_struct".into(),
            object_size: Some(8392),
            allocated: Some(76),
            total: Some(102),
            slabs: Some(34),
            slab_bytes: Some(32768),
            ..CacheRow::default()
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        CacheRow { ignored: true, ..row }.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "ff270289011d9f00     8392         76       102     34    32k  task_struct\n\
             ff270289011d9f00 [IGNORED]                                    task_struct\n"
        );
    }
}
