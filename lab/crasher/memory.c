// SPDX-License-Identifier: MIT OR Apache-2.0
// Memory that is lost or in pieces, while the system stays alive.
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#ifdef CONFIG_KFENCE
#include <linux/kfence.h>
#endif

#include "crasher.h"

// 160 bytes unless varied: kmalloc-192. All alike, but for nobody's sake.
struct leaked {
	u64 spare[LEAKED_SPARE];
	char text[96];
	u64 numbers[8];
};

// Nothing points to what it returns: the caller only counts.
static noinline struct leaked *leak_record(void)
{
	struct leaked *record = kzalloc(sizeof(*record), GFP_KERNEL);
	int i;

	if (!record)
		return NULL;
	strscpy(record->text, LEAKED_TEXT, sizeof(record->text));
	for (i = 0; i < ARRAY_SIZE(record->numbers); i++)
		record->numbers[i] = 0x1dea5eedUL * (i + 1);
	return record;
}

#ifdef CONFIG_KFENCE
static noinline void *hold_guarded(void)
{
	return kmalloc(96, GFP_KERNEL);
}

// An object of KFENCE's, which takes one allocation of many, where it is switched on.
static void *wait_for_guarded(void)
{
	unsigned long end = jiffies + 10 * HZ;
	int i;

	while (time_before(jiffies, end)) {
		for (i = 0; i < 100; i++) {
			void *object = hold_guarded();

			if (is_kfence_address(object))
				return object;
			kfree(object);
		}
		cond_resched();
	}
	return NULL;
}

static void hold_and_free_guarded(void)
{
	void *held, *freed;

	if (!__kfence_pool)
		return;
	freed = wait_for_guarded();
	held = wait_for_guarded();
	if (!held || !freed)
		return;
	kfree(freed);
	pr_info("crasher: kfence holds %px by hold_guarded\n", held);
	pr_info("crasher: kfence freed %px by hold_and_free_guarded\n", freed);
}
#else
static void hold_and_free_guarded(void)
{
}
#endif

void crash_memory(void)
{
	struct leaked *record = NULL;
	int i, count = 0;

	for (i = 0; i < LEAKED_COUNT; i++) {
		struct leaked *next = leak_record();

		if (next)
			record = next;
		count += !!next;
	}
	hold_and_free_guarded();
	pr_info("crasher: leaked count %d bytes %zu last %px by leak_record\n", count, sizeof(*record), record);
}

// Half of each group of four pages stays: no free block is larger than two pages.
#define GROUP 4
#define KEPT 2

static LIST_HEAD(pinned_pages);

static noinline unsigned long pin_pages(void)
{
	// Without the last resort: the OOM killer is another scenario.
	const gfp_t flags = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN;
	unsigned long count = 0;
	struct page *page;

	while ((page = alloc_page(flags))) {
		list_add(&page->lru, &pinned_pages);
		count++;
	}
	return count;
}

void crash_fragment(void)
{
	unsigned long taken = pin_pages(), kept = 0;
	struct page *page, *next, *first = NULL;

	list_for_each_entry_safe(page, next, &pinned_pages, lru) {
		if (page_to_pfn(page) % GROUP < KEPT) {
			kept++;
			first = page;
			continue;
		}
		list_del(&page->lru);
		__free_page(page);
	}
	pr_info("crasher: fragmented taken %lu kept %lu page %px by pin_pages\n", taken, kept, first);
}
