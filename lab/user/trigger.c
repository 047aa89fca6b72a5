// SPDX-License-Identifier: MIT OR Apache-2.0
// trigger SCENARIO: writes the truth, then breaks the kernel. One process, so that nothing changes in between.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trigger.h"

#define MODULE "/crasher.ko"

static int insert_module(const char *scenario)
{
	char parameter[64];
	int file = open(MODULE, O_RDONLY | O_CLOEXEC);

	snprintf(parameter, sizeof(parameter), "how=%s", scenario);
	if (file < 0 || syscall(SYS_finit_module, file, parameter, 0)) {
		perror(MODULE);
		return -1;
	}
	return 0;
}

static int press_sysrq_c(void)
{
	int file = open("/proc/sysrq-trigger", O_WRONLY);

	return write(file, "c", 1) == 1 ? 0 : -1;
}

int main(int argc, char **argv)
{
	const char *scenario = argc > 1 ? argv[1] : "idle";
	int inserted = 0;

	// There, what the module does is part of what is written down.
	if (!strcmp(scenario, "rich"))
		insert_module("load");
	if (!strcmp(scenario, "memory") || !strcmp(scenario, "fragment"))
		inserted = !insert_module(scenario);
	write_truth(scenario);
	if (!strcmp(scenario, "sysrq") || !strcmp(scenario, "big") || !strcmp(scenario, "rich") ||
	    !strcmp(scenario, "stuck"))
		return press_sysrq_c();
	if (!inserted && strcmp(scenario, "idle") && insert_module(scenario))
		return 1;
	if (!strcmp(scenario, "bpf"))
		run_bpf_filter();
	puts("LAB-LOADED");
	fflush(stdout);
	pause();	// a system that stays alive stays as it was written down
	return 0;
}
