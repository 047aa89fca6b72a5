//! Known issues: TOML files, and how they match a case.

/// A set of known issues.
#[derive(Debug, Default)]
pub struct KnownIssues {}
