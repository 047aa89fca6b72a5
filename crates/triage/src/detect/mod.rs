//! The detectors: each states one claim and looks for what speaks for and against it.
//!
//! A detector is a file here and a line in [`DETECTORS`]. It reads the [`Case`], and where there is an image it may ask
//! [`Case::image`] for proof. It says nothing when its claim has no support.

use crate::case::Case;
use crate::finding::Finding;

/// A rule.
pub struct Detector {
    /// Its name, in kebab-case: it stands in every finding that it makes.
    pub name: &'static str,
    /// What it claims, in one sentence.
    pub claim: &'static str,
    /// Looks at a case.
    pub run: fn(&Case<'_>, &mut Vec<Finding>),
}

/// All detectors.
pub static DETECTORS: &[Detector] = &[];

/// All findings on a case, in the order of [`DETECTORS`].
#[must_use]
pub fn run(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for detector in DETECTORS {
        (detector.run)(case, &mut findings);
    }
    findings
}
