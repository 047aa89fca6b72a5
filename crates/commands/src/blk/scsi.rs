//! SCSI.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{Now, Queue, Requests, Stands};
use kdive_linux::scsi::{self, Device, Host, ScsiCommand};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Age, Known};
use crate::sink::{Render, Sink, SinkExt};

/// A host.
#[derive(Debug, Serialize)]
struct Row {
    host: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Commands that wait for error handling.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u32>,
    /// Whether error handling waits for the device to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovering: Option<bool>,
    /// The thread that handles errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_blocked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    can_queue: Option<u32>,
    devices: Vec<DeviceRow>,
}

/// A device.
#[derive(Debug, Serialize)]
struct DeviceRow {
    device: VirtAddr,
    /// `0:0:1:0`: host, channel, target, unit.
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeouts: Option<u32>,
    /// Commands that it has not done.
    commands: Vec<CommandRow>,
}

/// A command that the driver has.
#[derive(Debug, Serialize)]
struct CommandRow {
    command: VirtAddr,
    request: VirtAddr,
    /// Its bytes in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    cdb: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (driver, state) = (Known(self.driver.as_deref()), Known(self.state.as_deref()));
        write!(out, "host{}  {}  {driver}  {state}", Known(self.number), self.host)?;
        if self.failed.is_some_and(|failed| failed > 0) {
            write!(out, ", {} commands failed", Known(self.failed))?;
        }
        if self.recovering == Some(true) {
            write!(out, ", error handling waits for an answer")?;
        }
        if self.blocked.is_some_and(|blocked| blocked > 0) || self.self_blocked == Some(true) {
            write!(out, ", takes no commands")?;
        }
        writeln!(out)?;
        self.devices.iter().try_for_each(|device| device.lines(out))
    }
}

impl DeviceRow {
    fn lines(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "  {:<10} {}  {}", self.place, self.device, Known(self.state.as_deref()))?;
        write!(
            out,
            ", {} sent, {} done, {} failed",
            Known(self.requests),
            Known(self.done),
            Known(self.errors)
        )?;
        if let Some(timeouts) = self.timeouts {
            write!(out, ", {timeouts} timed out")?;
        }
        writeln!(out)?;
        for command in &self.commands {
            let age = command.age_ns.map(|age| Age(age).to_string());
            write!(out, "    {}  {}", command.command, Known(command.cdb.as_deref()))?;
            write!(out, "  for {}", Known(age.as_deref()))?;
            writeln!(
                out,
                ", try {} of {}",
                Known(command.retries.map(|tries| tries.saturating_add(1))),
                Known(command.allowed.map(|tries| tries.saturating_add(1)))
            )?;
        }
        Ok(())
    }
}

/// Shows hosts.
pub(super) fn show(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if kernel.module_symbol("shost_class").is_err() {
        out.heading("This kernel has no SCSI: scsi_mod is not loaded.\n")?;
        return Ok(());
    }
    let (hosts, incomplete) = scsi::hosts(&kernel)?;
    if let Some(lacks) = incomplete {
        cx.lacks(&lacks, "SCSI hosts", String::new);
    }
    for host in hosts {
        cx.cancel.check()?;
        let row = row(cx, &host);
        out.row(&row, &())?;
    }
    Ok(())
}

fn row(cx: &mut Cx, host: &Host) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("Scsi_Host {:#}", host.at);
    let number = cx.known(host.number.clone(), "numbers of hosts", place);
    let devices = cx.known(host.devices(&kernel), "SCSI devices", place).unwrap_or_default();
    Row {
        host: host.at,
        number,
        driver: cx.known(host.driver(&kernel), "drivers of hosts", place),
        state: cx.known(host.state(&kernel), "states of hosts", place),
        failed: cx.known(host.failed.clone(), "failed commands", place),
        recovering: host.action.clone().ok().map(|at| !at.is_null()),
        handler: host.handler.clone().ok().filter(|at| !at.is_null()),
        blocked: host.blocked.clone().ok(),
        self_blocked: host.self_blocked.clone().ok(),
        can_queue: host.can_queue.clone().ok(),
        devices: devices
            .iter()
            // The host's own (7.x), for commands of its driver.
            .filter(|device| device.lun != Ok(u64::MAX))
            .map(|device| device_row(cx, number, device))
            .collect(),
    }
}

fn device_row(cx: &mut Cx, host: Option<u32>, device: &Device) -> DeviceRow {
    let kernel = cx.kernel.clone();
    let place = || format!("scsi_device {:#}", device.at);
    let of = |part: &kdive_target::Field<u32>| Known(part.clone().ok()).to_string();
    let lun = Known(device.lun.clone().ok()).to_string();
    let commands = cx.known(device.queue.clone(), "queues", place).map(|at| {
        let queue: Queue = kernel.load(at);
        let pending = Requests::new(&kernel).of_queue(&queue);
        for lacks in &pending.lacking {
            cx.lacks(lacks, "commands", place);
        }
        pending.all
    });
    let now = Now::find(&kernel);
    let with_driver = commands.into_iter().flatten().filter(|io| io.stands == Stands::Driver);
    let commands = with_driver.filter_map(|io| {
        let command = ScsiCommand::of_request(&kernel, io.at).ok()?;
        let bytes = cx.known(command.bytes(&kernel), "bytes of commands", place);
        Some(CommandRow {
            command: command.at,
            request: io.at,
            cdb: bytes
                .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")),
            retries: command.retries.clone().ok(),
            allowed: command.allowed.clone().ok(),
            age_ns: command.age_ns(&now).or(io.age_ns),
        })
    });
    let commands = commands.collect();
    DeviceRow {
        device: device.at,
        place: format!("{}:{}:{}:{lun}", Known(host), of(&device.channel), of(&device.id)),
        state: cx.known(device.state(&kernel), "states of devices", place),
        blocked: device.blocked.clone().ok(),
        requests: cx.known(device.requests.clone(), "counters", place),
        done: device.done.clone().ok(),
        errors: device.errors.clone().ok(),
        timeouts: device.timeouts.clone().ok(),
        commands,
    }
}
