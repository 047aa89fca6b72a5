// SPDX-License-Identifier: MIT OR Apache-2.0
// Data structures whose content is known: ground truth for walkers of lists, trees, xarrays and slabs.
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/xarray.h>

#include "crasher.h"

#define EVIDENCE_COUNT 1000
#define EVIDENCE_STRIDE 7

LIST_HEAD(evidence_list);
struct kmem_cache *evidence_cache;
static struct rb_root evidence_tree = RB_ROOT;
static DEFINE_XARRAY(evidence_xa);

static void add_to_tree(struct evidence *e)
{
	struct rb_node **place = &evidence_tree.rb_node, *parent = NULL;

	while (*place) {
		parent = *place;
		place = e->id < rb_entry(parent, struct evidence, rb)->id ? &parent->rb_left : &parent->rb_right;
	}
	rb_link_node(&e->rb, parent, place);
	rb_insert_color(&e->rb, &evidence_tree);
}

void plant_evidence(void)
{
	int id;

	evidence_cache = kmem_cache_create("evidence", sizeof(struct evidence), 0, SLAB_HWCACHE_ALIGN, NULL);
	for (id = 0; id < EVIDENCE_COUNT; id++) {
		struct evidence *e = kmem_cache_zalloc(evidence_cache, GFP_KERNEL);

		e->id = id;
		snprintf(e->name, sizeof(e->name), "ev%d", id);
		e->stamp = ktime_get_ns();
		list_add_tail(&e->link, &evidence_list);
		add_to_tree(e);
		xa_store(&evidence_xa, id * EVIDENCE_STRIDE, e, GFP_KERNEL);
	}
	pr_info("crasher: evidence count %d list %px tree %px xarray %px cache %px\n", EVIDENCE_COUNT,
		&evidence_list, &evidence_tree, &evidence_xa, evidence_cache);
}

#define WITNESS_COUNT 1000000

LIST_HEAD(witness_list);

// The same order on every boot: a generator of its own (xorshift) with a constant seed.
static u32 next_random(u32 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

// Allocated one after the other, linked in an order that no cache and no read-ahead can follow.
void plant_million(void)
{
	struct witness **all = kvmalloc_array(WITNESS_COUNT, sizeof(*all), GFP_KERNEL);
	u32 state = 1;
	int i;

	for (i = 0; i < WITNESS_COUNT; i++)
		all[i] = kzalloc(sizeof(**all), GFP_KERNEL);
	for (i = WITNESS_COUNT - 1; i > 0; i--) {
		u32 other = next_random(&state) % (i + 1);

		swap(all[i], all[other]);
	}
	for (i = 0; i < WITNESS_COUNT; i++) {
		all[i]->id = i;
		snprintf(all[i]->name, sizeof(all[i]->name), "witness%d", i);
		all[i]->stamp = ktime_get_ns();
		list_add_tail(&all[i]->link, &witness_list);
	}
	kvfree(all);
	pr_info("crasher: witness count %d list %px\n", WITNESS_COUNT, &witness_list);
}
