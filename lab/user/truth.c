// SPDX-License-Identifier: MIT OR Apache-2.0
// The facts of the running system, from /proc, to the second serial port: one fact per line, the key first.
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "trigger.h"
#include "truth.h"

#define TRUTH_PORT "/dev/ttyS1"

FILE *out;

void copy_lines(const char *key, const char *path, int skip)
{
	char line[8192];
	FILE *in = fopen(path, "r");

	while (in && fgets(line, sizeof(line), in))
		if (skip-- <= 0)
			fprintf(out, "%s %s%s", key, line, strchr(line, '\n') ? "" : "\n");
	if (in)
		fclose(in);
}

// "tid (comm) state ppid ...": the command name may hold spaces and parentheses.
static void write_task(const char *pid, const char *tid)
{
	char path[64], line[1024], *name, *end;

	snprintf(path, sizeof(path), "/proc/%.10s/task/%.10s/stat", pid, tid);
	FILE *in = fopen(path, "r");
	if (!in)
		return;
	size_t length = fread(line, 1, sizeof(line) - 1, in);
	fclose(in);
	line[length] = 0;
	name = strchr(line, '(');
	end = strrchr(line, ')');
	if (!name || !end)
		return;
	*end = 0;
	fprintf(out, "task %s %s %d %c %s\n", tid, pid, atoi(end + 4), end[2], name + 1);
}

void for_each_number(const char *directory, void (*visit)(const char *name))
{
	DIR *listing = opendir(directory);
	struct dirent *entry;

	while (listing && (entry = readdir(listing)))
		if (isdigit((unsigned char)entry->d_name[0]))
			visit(entry->d_name);
	if (listing)
		closedir(listing);
}

static const char *process;

static void visit_thread(const char *tid)
{
	write_task(process, tid);
}

static void visit_process(const char *pid)
{
	char path[64];

	process = pid;
	snprintf(path, sizeof(path), "/proc/%.10s/task", pid);
	for_each_number(path, visit_thread);
}

static void write_constants(const char *scenario)
{
	struct utsname name;

	uname(&name);
	fprintf(out, "scenario %s\nrelease %s\nversion %s\nmachine %s\nnodename %s\n", scenario, name.release,
		name.version, name.machine, name.nodename);
	fprintf(out, "cpus %ld\ntrigger %d\n", sysconf(_SC_NPROCESSORS_ONLN), (int)getpid());
	// What the module is about to plant (lab/crasher/evidence.c).
	if (!strcmp(scenario, "million"))
		fprintf(out, "witnesses 1000000\n");
	copy_lines("cmdline", "/proc/cmdline", 0);
}

// What stuck.c noted (STUCK_FACTS), and what the network says of itself.
static void write_stuck(void)
{
	static const char *const files[] = {
		"net/tcp", "net/route", "net/fib_trie", "net/ipv6_route", "net/nf_conntrack", "net/softnet_stat", "net/dev",
	};
	char path[64];

	copy_lines("stuck", "/tmp/stuck", 0);
	for (unsigned int i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%s", files[i]);
		copy_lines(files[i], path, 0);
	}
}

static void write_patch_state(const char *pid)
{
	char key[64], path[64];

	snprintf(key, sizeof(key), "patch_state %.10s", pid);
	snprintf(path, sizeof(path), "/proc/%.10s/patch_state", pid);
	copy_lines(key, path, 0);
}

// What tracing noted, the probes, and which process uses the live patch.
static void write_traced(void)
{
	copy_lines("trace", "/sys/kernel/tracing/trace", 0);
	copy_lines("spy", "/sys/kernel/tracing/instances/spy/trace", 0);
	copy_lines("kprobe", "/sys/kernel/debug/kprobes/list", 0);
	copy_lines("uprobe", "/sys/kernel/tracing/uprobe_events", 0);
	for_each_number("/proc", write_patch_state);
}

static void write_variables(const char *scenario, int is_rich)
{
	if (is_rich)
		write_moving_truth();
	else
		write_memory_truth();
	if (!strcmp(scenario, "stuck") || !strcmp(scenario, "blocked"))
		write_stuck();
	if (!strcmp(scenario, "blocked"))
		copy_lines("trace", "/sys/kernel/tracing/trace", 0);
	if (!strcmp(scenario, "traced"))
		write_traced();
	if (!strcmp(scenario, "kvm"))
		copy_lines("kvm", "/tmp/kvm", 0);
	copy_lines("swap", "/proc/swaps", 1);
	copy_lines("module", "/proc/modules", 0);
	for_each_number("/proc", visit_process);
	copy_lines("loadavg", "/proc/loadavg", 0);
	copy_lines("uptime", "/proc/uptime", 0);
	fprintf(out, "end\n");
}

// The facts of one moment: they are gathered before the first of them is on its way through the slow port.
static void write_variables_at_once(void)
{
	FILE *port = out;
	char *text;
	size_t length;

	for (int is_last = 0; is_last < 2; is_last++) {
		// Reading makes inodes and dentries: all are there the second time.
		out = open_memstream(&text, &length);
		write_variables("rich", 1);
		fclose(out);
		if (is_last)
			fwrite(text, 1, length, port);
		else
			free(text);
	}
	out = port;
}

void write_truth(const char *scenario)
{
	int is_rich = !strcmp(scenario, "rich");

	out = fopen(TRUTH_PORT, "w");
	if (!out) {
		perror(TRUTH_PORT);
		return;
	}
	write_constants(scenario);
	if (is_rich) {
		write_steady_truth();
		fflush(out);
		fill_run_queue();
		write_variables_at_once();
	} else {
		write_variables(scenario, 0);
	}
	fclose(out);
}
