//! The report as text for a terminal.

use std::fmt::{self, Write};

use kdive_triage::Report;

/// Writes the whole report.
pub(super) fn render(report: &Report, out: &mut dyn Write) -> fmt::Result {
    match &report.verdict {
        Some(verdict) => writeln!(out, "{} ({})", verdict.sentence, verdict.confidence.name())?,
        None => writeln!(out, "nothing wrong was found")?,
    }
    for finding in &report.findings {
        writeln!(out, "\n{:>3}  {}  {}", finding.score, finding.title, finding.claim)?;
        for evidence in &finding.supports {
            writeln!(out, "     + {}", evidence.text)?;
        }
        for evidence in &finding.against {
            writeln!(out, "     - {}", evidence.text)?;
        }
    }
    Ok(())
}
