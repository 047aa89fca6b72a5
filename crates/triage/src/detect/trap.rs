//! Exceptions that code should not raise: division, instructions that are none, and the rest.

use kdive_evidence::SplatKind;

use super::Detector;
use super::assertion::is_bug;
use super::support::{Draft, LIKELY, PROVEN, STRONG, says, splats};
use crate::blame::{self, Mode};
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;

pub(super) const TRAP: Detector = Detector {
    name: "trap",
    claim: "An instruction raised an exception that kernel code should not raise.",
    run,
};

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::DivideError]) {
        Draft::new(TRAP.name, Class::DivideError, PROVEN)
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
        Draft::new(TRAP.name, Class::InvalidOpcode, STRONG - 6)
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
