//! Lists that the kernel's own checks found broken.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, LIKELY, POSSIBLE, PROVEN, STRONG, hex_after, line, one_bit_apart};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const LIST_CORRUPTION: Detector = Detector {
    name: "list-corruption",
    claim: "A check of list_add() or list_del() found links that do not fit together.",
    run,
};

/// Whether a splat is one of these checks.
pub(super) fn concerns(splat: &Splat) -> bool {
    splat.kind == SplatKind::ListCorruption
        || splat.source.as_ref().is_some_and(|source| source.file.ends_with("list_debug.c"))
        || corruption(splat).is_some()
}

fn corruption(splat: &Splat) -> Option<&str> {
    ["list_del corruption", "list_add corruption", "list_add double add", "list_add attempted on", "slist_"]
        .iter()
        .find_map(|text| line(splat, text))
}

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    let mut told = false;
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        let message = corruption(splat);
        // The BUG() or WARN() that follows the line is the same event.
        if message.is_none() && told {
            continue;
        }
        let message = message.unwrap_or(&splat.message);
        told = corruption(splat).is_some();
        let was = hex_after(message, "but was ");
        let expected = hex_after(message, "should be ");
        let reading = Reading::of(message, was, expected);
        let mut draft = Draft::new(LIST_CORRUPTION.name, reading.class, reading.score)
            .at(index, splat, Mode::Fault)
            .title_in("BUG: corrupted list")
            .claim_in(reading.claim)
            .says(message)
            .seen(reading.why);
        if let (Some(was), Some(expected)) = (was, expected)
            && one_bit_apart(was, expected)
        {
            draft = draft.against("What was found differs from what was expected in a single bit: memory that flipped a bit would look so.");
        }
        draft.advice("Look for two paths that remove or add the same entry without a common lock, and for one that frees it while it is on a list.").push(out);
    }
}

struct Reading {
    class: Class,
    score: u8,
    claim: &'static str,
    why: &'static str,
}

impl Reading {
    fn of(message: &str, was: Option<u64>, expected: Option<u64>) -> Self {
        let poisoned = |value: u64| {
            matches!(value & !0xfff, 0xdead_0000_0000_0000) || matches!(value, 0x0010_0100 | 0x0020_0200)
        };
        if message.contains("LIST_POISON") || was.is_some_and(poisoned) {
            return Self {
                class: Class::DeletedListEntry,
                score: PROVEN,
                claim: if message.contains("list_add") {
                    "A list entry was used after it was deleted"
                } else {
                    "A list entry was deleted twice"
                },
                why: "The link holds LIST_POISON, which list_del() leaves in a deleted entry.",
            };
        }
        if was.is_some_and(|was| was.to_le_bytes().iter().filter(|&&byte| byte == 0x6b).count() >= 6) {
            return Self {
                class: Class::UseAfterFree,
                score: PROVEN,
                claim: "A list entry was used after its memory was freed",
                why: "The link holds 0x6b bytes, which the slab allocator leaves in freed objects.",
            };
        }
        if was.is_some_and(|was| was.to_le_bytes().iter().all(|byte| (0x20..0x7f).contains(byte))) {
            return Self {
                class: Class::MemoryOverwrite,
                score: STRONG,
                claim: "A list entry was overwritten with text",
                why: "The link holds printable characters.",
            };
        }
        if message.contains("double add") || was.is_some() && was == expected {
            return Self {
                class: Class::ListCorruption,
                score: STRONG,
                claim: "A list entry was added twice",
                why: "The new entry is already one of its neighbours.",
            };
        }
        if was == Some(0) || message.contains("is NULL") {
            return Self {
                class: Class::ListCorruption,
                score: LIKELY + 6,
                claim: "A list entry was used that is zeroed or was never initialised",
                why: "The link is NULL: the entry was never put on a list, or its memory was cleared while it was on one.",
            };
        }
        Self {
            class: Class::ListCorruption,
            score: if was.is_some() { LIKELY + 6 } else { POSSIBLE + 12 },
            claim: "The links of a list do not fit together",
            why: "A neighbour points elsewhere: the list was changed by two at once, or an entry was freed or overwritten while it was on the list.",
        }
    }
}
