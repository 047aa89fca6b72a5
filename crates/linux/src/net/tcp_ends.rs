//! TCP before and after a connection: sockets that listen (net/ipv4/inet_hashtables.c), and what is left of connections
//! until no packet of theirs can come any more (net/ipv4/inet_timewait_sock.c).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, walk};

use super::socket::{Endpoint, Sock, SocketLoader, Who};
use super::tcp;
use crate::block::Now;

/// A socket that listens.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its `struct sock`: [`Sock::backlog`] connections wait for accept(2), [`Sock::max_backlog`] may.
    pub sock: Sock,
    /// Connections whose handshake is not complete.
    pub handshakes: Field<u32>,
}

/// What is left of a connection (`struct inet_timewait_sock`).
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its address.
    pub at: VirtAddr,
    /// Its namespace (`struct net`).
    pub net: Field<VirtAddr>,
    /// This side.
    pub local: Option<Endpoint>,
    /// The other side.
    pub remote: Option<Endpoint>,
    /// TIME_WAIT (6), or FIN_WAIT2 (5), where the other side has not ended yet.
    pub state: Field<u8>,
    /// Nanoseconds until it is forgotten, below zero where it should have been.
    pub left_ns: Option<i64>,
}

#[derive(Load)]
#[load(type = "inet_hashinfo")]
struct Hash {
    lhash2: Field<VirtAddr>,
    lhash2_mask: Field<u32>,
}

#[derive(Load)]
#[load(type = "inet_connection_sock")]
struct Accepting {
    #[load(any("icsk_accept_queue.qlen.counter"))]
    handshakes: Field<u32>,
}

#[derive(Load)]
#[load(type = "inet_timewait_sock")]
struct TimeWait {
    tw_substate: Field<u8>,
    #[load(any("tw_timer.expires"))]
    expires: Field<u64>,
}

/// The table of listening sockets is sized by memory, to this at most.
const MOST_CHAINS: u64 = 1 << 20;

/// The sockets that listen, of all namespaces: they share a table.
///
/// # Errors
/// The table cannot be found.
pub fn listeners(kernel: &Kernel) -> Field<impl Iterator<Item = Field<Listener>> + '_> {
    let hash: Hash = kernel.load(kernel.symbol("tcp_hashinfo")?);
    let (table, mask) = (hash.lhash2?, hash.lhash2_mask?);
    let bytes = kernel.size_of("inet_listen_hashbucket")?;
    let head = kernel.member("inet_listen_hashbucket", &["nulls_head", "head"])?.offset;
    // Until 5.18 they were linked by a member of their own, in chains that end with null.
    let own = kernel.offset_of("inet_connection_sock", "icsk_listen_portaddr_node");
    let link = own.clone().or_else(|_| kernel.offset_of("sock_common", "skc_nulls_node"))?;
    let (socks, accepting) = (kernel.loader::<Sock>(), kernel.loader::<Accepting>());
    let chains = u64::from(mask).saturating_add(1).min(MOST_CHAINS);
    Ok((0..chains).flat_map(move |chain| {
        let head = table.add(chain.wrapping_mul(bytes)).add(head);
        let nulls = own.is_err().then(|| walk::nulls_table(kernel.memory(), head, 1));
        let plain = own.is_ok().then(|| walk::hash_table(kernel.memory(), head, 1, 0));
        let (socks, accepting) = (socks.clone(), accepting.clone());
        nulls.into_iter().flatten().chain(plain.into_iter().flatten()).map(move |node| {
            let at = node?.sub(link);
            Ok(Listener { sock: socks.load(at), handshakes: accepting.load(at).handshakes })
        })
    }))
}

/// What is left of connections, of all namespaces.
///
/// # Errors
/// The table cannot be found.
pub fn ended(kernel: &Kernel) -> Field<impl Iterator<Item = Field<Ended>> + '_> {
    /// `TCP_TIME_WAIT`.
    const TIME_WAIT: u8 = 6;
    let (sockets, loader, now) = (SocketLoader::new(kernel), kernel.loader::<TimeWait>(), Now::find(kernel));
    let entries = tcp::entries(kernel)?;
    let left = entries.filter(|entry| !matches!(entry, Ok(sock) if sock.state != Ok(TIME_WAIT)));
    Ok(left.map(move |entry| {
        let sock = entry?;
        let raw = loader.load(sock.at);
        let (local, remote) = match sockets.who_in_common(&sock) {
            Who::Inet { local, remote } => (Some(local), Some(remote)),
            _ => (None, None),
        };
        Ok(Ended {
            at: sock.at,
            net: sock.net,
            local,
            remote,
            state: raw.tw_substate,
            left_ns: raw.expires.ok().and_then(|at| now.until_jiffies(at)),
        })
    }))
}
