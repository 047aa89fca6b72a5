//! Ends that somebody asked for.

use kdive_evidence::SplatKind;

use super::Detector;
use super::support::{Draft, LIKELY, NOTE, POSSIBLE, events, line, splats};
use crate::case::{Case, EventKind, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const FORCED: Detector =
    Detector { name: "forced-dump", claim: "Nothing crashed: somebody asked for the dump.", run: forced };

pub(super) const EXTERNAL: Detector = Detector {
    name: "external-reset",
    claim: "A watchdog, a button or a cluster manager ended the machine.",
    run: external,
};

fn forced(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(trigger) = &case.trigger else { return };
    let (title, claim) = match trigger.kind {
        TriggerKind::Sysrq => ("sysrq: forced dump", "No crash: an operator asked for this dump by SysRq."),
        TriggerKind::Snapshot => {
            ("snapshot of a running kernel", "No crash: the image was taken from outside.")
        }
        TriggerKind::NmiButton => {
            ("NMI: forced dump", "No crash of its own: an NMI from outside asked for the dump.")
        }
        _ => return,
    };
    let who = case
        .crashed
        .as_ref()
        .and_then(|crashed| Some(format!("{} (PID {})", crashed.comm.as_deref()?, crashed.pid?)));
    Draft::new(FORCED.name, Class::ForcedDump, NOTE)
        .task(who)
        .title(title)
        .claim(claim)
        .seen(format!("What ended the kernel: {}", trigger.text))
        .advice("Ask who forced it and why: usually the machine hung. Look at blocked tasks, memory and load in this report.")
        .push(out);
}

fn external(case: &Case<'_>, out: &mut Vec<Finding>) {
    for event in events(case, EventKind::Fencing).take(1) {
        Draft::new(EXTERNAL.name, Class::ExternalReset, LIKELY)
            .title("fenced by a cluster manager")
            .claim("A cluster manager ended this node.")
            .says(&event.text)
            .against("Why the node did not answer the cluster is another question: look at hangs before it.")
            .advice("Compare the clocks of the nodes, and look at the heartbeat's network and disks at that time.")
            .push(out);
    }
    for (index, splat) in splats(case, &[SplatKind::Nmi]) {
        let button = line(splat, "hpwdt")
            .or(line(splat, "An NMI occurred"))
            .or(line(splat, "iLO"))
            .or(line(splat, "IPMI"));
        let hardware = line(splat, "IOCK").or(line(splat, "SERR")).or(line(splat, "PCI system error"));
        let draft = match (button, hardware) {
            (Some(text), _) => Draft::new(EXTERNAL.name, Class::ExternalReset, LIKELY)
                .title("NMI from the machine's management controller")
                .claim("The machine's management controller (a watchdog or the NMI button) ended the kernel.")
                .says(text)
                .against("A watchdog fires because nothing fed it: look at hangs before it.")
                .advice("Read the event log of the management controller (iLO, iDRAC, IPMI)."),
            (None, Some(text)) => Draft::new(EXTERNAL.name, Class::HardwareError, LIKELY)
                .object(Some("a bus or a device"))
                .title("NMI: bus error")
                .claim("The chipset reported an error of a bus or a device by NMI.")
                .says(text)
                .advice("Read the machine's event log; the next time boot with pci=noaer off and note the AER lines."),
            (None, None) => Draft::new(EXTERNAL.name, Class::ExternalReset, POSSIBLE)
                .title("NMI of unknown reason")
                .claim("An NMI came whose reason the kernel does not know: a button, a management controller or a hypervisor.")
                .says(&splat.message),
        };
        draft.splat(index).push(out);
    }
}
