//! What runs below the kernel: the hypervisor of a confidential guest, and the firmware that the kernel calls.

use super::Detector;
use super::support::{Draft, HINT, LIKELY, STRONG, alone, events};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const CONFIDENTIAL: Detector = Detector {
    name: "confidential-guest",
    claim: "A confidential guest asked its hypervisor for something, and did not get it.",
    run: confidential,
};

pub(super) const EFI: Detector = Detector {
    name: "efi-runtime",
    claim: "Code of the firmware failed that the kernel had called.",
    run: efi,
};

fn confidential(case: &Case<'_>, out: &mut Vec<Finding>) {
    let ends = |text: &str| text.contains("accept memory") || text.contains("Unhandled #VC");
    let mut found = events(case, EventKind::ConfidentialGuest);
    let ending = events(case, EventKind::ConfidentialGuest).find(|event| ends(&event.text));
    let Some(event) = ending.or_else(|| found.next()) else { return };
    let memory = event.text.contains("accept memory");
    let ended = ends(&event.text);
    let score = match (ended, alone(case)) {
        (true, _) => STRONG + 4,
        (false, true) => LIKELY,
        (false, false) => HINT + 6,
    };
    let index = case
        .splats
        .iter()
        .position(|splat| splat.message.contains("accept memory") || splat.message.contains("#VC"));
    let mut draft = Draft::new(CONFIDENTIAL.name, Class::HypervisorError, score)
        .object(Some("the hypervisor"))
        .title(if memory { "confidential guest: memory not accepted" } else { "confidential guest: unhandled exit" })
        .claim(if memory {
            "A confidential guest could not have memory accepted that it was given."
        } else {
            "A confidential guest could not have an instruction done for it (SEV-ES: #VC, TDX: #VE)."
        })
        .says(&event.text)
        .seen_if(event.count > 1, format!("The line came {} times.", event.count))
        .against_if(!ended, "The kernel goes on after such an exit, or kills the one process that made it.")
        .advice("Look at the instruction that the line names: code of the guest that does what a confidential guest must not (port I/O, MSRs, CPUID), or a hypervisor that is too old for it.");
    if let Some(index) = index {
        draft = draft.splat(index);
    }
    draft.push(out);
}

fn efi(case: &Case<'_>, out: &mut Vec<Finding>) {
    let mut found = events(case, EventKind::EfiRuntime);
    let Some(event) = found.next() else { return };
    let is_off = event.text.contains("disabled EFI")
        || events(case, EventKind::EfiRuntime).any(|event| event.text.contains("disabled EFI"));
    let mut draft = Draft::new(EFI.name, Class::Firmware, if alone(case) { LIKELY } else { HINT + 4 })
        .object(Some("EFI runtime services"))
        .title("EFI runtime service failed")
        .claim("Code of the firmware failed that the kernel had called.")
        .says(&event.text);
    for other in found.take(2) {
        draft = draft.says(&other.text);
    }
    draft
        .seen_if(is_off, "The kernel calls the firmware no more: EFI variables and a reset by the firmware are gone until it boots anew.")
        .against("The kernel catches such faults, and goes on without the firmware.")
        .advice("Update the firmware; until then boot with efi=noruntime.")
        .push(out);
}
