//! Routes: the trie of IPv4 (net/ipv4/fib_trie.c) and the tree of IPv6 (net/ipv6/ip6_fib.c).

use std::net::{IpAddr, Ipv4Addr};

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, Text};
use rustc_hash::FxHashSet;

use super::device::{NetDevice, v4, v6};

/// A route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its `struct fib_alias` or `struct fib6_info`.
    pub at: VirtAddr,
    /// Its table: 254 is `main`, 255 `local`.
    pub table: Field<u32>,
    /// Where it leads to.
    pub destination: Field<IpAddr>,
    /// Bits of that which count.
    pub prefix: Field<u8>,
    /// `RTN_*` (include/uapi/linux/rtnetlink.h).
    pub kind: Field<u8>,
    /// `RTPROT_*`: who made it.
    pub protocol: Field<u8>,
    /// `RT_SCOPE_*`; IPv6 has none.
    pub scope: Option<u8>,
    /// Lower ones come first.
    pub metric: Field<u32>,
    /// The address that packets are sent from, where it says.
    pub source: Option<IpAddr>,
    /// Where packets go, with several one after the other.
    pub hops: Vec<Hop>,
    /// Why some of these are lacking.
    pub lacking: Vec<Lacks>,
}

/// The next machine on the way.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The device (`struct net_device`).
    pub device: VirtAddr,
    /// Its name.
    pub name: Option<String>,
    /// Who takes the packets; none for a network that the device is in.
    pub gateway: Option<IpAddr>,
    /// `RTNH_F_*`: 1 dead, 4 on the link, 16 link is down.
    pub flags: Field<u8>,
    /// Its share among several.
    pub weight: Field<u32>,
}

#[derive(Load)]
#[load(type = "net")]
struct Net {
    #[load(any("ipv4.fib_table_hash"))]
    v4: Field<VirtAddr>,
    #[load(any("ipv6.fib_table_hash"))]
    v6: Field<VirtAddr>,
    #[load(any("ipv6.fib6_null_entry"))]
    null_entry: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "fib_table")]
struct Table {
    tb_data: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "key_vector")]
struct Node {
    key: Field<u32>,
    bits: Field<u8>,
    #[load(any("tnode", "leaf"))]
    children: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "fib_alias")]
struct Alias {
    #[load(address)]
    at: VirtAddr,
    fa_info: Field<VirtAddr>,
    fa_type: Field<u8>,
    fa_slen: Field<u8>,
    tb_id: Field<u32>,
}

#[derive(Load)]
#[load(type = "fib_info")]
struct Info {
    fib_protocol: Field<u8>,
    fib_scope: Field<u8>,
    fib_prefsrc: Field<Bytes>,
    fib_priority: Field<u32>,
    fib_nhs: Field<u32>,
    nh: Field<VirtAddr>,
    fib_nh: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "fib_nh_common")]
struct Common {
    nhc_dev: Field<VirtAddr>,
    nhc_gw_family: Field<u8>,
    nhc_flags: Field<u8>,
    nhc_weight: Field<u32>,
    #[load(any("nhc_gw"))]
    gateway: Field<Bytes>,
}

#[derive(Load)]
#[load(type = "nexthop")]
struct NextHop {
    is_group: Field<bool>,
    nh_info: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nh_info")]
struct HopInfo {
    fib_nhc: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "fib6_table")]
struct Table6 {
    tb6_root: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "fib6_node")]
struct Node6 {
    left: Field<VirtAddr>,
    right: Field<VirtAddr>,
    /// Routes that depend on the source too.
    subtree: Field<VirtAddr>,
    leaf: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "fib6_info")]
struct Info6 {
    #[load(address)]
    at: VirtAddr,
    fib6_table: Field<VirtAddr>,
    #[load(any("fib6_dst.addr"))]
    destination: Field<Bytes>,
    #[load(any("fib6_dst.plen"))]
    prefix: Field<u8>,
    #[load(any("fib6_prefsrc.addr"))]
    source: Field<Bytes>,
    #[load(any("fib6_prefsrc.plen"))]
    source_prefix: Field<u8>,
    fib6_metric: Field<u32>,
    fib6_protocol: Field<u8>,
    fib6_type: Field<u8>,
    nh: Field<VirtAddr>,
    fib6_nh: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "fib6_table")]
struct TableId {
    tb6_id: Field<u32>,
}

/// `FIB_TABLE_HASHSZ` and `FIB6_TABLE_HASHSZ` with multiple tables, which distributions have.
const CHAINS: u64 = 256;
/// Bits of an address of IPv4.
const KEY_BITS: u8 = 32;
/// A node of the trie has 2^16 children at most, by its halving; more is damage.
const MOST_BITS: u8 = 20;
/// Nodes of one table: two million routes are a full Internet table twice.
const MOST_NODES: usize = 1 << 23;
const MOST_HOPS: u32 = 1 << 10;

/// `AF_INET`, `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;

/// Tells the routes of a namespace.
pub struct Routes<'k> {
    kernel: &'k Kernel,
    nodes: Loader<'k, Node>,
    aliases: Loader<'k, Alias>,
    infos: Loader<'k, Info>,
    commons: Loader<'k, Common>,
}

impl<'k> Routes<'k> {
    /// Bound to a kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self {
            kernel,
            nodes: kernel.loader(),
            aliases: kernel.loader(),
            infos: kernel.loader(),
            commons: kernel.loader(),
        }
    }

    /// The routes of IPv4 of a namespace (`struct net`), given to `each`, and why some are lacking.
    ///
    /// # Errors
    /// The tables cannot be found, or `each` has enough.
    pub fn v4<E: From<Lacks>>(
        &self,
        net: VirtAddr,
        lacking: &mut Vec<Lacks>,
        each: &mut dyn FnMut(Route) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.kernel.load::<Net>(net).v4?;
        let link = self.kernel.offset_of("fib_table", "tb_hlist")?;
        // Two tables may share a trie: `local` and `main`, until rules come.
        let mut seen = FxHashSet::default();
        for at in walk::hash_table(self.kernel.memory(), table, CHAINS, 0) {
            let trie = match at {
                Ok(at) => self.kernel.load::<Table>(at.sub(link)).tb_data,
                Err(broken) => Err(broken.into()),
            };
            match trie {
                Ok(trie) if seen.insert(trie) => self.trie(trie, lacking, each)?,
                Ok(_) => {}
                Err(lacks) => lacking.push(lacks),
            }
        }
        Ok(())
    }

    fn trie<E>(
        &self,
        root: VirtAddr,
        lacking: &mut Vec<Lacks>,
        each: &mut dyn FnMut(Route) -> Result<(), E>,
    ) -> Result<(), E> {
        let memory = self.kernel.memory();
        let mut seen = FxHashSet::default();
        // The root has one child, whatever its bits say.
        let mut stack = vec![(root, true)];
        while let Some((at, is_root)) = stack.pop() {
            if !seen.insert(at) || seen.len() > MOST_NODES {
                lacking.push(Lacks::implausible("the trie of routes loops"));
                return Ok(());
            }
            let node = self.nodes.load(at);
            let (bits, MemberAddress(children)) = match (node.bits, node.children) {
                (Ok(bits), Ok(children)) => (bits, children),
                (Err(lacks), _) | (_, Err(lacks)) => {
                    lacking.push(lacks);
                    continue;
                }
            };
            if bits == 0 && !is_root {
                self.leaf(node.key, children, lacking, each)?;
                continue;
            }
            let count = if is_root { 1 } else { 1_u64 << bits.min(MOST_BITS) };
            for index in (0..count).rev() {
                match memory.pointer(children.add(index.wrapping_mul(8))) {
                    Ok(child) if !child.is_null() => stack.push((child, false)),
                    Ok(_) => {}
                    Err(missing) => {
                        lacking.push(missing.into());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn leaf<E>(
        &self,
        key: Field<u32>,
        head: VirtAddr,
        lacking: &mut Vec<Lacks>,
        each: &mut dyn FnMut(Route) -> Result<(), E>,
    ) -> Result<(), E> {
        // `fa_list` is the first member.
        for at in walk::hash_table(self.kernel.memory(), head, 1, 0) {
            match at {
                Ok(at) => each(self.alias(&key, at))?,
                Err(broken) => lacking.push(broken.into()),
            }
        }
        Ok(())
    }

    fn alias(&self, key: &Field<u32>, at: VirtAddr) -> Route {
        let alias = self.aliases.load(at);
        let mut lacking = Vec::new();
        let info = match alias.fa_info {
            Ok(at) => self.infos.load(at),
            Err(lacks) => {
                lacking.push(lacks);
                self.infos.load(VirtAddr(0))
            }
        };
        let hops = self.hops(&info.nh, info.fib_nh, info.fib_nhs.unwrap_or(0), "fib_nh", &mut lacking);
        let source = info.fib_prefsrc.ok().and_then(|raw| v4(&raw).ok()).filter(|at| !at.is_unspecified());
        Route {
            at: alias.at,
            table: alias.tb_id,
            destination: key.clone().map(|key| Ipv4Addr::from(key).into()),
            prefix: alias.fa_slen.map(|suffix| KEY_BITS.saturating_sub(suffix)),
            kind: alias.fa_type,
            protocol: info.fib_protocol,
            scope: info.fib_scope.ok(),
            metric: info.fib_priority,
            source: source.map(IpAddr::from),
            hops,
            lacking,
        }
    }

    /// The hops of a route: its own, or those of an object that several routes share (`ip nexthop`).
    fn hops(
        &self,
        shared: &Field<VirtAddr>,
        own: Field<MemberAddress>,
        count: u32,
        record: &str,
        lacking: &mut Vec<Lacks>,
    ) -> Vec<Hop> {
        if let Some(at) = shared.clone().ok().filter(|at| !at.is_null()) {
            let next: NextHop = self.kernel.load(at);
            if next.is_group.unwrap_or(false) {
                lacking.push(Lacks::unavailable("groups of next hops are not followed"));
                return Vec::new();
            }
            let common = next.nh_info.and_then(|at| self.kernel.load::<HopInfo>(at).fib_nhc);
            return match common.and_then(|MemberAddress(at)| self.hop(at)) {
                Ok(hop) => hop.into_iter().collect(),
                Err(lacks) => {
                    lacking.push(lacks);
                    Vec::new()
                }
            };
        }
        let (Ok(MemberAddress(first)), Ok(size)) = (own, self.kernel.size_of(record)) else {
            return Vec::new();
        };
        let mut hops = Vec::new();
        for index in 0..count.min(MOST_HOPS) {
            match self.hop(first.add(u64::from(index).wrapping_mul(size))) {
                Ok(hop) => hops.extend(hop),
                Err(lacks) => lacking.push(lacks),
            }
        }
        hops
    }

    /// `None` where packets go nowhere.
    fn hop(&self, at: VirtAddr) -> Field<Option<Hop>> {
        let common = self.commons.load(at);
        let device = common.nhc_dev?;
        if device.is_null() {
            return Ok(None);
        }
        let gateway = match common.nhc_gw_family? {
            INET => {
                let Bytes(raw) = common.gateway?;
                let octets = raw.get(..4).map(<[u8]>::to_vec).unwrap_or_default();
                Some(v4(&Bytes(octets))?.into())
            }
            INET6 => Some(v6(&common.gateway?)?.into()),
            _ => None,
        };
        let name = self.kernel.load::<NetDevice>(device).name.ok().map(|Text(name)| name);
        Ok(Some(Hop { device, name, gateway, flags: common.nhc_flags, weight: common.nhc_weight }))
    }

    /// The routes of IPv6 of a namespace, as [`Routes::v4`].
    ///
    /// # Errors
    /// As there.
    pub fn v6<E: From<Lacks>>(
        &self,
        net: VirtAddr,
        lacking: &mut Vec<Lacks>,
        each: &mut dyn FnMut(Route) -> Result<(), E>,
    ) -> Result<(), E> {
        let net: Net = self.kernel.load(net);
        let table = net.v6?;
        let none = net.null_entry.ok();
        // Without IPv6 (ipv6.disable=1) there is no table.
        if table.is_null() {
            return Ok(());
        }
        let link = self.kernel.offset_of("fib6_table", "tb6_hlist")?;
        for at in walk::hash_table(self.kernel.memory(), table, CHAINS, 0) {
            let root = match at {
                Ok(at) => self.kernel.load::<Table6>(at.sub(link)).tb6_root,
                Err(broken) => Err(broken.into()),
            };
            match root {
                Ok(MemberAddress(root)) => self.tree(root, none, lacking, each)?,
                Err(lacks) => lacking.push(lacks),
            }
        }
        Ok(())
    }

    fn tree<E: From<Lacks>>(
        &self,
        root: VirtAddr,
        none: Option<VirtAddr>,
        lacking: &mut Vec<Lacks>,
        each: &mut dyn FnMut(Route) -> Result<(), E>,
    ) -> Result<(), E> {
        let (nodes, infos) = (self.kernel.loader::<Node6>(), self.kernel.loader::<Info6>());
        let next = self.kernel.offset_of("fib6_info", "fib6_next")?;
        let mut seen = FxHashSet::default();
        let mut stack = vec![root];
        while let Some(at) = stack.pop() {
            if !seen.insert(at) || seen.len() > MOST_NODES {
                lacking.push(Lacks::implausible("the tree of routes loops"));
                return Ok(());
            }
            let node = nodes.load(at);
            for child in [node.subtree, node.right, node.left] {
                match child {
                    Ok(child) if !child.is_null() => stack.push(child),
                    Ok(_) => {}
                    // A kernel without routes by source has no subtree.
                    Err(Lacks::Member { .. }) => {}
                    Err(lacks) => lacking.push(lacks),
                }
            }
            let Ok(leaf) = node.leaf.map_err(|lacks| lacking.push(lacks)) else { continue };
            // Inner nodes borrow the leaf of one below them.
            if leaf.is_null() || Some(leaf) == none || !seen.insert(leaf) {
                continue;
            }
            for at in walk::null_terminated(self.kernel.memory(), leaf, next) {
                match at {
                    Ok(at) => each(self.route6(&infos.load(at)))?,
                    Err(broken) => lacking.push(broken.into()),
                }
            }
        }
        Ok(())
    }

    fn route6(&self, info: &Info6) -> Route {
        let mut lacking = Vec::new();
        let table = info.fib6_table.clone().and_then(|at| self.kernel.load::<TableId>(at).tb6_id);
        let hops = self.hops(&info.nh, info.fib6_nh.clone(), 1, "fib6_nh", &mut lacking);
        let has_source = info.source_prefix.as_ref().is_ok_and(|bits| *bits > 0);
        let source = info.source.as_ref().ok().filter(|_| has_source).and_then(|raw| v6(raw).ok());
        Route {
            at: info.at,
            table,
            destination: info.destination.clone().and_then(|raw| Ok(v6(&raw)?.into())),
            prefix: info.prefix.clone(),
            kind: info.fib6_type.clone(),
            protocol: info.fib6_protocol.clone(),
            scope: None,
            metric: info.fib6_metric.clone(),
            source: source.map(IpAddr::from),
            hops,
            lacking,
        }
    }
}

/// The name of a kind of route (`RTN_*`).
#[must_use]
pub fn kind_name(kind: u8) -> Option<&'static str> {
    const KINDS: [&str; 12] = [
        "unspec",
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "nat",
        "xresolve",
    ];
    KINDS.get(usize::from(kind)).copied()
}

/// The name of who made a route (`RTPROT_*`).
#[must_use]
pub fn protocol_name(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        188 => "ospf",
        _ => return None,
    })
}
