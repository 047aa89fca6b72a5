//! The network of the scenario `stuck`, as the guest's programs noted it and as `/proc/net` showed it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::stuck::{facts, items, number, text};

/// Packets that may still move between the words and the crash.
const MOVES: u64 = 64;

/// `tcp PID PORT ADDRESS PORT BYTES NANOSECONDS`: the connection whose packets are lost.
pub(super) fn connections(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let facts = facts(known, "tcp");
    if facts.is_empty() {
        faults.push("the guest noted no connection".into());
    }
    for fact in &facts {
        let [_, port, remote, remote_port, bytes, _] = fact[..] else { continue };
        let is = |row: &&Value| {
            number(row, "local_port") == port.parse().ok()
                && text(row, "remote") == Some(remote)
                && number(row, "remote_port") == remote_port.parse().ok()
        };
        let Some(row) = rows.iter().find(is) else {
            faults.push(format!("no connection from port {port}"));
            continue;
        };
        if number(row, "unacknowledged") != bytes.parse().ok() {
            faults
                .push(format!("{:?} bytes unacknowledged instead of {bytes}", number(row, "unacknowledged")));
        }
        if text(row, "timer") != Some("retransmit") {
            faults.push(format!("waits for {:?}", text(row, "timer")));
        }
        faults.extend(like_proc(known, port, row));
    }
    faults
}

/// A line of `/proc/net/tcp`: queues, retransmissions, and from the end the congestion window and threshold.
fn like_proc(known: &Known<'_>, port: &str, row: &Value) -> Faults {
    let mut faults = Faults::new();
    let wanted = format!(":{:04X}", port.parse::<u16>().unwrap_or_default());
    let lines = known.truth.lines("net/tcp").iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let Some(words) =
        lines.into_iter().find(|words| words.get(1).is_some_and(|local| local.ends_with(&wanted)))
    else {
        return vec![format!("/proc/net/tcp has no port {port}")];
    };
    let hex = |index: usize| words.get(index).and_then(|word| u64::from_str_radix(word, 16).ok());
    let decimal = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok());
    let at_most_one_more = |what: &str, found: Option<u64>, told: Option<u64>| match (found, told) {
        (Some(found), Some(told)) if (told..told + 2).contains(&found) => None,
        _ => Some(format!("{what} is {found:?} instead of {told:?}")),
    };
    faults.extend(at_most_one_more("retransmits", number(row, "retransmits"), hex(6)));
    // Unless it was sent again meanwhile.
    if number(row, "retransmits") == hex(6) {
        if number(row, "congestion_window") != decimal(15) {
            faults.push(format!("the congestion window is {:?}", number(row, "congestion_window")));
        }
        // In whole hundredths of a second.
        let hundredths = number(row, "timeout_ns").map(|time| time / 10_000_000);
        if hundredths != decimal(12) {
            faults.push(format!("the timeout is {hundredths:?}"));
        }
    }
    faults
}

/// `tcp -l` and `tcp -t` on the guest that has something of everything: each line of `/proc/net/tcp` in these states.
pub(super) fn listeners(known: &Known<'_>, rows: &[Value]) -> Faults {
    ends(
        known,
        &["0A"],
        |line, row| {
            let waiting = line.get(4).and_then(|queues| queues.split_once(':'));
            let waiting = waiting.and_then(|(_, waiting)| u64::from_str_radix(waiting, 16).ok());
            number(row, "waiting") == waiting
        },
        rows,
    )
}

/// See there. The time that is left is in hundredths of a second; the words take some seconds to be sent.
pub(super) fn ended(known: &Known<'_>, rows: &[Value]) -> Faults {
    const SLACK: f64 = 30.0;
    ends(
        known,
        &["06"],
        |line, row| {
            let told = line.get(5).and_then(|timer| timer.split_once(':'));
            let told =
                told.and_then(|(_, left)| u64::from_str_radix(left, 16).ok()).map(|left| left as f64 / 100.0);
            let left = row.get("left_ns").and_then(Value::as_i64).map(|left| left as f64 / 1e9);
            told.zip(left).is_some_and(|(told, left)| (told - SLACK..=told + 0.1).contains(&left))
        },
        rows,
    )
}

fn ends(
    known: &Known<'_>,
    states: &[&str],
    is_like: impl Fn(&[&str], &Value) -> bool,
    rows: &[Value],
) -> Faults {
    let port = |end: &str| u64::from_str_radix(end.rsplit_once(':')?.1, 16).ok();
    let lines = ["net/tcp", "net/tcp6"].into_iter().flat_map(|file| known.truth.lines(file));
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let wanted: Vec<_> =
        lines.filter(|words| words.get(3).is_some_and(|state| states.contains(state))).collect();
    let mut faults = Faults::new();
    if wanted.is_empty() {
        faults.push(format!("the guest has no socket in the states {states:?}"));
    }
    for line in wanted {
        let (local, remote) = (line.get(1).and_then(|end| port(end)), line.get(2).and_then(|end| port(end)));
        let is = |row: &&Value| {
            number(row, "local_port") == local
                && number(row, "remote_port").is_none_or(|port| Some(port) == remote)
                && is_like(&line, row)
        };
        if rows.iter().filter(is).count() == 0 {
            faults.push(format!("no row is like {line:?}"));
        }
    }
    faults
}

/// A route as a set's element: destination, prefix, gateway, device, metric.
type Route = (IpAddr, u64, Option<IpAddr>, String, u64);

fn route_of(row: &Value) -> Option<Route> {
    let hop = items(row, "hops").first();
    let gateway = hop.and_then(|hop| text(hop, "gateway")).and_then(|at| at.parse().ok());
    let device = hop.and_then(|hop| text(hop, "device")).unwrap_or("*");
    let destination = text(row, "destination")?.parse().ok()?;
    Some((destination, number(row, "prefix")?, gateway, device.into(), number(row, "metric")?))
}

/// `route -4`, against `/proc/net/route`, which shows the table `main` as it lies in memory.
pub(super) fn routes_v4(known: &Known<'_>, rows: &[Value]) -> Faults {
    let told = known.truth.lines("net/route").iter().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = |index: usize| {
            let raw = u32::from_str_radix(words.get(index)?, 16).ok()?;
            Some(Ipv4Addr::from(raw.to_le_bytes()))
        };
        let prefix = u64::from(u32::from(address(7)?).count_ones());
        let gateway = address(2).filter(|at| !at.is_unspecified()).map(IpAddr::from);
        Some((address(1)?.into(), prefix, gateway, (*words.first()?).to_owned(), words.get(6)?.parse().ok()?))
    });
    differences(told.collect(), rows.iter().filter_map(route_of).collect())
}

/// `route -6 -a`, against `/proc/net/ipv6_route`, which shows all tables and the entry for nothing.
pub(super) fn routes_v6(known: &Known<'_>, rows: &[Value]) -> Faults {
    let address = |word: &str| u128::from_str_radix(word, 16).ok().map(Ipv6Addr::from);
    let told = known.truth.lines("net/ipv6_route").iter().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, prefix, _, _, hop, metric, _, _, flags, device] = words[..] else { return None };
        // RTF_NONEXTHOP | RTF_REJECT: the entry for nothing.
        if flags == "00200200" {
            return None;
        }
        let number = |word: &str| u64::from_str_radix(word, 16).ok();
        let gateway = address(hop).filter(|at| !at.is_unspecified()).map(IpAddr::from);
        Some((address(destination)?.into(), number(prefix)?, gateway, device.to_owned(), number(metric)?))
    });
    differences(told.collect(), rows.iter().filter_map(route_of).collect())
}

fn differences<T: Ord + std::fmt::Debug>(told: BTreeSet<T>, found: BTreeSet<T>) -> Faults {
    let mut faults = Faults::new();
    if told.is_empty() {
        faults.push("the guest wrote down nothing".into());
    }
    faults.extend(told.difference(&found).map(|missing| format!("{missing:?} is missing")));
    faults.extend(found.difference(&told).map(|extra| format!("{extra:?} is not there")));
    faults
}

/// A tracked connection: protocol, state, both directions.
type Tracked = (String, Option<String>, Vec<String>);

/// `conntrack`, against `/proc/net/nf_conntrack`.
pub(super) fn tracked(known: &Known<'_>, rows: &[Value]) -> Faults {
    let told = known.truth.lines("net/nf_conntrack").iter().filter_map(|line| -> Option<Tracked> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let protocol = (*words.get(2)?).to_owned();
        let state = words.get(5).filter(|word| !word.contains('=')).map(|&word| word.to_owned());
        let ends = words.iter().filter_map(|word| word.split_once('='));
        let ends = ends.filter(|(key, _)| matches!(*key, "src" | "dst" | "sport" | "dport"));
        Some((protocol, state, ends.map(|(_, value)| value.to_owned()).collect()))
    });
    let found = rows.iter().filter_map(|row| -> Option<Tracked> {
        let mut ends = Vec::new();
        for way in ["original", "reply"] {
            let tuple = row.get(way)?;
            ends.push(text(tuple, "source")?.to_owned());
            ends.push(text(tuple, "destination")?.to_owned());
            ends.push(number(tuple, "source_port")?.to_string());
            ends.push(number(tuple, "destination_port")?.to_string());
        }
        let protocol = text(row, "protocol")?.to_lowercase();
        Some((protocol, text(row, "state").map(str::to_owned), ends))
    });
    differences(told.collect(), found.collect())
}

/// `qdisc DEVICE KIND PACKETS`: the discipline that lets nothing go; the other one drops everything.
pub(super) fn disciplines(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for fact in facts(known, "qdisc") {
        let [device, kind, packets] = fact[..] else { continue };
        let row = rows.iter().find(|row| text(row, "device") == Some(device));
        let root = row.and_then(|row| items(row, "disciplines").first());
        let is = root.is_some_and(|root| {
            text(root, "kind") == Some(kind)
                // IPv6 sends packets of its own on a new device.
                && packets.parse().is_ok_and(|sent: u64| {
                    number(root, "packets").is_some_and(|found| (sent..sent + 6).contains(&found))
                })
                && number(root, "backlog").is_some_and(|bytes| bytes > 0)
        });
        if !is {
            faults.push(format!("{device} has {root:?} instead of {packets} packets in {kind}"));
        }
    }
    let lossy = rows.iter().find(|row| text(row, "device") == Some("lossy"));
    let drops =
        lossy.and_then(|row| items(row, "disciplines").first()).and_then(|root| number(root, "drops"));
    if drops.is_none_or(|drops| drops == 0) {
        faults.push(format!("lossy dropped {drops:?}"));
    }
    let waiting = rows.iter().filter(|row| {
        items(row, "disciplines").iter().any(|of| number(of, "packets").is_some_and(|count| count > 0))
    });
    let others: Vec<_> =
        waiting.filter_map(|row| text(row, "device")).filter(|name| *name != "dummy0").collect();
    faults.extend(others.iter().map(|device| format!("packets wait in {device}, where none were sent")));
    faults
}

/// `qdisc -b`, against `/proc/net/softnet_stat`.
pub(super) fn backlogs(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let lines = known.truth.lines("net/softnet_stat");
    if lines.len() != rows.len() {
        faults.push(format!("{} processors instead of {}", rows.len(), lines.len()));
    }
    for (line, row) in lines.iter().zip(rows) {
        let words: Vec<u64> =
            line.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
        for (key, index) in [("processed", 0), ("dropped", 1), ("time_squeeze", 2)] {
            let (found, told) = (number(row, key), words.get(index).copied());
            let near = found.zip(told).is_some_and(|(found, told)| (told..told + MOVES).contains(&found));
            if !near {
                faults.push(format!("{key} is {found:?} instead of {told:?}"));
            }
        }
    }
    faults
}

/// `nft FAMILY TABLE CHAIN RULES`: what `stuck_filter.c` put there.
pub(super) fn filters(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for fact in facts(known, "nft") {
        let [family, table, chain, count] = fact[..] else { continue };
        let is = |row: &&Value| text(row, "family") == Some(family) && text(row, "name") == Some(table);
        let row = rows.iter().find(is);
        let chain =
            row.and_then(|row| items(row, "chains").iter().find(|of| text(of, "name") == Some(chain)));
        let rules: Vec<Vec<&str>> = chain
            .map(|chain| items(chain, "rules"))
            .unwrap_or_default()
            .iter()
            .map(|rule| items(rule, "expressions").iter().filter_map(Value::as_str).collect())
            .collect();
        if rules.len().to_string() != count {
            faults.push(format!("{} rules instead of {count}", rules.len()));
        }
        // Registers are the kernel's choice, data and verdicts the program's.
        for (index, parts) in
            [(0, ["ct load state", "0x00000006", "accept"]), (1, ["payload load 2b", "0x0000611e", "drop"])]
        {
            let rule = rules.get(index);
            let has = |part: &&str| rule.is_some_and(|rule| rule.iter().any(|of| of.contains(*part)));
            faults.extend(
                parts.iter().filter(|part| !has(part)).map(|part| format!("{part} is not in {rule:?}")),
            );
        }
    }
    faults
}
