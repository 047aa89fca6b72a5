//! What a detector claims, and what it stands on.

use serde::Serialize;

use crate::class::Class;

/// One claim about why the kernel died.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The detector that claims it.
    pub detector: &'static str,
    /// What class of failure it is.
    pub class: Class,
    /// One line as kernel people search for it (`BUG: soft lockup in f`).
    pub title: String,
    /// One sentence: what happened.
    pub claim: String,
    /// How sure, 0 to 100: what [`Confidence`] is made of, and what findings compete by.
    pub score: u8,
    /// Who is to blame.
    pub culprit: Culprit,
    /// What speaks for it.
    #[serde(rename = "for")]
    pub supports: Vec<Evidence>,
    /// What speaks against it.
    pub against: Vec<Evidence>,
    /// What to do now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    /// Index in [`Case::splats`](crate::Case::splats) of the splat that it explains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splat: Option<usize>,
}

impl Finding {
    /// How sure it is, in words.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        Confidence::of(self.score)
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Worth knowing; no cause.
    Note,
    /// One of several explanations.
    Low,
    /// The best explanation; something would still decide it.
    Medium,
    /// Proven by what is in the dump or the log.
    High,
}

impl Confidence {
    /// The words for a score: below 25 a note, from 50 on medium, from 75 on high.
    #[must_use]
    pub fn of(score: u8) -> Self {
        match score {
            0..25 => Self::Note,
            25..50 => Self::Low,
            50..75 => Self::Medium,
            _ => Self::High,
        }
    }

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Who is to blame, as far as it can be named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Culprit {
    /// The guilty function: never the helper that noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The module that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The task that holds the others up, starves them or was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The device, cache, lock or other object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// What was seen, in one sentence.
    pub text: String,
    /// The command that shows it again (`locks`, `rd ffff... 8`); `None` for what the text itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Evidence {
    /// Evidence that the log or the pasted text shows.
    #[must_use]
    pub fn seen(text: impl Into<String>) -> Self {
        Self { text: text.into(), command: None }
    }

    /// Evidence that a command shows again.
    #[must_use]
    pub fn shown(text: impl Into<String>, command: impl Into<String>) -> Self {
        Self { text: text.into(), command: Some(command.into()) }
    }
}
