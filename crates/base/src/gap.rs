//! What a command could not tell, counted: a listing goes on, and its gaps are reported once at the end.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// One kind of gap: the same thing lacking for the same reason, so many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// What is lacking, in the reader's words (`COMM of a task`, `task_struct.utime`).
    pub what: String,
    /// Why, in words.
    pub why: String,
    /// The first place where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// How many times.
    pub count: u64,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        match (&self.first, self.count) {
            (Some(first), 1) => write!(f, " ({first})"),
            (Some(first), count) => write!(f, " ({count} times, first: {first})"),
            (None, 1) => Ok(()),
            (None, count) => write!(f, " ({count} times)"),
        }
    }
}

/// Collects gaps, merging those alike.
#[derive(Clone, Debug, Default)]
pub struct GapLedger {
    gaps: BTreeMap<(String, String), (Option<String>, u64)>,
}

impl GapLedger {
    /// Kinds of gaps kept apart; later kinds are counted under one heading, so that a hostile dump cannot fill memory.
    const MAX_KINDS: usize = 1000;

    /// Notes that `what` is lacking because of `why`, seen at `place`.
    pub fn note(&mut self, what: impl Into<String>, why: impl fmt::Display, place: Option<String>) {
        self.add((what.into(), why.to_string()), place, 1);
    }

    /// Takes over what another ledger noted: the ledger of a part of the work that ran on another thread.
    pub fn absorb(&mut self, other: Self) {
        for (key, (first, count)) in other.gaps {
            self.add(key, first, count);
        }
    }

    fn add(&mut self, mut key: (String, String), place: Option<String>, count: u64) {
        if self.gaps.len() >= Self::MAX_KINDS && !self.gaps.contains_key(&key) {
            key = ("more".into(), "too many kinds of gaps to list".into());
        }
        let entry = self.gaps.entry(key).or_insert((place, 0));
        entry.1 = entry.1.saturating_add(count);
    }

    /// Whether nothing was lacking.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// The gaps, in the order of their names, leaving the ledger empty.
    pub fn take(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
            .into_iter()
            .map(|((what, why), (first, count))| Gap { what, why, first, count })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_gaps_are_counted_together() {
        let mut ledger = GapLedger::default();
        ledger.note("COMM", "excluded", Some("ffff1".into()));
        ledger.note("COMM", "excluded", Some("ffff2".into()));
        ledger.note("PID", "excluded", None);
        let mut other = GapLedger::default();
        other.note("COMM", "excluded", Some("ffff3".into()));
        ledger.absorb(other);
        let gaps = ledger.take();
        assert_eq!(gaps[0].to_string(), "COMM: excluded (3 times, first: ffff1)");
        assert_eq!(gaps[1].to_string(), "PID: excluded");
        assert!(ledger.is_empty());
    }
}
