//! Values as C writes them: bytes and a type in, one line of text out.

use std::fmt::{self, Write as _};

use kdive_base::{Endian, Printable, VirtAddr};
use kdive_debuginfo::types::{Encoding, Enum, Record};
use kdive_debuginfo::{Type, TypeId, Types};

use crate::kernel::Kernel;

/// How much of a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records and arrays inside each other; what lies deeper is `{...}`.
    pub depth: usize,
    /// Elements of an array, and members of a record.
    pub elements: usize,
    /// Bytes of text, after which `...` ends it.
    pub length: usize,
}

impl Limits {
    /// For one line in a listing.
    pub const LINE: Self = Self { depth: 1, elements: 16, length: 400 };
}

/// Most of what one character array is shown of.
const LONGEST_STRING: usize = 200;

impl Kernel {
    /// A value of the type `of` in `types`, in gdb's manner: integers in decimal, pointers with their type and the symbol
    /// they point into, enumerators by name, `char` arrays as text, records and arrays in braces. `bytes` begins with the
    /// value as it lies in memory; what it is too short for is `?`.
    #[must_use]
    pub fn show(&self, types: &Types, of: TypeId, bytes: &[u8], limits: &Limits) -> String {
        let symbol = |address| Some(self.place(address)?.to_string());
        Printer { types, symbol: &symbol, limits, endian: self.memory().endian() }.text(of, bytes)
    }
}

struct Printer<'p> {
    types: &'p Types,
    /// The symbol that an address lies in.
    symbol: &'p dyn Fn(VirtAddr) -> Option<String>,
    limits: &'p Limits,
    endian: Endian,
}

impl Printer<'_> {
    fn text(&self, of: TypeId, bytes: &[u8]) -> String {
        let mut out = Bounded { text: String::new(), room: self.limits.length };
        // The only error is that there is no room, and then the text says so itself.
        let _ = self.value(of, bytes, 0, &mut out);
        out.text
    }

    fn value(&self, of: TypeId, bytes: &[u8], depth: usize, out: &mut Bounded) -> fmt::Result {
        let size = self.types.size_of(of).and_then(|size| usize::try_from(size).ok());
        let own = size.and_then(|size| bytes.get(..size));
        let unsigned = || own.and_then(|own| self.endian.unsigned(own, 0, own.len()));
        match self.types.stripped(of).as_deref() {
            Some(Type::Int { bytes: size, encoding, .. }) => match unsigned() {
                Some(value) => self.int(of, value, (*size).saturating_mul(8), *encoding, out),
                None => self.wide(own, out),
            },
            Some(Type::Pointer { to, .. }) => match unsigned() {
                Some(value) => self.pointer(of, *to, value, out),
                None => out.write_str(UNKNOWN),
            },
            Some(Type::Enum(kind)) => match unsigned() {
                Some(value) => enumerator(kind, value, kind.bytes.saturating_mul(8), out),
                None => out.write_str(UNKNOWN),
            },
            Some(Type::Record(record)) if depth < self.limits.depth => {
                self.record(record, bytes, depth.saturating_add(1), out)
            }
            Some(Type::Array { of: element, count }) => {
                self.array(*element, count.unwrap_or(0), bytes, depth, out)
            }
            Some(Type::Record(_)) => out.write_str("{...}"),
            Some(Type::Float { .. }) => self.wide(own, out),
            _ => write!(out, "({}) {UNKNOWN}", self.types.name_of(of)),
        }
    }

    fn int(&self, of: TypeId, raw: u64, bits: u64, encoding: Encoding, out: &mut Bounded) -> fmt::Result {
        match encoding {
            Encoding::Bool => {
                return match raw {
                    0 => out.write_str("false"),
                    1 => out.write_str("true"),
                    other => write!(out, "{other}"),
                };
            }
            Encoding::Signed => write!(out, "{}", signed(raw, bits))?,
            Encoding::Unsigned => write!(out, "{raw}")?,
        }
        if self.is_char(of) && raw != 0 {
            write!(out, " '{}'", Printable(&[raw as u8]))?;
        }
        Ok(())
    }

    /// Whether the type is C's plain `char`, not another integer of one byte.
    fn is_char(&self, of: TypeId) -> bool {
        matches!(self.types.stripped(of).as_deref(), Some(Type::Int { name, .. }) if **name == *"char")
    }

    /// What no machine integer holds: its bytes as one hexadecimal number.
    fn wide(&self, own: Option<&[u8]>, out: &mut Bounded) -> fmt::Result {
        let Some(own) = own.filter(|own| !own.is_empty()) else { return out.write_str(UNKNOWN) };
        out.write_str("0x")?;
        let mut digits = own.to_vec();
        if self.endian == Endian::Little {
            digits.reverse();
        }
        digits.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }

    fn pointer(&self, of: TypeId, to: TypeId, value: u64, out: &mut Bounded) -> fmt::Result {
        if value == 0 {
            return out.write_str("0x0");
        }
        let target = self.types.stripped(to);
        if matches!(
            target.as_deref(),
            Some(Type::Record(_) | Type::Declaration { .. } | Type::Pointer { .. })
        ) {
            write!(out, "({}) ", self.types.name_of(of))?;
        }
        write!(out, "{value:#x}")?;
        match (self.symbol)(VirtAddr(value)) {
            Some(symbol) => write!(out, " <{symbol}>"),
            None => Ok(()),
        }
    }

    fn record(&self, record: &Record, bytes: &[u8], depth: usize, out: &mut Bounded) -> fmt::Result {
        out.write_char('{')?;
        for (index, member) in record.members.iter().enumerate() {
            if index > 0 {
                out.write_str(", ")?;
            }
            if index >= self.limits.elements {
                out.write_str("...")?;
                break;
            }
            if let Some(name) = &member.name {
                write!(out, "{} = ", Printable(name.as_bytes()))?;
            }
            match member.bit_size {
                Some(width) => self.bit_field(member.of, bytes, member.bit_offset, width, out)?,
                None => {
                    let start = usize::try_from(member.bit_offset / 8).unwrap_or(usize::MAX);
                    self.value(member.of, bytes.get(start..).unwrap_or_default(), depth, out)?;
                }
            }
        }
        out.write_char('}')
    }

    fn bit_field(&self, of: TypeId, bytes: &[u8], offset: u64, width: u32, out: &mut Bounded) -> fmt::Result {
        let Some(raw) = bits(bytes, offset, width).filter(|_| self.endian == Endian::Little) else {
            return out.write_str(UNKNOWN);
        };
        match self.types.stripped(of).as_deref() {
            Some(Type::Int { encoding, .. }) => self.int(of, raw, u64::from(width), *encoding, out),
            Some(Type::Enum(kind)) => enumerator(kind, raw, u64::from(width), out),
            _ => write!(out, "{raw}"),
        }
    }

    fn array(&self, of: TypeId, count: u64, bytes: &[u8], depth: usize, out: &mut Bounded) -> fmt::Result {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if self.is_char(of) {
            return string(bytes.get(..count).unwrap_or(bytes), out);
        }
        if depth >= self.limits.depth && count > 0 {
            return out.write_str("{...}");
        }
        let size = self.types.size_of(of).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        out.write_char('{')?;
        for index in 0..count {
            if index > 0 {
                out.write_str(", ")?;
            }
            if index >= self.limits.elements {
                out.write_str("...")?;
                break;
            }
            let element = bytes.get(index.saturating_mul(size)..).unwrap_or_default();
            self.value(of, element, depth.saturating_add(1), out)?;
        }
        out.write_char('}')
    }
}

const UNKNOWN: &str = "?";

fn signed(raw: u64, bits: u64) -> i64 {
    let unused = 64_u64.saturating_sub(bits.clamp(1, 64)) as u32;
    (raw.wrapping_shl(unused) as i64).wrapping_shr(unused)
}

/// The enumerator, or the number where none has it. `bits` is the width of the enum, or of a bit-field of it.
fn enumerator(of: &Enum, raw: u64, bits: u64, out: &mut Bounded) -> fmt::Result {
    let value = match of.signed {
        true => i128::from(signed(raw, bits)),
        false => i128::from(raw),
    };
    match of.name_of(value) {
        Some(name) => write!(out, "{}", Printable(name.as_bytes())),
        None => write!(out, "{value}"),
    }
}

/// Up to the NUL, between quotes.
fn string(bytes: &[u8], out: &mut Bounded) -> fmt::Result {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let shown = text.get(..LONGEST_STRING).unwrap_or(text);
    write!(out, "\"{}\"", Printable(shown))?;
    if shown.len() < text.len() { out.write_str("...") } else { Ok(()) }
}

/// A bit-field of a little-endian machine; `None` beyond the bytes.
fn bits(bytes: &[u8], offset: u64, width: u32) -> Option<u64> {
    let first = usize::try_from(offset / 8).ok()?;
    let shift = (offset % 8) as u32;
    let end = first.checked_add(shift.checked_add(width)?.div_ceil(8) as usize)?;
    let mut raw = [0; 16];
    let own = bytes.get(first..end)?;
    raw.get_mut(..own.len())?.copy_from_slice(own);
    let value = (u128::from_le_bytes(raw) >> shift) as u64;
    let mask = 1_u64.checked_shl(width).map_or(u64::MAX, |bit| bit.wrapping_sub(1));
    Some(value & mask)
}

/// Text that ends in `...` where its room does; writing more is an error, which stops the walk over the value.
struct Bounded {
    text: String,
    room: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.room.checked_sub(text.len()) {
            Some(room) => {
                self.room = room;
                self.text.push_str(text);
                Ok(())
            }
            None => {
                self.text.push_str("...");
                Err(fmt::Error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
