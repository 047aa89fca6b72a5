//! I/O ports and I/O memory.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::resource::{self, Resource};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Debug, Serialize)]
struct Row {
    kind: Kind,
    resource: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// In how many others it lies.
    depth: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Ports,
    Memory,
}

impl Kind {
    fn titles(self) -> &'static str {
        match self {
            Self::Ports => "    RESOURCE        RANGE    NAME\n",
            Self::Memory => "\n    RESOURCE            RANGE        NAME\n",
        }
    }

    fn root(self) -> &'static str {
        match self {
            Self::Ports => "ioport_resource",
            Self::Memory => "iomem_resource",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Ports => 4,
            Self::Memory => 8,
        }
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let digits = self.kind.digits();
        let number = |of: Option<Hex>| {
            of.map_or_else(|| format!("{UNKNOWN:?>digits$}"), |Hex(number)| format!("{number:0digits$x}"))
        };
        let (start, end, name) = (number(self.start), number(self.end), self.name.as_deref());
        writeln!(out, "{}  {start}-{end}  {}", self.resource, name.unwrap_or(UNKNOWN))
    }
}

pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    for kind in [Kind::Ports, Kind::Memory] {
        let kernel = cx.kernel.clone();
        let tree = resource::tree(&kernel, kind.root())?;
        for lacks in &tree.incomplete {
            cx.lacks(lacks, "RESOURCE", || kind.root().to_owned());
        }
        out.heading(kind.titles())?;
        for (depth, resource) in &tree.all {
            cx.cancel.check()?;
            let row = row(cx, kind, *depth, resource);
            out.row(&row, &())?;
        }
    }
    Ok(())
}

fn row(cx: &mut Cx, kind: Kind, depth: u32, resource: &Resource) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("resource {:#}", resource.at);
    Row {
        kind,
        resource: resource.at,
        start: cx.known(resource.start.clone(), "RANGE", place).map(Hex),
        end: cx.known(resource.end.clone(), "RANGE", place).map(Hex),
        name: cx.known(resource.name(&kernel), "NAME", place).flatten(),
        depth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = Row {
            kind: Kind::Ports,
            resource: VirtAddr(0xff27_0289_0181_80e0),
            start: Some(Hex(0)),
            end: Some(Hex(0xcf7)),
            name: Some("PCI Bus 0000:00".into()),
            depth: 1,
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        let memory = Row { kind: Kind::Memory, end: Some(Hex(0xff_ffff_ffff)), name: None, ..row };
        memory.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "ff270289018180e0  0000-0cf7  PCI Bus 0000:00\nff270289018180e0  00000000-ffffffffff  ?\n"
        );
    }
}
