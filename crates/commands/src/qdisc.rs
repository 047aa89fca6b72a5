//! `qdisc`: what waits to be sent, what waits to be received, and since when.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::Now;
use kdive_linux::net::{self, Discipline, NetDevice, Sender, Softnet};
use kdive_target::{Kernel, Text};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::netns;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows queues of the network.
pub(crate) static QDISC: Command = Command {
    names: &["qdisc"],
    group: Group::Devices,
    summary: "queues of network devices: disciplines, backlogs, stopped queues, last transmit",
    operands: "",
    options: &[
        Opt::flag("-q", "each queue of each device: stopped or not, and when it sent last"),
        Opt::flag("-b", "what each processor has received and not handled, and what it is to poll"),
        Opt::flag("-w", "only devices with packets that wait or queues that are stopped"),
        Opt::value("-n", "pid | task", "the devices that a task sees"),
        Opt::flag("-A", "the devices of all network namespaces"),
    ],
    help: include_str!("qdisc.md"),
    run: Run::Once(qdisc),
};

/// A device.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    net_device: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<bool>,
    queues: Vec<QueueRow>,
    disciplines: Vec<DisciplineRow>,
    /// Its pollers that are to be polled (`struct napi_struct`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scheduled_napis: Vec<VirtAddr>,
    /// All of its pollers.
    #[serde(skip_serializing_if = "Option::is_none")]
    napis: Option<usize>,
}

/// A queue of a device.
#[derive(Debug, Serialize)]
struct QueueRow {
    netdev_queue: VirtAddr,
    number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<bool>,
    /// Too much is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled: Option<bool>,
    /// Nanoseconds since the driver took a packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_ns: Option<u64>,
    /// How often the watchdog found it stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeouts: Option<u64>,
}

/// A discipline.
#[derive(Debug, Serialize)]
struct DisciplineRow {
    qdisc: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// `8001:`
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// `root`, or the class that it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Packets that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<u64>,
    /// Bytes that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u64>,
    /// Packets that it let go.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requeues: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlimits: Option<u64>,
}

const TITLES: &str = "DEVICE       QDISC            KIND       HANDLE  PACKETS    BACKLOG      SENT    DROPS  QUEUES STOPPED LAST-SENT\n";

/// How much is shown.
struct View {
    queues: bool,
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let device = self.device.as_deref().unwrap_or(UNKNOWN);
        for (index, discipline) in self.disciplines.iter().enumerate() {
            write!(out, "{:<12} ", if index == 0 { device } else { "" })?;
            discipline.columns(out)?;
            if index == 0 {
                self.queue_columns(out)?;
            }
            writeln!(out)?;
        }
        if self.disciplines.is_empty() {
            writeln!(out, "{device:<12} {UNKNOWN}")?;
        }
        if view.queues {
            self.queues.iter().try_for_each(|queue| queue.line(out))?;
            if let Some(count) = self.napis.filter(|count| *count > 0) {
                writeln!(out, "  {} of {count} pollers are to be polled", self.scheduled_napis.len())?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn queue_columns(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let stopped = self.queues.iter().filter(|queue| queue.stopped == Some(true)).count();
        let last = self.queues.iter().filter_map(|queue| queue.last_sent_ns).min();
        let last = last.map_or("-".to_owned(), |last| format!("{} ago", Age(last)));
        write!(out, " {:>7} {stopped:>7} {last}", self.queues.len())?;
        match (self.up, self.carrier) {
            (Some(false), _) => write!(out, ", down"),
            (_, Some(false)) => write!(out, ", no carrier"),
            _ => Ok(()),
        }
    }

    fn waits(&self) -> bool {
        self.disciplines.iter().any(|of| of.packets.is_some_and(|packets| packets > 0))
            || self.queues.iter().any(|queue| queue.stopped == Some(true) && self.up == Some(true))
    }
}

impl DisciplineRow {
    fn columns(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (kind, handle) = (Known(self.kind.as_deref()), Known(self.handle.as_deref()));
        write!(out, "{} {kind:<10} {handle:<6} {:>8} ", self.qdisc, Known(self.packets))?;
        write!(out, "{:>10} {:>9} {:>8}", Known(self.backlog), Known(self.sent), Known(self.drops))
    }
}

impl QueueRow {
    fn line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = match (self.stopped, self.throttled) {
            (Some(true), _) => "STOPPED by the driver",
            (_, Some(true)) => "stopped, enough is on its way",
            (Some(false), _) => "running",
            _ => UNKNOWN,
        };
        write!(out, "  queue {:<4} {}  {state}", self.number, self.netdev_queue)?;
        match self.last_sent_ns {
            Some(last) => write!(out, ", sent {} ago", Age(last))?,
            None => write!(out, ", no time of its last packet")?,
        }
        if let Some(timeouts) = self.timeouts.filter(|timeouts| *timeouts > 0) {
            write!(out, ", found stuck {timeouts} times")?;
        }
        writeln!(out)
    }
}

fn qdisc(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-b") {
        if args.has("-q") || args.has("-w") {
            return Err(UsageError::new("qdisc", "-b is a view of its own").into());
        }
        return backlogs(cx, out);
    }
    let kernel = cx.kernel.clone();
    let namespaces = netns::chosen(cx, "qdisc", args)?;
    let now = Now::find(&kernel);
    let (view, mut any) = (View { queues: args.has("-q") }, false);
    for namespace in &namespaces {
        if namespaces.len() > 1 {
            out.heading(&namespace.heading())?;
        }
        let mut titled = false;
        for device in net::devices(&kernel, namespace.at)? {
            cx.cancel.check()?;
            let place = || format!("net {:#}", namespace.at);
            let Some(device) = cx.known(device, "network devices", place) else { break };
            let row = row(cx, &kernel, &device, &now);
            if args.has("-w") && !row.waits() {
                continue;
            }
            if !std::mem::replace(&mut titled, true) {
                out.heading(TITLES)?;
            }
            any = true;
            out.row(&row, &view)?;
        }
    }
    if !any && args.has("-w") {
        out.heading("No packet waits to be sent, and no queue is stopped.\n")?;
    }
    Ok(())
}

fn row(cx: &mut Cx, kernel: &Kernel, device: &NetDevice, now: &Now) -> Row {
    let place = || format!("net_device {:#}", device.at);
    let sender: Sender = kernel.load(device.at);
    let (disciplines, lacking) = sender.disciplines(kernel);
    for lacks in &lacking {
        cx.lacks(lacks, "disciplines", place);
    }
    let queues = cx.known(sender.queues(kernel, now), "queues", place).unwrap_or_default();
    let state = cx.known(sender.is_up_with_carrier(), "state of devices", place);
    let napis = cx.known(sender.scheduled_napis(kernel), "pollers", place);
    Row {
        device: cx.known(device.name.clone(), "DEVICE", place).map(|Text(name)| name),
        net_device: device.at,
        up: state.map(|(up, _)| up),
        carrier: state.map(|(_, carrier)| carrier),
        queues: queues
            .into_iter()
            .map(|queue| QueueRow {
                netdev_queue: queue.at,
                number: queue.number,
                stopped: cx.known(queue.stopped, "STOPPED", place),
                throttled: queue.throttled.ok(),
                last_sent_ns: queue.last_sent_ns,
                timeouts: queue.timeouts.ok(),
            })
            .collect(),
        disciplines: disciplines.iter().map(|discipline| discipline_row(cx, discipline)).collect(),
        napis: napis.as_ref().map(|(_, count)| *count),
        scheduled_napis: napis.map(|(scheduled, _)| scheduled).unwrap_or_default(),
    }
}

fn discipline_row(cx: &mut Cx, discipline: &Discipline) -> DisciplineRow {
    let place = || format!("Qdisc {:#}", discipline.at);
    let handle = cx.known(discipline.handle.clone(), "HANDLE", place);
    DisciplineRow {
        qdisc: discipline.at,
        kind: cx.known(discipline.kind.clone(), "KIND", place),
        handle: handle.map(class),
        parent: discipline.parent.clone().ok().map(class),
        packets: cx.known(discipline.packets.clone(), "PACKETS", place),
        backlog: cx.known(discipline.backlog.clone(), "BACKLOG", place),
        sent: discipline.sent.clone().ok(),
        drops: cx.known(discipline.drops.clone(), "DROPS", place),
        requeues: discipline.requeues.clone().ok(),
        overlimits: discipline.overlimits.clone().ok(),
    }
}

/// A handle as `tc` writes it: major and minor number in hexadecimal.
fn class(handle: u32) -> String {
    match (handle >> 16, handle & 0xffff) {
        (0xffff, 0xffff) => "root".to_owned(),
        (major, 0) => format!("{major:x}:"),
        (major, minor) => format!("{major:x}:{minor:x}"),
    }
}

/// What a processor has received.
#[derive(Debug, Serialize)]
struct BacklogRow {
    cpu: u32,
    softnet_data: VirtAddr,
    /// Packets that it handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    processed: Option<u32>,
    /// Packets that it had no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u32>,
    /// How often its time was up before the packets were.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_squeeze: Option<u32>,
    /// How often another processor gave it packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    received_rps: Option<u32>,
    /// Packets that wait in its backlog.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u32>,
    /// Pollers that wait for it (`struct napi_struct`).
    #[serde(skip_serializing_if = "Option::is_none")]
    polled: Option<Vec<VirtAddr>>,
}

const BACKLOG_TITLES: &str = "CPU SOFTNET_DATA      PROCESSED    DROPPED   SQUEEZED BACKLOG TO-POLL\n";

impl Render for BacklogRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (processed, dropped) = (Known(self.processed), Known(self.dropped));
        write!(out, "{:>3} {} {processed:>10} {dropped:>10} ", self.cpu, self.softnet_data)?;
        let polled = self.polled.as_ref().map(Vec::len);
        writeln!(out, "{:>10} {:>7} {:>7}", Known(self.time_squeeze), Known(self.backlog), Known(polled))
    }
}

fn backlogs(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    out.heading(BACKLOG_TITLES)?;
    for cpu in kernel.cpus()?.possible.iter() {
        cx.cancel.check()?;
        let place = || format!("CPU {cpu}");
        let Some(softnet) = cx.known(Softnet::of(&kernel, cpu), "softnet_data", place) else { continue };
        let waiting =
            softnet.backlog.clone().and_then(|count| Ok(count.saturating_add(softnet.at_hand.clone()?)));
        let row = BacklogRow {
            cpu,
            softnet_data: softnet.at,
            processed: cx.known(softnet.processed.clone(), "PROCESSED", place),
            dropped: cx.known(softnet.dropped(), "DROPPED", place),
            time_squeeze: cx.known(softnet.time_squeeze.clone(), "SQUEEZED", place),
            received_rps: softnet.received_rps.clone().ok(),
            backlog: cx.known(waiting, "BACKLOG", place),
            polled: cx.known(softnet.polled(&kernel), "TO-POLL", place),
        };
        out.row(&row, &())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_as_tc_writes_them() {
        assert_eq!(class(0x8001_0000), "8001:");
        assert_eq!(class(0x0001_000a), "1:a");
        assert_eq!(class(u32::MAX), "root");
        assert_eq!(class(0), "0:");
    }

    #[test]
    fn a_device_that_is_down_is_not_stuck() {
        let queue = QueueRow {
            netdev_queue: VirtAddr(0x10),
            number: 0,
            stopped: Some(true),
            throttled: Some(false),
            last_sent_ns: None,
            timeouts: None,
        };
        let row = |up| Row {
            device: Some("eth0".into()),
            net_device: VirtAddr(0x20),
            up: Some(up),
            carrier: Some(true),
            queues: vec![QueueRow { number: 1, ..queue }],
            disciplines: Vec::new(),
            scheduled_napis: Vec::new(),
            napis: None,
        };
        assert!(!row(false).waits());
        let queue = QueueRow {
            netdev_queue: VirtAddr(0x10),
            number: 0,
            stopped: Some(true),
            throttled: Some(false),
            last_sent_ns: None,
            timeouts: None,
        };
        assert!(Row { queues: vec![queue], ..row(true) }.waits());
    }
}
