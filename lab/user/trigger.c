// SPDX-License-Identifier: MIT OR Apache-2.0
// trigger SCENARIO: writes the truth, then breaks the kernel. One process, so that nothing changes in between.
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "trigger.h"

static int insert(const char *path, const char *parameter)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0 || syscall(SYS_finit_module, file, parameter, 0)) {
		perror(path);
		return -1;
	}
	return 0;
}

static int insert_module(const char *scenario)
{
	char parameter[64];

	snprintf(parameter, sizeof(parameter), "how=%s", scenario);
	return insert("/crasher.ko", parameter);
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		perror(path);
	close(file);
}

// What must not end the guest before its time: a system that hangs stays as it is, to be looked at from outside.
static void keep_alive(void)
{
	write_file("/proc/sys/kernel/hung_task_panic", "0");
	write_file("/proc/sys/kernel/softlockup_panic", "0");
	write_file("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", "5");
}

// A futex with priority inheritance that this process holds and a child wants.
static void hold_futex(void)
{
	int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int child;

	syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_NAME, "futex_waiter");
		syscall(SYS_futex, word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
		_exit(1);
	}
	printf("crasher: holds %d futex %p\ncrasher: wants %d futex %p\n", getpid(), (void *)word, child, (void *)word);
}

static __attribute__((noinline)) void probed_in_user(void)
{
	asm volatile("");
}

// A probe in this program, by its place in the file.
static void probe_user(void)
{
	unsigned long start, end, offset, at = (unsigned long)probed_in_user;
	char line[256], text[128];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && at >= start && at < end) {
			snprintf(text, sizeof(text), "p:lab/user /bin/trigger:0x%lx", at - start + offset);
			write_file("/sys/kernel/tracing/uprobe_events", text);
			printf("crasher: uprobe at %lx of /bin/trigger\n", at - start + offset);
		}
	if (maps)
		fclose(maps);
	write_file("/sys/kernel/tracing/events/lab/user/enable", "1");
	probed_in_user();
}

// Probes and a live patch; then nothing is noted any more, so that what was noted can be written down.
static int trace_and_patch(void)
{
	int inserted = !insert_module("traced");

	probe_user();
	insert("/patcher.ko", "");
	sleep(6);	// all tasks but one come to use the patch
	write_file("/sys/kernel/tracing/tracing_on", "0");
	write_file("/sys/kernel/tracing/instances/spy/tracing_on", "0");
	return inserted;
}

// The kernel is to look each second for errors that were corrected; the lab injects one, then one that is fatal.
static void wait_for_machine_check(void)
{
	write_file("/sys/devices/system/machinecheck/machinecheck0/check_interval", "1");
	puts("crasher: waiting for a machine check");
	fflush(stdout);
	pause();
}

static unsigned long long monotonic(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

// The lab stops the whole machine; what watches the clock is to notice before the end. Watchdogs leave idle processors
// alone, so that none is idle.
static void wait_for_pause(void)
{
	unsigned long long before, after;

	for (long cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++)
		if (fork() == 0)
			for (;;)
				;

	puts("crasher: waiting to be paused");
	fflush(stdout);
	do {
		before = monotonic();
		usleep(100000);
		after = monotonic();
	} while (after - before < 5000000000ull);
	sleep(5);
	printf("crasher: the clock jumped from %llu to %llu\n", before, after);
	fflush(stdout);
}

static int press_sysrq_c(void)
{
	int file = open("/proc/sysrq-trigger", O_WRONLY);

	return write(file, "c", 1) == 1 ? 0 : -1;
}

int main(int argc, char **argv)
{
	const char *scenario = argc > 1 ? argv[1] : "idle";
	int inserted = 0, hangs = !strcmp(scenario, "hung"), stalls = !strcmp(scenario, "rcustall");

	// There, what the module does is part of what is written down.
	if (!strcmp(scenario, "rich"))
		insert_module("load");
	if (!strcmp(scenario, "memory") || !strcmp(scenario, "fragment"))
		inserted = !insert_module(scenario);
	// The watchdog of network devices takes its time to see that a queue is stuck.
	if (!strcmp(scenario, "blocked")) {
		inserted = !insert_module(scenario);
		sleep(8);
	}
	if (!strcmp(scenario, "traced"))
		inserted = trace_and_patch();
	write_truth(scenario);
	if (!strcmp(scenario, "sysrq") || !strcmp(scenario, "big") || !strcmp(scenario, "rich") ||
	    !strcmp(scenario, "stuck") || !strcmp(scenario, "kvm"))
		return press_sysrq_c();
	if (!strcmp(scenario, "paused")) {
		keep_alive();
		wait_for_pause();
		return press_sysrq_c();
	}
	if (!strcmp(scenario, "mce"))
		wait_for_machine_check();
	// What breaks the kernel there is init.
	if (!strcmp(scenario, "initdies") || !strcmp(scenario, "tmpfs") || !strcmp(scenario, "cgroupoom"))
		return 0;
	if (hangs || stalls)
		keep_alive();
	if (!inserted && strcmp(scenario, "idle") && insert_module(scenario))
		return 1;
	if (hangs)
		hold_futex();
	if (hangs || stalls)
		sleep(hangs ? 6 : 15);
	if (!strcmp(scenario, "bpf"))
		run_bpf_filter();
	puts("LAB-LOADED");
	fflush(stdout);
	pause();	// a system that stays alive stays as it was written down
	return 0;
}
