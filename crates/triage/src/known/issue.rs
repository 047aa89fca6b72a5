//! One known issue, as its file states it.

use std::collections::BTreeMap;

use kdive_evidence::SplatKind;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::release::{Family, Release};
use crate::class::Class;

/// A known issue: one TOML file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KnownIssue {
    /// The name of its file without `.toml`.
    #[serde(skip)]
    pub id: String,
    /// What it is, in one line.
    pub title: String,
    /// What happens and why, in a few sentences.
    #[serde(default)]
    pub text: String,
    /// Classes of failure that it shows itself as.
    pub classes: Vec<Class>,
    /// Commits, bug reports, advisories: the commit that fixed it first.
    #[serde(default)]
    pub links: Vec<String>,
    /// Where it is known from, when no link tells it or the link could not be read.
    pub source: Option<String>,
    /// What to do until it is fixed.
    pub advice: Option<String>,
    /// Families of kernels that have it (`el4`, `ubuntu-5.15`, `upstream`); empty: all.
    #[serde(default)]
    pub only: Vec<String>,
    /// The versions that it came in with.
    #[serde(default)]
    pub since: Versions,
    /// The versions that it is fixed in.
    #[serde(default)]
    pub fixed_in: Versions,
    /// What is looked for.
    #[serde(rename = "match")]
    pub pattern: Pattern,
}

/// What is looked for. All that is given must be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pattern {
    /// The function that the instruction pointer is in: names, with `|` between alternatives, `*` at an end for any letters.
    pub ip: Option<String>,
    /// Functions of one stack, innermost first; others may stand between. Written as `ip` is.
    #[serde(default)]
    pub functions: Vec<String>,
    /// A module that one of the functions is in.
    pub module: Option<String>,
    /// Modules that are loaded.
    #[serde(default)]
    pub loaded: Vec<String>,
    /// Registers and what they hold, in hexadecimal digits; `?` for any digit, `*` for any number of them. The register `any`
    /// is any of the general ones.
    #[serde(default)]
    pub registers: BTreeMap<String, String>,
    /// Regular expressions over the lines of the log that belong to the failure; each must be found.
    #[serde(default)]
    pub log: Vec<String>,
    /// What the complaint is, in the words of [`SplatKind`]; empty: anything.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The command name of the task that ran, written as `ip` is.
    pub comm: Option<String>,
}

/// Versions of each family of kernels.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Versions {
    by_family: BTreeMap<String, OneOrMore>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(version) => std::slice::from_ref(version),
            Self::More(versions) => versions,
        }
        .iter()
        .map(String::as_str)
    }
}

impl Versions {
    /// Whether a kernel has what these versions brought. `None` when nothing is listed for its family, or it does not tell.
    #[must_use]
    pub fn reached(&self, release: &Release) -> Option<bool> {
        release.reached(self.by_family.get(&release.family().to_string())?.iter())
    }

    /// In words: those of one family, or where it has none all.
    #[must_use]
    pub fn in_words(&self, family: Option<&Family>) -> Option<String> {
        if let Some((name, versions)) =
            family.and_then(|family| self.by_family.get_key_value(&family.to_string()))
        {
            return Some(words(name, versions));
        }
        let all: Vec<String> = self.by_family.iter().map(|(name, versions)| words(name, versions)).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Names of families that are listed.
    pub(super) fn families(&self) -> impl Iterator<Item = &str> {
        self.by_family.keys().map(String::as_str)
    }

    /// The versions that do not begin with a number.
    pub(super) fn malformed(&self) -> impl Iterator<Item = &str> {
        let begins = |version: &str| version.starts_with(|c: char| c.is_ascii_digit());
        self.by_family.values().flat_map(OneOrMore::iter).filter(move |version| !begins(version))
    }
}

fn words(family: &str, versions: &OneOrMore) -> String {
    let list = versions.iter().collect::<Vec<_>>().join(", ");
    if family == Family::Upstream.to_string() { format!("Linux {list}") } else { list }
}

/// Why a file is not a known issue.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It is no TOML, or not of this form.
    #[error("{id}.toml: {error}")]
    Form {
        /// The name of the file without `.toml`.
        id: String,
        /// What the parser says, with line and column.
        error: Box<toml::de::Error>,
    },
    /// It says something that cannot be.
    #[error("{id}.toml: {what}")]
    Content {
        /// The name of the file without `.toml`.
        id: String,
        /// What is wrong.
        what: String,
    },
}

impl KnownIssue {
    /// Reads one file.
    ///
    /// # Errors
    /// When it is not of the form that `known-issues/README.md` describes.
    pub fn parse(id: &str, text: &str) -> Result<Self, IssueError> {
        let mut issue: Self = toml::from_str(text)
            .map_err(|error| IssueError::Form { id: id.to_owned(), error: Box::new(error) })?;
        id.clone_into(&mut issue.id);
        match issue.problem() {
            Some(what) => Err(IssueError::Content { id: id.to_owned(), what }),
            None => Ok(issue),
        }
    }

    /// What is wrong with it.
    fn problem(&self) -> Option<String> {
        let pattern = &self.pattern;
        if self.links.is_empty() && self.source.is_none() {
            return Some(
                "it has no links: each issue cites the commit or the advisory that fixed it".to_owned(),
            );
        }
        if let Some(link) = self.links.iter().find(|link| !link.starts_with("https://")) {
            return Some(format!("the link {link:?} does not begin with https://"));
        }
        if self.classes.is_empty() {
            return Some("it names no class of failure".to_owned());
        }
        if pattern.ip.is_none()
            && pattern.functions.is_empty()
            && pattern.log.is_empty()
            && pattern.registers.is_empty()
        {
            return Some("it looks for nothing: give `ip`, `functions`, `registers` or `log`".to_owned());
        }
        for text in &pattern.log {
            if let Err(error) = log_pattern(text) {
                return Some(format!("the log pattern {text:?}: {error}"));
            }
        }
        for (register, value) in &pattern.registers {
            if value.is_empty() || !value.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, '?' | '*')) {
                return Some(format!(
                    "the register {register} cannot hold {value:?}: hexadecimal digits, ? and * only"
                ));
            }
        }
        if let Some(kind) = pattern.kinds.iter().find(|kind| !is_kind(kind)) {
            return Some(format!("there is no kind of complaint {kind:?}"));
        }
        let families =
            self.only.iter().map(String::as_str).chain(self.since.families()).chain(self.fixed_in.families());
        if let Some(family) = families.into_iter().find(|family| !is_family(family)) {
            return Some(format!(
                "there is no family of kernels {family:?}: upstream, el7, ubuntu-5.15, suse-5.14.21"
            ));
        }
        let mut versions = self.since.malformed().chain(self.fixed_in.malformed());
        versions.next().map(|version| format!("{version:?} is no version"))
    }
}

/// A pattern of `log`: case matters, and it may match anywhere in a line. Bounded, because users write them.
pub(super) fn log_pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(1 << 18).build()
}

fn is_family(name: &str) -> bool {
    name == "upstream"
        || name.strip_prefix("el").is_some_and(|major| major.parse::<u32>().is_ok())
        || ["ubuntu-", "suse-", "uek-", "proxmox-"].iter().any(|kind| {
            name.strip_prefix(kind).is_some_and(|base| base.starts_with(|c: char| c.is_ascii_digit()))
        })
}

/// The name that JSON has for a kind of complaint.
pub(super) fn kind_name(kind: SplatKind) -> String {
    // Its `Debug` form is its name in Rust; serde's is the same in kebab-case.
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn is_kind(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUE: &str = r#"
        title = "Something breaks"
        classes = ["soft-lockup"]
        links = ["https://example.org/commit"]
        [fixed-in]
        upstream = ["6.8", "6.6.15"]
        el7 = "3.10.0-1127.el7"
        [match]
        functions = ["a|b", "c*"]
    "#;

    fn wrong(change: (&str, &str)) -> String {
        KnownIssue::parse("x", &ISSUE.replace(change.0, change.1)).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_checked() {
        let issue = KnownIssue::parse("x", ISSUE).unwrap();
        assert_eq!(issue.id, "x");
        assert_eq!(issue.fixed_in.in_words(None).unwrap(), "3.10.0-1127.el7; Linux 6.8, 6.6.15");
        assert!(wrong(("soft-lockup", "soft-lock")).contains("unknown variant"));
        assert!(wrong(("\"https://example.org/commit\"", "")).contains("no links"));
        assert!(wrong(("https://", "ftp://")).contains("https"));
        assert!(wrong(("functions = [\"a|b\", \"c*\"]", "")).contains("looks for nothing"));
        assert!(wrong(("functions = [\"a|b\", \"c*\"]", "log = [\"(\"]")).contains("log pattern"));
        assert!(wrong(("el7 =", "rhel7 =")).contains("family"));
        assert!(wrong(("functions", "function")).contains("unknown field"));
    }

    #[test]
    fn kinds_have_the_names_of_json() {
        for kind in [SplatKind::SoftLockup, SplatKind::Bug, SplatKind::IrqNobodyCared, SplatKind::OutOfMemory]
        {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind_name(kind));
        }
    }
}
