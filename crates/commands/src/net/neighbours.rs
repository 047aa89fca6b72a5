//! Neighbours.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::net::{Neighbour, NeighbourState, NeighbourTable, Neighbours, NetDevice};
use kdive_target::{Bytes, Kernel, Text};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

#[derive(Debug, Serialize)]
struct Row {
    neighbour: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    hardware_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// As wide as the addresses are.
#[derive(Clone, Copy)]
struct AddressWidth(usize);

impl Render for Row {
    type View = AddressWidth;

    fn render(&self, AddressWidth(width): &AddressWidth, out: &mut dyn fmt::Write) -> fmt::Result {
        let (address, hardware) = (Known(self.address.as_deref()), Known(self.hardware_address.as_deref()));
        write!(out, "{} {address:<width$} {:<10} {hardware:<18} ", self.neighbour, self.hardware_type)?;
        writeln!(out, "{:<7} {}", Known(self.device.as_deref()), Known(self.state.as_deref()))
    }
}

/// The kinds of links (`ARPHRD_*`, include/uapi/linux/if_arp.h) that have names in crash.
fn hardware_type(kind: u16) -> &'static str {
    const NAMES: [&str; 9] =
        ["NETROM", "ETHER", "EETHER", "AX25", "PRONET", "CHAOS", "IEEE802", "ARCNET", "APPLETLK"];
    match kind {
        15 => "DLCI",
        19 => "ATM",
        23 => "METRICOM",
        24 => "IEEE1394",
        27 => "EUI64",
        32 => "INFINIBAND",
        kind => NAMES.get(usize::from(kind)).copied().unwrap_or("UNKNOWN"),
    }
}

/// Bytes of an address on a link: those of Ethernet, and of what is not known.
const HARDWARE_BYTES: usize = 6;
/// `INFINIBAND_ALEN`.
const INFINIBAND_BYTES: usize = 20;

pub(super) fn show(cx: &mut Cx, ipv6: bool, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let (which, width) =
        if ipv6 { (NeighbourTable::NeighbourDiscovery, 39) } else { (NeighbourTable::Arp, 15) };
    let table = Neighbours::find(&kernel, which)?;
    let mut titles = Some(format!(
        "NEIGHBOUR        {:<width$} HW TYPE    HW ADDRESS         DEVICE  STATE\n",
        "IP ADDRESS"
    ));
    for neighbour in table.iter() {
        cx.cancel.check()?;
        let Some(neighbour) = cx.known(neighbour, "neighbours", String::new) else { continue };
        // As crash does: no titles over nothing.
        if let Some(titles) = titles.take() {
            out.heading(&titles)?;
        }
        let row = row(cx, &kernel, &table, &neighbour);
        out.row(&row, &AddressWidth(width))?;
    }
    Ok(())
}

fn row(cx: &mut Cx, kernel: &Kernel, table: &Neighbours<'_>, neighbour: &Neighbour) -> Row {
    let place = || format!("neighbour {:#}", neighbour.at);
    let device = cx.known(neighbour.device.clone(), "DEVICE", place).map(|at| kernel.load::<NetDevice>(at));
    let kind = device.as_ref().and_then(|device| cx.known(device.kind.clone(), "HW TYPE", place));
    let hardware_type = kind.map_or("UNKNOWN", hardware_type);
    let hardware = cx.known(neighbour.hardware.clone(), "HW ADDRESS", place);
    let address = cx.known(table.address(neighbour), "IP ADDRESS", place).flatten();
    let state = cx.known(neighbour.state.clone(), "STATE", place);
    Row {
        neighbour: neighbour.at,
        address: address.map(|address| address.to_string()),
        hardware_type,
        hardware_address: hardware.map(|Bytes(bytes)| hardware_text(&bytes, hardware_type)),
        device: device.and_then(|device| cx.known(device.name, "DEVICE", place)).map(|Text(name)| name),
        state: state
            .map(|state| NeighbourState(state).name().map_or_else(|| format!("{state:#x}"), str::to_owned)),
    }
}

/// Colons between the bytes where the kind of link is known, blanks where it is not.
fn hardware_text(bytes: &[u8], kind: &str) -> String {
    let count = if kind == "INFINIBAND" { INFINIBAND_BYTES } else { HARDWARE_BYTES };
    let bytes: Vec<_> = bytes.iter().take(count).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(if kind == "UNKNOWN" { " " } else { ":" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let row = |kind, address: &str, device: &str, state: &str| Row {
            neighbour: VirtAddr(0xff1c_1349_01ad_ae00),
            address: Some(address.into()),
            hardware_type: kind,
            hardware_address: Some(hardware_text(&[2, 0, 0, 0, 0, 0x77, 9, 9], kind)),
            device: Some(device.into()),
            state: Some(state.into()),
        };
        let mut text = String::new();
        row("ETHER", "10.0.2.77", "eth0", "PERMANENT").render(&AddressWidth(15), &mut text).unwrap();
        row("UNKNOWN", "0.0.0.0", "lo", "NOARP").render(&AddressWidth(15), &mut text).unwrap();
        assert_eq!(
            text,
            "ff1c134901adae00 10.0.2.77       ETHER      02:00:00:00:00:77  eth0    PERMANENT\n\
             ff1c134901adae00 0.0.0.0         UNKNOWN    02 00 00 00 00 77  lo      NOARP\n"
        );
        assert_eq!((hardware_type(1), hardware_type(772)), ("ETHER", "UNKNOWN"));
    }
}
