//! Lets the findings compete, and writes the report.

use crate::case::Case;
use crate::finding::Finding;
use crate::known::KnownIssues;
use crate::report::{REPORT_VERSION, Report};

/// The report on a case, from what the detectors found.
#[must_use]
pub fn report(case: &Case<'_>, findings: Vec<Finding>, _known: &KnownIssues) -> Report {
    Report {
        version: REPORT_VERSION,
        verdict: None,
        trigger: case.trigger.clone(),
        system: case.system.clone(),
        happened: None,
        suspects: Vec::new(),
        findings,
        known_issues: Vec::new(),
        wait_graph: None,
        memory: None,
        signature: None,
        gaps: case.gaps.clone(),
    }
}
