//! Members that are pointers, and what they point to (`-p`).

use std::fmt;

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::types::Member;
use kdive_debuginfo::{Type, TypeId, Types};
use kdive_target::c::Value;
use kdive_target::show::{Node, Shown, Style};
use serde::Serialize;

use super::operands::Place;
use super::row::Part;
use super::shape::{Chosen, Shape, note};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// A record whose pointers are followed.
#[derive(Serialize)]
struct Followed {
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(rename = "type")]
    name: String,
    /// Whether the record is shown whole.
    #[serde(skip)]
    whole: bool,
    members: Vec<One>,
}

/// One member of it.
#[derive(Serialize)]
struct One {
    name: String,
    value: Shown,
    /// What a pointer leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(skip)]
    part: Part,
}

#[derive(Serialize)]
struct Target {
    /// `struct mm_struct *mm`
    #[serde(skip)]
    declaration: String,
    address: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
}

impl Render for Followed {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(cpu) = self.cpu {
            writeln!(out, "[{cpu}]: {}", self.address)?;
        }
        if self.whole {
            writeln!(out, "{} {{", self.name)?;
        }
        for one in &self.members {
            match &one.target {
                None => one.part.render(style, out)?,
                Some(target) => target.render(style, out)?,
            }
        }
        if self.whole { writeln!(out, "}}") } else { Ok(()) }
    }
}

impl Target {
    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  {} = {:#}", self.declaration, self.address)?;
        if self.address.0 == 0 {
            return writeln!(out, "  -> NULL");
        }
        let symbol = self.symbol.as_ref().map(|symbol| format!("<{symbol}>"));
        let value = self.value.as_ref().map(|value| match &value.node {
            Node::Record(_) => value.text_within(style, 0).replace('\n', "\n     "),
            _ => value.text_within(style, 0),
        });
        let parts: Vec<String> = symbol.into_iter().chain(value).collect();
        writeln!(out, "  -> {}", parts.join(" "))
    }
}

/// Shows a record, or chosen members of it, and what its pointers lead to.
pub(super) fn show(
    cx: &mut Cx,
    shape: &Shape,
    memory: &dyn VirtualMemory,
    place: Place,
    style: &Style,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let types = shape.types(&kernel)?;
    let whole = shape.members.is_empty();
    let chosen = if whole { direct(types, shape.of) } else { shape.members.clone() };
    let mut members = Vec::new();
    for member in &chosen {
        cx.cancel.check()?;
        let what = format!("{}.{}", shape.name, member.path);
        let value = kernel.shown(types, memory, &member.value(place.at), style);
        note(cx, &value, &what, place.at);
        let target = target(cx, types, memory, member, &value, style);
        let part = Part::member(member, value.clone(), false);
        members.push(One { name: member.path.clone(), value, target, part });
    }
    let followed = Followed { address: place.at, cpu: place.cpu, name: shape.name.clone(), whole, members };
    Ok(out.row(&followed, style)?)
}

/// A record's own named members.
fn direct(types: &Types, of: TypeId) -> Vec<Chosen> {
    let Some(Type::Record(record)) = types.stripped(of).as_deref().cloned() else { return Vec::new() };
    let count = record.members.len();
    let chosen = |(index, member): (usize, &Member)| {
        let path = member.name.as_deref()?.to_owned();
        let at = types.member(of, &path).ok()?;
        Some(Chosen { path, at, nested: 0, last: index.saturating_add(1) == count })
    };
    record.members.iter().enumerate().filter_map(chosen).collect()
}

fn target(
    cx: &mut Cx,
    types: &Types,
    memory: &dyn VirtualMemory,
    member: &Chosen,
    value: &Shown,
    style: &Style,
) -> Option<Target> {
    let Node::Pointer(pointer) = &value.node else { return None };
    let kernel = cx.kernel.clone();
    let Some(Type::Pointer { to, .. }) = types.stripped(member.at.of).as_deref().cloned() else {
        return None;
    };
    let declaration = types.declare(member.at.of, &member.path);
    let address = pointer.address;
    let types = kernel.types_knowing(to).unwrap_or(types);
    let followed = match (&pointer.text, types.stripped(to).as_deref()) {
        _ if address.0 == 0 => None,
        (Some(_), _) => Some(value.text_of_pointer()),
        (None, Some(Type::Function(_) | Type::Void | Type::Declaration { .. }) | None) => None,
        (None, Some(_)) => {
            let shown = kernel.shown(types, memory, &Value::object(to, address), style);
            note(cx, &shown, &format!("*{}", member.path), address);
            Some(shown)
        }
    };
    Some(Target { declaration, address, symbol: pointer.symbol.clone(), value: followed })
}
