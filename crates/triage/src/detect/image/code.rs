//! Damage to the kernel's code.

use kdive_base::VirtAddr;
use kdive_linux::text::{Change, Original, compare};
use kdive_target::Kernel;

use crate::case::Case;
use crate::class::Class;
use crate::detect::Detector;
use crate::finding::{Culprit, Evidence, Finding};

/// Code.
pub(in crate::detect) const CODE: Detector = Detector {
    name: "code-in-memory",
    claim: "the kernel's code differs from its vmlinux where nothing may change it",
    run: code,
};

/// Places of one finding that are named.
const MOST: usize = 4;
/// More places than this are no damage but another build, or a way of patching that is not known.
const TOO_MANY: usize = 64;

fn code(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let Some(kernel) = case.image else { return };
    let Some(Ok(found)) = Original::of(kernel).map(|original| compare(kernel, original)) else { return };
    let Some(first) = found.changes.first() else { return };
    if found.changes.len() > TOO_MANY {
        return;
    }
    let function = name(kernel, first.at);
    let bits: u32 = found.changes.iter().map(Change::bits).sum();
    let is_flip = bits == 1;
    let place = function.clone().unwrap_or_else(|| first.at.to_string());
    let executed = crashed_in(case, &found.changes);
    let claim = match is_flip {
        true => {
            format!("one bit of the kernel's code in {place} is not what was built: memory, not software")
        }
        false => format!("the kernel's code in {place} is not what was built ({bits} bits differ)"),
    };
    let supports = found.changes.iter().take(MOST).map(|change| {
        let text = format!(
            "{}: {} where the vmlinux has {}",
            name(kernel, change.at).unwrap_or_else(|| change.at.to_string()),
            bytes(&change.found),
            bytes(&change.original)
        );
        Evidence::shown(text, "text-check")
    });
    let against = match executed {
        true => Vec::new(),
        false => vec![Evidence::seen("the kernel did not die in that code")],
    };
    findings.push(Finding {
        detector: CODE.name,
        class: if is_flip { Class::BitFlip } else { Class::TextCorruption },
        title: format!("kernel text damaged in {place}"),
        claim,
        score: match (is_flip, executed) {
            (_, true) => 95,
            (true, false) => 76,
            (false, false) => 66,
        },
        culprit: Culprit { function, object: Some("kernel text".into()), ..Culprit::default() },
        supports: supports.collect(),
        against,
        advice: vec!["Test the memory of this machine, and replace what fails.".into()],
        splat: None,
    });
}

/// Whether a splat's instruction is one that was changed, or lies right behind it.
fn crashed_in(case: &Case<'_>, changes: &[Change]) -> bool {
    /// The longest instruction.
    const NEAR: u64 = 16;
    let places = case.splats.iter().filter_map(|splat| splat.ip.as_ref()?.address);
    places
        .into_iter()
        .any(|ip| changes.iter().any(|change| ip.add(NEAR) >= change.at && ip < change.end().add(NEAR)))
}

fn name(kernel: &Kernel, at: VirtAddr) -> Option<String> {
    kernel.place(at).map(|place| place.symbol.name.to_owned())
}

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
