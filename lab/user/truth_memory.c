// SPDX-License-Identifier: MIT OR Apache-2.0
// What the kernel says of its memory: /proc, each process's badness, control groups; and the file of known content.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "truth.h"

#define GROUPS "/sys/fs/cgroup"
#define KNOWN_FILE "/data/known"

static const char *const of_memory[] = { "meminfo", "slabinfo", "zoneinfo", "buddyinfo", "pagetypeinfo", "vmstat" };
static const char *const of_process[] = { "oom_score", "oom_score_adj", "cgroup" };
static const char *const of_group[] = {
	"memory.current", "memory.max", "memory.events", "memory.swap.current", "memory.stat", "pids.current", "pids.max", "cgroup.stat",
	"cgroup.events",
};

#define EACH(item, list) for (const char *const *item = (list); item < (list) + sizeof(list) / sizeof((list)[0]); item++)

static void write_badness(const char *pid)
{
	char key[64], path[96];

	EACH(file, of_process) {
		snprintf(key, sizeof(key), "%.10s/%s", pid, *file);
		snprintf(path, sizeof(path), "/proc/%s", key);
		copy_lines(key, path, 0);
	}
}

// "cgroup/PATH/FILE LINE"; the root has no path.
static void write_group(const char *group)
{
	char key[512], path[512];
	DIR *listing;
	struct dirent *entry;

	EACH(file, of_group) {
		snprintf(key, sizeof(key), "cgroup%s/%s", group, *file);
		snprintf(path, sizeof(path), GROUPS "%s/%s", group, *file);
		copy_lines(key, path, 0);
	}
	snprintf(path, sizeof(path), GROUPS "%s", group);
	listing = opendir(path);
	while (listing && (entry = readdir(listing)))
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
			snprintf(key, sizeof(key), "%.240s/%.240s", group, entry->d_name);
			write_group(key);
		}
	if (listing)
		closedir(listing);
}

// "sysctl PATH VALUE": all that can be read below /proc/sys.
static void write_sysctls(const char *directory)
{
	char path[512], line[1024];
	DIR *listing = opendir(directory);
	struct dirent *entry;

	while (listing && (entry = readdir(listing))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%.240s/%.240s", directory, entry->d_name);
		if (entry->d_type == DT_DIR) {
			write_sysctls(path);
			continue;
		}
		FILE *in = fopen(path, "r");
		if (!in)
			continue;
		if (fgets(line, sizeof(line), in))
			fprintf(out, "sysctl %s %s%s", path + sizeof("/proc/sys"), line, strchr(line, '\n') ? "" : "\n");
		fclose(in);
	}
	if (listing)
		closedir(listing);
}

// FNV-1a of the file, 64 bits.
static void write_known_file(void)
{
	unsigned char buffer[4096];
	uint64_t hash = 0xcbf29ce484222325;
	size_t length, total = 0;
	FILE *in = fopen(KNOWN_FILE, "r");

	if (!in)
		return;
	while ((length = fread(buffer, 1, sizeof(buffer), in)) > 0) {
		total += length;
		for (size_t at = 0; at < length; at++)
			hash = (hash ^ buffer[at]) * 0x100000001b3;
	}
	fclose(in);
	fprintf(out, "known-file %s %zu %016llx\n", KNOWN_FILE, total, (unsigned long long)hash);
}

void write_memory_truth(void)
{
	char key[64], path[96];

	write_sysctls("/proc/sys");
	for_each_number("/proc", write_badness);
	write_group("");
	write_known_file();
	// Reading the rest makes inodes and dentries.
	EACH(file, of_memory) {
		snprintf(key, sizeof(key), "%s", *file);
		snprintf(path, sizeof(path), "/proc/%s", *file);
		copy_lines(key, path, 0);
	}
}
