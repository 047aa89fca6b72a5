//! Why a kernel died.
//!
//! ```text
//!   text  ──▶ text::read  ─┐                ┌─▶ detect ──▶ Findings ─┐
//!                          ├──▶   Case   ───┤                       ├──▶ verdict ──▶ Report
//!   dump  ──▶ image::read ─┘                └─▶ signature, known ───┘
//! ```
//!
//! A [`Case`] holds the facts, whether they were read from a console log or from a memory image; it judges nothing. Each
//! detector in [`detect`] states one claim and looks for what speaks for and against it. [`verdict`] lets the findings
//! compete. What comes out is a [`Report`]: plain records that any host can render.
//!
//! Design constraints:
//! - A detector never knows which source a fact came from; proof from memory it asks of [`Case::image`], where there is one.
//! - No claim without evidence, and evidence that can be looked at again names the command that shows it.
//! - What triggered the end (a panic switch, an operator) is kept apart from what caused it.

pub mod blame;
pub mod case;
pub mod class;
pub mod decode;
pub mod detect;
pub mod finding;
pub mod image;
pub mod known;
pub mod report;
pub mod signature;
pub mod text;
pub mod title;
pub mod verdict;

pub use case::Case;
pub use class::{Category, Class};
pub use finding::{Confidence, Culprit, Evidence, Finding};
pub use report::Report;

/// Judges a case: the whole way from facts to report.
#[must_use]
pub fn analyze(case: &Case<'_>, known: &known::KnownIssues) -> Report {
    let findings = detect::run(case);
    let mut report = verdict::report(case, findings, known);
    if let Some(kernel) = case.image {
        image::complete(kernel, &mut report);
    }
    report
}
