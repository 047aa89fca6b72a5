//! Spellings: C's many names of one integer, and names close to a mistyped one.

use std::borrow::Cow;

use super::{Tag, Types};

/// The compiler's spelling of a base type, whatever order its words were given in: `unsigned long` and
/// `long unsigned` are `long unsigned int`, the name that BTF and DWARF hold. Other names come back as they are.
pub(super) fn canonical_base_name(name: &str) -> Cow<'_, str> {
    let (mut signed, mut unsigned, mut longs, mut short, mut char, mut int, mut wide) =
        (false, false, 0, false, false, false, false);
    for word in name.split_ascii_whitespace() {
        match word {
            "signed" | "__signed__" => signed = true,
            "unsigned" => unsigned = true,
            "long" if longs == 0 => longs = 1,
            "long" => longs = 2,
            "short" => short = true,
            "char" => char = true,
            "int" => int = true,
            "__int128" => wide = true,
            "bool" => return Cow::Borrowed("_Bool"),
            _ => return Cow::Borrowed(name),
        }
    }
    if wide {
        return Cow::Borrowed(if unsigned { "__int128 unsigned" } else { "__int128" });
    }
    Cow::Borrowed(match (char, short, longs, unsigned) {
        (true, _, _, true) => "unsigned char",
        (true, ..) if signed => "signed char",
        (true, ..) => "char",
        (_, true, _, true) => "short unsigned int",
        (_, true, ..) => "short int",
        (_, _, 1, true) => "long unsigned int",
        (_, _, 1, _) => "long int",
        (_, _, 2, true) => "long long unsigned int",
        (_, _, 2, _) => "long long int",
        (_, _, _, true) => "unsigned int",
        _ if signed || int => "int",
        _ => return Cow::Borrowed(name),
    })
}

/// A base type's spelling as people write it, and gdb shows it, for the compiler's: `unsigned long` for `long unsigned int`.
pub(super) fn usual_base_name(name: &str) -> &str {
    match name {
        "long unsigned int" => "unsigned long",
        "long int" => "long",
        "short unsigned int" => "unsigned short",
        "short int" => "short",
        "long long unsigned int" => "unsigned long long",
        "long long int" => "long long",
        "__int128 unsigned" => "unsigned __int128",
        other => other,
    }
}

/// Most suggestions given.
const MOST: usize = 5;

impl Types {
    /// Names with this tag that are close to `name`, best first: for "did you mean". Looks at every name, so it is for
    /// messages only.
    #[must_use]
    pub fn near(&self, tag: Tag, name: &str) -> Vec<String> {
        let mut close = Closest::new(name);
        self.for_each_name(tag, |candidate, _| close.offer(candidate));
        close.take()
    }
}

/// Collects the names closest to a wanted one.
#[derive(Debug)]
pub struct Closest<'w> {
    wanted: &'w str,
    limit: usize,
    found: Vec<(usize, String)>,
}

impl<'w> Closest<'w> {
    /// Nothing offered yet.
    #[must_use]
    pub fn new(wanted: &'w str) -> Self {
        Self { wanted, limit: wanted.len().div_euclid(3).clamp(1, 4), found: Vec::new() }
    }

    /// Keeps `candidate` if it is close enough.
    pub fn offer(&mut self, candidate: &str) {
        // A name that only goes on (or was cut) is close however long it is, but after the mistyped ones.
        let distance = match distance(self.wanted.as_bytes(), candidate.as_bytes(), self.limit) {
            Some(distance) => distance,
            None if self.wanted.len() >= 4 && candidate.starts_with(self.wanted) => {
                self.limit.saturating_add(1)
            }
            None => return,
        };
        let entry = (distance, candidate.to_owned());
        if let Err(at) = self.found.binary_search(&entry)
            && at < MOST
        {
            self.found.insert(at, entry);
            self.found.truncate(MOST);
        }
    }

    /// The closest names, best first.
    #[must_use]
    pub fn take(self) -> Vec<String> {
        self.found.into_iter().map(|(_, name)| name).collect()
    }
}

/// Edit distance without regard to case, if it is at most `limit`.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut best = left;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let substitute = diagonal.saturating_add(usize::from(!x.eq_ignore_ascii_case(y)));
            diagonal = *cell;
            left = substitute.min(left.saturating_add(1)).min(cell.saturating_add(1));
            *cell = left;
            best = best.min(left);
        }
        if best > limit {
            return None;
        }
    }
    row.last().copied().filter(|&distance| distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_integer_are_one() {
        for spelling in ["unsigned long", "long unsigned", "unsigned long int", "long int unsigned"] {
            assert_eq!(canonical_base_name(spelling), "long unsigned int");
        }
        assert_eq!(canonical_base_name("unsigned"), "unsigned int");
        assert_eq!(canonical_base_name("long long"), "long long int");
        assert_eq!(canonical_base_name("char"), "char");
        assert_eq!(canonical_base_name("signed char"), "signed char");
        assert_eq!(canonical_base_name("double"), "double");
        assert_eq!(canonical_base_name("bool"), "_Bool");
        assert_eq!(canonical_base_name("unsigned __int128"), "__int128 unsigned");
    }

    #[test]
    fn close_names_come_best_first() {
        assert_eq!(distance(b"task_struct", b"taks_struct", 4), Some(2));
        assert_eq!(distance(b"kitten", b"sitting", 3), Some(3));
        assert_eq!(distance(b"kitten", b"sitting", 2), None);
        assert_eq!(distance(b"", b"ab", 2), Some(2));
        let mut close = Closest::new("list_hed");
        for name in ["list_head", "hlist_head", "unrelated", "list_hed2"] {
            close.offer(name);
        }
        assert_eq!(close.take(), ["list_head", "list_hed2", "hlist_head"]);
    }
}
