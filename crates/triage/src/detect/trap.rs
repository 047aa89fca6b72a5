//! Exceptions that code should not raise: division, instructions that are none, and the rest.

use kdive_evidence::SplatKind;

use super::Detector;
use super::assertion::is_bug;
use super::support::{Draft, LIKELY, PROVEN, STRONG, says, splats};
use crate::blame::{self, Mode};
use crate::case::Case;
use crate::class::Class;
use crate::decode;
use crate::finding::Finding;

pub(super) const TRAP: Detector = Detector {
    name: "trap",
    claim: "An instruction raised an exception that kernel code should not raise.",
    run,
};

pub(super) const IMPOSSIBLE: Detector = Detector {
    name: "impossible-trap",
    claim: "The instruction that failed cannot raise the exception that it is said to have raised.",
    run: impossible,
};

/// A processor that does not do what its instructions say; the code that it ran from is not what memory holds.
fn impossible(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate() {
        let Some(false) = decode::could_raise(splat, case) else { continue };
        let what = match splat.kind {
            SplatKind::DivideError => "divides nothing",
            SplatKind::PageFault => "touches no memory",
            _ => "is one that processors have",
        };
        let text = decode::fault(splat, case).and_then(|fault| fault.instruction).unwrap_or_default();
        let virtual_machine = case.system.hypervisor.is_some();
        Draft::new(IMPOSSIBLE.name, Class::HardwareError, LIKELY + 8)
            .at(index, splat, Mode::Fault)
            .object(Some(if virtual_machine { "the processor or its hypervisor" } else { "the processor" }))
            .title_in("impossible exception")
            .claim_in("The instruction shown cannot raise the exception that was raised,")
            .says(&splat.message)
            .seen(format!("The instruction \"{text}\" {what}."))
            .seen_if(virtual_machine, "A hypervisor that emulates instructions may have done this one wrong.")
            .against("Code that was changed between the exception and the report, or a damaged report, looks alike.")
            .advice("Look whether this host crashes so again, always on one processor: then replace it. Compare the code with the built kernel (kdive: text-check).")
            .push(out);
    }
}

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::DivideError]) {
        // Another detector says that it cannot have been.
        let score = if decode::could_raise(splat, case) == Some(false) { LIKELY - 20 } else { PROVEN };
        Draft::new(TRAP.name, Class::DivideError, score)
            .at(index, splat, Mode::Fault)
            .title_in("divide error")
            .claim_in("A division by zero, or with a result too large,")
            .says(&splat.message)
            .advice("Find the divisor: a count, a size or a rate that may be 0.")
            .push(out);
    }
    for (index, splat) in splats(case, &[SplatKind::InvalidOpcode]).filter(|(_, splat)| !is_bug(splat)) {
        let patched = blame::mentions(splat, |name| {
            name.contains("ftrace") || name.contains("kprobe") || name.contains("text_poke")
        });
        let score = if decode::could_raise(splat, case) == Some(false) { LIKELY - 20 } else { STRONG - 6 };
        Draft::new(TRAP.name, Class::InvalidOpcode, score)
            .at(index, splat, Mode::Fault)
            .title_in("invalid opcode")
            .claim_in("An instruction that the processor does not have was run")
            .says(&splat.message)
            .seen("The bytes at the instruction pointer are not ud2: it is no BUG().")
            .seen_if(patched, "Code that changes kernel text is on the stack.")
            .against("Damaged kernel text, a jump into the middle of an instruction, and an instruction that this processor or hypervisor lacks look alike.")
            .advice("Compare the code with the built kernel (kdive: text-check).")
            .push(out);
    }
    for (index, splat) in splats(case, &[SplatKind::Exception]) {
        if says(splat, "CFI failure") || says(splat, "Missing ENDBR") {
            continue;
        }
        let breakpoint = splat.message.contains("int3");
        let name = splat.message.split([':', ',']).next().unwrap_or("exception").trim();
        Draft::new(TRAP.name, Class::ProcessorException, LIKELY + 6)
            .at(index, splat, Mode::Fault)
            .title_in(name)
            .claim_in(format!("An exception that kernel code should not raise ({name})"))
            .says(&splat.message)
            .seen_if(breakpoint, "A breakpoint instruction was run that no probe owns: text that was being changed (static calls, jump labels, kprobes, ftrace), or damaged text.")
            .push(out);
    }
}
