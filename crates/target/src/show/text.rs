//! A tree as text, in gdb's layout.

use std::fmt::{self, Write};

use kdive_debuginfo::types::Encoding;

use super::node::{Array, Integer, Member, Node, Pointer, Text};
use super::string::{character, string};
use super::{Format, Shown, Style};

impl Shown {
    /// The value standing alone: a pointer has its type before it.
    #[must_use]
    pub fn text(&self, style: &Style) -> String {
        let mut out = Bounded { text: String::new(), room: style.length };
        // The only error is that there is no room, and then the text says so itself.
        let _ = self.alone(style, &mut out);
        out.text
    }

    /// The value as a member, at an indentation of `level` steps of two blanks: without a pointer's type, as within a
    /// record.
    #[must_use]
    pub fn text_within(&self, style: &Style, level: usize) -> String {
        let mut out = Bounded { text: String::new(), room: style.length };
        let _ = Layout { style, out: &mut out }.node(&self.node, level);
        out.text
    }

    fn alone(&self, style: &Style, out: &mut Bounded) -> fmt::Result {
        match (&self.node, &self.of) {
            (Node::Function(_), Some(of)) => write!(out, "{{{of}}} ")?,
            (Node::Pointer(_), Some(of)) => write!(out, "({of}) ")?,
            _ => {}
        }
        Layout { style, out }.node(&self.node, 0)
    }
}

/// Stands where the bytes at hand end.
const UNKNOWN: &str = "?";

struct Layout<'l> {
    style: &'l Style,
    out: &'l mut Bounded,
}

impl Layout<'_> {
    fn node(&mut self, node: &Node, level: usize) -> fmt::Result {
        match node {
            Node::Integer(integer) => self.integer(integer),
            Node::Enum { name: Some(name), .. } => self.out.write_str(name),
            Node::Enum { name: None, value } if self.style.hexadecimal => write!(self.out, "{value:#x}"),
            Node::Enum { name: None, value } => write!(self.out, "{value}"),
            Node::Float(text) => self.out.write_str(text),
            Node::Pointer(pointer) | Node::Function(pointer) => self.pointer(pointer),
            Node::Text(text) => self.text(text),
            Node::Record(members) => self.record(members, level),
            Node::Array(array) => self.array(array, level),
            Node::Void => self.out.write_str("void"),
            Node::Incomplete => self.out.write_str("<incomplete type>"),
            Node::Elided => self.out.write_str("{...}"),
            Node::Unavailable(None) => self.out.write_str(UNKNOWN),
            Node::Unavailable(Some(missing)) => write!(self.out, "<unavailable: {}>", missing.why.slug()),
        }
    }

    fn integer(&mut self, integer: &Integer) -> fmt::Result {
        if let Some(format) = self.style.format.filter(|format| *format != Format::Text) {
            return format.write(integer, self.out);
        }
        if self.style.hexadecimal {
            return write!(self.out, "{:#x}", integer.raw);
        }
        match (integer.encoding, integer.raw) {
            (Encoding::Bool, 0) => self.out.write_str("false"),
            (Encoding::Bool, 1) => self.out.write_str("true"),
            (Encoding::Unsigned, raw) if !integer.character => write!(self.out, "{raw}"),
            _ => {
                write!(self.out, "{}", integer.value())?;
                if integer.character {
                    self.out.write_str(" '")?;
                    character(integer.raw as u8, b'\'', self.out)?;
                    self.out.write_char('\'')?;
                }
                Ok(())
            }
        }
    }

    fn pointer(&mut self, pointer: &Pointer) -> fmt::Result {
        write!(self.out, "{:#x}", pointer.address.0)?;
        if let Some(symbol) = &pointer.symbol {
            write!(self.out, " <{symbol}>")?;
        }
        match &pointer.text {
            None => Ok(()),
            Some(Ok(text)) => {
                self.out.write_char(' ')?;
                self.text(text)
            }
            Some(Err(missing)) => write!(self.out, " <unavailable: {}>", missing.why.slug()),
        }
    }

    fn text(&mut self, text: &Text) -> fmt::Result {
        string(&text.bytes, self.out)?;
        if text.more { self.out.write_str("...") } else { Ok(()) }
    }

    fn record(&mut self, members: &[Member], level: usize) -> fmt::Result {
        if members.is_empty() {
            return self.out.write_str("{<No data fields>}");
        }
        let inner = level.saturating_add(1);
        self.out.write_char('{')?;
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                self.out.write_char(',')?;
            }
            match self.style.lines {
                true => self.line(inner)?,
                false if index > 0 => self.out.write_char(' ')?,
                false => {}
            }
            if let Some(name) = &member.name {
                write!(self.out, "{} = ", kdive_base::Printable(name.as_bytes()))?;
            }
            self.node(&member.node, inner)?;
        }
        if self.style.lines {
            self.line(level)?;
        }
        self.out.write_char('}')
    }

    fn array(&mut self, array: &Array, level: usize) -> fmt::Result {
        let inner = level.saturating_add(1);
        self.out.write_char('{')?;
        for (index, item) in array.items.iter().enumerate() {
            if index > 0 {
                self.out.write_char(',')?;
            }
            match self.style.array_lines {
                true => self.line(inner)?,
                false if index > 0 => self.out.write_char(' ')?,
                false => {}
            }
            self.node(item, inner)?;
        }
        if array.more > 0 {
            self.out.write_str("...")?;
        }
        if self.style.array_lines {
            self.line(level)?;
        }
        self.out.write_char('}')
    }

    fn line(&mut self, level: usize) -> fmt::Result {
        write!(self.out, "\n{:1$}", "", level.saturating_mul(2))
    }
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
