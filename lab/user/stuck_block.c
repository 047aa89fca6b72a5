// SPDX-License-Identifier: MIT OR Apache-2.0
// I/O in flight that does not come back: in a disk that the lab has throttled, in a suspended mapping, in a SCSI host
// that takes its time, in a multipath device without paths; and a journal that cannot commit.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stuck.h"

#define SECTOR 512
#define BLOCK 4096

// "io PID NAME DEVICE SECTOR BYTES read|write NANOSECONDS": a request that is about to be stuck.
static void stuck_io(const char *path, const char *device, long sector, int bytes, int is_write, int flags)
{
	char name[16] = "";
	void *memory;
	int file = check(open(path, (is_write ? O_RDWR : O_RDONLY) | flags), path);
	int comm = open("/proc/self/comm", O_RDONLY);

	if (read(comm, name, sizeof(name) - 1) > 0)
		name[strcspn(name, "\n")] = 0;
	if (file < 0 || posix_memalign(&memory, BLOCK, bytes))
		return;
	memset(memory, 'x', bytes);
	posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);	// no reading ahead
	fact("io %d %s %s %ld %d %s %llu\n", getpid(), name, device, sector, bytes, is_write ? "write" : "read", now());
	ready();
	if (is_write)
		check(pwrite(file, memory, bytes, sector * SECTOR), path);
	else
		check(pread(file, memory, bytes, sector * SECTOR), path);
	fprintf(stderr, "lab: %s: the I/O came back\n", path);
}

static void slow_read(void) { stuck_io("/dev/vdd", "vdd", 2048, BLOCK, 0, O_DIRECT); }
static void slow_write(void) { stuck_io("/dev/vdd", "vdd", 4096, 2 * BLOCK, 1, O_DIRECT); }
static void slow_buffered(void) { stuck_io("/dev/vdd", "vdd", 8192, BLOCK, 0, 0); }
static void mapper_write(void) { stuck_io("/dev/mapper/held", "dm-0", 1024, BLOCK, 1, O_DIRECT); }
static void scsi_read(void) { stuck_io("/dev/sda", "sda", 320, BLOCK, 0, O_DIRECT); }
static void path_read(void) { stuck_io("/dev/mapper/paths", "dm-1", 512, BLOCK, 0, O_DIRECT); }

static void nvme_read(void) { stuck_io("/dev/nvme0n1", "nvme0n1", 640, BLOCK, 0, O_DIRECT); }

// The disk is throttled: what comes behind this waits for a minute.
static void use_up_allowance(const char *path)
{
	int file = check(open(path, O_RDONLY | O_DIRECT), path), bytes = 1 << 19;
	void *memory;

	if (file >= 0 && !posix_memalign(&memory, BLOCK, bytes))
		check(pread(file, memory, bytes, 32 << 20), path);
	close(file);
}

static void write_text(const char *path, const char *text)
{
	int file = check(open(path, O_WRONLY | O_CLOEXEC), path);

	check(write(file, text, strlen(text)), path);
	close(file);
}

void stuck_block(void)
{
	mapper_create("held", 16384, "linear", "7:0 0");
	mapper_suspend("held");
	spawn("stuck-mapper", mapper_write);
	if (!access("/dev/sdb", F_OK)) {
		mapper_create("paths", 8192, "multipath", "1 queue_if_no_path 0 1 1 round-robin 0 1 1 8:16 1000");
		mapper_message("paths", "fail_path 8:16");
		spawn("stuck-paths", path_read);
	}
	if (!access("/dev/sda", F_OK)) {
		write_text("/sys/bus/pseudo/drivers/scsi_debug/delay", "100000");
		spawn("stuck-scsi", scsi_read);
	}
	use_up_allowance("/dev/nvme0n1");
	spawn("stuck-nvme", nvme_read);
	use_up_allowance("/dev/vdd");
	spawn("stuck-read", slow_read);
	spawn("stuck-write", slow_write);
	spawn("stuck-buffered", slow_buffered);
}

static void commit(void)
{
	fact("journal commits %d dm-2 %llu\n", getpid(), now());
	check(mkdir("/tmp/fs/one", 0700), "/tmp/fs/one");
	ready();
	int directory = check(open("/tmp/fs", O_RDONLY | O_DIRECTORY), "/tmp/fs");
	fsync(directory);
	fprintf(stderr, "lab: the journal committed\n");
}

// The blocks that it changes are being written to the journal: it waits for them, with a handle in the next transaction.
static void hold(void)
{
	fact("journal holds %d dm-2 %llu\n", getpid(), now());
	ready();
	mkdir("/tmp/fs/two", 0700);
	fprintf(stderr, "lab: the handle was let go\n");
}

void stuck_journal(void)
{
	mapper_create("fs", 131072, "linear", "254:64 0");
	mkdir("/tmp/fs", 0700);
	if (check(mount("/dev/mapper/fs", "/tmp/fs", "ext4", 0, ""), "/tmp/fs") < 0)
		return;
	mkdir("/tmp/fs/zero", 0700);	// what a directory needs is in memory then
	sync();
	mapper_suspend("fs");
	spawn("stuck-commit", commit);
	sleep(1);
	spawn("stuck-holder", hold);
}
