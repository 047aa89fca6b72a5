//! Known issues: TOML files, and how they match a case.
//!
//! An issue states what it looks like (the function that failed, functions of its stack in order, registers, lines of the
//! log) and which kernels have it and have it fixed. Everything that it states must be there, or it does not match; what is
//! there says how well it matches. A kernel that has the fix already keeps the issue on the list, at its end: the fix may be
//! incomplete, and the reader should know that it was thought of.
//!
//! Files are given as text: hosts read directories. `known-issues/README.md` describes the form.

mod check;
mod issue;
mod matching;
mod release;

use crate::case::Case;
use crate::finding::Finding;
use crate::report::KnownIssueMatch;

pub use check::Checked;
pub use issue::{IssueError, KnownIssue, Pattern, Versions};
pub use release::{Family, Release, compare};

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// A set of known issues.
#[derive(Debug, Default)]
pub struct KnownIssues {
    issues: Vec<KnownIssue>,
}

impl KnownIssues {
    /// The issues that kdive ships.
    #[must_use]
    pub fn built_in() -> Self {
        // A file that does not parse fails the tests; here it only lacks.
        Self { issues: BUILT_IN.iter().filter_map(|(id, text)| KnownIssue::parse(id, text).ok()).collect() }
    }

    /// Adds one file: its name without `.toml`, and its text. It replaces an issue of the same name.
    ///
    /// # Errors
    /// When it is no known issue.
    pub fn add(&mut self, id: &str, text: &str) -> Result<(), IssueError> {
        let issue = KnownIssue::parse(id, text)?;
        self.issues.retain(|known| known.id != issue.id);
        self.issues.push(issue);
        Ok(())
    }

    /// The issues, in the order they were added.
    #[must_use]
    pub fn issues(&self) -> &[KnownIssue] {
        &self.issues
    }

    /// Those that match a case and what was found on it, the best first.
    #[must_use]
    pub fn matches(&self, case: &Case<'_>, findings: &[Finding]) -> Vec<KnownIssueMatch> {
        let facts = matching::Facts::new(case, findings);
        let mut matches: Vec<_> = self.issues.iter().filter_map(|issue| facts.matched(issue)).collect();
        matches.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        matches
    }
}

/// The texts of the issues that kdive ships: name and TOML.
#[must_use]
pub fn built_in_texts() -> &'static [(&'static str, &'static str)] {
    BUILT_IN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_shipped_parses() {
        for (id, text) in BUILT_IN {
            if let Err(error) = KnownIssue::parse(id, text) {
                panic!("{error}");
            }
        }
        assert_eq!(KnownIssues::built_in().issues().len(), BUILT_IN.len());
    }
}
