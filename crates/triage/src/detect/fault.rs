//! Accesses that failed: what the address tells of the pointer.

use kdive_evidence::{Access, Register, Splat, SplatKind};

use super::Detector;
use super::callback::{is_module_space, no_code};
use super::pattern::{self, Pattern};
use super::support::{Draft, LIKELY, POSSIBLE, PROVEN, STRONG, line, says, splats};
use crate::blame::{self, Mode, Role};
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const ACCESS: Detector = Detector {
    name: "bad-access",
    claim: "The kernel used a pointer that is none; its value tells where it came from.",
    run: access,
};

pub(super) const JUMP: Detector = Detector {
    name: "bad-jump",
    claim: "The kernel called or returned to an address where no code is.",
    run: jump,
};

pub(super) const FLIPPED_POINTER: Detector = Detector {
    name: "flipped-pointer",
    claim: "A pointer differs from a good one in a single bit.",
    run: flipped,
};

const FAULTS: &[SplatKind] = &[SplatKind::PageFault, SplatKind::GeneralProtection, SplatKind::DoubleFault];

/// Registers that hold data: neither the stack nor the instruction pointer nor segments.
const DATA: [Register; 15] = [
    Register::Rax,
    Register::Rbx,
    Register::Rcx,
    Register::Rdx,
    Register::Rsi,
    Register::Rdi,
    Register::Rbp,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// What was used as a pointer: the value, how it looks, and where it was seen.
struct Used {
    value: u64,
    pattern: Pattern,
    register: Option<Register>,
}

fn used(case: &Case<'_>, splat: &Splat) -> Option<Used> {
    let narrow = case.system.is_32_bit();
    let of = |value: u64, register| Used { value, pattern: pattern::of(value, narrow), register };
    let told = splat.address.map(|at| of(at.0, None));
    // A non-canonical address is not told by the processor: the register that holds it is looked for.
    let registers =
        || DATA.iter().filter_map(|&register| Some(of(splat.registers.get(register)?, Some(register))));
    let telling = |used: &Used| {
        matches!(
            used.pattern,
            Pattern::ListPoison
                | Pattern::SlabFree
                | Pattern::Poison(_)
                | Pattern::SlabFresh
                | Pattern::Filler(_)
        )
    };
    match told {
        Some(told) => {
            let register = DATA
                .iter()
                .copied()
                .filter(|&register| {
                    splat.registers.get(register).is_some_and(|value| {
                        told.value.wrapping_sub(value) < 0x1000 && (value != 0 || told.value < 0x1000)
                    })
                })
                .min_by_key(|&register| {
                    told.value.wrapping_sub(splat.registers.get(register).unwrap_or_default())
                });
            Some(Used { register, ..told })
        }
        None if splat.kind == SplatKind::GeneralProtection => registers()
            .find(telling)
            .or_else(|| {
                registers().find(|used| matches!(used.pattern, Pattern::Text(_) | Pattern::KasanNull))
            })
            .or_else(|| registers().find(|used| used.pattern == Pattern::NonCanonical)),
        None => registers().find(telling),
    }
}

fn access(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, FAULTS) {
        if is_jump(splat) || splat.kind == SplatKind::DoubleFault {
            continue;
        }
        let draft = |class, score| Draft::new(ACCESS.name, class, score).at(index, splat, Mode::Fault);
        if let Some(text) = line(splat, "orrupted page table").or(line(splat, "Bad pagetable")) {
            page_table(draft(Class::PageTableCorruption, STRONG), text).push(out);
            continue;
        }
        if splat.kind == SplatKind::PageFault && splat.error_code.is_some_and(|code| code & 8 != 0) {
            page_table(draft(Class::PageTableCorruption, STRONG), &splat.message).push(out);
            continue;
        }
        let Some(used) = used(case, splat) else {
            if splat.kind == SplatKind::PageFault || splat.kind == SplatKind::GeneralProtection {
                draft(Class::WildPointer, POSSIBLE).title_in(title(splat)).claim_in("An access failed").says(&splat.message).against("Neither the address nor registers are known: what kind of pointer it was cannot be told.").push(out);
            }
            continue;
        };
        let reading = Reading::of(splat, &used);
        let place = used.register.map_or_else(String::new, |register| {
            format!(" The value is in {} or near it.", register_name(register, case))
        });
        let mut draft = draft(reading.class, reading.score)
            .title_in(if reading.class == Class::NullDereference && splat.kind == SplatKind::PageFault {
                "BUG: unable to handle kernel NULL pointer dereference"
            } else {
                title(splat)
            })
            .claim_in(reading.claim)
            .says(&splat.message)
            .seen(format!("{:#x} is {}.{place}", used.value, reading.what));
        draft = draft.seen_if(splat.access == Some(Access::Write), "The access was a write.");
        if let Some(advice) = reading.advice {
            draft = draft.advice(advice);
        }
        draft.push(out);
    }
}

fn page_table(draft: Draft, text: &str) -> Draft {
    draft
        .nobody()
        .title("BUG: corrupted page table")
        .claim("A page table holds entries that are none.")
        .says(text)
        .seen("The processor found reserved bits set in an entry: that is no mistake of an address, but of the table.")
        .against("Who wrote there is not on this stack.")
        .advice("Test the memory; where it passes, look for a driver that writes to pages that it gave back.")
}

fn register_name(register: Register, case: &Case<'_>) -> String {
    let name = register.name();
    if case.system.is_32_bit() { name.replacen('r', "e", 1) } else { name.to_owned() }
}

fn title(splat: &Splat) -> &'static str {
    match splat.kind {
        SplatKind::GeneralProtection => "general protection fault",
        _ => "BUG: unable to handle kernel paging request",
    }
}

struct Reading {
    class: Class,
    score: u8,
    claim: String,
    what: String,
    advice: Option<&'static str>,
}

impl Reading {
    fn of(splat: &Splat, used: &Used) -> Self {
        const FREED: &str = "Find who frees the object while this path still uses it; slub_debug=FZPU or KASAN name both stacks.";
        const LISTS: &str = "Look for two paths that remove the same entry without a common lock, or for a reference that is dropped too early.";
        let new = |class, score, claim: &str, what: &str, advice| Self {
            class,
            score,
            claim: claim.to_owned(),
            what: what.to_owned(),
            advice,
        };
        let deletes = blame::steps(splat).first().is_some_and(|step| {
            step.role == Role::Helper && step.name.contains("list_del") || step.name.contains("hlist_del")
        });
        match &used.pattern {
            Pattern::ListPoison if deletes => new(
                Class::DeletedListEntry,
                PROVEN,
                "Use of a deleted list entry (double list_del)",
                "LIST_POISON, which list_del() leaves in a deleted entry",
                Some(LISTS),
            ),
            Pattern::ListPoison => new(
                Class::DeletedListEntry,
                if used.register.is_some() && splat.address.is_none() { STRONG } else { PROVEN },
                "Use of a deleted list entry",
                "LIST_POISON, which list_del() leaves in a deleted entry",
                Some(LISTS),
            ),
            Pattern::SlabFree => new(
                Class::UseAfterFree,
                PROVEN,
                "Use of freed memory",
                "the pattern 0x6b, with which the slab allocator fills freed objects",
                Some(FREED),
            ),
            Pattern::SlabFresh => new(
                Class::Uninitialized,
                STRONG,
                "Use of memory that was never initialised",
                "the pattern 0x5a, with which the slab allocator fills new objects",
                None,
            ),
            Pattern::Poison(name) => new(
                Class::UseAfterFree,
                STRONG,
                "Use of a poisoned pointer",
                &format!("{name}, which marks what must not be used any more"),
                Some(FREED),
            ),
            Pattern::Filler(name) => new(
                Class::OutOfBounds,
                STRONG - 8,
                "A pointer was read out of memory that belongs to no object",
                name,
                None,
            ),
            Pattern::Text(text) => new(
                Class::MemoryOverwrite,
                STRONG,
                "A pointer was overwritten with text",
                &format!("the text {text:?}"),
                Some("Search for that text: whoever writes it wrote past its buffer."),
            ),
            Pattern::Error(number) => new(
                Class::WildPointer,
                STRONG,
                "An error number was used as a pointer",
                &format!("{number} as a pointer, or a member of it"),
                Some("Look for a call whose result is checked for NULL, but not with IS_ERR()."),
            ),
            Pattern::KasanNull => new(
                Class::NullDereference,
                STRONG + 6,
                "Use of a NULL pointer",
                "the shadow that KASAN keeps for addresses near 0",
                None,
            ),
            Pattern::Null if says(splat, "null-ptr-deref") || splat.address.is_some() => new(
                Class::NullDereference,
                STRONG + 4,
                "Use of a NULL pointer",
                "the offset of a member of an object at address 0",
                None,
            ),
            Pattern::Null => new(Class::NullDereference, LIKELY, "Use of a NULL pointer", "near 0", None),
            Pattern::NullIndexed => new(
                Class::NullDereference,
                LIKELY - 10,
                "Use of a NULL pointer with a large index",
                "too low for any object, and beyond the first page",
                None,
            ),
            Pattern::User => new(
                Class::WildPointer,
                LIKELY + 4,
                "An address of user space was used in the kernel",
                "an address of user space",
                Some(
                    "Look for a pointer from user space that is used without copy_from_user(), or for a structure that holds garbage.",
                ),
            ),
            Pattern::NonCanonical if splat.kind != SplatKind::PageFault => new(
                Class::NonCanonical,
                LIKELY,
                "Use of a pointer that is not canonical",
                "no address at all, and no known pattern",
                Some(
                    "Look at the object that the pointer was read from: it is freed and used again by another, or overwritten.",
                ),
            ),
            Pattern::Kernel if splat.kind == SplatKind::GeneralProtection => new(
                Class::NonCanonical,
                POSSIBLE,
                "A general protection fault",
                "an address of the kernel",
                None,
            ),
            // With five levels of page tables more addresses are canonical than the pattern knows: the processor decides.
            Pattern::Kernel | Pattern::NonCanonical => new(
                Class::WildPointer,
                LIKELY,
                "Use of a wild pointer",
                "an address of the kernel's half where nothing is mapped",
                Some(
                    "Look at the object that the pointer was read from: it is freed and used again by another, or overwritten.",
                ),
            ),
        }
    }
}

/// Whether the failed access was to fetch the instruction itself.
fn is_jump(splat: &Splat) -> bool {
    let ip = splat.ip.as_ref().and_then(|ip| ip.address).or_else(|| splat.registers.ip());
    let fetched = splat.access == Some(Access::Execute) || splat.address.is_some() && splat.address == ip;
    let nx = says(splat, "kernel tried to execute") || says(splat, "unable to execute userspace code");
    let is_fault = matches!(splat.kind, SplatKind::PageFault | SplatKind::GeneralProtection);
    is_fault && (fetched || nx || no_code(splat))
}

fn jump(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate() {
        let checked = splat.kind == SplatKind::Exception
            && (says(splat, "CFI failure") || says(splat, "Missing ENDBR"));
        if !checked && !is_jump(splat) {
            continue;
        }
        let at =
            splat.ip.as_ref().filter(|ip| ip.function.is_none()).and_then(|ip| ip.address).or(splat.address);
        let narrow = case.system.is_32_bit();
        let what = match at.map(|at| (at, pattern::of(at.0, narrow))) {
            None => "an address that is not told".to_owned(),
            Some((_, Pattern::Null)) => "address 0: a function pointer that was never set".to_owned(),
            Some((at, Pattern::User)) => format!("{at:#}, an address of user space"),
            Some((at, Pattern::SlabFree)) => format!("{at:#}, the pattern of freed memory"),
            Some((at, Pattern::Text(text))) => format!("{at:#}, the text {text:?}"),
            Some((at, _)) if is_module_space(at.0) => format!("{at:#}, where modules are loaded"),
            Some((at, _)) => format!("{at:#}, which is data or nothing"),
        };
        Draft::new(JUMP.name, Class::BadJump, if checked { PROVEN } else { STRONG + 2 })
            .at(index, splat, Mode::Fault)
            .title_in(if checked { "CFI failure" } else { title(splat) })
            .claim_in("A function pointer or a return address was bad: a jump")
            .says(&splat.message)
            .seen(format!("The processor was to run code at {what}."))
            .against_if(splat.frames.is_empty(), "No call trace is shown: who called it is not known.")
            .advice("Look at the structure that the function pointer was read from: it is freed, overwritten, or its module is gone.")
            .push(out);
    }
}

fn flipped(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, FAULTS) {
        let Some(used) = used(case, splat) else { continue };
        if case.system.is_32_bit() || !matches!(used.pattern, Pattern::NonCanonical | Pattern::Kernel) {
            continue;
        }
        let others =
            DATA.iter().chain([&Register::Rsp]).filter_map(|&register| splat.registers.get(register));
        let poisoned = others.clone().any(|value| {
            matches!(
                pattern::of(value, false),
                Pattern::ListPoison | Pattern::SlabFree | Pattern::Poison(_) | Pattern::Text(_)
            )
        });
        let Some((bit, near)) = pattern::flipped_bit(used.value, others) else { continue };
        let score = match (near, &used.pattern) {
            (true, Pattern::NonCanonical) => LIKELY + 6,
            (true, _) => POSSIBLE,
            (false, _) => LIKELY + 2,
        };
        let score = if poisoned { score / 2 } else { score };
        Draft::new(FLIPPED_POINTER.name, Class::BitFlip, score)
            .at(index, splat, Mode::Fault)
            .object(Some(format!("bit {bit} of a pointer")))
            .title_in(title(splat))
            .claim_in(format!("A pointer has a flipped bit ({bit})"))
            .seen(format!("{:#x} with bit {bit} changed is {:#x}, {}.", used.value, used.value ^ 1_u64.wrapping_shl(bit), if near { "within a page of another register's value" } else { "a good address of the kernel" }))
            .against_if(poisoned, "Registers hold poison or text: software wrote those.")
            .against("A single dump cannot tell a flipped bit from software that changed one bit of a wrong word: does the host crash elsewhere too?")
            .advice("Test the memory, and read the machine's event log for corrected errors.")
            .push(out);
    }
}
