//! What is shown of a socket.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use kdive_base::VirtAddr;
use kdive_linux::net::{
    Endpoint, Sock, SocketLoader, Who, family_name, netlink_name, protocol_name, state_name, type_name,
};
use kdive_target::{Field, Lacks};
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Hex, Known, UNKNOWN};
use crate::sink::Render;

/// An open socket.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) fd: u32,
    pub(super) socket: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sock: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<End>,
    /// Bytes received and not read; of a listening socket the connections that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_queue: Option<u64>,
    /// Bytes sent and not acknowledged; of a listening socket the connections that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_queue: Option<u64>,
    /// Packets received and not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    received_packets: Option<u32>,
    /// What a unix socket is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The sock of the other end of a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<VirtAddr>,
    /// The number of a netlink socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    port_id: Option<u32>,
    /// The groups of a netlink socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Hex>,
    /// The device of a packet socket, by number; 0 is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u32>,
    /// The protocol of a packet socket (`ETH_P_*`).
    #[serde(skip_serializing_if = "Option::is_none")]
    ethernet_protocol: Option<Hex>,
}

/// An end of a connection.
#[derive(Debug, Serialize)]
struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl fmt::Display for End {
    /// `10.0.2.15-22`, `0:0:0:0:0:0:0:1-22`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}")?,
            Some(IpAddr::V6(address)) => write!(f, "{}", Uncompressed(address))?,
            None => f.write_str(UNKNOWN)?,
        }
        write!(f, "-{}", Known(self.port))
    }
}

/// All eight parts of an address, as crash shows it.
struct Uncompressed(Ipv6Addr);

impl fmt::Display for Uncompressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.segments().into_iter().enumerate() {
            write!(f, "{}{part:x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// How a socket is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// crash's line.
    Line,
    /// And a second one with its state.
    State,
    /// The two addresses only: the structures follow.
    Structures,
}

impl View {
    pub(super) fn titles(self) -> &'static str {
        match self {
            Self::Line | Self::State => {
                "FD      SOCKET            SOCK       FAMILY:TYPE SOURCE-PORT DESTINATION-PORT\n"
            }
            Self::Structures => "FD       SOCKET             SOCK      \n",
        }
    }
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let address = |at: Option<VirtAddr>| at.map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        let (socket, sock) = (address(self.socket), address(self.sock));
        if *view == View::Structures {
            return writeln!(out, "{:>2}  {socket}  {sock}\n", self.fd);
        }
        write!(out, "{:>2} {socket} {sock} ", self.fd)?;
        self.line(out)?;
        if *view == View::State { self.state_line(out) } else { Ok(()) }
    }
}

impl Row {
    pub(super) fn new(fd: u32, socket: VirtAddr) -> Self {
        Self { fd, socket: Some(socket), ..Self::default() }
    }

    fn line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (family, kind) = (Known(self.family.as_deref()), self.kind.as_deref().unwrap_or(UNKNOWN));
        // crash's columns: only these two are made as wide as each other.
        let width = if matches!(kind, "STREAM" | "DGRAM") { 6 } else { 0 };
        let protocol = self.protocol.as_deref().filter(|_| self.family.as_deref() == Some("NETLINK"));
        match protocol {
            Some(protocol) => write!(out, "{family}/{protocol}:{kind:<width$} ")?,
            None => write!(out, "{family}:{kind:<width$} ")?,
        }
        if let (Some(source), Some(destination)) = (&self.source, &self.destination) {
            let (source, destination) = (source.to_string(), destination.to_string());
            match self.family.as_deref() {
                // The shorter one stands in the middle of its column.
                Some("INET6") => write!(out, "{source} {destination:^0$}", source.len())?,
                _ => write!(out, " {source} {destination}")?,
            }
        }
        writeln!(out)
    }

    fn state_line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (receive, send) = (Known(self.receive_queue), Known(self.send_queue));
        write!(out, "   STATE: {}  RECV-Q: {receive}  SEND-Q: {send}", Known(self.state.as_deref()))?;
        if let Some(protocol) = self.protocol.as_deref().filter(|_| self.source.is_some()) {
            write!(out, "  PROTOCOL: {protocol}")?;
        }
        if let Some(path) = &self.path {
            write!(out, "  PATH: {path}")?;
        }
        if let Some(peer) = self.peer {
            write!(out, "  PEER: {peer}")?;
        }
        if let (Some(port), Some(groups)) = (self.port_id, self.groups) {
            write!(out, "  PORT: {port}  GROUPS: {:x}", groups.0)?;
        }
        if let (Some(device), Some(protocol)) = (self.device, self.ethernet_protocol) {
            write!(out, "  IFINDEX: {device}  PROTOCOL: {:04x}", protocol.0)?;
        }
        writeln!(out)
    }

    /// Fills in what is known of a sock. What lacks is noted.
    pub(super) fn fill(&mut self, cx: &mut Cx, loader: &SocketLoader<'_>, sock: &Sock) {
        let mut told = Told { lacking: Vec::new() };
        self.sock = Some(sock.at);
        let family = told.known("FAMILY", sock.family.clone());
        self.family = family.map(|family| named(family_name(family), family));
        self.kind = told.known("TYPE", sock.kind.clone()).map(|kind| named(type_name(kind), kind));
        self.state =
            told.known("STATE", sock.state.clone()).map(|state| named(state_name(state), state.into()));
        let queues = loader.queues(sock);
        self.receive_queue = told.known("RECV-Q", queues.receive);
        self.send_queue = told.known("SEND-Q", queues.send);
        self.received_packets = sock.received.clone().ok();
        let protocol = sock.protocol.clone().ok();
        let who = loader.who(sock);
        self.protocol = protocol.map(|protocol| match &who {
            Who::Inet { .. } => named(protocol_name(protocol), protocol),
            Who::Netlink { .. } => named(netlink_name(protocol), protocol),
            _ => protocol.to_string(),
        });
        self.fill_who(&mut told, who);
        let at = sock.at;
        cx.lacks_together(&told.lacking, || format!("sock {at:#}"));
    }

    fn fill_who(&mut self, told: &mut Told, who: Who) {
        match who {
            Who::Inet { local, remote } => {
                self.source = Some(told.end("SOURCE-PORT", local));
                self.destination = Some(told.end("DESTINATION-PORT", remote));
            }
            Who::Unix { path, peer } => {
                self.path = told.known("PATH", path).flatten();
                self.peer = told.known("PEER", peer).filter(|peer| !peer.is_null());
            }
            Who::Netlink { port, groups, .. } => {
                self.port_id = told.known("PORT", port);
                self.groups = told.known("GROUPS", groups).map(Hex);
            }
            Who::Packet { device, protocol } => {
                self.device = told.known("IFINDEX", device);
                self.ethernet_protocol = told.known("PROTOCOL", protocol).map(|number| Hex(number.into()));
            }
            Who::Other => {}
        }
    }
}

fn named(name: Option<&'static str>, number: u16) -> String {
    name.map_or_else(|| number.to_string(), str::to_owned)
}

/// Collects what lacks.
struct Told {
    lacking: Vec<(&'static str, Lacks)>,
}

impl Told {
    fn known<T>(&mut self, what: &'static str, field: Field<T>) -> Option<T> {
        field.map_err(|lacks| self.lacking.push((what, lacks))).ok()
    }

    fn end(&mut self, what: &'static str, end: Endpoint) -> End {
        End { address: self.known(what, end.address), port: self.known(what, end.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(family: &str, kind: &str, ends: Option<[(&str, u16); 2]>) -> Row {
        let end = |(address, port): (&str, u16)| End { address: address.parse().ok(), port: Some(port) };
        let [source, destination] = ends.map_or([None, None], |ends| ends.map(|of| Some(end(of))));
        let (family, kind) = (Some(family.to_owned()), Some(kind.to_owned()));
        Row { fd: 3, family, kind, source, destination, ..Row::default() }
    }

    fn line(row: &Row) -> String {
        let mut text = String::new();
        row.line(&mut text).unwrap();
        text.trim_end().to_owned()
    }

    #[test]
    fn lines_are_crashs() {
        let inet = |kind| row("INET", kind, Some([("127.0.0.1", 7001), ("0.0.0.0", 0)]));
        assert_eq!(line(&inet("STREAM")), "INET:STREAM  127.0.0.1-7001 0.0.0.0-0");
        assert_eq!(line(&inet("DGRAM")), "INET:DGRAM   127.0.0.1-7001 0.0.0.0-0");
        assert_eq!(line(&inet("RAW")), "INET:RAW  127.0.0.1-7001 0.0.0.0-0");
        let six = |kind, ends| line(&row("INET6", kind, Some(ends)));
        assert_eq!(
            six("STREAM", [("::", 2222), ("::", 0)]),
            "INET6:STREAM 0:0:0:0:0:0:0:0-2222  0:0:0:0:0:0:0:0-0"
        );
        assert_eq!(
            six("DGRAM", [("fec0::5054:ff:fe12:3456", 48907), ("fec0::2", 9)]),
            "INET6:DGRAM  fec0:0:0:0:5054:ff:fe12:3456-48907        fec0:0:0:0:0:0:0:2-9"
        );
        assert_eq!(
            six("STREAM", [("::1", 7002), ("::1", 35652)]),
            "INET6:STREAM 0:0:0:0:0:0:0:1-7002 0:0:0:0:0:0:0:1-35652"
        );
        assert_eq!(line(&row("UNIX", "SEQPACKET", None)), "UNIX:SEQPACKET");
        let netlink = Row { protocol: Some("ROUTE".into()), ..row("NETLINK", "RAW", None) };
        assert_eq!(line(&netlink), "NETLINK/ROUTE:RAW");
    }

    #[test]
    fn the_second_line_says_what_the_family_has() {
        let unix = Row {
            state: Some("ESTABLISHED".into()),
            receive_queue: Some(5),
            path: Some("@bus".into()),
            ..row("UNIX", "STREAM", None)
        };
        let mut text = String::new();
        unix.state_line(&mut text).unwrap();
        assert_eq!(text, "   STATE: ESTABLISHED  RECV-Q: 5  SEND-Q: ?  PATH: @bus\n");
    }
}
