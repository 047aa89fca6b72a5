//! `refs`: who points at an address, or into an object.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_debuginfo::Tag;
use kdive_linux::locate::{Located, Locator, Region};
use kdive_linux::slab::ObjectState;
use kdive_linux::tasks::Tasks;
use kdive_target::Kernel;
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::render::{TaskLine, UNKNOWN};
use crate::search::pattern::Pattern;
use crate::search::scan::Scanner;
use crate::sink::{Render, Sink, SinkExt};

/// Finds pointers.
pub(crate) static REFS: Command = Command {
    names: &["refs"],
    group: Group::Memory,
    summary: "who points at an address or into an object",
    operands: "address...",
    options: &[Opt::value(
        "-l",
        "bytes",
        "whatever points into so many bytes; without it a slab object counts as a whole",
    )],
    help: include_str!("refs.md"),
    run: Run::Once(refs),
};

/// What is pointed at.
#[derive(Serialize)]
struct Target {
    first: VirtAddr,
    bytes: u64,
    /// The slab cache, where it is an object of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
}

impl Render for Target {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self { first, bytes, cache } = self;
        match cache {
            Some(cache) => writeln!(out, "REFERENCES TO [{cache}] {first}, {bytes} bytes"),
            None if *bytes > 1 => writeln!(out, "REFERENCES TO {first}, {bytes} bytes"),
            None => writeln!(out, "REFERENCES TO {first}"),
        }
    }
}

/// How many words of the target itself point into it: empty lists, links between its members.
#[derive(Serialize)]
struct Own {
    own: usize,
}

impl Render for Own {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self.own {
            0 => Ok(()),
            own => writeln!(out, "{own} words of its own point into it"),
        }
    }
}

/// A pointer.
#[derive(Serialize)]
struct Reference {
    #[serde(flatten)]
    place: Located,
    /// Where it points.
    value: VirtAddr,
    /// The member that holds it, where the type is known: of slab caches that are named after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The task whose stack it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<TaskLine>,
}

impl Render for Reference {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}: {}  ", self.place.address, self.value)?;
        self.holder(out)?;
        if let Some(member) = &self.member {
            write!(out, " {member}")?;
        }
        if let Some(ObjectState::Free | ObjectState::FreeOnCpu(_)) =
            self.place.slab.as_ref().and_then(|slab| slab.state)
        {
            write!(out, ", free")?;
        }
        writeln!(out)
    }
}

impl Reference {
    fn holder(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Located { stack, slab, per_cpu, symbol, vmalloc, describes, region, address, .. } = &self.place;
        if let Some(stack) = stack {
            match (stack.cpu, &self.owner) {
                (Some(cpu), _) => write!(out, "{} of CPU {cpu}", stack.kind)?,
                (None, Some(task)) => {
                    let pid = task.pid.map_or_else(|| UNKNOWN.to_owned(), |pid| pid.to_string());
                    let command = task.command.as_deref().unwrap_or(UNKNOWN);
                    write!(out, "stack of PID {pid} \"{command}\"")?;
                }
                (None, None) => write!(out, "{}", stack.kind)?,
            }
            return match &stack.frame {
                Some(frame) => {
                    let function = frame.function.clone().unwrap_or_else(|| frame.ip.to_string());
                    write!(out, ", frame #{} {function}", frame.number)
                }
                None if stack.unused => write!(out, ", stale"),
                None => Ok(()),
            };
        }
        if let Some(object) = slab {
            return write!(out, "[{}] {}{:+}", object.name, object.object, object.offset);
        }
        if let Some(per_cpu) = per_cpu {
            return match &per_cpu.symbol {
                Some(symbol) => write!(out, "CPU {}, {symbol}", per_cpu.cpu),
                None => write!(out, "CPU {}, allocated at {:x}", per_cpu.cpu, per_cpu.variable.0),
            };
        }
        if let Some(symbol) = symbol {
            return write!(out, "{symbol}");
        }
        if let Some(frame) = describes {
            return write!(out, "page structure of {:x}", frame.0);
        }
        if let Some(area) = vmalloc {
            write!(out, "vmalloc {}+{}", area.start, address.since(area.start))?;
            return area.caller.iter().try_for_each(|caller| write!(out, ", by {caller}"));
        }
        write!(out, "{}", region.name())
    }
}

fn refs(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return Err(UsageError::new("refs", "which address?").into());
    }
    let length = args.value("-l").map(|word| operand::count("refs", word)).transpose()?;
    if length == Some(0) {
        return Err(UsageError::new("refs", "-l 0: nothing points into no bytes").into());
    }
    let kernel = cx.kernel.clone();
    let mut locator = Locator::new(&kernel);
    for (index, word) in args.operands.iter().enumerate() {
        let address = operand::address(cx, "refs", word)?;
        if index > 0 {
            out.heading("\n")?;
        }
        one(cx, &kernel, &mut locator, address, length, out)?;
    }
    Ok(())
}

fn one(
    cx: &mut Cx,
    kernel: &Kernel,
    locator: &mut Locator<'_>,
    address: VirtAddr,
    length: Option<u64>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let slab = locator.locate(address).slab;
    let target = match (length, slab) {
        (Some(bytes), slab) => Target { first: address, bytes, cache: slab.map(|slab| slab.name) },
        (None, Some(slab)) => {
            let bytes = slab.size.map_or(1, |bytes| u64::from(bytes).max(1));
            Target { first: slab.object, bytes, cache: Some(slab.name) }
        }
        (None, None) => Target { first: address, bytes: 1, cache: None },
    };
    out.header(&target, &())?;
    let hits = find(cx, kernel, &target)?;
    let is_own = |at: VirtAddr| at.since(target.first) < target.bytes;
    let (own, hits): (Vec<_>, Vec<_>) = hits.into_iter().partition(|(at, _)| is_own(*at));
    let tasks = Tasks::find(kernel);
    for (at, value) in hits {
        cx.cancel.check()?;
        let mut place = locator.locate(at);
        for (what, lacks) in std::mem::take(&mut place.lacking) {
            cx.lacks(&lacks, what, || format!("{at:#}"));
        }
        let owner = place.stack.as_ref().and_then(|stack| tasks.at(stack.task?));
        let owner = owner.map(|task| TaskLine::new(cx, task));
        let member = member(kernel, &place);
        out.row(&Reference { place, value, member, owner }, &())?;
    }
    out.trailer(&Own { own: own.len() }, &())?;
    Ok(())
}

/// More pointers into one object are not read by anyone.
const MOST: usize = 1 << 18;

/// The words of the kernel's memory that point into the target: where, and what they are.
fn find(cx: &mut Cx, kernel: &Kernel, target: &Target) -> Result<Vec<(VirtAddr, VirtAddr)>, CommandError> {
    let last = target.first.0.saturating_add(target.bytes.saturating_sub(1));
    let pattern = Pattern::Within { first: target.first.0, last };
    let upper = kernel.space().page_table().map_or(1 << 63, |table| table.format().upper_half());
    let mut runs = kernel.space().mapped(VirtAddr(upper), VirtAddr(u64::MAX));
    let mut scanner = Scanner::new(&pattern, &**kernel.physical(), kernel.memory());
    let mut hits: Vec<(VirtAddr, VirtAddr)> = Vec::new();
    let mut more = 0_u64;
    scanner.scan(cx, &mut *runs, &mut |hit| {
        match hits.len() < MOST {
            true => hits.push((VirtAddr(hit.at), VirtAddr(hit.value))),
            false => more = more.saturating_add(1),
        }
        Ok(())
    })?;
    scanner.note_holes(cx);
    if more > 0 {
        cx.gaps.note("references", format_args!("{more} more than {MOST}"), None);
    }
    Ok(named(kernel, hits))
}

/// The direct map has all RAM once more: what is mapped elsewhere (the kernel's image, modules, stacks) is told by its
/// other address, which has a name.
fn named(kernel: &Kernel, hits: Vec<(VirtAddr, VirtAddr)>) -> Vec<(VirtAddr, VirtAddr)> {
    let pages = kdive_linux::pages::Pages::find(kernel);
    let in_direct = |at: VirtAddr| pages.direct.as_ref().ok().and_then(|direct| direct.phys_of(at));
    let elsewhere: FxHashSet<_> = hits
        .iter()
        .filter(|(at, _)| in_direct(*at).is_none())
        .filter_map(|(at, _)| Some(kernel.space().translate(*at).ok()?.phys))
        .collect();
    let known = |at: VirtAddr| in_direct(at).is_some_and(|phys| elsewhere.contains(&phys));
    hits.into_iter().filter(|(at, _)| !known(*at)).collect()
}

/// The member of the structure that a pointer lies in: caches are named after the structure whose objects they hold.
fn member(kernel: &Kernel, place: &Located) -> Option<String> {
    let types = kernel.types().ok()?;
    let (name, offset) = match (&place.slab, place.task) {
        (Some(slab), _) => (slab.name.as_str(), u64::try_from(slab.offset).ok()?),
        (None, Some(task)) if place.region == Region::KernelImage => {
            ("task_struct", place.address.since(task))
        }
        _ => return None,
    };
    let record = types.find(Tag::Struct, name).ok()?;
    types.path_at(record, offset).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use kdive_linux::locate::{InObject, InSymbol};

    use super::*;

    fn place(address: u64, region: Region) -> Located {
        Located {
            address: VirtAddr(address),
            region,
            physical: None,
            symbol: None,
            module: None,
            per_cpu: None,
            stack: None,
            slab: None,
            task: None,
            vmalloc: None,
            describes: None,
            lacking: Vec::new(),
        }
    }

    fn text(place: Located, member: Option<&str>) -> String {
        let value = VirtAddr(0xff27_0289_01ba_0000);
        let mut text = String::new();
        let member = member.map(str::to_owned);
        Reference { place, value, member, owner: None }.render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn a_holder_is_named_by_what_tells_most() {
        let object = InObject {
            cache: VirtAddr(0xff27_0289_0100_0000),
            name: "mm_struct".into(),
            slab: VirtAddr(0xffdf_5426_8000_0000),
            object: VirtAddr(0xff27_0289_0105_cd00),
            offset: 1152,
            size: Some(1400),
            state: Some(ObjectState::Free),
        };
        let slab = Located { slab: Some(object), ..place(0xff27_0289_0105_d180, Region::DirectMap) };
        assert_eq!(
            text(slab, Some("owner")),
            "ff2702890105d180: ff27028901ba0000  [mm_struct] ff2702890105cd00+1152 owner, free\n"
        );
        let symbol = InSymbol { name: "swap_info".into(), offset: 8, module: Some("m".into()) };
        let data = Located { symbol: Some(symbol), ..place(0xffff_ffff_9af7_4088, Region::Module) };
        assert_eq!(text(data, None), "ffffffff9af74088: ff27028901ba0000  swap_info+8 [m]\n");
        let direct = place(0xff27_0289_0000_0008, Region::DirectMap);
        assert_eq!(text(direct, None), "ff27028900000008: ff27028901ba0000  direct map of RAM\n");
    }
}
