// SPDX-License-Identifier: MIT OR Apache-2.0
// A BPF program on a socket, through the raw system call: JIT-compiled code on the stack, two frames of it.
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "trigger.h"

#ifndef SO_ATTACH_BPF
#define SO_ATTACH_BPF 50
#endif

#define CALL_HELPER(number) { .code = BPF_JMP | BPF_CALL, .imm = (number) }
#define CALL_SUBPROGRAM(distance) { .code = BPF_JMP | BPF_CALL, .src_reg = BPF_PSEUDO_CALL, .imm = (distance) }
#define MOVE_IMMEDIATE(to, value) { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (value) }
#define EXIT { .code = BPF_JMP | BPF_EXIT }

static const struct bpf_insn filter[] = {
	CALL_SUBPROGRAM(2),
	MOVE_IMMEDIATE(BPF_REG_0, 0xffff),	// keep the whole packet
	EXIT,
	CALL_HELPER(BPF_FUNC_ktime_get_ns),	// the subprogram
	EXIT,
};

int run_bpf_filter(void)
{
	static char complaints[65536];
	int pair[2], program;
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attributes.insns = (uintptr_t)filter;
	attributes.insn_cnt = sizeof(filter) / sizeof(filter[0]);
	attributes.license = (uintptr_t) "GPL";
	attributes.log_buf = (uintptr_t)complaints;
	attributes.log_size = sizeof(complaints);
	attributes.log_level = 1;
	strcpy(attributes.prog_name, "crash_filter");
	program = syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
	if (program < 0) {
		perror("BPF_PROG_LOAD");
		fprintf(stderr, "%s\n", complaints);
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) ||
	    setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof(program))) {
		perror("SO_ATTACH_BPF");
		return -1;
	}
	return write(pair[0], "packet", 6) < 0 ? -1 : 0;
}
