//! `tcp`: TCP connections from inside.

use std::fmt;
use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_linux::net::{self, SocketLoader, Tcp, TcpLoader, Timer, Who, state_name};
use kdive_target::Field;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};
use crate::tcp_ends;

/// Shows connections.
pub(crate) static TCP: Command = Command {
    names: &["tcp"],
    group: Group::Devices,
    summary: "TCP connections from inside: windows, timers, what is not acknowledged",
    operands: "",
    options: &[
        Opt::flag("-r", "only those that send again, probe a closed window or lost packets"),
        Opt::flag("-v", "with congestion control, windows, and when something came last"),
        Opt::flag("-l", "sockets that listen, and how many connections wait for them"),
        Opt::flag("-t", "what is left of connections that ended (TIME_WAIT)"),
    ],
    help: include_str!("tcp.md"),
    run: Run::Once(tcp),
};

/// Which connection it is: first in the record of one that is open and of one that ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Connection {
    /// Its `struct sock`, or `struct inet_timewait_sock` once it ended.
    pub(crate) sock: VirtAddr,
    /// Its `struct net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) net: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remote: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remote_port: Option<u16>,
}

impl Connection {
    /// Both ends as `10.0.2.15:22 > 10.0.2.2:40180`.
    pub(crate) fn ends(&self) -> String {
        format!("{} > {}", end(self.local, self.local_port), end(self.remote, self.remote_port))
    }

    /// The state's name; its number if it has none.
    pub(crate) fn name_of_state(state: u8) -> String {
        state_name(state).map_or_else(|| state.to_string(), str::to_owned)
    }
}

/// A connection that is open.
#[derive(Debug, Default, Serialize)]
struct Row {
    #[serde(flatten)]
    connection: Connection,
    /// Bytes that are not acknowledged, those that were not sent yet among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    unacknowledged: Option<u32>,
    /// Bytes that were not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsent: Option<u32>,
    /// Bytes received and not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
    /// How often the oldest packet was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<u8>,
    /// Packets that were ever sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<Timer>,
    /// Nanoseconds until the timer ends, below zero where it should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    timer_ns: Option<i64>,
    /// Nanoseconds after which a packet counts as lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ns: Option<u64>,
    /// Packets that may be on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion_window: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_threshold: Option<u32>,
    /// Bytes that the other side takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_window: Option<u32>,
    /// Bytes that this side takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_window: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mss: Option<u32>,
    /// In microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_us: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_out: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_out: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sacked_out: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion_control: Option<String>,
    /// Nanoseconds since data was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sent_ns: Option<u64>,
    /// Nanoseconds since an acknowledgement came.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_received_ns: Option<u64>,
}

const TITLES: &str = "SOCK             STATE       LOCAL > REMOTE                           UNACKED UNSENT UNREAD RETR TIMER\n";

/// An end of a connection: `10.0.2.15:22`, `[::1]:22`.
pub(crate) fn end(address: Option<IpAddr>, port: Option<u16>) -> String {
    match address {
        Some(IpAddr::V6(address)) => format!("[{address}]:{}", Known(port)),
        address => format!("{}:{}", Known(address), Known(port)),
    }
}

/// How much is shown.
struct View {
    more: bool,
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let Connection { sock, state, .. } = &self.connection;
        let (state, ends) = (state.as_deref().unwrap_or(UNKNOWN), self.connection.ends());
        write!(out, "{sock} {state:<11} {ends:<40} ")?;
        write!(out, "{:>7} {:>6} ", Known(self.unacknowledged), Known(self.unsent))?;
        write!(out, "{:>6} {:>4} ", Known(self.unread), Known(self.retransmits))?;
        writeln!(out, "{}", self.timer_text())?;
        if view.more { self.details(out) } else { Ok(()) }
    }
}

impl Row {
    fn timer_text(&self) -> String {
        let Some(timer) = self.timer else { return "-".into() };
        let name = match timer {
            Timer::Retransmit => "retransmit",
            Timer::WindowProbe => "window probe",
            Timer::LossProbe => "loss probe",
            Timer::Reorder => "reorder",
            Timer::Keepalive => "keepalive",
        };
        match self.timer_ns {
            None => name.to_owned(),
            Some(left) => match u64::try_from(left) {
                Ok(left) => format!("{name} in {}", Age(left)),
                Err(_) => format!("{name} {} overdue", Age(left.unsigned_abs())),
            },
        }
    }

    fn details(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (state, control) = (Known(self.congestion_state), Known(self.congestion_control.as_deref()));
        let threshold = self.slow_start_threshold.map(|packets| match packets {
            // TCP_INFINITE_SSTHRESH.
            0x7fff_ffff => "none".to_owned(),
            packets => packets.to_string(),
        });
        write!(out, "  {control}, {state}, cwnd {}, ", Known(self.congestion_window))?;
        write!(out, "ssthresh {}, mss {}, ", Known(threshold.as_deref()), Known(self.mss))?;
        writeln!(out, "windows {} out {} in", Known(self.send_window), Known(self.receive_window))?;
        let (out_packets, lost) = (Known(self.packets_out), Known(self.lost_out));
        write!(out, "  {out_packets} packets out, {lost} lost, {} sacked, ", Known(self.sacked_out))?;
        writeln!(out, "{} sent again ever, {} probes", Known(self.total_retransmits), Known(self.probes))?;
        let timeout = self.timeout_ns.map(|time| Age(time).to_string());
        write!(out, "  rto {}, ", Known(timeout.as_deref()))?;
        match self.round_trip_us {
            Some(0) => write!(out, "rtt not measured")?,
            time => write!(out, "rtt {} us", Known(time))?,
        }
        let ago = |time: Option<u64>| time.map_or(UNKNOWN.to_owned(), |time| format!("{} ago", Age(time)));
        writeln!(out, ", sent {}, received {}", ago(self.last_sent_ns), ago(self.last_received_ns))
    }

    /// Whether packets do not come through, or the other side takes none.
    fn is_in_trouble(&self) -> bool {
        let more = |count: Option<u32>| count.is_some_and(|count| count > 0);
        more(self.retransmits.map(u32::from))
            || more(self.probes.map(u32::from))
            || more(self.lost_out)
            || self.timer == Some(Timer::WindowProbe)
    }
}

fn tcp(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    match args.last_of(&["-l", "-t"]) {
        Some("-l") => return tcp_ends::listeners(cx, out),
        Some(_) => return tcp_ends::ended(cx, out),
        None => {}
    }
    let (sockets, loader) = (SocketLoader::new(&kernel), TcpLoader::new(&kernel));
    let mut any = false;
    for sock in net::tcp_connections(&kernel)? {
        cx.cancel.check()?;
        let Some(sock) = cx.known(sock, "connections", String::new) else { continue };
        let unread = sockets.queues(&sock).receive;
        let who = sockets.who(&sock);
        let row = row(cx, loader.load(sock), who, unread);
        if args.has("-r") && !row.is_in_trouble() {
            continue;
        }
        if !any {
            out.heading(TITLES)?;
        }
        any = true;
        out.row(&row, &View { more: args.has("-v") })?;
    }
    if !any {
        let none = if args.has("-r") {
            "No TCP connection is in trouble.\n"
        } else {
            "No TCP connection is open.\n"
        };
        out.heading(none)?;
    }
    Ok(())
}

fn row(cx: &mut Cx, tcp: Tcp, who: Who, unread: Field<u64>) -> Row {
    let at = tcp.sock.at;
    let place = || format!("sock {at:#}");
    let state = cx.known(tcp.sock.state.clone(), "STATE", place);
    let (local, remote) = match who {
        Who::Inet { local, remote } => (Some(local), Some(remote)),
        _ => (None, None),
    };
    let (local_port, remote_port) = (
        local.as_ref().and_then(|end| end.port.clone().ok()),
        remote.as_ref().and_then(|end| end.port.clone().ok()),
    );
    let connection = Connection {
        sock: at,
        net: tcp.sock.net.clone().ok(),
        state: state.map(Connection::name_of_state),
        local: local.and_then(|end| cx.known(end.address, "LOCAL", place)),
        local_port,
        remote: remote.and_then(|end| cx.known(end.address, "REMOTE", place)),
        remote_port,
    };
    Row {
        connection,
        unacknowledged: cx.known(tcp.unacknowledged, "UNACKED", place),
        unsent: cx.known(tcp.unsent, "UNSENT", place),
        unread: cx.known(unread, "UNREAD", place),
        retransmits: cx.known(tcp.retransmits, "RETR", place),
        total_retransmits: tcp.total_retransmits.ok(),
        probes: tcp.probes.ok(),
        timer: tcp.timer.map(|(timer, _)| timer),
        timer_ns: tcp.timer.and_then(|(_, left)| left),
        timeout_ns: tcp.timeout_ns,
        congestion_window: cx.known(tcp.congestion_window, "cwnd", place),
        slow_start_threshold: tcp.slow_start_threshold.ok(),
        send_window: tcp.send_window.ok(),
        receive_window: tcp.receive_window.ok(),
        mss: tcp.mss.ok(),
        round_trip_us: tcp.round_trip_us.ok(),
        packets_out: tcp.packets_out.ok(),
        lost_out: tcp.lost_out.ok(),
        sacked_out: tcp.sacked_out.ok(),
        congestion_state: tcp.congestion_state.ok(),
        congestion_control: tcp.congestion_control.ok(),
        last_sent_ns: tcp.last_sent_ns,
        last_received_ns: tcp.last_received_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            connection: Connection {
                state: Some("ESTABLISHED".into()),
                local: "10.1.0.1".parse().ok(),
                local_port: Some(55898),
                remote: "10.1.0.2".parse().ok(),
                remote_port: Some(7000),
                ..Connection::default()
            },
            unacknowledged: Some(5000),
            unsent: Some(0),
            unread: Some(0),
            retransmits: Some(4),
            timer: Some(Timer::Retransmit),
            timer_ns: Some(3_580_000_000),
            ..Row::default()
        }
    }

    #[test]
    fn a_line_stands_under_its_titles() {
        let mut text = TITLES.to_owned();
        row().render(&View { more: false }, &mut text).unwrap();
        assert_eq!(
            text,
            "\
SOCK             STATE       LOCAL > REMOTE                           UNACKED UNSENT UNREAD RETR TIMER
0000000000000000 ESTABLISHED 10.1.0.1:55898 > 10.1.0.2:7000              5000      0      0    4 retransmit in 3.5 s
"
        );
    }

    #[test]
    fn trouble_is_what_does_not_come_through() {
        assert!(row().is_in_trouble());
        assert!(
            !Row { retransmits: Some(0), ..row() }.is_in_trouble(),
            "what was just sent waits for its answer"
        );
        assert!(Row { retransmits: Some(0), timer: Some(Timer::WindowProbe), ..row() }.is_in_trouble());
    }
}
