//! Exception frames: the registers that entries into the kernel saved, found by their looks.

use std::fmt;

use kdive_arch::x86_64::pt_regs::{self, PT_REGS_BYTES};
use kdive_arch::x86_64::stacks::Stack;
use kdive_base::VirtAddr;
use kdive_evidence::{Register, Registers, StackKind};
use kdive_linux::tasks::Task;
use kdive_target::{Field, Kernel};
use serde::Serialize;

use super::text;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::TaskLine;
use crate::sink::{Render, Sink, SinkExt};

/// Saved registers.
#[derive(Clone, Debug, Serialize)]
struct ExceptionFrame {
    /// Address of the `pt_regs`.
    at: VirtAddr,
    /// Whether user code was interrupted.
    user: bool,
    /// Where the kernel was interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    registers: Registers,
}

impl ExceptionFrame {
    fn render(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mode = if self.user { "USER" } else { "KERNEL" };
        writeln!(out, "\n  {mode}-MODE EXCEPTION FRAME AT: {}", self.at)?;
        if !self.user {
            let ip = self.registers.ip().unwrap_or_default();
            text::exception_ip(self.function.as_deref(), self.offset.unwrap_or(0), ip.0, out)?;
            out.write_char('\n')?;
        }
        text::block(&self.registers, out)
    }
}

/// The exception frames on a stack, by address.
fn on_stack(kernel: &Kernel, stack: &Stack) -> Field<Vec<ExceptionFrame>> {
    let bytes = kernel.memory().bytes(stack.low, stack.high.since(stack.low) as usize)?;
    let mut found = Vec::new();
    let mut at = 0_usize;
    while let Some(raw) = bytes.get(at..at.saturating_add(PT_REGS_BYTES)) {
        let registers = pt_regs::from_pt_regs(raw).filter(|registers| is_plausible(kernel, registers));
        match registers {
            Some(registers) => {
                let place = stack.low.add(at as u64);
                found.push(frame(kernel, place, registers));
                at = at.saturating_add(PT_REGS_BYTES);
            }
            None => at = at.saturating_add(8),
        }
    }
    Ok(found)
}

fn frame(kernel: &Kernel, at: VirtAddr, registers: Registers) -> ExceptionFrame {
    let user = registers.in_user_mode();
    let place = registers.ip().filter(|_| !user).and_then(|ip| kernel.place(ip));
    ExceptionFrame {
        at,
        user,
        function: place.as_ref().map(|place| place.symbol.name.to_owned()),
        offset: place.map(|place| place.offset),
        registers,
    }
}

/// Whether the processor can have saved these: selectors that Linux uses (`arch/x86/include/asm/segment.h`), flags that
/// exist, an instruction pointer into code, a stack pointer that fits.
fn is_plausible(kernel: &Kernel, registers: &Registers) -> bool {
    const KERNEL_CODE: u64 = 0x10;
    const KERNEL_STACK: [u64; 3] = [0x18, 0x10, 0];
    const USER_CODE: [u64; 2] = [0x33, 0x23];
    const USER_STACK: u64 = 0x2b;
    /// Bit 1 of the flags is always set; those from 22 up do not exist.
    const FLAGS_SET: u64 = 1 << 1;
    const FLAGS_NONE: u64 = !((1 << 22) - 1);
    const SELECTOR: u64 = 0xffff;
    let value = |register| registers.get(register).unwrap_or(0);
    let (cs, ss) = (value(Register::Cs) & SELECTOR, value(Register::Ss) & SELECTOR);
    let flags = value(Register::Rflags);
    if flags & FLAGS_SET == 0 || flags & FLAGS_NONE != 0 {
        return false;
    }
    let (ip, sp) = (value(Register::Rip), value(Register::Rsp));
    let is_user = |address: u64| (0x1000..1 << 56).contains(&address);
    if USER_CODE.contains(&cs) {
        return ss == USER_STACK && is_user(ip) && is_user(sp);
    }
    cs == KERNEL_CODE
        && KERNEL_STACK.contains(&ss)
        && (sp as i64) < 0
        && sp % 8 == 0
        && kernel.is_code(VirtAddr(ip))
}

/// The exception frames of a task's stack.
#[derive(Serialize)]
struct OfTask {
    #[serde(flatten)]
    line: TaskLine,
    exceptions: Vec<ExceptionFrame>,
}

impl Render for OfTask {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.line)?;
        self.exceptions.iter().try_for_each(|frame| frame.render(out))
    }
}

/// `bt -e`.
pub(super) fn of_task(cx: &mut Cx, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let stack = task.stack.clone().and_then(|low| kernel.task_stack(low));
    let found = stack.and_then(|stack| on_stack(&kernel, &stack));
    let exceptions = cx.known(found, "stack of a task", || crate::render::place(task)).unwrap_or_default();
    out.row(&OfTask { line: TaskLine::new(cx, task), exceptions }, &())?;
    Ok(())
}

/// The exception frames of a processor's stack.
#[derive(Serialize)]
struct OfProcessor {
    cpu: u32,
    stack: StackKind,
    exceptions: Vec<ExceptionFrame>,
}

impl Render for OfProcessor {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "CPU {} {}:", self.cpu, self.stack.name().to_uppercase())?;
        if self.exceptions.is_empty() {
            out.write_str("(none found)\n")?;
        }
        self.exceptions.iter().try_for_each(|frame| frame.render(out))?;
        out.write_char('\n')
    }
}

/// `bt -E`: the interrupt stacks, then the exception stacks.
pub(super) fn of_processors(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    for lacks in &kernel.cpu_stacks().incomplete {
        cx.lacks(lacks, "stacks of the processors", String::new);
    }
    let mut stacks: Vec<_> =
        kernel.cpu_stacks().iter().filter(|of| of.stack.kind != StackKind::Entry).collect();
    stacks.sort_by_key(|of| (of.stack.kind != StackKind::Irq, of.cpu, of.stack.low));
    for of in stacks {
        cx.cancel.check()?;
        let place = || format!("CPU {} {}", of.cpu, of.stack.kind.name());
        let found = on_stack(&kernel, &of.stack);
        // Only encrypted guests have these.
        let is_optional = of.stack.kind == StackKind::VmmCommunication;
        if is_optional && found.as_ref().map_or(true, Vec::is_empty) {
            continue;
        }
        let Some(exceptions) = cx.known(found, "stack of a processor", place) else { continue };
        out.row(&OfProcessor { cpu: of.cpu, stack: of.stack.kind, exceptions }, &())?;
    }
    Ok(())
}
