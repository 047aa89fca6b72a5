// SPDX-License-Identifier: MIT OR Apache-2.0
// Tasks that wait for ever, one for each kind of lock, deadlocks among them, and a work item that never ends. The console
// says who holds what (`crasher: holds PID KIND LOCK`) and who wants what (`crasher: wants PID KIND LOCK`).
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/percpu-rwsem.h>
#include <linux/rtmutex.h>
#include <linux/rtnetlink.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/semaphore.h>
#include <linux/wait.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>
#include <linux/ww_mutex.h>

#include "crasher.h"

static DEFINE_MUTEX(mutex_a);
static DEFINE_MUTEX(mutex_b);
static DEFINE_MUTEX(mutex_of_rwsem);
static DEFINE_MUTEX(mutex_of_rtnl);
static DECLARE_RWSEM(rwsem);
static struct semaphore semaphore;
static DEFINE_RT_MUTEX(rt_mutex);
static DEFINE_WW_CLASS(ww_class);
static struct ww_mutex ww_mutex;
static struct percpu_rw_semaphore percpu_rwsem;
static DECLARE_COMPLETION(never);
static DECLARE_WAIT_QUEUE_HEAD(queue);
static unsigned long bits = BIT(3);
static struct page *page;

static void take_mutex(void *lock)
{
	mutex_lock(lock);
}

static void take_rtnl(void *unused)
{
	rtnl_lock();
}

static void take_to_read(void *lock)
{
	down_read(lock);
}

static void take_to_write(void *lock)
{
	down_write(lock);
}

static void take_semaphore(void *lock)
{
	down(lock);
}

static void take_rt_mutex(void *lock)
{
	rt_mutex_lock(lock);
}

static void take_ww_mutex(void *lock)
{
	// Without a context, which would have to outlive this function.
	if (ww_mutex_lock(lock, NULL))
		pr_info("crasher: the ww_mutex was not taken\n");
}

static void take_percpu_to_read(void *lock)
{
	percpu_down_read(lock);
}

static void take_percpu_to_write(void *lock)
{
	percpu_down_write(lock);
}

static void take_page(void *lock)
{
	lock_page(lock);
}

static void await_completion(void *lock)
{
	wait_for_completion(lock);
}

static void await_event(void *lock)
{
	wait_event(*(wait_queue_head_t *)lock, READ_ONCE(bits) == 0);
}

static void await_bit(void *lock)
{
	wait_on_bit(lock, 3, TASK_UNINTERRUPTIBLE);
}

struct lock {
	const char *kind;
	void *at;
	void (*take)(void *at);
};

static struct lock mutex_a_lock = { "mutex", &mutex_a, take_mutex };
static struct lock mutex_b_lock = { "mutex", &mutex_b, take_mutex };
static struct lock mutex_of_rwsem_lock = { "mutex", &mutex_of_rwsem, take_mutex };
static struct lock mutex_of_rtnl_lock = { "mutex", &mutex_of_rtnl, take_mutex };
static struct lock rtnl = { "mutex", NULL, take_rtnl };
static struct lock rwsem_to_read = { "rwsem", &rwsem, take_to_read };
static struct lock rwsem_to_write = { "rwsem", &rwsem, take_to_write };
static struct lock semaphore_lock = { "semaphore", &semaphore, take_semaphore };
static struct lock rt_mutex_of = { "rt_mutex", &rt_mutex, take_rt_mutex };
static struct lock ww_mutex_of = { "ww_mutex", &ww_mutex, take_ww_mutex };
static struct lock percpu_to_read = { "percpu_rwsem", &percpu_rwsem, take_percpu_to_read };
static struct lock percpu_to_write = { "percpu_rwsem", &percpu_rwsem, take_percpu_to_write };
static struct lock page_lock = { "folio", NULL, take_page };
static struct lock completion = { "completion", &never, await_completion };
static struct lock event = { "waitqueue", &queue, await_event };
static struct lock bit = { "bit", &bits, await_bit };

// A thread takes its first lock, lets the others take theirs, and wants the second.
static struct plan {
	const char *name;
	struct lock *holds, *wants;
	unsigned int delay;
} plans[] = {
	{ "mutex_one", &mutex_a_lock, &mutex_b_lock, 500 },
	{ "mutex_two", &mutex_b_lock, &mutex_a_lock, 500 },
	{ "mutex_third", NULL, &mutex_a_lock, 1500 },
	{ "rwsem_reader", &rwsem_to_read, &mutex_of_rwsem_lock, 500 },
	{ "rwsem_writer", &mutex_of_rwsem_lock, &rwsem_to_write, 500 },
	{ "rwsem_late", NULL, &rwsem_to_read, 1500 },
	{ "rtnl_holder", &rtnl, &mutex_of_rtnl_lock, 500 },
	{ "rtnl_wanter", &mutex_of_rtnl_lock, &rtnl, 500 },
	{ "sem_holder", &semaphore_lock, &completion, 500 },
	{ "sem_waiter", NULL, &semaphore_lock, 500 },
	{ "rtm_holder", &rt_mutex_of, &completion, 500 },
	{ "rtm_waiter", NULL, &rt_mutex_of, 500 },
	{ "ww_holder", &ww_mutex_of, &completion, 500 },
	{ "ww_waiter", NULL, &ww_mutex_of, 500 },
	{ "percpu_reader", &percpu_to_read, &completion, 500 },
	{ "percpu_writer", NULL, &percpu_to_write, 500 },
	{ "page_holder", &page_lock, &completion, 500 },
	{ "page_waiter", NULL, &page_lock, 500 },
	{ "event_waiter", NULL, &event, 500 },
	{ "bit_waiter", NULL, &bit, 500 },
};

static noinline int follow_plan(void *data)
{
	struct plan *plan = data;

	if (plan->holds)
		plan->holds->take(plan->holds->at);
	msleep(plan->delay);
	plan->wants->take(plan->wants->at);
	pr_info("crasher: %s was not stopped\n", plan->name);
	wait_for_completion(&never);
	return 0;
}

static void say(const char *verb, struct task_struct *task, struct lock *lock)
{
	if (lock == &rtnl)
		pr_info("crasher: %s %d mutex rtnl_mutex\n", verb, task->pid);
	else if (lock)
		pr_info("crasher: %s %d %s %px\n", verb, task->pid, lock->kind, lock->at);
}

static struct workqueue_struct *workqueue;
static struct work_struct stuck_work, pending_works[3];

static noinline void stuck_work_function(struct work_struct *work)
{
	pr_info("crasher: stuck %d work %px stuck_work_function\n", current->pid, work);
	wait_for_completion(&never);
}

static noinline void pending_work_function(struct work_struct *work)
{
	pr_info("crasher: work %px ran\n", work);
}

static noinline int flush_stuck_work(void *unused)
{
	flush_work(&stuck_work);
	return 0;
}

static void start_works(void)
{
	struct task_struct *flusher;
	int i;

	workqueue = alloc_ordered_workqueue("crasher_wq", 0);
	INIT_WORK(&stuck_work, stuck_work_function);
	queue_work(workqueue, &stuck_work);
	msleep(100);
	for (i = 0; i < ARRAY_SIZE(pending_works); i++) {
		INIT_WORK(&pending_works[i], pending_work_function);
		queue_work(workqueue, &pending_works[i]);
		pr_info("crasher: pending work %px pending_work_function\n", &pending_works[i]);
	}
	flusher = kthread_run(flush_stuck_work, NULL, "wq_flusher");
	pr_info("crasher: flushes %d work %px\n", flusher->pid, &stuck_work);
}

void crash_hung(void)
{
	int i;

	sema_init(&semaphore, 1);
	ww_mutex_init(&ww_mutex, &ww_class);
	if (percpu_init_rwsem(&percpu_rwsem))
		return;
	page = alloc_page(GFP_KERNEL);
	page_lock.at = page;
	start_works();
	for (i = 0; i < ARRAY_SIZE(plans); i++) {
		struct plan *plan = &plans[i];
		struct task_struct *task;

		task = kthread_run(follow_plan, plan, "%s", plan->name);
		say("holds", task, plan->holds);
		say("wants", task, plan->wants);
	}
}
