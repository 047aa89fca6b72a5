//! Sockets (`struct socket`, include/linux/net.h; `struct sock`, include/net/sock.h): who talks to whom, in which state,
//! and what waits in the queues.

use std::net::{IpAddr, SocketAddr};

use kdive_base::{VirtAddr, printable};
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, walk};

use super::device::{v4, v6};

/// `AF_*`, include/linux/socket.h.
pub(super) const AF_UNIX: u16 = 1;
/// IPv4.
pub(super) const AF_INET: u16 = 2;
/// IPv6.
pub(super) const AF_INET6: u16 = 10;
/// Messages to and from the kernel.
pub(super) const AF_NETLINK: u16 = 16;
/// Packets as they come from a device.
pub(super) const AF_PACKET: u16 = 17;

const IPPROTO_TCP: u16 = 6;
const TCP_LISTEN: u8 = 10;

/// The part of `struct sock` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "sock")]
pub struct Sock {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Address family: see [`family_name`](super::family_name).
    #[load(any("__sk_common.skc_family"))]
    pub family: Field<u16>,
    /// `SOCK_*`: see [`type_name`](super::type_name).
    #[load(any("sk_type"))]
    pub kind: Field<u16>,
    /// The protocol in its family.
    #[load(any("sk_protocol"))]
    pub protocol: Field<u16>,
    /// See [`state_name`](super::state_name).
    #[load(any("__sk_common.skc_state"))]
    pub state: Field<u8>,
    /// Its namespace (`struct net`).
    #[load(any("__sk_common.skc_net.net"))]
    pub net: Field<VirtAddr>,
    /// The device that it is bound to, by number; 0 for none.
    #[load(any("__sk_common.skc_bound_dev_if"))]
    pub device: Field<u32>,
    /// The `struct socket` that user space holds; null for a socket of the kernel, or one that was closed.
    #[load(any("sk_socket"))]
    pub socket: Field<VirtAddr>,
    /// Bytes of memory that what was received takes.
    #[load(any("sk_backlog.rmem_alloc.counter"))]
    pub receive_memory: Field<u32>,
    /// Bytes of memory that what is to be sent takes, and one.
    #[load(any("sk_wmem_alloc.refs.counter", "sk_wmem_alloc.counter"))]
    pub send_memory: Field<u32>,
    /// Connections that wait for accept(2).
    #[load(any("sk_ack_backlog"))]
    pub backlog: Field<u32>,
    /// As many may wait.
    #[load(any("sk_max_ack_backlog"))]
    pub max_backlog: Field<u32>,
    /// What was received and not read yet (`struct sk_buff_head`).
    #[load(any("sk_receive_queue"))]
    pub receive_queue: Field<MemberAddress>,
    /// Packets in the receive queue.
    #[load(any("sk_receive_queue.qlen"))]
    pub received: Field<u32>,
    /// Packets that wait to be sent.
    #[load(any("sk_write_queue.qlen"))]
    pub unsent: Field<u32>,
    #[load(any("__sk_common.skc_rcv_saddr"))]
    local_v4: Field<Bytes>,
    #[load(any("__sk_common.skc_daddr"))]
    remote_v4: Field<Bytes>,
    #[load(any("__sk_common.skc_v6_rcv_saddr"))]
    local_v6: Field<Bytes>,
    #[load(any("__sk_common.skc_v6_daddr"))]
    remote_v6: Field<Bytes>,
    /// In the order of the network.
    #[load(any("__sk_common.skc_dport"))]
    remote_port: Field<u16>,
    #[load(any("__sk_common.skc_num"))]
    local_number: Field<u16>,
}

/// `struct inet_sock`, include/net/inet_sock.h.
#[derive(Load)]
#[load(type = "inet_sock")]
struct InetSock {
    /// In the order of the network.
    inet_sport: Field<u16>,
}

/// `struct tcp_sock`, include/linux/tcp.h.
#[derive(Load)]
#[load(type = "tcp_sock")]
struct TcpSock {
    rcv_nxt: Field<u32>,
    copied_seq: Field<u32>,
    write_seq: Field<u32>,
    snd_una: Field<u32>,
}

/// `struct unix_sock`, include/net/af_unix.h.
#[derive(Load)]
#[load(type = "unix_sock")]
struct UnixSock {
    addr: Field<VirtAddr>,
    peer: Field<VirtAddr>,
}

/// `struct netlink_sock`, net/netlink/af_netlink.h.
#[derive(Load)]
#[load(type = "netlink_sock")]
struct NetlinkSock {
    portid: Field<u32>,
    dst_portid: Field<u32>,
    groups: Field<VirtAddr>,
    ngroups: Field<u32>,
}

/// `struct packet_sock`, net/packet/internal.h.
#[derive(Load)]
#[load(type = "packet_sock")]
struct PacketSock {
    ifindex: Field<u32>,
    /// In the order of the network.
    num: Field<u16>,
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// IPv4 and IPv6.
    Inet {
        /// This end; the port is the protocol of a raw socket.
        local: Endpoint,
        /// The other end; all zero for none.
        remote: Endpoint,
    },
    /// In this machine.
    Unix {
        /// What it is bound to; an abstract name begins with `@`.
        path: Field<Option<String>>,
        /// The `struct sock` that it is connected to; null for none.
        peer: Field<VirtAddr>,
    },
    /// With the kernel.
    Netlink {
        /// Its own number, often a pid.
        port: Field<u32>,
        /// Who it is connected to; 0 is the kernel.
        peer: Field<u32>,
        /// The groups it listens to, a bit for each of the first 64, the first in the lowest.
        groups: Field<u64>,
    },
    /// With a device.
    Packet {
        /// The device by number; 0 is any.
        device: Field<u32>,
        /// `ETH_P_*`, include/uapi/linux/if_ether.h.
        protocol: Field<u16>,
    },
    /// A family that kdive does not know.
    Other,
}

/// One end of an IP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: Field<IpAddr>,
    /// The port.
    pub port: Field<u16>,
}

impl Endpoint {
    /// The two together.
    #[must_use]
    pub fn known(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(*self.address.as_ref().ok()?, *self.port.as_ref().ok()?))
    }
}

/// What waits in a socket, counted as `ss` and /proc/net do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Bytes received and not read. Of a listening socket the connections that wait.
    pub receive: Field<u64>,
    /// Bytes sent and not acknowledged. Of a listening socket the connections that may wait.
    pub send: Field<u64>,
}

/// Loads sockets. Cheap to clone.
#[derive(Clone)]
pub struct SocketLoader<'k> {
    kernel: &'k Kernel,
    sock: Loader<'k, Sock>,
}

#[derive(Load)]
#[load(type = "socket")]
struct Socket {
    sk: Field<VirtAddr>,
}

impl<'k> SocketLoader<'k> {
    /// A loader bound to this kernel's layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, sock: kernel.loader() }
    }

    /// The `struct sock` at an address.
    #[must_use]
    pub fn load(&self, at: VirtAddr) -> Sock {
        self.sock.load(at)
    }

    /// The `struct socket` of an inode (`SOCKET_I`).
    ///
    /// # Errors
    /// This kernel's layout is not known.
    pub fn of_inode(&self, inode: VirtAddr) -> Field<VirtAddr> {
        let inside = self.kernel.offset_of("socket_alloc", "vfs_inode")?;
        Ok(inode.sub(inside).add(self.kernel.offset_of("socket_alloc", "socket")?))
    }

    /// The `struct sock` of a `struct socket`; null where it has none any more.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sock_of(&self, socket: VirtAddr) -> Field<VirtAddr> {
        self.kernel.load::<Socket>(socket).sk
    }

    /// Who talks to whom.
    #[must_use]
    pub fn who(&self, sock: &Sock) -> Who {
        match sock.family {
            Ok(AF_INET | AF_INET6) => {
                // The number in the order of the machine stays when the port is given back.
                let source = self.kernel.load::<InetSock>(sock.at).inet_sport.map(u16::swap_bytes);
                ends(sock, source.or_else(|_| sock.local_number.clone()))
            }
            Ok(AF_UNIX) => {
                let unix: UnixSock = self.kernel.load(sock.at);
                let path = unix.addr.and_then(|at| self.unix_path(at));
                Who::Unix { path, peer: unix.peer }
            }
            Ok(AF_NETLINK) => {
                let netlink: NetlinkSock = self.kernel.load(sock.at);
                let groups = self.groups(&netlink);
                Who::Netlink { port: netlink.portid, peer: netlink.dst_portid, groups }
            }
            Ok(AF_PACKET) => {
                let packet: PacketSock = self.kernel.load(sock.at);
                Who::Packet { device: packet.ifindex, protocol: packet.num.map(u16::swap_bytes) }
            }
            _ => Who::Other,
        }
    }

    /// The same by what all sockets begin with (`struct sock_common`): for what is less than a socket.
    pub(super) fn who_in_common(&self, sock: &Sock) -> Who {
        match sock.family {
            Ok(AF_INET | AF_INET6) => ends(sock, sock.local_number.clone()),
            _ => Who::Other,
        }
    }

    /// `struct unix_address`: a length that counts the family, and a path that may hold NULs.
    fn unix_path(&self, at: VirtAddr) -> Field<Option<String>> {
        /// `sizeof(struct sockaddr_un)`.
        const MOST: u32 = 110;
        const FAMILY_BYTES: u32 = 2;
        if at.is_null() {
            return Ok(None);
        }
        let memory = self.kernel.memory();
        let length = memory.u32(at.add(self.kernel.offset_of("unix_address", "len")?))?;
        let name = at.add(self.kernel.offset_of("unix_address", "name")?);
        let bytes = length.min(MOST).saturating_sub(FAMILY_BYTES);
        let raw = memory.bytes(name.add(FAMILY_BYTES.into()), bytes as usize)?;
        Ok(path_text(&raw))
    }

    fn groups(&self, netlink: &NetlinkSock) -> Field<u64> {
        let (at, count) = (netlink.groups.clone()?, netlink.ngroups.clone()?);
        if at.is_null() || count == 0 {
            return Ok(0);
        }
        let word = self.kernel.memory().u64(at)?;
        let unused = u64::BITS.saturating_sub(count.min(u64::BITS));
        Ok(word & u64::MAX.checked_shr(unused).unwrap_or(0))
    }

    /// What waits in the socket.
    #[must_use]
    pub fn queues(&self, sock: &Sock) -> Queues {
        if sock.state == Ok(TCP_LISTEN) {
            return Self::listening(sock);
        }
        match (&sock.family, &sock.protocol) {
            (Ok(AF_INET | AF_INET6), Ok(IPPROTO_TCP)) => {
                let tcp: TcpSock = self.kernel.load(sock.at);
                Queues {
                    receive: between(tcp.copied_seq, tcp.rcv_nxt),
                    send: between(tcp.snd_una, tcp.write_seq),
                }
            }
            (Ok(AF_UNIX), _) => Queues { receive: self.queued_bytes(sock), send: unsent(sock) },
            _ => Queues { receive: sock.receive_memory.clone().map(u64::from), send: unsent(sock) },
        }
    }

    fn listening(sock: &Sock) -> Queues {
        Queues { receive: sock.backlog.clone().map(u64::from), send: sock.max_backlog.clone().map(u64::from) }
    }

    /// Bytes of the packets in the receive queue.
    fn queued_bytes(&self, sock: &Sock) -> Field<u64> {
        let MemberAddress(head) = sock.receive_queue.clone()?;
        let (memory, length) = (self.kernel.memory(), self.kernel.offset_of("sk_buff", "len")?);
        let mut bytes = 0_u64;
        // `sk_buff_head` begins as `sk_buff` does: next, then prev.
        for packet in walk::list(memory, head) {
            bytes = bytes.saturating_add(memory.u32(packet?.add(length))?.into());
        }
        Ok(bytes)
    }
}

/// Sequence numbers wrap.
fn between(from: Field<u32>, to: Field<u32>) -> Field<u64> {
    let distance = to?.wrapping_sub(from?);
    // Behind it: a FIN takes a number of its own.
    Ok(if distance >> 31 == 1 { 0 } else { distance.into() })
}

/// One is the socket's own reference (`sk_wmem_alloc_get`).
fn unsent(sock: &Sock) -> Field<u64> {
    sock.send_memory.clone().map(|bytes| u64::from(bytes.saturating_sub(1)))
}

/// A name in the abstract namespace begins with NUL, and NULs in it are its own.
fn path_text(raw: &[u8]) -> Option<String> {
    match raw.split_first() {
        None => None,
        Some((0, [])) => None,
        Some((0, name)) => {
            let shown: Vec<u8> = name.iter().map(|&byte| if byte == 0 { b'@' } else { byte }).collect();
            Some(format!("@{}", printable(&shown)))
        }
        Some(_) => Some(printable(kdive_base::bytes::until_nul(raw))),
    }
}

/// The ends of a connection of IPv4 or IPv6.
fn ends(sock: &Sock, port: Field<u16>) -> Who {
    let (local, remote) = if sock.family == Ok(AF_INET) {
        let address = |of: &Field<Bytes>| of.as_ref().map_err(Lacks::clone).and_then(v4).map(IpAddr::from);
        (address(&sock.local_v4), address(&sock.remote_v4))
    } else {
        let address = |of: &Field<Bytes>| of.as_ref().map_err(Lacks::clone).and_then(v6).map(IpAddr::from);
        (address(&sock.local_v6), address(&sock.remote_v6))
    };
    let local = Endpoint { address: local, port };
    let remote = Endpoint { address: remote, port: sock.remote_port.clone().map(u16::swap_bytes) };
    Who::Inet { local, remote }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_and_never_go_back() {
        assert_eq!(between(Ok(u32::MAX), Ok(2)), Ok(3));
        assert_eq!(between(Ok(5), Ok(5)), Ok(0));
        assert_eq!(between(Ok(6), Ok(5)), Ok(0));
    }

    #[test]
    fn unix_names() {
        assert_eq!(path_text(b""), None);
        assert_eq!(path_text(b"\0"), None);
        assert_eq!(path_text(b"/run/x\0rest"), Some("/run/x".into()));
        assert_eq!(path_text(b"\0ab\0c"), Some("@ab@c".into()));
        assert_eq!(path_text(b"/a\x1b"), Some(printable(b"/a\x1b")));
    }
}
