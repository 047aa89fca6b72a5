// SPDX-License-Identifier: MIT OR Apache-2.0
// A panic with a trampoline on the stack: kprobe (breakpoint, jump, ftrace), kretprobe, ftrace_ops, BPF JIT code.
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/version.h>

#include "crasher.h"

// `notrace`: without an ftrace entry, a kprobe here must be a breakpoint or, once optimised, a jump.
static noinline notrace int probed(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static noinline int traced(int n)
{
	volatile int doubled = n * 2;

	return doubled + n;
}

static int panic_from_kprobe(struct kprobe *p, struct pt_regs *regs)
{
	panic("crasher: panic from a kprobe");
}

static void ignore_kprobe(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = { .pre_handler = panic_from_kprobe };

static noinline void call_through_kprobe(int (*function)(int))
{
	int error;

	probe.addr = (kprobe_opcode_t *)function;
	error = register_kprobe(&probe);
	pr_info("crasher: kprobe at %pS: %d\n", function, error);
	msleep(1000);	// the optimiser works in the background
	pr_info("crasher: survived with %d\n", function(1));
}

// A post handler keeps the probe a breakpoint.
void crash_kprobe(void)
{
	probe.post_handler = ignore_kprobe;
	call_through_kprobe(probed);
	pr_info("crasher: survived\n");
}

void crash_optprobe(void)
{
	call_through_kprobe(probed);
	pr_info("crasher: survived\n");
}

void crash_ftraceprobe(void)
{
	call_through_kprobe(traced);
	pr_info("crasher: survived\n");
}

static noinline int panic_before_return(int n)
{
	if (n)
		panic("crasher: panic in a function whose return is probed");
	return n + 1;
}

static int ignore_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	return 0;
}

static struct kretprobe return_probe = { .handler = ignore_return, .maxactive = 4 };

static noinline void call_through_kretprobe(void)
{
	int error;

	return_probe.kp.addr = (kprobe_opcode_t *)panic_before_return;
	error = register_kretprobe(&return_probe);
	pr_info("crasher: kretprobe: %d\n", error);
	pr_info("crasher: survived with %d\n", panic_before_return(1));
}

void crash_kretprobe(void)
{
	call_through_kretprobe();
	pr_info("crasher: survived\n");
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
#define FTRACE_REGISTERS struct ftrace_regs
#else
#define FTRACE_REGISTERS struct pt_regs
#endif

static struct task_struct *victim;

static void notrace panic_from_ftrace(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
				      FTRACE_REGISTERS *regs)
{
	if (current == victim)
		panic("crasher: panic from an ftrace hook");
}

static struct ftrace_ops hook = { .func = panic_from_ftrace };

static noinline void sleep_through_hook(void)
{
	msleep(1);
	pr_info("crasher: survived\n");
}

void crash_ftrace(void)
{
	int error = ftrace_set_filter(&hook, "msleep", strlen("msleep"), 1);

	victim = current;
	pr_info("crasher: ftrace filter: %d, hook: %d\n", error, register_ftrace_function(&hook));
	sleep_through_hook();
	pr_info("crasher: survived\n");
}

static noinline notrace u64 fault_in_helper(void)
{
	*(volatile int *)HELPER_OFFSET = 42;
	return 0;
}

// Makes the helper's body ours: the return address stays in the BPF program.
static int divert_to_fault(struct kprobe *p, struct pt_regs *regs)
{
	if (strcmp(current->comm, "trigger"))
		return 0;
	regs->ip = (unsigned long)fault_in_helper;
	return 1;
}

static struct kprobe helper_probe = { .symbol_name = "bpf_ktime_get_ns", .pre_handler = divert_to_fault };

// The process that inserted the module then runs a BPF program that calls this helper.
void crash_bpf(void)
{
	pr_info("crasher: waiting for a BPF program: %d\n", register_kprobe(&helper_probe));
}
