// SPDX-License-Identifier: MIT OR Apache-2.0
// Probes of each kind that stay, and a task that sleeps in a function which the module `patcher` replaces.
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/string.h>

#include "crasher.h"

// Without an ftrace entry, a probe is a breakpoint or, once optimised, a jump.
static noinline notrace int probed_by_breakpoint(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static noinline notrace int probed_by_jump(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static noinline notrace int probed_and_disabled(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static noinline int probed_by_ftrace(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static noinline int probed_at_return(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static int before_probed(struct kprobe *p, struct pt_regs *regs)
{
	return 0;
}

static void after_probed(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static int on_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

// A post handler keeps the probe a breakpoint.
static struct kprobe by_breakpoint = { .pre_handler = before_probed, .post_handler = after_probed };
static struct kprobe by_jump = { .pre_handler = before_probed };
static struct kprobe by_ftrace = { .pre_handler = before_probed };
static struct kprobe disabled = { .pre_handler = before_probed, .flags = KPROBE_FLAG_DISABLED };
// Two probes at one place share it.
static struct kprobe second = { .pre_handler = before_probed };
static struct kretprobe at_return = { .handler = on_return };

static void probe(struct kprobe *with, void *function)
{
	int error;

	with->addr = function;
	error = register_kprobe(with);
	pr_info("crasher: kprobe %px at %px: %d\n", with, function, error);
}

// While a task is in here, the patch that replaces it is not complete.
static noinline void replaced_function(void)
{
	while (!kthread_should_stop())
		msleep_interruptible(1000);
}

static int sleep_in_replaced(void *unused)
{
	replaced_function();
	return 0;
}

void crash_traced(void)
{
	struct task_struct *task;
	int sum;

	probe(&by_breakpoint, probed_by_breakpoint);
	probe(&by_jump, probed_by_jump);
	probe(&by_ftrace, probed_by_ftrace);
	probe(&second, probed_by_breakpoint);
	probe(&disabled, probed_and_disabled);
	at_return.kp.addr = (kprobe_opcode_t *)probed_at_return;
	pr_info("crasher: kretprobe %px at %px: %d\n", &at_return, probed_at_return, register_kretprobe(&at_return));
	msleep(1000);	// the optimiser works in the background
	sum = probed_by_breakpoint(1) + probed_by_jump(2) + probed_by_ftrace(3) + probed_and_disabled(4) + probed_at_return(5);
	trace_printk("sum %d of %s, %llx\n", sum, "five", 0x123456789abcULL);
	trace_printk("only text\n");
	task = kthread_run(sleep_in_replaced, NULL, "patch_holdout");
	pr_info("crasher: patch holdout %d\n", task_pid_nr(task));
}
