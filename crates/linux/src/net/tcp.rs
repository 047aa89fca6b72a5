//! TCP connections from inside (include/linux/tcp.h, include/net/inet_connection_sock.h): timers, windows,
//! retransmissions.

use kdive_base::{VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load, Loader};
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::namespace::namespaces;
use super::socket::Sock;
use crate::block::Now;

/// The part of `struct tcp_sock` that kdive understands. Sequence numbers wrap.
#[derive(Clone, Debug, Load)]
#[load(type = "tcp_sock")]
struct Raw {
    snd_una: Field<u32>,
    snd_nxt: Field<u32>,
    write_seq: Field<u32>,
    snd_wnd: Field<u32>,
    rcv_wnd: Field<u32>,
    snd_cwnd: Field<u32>,
    snd_ssthresh: Field<u32>,
    mss_cache: Field<u32>,
    srtt_us: Field<u32>,
    packets_out: Field<u32>,
    retrans_out: Field<u32>,
    lost_out: Field<u32>,
    sacked_out: Field<u32>,
    total_retrans: Field<u32>,
    /// In jiffies, 32 bits: when data was sent last.
    lsndtime: Field<u32>,
    /// In jiffies, 32 bits: when anything of use was received last.
    rcv_tstamp: Field<u32>,
    #[load(any("inet_conn.icsk_rto"))]
    rto: Field<u32>,
    #[load(any("inet_conn.icsk_retransmits"))]
    retransmits: Field<u8>,
    #[load(any("inet_conn.icsk_backoff"))]
    backoff: Field<u8>,
    #[load(any("inet_conn.icsk_probes_out"))]
    probes: Field<u8>,
    #[load(any("inet_conn.icsk_pending"))]
    pending: Field<u8>,
    #[load(any("inet_conn.icsk_ca_state"))]
    ca_state: Field<u8>,
    /// In jiffies; since 6.19 the timer itself is asked.
    #[load(any("inet_conn.icsk_timeout"))]
    timeout: Field<u64>,
    #[load(any("inet_conn.icsk_ca_ops"))]
    ca_ops: Field<VirtAddr>,
    /// The timer of retransmissions where it is the socket's own; else that of keepalives.
    #[load(any("inet_conn.icsk_inet.sk.tcp_retransmit_timer.expires"))]
    retransmit_expires: Field<u64>,
    #[load(any("inet_conn.icsk_keepalive_timer.expires", "inet_conn.icsk_inet.sk.sk_timer.expires"))]
    keepalive_expires: Field<u64>,
    #[load(any(
        "inet_conn.icsk_keepalive_timer.entry.pprev",
        "inet_conn.icsk_inet.sk.sk_timer.entry.pprev"
    ))]
    keepalive_pending: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "tcp_congestion_ops")]
struct CongestionOps {
    name: Field<kdive_target::Text>,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timer {
    /// To send again what was not acknowledged (`ICSK_TIME_RETRANS`).
    Retransmit,
    /// To ask whether the closed window has opened (`ICSK_TIME_PROBE0`).
    WindowProbe,
    /// To send the last packet again, in case it was lost (`ICSK_TIME_LOSS_PROBE`).
    LossProbe,
    /// For packets that may only have been reordered (`ICSK_TIME_REO_TIMEOUT`).
    Reorder,
    /// To see whether the other side is alive.
    Keepalive,
}

/// A connection from inside.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Its `struct sock`.
    pub sock: Sock,
    /// Bytes sent and not acknowledged, and bytes not sent yet.
    pub unacknowledged: Field<u32>,
    /// Of these, not sent yet.
    pub unsent: Field<u32>,
    /// Bytes that the other side takes.
    pub send_window: Field<u32>,
    /// Bytes that this side has offered to take.
    pub receive_window: Field<u32>,
    /// Packets that may be on the way.
    pub congestion_window: Field<u32>,
    /// Packets at which it stops growing fast.
    pub slow_start_threshold: Field<u32>,
    /// Bytes of a packet's data.
    pub mss: Field<u32>,
    /// Smoothed time to the other side and back, in microseconds; 0 where none was measured.
    pub round_trip_us: Field<u32>,
    /// Packets on the way.
    pub packets_out: Field<u32>,
    /// Of these, sent again.
    pub retransmitted_out: Field<u32>,
    /// Of these, lost as it seems.
    pub lost_out: Field<u32>,
    /// Of these, told to have come.
    pub sacked_out: Field<u32>,
    /// Packets that were ever sent again.
    pub total_retransmits: Field<u32>,
    /// How often the oldest packet was sent again because nothing came back.
    pub retransmits: Field<u8>,
    /// How often the timeout was doubled.
    pub backoff: Field<u8>,
    /// Probes without an answer.
    pub probes: Field<u8>,
    /// Nanoseconds until a packet counts as lost.
    pub timeout_ns: Option<u64>,
    /// What it waits for, and for how long, in nanoseconds; below zero where it should have come.
    pub timer: Option<(Timer, Option<i64>)>,
    /// `open`, `disorder`, `cwr`, `recovery`, `loss`.
    pub congestion_state: Field<&'static str>,
    /// The algorithm: `cubic`.
    pub congestion_control: Field<String>,
    /// Nanoseconds since data was sent, and since anything was received.
    pub last_sent_ns: Option<u64>,
    /// See there.
    pub last_received_ns: Option<u64>,
}

/// `TCP_TIME_WAIT` and `TCP_NEW_SYN_RECV`: less than a socket is left, or there yet.
const NO_SOCKETS: [u8; 2] = [6, 12];

#[derive(Load)]
#[load(type = "inet_hashinfo")]
struct Hash {
    ehash: Field<VirtAddr>,
    ehash_mask: Field<u32>,
}

#[derive(Load)]
#[load(type = "net")]
struct OfNet {
    /// Since 6.1 a namespace may have a table of its own.
    #[load(any("ipv4.tcp_death_row.hashinfo"))]
    hash: Field<VirtAddr>,
}

/// A table is doubled as memory grows, to this at most.
const MOST_CHAINS: u64 = 1 << 24;

/// The connections of all namespaces, without those that wait for their end (TIME_WAIT) or their beginning.
///
/// # Errors
/// The table cannot be found.
pub fn connections(kernel: &Kernel) -> Field<impl Iterator<Item = Field<Sock>> + '_> {
    let is_less = |sock: &Sock| sock.state.as_ref().is_ok_and(|state| NO_SOCKETS.contains(state));
    Ok(entries(kernel)?.filter(move |entry| !entry.as_ref().is_ok_and(is_less)))
}

/// All entries of the tables of connections. Of those that are less than sockets only `struct sock_common` is right.
pub(super) fn entries(kernel: &Kernel) -> Field<impl Iterator<Item = Field<Sock>> + '_> {
    let mut tables = vec![kernel.symbol("tcp_hashinfo")?];
    if let Ok(all) = namespaces(kernel) {
        tables.extend(all.filter_map(|net| kernel.load::<OfNet>(net.ok()?).hash.ok()));
    }
    let mut seen = FxHashSet::default();
    tables.retain(|at| !at.is_null());
    let tables: Vec<Hash> = tables.into_iter().map(|at| kernel.load::<Hash>(at)).collect();
    let link = kernel.offset_of("sock_common", "skc_nulls_node")?;
    let loader = kernel.loader::<Sock>();
    let places = tables.into_iter().filter_map(|table| Some((table.ehash.ok()?, table.ehash_mask.ok()?)));
    let places: Vec<_> = places.filter(|(at, _)| seen.insert(*at)).collect();
    Ok(places.into_iter().flat_map(move |(at, mask)| {
        let chains = u64::from(mask).saturating_add(1).min(MOST_CHAINS);
        let loader = loader.clone();
        walk::nulls_table(kernel.memory(), at, chains).map(move |node| Ok(loader.load(node?.sub(link))))
    }))
}

/// Reads connections from inside.
pub struct TcpLoader<'k> {
    kernel: &'k Kernel,
    raw: Loader<'k, Raw>,
    now: Now,
}

impl<'k> TcpLoader<'k> {
    /// Bound to a kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, raw: kernel.loader(), now: Now::find(kernel) }
    }

    /// A connection, by its socket.
    #[must_use]
    pub fn load(&self, sock: Sock) -> Tcp {
        let raw = self.raw.load(sock.at);
        let congestion_control = raw.ca_ops.clone().and_then(|at| {
            let kdive_target::Text(name) = self.kernel.load::<CongestionOps>(at).name?;
            Ok(printable(name.as_bytes()))
        });
        Tcp {
            unacknowledged: distance(&raw.snd_una, &raw.write_seq),
            unsent: distance(&raw.snd_nxt, &raw.write_seq),
            timeout_ns: raw.rto.clone().ok().and_then(|ticks| self.now.ticks_ns(ticks.into())),
            timer: self.timer(&raw),
            congestion_state: raw.ca_state.clone().and_then(congestion_state),
            congestion_control,
            last_sent_ns: raw.lsndtime.clone().ok().and_then(|at| self.now.since_jiffies_32(at)),
            last_received_ns: raw.rcv_tstamp.clone().ok().and_then(|at| self.now.since_jiffies_32(at)),
            send_window: raw.snd_wnd,
            receive_window: raw.rcv_wnd,
            congestion_window: raw.snd_cwnd,
            slow_start_threshold: raw.snd_ssthresh,
            mss: raw.mss_cache,
            // The kernel keeps eight times as much.
            round_trip_us: raw.srtt_us.map(|eighths| eighths >> 3),
            packets_out: raw.packets_out,
            retransmitted_out: raw.retrans_out,
            lost_out: raw.lost_out,
            sacked_out: raw.sacked_out,
            total_retransmits: raw.total_retrans,
            retransmits: raw.retransmits,
            backoff: raw.backoff,
            probes: raw.probes,
            sock,
        }
    }

    fn timer(&self, raw: &Raw) -> Option<(Timer, Option<i64>)> {
        let expires = raw.timeout.clone().or_else(|_| raw.retransmit_expires.clone()).ok();
        // ICSK_TIME_*, include/net/inet_connection_sock.h; 2 delayed acknowledgements, long ago.
        let timer = match raw.pending.clone().ok()? {
            1 => Timer::Retransmit,
            3 => Timer::WindowProbe,
            5 => Timer::LossProbe,
            6 => Timer::Reorder,
            _ if raw.keepalive_pending.as_ref().is_ok_and(|link| !link.is_null()) => {
                let expires = raw.keepalive_expires.clone().ok();
                return Some((Timer::Keepalive, expires.and_then(|at| self.now.until_jiffies(at))));
            }
            _ => return None,
        };
        Some((timer, expires.and_then(|at| self.now.until_jiffies(at))))
    }
}

/// `enum tcp_ca_state`, include/uapi/linux/tcp.h.
fn congestion_state(state: u8) -> Field<&'static str> {
    match state {
        0 => Ok("open"),
        1 => Ok("disorder"),
        2 => Ok("cwr"),
        3 => Ok("recovery"),
        4 => Ok("loss"),
        other => Err(Lacks::implausible(format_args!("congestion state {other}"))),
    }
}

fn distance(from: &Field<u32>, to: &Field<u32>) -> Field<u32> {
    let distance = to.clone()?.wrapping_sub(from.clone()?);
    // Behind it: a FIN takes a number of its own.
    Ok(if distance >> 31 == 1 { 0 } else { distance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        assert_eq!(distance(&Ok(u32::MAX), &Ok(2)), Ok(3));
        assert_eq!(distance(&Ok(6), &Ok(5)), Ok(0));
    }
}
