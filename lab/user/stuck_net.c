// SPDX-License-Identifier: MIT OR Apache-2.0
// A TCP connection whose packets are lost, and a queueing discipline that lets nothing go. The devices are stuck.sh's.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stuck.h"

#define PEER "10.1.0.2"
#define PEER_PORT 7000
#define ACKNOWLEDGED 100
#define UNACKNOWLEDGED 5000
#define DATAGRAMS 5
#define DATAGRAM 100

struct discipline {
	struct nlmsghdr head;
	struct tcmsg message;
	char attributes[256];
};

static void add_attribute(struct nlmsghdr *head, int kind, const void *data, int length)
{
	struct rtattr *attribute = (struct rtattr *)((char *)head + NLMSG_ALIGN(head->nlmsg_len));

	attribute->rta_type = kind;
	attribute->rta_len = RTA_LENGTH(length);
	memcpy(RTA_DATA(attribute), data, length);
	head->nlmsg_len = NLMSG_ALIGN(head->nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

// netem in place of the device's discipline.
static void emulate(const char *device, uint32_t latency, uint32_t loss)
{
	struct tc_netem_qopt options = { .latency = latency, .limit = 1000, .loss = loss };
	struct discipline request = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)), .nlmsg_type = RTM_NEWQDISC,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE },
		.message = { .tcm_ifindex = if_nametoindex(device), .tcm_parent = TC_H_ROOT },
	};
	struct { struct nlmsghdr head; struct nlmsgerr error; char more[512]; } answer = { 0 };
	int netlink = check(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink");

	add_attribute(&request.head, TCA_KIND, "netem", 6);
	add_attribute(&request.head, TCA_OPTIONS, &options, sizeof(options));
	check(send(netlink, &request, request.head.nlmsg_len, 0), "netem");
	recv(netlink, &answer, sizeof(answer), 0);
	if (answer.error.error)
		fprintf(stderr, "lab: netem on %s: %s\n", device, strerror(-answer.error.error));
	close(netlink);
}

static void lose_packets(void)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(PEER_PORT) }, own;
	char bytes[UNACKNOWLEDGED];
	socklen_t length = sizeof(own);
	int connection = check(socket(AF_INET, SOCK_STREAM, 0), "socket");

	memset(bytes, 'x', sizeof(bytes));
	inet_pton(AF_INET, PEER, &peer.sin_addr);
	check(connect(connection, (struct sockaddr *)&peer, sizeof(peer)), PEER);
	check(send(connection, bytes, ACKNOWLEDGED, 0), PEER);
	sleep(1);
	emulate("lossy", 0, UINT32_MAX);
	check(send(connection, bytes, sizeof(bytes), 0), PEER);
	getsockname(connection, (struct sockaddr *)&own, &length);
	fact("tcp %d %d %s %d %d %llu\n", getpid(), ntohs(own.sin_port), PEER, PEER_PORT, UNACKNOWLEDGED, now());
}

static void hold_packets(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	char bytes[DATAGRAM] = "held";
	int datagrams = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	emulate("dummy0", UINT32_MAX, 0);
	inet_pton(AF_INET, "10.2.0.9", &to.sin_addr);
	for (int i = 0; i < DATAGRAMS; i++)
		check(sendto(datagrams, bytes, sizeof(bytes), 0, (struct sockaddr *)&to, sizeof(to)), "dummy0");
	fact("qdisc dummy0 netem %d\n", DATAGRAMS);
}

void stuck_net(void)
{
	spawn("stuck-tcp", lose_packets);
	spawn("stuck-qdisc", hold_packets);
}
