//! Why the kernel says it died: the line of its log that says so.

use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel};
use serde::Serialize;

use crate::log;

/// What the kernel said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PanicMessage {
    /// The line, from the words that give it away.
    pub text: String,
    /// The kernel did not panic in so many words: the log around it says more.
    pub check_log: bool,
}

/// Words that begin the message, the most telling first; whether they are a panic's own.
const SIGNS: [(&str, bool); 11] = [
    ("Kernel panic - not syncing: ", true),
    ("Kernel panic: ", true),
    ("sysrq: Trigger a crash", false),
    ("SysRq : Trigger a crash", false),
    ("Oops: ", false),
    ("kernel BUG at", false),
    ("BUG: ", false),
    ("general protection fault", false),
    ("double fault", false),
    ("Machine check", false),
    ("Unable to handle kernel", false),
];

/// What the kernel said when it died; `None` where its log tells of no panic.
pub fn panic_message(kernel: &Kernel) -> Field<Option<PanicMessage>> {
    Ok(from_records(log::records(kernel)?.flatten()))
}

/// The first record with the most telling sign: what follows it are consequences.
fn from_records(records: impl Iterator<Item = LogRecord>) -> Option<PanicMessage> {
    let mut best: Option<(usize, String)> = None;
    for record in records {
        let Some(line) = record.text.lines().next() else { continue };
        let better = best.as_ref().map_or(SIGNS.len(), |(rank, _)| *rank);
        let found = SIGNS.iter().take(better).enumerate().find_map(|(rank, (sign, _))| {
            let at = line.find(sign)?;
            Some((rank, line.get(at..)?.trim_end().to_owned()))
        });
        best = found.or(best);
        if matches!(best, Some((0, _))) {
            break;
        }
    }
    let (rank, text) = best?;
    let check_log = SIGNS.get(rank).is_some_and(|(_, panic)| !panic);
    Some(PanicMessage { text, check_log })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lines: &[&str]) -> Option<(String, bool)> {
        let records = lines.iter().map(|line| LogRecord { text: (*line).to_owned(), ..LogRecord::default() });
        from_records(records).map(|message| (message.text, message.check_log))
    }

    #[test]
    fn a_panic_tells_more_than_the_oops_before_it() {
        let log = [
            "BUG: kernel NULL pointer dereference",
            "Oops: 0002 [#1]",
            "Kernel panic - not syncing: Fatal exception",
            "x",
        ];
        assert_eq!(message(&log), Some(("Kernel panic - not syncing: Fatal exception".into(), false)));
        assert_eq!(message(&log[..2]), Some(("Oops: 0002 [#1]".into(), true)));
        assert_eq!(message(&["all is well"]), None);
    }
}
