// SPDX-License-Identifier: MIT OR Apache-2.0
// Open files of every kind, file locks, and processes in mount, PID, user and other namespaces.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rich.h"

static int open_with_text(const char *path, int flags, size_t length)
{
	char block[4096];
	int file = check(open(path, flags | O_CREAT, 0644), path);

	memset(block, 'f', sizeof(block));
	while (length > 0) {
		ssize_t written = write(file, block, length < sizeof(block) ? length : sizeof(block));
		if (check(written, path) <= 0)
			break;
		length -= written;
	}
	return file;
}

static void open_plain(void)
{
	open_with_text("/tmp/rich-file", O_RDWR, 10000);
	open_with_text("/data/rich-append", O_WRONLY | O_APPEND, 20000);
	open_with_text("/tmp/rich-deleted", O_RDWR, 5000);
	unlink("/tmp/rich-deleted");
	open_with_text("/data/rich-gone", O_RDWR, 9000);
	unlink("/data/rich-gone");
	mkdir("/tmp/rich-dir", 0755);
	check(open("/tmp/rich-dir", O_RDONLY | O_DIRECTORY), "directory");
	check(open("/tmp", O_TMPFILE | O_RDWR, 0600), "O_TMPFILE");
	check(open("/tmp/rich-dir", O_PATH), "O_PATH");
	mkfifo("/tmp/rich-fifo", 0600);
	check(open("/tmp/rich-fifo", O_RDWR | O_NONBLOCK), "FIFO");
	check(open("/dev/null", O_RDWR), "/dev/null");
	check(open("/dev/zero", O_RDONLY), "/dev/zero");
	check(open("/dev/vda", O_RDONLY), "/dev/vda");
	check(open("/proc/self/status", O_RDONLY), "/proc/self/status");
	check(open("/sys/kernel/uevent_seqnum", O_RDONLY), "/sys");
	int terminal = check(open("/dev/pts/ptmx", O_RDWR | O_NOCTTY), "ptmx");
	check(terminal, "terminal");
	check(memfd_create("rich-memfd", MFD_CLOEXEC), "memfd");
	check(dup2(terminal, 200), "dup2");	// a table of more than one word
}

static void open_anonymous(void)
{
	sigset_t set;

	check(eventfd(7, EFD_SEMAPHORE), "eventfd");
	int notify = check(inotify_init1(IN_NONBLOCK), "inotify");
	check(inotify_add_watch(notify, "/tmp/rich-dir", IN_ALL_EVENTS), "watch");
	check(inotify_add_watch(notify, "/data", IN_CREATE), "watch");
	close(open("/tmp/rich-dir/noticed", O_CREAT | O_WRONLY, 0600));	// events in the queue
	int all = check(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY), "fanotify");
	check(fanotify_mark(all, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "/data"), "mark");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	check(signalfd(-1, &set, 0), "signalfd");
	check(syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
	check(syscall(SYS_userfaultfd, O_NONBLOCK), "userfaultfd");
	int poller = check(epoll_create1(0), "epoll");
	struct epoll_event event = { .events = EPOLLIN };
	check(epoll_ctl(poller, EPOLL_CTL_ADD, notify, &event), "epoll_ctl");
}

static void lock_files(void)
{
	int file = open_with_text("/tmp/rich-locked", O_RDWR, 100);
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20 };

	check(flock(file, LOCK_EX), "flock");
	check(fcntl(file, F_SETLK, &range), "F_SETLK");
	range.l_start = 50;
	check(fcntl(file, F_OFD_SETLK, &range), "F_OFD_SETLK");
	int leased = open_with_text("/tmp/rich-leased", O_RDONLY, 0);
	check(fcntl(leased, F_SETLEASE, F_RDLCK), "F_SETLEASE");
}

static void various_files(void)
{
	open_plain();
	open_anonymous();
	lock_files();
	check(chdir("/tmp/rich-dir"), "chdir");
}

static void locked_out(void)
{
	int file = check(open("/tmp/rich-locked", O_RDWR), "rich-locked");

	ready();
	check(flock(file, LOCK_EX), "flock");
}

static void other_root(void)
{
	mkdir("/tmp/rich-root", 0755);
	mkdir("/tmp/rich-root/inside", 0755);
	check(chroot("/tmp/rich-root"), "chroot");
	check(chdir("/inside"), "chdir");
	open_with_text("/inside/file", O_RDWR, 1);
}

static void mount_namespace(void)
{
	check(unshare(CLONE_NEWNS | CLONE_NEWUTS), "unshare mount");
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	mkdir("/tmp/rich-mount", 0755);
	check(mount("rich", "/tmp/rich-mount", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m"), "tmpfs");
	check(mount("/data", "/mnt", NULL, MS_BIND | MS_RDONLY, NULL), "bind");
	sethostname("rich-host", 9);
	open_with_text("/tmp/rich-mount/own", O_RDWR, 6000);
}

static void first_inside(void)
{
	ready();
	spawn("rich-pid-2", NULL);
}

static void pid_namespace(void)
{
	check(unshare(CLONE_NEWPID | CLONE_NEWCGROUP), "unshare pid");
	spawn("rich-pid-1", first_inside);
}

static void user_namespace(void)
{
	check(unshare(CLONE_NEWUSER | CLONE_NEWTIME), "unshare user");
}

void rich_files(void)
{
	spawn("rich-files", various_files);
	spawn("rich-flock", locked_out);
	spawn("rich-chroot", other_root);
	spawn("rich-mntns", mount_namespace);
	spawn("rich-pidns", pid_namespace);
	spawn("rich-userns", user_namespace);
}
