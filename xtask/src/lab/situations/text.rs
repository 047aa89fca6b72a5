//! Damaged code, as the guest named it: `crasher: flipped bit BIT at ADDRESS of the code`.

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::locking::{same_address, text};

/// `text-check`: that byte, one bit of it, and nothing else.
pub(super) fn flipped_bit(known: &Known<'_>, rows: &[Value]) -> Faults {
    let said = known.console.split_once("crasher: flipped bit ").map(|(_, said)| said.split_whitespace());
    let Some(address) = said.and_then(|mut words| words.nth(2)) else {
        return vec!["the guest does not say what it flipped".into()];
    };
    match rows {
        [row] if same_address(text(row, "address"), address) && row.get("bits") == Some(&1.into()) => {
            Faults::new()
        }
        rows => vec![format!("one bit at {address} was flipped, found are {rows:?}")],
    }
}

/// The same in a module: the row names the module in which the guest says the address lies.
pub(super) fn flipped_in_module(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = flipped_bit(known, rows);
    for row in rows {
        let address = u64::from_str_radix(text(row, "address").trim_start_matches("0x"), 16).unwrap_or(0);
        let holds = |name: &str| {
            known.truth.modules.get(name).is_some_and(|of| (of.base..of.base + of.size).contains(&address))
        };
        if !holds(text(row, "module")) {
            faults.push(format!("{address:x} does not lie in the module named: {row}"));
        }
    }
    faults
}
