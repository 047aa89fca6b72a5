// SPDX-License-Identifier: MIT OR Apache-2.0
// The scenario `rich`: all that the kernel says of itself. A key is a path below /proc, or below one of the roots here.
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rich.h"
#include "truth.h"

// What stays as it is written down.
static const char *const steady[] = {
	"mounts", "partitions", "devices", "iomem", "ioports", "vmallocinfo", "swaps", "filesystems", "cgroups", "locks",
	"cpuinfo", "bus/pci/devices", "sys/kernel/tainted", "misc",
};
// What moves until the end: written last, in one go.
static const char *const moving[] = {
	"meminfo", "slabinfo", "zoneinfo", "buddyinfo", "pagetypeinfo", "vmstat", "interrupts", "softirqs", "stat",
	"diskstats", "timer_list", "sched_debug", "schedstat", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/dentry-state",
};
static const char *const net[] = {
	"dev", "tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "unix", "netlink", "packet", "arp", "route", "igmp",
	"igmp6", "mcfilter", "if_inet6", "ipv6_route", "dev_mcast", "ptype", "sockstat", "sockstat6", "protocols",
};
static const char *const sysvipc[] = { "sem", "shm", "msg" };
static const char *const of_process[] = { "status", "stat", "maps", "cgroup", "limits", "timers", "wchan", "statm" };
static const char *const of_thread[] = { "status", "stat", "wchan" };
static const char *const of_slab[] = {
	"aliases", "object_size", "slab_size", "objs_per_slab", "order", "objects", "slabs", "partial",
};
static const char *const namespaces[] = { "mnt", "pid", "net", "ipc", "uts", "user", "cgroup" };

#define EACH(item, list) for (const char *const *item = (list); item < (list) + sizeof(list) / sizeof((list)[0]); item++)

static char *path_of(const char *format, const char *one, const char *two)
{
	static char path[256];

	snprintf(path, sizeof(path), format, one, two);
	return path;
}

static char *link_of(const char *path)
{
	static char target[4096];
	ssize_t length = readlink(path, target, sizeof(target) - 1);

	target[length < 0 ? 0 : length] = 0;
	return length < 0 ? NULL : target;
}

static void copy_below_proc(const char *directory, const char *name)
{
	char key[128];

	snprintf(key, sizeof(key), "%s%s", directory, name);
	copy_lines(key, path_of("/proc/%s", key, ""), 0);
}

static void for_each_entry(const char *path, void (*visit)(const char *directory, const char *name))
{
	char directory[128];
	DIR *listing = opendir(path);
	struct dirent *entry;

	// The path may be that of `path_of`, which the visitor uses too.
	snprintf(directory, sizeof(directory), "%s", path);
	while (listing && (entry = readdir(listing)))
		if (entry->d_name[0] != '.')
			visit(directory, entry->d_name);
	if (listing)
		closedir(listing);
}

// "PID/fd NUMBER TARGET"
static void write_link(const char *directory, const char *name)
{
	const char *target = link_of(path_of("%s/%s", directory, name));

	if (target)
		fprintf(out, "%s %s %s\n", directory + strlen("/proc/"), name, target);
}

// "PID/fdinfo NUMBER LINE"
static void write_fdinfo(const char *directory, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "%.40s %.10s", directory + strlen("/proc/"), name);
	copy_lines(key, path_of("%s/%s", directory, name), 0);
}

static void write_thread(const char *directory, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "%.40s/%.10s/", directory + strlen("/proc/"), name);
	if (strtol(directory + strlen("/proc/"), NULL, 10) == atol(name))
		return;
	EACH(file, of_thread)
		copy_below_proc(key, *file);
}

static void write_command_line(const char *pid)
{
	char text[4096];
	int file = open(path_of("/proc/%s/cmdline", pid, ""), O_RDONLY | O_CLOEXEC);
	ssize_t length = read(file, text, sizeof(text));

	close(file);
	for (ssize_t i = 0; i < length - 1; i++)
		if (!text[i])
			text[i] = ' ';
	if (length > 0)
		fprintf(out, "%s/cmdline %.*s\n", pid, (int)length, text);
}

static void write_process(const char *pid)
{
	char directory[64], key[64];

	snprintf(key, sizeof(key), "%.10s/", pid);
	if (!link_of(path_of("/proc/%s/exe", pid, ""))) {	// a kernel thread, or a zombie
		copy_below_proc(key, "stat");
		copy_below_proc(key, "wchan");
		return;
	}
	EACH(file, of_process)
		copy_below_proc(key, *file);
	write_command_line(pid);
	snprintf(directory, sizeof(directory), "/proc/%.10s", pid);
	write_link(directory, "exe");
	write_link(directory, "cwd");
	write_link(directory, "root");
	for_each_entry(path_of("/proc/%.10s/fd", pid, ""), write_link);
	for_each_entry(path_of("/proc/%.10s/fdinfo", pid, ""), write_fdinfo);
	for_each_entry(path_of("/proc/%.10s/task", pid, ""), write_thread);
}

// The number of a namespace: "net:[4026531840]".
static unsigned long namespace_of(const char *pid, const char *kind)
{
	char name[64];

	snprintf(name, sizeof(name), "ns/%s", kind);
	const char *target = link_of(path_of("/proc/%s/%s", pid, name));
	return target ? strtoul(strchr(target, '[') + 1, NULL, 10) : 0;
}

static int is_first_of(const char *pid, const char *kind, unsigned long *seen, int *count)
{
	unsigned long number = namespace_of(pid, kind);

	for (int i = 0; i < *count; i++)
		if (seen[i] == number)
			return 0;
	if (!number || *count == 16)
		return 0;
	seen[(*count)++] = number;
	return 1;
}

static void write_ipc(const char *pid, const char *key)
{
	int own = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
	int other = open(path_of("/proc/%s/ns/ipc", pid, ""), O_RDONLY | O_CLOEXEC);

	if (!setns(other, CLONE_NEWIPC))
		EACH(file, sysvipc) {
			char name[128];
			snprintf(name, sizeof(name), "%ssysvipc/%s", key, *file);
			copy_lines(name, path_of("/proc/sysvipc/%s", *file, ""), 0);
		}
	setns(own, CLONE_NEWIPC);
	close(own);
	close(other);
}

// Once for each namespace; keys of the first one, which is that of process 1, have no number in front.
static void write_namespaces(const char *pid)
{
	static unsigned long seen[3][16];
	static int count[3];
	char key[64], directory[64];

	snprintf(directory, sizeof(directory), "%.10s/", pid);
	EACH(kind, namespaces)
		fprintf(out, "%sns %s %lu\n", directory, *kind, namespace_of(pid, *kind));
	snprintf(key, sizeof(key), "%s", strcmp(pid, "1") ? directory : "");
	if (is_first_of(pid, "net", seen[0], &count[0]))
		EACH(file, net) {
			char name[128];
			snprintf(name, sizeof(name), "%snet/%s", key, *file);
			copy_lines(name, path_of("/proc/%s/net/%s", pid, *file), 0);
		}
	if (is_first_of(pid, "mnt", seen[1], &count[1])) {
		copy_below_proc(directory, "mountinfo");
		if (*key)
			copy_below_proc(directory, "mounts");
	}
	if (is_first_of(pid, "ipc", seen[2], &count[2]))
		write_ipc(pid, key);
}

static void write_user_namespaces(const char *pid)
{
	if (link_of(path_of("/proc/%s/exe", pid, "")))
		write_namespaces(pid);
}

// "slab/alias NAME CACHE", or "slab/cache NAME aliases 0 object_size 192 ..."
static void write_slab(const char *directory, const char *name)
{
	const char *cache = link_of(path_of("%s/%s", directory, name));

	if (cache) {
		fprintf(out, "slab/alias %s %s\n", name, cache);
		return;
	}
	fprintf(out, "slab/cache %s", name);
	EACH(file, of_slab) {
		char path[256], line[256] = "";
		snprintf(path, sizeof(path), "%.20s/%.100s/%.20s", directory, name, *file);
		FILE *in = fopen(path, "r");
		if (!in)
			continue;
		if (fgets(line, sizeof(line), in))
			line[strcspn(line, "\n")] = 0;
		fclose(in);
		fprintf(out, " %s %ld", *file, atol(line));
	}
	fputc('\n', out);
}

// "irq/affinity NUMBER CPUS"
static void write_affinity(const char *directory, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "irq/affinity %.20s", name);
	if (isdigit((unsigned char)name[0]))
		copy_lines(key, path_of("/proc/irq/%s/smp_affinity_list", name, ""), 0);
}

static void write_memory_block(const char *directory, const char *name)
{
	char key[64];

	snprintf(key, sizeof(key), "memory_block %.20s", name);
	copy_lines(key, path_of("/sys/devices/system/memory/%s/state", name, ""), 0);
}

static void write_hex(const char *key, uint32_t number, const unsigned char *bytes, uint32_t length)
{
	fprintf(out, "%s %u ", key, number);
	for (uint32_t i = 0; i < length; i++)
		fprintf(out, "%02x", bytes[i]);
	fputc('\n', out);
}

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int bpf_next(int command, uint32_t *number)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.start_id = *number;
	if (bpf(command, &attributes))
		return 0;
	*number = attributes.next_id;
	return 1;
}

static int bpf_info(int command, uint32_t number, void *info, uint32_t size)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_id = number;
	int file = bpf(command, &attributes);
	if (file < 0)
		return 0;
	memset(&attributes, 0, sizeof(attributes));
	attributes.info.bpf_fd = file;
	attributes.info.info_len = size;
	attributes.info.info = (uintptr_t)info;
	int is_told = !bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes);
	close(file);
	return is_told;
}

static void write_bpf_program(uint32_t number)
{
	static unsigned char code[1 << 14], compiled[1 << 14];
	uint32_t maps[16];
	struct bpf_prog_info info = { .xlated_prog_insns = (uintptr_t)code, .xlated_prog_len = sizeof(code),
				      .jited_prog_insns = (uintptr_t)compiled, .jited_prog_len = sizeof(compiled),
				      .map_ids = (uintptr_t)maps, .nr_map_ids = 16 };

	if (!bpf_info(BPF_PROG_GET_FD_BY_ID, number, &info, sizeof(info)))
		return;
	fprintf(out, "bpf/prog %u type %u name %s uid %u load_time %llu xlated %u jited %u functions %u tag ", info.id,
		info.type, info.name, info.created_by_uid, (unsigned long long)info.load_time, info.xlated_prog_len,
		info.jited_prog_len, info.nr_jited_func_lens);
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		fprintf(out, "%02x", info.tag[i]);
	fprintf(out, " maps");
	for (uint32_t i = 0; i < info.nr_map_ids && i < 16; i++)
		fprintf(out, "%c%u", i ? ',' : ' ', maps[i]);
	fputc('\n', out);
	if (info.xlated_prog_len <= sizeof(code))
		write_hex("bpf/xlated", number, code, info.xlated_prog_len);
	if (info.jited_prog_len <= sizeof(compiled))
		write_hex("bpf/jited", number, compiled, info.jited_prog_len);
}

static void write_bpf(void)
{
	for (uint32_t number = 0; bpf_next(BPF_PROG_GET_NEXT_ID, &number);)
		write_bpf_program(number);
	for (uint32_t number = 0; bpf_next(BPF_MAP_GET_NEXT_ID, &number);) {
		struct bpf_map_info info = {};
		if (bpf_info(BPF_MAP_GET_FD_BY_ID, number, &info, sizeof(info)))
			fprintf(out, "bpf/map %u type %u name %s key %u value %u entries %u flags %u\n", info.id,
				info.type, info.name, info.key_size, info.value_size, info.max_entries, info.map_flags);
	}
}

void write_steady_truth(void)
{
	EACH(file, steady)
		copy_below_proc("", *file);
	for_each_entry("/proc/irq", write_affinity);
	for_each_entry("/sys/devices/system/memory", write_memory_block);
	for_each_number("/proc", write_user_namespaces);
	write_bpf();
	copy_lines("trace", "/sys/kernel/tracing/trace", 0);
	for_each_number("/proc", write_process);
}

void write_moving_truth(void)
{
	for_each_entry("/sys/kernel/slab", write_slab);
	copy_lines("sched_debug", "/sys/kernel/debug/sched/debug", 0);
	EACH(file, moving)
		copy_below_proc("", *file);
}

// From here on this process runs before all others on CPU 0, and the run queue behind it is full.
void fill_run_queue(void)
{
	struct sched_param first = { .sched_priority = 90 };
	cpu_set_t cpu;
	int gate = open(SPINNER_GATE, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	sched_setscheduler(0, SCHED_FIFO, &first);
	if (write(gate, "r", 1) != 1)
		perror(SPINNER_GATE);
}
