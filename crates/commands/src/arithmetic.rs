//! crash's arithmetic on numbers and symbols: `eval`'s operands, and `(expressions)` where an address or a value is meant.
//!
//! It is not C: a symbol stands for its address, numbers are 64 bits without a sign, digits need no `0x` where they
//! cannot be decimal (`ff`), and `k`, `m`, `g` behind a number multiply it. What is beyond it is C's
//! ([`kdive_target::Kernel::eval`]).

use kdive_base::VirtAddr;

use crate::cx::Cx;

/// Why a text has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is none of this arithmetic: another language may know it.
    NotThis(String),
    /// It is, and has no value.
    Never(String),
}

/// Parentheses inside each other: more than anyone types.
const MAX_DEPTH: usize = 64;

/// The value of a text.
pub(crate) fn evaluate(cx: &Cx, text: &str) -> Result<u64, Wrong> {
    value(text, &|name| symbol(cx, name).map(|at| at.0))
}

/// A symbol's address: the kernel's own symbols before those of modules.
pub(crate) fn symbol(cx: &Cx, name: &str) -> Option<VirtAddr> {
    let kernels = cx.kernel.symbol(name).ok();
    kernels.or_else(|| cx.kernel.symbols().ok()?.by_name(name).first().map(|symbol| symbol.address))
}

fn value(text: &str, symbol: &dyn Fn(&str) -> Option<u64>) -> Result<u64, Wrong> {
    let mut parser = Parser { rest: text.trim(), symbol, depth: 0 };
    let value = parser.binary(0)?;
    match parser.rest.is_empty() {
        true => Ok(value),
        false => Err(Wrong::NotThis(format!("\"{}\" does not belong there", parser.rest))),
    }
}

/// A number as crash takes it: decimal where it can be, else hexadecimal; `0x` and the factors `k`, `m`, `g`.
pub(crate) fn number(word: &str) -> Option<u64> {
    let shift = match word.as_bytes().last()? {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        _ => 0,
    };
    let digits = if shift > 0 { word.get(..word.len().checked_sub(1)?)? } else { word };
    let plain = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits)?,
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None => hexadecimal(digits)?,
    };
    plain.checked_mul(1 << shift)
}

/// Hexadecimal digits and nothing else: no sign, no underscore.
fn hexadecimal(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

struct Parser<'t> {
    rest: &'t str,
    symbol: &'t dyn Fn(&str) -> Option<u64>,
    depth: usize,
}

/// The binary operators with C's precedence: a higher number binds tighter.
const OPERATORS: [(&str, u8); 10] =
    [("|", 1), ("^", 2), ("&", 3), ("<<", 4), (">>", 4), ("+", 5), ("-", 5), ("*", 6), ("/", 6), ("%", 6)];

impl Parser<'_> {
    fn binary(&mut self, at_least: u8) -> Result<u64, Wrong> {
        let mut left = self.unary()?;
        loop {
            let next = OPERATORS.iter().find(|(text, _)| self.rest.starts_with(text));
            let Some(&(operator, strength)) = next.filter(|(_, strength)| *strength > at_least) else {
                return Ok(left);
            };
            self.skip(operator.len());
            let right = self.binary(strength)?;
            left = apply(operator, left, right)?;
        }
    }

    fn unary(&mut self) -> Result<u64, Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Wrong::Never("too many parentheses or signs".into()));
        }
        let value = match self.rest.as_bytes().first() {
            Some(b'~') => {
                self.skip(1);
                !self.unary()?
            }
            Some(b'-') => {
                self.skip(1);
                self.unary()?.wrapping_neg()
            }
            Some(b'(') => {
                self.skip(1);
                let value = self.binary(0)?;
                if !self.rest.starts_with(')') {
                    return Err(Wrong::NotThis("a parenthesis is not closed".into()));
                }
                self.skip(1);
                value
            }
            _ => self.word()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self) -> Result<u64, Wrong> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default();
        if word.is_empty() {
            return Err(Wrong::NotThis("a number or a symbol is expected".into()));
        }
        let value = number(word).or_else(|| (self.symbol)(word)).ok_or_else(|| {
            Wrong::NotThis(match word.bytes().all(|byte| byte.is_ascii_digit()) {
                true => format!("{word} does not fit into 64 bits"),
                false => format!("{word} is no number and no symbol"),
            })
        })?;
        self.skip(end);
        Ok(value)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }
}

fn apply(operator: &str, left: u64, right: u64) -> Result<u64, Wrong> {
    let shift = u32::try_from(right).unwrap_or(u32::MAX);
    let zero = || Wrong::Never("division by zero".to_owned());
    Ok(match operator {
        "|" => left | right,
        "^" => left ^ right,
        "&" => left & right,
        // What is shifted out is gone, by however many places.
        "<<" => left.checked_shl(shift).unwrap_or(0),
        ">>" => left.checked_shr(shift).unwrap_or(0),
        "+" => left.wrapping_add(right),
        "-" => left.wrapping_sub(right),
        "*" => left.wrapping_mul(right),
        "/" => left.checked_div(right).ok_or_else(zero)?,
        _ => left.checked_rem(right).ok_or_else(zero)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<u64, Wrong> {
        value(text, &|name| (name == "jiffies").then_some(0x1000))
    }

    #[test]
    fn numbers_are_decimal_where_they_can_be() {
        assert_eq!(of("10"), Ok(10));
        assert_eq!(of("0100"), Ok(100));
        assert_eq!(of("10a"), Ok(0x10a));
        assert_eq!(of("0x10"), Ok(16));
        assert_eq!(of("add"), Ok(0xadd));
        assert_eq!(of("4k"), Ok(4096));
        assert_eq!(of("0x1k"), Ok(1024));
        assert_eq!(of("64g"), Ok(64 << 30));
        assert!(of("99999999999999999999").is_err() && of("fffffffffg").is_err() && of("1.5").is_err());
    }

    #[test]
    fn operators_bind_as_in_c() {
        assert_eq!(of("1 + 2 * 3"), Ok(7));
        assert_eq!(of("(1 + 2) * 3"), Ok(9));
        assert_eq!(of("10 - 2 - 3"), Ok(5));
        assert_eq!(of("1 | 6 & 4"), Ok(5));
        assert_eq!(of("jiffies+8"), Ok(0x1008));
        assert_eq!(of("1 + ~0"), Ok(0));
        assert_eq!(of("5 - 7"), Ok(u64::MAX - 1));
        assert_eq!(of("1 << 64"), Ok(0));
        assert_eq!(of("1 << 4 >> 2"), Ok(4));
    }

    #[test]
    fn what_has_no_value_says_why() {
        assert_eq!(of("7 / 0"), Err(Wrong::Never("division by zero".into())));
        assert!(matches!(of("init_task.pid"), Err(Wrong::NotThis(_))));
        assert!(matches!(of("(1"), Err(Wrong::NotThis(_))));
        assert!(matches!(of(""), Err(Wrong::NotThis(_))));
        assert!(matches!(of(&"(".repeat(100_000)), Err(Wrong::Never(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in ".{0,40}") {
            let _ = of(&text);
        }

        #[test]
        fn any_arithmetic_is_taken(text in "[0-9a-f~+*/%&|^<>() -]{0,40}") {
            let _ = of(&text);
        }
    }
}
