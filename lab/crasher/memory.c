// SPDX-License-Identifier: MIT OR Apache-2.0
// Memory that is lost or in pieces, while the system stays alive.
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/string.h>

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
