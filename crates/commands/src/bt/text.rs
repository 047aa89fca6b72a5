//! `bt` in crash's layout.

use std::fmt;

use kdive_evidence::{Register, Registers};

use super::record::{BtFrame, BtTask};
use crate::render::{Known, UNKNOWN};
use crate::settings::Radix;
use crate::sink::Render;
use crate::words::StackWord;

/// How frames are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Offsets in functions, in this radix.
    pub(super) offset: Option<Radix>,
    /// How each frame was found.
    pub(super) trust: bool,
    /// The words of frames.
    pub(super) words: Option<crate::words::Mode>,
}

impl Render for BtTask {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.line)?;
        let mut frames = self.frames.iter().peekable();
        while let Some(frame) = frames.next() {
            match frame.level {
                Some(level) => numbered(frame, level, view, out)?,
                // The processor's own registers, before the first call.
                None => registers_of(frame, view, out)?,
            }
            // The registers that this frame's function saved stand under it, whatever stack they lead to.
            if let Some(next) = frames.peek().filter(|next| next.registers.is_some()) {
                registers_of(next, view, out)?;
            }
            words(&frame.words, view, out)?;
            match frames.peek() {
                Some(next) if next.stack != frame.stack => writeln!(out, "--- <{}> ---", frame.stack.name())?,
                // Without a number of its own it was shown with its registers.
                Some(next) if next.level.is_none() => {
                    frames.next();
                }
                _ => {}
            }
        }
        match &self.user {
            Some(registers) => block(registers, out),
            None => Ok(()),
        }
    }
}

fn numbered(frame: &BtFrame, level: usize, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
    let number = format!("#{level}");
    write!(out, "{number:>3} [{}] ", frame.sp)?;
    match (&frame.function, frame.offset, view.offset) {
        (Some(function), Some(offset), Some(radix)) => write!(out, "{function}+{}", Offset(offset, radix))?,
        (Some(function), ..) => out.write_str(function)?,
        (None, ..) => out.write_str("(unknown)")?,
    }
    write!(out, " at {}", frame.ip)?;
    if let Some(module) = &frame.module {
        write!(out, " [{module}]")?;
    }
    if view.trust {
        write!(out, "  ({})", frame.trust.name())?;
    }
    out.write_char('\n')?;
    source(frame, out)
}

/// The functions inlined there, the innermost first, the line in the function itself, and the variables.
fn source(frame: &BtFrame, out: &mut dyn fmt::Write) -> fmt::Result {
    for inlined in &frame.inlined {
        let location = inlined.location.as_deref().unwrap_or(UNKNOWN);
        writeln!(out, "    {} (inlined) {location}", inlined.function)?;
    }
    if let Some(location) = &frame.location {
        writeln!(out, "    {location}")?;
    }
    for local in &frame.locals {
        writeln!(out, "    {}", local.assignment())?;
    }
    Ok(())
}

struct Offset(u64, Radix);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Radix::Decimal => write!(f, "{}", self.0),
            Radix::Hexadecimal => write!(f, "{:#x}", self.0),
        }
    }
}

/// Interrupted code: where it stood, and its registers.
fn registers_of(frame: &BtFrame, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
    exception_ip(frame.function.as_deref(), frame.offset.unwrap_or(0), frame.ip.0, out)?;
    if view.trust {
        write!(out, "  ({})", frame.trust.name())?;
    }
    out.write_char('\n')?;
    if frame.level.is_none() {
        source(frame, out)?;
    }
    frame.registers.as_ref().map_or(Ok(()), |registers| block(registers, out))
}

/// `    [exception RIP: deref+24]`, without a line feed.
pub(super) fn exception_ip(
    function: Option<&str>,
    offset: u64,
    ip: u64,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    match function {
        Some(function) => write!(out, "    [exception RIP: {function}+{offset}]"),
        None => write!(out, "    [exception RIP: unknown or invalid address] {ip:016x}"),
    }
}

/// The block of registers that crash prints.
pub(super) fn block(registers: &Registers, out: &mut dyn fmt::Write) -> fmt::Result {
    use Register::{
        Cs, OrigRax, R8, R9, R10, R11, R12, R13, R14, R15, Rax, Rbp, Rbx, Rcx, Rdi, Rdx, Rflags, Rip, Rsi,
        Rsp, Ss,
    };
    const ROWS: [[Register; 3]; 5] =
        [[Rax, Rbx, Rcx], [Rdx, Rsi, Rdi], [Rbp, R8, R9], [R10, R11, R12], [R13, R14, R15]];
    let value = |register| Padded(registers.get(register), 16);
    let short = |register, width| Padded(registers.get(register), width);
    writeln!(out, "    RIP: {}  RSP: {}  RFLAGS: {}", value(Rip), value(Rsp), short(Rflags, 8))?;
    for [first, second, third] in ROWS {
        let name = |register: Register| register.name().to_uppercase();
        let (first_name, second_name, third_name) = (name(first), name(second), name(third));
        let (first, second, third) = (value(first), value(second), value(third));
        writeln!(out, "    {first_name:>3}: {first}  {second_name:>3}: {second}  {third_name:>3}: {third}")?;
    }
    out.write_str("    ")?;
    if registers.get(OrigRax).is_some() {
        write!(out, "ORIG_RAX: {}  ", value(OrigRax))?;
    }
    writeln!(out, "CS: {}  SS: {}", short(Cs, 4), short(Ss, 4))
}

/// Hexadecimal digits of a register, or as many question marks.
struct Padded(Option<u64>, usize);

impl fmt::Display for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:0width$x}", width = self.1),
            None => write!(f, "{:?>width$}", "", width = self.1),
        }
    }
}

/// Two words a line, behind the address of the first.
fn words(words: &[StackWord], view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(mode) = view.words else { return Ok(()) };
    for pair in words.chunks(2) {
        write!(out, "    {}: ", Known(pair.first().map(|word| word.at)))?;
        for word in pair {
            write!(out, "{:<16} ", word.text(mode))?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kdive_base::VirtAddr;
    use kdive_evidence::{FrameTrust, StackKind};

    use super::*;
    use crate::render::TaskLine;
    use crate::words::Mode;

    #[test]
    fn registers_stand_as_crash_prints_them() {
        let mut registers = Registers::default();
        for (register, value) in Register::ALL.iter().zip(0x10_u64..) {
            registers.set(*register, value);
        }
        registers.set(Register::OrigRax, None);
        registers.set(Register::R9, None);
        let mut text = String::new();
        block(&registers, &mut text).unwrap();
        assert_eq!(
            text,
            "    RIP: 0000000000000020  RSP: 0000000000000017  RFLAGS: 00000021\n    \
             RAX: 0000000000000010  RBX: 0000000000000011  RCX: 0000000000000012\n    \
             RDX: 0000000000000013  RSI: 0000000000000014  RDI: 0000000000000015\n    \
             RBP: 0000000000000016   R8: 0000000000000018   R9: ????????????????\n    \
             R10: 000000000000001a  R11: 000000000000001b  R12: 000000000000001c\n    \
             R13: 000000000000001d  R14: 000000000000001e  R15: 000000000000001f\n    \
             CS: 0022  SS: 0023\n"
        );
    }

    fn frame(level: Option<usize>, sp: u64, function: &str, stack: StackKind) -> BtFrame {
        let registers = Registers::default().with(Register::Rip, 0x42).with(Register::Rsp, sp);
        BtFrame {
            level,
            ip: VirtAddr(0x1000 + sp),
            sp: VirtAddr(sp),
            function: Some(function.to_owned()),
            offset: Some(31),
            module: None,
            trust: FrameTrust::Orc,
            stack,
            interrupted: false,
            registers: function.starts_with('i').then_some(registers),
            pt_regs: None,
            location: None,
            inlined: Vec::new(),
            locals: Vec::new(),
            words: Vec::new(),
        }
    }

    /// The text without the rows of registers.
    fn shown(frames: Vec<BtFrame>, view: &View) -> Vec<String> {
        let line = TaskLine { pid: Some(7), task: VirtAddr(0x10), cpu: Some(1), command: Some("sh".into()) };
        let task = BtTask { line, frames, user: None, lost: None };
        let mut text = String::new();
        task.render(view, &mut text).unwrap();
        let row = |line: &&str| line.contains(": ????") || line.contains("CS:") || line.contains("RAX:");
        text.lines().skip(1).filter(|line| !row(line)).map(str::to_owned).collect()
    }

    const PLAIN: View = View { offset: None, trust: false, words: None };

    #[test]
    fn interrupted_code_stands_with_its_registers_and_is_numbered_on_another_stack() {
        use StackKind::{Irq, Nmi, Task};
        let frames = vec![
            frame(None, 0x10, "idle", Nmi),
            frame(Some(0), 0x20, "exc_nmi", Nmi),
            frame(Some(1), 0x30, "interrupted_in_irq", Irq),
            frame(Some(2), 0x40, "sysvec", Irq),
            frame(Some(3), 0x50, "asm_sysvec", Task),
            frame(None, 0x60, "interrupted", Task),
            frame(Some(4), 0x70, "caller", Task),
        ];
        let expected = [
            "    [exception RIP: idle+31]",
            " #0 [0000000000000020] exc_nmi at 0000000000001020",
            "    [exception RIP: interrupted_in_irq+31]",
            "--- <NMI exception stack> ---",
            " #1 [0000000000000030] interrupted_in_irq at 0000000000001030",
            " #2 [0000000000000040] sysvec at 0000000000001040",
            "--- <IRQ stack> ---",
            " #3 [0000000000000050] asm_sysvec at 0000000000001050",
            "    [exception RIP: interrupted+31]",
            " #4 [0000000000000070] caller at 0000000000001070",
        ];
        assert_eq!(shown(frames, &PLAIN), expected);
    }

    #[test]
    fn frames_tell_offset_module_words_and_trust_when_asked() {
        let word = |at, value, cache: Option<&str>| StackWord {
            at: VirtAddr(at),
            value: VirtAddr(value),
            symbol: (value == 0x99).then(|| "schedule+39".to_owned()),
            cache: cache.map(str::to_owned),
        };
        let mut first = frame(Some(0), 0x20, "deref", StackKind::Task);
        first.module = Some("crasher".into());
        first.words = vec![word(0x28, 0x55, Some("filp")), word(0x30, 0x99, None), word(0x38, 7, None)];
        let view = View { offset: Some(Radix::Hexadecimal), trust: true, words: Some(Mode::Symbolic) };
        assert_eq!(
            shown(vec![first.clone()], &view),
            [
                " #0 [0000000000000020] deref+0x1f at 0000000000001020 [crasher]  (orc)",
                "    0000000000000028: [filp]           schedule+39      ",
                "    0000000000000038: 0000000000000007 ",
            ]
        );
        let view = View { offset: Some(Radix::Decimal), trust: false, words: Some(Mode::SymbolicWithValue) };
        let lines = shown(vec![first], &view);
        assert_eq!(lines.first().unwrap(), " #0 [0000000000000020] deref+31 at 0000000000001020 [crasher]");
        assert_eq!(lines.get(1).unwrap(), "    0000000000000028: [0000000000000055:filp] schedule+39      ");
    }
}
