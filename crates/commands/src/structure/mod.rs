//! `struct`, `union`, `*`: the layout of a record, and what lies in memory by it.

mod follow;
mod layout;
mod operands;
mod raw;
mod row;
pub(crate) mod shape;

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::types::RecordKind;
use kdive_debuginfo::{Tag, Type};
use kdive_target::show::Style;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::memory::Which;
use crate::settings::Radix;
use crate::sink::{Sink, SinkExt};

pub(crate) use self::layout::{Layout, Margin};
pub(crate) use self::operands::offset;
use self::operands::{Operands, Place};
pub(crate) use self::row::Row;
pub(crate) use self::shape::{ANY, Shape, note};

const OPTIONS: &[Opt] = &[
    Opt::flag("-o", "show offsets of members; with an address, their addresses"),
    Opt::value("-l", "offset", "the address is that of a member: its offset, or struct.member"),
    Opt::value("-c", "count", "as many records in a row; before the address if negative"),
    Opt::flag("-r", "show the raw words"),
    Opt::flag("-p", "follow members that are pointers, and show what they point to"),
    Opt::flag("-u", "the address is of the current task's user memory"),
    Opt::flag("-f", "the address is an offset in the dump file"),
    Opt::flag("-x", "integers in hexadecimal"),
    Opt::flag("-d", "integers in decimal"),
];

const OPERANDS: &str = "name[.member[,member]...] [[address | symbol | (expression)][:cpus]]... [count]";

/// Records that are structs.
pub(crate) static STRUCT: Command = Command {
    names: &["struct"],
    group: Group::Memory,
    summary: "a structure's layout, or what memory holds by it",
    operands: OPERANDS,
    options: OPTIONS,
    help: include_str!("struct.md"),
    run: Run::Once(|cx, args, out| show(cx, args, "struct", shape::STRUCT, out)),
};

/// Records that are unions.
pub(crate) static UNION: Command = Command {
    names: &["union"],
    group: Group::Memory,
    summary: "a union's layout, or what memory holds by it",
    operands: OPERANDS,
    options: OPTIONS,
    help: include_str!("union.md"),
    run: Run::Once(|cx, args, out| show(cx, args, "union", shape::UNION, out)),
};

/// Records of either kind.
pub(crate) static RECORD: Command = Command {
    names: &["*"],
    group: Group::Memory,
    summary: "the same for whichever of the two a name is",
    operands: OPERANDS,
    options: OPTIONS,
    help: include_str!("star.md"),
    run: Run::Once(|cx, args, out| show(cx, args, "*", shape::ANY, out)),
};

/// How values are laid out: the session's variables, then `-x` and `-d`.
pub(crate) fn style(cx: &Cx, args: &Args) -> Style {
    let hexadecimal = match (args.has("-x"), args.has("-d")) {
        (true, _) => true,
        (_, true) => false,
        _ => cx.settings.radix == Radix::Hexadecimal,
    };
    let variable = |name: &str| cx.settings.variables.get(name).map(String::as_str);
    let elements = variable("print_max").and_then(|most| most.parse().ok());
    Style {
        hexadecimal,
        array_lines: variable("print_array") == Some("on"),
        null_stop: variable("null-stop") == Some("on"),
        elements: elements.unwrap_or(Style::LINES.elements),
        ..Style::LINES
    }
}

/// What each `-s` and `-S` asks for, in their order.
pub(crate) fn shapes(cx: &Cx, command: &str, args: &Args) -> Result<Vec<Shape>, CommandError> {
    if args.has("-x") && args.has("-d") {
        return Err(UsageError::new(command, "-d and -x are mutually exclusive").into());
    }
    let bare = args.has("-S");
    let parse = |text| Ok(Shape { bare, ..Shape::parse(cx, command, ANY, text)? });
    args.values(&["-s", "-S"]).map(parse).collect()
}

/// The records of all these shapes at an address.
pub(crate) fn rows(
    shapes: &[Shape],
    cx: &mut Cx,
    at: VirtAddr,
    style: &Style,
) -> Result<Vec<Row>, CommandError> {
    shapes.iter().map(|shape| shape.row(cx, at, style)).collect()
}

fn show(
    cx: &mut Cx,
    args: &Args,
    command: &str,
    tags: &[Tag],
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let Some((name, rest)) = args.operands.split_first() else {
        return Err(UsageError::new(command, "which structure?").into());
    };
    if args.has("-x") && args.has("-d") {
        return Err(UsageError::new(command, "-x and -d exclude each other").into());
    }
    let shape = Shape::parse(cx, command, tags, name)?;
    let operands = Operands::parse(cx, command, args, rest)?;
    let margin = Margin {
        offsets: args.has("-o") || !shape.members.is_empty(),
        hexadecimal: style(cx, args).hexadecimal,
    };
    let kernel = cx.kernel.clone();
    let types = shape.types(&kernel)?;
    let layout = Layout::of_shape(types, &shape);
    let is_union = matches!(types.stripped(shape.of).as_deref(), Some(Type::Record(record)) if record.kind == RecordKind::Union);
    if operands.places.is_empty() {
        return Ok(out.row(&layout, &margin)?);
    }
    let mut first = true;
    for place in &operands.places {
        for index in operands.indices() {
            cx.cancel.check()?;
            let at = operands.address(cx, command, &shape, place, index)?;
            // crash parts structures by a blank line, but not unions.
            if !first && place.cpu.is_none() && !is_union {
                out.heading("\n")?;
            }
            first = false;
            let place = Place { at, ..*place };
            match args.has("-o") {
                true => out.row(&layout.at(at, place.cpu), &margin)?,
                false => one(cx, args, command, &shape, place, out)?,
            }
        }
    }
    Ok(())
}

/// What memory holds at one address.
fn one(
    cx: &mut Cx,
    args: &Args,
    command: &str,
    shape: &Shape,
    place: Place,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let which = match (args.has("-u"), args.has("-f")) {
        (true, _) => Which::User,
        (_, true) => Which::File,
        _ => Which::Kernel,
    };
    let space = which.open(cx, command, place.at.0)?;
    let memory = space.memory();
    readable(command, shape, memory, place.at)?;
    let style = style(cx, args);
    if args.has("-r") {
        return raw::show(cx, shape, memory, place, out);
    }
    if args.has("-p") {
        return follow::show(cx, shape, memory, place, &style, out);
    }
    let mut row = shape.row_in(cx, memory, place.at, &style)?;
    row.cpu = place.cpu;
    Ok(out.row(&row, &style)?)
}

/// Where nothing at all of what is wanted can be read, the reason stands for it.
fn readable(
    command: &str,
    shape: &Shape,
    memory: &dyn VirtualMemory,
    at: VirtAddr,
) -> Result<(), CommandError> {
    let mut probe = [0; 1];
    let Err(missing) = memory.read_exact(at, &mut probe) else { return Ok(()) };
    let ends = shape.members.iter().map(|member| member.at.byte_offset());
    let ends = ends
        .chain((0..shape.bytes).step_by(kdive_base::PAGE_SIZE as usize))
        .chain([shape.bytes.saturating_sub(1)]);
    for offset in ends {
        if memory.read_exact(at.add(offset), &mut probe).is_ok() {
            return Ok(());
        }
    }
    Err(CommandError::not_found(format!("{command}: {missing}")))
}
