//! Declarations of types as gdb prints them, line by line.

use std::fmt::Write as _;

use kdive_debuginfo::types::{Enum, Member, Record, RecordKind};
use kdive_debuginfo::{Tag, Type, TypeId, Types};

/// A line of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How deep it is nested: the first line is 0.
    pub level: usize,
    /// `struct list_head *next;`
    pub text: String,
    /// The member that it declares, or ends declaring.
    pub member: Option<Declared>,
}

/// Where the member of a line lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Bits from the start of the outermost record.
    pub bit_offset: u64,
    /// Width of a bit-field.
    pub bit_size: Option<u32>,
    /// Its type.
    pub of: TypeId,
    /// Its name; `None` for an anonymous one.
    pub name: Option<Box<str>>,
    /// Whether its own members stand in the lines before.
    pub opened: bool,
}

/// Lines of one declaration: the largest records of the kernel have about a thousand.
pub(super) const MOST_LINES: usize = 1 << 14;

/// Anonymous records inside each other.
pub(super) const DEEPEST: usize = 32;

/// The declaration of a type: a record or an enum with what it holds, a typedef with what it stands for, any other type in
/// one line. No line ends in a semicolon that is not inside of it.
#[must_use]
pub fn declaration(types: &Types, of: TypeId) -> Vec<Line> {
    let mut lines = Lines { types, lines: Vec::new() };
    match types.get(of).as_deref() {
        Some(Type::Typedef { name, to }) => {
            let name = kdive_base::printable(name.as_bytes());
            let of = types.strip(*to);
            match types.get(of).as_deref() {
                Some(Type::Record(_) | Type::Enum(_)) => lines.opened("typedef ", of, &format!(" {name};")),
                _ => lines.push(0, format!("typedef {} {name};", types.name_of(of)), None),
            }
        }
        _ => lines.opened("", of, ""),
    }
    lines.lines
}

struct Lines<'t> {
    types: &'t Types,
    lines: Vec<Line>,
}

impl Lines<'_> {
    fn push(&mut self, level: usize, text: String, member: Option<Declared>) {
        if self.lines.len() < MOST_LINES {
            self.lines.push(Line { level, text, member });
        }
    }

    fn opened(&mut self, before: &str, of: TypeId, after: &str) {
        match self.types.get(of).as_deref() {
            Some(Type::Record(record)) => self.record(record, before, after, 0, 0, 1),
            Some(Type::Enum(kind)) => self.push(0, format!("{before}{}{after}", enumeration(kind)), None),
            Some(Type::Declaration { tag, name }) => {
                let found = self.types.strip(of);
                match found == of {
                    true => {
                        let text = format!("{before}{tag} {name} {{\n    <incomplete type>\n}}{after}");
                        self.push(0, text, None);
                    }
                    false => self.opened(before, found, after),
                }
            }
            _ => self.push(0, format!("{before}{}{after}", self.types.name_of(of)), None),
        }
    }

    /// A record with its members. `show` falls with each named member: below zero an anonymous record is `{...}`.
    fn record(&mut self, record: &Record, before: &str, after: &str, base: u64, level: usize, show: i32) {
        self.push(level, format!("{before}{} {{", head(record)), None);
        if record.members.is_empty() {
            self.push(level.saturating_add(1), "<no data fields>".to_owned(), None);
        }
        for member in &record.members {
            // A record that holds itself twice doubles with each level.
            if self.lines.len() >= MOST_LINES {
                break;
            }
            self.member(member, base, level.saturating_add(1), show);
        }
        self.push(level, format!("}}{after}"), None);
    }

    fn member(&mut self, member: &Member, base: u64, level: usize, show: i32) {
        let bit_offset = base.saturating_add(member.bit_offset);
        let name = member.name.as_deref().map(|name| kdive_base::printable(name.as_bytes()));
        let declared = |opened| Declared {
            bit_offset,
            bit_size: member.bit_size,
            of: member.of,
            name: member.name.clone(),
            opened,
        };
        let inner_show = if name.is_some() { show.saturating_sub(1) } else { show };
        if let Some((inner, before, after)) = self.anonymous(member.of, name.as_deref().unwrap_or(""))
            && inner_show >= 0
            && level < DEEPEST
        {
            match self.types.get(inner).as_deref() {
                Some(Type::Record(record)) => {
                    self.record(record, &before, &format!("{after};"), bit_offset, level, inner_show);
                    if let Some(last) = self.lines.last_mut() {
                        last.member = Some(declared(true));
                    }
                    return;
                }
                Some(Type::Enum(kind)) => {
                    let text = format!("{before}{}{after}{};", enumeration(kind), width(member.bit_size));
                    self.push(level, text, Some(declared(false)));
                    return;
                }
                _ => {}
            }
        }
        self.push(level, member_text(self.types, member), Some(declared(false)));
    }

    /// The anonymous record or enum that a declarator is about, and the text before and behind its body:
    /// `const`, `} *name[4]`.
    fn anonymous(&self, of: TypeId, name: &str) -> Option<(TypeId, String, String)> {
        const BODY: &str = "{...}";
        let mut inner = of;
        for _ in 0..DEEPEST {
            match self.types.get(inner).as_deref()? {
                Type::Pointer { to, .. } => inner = *to,
                Type::Array { of, .. } | Type::Qualified { of, .. } => inner = *of,
                Type::Record(Record { name: None, .. }) | Type::Enum(Enum { name: None, .. }) => {
                    let text = self.types.declare(of, name);
                    let (before, after) = text.split_once(BODY)?;
                    let keyword = before.trim_end().rsplit_once(' ').map_or("", |(before, _)| before);
                    let before = if keyword.is_empty() { String::new() } else { format!("{keyword} ") };
                    return Some((inner, before, after.to_owned()));
                }
                _ => return None,
            }
        }
        None
    }
}

/// The line of a member whose type is not opened.
pub(super) fn member_text(types: &Types, member: &Member) -> String {
    let name = member.name.as_deref().map(|name| kdive_base::printable(name.as_bytes()));
    let text = types.declare(member.of, &name.unwrap_or_default());
    format!("{text}{};", width(member.bit_size))
}

fn width(bits: Option<u32>) -> String {
    bits.map_or_else(String::new, |bits| format!(" : {bits}"))
}

pub(super) fn head(record: &Record) -> String {
    let keyword = match record.kind {
        RecordKind::Struct => Tag::Struct.word(),
        RecordKind::Union => Tag::Union.word(),
    };
    match &record.name {
        Some(name) => format!("{keyword} {}", kdive_base::printable(name.as_bytes())),
        None => keyword.to_owned(),
    }
}

/// `enum state {A, B, C = 8}`: numbers stand where they do not count on.
fn enumeration(of: &Enum) -> String {
    let mut text = String::from("enum ");
    if let Some(name) = &of.name {
        let _ = write!(text, "{} ", kdive_base::printable(name.as_bytes()));
    }
    text.push('{');
    let mut next = 0_i128;
    for (index, (name, value)) in of.values.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&kdive_base::printable(name.as_bytes()));
        if *value != next {
            let _ = write!(text, " = {value}");
        }
        next = value.wrapping_add(1);
    }
    text.push('}');
    text
}
