//! Descriptors and handlers.

use std::collections::BTreeMap;
use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::irq::{IrqDesc, Irqs, count};
use serde::Serialize;

use super::number;
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::UNKNOWN;
use crate::sink::{Render, Sink, SinkExt};

#[derive(Serialize)]
struct DescRow {
    irq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    desc: Option<VirtAddr>,
    actions: Vec<ActionRow>,
}

#[derive(Serialize)]
struct ActionRow {
    action: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl DescRow {
    fn new(cx: &mut Cx, irq: u64, desc: Option<&IrqDesc>) -> Self {
        let actions = desc.map(|desc| names(cx, desc)).unwrap_or_default();
        Self { irq, desc: desc.map(|desc| desc.at), actions }
    }
}

fn names(cx: &mut Cx, desc: &IrqDesc) -> Vec<ActionRow> {
    let place = || format!("IRQ {}", desc.irq);
    if let Some(lacks) = &desc.lacks {
        cx.lacks(lacks, "handlers of an interrupt", place);
    }
    let row = |action: &kdive_linux::irq::Action| ActionRow {
        action: action.at,
        name: cx.known(action.name.clone(), "name of a handler", place).flatten(),
    };
    desc.actions.iter().map(row).collect()
}

const UNUSED: &str = "    (unused)    ";

impl Render for DescRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:^5} ", self.irq)?;
        match self.desc {
            Some(at) => write!(out, "{at}  ")?,
            None => write!(out, "{UNUSED}  ")?,
        }
        if self.actions.is_empty() {
            return writeln!(out, "{UNUSED}  ");
        }
        for (index, action) in self.actions.iter().enumerate() {
            if index > 0 {
                write!(out, "{:24}", "")?;
            }
            let name = action.name.as_deref().unwrap_or(UNKNOWN);
            writeln!(out, "{}  \"{name}\"", action.action)?;
        }
        Ok(())
    }
}

/// All interrupts, those that the operands name, or with `-u` those that have a descriptor.
pub(super) fn show(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let wanted = wanted(cx, args)?;
    let total = match args.has("-u") || !wanted.is_empty() {
        true => 0,
        false => count(&kernel)?,
    };
    let descs = all(cx, &Irqs::new(&kernel))?;
    out.heading(" IRQ   IRQ_DESC/_DATA      IRQACTION      NAME\n")?;
    let numbers: Box<dyn Iterator<Item = u64>> = match (args.has("-u"), wanted.is_empty()) {
        (_, false) => Box::new(wanted.into_iter()),
        (true, true) => Box::new(descs.keys().copied()),
        (false, true) => Box::new(0..total),
    };
    for irq in numbers {
        cx.cancel.check()?;
        let row = DescRow::new(cx, irq, descs.get(&irq));
        out.row(&row, &())?;
    }
    Ok(())
}

/// The numbers that the operands name.
fn wanted(cx: &Cx, args: &Args) -> Result<Vec<u64>, CommandError> {
    if args.operands.is_empty() {
        return Ok(Vec::new());
    }
    let total = count(&cx.kernel)?;
    args.operands.iter().map(|word| number(word, total)).collect()
}

/// The descriptors that have a handler, those that the operands name where there are any.
pub(super) fn handled(
    cx: &mut Cx,
    args: &Args,
    irqs: &Irqs<'_>,
) -> Result<impl Iterator<Item = IrqDesc> + use<>, CommandError> {
    let wanted = wanted(cx, args)?;
    let descs = all(cx, irqs)?.into_values();
    let is_wanted = move |irq: u64| wanted.is_empty() || wanted.contains(&irq);
    Ok(descs.filter(move |desc| !desc.actions.is_empty() && is_wanted(desc.irq)))
}

/// The descriptors by number; what is broken is noted.
pub(super) fn all(cx: &mut Cx, irqs: &Irqs<'_>) -> Result<BTreeMap<u64, IrqDesc>, CommandError> {
    let mut found = BTreeMap::new();
    for desc in irqs.all()? {
        match desc {
            Ok(desc) => {
                found.insert(desc.irq, desc);
            }
            Err(lacks) => cx.lacks(&lacks, "descriptors of interrupts", String::new),
        }
    }
    Ok(found)
}

/// The names of an interrupt's handlers.
pub(super) fn handlers(cx: &mut Cx, desc: &IrqDesc) -> Vec<String> {
    let unnamed = || UNKNOWN.to_owned();
    names(cx, desc).into_iter().map(|action| action.name.unwrap_or_else(unnamed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: &DescRow) -> String {
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn handlers_stand_below_each_other() {
        let action = |at, name: &str| ActionRow { action: VirtAddr(at), name: Some(name.to_owned()) };
        let actions = vec![action(0x10, "ehci"), action(0x20, "uhci")];
        let shared = DescRow { irq: 21, desc: Some(VirtAddr(1)), actions };
        let first = " 21   0000000000000001  0000000000000010  \"ehci\"\n";
        let second = "                        0000000000000020  \"uhci\"\n";
        assert_eq!(text(&shared), format!("{first}{second}"));
    }

    #[test]
    fn what_is_unused_says_so() {
        let unused = |irq, desc| text(&DescRow { irq, desc, actions: Vec::new() });
        assert_eq!(unused(2, Some(VirtAddr(1))), "  2   0000000000000001      (unused)      \n");
        assert_eq!(unused(400, None), " 400      (unused)          (unused)      \n");
    }
}
