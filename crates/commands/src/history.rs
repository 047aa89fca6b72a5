//! The values that `p` has shown: `$1`, `$`, `$$`, `$$2`.

use kdive_debuginfo::Types;
use kdive_target::c::Value;

/// The values that a session has shown, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Value,
    types: Types,
}

impl History {
    /// Keeps a value: its number.
    pub(crate) fn push(&mut self, value: Value, types: Types) -> usize {
        self.entries.push(Entry { value, types });
        self.entries.len()
    }

    /// The value of `$` (the last), `$$` (the one before), `$7` (by number), `$$2` (so many before the last).
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let digits = name.strip_prefix('$')?;
        let count = self.entries.len();
        let number = match (digits, digits.strip_prefix('$')) {
            ("", _) => count,
            (_, Some("")) => count.checked_sub(1)?,
            (_, Some(back)) => count.checked_sub(back.parse().ok()?)?,
            (number, None) => number.parse().ok()?,
        };
        self.entries.get(number.checked_sub(1)?).map(|entry| &entry.value)
    }

    /// The types of the last value that needs more than the kernel's own.
    pub(crate) fn types(&self) -> Option<&Types> {
        self.entries.iter().rev().map(|entry| &entry.types).find(|types| types.modules().next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::VirtAddr;
    use kdive_debuginfo::TypeId;

    use super::*;

    #[test]
    fn values_are_found_from_both_ends() {
        let mut history = History::default();
        assert_eq!(history.get("$"), None);
        for at in 1..=3 {
            let value = Value::object(TypeId::VOID, VirtAddr(at));
            assert_eq!(history.push(value, Types::new(8)), at as usize);
        }
        let at = |name: &str| history.get(name).and_then(Value::address).map(|at| at.0);
        assert_eq!([at("$"), at("$$"), at("$$2"), at("$$0"), at("$1")], [3, 2, 1, 3, 1].map(Some));
        assert_eq!([at("$$3"), at("$4"), at("$0"), at("$x"), at("$$x")], [None; 5]);
    }
}
