//! Network devices (`struct net_device`, include/linux/netdevice.h) and their addresses (include/linux/inetdevice.h,
//! include/net/if_inet6.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, MemberAddress, Text, walk};

/// The part of `struct net_device` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "net_device")]
pub struct NetDevice {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its name: `eth0`.
    pub name: Field<Text>,
    /// Its number in its namespace.
    #[load(any("ifindex"))]
    pub index: Field<u32>,
    /// `IFF_*` flags (include/uapi/linux/if.h).
    pub flags: Field<u32>,
    /// Bytes of the largest packet.
    pub mtu: Field<u32>,
    /// `ARPHRD_*` (include/uapi/linux/if_arp.h).
    #[load(any("type"))]
    pub kind: Field<u16>,
    /// What IPv4 knows of it (`struct in_device`); null for nothing.
    #[load(any("ip_ptr"))]
    pub ipv4: Field<VirtAddr>,
    /// What IPv6 knows of it (`struct inet6_dev`); null for nothing.
    #[load(any("ip6_ptr"))]
    pub ipv6: Field<VirtAddr>,
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of its network.
    pub prefix: Option<u8>,
}

#[derive(Load)]
#[load(type = "in_device")]
struct InDevice {
    ifa_list: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "in_ifaddr")]
struct InIfaddr {
    ifa_local: Field<Bytes>,
    ifa_prefixlen: Field<u8>,
}

#[derive(Load)]
#[load(type = "inet6_dev")]
struct Inet6Dev {
    addr_list: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "inet6_ifaddr")]
struct Inet6Ifaddr {
    addr: Field<Bytes>,
    prefix_len: Field<u8>,
}

/// The devices of a namespace (`struct net`), as far as the list goes; why it ends early is the last item.
///
/// # Errors
/// The list cannot be found.
pub fn devices(kernel: &Kernel, net: VirtAddr) -> Field<impl Iterator<Item = Field<NetDevice>> + '_> {
    let head = net.add(kernel.offset_of("net", "dev_base_head")?);
    let link = kernel.offset_of("net_device", "dev_list")?;
    let loader = kernel.loader::<NetDevice>();
    Ok(walk::list(kernel.memory(), head).map(move |at| Ok(loader.load(at?.sub(link)))))
}

/// The addresses of a device, those of IPv4 first, and why some are lacking.
#[must_use]
pub fn addresses(kernel: &Kernel, device: &NetDevice) -> (Vec<IpAddress>, Vec<Lacks>) {
    let (mut all, mut lacking) = (Vec::new(), Vec::new());
    let parts = [(&device.ipv4, ipv4 as Part), (&device.ipv6, ipv6 as Part)];
    for (member, part) in parts {
        let read =
            member.clone().and_then(|at| if at.is_null() { Ok(()) } else { part(kernel, at, &mut all) });
        lacking.extend(read.err());
    }
    (all, lacking)
}

type Part = fn(&Kernel, VirtAddr, &mut Vec<IpAddress>) -> Field<()>;

fn ipv4(kernel: &Kernel, at: VirtAddr, all: &mut Vec<IpAddress>) -> Field<()> {
    let first = kernel.load::<InDevice>(at).ifa_list?;
    let loader = kernel.loader::<InIfaddr>();
    for found in walk::null_terminated(kernel.memory(), first, kernel.offset_of("in_ifaddr", "ifa_next")?) {
        let found = loader.load(found?);
        let address = v4(&found.ifa_local?)?.into();
        all.push(IpAddress { address, prefix: found.ifa_prefixlen.ok() });
    }
    Ok(())
}

fn ipv6(kernel: &Kernel, at: VirtAddr, all: &mut Vec<IpAddress>) -> Field<()> {
    let MemberAddress(head) = kernel.load::<Inet6Dev>(at).addr_list?;
    let link = kernel.offset_of("inet6_ifaddr", "if_list")?;
    let loader = kernel.loader::<Inet6Ifaddr>();
    for found in walk::list(kernel.memory(), head) {
        let found = loader.load(found?.sub(link));
        let address = v6(&found.addr?)?.into();
        all.push(IpAddress { address, prefix: found.prefix_len.ok() });
    }
    Ok(())
}

/// An IPv4 address out of a `__be32`.
pub(super) fn v4(Bytes(raw): &Bytes) -> Field<Ipv4Addr> {
    let octets = <[u8; 4]>::try_from(raw.as_slice());
    octets.map(Ipv4Addr::from).map_err(|_| Lacks::implausible("an IPv4 address that is not of 4 bytes"))
}

/// An IPv6 address out of a `struct in6_addr`.
pub(super) fn v6(Bytes(raw): &Bytes) -> Field<Ipv6Addr> {
    let octets = <[u8; 16]>::try_from(raw.as_slice());
    octets.map(Ipv6Addr::from).map_err(|_| Lacks::implausible("an IPv6 address that is not of 16 bytes"))
}

/// An address of a given family in memory.
pub(super) fn read_address(memory: &dyn VirtualMemory, at: VirtAddr, bytes: u32) -> Field<Option<IpAddr>> {
    Ok(match bytes {
        4 => Some(v4(&Bytes(memory.bytes(at, 4)?))?.into()),
        16 => Some(v6(&Bytes(memory.bytes(at, 16)?))?.into()),
        _ => None,
    })
}
