//! The layout of a type: its declaration, with offsets or the addresses of members.

use std::collections::BTreeSet;
use std::fmt;

use kdive_base::VirtAddr;
use kdive_debuginfo::{Type, TypeId, Types};
use kdive_target::show::{Line, declaration};
use serde::Serialize;

use super::shape::Shape;
use crate::sink::Render;

/// A declaration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Layout {
    /// The type, as C spells it.
    #[serde(rename = "type")]
    name: String,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Where the record lies whose members' addresses are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<VirtAddr>,
    /// The processor whose copy it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<u32>,
    /// A record's members, those of anonymous ones among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<MemberRecord>,
    /// An enum's names and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enumerators: Vec<(String, i64)>,
    #[serde(skip)]
    lines: Vec<Line>,
    /// Whether only some members are shown.
    #[serde(skip)]
    part: bool,
}

/// A member of a record.
#[derive(Clone, Debug, Serialize)]
struct MemberRecord {
    name: String,
    #[serde(rename = "type")]
    of: String,
    /// Bytes from the record's start; of a bit-field, of the byte in which it begins.
    offset: u64,
    /// First bit of a bit-field in that byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    bit: Option<u64>,
    /// Width of a bit-field.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

/// What stands before each line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margin {
    /// Offsets, or addresses where the layout has one.
    pub(crate) offsets: bool,
    /// Numbers in hexadecimal.
    pub(crate) hexadecimal: bool,
}

impl Layout {
    /// The layout of any type.
    pub(crate) fn of(types: &Types, of: TypeId) -> Self {
        let lines = declaration(types, of);
        let members = lines.iter().filter_map(|line| {
            let member = line.member.as_ref()?;
            let name = member.name.as_ref()?;
            Some(MemberRecord {
                name: kdive_base::printable(name.as_bytes()),
                of: types.name_of(member.of),
                offset: member.bit_offset / 8,
                bit: member.bit_size.map(|_| member.bit_offset % 8),
                bits: member.bit_size,
                size: types.size_of(member.of),
            })
        });
        let members = members.collect();
        let name = types.name_of(of);
        let enumerators = match types.get(of).as_deref() {
            Some(Type::Enum(kind)) => kind.values.iter().filter_map(named_value).collect(),
            _ => Vec::new(),
        };
        let size = types.size_of(of);
        Self { name, size, address: None, cpu: None, members, enumerators, lines, part: false }
    }

    /// The layout of the members that a shape names, or of all of it.
    pub(crate) fn of_shape(types: &Types, shape: &Shape) -> Self {
        let whole = match types.get(shape.of).as_deref() {
            // A typedef of a record with a name shows as the record.
            Some(Type::Typedef { .. }) if shape.members.is_empty() => Self::of(types, shape.of),
            _ => Self::of(types, types.strip(shape.of)),
        };
        if shape.members.is_empty() {
            return whole;
        }
        let mut kept = Vec::new();
        let mut members = Vec::new();
        for chosen in &shape.members {
            let same = |line: &&Line| {
                let member = line.member.as_ref();
                member.is_some_and(|member| member.name.as_deref() == Some(&*chosen.path))
            };
            let line = match whole.lines.iter().find(same) {
                Some(line) if !line.member.as_ref().is_some_and(|member| member.opened) => line.clone(),
                _ => chosen_line(types, chosen),
            };
            members.push(MemberRecord {
                name: chosen.path.clone(),
                of: types.name_of(chosen.at.of),
                offset: chosen.at.byte_offset(),
                bit: chosen.at.bit_size.map(|_| chosen.at.bit_offset % 8),
                bits: chosen.at.bit_size,
                size: types.size_of(chosen.at.of),
            });
            kept.push(line);
        }
        Self { lines: kept, members, part: true, ..whole }
    }

    /// With the addresses that its members have in the record at `address`.
    pub(crate) fn at(&self, address: VirtAddr, cpu: Option<u32>) -> Self {
        Self { address: Some(address), cpu, ..self.clone() }
    }
}

/// The line of a member that has none of its own in the declaration: one of a named member, an element.
fn chosen_line(types: &Types, chosen: &super::shape::Chosen) -> Line {
    let bits = chosen.at.bit_size.map_or_else(String::new, |bits| format!(" : {bits}"));
    let member = kdive_target::show::Declared {
        bit_offset: chosen.at.bit_offset,
        bit_size: chosen.at.bit_size,
        of: chosen.at.of,
        name: Some(chosen.path.as_str().into()),
        opened: false,
    };
    let text = format!("{}{bits};", types.declare(chosen.at.of, &chosen.path));
    Line { level: 1, text, member: Some(member) }
}

impl Layout {
    /// Text in brackets before a member's line.
    fn mark(&self, offset: u64, margin: &Margin) -> String {
        match (self.address, margin.hexadecimal) {
            (Some(address), _) => format!("[{}]", address.add(offset)),
            (None, true) => format!("[{offset:#x}]"),
            (None, false) => format!("[{offset}]"),
        }
    }

    fn line(&self, line: &Line, nested: bool, margin: &Margin, out: &mut dyn fmt::Write) -> fmt::Result {
        let indent = line.level.saturating_mul(4);
        if !margin.offsets || (line.level == 0 && !self.part) {
            return writeln!(out, "{:indent$}{}", "", line.text);
        }
        // The widest mark is that of the end.
        let width = self.mark(self.size.unwrap_or(0), margin).len().saturating_add(2);
        let named = line.member.as_ref().filter(|member| member.name.is_some() && !nested);
        let mark = named.map_or_else(String::new, |member| self.mark(member.bit_offset / 8, margin));
        let inner = indent.saturating_sub(4);
        writeln!(out, "{mark:>width$} {:inner$}{}", "", line.text)
    }
}

impl Render for Layout {
    type View = Margin;

    fn render(&self, margin: &Margin, out: &mut dyn fmt::Write) -> fmt::Result {
        if let (Some(cpu), Some(address)) = (self.cpu, self.address) {
            writeln!(out, "[{cpu}]: {address}")?;
        }
        if self.part {
            writeln!(out, "{} {{", self.name)?;
        }
        if !self.enumerators.is_empty() {
            writeln!(out, "{} {{", self.name)?;
            self.enumerators.iter().try_for_each(|(name, value)| writeln!(out, "  {name} = {value}"))?;
            return writeln!(out, "}};");
        }
        let nested = inside_named(&self.lines);
        for (line, nested) in self.lines.iter().zip(nested) {
            self.line(line, nested, margin, out)?;
        }
        if self.part {
            return writeln!(out, "}}");
        }
        match self.size {
            Some(size) if margin.hexadecimal => writeln!(out, "SIZE: {size:#x}"),
            Some(size) => writeln!(out, "SIZE: {size}"),
            None => Ok(()),
        }
    }
}

fn named_value((name, value): &(Box<str>, i128)) -> Option<(String, i64)> {
    Some((kdive_base::printable(name.as_bytes()), i64::try_from(*value).ok()?))
}

/// Which lines lie inside a named member: crash shows no offsets there, except those of a group that has an anonymous twin
/// at the same place, as `struct_group()` makes them.
fn inside_named(lines: &[Line]) -> Vec<bool> {
    let mut inside = vec![false; lines.len()];
    for (end, line) in lines.iter().enumerate() {
        let opened = line.member.as_ref().filter(|member| member.opened && member.name.is_some());
        if opened.is_none() {
            continue;
        }
        let deeper = lines.iter().take(end).rev().take_while(|before| before.level > line.level).count();
        let start = end.saturating_sub(deeper);
        if let Some(lines) = inside.get_mut(start..end) {
            lines.fill(true);
        }
    }
    let place = |line: &Line| {
        let member = line.member.as_ref()?;
        Some((member.name.clone()?, member.bit_offset))
    };
    let outside: BTreeSet<_> = lines
        .iter()
        .zip(&inside)
        .filter(|(_, inside)| !**inside)
        .filter_map(|(line, _)| place(line))
        .collect();
    for (line, inside) in lines.iter().zip(&mut inside) {
        *inside = *inside && place(line).is_none_or(|place| !outside.contains(&place));
    }
    inside
}
