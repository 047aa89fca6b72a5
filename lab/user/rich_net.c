// SPDX-License-Identifier: MIT OR Apache-2.0
// Sockets of every family, with bytes in their queues, in two network namespaces; neighbours; multicast groups.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rich.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif
#define BACKLOG 5

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	struct sockaddr_un local;
	struct sockaddr_nl netlink;
	struct sockaddr_ll packet;
};

static socklen_t make_address(union address *address, const char *text, int port)
{
	memset(address, 0, sizeof(*address));
	if (strchr(text, ':')) {
		address->six.sin6_family = AF_INET6;
		address->six.sin6_port = htons(port);
		inet_pton(AF_INET6, text, &address->six.sin6_addr);
		return sizeof(address->six);
	}
	address->four.sin_family = AF_INET;
	address->four.sin_port = htons(port);
	inet_pton(AF_INET, text, &address->four.sin_addr);
	return sizeof(address->four);
}

static int bound(int type, int protocol, const char *text, int port)
{
	union address address;
	socklen_t length = make_address(&address, text, port);
	int socket_file = check(socket(address.any.sa_family, type, protocol), text), yes = 1;

	setsockopt(socket_file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	check(bind(socket_file, &address.any, length), text);
	return socket_file;
}

static int connected(int type, int protocol, const char *text, int port)
{
	union address address;
	socklen_t length = make_address(&address, text, port);
	int socket_file = check(socket(address.any.sa_family, type, protocol), text);

	if (connect(socket_file, &address.any, length) < 0 && errno != EINPROGRESS)
		check(-1, text);
	return socket_file;
}

static void fill_queue(int file)
{
	char block[4096];

	memset(block, 'q', sizeof(block));
	while (send(file, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}

// Both ends of established connections, with bytes received and not read, and bytes that no window is left for.
static void tcp_on(const char *text, int port, int protocol)
{
	int listener = bound(SOCK_STREAM, protocol, text, port);

	if (check(listen(listener, BACKLOG), "listen") < 0)
		return;
	int client = connected(SOCK_STREAM, protocol, text, port);
	int server = check(accept(listener, NULL, NULL), "accept");
	check(send(client, "three thousand bytes, nearly", 28, 0), "send");
	fill_queue(server);
	connected(SOCK_STREAM, protocol, text, port);	// accepted by nobody
	connected(SOCK_STREAM, protocol, text, port);
	int half = connected(SOCK_STREAM, protocol, text, port);
	check(accept(listener, NULL, NULL), "accept");
	shutdown(half, SHUT_WR);	// FIN_WAIT2 here, CLOSE_WAIT there
}

static void time_wait(void)
{
	int listener = bound(SOCK_STREAM, 0, "127.0.0.1", 7003);

	check(listen(listener, BACKLOG), "listen");
	int client = connected(SOCK_STREAM, 0, "127.0.0.1", 7003);
	int server = check(accept(listener, NULL, NULL), "accept");
	close(client);
	close(server);
}

static void tcp(void)
{
	tcp_on("127.0.0.1", 7001, 0);
	tcp_on("::1", 7002, 0);
	time_wait();
	check(listen(bound(SOCK_STREAM, 0, "10.0.2.15", 7004), 128), "listen");
	check(listen(bound(SOCK_STREAM, 0, "::", 7005), 128), "listen");
	connected(SOCK_STREAM | SOCK_NONBLOCK, 0, "10.9.0.2", 7006);	// SYN_SENT: dummy0 drops it
	connected(SOCK_STREAM | SOCK_NONBLOCK, 0, "10.0.2.99", 7007);	// a neighbour that does not answer
}

static void mptcp(void)
{
	tcp_on("127.0.0.1", 7010, IPPROTO_MPTCP);
}

static void udp(void)
{
	int four = bound(SOCK_DGRAM, 0, "127.0.0.1", 8001);
	int six = bound(SOCK_DGRAM, 0, "::1", 8002);

	for (int i = 0; i < 3; i++) {
		check(send(connected(SOCK_DGRAM, 0, "127.0.0.1", 8001), "datagram", 8, 0), "UDP");
		check(send(connected(SOCK_DGRAM, 0, "::1", 8002), "datagram", 8, 0), "UDP6");
	}
	check(four, "UDP");
	check(six, "UDP6");
	bound(SOCK_DGRAM, 0, "0.0.0.0", 8003);
	bound(SOCK_DGRAM, IPPROTO_UDPLITE, "127.0.0.1", 8004);
	bound(SOCK_RAW, IPPROTO_ICMP, "127.0.0.1", 0);
	bound(SOCK_RAW, IPPROTO_ICMPV6, "::1", 0);
	check(listen(bound(SOCK_STREAM, IPPROTO_SCTP, "127.0.0.1", 8005), BACKLOG), "SCTP");
}

static void multicast(void)
{
	int four = bound(SOCK_DGRAM, 0, "0.0.0.0", 8101), six = bound(SOCK_DGRAM, 0, "::", 8102);
	struct ip_mreqn group = { .imr_ifindex = if_nametoindex("eth0") };
	struct ip_mreq_source source;
	struct ipv6_mreq group6 = { .ipv6mr_interface = if_nametoindex("eth0") };

	inet_pton(AF_INET, "239.1.2.3", &group.imr_multiaddr);
	check(setsockopt(four, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)), "IP_ADD_MEMBERSHIP");
	inet_pton(AF_INET, "239.1.2.4", &source.imr_multiaddr);
	inet_pton(AF_INET, "10.0.2.15", &source.imr_interface);
	inet_pton(AF_INET, "10.0.2.2", &source.imr_sourceaddr);
	check(setsockopt(four, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof(source)), "source");
	inet_pton(AF_INET6, "ff05::123", &group6.ipv6mr_multiaddr);
	check(setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group6, sizeof(group6)), "IPV6_JOIN_GROUP");
}

// A neighbour by hand, one that answers, and one that does not.
static void neighbours(void)
{
	struct arpreq request = { .arp_flags = ATF_PERM | ATF_COM, .arp_dev = "eth0" };
	static const unsigned char hardware[] = { 2, 0, 0, 0, 0, 0x77 };
	int socket_file = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	union address address;
	make_address(&address, "10.0.2.77", 0);
	request.arp_pa = address.any;
	request.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(request.arp_ha.sa_data, hardware, sizeof(hardware));
	check(ioctl(socket_file, SIOCSARP, &request), "SIOCSARP");
	check(send(connected(SOCK_DGRAM, 0, "10.0.2.2", 9), "x", 1, 0), "gateway");
	check(send(connected(SOCK_DGRAM, 0, "10.0.2.98", 9), "x", 1, 0), "nobody");
	check(send(connected(SOCK_DGRAM, 0, "fec0::2", 9), "x", 1, 0), "gateway6");
}

static socklen_t name_local(union address *address, const char *name)
{
	size_t length = strlen(name);

	memset(address, 0, sizeof(*address));
	address->local.sun_family = AF_UNIX;
	strcpy(address->local.sun_path, name);
	if (*name == '@')
		address->local.sun_path[0] = 0;	// the abstract name space
	return offsetof(struct sockaddr_un, sun_path) + length + (*name != '@');
}

static int local(int type, const char *name, int is_client)
{
	union address address;
	socklen_t length = name_local(&address, name);
	int socket_file = check(socket(AF_UNIX, type, 0), name);

	if (!is_client)
		unlink(name);
	check(is_client ? connect(socket_file, &address.any, length) : bind(socket_file, &address.any, length), name);
	return socket_file;
}

// A file on its way: it is in nobody's table.
static void send_file(int socket_file)
{
	char room[CMSG_SPACE(sizeof(int))] = "";
	struct iovec text = { "file", 4 };
	struct msghdr message = { .msg_iov = &text, .msg_iovlen = 1, .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int passed = open("/dev/null", O_RDONLY);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &passed, sizeof(int));
	check(sendmsg(socket_file, &message, 0), "SCM_RIGHTS");
	close(passed);
}

static void unix_sockets(void)
{
	int stream = local(SOCK_STREAM, "/tmp/rich-stream", 0), pair[2];

	check(listen(stream, BACKLOG), "listen");
	int client = local(SOCK_STREAM, "/tmp/rich-stream", 1);
	check(accept(stream, NULL, NULL), "accept");
	check(send(client, "unread", 6, 0), "send");
	local(SOCK_STREAM, "/tmp/rich-stream", 1);	// accepted by nobody
	check(listen(local(SOCK_STREAM, "@rich-abstract", 0), BACKLOG), "listen");
	local(SOCK_STREAM, "@rich-abstract", 1);
	local(SOCK_DGRAM, "/tmp/rich-dgram", 0);
	check(send(local(SOCK_DGRAM, "/tmp/rich-dgram", 1), "datagram", 8, 0), "dgram");
	check(listen(local(SOCK_SEQPACKET, "/tmp/rich-seqpacket", 0), BACKLOG), "listen");
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	send_file(pair[0]);
}

static void netlink(int protocol, unsigned int groups)
{
	union address address = { .netlink = { .nl_family = AF_NETLINK, .nl_groups = groups } };
	int socket_file = check(socket(AF_NETLINK, SOCK_RAW, protocol), "netlink");

	check(bind(socket_file, &address.any, sizeof(address.netlink)), "netlink");
}

static void packet(int type, int protocol, const char *device)
{
	union address address = { .packet = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol) } };
	int socket_file = check(socket(AF_PACKET, type, htons(protocol)), "packet");

	if (device)
		address.packet.sll_ifindex = if_nametoindex(device);
	check(bind(socket_file, &address.any, sizeof(address.packet)), "packet");
}

static void other_sockets(void)
{
	netlink(NETLINK_ROUTE, RTMGRP_LINK | RTMGRP_IPV4_IFADDR);
	netlink(NETLINK_KOBJECT_UEVENT, 1);
	netlink(NETLINK_GENERIC, 0);
	packet(SOCK_RAW, ETH_P_ALL, "eth0");
	packet(SOCK_DGRAM, ETH_P_IP, NULL);
	packet(SOCK_RAW, ETH_P_ARP, "lo");
}

// The device leaves the namespace of the netlink socket for that of the caller.
static void take_device(int route, const char *device)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
		struct rtattr attribute;
		uint32_t pid;
	} request = {
		.header = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST },
		.link = { .ifi_family = AF_UNSPEC, .ifi_index = if_nametoindex(device) },
		.attribute = { .rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_NET_NS_PID },
		.pid = getpid(),
	};

	check(unshare(CLONE_NEWNET), "unshare net");
	check(send(route, &request, sizeof(request), 0), device);
	close(route);
}

static void other_namespace(void)
{
	take_device(check(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "route"), "veth0");
	check(system("ip link set lo up; ip addr add 10.8.0.2/24 dev veth0; ip link set veth0 up"), "ip");
	tcp_on("10.8.0.2", 7101, 0);
	bound(SOCK_DGRAM, 0, "::", 8201);
	netlink(NETLINK_ROUTE, RTMGRP_LINK);
	packet(SOCK_RAW, ETH_P_ALL, "veth0");
}

// It waits in accept() and in recv().
static void *in_accept(void *unused)
{
	int listener = bound(SOCK_STREAM, 0, "127.0.0.1", 7020);

	check(listen(listener, BACKLOG), "listen");
	accept(listener, NULL, NULL);
	return unused;
}

static void *in_receive(void *unused)
{
	char byte;

	recv(bound(SOCK_DGRAM, 0, "127.0.0.1", 8020), &byte, 1, 0);
	return unused;
}

static void waits_for_net(void)
{
	start_thread("wait-accept", in_accept, NULL);
	start_thread("wait-recv", in_receive, NULL);
}

void rich_net(void)
{
	spawn("rich-tcp", tcp);
	spawn("rich-mptcp", mptcp);
	spawn("rich-udp", udp);
	spawn("rich-mcast", multicast);
	spawn("rich-arp", neighbours);
	spawn("rich-unix", unix_sockets);
	spawn("rich-sockets", other_sockets);
	spawn("rich-netns", other_namespace);
	spawn("rich-netwait", waits_for_net);
}
