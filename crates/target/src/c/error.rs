//! What is wrong with an expression, and where in it.

use std::fmt;
use std::ops::Range;

use crate::lacks::Lacks;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalError {
    /// The whole expression.
    pub text: String,
    /// The bytes of it that the error is about.
    pub at: Range<usize>,
    /// What is wrong.
    pub why: Why,
    /// What to type instead.
    pub hint: Option<String>,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is not C, or C does not allow it for these types.
    #[error("{0}")]
    Wrong(String),
    /// The kernel or the dump does not have what it needs.
    #[error(transparent)]
    Lacks(#[from] Lacks),
}

impl fmt::Display for EvalError {
    /// One line: what is wrong, and the nearest name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for EvalError {}

impl EvalError {
    /// The expression with carets under the part that is wrong: two lines.
    #[must_use]
    pub fn pointed(&self) -> String {
        let before = self.text.get(..self.at.start).map_or(0, |text| text.chars().count());
        let marked = self.text.get(self.at.clone()).map_or(1, |text| text.chars().count().max(1));
        // A tab would put the carets elsewhere.
        let text = self.text.replace('\t', " ");
        format!("{text}\n{}{}", " ".repeat(before), "^".repeat(marked))
    }
}

/// An [`EvalError`] that does not know its text yet.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) why: Why,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn wrong(at: Range<usize>, what: impl Into<String>) -> Self {
        Self { at, why: Why::Wrong(what.into()), hint: None }
    }

    pub(super) fn lacks(at: Range<usize>, lacks: impl Into<Lacks>) -> Self {
        Self { at, why: Why::Lacks(lacks.into()), hint: None }
    }

    #[must_use]
    pub(super) fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Suggests a name that was found to be near.
    #[must_use]
    pub(super) fn near(self, name: Option<String>) -> Self {
        match name {
            Some(name) => self.hinting(format!("did you mean '{name}'?")),
            None => self,
        }
    }

    pub(super) fn of(self, text: &str) -> EvalError {
        let Self { at, why, hint } = self;
        EvalError { text: text.to_owned(), at, why, hint }
    }
}

/// What a step of parsing or evaluation gives.
pub(super) type Eval<T> = Result<T, Fault>;
