//! A program as a record.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::bpf::{Program, ProgramLoader};
use kdive_linux::system::Clock;
use serde::Serialize;

use super::View;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN, date};
use crate::sink::Render;

pub(super) const TITLES: &str =
    " ID      BPF_PROG       BPF_PROG_AUX   BPF_PROG_TYPE       TAG        USED_MAPS\n";

/// A program.
#[derive(Debug, Serialize)]
pub(super) struct ProgramRow {
    pub(super) id: u32,
    pub(super) prog: VirtAddr,
    pub(super) aux: Option<VirtAddr>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) used_maps: Option<Vec<u32>>,
    /// Bytes of its instructions after verification.
    pub(super) xlated: Option<u64>,
    /// Bytes of its compiled code, subprograms included; 0 where it is interpreted.
    pub(super) jited: Option<u64>,
    /// Bytes of memory locked for it.
    pub(super) memlock: Option<u64>,
    /// Nanoseconds from boot to its loading.
    pub(super) load_time: Option<u64>,
    /// The same by the clock.
    pub(super) loaded: Option<String>,
    pub(super) gpl_compatible: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) uid: Option<u32>,
}

impl ProgramRow {
    pub(super) fn new(cx: &mut Cx, loader: &ProgramLoader<'_>, program: &Program) -> Self {
        let kernel = cx.kernel.clone();
        let place = || format!("program {}", program.id);
        let jited = loader.compiled(program);
        let jited = jited.map(|all| all.iter().map(|one| u64::from(one.bytes)).sum());
        let boot = Clock::find(&kernel).map(|clock| clock.boot_ns);
        let load_time = cx.known(program.loaded.clone(), "load time", place);
        let loaded = cx.known(boot, "load time", place).zip(load_time);
        Self {
            id: program.id,
            prog: program.at,
            aux: cx.known(program.aux.clone(), "bpf_prog_aux", place),
            kind: cx.known(program.kind.clone(), "type", place),
            tag: cx.known(program.tag.clone(), "tag", place),
            used_maps: cx.known(program.maps.clone(), "maps", place),
            xlated: cx.known(program.instructions.clone(), "size", place).map(|count| u64::from(count) * 8),
            jited: cx.known(jited, "size of the compiled code", place),
            memlock: cx.known(program.locked.clone(), "memory locked", place),
            load_time,
            loaded: loaded.and_then(|(boot, since)| date(boot.saturating_add(since))),
            gpl_compatible: cx.known(program.gpl_compatible.clone(), "licence", place),
            name: cx.known(program.name.clone(), "name", place).and_then(|name| name.0),
            uid: cx.known(program.uid.clone(), "user", place),
        }
    }
}

/// A name in quotes, or crash's word for none.
pub(super) fn quoted(name: Option<&str>) -> String {
    name.map_or_else(|| "(unused)".to_owned(), |name| format!("\"{name}\""))
}

impl Render for ProgramRow {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let maps = self.used_maps.as_ref().map_or_else(
            || UNKNOWN.to_owned(),
            |maps| maps.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        );
        let (kind, tag) = (text(&self.kind), text(&self.tag));
        write!(out, " {:<3} {} {:>16} ", self.id, self.prog, Known(self.aux))?;
        writeln!(out, "{kind:^13} {tag:^16} {maps:^9} ")?;
        if !view.full {
            return Ok(());
        }
        let [xlated, jited, memlock] = [self.xlated, self.jited, self.memlock].map(Known);
        writeln!(out, "     XLATED: {xlated}  JITED: {jited}  MEMLOCK: {memlock}")?;
        writeln!(out, "     LOAD_TIME: {}", text(&self.loaded))?;
        let gpl = match self.gpl_compatible {
            None => UNKNOWN,
            Some(true) => "yes",
            Some(false) => "no",
        };
        let name = quoted(self.name.as_deref());
        writeln!(out, "     GPL_COMPATIBLE: {gpl}  NAME: {name}  UID: {}", Known(self.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn row() -> ProgramRow {
        ProgramRow {
            id: 1,
            prog: VirtAddr(0xff57_0c76_0011_1000),
            aux: Some(VirtAddr(0xff1c_1349_1dd3_1800)),
            kind: Some("SOCKET_FILTER".into()),
            tag: Some("677a49176f57a314".into()),
            used_maps: Some(vec![1]),
            xlated: Some(136),
            jited: Some(125),
            memlock: Some(4096),
            load_time: Some(1),
            loaded: Some("Sat Nov 21 16:31:40 UTC 2026".into()),
            gpl_compatible: Some(true),
            name: Some("rich_filter".into()),
            uid: Some(0),
        }
    }

    fn text(row: &ProgramRow, full: bool) -> String {
        let mut text = String::new();
        row.render(&View { full, kind_width: 0 }, &mut text).unwrap();
        text
    }

    #[test]
    fn columns_are_crashs() {
        let first = " 1   ff570c7600111000 ff1c13491dd31800 SOCKET_FILTER 677a49176f57a314     1     \n";
        assert_eq!(text(&row(), false), first);
        let none = ProgramRow { kind: Some("SCHED_CLS".into()), used_maps: Some(vec![]), ..row() };
        assert_eq!(
            text(&none, false),
            " 1   ff570c7600111000 ff1c13491dd31800   SCHED_CLS   677a49176f57a314           \n"
        );
        let full = "     XLATED: 136  JITED: 125  MEMLOCK: 4096\n     LOAD_TIME: Sat Nov 21 16:31:40 UTC 2026\n     \
                    GPL_COMPATIBLE: yes  NAME: \"rich_filter\"  UID: 0\n";
        assert_eq!(text(&row(), true), format!("{first}{full}"));
    }

    #[test]
    fn what_is_missing_leaves_its_place() {
        let lacking = ProgramRow { aux: None, used_maps: None, name: None, uid: None, ..row() };
        assert!(text(&lacking, false).starts_with(" 1   ff570c7600111000                ? SOCKET"));
        assert!(text(&lacking, true).ends_with("NAME: (unused)  UID: ?\n"));
    }
}
