//! The failing instruction out of a pasted disassembly: its text is all there is.

use kdive_arch::x86_64::disassemble::Width;
use kdive_base::VirtAddr;
use kdive_evidence::{Access, Register, Splat};

use super::{Fault, Loaded, is_access, name, pattern};
use crate::case::{Case, ShownInstruction};

/// An operand in memory: `0x4(%eax)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operand<'t> {
    displacement: i64,
    base: &'t str,
    /// It is the last operand: AT&T's syntax has the destination there.
    last: bool,
}

/// The fault by the instruction that a session shows at the failing address.
pub(super) fn from_session(splat: &Splat, case: &Case<'_>, width: Width) -> Option<Fault> {
    let ip = splat.registers.ip().or_else(|| splat.ip.as_ref()?.address)?;
    let at = case.instructions.iter().position(|shown| shown.address == ip)?;
    let shown = case.instructions.get(at)?;
    let mut fault = Fault { instruction: Some(shown.text.clone()), ..Fault::default() };
    if shown.text.starts_with("ud2") || shown.text.starts_with("int3") {
        fault.trap = true;
        return Some(fault);
    }
    if !is_access(splat.kind) {
        return Some(fault);
    }
    let Some(operand) = operand(&shown.text) else { return Some(fault) };
    let mnemonic = shown.text.split_whitespace().next().unwrap_or_default();
    let compares = mnemonic.starts_with("cmp") || mnemonic.starts_with("test");
    fault.access = Some(if operand.last && !compares { Access::Write } else { Access::Read });
    fault.size = size(&shown.text);
    let register = register(operand.base, width)?;
    let value = splat.registers.get(register);
    fault.register = Some(operand.base.to_owned());
    fault.value = value.map(VirtAddr);
    fault.displacement = Some(operand.displacement);
    fault.pattern = value.and_then(|value| pattern(value, width));
    fault.address = splat.address.or_else(|| {
        let address = value?.wrapping_add_signed(operand.displacement);
        Some(VirtAddr(if width == Width::Bits32 { address & u64::from(u32::MAX) } else { address }))
    });
    fault.loaded = loaded(case.instructions.get(..at).unwrap_or_default(), shown, operand.base);
    Some(fault)
}

/// The first operand in memory of an instruction.
fn operand(text: &str) -> Option<Operand<'_>> {
    let (before, rest) = text.split_once("(%")?;
    let (inner, behind) = rest.split_once(')')?;
    let base = inner.split(',').next()?;
    let number = before.rsplit([' ', ',', ':']).next().unwrap_or_default();
    let (negative, digits) = number.strip_prefix('-').map_or((false, number), |digits| (true, digits));
    let size = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None if digits.is_empty() || digits == "*" => 0,
        None => return None,
    };
    let displacement = if negative { size.saturating_neg() } else { size };
    Some(Operand { displacement, base, last: !behind.trim_start().starts_with(',') })
}

fn register(text: &str, width: Width) -> Option<Register> {
    Register::ALL.iter().copied().find(|register| name(*register, width) == text)
}

/// Bytes of the operand, by the suffix of the mnemonic or by the register beside it.
fn size(text: &str) -> Option<u32> {
    let mnemonic = text.split_whitespace().next()?;
    // A register that stands by itself, not one within an operand in memory.
    let alone = text.split_whitespace().nth(1).and_then(|operands| {
        let (before, rest) = operands.split_once('(')?;
        let behind = rest.split_once(')').map_or("", |(_, behind)| behind);
        before
            .strip_prefix('%')
            .and_then(|named| named.split(',').next())
            .or_else(|| behind.strip_prefix(",%"))
    });
    if let Some(register) = alone {
        return Some(match register.as_bytes() {
            [b'r', .., b'd'] => 4,
            [b'r', ..] => 8,
            [b'e', ..] => 4,
            [_, b'l' | b'h'] => 1,
            _ => 2,
        });
    }
    Some(match mnemonic.as_bytes().last()? {
        b'q' => 8,
        b'l' => 4,
        b'w' => 2,
        b'b' => 1,
        _ => return None,
    })
}

/// The last instruction before it in the same function whose destination is the register.
fn loaded(before: &[ShownInstruction], failing: &ShownInstruction, base: &str) -> Option<Loaded> {
    let destination = format!(",%{base}");
    let shown = before
        .iter()
        .rev()
        .take_while(|shown| shown.function == failing.function && shown.address < failing.address);
    let shown = shown.into_iter().find(|shown| shown.text.ends_with(&destination))?;
    let source = operand(&shown.text).filter(|_| shown.text.starts_with("mov"));
    Some(Loaded {
        instruction: shown.text.clone(),
        from: source.map(|operand| operand.base.to_owned()),
        displacement: source.map(|operand| operand.displacement),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_read() {
        assert_eq!(operand("mov (%rax),%rdx"), Some(Operand { displacement: 0, base: "rax", last: false }));
        assert_eq!(operand("mov %edx,0x4(%eax)"), Some(Operand { displacement: 4, base: "eax", last: true }));
        assert_eq!(
            operand("cmpl $0x2,-0x2d8(%rbp)"),
            Some(Operand { displacement: -0x2d8, base: "rbp", last: true })
        );
        assert_eq!(operand("ud2a"), None);
        assert_eq!(
            (size("mov (%rax),%rdx"), size("cmpl $0x2,0x2d8(%rbp)"), size("mov %edx,0x4(%eax)")),
            (Some(8), Some(4), Some(4))
        );
    }
}
