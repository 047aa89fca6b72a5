//! Characters as gdb writes them: octal escapes, so that nothing in a dump can drive a terminal.

use std::fmt::{self, Write};

/// One byte between `quote`s.
pub(super) fn character(byte: u8, quote: u8, out: &mut dyn Write) -> fmt::Result {
    match byte {
        b'\\' => out.write_str("\\\\"),
        _ if byte == quote => write!(out, "\\{}", char::from(byte)),
        7 => out.write_str("\\a"),
        8 => out.write_str("\\b"),
        b'\t' => out.write_str("\\t"),
        b'\n' => out.write_str("\\n"),
        11 => out.write_str("\\v"),
        12 => out.write_str("\\f"),
        b'\r' => out.write_str("\\r"),
        b' '..=b'~' => out.write_char(char::from(byte)),
        _ => write!(out, "\\{byte:03o}"),
    }
}

/// Bytes between double quotes.
pub(super) fn string(bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    bytes.iter().try_for_each(|&byte| character(byte, b'"', out))?;
    out.write_char('"')
}
