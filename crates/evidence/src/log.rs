//! Records of the kernel's log.

use serde::Serialize;

/// One record of the kernel's log, from the ring buffer or from text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogRecord {
    /// Time since boot in nanoseconds, by the kernel's `local_clock`; `None` where text has no time stamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<u64>,
    /// Severity, 0 (emergency) to 7 (debug).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// syslog facility; 0 is the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facility: Option<u8>,
    /// Sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Who logged it: `T` and the thread's pid, or `C` and the CPU (`CONFIG_PRINTK_CALLER`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The text, possibly of several lines. Bytes that are not UTF-8 and control characters are escaped.
    pub text: String,
    /// `KEY=value` pairs of the device that the record is about (`SUBSYSTEM`, `DEVICE`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dictionary: Vec<(String, String)>,
    /// The kernel cut the text, or the dump lacks part of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}
