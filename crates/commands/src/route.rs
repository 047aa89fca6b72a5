//! `route`: the routes of IPv4 and IPv6.

use std::fmt;
use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_linux::net::{Route, Routes, route_kind, route_protocol};
use kdive_target::Lacks;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::netns::{self, Namespace};
use crate::render::{Known, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// Shows routes.
pub(crate) static ROUTE: Command = Command {
    names: &["route"],
    group: Group::Devices,
    summary: "routes of IPv4 and IPv6, by table and namespace",
    operands: "",
    options: &[
        Opt::flag("-4", "only those of IPv4"),
        Opt::flag("-6", "only those of IPv6"),
        Opt::flag("-a", "with the table local, and addresses that the kernel routes itself"),
        Opt::value("-n", "pid | task", "those that a task sees"),
        Opt::flag("-A", "those of all network namespaces"),
    ],
    help: include_str!("route.md"),
    run: Run::Once(route),
};

/// A route.
#[derive(Debug, Serialize)]
struct Row {
    /// Its `struct fib_alias` or `struct fib6_info`.
    route: VirtAddr,
    /// Its namespace, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<u32>,
    /// The number of its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
    /// Bits of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
    /// `unicast`, `blackhole`...
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Who made it: `kernel`, `static`...
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
    /// The address that packets are sent from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    /// Where packets go.
    hops: Vec<HopRow>,
}

/// The next machine.
#[derive(Debug, Serialize)]
struct HopRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    net_device: VirtAddr,
    /// The path cannot be used: the device is down.
    dead: bool,
}

const TITLES: &str =
    "TABLE     DESTINATION              GATEWAY              DEVICE       METRIC TYPE      FROM\n";

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let table = self.table.map_or(UNKNOWN.to_owned(), table_name);
        let destination = match (self.destination, self.prefix) {
            (Some(at), Some(0)) if at.is_unspecified() => "default".to_owned(),
            (Some(at), Some(prefix)) => format!("{at}/{prefix}"),
            (at, _) => Known(at).to_string(),
        };
        write!(out, "{table:<9} {destination:<24} ")?;
        let (kind, protocol) = (Known(self.kind.as_deref()), Known(self.protocol.as_deref()));
        let first = self.hops.first();
        let gateway = first.and_then(|hop| hop.gateway).map_or("-".to_owned(), |at| at.to_string());
        let device = first.map_or("-", |hop| hop.device.as_deref().unwrap_or(UNKNOWN));
        write!(out, "{gateway:<20} {device:<12} {:>6} {kind:<9} {protocol}", Known(self.metric))?;
        if first.is_some_and(|hop| hop.dead) {
            write!(out, ", dead")?;
        }
        if let Some(source) = self.source {
            write!(out, ", source {source}")?;
        }
        writeln!(out)?;
        for hop in self.hops.iter().skip(1) {
            let gateway = hop.gateway.map_or("-".to_owned(), |at| at.to_string());
            let device = Known(hop.device.as_deref());
            writeln!(out, "{:<34} {gateway:<20} {device}{}", "", if hop.dead { "  dead" } else { "" })?;
        }
        Ok(())
    }
}

/// The name of a table (`RT_TABLE_*`).
fn table_name(table: u32) -> String {
    match table {
        253 => "default".into(),
        254 => "main".into(),
        255 => "local".into(),
        other => other.to_string(),
    }
}

/// `RT_TABLE_LOCAL`.
const LOCAL: u32 = 255;
/// `RTN_LOCAL`, `RTN_BROADCAST`, `RTN_ANYCAST`, `RTN_MULTICAST`: addresses of the machine's own.
const OWN: [u8; 4] = [2, 3, 4, 5];
/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`.
const DEAD: u8 = 1 | 16;

fn route(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let namespaces = netns::chosen(cx, "route", args)?;
    let routes = Routes::new(&kernel);
    let (v4, v6) = (!args.has("-6") || args.has("-4"), !args.has("-4") || args.has("-6"));
    if namespaces.len() == 1 {
        out.heading(TITLES)?;
    }
    for namespace in &namespaces {
        if namespaces.len() > 1 {
            out.heading(&namespace.heading())?;
            out.heading(TITLES)?;
        }
        let mut lacking = Vec::new();
        let all = args.has("-a");
        let mut each = |route: Route| show(cx, namespace, all, route, out);
        let mut walked = Ok(());
        if v4 {
            walked = routes.v4(namespace.at, &mut lacking, &mut each);
        }
        if walked.is_ok() && v6 {
            walked = routes.v6(namespace.at, &mut lacking, &mut each);
        }
        for lacks in &lacking {
            cx.lacks(lacks, "routes", || format!("net {:#}", namespace.at));
        }
        walked?;
    }
    Ok(())
}

fn show(
    cx: &mut Cx,
    namespace: &Namespace,
    all: bool,
    route: Route,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    cx.cancel.check()?;
    let is_own = route.table == Ok(LOCAL) || route.kind.as_ref().is_ok_and(|kind| OWN.contains(kind));
    if is_own && !all {
        return Ok(());
    }
    let at = route.at;
    let place = || format!("route {at:#}");
    let lacking: Vec<(&str, Lacks)> = route.lacking.iter().map(|lacks| ("GATEWAY", lacks.clone())).collect();
    cx.lacks_together(&lacking, place);
    let named = |name: fn(u8) -> Option<&'static str>| {
        move |number: u8| name(number).map_or_else(|| number.to_string(), str::to_owned)
    };
    let row = Row {
        route: at,
        namespace: namespace.number,
        table: cx.known(route.table, "TABLE", place),
        destination: cx.known(route.destination, "DESTINATION", place),
        prefix: cx.known(route.prefix, "DESTINATION", place),
        kind: cx.known(route.kind, "TYPE", place).map(named(route_kind)),
        protocol: cx.known(route.protocol, "FROM", place).map(named(route_protocol)),
        scope: route.scope,
        metric: cx.known(route.metric, "METRIC", place),
        source: route.source,
        hops: route
            .hops
            .into_iter()
            .map(|hop| HopRow {
                gateway: hop.gateway,
                device: hop.name,
                net_device: hop.device,
                dead: hop.flags.is_ok_and(|flags| flags & DEAD != 0),
            })
            .collect(),
    };
    Ok(out.row(&row, &())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            route: VirtAddr(0x10),
            namespace: None,
            table: Some(254),
            destination: "0.0.0.0".parse().ok(),
            prefix: Some(0),
            kind: Some("unicast".into()),
            protocol: Some("boot".into()),
            scope: Some(0),
            metric: Some(0),
            source: None,
            hops: vec![HopRow {
                gateway: "10.0.2.2".parse().ok(),
                device: Some("eth0".into()),
                net_device: VirtAddr(0x20),
                dead: false,
            }],
        }
    }

    fn line(row: &Row) -> String {
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        text
    }

    #[test]
    fn lines_stand_under_their_titles() {
        let default =
            "main      default                  10.0.2.2             eth0              0 unicast   boot\n";
        assert_eq!(line(&row()), default);
        let hole = Row { prefix: Some(16), destination: "10.4.0.0".parse().ok(), hops: Vec::new(), ..row() };
        assert!(line(&hole).starts_with("main      10.4.0.0/16              -                    -      "));
        assert_eq!(table_name(7), "7");
    }
}
