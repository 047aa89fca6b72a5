//! What the expressions of a `print_fmt` are worth, over the bytes of one entry.

use kdive_base::Endian;
use kdive_base::bytes::until_nul;

use super::event::{EventField, EventFormat};
use super::print_fmt::{Expr, PrintFmt};
use super::printf::{self, Value, World, hex};

/// One entry, and what its fields are.
pub(super) struct Record<'r> {
    pub(super) world: &'r dyn World,
    pub(super) format: &'r EventFormat,
    pub(super) bytes: &'r [u8],
}

impl EventField {
    /// Whether the field says where its data lie (`__data_loc`), and whether that is counted from its own end.
    fn is_elsewhere(&self) -> Option<bool> {
        if self.kind.starts_with("__data_loc") {
            return Some(false);
        }
        self.kind.starts_with("__rel_loc").then_some(true)
    }

    /// Bytes of an element of an array.
    fn element(&self) -> usize {
        let plain = self.kind.trim_start_matches("__data_loc ").trim_start_matches("__rel_loc ");
        let plain = plain.split('[').next().unwrap_or_default().trim();
        let plain = plain.trim_start_matches("const ").trim_start_matches("unsigned ");
        match plain.trim_start_matches("__") {
            "char" | "u8" | "s8" | "bool" => 1,
            "short" | "u16" | "s16" | "be16" => 2,
            "int" | "u32" | "s32" | "be32" => 4,
            _ => 8,
        }
    }

    /// Whether it is an integer of C.
    pub(super) fn is_integer(&self) -> bool {
        !self.kind.contains('[') && matches!(self.size, 1 | 2 | 4 | 8)
    }
}

impl Record<'_> {
    /// The bytes of a field; of one that is elsewhere, its data.
    pub(super) fn data(&self, field: &EventField) -> Option<&[u8]> {
        let own = (field.offset as usize, (field.offset.saturating_add(field.size)) as usize);
        let Some(relative) = field.is_elsewhere() else {
            // A flexible array lasts to the end of the entry.
            let end = if field.size == 0 { self.bytes.len() } else { own.1.min(self.bytes.len()) };
            return self.bytes.get(own.0..end);
        };
        let place = Endian::Little.u32(self.bytes, own.0)? as usize;
        let (from, length) = (place & 0xffff, place >> 16);
        let from = if relative { from.saturating_add(own.1) } else { from };
        self.bytes.get(from..from.saturating_add(length))
    }

    /// A field's value.
    pub(super) fn value(&self, field: &EventField) -> Option<Value> {
        if field.is_elsewhere().is_some() || !field.is_integer() {
            return Some(Value::Bytes(self.data(field)?.to_vec()));
        }
        self.integer(field.offset as usize, field.size as usize, field.signed).map(Value::Int)
    }

    fn integer(&self, at: usize, width: usize, signed: bool) -> Option<i64> {
        extend(Endian::Little.unsigned(self.bytes, at, width)?, width as u32, signed)
    }

    /// The entry as its event wants to be shown; `None` where the format asks for more than is known here.
    pub(super) fn text(&self, format: &PrintFmt) -> Option<String> {
        let mut arguments = format.arguments.iter();
        let text = printf::format(self.world, &format.text, |spec| {
            let value = self.eval(arguments.next()?);
            // Addresses that the format computes are not worth losing the rest.
            if spec.conversion == 'p' { Some(value.unwrap_or(Value::Unknown)) } else { value }
        })?;
        Some(printf::one_line(&text))
    }

    fn field(&self, argument: &Expr) -> Option<&EventField> {
        let (Expr::Name(name) | Expr::Field(name)) = argument else { return None };
        self.format.fields.iter().find(|field| field.name == *name)
    }

    fn int(&self, of: &Expr) -> Option<i64> {
        match self.eval(of)? {
            Value::Int(value) => Some(value),
            Value::Bytes(_) | Value::Unknown => None,
        }
    }

    fn eval(&self, of: &Expr) -> Option<Value> {
        let value = match of {
            Expr::Int(value) => *value,
            Expr::Text(text) => return Some(Value::Bytes(text.as_bytes().to_vec())),
            Expr::Field(_) => return self.value(self.field(of)?),
            Expr::Name(name) => self.world.enumerator(name)?,
            Expr::Index(array, index) => return self.element(array, self.int(index)?),
            Expr::Not(of) => i64::from(self.int(of)? == 0),
            Expr::Invert(of) => !self.int(of)?,
            Expr::Negate(of) => self.int(of)?.wrapping_neg(),
            Expr::Binary(operator, left, right) => self.binary(operator, left, right)?,
            Expr::Choose(condition, yes, no) => {
                return self.eval(if self.int(condition)? != 0 { yes } else { no });
            }
            // A cast of an array is one of its address.
            Expr::Cast(bytes, signed, of) => match self.eval(of)? {
                Value::Int(value) => extend(value.cast_unsigned(), *bytes, *signed)?,
                array => return Some(array),
            },
            Expr::Call(name, arguments) => return self.call(name, arguments),
            Expr::Braces(_) => return None,
        };
        Some(Value::Int(value))
    }

    fn element(&self, array: &Expr, index: i64) -> Option<Value> {
        let field = match array {
            Expr::Cast(_, _, inner) => self.field(inner)?,
            other => self.field(other)?,
        };
        let width = field.element();
        let at = usize::try_from(index).ok()?.checked_mul(width)?;
        let value = Endian::Little.unsigned(self.data(field)?, at, width)?;
        extend(value, width as u32, field.signed).map(Value::Int)
    }

    fn binary(&self, operator: &str, left: &Expr, right: &Expr) -> Option<i64> {
        let left = self.int(left)?;
        match operator {
            "&&" if left == 0 => return Some(0),
            "||" if left != 0 => return Some(1),
            _ => {}
        }
        let right = self.int(right)?;
        Some(match operator {
            "&&" | "||" => i64::from(right != 0),
            "|" => left | right,
            "^" => left ^ right,
            "&" => left & right,
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "<=" => i64::from(left <= right),
            ">=" => i64::from(left >= right),
            "<<" => left.wrapping_shl(right as u32),
            ">>" => left.wrapping_shr(right as u32),
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            "/" => left.checked_div(right)?,
            "%" => left.checked_rem(right)?,
            _ => return None,
        })
    }

    fn call(&self, name: &str, arguments: &[Expr]) -> Option<Value> {
        let bytes = |bytes: &[u8]| Some(Value::Bytes(bytes.to_vec()));
        let first = arguments.first();
        match name {
            "__get_str" | "__get_rel_str" => bytes(until_nul(self.data(self.field(first?)?)?)),
            "__get_dynamic_array" | "__get_rel_dynamic_array" | "__get_sockaddr" | "__get_rel_sockaddr" => {
                bytes(self.data(self.field(first?)?)?)
            }
            "__get_dynamic_array_len" | "__get_rel_dynamic_array_len" => {
                Some(Value::Int(self.data(self.field(first?)?)?.len() as i64))
            }
            "__get_bitmask" | "__get_cpumask" | "__get_rel_bitmask" | "__get_rel_cpumask" => {
                bytes(bitmask(self.data(self.field(first?)?)?).as_bytes())
            }
            "__print_flags" | "__print_flags_u64" => self.flags(arguments),
            "__print_symbolic" | "__print_symbolic_u64" => self.symbolic(arguments),
            "__print_hex" | "__print_hex_str" => {
                let Value::Bytes(of) = self.eval(first?)? else { return None };
                let length = usize::try_from(self.int(arguments.get(1)?)?).ok()?.min(of.len());
                bytes(hex(of.get(..length)?, if name == "__print_hex" { " " } else { "" }).as_bytes())
            }
            "__print_array" => self.array(arguments),
            "__builtin_expect" => self.eval(first?),
            _ => None,
        }
    }

    /// The names of the bits that are set (`trace_print_flags_seq`).
    fn flags(&self, arguments: &[Expr]) -> Option<Value> {
        let [value, Expr::Text(between), names @ ..] = arguments else { return None };
        let mut rest = self.int(value)?;
        let mut set = Vec::new();
        for (mask, name) in names.iter().filter_map(pair) {
            let mask = self.int(mask)?;
            if rest == 0 {
                break;
            }
            if rest & mask == mask {
                set.push(name.clone());
                rest &= !mask;
            }
        }
        if rest != 0 {
            set.push(format!("{rest:#x}"));
        }
        Some(Value::Bytes(set.join(between).into_bytes()))
    }

    /// The name of a value (`trace_print_symbols_seq`).
    fn symbolic(&self, arguments: &[Expr]) -> Option<Value> {
        let (value, names) = arguments.split_first()?;
        let value = self.int(value)?;
        let named = names.iter().filter_map(pair).find(|(of, _)| self.int(of) == Some(value));
        let text = named.map_or_else(|| format!("{value:#x}"), |(_, name)| name.clone());
        Some(Value::Bytes(text.into_bytes()))
    }

    /// `__print_array(array, count, bytes of an element)`.
    fn array(&self, arguments: &[Expr]) -> Option<Value> {
        let [array, count, width] = arguments else { return None };
        let Value::Bytes(bytes) = self.eval(array)? else { return None };
        let (count, width) =
            (usize::try_from(self.int(count)?).ok()?, usize::try_from(self.int(width)?).ok()?);
        let elements = bytes.chunks_exact(width.clamp(1, 8)).take(count);
        let elements =
            elements.filter_map(|bytes| Some(format!("{:#x}", Endian::Little.unsigned(bytes, 0, width)?)));
        Some(Value::Bytes(format!("{{{}}}", elements.collect::<Vec<_>>().join(",")).into_bytes()))
    }
}

/// `{ value, "name" }`.
fn pair(of: &Expr) -> Option<(&Expr, &String)> {
    match of {
        Expr::Braces(items) => match &items[..] {
            [value, Expr::Text(name)] => Some((value, name)),
            _ => None,
        },
        _ => None,
    }
}

/// The low bytes of an integer, with its sign where it has one.
fn extend(value: u64, bytes: u32, signed: bool) -> Option<i64> {
    let unused = 64_u32.checked_sub(bytes.checked_mul(8)?)?;
    let shifted = value.checked_shl(unused)?;
    Some(if signed { shifted.cast_signed() >> unused } else { (shifted >> unused).cast_signed() })
}

/// A mask of bits as the kernel prints it: words of 32 bits, the highest first.
fn bitmask(bytes: &[u8]) -> String {
    let words: Vec<u32> = (0..bytes.len() / 4).filter_map(|at| Endian::Little.u32(bytes, at * 4)).collect();
    words.iter().rev().map(|word| format!("{word:08x}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::printf::tests::Small;
    use super::*;

    fn field(name: &str, kind: &str, offset: u32, size: u32, signed: bool) -> EventField {
        EventField { name: name.into(), kind: kind.into(), offset, size, signed }
    }

    fn shown(print_fmt: &str) -> Option<String> {
        let fields = vec![
            field("pid", "int", 8, 4, true),
            field("flags", "unsigned short", 12, 2, false),
            field("name", "__data_loc char[]", 16, 4, false),
            field("comm", "char[4]", 20, 4, false),
            field("words", "u32[2]", 24, 8, false),
        ];
        let format = EventFormat { fields, ..EventFormat::default() };
        let mut bytes = vec![0; 8];
        bytes.extend((-5_i32).to_le_bytes());
        bytes.extend(6_u16.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend((32_u32 | 6 << 16).to_le_bytes());
        bytes.extend(b"abc\0");
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(b"hello\0");
        let record = Record { world: &Small, format: &format, bytes: &bytes };
        record.text(&PrintFmt::parse(print_fmt)?)
    }

    #[test]
    fn fields_are_shown_as_the_format_wants() {
        let text =
            shown(r#""%d %u %s %s %d", REC->pid, REC->flags, __get_str(name), REC->comm, REC->words[1]"#);
        assert_eq!(text.unwrap(), "-5 6 hello abc 8");
        assert_eq!(shown(r#""%x", (unsigned char)REC->pid"#).unwrap(), "fb");
        assert_eq!(shown(r#""%s", REC->pid < 0 ? "neg" : "pos""#).unwrap(), "neg");
        assert_eq!(shown(r#""%d", REC->flags / 0"#), None);
        assert_eq!(shown(r#""%d", nosuch(REC->flags)"#), None);
        assert_eq!(shown(r#""%d", REC->nosuch"#), None);
    }

    #[test]
    fn flags_and_symbols_have_names() {
        let flags = r#""%s", __print_flags(REC->flags, "|", { 2, "B" }, { 1, "A" })"#;
        assert_eq!(shown(flags).unwrap(), "B|0x4");
        let symbolic = r#""%s", __print_symbolic(REC->flags + 4, { 1, "one" }, { TEN, "ten" })"#;
        assert_eq!(shown(symbolic).unwrap(), "ten");
        assert_eq!(shown(r#""%s", __print_symbolic(REC->flags, { 1, "one" })"#).unwrap(), "0x6");
        assert_eq!(shown(r#""%s", __print_array(REC->words, 2, 4)"#).unwrap(), "{0x7,0x8}");
    }

    #[test]
    fn masks_begin_with_the_highest_word() {
        assert_eq!(bitmask(&[1, 0, 0, 0, 2, 0, 0, 0]), "00000002,00000001");
    }
}
