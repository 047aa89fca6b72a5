// SPDX-License-Identifier: MIT OR Apache-2.0
// Block devices: I/O done, and I/O in flight: /dev/loop1 is a file of a file system that is frozen.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rich.h"

#define IN_FLIGHT 5
#define BLOCK 4096

static void freeze(const char *directory)
{
	check(ioctl(open(directory, O_RDONLY), FIFREEZE, 0), directory);
}

static void asynchronous_io(void)
{
	static struct iocb requests[IN_FLIGHT];
	struct iocb *pointers[IN_FLIGHT];
	aio_context_t context = 0;
	void *memory;
	int device = check(open("/dev/loop1", O_RDWR | O_DIRECT), "/dev/loop1");

	freeze("/data");
	check(syscall(SYS_io_setup, 16, &context), "io_setup");
	if (posix_memalign(&memory, BLOCK, IN_FLIGHT * BLOCK) || device < 0)
		return;
	for (int i = 0; i < IN_FLIGHT; i++) {
		requests[i].aio_fildes = device;
		requests[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		requests[i].aio_buf = (uintptr_t)memory + i * BLOCK;
		requests[i].aio_nbytes = BLOCK;
		requests[i].aio_offset = (long)i << 20;	// apart, or they would be merged
		pointers[i] = &requests[i];
	}
	check(syscall(SYS_io_submit, context, IN_FLIGHT, pointers), "io_submit");
}

static void ring(void)
{
	struct io_uring_params parameters;

	memset(&parameters, 0, sizeof(parameters));
	check(syscall(SYS_io_uring_setup, 8, &parameters), "io_uring_setup");
}

void rich_io(void)
{
	spawn("rich-ring", ring);
	spawn("rich-aio", asynchronous_io);
}
