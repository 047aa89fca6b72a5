//! A tree as JSON: what a program wants to know of the value, without its layout.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use kdive_debuginfo::types::Encoding;

use super::Shown;
use super::node::{Array, Member, Node, Pointer};

impl Serialize for Shown {
    /// As [`Node`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.node.serialize(serializer)
    }
}

impl Serialize for Node {
    /// Records are objects with their members in order, those of anonymous members among them as in C. Integers are
    /// numbers, enums their enumerators, character arrays text up to the NULs at their end. A pointer is a string that
    /// begins with the address, followed by `<symbol+offset>` where one is known. What cannot be read is
    /// `{"unavailable": reason}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(integer) => match (integer.encoding, integer.raw) {
                (Encoding::Bool, raw @ (0 | 1)) => serializer.serialize_bool(raw == 1),
                _ => number(integer.value(), serializer),
            },
            Self::Enum { name: Some(name), .. } => serializer.serialize_str(name),
            Self::Enum { name: None, value } => number(*value, serializer),
            Self::Float(text) => match text.parse::<f64>().ok().filter(|value| value.is_finite()) {
                Some(value) => serializer.serialize_f64(value),
                None => serializer.serialize_str(text),
            },
            Self::Pointer(pointer) | Self::Function(pointer) => serializer.serialize_str(&named(pointer)),
            Self::Text(text) => {
                let end =
                    text.bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last.saturating_add(1));
                let own = text.bytes.get(..end).unwrap_or_default();
                serializer.serialize_str(&kdive_base::printable(own))
            }
            Self::Record(members) => {
                let mut map = serializer.serialize_map(None)?;
                entries::<S>(members, &mut map)?;
                map.end()
            }
            Self::Array(array) => items(array, serializer),
            Self::Void | Self::Incomplete | Self::Elided => serializer.serialize_none(),
            Self::Unavailable(missing) => {
                let why = missing.map_or("unknown", |missing| missing.why.slug());
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("unavailable", why)?;
                map.end()
            }
        }
    }
}

/// JSON knows no integers of 128 bits: those beyond 64 are hexadecimal strings.
fn number<S: Serializer>(value: i128, serializer: S) -> Result<S::Ok, S::Error> {
    match (u64::try_from(value), i64::try_from(value)) {
        (Ok(value), _) => serializer.serialize_u64(value),
        (_, Ok(value)) => serializer.serialize_i64(value),
        _ => serializer.collect_str(&format_args!("{value:#x}")),
    }
}

fn named(pointer: &Pointer) -> String {
    match &pointer.symbol {
        Some(symbol) => format!("{:#x} <{symbol}>", pointer.address.0),
        None => format!("{:#x}", pointer.address.0),
    }
}

fn entries<S: Serializer>(members: &[Member], map: &mut S::SerializeMap) -> Result<(), S::Error> {
    for member in members {
        match (&member.name, &member.node) {
            (None, Node::Record(inner)) => entries::<S>(inner, map)?,
            (None, node) => map.serialize_entry("", node)?,
            (Some(name), node) => map.serialize_entry(&kdive_base::printable(name.as_bytes()), node)?,
        }
    }
    Ok(())
}

fn items<S: Serializer>(array: &Array, serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    array.items.iter().try_for_each(|item| list.serialize_element(item))?;
    if array.more > 0 {
        list.serialize_element(&More { more: array.more })?;
    }
    list.end()
}

/// Stands at the end of an array that is not shown whole.
#[derive(Serialize)]
struct More {
    more: u64,
}
