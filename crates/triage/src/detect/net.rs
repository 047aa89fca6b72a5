//! Network: packet buffers, queues, references to devices.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::assertion::is_bug;
use super::support::{Draft, LIKELY, NOTE, POSSIBLE, PROVEN, events, line, says, word_after};
use crate::blame::{self, Mode};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const PACKET: Detector = Detector {
    name: "packet-buffer",
    claim: "A packet buffer had no room for what was put into it, or its parts do not fit together.",
    run: packet,
};

pub(super) const QUEUE: Detector =
    Detector { name: "network-queue", claim: "A queue of a network device did not send.", run: queue };

pub(super) const DEVICE_REFERENCE: Detector = Detector {
    name: "device-reference",
    claim: "A network device cannot go, because a reference to it is never given back.",
    run: device_reference,
};

/// Whether a splat is a check of a packet buffer.
pub(super) fn is_packet_check(splat: &Splat) -> bool {
    let panicked = ["skb_over_panic", "skb_under_panic"].iter().any(|text| says(splat, text))
        || blame::mentions(splat, |name| matches!(name, "skb_panic" | "skb_over_panic" | "skb_under_panic"));
    panicked && (is_bug(splat) || splat.kind == SplatKind::Panic || splat.kind == SplatKind::Other)
}

/// Whether a splat is the watchdog of a network device.
pub(super) fn is_watchdog(splat: &Splat) -> bool {
    splat.kind == SplatKind::NetdevWatchdog || says(splat, "NETDEV WATCHDOG")
}

fn packet(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| is_packet_check(splat)) {
        let text = line(splat, "skb_over_panic").or(line(splat, "skb_under_panic"));
        let under = text.is_some_and(|text| text.contains("under"))
            || blame::mentions(splat, |name| name == "skb_under_panic" || name == "skb_push");
        let mut draft =
            Draft::new(PACKET.name, Class::PacketCorruption, PROVEN).at(index, splat, Mode::Fault);
        draft = draft
            .object(text.and_then(|text| word_after(text, "dev:")).filter(|dev| *dev != "<NULL>"))
            .title_in(if under { "kernel BUG: skb_under_panic" } else { "kernel BUG: skb_over_panic" })
            .claim_in(if under { "A packet buffer had no room before its data" } else { "A packet buffer had no room behind its data" })
            .says(text.unwrap_or(&splat.message))
            .seen_if(under, "skb_push() went below the buffer's head: too little headroom was reserved for a header.")
            .seen_if(!under, "skb_put() went beyond the buffer's end: a length from outside was believed, or the buffer was made too small.");
        draft.advice("Compare the MTU and the needed headroom of the devices that the packet passes (bridge, VLAN, tunnel).").push(out);
    }
}

fn queue(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in case.splats.iter().enumerate().filter(|(_, splat)| is_watchdog(splat)) {
        let text = line(splat, "NETDEV WATCHDOG").unwrap_or(&splat.message);
        let device = word_after(text, "WATCHDOG:");
        let driver = text
            .split_once(" (")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(driver, _)| driver.to_owned());
        let nothing_else = case.trigger.is_none() && case.splats.len() == 1;
        Draft::new(QUEUE.name, Class::NetworkStall, if nothing_else { LIKELY } else { POSSIBLE - 10 })
            .splat(index)
            .object(device)
            .module(driver)
            .title("WARNING: NETDEV WATCHDOG: transmit queue timed out")
            .claim(format!("A transmit queue of {} did not send for seconds.", device.unwrap_or("a network device")))
            .says(text)
            .against("It does not end a kernel: link flaps and stuck interrupts cause it, and so does a processor that does not come on.")
            .push(out);
    }
    for event in events(case, EventKind::NetworkDevice).take(1) {
        Draft::new(QUEUE.name, Class::NetworkStall, NOTE)
            .title("network device trouble")
            .claim("A network device told of trouble.")
            .says(&event.text)
            .push(out);
    }
}

fn device_reference(case: &Case<'_>, out: &mut Vec<Finding>) {
    for event in events(case, EventKind::NetdevReference).take(1) {
        let device = word_after(&event.text, "waiting for");
        Draft::new(DEVICE_REFERENCE.name, Class::ReferenceLeak, LIKELY)
            .object(device)
            .title(format!("unregister_netdevice: waiting for {} to become free", device.unwrap_or("DEV")))
            .claim(format!("The network device {} cannot be removed: somebody keeps a reference to it.", device.unwrap_or("that was removed")))
            .says(&event.text)
            .seen_if(event.count > 1, format!("The line came {} times.", event.count))
            .advice("Look for tasks that wait for rtnl_mutex: whoever removes the device holds it. The leak is in a route, a socket or a neighbour entry.")
            .push(out);
    }
}
