// SPDX-License-Identifier: MIT OR Apache-2.0
// A panic from each context that has a stack or an entry of its own.
#include <asm/nmi.h>
#include <linux/cpumask.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/timer.h>

#include "crasher.h"

static noinline void spin_for_interrupt(void)
{
	for (;;)
		cpu_relax();
}

static void panic_from_irq_work(struct irq_work *unused)
{
	panic("crasher: panic from a hard interrupt");
}

static struct irq_work panicking_work;

static noinline void raise_irq_work(void)
{
	init_irq_work(&panicking_work, panic_from_irq_work);
	irq_work_queue(&panicking_work);
	spin_for_interrupt();
}

void crash_hardirq(void)
{
	preempt_disable();
	pr_info("crasher: about to queue irq_work\n");
	raise_irq_work();
}

static void panic_from_timer(struct timer_list *unused)
{
	panic("crasher: panic from a softirq");
}

static void interrupt_from_timer(struct timer_list *unused)
{
	pr_info("crasher: in a softirq, about to queue irq_work\n");
	raise_irq_work();
}

static struct timer_list timer;

static noinline void spin_until_timer(void (*function)(struct timer_list *))
{
	preempt_disable();
	timer_setup(&timer, function, TIMER_PINNED);
	timer.expires = jiffies + HZ / 10;
	add_timer_on(&timer, smp_processor_id());
	spin_for_interrupt();
}

// The timer softirq runs on the way out of the interrupt that ends the spinning.
void crash_softirq(void)
{
	pr_info("crasher: about to start a timer\n");
	spin_until_timer(panic_from_timer);
}

// Process, interrupt, softirq, interrupt.
void crash_nested(void)
{
	pr_info("crasher: about to start a timer\n");
	spin_until_timer(interrupt_from_timer);
}

static void panic_from_ipi(void *unused)
{
	panic("crasher: panic from another CPU's call");
}

// The task that panics is whatever the other CPU ran.
void crash_ipi(void)
{
	int other;

	set_cpus_allowed_ptr(current, cpumask_of(0));
	other = cpumask_any_but(cpu_online_mask, 0);
	pr_info("crasher: about to call CPU %d\n", other);
	smp_call_function_single(other, panic_from_ipi, NULL, 1);
	pr_info("crasher: survived\n");
}

static int panic_from_nmi(unsigned int type, struct pt_regs *regs)
{
	panic("crasher: panic from an NMI");
}

// On CPU 0: the lab injects an NMI, and only the boot CPU listens to that line.
void crash_nmi(void)
{
	set_cpus_allowed_ptr(current, cpumask_of(0));
	register_nmi_handler(NMI_LOCAL, panic_from_nmi, NMI_FLAG_FIRST, "crasher");
	preempt_disable();
	pr_info("crasher: waiting for an NMI\n");
	spin_for_interrupt();
}
