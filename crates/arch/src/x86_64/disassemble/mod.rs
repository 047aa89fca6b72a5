//! Disassembly: bytes in, instructions out, spelled as GNU binutils spells them, because that is what the field reads.
//!
//! Operands come in pieces, so that whoever shows them can name the addresses in them. iced-x86 decodes and formats; what
//! it spells otherwise than binutils is put right here, each rule found by comparing the text of whole kernels.

mod att;
mod flow;
mod intel;
mod operands;
#[cfg(test)]
mod tests;

use iced_x86::{
    Decoder, DecoderOptions, Formatter, FormatterOutput, FormatterTextKind, GasFormatter, IntelFormatter,
    Mnemonic, NumberKind, OpKind, PrefixKind, Register,
};
use kdive_base::VirtAddr;

pub use self::flow::Flow;
pub use self::operands::{Effects, MemoryOperand};

/// How instructions are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// `mov    %gs:0x28,%rax`
    #[default]
    Att,
    /// `mov    rax,QWORD PTR gs:0x28`
    Intel,
}

/// How wide the processor's addresses are: i686 is x86-64 in its 32-bit mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    #[default]
    Bits64,
}

impl Width {
    fn bits(self) -> u32 {
        match self {
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }
}

/// The longest instruction in bytes (Intel SDM volume 2, 2.3.11).
pub const LONGEST: usize = 15;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it lies.
    pub address: VirtAddr,
    /// Its bytes: at least one.
    pub bytes: Vec<u8>,
    /// Its name with the prefixes before it: `lock cmpxchg`, `(bad)`.
    pub mnemonic: String,
    /// Its operands, in pieces that follow each other without spaces.
    pub operands: Vec<Piece>,
    /// The address that an operand relative to the instruction pointer means.
    pub rip_relative: Option<VirtAddr>,
    /// Constants in it that may be addresses of the kernel: immediates and absolute displacements.
    pub constants: Vec<VirtAddr>,
    /// Where execution goes from it.
    pub flow: Flow,
}

/// A piece of an operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The address of code that it goes to; shown in hexadecimal behind `0x`.
    Code(VirtAddr),
}

impl Instruction {
    /// The instruction as text; `name` gives the symbol of an address as `vfs_read+4`, without brackets.
    #[must_use]
    pub fn text(&self, name: &dyn Fn(VirtAddr) -> Option<String>) -> String {
        use std::fmt::Write as _;
        let named = |at: VirtAddr| match name(at) {
            Some(name) => format!("0x{:x} <{name}>", at.0),
            None => format!("0x{:x}", at.0),
        };
        let mut text = self.mnemonic.clone();
        if !self.operands.is_empty() {
            text = format!("{text:<6} ");
        }
        for piece in &self.operands {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Code(at) => text.push_str(&named(*at)),
            }
        }
        if let Some(at) = self.rip_relative {
            // Writing to a string does not fail.
            let _ = write!(text, "        # {}", named(at));
        }
        text
    }

    /// First address behind it.
    #[must_use]
    pub fn end(&self) -> VirtAddr {
        self.address.add(self.bytes.len() as u64)
    }

    /// Whether its bytes are an instruction at all.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.flow == Flow::Invalid
    }
}

/// Turns bytes into instructions. Keep one for many: making it costs more than an instruction.
pub struct Disassembler {
    syntax: Syntax,
    width: Width,
    gas: GasFormatter,
    intel: IntelFormatter,
}

impl Disassembler {
    /// One for 64-bit code, that spells as wanted.
    #[must_use]
    pub fn new(syntax: Syntax) -> Self {
        Self::with_width(syntax, Width::Bits64)
    }

    /// One for code of some width, that spells as wanted.
    #[must_use]
    pub fn with_width(syntax: Syntax, width: Width) -> Self {
        Self { syntax, width, gas: att::formatter(), intel: intel::formatter() }
    }

    /// The instruction at the start of `bytes`, which lie at `at`. Bytes that are none are the instruction `(bad)`, one
    /// byte long. `None` when `bytes` end before that can be told: give [`LONGEST`] where there are so many.
    pub fn one(&mut self, bytes: &[u8], at: VirtAddr) -> Option<Instruction> {
        let mut decoder = Decoder::with_ip(self.width.bits(), bytes, at.0, DecoderOptions::NONE);
        let decoded = decoder.decode();
        if decoded.is_invalid() {
            if decoder.last_error() == iced_x86::DecoderError::NoMoreBytes && bytes.len() < LONGEST {
                return None;
            }
            return bytes.first().map(|&byte| bad(byte, at));
        }
        let bytes = bytes.get(..decoded.len())?;
        let spelling = Spelling::new(&decoded, bytes);
        let mut output = Pieces::default();
        match self.syntax {
            Syntax::Att => {
                att::prepare(&mut self.gas, &decoded);
                self.gas.format(&decoded, &mut output);
                att::finish(&spelling, &mut output);
            }
            Syntax::Intel => {
                intel::prepare(&mut self.intel, &decoded);
                self.intel.format(&decoded, &mut output);
                intel::finish(&spelling, &mut output);
            }
        }
        let rip = decoded.is_ip_rel_memory_operand().then(|| VirtAddr(decoded.ip_rel_memory_address()));
        Some(Instruction {
            address: at,
            bytes: bytes.to_vec(),
            mnemonic: output.mnemonic,
            operands: output.operands,
            rip_relative: rip,
            constants: constants(&decoded),
            flow: Flow::of(&decoded),
        })
    }

    /// The instructions of `bytes`, which lie at `at`, one behind the other.
    pub fn all<'d>(&'d mut self, bytes: &'d [u8], at: VirtAddr) -> impl Iterator<Item = Instruction> + 'd {
        let mut done = 0_usize;
        std::iter::from_fn(move || {
            let rest = bytes.get(done..)?;
            let found = self.one(rest, at.add(done as u64))?;
            done = done.saturating_add(found.bytes.len().max(1));
            Some(found)
        })
    }
}

fn bad(byte: u8, at: VirtAddr) -> Instruction {
    Instruction {
        address: at,
        bytes: vec![byte],
        mnemonic: "(bad)".to_owned(),
        operands: Vec::new(),
        rip_relative: None,
        constants: Vec::new(),
        flow: Flow::Invalid,
    }
}

/// Numbers in an instruction that may be addresses.
fn constants(decoded: &iced_x86::Instruction) -> Vec<VirtAddr> {
    let mut found = Vec::new();
    for operand in 0..decoded.op_count() {
        match decoded.op_kind(operand) {
            OpKind::Immediate32to64 | OpKind::Immediate64 | OpKind::Immediate32 => {
                found.push(VirtAddr(decoded.immediate(operand)));
            }
            OpKind::Memory if decoded.memory_base() == Register::None => {
                found.push(VirtAddr(decoded.memory_displacement64()));
            }
            _ => {}
        }
    }
    found
}

/// What the spelling hangs on and iced's formatters do not tell.
struct Spelling<'i> {
    decoded: &'i iced_x86::Instruction,
    bytes: &'i [u8],
}

impl<'i> Spelling<'i> {
    fn new(decoded: &'i iced_x86::Instruction, bytes: &'i [u8]) -> Self {
        Self { decoded, bytes }
    }

    /// Prefixes that say nothing in 64-bit mode: padding has them, and binutils shows them before the name. `mark` stands
    /// before a register.
    fn prefixes(&self, mark: &str, output: &mut Pieces) {
        let segment = match self.decoded.segment_prefix() {
            Register::CS => "cs",
            Register::DS => "ds",
            Register::ES => "es",
            Register::SS => "ss",
            _ => "",
        };
        let shown = format!("{mark}{segment}:");
        if let Some(Piece::Text(text)) = output.operands.first_mut().filter(|_| !segment.is_empty())
            && text.contains(&shown)
        {
            *text = text.replacen(&shown, "", 1);
            output.mnemonic.insert_str(0, &format!("{segment} "));
        }
        let sizes = self.bytes.iter().take_while(|byte| LEGACY_PREFIXES.contains(byte));
        let sizes = sizes.filter(|&&byte| byte == OPERAND_SIZE).count();
        output.mnemonic.insert_str(0, &"data16 ".repeat(sizes.saturating_sub(1)));
    }

    /// An operand in memory without any register but a segment's.
    fn has_absolute_address(&self) -> bool {
        let memory = (0..self.decoded.op_count()).any(|index| self.decoded.op_kind(index) == OpKind::Memory);
        let registers = [self.decoded.memory_base(), self.decoded.memory_index()];
        memory && registers == [Register::None; 2]
    }

    /// The moves with eight bytes of address or of constant in them.
    fn moves_wide(&self) -> bool {
        let opcode = self.bytes.iter().find(|&&byte| !is_prefix(byte));
        let constant = self.decoded.op_count() == 2 && self.decoded.op1_kind() == OpKind::Immediate64;
        constant || matches!(opcode, Some(0xa0..=0xa3))
    }

    /// `D0` and `D1` shift by a one that is not encoded.
    fn shifts_by_one(&self) -> bool {
        let opcode = self.bytes.iter().find(|&&byte| !is_prefix(byte));
        matches!(opcode, Some(0xd0 | 0xd1))
    }

    /// A product with a constant into the register that is multiplied.
    fn multiplies_in_place(&self) -> bool {
        let same = || self.decoded.op0_register() == self.decoded.op1_register();
        self.decoded.mnemonic() == Mnemonic::Imul && self.decoded.op_count() == 3 && same()
    }
}

const OPERAND_SIZE: u8 = 0x66;
const LEGACY_PREFIXES: [u8; 11] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, OPERAND_SIZE, 0x67, 0xf0, 0xf2, 0xf3];

fn is_prefix(byte: u8) -> bool {
    LEGACY_PREFIXES.contains(&byte) || byte & 0xf0 == 0x40
}

/// Takes what a formatter writes.
#[derive(Default)]
struct Pieces {
    mnemonic: String,
    operands: Vec<Piece>,
    in_operands: bool,
}

impl Pieces {
    fn put(&mut self, piece: &str) {
        if let Some(Piece::Text(text)) = self.operands.last_mut() {
            text.push_str(piece);
        } else if !piece.is_empty() {
            self.operands.push(Piece::Text(piece.to_owned()));
        }
    }
}

impl FormatterOutput for Pieces {
    fn write(&mut self, text: &str, kind: FormatterTextKind) {
        // White space between the mnemonic and its operands is ours to choose.
        let blank = text.chars().all(char::is_whitespace);
        if !self.in_operands && blank {
            return;
        }
        self.in_operands |= !matches!(kind, FormatterTextKind::Prefix | FormatterTextKind::Mnemonic);
        self.put(text);
    }

    fn write_prefix(&mut self, _decoded: &iced_x86::Instruction, text: &str, _prefix: PrefixKind) {
        self.mnemonic.push_str(text);
        self.mnemonic.push(' ');
    }

    fn write_mnemonic(&mut self, _decoded: &iced_x86::Instruction, text: &str) {
        self.mnemonic.push_str(text);
        self.in_operands = false;
    }

    fn write_number(
        &mut self,
        _decoded: &iced_x86::Instruction,
        _operand: u32,
        _instruction_operand: Option<u32>,
        text: &str,
        value: u64,
        _number: NumberKind,
        kind: FormatterTextKind,
    ) {
        self.in_operands = true;
        if matches!(kind, FormatterTextKind::LabelAddress | FormatterTextKind::FunctionAddress) {
            self.operands.push(Piece::Code(VirtAddr(value)));
        } else {
            self.put(text);
        }
    }
}
