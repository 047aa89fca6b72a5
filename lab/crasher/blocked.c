// SPDX-License-Identifier: MIT OR Apache-2.0
// Grace periods of SRCU and of RCU Tasks that do not end, and a network device whose driver stops its queue for ever.
#include <linux/completion.h>
#include <linux/etherdevice.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/srcu.h>

#include "crasher.h"

DEFINE_STATIC_SRCU(lab_srcu);
static DECLARE_COMPLETION(never);

static noinline int read_srcu(void *unused)
{
	int index = srcu_read_lock(&lab_srcu);

	wait_for_completion(&never);
	srcu_read_unlock(&lab_srcu, index);
	return 0;
}

static noinline int await_srcu(void *unused)
{
	synchronize_srcu(&lab_srcu);
	pr_info("crasher: survived\n");
	return 0;
}

// It gives way, but never of its own will.
static noinline int never_switch(void *unused)
{
	set_user_nice(current, MAX_NICE);
	for (;;) {
		cond_resched();
		cpu_relax();
	}
	return 0;
}

static noinline int await_rcu_tasks(void *unused)
{
	synchronize_rcu_tasks();
	pr_info("crasher: survived\n");
	return 0;
}

// Its driver takes one packet, and no other: the watchdog finds the queue stuck.
static netdev_tx_t take_one(struct sk_buff *packet, struct net_device *device)
{
	netif_stop_queue(device);
	pr_info("crasher: stopped %s queue %px at %llu\n", device->name, netdev_get_tx_queue(device, 0), ktime_get_ns());
	dev_kfree_skb_any(packet);
	return NETDEV_TX_OK;
}

static void note_timeout(struct net_device *device, unsigned int queue)
{
	pr_info("crasher: timeout %s queue %u at %llu\n", device->name, queue, ktime_get_ns());
}

static const struct net_device_ops operations = {
	.ndo_start_xmit = take_one,
	.ndo_tx_timeout = note_timeout,
};

static void set_up(struct net_device *device)
{
	ether_setup(device);
	device->netdev_ops = &operations;
	device->watchdog_timeo = 2 * HZ;
	eth_hw_addr_random(device);
}

static void send_packets(struct net_device *device, int count)
{
	while (count--) {
		struct sk_buff *packet = alloc_skb(128, GFP_KERNEL);

		if (!packet)
			return;
		skb_reserve(packet, ETH_HLEN);
		skb_put_zero(packet, 64);
		packet->dev = device;
		packet->protocol = htons(ETH_P_802_3);
		dev_hard_header(packet, device, ETH_P_802_3, device->dev_addr, device->dev_addr, 64);
		dev_queue_xmit(packet);
	}
}

static void stop_transmit_queue(void)
{
	struct net_device *device = alloc_netdev(0, "deaf%d", NET_NAME_UNKNOWN, set_up);
	int result;

	if (!device || register_netdev(device))
		return;
	rtnl_lock();
	result = dev_open(device, NULL);
	rtnl_unlock();
	if (result)
		pr_info("crasher: %s does not open: %d\n", device->name, result);
	else
		send_packets(device, 4);
}

static struct task_struct *start(int (*function)(void *), const char *name)
{
	return kthread_run(function, NULL, "%s", name);
}

void crash_blocked(void)
{
	struct task_struct *reader, *waiter;

	stop_transmit_queue();
	reader = start(read_srcu, "srcu_reader");
	msleep(200);
	waiter = start(await_srcu, "srcu_waiter");
	pr_info("crasher: reads %d srcu %px\n", reader->pid, &lab_srcu);
	pr_info("crasher: awaits %d srcu %px\n", waiter->pid, &lab_srcu);
	reader = start(never_switch, "tasks_holdout");
	msleep(200);
	waiter = start(await_rcu_tasks, "tasks_waiter");
	pr_info("crasher: reads %d rcu_tasks 0\n", reader->pid);
	pr_info("crasher: awaits %d rcu_tasks 0\n", waiter->pid);
}
