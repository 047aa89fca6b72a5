//! What the machine itself reports: machine checks, corrected errors, poisoned pages, buses, devices, firmware.

use kdive_evidence::SplatKind;

use super::Detector;
use super::support::{
    Draft, HINT, LIKELY, NOTE, POSSIBLE, PROVEN, STRONG, events, line, splats, triggered, word_after,
};
use crate::case::{Case, Event, EventKind, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const MACHINE_CHECK: Detector = Detector {
    name: "machine-check",
    claim: "The processor reported an error of the hardware.",
    run: machine_check,
};

pub(super) const REPORTED: Detector = Detector {
    name: "reported-hardware",
    claim: "The machine, its firmware or a bus reported errors before the end.",
    run: reported,
};

pub(super) const DEVICE: Detector =
    Detector { name: "device", claim: "A device failed, or wrote where it should not.", run: device };

fn machine_check(case: &Case<'_>, out: &mut Vec<Finding>) {
    for (index, splat) in splats(case, &[SplatKind::MachineCheck]) {
        let status = std::iter::once(&splat.message).chain(&splat.details).find_map(|text| status(text));
        let mut draft = Draft::new(MACHINE_CHECK.name, Class::HardwareError, PROVEN + 2)
            .splat(index)
            .title("Machine check")
            .claim("The processor reported an error of the hardware that it could not correct.")
            .says(&splat.message);
        if let Some((bank, status)) = status {
            let what = meaning(status);
            draft = draft.object(Some(what)).seen(format!(
                "Bank {bank} tells status {status:016x}: {what}{}{}.",
                if status >> 61 & 1 == 1 { ", not corrected" } else { "" },
                if status >> 57 & 1 == 1 { ", the processor's state is lost" } else { "" }
            ));
        }
        for text in splat
            .details
            .iter()
            .filter(|text| {
                text.contains("Hardware Error") || text.contains("ADDR") || text.contains("PROCESSOR")
            })
            .take(4)
        {
            draft = draft.says(text);
        }
        draft
            .advice("Have the vendor's diagnosis run; mcelog or rasdaemon name the memory module.")
            .push(out);
    }
    if triggered(case, TriggerKind::MachineCheck)
        && !case.splats.iter().any(|splat| splat.kind == SplatKind::MachineCheck)
    {
        let text = case.trigger.as_ref().map(|trigger| trigger.text.clone()).unwrap_or_default();
        Draft::new(MACHINE_CHECK.name, Class::HardwareError, STRONG)
            .title("Machine check")
            .claim("A machine check ended the kernel.")
            .says(&text)
            .push(out);
    }
}

/// Bank and status in `Machine Check Exception: 4 Bank 5: be00000000800400` and in `Bank 4: b200000000070f0f`.
fn status(text: &str) -> Option<(u64, u64)> {
    let rest = text.split_once("Bank ")?.1;
    let (bank, rest) = rest.split_once(':')?;
    let value = rest.split_whitespace().next()?;
    Some((bank.trim().parse().ok()?, u64::from_str_radix(value, 16).ok()?))
}

/// The low 16 bits of a status (Intel SDM volume 3, 17.9).
fn meaning(status: u64) -> &'static str {
    match status & 0xffff {
        0 => "no error code",
        0x0005 => "internal parity error",
        0x0400 => "internal timer: no instruction completed for long",
        code if code & 0xff80 == 0x0080 => "memory controller",
        code if code & 0xef00 == 0x0100 => "cache",
        code if code & 0xeff0 == 0x0010 => "translation buffer (TLB)",
        code if code & 0xe800 == 0x0800 => "bus or interconnect",
        code if code & 0xfc00 == 0x0400 => "internal error of the processor",
        _ => "error of the processor or chipset",
    }
}

fn reported(case: &Case<'_>, out: &mut Vec<Finding>) {
    for event in events(case, EventKind::HardwareError) {
        let text = event.text.as_str();
        let fatal = ["Uncorrected", "uncorrected", "Fatal", "fatal", " UE ", "recoverable"]
            .iter()
            .any(|word| text.contains(word))
            && !text.contains("Corrected")
            && !text.contains("non-fatal");
        let bus = ["AER", "PCIe", "DPC: "].iter().any(|word| text.contains(word));
        // EDAC also says hello.
        let harmless = text.contains("EDAC MC: Ver")
            || text.contains("Giving out device")
            || text.contains("enabled")
            || text.contains("EDAC amd64: Node")
            || text.contains("controller");
        if harmless {
            continue;
        }
        let (class, object) = if bus {
            (Class::DeviceFailure, "a PCIe device or link")
        } else if text.contains("emory") || text.contains("EDAC") || text.contains("DIMM") {
            (Class::BadMemory, "memory")
        } else {
            (Class::HardwareError, "hardware")
        };
        Draft::new(REPORTED.name, class, if fatal { LIKELY } else { HINT })
            .object(Some(object))
            .title(if fatal { "uncorrected hardware error" } else { "corrected hardware errors" })
            .claim(if fatal {
                format!("The machine reported an error of {object} that it could not correct.")
            } else {
                format!("The machine reported errors of {object} that it corrected.")
            })
            .says(text)
            .seen_if(event.count > 1, format!("The line came {} times.", event.count))
            .against_if(!fatal, "Corrected errors do no harm by themselves; they foretell those that do.")
            .advice("Read the machine's event log, and replace the part that it names.")
            .push(out);
    }
    single(
        case,
        EventKind::PoisonedPage,
        Class::BadMemory,
        LIKELY,
        "memory",
        "Memory failure: poisoned page",
        "A page of memory was poisoned after an error that could not be corrected.",
        out,
    );
    single(
        case,
        EventKind::Firmware,
        Class::Firmware,
        NOTE,
        "firmware",
        "firmware bug",
        "The kernel found the firmware wrong.",
        out,
    );
}

#[expect(clippy::too_many_arguments, reason = "a row of a table")]
fn single(
    case: &Case<'_>,
    kind: EventKind,
    class: Class,
    score: u8,
    object: &str,
    title: &str,
    claim: &str,
    out: &mut Vec<Finding>,
) {
    let Some(event) = events(case, kind).next() else { return };
    Draft::new(REPORTED.name, class, score)
        .object(Some(object))
        .title(title)
        .claim(claim)
        .says(&event.text)
        .seen_if(event.count > 1, format!("The line came {} times.", event.count))
        .push(out);
}

fn device(case: &Case<'_>, out: &mut Vec<Finding>) {
    // A dead device is the matter when tasks wait for it, or when nothing else is there.
    let waits = case.splats.iter().any(|splat| splat.kind == SplatKind::HungTask);
    let alone = case.splats.is_empty() && case.trigger.is_none();
    let block: Vec<&Event> =
        events(case, EventKind::BlockError).chain(events(case, EventKind::MultipathFailure)).collect();
    if let Some(event) = block.first() {
        let name = device_of(&event.text);
        let mut draft = Draft::new(
            DEVICE.name,
            Class::DeviceFailure,
            if waits {
                LIKELY + 4
            } else if alone {
                LIKELY
            } else {
                HINT + 4
            },
        )
        .object(name.clone())
        .title(format!("I/O error on {}", name.as_deref().unwrap_or("a device")))
        .claim(format!(
            "{} failed or did not answer.",
            name.as_deref().map_or("A block device".to_owned(), |name| format!("The device {name}"))
        ));
        for event in block.iter().take(4) {
            draft = draft.says(&event.text);
        }
        draft
            .seen_if(waits, "Tasks wait for I/O in the same log.")
            .advice("Look at the device, its cable, its paths and its storage system.")
            .push(out);
    }
    if let Some(event) = events(case, EventKind::IommuFault).next() {
        let write = event.text.contains("Write");
        Draft::new(DEVICE.name, Class::DeviceOverwrite, if alone { LIKELY - 6 } else { POSSIBLE - 4 })
            .object(word_after(&event.text, "device [").or_else(|| word_after(&event.text, "Request device")).or(Some("a device")))
            .title("IOMMU fault")
            .claim(if write { "A device wrote to memory that it was not given: the IOMMU stopped it." } else { "A device reached for memory that it was not given: the IOMMU stopped it." })
            .says(&event.text)
            .against("What the IOMMU stopped did no harm; what it did not see may have.")
            .advice("Look at the driver of that device: a buffer is given back before the device is done with it.")
            .push(out);
    }
    if let Some(event) = events(case, EventKind::GpuHang).next() {
        Draft::new(DEVICE.name, Class::DeviceFailure, if alone { LIKELY } else { HINT })
            .object(Some("a graphics engine"))
            .title("GPU hang")
            .claim("A graphics engine did not come on.")
            .says(&event.text)
            .push(out);
    }
    if let Some(event) = events(case, EventKind::LostInterrupt).next() {
        Draft::new(DEVICE.name, Class::InterruptTrouble, if alone { LIKELY - 10 } else { NOTE })
            .title("no irq handler for vector")
            .claim("An interrupt came on a vector that nobody has: a device raised it while it was being moved or freed.")
            .says(&event.text)
            .seen_if(event.count > 1, format!("The line came {} times.", event.count))
            .against("Single ones are harmless: processors that went offline and moved interrupts leave them.")
            .push(out);
    }
    for (index, splat) in splats(case, &[SplatKind::IrqNobodyCared]) {
        let irq = word_after(&splat.message, "irq ").unwrap_or("?");
        let mut draft = Draft::new(DEVICE.name, Class::InterruptTrouble, POSSIBLE + 6)
            .splat(index)
            .object(Some(format!("IRQ {irq}")))
            .title(format!("irq {irq}: nobody cared"))
            .claim(format!(
                "Interrupt {irq} came again and again, and no driver knew it: it was switched off."
            ));
        if let Some(text) = line(splat, "handlers:") {
            draft = draft.says(text);
        }
        draft.says(&splat.message).advice("The devices on that line do not work any more: look at their drivers, and boot with irqpoll to confirm.").push(out);
    }
}

/// The device of an I/O error.
fn device_of(text: &str) -> Option<String> {
    let named = word_after(text, "dev ").or_else(|| word_after(text, "device ")).or_else(|| {
        text.split(':')
            .next()
            .and_then(|name| name.split_whitespace().last())
            .filter(|name| name.starts_with("nvme"))
    });
    let name = named.or_else(|| {
        text.split_whitespace()
            .find(|word| word.starts_with("nvme") || word.starts_with("sd") && word.len() <= 5)
    })?;
    Some(name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_decoded() {
        assert_eq!(
            status("mce: [Hardware Error]: CPU 1: Machine Check Exception: 4 Bank 5: be00000000800400"),
            Some((5, 0xbe00_0000_0080_0400))
        );
        assert_eq!(meaning(0xbe00_0000_0080_0400), "internal timer: no instruction completed for long");
        assert_eq!(meaning(0x9c00_0000_0001_009f), "memory controller");
        assert_eq!(meaning(0xb200_0000_0000_0e0f), "bus or interconnect");
        assert_eq!(meaning(0x0134), "cache");
    }

    #[test]
    fn the_device_of_an_error_is_named() {
        assert_eq!(device_of("blk_update_request: I/O error, dev sdb, sector 12").as_deref(), Some("sdb"));
        assert_eq!(device_of("nvme nvme0: I/O 12 QID 3 timeout, aborting").as_deref(), Some("nvme0"));
    }
}
