//! `tree`: what red-black trees, radix trees, xarrays and maple trees hold.

use std::fmt;

use kdive_base::{Address, Missing, VirtAddr, Why};
use kdive_target::walk::{
    Broken, MapleEvent, MapleLayout, Order, RbLayout, XArrayLayout, maple, maple_events, rbtree, xarray,
};
use kdive_target::{Lacks, Style};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::settings::Radix;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{self, Row, Shape};

mod maple_text;

/// Walks trees.
pub(crate) static TREE: Command = Command {
    names: &["tree"],
    group: Group::Memory,
    summary: "walk a red-black tree, radix tree, xarray or maple tree",
    operands: "start[:cpus]",
    options: &[
        Opt::value("-t", "type", "rbtree (as without it), radix, xarray or maple; rb, ra, x and m will do"),
        Opt::value("-r", "offset", "offset of the tree's root in the start: bytes, or struct.member"),
        Opt::value("-o", "offset", "red-black trees: offset of the rb_node in each structure"),
        Opt::value("-s", "struct[.member,...]", "show this structure, or members of it, at each address"),
        Opt::value("-S", "struct[.member,...]", "the same without commas, and text up to its zero"),
        Opt::flag("-l", "red-black trees: by key, from left to right; else from the root down"),
        Opt::flag("-p", "show where each entry hangs"),
        Opt::flag("-v", "maple trees: show each node with all that it holds"),
        Opt::flag("-x", "show integers in hexadecimal"),
        Opt::flag("-d", "show integers in decimal"),
        Opt::flag("-N", "the start is a node, not the root"),
    ],
    help: include_str!("../tree.md"),
    run: Run::Once(tree),
};

const NAME: &str = "tree";

/// The kinds of trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RedBlack,
    /// The radix tree became the xarray: one walker knows both.
    XArray,
    Maple,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::RedBlack => "rbtrees",
            Self::XArray => "radix trees and xarrays",
            Self::Maple => "maple trees",
        }
    }

    /// crash takes names that begin with these letters.
    fn parse(word: &str) -> Result<Self, UsageError> {
        const BEGINNINGS: [(&str, &str, Kind); 4] = [
            ("rb", "rbtree", Kind::RedBlack),
            ("ra", "radix", Kind::XArray),
            ("x", "xarray", Kind::XArray),
            ("m", "maple", Kind::Maple),
        ];
        let is = |(begins, name, _): &&(&str, &str, Kind)| word.starts_with(begins) && name.starts_with(word);
        BEGINNINGS.iter().find(is).map(|(_, _, kind)| *kind).ok_or_else(|| {
            UsageError::new(
                NAME,
                format!("invalid tree type: {word}: expected rbtree, radix, xarray or maple"),
            )
        })
    }
}

/// What the command line asks for.
struct Request {
    kind: Kind,
    /// Offset of the root in the start.
    root: u64,
    /// Offset of a red-black tree's node in its structure.
    node: u64,
    shapes: Vec<Shape>,
    order: Order,
    positions: bool,
    verbose: bool,
    from_node: bool,
    style: Style,
}

/// An entry of a tree.
#[derive(Serialize)]
struct Entry {
    address: VirtAddr,
    #[serde(flatten)]
    place: Place,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    records: Vec<Row>,
}

/// Where an entry hangs.
#[derive(Serialize, Default)]
struct Place {
    /// Its index; of a range, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// The last index of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    /// The number that crash calls the index of a maple tree's entry: the first is 1.
    #[serde(skip)]
    number: Option<u64>,
    position: String,
}

/// How entries are shown.
struct View {
    positions: bool,
    style: Style,
}

impl Render for Entry {
    type View = View;
    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:x}", self.address.0)?;
        if view.positions {
            let Place { index, number, position, .. } = &self.place;
            // crash counts in the radix asked for, but knows only decimal indices.
            match (number, index) {
                (Some(number), _) if view.style.hexadecimal => write!(out, "  index: {number:x}")?,
                (Some(index), _) | (None, Some(index)) => write!(out, "  index: {index}")?,
                (None, None) => {}
            }
            writeln!(out, "  position: {position}")?;
        }
        self.records.iter().try_for_each(|record| record.render(&view.style, out))
    }
}

fn tree(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let request = Request::parse(cx, args)?;
    let start = match args.operands.as_slice() {
        [start] => start,
        [] => return Err(UsageError::new(NAME, "a starting address is required").into()),
        [_, extra, ..] => return Err(UsageError::new(NAME, format!("invalid argument: {extra}")).into()),
    };
    let (start, cpus) = operand::processors(cx, NAME, start)?;
    let variable = operand::address(cx, NAME, start)?;
    let Some(cpus) = cpus else { return request.walk(cx, variable, out) };
    for &cpu in &cpus {
        let start = cx.kernel.cpus()?.per_cpu(variable, cpu)?;
        out.heading(&format!("[{cpu}]: {:x}\n", start.0))?;
        request.walk(cx, start, out)?;
    }
    Ok(())
}

impl Request {
    fn parse(cx: &Cx, args: &Args) -> Result<Self, CommandError> {
        let offset = |option: &str| -> Result<Option<u64>, CommandError> {
            args.value(option).map(|word| structure::offset(cx, NAME, word)).transpose()
        };
        let kind = args.value("-t").map_or(Ok(Kind::RedBlack), Kind::parse)?;
        let (root, node) = (offset("-r")?, offset("-o")?);
        for (option, wanted) in [("-o", Kind::RedBlack), ("-l", Kind::RedBlack), ("-v", Kind::Maple)] {
            if args.has(option) && kind != wanted {
                let what = format!("{option} option is not applicable to {}", kind.plural());
                return Err(UsageError::new(NAME, what).into());
            }
        }
        if root.is_some() && args.has("-N") {
            return Err(UsageError::new(NAME, "-r and -N options are mutually exclusive").into());
        }
        Ok(Self {
            kind,
            root: root.unwrap_or(0),
            node: node.unwrap_or(0),
            shapes: structure::shapes(cx, NAME, args)?,
            order: if args.has("-l") { Order::Sorted } else { Order::TopDown },
            positions: args.has("-p"),
            verbose: args.has("-v"),
            from_node: args.has("-N"),
            style: structure::style(cx, args),
        })
    }

    fn walk(&self, cx: &mut Cx, start: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
        let root = start.add(self.root);
        match self.kind {
            Kind::RedBlack => self.red_black(cx, root, out),
            Kind::XArray => self.xarray(cx, root, out),
            Kind::Maple if self.verbose => self.maple_nodes(cx, root, out),
            Kind::Maple => self.maple(cx, root, out),
        }
    }

    fn red_black(&self, cx: &mut Cx, root: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
        let kernel = cx.kernel.clone();
        let memory = kernel.memory();
        let top = match self.from_node {
            true => root,
            false => memory.pointer(root).map_err(|missing| cannot_start(missing.into()))?,
        };
        let mut walk = Walk::default();
        for node in rbtree(memory, RbLayout::find(&kernel)?, top, self.order) {
            cx.cancel.check()?;
            let Some(node) = walk.good(cx, node)? else { continue };
            let place = Place { position: node.branches.to_string(), ..Place::default() };
            self.show(cx, node.at.sub(self.node), place, out)?;
        }
        walk.ended()
    }

    fn xarray(&self, cx: &mut Cx, root: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
        let kernel = cx.kernel.clone();
        let memory = kernel.memory();
        let layout = XArrayLayout::find(&kernel)?;
        let head = match self.from_node {
            true => layout.entry_of(root),
            false => layout.head(memory, root).map_err(cannot_start)?,
        };
        let mut walk = Walk::default();
        for entry in xarray(memory, layout, head) {
            cx.cancel.check()?;
            let Some(entry) = walk.good(cx, entry)? else { continue };
            let position = way(entry.slots());
            let place = Place { index: Some(entry.index), position, ..Place::default() };
            self.show(cx, VirtAddr(entry.entry), place, out)?;
        }
        walk.ended()
    }

    fn maple(&self, cx: &mut Cx, root: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
        let kernel = cx.kernel.clone();
        let layout = MapleLayout::find(&kernel)?;
        let top = match self.from_node {
            true => root.0 | 2,
            false => layout.tree(kernel.memory(), root).map_err(cannot_start)?.root,
        };
        let mut walk = Walk::default();
        for (number, range) in maple(kernel.memory(), layout, top).enumerate() {
            cx.cancel.check()?;
            let Some(range) = walk.good(cx, range)? else { continue };
            let place = Place {
                index: Some(range.first),
                last: Some(range.last),
                number: Some((number as u64).saturating_add(1)),
                position: way(range.path.slots().iter().map(|slot| u64::from(*slot))),
            };
            self.show(cx, VirtAddr(range.entry), place, out)?;
        }
        walk.ended()
    }

    fn maple_nodes(&self, cx: &mut Cx, root: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
        let kernel = cx.kernel.clone();
        let layout = MapleLayout::find(&kernel)?;
        let top = match self.from_node {
            true => root.0 | 2,
            false => {
                let tree = layout.tree(kernel.memory(), root).map_err(cannot_start)?;
                out.header(&maple_text::Head::new(root, tree), &())?;
                tree.root
            }
        };
        let radix = if self.style.hexadecimal { Radix::Hexadecimal } else { Radix::Decimal };
        let mut walk = Walk::default();
        for event in maple_events(kernel.memory(), layout, top) {
            cx.cancel.check()?;
            match walk.good(cx, event)? {
                Some(MapleEvent::Node(node)) => out.row(&maple_text::Node::from(*node), &radix)?,
                Some(MapleEvent::Range(range)) => out.row(&maple_text::Range::from(range), &radix)?,
                None => {}
            }
        }
        walk.ended()
    }

    fn show(
        &self,
        cx: &mut Cx,
        address: VirtAddr,
        place: Place,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        let records = structure::rows(&self.shapes, cx, address, &self.style)?;
        let view = View { positions: self.positions, style: self.style };
        Ok(out.row(&Entry { address, place, records }, &view)?)
    }
}

/// `root/0/5`
fn way(slots: impl Iterator<Item = u64>) -> String {
    slots.fold("root".to_owned(), |way, slot| format!("{way}/{slot}"))
}

fn cannot_start(broken: Broken) -> CommandError {
    CommandError::not_found(match broken {
        Broken::Missing(Missing { address: Address::Virtual(at), why }) if is_wild(why) => {
            format!("{NAME}: invalid kernel virtual address: {:x}: {why}", at.0)
        }
        other => format!("{NAME}: {other}"),
    })
}

/// What went wrong on the way.
#[derive(Default)]
struct Walk {
    entries: u64,
    /// The first part that the kernel has wrong, and how many there are.
    damage: Option<(String, u64)>,
}

impl Walk {
    /// A good item. What the dump lacks is a gap; what the kernel has wrong is told at the end.
    fn good<T>(&mut self, cx: &mut Cx, item: Result<T, Broken>) -> Result<Option<T>, CommandError> {
        match item {
            Ok(item) => {
                self.entries = self.entries.saturating_add(1);
                return Ok(Some(item));
            }
            Err(Broken::Missing(missing)) if !is_wild(missing.why) => {
                let place = missing.address.to_string();
                cx.lacks(&Lacks::Missing(missing), "part of the tree", || place);
            }
            Err(Broken::TooLong) => {
                return Err(CommandError::not_found(format!("{NAME}: the tree does not end")));
            }
            Err(broken) => {
                let what = match broken {
                    Broken::Cycle(at) => format!("duplicate tree entry: {:x}", at.0),
                    Broken::Missing(missing) => format!("a node is no kernel address: {missing}"),
                    other => other.to_string(),
                };
                let (_, count) = self.damage.get_or_insert((what, 0));
                *count = count.saturating_add(1);
            }
        }
        Ok(None)
    }

    fn ended(self) -> Result<(), CommandError> {
        match self.damage {
            None => Ok(()),
            Some((what, count)) => Err(CommandError::NotFound {
                what: format!("{NAME}: {what}"),
                hint: Some(format!(
                    "{} entries were found; {count} {} of the tree could not be walked",
                    self.entries,
                    if count == 1 { "part" } else { "parts" }
                )),
            }),
        }
    }
}

/// Whether the kernel itself could not read there: the pointer is wrong, nothing is missing from the dump.
fn is_wild(why: Why) -> bool {
    matches!(why, Why::NotMapped { .. } | Why::NotCanonical)
}
