//! Arguments and local variables of a frame.

use kdive_base::VirtAddr;
use kdive_evidence::{Frame, FrameTrust, Registers, StackKind};
use kdive_target::{Field, Kernel};
use serde::Serialize;

/// An argument or local variable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BtLocal {
    /// Its name.
    pub(crate) name: String,
    /// Its type, as C spells it.
    #[serde(rename = "type")]
    pub(crate) of: String,
    /// Whether it is an argument.
    pub(crate) argument: bool,
    /// Functions inlined around it: 0 is the innermost.
    pub(crate) function: usize,
    /// Its value. Without one and without a reason, the compiler kept none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    /// Why its value is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lacks: Option<String>,
}

impl BtLocal {
    /// `name = value`, or why there is none.
    pub(crate) fn assignment(&self) -> String {
        match (&self.value, &self.lacks) {
            (Some(value), _) => format!("{} = {value}", self.name),
            (None, Some(lacks)) => format!("{} = <{lacks}>", self.name),
            (None, None) => format!("{} = <optimized out>", self.name),
        }
    }
}

/// The variables in scope in each frame of a stack, innermost first.
#[cfg(feature = "dwarf")]
pub(crate) fn of_stack(kernel: &Kernel, frames: &[Frame]) -> Vec<Field<Vec<BtLocal>>> {
    let mut frames = frames.to_vec();
    kernel.recover_registers(&mut frames);
    let callers = frames.iter().skip(1).map(Some).chain([None]);
    frames.iter().zip(callers).map(|(frame, caller)| of_frame(kernel, frame, caller)).collect()
}

#[cfg(feature = "dwarf")]
fn of_frame(kernel: &Kernel, frame: &Frame, caller: Option<&Frame>) -> Field<Vec<BtLocal>> {
    let locals = kernel.locals(frame, caller)?;
    let show = |local| match kernel.show_local(&locals, local, &kdive_target::Style::LINE) {
        Ok(value) => (value, None),
        Err(lacks) => (None, Some(lacks.to_string())),
    };
    let records = locals.variables.iter().map(|local| {
        let (value, lacks) = show(local);
        let name = kdive_base::printable(local.name.as_bytes());
        let of = kdive_base::printable(locals.types.name_of(local.of).as_bytes());
        BtLocal { name, of, argument: local.argument, function: local.function, value, lacks }
    });
    Ok(records.collect())
}

/// Without a reader of DWARF there are no variables.
#[cfg(not(feature = "dwarf"))]
pub(crate) fn of_stack(_kernel: &Kernel, _frames: &[Frame]) -> Vec<Field<Vec<BtLocal>>> {
    vec![Err(kdive_target::Lacks::unavailable("this kdive was built without DWARF"))]
}

/// The variables that code at an address sees, whose values nobody asks for.
pub(crate) fn at(kernel: &Kernel, at: VirtAddr) -> Field<Vec<BtLocal>> {
    let registers = Registers::default();
    let frame = Frame {
        ip: at,
        sp: VirtAddr(0),
        trust: FrameTrust::Registers,
        stack: StackKind::Task,
        interrupted: true,
        registers,
        pt_regs: None,
    };
    of_stack(kernel, &[frame]).into_iter().next().unwrap_or_else(|| Ok(Vec::new()))
}
