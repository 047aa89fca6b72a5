//! NVMe.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::nvme::{self, Controller, NvmeQueue};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// A controller.
#[derive(Debug, Serialize)]
struct Row {
    /// `nvme0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Its `struct nvme_ctrl`.
    controller: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// `pcie`, `tcp`...
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_count: Option<u32>,
    /// Over a network: connections made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconnects: Option<u32>,
    /// On PCI.
    queues: Vec<QueueRow>,
}

/// A queue on PCI.
#[derive(Debug, Serialize)]
struct QueueRow {
    queue: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sq_tail: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cq_head: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// Answers that the driver has not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<u32>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (name, state) = (Known(self.name.as_deref()), Known(self.state.as_deref()));
        write!(out, "{name}  {}  {}  {state}", self.controller, Known(self.transport.as_deref()))?;
        let (model, serial) = (Known(self.model.as_deref()), Known(self.serial.as_deref()));
        write!(out, "  {model}, serial {serial}, firmware {}", Known(self.firmware.as_deref()))?;
        if self.reconnects.is_some_and(|count| count > 0) {
            write!(out, ", connected anew {} times", Known(self.reconnects))?;
        }
        writeln!(out)?;
        for queue in &self.queues {
            let kind = if queue.number == Some(0) { " (admin)" } else { "" };
            write!(out, "  queue {}{kind}  {}  ", Known(queue.number), queue.queue)?;
            write!(out, "{} entries, tail {}, ", Known(queue.depth), Known(queue.sq_tail))?;
            write!(out, "head {}, {} answers unseen", Known(queue.cq_head), Known(queue.unseen))?;
            writeln!(out, "{}", if queue.enabled == Some(false) { ", NOT ENABLED" } else { "" })?;
        }
        Ok(())
    }
}

/// Shows controllers.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if kernel.module_symbol("nvme_subsystems").is_err() {
        out.heading("This kernel has no NVMe: nvme_core is not loaded.\n")?;
        return Ok(());
    }
    let (controllers, lacking) = nvme::controllers(&kernel)?;
    for lacks in &lacking {
        cx.lacks(lacks, "NVMe controllers", String::new);
    }
    for controller in &controllers {
        cx.cancel.check()?;
        let row = row(cx, controller);
        out.row(&row, &())?;
    }
    if controllers.is_empty() {
        out.heading("No NVMe controller.\n")?;
    }
    Ok(())
}

fn row(cx: &mut Cx, controller: &Controller) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("nvme_ctrl {:#}", controller.at);
    let identity = cx.known(controller.identity(&kernel), "model, serial, firmware", place);
    let queues = cx.known(controller.queues(&kernel), "queues", place).unwrap_or_default();
    Row {
        name: cx.known(controller.instance.clone(), "names", place).map(|number| format!("nvme{number}")),
        controller: controller.at,
        state: cx.known(controller.state(&kernel), "states", place),
        transport: cx.known(controller.transport(&kernel), "transports", place),
        model: identity.as_ref().and_then(|identity| identity.model.clone().ok()),
        serial: identity.as_ref().and_then(|identity| identity.serial.clone().ok()),
        firmware: identity.and_then(|identity| identity.firmware.ok()),
        queue_count: controller.queue_count.clone().ok(),
        reconnects: controller.reconnects.clone().ok(),
        queues: queues.iter().map(|queue| queue_row(cx, queue)).collect(),
    }
}

fn queue_row(cx: &mut Cx, queue: &NvmeQueue) -> QueueRow {
    let kernel = cx.kernel.clone();
    let place = || format!("nvme_queue {:#}", queue.at);
    QueueRow {
        queue: queue.at,
        number: cx.known(queue.number.clone(), "numbers", place),
        depth: queue.depth.clone().ok(),
        sq_tail: cx.known(queue.sq_tail.clone(), "tails", place),
        cq_head: cx.known(queue.cq_head.clone(), "heads", place),
        enabled: queue.is_enabled().ok(),
        unseen: cx.known(queue.unseen(&kernel), "answers", place),
    }
}
