//! What is shown of a BPF link.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::bpf::{Ids, LinkLoader, Target};
use kdive_linux::time;
use kdive_target::Kernel;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A program at its place.
#[derive(Debug, Serialize)]
struct LinkRow {
    id: u32,
    /// Its `struct bpf_link`.
    link: VirtAddr,
    /// `XDP`, `RAW_TRACEPOINT`...
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The id of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    program_id: Option<u32>,
    /// The `struct bpf_prog`.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<VirtAddr>,
    /// What it is attached to, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Its address, where it has one: `net_device`, `cgroup`, `net`, `file`, a function.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_address: Option<VirtAddr>,
}

const TITLES: &str = " ID      BPF_LINK       TYPE             PROG  ATTACHED TO\n";

impl Render for LinkRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (kind, program) = (Known(self.kind.as_deref()), Known(self.program_id));
        write!(out, "{:>3}  {} {kind:<16} {program:>4}  ", self.id, self.link)?;
        writeln!(out, "{}", self.target.as_deref().unwrap_or(UNKNOWN))
    }
}

/// Shows all links.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let links = Ids::of_links(&kernel)?;
    if let Some(lacks) = &links.incomplete {
        cx.lacks(lacks, "BPF links", String::new);
    }
    let programs = cx.known(Ids::of_programs(&kernel), "BPF programs", String::new).unwrap_or_default();
    let loader = LinkLoader::new(&kernel);
    out.heading(if links.list.is_empty() { "no BPF links\n" } else { TITLES })?;
    for (id, at) in links.list {
        cx.cancel.check()?;
        let link = loader.load(id, at);
        let place = || format!("bpf_link {at:#}");
        let program = cx.known(link.program, "PROG", place);
        let target = cx.known(link.target, "ATTACHED TO", place);
        let (target, target_address) = target.map_or((None, None), |target| words(&kernel, target));
        let row = LinkRow {
            id,
            link: at,
            kind: cx.known(link.kind, "TYPE", place),
            program_id: program.and_then(|at| programs.list.iter().find(|of| of.1 == at)).map(|of| of.0),
            program,
            target,
            target_address,
        };
        out.row(&row, &())?;
    }
    Ok(())
}

fn words(kernel: &Kernel, target: Target) -> (Option<String>, Option<VirtAddr>) {
    let function = |at: VirtAddr| time::function_name(kernel, at).unwrap_or_else(|| at.to_string());
    match target {
        Target::Tracepoint(name) => (Some(format!("tracepoint {name}")), None),
        Target::Function(at) => (Some(function(at)), Some(at)),
        Target::Functions(list, count) => {
            let names: Vec<String> = list.iter().map(|at| function(*at)).collect();
            let more = (count as usize).saturating_sub(names.len());
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            (Some(format!("{}{rest}", names.join(" "))), None)
        }
        Target::Device(at, name) => (Some(format!("device {} ({at})", Known(name.as_deref()))), Some(at)),
        Target::Group(at) => (Some(format!("cgroup {at}")), Some(at)),
        Target::Namespace(at) => (Some(format!("network namespace {at}")), Some(at)),
        Target::PerfEvent(at) => (Some(format!("perf event, file {at}")), Some(at)),
        Target::Other => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_its_program_and_its_place() {
        let row = LinkRow {
            id: 2,
            link: VirtAddr(0xff1c_1349_0ba1_e800),
            kind: Some("XDP".into()),
            program_id: Some(7),
            program: None,
            target: Some("device dummy0".into()),
            target_address: None,
        };
        let mut text = TITLES.to_owned();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            " ID      BPF_LINK       TYPE             PROG  ATTACHED TO\n  2  ff1c13490ba1e800 XDP                 7  device dummy0\n"
        );
    }
}
