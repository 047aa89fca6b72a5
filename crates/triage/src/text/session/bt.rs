//! `bt`: frames, exception frames with their registers, and the text symbols that it falls back to.

use kdive_base::VirtAddr;
use kdive_evidence::{FrameTrust, Place, Registers, StackKind, TraceFrame};

use crate::case::TaskStack;
use crate::text::registers;
use crate::text::scan::{after, between, decimal, hex, unquoted};
use crate::text::trace::{is_name, old_symbol};

/// Frames that one backtrace may have.
const MOST_FRAMES: usize = 512;

/// The backtrace of one task.
#[derive(Clone, Debug, Default)]
pub(in crate::text) struct Backtrace {
    pub(in crate::text) pid: Option<i32>,
    pub(in crate::text) comm: Option<String>,
    pub(in crate::text) task: Option<VirtAddr>,
    pub(in crate::text) cpu: Option<u32>,
    /// Frames, innermost first; places of exceptions are among them.
    pub(in crate::text) frames: Vec<TraceFrame>,
    /// Index among the frames of the innermost exception in the kernel.
    pub(in crate::text) exception: Option<usize>,
    /// Registers of that exception.
    pub(in crate::text) registers: Registers,
    /// `text symbols on stack`: the best that crash could do.
    pub(in crate::text) symbols: Vec<TraceFrame>,
    stack: Option<StackKind>,
    pending: Registers,
    place: Option<Place>,
    /// Registers that follow are those of a program.
    user: bool,
}

impl Backtrace {
    /// `PID: 21797 TASK: db976d30 CPU: 0 COMMAND: "nodemon"`.
    pub(super) fn heading(text: &str) -> Option<Self> {
        let text = match text.strip_prefix("PID:") {
            Some(rest) => rest,
            None if text.starts_with('[') => after(text, "] PID:")?,
            None => return None,
        };
        let (pid, _) = decimal(text.trim_start())?;
        let task = hex(after(text, "TASK:")?.trim_start())?.0;
        let cpu = after(text, "CPU:").and_then(|rest| decimal(rest.trim_start()));
        Some(Self {
            pid: i32::try_from(pid).ok(),
            task: Some(VirtAddr(task)),
            cpu: cpu.and_then(|(cpu, _)| u32::try_from(cpu).ok()),
            comm: after(text, "COMMAND:").map(|comm| unquoted(comm).to_owned()),
            ..Self::default()
        })
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// What may stand between frames without ending them.
    pub(super) fn is_remark(&self, text: &str) -> bool {
        text.starts_with("bt:")
            || hex(text).is_some_and(|(_, digits, rest)| digits >= 7 && rest.starts_with(':'))
    }

    /// Takes a line. Whether it was one of a backtrace.
    pub(super) fn line(&mut self, text: &str) -> bool {
        if let Some(frame) = frame(text) {
            self.flush();
            let same = self.frames.last().is_some_and(|last| {
                last.interrupted && last.place.function.is_none() && last.place.address == frame.address
            });
            if same && let Some(last) = self.frames.last_mut() {
                // i386 shows the interrupted function as the next frame.
                last.place = frame;
            } else {
                self.push(frame, false);
            }
            return true;
        }
        if text.starts_with('[')
            && let Some(place) = between(text, "[exception RIP: ", "]")
        {
            self.flush();
            self.place = old_symbol(place)
                .or_else(|| Some(Place { address: Some(VirtAddr(hex(place)?.0)), ..Place::default() }));
            return true;
        }
        if text.starts_with("KERNEL-MODE EXCEPTION FRAME") || text.starts_with("USER-MODE EXCEPTION FRAME") {
            self.flush();
            self.user = text.starts_with("USER");
            return true;
        }
        if text.starts_with('-') && text.contains('<') && text.contains('>') {
            self.flush();
            self.stack = None;
            if let Some(last) = self.frames.last_mut() {
                last.stack = last.stack.or(stack_of(text));
            }
            let kind = stack_of(text);
            for frame in
                self.frames.iter_mut().rev().take_while(|frame| frame.stack.is_none() || frame.stack == kind)
            {
                frame.stack = kind;
            }
            self.stack = Some(StackKind::Task);
            return true;
        }
        if text.starts_with("bt:") {
            return true;
        }
        if let Some(symbol) = stack_symbol(text) {
            self.flush();
            if self.symbols.len() < MOST_FRAMES {
                self.symbols.push(TraceFrame {
                    place: symbol,
                    trust: FrameTrust::PrintedUnsure,
                    stack: None,
                    inlined: false,
                    interrupted: false,
                });
            }
            return true;
        }
        let mut read = self.pending.clone();
        if registers::line(text, &mut read).is_some() {
            self.pending = read;
            return true;
        }
        false
    }

    /// Ends the registers that were being read: they are of an exception in the kernel, or of the program that called it.
    fn flush(&mut self) {
        let registers = std::mem::take(&mut self.pending);
        let place = self.place.take();
        let user = std::mem::take(&mut self.user) || registers.in_user_mode();
        if user || (registers.ip().is_none() && place.is_none()) {
            return;
        }
        let place = Place { address: registers.ip(), ..place.unwrap_or_default() };
        if self.exception.is_none() {
            self.exception = Some(self.frames.len());
            self.registers = registers;
        }
        self.push(place, true);
    }

    fn push(&mut self, place: Place, interrupted: bool) {
        if self.frames.len() < MOST_FRAMES {
            self.frames.push(TraceFrame {
                place,
                trust: FrameTrust::Printed,
                stack: self.stack,
                inlined: false,
                interrupted,
            });
        }
    }

    pub(super) fn end(&mut self) {
        self.flush();
    }

    /// Where it failed: the exception's place.
    pub(in crate::text) fn place(&self) -> Option<&Place> {
        self.frames.get(self.exception?).map(|frame| &frame.place)
    }

    /// The frames that called the place of the exception; all frames where there was none.
    pub(in crate::text) fn callers(&self) -> &[TraceFrame] {
        let start = self.exception.map_or(0, |at| at.saturating_add(1));
        self.frames.get(start..).unwrap_or_default()
    }

    /// Whether a function stands among the frames or the text symbols.
    pub(in crate::text) fn has(&self, function: &str) -> bool {
        self.frames.iter().chain(&self.symbols).any(|frame| frame.place.function.as_deref() == Some(function))
    }

    /// As the stack of a task.
    pub(in crate::text) fn into_task(self) -> TaskStack {
        let frames = if self.frames.is_empty() { self.symbols } else { self.frames };
        TaskStack { pid: self.pid, comm: self.comm, task: self.task, cpu: self.cpu, state: None, frames }
    }
}

/// `#3 [ffff810123b11bf0] error_exit at ffffffff8005dde9 [mod]`, `#2 [efde1cd8] .text.lock.vmscan (via launder_page) at c0158f86`.
fn frame(text: &str) -> Option<Place> {
    let (_, rest) = decimal(text.strip_prefix('#')?)?;
    let (stack, rest) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
    hex(stack).filter(|(_, digits, rest)| *digits >= 6 && rest.is_empty())?;
    at(rest)
}

/// `[d0b03e78] try_crashdump at c013403d`.
fn stack_symbol(text: &str) -> Option<Place> {
    let (stack, rest) = text.strip_prefix('[')?.split_once(']')?;
    hex(stack).filter(|(_, digits, rest)| *digits >= 7 && rest.is_empty())?;
    at(rest)
}

/// `f at ffffffff8005dde9 [mod]`, with what crash says of the way there left out.
fn at(text: &str) -> Option<Place> {
    let (name, rest) = text.trim().split_once(" at ")?;
    let (name, _) = name.split_once(" (").unwrap_or((name, ""));
    let (address, _, rest) = hex(rest.trim_start())?;
    let (name, offset) = match name.split_once('+') {
        Some((name, offset)) => (name, old_symbol(&format!("f+{offset}")).and_then(|place| place.offset)),
        None => (name, None),
    };
    let module = between(rest, "[", "]").filter(|module| is_name(module)).map(str::to_owned);
    is_name(name).then(|| Place {
        address: Some(VirtAddr(address)),
        function: Some(name.to_owned()),
        offset,
        size: None,
        module,
    })
}

/// The stack that the frames above a line `--- <IRQ stack> ---` are on.
fn stack_of(text: &str) -> Option<StackKind> {
    let name = between(text, "<", ">")?;
    Some(match name {
        "IRQ stack" | "hard IRQ" => StackKind::Irq,
        "soft IRQ" => StackKind::SoftIrq,
        _ if name.contains("NMI") => StackKind::Nmi,
        _ if name.contains("DOUBLEFAULT") || name.contains("#DF") => StackKind::DoubleFault,
        _ if name.contains("MCE") => StackKind::MachineCheck,
        _ if name.contains("DEBUG") => StackKind::Debug,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use kdive_evidence::Register;

    use super::*;

    fn read(lines: &[&str]) -> Backtrace {
        let mut bt = Backtrace::heading(lines[0]).unwrap();
        for text in &lines[1..] {
            assert!(bt.line(text), "{text}");
        }
        bt.end();
        bt
    }

    #[test]
    fn a_64_bit_exception_is_found_among_its_frames() {
        let bt = read(&[
            "PID: 21246 TASK: ffff81016fb5b100 CPU: 2 COMMAND: \"MUXD\"",
            "#2 [ffff810123b11b00] do_page_fault at ffffffff80066dd7",
            "#3 [ffff810123b11bf0] error_exit at ffffffff8005dde9",
            "[exception RIP: list_del+8]",
            "RIP: ffffffff80153f77 RSP: ffff810123b11ca8 RFLAGS: 00010246",
            "RAX: 0000000000200200 RBX: ffff81028b3220d0 RCX: ffff810123b11c88",
            "ORIG_RAX: ffffffffffffffff CS: 0010 SS: 0018",
            "#4 [ffff810123b11cb0] sctp_association_free at ffffffff885133cd [sctp]",
            "#14 [ffff810123b11f80] tracesys at ffffffff8005d28d (via system_call)",
            "RIP: 00000039a040d637 RSP: 00007fff077d4e80 RFLAGS: 00000206",
            "ORIG_RAX: 0000000000000003 CS: 0033 SS: 002b",
        ]);
        assert_eq!(bt.comm.as_deref(), Some("MUXD"));
        assert_eq!(bt.place().and_then(|place| place.function.clone()).as_deref(), Some("list_del"));
        assert_eq!(bt.registers.get(Register::Rax), Some(0x20_0200));
        let callers: Vec<_> =
            bt.callers().iter().filter_map(|frame| frame.place.function.as_deref()).collect();
        assert_eq!(callers, ["sctp_association_free", "tracesys"]);
        assert_eq!(bt.callers()[0].place.module.as_deref(), Some("sctp"));
    }

    #[test]
    fn a_32_bit_exception_names_itself_in_the_next_frame() {
        let bt = read(&[
            "PID: 20093 TASK: bd0c0000 CPU: 1 COMMAND: \"save\"",
            "#4 [bd0c1dc8] error_code (via invalid_op) at 22ad29d",
            "EAX: 00000053 EBX: 00000010 ECX: 000f6000 EDX: 0015b8f0 EBP: 0817586c",
            "DS: 0068 ESI: 023a9408 ES: 0068 EDI: 023a8200",
            "CS: 0060 EIP: 02159f7d ERR: ffffffff EFLAGS: 00010006",
            "#5 [bd0c1e04] rmqueue at 2159f7d",
            "#6 [bd0c1e40] __alloc_pages_limit at 215a268",
        ]);
        assert_eq!(bt.place().and_then(|place| place.function.clone()).as_deref(), Some("rmqueue"));
        assert_eq!(bt.callers().len(), 1);
    }
}
