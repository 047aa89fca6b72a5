//! Network devices.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::net::{self, IpAddress, NetDevice};
use kdive_linux::tasks::Task;
use kdive_target::Text;
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known};
use crate::sink::{Render, Sink, SinkExt};

#[derive(Debug, Serialize)]
struct Row {
    device: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    addresses: Vec<Address>,
    /// Its number in its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    /// `IFF_*` flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Address {
    address: String,
    /// Bits of its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
}

impl From<IpAddress> for Address {
    fn from(IpAddress { address, prefix }: IpAddress) -> Self {
        Self { address: address.to_string(), prefix }
    }
}

const TITLES: &str = "   NET_DEVICE     NAME       IP ADDRESS(ES)\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let addresses: Vec<&str> = self.addresses.iter().map(|of| of.address.as_str()).collect();
        writeln!(out, "{}  {:<10} {}", self.device, Known(self.name.as_deref()), addresses.join(", "))
    }
}

/// The devices of the first namespace.
pub(super) fn first(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let namespace = net::initial(&cx.kernel)?;
    show(cx, namespace, out)
}

/// The devices that a task sees.
pub(super) fn of_task(cx: &mut Cx, task: &Task, out: &mut dyn Sink) -> Result<(), CommandError> {
    let namespace = net::of_proxy(&cx.kernel, task.nsproxy.clone()?)?;
    show(cx, namespace, out)
}

fn show(cx: &mut Cx, namespace: VirtAddr, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let devices = net::devices(&kernel, namespace)?;
    out.heading(TITLES)?;
    for device in devices {
        cx.cancel.check()?;
        let place = || format!("network namespace {namespace:#}");
        let Some(device) = cx.known(device, "network devices", place) else { break };
        let row = row(cx, &device);
        out.row(&row, &())?;
    }
    Ok(())
}

fn row(cx: &mut Cx, device: &NetDevice) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("net_device {:#}", device.at);
    let (addresses, lacking) = net::addresses(&kernel, device);
    for lacks in &lacking {
        cx.lacks(lacks, "IP ADDRESS(ES)", place);
    }
    Row {
        device: device.at,
        name: cx.known(device.name.clone(), "NAME", place).map(|Text(name)| name),
        addresses: addresses.into_iter().map(Address::from).collect(),
        index: device.index.clone().ok(),
        flags: device.flags.clone().ok().map(|flags| Hex(flags.into())),
        mtu: device.mtu.clone().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let address = |text: &str| Address { address: text.into(), prefix: None };
        let row = Row {
            device: VirtAddr(0xff27_0289_0184_2000),
            name: Some("lo".into()),
            addresses: vec![address("127.0.0.1"), address("::1")],
            index: None,
            flags: None,
            mtu: None,
        };
        let mut text = TITLES.to_owned();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "   NET_DEVICE     NAME       IP ADDRESS(ES)\nff27028901842000  lo         127.0.0.1, ::1\n"
        );
    }
}
