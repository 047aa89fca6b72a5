//! From instructions to rows.

use kdive_arch::x86_64::disassemble::{Flow, Instruction, Syntax};
use kdive_base::VirtAddr;
use kdive_target::Kernel;

use super::refs;
use super::row::Row;
use crate::render::hex_bytes;
use crate::settings::Radix;
use crate::sym;

/// What rows tell.
pub(super) struct Options {
    /// Source lines.
    pub(super) lines: bool,
    /// Strings that are referred to.
    pub(super) refs: bool,
    pub(super) syntax: Syntax,
}

/// Makes rows, one behind the other.
pub(super) struct Rows<'k> {
    kernel: &'k Kernel,
    options: &'k Options,
    radix: Radix,
    /// The source line of the last row.
    line: Option<String>,
}

/// `nopl 0x0(%rax,%rax,1)`
const FTRACE_NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

impl<'k> Rows<'k> {
    pub(super) fn new(kernel: &'k Kernel, options: &'k Options, radix: Radix) -> Self {
        Self { kernel, options, radix, line: None }
    }

    pub(super) fn of(&mut self, found: &Instruction) -> Row {
        let name = |at: VirtAddr| sym::name(self.kernel, at, self.radix);
        let text = found.text(&name);
        let place = self.kernel.place(found.address);
        let offset = place.map_or(0, |place| place.offset);
        Row {
            source: if self.options.lines { self.new_line(found.address) } else { None },
            address: found.address,
            symbol: place.map(|place| place.symbol.name.to_owned()),
            offset,
            module: place.and_then(|place| place.symbol.module.map(str::to_owned)),
            bytes: hex_bytes(&found.bytes),
            text,
            target: match found.flow {
                Flow::Call(target) | Flow::Jump(target) => target,
                Flow::Branch(target) => Some(target),
                _ => None,
            },
            ftrace_nop: place.is_some() && offset == 0 && found.bytes == FTRACE_NOP,
            refs: if self.options.refs { refs::of(self.kernel, found) } else { Vec::new() },
        }
    }

    /// The instruction's line, where it is another than that of the row before.
    fn new_line(&mut self, at: VirtAddr) -> Option<String> {
        let line = crate::source_lines::location(self.kernel, at)?;
        if self.line.as_ref() == Some(&line) {
            return None;
        }
        self.line = Some(line.clone());
        Some(line)
    }
}
