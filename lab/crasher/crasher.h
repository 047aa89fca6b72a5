/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The scenarios, and the data planted before each of them. */
#ifndef CRASHER_H
#define CRASHER_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/slab.h>
#include <linux/types.h>

#include "varied.h"

/* Ground truth: 1,000 of these, each on a list, in an rbtree by id and in an xarray at index id * 7. */
struct evidence {
	u64 spare[EVIDENCE_SPARE];
	int id;
	char name[16];
	struct list_head link;
	struct rb_node rb;
	u64 stamp;
};

extern struct list_head evidence_list;
extern struct kmem_cache *evidence_cache;
void plant_evidence(void);

/* Ground truth of the scenario `million`: on a list in the order of their ids, which their addresses do not follow. */
struct witness {
	u64 spare[WITNESS_SPARE];
	u64 id;
	struct list_head link;
	char name[24];
	u64 stamp;
};

void plant_million(void);

/*
 * One function per scenario. Each runs in the context of the process that inserts the module. Its own functions
 * are `noinline`, so that the backtrace names them; none is a tail call, for the same reason.
 */

/* faults.c: wrong memory accesses and failed checks, in process context. */
void crash_null(void);
void crash_wild(void);
void crash_bug(void);
void crash_panic(void);
void crash_listdel(void);
void crash_doublefree(void);
void crash_stack(void);
void crash_ascii(void);
void crash_bitflip(void);
void crash_moduleflip(void);
void crash_oom(void);
void crash_slableak(void);

/* misuse.c: memory, counts, jumps, stacks and locks used wrongly. */
void crash_useafterfree(void);
void crash_outofbounds(void);
void crash_refcount(void);
void crash_divide(void);
void crash_badjump(void);
void crash_stackend(void);
void crash_doublefault(void);
void crash_bitpointer(void);
void crash_pagetable(void);
void crash_unload(void);
void crash_rwsem(void);
void crash_rtnl(void);

/* memory.c: memory that is lost or in pieces; the system stays alive. */
void crash_memory(void);
void crash_fragment(void);

/* locks.c: no progress. */
void crash_softlockup(void);
void crash_hardlockup(void);
void crash_deadlock(void);

/* hung.c: tasks that wait for ever, a work item that never ends. */
void crash_hung(void);

/* blocked.c: grace periods of SRCU and RCU Tasks that do not end, a network queue that the driver stopped. */
void crash_blocked(void);

/* spins.c: CPUs that do not come on. */
void crash_spinlock(void);
void crash_rcustall(void);
void crash_deafcpu(void);

/* contexts.c: a panic from an interrupt, a softirq, both nested, another CPU's interrupt, an NMI. */
void crash_hardirq(void);
void crash_softirq(void);
void crash_nested(void);
void crash_ipi(void);
void crash_nmi(void);

/* hooks.c: a panic with a trampoline on the stack. */
void crash_kprobe(void);
void crash_optprobe(void);
void crash_ftraceprobe(void);
void crash_kretprobe(void);
void crash_ftrace(void);
void crash_bpf(void);
void crash_traced(void);

#endif
