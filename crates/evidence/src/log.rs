//! Records of the kernel's log.

use std::fmt;

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
    /// What is doubtful about a record that was carved out of bytes; empty for one that the kernel's own tables led to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
}

/// Why a carved record may not be what the kernel logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// Its text is overwritten or cut.
    Torn,
    /// Its header is there, its text is not.
    TextLost,
    /// Its text is there; its header, with time and level, is not.
    HeaderLost,
    /// Nothing says where the text ends: the last bytes may not belong to it.
    EndGuessed,
    /// The kernel had freed it: it is older than the oldest record of the log.
    Freed,
    /// The kernel was still writing it.
    Unfinished,
    /// Where it stands among the others is a guess.
    OrderGuessed,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torn => "torn",
            Self::TextLost => "text lost",
            Self::HeaderLost => "time and level lost",
            Self::EndGuessed => "end guessed",
            Self::Freed => "freed by the kernel",
            Self::Unfinished => "unfinished",
            Self::OrderGuessed => "order guessed",
        })
    }
}
