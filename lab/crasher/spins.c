// SPDX-License-Identifier: MIT OR Apache-2.0
// Processors that do not come on: a spinlock taken twice, a reader of RCU that does not end, interrupts off.
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

#include "crasher.h"

static struct task_struct *start_on(int cpu, int (*function)(void *), const char *name)
{
	struct task_struct *task = kthread_create(function, NULL, "%s", name);

	kthread_bind(task, cpu);
	wake_up_process(task);
	return task;
}

static DEFINE_SPINLOCK(spinlock);

static noinline void spin_lock_again(spinlock_t *lock)
{
	spin_lock(lock);
	pr_info("crasher: survived\n");
}

static int take_twice(void *unused)
{
	spin_lock(&spinlock);
	spin_lock_again(&spinlock);
	return 0;
}

static int take_behind(void *unused)
{
	msleep(500);
	spin_lock_again(&spinlock);
	return 0;
}

// The watchdog panics when one of the two CPUs has spun for long enough.
void crash_spinlock(void)
{
	struct task_struct *twice, *behind;

	behind = start_on(0, take_behind, "spin_behind");
	twice = start_on(1, take_twice, "spin_twice");
	pr_info("crasher: holds %d spinlock %px\n", twice->pid, &spinlock);
	pr_info("crasher: spins %d spinlock %px cpu 1\n", twice->pid, &spinlock);
	pr_info("crasher: spins %d spinlock %px cpu 0\n", behind->pid, &spinlock);
}

static struct rcu_head callbacks[3];

static void never_called(struct rcu_head *unused)
{
	pr_info("crasher: a grace period ended\n");
}

static noinline int read_for_ever(void *unused)
{
	rcu_read_lock();
	preempt_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static noinline int await_grace_period(void *unused)
{
	msleep(500);
	synchronize_rcu();
	pr_info("crasher: survived\n");
	return 0;
}

// The lab sets a short stall timeout.
void crash_rcustall(void)
{
	struct task_struct *reader, *waiter;
	int i;

	reader = start_on(1, read_for_ever, "rcu_reader");
	waiter = start_on(0, await_grace_period, "rcu_waiter");
	msleep(1000);
	for (i = 0; i < ARRAY_SIZE(callbacks); i++)
		call_rcu(&callbacks[i], never_called);
	pr_info("crasher: stalls %d rcu cpu 1\n", reader->pid);
	pr_info("crasher: wants %d rcu gp\n", waiter->pid);
	pr_info("crasher: callbacks %d never_called\n", (int)ARRAY_SIZE(callbacks));
}

static void late_timer_function(struct timer_list *unused)
{
	pr_info("crasher: the timer ran\n");
}

static void late_tasklet_function(unsigned long unused)
{
	pr_info("crasher: the tasklet ran\n");
}

static struct timer_list late_timer;
static DECLARE_TASKLET_OLD(late_tasklet, late_tasklet_function);

static noinline int turn_deaf(void *unused)
{
	timer_setup(&late_timer, late_timer_function, TIMER_PINNED);
	late_timer.expires = jiffies + HZ / 2;
	add_timer_on(&late_timer, 1);
	local_irq_disable();
	tasklet_schedule(&late_tasklet);
	for (;;)
		cpu_relax();
	return 0;
}

static noinline void unheard_function(void *unused)
{
	pr_info("crasher: CPU 1 answered\n");
}

static noinline int call_deaf_cpu(void *unused)
{
	msleep(1000);
	smp_call_function_single(1, unheard_function, NULL, 1);
	return 0;
}

// CPU 1 takes no interrupts; CPU 0 calls it and waits, until the watchdog panics.
void crash_deafcpu(void)
{
	struct task_struct *deaf, *caller;

	deaf = start_on(1, turn_deaf, "deaf");
	caller = start_on(0, call_deaf_cpu, "ipi_caller");
	pr_info("crasher: deaf %d cpu 1\n", deaf->pid);
	pr_info("crasher: calls %d cpu 0 unheard_function\n", caller->pid);
	pr_info("crasher: overdue timer %px late_timer_function cpu 1\n", &late_timer);
	// What comes after a module's start asks all CPUs too, and would be the first to wait.
	msleep(60 * MSEC_PER_SEC);
}
