//! A record with the offsets and sizes of its members and with its holes, as gdb's `ptype /o` shows it.

use kdive_debuginfo::types::{Member, Record, RecordKind};
use kdive_debuginfo::{Type, TypeId, Types};

use super::declaration::{DEEPEST, MOST_LINES, head, member_text};

/// Width of the column of offsets and sizes.
const COLUMN: usize = 27;

/// The lines of a record, opened down to the records that it embeds.
#[must_use]
pub fn offsets(types: &Types, of: TypeId) -> Vec<String> {
    let mut lines = Offsets { types, lines: Vec::new() };
    if let Some(Type::Record(record)) = types.stripped(of).as_deref() {
        lines.lines.push(format!("/* offset      |    size */  type = {} {{", head(record)));
        lines.members(record, 0, 1);
        // gdb sets the last brace two columns in, under `type`.
        lines.lines.push(format!("{:1$}}}", "", COLUMN.saturating_add(2)));
    }
    lines.lines
}

struct Offsets<'t> {
    types: &'t Types,
    lines: Vec<String>,
}

/// The end of what was shown so far, in bits from the outermost record's start.
struct End {
    at: u64,
    /// Whether a bit-field ended there.
    bits: bool,
}

impl Offsets<'_> {
    fn members(&mut self, record: &Record, base: u64, level: usize) {
        let union = record.kind == RecordKind::Union;
        let mut end = End { at: base, bits: false };
        let mut largest = 0;
        for member in &record.members {
            if self.lines.len() >= MOST_LINES {
                break;
            }
            let at = base.saturating_add(member.bit_offset);
            let bytes = self.types.size_of(member.of).unwrap_or(0);
            let bits = member.bit_size.map_or(bytes.saturating_mul(8), u64::from);
            largest = largest.max(bits);
            if !union {
                self.hole(&end, at);
                end = End { at: at.saturating_add(bits), bits: member.bit_size.is_some() };
            }
            self.member(member, at, bytes, union, level);
        }
        let whole = base.saturating_add(record.bytes.saturating_mul(8));
        let shown = if union { base.saturating_add(largest) } else { end.at };
        self.padding(shown, whole);
        self.lines.push(String::new());
        let indent = COLUMN.saturating_add(level.saturating_mul(4));
        self.lines.push(format!("{:indent$}/* total size (bytes): {:4} */", "", record.bytes));
    }

    fn member(&mut self, member: &Member, at: u64, bytes: u64, union: bool, level: usize) {
        let column = match (union, member.bit_size) {
            (true, _) => format!("/*{bytes:>22} */"),
            (false, Some(_)) => format!("/*{:>7}: {:<4}|{bytes:>8} */", at / 8, at % 8),
            (false, None) => format!("/*{:>7}      |{bytes:>8} */", at / 8),
        };
        let indent = level.saturating_mul(4);
        let opened = match self.types.get(member.of).as_deref() {
            Some(Type::Record(record)) if level < DEEPEST => Some(record.clone()),
            _ => None,
        };
        let Some(record) = opened else {
            self.lines.push(format!("{column}{:indent$}{}", "", member_text(self.types, member)));
            return;
        };
        self.lines.push(format!("{column}{:indent$}{} {{", "", head(&record)));
        self.members(&record, at, level.saturating_add(1));
        let name = member.name.as_deref().map(|name| format!(" {}", kdive_base::printable(name.as_bytes())));
        let closing = COLUMN.saturating_add(indent);
        self.lines.push(format!("{:closing$}}}{};", "", name.unwrap_or_default()));
    }

    fn hole(&mut self, end: &End, next: u64) {
        let gap = next.saturating_sub(end.at);
        // Bits up to the end of their byte are told apart from whole bytes.
        let bits = if end.bits || !gap.is_multiple_of(8) { gap % 8 } else { 0 };
        if bits > 0 {
            self.lines.push(format!("/* XXX {bits:>2}-bit hole       */"));
        }
        if gap / 8 > 0 {
            self.lines.push(format!("/* XXX {:>2}-byte hole      */", gap / 8));
        }
    }

    fn padding(&mut self, end: u64, whole: u64) {
        let gap = whole.saturating_sub(end);
        if !gap.is_multiple_of(8) {
            self.lines.push(format!("/* XXX {:>2}-bit padding    */", gap % 8));
        }
        if gap / 8 > 0 {
            self.lines.push(format!("/* XXX {:>2}-byte padding   */", gap / 8));
        }
    }
}
