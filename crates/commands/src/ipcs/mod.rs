//! `ipcs`: System V IPC.

mod row;

use kdive_base::VirtAddr;
use kdive_linux::ipc::{self, Facility, Object};

use self::row::Row;
use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::select;
use crate::sink::{Sink, SinkExt};

/// Lists what System V IPC holds.
pub(crate) static IPCS: Command = Command {
    names: &["ipcs"],
    group: Group::System,
    summary: "System V IPC: shared memory, semaphores, message queues",
    operands: "[id | address]...",
    options: &[
        Opt::flag("-m", "shared memory segments"),
        Opt::flag("-M", "shared memory segments, with their pages and inodes"),
        Opt::flag("-s", "semaphore arrays"),
        Opt::flag("-q", "message queues"),
        Opt::value("-n", "pid|task", "in the namespace of this task"),
    ],
    help: include_str!("ipcs.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let namespace = match args.value("-n") {
        Some(word) => {
            let task = select::operands(cx, "ipcs", &[word.to_owned()])?;
            let first = task.first().ok_or_else(|| CommandError::not_found("ipcs: no such task"))?;
            ipc::namespace_of(&cx.kernel, first)?
        }
        None => ipc::initial_namespace(&cx.kernel)?,
    };
    let all = !["-m", "-M", "-s", "-q"].iter().any(|option| args.has(option));
    let details = args.has("-M");
    let wanted: Vec<Wanted> = args.operands.iter().map(|word| Wanted::parse(cx, word)).collect();
    let facilities = [
        (Facility::SharedMemory, details || args.has("-m")),
        (Facility::Semaphores, args.has("-s")),
        (Facility::Messages, args.has("-q")),
    ];
    let mut met = vec![false; wanted.len()];
    for (facility, _) in facilities.into_iter().filter(|(_, asked)| all || *asked) {
        list(cx, namespace, facility, details, &wanted, &mut met, out)?;
    }
    let missed = args.operands.iter().zip(met).find(|(_, met)| !met);
    match missed {
        Some((word, _)) => Err(CommandError::NotFound {
            what: format!("ipcs: invalid id or address: {word}"),
            hint: Some("`ipcs` lists them, `ipcs -n PID` those of another namespace".into()),
        }),
        None => Ok(()),
    }
}

/// An operand: what it can mean.
struct Wanted {
    id: Option<i32>,
    at: Option<VirtAddr>,
}

impl Wanted {
    fn parse(cx: &Cx, word: &str) -> Self {
        Self { id: word.parse().ok(), at: operand::address(cx, "ipcs", word).ok() }
    }

    fn is(&self, object: &Object) -> bool {
        self.at == Some(object.at) || self.id.is_some_and(|id| object.permissions.id == Ok(id))
    }
}

fn list(
    cx: &mut Cx,
    namespace: VirtAddr,
    facility: Facility,
    details: bool,
    wanted: &[Wanted],
    met: &mut [bool],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let title = row::title(facility);
    let mut any = false;
    for object in ipc::objects(&kernel, namespace, facility)? {
        cx.cancel.check()?;
        let object = match object {
            Ok(object) => object,
            Err(lacks) => {
                cx.lacks(&lacks, "objects of System V IPC", || title.trim_end().to_owned());
                continue;
            }
        };
        let here: Vec<usize> =
            (0..wanted.len()).filter(|index| wanted.get(*index).is_some_and(|of| of.is(&object))).collect();
        for index in &here {
            met.get_mut(*index).into_iter().for_each(|met| *met = true);
        }
        if !wanted.is_empty() && here.is_empty() {
            continue;
        }
        // With details each segment is a table of its own.
        let own = details && facility == Facility::SharedMemory;
        if !any || own {
            out.heading(&format!("{title}\n"))?;
        }
        any = true;
        out.row(&Row::new(cx, facility, &object, own), &())?;
        if own {
            out.heading("\n")?;
        }
    }
    match (any, wanted.is_empty()) {
        (false, true) => out.heading(&format!("{title}\n(none allocated)\n\n"))?,
        (true, _) if !(details && facility == Facility::SharedMemory) => out.heading("\n")?,
        _ => {}
    }
    Ok(())
}
