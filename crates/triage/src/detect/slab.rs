//! What the slab allocators found in their own memory.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::assertion::is_bug;
use super::support::{
    Draft, LIKELY, POSSIBLE, PROVEN, STRONG, hex_after, line, one_bit_apart, symbol, word_after,
};
use crate::blame::{self, Mode, Role};
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const SLAB: Detector = Detector {
    name: "slab",
    claim: "The slab allocator found an object, a red zone or a free list overwritten, or an object freed twice.",
    run,
};

pub(super) const FREE_LIST: Detector = Detector {
    name: "slab-free-list",
    claim: "The slab allocator itself followed a pointer that is none: a free list was overwritten.",
    run: free_list,
};

const TEXTS: &[(&str, Class, u8, &str)] = &[
    ("Poison overwritten", Class::UseAfterFree, STRONG, "A freed object was written to"),
    ("Poison check error", Class::UseAfterFree, STRONG, "A freed object was written to"),
    (
        "edzone overwritten",
        Class::OutOfBounds,
        STRONG,
        "Somebody wrote past the end of an object, or before its beginning",
    ),
    (
        "Redzone",
        Class::OutOfBounds,
        STRONG,
        "Somebody wrote past the end of an object, or before its beginning",
    ),
    (
        "memory outside object was overwritten",
        Class::OutOfBounds,
        LIKELY,
        "Somebody wrote past the end of an object, or freed it twice",
    ),
    ("Object already free", Class::DoubleFree, PROVEN, "An object was freed twice"),
    ("double free", Class::DoubleFree, PROVEN, "An object was freed twice"),
    ("Double free", Class::DoubleFree, PROVEN, "An object was freed twice"),
    (
        "Wrong slab cache",
        Class::SlabCorruption,
        STRONG,
        "An object was freed to another cache than it came from",
    ),
    (
        "Attempt to free object",
        Class::SlabCorruption,
        STRONG,
        "Something was freed that is no object of a cache",
    ),
    (
        "Invalid object pointer",
        Class::SlabCorruption,
        STRONG,
        "Something was freed that is no object of a cache",
    ),
    ("Freepointer corrupt", Class::SlabCorruption, STRONG, "The free list of a slab was overwritten"),
    ("Freechain corrupt", Class::SlabCorruption, STRONG, "The free list of a slab was overwritten"),
    (
        "Freelist cycle",
        Class::DoubleFree,
        STRONG,
        "The free list of a slab runs in a circle: an object was freed twice",
    ),
    (
        "Objects remaining",
        Class::ReferenceLeak,
        POSSIBLE + 12,
        "A cache was destroyed while objects of it were in use",
    ),
    ("Object padding overwritten", Class::OutOfBounds, STRONG, "Somebody wrote past the end of an object"),
    ("adding overwritten", Class::OutOfBounds, LIKELY, "Somebody wrote past the last object of a slab"),
    ("Slab corruption", Class::UseAfterFree, LIKELY, "A freed object was written to"),
    ("Wrong object count", Class::SlabCorruption, LIKELY, "The metadata of a slab was overwritten"),
    ("Not a valid slab", Class::SlabCorruption, LIKELY, "The metadata of a slab was overwritten"),
    ("inuse ", Class::SlabCorruption, LIKELY, "The metadata of a slab was overwritten"),
];

fn reading(splat: &Splat) -> Option<(&str, Class, u8, &'static str)> {
    TEXTS.iter().find_map(|&(text, class, score, claim)| Some((line(splat, text)?, class, score, claim)))
}

fn in_allocator_source(splat: &Splat) -> bool {
    splat.source.as_ref().is_some_and(|source| {
        ["mm/slub.c", "mm/slab.c", "mm/slab.h", "mm/slab_common.c"]
            .iter()
            .any(|file| source.file.ends_with(file))
    })
}

/// Whether a splat is a complaint of the allocator.
pub(super) fn concerns(splat: &Splat) -> bool {
    splat.kind == SplatKind::Slab
        || in_allocator_source(splat) && is_bug(splat)
        || splat.kind == SplatKind::Warning && line(splat, "cache_from_obj").is_some()
}

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| concerns(splat)) {
        let found = reading(splat);
        let freeing = blame::mentions(splat, |name| {
            matches!(blame::role(name), Role::Allocator) && (name.contains("free") || name.contains("barn"))
        });
        let (text, class, score, claim) = found.unwrap_or(if freeing {
            (
                &splat.message,
                Class::DoubleFree,
                STRONG,
                "An object was freed twice, or its free pointer was overwritten",
            )
        } else {
            (
                &splat.message,
                Class::SlabCorruption,
                LIKELY,
                "The slab allocator found its own data inconsistent",
            )
        });
        let mut draft = Draft::new(SLAB.name, class, score)
            .at(index, splat, Mode::Fault)
            .object(cache(splat).map(|cache| format!("object of cache {cache}")));
        // Who wrote is not on the stack of who noticed. The tracks name the owner.
        let freed = track(splat, "Freed in ");
        let allocated = track(splat, "Allocated in ");
        if !matches!(class, Class::DoubleFree) && found.is_some() {
            draft = match freed.filter(|_| class == Class::UseAfterFree).or(allocated) {
                Some(owner) => draft.nobody().function(Some(owner)),
                None => draft.against(
                    "Who wrote there is not on this stack: whoever allocated or freed next noticed it.",
                ),
            };
        }
        draft = draft.title_in(format!("BUG: {}", title(class))).claim_in(claim).says(text).seen_if(
            found.is_none() && freeing,
            "The check of the free list failed while an object was given back.",
        );
        if let Some(owner) = allocated {
            draft = draft.seen(format!("The object was last allocated in {owner}."));
        }
        if let Some(owner) = freed {
            draft = draft.seen(format!("The object was last freed in {owner}."));
        }
        if let Some((found, expected)) = first_byte(splat)
            && one_bit_apart(found, expected)
        {
            draft = draft.against(format!("The first wrong byte is {found:#x} instead of {expected:#x}, a single bit: a decremented counter in freed memory looks so, and so does memory that flips bits."));
        }
        draft.advice("Boot with slub_debug=FZPU for that cache: then both the allocating and the freeing stack are recorded.").push(out);
    }
}

fn title(class: Class) -> &'static str {
    match class {
        Class::UseAfterFree => "slab poison overwritten",
        Class::OutOfBounds => "slab red zone overwritten",
        Class::DoubleFree => "slab double free",
        Class::ReferenceLeak => "objects remaining in slab cache",
        _ => "slab corruption",
    }
}

/// `BUG kmalloc-64 (Not tainted): ...`.
fn cache(splat: &Splat) -> Option<&str> {
    let rest = splat.message.strip_prefix("BUG ")?;
    rest.split(" (").next().map(str::trim).filter(|name| !name.is_empty() && !name.contains(' '))
}

/// `Freed in f+0x12/0x34 age=1 cpu=0 pid=1`: a line of its own, or the heading of a stack.
fn track<'s>(splat: &'s Splat, before: &str) -> Option<&'s str> {
    let headings = splat.other_stacks.iter().map(|stack| stack.heading.as_str());
    let text =
        line(splat, before).or_else(|| headings.into_iter().find(|heading| heading.contains(before)))?;
    symbol(word_after(text, before)?)
}

/// `First byte 0x6a instead of 0x6b`.
fn first_byte(splat: &Splat) -> Option<(u64, u64)> {
    let text = line(splat, "First byte ")?;
    Some((hex_after(text, "First byte ")?, hex_after(text, "instead of ")?))
}

fn free_list(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate() {
        let fault = matches!(splat.kind, SplatKind::PageFault | SplatKind::GeneralProtection);
        let steps = blame::steps(splat);
        let Some(first) = steps.first().filter(|step| fault && is_slab_internal(step.name)) else { continue };
        Draft::new(FREE_LIST.name, Class::SlabCorruption, LIKELY + 4)
            .splat(index)
            .title(format!("{} in {}", if splat.kind == SplatKind::PageFault { "BUG: unable to handle page fault" } else { "general protection fault" }, first.name))
            .claim("The slab allocator followed a free pointer that is none: somebody wrote to a freed object, or past the end of a neighbour.")
            .seen(format!("The access failed inside of {}, which follows free pointers only.", first.name))
            .against("Who wrote there is not on this stack: whoever allocated next noticed it.")
            .advice("Boot with slub_debug=FZPU: the next time the write itself is reported with the object's owner.")
            .push(out);
    }
}

/// Functions whose only pointers are those of free lists.
fn is_slab_internal(name: &str) -> bool {
    const INTERNAL: &[&str] = &[
        "kmem_cache_alloc",
        "__kmalloc",
        "___slab_alloc",
        "__slab_alloc",
        "__kmem_cache_alloc_node",
        "kmalloc_trace",
        "__slab_free",
        "get_freepointer",
        "deactivate_slab",
        "unfreeze_partials",
        "__unfreeze_partials",
        "cache_alloc_refill",
        "free_block",
        "kmem_cache_alloc_noprof",
        "kmem_cache_alloc_node",
        "kmem_cache_alloc_lru",
        "kmem_cache_alloc_trace",
        "__kmalloc_node",
        "__kmalloc_track_caller",
        "__kmalloc_noprof",
        "__kmalloc_cache_noprof",
        "__kmalloc_node_track_caller",
        "kmem_cache_alloc_lru_noprof",
        "kmem_cache_alloc_node_noprof",
    ];
    INTERNAL.contains(&name)
}
