//! What happened: the splat that the verdict explains, and its backtrace folded to what matters.

use kdive_evidence::{Access, FrameTrust, Splat, TraceFrame};

use crate::blame::{self, Role};
use crate::case::Case;
use crate::decode::{self, Fault};
use crate::finding::Finding;
use crate::report::{Happened, ReportFrame};

/// Frames that a folded backtrace shows at most.
const MOST: usize = 16;

pub(super) fn happened(case: &Case<'_>, chosen: Option<&Finding>) -> Option<Happened> {
    let guilty = chosen.and_then(|finding| finding.culprit.function.as_deref());
    let splat = chosen.and_then(|finding| finding.splat).and_then(|index| case.splats.get(index));
    if let Some(splat) = splat {
        return Some(of_splat(case, splat, guilty));
    }
    let trigger = case.trigger.as_ref()?;
    let frames = case.crashed.as_ref().map(|crashed| fold(crashed.frames.iter(), guilty)).unwrap_or_default();
    Some(Happened {
        message: trigger.text.clone(),
        fault: None,
        instruction: None,
        provenance: None,
        task: task(case, None),
        frames,
    })
}

fn of_splat(case: &Case<'_>, splat: &Splat, guilty: Option<&str>) -> Happened {
    let ip = splat.ip.as_ref().filter(|ip| ip.function.is_some() || ip.address.is_some());
    let ip = ip.map(|place| TraceFrame {
        place: place.clone(),
        trust: FrameTrust::Printed,
        stack: None,
        inlined: false,
        interrupted: false,
    });
    let mut frames = fold(ip.iter().chain(&splat.frames), guilty);
    // Memory knows more frames than a log that shows none.
    if frames.len() < 2
        && let Some(crashed) = &case.crashed
        && crashed.frames.len() > splat.frames.len()
    {
        frames = fold(crashed.frames.iter(), guilty);
    }
    let decoded = decode::fault(splat, case).unwrap_or_default();
    // What lies where nothing could be fetched is no instruction that failed.
    let ran = decoded.access != Some(Access::Execute);
    Happened {
        message: splat.message.clone(),
        fault: fault_text(&decoded),
        provenance: provenance(&decoded).filter(|_| ran),
        instruction: decoded.instruction.filter(|_| ran),
        task: task(case, Some(splat)),
        frames,
    }
}

/// `write of 4 bytes at 0x100104 (near LIST_POISON1)`.
fn fault_text(fault: &Fault) -> Option<String> {
    let address = fault.address?;
    let access = match fault.access {
        Some(Access::Write) => "write",
        Some(Access::Execute) => "jump to",
        Some(Access::Read) => "read",
        None => "access",
    };
    let size = fault
        .size
        .map(|size| format!(" of {size} byte{}", if size == 1 { "" } else { "s" }))
        .unwrap_or_default();
    let at = if fault.access == Some(Access::Execute) { "" } else { " at" };
    let near = if fault.value.is_some_and(|value| value != address) { "near " } else { "" };
    let pattern =
        fault.pattern.as_ref().map(|pattern| format!(" ({near}{})", pattern.text())).unwrap_or_default();
    Some(format!("{access}{size}{at} {address:#}{pattern}"))
}

/// `eax = 0x100100 (LIST_POISON1), set by "mov (%ebx),%eax", from offset 0x0 of what ebx pointed to`.
fn provenance(fault: &Fault) -> Option<String> {
    let (register, value) = (fault.register.as_ref()?, fault.value?);
    let pattern = fault.pattern.as_ref().map(|pattern| format!(" ({})", pattern.text())).unwrap_or_default();
    let loaded = fault.loaded.as_ref().map(|loaded| {
        let instruction = loaded.instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        let from = loaded.from.as_ref().zip(loaded.displacement);
        let from = from
            .map(|(from, offset)| format!(", from offset {offset:#x} of what {from} pointed to"))
            .unwrap_or_default();
        format!(", set by \"{instruction}\"{from}")
    });
    Some(format!("{register} = {value:#}{pattern}{}", loaded.unwrap_or_default()))
}

/// `PID 123 "insmod" on CPU 1`.
fn task(case: &Case<'_>, splat: Option<&Splat>) -> Option<String> {
    let crashed = case.crashed.as_ref();
    let pid = splat.and_then(|splat| splat.pid).or_else(|| crashed?.pid);
    let comm = splat.and_then(|splat| splat.comm.as_deref()).or_else(|| crashed?.comm.as_deref());
    let cpu = splat.and_then(|splat| splat.cpu).or_else(|| crashed?.cpu);
    let mut parts = Vec::new();
    parts.extend(pid.map(|pid| format!("PID {pid}")));
    parts.extend(comm.map(|comm| format!("\"{comm}\"")));
    parts.extend(cpu.map(|cpu| format!("on CPU {cpu}")));
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The frames that matter: no crash path, no entry code, no doubted frames, and a tail cut where it is long.
fn fold<'f>(frames: impl Iterator<Item = &'f TraceFrame>, guilty: Option<&str>) -> Vec<ReportFrame> {
    let frames: Vec<&TraceFrame> = frames.collect();
    let some_sure =
        frames.iter().any(|frame| !matches!(frame.trust, FrameTrust::PrintedUnsure | FrameTrust::Scan));
    let mut shown: Vec<ReportFrame> = Vec::new();
    let mut found = false;
    for frame in frames {
        let name = frame.place.function.as_deref().map(blame::plain);
        let is_guilty = !found && guilty.is_some() && name == guilty;
        let doubted = some_sure && matches!(frame.trust, FrameTrust::PrintedUnsure | FrameTrust::Scan);
        let dull = name
            .is_some_and(|name| matches!(blame::role(name), Role::CrashPath | Role::Entry | Role::Interrupt));
        if is_guilty || !dull && !doubted && shown.len() < MOST {
            found |= is_guilty;
            shown.push(ReportFrame { frame: frame.clone(), guilty: is_guilty, folded: 0 });
        } else if let Some(last) = shown.last_mut() {
            last.folded = last.folded.saturating_add(1);
        }
    }
    shown
}
