//! Accesses that failed: what the address tells of the pointer.

use kdive_evidence::{Access, Register, Splat, SplatKind};

use super::Detector;
use super::callback::{is_module_space, no_code};
use super::support::{Draft, LIKELY, POSSIBLE, PROVEN, STRONG, line, says, splats};
use crate::blame::{self, Mode, Role};
use crate::case::Case;
use crate::class::Class;
use crate::decode::{self, Meaning, Pattern};
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

pub(super) const FAULTS: &[SplatKind] =
    &[SplatKind::PageFault, SplatKind::GeneralProtection, SplatKind::DoubleFault];

/// What was used as a pointer: the value, how it looks, and where it was seen.
pub(super) struct Used {
    pub(super) value: u64,
    pub(super) pattern: Pattern,
    /// The register that holds it.
    pub(super) register: Option<String>,
    /// It was looked for in the registers: the instruction does not tell.
    guessed: bool,
}

/// The value that was used as a pointer: as the instruction tells it, or the most telling of the registers.
pub(super) fn used(case: &Case<'_>, splat: &Splat) -> Option<Used> {
    let told = decode::fault(splat, case).and_then(|fault| {
        let value = fault.value.or(fault.address)?.0;
        Some(Used { value, pattern: fault.pattern?, register: fault.register, guessed: false })
    });
    // A register that is a good address tells less than the address that failed.
    if let Some(told) =
        told.filter(|told| told.pattern != Pattern::Kernel || splat.kind == SplatKind::PageFault)
    {
        return Some(told);
    }
    if splat.address.is_some() && splat.kind == SplatKind::PageFault {
        return None;
    }
    let width = decode::width(splat, case);
    let registers = || {
        Register::GENERAL.iter().filter_map(|&register| {
            let value = splat.registers.get(register)?;
            Some(Used {
                value,
                pattern: decode::pattern(value, width)?,
                register: Some(register.name().to_owned()),
                guessed: true,
            })
        })
    };
    let general = splat.kind == SplatKind::GeneralProtection;
    let found =
        registers().find(|used| used.pattern.meaning().is_some_and(|meaning| meaning != Meaning::Mark));
    let found =
        found.or_else(|| registers().find(|used| general && matches!(used.pattern, Pattern::Text(_))));
    found.or_else(|| {
        registers()
            .find(|used| general && matches!(used.pattern, Pattern::NonCanonical | Pattern::BitFlip { .. }))
    })
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
        let place =
            used.register.as_ref().map_or_else(String::new, |register| format!(" It is in {register}."));
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
        const OBJECT: &str = "Look at the object that the pointer was read from: it is freed and used again by another, or overwritten.";
        let what = used.pattern.text();
        let new = |class, score, claim: &str, what: &str, advice| Self {
            class,
            score,
            claim: claim.to_owned(),
            what: what.to_owned(),
            advice,
        };
        let certain = |score: u8| if used.guessed { score.saturating_sub(8) } else { score };
        // On a 32-bit kernel LIST_POISON1 is 0x100: without the register it may as well be a member of nothing.
        let low = used.value < 0x1000 && used.register.is_none();
        if (0xdfff_fc00_0000_0000..0xdfff_fc00_0000_0200).contains(&used.value) {
            return new(
                Class::NullDereference,
                STRONG + 6,
                "Use of a NULL pointer",
                "the shadow that KASAN keeps for addresses near 0",
                None,
            );
        }
        match (&used.pattern, used.pattern.meaning()) {
            _ if low => new(
                Class::NullDereference,
                STRONG + 4,
                "Use of a NULL pointer",
                "the offset of a member of an object at address 0",
                None,
            ),
            (_, Some(Meaning::DeletedListEntry)) => {
                let deletes = blame::steps(splat).first().is_some_and(|step| {
                    step.role == Role::Helper
                        && (step.name.contains("list_del") || step.name.contains("hlist_del"))
                });
                let claim = if deletes {
                    "Use of a deleted list entry (double list_del)"
                } else {
                    "Use of a deleted list entry"
                };
                new(
                    Class::DeletedListEntry,
                    certain(PROVEN),
                    claim,
                    &format!("{what}, which list_del() leaves in a deleted entry"),
                    Some(LISTS),
                )
            }
            (_, Some(Meaning::Freed)) => new(
                Class::UseAfterFree,
                certain(PROVEN),
                "Use of freed memory",
                &format!("{what}, with which freed memory is filled"),
                Some(FREED),
            ),
            (_, Some(Meaning::Uninitialized)) => new(
                Class::Uninitialized,
                certain(STRONG),
                "Use of memory that was never initialised",
                &format!("{what}, with which new objects are filled"),
                None,
            ),
            (_, Some(Meaning::RedZone)) => new(
                Class::OutOfBounds,
                certain(STRONG - 8),
                "A pointer was read out of memory that belongs to no object",
                &what,
                None,
            ),
            (_, Some(Meaning::Mark)) => new(
                Class::UseAfterFree,
                certain(LIKELY + 4),
                "Use of a pointer that is marked as invalid",
                &what,
                Some(FREED),
            ),
            (Pattern::Text(_), _) => new(
                Class::MemoryOverwrite,
                certain(STRONG),
                "A pointer was overwritten with text",
                &what,
                Some("Search for that text: whoever writes it wrote past its buffer."),
            ),
            (Pattern::ErrPtr { .. }, _) => new(
                Class::WildPointer,
                STRONG,
                "An error number was used as a pointer",
                &what,
                Some("Look for a call whose result is checked for NULL, but not with IS_ERR()."),
            ),
            (Pattern::Null | Pattern::Small, _) => new(
                Class::NullDereference,
                if used.guessed { LIKELY } else { STRONG + 4 },
                "Use of a NULL pointer",
                "a member of an object at address 0, or that address itself",
                None,
            ),
            (Pattern::User, _) if used.value < 0x400_0000 && splat.address.is_some() => new(
                Class::NullDereference,
                LIKELY - 10,
                "Use of a NULL pointer with a large index",
                "too low for any object, and beyond the first page",
                None,
            ),
            (Pattern::User, _) => new(
                Class::WildPointer,
                LIKELY + 4,
                "An address of user space was used in the kernel",
                "an address of user space",
                Some(
                    "Look for a pointer from user space that is used without copy_from_user(), or for a structure that holds garbage.",
                ),
            ),
            (Pattern::NonCanonical | Pattern::BitFlip { .. }, _) if splat.kind != SplatKind::PageFault => {
                new(
                    Class::NonCanonical,
                    LIKELY,
                    "Use of a pointer that is not canonical",
                    "no address at all, and no known pattern",
                    Some(OBJECT),
                )
            }
            _ if splat.kind == SplatKind::GeneralProtection => new(
                Class::NonCanonical,
                POSSIBLE,
                "A general protection fault",
                "an address that the kernel may have",
                None,
            ),
            _ => new(
                Class::WildPointer,
                LIKELY,
                "Use of a wild pointer",
                "an address of the kernel's half where nothing is mapped",
                Some(OBJECT),
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
        let found = at.map(|at| (at, decode::pattern(at.0, decode::width(splat, case))));
        let is_text = matches!(found, Some((_, Some(Pattern::Text(_)))));
        let what = match found {
            None => "an address that is not told".to_owned(),
            Some((_, Some(Pattern::Null | Pattern::Small))) => {
                "address 0: a function pointer that was never set".to_owned()
            }
            Some((at, Some(Pattern::User))) => format!("{at:#}, an address of user space"),
            Some((at, Some(found @ (Pattern::Poison { .. } | Pattern::Text(_))))) => {
                format!("{at:#}: {}", found.text())
            }
            Some((at, _)) if is_module_space(at.0) => format!("{at:#}, where modules are loaded"),
            Some((at, _)) => format!("{at:#}, which is data or nothing"),
        };
        // Text says more than that the jump was bad: whose it is, and that somebody wrote past the end of something.
        let (class, claim) = match is_text {
            true => (Class::MemoryOverwrite, "A function pointer was overwritten with text, and called"),
            false => (Class::BadJump, "A function pointer or a return address was bad: a jump"),
        };
        // A timer or an RCU callback that is no function: its object is gone, which says more.
        let callback =
            blame::steps(splat).iter().find(|step| step.role != Role::CrashPath).is_some_and(|step| {
                step.role == Role::Dispatcher && (step.name.contains("timer") || step.name.contains("rcu"))
            });
        let score = match (checked, callback) {
            (true, _) => PROVEN,
            (false, true) => LIKELY,
            (false, false) => STRONG + 2,
        };
        Draft::new(JUMP.name, class, score)
            .at(index, splat, Mode::Fault)
            .title_in(if checked { "CFI failure" } else { title(splat) })
            .claim_in(claim)
            .says(&splat.message)
            .seen(format!("The processor was to run code at {what}."))
            .against_if(splat.frames.is_empty(), "No call trace is shown: who called it is not known.")
            .advice("Look at the structure that the function pointer was read from: it is freed, overwritten, or its module is gone.")
            .push(out);
    }
}
