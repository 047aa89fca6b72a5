//! `tcp -l` and `tcp -t`: TCP before and after a connection.

use std::fmt;
use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_linux::net::{self, Endpoint, SocketLoader, Who};
use serde::Serialize;

use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};
use crate::tcp::{Connection, end};

/// A socket that listens.
#[derive(Debug, Serialize)]
struct ListenerRow {
    sock: VirtAddr,
    /// Its `struct net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    net: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_port: Option<u16>,
    /// Connections that wait for accept(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u32>,
    /// As many may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    /// Connections whose handshake is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    handshakes: Option<u32>,
    /// More would be refused: the program does not accept them.
    full: bool,
}

/// What is left of a connection.
#[derive(Debug, Serialize)]
struct EndedRow {
    #[serde(flatten)]
    connection: Connection,
    /// Nanoseconds until it is forgotten, below zero where it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_ns: Option<i64>,
}

fn taken_apart(cx: &mut Cx, of: Option<Endpoint>, what: &str) -> (Option<IpAddr>, Option<u16>) {
    let Some(of) = of else { return (None, None) };
    (cx.known(of.address, what, String::new), of.port.ok())
}

/// Shows sockets that listen.
pub(crate) fn listeners(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let sockets = SocketLoader::new(&kernel);
    let mut titles = Some("SOCK             WAITING  LIMIT HANDSHAKES LOCAL\n");
    for item in net::tcp_listeners(&kernel)? {
        cx.cancel.check()?;
        let Some(listener) = cx.known(item, "listening sockets", String::new) else { continue };
        let local = match sockets.who(&listener.sock) {
            Who::Inet { local, .. } => Some(local),
            _ => None,
        };
        let (local, local_port) = taken_apart(cx, local, "LOCAL");
        let (waiting, limit) = (listener.sock.backlog.ok(), listener.sock.max_backlog.ok());
        let row = ListenerRow {
            sock: listener.sock.at,
            net: listener.sock.net.ok(),
            local,
            local_port,
            waiting,
            limit,
            handshakes: listener.handshakes.ok(),
            full: waiting.zip(limit).is_some_and(|(waiting, limit)| waiting > limit),
        };
        out.heading(titles.take().unwrap_or_default())?;
        out.row(&row, &())?;
    }
    if titles.is_some() {
        out.heading("No TCP socket listens.\n")?;
    }
    Ok(())
}

/// Shows what is left of connections.
pub(crate) fn ended(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut titles = Some("SOCK             STATE       LEFT     LOCAL > REMOTE\n");
    for item in net::tcp_ended(&kernel)? {
        cx.cancel.check()?;
        let Some(of) = cx.known(item, "connections that ended", String::new) else { continue };
        let (local, local_port) = taken_apart(cx, of.local, "LOCAL");
        let (remote, remote_port) = taken_apart(cx, of.remote, "REMOTE");
        let connection = Connection {
            sock: of.at,
            net: of.net.ok(),
            state: of.state.ok().map(Connection::name_of_state),
            local,
            local_port,
            remote,
            remote_port,
        };
        let row = EndedRow { connection, left_ns: of.left_ns };
        out.heading(titles.take().unwrap_or_default())?;
        out.row(&row, &())?;
    }
    if titles.is_some() {
        out.heading("Nothing is left of connections that ended.\n")?;
    }
    Ok(())
}

impl Render for ListenerRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let (waiting, limit, handshakes) = (Known(self.waiting), Known(self.limit), Known(self.handshakes));
        write!(
            out,
            "{} {waiting:>7} {limit:>6} {handshakes:>10} {}",
            self.sock,
            end(self.local, self.local_port)
        )?;
        writeln!(out, "{}", if self.full { "  (full)" } else { "" })
    }
}

impl Render for EndedRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let left = self.left_ns.map(|left| match u64::try_from(left) {
            Ok(left) => Age(left).to_string(),
            Err(_) => "overdue".to_owned(),
        });
        let Connection { sock, state, .. } = &self.connection;
        let (state, ends) = (state.as_deref().unwrap_or(UNKNOWN), self.connection.ends());
        writeln!(out, "{sock} {state:<11} {:<8} {ends}", Known(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_full_is_called_so() {
        let row = ListenerRow {
            sock: VirtAddr(0),
            net: None,
            local: "::1".parse().ok(),
            local_port: Some(22),
            waiting: Some(6),
            limit: Some(5),
            handshakes: Some(0),
            full: true,
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(text, "0000000000000000       6      5          0 [::1]:22  (full)\n");
    }
}
