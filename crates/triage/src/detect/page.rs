//! `struct page`, page tables, and pages that were written to after they were freed.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, LIKELY, POSSIBLE, STRONG, hex_after, line, says, splats};
use crate::blame::Mode;
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const PAGE: Detector = Detector {
    name: "bad-page",
    claim: "A struct page, a page table or a freed page is in a state that it cannot be in.",
    run: page,
};

pub(super) const REPEATED: Detector = Detector {
    name: "repeated-bad-pages",
    claim: "Pages are bad again and again, in different processes: the memory itself is suspected.",
    run: repeated,
};

fn page(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::BadPage]) {
        let text = |needle: &str| says(splat, needle);
        let (class, score, title, claim) = if text("single bit error") {
            (Class::BitFlip, STRONG + 4, "pagealloc: single bit error", "A free page has one flipped bit")
        } else if text("pagealloc: memory corruption") {
            (Class::UseAfterFree, STRONG - 4, "pagealloc: memory corruption", "A free page was written to")
        } else if text("ad page map")
            || text("bad pmd")
            || text("bad pud")
            || text("bad pgd")
            || text("bad p4d")
            || text("Bad swap file entry")
        {
            (
                Class::PageTableCorruption,
                LIKELY + 6,
                "BUG: Bad page map",
                "A page table holds an entry that is none",
            )
        } else if text("rss-counter") || text("pgtables_bytes") {
            (
                Class::BadPageState,
                POSSIBLE,
                "BUG: Bad rss-counter state",
                "The count of a process's pages does not agree with its page tables",
            )
        } else {
            (
                Class::BadPageState,
                LIKELY,
                "BUG: Bad page state",
                "A page was freed or allocated in a state that it cannot be in",
            )
        };
        let mut draft = Draft::new(PAGE.name, class, score)
            .at(index, splat, Mode::Fault)
            .nobody()
            .title(title)
            .claim(format!("{claim}."))
            .says(&splat.message);
        for needle in ["page dumped because", "bad because of flags", "page:", "pte:"] {
            if let Some(text) = line(splat, needle).filter(|text| *text != splat.message) {
                draft = draft.says(text);
            }
        }
        if let Some((name, value)) = single_bit(splat) {
            draft = draft.seen(format!("{name} is {value:#x}: one bit is set where all must be clear, as memory that flips bits would leave it."));
            if class != Class::BitFlip {
                Draft::new(PAGE.name, Class::BitFlip, LIKELY - 4)
                    .splat(index)
                    .object(Some("memory"))
                    .title(title)
                    .claim(format!("{name} of a page has one flipped bit."))
                    .says(&splat.message)
                    .seen(format!("{name} is {value:#x}: one bit is set where all must be clear."))
                    .against("A driver that sets a bit in a page which it gave back leaves the same.")
                    .advice("Test the memory.")
                    .push(out);
            }
        }
        draft
            .against("Who freed or wrote to the page is not on this stack: whoever took it next noticed it.")
            .advice("Boot with page_owner=on and debug_pagealloc=on: then the last owner of such a page is recorded.")
            .push(out);
    }
}

/// A member that must be zero and has a single bit.
fn single_bit(splat: &Splat) -> Option<(&'static str, u64)> {
    ["mapping:", "index:"].iter().find_map(|name| {
        let value = hex_after(line(splat, name)?, name)?;
        (*name == "mapping:" && value.count_ones() == 1).then_some((name.trim_end_matches(':'), value))
    })
}

fn repeated(case: &Case<'_>, out: &mut Vec<Finding>) {
    let bad: Vec<(usize, &Splat)> = splats(case, &[SplatKind::BadPage])
        .filter(|(_, splat)| says(splat, "ad page state") || says(splat, "ad page map"))
        .collect();
    let mut processes: Vec<&str> = bad.iter().filter_map(|(_, splat)| splat.comm.as_deref()).collect();
    processes.sort_unstable();
    processes.dedup();
    if bad.len() < 3 || processes.len() < 2 {
        return;
    }
    let pages: Vec<u64> = bad
        .iter()
        .filter_map(|(_, splat)| {
            splat.address.map(|at| at.0).or_else(|| hex_after(line(splat, "page:")?, "page:"))
        })
        .collect();
    // A `struct page` has 0x20 to 0x80 bytes.
    let neighbours =
        pages.windows(2).filter(|pair| matches!(pair, [a, b] if a != b && a.abs_diff(*b) <= 0x80)).count();
    let Some(&(index, splat)) = bad.first() else { return };
    let draft =
        Draft::new(REPEATED.name, Class::BadMemory, if neighbours > 0 { LIKELY + 4 } else { LIKELY - 8 })
            .splat(index);
    draft
        .object(Some("memory"))
        .title("BUG: Bad page state")
        .claim(format!("{} pages are bad, in processes that have nothing in common ({}): the memory itself is suspected.", bad.len(), processes.join(", ")))
        .says(&splat.message)
        .seen_if(neighbours > 0, format!("{} of the pages are neighbours of the one before: one region of memory.", neighbours.saturating_add(neighbours)))
        .against("A driver that writes to pages which it gave back makes pages of many processes bad too.")
        .advice("Test the memory (memtest86+, or the vendor's diagnosis), and read the machine's event log for corrected errors.")
        .advice("Findings about single crashes of this host count less until the memory is known to be good.")
        .push(out);
}
