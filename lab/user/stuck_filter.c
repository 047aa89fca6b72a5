// SPDX-License-Identifier: MIT OR Apache-2.0
// A table of nftables: a chain with two rules, one of which asks for the state of connections, so that they are tracked.
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stuck.h"

#define TABLE "lab"
#define CHAIN "input"
#define PORT 7777

static char batch[4096] __attribute__((aligned(4)));
static unsigned int used, sequence;

static struct nlmsghdr *message(int type, int flags, int family, int group)
{
	struct nlmsghdr *head = (struct nlmsghdr *)(batch + used);
	struct nfgenmsg *body = NLMSG_DATA(head);

	head->nlmsg_type = type;
	head->nlmsg_flags = NLM_F_REQUEST | flags;
	head->nlmsg_seq = ++sequence;
	body->nfgen_family = family;
	body->version = NFNETLINK_V0;
	body->res_id = htons(group);
	head->nlmsg_len = NLMSG_LENGTH(sizeof(*body));
	used += head->nlmsg_len;
	return head;
}

static struct nlattr *add(int type, const void *data, int length)
{
	struct nlattr *attribute = (struct nlattr *)(batch + used);

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + length;
	if (length)
		memcpy((char *)attribute + NLA_HDRLEN, data, length);
	used += NLA_ALIGN(attribute->nla_len);
	return attribute;
}

static struct nlattr *begin(int type)
{
	return add(type | NLA_F_NESTED, NULL, 0);
}

static void end(struct nlattr *attribute)
{
	attribute->nla_len = batch + used - (char *)attribute;
}

static void add_text(int type, const char *text)
{
	add(type, text, strlen(text) + 1);
}

static void add_number(int type, uint32_t number)
{
	number = htonl(number);
	add(type, &number, sizeof(number));
}

static void add_data(int type, const void *data, int length)
{
	struct nlattr *value = begin(type);

	add(NFTA_DATA_VALUE, data, length);
	end(value);
}

static struct nlattr *element, *of_expression;

static void begin_expression(const char *name)
{
	element = begin(NFTA_LIST_ELEM);
	add_text(NFTA_EXPR_NAME, name);
	of_expression = begin(NFTA_EXPR_DATA);
}

static void end_expression(void)
{
	end(of_expression);
	end(element);
}

static void compare(uint32_t operation, const void *data, int length)
{
	begin_expression("cmp");
	add_number(NFTA_CMP_SREG, NFT_REG_1);
	add_number(NFTA_CMP_OP, operation);
	add_data(NFTA_CMP_DATA, data, length);
	end_expression();
}

static void count_and(int32_t verdict)
{
	begin_expression("counter");
	end_expression();
	begin_expression("immediate");
	add_number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	struct nlattr *data = begin(NFTA_IMMEDIATE_DATA), *inner = begin(NFTA_DATA_VERDICT);
	add_number(NFTA_VERDICT_CODE, verdict);
	end(inner);
	end(data);
	end_expression();
}

static struct nlmsghdr *rule;

static struct nlattr *begin_rule(void)
{
	rule = message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, NFPROTO_INET, 0);
	add_text(NFTA_RULE_TABLE, TABLE);
	add_text(NFTA_RULE_CHAIN, CHAIN);
	return begin(NFTA_RULE_EXPRESSIONS);
}

static void close_message(struct nlmsghdr *head)
{
	head->nlmsg_len = batch + used - (char *)head;
}

static void fill(void)
{
	const uint32_t established = 6, none = 0;	// NF_CT_STATE_BIT of ESTABLISHED and RELATED
	const uint16_t port = htons(PORT);
	struct nlmsghdr *head;

	message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	head = message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_CREATE, NFPROTO_INET, 0);
	add_text(NFTA_TABLE_NAME, TABLE);
	close_message(head);
	head = message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, NLM_F_CREATE, NFPROTO_INET, 0);
	add_text(NFTA_CHAIN_TABLE, TABLE);
	add_text(NFTA_CHAIN_NAME, CHAIN);
	struct nlattr *hook = begin(NFTA_CHAIN_HOOK);
	add_number(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
	add_number(NFTA_HOOK_PRIORITY, 0);
	end(hook);
	add_number(NFTA_CHAIN_POLICY, NF_ACCEPT);
	add_text(NFTA_CHAIN_TYPE, "filter");
	close_message(head);

	struct nlattr *list = begin_rule();
	begin_expression("ct");
	add_number(NFTA_CT_DREG, NFT_REG_1);
	add_number(NFTA_CT_KEY, NFT_CT_STATE);
	end_expression();
	begin_expression("bitwise");
	add_number(NFTA_BITWISE_SREG, NFT_REG_1);
	add_number(NFTA_BITWISE_DREG, NFT_REG_1);
	add_number(NFTA_BITWISE_LEN, sizeof(established));
	add_data(NFTA_BITWISE_MASK, &established, sizeof(established));
	add_data(NFTA_BITWISE_XOR, &none, sizeof(none));
	end_expression();
	compare(NFT_CMP_NEQ, &none, sizeof(none));
	count_and(NF_ACCEPT);
	end(list);
	close_message(rule);

	list = begin_rule();
	begin_expression("payload");
	add_number(NFTA_PAYLOAD_DREG, NFT_REG_1);
	add_number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
	add_number(NFTA_PAYLOAD_OFFSET, 2);
	add_number(NFTA_PAYLOAD_LEN, sizeof(port));
	end_expression();
	compare(NFT_CMP_EQ, &port, sizeof(port));
	count_and(NF_DROP);
	end(list);
	close_message(rule);
	message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

void stuck_filter(void)
{
	char answer[8192];
	int netlink = check(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), "netfilter");

	fill();
	check(send(netlink, batch, used, 0), "nftables");
	int length = recv(netlink, answer, sizeof(answer), MSG_DONTWAIT);
	for (struct nlmsghdr *head = (void *)answer; length > 0 && NLMSG_OK(head, length); head = NLMSG_NEXT(head, length)) {
		struct nlmsgerr *error = NLMSG_DATA(head);
		if (head->nlmsg_type == NLMSG_ERROR && error->error)
			fprintf(stderr, "lab: nftables: message %u: %s\n", error->msg.nlmsg_seq, strerror(-error->error));
	}
	fact("nft inet " TABLE " " CHAIN " 2\n");
	// The socket stays open: a table without an owner would stay anyway.
}
