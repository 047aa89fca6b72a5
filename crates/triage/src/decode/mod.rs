//! The instruction that failed: what it did to memory, which register was bad, what its value looks like, and which
//! instruction before it loaded the value.
//!
//! Facts only. The bytes come from the `Code:` line or, in a pasted session, the instruction from its disassembly.

mod pattern;
mod shown;

use kdive_arch::x86_64::disassemble::{Disassembler, Effects, LONGEST, MemoryOperand, Syntax, Width};
use kdive_base::VirtAddr;
use kdive_evidence::{Access, CodeBytes, Register, Registers, Splat, SplatKind};
use serde::Serialize;

use crate::case::Case;

pub use pattern::{Meaning, Pattern, pattern};

/// What failed, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The instruction in AT&T's syntax: `mov    %edx,0x4(%eax)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// It raises an exception on purpose: `ud2` of `BUG()`, `int3`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trap: bool,
    /// What was done to memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// How many bytes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// The address: as the processor told it, or computed from the registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<VirtAddr>,
    /// The bad register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<VirtAddr>,
    /// What the instruction adds to it: the offset of the member in its structure, for the most part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displacement: Option<i64>,
    /// What the value looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Where the value came from, as far as the printed code shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<Loaded>,
}

/// The instruction that loaded a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The instruction: `mov    0x8(%rdi),%rax`.
    pub instruction: String,
    /// The register that pointed to the structure that the value was loaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Offset of the member in that structure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displacement: Option<i64>,
}

/// The fault of a splat; `None` when neither its code nor its registers tell anything.
#[must_use]
pub fn fault(splat: &Splat, case: &Case<'_>) -> Option<Fault> {
    let width = width(splat, case);
    let mut fault = match &splat.code {
        Some(code) => from_code(splat, code, width),
        None => shown::from_session(splat, case, width),
    }
    .unwrap_or_default();
    if !fault.trap && fault.address.is_none() {
        fault.address = splat.address;
    }
    fault.access = splat.access.or(fault.access);
    jump(splat, &mut fault, width);
    if fault.pattern.is_none()
        && let Some(address) = fault.address.filter(|_| is_access(splat.kind))
    {
        fault.pattern = pattern(address.0, width);
    }
    (fault != Fault::default()).then_some(fault)
}

/// Whether the instruction could have raised the exception of its splat; `None` where the code bytes do not decide it.
///
/// Only what the manuals exclude counts: a division error of what does not divide, a data access of what has no operand in
/// memory, an invalid opcode that decodes to a plain move, sum or jump.
#[must_use]
pub fn could_raise(splat: &Splat, case: &Case<'_>) -> Option<bool> {
    let code = splat.code.as_ref()?;
    let bytes = code.bytes.get(code.at..).filter(|bytes| bytes.len() >= LONGEST)?;
    let at = splat.registers.ip().or_else(|| splat.ip.as_ref()?.address).unwrap_or(VirtAddr(0));
    let width = width(splat, case);
    let instruction = Disassembler::with_width(Syntax::Att, width).one(bytes, at)?;
    let text = instruction.text(&|_| None);
    let mnemonic = text.split_whitespace().next()?;
    let simple = ["mov", "add", "sub", "test", "cmp", "xor", "and", "or", "lea", "push", "pop", "nop"];
    let is_plain = simple.iter().any(|name| mnemonic.trim_end_matches(['b', 'w', 'l', 'q']) == *name)
        && !text.contains(['(', '*'])
        && !["%cr", "%db", "%xmm", "%ymm", "%zmm", "%k", "%es", "%fs", "%gs", "%ss", "%ds"]
            .iter()
            .any(|register| text.contains(register));
    match splat.kind {
        SplatKind::DivideError => Some(text.contains("div") || mnemonic.starts_with("aam")),
        SplatKind::InvalidOpcode => Some(!is_plain),
        // Pushes and pops touch the stack.
        SplatKind::PageFault if matches!(splat.access?, Access::Read | Access::Write) => {
            Some(!is_plain || mnemonic.starts_with("push") || mnemonic.starts_with("pop"))
        }
        _ => None,
    }
}

/// The width of the machine: told by the case, or by its addresses.
#[must_use]
pub fn width(splat: &Splat, case: &Case<'_>) -> Width {
    let wide = |address: VirtAddr| address.0 > u64::from(u32::MAX);
    let told = case.system.machine.is_some();
    let place = splat.registers.ip().or_else(|| splat.ip.as_ref()?.address);
    let narrow = if told { case.system.is_32_bit() } else { place.is_some_and(|ip| !wide(ip)) };
    // A jump to zero has a narrow place on a wide machine.
    let registers = splat.registers.known().any(|(_, value)| value > u64::from(u32::MAX));
    if narrow && !registers { Width::Bits32 } else { Width::Bits64 }
}

fn is_access(kind: SplatKind) -> bool {
    matches!(
        kind,
        SplatKind::PageFault
            | SplatKind::GeneralProtection
            | SplatKind::DoubleFault
            | SplatKind::StackGuard
            | SplatKind::Exception
    )
}

fn from_code(splat: &Splat, code: &CodeBytes, width: Width) -> Option<Fault> {
    let bytes = code.bytes.get(code.at..)?;
    let at = splat.registers.ip().or_else(|| splat.ip.as_ref()?.address).unwrap_or(VirtAddr(0));
    let mut disassembler = Disassembler::with_width(Syntax::Att, width);
    let instruction = disassembler.one(bytes, at)?;
    let mut fault = Fault { instruction: Some(instruction.text(&|_| None)), ..Fault::default() };
    if instruction.flow == kdive_arch::x86_64::disassemble::Flow::Trap {
        fault.trap = true;
        return Some(fault);
    }
    let effects = Effects::of(bytes, at, width)?;
    if !is_access(splat.kind) {
        return Some(fault);
    }
    let Some((operand, address)) = guilty(&effects.memory, splat, width) else { return Some(fault) };
    describe(&mut fault, &operand, address, &splat.registers, width);
    let register = operand
        .base
        .into_iter()
        .chain(operand.index)
        .find(|register| Some(name(*register, width)) == fault.register);
    if let Some(register) = register {
        fault.loaded = loaded(code, at, register, width);
    }
    Some(fault)
}

/// The operand whose address is the one that failed; of several the first that is bad.
fn guilty(
    operands: &[MemoryOperand],
    splat: &Splat,
    width: Width,
) -> Option<(MemoryOperand, Option<VirtAddr>)> {
    let computed = || operands.iter().map(|operand| (*operand, operand.address(&splat.registers, width)));
    if let Some(failed) = splat.address {
        // A wide access may fail in its middle, where a page ends.
        let near = |address: VirtAddr| failed.0.wrapping_sub(address.0) < 64;
        if let Some(found) = computed().find(|(_, address)| address.is_some_and(near)) {
            return Some((found.0, Some(failed)));
        }
    }
    let bad = |address: Option<VirtAddr>| {
        address
            .and_then(|address| pattern(address.0, width))
            .is_some_and(|pattern| pattern != Pattern::Kernel)
    };
    computed().find(|(_, address)| bad(*address)).or_else(|| computed().next())
}

fn describe(
    fault: &mut Fault,
    operand: &MemoryOperand,
    address: Option<VirtAddr>,
    registers: &Registers,
    width: Width,
) {
    fault.size = Some(operand.size).filter(|size| *size > 0);
    fault.access = Some(if operand.writes { Access::Write } else { Access::Read });
    fault.address = address;
    // The displacement of an address without registers is the address itself.
    let Some((register, value)) = worst(operand, registers, width) else { return };
    fault.register = Some(name(register, width));
    fault.value = Some(VirtAddr(value));
    fault.displacement = Some(signed(operand.displacement, width));
    fault.pattern = pattern(value, width);
}

/// Of base and index the one that looks worse; a good base is not to blame for a bad index.
fn worst(operand: &MemoryOperand, registers: &Registers, width: Width) -> Option<(Register, u64)> {
    let with_value =
        |register: Option<Register>| register.and_then(|register| Some((register, registers.get(register)?)));
    let (base, index) = (with_value(operand.base), with_value(operand.index));
    let Some((register, value)) = base else { return index };
    let good = matches!(pattern(value, width), Some(Pattern::Kernel));
    if good && let Some((index, value)) = index {
        return Some((index, value));
    }
    Some((register, value))
}

fn signed(displacement: u64, width: Width) -> i64 {
    match width {
        Width::Bits64 => displacement.cast_signed(),
        Width::Bits32 => {
            i64::from(u32::try_from(displacement & u64::from(u32::MAX)).unwrap_or_default().cast_signed())
        }
    }
}

/// The register's name in this width: `eax` or `rax`.
fn name(register: Register, width: Width) -> String {
    let name = register.name();
    match (width, name.strip_prefix('r')) {
        (Width::Bits32, Some(rest)) if !rest.starts_with(|letter: char| letter.is_ascii_digit()) => {
            format!("e{rest}")
        }
        _ => name.to_owned(),
    }
}

/// The last instruction before the failing one that set a register, if it loaded or copied it.
fn loaded(code: &CodeBytes, ip: VirtAddr, register: Register, width: Width) -> Option<Loaded> {
    let before = code.bytes.get(..code.at)?;
    let mut disassembler = Disassembler::with_width(Syntax::Att, width);
    let start = aligned_start(before, width)?;
    let mut found = None;
    let mut at = start;
    while let Some(bytes) = before.get(at..).filter(|bytes| !bytes.is_empty()) {
        let address = VirtAddr(ip.0.wrapping_sub((before.len().saturating_sub(at)) as u64));
        let instruction = disassembler.one(bytes, address)?;
        let effects = Effects::of(bytes, address, width)?;
        let sets = effects.written.contains(&register);
        // What a call leaves in scratch registers nobody knows.
        let call = matches!(instruction.flow, kdive_arch::x86_64::disassemble::Flow::Call(_));
        if call
            && matches!(
                register,
                Register::Rax
                    | Register::Rcx
                    | Register::Rdx
                    | Register::Rsi
                    | Register::Rdi
                    | Register::R8
                    | Register::R9
                    | Register::R10
                    | Register::R11
            )
        {
            let result = register == Register::Rax;
            found = result.then(|| Loaded { instruction: instruction.text(&|_| None), ..Loaded::default() });
        } else if sets {
            let source = effects.memory.first().filter(|_| effects.moves);
            found = Some(Loaded {
                instruction: instruction.text(&|_| None),
                from: source.and_then(|operand| operand.base).map(|base| name(base, width)),
                displacement: source.map(|operand| signed(operand.displacement, width)),
            });
        }
        at = at.saturating_add(instruction.bytes.len().max(1));
    }
    found
}

/// Where instructions begin, so that one of them ends where the failing one starts: code is cut at its front at random.
/// The earliest start from which no byte is invalid.
fn aligned_start(before: &[u8], width: Width) -> Option<usize> {
    let mut disassembler = Disassembler::with_width(Syntax::Att, width);
    (0..before.len().min(4 * LONGEST)).find(|&start| {
        let mut at = start;
        while let Some(bytes) = before.get(at..).filter(|bytes| !bytes.is_empty()) {
            match disassembler.one(bytes, VirtAddr(0)) {
                Some(instruction) if !instruction.is_bad() => at = at.saturating_add(instruction.bytes.len()),
                _ => return false,
            }
        }
        at == before.len()
    })
}

/// A jump to nowhere: what failed is the instruction pointer.
fn jump(splat: &Splat, fault: &mut Fault, width: Width) {
    let Some(ip) = splat.registers.ip().or_else(|| splat.ip.as_ref()?.address) else { return };
    let unnamed = splat.ip.as_ref().is_none_or(|place| place.function.is_none());
    let nowhere =
        unnamed && splat.kind == SplatKind::PageFault && splat.address.is_none_or(|address| address == ip);
    if fault.access == Some(Access::Execute)
        || nowhere && fault.instruction.is_none() && fault.register.is_none()
    {
        let instruction = fault.instruction.take();
        *fault = Fault {
            instruction,
            access: Some(Access::Execute),
            address: Some(ip),
            register: Some(name(Register::Rip, width)),
            value: Some(ip),
            pattern: pattern(ip.0, width),
            ..Fault::default()
        };
    }
}

#[cfg(test)]
mod tests;
