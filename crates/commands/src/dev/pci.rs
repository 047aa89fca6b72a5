//! PCI buses and devices.

use std::fmt;

use kdive_base::{VirtAddr, printable};
use kdive_linux::pci::{self, OnBus, PciDevice};
use kdive_target::{Field, Kernel};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known};
use crate::sink::{Render, Sink, SinkExt};

/// A bus, and what is on it.
#[derive(Debug, Serialize)]
struct Bus {
    bus: VirtAddr,
    /// `0000:00`: domain and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The bus above; none for a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<VirtAddr>,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct Device {
    device: VirtAddr,
    /// `0000:00:1f.0`: domain, bus, slot and function.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Base class and class.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_id: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<Hex>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

impl Render for Bus {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match self.parent {
            None => writeln!(out, "    ROOT BUS     BUSNAME\n{} {}", self.bus, Known(self.name.as_deref()))?,
            Some(parent) => writeln!(out, "    PCI BUS        PARENT BUS\n{} {parent}", self.bus)?,
        }
        if !self.devices.is_empty() {
            writeln!(out, "      PCI DEV      DO:BU:SL.FN  CLASS   PCI_ID      TYPE   ")?;
        }
        self.devices.iter().try_for_each(|device| device.render(out))?;
        writeln!(out)
    }
}

impl Device {
    fn render(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let hex = |number: Option<Hex>| Known(number.map(|Hex(number)| format!("{number:04x}")));
        let (class, vendor, device) = (hex(self.class), hex(self.vendor_id), hex(self.device_id));
        write!(out, "  {} {:<12}  {class:>4}  ", self.device, Known(self.name.as_deref()))?;
        writeln!(out, "{vendor:>4}:{device:>4}  {} ", Known(self.kind))
    }
}

/// What a device is (`PCI_EXP_TYPE_*`, include/uapi/linux/pci_regs.h), by its Express capability, or by its header.
fn kind(device: &PciDevice) -> Field<&'static str> {
    const BRIDGE: u8 = 1;
    if device.express.clone()? == 0 {
        return Ok(if device.header.clone()? & 0x7f == BRIDGE { "BRIDGE" } else { "ENDPOINT" });
    }
    Ok(match device.express_flags.clone()? >> 4 & 0xf {
        0x1 => "LEG_END",
        0x4 => "ROOT_PORT",
        0x5 => "UPSTREAM",
        0x6 => "DOWNSTREAM",
        0x7 => "PCI_BRIDGE",
        0x8 => "PCIE_BRIDGE",
        0x9 => "RC_END",
        0xa => "RC_EC",
        _ => "ENDPOINT",
    })
}

pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let buses = pci::buses(&kernel)?;
    for lacks in &buses.incomplete {
        cx.lacks(lacks, "PCI devices", String::new);
    }
    for on_bus in &buses.all {
        cx.cancel.check()?;
        let row = bus(cx, &kernel, on_bus);
        out.row(&row, &())?;
    }
    Ok(())
}

fn bus(cx: &mut Cx, kernel: &Kernel, on_bus: &OnBus) -> Bus {
    let OnBus { bus, devices } = on_bus;
    let place = || format!("pci_bus {:#}", bus.at);
    let parent = cx.known(bus.parent.clone(), "PARENT BUS", place).filter(|parent| !parent.is_null());
    let name = cx.known(object_name(kernel, bus.device_name.clone()), "BUSNAME", place);
    Bus { bus: bus.at, name, parent, devices: devices.iter().map(|of| device(cx, kernel, of)).collect() }
}

fn object_name(kernel: &Kernel, name: Field<VirtAddr>) -> Field<String> {
    Ok(printable(&kernel.memory().c_string(name?, 64)?))
}

fn device(cx: &mut Cx, kernel: &Kernel, device: &PciDevice) -> Device {
    let place = || format!("pci_dev {:#}", device.at);
    let id = |number: u16| Hex(number.into());
    Device {
        device: device.at,
        name: cx.known(object_name(kernel, device.name.clone()), "DO:BU:SL.FN", place),
        // The last byte is the programming interface.
        class: cx.known(device.class.clone(), "CLASS", place).map(|class| Hex((class >> 8).into())),
        vendor_id: cx.known(device.vendor.clone(), "PCI_ID", place).map(id),
        device_id: cx.known(device.device.clone(), "PCI_ID", place).map(id),
        kind: cx.known(kind(device), "TYPE", place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let device = Device {
            device: VirtAddr(0xff27_0289_1ee5_b000),
            name: Some("0000:00:00.0".into()),
            class: Some(Hex(0x600)),
            vendor_id: Some(Hex(0x8086)),
            device_id: Some(Hex(0x1237)),
            kind: Some("ENDPOINT"),
        };
        let bus = VirtAddr(0xff27_0289_018b_f800);
        let bus = Bus { bus, name: Some("0000:00".into()), parent: None, devices: vec![device] };
        let mut text = String::new();
        bus.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "    ROOT BUS     BUSNAME\n\
             ff270289018bf800 0000:00\n\
             \x20     PCI DEV      DO:BU:SL.FN  CLASS   PCI_ID      TYPE   \n\
             \x20 ff2702891ee5b000 0000:00:00.0  0600  8086:1237  ENDPOINT \n\n"
        );
    }
}
