//! System.map and copies of /proc/kallsyms: one symbol per line, as text.

use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;

use crate::symbols::{SymbolKind, SymbolTable, SymbolTableBuilder};

/// The symbols of a System.map, or of a copy of /proc/kallsyms with its modules.
#[derive(Debug, Default)]
pub struct SystemMap {
    /// The kernel's own symbols: as linked in a System.map, as loaded in a copy of /proc/kallsyms.
    pub kernel: SymbolTable,
    /// Modules by name (/proc/kallsyms only), in order of appearance.
    pub modules: Vec<(Box<str>, SymbolTable)>,
    /// Lines that are not symbols.
    pub skipped: usize,
}

/// Why a text is not a System.map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SystemMapError {
    /// Its first lines are not `address kind name`.
    #[error("not a System.map: its first lines are not of the form `ffffffff81000000 T _text`")]
    NotASystemMap,
    /// All addresses are zero.
    #[error("every address is zero: this copy of /proc/kallsyms was made without the right to see them")]
    Hidden,
}

impl SystemMap {
    /// Parses the text.
    ///
    /// # Errors
    /// When no line is a symbol within the first ones, or addresses are hidden.
    pub fn parse(text: &[u8]) -> Result<Self, SystemMapError> {
        const PROBED: usize = 16;
        let mut kernel =
            SymbolTableBuilder::with_capacity(text.len().div_euclid(40), text.len().div_euclid(2));
        let mut modules: Vec<(Box<str>, SymbolTableBuilder)> = Vec::new();
        let mut numbers: FxHashMap<Box<str>, usize> = FxHashMap::default();
        let (mut found, mut skipped, mut highest) = (0_usize, 0_usize, 0);
        for line in text.split(|&byte| byte == b'\n') {
            let Some(Line { address, kind, name, module }) = parse_line(line) else {
                skipped = skipped.saturating_add(usize::from(!line.trim_ascii().is_empty()));
                if found == 0 && skipped >= PROBED {
                    return Err(SystemMapError::NotASystemMap);
                }
                continue;
            };
            found = found.saturating_add(1);
            highest = highest.max(address);
            let builder = match module {
                None => &mut kernel,
                Some(module) => {
                    let module = crate::names::safe_name(module);
                    let number = *numbers.entry(module.clone()).or_insert(modules.len());
                    if number == modules.len() {
                        modules.push((module, SymbolTableBuilder::default()));
                    }
                    match modules.get_mut(number) {
                        Some((_, builder)) => builder,
                        None => continue,
                    }
                }
            };
            builder.push(name, VirtAddr(address), 0, SymbolKind::new(kind));
        }
        match (found, highest) {
            (0, _) => Err(SystemMapError::NotASystemMap),
            (_, 0) => Err(SystemMapError::Hidden),
            _ => Ok(Self {
                kernel: kernel.finish(),
                modules: modules.into_iter().map(|(name, builder)| (name, builder.finish())).collect(),
                skipped,
            }),
        }
    }
}

struct Line<'t> {
    address: u64,
    kind: u8,
    name: &'t [u8],
    module: Option<&'t [u8]>,
}

/// `ffffffff81000000 T _text`, and in /proc/kallsyms a module in brackets behind a tab.
fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let address = words.next().filter(|word| (8..=16).contains(&word.len()))?;
    let mut value = 0_u64;
    for &digit in address {
        value = value << 4 | u64::from((digit as char).to_digit(16)?);
    }
    let &[kind] = words.next()? else { return None };
    let name = words.next()?;
    let module = match words.next() {
        Some(word) => Some(word.strip_prefix(b"[")?.strip_suffix(b"]")?),
        None => None,
    };
    (words.next().is_none() && SymbolKind::new(kind).letter() == kind as char).then_some(Line {
        address: value,
        kind,
        name,
        module,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kernel_and_modules_are_told_apart() {
        let text = b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\nffffffff81000000 T _text\n\
            ffffffffc0001000 t deref\t[crasher]\nffffffffc0000000 t other [ext4]\nffffffffc0001010 t init\t[crasher]\n";
        let map = SystemMap::parse(text).unwrap();
        assert_eq!(map.kernel.len(), 3);
        let modules: Vec<_> = map.modules.iter().map(|(name, table)| (&**name, table.len())).collect();
        assert_eq!(modules, [("crasher", 2), ("ext4", 1)]);
        assert_eq!(map.skipped, 0);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(SystemMap::parse(b"").err(), Some(SystemMapError::NotASystemMap));
        assert_eq!(SystemMap::parse(b"hello world\n").err(), Some(SystemMapError::NotASystemMap));
        assert_eq!(SystemMap::parse(b"0000000000000000 T _text\n").err(), Some(SystemMapError::Hidden));
        let map = SystemMap::parse(b"ffffffff81000000 T _text\nffffffff8100zzzz T x\nfff T y\n").unwrap();
        assert_eq!((map.kernel.len(), map.skipped), (1, 2));
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[0-9a-fT \\[\\]\t\n_]{0,200}") {
            if let Ok(map) = SystemMap::parse(text.as_bytes()) {
                prop_assert!(!map.kernel.is_empty() || !map.modules.is_empty());
            }
        }
    }
}
