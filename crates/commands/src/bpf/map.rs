//! A map as a record.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::bpf::{Map, MapLoader};
use serde::Serialize;

use super::View;
use super::program::quoted;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::Render;

/// As wide as the longest type of a kernel of 2024 makes it.
const KIND_WIDTH: usize = 31;

/// The width of the column of types: crash's, from the longest that the kernel knows.
pub(super) fn kind_width(maps: &MapLoader<'_>) -> usize {
    maps.longest_kind().map_or(KIND_WIDTH, |longest| longest.saturating_sub(1))
}

pub(super) fn titles(kind_width: usize) -> String {
    format!(" ID      BPF_MAP      {:^kind_width$} MAP_FLAGS\n", "BPF_MAP_TYPE")
}

/// A map.
#[derive(Debug, Serialize)]
pub(super) struct MapRow {
    pub(super) id: u32,
    pub(super) map: VirtAddr,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) flags: Option<u32>,
    pub(super) key_size: Option<u32>,
    pub(super) value_size: Option<u32>,
    pub(super) max_entries: Option<u32>,
    /// Bytes of memory that it takes.
    pub(super) memlock: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) uid: Option<u32>,
    /// Whether this kernel notes who made it.
    #[serde(skip)]
    pub(super) has_uid: bool,
}

impl MapRow {
    pub(super) fn new(cx: &mut Cx, map: &Map) -> Self {
        let place = || format!("map {}", map.id);
        Self {
            id: map.id,
            map: map.at,
            kind: cx.known(map.kind.clone(), "type", place),
            flags: cx.known(map.flags.clone(), "flags", place),
            key_size: cx.known(map.key_bytes.clone(), "key size", place),
            value_size: cx.known(map.value_bytes.clone(), "value size", place),
            max_entries: cx.known(map.most.clone(), "number of entries", place),
            memlock: cx.known(map.locked.clone(), "memory locked", place),
            name: cx.known(map.name.clone(), "name", place).and_then(|name| name.0),
            uid: map.uid.clone().and_then(|uid| cx.known(uid, "user", place)),
            has_uid: map.uid.is_some(),
        }
    }
}

impl Render for MapRow {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let kind = self.kind.as_deref().unwrap_or(UNKNOWN);
        let flags = self.flags.map_or_else(|| UNKNOWN.to_owned(), |flags| format!("{flags:08x}"));
        writeln!(out, " {:<3} {} {kind:^width$}  {flags} ", self.id, self.map, width = view.kind_width)?;
        if !view.full {
            return Ok(());
        }
        let [key, value, most] = [self.key_size, self.value_size, self.max_entries].map(Known);
        let memlock = Known(self.memlock);
        writeln!(out, "     KEY_SIZE: {key}  VALUE_SIZE: {value}  MAX_ENTRIES: {most}  MEMLOCK: {memlock}")?;
        write!(out, "     NAME: {}  UID: ", quoted(self.name.as_deref()))?;
        match self.has_uid {
            true => writeln!(out, "{}", Known(self.uid)),
            false => writeln!(out, "(unused)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_crashs() {
        let row = MapRow {
            id: 10,
            map: VirtAddr(0xff1c_1349_0b6d_4a00),
            kind: Some("HASH".into()),
            flags: Some(1),
            key_size: Some(4),
            value_size: Some(8),
            max_entries: Some(2),
            memlock: Some(4096),
            name: None,
            uid: None,
            has_uid: false,
        };
        let mut text = String::new();
        row.render(&View { full: true, kind_width: 31 }, &mut text).unwrap();
        assert_eq!(
            text,
            " 10  ff1c13490b6d4a00              HASH                00000001 \n     \
             KEY_SIZE: 4  VALUE_SIZE: 8  MAX_ENTRIES: 2  MEMLOCK: 4096\n     NAME: (unused)  UID: (unused)\n"
        );
    }
}
