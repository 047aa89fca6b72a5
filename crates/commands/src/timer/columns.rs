//! What both kinds of timers print alike.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::time::function_name;
use kdive_target::Kernel;
use serde::Serialize;

use crate::render::Known;

/// A function that a timer calls.
#[derive(Debug, Serialize)]
pub(super) struct Function {
    function: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Function {
    pub(super) fn at(kernel: &Kernel, at: VirtAddr) -> Self {
        Self { function: at, name: function_name(kernel, at) }
    }
}

#[cfg(test)]
impl Function {
    pub(super) fn named(function: VirtAddr, name: &str) -> Self {
        Self { function, name: Some(name.to_owned()) }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  <{}>", self.function, Known(self.name.as_ref()))
    }
}

/// Text in the middle of a column; what cannot be halved goes to the left.
pub(super) fn centred(text: &str, width: usize) -> String {
    let spare = width.saturating_sub(text.len());
    format!("{:1$}{text}{2:3$}", "", spare.div_ceil(2), "", spare / 2)
}

/// Digits of the largest of some numbers.
pub(super) fn digits(numbers: impl Iterator<Item = i128>) -> usize {
    numbers.max().map_or(0, |most| most.to_string().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_crashs() {
        assert_eq!(centred("TTE", 12), "     TTE    ");
        assert_eq!(centred("CURRENT", 13), "   CURRENT   ");
        assert_eq!(centred("wider than it", 3), "wider than it");
        assert_eq!(digits([-8041, 423_167].into_iter()), 6);
        assert_eq!(digits(std::iter::empty()), 0);
    }
}
