//! The names of numbers that sockets have.

/// An address family (`AF_*`, include/linux/socket.h) without `AF_`.
#[must_use]
pub fn family_name(family: u16) -> Option<&'static str> {
    const NAMES: [&str; 46] = [
        "UNSPEC",
        "UNIX",
        "INET",
        "AX25",
        "IPX",
        "APPLETALK",
        "NETROM",
        "BRIDGE",
        "ATMPVC",
        "X25",
        "INET6",
        "ROSE",
        "DECnet",
        "NETBEUI",
        "SECURITY",
        "KEY",
        "NETLINK",
        "PACKET",
        "ASH",
        "ECONET",
        "ATMSVC",
        "RDS",
        "SNA",
        "IRDA",
        "PPPOX",
        "WANPIPE",
        "LLC",
        "IB",
        "MPLS",
        "CAN",
        "TIPC",
        "BLUETOOTH",
        "IUCV",
        "RXRPC",
        "ISDN",
        "PHONET",
        "IEEE802154",
        "CAIF",
        "ALG",
        "NFC",
        "VSOCK",
        "KCM",
        "QIPCRTR",
        "SMC",
        "XDP",
        "MCTP",
    ];
    NAMES.get(usize::from(family)).copied()
}

/// A kind of socket (`SOCK_*`, include/linux/net.h) without `SOCK_`.
#[must_use]
pub fn type_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "STREAM",
        2 => "DGRAM",
        3 => "RAW",
        4 => "RDM",
        5 => "SEQPACKET",
        6 => "DCCP",
        10 => "PACKET",
        _ => return None,
    })
}

/// A protocol of IP (`IPPROTO_*`, include/uapi/linux/in.h) in small letters.
#[must_use]
pub fn protocol_name(protocol: u16) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        255 => "raw",
        262 => "mptcp",
        _ => return None,
    })
}

/// A protocol of netlink (`NETLINK_*`, include/uapi/linux/netlink.h) without `NETLINK_`.
#[must_use]
pub fn netlink_name(protocol: u16) -> Option<&'static str> {
    const NAMES: [&str; 23] = [
        "ROUTE",
        "UNUSED",
        "USERSOCK",
        "FIREWALL",
        "SOCK_DIAG",
        "NFLOG",
        "XFRM",
        "SELINUX",
        "ISCSI",
        "AUDIT",
        "FIB_LOOKUP",
        "CONNECTOR",
        "NETFILTER",
        "IP6_FW",
        "DNRTMSG",
        "KOBJECT_UEVENT",
        "GENERIC",
        "DM",
        "SCSITRANSPORT",
        "ECRYPTFS",
        "RDMA",
        "CRYPTO",
        "SMC",
    ];
    NAMES.get(usize::from(protocol)).copied()
}

/// A state (`TCP_*`, include/net/tcp_states.h): other protocols use the same numbers for what is alike.
#[must_use]
pub fn state_name(state: u8) -> Option<&'static str> {
    const NAMES: [&str; 13] = [
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
        "BOUND_INACTIVE",
    ];
    NAMES.get(usize::from(state).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_kernels_names() {
        assert_eq!(family_name(1), Some("UNIX"));
        assert_eq!(family_name(10), Some("INET6"));
        assert_eq!(family_name(17), Some("PACKET"));
        assert_eq!(family_name(45), Some("MCTP"));
        assert_eq!(family_name(999), None);
        assert_eq!(
            (state_name(1), state_name(10), state_name(0)),
            (Some("ESTABLISHED"), Some("LISTEN"), None)
        );
        assert_eq!((type_name(5), type_name(0)), (Some("SEQPACKET"), None));
    }
}
