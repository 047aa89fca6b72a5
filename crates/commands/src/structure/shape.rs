//! What is to be shown of a record: `task_struct.pid,comm,se.avg`. `struct`, `list -s` and `tree -s` read it alike.

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::types::{Lookup, MemberAt, Record};
use kdive_debuginfo::{Tag, Type, TypeId, Types};
use kdive_target::Kernel;
use kdive_target::c::{Stored, Value};
use kdive_target::show::{Shown, Style};

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;

use super::row::{Part, Row};

/// A record type, and the members of it that are wanted; all of it where none are named.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// The type.
    pub(crate) of: TypeId,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// As C spells it: `struct task_struct`.
    pub(crate) name: String,
    /// The members, in the order in which they were typed.
    pub(crate) members: Vec<Chosen>,
    /// Members without commas, and text up to its zero: crash's `-S`.
    pub(crate) bare: bool,
}

/// A member that was named.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// As typed: `se.avg`, `pid_links[1]`.
    pub(crate) path: String,
    /// Where it lies.
    pub(crate) at: MemberAt,
    /// Anonymous records around it, which indent it as they do in the whole record.
    pub(crate) nested: usize,
    /// Whether nothing follows it in its record.
    pub(crate) last: bool,
}

/// Which kinds of types a name may be of.
pub(crate) const STRUCT: &[Tag] = &[Tag::Struct, Tag::Typedef];
pub(crate) const UNION: &[Tag] = &[Tag::Union, Tag::Typedef];
pub(crate) const ANY: &[Tag] = &[Tag::Struct, Tag::Union, Tag::Typedef];

impl Shape {
    /// Takes `name[.member[,member]...]` apart. `@` behind the name chooses between several definitions of it: by their
    /// module (`@kernel`, `@xfs`) or by their number in the list that an ambiguous name gives.
    pub(crate) fn parse(cx: &Cx, command: &str, tags: &[Tag], text: &str) -> Result<Self, CommandError> {
        let (name, members) = match text.split_once('.') {
            Some((name, members)) => (name, members.split(',').collect()),
            None => (text, Vec::new()),
        };
        let (name, which) = match name.split_once('@') {
            Some((name, which)) => (name, Some(which)),
            None => (name, None),
        };
        let (types, of) = find(&cx.kernel, command, tags, name, which, members.first().copied())?;
        let incomplete = || CommandError::not_found(format!("{command}: only the name of {name} is known"));
        let Some(Type::Record(record)) = types.stripped(of).as_deref().cloned() else {
            return Err(incomplete());
        };
        let choose = |path: &&str| choose(command, types, of, &record, path);
        let members = members.iter().map(choose).collect::<Result<_, _>>()?;
        Ok(Self { of, bytes: record.bytes, name: types.name_of(of), members, bare: false })
    }

    /// The types among which this one is found.
    pub(crate) fn types<'k>(&self, kernel: &'k Kernel) -> Result<&'k Types, CommandError> {
        Ok(kernel.types_knowing(self.of)?)
    }

    /// Reads the record, or its chosen members, at an address of the kernel. What is missing is noted.
    pub(crate) fn row(&self, cx: &mut Cx, at: VirtAddr, style: &Style) -> Result<Row, CommandError> {
        let kernel = cx.kernel.clone();
        self.row_in(cx, kernel.memory(), at, style)
    }

    /// As [`Shape::row`], in some other memory.
    pub(crate) fn row_in(
        &self,
        cx: &mut Cx,
        memory: &dyn VirtualMemory,
        at: VirtAddr,
        style: &Style,
    ) -> Result<Row, CommandError> {
        let kernel = cx.kernel.clone();
        let types = self.types(&kernel)?;
        let style = &Style { null_stop: style.null_stop || self.bare, ..*style };
        let mut show = |value: &Value, what: &str| {
            let shown = kernel.shown(types, memory, value, style);
            note(cx, &shown, what, at);
            shown
        };
        let parts = match self.members.is_empty() {
            true => vec![Part::whole(show(&Value::object(self.of, at), &self.name))],
            false => self
                .members
                .iter()
                .map(|member| {
                    let shown = show(&member.value(at), &format!("{}.{}", self.name, member.path));
                    Part::member(member, shown, self.bare)
                })
                .collect(),
        };
        Ok(Row { address: at, cpu: None, name: self.name.clone(), parts })
    }
}

/// Notes what of a value could not be read.
pub(crate) fn note(cx: &mut Cx, shown: &Shown, what: &str, at: VirtAddr) {
    for missing in &shown.missing {
        cx.lacks(&(*missing).into(), what, || at.to_string());
    }
}

impl Chosen {
    /// The member of the record at an address.
    pub(crate) fn value(&self, record: VirtAddr) -> Value {
        let stored = match self.at.bit_size {
            None => Stored::Memory(record.add(self.at.byte_offset())),
            Some(width) => Stored::Bits { record, offset: self.at.bit_offset, width },
        };
        Value { of: self.at.of, stored }
    }
}

/// A record type by name: the kernel's, or else of a module whose types are then read.
fn find<'k>(
    kernel: &'k Kernel,
    command: &str,
    tags: &[Tag],
    name: &str,
    which: Option<&str>,
    having: Option<&str>,
) -> Result<(&'k Types, TypeId), CommandError> {
    let own = kernel.types()?;
    if let Some(which) = which {
        return chosen(kernel.all_types()?, command, tags, name, which);
    }
    for all in [false, true] {
        let types = if all { kernel.all_types()? } else { own };
        for &tag in tags {
            let found = match having {
                Some(member) => types.find_having(tag, name, member),
                None => types.find(tag, name),
            };
            match found {
                Ok(id) if is_record(types, id) => return Ok((types, id)),
                Err(Lookup::Ambiguous { .. }) => return Err(ambiguous(types, command, tag, name)),
                _ => {}
            }
        }
    }
    Err(unknown(kernel.all_types()?, command, tags, name))
}

fn is_record(types: &Types, id: TypeId) -> bool {
    matches!(types.stripped(id).as_deref(), Some(Type::Record(_)))
}

/// All definitions that a name has, the kernel's first.
fn definitions(types: &Types, tags: &[Tag], name: &str) -> Vec<TypeId> {
    let all = tags.iter().flat_map(|&tag| types.find_all(tag, name));
    all.filter(|&id| is_record(types, id)).collect()
}

fn chosen<'k>(
    types: &'k Types,
    command: &str,
    tags: &[Tag],
    name: &str,
    which: &str,
) -> Result<(&'k Types, TypeId), CommandError> {
    let all = definitions(types, tags, name);
    let of_module = |id: &&TypeId| types.module_of(**id).unwrap_or("kernel") == which.replace('-', "_");
    let found = match which.parse::<usize>() {
        Ok(number) => number.checked_sub(1).and_then(|index| all.get(index)),
        Err(_) => all.iter().find(of_module),
    };
    match (found, tags.first()) {
        (Some(&id), _) => Ok((types, id)),
        (None, Some(&tag)) if !all.is_empty() => Err(ambiguous(types, command, tag, name)),
        _ => Err(unknown(types, command, tags, name)),
    }
}

fn ambiguous(types: &Types, command: &str, tag: Tag, name: &str) -> CommandError {
    let definition = |(index, id): (usize, TypeId)| {
        let module = types.module_of(id).unwrap_or("kernel");
        let bytes = types.size_of(id).unwrap_or(0);
        let names = match types.stripped(id).as_deref() {
            Some(Type::Record(record)) => {
                let names = record.members.iter().filter_map(|member| member.name.as_deref());
                names
                    .take(3)
                    .map(|name| kdive_base::printable(name.as_bytes()))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
            _ => String::new(),
        };
        format!("{name}@{} ({module}, {bytes} bytes: {names}...)", index.saturating_add(1))
    };
    let all: Vec<_> = definitions(types, &[tag], name).into_iter().enumerate().map(definition).collect();
    CommandError::NotFound {
        what: format!("{command}: {tag} {name} has {} different definitions", all.len()),
        hint: Some(format!("choose one: {}", all.join("; "))),
    }
}

fn unknown(types: &Types, command: &str, tags: &[Tag], name: &str) -> CommandError {
    for other in [Tag::Struct, Tag::Union, Tag::Typedef, Tag::Enum] {
        if types.find(other, name).is_ok() {
            let hint = match other {
                Tag::Enum | Tag::Typedef => format!("`whatis {name}` shows it"),
                other => format!("`{other} {name}` shows it"),
            };
            let wanted = tags.first().map_or("record", |tag| tag.word());
            let what = format!("{command}: data type mismatch: {name} is not a {wanted}");
            return CommandError::NotFound { what, hint: Some(hint) };
        }
    }
    let near = tags.iter().flat_map(|&tag| types.near(tag, name)).next();
    CommandError::NotFound {
        what: format!("{command}: invalid data structure reference: {name}"),
        hint: near.map(|near| format!("did you mean {near}?")),
    }
}

fn choose(
    command: &str,
    types: &Types,
    of: TypeId,
    record: &Record,
    path: &str,
) -> Result<Chosen, CommandError> {
    if path.is_empty() {
        return Err(UsageError::new(command, "a member's name is missing").into());
    }
    let at = types.member(of, path).map_err(|error| CommandError::NotFound {
        what: format!("{command}: {error}"),
        hint: near_member(types, record, path),
    })?;
    let (nested, last) = match path.rsplit_once('.') {
        Some((outer, name)) => (0, is_last(types, of, outer, name)),
        None => standing(types, record, path, 0).unwrap_or((0, true)),
    };
    Ok(Chosen { path: path.to_owned(), at, nested, last })
}

/// Whether a member, its indices left aside, is the last of the record that a path leads to.
fn is_last(types: &Types, of: TypeId, outer: &str, name: &str) -> bool {
    let name = name.split('[').next().unwrap_or(name);
    let Ok(outer) = types.member(of, outer) else { return true };
    match types.stripped(outer.of).as_deref() {
        Some(Type::Record(record)) => standing(types, record, name, 0).is_none_or(|(_, last)| last),
        _ => true,
    }
}

fn near_member(types: &Types, record: &Record, path: &str) -> Option<String> {
    let mut close = kdive_debuginfo::types::Closest::new(path);
    offer(types, record, &mut close, 0);
    close.take().first().map(|near| format!("did you mean {near}?"))
}

fn offer(types: &Types, record: &Record, close: &mut kdive_debuginfo::types::Closest<'_>, depth: usize) {
    for member in &record.members {
        match (&member.name, types.stripped(member.of).as_deref()) {
            (Some(name), _) => close.offer(name),
            (None, Some(Type::Record(inner))) if depth < DEEPEST => {
                offer(types, inner, close, depth.saturating_add(1));
            }
            _ => {}
        }
    }
}

/// Anonymous records inside each other: real ones are below ten.
const DEEPEST: usize = 32;

/// How many anonymous records a direct member lies in, and whether it is the last of its record.
fn standing(types: &Types, record: &Record, name: &str, depth: usize) -> Option<(usize, bool)> {
    let count = record.members.len();
    for (index, member) in record.members.iter().enumerate() {
        if member.name.as_deref() == Some(name) {
            return Some((depth, index.saturating_add(1) == count));
        }
        if member.name.is_none()
            && depth < DEEPEST
            && let Some(Type::Record(inner)) = types.stripped(member.of).as_deref()
            && let Some(found) = standing(types, inner, name, depth.saturating_add(1))
        {
            return Some(found);
        }
    }
    None
}
