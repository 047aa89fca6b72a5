//! A record, or members of it, at an address.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_target::show::{Shown, Style};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::shape::Chosen;
use crate::sink::Render;

/// What was read of a record.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Where the record begins.
    pub(crate) address: VirtAddr,
    /// The processor whose copy it is.
    pub(crate) cpu: Option<u32>,
    /// Its type.
    pub(crate) name: String,
    /// The whole, or each of the members.
    pub(crate) parts: Vec<Part>,
}

/// The whole record, or one member of it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The member's path; `None` for the whole.
    path: Option<String>,
    /// How far it is indented, in steps of two blanks.
    level: usize,
    /// Whether a comma follows, as inside the whole record.
    comma: bool,
    shown: Shown,
}

impl Part {
    pub(super) fn whole(shown: Shown) -> Self {
        Self { path: None, level: 0, comma: false, shown }
    }

    /// A member; `bare` without the comma, and not further in for the unnamed records around it.
    pub(super) fn member(member: &Chosen, shown: Shown, bare: bool) -> Self {
        let level = if bare { 1 } else { member.nested.saturating_add(1) };
        Self { path: Some(member.path.clone()), level, comma: !member.last && !bare, shown }
    }
}

impl Serialize for Row {
    /// `{"address", "cpu", "type", "value"}`; the value of chosen members is an object by their paths.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("address", &self.address)?;
        if let Some(cpu) = self.cpu {
            map.serialize_entry("cpu", &cpu)?;
        }
        map.serialize_entry("type", &self.name)?;
        match self.parts.as_slice() {
            [Part { path: None, shown, .. }] => map.serialize_entry("value", shown)?,
            parts => map.serialize_entry("value", &Members(parts))?,
        }
        map.end()
    }
}

struct Members<'p>(&'p [Part]);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for part in self.0 {
            map.serialize_entry(part.path.as_deref().unwrap_or_default(), &part.shown)?;
        }
        map.end()
    }
}

impl Render for Row {
    type View = Style;

    fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        if let Some(cpu) = self.cpu {
            writeln!(out, "[{cpu}]: {}", self.address)?;
        }
        self.parts.iter().try_for_each(|part| match part.path {
            None => writeln!(out, "{} {}", self.name, part.shown.text_within(style, 0)),
            Some(_) => part.render(style, out),
        })
    }
}

impl Part {
    /// A member's line, or lines.
    pub(super) fn render(&self, style: &Style, out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { path, level, comma, shown } = self;
        let path = path.as_deref().unwrap_or_default();
        let comma = if *comma { "," } else { "" };
        let text = shown.text_within(style, *level);
        writeln!(out, "{:1$}{path} = {text}{comma}", "", level.saturating_mul(2))
    }
}
