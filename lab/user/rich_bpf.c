// SPDX-License-Identifier: MIT OR Apache-2.0
// BPF: maps of many types, programs of many types that use them, attached where that is easy.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rich.h"

#define CODE(c, dst, src, o, i) { .code = (c), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (i) }
#define MOVE(dst, value) CODE(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define COPY(dst, src) CODE(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define ADD(dst, value) CODE(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, value)
#define LOAD_MAP(dst, file) CODE(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, file), CODE(0, 0, 0, 0, 0)
#define CALL(helper) CODE(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define CALL_OWN(distance) CODE(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, distance)
#define EXIT CODE(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static int make_map(int type, int key, int value, int entries, int flags, int inner, const char *name)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_type = type;
	attributes.key_size = key;
	attributes.value_size = value;
	attributes.max_entries = entries;
	attributes.map_flags = flags;
	attributes.inner_map_fd = inner;
	strcpy(attributes.map_name, name);
	return check(bpf(BPF_MAP_CREATE, &attributes), name);
}

static void put(int map, const void *key, const void *value)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_fd = map;
	attributes.key = (uintptr_t)key;
	attributes.value = (uintptr_t)value;
	check(bpf(BPF_MAP_UPDATE_ELEM, &attributes), "BPF_MAP_UPDATE_ELEM");
}

static int load(int type, const struct bpf_insn *code, size_t count, const char *name)
{
	static char complaints[65536];
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = type;
	attributes.insns = (uintptr_t)code;
	attributes.insn_cnt = count;
	attributes.license = (uintptr_t) "GPL";
	attributes.log_buf = (uintptr_t)complaints;
	attributes.log_size = sizeof(complaints);
	attributes.log_level = 1;
	strcpy(attributes.prog_name, name);
	int program = check(bpf(BPF_PROG_LOAD, &attributes), name);
	if (program < 0)
		fprintf(stderr, "%s\n", complaints);
	return program;
}

static int load_return(int type, int value, const char *name)
{
	struct bpf_insn code[] = { MOVE(BPF_REG_0, value), EXIT };

	return load(type, code, COUNT(code), name);
}

// Counts in the first entry of a map; a subprogram asks for the time.
static int load_counter(int type, int map, const char *name)
{
	struct bpf_insn code[] = {
		CODE(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
		COPY(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, -4),
		LOAD_MAP(BPF_REG_1, map),
		CALL(BPF_FUNC_map_lookup_elem),
		CODE(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 2, 0),
		MOVE(BPF_REG_1, 1),
		CODE(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_1, 0, BPF_ADD),
		CALL_OWN(2),
		MOVE(BPF_REG_0, 1),
		EXIT,
		CALL(BPF_FUNC_ktime_get_ns),
		CODE(BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_0, 0, 0, 10),
		EXIT,
	};

	return load(type, code, COUNT(code), name);
}

static void fill(int map, int entries)
{
	for (uint32_t key = 0; key < (uint32_t)entries; key++) {
		uint64_t value[4] = { key * 100, key, 0, 0 };
		put(map, &key, value);
	}
}

static void fill_special(int program, int inner)
{
	uint32_t zero = 0, address[2] = { 24, htonl(0x0a000200) };
	uint64_t value = 24;

	put(make_map(BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 4, 0, 0, "rich_tails"), &zero, &program);
	put(make_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 4, 0, inner, "rich_outer"), &zero, &inner);
	put(make_map(BPF_MAP_TYPE_LPM_TRIE, 8, 8, 16, BPF_F_NO_PREALLOC, 0, "rich_routes"), address, &value);
	put(make_map(BPF_MAP_TYPE_QUEUE, 0, 8, 8, 0, 0, "rich_queue"), NULL, &value);
}

static int read_number(const char *path)
{
	int number = -1;
	FILE *file = fopen(path, "r");

	if (file && fscanf(file, "%d", &number) != 1)
		number = -1;
	if (file)
		fclose(file);
	return check(number, path);
}

static void attach_event(int type, uint64_t config, const char *function, int program, const char *what)
{
	struct perf_event_attr attributes = { .type = type, .size = sizeof(attributes), .config = config,
					      .sample_period = 1, .kprobe_func = (uintptr_t)function };
	int event = check(syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0), what);

	if (event < 0)
		return;
	check(ioctl(event, PERF_EVENT_IOC_SET_BPF, program), what);
	check(ioctl(event, PERF_EVENT_IOC_ENABLE, 0), what);
}

static void attach_group(const char *path, int program, int where)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.target_fd = check(open(path, O_RDONLY), path);
	attributes.attach_bpf_fd = program;
	attributes.attach_type = where;
	attributes.attach_flags = BPF_F_ALLOW_MULTI;
	check(bpf(BPF_PROG_ATTACH, &attributes), path);
}

static void attach_device(const char *device, int program)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = program;
	attributes.link_create.target_ifindex = if_nametoindex(device);
	attributes.link_create.attach_type = BPF_XDP;
	check(bpf(BPF_LINK_CREATE, &attributes), device);
}

static void pin(int file, const char *path)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.pathname = (uintptr_t)path;
	attributes.bpf_fd = file;
	check(bpf(BPF_OBJ_PIN, &attributes), path);
}

static void attach_raw_tracepoint(int program, const char *name)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.raw_tracepoint.name = (uintptr_t)name;
	attributes.raw_tracepoint.prog_fd = program;
	check(bpf(BPF_RAW_TRACEPOINT_OPEN, &attributes), name);
}

// A filter of the old kind: compiled too, but without a number.
static void attach_classic(void)
{
	struct sock_filter code[] = { { BPF_LD | BPF_W | BPF_LEN, 0, 0, 0 }, { BPF_RET | BPF_A, 0, 0, 0 } };
	struct sock_fprog program = { COUNT(code), code };
	int socket_file = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");

	check(setsockopt(socket_file, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), "SO_ATTACH_FILTER");
}

static void attach_filter(int program)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "socketpair");
	check(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program)), "SO_ATTACH_BPF");
	check(write(pair[0], "packet", 6), "packet");
}

static void programs_and_maps(void)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	check(setrlimit(RLIMIT_MEMLOCK, &unlimited), "RLIMIT_MEMLOCK");	// what counts before 5.11
	int hash = make_map(BPF_MAP_TYPE_HASH, 4, 16, 64, 0, 0, "rich_hash");
	int array = make_map(BPF_MAP_TYPE_ARRAY, 4, 8, 16, 0, 0, "rich_array");
	int per_cpu = make_map(BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 8, 0, 0, "rich_percpu");

	fill(hash, 20);
	fill(array, 16);
	fill(make_map(BPF_MAP_TYPE_LRU_HASH, 4, 8, 32, 0, 0, "rich_lru"), 10);
	make_map(BPF_MAP_TYPE_PERCPU_HASH, 4, 8, 8, 0, 0, "rich_percpuhash");
	make_map(BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 2, 0, 0, "rich_events");
	make_map(BPF_MAP_TYPE_STACK_TRACE, 4, 80, 16, 0, 0, "rich_stacks");
	make_map(BPF_MAP_TYPE_RINGBUF, 0, 0, 4096, 0, 0, "rich_ring");
	make_map(BPF_MAP_TYPE_CGROUP_ARRAY, 4, 4, 2, 0, 0, "rich_groups");

	int filter = load_counter(BPF_PROG_TYPE_SOCKET_FILTER, hash, "rich_filter");
	attach_filter(filter);
	fill_special(filter, make_map(BPF_MAP_TYPE_ARRAY, 4, 8, 2, 0, 0, "rich_inner"));
	attach_classic();
	attach_event(read_number("/sys/bus/event_source/devices/kprobe/type"), 0, "vfs_fsync",
		     load_counter(BPF_PROG_TYPE_KPROBE, array, "rich_kprobe"), "kprobe");
	attach_event(PERF_TYPE_TRACEPOINT, read_number("/sys/kernel/tracing/events/sched/sched_process_exit/id"), NULL,
		     load_counter(BPF_PROG_TYPE_TRACEPOINT, per_cpu, "rich_tracepoint"), "tracepoint");
	attach_raw_tracepoint(load_return(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "rich_raw"), "sched_process_fork");
	attach_group("/sys/fs/cgroup/rich", load_return(BPF_PROG_TYPE_CGROUP_SKB, 1, "rich_skb"), BPF_CGROUP_INET_EGRESS);
	attach_group("/sys/fs/cgroup/rich/inner", load_return(BPF_PROG_TYPE_CGROUP_DEVICE, 1, "rich_device"),
		     BPF_CGROUP_DEVICE);
	attach_device("dummy0", load_return(BPF_PROG_TYPE_XDP, 2, "rich_xdp"));
	pin(load_counter(BPF_PROG_TYPE_SCHED_CLS, array, "rich_cls"), "/sys/fs/bpf/rich_cls");
}

void rich_bpf(void)
{
	spawn("rich-bpf", programs_and_maps);
}
