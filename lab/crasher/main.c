// SPDX-License-Identifier: MIT OR Apache-2.0
// Plants known data structures, then breaks the kernel in the way that the parameter `how` names.
#include <linux/module.h>
#include <linux/string.h>

#include "crasher.h"

static char *how = "load";
module_param(how, charp, 0);

static const struct scenario {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	{ "load", NULL }, // only the evidence: the system stays alive
	{ "million", plant_million },
	{ "null", crash_null },
	{ "wild", crash_wild },
	{ "bug", crash_bug },
	{ "panic", crash_panic },
	{ "listdel", crash_listdel },
	{ "doublefree", crash_doublefree },
	{ "stack", crash_stack },
	{ "ascii", crash_ascii },
	{ "bitflip", crash_bitflip },
	{ "moduleflip", crash_moduleflip },
	{ "oom", crash_oom },
	{ "slableak", crash_slableak },
	{ "memory", crash_memory },
	{ "fragment", crash_fragment },
	{ "softlockup", crash_softlockup },
	{ "hardlockup", crash_hardlockup },
	{ "deadlock", crash_deadlock },
	{ "hung", crash_hung },
	{ "blocked", crash_blocked },
	{ "spinlock", crash_spinlock },
	{ "rcustall", crash_rcustall },
	{ "deafcpu", crash_deafcpu },
	{ "hardirq", crash_hardirq },
	{ "softirq", crash_softirq },
	{ "nested", crash_nested },
	{ "ipi", crash_ipi },
	{ "nmi", crash_nmi },
	{ "kprobe", crash_kprobe },
	{ "optprobe", crash_optprobe },
	{ "ftraceprobe", crash_ftraceprobe },
	{ "kretprobe", crash_kretprobe },
	{ "ftrace", crash_ftrace },
	{ "bpf", crash_bpf },
	{ "useafterfree", crash_useafterfree },
	{ "outofbounds", crash_outofbounds },
	{ "refcount", crash_refcount },
	{ "divide", crash_divide },
	{ "badjump", crash_badjump },
	{ "stackend", crash_stackend },
	{ "doublefault", crash_doublefault },
	{ "bitpointer", crash_bitpointer },
	{ "pagetable", crash_pagetable },
	{ "unload", crash_unload },
	{ "rwsem", crash_rwsem },
	{ "rtnl", crash_rtnl },
	{ "traced", crash_traced },
};

static int __init crasher_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (strcmp(how, scenarios[i].name))
			continue;
		plant_evidence();
		pr_info("crasher: scenario %s\n", how);
		if (scenarios[i].run)
			scenarios[i].run();
		return 0;
	}
	pr_err("crasher: no scenario %s\n", how);
	return -EINVAL;
}

static void __exit crasher_exit(void)
{
}

module_init(crasher_init);
module_exit(crasher_exit);
MODULE_DESCRIPTION("Crashes the kernel on purpose");
MODULE_LICENSE("Dual MIT/GPL");
