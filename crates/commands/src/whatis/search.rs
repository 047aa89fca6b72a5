//! Types by size (`-r`) and by what they hold (`-m`).

use std::fmt;
use std::ops::RangeInclusive;

use kdive_debuginfo::{Tag, Type, TypeId, Types};
use rayon::iter::{IntoParallelIterator as _, IntoParallelRefIterator as _, ParallelIterator as _};
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};

/// A type of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Row {
    /// Size in bytes.
    size: u64,
    #[serde(rename = "type")]
    name: String,
    /// The module that has it; `None` for the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

impl Render for Row {
    /// Width of the sizes.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:>width$}  {}", self.size, self.name)?;
        match &self.module {
            Some(module) => writeln!(out, " [{module}]"),
            None => writeln!(out),
        }
    }
}

/// Lists the types of some sizes that hold something, in the order of their sizes.
pub(super) fn list(
    cx: &mut Cx,
    sizes: Option<&str>,
    held: Option<&str>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let sizes = sizes.map_or(Ok(1..=u64::MAX), range)?;
    let kernel = cx.kernel.clone();
    let types = kernel.all_types()?;
    for lacks in kernel.module_types_lacking().unwrap_or_default() {
        cx.lacks(lacks, "types of modules", String::new);
    }
    let mut rows = of_sizes(types, &sizes);
    if let Some(name) = held {
        let wanted = Wanted::new(types, name)?;
        rows = rows.into_par_iter().filter(|(_, of)| wanted.is_held_by(*of)).collect();
    }
    cx.cancel.check()?;
    let mut rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
    rows.sort_unstable();
    rows.dedup();
    if rows.is_empty() {
        return Err(CommandError::not_found("whatis: no type is like that"));
    }
    let widest = rows.last().map_or(0, |row| row.size.to_string().len());
    let width = widest.max("SIZE".len());
    out.heading(&format!("{:>width$}  TYPE\n", "SIZE"))?;
    rows.iter().try_for_each(|row| Ok(out.row(row, &width)?))
}

/// `192`, `0xc0`, `100-200`.
fn range(text: &str) -> Result<RangeInclusive<u64>, UsageError> {
    let wrong = || UsageError::new("whatis", format!("-r {text}: expected a size in bytes, or lo-hi"));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (operand::number(low).ok_or_else(wrong)?, operand::number(high).ok_or_else(wrong)?);
    if low > high { Err(wrong()) } else { Ok(low..=high) }
}

/// All named types of these sizes: records, integers, and typedefs of records without a name. The kernel's hide those
/// of modules that are the same.
fn of_sizes(types: &Types, sizes: &RangeInclusive<u64>) -> Vec<(Row, TypeId)> {
    let mut named: Vec<(String, TypeId)> = Vec::new();
    for tag in [Tag::Struct, Tag::Union, Tag::Typedef, Tag::Base] {
        types.for_each_name(tag, |name, id| named.push((name.to_owned(), id)));
    }
    let fits = |(name, id): (String, TypeId)| {
        let counts = match types.get(id).as_deref()? {
            Type::Record(_) | Type::Int { .. } | Type::Float { .. } => true,
            Type::Typedef { to, .. } => {
                matches!(types.get(*to).as_deref(), Some(Type::Record(record)) if record.name.is_none())
            }
            _ => false,
        };
        let size = types.size_of(id).filter(|size| counts && sizes.contains(size))?;
        let module = types.module_of(id).map(str::to_owned);
        Some((Row { size, name, module }, id))
    };
    let mut found: Vec<(Row, TypeId)> = named.into_par_iter().filter_map(fits).collect();
    let own: FxHashSet<(u64, String)> = found
        .par_iter()
        .filter(|(row, _)| row.module.is_none())
        .map(|(row, _)| (row.size, row.name.clone()))
        .collect();
    found.retain(|(row, _)| row.module.is_none() || !own.contains(&(row.size, row.name.clone())));
    found
}

/// A type that is looked for in others.
struct Wanted<'t> {
    types: &'t Types,
    /// Its name, without a keyword.
    name: String,
}

/// Records and arrays inside each other.
const DEEPEST: usize = 32;

impl<'t> Wanted<'t> {
    fn new(types: &'t Types, text: &str) -> Result<Self, CommandError> {
        let name = text.trim_end_matches(['*', ' ']);
        let name = ["struct ", "union ", "enum "]
            .iter()
            .find_map(|keyword| name.strip_prefix(keyword))
            .unwrap_or(name);
        let name = name.trim();
        let tags = [Tag::Struct, Tag::Union, Tag::Enum, Tag::Typedef, Tag::Base];
        if tags.iter().all(|&tag| types.find_all(tag, name).is_empty()) {
            let near = tags.iter().flat_map(|&tag| types.near(tag, name)).next();
            return Err(CommandError::NotFound {
                what: format!("whatis: no type is named {name}"),
                hint: near.map(|near| format!("did you mean {near}?")),
            });
        }
        let id = types.find(Tag::Base, name).ok();
        let spelled = id.and_then(|id| match types.get(id).as_deref() {
            Some(Type::Int { name, .. }) => Some(name.to_string()),
            _ => None,
        });
        Ok(Self { types, name: spelled.unwrap_or_else(|| name.to_owned()) })
    }

    /// Whether a type has a member of it, or a pointer to it, at any depth of what it embeds.
    fn is_held_by(&self, of: TypeId) -> bool {
        match self.types.stripped(of).as_deref() {
            Some(Type::Record(record)) => record.members.iter().any(|member| self.is_or_holds(member.of, 0)),
            _ => false,
        }
    }

    fn is_or_holds(&self, of: TypeId, depth: usize) -> bool {
        let mut at = of;
        let mut pointed = false;
        for _ in 0..DEEPEST {
            let next = match self.types.get(at).as_deref() {
                Some(Type::Typedef { name, to }) => {
                    if **name == *self.name {
                        return true;
                    }
                    *to
                }
                Some(Type::Qualified { of, .. } | Type::Array { of, .. }) => *of,
                Some(Type::Pointer { to, .. }) => {
                    pointed = true;
                    *to
                }
                Some(Type::Declaration { name, .. }) => return **name == *self.name,
                Some(Type::Int { name, .. } | Type::Float { name, .. }) => return **name == *self.name,
                Some(Type::Enum(of)) => return of.name.as_deref() == Some(&*self.name),
                Some(Type::Record(record)) => {
                    // What a pointer leads to is not held.
                    return record.name.as_deref() == Some(&*self.name)
                        || (!pointed
                            && depth < DEEPEST
                            && record
                                .members
                                .iter()
                                .any(|member| self.is_or_holds(member.of, depth.saturating_add(1))));
                }
                _ => return false,
            };
            at = next;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_or_a_range() {
        assert_eq!(range("192").unwrap(), 192..=192);
        assert_eq!(range("0x10-0x20").unwrap(), 16..=32);
        assert!(range("20-10").is_err());
        assert!(range("x").is_err());
    }

    #[test]
    fn lines_are_crashs() {
        let row = |size, module: Option<&str>| {
            let mut text = String::new();
            let row = Row { size, name: "futex_q".into(), module: module.map(str::to_owned) };
            row.render(&4, &mut text).unwrap();
            text
        };
        assert_eq!(row(128, None), " 128  futex_q\n");
        assert_eq!(row(12_345, Some("zram")), "12345  futex_q [zram]\n");
    }
}
