// SPDX-License-Identifier: MIT OR Apache-2.0
// No progress: a CPU that never schedules, one that takes no interrupts, two tasks that wait for each other.
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include "crasher.h"

static DEFINE_MUTEX(lock_a);
static DEFINE_MUTEX(lock_b);

static noinline void spin_without_preemption(void)
{
	preempt_disable();
	for (;;)
		cpu_relax();
}

void crash_softlockup(void)
{
	pr_info("crasher: about to spin with preemption off\n");
	spin_without_preemption();
}

static noinline void spin_without_interrupts(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

// On CPU 0: the lab injects an NMI, and only the boot CPU listens to that line.
void crash_hardlockup(void)
{
	set_cpus_allowed_ptr(current, cpumask_of(0));
	pr_info("crasher: waiting for an NMI with interrupts off\n");
	spin_without_interrupts();
}

static noinline void take_both(struct mutex *first, struct mutex *second)
{
	mutex_lock(first);
	msleep(500);
	mutex_lock(second);
	mutex_unlock(second);
	mutex_unlock(first);
}

static int abba_one(void *unused)
{
	take_both(&lock_a, &lock_b);
	return 0;
}

static int abba_two(void *unused)
{
	take_both(&lock_b, &lock_a);
	return 0;
}

// The hung-task watchdog panics, seconds later.
void crash_deadlock(void)
{
	kthread_run(abba_one, NULL, "abba_one");
	kthread_run(abba_two, NULL, "abba_two");
	pr_info("crasher: abba_one and abba_two deadlock on %px and %px\n", &lock_a, &lock_b);
}
