//! Instructions of BPF's virtual machine as text, spelled as the kernel's verifier and bpftool spell them.
//!
//! The encoding is that of `Documentation/bpf/standardization/instruction-set.rst`. What is kept in memory differs from
//! what was loaded: calls of helpers are distances from `__bpf_call_base`, maps are addresses, and loads that may fault
//! have modes of their own (`include/linux/filter.h`).

use kdive_base::{Endian, VirtAddr};

/// One instruction; those that load 64 bits take two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its place in the program.
    pub number: usize,
    /// Its bytes, 8 or 16.
    pub bytes: Vec<u8>,
    /// Its text without the opcode.
    pub text: String,
}

/// What names addresses in code.
pub struct Bytecode<'n> {
    /// The id of the map at an address.
    pub map: &'n dyn Fn(VirtAddr) -> Option<u32>,
    /// The name of the function at a distance from `__bpf_call_base`.
    pub helper: &'n dyn Fn(i32) -> Option<String>,
    /// Whether the program is compiled: its own calls then hold the number of a subprogram, too.
    pub jited: bool,
}

/// Bytes of one place.
const SIZE: usize = 8;
const CLASS: u8 = 0x07;
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;
/// The second operand is a register.
const X: u8 = 0x08;
const LOAD_64: u8 = 0x18;
const CALL: u8 = 0x85;
/// Not in what users load: a tail call, after verification.
const TAIL_CALL: u8 = 0xf5;
const EXIT: u8 = 0x95;
const GOTO: u8 = 0x05;
const GOTO_LONG: u8 = 0x06;
/// A call of a subprogram by the interpreter.
const CALL_ARGS: u8 = 0xe5;
const PSEUDO_CALL: u8 = 1;

/// An instruction's parts.
#[derive(Clone, Copy)]
struct Parts {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl Parts {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [code, registers, ..] = *bytes else { return None };
        Some(Self {
            code,
            dst: registers & 0xf,
            src: registers >> 4,
            off: Endian::Little.u16(bytes, 2)?.cast_signed(),
            imm: Endian::Little.u32(bytes, 4)?.cast_signed(),
        })
    }

    /// `u32`: what a load or store moves.
    fn size(self, signed: bool) -> &'static str {
        match (self.code & 0x18, signed) {
            (0x00, false) => "u32",
            (0x08, false) => "u16",
            (0x10, false) => "u8",
            (0x00, true) => "s32",
            (0x08, true) => "s16",
            (0x10, true) => "s8",
            _ => "u64",
        }
    }

    /// `w` for a half register, `r` for a whole one.
    fn width(self) -> char {
        if matches!(self.code & CLASS, ALU | JMP32) { 'w' } else { 'r' }
    }
}

impl Bytecode<'_> {
    /// The instructions of a program.
    pub fn decode<'b>(&'b self, code: &'b [u8]) -> impl Iterator<Item = Instruction> + 'b {
        let mut number = 0_usize;
        std::iter::from_fn(move || {
            let at = number.checked_mul(SIZE)?;
            let first = code.get(at..at.checked_add(SIZE)?)?;
            let parts = Parts::read(first)?;
            let places = if parts.code == LOAD_64 { 2 } else { 1 };
            let end = at.saturating_add(SIZE.saturating_mul(places)).min(code.len());
            let bytes = code.get(at..end)?.to_vec();
            let high = bytes.get(SIZE..).and_then(Parts::read).map_or(0, |second| second.imm);
            let text = match parts.code {
                CALL if parts.src == PSEUDO_CALL => {
                    format!("call pc{:+}", self.distance(parts, number, code))
                }
                _ => self.text(parts, high),
            };
            let found = Instruction { number, text, bytes };
            number = number.saturating_add(places);
            Some(found)
        })
    }

    /// How far away a subprogram begins. A compiled program's calls hold that and the subprogram's number, at places
    /// that kernels have swapped (6.12 and 7.2 differ).
    fn distance(&self, parts: Parts, number: usize, code: &[u8]) -> i32 {
        let begins = |distance: &i32| {
            let before = number.checked_add_signed(*distance as isize)?;
            let at = before.checked_mul(SIZE)?;
            // A subprogram begins behind the end of another.
            let last = Parts::read(code.get(at..)?)?;
            Some(matches!(last.code, EXIT | GOTO | GOTO_LONG))
        };
        let stored = [i32::from(parts.off), parts.imm];
        let likely = stored.into_iter().filter(|distance| *distance != 0 && self.jited);
        likely.into_iter().find(|distance| begins(distance) == Some(true)).unwrap_or(parts.imm)
    }

    fn text(&self, parts: Parts, high: i32) -> String {
        match parts.code & CLASS {
            ALU | ALU64 => arithmetic(parts),
            STX => store(parts),
            ST => match parts.code & 0xe0 {
                0xc0 => "nospec".to_owned(),
                _ => format!("*({} *)(r{} {:+}) = {}", parts.size(false), parts.dst, parts.off, parts.imm),
            },
            LDX => load(parts),
            LD => self.load_immediate(parts, high),
            JMP | JMP32 => self.jump(parts),
            _ => unknown(parts),
        }
    }

    fn load_immediate(&self, parts: Parts, high: i32) -> String {
        let Parts { code, dst, src, imm, .. } = parts;
        match code {
            LOAD_64 => {
                let value = u64::from(high.cast_unsigned()) << 32 | u64::from(imm.cast_unsigned());
                match (self.map)(VirtAddr(value)) {
                    Some(id) => format!("r{dst} = map[id:{id}]"),
                    None => format!("r{dst} = {value:#x}"),
                }
            }
            _ if code & 0xe0 == 0x20 => format!("r0 = *({} *)skb[{imm}]", parts.size(false)),
            _ if code & 0xe0 == 0x40 => format!("r0 = *({} *)skb[r{src} + {imm}]", parts.size(false)),
            _ => unknown(parts),
        }
    }

    fn jump(&self, parts: Parts) -> String {
        let Parts { code, dst, src, off, imm } = parts;
        match code {
            CALL => format!("call {}#{imm}", (self.helper)(imm).as_deref().unwrap_or("unknown")),
            TAIL_CALL => "call bpf_tail_call#12".to_owned(),
            CALL_ARGS if src == PSEUDO_CALL => format!("call pc{off:+}"),
            CALL_ARGS => format!("may_goto pc{off:+}"),
            EXIT => "exit".to_owned(),
            GOTO => format!("goto pc{off:+}"),
            GOTO_LONG => format!("gotol pc{imm:+}"),
            _ => {
                let Some(sign) = comparison(code) else { return unknown(parts) };
                let width = parts.width();
                match code & X {
                    0 => format!("if {width}{dst} {sign} {imm:#x} goto pc{off:+}"),
                    _ => format!("if {width}{dst} {sign} {width}{src} goto pc{off:+}"),
                }
            }
        }
    }
}

fn comparison(code: u8) -> Option<&'static str> {
    Some(match code & 0xf0 {
        0x10 => "==",
        0x20 => ">",
        0x30 => ">=",
        0x40 => "&",
        0x50 => "!=",
        0x60 => "s>",
        0x70 => "s>=",
        0xa0 => "<",
        0xb0 => "<=",
        0xc0 => "s<",
        0xd0 => "s<=",
        _ => return None,
    })
}

fn arithmetic(parts: Parts) -> String {
    let Parts { code, dst, src, off, imm } = parts;
    let width = parts.width();
    let sign = match (code & 0xf0, off) {
        (0x00, _) => "+=",
        (0x10, _) => "-=",
        (0x20, _) => "*=",
        (0x30, 1) => "s/=",
        (0x30, _) => "/=",
        (0x40, _) => "|=",
        (0x50, _) => "&=",
        (0x60, _) => "<<=",
        (0x70, _) => ">>=",
        (0x80, _) => return format!("{width}{dst} = -{width}{dst}"),
        (0x90, 1) => "s%=",
        (0x90, _) => "%=",
        (0xa0, _) => "^=",
        (0xb0, _) if code & X != 0 => return moved(parts),
        (0xb0, _) => "=",
        (0xc0, _) => "s>>=",
        (0xd0, _) => {
            let order = match (code & CLASS, code & X) {
                (ALU64, _) => "bswap",
                (_, 0) => "le",
                _ => "be",
            };
            return format!("r{dst} = {order}{imm} r{dst}");
        }
        _ => return unknown(parts),
    };
    match code & X {
        0 => format!("{width}{dst} {sign} {imm}"),
        _ => format!("{width}{dst} {sign} {width}{src}"),
    }
}

/// Copies of registers: the offset says what else is done.
fn moved(parts: Parts) -> String {
    /// `BPF_ADDR_PERCPU`, 6.10: to this processor's copy.
    const PER_CPU: i16 = -1;
    /// `BPF_ADDR_SPACE_CAST`, 6.9.
    const CAST: i16 = 1;
    let Parts { code, dst, src, off, imm } = parts;
    let width = parts.width();
    match off {
        PER_CPU if code & CLASS == ALU64 => format!("r{dst} = &(void __percpu *)(r{src})"),
        CAST if code & CLASS == ALU64 => {
            format!("r{dst} = addr_space_cast(r{src}, {}, {})", imm.cast_unsigned() >> 16, imm & 0xffff)
        }
        8 | 16 | 32 => format!("{width}{dst} = (s{off}){width}{src}"),
        _ => format!("{width}{dst} = {width}{src}"),
    }
}

fn load(parts: Parts) -> String {
    let Parts { code, dst, src, off, .. } = parts;
    // Plain (0x60), and those that may fault: 0x20, 0xa0. The other two extend the sign.
    let signed = match code & 0xe0 {
        0x20 | 0x60 | 0xa0 => false,
        0x40 | 0x80 => true,
        _ => return unknown(parts),
    };
    format!("r{dst} = *({} *)(r{src} {off:+})", parts.size(signed))
}

fn store(parts: Parts) -> String {
    /// The operation gives the old value back.
    const FETCH: i32 = 1;
    let Parts { code, dst, src, off, imm } = parts;
    let size = parts.size(false);
    let place = format!("({size} *)(r{dst} {off:+})");
    if !matches!(code & 0xe0, 0xc0 | 0xe0) {
        return format!("*{place} = r{src}");
    }
    let wide = if size == "u64" { "64" } else { "" };
    let operation = |imm: i32| match imm {
        0x00 => Some(("+=", "add")),
        0x40 => Some(("|=", "or")),
        0x50 => Some(("&=", "and")),
        0xa0 => Some(("^=", "xor")),
        _ => None,
    };
    match (imm, operation(imm), operation(imm & !FETCH)) {
        (_, Some((sign, _)), _) => format!("lock *{place} {sign} r{src}"),
        (0xe1, ..) => format!("r{src} = atomic{wide}_xchg({place}, r{src})"),
        (0xf1, ..) => format!("r0 = atomic{wide}_cmpxchg({place}, r0, r{src})"),
        (0x100, ..) => format!("r{dst} = load_acquire(({size} *)(r{src} {off:+}))"),
        (0x110, ..) => format!("store_release({place}, r{src})"),
        (_, _, Some((_, name))) => format!("r{src} = atomic{wide}_fetch_{name}({place}, r{src})"),
        _ => unknown(parts),
    }
}

fn unknown(parts: Parts) -> String {
    format!("unknown opcode {:#04x}", parts.code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(code: &[u8], jited: bool) -> Vec<String> {
        let map = |at: VirtAddr| (at.0 == 0xff1c_1349_1de3_7000).then_some(1);
        let helper = |distance: i32| (distance == 290_016).then(|| "__htab_map_lookup_elem".to_owned());
        let bytecode = Bytecode { map: &map, helper: &helper, jited };
        bytecode.decode(code).map(|found| format!("{}: {}", found.number, found.text)).collect()
    }

    fn one(code: u8, registers: u8, off: i16, imm: i32) -> String {
        let mut bytes = vec![code, registers];
        bytes.extend(off.to_le_bytes());
        bytes.extend(imm.to_le_bytes());
        texts(&bytes, true).concat().split_off(3)
    }

    #[test]
    fn a_program_of_linux_6_12() {
        let code = [
            0x62, 0x0a, 0xfc, 0xff, 0, 0, 0, 0, //
            0xbf, 0xa2, 0, 0, 0, 0, 0, 0, //
            0x18, 1, 0, 0, 0, 0x70, 0xe3, 0x1d, 0, 0, 0, 0, 0x49, 0x13, 0x1c, 0xff, //
            0x85, 0, 0, 0, 0xe0, 0x6c, 4, 0, //
            0x15, 0, 1, 0, 0, 0, 0, 0, //
            0xdb, 0x10, 0, 0, 0, 0, 0, 0, //
            0x85, 0x10, 2, 0, 1, 0, 0, 0, // to 10, which is subprogram 1
            0xb7, 0, 0, 0, 1, 0, 0, 0, //
            0x95, 0, 0, 0, 0, 0, 0, 0, //
            0xb7, 0, 0, 0, 0, 0, 0, 0, //
            0x95, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(
            texts(&code, true),
            [
                "0: *(u32 *)(r10 -4) = 0",
                "1: r2 = r10",
                "2: r1 = map[id:1]",
                "4: call __htab_map_lookup_elem#290016",
                "5: if r0 == 0x0 goto pc+1",
                "6: lock *(u64 *)(r0 +0) += r1",
                "7: call pc+2",
                "8: r0 = 1",
                "9: exit",
                "10: r0 = 0",
                "11: exit",
            ]
        );
        // 7.2 has the two numbers the other way round; what is not compiled has only one.
        let swapped = |code: &[u8; 96]| {
            let mut code = code.to_vec();
            code[58] = 1;
            code[60] = 2;
            texts(&code, true)[6].clone()
        };
        assert_eq!(swapped(&code), "7: call pc+2");
        assert_eq!(texts(&code[48..56], false), ["0: lock *(u64 *)(r0 +0) += r1"]);
    }

    #[test]
    fn each_kind_is_spelled_as_the_verifier_does() {
        assert_eq!(one(0xb4, 0x08, 0, 7), "w8 = 7");
        assert_eq!(one(0xbc, 0x21, 0, 0), "w1 = w2");
        assert_eq!(one(0xbf, 0x21, 8, 0), "r1 = (s8)r2");
        assert_eq!(one(0xbf, 0x00, -1, 0), "r0 = &(void __percpu *)(r0)");
        assert_eq!(one(0xbf, 0x21, 1, 1), "r1 = addr_space_cast(r2, 0, 1)");
        assert_eq!(one(0x3f, 0x21, 1, 0), "r1 s/= r2");
        assert_eq!(one(0x87, 0x01, 0, 0), "r1 = -r1");
        assert_eq!(one(0xdc, 0x01, 0, 16), "r1 = be16 r1");
        assert_eq!(one(0xd7, 0x01, 0, 32), "r1 = bswap32 r1");
        assert_eq!(one(0x61, 0x20, 4, 0), "r0 = *(u32 *)(r2 +4)");
        assert_eq!(one(0x91, 0x20, -4, 0), "r0 = *(s8 *)(r2 -4)");
        assert_eq!(one(0x39, 0x20, 0, 0), "r0 = *(u64 *)(r2 +0)", "a load that may fault");
        assert_eq!(one(0x7b, 0x1a, -8, 0), "*(u64 *)(r10 -8) = r1");
        assert_eq!(one(0xdb, 0x21, 0, 1), "r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)");
        assert_eq!(one(0xc3, 0x21, 0, 0xf1), "r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)");
        assert_eq!(one(0xdb, 0x21, 0, 0xe1), "r2 = atomic64_xchg((u64 *)(r1 +0), r2)");
        assert_eq!(one(0x28, 0, 0, 12), "r0 = *(u16 *)skb[12]");
        assert_eq!(one(0x30, 0, 0, 23), "r0 = *(u8 *)skb[23]");
        assert_eq!(one(0xa6, 0x01, 3, 5), "if w1 < 0x5 goto pc+3");
        assert_eq!(one(0x6d, 0x21, -3, 0), "if r1 s> r2 goto pc-3");
        assert_eq!(one(0x06, 0, 0, 70_000), "gotol pc+70000");
        assert_eq!(one(0x85, 0, 0, 99), "call unknown#99");
        assert_eq!(one(0x85, 0x10, 0, 9), "call pc+9", "not compiled");
        assert_eq!(one(0xf5, 0, 0, 0), "call bpf_tail_call#12");
        assert_eq!(one(0xff, 0, 0, 0), "unknown opcode 0xff");
    }

    proptest! {
        #[test]
        fn any_bytes_end(code in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = texts(&code, false);
            prop_assert!(found.len() <= code.len() / SIZE);
        }
    }
}
