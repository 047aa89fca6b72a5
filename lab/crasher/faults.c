// SPDX-License-Identifier: MIT OR Apache-2.0
// Wrong memory accesses and failed checks, in process context.
#include <linux/lcm.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "crasher.h"

static noinline void write_through(int *p)
{
	pr_info("crasher: about to write %px\n", p);
	if (THROUGH_READS)
		pr_info("crasher: survived with %d\n", *(volatile int *)p);
	else
		*p = 42;
}

void crash_null(void)
{
	write_through((int *)NULL_OFFSET);
	pr_info("crasher: survived\n");
}

// Not a canonical address: a general protection fault instead of a page fault.
void crash_wild(void)
{
	write_through((int *)WILD_ADDRESS);
	pr_info("crasher: survived\n");
}

static noinline void fail_check(void)
{
	BUG();
}

void crash_bug(void)
{
	fail_check();
	pr_info("crasher: survived\n");
}

void crash_panic(void)
{
	panic("crasher: requested panic");
}

static struct evidence *evidence_number(int number)
{
	struct evidence *e;

	list_for_each_entry(e, &evidence_list, link)
		if (e->id == number)
			break;
	return e;
}

void crash_listdel(void)
{
	struct evidence *e = evidence_number(DELETED_ENTRY);

	list_del(&e->link);
	pr_info("crasher: about to delete %px from its list again\n", &e->link);
	list_del(&e->link);
	pr_info("crasher: survived\n");
}

void crash_doublefree(void)
{
	void *object = kmem_cache_alloc(evidence_cache, GFP_KERNEL);

	kmem_cache_free(evidence_cache, object);
	pr_info("crasher: about to free %px again\n", object);
	kmem_cache_free(evidence_cache, object);
	pr_info("crasher: survived\n");
}

#pragma GCC diagnostic push
#if __GNUC__ >= 12
#pragma GCC diagnostic ignored "-Winfinite-recursion"
#endif
static noinline int recurse(int n)
{
	volatile char frame[FRAME_BYTES];

	frame[n % FRAME_BYTES] = n;
	return recurse(n + 1) + frame[(n + 1) % FRAME_BYTES];
}
#pragma GCC diagnostic pop

// The guard page below the stack: a double fault, on a stack of its own.
void crash_stack(void)
{
	pr_info("crasher: about to overflow the stack: %d\n", recurse(0));
}

// A page of log text over the first objects of the cache, then a walk into it.
void crash_ascii(void)
{
	static const char text[] = LOG_TEXT;
	const int length = sizeof(text) - 1;
	char *first = (char *)evidence_number(OVERWRITTEN_ENTRY);
	struct evidence *e;
	int at;

	pr_info("crasher: about to write text over %px\n", first);
	for (at = 0; at + length < PAGE_SIZE; at += length)
		memcpy(first + at, text, length);
	list_for_each_entry(e, &evidence_list, link)
		pr_info("crasher: evidence %d\n", e->id);
}

// Flips a bit of code, through a mapping that may be written: what bad memory does.
static void flip_bit(unsigned char *code, struct page *page)
{
	unsigned char *writable = vmap(&page, 1, VM_MAP, PAGE_KERNEL);

	if (!writable) {
		pr_info("crasher: no mapping of the code\n");
		return;
	}
	writable[offset_in_page(code)] ^= 1 << CODE_BIT;
	vunmap(writable);
	pr_info("crasher: flipped bit %d at %px of the code\n", CODE_BIT, code);
}

// One bit of the kernel's own code. Nothing calls lcm() now.
void crash_bitflip(void)
{
	unsigned char *code = (unsigned char *)lcm + CODE_OFFSET;

	flip_bit(code, pfn_to_page(__pa_symbol(code) >> PAGE_SHIFT));
}

// One bit of the module `bridge`, in a function that nothing calls.
void crash_moduleflip(void)
{
	unsigned char *code = __symbol_get("br_multicast_list_adjacent");

	if (!code) {
		pr_info("crasher: no module bridge\n");
		return;
	}
	code += 14;
	flip_bit(code, vmalloc_to_page(code));
}

// Every free page, owned by nobody.
void crash_oom(void)
{
	while (alloc_pages(GFP_KERNEL, 0))
		;
}

// Every free page, owned by one cache.
void crash_slableak(void)
{
	while (kmem_cache_alloc(evidence_cache, GFP_KERNEL))
		;
}
