//! `conntrack`: the connections that netfilter tracks.

use std::fmt;
use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_linux::net::{self, Connection, Tuple, protocol_name};
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::netns;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows tracked connections.
pub(crate) static CONNTRACK: Command = Command {
    names: &["conntrack"],
    group: Group::Devices,
    summary: "the connections that netfilter tracks, with their state and time left",
    operands: "",
    options: &[
        Opt::flag("-c", "only how many there are, and how many there may be"),
        Opt::value("-n", "pid | task", "those of the namespace of a task"),
        Opt::flag("-A", "those of all network namespaces"),
    ],
    help: include_str!("conntrack.md"),
    run: Run::Once(conntrack),
};

/// A tracked connection.
#[derive(Debug, Serialize)]
struct Row {
    /// Its `struct nf_conn`.
    connection: VirtAddr,
    /// Its `struct net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    /// Of TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assured: Option<bool>,
    /// Nanoseconds until it is forgotten, below zero where it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    original: TupleRow,
    reply: TupleRow,
}

/// A direction.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct TupleRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
}

const TITLES: &str = "NF_CONN          PROTO STATE           LEFT FLAGS     FROM > TO\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let protocol = self.protocol.as_deref().unwrap_or(UNKNOWN).to_lowercase();
        let state = self.state.as_deref().unwrap_or("-");
        let left = self.expires_ns.map(|left| match u64::try_from(left) {
            Ok(left) => Age(left).to_string(),
            Err(_) => "expired".to_owned(),
        });
        write!(out, "{} {protocol:<5} {state:<12} {:>7} ", self.connection, Known(left.as_deref()))?;
        let flags = match (self.replied, self.assured) {
            (Some(false), _) => "unreplied",
            (_, Some(true)) => "assured",
            _ => "-",
        };
        write!(out, "{flags:<9} {} > {}", self.original.from(), self.original.to())?;
        // Where addresses are translated, answers go another way.
        if self.original != self.reply.turned() {
            write!(out, "  answers {} > {}", self.reply.from(), self.reply.to())?;
        }
        if let Some(mark) = self.mark.filter(|mark| *mark != 0) {
            write!(out, "  mark {mark:#x}")?;
        }
        writeln!(out)
    }
}

impl TupleRow {
    fn from(&self) -> String {
        end(self.source, self.source_port)
    }

    fn to(&self) -> String {
        end(self.destination, self.destination_port)
    }

    fn turned(&self) -> Self {
        Self {
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

fn end(address: Option<IpAddr>, port: Option<u16>) -> String {
    match address {
        Some(IpAddr::V6(address)) => format!("[{address}]:{}", Known(port)),
        address => format!("{}:{}", Known(address), Known(port)),
    }
}

/// How many there are.
#[derive(Debug, Serialize)]
struct Count {
    connections: u64,
    /// As many may be, in all namespaces together.
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<u32>,
}

impl Render for Count {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{} connections are tracked", self.connections)?;
        match self.most {
            Some(most) if self.connections >= most.into() => {
                writeln!(out, ": the table is full, new ones are dropped.")
            }
            Some(most) => writeln!(out, ", of {most} at most."),
            None => writeln!(out, "."),
        }
    }
}

fn conntrack(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    if !net::tracks(&kernel) {
        out.heading("This kernel tracks no connections: nf_conntrack is not loaded.\n")?;
        return Ok(());
    }
    let namespaces = netns::chosen(cx, "conntrack", args)?;
    let most = kernel.module_symbol("nf_conntrack_max").and_then(|at| Ok(kernel.memory().u32(at)?)).ok();
    let mut count = Count { connections: 0, most };
    for connection in net::tracked(&kernel)? {
        cx.cancel.check()?;
        let Some(connection) = cx.known(connection, "tracked connections", String::new) else { continue };
        let net = connection.net.clone().ok();
        if !net.is_none_or(|net| namespaces.iter().any(|namespace| namespace.at == net)) {
            continue;
        }
        if count.connections == 0 && !args.has("-c") {
            out.heading(TITLES)?;
        }
        count.connections = count.connections.saturating_add(1);
        if !args.has("-c") {
            let row = row(cx, &connection);
            out.row(&row, &())?;
        }
    }
    Ok(out.trailer(&count, &())?)
}

fn row(cx: &mut Cx, connection: &Connection) -> Row {
    let place = || format!("nf_conn {:#}", connection.at);
    let protocol = cx.known(connection.original.protocol.clone(), "PROTO", place);
    if let Err(lacks) = &connection.status {
        cx.lacks(lacks, "FLAGS", place);
    }
    let mut tuple = |tuple: &Tuple| TupleRow {
        source: cx.known(tuple.source.clone(), "FROM", place),
        source_port: tuple.source_port.clone().ok(),
        destination: cx.known(tuple.destination.clone(), "TO", place),
        destination_port: tuple.destination_port.clone().ok(),
    };
    Row {
        original: tuple(&connection.original),
        reply: tuple(&connection.reply),
        connection: connection.at,
        net: connection.net.clone().ok(),
        protocol: protocol
            .map(|number| protocol_name(number.into()).map_or_else(|| number.to_string(), str::to_owned)),
        state: connection.tcp_state.clone(),
        replied: connection.is_replied(),
        assured: connection.is_assured(),
        expires_ns: connection.expires_ns,
        mark: connection.mark.clone().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, source_port: u16, destination: &str, destination_port: u16) -> TupleRow {
        TupleRow {
            source: source.parse().ok(),
            source_port: Some(source_port),
            destination: destination.parse().ok(),
            destination_port: Some(destination_port),
        }
    }

    #[test]
    fn answers_are_shown_where_addresses_are_translated() {
        let row = |reply| Row {
            connection: VirtAddr(0x10),
            net: None,
            protocol: Some("TCP".into()),
            state: Some("ESTABLISHED".into()),
            replied: Some(true),
            assured: Some(true),
            expires_ns: Some(299_000_000_000),
            mark: Some(0),
            original: tuple("10.1.0.1", 55898, "10.1.0.2", 7000),
            reply,
        };
        let text = |row: Row| {
            let mut text = String::new();
            row.render(&(), &mut text).unwrap();
            text
        };
        assert_eq!(
            text(row(tuple("10.1.0.2", 7000, "10.1.0.1", 55898))),
            "0000000000000010 tcp   ESTABLISHED    4m59s assured   10.1.0.1:55898 > 10.1.0.2:7000\n"
        );
        let translated = text(row(tuple("10.1.0.2", 7000, "192.0.2.1", 40000)));
        assert!(translated.ends_with("  answers 10.1.0.2:7000 > 192.0.2.1:40000\n"), "{translated}");
    }

    #[test]
    fn a_full_table_says_so() {
        let say = |connections| {
            let mut text = String::new();
            Count { connections, most: Some(8) }.render(&(), &mut text).unwrap();
            text
        };
        assert_eq!(say(2), "2 connections are tracked, of 8 at most.\n");
        assert!(say(8).contains("full"));
    }
}
