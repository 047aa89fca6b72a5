//! Pools of memory that could not be filled, and memory that nobody gives back.

use super::Detector;
use super::support::{
    Draft, HINT, LIKELY, NOTE, STRONG, alone, events, line, number_after, splats, word_after,
};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;
use kdive_evidence::SplatKind;

pub(super) const POOL: Detector = Detector {
    name: "memory-pool",
    claim: "A pool of contiguous memory (huge pages, CMA) could not be filled, or gave nothing.",
    run: pool,
};

pub(super) const LEAK: Detector = Detector {
    name: "memory-leak",
    claim: "Memory is held that nobody points to, or the slab allocator has most of it.",
    run: leak,
};

/// Of all memory in percent, in slabs that cannot be reclaimed: no working set explains that.
const LEAKED: u64 = 50;

fn pool(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(event) = events(case, EventKind::MemoryPool)
        .find(|event| !event.text.contains("HugeTLB") || event.text.contains("failed"))
    else {
        return;
    };
    let text = event.text.as_str();
    let alone = alone(case);
    let busy = text.contains("PFNs busy");
    let score = match (alone, busy) {
        // The allocator tries other ranges then.
        (_, true) => NOTE,
        (true, false) => LIKELY - 6,
        (false, false) => HINT,
    };
    let (object, claim) = if text.contains("HugeTLB") {
        let pages = number_after(text, "allocating").zip(number_after(text, "Only allocated"));
        let claim = match pages {
            Some((wanted, had)) => format!("Of {wanted} huge pages that were asked for, {had} could be had."),
            None => "Huge pages could not be had.".to_owned(),
        };
        ("huge pages", claim)
    } else {
        ("CMA", "The contiguous memory allocator could not give a range to a device.".to_owned())
    };
    // -EBUSY: pages of the range could not be moved. -ENOMEM: no range is left.
    let pinned = text.contains("ret: -16");
    Draft::new(POOL.name, Class::Fragmentation, score)
        .object(Some(object))
        .title(format!("allocation from the pool of {object} failed"))
        .claim(claim)
        .says(text)
        .seen_if(event.count > 1, format!("The line came {} times.", event.count))
        .seen_if(pinned, "Pages of that range could not be moved away (-EBUSY): somebody pins them.")
        .against_if(!alone, "It does not end a kernel: whoever asked must bear it.")
        .advice(if object == "CMA" {
            "Make the pool larger (cma= on the command line), and look who pins pages in it."
        } else {
            "Reserve huge pages at boot (hugepages= on the command line): later memory lies in pieces."
        })
        .push(out);
}

fn leak(case: &Case<'_>, out: &mut Vec<Finding>) {
    for event in events(case, EventKind::MemoryLeak).take(1) {
        Draft::new(LEAK.name, Class::MemoryLeak, if alone(case) { LIKELY } else { HINT })
            .title("memory leak")
            .claim("kmemleak found objects that nothing points to any more.")
            .says(&event.text)
            .seen_if(event.count > 1, format!("The line came {} times.", event.count))
            .against("A pointer that is kept in another form (an offset, with bits set in it) makes kmemleak err.")
            .advice("Read /sys/kernel/debug/kmemleak while the kernel lives: it has the stack that allocated each object.")
            .push(out);
    }
    // An image names who has it; here the report of the OOM killer must do.
    let memory = &case.memory;
    let Some((total, slab)) = memory.total.filter(|&total| total > 0).zip(memory.slab_unreclaimable) else {
        return;
    };
    let percent = slab.saturating_mul(100) / total;
    let last = splats(case, &[SplatKind::OutOfMemory]).last();
    let Some((index, splat)) = last.filter(|_| case.image.is_none() && percent >= LEAKED) else { return };
    if line(splat, "CONSTRAINT_MEMCG").is_some() {
        return;
    }
    let cache = memory.caches.iter().max_by_key(|cache| cache.bytes).map(|cache| cache.name.clone());
    let mut draft = Draft::new(LEAK.name, Class::MemoryLeak, STRONG + 6)
        .splat(index)
        .title(match &cache {
            Some(cache) => format!("memory leak in {cache}"),
            None => "memory leak in the slab allocator".to_owned(),
        })
        .claim(match &cache {
            Some(cache) => format!("Slabs that cannot be reclaimed have {percent} % of memory, {cache} most of it: the kernel itself leaks."),
            None => format!("Slabs that cannot be reclaimed have {percent} % of memory: the kernel itself leaks."),
        })
        .object(cache)
        .says(&splat.message);
    if let Some(pages) = word_after_line(splat, "slab_unreclaimable:") {
        draft = draft.seen(format!("The report counts slab_unreclaimable:{pages} pages."));
    }
    draft
        .against("Killing processes frees none of it.")
        .advice("Boot with slub_debug=U for that cache, or with page_owner=on: then each object's allocating stack is recorded.")
        .push(out);
}

fn word_after_line<'s>(splat: &'s kdive_evidence::Splat, mark: &str) -> Option<&'s str> {
    word_after(line(splat, mark)?, mark)
}
