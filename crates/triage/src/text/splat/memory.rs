//! Lists, counters, slabs and pages that do not hold what they should; memory that ran out.

use kdive_base::VirtAddr;
use kdive_evidence::{Splat, SplatKind as Kind};

use crate::text::openings::{Opening, plain};
use crate::text::scan::{after, between, hex_after, word};

pub(super) const OPENINGS: &[Opening] = &[
    plain("list_add corruption", Kind::ListCorruption),
    plain("list_del corruption", Kind::ListCorruption),
    plain("list_add double add", Kind::ListCorruption),
    plain("refcount_t: ", Kind::Refcount),
    Opening { phrase: "BUG ", kind: Kind::Slab, read: slub },
    plain("Slab corruption", Kind::Slab),
    plain("slab error in ", Kind::Slab),
    plain("slab: double free detected", Kind::Slab),
    plain("cache_from_obj: Wrong slab cache", Kind::Slab),
    plain("Wrong slab cache.", Kind::Slab),
    plain("kernel memory corruption", Kind::Slab),
    plain("Bad page cache in process", Kind::BadPage),
    Opening { phrase: "ad page state", kind: Kind::BadPage, read: bad_page },
    Opening { phrase: "ad page map", kind: Kind::BadPage, read: bad_page },
    plain("Bad rss-counter state", Kind::BadPage),
    plain("non-zero pgtables_bytes on freeing mm", Kind::BadPage),
    plain("page_mapcount(page) went negative", Kind::BadPage),
    plain(": bad pmd ", Kind::BadPage),
    plain(": bad pud ", Kind::BadPage),
    plain(": bad pgd ", Kind::BadPage),
    plain(": bad p4d ", Kind::BadPage),
    plain("swap_free: Bad swap file entry", Kind::BadPage),
    plain("swap_dup: Bad swap file entry", Kind::BadPage),
    plain("pagealloc: memory corruption", Kind::BadPage),
    plain("pagealloc: single bit error", Kind::BadPage),
    Opening {
        phrase: "invoked oom-killer",
        kind: Kind::OutOfMemory,
        read: |text, splat| {
            splat.comm = text.split_once(" invoked oom-killer").map(|(comm, _)| comm.to_owned());
            true
        },
    },
    plain("oom-killer: ", Kind::OutOfMemory),
    plain("ut of memory: Kill", Kind::OutOfMemory),
    plain("ut of Memory: Kill", Kind::OutOfMemory),
    Opening {
        phrase: "page allocation failure",
        kind: Kind::AllocationFailure,
        read: |text, splat| {
            splat.comm = text.split_once(": page allocation failure").map(|(comm, _)| comm.to_owned());
            true
        },
    },
    plain("-order allocation failed", Kind::AllocationFailure),
    plain("vmalloc: allocation failure", Kind::AllocationFailure),
    plain("vmalloc error: size", Kind::AllocationFailure),
    plain("percpu: allocation failed", Kind::AllocationFailure),
    plain("vmap allocation for size ", Kind::AllocationFailure),
    plain("SLUB: Unable to allocate memory", Kind::AllocationFailure),
];

/// `BUG kmalloc-64 (Tainted: G  B): Poison overwritten`; not `BUG: ...`.
fn slub(text: &str, splat: &mut Splat) -> bool {
    let Some(rest) = text.strip_prefix("BUG ") else { return false };
    let (_, rest) = word(rest);
    let taint = between(rest, "(", ")");
    if rest.starts_with('(')
        && let Some(taint) = taint.filter(|taint| taint.contains("ainted"))
    {
        splat.taint = Some(after(taint, "Tainted: ").unwrap_or_default().replace(' ', ""));
        return rest.contains("): ");
    }
    false
}

/// `Bad page state in process 'oracle'  pfn:1234`, `BUG: Bad page map in process a  pte:...`.
fn bad_page(text: &str, splat: &mut Splat) -> bool {
    if let Some(rest) = after(text, "in process ") {
        let name = rest.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
        let name =
            name.or_else(|| rest.split_once("  ").map(|(name, _)| name)).or_else(|| rest.split(" p").next());
        splat.comm = name.map(|name| name.trim().trim_end_matches(',').to_owned());
    }
    splat.address = hex_after(text, "page ").filter(|&page| page > 0xffff).map(VirtAddr);
    true
}

/// Whether a line tells of the page: what is broken in it.
pub(super) fn page_line(text: &str, splat: &mut Splat) -> bool {
    if !text.starts_with("page:")
        && !text.starts_with("page dumped because")
        && !text.starts_with("page_type")
        && !text.starts_with("flags: 0x")
        && !text.starts_with("raw: ")
        && !text.starts_with("bad because of flags")
        && !text.starts_with("addr:")
        && !text.starts_with("page: refcount")
        && !text.starts_with("Trying to fix it up")
    {
        return false;
    }
    if splat.address.is_none() && text.starts_with("page:") {
        splat.address = hex_after(text, "page:").map(VirtAddr);
    }
    if let Some((_, taint)) = text.rsplit_once("ainted") {
        let letters = taint.trim_start_matches(':').trim_end_matches(')').split_whitespace().collect();
        splat.taint = splat.taint.take().or(Some(letters));
    }
    splat.details.push(text.to_owned());
    true
}
