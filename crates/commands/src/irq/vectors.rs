//! The interrupt descriptor table and the handlers of soft interrupts.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::irq;
use kdive_target::Kernel;
use serde::Serialize;

use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// A vector, and what it leads to.
#[derive(Serialize)]
struct Vector {
    vector: u32,
    handler: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Vector {
    fn new(kernel: &Kernel, vector: u32, handler: VirtAddr) -> Self {
        Self { vector, handler, name: kernel.place(handler).map(|place| place.to_string()) }
    }
}

/// A gate of the descriptor table.
#[derive(Serialize)]
#[serde(transparent)]
struct Gate(Vector);

impl Render for Gate {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(Vector { vector, handler, name }) = self;
        let number = format!("[{vector}]");
        match name {
            Some(name) => writeln!(out, "{number:>5} {name}"),
            None => writeln!(out, "{number:>5} {handler}"),
        }
    }
}

/// A soft interrupt.
#[derive(Serialize)]
#[serde(transparent)]
struct Soft(Vector);

impl Render for Soft {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let Self(Vector { vector, handler, name }) = self;
        writeln!(out, "{:>7}     {handler}  <{}>", format!("[{vector}]"), Known(name.as_ref()))
    }
}

/// `-d`.
pub(super) fn idt(cx: &mut Cx, _: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    for gate in irq::idt(&cx.kernel)? {
        out.row(&Gate(Vector::new(&cx.kernel, gate.vector, gate.handler)), &())?;
    }
    Ok(())
}

/// `-b`.
pub(super) fn softirqs(cx: &mut Cx, _: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let found = irq::softirqs(&cx.kernel)?;
    out.heading("SOFTIRQ_VEC      ACTION     \n")?;
    for soft in found.iter().filter(|soft| !soft.action.is_null()) {
        out.row(&Soft(Vector::new(&cx.kernel, soft.number, soft.action)), &())?;
    }
    Ok(())
}
