//! `ascii`: numbers as the text they hold, and the chart of characters.

use std::fmt::{self, Write as _};

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::args::{Args, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};

/// Shows numbers as text.
pub(crate) static ASCII: Command = Command {
    names: &["ascii"],
    group: Group::Memory,
    summary: "the text that hexadecimal numbers hold, or the chart of characters",
    operands: "[value]...",
    options: &[],
    help: include_str!("ascii.md"),
    run: Run::Once(ascii),
};

/// Names of the control characters (ECMA-6), as crash's chart writes them.
const CONTROLS: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS",
    "US",
];

/// The name of a byte that is no printable character.
fn name(byte: u8) -> Option<String> {
    match byte {
        0x20..0x7f => None,
        0x7f => Some("DEL".to_owned()),
        0x80.. => Some(format!("{byte:02x}")),
        control => CONTROLS.get(usize::from(control)).map(|&name| name.to_owned()),
    }
}

#[derive(Serialize)]
struct Value {
    value: VirtAddr,
    /// Its bytes from the lowest address on.
    text: String,
}

impl Value {
    fn new(value: u64) -> Self {
        let mut text = String::new();
        for byte in value.to_le_bytes() {
            match name(byte) {
                Some(name) => text.extend(["<", &name, ">"]),
                None => text.push(char::from(byte)),
            }
        }
        Self { value: VirtAddr(value), text }
    }
}

impl Render for Value {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}: {}", self.value, self.text)
    }
}

fn ascii(_cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.operands.is_empty() {
        return Ok(out.text(&chart())?);
    }
    for word in &args.operands {
        let value = u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16)
            .map_err(|_| UsageError::new("ascii", format!("{word}: expected up to 16 hexadecimal digits")))?;
        out.row(&Value::new(value), &())?;
    }
    Ok(())
}

/// Sixteen rows by the low half of a character, eight columns by the high half.
fn chart() -> String {
    let mut text =
        String::from("\n      0    1   2   3   4   5   6   7\n    +-------------------------------\n");
    for low in 0..16_u8 {
        // Writing into memory does not fail.
        let _ = write!(text, "  {low:X} |");
        for high in 0..8_u8 {
            let byte = high << 4 | low;
            let shown = match byte {
                b' ' => "SP".to_owned(),
                _ => name(byte).unwrap_or_else(|| char::from(byte).to_string()),
            };
            let _ = match high {
                0..=1 => write!(text, " {shown:>3}"),
                2 => write!(text, "  {shown:<2}"),
                3 => write!(text, "  {shown}"),
                7 if byte == 0x7f => write!(text, "  {shown}"),
                _ => write!(text, "   {shown}"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_their_lowest_byte() {
        assert_eq!(Value::new(0x6269_6c2f_7273_752f).text, "/usr/lib");
        assert_eq!(Value::new(0x7f0a_ff41).text, "A<ff><LF><DEL><NUL><NUL><NUL><NUL>");
    }

    #[test]
    fn the_chart_is_crashs() {
        let chart = chart();
        let lines: Vec<&str> = chart.lines().collect();
        assert_eq!(
            lines[1..4],
            [
                "      0    1   2   3   4   5   6   7",
                "    +-------------------------------",
                "  0 | NUL DLE  SP  0   @   P   `   p",
            ]
        );
        assert_eq!(lines[4], "  1 | SOH DC1  !   1   A   Q   a   q");
        assert_eq!(lines[11], "  8 |  BS CAN  (   8   H   X   h   x");
        assert_eq!(lines[18], "  F |  SI  US  /   ?   O   _   o  DEL");
    }
}
