//! The planted lists and trees (`lab/crasher/evidence.c`) against what the walkers find.

use super::compare::{Faults, Known};

/// Entries of the evidence, and indices of the xarray between two of them.
const COUNT: usize = 1000;
const STRIDE: u64 = 7;

/// What a walk printed of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    address: String,
    index: Option<u64>,
    id: Option<u64>,
}

/// Addresses at the margin; what is said of each is indented.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        let Some(said) = line.strip_prefix("  ") else {
            entries.push(Entry { address: line.to_owned(), ..Entry::default() });
            continue;
        };
        let number = |key: &str| {
            let digits = said.strip_prefix(key)?.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        };
        if let Some(entry) = entries.last_mut() {
            entry.index = entry.index.or(number("index: "));
            entry.id = entry.id.or(number("id = "));
        }
    }
    entries
}

/// The walks over the evidence. A kernel without BTF of modules has no `struct evidence`: then its ids are not seen.
pub(crate) fn evidence(run: &dyn Fn(&str) -> Result<String, String>) -> Faults {
    let walks = [
        ("list -o 24 -H evidence_list", ""),
        ("tree -t rbtree -l -o 40 evidence_tree", ""),
        ("tree -t xarray -p evidence_xa", "index"),
    ];
    let mut faults = Faults::new();
    let mut first: Option<Vec<String>> = None;
    for (command, indexed) in walks {
        let with_ids = run(&format!("{command} -s evidence.id"));
        let has_ids = with_ids.is_ok();
        let text = match with_ids.or_else(|_| run(command)) {
            Ok(text) => text,
            Err(error) => {
                faults.push(error);
                continue;
            }
        };
        let found = entries(&text);
        if found.len() != COUNT {
            faults.push(format!("{command}: {} entries instead of {COUNT}", found.len()));
        }
        let wrong = found.iter().zip(0_u64..).find(|(entry, number)| {
            has_ids && entry.id != Some(*number)
                || !indexed.is_empty() && entry.index != Some(number * STRIDE)
        });
        if let Some((entry, number)) = wrong {
            faults.push(format!("{command}: at {number} is {entry:?}"));
        }
        let addresses: Vec<String> = found.into_iter().map(|entry| entry.address).collect();
        if first.get_or_insert_with(|| addresses.clone()) != &addresses {
            faults.push(format!("{command}: other addresses than on the list"));
        }
    }
    faults
}

/// The walk over the million of the scenario `million`.
pub(crate) fn million(known: &Known<'_>, run: &dyn Fn(&str) -> Result<String, String>) -> Faults {
    let Some(count) = known.truth.fact("witnesses").and_then(|count| count.parse::<usize>().ok()) else {
        return vec!["the guest did not write how many witnesses there are".into()];
    };
    let command = "list -o witness.link -H witness_list -s witness.id";
    let found = match run(command) {
        Ok(text) => entries(&text),
        Err(error) => return vec![error],
    };
    let mut faults = Faults::new();
    if found.len() != count {
        faults.push(format!("{command}: {} entries instead of {count}", found.len()));
    }
    if let Some((entry, number)) = found.iter().zip(0_u64..).find(|(entry, number)| entry.id != Some(*number))
    {
        faults.push(format!("{command}: at {number} is {entry:?}"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_are_read() {
        let text = "ff27\n  index: 7  position: root/0/0/7\n  id = 1,\nff28\n  id = 2,\n";
        let entry = |address: &str, index, id| Entry { address: address.into(), index, id };
        assert_eq!(entries(text), [entry("ff27", Some(7), Some(1)), entry("ff28", None, Some(2))]);
    }

    #[test]
    fn a_wrong_order_is_seen() {
        let right = |command: &str| -> Result<String, String> {
            let index = |id: usize| {
                if command.contains("-p") {
                    format!("  index: {}  position: x\n", id * 7)
                } else {
                    String::new()
                }
            };
            Ok((0..COUNT).map(|id| format!("{id:x}\n{}  id = {id},\n", index(id))).collect())
        };
        assert_eq!(evidence(&right), Faults::new());
        let swapped = |command: &str| right(command).map(|text| text.replace("  id = 5,", "  id = 6,"));
        assert_eq!(evidence(&swapped).len(), 3);
        let short = |command: &str| right(command).map(|text| text.replace("3e7\n", ""));
        assert!(!evidence(&short).is_empty());
    }
}
