// SPDX-License-Identifier: MIT OR Apache-2.0
// blocked: file systems whose server or disk does not answer, a queue that freezes, a SCSI host that handles errors. Runs
// after blocked.sh, and stays. What it built is written to the facts of `stuck.h`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocked.h"

// "log xfs|btrfs PID NAME DISK NANOSECONDS": a change that is about to be waited for. Files are made, not directories:
// those would be looked for a place on parts of the disk that are not in memory.
static int change(const char *kind, const char *disk, const char *path)
{
	char comm[16] = "";
	int file = open("/proc/self/comm", O_RDONLY);

	if (read(file, comm, sizeof(comm) - 1) > 0)
		comm[strcspn(comm, "\n")] = 0;
	close(file);
	fact("log %s %d %s %s %llu\n", kind, getpid(), comm, disk, now());
	ready();
	return check(open(path, O_CREAT | O_WRONLY, 0600), path);
}

static void change_xfs(const char *path)
{
	check(fsync(change("xfs", "dm-0", path)), path);
	fprintf(stderr, "lab: %s is on disk\n", path);
}

// A commit of the transaction, without writing data first.
static void change_btrfs(const char *path)
{
	check(ioctl(change("btrfs", "dm-1", path), BTRFS_IOC_SYNC), path);
	fprintf(stderr, "lab: %s is on disk\n", path);
}

static void xfs_first(void) { change_xfs("/tmp/xfs/one"); }
static void xfs_second(void) { change_xfs("/tmp/xfs/two"); }
static void btrfs_first(void) { change_btrfs("/tmp/btrfs/one"); }
static void btrfs_second(void) { change_btrfs("/tmp/btrfs/two"); }

// A file system that is well until its disk is suspended.
static void block_log(const char *kind, const char *directory, unsigned long long sectors, const char *on,
		      void (*first)(void), void (*second)(void))
{
	char path[128], name[32];

	mapper_create(kind, sectors, "linear", on);
	snprintf(path, sizeof(path), "/dev/mapper/%s", kind);
	if (check(mount(path, directory, kind, 0, ""), path) < 0)
		return;
	snprintf(name, sizeof(name), "%s/zero", directory);
	int file = check(open(name, O_CREAT | O_WRONLY, 0600), name);
	syncfs(file);	// not all file systems: some do not answer any more
	close(file);
	mapper_suspend(kind);
	snprintf(name, sizeof(name), "%s-first", kind);
	spawn(name, first);
	sleep(1);
	snprintf(name, sizeof(name), "%s-second", kind);
	spawn(name, second);
}

static void write_text(const char *path, const char *text)
{
	int file = check(open(path, O_WRONLY | O_CLOEXEC), path);

	check(write(file, text, strlen(text)), path);
	close(file);
}

static void read_disk(const char *path, long place)
{
	int file = check(open(path, O_RDONLY | O_DIRECT), path);
	void *memory;

	if (file < 0 || posix_memalign(&memory, 4096, 4096))
		return;
	ready();
	check(pread(file, memory, 4096, place), path);
	fprintf(stderr, "lab: %s: the I/O came back\n", path);
}

// "scsi failing|slow PID HOST DISK NANOSECONDS", by the path of the disk in sysfs: .../host1/target1:0:0/1:0:0:0
static void note_scsi(const char *what, const char *disk)
{
	char path[64], target[512] = "";
	int host = -1;

	snprintf(path, sizeof(path), "/sys/block/%s/device", disk);
	if (readlink(path, target, sizeof(target) - 1) > 0 && strrchr(target, '/'))
		sscanf(strrchr(target, '/') + 1, "%d:", &host);
	fact("scsi %s %d %d %s %llu\n", what, getpid(), host, disk, now());
}

static void slow_read(void)
{
	note_scsi("slow", "sdb");
	read_disk("/dev/sdb", 8192);
}

// It waits for the slow read, and the queue takes nothing from then on.
static void freeze(void)
{
	char schedulers[64] = "";
	int file = open("/sys/block/sdb/queue/scheduler", O_RDONLY);

	check(read(file, schedulers, sizeof(schedulers) - 1), "scheduler");
	close(file);
	fact("frozen freezes %d sdb %llu\n", getpid(), now());
	ready();
	write_text("/sys/block/sdb/queue/scheduler", strstr(schedulers, "[none]") ? "mq-deadline" : "none");
	fprintf(stderr, "lab: the queue was frozen and thawed\n");
}

static void read_frozen(void)
{
	int file = check(open("/dev/sdb", O_RDONLY | O_DIRECT), "/dev/sdb");

	close(file);
	fact("frozen waits %d sdb %llu\n", getpid(), now());
	read_disk("/dev/sdb", 16384);
}

static void failing_read(void)
{
	note_scsi("failing", "sda");
	read_disk("/dev/sda", 4096);
}

static void block_scsi(void)
{
	write_text("/sys/block/sdb/device/timeout", "10000");
	write_text("/sys/block/sda/device/eh_timeout", "10000");
	write_text("/sys/block/sda/device/timeout", "2");
	write_text("/sys/bus/pseudo/drivers/scsi_debug/delay", "10000000");
	spawn("blocked-slow", slow_read);
	spawn("blocked-freezer", freeze);
	sleep(1);
	spawn("blocked-frozen", read_frozen);
	spawn("blocked-failing", failing_read);
}

int main(void)
{
	blocked_nfs();
	block_log("xfs", "/tmp/xfs", 655360, "7:0 0", xfs_first, xfs_second);
	block_log("btrfs", "/tmp/btrfs", 327680, "7:1 0", btrfs_first, btrfs_second);
	block_scsi();
	sleep(8);	// until the failing command has been given up twice
	close(open(STUCK_IS_READY, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	sleep_for_ever();
}
