//! A program's code: instructions of the virtual machine, and of this one.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::bpf::{Bytecode, Program, ProgramLoader};
use serde::Serialize;

use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::hex_bytes;
use crate::sink::{Render, Sink, SinkExt};

/// An instruction after verification.
#[derive(Debug, Serialize)]
struct Translated {
    number: usize,
    text: String,
    /// In hexadecimal, with blanks between them.
    bytes: String,
}

impl Render for Translated {
    /// Whether the bytes are shown.
    type View = bool;

    fn render(&self, bytes: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        let opcode = self.bytes.get(..2).unwrap_or_default();
        writeln!(out, "{:>4}: ({opcode}) {}", self.number, self.text)?;
        if *bytes {
            writeln!(out, "       {}", self.bytes)?;
        }
        Ok(())
    }
}

/// Shows the instructions after verification.
pub(super) fn translated(
    cx: &mut Cx,
    args: &Args,
    loader: &ProgramLoader<'_>,
    program: &Program,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let place = || format!("program {}", program.id);
    let Some(code) = cx.known(loader.code(program), "bytecode", place) else { return Ok(()) };
    let maps = cx.known(loader.map_addresses(program), "maps", place).unwrap_or_default();
    let base = kernel.symbol("__bpf_call_base");
    let map = |at| maps.iter().find(|(map, _)| *map == at).map(|(_, id)| *id);
    let helper = |distance: i32| {
        let at = VirtAddr(base.as_ref().ok()?.0.wrapping_add_signed(distance.into()));
        let place = kernel.place(at).filter(|place| place.offset == 0)?;
        Some(place.symbol.name.to_owned())
    };
    let jited = program.jited.clone().unwrap_or(false);
    out.heading("\n")?;
    for found in (Bytecode { map: &map, helper: &helper, jited }).decode(&code) {
        cx.cancel.check()?;
        let row = Translated { number: found.number, text: found.text, bytes: hex_bytes(&found.bytes) };
        out.row(&row, &args.has("-T"))?;
    }
    Ok(())
}

/// Shows the compiled code.
#[cfg(feature = "disassemble")]
pub(super) fn compiled(
    cx: &mut Cx,
    args: &Args,
    loader: &ProgramLoader<'_>,
    program: &Program,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let place = || format!("program {}", program.id);
    let functions = cx.known(loader.compiled(program), "compiled code", place).unwrap_or_default();
    for (number, function) in functions.iter().enumerate() {
        out.heading("\n")?;
        if number > 0 {
            let name = cx.kernel.place(function.at).map(|place| place.symbol.name.to_owned());
            out.heading(&format!("   {}:\n", name.as_deref().unwrap_or("subprogram")))?;
        }
        jit::function(cx, args, *function, out)?;
    }
    Ok(())
}

#[cfg(not(feature = "disassemble"))]
pub(super) fn compiled(
    _cx: &mut Cx,
    _args: &Args,
    _loader: &ProgramLoader<'_>,
    _program: &Program,
    _out: &mut dyn Sink,
) -> Result<(), CommandError> {
    Err(CommandError::not_found("bpf: this kdive was built without its disassembler"))
}

#[cfg(feature = "disassemble")]
mod jit {
    use std::fmt;

    use kdive_arch::x86_64::disassemble::Syntax;
    use kdive_base::VirtAddr;
    use kdive_linux::bpf::Compiled;
    use kdive_target::Lacks;
    use serde::Serialize;

    use crate::args::Args;
    use crate::code::Instructions;
    use crate::command::CommandError;
    use crate::cx::Cx;
    use crate::settings::Radix;
    use crate::sink::{Render, Sink, SinkExt};
    use crate::sym;

    /// An instruction of this machine.
    #[derive(Debug, Serialize)]
    pub(super) struct Machine {
        pub(super) address: VirtAddr,
        pub(super) text: String,
    }

    impl Render for Machine {
        type View = ();

        fn render(&self, _view: &(), out: &mut dyn fmt::Write) -> fmt::Result {
            writeln!(out, "   0x{:x}:\t{} ", self.address.0, self.text)
        }
    }

    pub(super) fn function(
        cx: &mut Cx,
        args: &Args,
        function: Compiled,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        let kernel = cx.kernel.clone();
        let radix = if args.has("-x") { Radix::Hexadecimal } else { cx.settings.radix };
        let end = function.at.add(function.bytes.into());
        // Jumps inside need no names: their targets are in sight.
        let name = |at: VirtAddr| match (function.at..end).contains(&at) {
            true => None,
            false => sym::name(&kernel, at, radix),
        };
        let mut instructions = Instructions::new(kernel.memory(), function.at, Syntax::Att);
        while instructions.at < end {
            cx.cancel.check()?;
            match instructions.one() {
                Ok(found) => out.row(&Machine { address: found.address, text: found.text(&name) }, &())?,
                Err(missing) => {
                    cx.lacks(&Lacks::Missing(missing), "compiled code", || missing.address.to_string());
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_crashs() {
        let row = Translated { number: 10, text: "exit".into(), bytes: "95 00 00 00 00 00 00 00".into() };
        let mut text = String::new();
        row.render(&true, &mut text).unwrap();
        assert_eq!(text, "  10: (95) exit\n       95 00 00 00 00 00 00 00\n");
    }

    #[cfg(feature = "disassemble")]
    #[test]
    fn compiled_code_is_crashs() {
        let row = jit::Machine { address: VirtAddr(0xffff_ffff_c03c_a6b2), text: "leave".into() };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(text, "   0xffffffffc03ca6b2:\tleave \n");
    }
}
