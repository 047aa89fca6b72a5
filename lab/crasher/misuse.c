// SPDX-License-Identifier: MIT OR Apache-2.0
// Memory used after its free and past its end, a count below zero, a division, a jump to data, a broken stack, a flipped
// bit in a pointer, a page table of text, a module that goes before its timer, locks in opposite orders.
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/rtnetlink.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/string.h>
#include <linux/timer.h>

#include "crasher.h"

struct widget {
	u64 spare[WIDGET_SPARE];
	u64 id;
	struct widget *peer;
	u64 (*measure)(struct widget *self);
	u64 numbers[9];
};

static struct kmem_cache *widget_cache;

static struct widget *make_widget(struct widget *peer)
{
	struct widget *widget = kmem_cache_zalloc(widget_cache, GFP_KERNEL);

	widget->peer = peer;
	return widget;
}

static void make_cache(void)
{
	// A constructor would keep it apart, and the free pointer out of the object: this one is like any other.
	widget_cache = kmem_cache_create("widget", sizeof(struct widget), 0, SLAB_ACCOUNT, NULL);
}

static noinline u64 ask_peer(struct widget *widget)
{
	return READ_ONCE(widget->peer->id);
}

// What comes to lie in the object after its free is no pointer.
void crash_useafterfree(void)
{
	struct widget *widget, *other;

	make_cache();
	widget = make_widget(make_widget(NULL));
	kmem_cache_free(widget_cache, widget);
	other = make_widget(NULL);
	memset(other, STALE_BYTE, sizeof(*other) / 2);
	WRITE_ONCE(*(u64 *)&other->peer, STALE_POINTER);
	kmem_cache_free(widget_cache, other);
	pr_info("crasher: about to use %px of the cache %px after its free\n", widget, widget_cache);
	pr_info("crasher: survived with %llu\n", ask_peer(widget));
}

static u64 measure_nothing(struct widget *self)
{
	return self->id;
}

static noinline void write_past(struct widget *widget)
{
	static const char text[] = PAST_TEXT;
	const int length = sizeof(widget->numbers) + offsetof(struct widget, numbers) + PAST_MORE;
	char *numbers = (char *)widget->numbers;
	int at;

	// The compiler must not know where they end: FORTIFY would.
	OPTIMIZER_HIDE_VAR(numbers);
	for (at = 0; at < length; at++)
		numbers[at] = text[at % (sizeof(text) - 1)];
}

static noinline u64 call_measure(struct widget *widget)
{
	u64 measured = widget->measure(widget);

	pr_info("crasher: survived with %llu\n", measured);
	return measured;
}

// The object behind the one that is written past: its pointers are text then.
void crash_outofbounds(void)
{
	struct widget *widgets[64];
	int i, j;

	make_cache();
	for (i = 0; i < ARRAY_SIZE(widgets); i++) {
		widgets[i] = make_widget(NULL);
		widgets[i]->measure = measure_nothing;
	}
	for (i = 0; i < ARRAY_SIZE(widgets); i++)
		for (j = 0; j < ARRAY_SIZE(widgets); j++)
			if ((char *)widgets[j] - (char *)widgets[i] == kmem_cache_size(widget_cache)) {
				write_past(widgets[i]);
				pr_info("crasher: wrote past %px into %px\n", widgets[i], widgets[j]);
				call_measure(widgets[j]);
				return;
			}
	pr_info("crasher: no neighbours\n");
}

static refcount_t users = REFCOUNT_INIT(1);

static noinline void put_twice(refcount_t *count)
{
	bool last = refcount_dec_and_test(count);

	pr_info("crasher: %d, and put again\n", last);
	if (REFCOUNT_TAKES)
		refcount_inc(count);
	else
		last = refcount_dec_and_test(count);
	pr_info("crasher: survived with %d\n", last);
}

// The guest sets panic_on_warn.
void crash_refcount(void)
{
	put_twice(&users);
}

static noinline int share_out(int bytes, int users)
{
	return DIVIDE_FOR_REST ? bytes % users : bytes / users;
}

void crash_divide(void)
{
	static volatile int nobody;

	pr_info("crasher: survived with %d\n", share_out(4096, nobody));
}

static noinline void call_data(void (*function)(void))
{
	OPTIMIZER_HIDE_VAR(function);
	function();
	pr_info("crasher: survived\n");
}

void crash_badjump(void)
{
	static u64 data[8] = { 1 };

	make_cache();
	call_data(JUMP_INTO == 0 ? (void (*)(void))make_widget(NULL) : JUMP_INTO == 1 ? NULL : (void (*)(void))data);
}

static noinline void spoil_stack_end(void)
{
	*end_of_stack(current) = STACK_END_WORD;
	msleep(1000);
	pr_info("crasher: nobody looked\n");
}

// The scheduler looks at the end of a stack when it leaves the task.
void crash_stackend(void)
{
	spoil_stack_end();
	pr_info("crasher: survived\n");
}

static noinline void lose_stack(void)
{
	asm volatile("xorl %%esp, %%esp\n\tpushq %%rax" : : : "memory");
	for (;;)
		cpu_relax();
}

void crash_doublefault(void)
{
	lose_stack();
}

static noinline u64 sum_peers(struct widget *first)
{
	struct widget *widget;
	u64 sum = 0;

	for (widget = first; widget; widget = READ_ONCE(widget->peer))
		sum += widget->id;
	return sum;
}

void crash_bitpointer(void)
{
	struct widget *last, *middle, *first;

	make_cache();
	last = make_widget(NULL);
	middle = make_widget(last);
	first = make_widget(middle);
	WRITE_ONCE(*(unsigned long *)&first->peer, (unsigned long)middle ^ 1UL << POINTER_BIT);
	pr_info("crasher: flipped bit %d of %px in %px\n", POINTER_BIT, middle, first);
	pr_info("crasher: survived with %llu\n", sum_peers(first));
}

static noinline void read_user_page(unsigned long at)
{
	char byte = 0;

	if (copy_from_user(&byte, (void __user *)at, 1))
		pr_info("crasher: not mapped\n");
}

// Text where the entry of a page of this process belongs.
void crash_pagetable(void)
{
	unsigned long at = current->mm->start_stack & PAGE_MASK;
	pte_t *entry;

	read_user_page(at);
	entry = pte_offset_kernel(pmd_offset(pud_offset(p4d_offset(pgd_offset(current->mm, at), at), at), at), at);
	pr_info("crasher: writing over the entry %px of %lx\n", entry, at);
	memcpy(entry, TABLE_TEXT, sizeof(*entry));
	asm volatile("mov %%cr3, %%rax\n\tmov %%rax, %%cr3" : : : "rax", "memory");
	read_user_page(at);
	pr_info("crasher: survived\n");
}

static struct timer_list orphan;

static void orphan_function(struct timer_list *unused)
{
	pr_info("crasher: the timer ran\n");
}

// The guest unloads the module before that.
void crash_unload(void)
{
	timer_setup(&orphan, orphan_function, 0);
	mod_timer(&orphan, jiffies + 20 * HZ);
}

static DECLARE_RWSEM(first_sem);
static DECLARE_RWSEM(second_sem);

static noinline void write_both(struct rw_semaphore *one, struct rw_semaphore *other)
{
	down_write(one);
	msleep(500);
	down_write(other);
	up_write(other);
	up_write(one);
}

static int sem_forth(void *unused)
{
	write_both(&first_sem, &second_sem);
	return 0;
}

static int sem_back(void *unused)
{
	write_both(&second_sem, &first_sem);
	return 0;
}

void crash_rwsem(void)
{
	kthread_run(sem_forth, NULL, "sem_forth");
	kthread_run(sem_back, NULL, "sem_back");
	pr_info("crasher: deadlock on %px and %px\n", &first_sem, &second_sem);
}

static DEFINE_MUTEX(device_mutex);

static noinline void configure(bool net_first)
{
	if (net_first)
		rtnl_lock();
	else
		mutex_lock(&device_mutex);
	msleep(500);
	if (net_first)
		mutex_lock(&device_mutex);
	else
		rtnl_lock();
	pr_info("crasher: survived\n");
}

static int net_first(void *unused)
{
	configure(true);
	return 0;
}

static int device_first(void *unused)
{
	configure(false);
	return 0;
}

void crash_rtnl(void)
{
	kthread_run(net_first, NULL, "net_first");
	kthread_run(device_first, NULL, "device_first");
	pr_info("crasher: deadlock on rtnl_mutex and %px\n", &device_mutex);
}
