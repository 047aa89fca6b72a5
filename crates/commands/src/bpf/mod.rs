//! `bpf`: the BPF programs and maps, the programs' code, and what they are attached to.

mod code;
mod link;
mod map;
mod program;

use kdive_linux::bpf::{Ids, MapLoader, ProgramLoader};

use self::map::MapRow;
use self::program::ProgramRow;
use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Sink, SinkExt};
use crate::structure::{self, ANY, Shape};

/// Lists BPF programs and maps.
pub(crate) static BPF: Command = Command {
    names: &["bpf"],
    group: Group::System,
    summary: "BPF programs and maps; translated and compiled code of programs",
    operands: "",
    options: &[
        Opt::value("-p", "ID", "the program with this id, in full"),
        Opt::flag("-P", "all programs, in full"),
        Opt::value("-m", "ID", "the map with this id, in full"),
        Opt::flag("-M", "all maps, in full"),
        Opt::flag("-L", "links: which programs are attached to what"),
        Opt::flag("-t", "with -p or -P: the program's instructions after verification"),
        Opt::flag("-T", "the same, and the bytes of each"),
        Opt::flag("-j", "with -p or -P: the compiled code of the program and of its subprograms"),
        Opt::flag("-s", "the structures too: bpf_prog and bpf_prog_aux, or bpf_map"),
        Opt::flag("-x", "with -s, numbers in hexadecimal"),
        Opt::flag("-d", "with -s, numbers in decimal"),
    ],
    help: include_str!("../bpf.md"),
    run: Run::Once(bpf),
};

/// Which of the objects are wanted.
#[derive(Clone, Copy)]
enum Wanted {
    /// Those with this id.
    One(u32),
    All,
}

impl Wanted {
    fn of(args: &Args, one: &str, all: &str, what: &str) -> Result<Option<Self>, CommandError> {
        if let Some(id) = args.value(one) {
            let parsed = crate::operand::number(id).and_then(|id| u32::try_from(id).ok());
            let invalid = || UsageError::new("bpf", format!("invalid {what} ID: {id}"));
            return Ok(Some(Self::One(parsed.ok_or_else(invalid)?)));
        }
        Ok(args.has(all).then_some(Self::All))
    }

    fn takes(self, id: u32) -> bool {
        match self {
            Self::One(wanted) => wanted == id,
            Self::All => true,
        }
    }
}

fn bpf(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if let Some(word) = args.operands.first() {
        return Err(UsageError::new("bpf", format!("invalid argument: {word}")).into());
    }
    if args.has("-L") {
        return link::show(cx, out);
    }
    let programs = Wanted::of(args, "-p", "-P", "program")?;
    let maps = Wanted::of(args, "-m", "-M", "map")?;
    if let Some(option) = ["-t", "-T", "-j"].iter().find(|option| programs.is_none() && args.has(option)) {
        let what = format!("{option} option only applicable with -p or -P");
        return Err(UsageError::new("bpf", what).into());
    }
    if args.has("-s") && programs.is_none() && maps.is_none() {
        return Err(UsageError::new("bpf", "-s option requires -p, -P, -m or -M").into());
    }
    let is_list = programs.is_none() && maps.is_none();
    let mut has_any = false;
    if let Some(wanted) = programs.or(is_list.then_some(Wanted::All)) {
        has_any |= show_programs(cx, args, wanted, is_list, out)?;
    }
    if let Some(wanted) = maps.or(is_list.then_some(Wanted::All)) {
        if has_any {
            out.heading("\n")?;
        }
        has_any |= show_maps(cx, args, wanted, is_list, out)?;
    }
    if is_list && !has_any {
        out.text("no BPF programs or maps loaded\n")?;
    }
    Ok(())
}

/// How programs and maps are shown.
struct View {
    /// All that is known, not one line each.
    full: bool,
    /// Letters of the column of a map's type.
    kind_width: usize,
}

/// The objects wanted, by their ids.
fn select(cx: &mut Cx, ids: Ids, wanted: Wanted, what: &str) -> Result<Ids, CommandError> {
    if let Some(lacks) = &ids.incomplete {
        cx.lacks(lacks, &format!("BPF {what}s"), String::new);
    }
    let list: Vec<_> = ids.list.into_iter().filter(|(id, _)| wanted.takes(*id)).collect();
    match wanted {
        Wanted::One(id) if list.is_empty() => {
            Err(CommandError::not_found(format!("bpf: invalid {what} ID: {id}")))
        }
        _ => Ok(Ids { list, incomplete: None }),
    }
}

/// The programs; were there any?
fn show_programs(
    cx: &mut Cx,
    args: &Args,
    wanted: Wanted,
    is_list: bool,
    out: &mut dyn Sink,
) -> Result<bool, CommandError> {
    let kernel = cx.kernel.clone();
    let ids = select(cx, Ids::of_programs(&kernel)?, wanted, "program")?.list;
    let loader = ProgramLoader::new(&kernel);
    for (number, (id, at)) in ids.iter().enumerate() {
        cx.cancel.check()?;
        separate(number, is_list, program::TITLES, out)?;
        let program = loader.load(*id, *at);
        let row = ProgramRow::new(cx, &loader, &program);
        out.row(&row, &View { full: !is_list, kind_width: 0 })?;
        if args.has("-j") {
            code::compiled(cx, args, &loader, &program, out)?;
        }
        if args.has("-t") || args.has("-T") {
            code::translated(cx, args, &loader, &program, out)?;
        }
        if args.has("-s") {
            structure(cx, args, "bpf_prog", *at, out)?;
            if let Ok(aux) = program.aux {
                structure(cx, args, "bpf_prog_aux", aux, out)?;
            }
        }
    }
    Ok(!ids.is_empty())
}

fn show_maps(
    cx: &mut Cx,
    args: &Args,
    wanted: Wanted,
    is_list: bool,
    out: &mut dyn Sink,
) -> Result<bool, CommandError> {
    let kernel = cx.kernel.clone();
    let ids = select(cx, Ids::of_maps(&kernel)?, wanted, "map")?.list;
    let loader = MapLoader::new(&kernel);
    let view = View { full: !is_list, kind_width: map::kind_width(&loader) };
    let titles = map::titles(view.kind_width);
    for (number, (id, at)) in ids.iter().enumerate() {
        cx.cancel.check()?;
        separate(number, is_list, &titles, out)?;
        let row = MapRow::new(cx, &loader.load(*id, *at));
        out.row(&row, &view)?;
        if args.has("-s") {
            structure(cx, args, "bpf_map", *at, out)?;
        }
    }
    Ok(!ids.is_empty())
}

/// In the list, titles come once; in full, above each, with an empty line before it.
fn separate(number: usize, is_list: bool, titles: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    if is_list && number > 0 {
        return Ok(());
    }
    if number > 0 {
        out.heading("\n")?;
    }
    Ok(out.heading(titles)?)
}

fn structure(
    cx: &mut Cx,
    args: &Args,
    name: &str,
    at: kdive_base::VirtAddr,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let shape = Shape::parse(cx, "bpf", ANY, name)?;
    let style = structure::style(cx, args);
    out.heading("\n")?;
    let row = shape.row(cx, at, &style)?;
    Ok(out.row(&row, &style)?)
}
