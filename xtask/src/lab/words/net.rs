//! Network devices, neighbours and sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{Faults, hexadecimal, inner, number, pid, same, text};
use crate::lab::truth::Truth;

/// `  eth0:     552 ...`, and `fe80... 02 40 20 80     eth0` of if_inet6.
pub(super) fn devices(truth: &Truth, rows: &[Value]) -> Faults {
    let row = |name: &str| rows.iter().find(|row| text(row, "name") == name);
    let names = truth.lines("net/dev").iter().filter_map(|line| line.split_once(':'));
    let mut faults: Faults = names
        .map(|(name, _)| name.trim())
        .filter(|name| row(name).is_none())
        .map(|name| format!("{name} is missing"))
        .collect();
    for line in truth.lines("net/if_inet6") {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, _, _, name] = words[..] else { continue };
        let Some(address) = u128::from_str_radix(address, 16).ok().map(Ipv6Addr::from) else { continue };
        let addresses =
            row(name).and_then(|row| row.get("addresses")?.as_array().cloned()).unwrap_or_default();
        let is_shown = addresses.iter().any(|shown| text(shown, "address") == address.to_string());
        if !is_shown {
            faults.push(format!("{name} lacks {address}"));
        }
    }
    faults
}

/// `10.0.2.2   0x1   0x2   52:55:0a:00:02:02   *   eth0`
pub(super) fn neighbours(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for line in truth.lines("net/arp").iter().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, flags, hardware, _, device] = words[..] else { continue };
        let Some(row) = rows.iter().find(|row| text(row, "address") == address) else {
            faults.push(format!("{address} is missing"));
            continue;
        };
        faults.extend(same(&format!("device of {address}"), text(row, "device"), device));
        // Only what is complete has an address.
        if flags != "0x0" {
            faults.extend(same(&format!("address of {address}"), text(row, "hardware_address"), hardware));
        }
    }
    faults
}

/// A socket of the first network namespace as /proc/net shows it.
struct Socket {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    state: &'static str,
}

/// include/net/tcp_states.h
const STATES: [&str; 13] = [
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

/// `0100007F:1B59`: words in this machine's order.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |from: usize| Some((hexadecimal(address.get(from..from + 8)?)? as u32).swap_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        _ => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::V6(Ipv6Addr::from(
                words.into_iter().fold(0_u128, |all, word| all << 32 | u128::from(word)),
            ))
        }
    };
    Some((address, u16::try_from(hexadecimal(port)?).ok()?))
}

/// ` 0: 0100007F:1B5B 00000000:0000 0A ... INODE ...`
fn socket(line: &str) -> Option<(u64, Socket)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let state = STATES.get(usize::try_from(hexadecimal(words.get(3)?)?).ok()?)?;
    let socket = Socket { source: end(words.get(1)?)?, destination: end(words.get(2)?)?, state };
    Some((words.get(9)?.parse().ok()?, socket))
}

/// Sockets are found through the files of processes: `3 socket:[1387]`.
pub(super) fn sockets(truth: &Truth, rows: &[Value]) -> Faults {
    let files = ["net/tcp", "net/tcp6", "net/udp", "net/udp6"];
    let known: BTreeMap<u64, Socket> = files
        .iter()
        .flat_map(|file| truth.lines(file))
        .filter_map(|line| socket(line))
        .filter(|(inode, _)| *inode != 0)
        .collect();
    let mut faults = Faults::new();
    let mut compared = 0;
    for part in rows {
        let pid = pid(part);
        for line in truth.lines(&format!("{pid}/fd")) {
            let Some((fd, inode)) = line.trim_end().split_once(" socket:[") else { continue };
            let row = inner(part)
                .iter()
                .find(|row| number(row, "fd").map(|n| n.to_string()).as_deref() == Some(fd));
            let Some(row) = row else {
                faults.push(format!("{pid}: socket at fd {fd} is missing"));
                continue;
            };
            let inode = inode.trim_end_matches(']').parse().unwrap_or(0);
            // What /proc/net/tcp shows for a socket of MPTCP is the state of one of its connections.
            let is_own = text(row, "protocol") != "mptcp";
            if let Some(socket) = known.get(&inode).filter(|_| is_own) {
                compared += 1;
                faults.extend(differs(&format!("fd {fd} of {pid}"), socket, row));
            }
        }
    }
    if compared == 0 {
        faults.push("no socket of /proc/net was found in a process".into());
    }
    faults
}

fn differs(what: &str, socket: &Socket, row: &Value) -> Option<String> {
    let shown = |name: &str| {
        let end = row.get(name)?;
        Some((text(end, "address").parse().ok()?, u16::try_from(number(end, "port")?).ok()?))
    };
    // Nobody answers at the other end, and the kernel gives up while the words are sent.
    let has_given_up = socket.state == "SYN_SENT" && text(row, "state") == "CLOSE";
    let is_same = shown("source") == Some(socket.source)
        && shown("destination") == Some(socket.destination)
        && (text(row, "state") == socket.state || has_given_up);
    let Socket { source, destination, state } = socket;
    (!is_same).then(|| format!("{what}: {source:?} {destination:?} {state} is shown as {row}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read() {
        assert_eq!(end("0100007F:1B59"), Some(("127.0.0.1".parse().unwrap(), 7001)));
        let text = "00000000000000000000000001000000:1B5A";
        assert_eq!(end(text), Some(("::1".parse().unwrap(), 7002)));
        assert_eq!(end("01:1"), None);
    }

    #[test]
    fn a_socket_in_another_state_is_seen() {
        let line = "1: 0100007F:1B59 00000000:0000 0A 00000000:00000002 00:00000000 00000000 0 0 633 3 0 100";
        let (inode, socket) = socket(line).unwrap();
        assert_eq!((inode, socket.state), (633, "LISTEN"));
        let row = |state: &str| {
            let text = format!(
                r#"{{"source":{{"address":"127.0.0.1","port":7001}},
                "destination":{{"address":"0.0.0.0","port":0}},"state":"{state}"}}"#
            );
            serde_json::from_str::<Value>(&text).unwrap()
        };
        assert_eq!(differs("x", &socket, &row("LISTEN")), None);
        assert!(differs("x", &socket, &row("CLOSE")).is_some());
    }
}
