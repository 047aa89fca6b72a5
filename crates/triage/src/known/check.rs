//! Whether a file of known issues is right: it parses, it matches its own fixture, and it does not match the near miss.

use super::issue::KnownIssue;
use super::matching::Facts;
use crate::report::KnownIssueMatch;
use crate::{detect, text};

/// An issue that is found below this is not worth a reader's time.
const LEAST_SCORE: u8 = 40;

/// A file and its two texts, which are `None` when they are not there.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'t> {
    /// The name of the file without `.toml`.
    pub id: &'t str,
    /// The file.
    pub toml: &'t str,
    /// What it must match.
    pub hit: Option<&'t [u8]>,
    /// What it must not match.
    pub miss: Option<&'t [u8]>,
}

impl Checked<'_> {
    /// What is wrong, one sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let id = self.id;
        let issue = match KnownIssue::parse(id, self.toml) {
            Ok(issue) => issue,
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = Vec::new();
        match self.hit.map(|text| matched(&issue, text)) {
            None => problems.push(format!("{id}: there is no fixtures/{id}/match.txt")),
            Some(None) => problems.push(format!("{id}: it does not match fixtures/{id}/match.txt")),
            Some(Some(found)) if found.has_fix == Some(true) => {
                problems.push(format!("{id}: fixtures/{id}/match.txt is of a kernel that has the fix"));
            }
            Some(Some(found)) if found.score < LEAST_SCORE => {
                let why = found.why.join("; ");
                problems.push(format!(
                    "{id}: it matches fixtures/{id}/match.txt with {} of 100 only: {why}",
                    found.score
                ));
            }
            Some(Some(_)) => {}
        }
        match self.miss.map(|text| matched(&issue, text)) {
            None => problems.push(format!("{id}: there is no fixtures/{id}/miss.txt")),
            Some(Some(found)) if found.has_fix != Some(true) => {
                let why = found.why.join("; ");
                problems.push(format!("{id}: it matches the near miss fixtures/{id}/miss.txt: {why}"));
            }
            Some(_) => {}
        }
        problems
    }
}

fn matched(issue: &KnownIssue, text: &[u8]) -> Option<KnownIssueMatch> {
    let case = text::read_bytes(text);
    let findings = detect::run(&case);
    Facts::new(&case, &findings).matched(issue)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::known::{KnownIssues, built_in_texts};

    fn fixture(id: &str, name: &str) -> Option<Vec<u8>> {
        fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../known-issues/fixtures").join(id).join(name),
        )
        .ok()
    }

    #[test]
    fn each_issue_matches_its_fixture_and_not_the_near_miss() {
        let mut problems = Vec::new();
        for (id, toml) in built_in_texts() {
            let (hit, miss) = (fixture(id, "match.txt"), fixture(id, "miss.txt"));
            problems.extend(Checked { id, toml, hit: hit.as_deref(), miss: miss.as_deref() }.problems());
        }
        assert!(
            problems.is_empty(),
            "{} of {}:\n{}",
            problems.len(),
            built_in_texts().len(),
            problems.join("\n")
        );
    }

    #[test]
    fn the_right_issue_is_the_best_match() {
        let known = KnownIssues::built_in();
        let mut wrong = Vec::new();
        for (id, _) in built_in_texts() {
            let Some(text) = fixture(id, "match.txt") else { continue };
            let case = text::read_bytes(&text);
            let matches = known.matches(&case, &detect::run(&case));
            match matches.first() {
                Some(best) if best.id == *id => {}
                best => wrong.push(format!("{id}: {:?}", best.map(|best| (&best.id, best.score)))),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let toml = "title = \"x\"\nclasses = [\"soft-lockup\"]\nlinks = [\"https://example.org\"]\n[match]\nip = \"f\"\n";
        let checked = Checked { id: "x", toml, hit: None, miss: Some(b"") };
        assert_eq!(checked.problems(), ["x: there is no fixtures/x/match.txt"]);
        let checked = Checked { id: "x", toml, hit: Some(b"nothing"), miss: Some(b"") };
        assert_eq!(checked.problems(), ["x: it does not match fixtures/x/match.txt"]);
        assert_eq!(Checked { id: "x", toml: "", hit: None, miss: None }.problems().len(), 1);
    }
}
