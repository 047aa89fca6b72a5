//! Connections that netfilter tracks (include/net/netfilter/nf_conntrack.h).

use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load};

use super::device::{v4, v6};
use crate::block::Now;

/// A tracked connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its `struct nf_conn`.
    pub at: VirtAddr,
    /// Its namespace (`struct net`).
    pub net: Field<VirtAddr>,
    /// As its first packet went.
    pub original: Tuple,
    /// As answers go.
    pub reply: Tuple,
    /// `IPS_*` bits.
    pub status: Field<u64>,
    /// Of TCP, its state: `ESTABLISHED`.
    pub tcp_state: Option<String>,
    /// Nanoseconds until it is forgotten; below zero where it should have been.
    pub expires_ns: Option<i64>,
    /// The number that rules gave it.
    pub mark: Field<u32>,
}

/// A direction.
#[derive(Clone, Debug)]
pub struct Tuple {
    /// Where packets come from.
    pub source: Field<IpAddr>,
    /// Where they go.
    pub destination: Field<IpAddr>,
    /// The port that they come from; of ICMP the identifier.
    pub source_port: Field<u16>,
    /// The port that they go to; of ICMP type and code.
    pub destination_port: Field<u16>,
    /// `IPPROTO_*`.
    pub protocol: Field<u8>,
}

impl Connection {
    /// Whether packets have come both ways (`IPS_SEEN_REPLY`).
    #[must_use]
    pub fn is_replied(&self) -> Option<bool> {
        self.status.as_ref().ok().map(|status| status & 2 != 0)
    }

    /// Whether it is kept when room is short (`IPS_ASSURED`).
    #[must_use]
    pub fn is_assured(&self) -> Option<bool> {
        self.status.as_ref().ok().map(|status| status & 4 != 0)
    }
}

#[derive(Load)]
#[load(type = "nf_conn", module)]
struct Raw {
    #[load(address)]
    at: VirtAddr,
    status: Field<u64>,
    /// In jiffies, 32 bits.
    timeout: Field<u32>,
    #[load(any("ct_net.net"))]
    net: Field<VirtAddr>,
    mark: Field<u32>,
    #[load(any("proto.tcp.state"))]
    tcp_state: Field<u8>,
}

#[derive(Load)]
#[load(type = "nf_conntrack_tuple_hash", module)]
struct RawTuple {
    #[load(any("tuple.src.u3"))]
    source: Field<Bytes>,
    #[load(any("tuple.src.u.all"))]
    source_port: Field<u16>,
    #[load(any("tuple.src.l3num"))]
    family: Field<u16>,
    #[load(any("tuple.dst.u3"))]
    destination: Field<Bytes>,
    #[load(any("tuple.dst.u.all"))]
    destination_port: Field<u16>,
    #[load(any("tuple.dst.protonum"))]
    protocol: Field<u8>,
    /// 0 for the direction of the first packet.
    #[load(any("tuple.dst.dir"))]
    direction: Field<u8>,
}

const INET: u16 = 2;
const TCP: u8 = 6;
/// `nf_conntrack_htable_size` is a million on large machines.
const MOST_CHAINS: u32 = 1 << 26;

/// Whether the kernel tracks connections: the module is loaded.
#[must_use]
pub fn is_there(kernel: &Kernel) -> bool {
    kernel.module_symbol("nf_conntrack_hash").is_ok()
}

/// All tracked connections of all namespaces, as far as the table goes.
///
/// # Errors
/// The table cannot be found.
pub fn connections(kernel: &Kernel) -> Field<impl Iterator<Item = Field<Connection>> + '_> {
    let memory = kernel.memory();
    let table = memory.pointer(kernel.module_symbol("nf_conntrack_hash")?)?;
    let chains = memory.u32(kernel.module_symbol("nf_conntrack_htable_size")?)?;
    if chains > MOST_CHAINS {
        return Err(Lacks::implausible(format_args!("a table of {chains} chains")));
    }
    let inside = kernel.module_member("nf_conn", &["tuplehash"])?.offset;
    let tuples = kernel.loader::<RawTuple>();
    let size = tuples.size()?;
    let raws = kernel.loader::<Raw>();
    let now = Now::find(kernel);
    let states = kernel.module_enumerators("tcp_conntrack").unwrap_or_default();
    Ok(walk::nulls_table(memory, table, chains.into()).filter_map(move |node| {
        let at = match node {
            Ok(at) => at,
            Err(broken) => return Some(Err(broken.into())),
        };
        let original = tuples.load(at);
        match original.direction {
            Ok(0) => {}
            // The way back is found with the way there.
            Ok(_) => return None,
            Err(lacks) => return Some(Err(lacks)),
        }
        let reply = tuples.load(at.add(size));
        let raw = raws.load(at.sub(inside));
        let is_tcp = original.protocol == Ok(TCP);
        let tcp_state = raw.tcp_state.ok().filter(|_| is_tcp).map(|state| {
            let name = states.iter().find(|(_, value)| *value == i128::from(state));
            let name = name.and_then(|(name, _)| name.strip_prefix("TCP_CONNTRACK_"));
            name.map_or_else(|| state.to_string(), str::to_owned)
        });
        Some(Ok(Connection {
            at: raw.at,
            net: raw.net,
            original: tuple(&original),
            reply: tuple(&reply),
            status: raw.status,
            tcp_state,
            expires_ns: raw.timeout.ok().and_then(|at| now.until_jiffies_32(at)),
            mark: raw.mark,
        }))
    }))
}

fn tuple(raw: &RawTuple) -> Tuple {
    let address = |of: &Field<Bytes>| -> Field<IpAddr> {
        let Bytes(bytes) = of.clone()?;
        match raw.family.clone()? {
            INET => Ok(v4(&Bytes(bytes.get(..4).map(<[u8]>::to_vec).unwrap_or_default()))?.into()),
            _ => Ok(v6(&Bytes(bytes))?.into()),
        }
    };
    Tuple {
        source: address(&raw.source),
        destination: address(&raw.destination),
        source_port: raw.source_port.clone().map(u16::swap_bytes),
        destination_port: raw.destination_port.clone().map(u16::swap_bytes),
        protocol: raw.protocol.clone(),
    }
}
