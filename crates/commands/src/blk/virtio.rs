//! Virtio rings.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::virtio::{self, Ring, VirtioDevice};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// A ring.
#[derive(Debug, Serialize)]
struct Row {
    /// `virtio2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// `net`, `block`...
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Its `struct vring_virtqueue`.
    ring: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u32>,
    /// What the driver has offered, modulo 2^16.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<u16>,
    /// What the hypervisor has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u16>,
    /// Answers that the driver has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<u16>,
    /// Offers without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered: Option<u16>,
    /// Answers that the driver has not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<bool>,
    /// The driver's word for each buffer that has not come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    outstanding: Option<Vec<VirtAddr>>,
}

const TITLES: &str =
    "DEVICE    KIND     RING             NAME              SIZE  FREE AVAIL  USED UNANSWERED UNSEEN\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (device, kind) = (Known(self.device.as_deref()), self.kind.as_deref().unwrap_or(UNKNOWN));
        let name = Known(self.name.as_deref());
        write!(out, "{device:<9} {kind:<8} {} {name:<16} ", self.ring)?;
        write!(out, "{:>5} {:>5} ", Known(self.size), Known(self.free))?;
        write!(out, "{:>5} {:>5} ", Known(self.available), Known(self.used))?;
        write!(out, "{:>10} {:>6}", Known(self.unanswered), Known(self.unseen))?;
        writeln!(out, "{}", if self.broken == Some(true) { "  BROKEN" } else { "" })
    }
}

/// Shows the rings of all virtio devices.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if kernel.module_symbol("virtio_bus").is_err() {
        out.heading("This kernel has no virtio: the module is not loaded.\n")?;
        return Ok(());
    }
    let (devices, incomplete) = virtio::devices(&kernel)?;
    if let Some(lacks) = incomplete {
        cx.lacks(&lacks, "virtio devices", String::new);
    }
    out.heading(TITLES)?;
    for device in devices {
        cx.cancel.check()?;
        let place = || format!("virtio_device {:#}", device.at);
        let Some(rings) = cx.known(device.rings(&kernel), "rings", place) else { continue };
        for ring in rings {
            let row = row(cx, &device, ring);
            out.row(&row, &())?;
        }
    }
    Ok(())
}

fn row(cx: &mut Cx, device: &VirtioDevice, ring: Ring) -> Row {
    let at = ring.at;
    let place = || format!("vring_virtqueue {at:#}");
    let kind = cx.known(device.kind.clone(), "KIND", place);
    let available = cx.known(ring.available, "AVAIL", place);
    let used = cx.known(ring.used, "USED", place);
    let taken = cx.known(ring.taken, "UNSEEN", place);
    Row {
        device: cx.known(device.index.clone(), "DEVICE", place).map(|index| format!("virtio{index}")),
        kind: kind.map(|kind| VirtioDevice::kind_name(kind).map_or_else(|| kind.to_string(), str::to_owned)),
        ring: at,
        name: cx.known(ring.name, "NAME", place),
        size: cx.known(ring.size, "SIZE", place),
        free: cx.known(ring.free, "FREE", place),
        available,
        used,
        taken,
        unanswered: available.zip(used).map(|(available, used)| available.wrapping_sub(used)),
        unseen: used.zip(taken).map(|(used, taken)| used.wrapping_sub(taken)),
        broken: ring.broken.ok(),
        outstanding: cx.known(ring.outstanding, "what is outstanding", place),
    }
}
