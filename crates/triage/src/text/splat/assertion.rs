//! `BUG()`, `WARN()` and what they print of their place.

use kdive_evidence::{SourceLine, Splat, SplatKind as Kind};

use crate::text::openings::Opening;
use crate::text::scan::{after, decimal, number_after};
use crate::text::trace::symbol;

pub(super) const OPENINGS: &[Opening] = &[
    Opening {
        phrase: "ernel BUG at ",
        kind: Kind::Bug,
        read: |text, splat| {
            splat.source = after(text, "ernel BUG at ").and_then(source);
            splat.source.is_some()
        },
    },
    Opening {
        phrase: "BUG: warning at ",
        kind: Kind::Warning,
        read: |text, splat| {
            splat.source = after(text, "warning at ").and_then(source);
            true
        },
    },
    Opening {
        phrase: "Badness in ",
        kind: Kind::Warning,
        read: |text, splat| {
            let Some((function, place)) = after(text, "Badness in ").and_then(|rest| rest.split_once(" at "))
            else {
                return false;
            };
            splat.source = source(place);
            splat.ip = Some(kdive_evidence::Place {
                function: Some(function.trim().to_owned()),
                ..Default::default()
            });
            true
        },
    },
    Opening { phrase: "WARNING: ", kind: Kind::Warning, read: warning },
];

/// `WARNING: CPU: 1 PID: 123 at kernel/x.c:12 f+0x12/0x34 [mod]`, `WARNING: at kernel/x.c:12 f+0x12/0x34()`, and since 6.16
/// `WARNING: kernel/x.c:12 at f+0x12/0x34, CPU#1: comm/123`.
fn warning(text: &str, splat: &mut Splat) -> bool {
    let Some(rest) = after(text, "WARNING: ") else { return false };
    splat.cpu = number_after(rest, "CPU: ")
        .or_else(|| number_after(rest, "CPU#"))
        .and_then(|cpu| u32::try_from(cpu).ok());
    splat.pid = number_after(rest, "PID: ").and_then(|pid| i32::try_from(pid).ok());
    if let Some((comm, pid)) =
        after(rest, "CPU#").and_then(|rest| after(rest, ": ")).and_then(|rest| rest.rsplit_once('/'))
    {
        splat.comm = Some(comm.to_owned());
        splat.pid = decimal(pid).and_then(|(pid, _)| i32::try_from(pid).ok());
    }
    let (place, function) = match rest.strip_prefix("at ").or_else(|| after(rest, " at ")) {
        Some(behind) if source(behind).is_some() => {
            (source(behind), behind.split_once(' ').map(|(_, function)| function))
        }
        Some(behind) => (source(rest), Some(behind)),
        None => (source(rest), None),
    };
    splat.source = place;
    splat.ip = function.and_then(symbol).map(|(place, _)| place);
    splat.source.is_some()
}

/// `mm/filemap.c:568!`, and `panic:77` of old x86-64 kernels, which print the function instead of the file.
fn source(text: &str) -> Option<SourceLine> {
    let place = text.split_whitespace().next()?;
    let (file, line) = place.rsplit_once(':')?;
    let (line, _) = decimal(line)?;
    let known = !file.is_empty() && file.chars().all(|letter| letter.is_ascii_graphic());
    known.then(|| SourceLine { file: file.to_owned(), line: u32::try_from(line).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::openings;

    fn open(text: &str) -> Splat {
        openings::of(text, &openings::meanings(text)).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn bugs_name_their_line() {
        for (text, file, line) in [
            ("kernel BUG at net/ipv4/tcp_ipv4.c:417!", "net/ipv4/tcp_ipv4.c", 417),
            ("Kernel BUG at mm/filemap.c:568", "mm/filemap.c", 568),
            ("Kernel BUG at panic:77", "panic", 77),
            ("kernel BUG at include/asm/spinlock.h:146!", "include/asm/spinlock.h", 146),
        ] {
            let splat = open(text);
            assert_eq!(
                (splat.kind, splat.source),
                (Kind::Bug, Some(SourceLine { file: file.to_owned(), line })),
                "{text}"
            );
        }
    }

    #[test]
    fn warnings_of_all_ages_name_their_place() {
        for text in [
            "WARNING: at kernel/x.c:12 f+0x12/0x34()",
            "WARNING: at kernel/x.c:12 f+0x12/0x34 [m]()",
            "WARNING: CPU: 1 PID: 123 at kernel/x.c:12 f+0x12/0x34 [m]",
            "WARNING: kernel/x.c:12 at f+0x12/0x34 [m], CPU#1: a b/123",
        ] {
            let splat = open(text);
            assert_eq!(splat.source, Some(SourceLine { file: "kernel/x.c".to_owned(), line: 12 }), "{text}");
            assert_eq!(splat.ip.and_then(|place| place.function).as_deref(), Some("f"), "{text}");
            if text.contains("CPU") {
                assert_eq!((splat.cpu, splat.pid), (Some(1), Some(123)), "{text}");
            }
        }
        assert_eq!(
            open("WARNING: kernel/x.c:12 at f+0x12/0x34, CPU#1: a b/123").comm.as_deref(),
            Some("a b")
        );
    }
}
