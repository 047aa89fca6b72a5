//! Signatures for grouping many crashes.

/// Version of how signatures are made.
pub const SIGNATURE_VERSION: u32 = 1;
