//! `eval`: a number in every base.

use std::fmt;

use kdive_base::VirtAddr;
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::operand;
use crate::sink::{Render, Sink, SinkExt};

/// Shows a value in every base.
pub(crate) static EVAL: Command = Command {
    names: &["eval"],
    group: Group::Memory,
    summary: "the value of an expression in hexadecimal, decimal, octal and binary",
    operands: "expression",
    options: &[
        Opt::flag("-b", "the numbers of the bits that are set"),
        Opt::flag("-l", "accepted for crash's sake: values have 64 bits"),
    ],
    help: include_str!("eval.md"),
    run: Run::Expression(eval),
};

#[derive(Serialize)]
struct Number {
    /// The value, in hexadecimal.
    value: VirtAddr,
    decimal: u64,
    /// The value with its top bit as a sign.
    #[serde(rename = "signed")]
    negative: i64,
    octal: String,
    binary: String,
    bits: Vec<u32>,
}

impl Number {
    fn new(value: u64) -> Self {
        Self {
            value: VirtAddr(value),
            decimal: value,
            negative: value.cast_signed(),
            octal: format!("{value:o}"),
            binary: format!("{value:064b}"),
            bits: (0..u64::BITS).rev().filter(|bit| value >> bit & 1 == 1).collect(),
        }
    }
}

/// Columns of the lines of bit numbers.
const WIDTH: usize = 80;
const INDENT: usize = 13;

impl Render for Number {
    /// Whether the bits that are set are listed.
    type View = bool;
    fn render(&self, with_bits: &bool, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "hexadecimal: {:x}  {}", self.value.0, units(self.value.0))?;
        match self.negative {
            negative @ ..0 => writeln!(out, "    decimal: {}  ({negative})", self.decimal)?,
            _ => writeln!(out, "    decimal: {}  ", self.decimal)?,
        }
        writeln!(out, "      octal: {}", self.octal)?;
        writeln!(out, "     binary: {}", self.binary)?;
        if !*with_bits {
            return Ok(());
        }
        let mut line = String::from("   bits set: ");
        for bit in &self.bits {
            let bit = format!("{bit} ");
            if line.len() + bit.len() > WIDTH {
                writeln!(out, "{line}")?;
                line = " ".repeat(INDENT);
            }
            line.push_str(&bit);
        }
        writeln!(out, "{line}")
    }
}

/// `(4GB)` for whole gigabytes, and so on; nothing for what is no multiple.
fn units(value: u64) -> String {
    let whole = [(30, "GB"), (20, "MB"), (10, "KB")].into_iter().find(|(shift, _)| {
        let unit = 1_u64 << shift;
        value >= unit && value.is_multiple_of(unit)
    });
    whole.map_or(String::new(), |(shift, name)| format!("({}{name})", value >> shift))
}

fn eval(cx: &mut Cx, args: &Args, text: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    if text.is_empty() {
        return Err(UsageError::new("eval", "which expression?").into());
    }
    let value = operand::expression(cx, "eval", text)?;
    Ok(out.row(&Number::new(value), &args.has("-b"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::TextSink;

    fn text(value: u64, bits: bool) -> String {
        let mut text = TextSink::new(Vec::new());
        text.row(&Number::new(value), &bits).unwrap();
        String::from_utf8(text.finish().unwrap()).unwrap()
    }

    #[test]
    fn lines_are_crashs() {
        assert_eq!(
            text(128 << 20, false),
            "hexadecimal: 8000000  (128MB)\n    decimal: 134217728  \n      octal: 1000000000\n     \
             binary: 0000000000000000000000000000000000001000000000000000000000000000\n"
        );
        assert!(text(u64::MAX, false).contains("    decimal: 18446744073709551615  (-1)\n"));
        assert!(text(0, true).ends_with("\n   bits set: \n"));
        assert!(text(0x41d_c065, true).ends_with("\n   bits set: 26 20 19 18 16 15 14 6 5 2 0 \n"));
        assert!(
            text(u64::MAX, true).contains("44 43 42 \n             41 40 39"),
            "22 numbers fill a line: {}",
            text(u64::MAX, true)
        );
    }

    #[test]
    fn units_are_whole() {
        let of = |value| units(value);
        assert_eq!([of(0), of(1023), of(1024), of(1537 << 10)], ["", "", "(1KB)", "(1537KB)"]);
        assert_eq!([of(1025 << 20), of(2 << 30), of(1 << 63)], ["(1025MB)", "(2GB)", "(8589934592GB)"]);
    }
}
