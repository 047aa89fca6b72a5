// SPDX-License-Identifier: MIT OR Apache-2.0
// A live patch of a function of the kernel and of one of the module `crasher`, in which a task sleeps for ever.
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int patched_show(struct seq_file *file, void *unused)
{
	seq_puts(file, "patched\n");
	return 0;
}

static void patched_function(void)
{
}

static struct klp_func of_kernel[] = {
	{ .old_name = "cmdline_proc_show", .new_func = patched_show },
	{ }
};

static struct klp_func of_module[] = {
	{ .old_name = "replaced_function", .new_func = patched_function },
	{ }
};

static struct klp_object objects[] = {
	{ .funcs = of_kernel },
	{ .name = "crasher", .funcs = of_module },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int __init patcher_init(void)
{
	pr_info("crasher: patch %px\n", &patch);
	return klp_enable_patch(&patch);
}

static void __exit patcher_exit(void)
{
}

module_init(patcher_init);
module_exit(patcher_exit);
MODULE_DESCRIPTION("Patches the running kernel");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
