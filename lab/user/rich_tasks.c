// SPDX-License-Identifier: MIT OR Apache-2.0
// Tasks in every state, under every policy, in every kind of wait; signals pending and blocked; full run queues.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rich.h"

static int quiet[2];	// a pipe that nobody writes to

static void *in_poll(void *unused)
{
	struct pollfd end = { .fd = quiet[0], .events = POLLIN };

	poll(&end, 1, -1);
	return unused;
}

static void *in_epoll(void *unused)
{
	struct epoll_event event = { .events = EPOLLIN };
	int poller = epoll_create1(0);

	check(epoll_ctl(poller, EPOLL_CTL_ADD, quiet[0], &event), "epoll_ctl");
	epoll_wait(poller, &event, 1, -1);
	return unused;
}

static void *in_select(void *unused)
{
	struct timeval hours = { .tv_sec = 7200 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(quiet[0], &set);
	select(quiet[0] + 1, &set, NULL, NULL, &hours);
	return unused;
}

static void *in_read(void *file)
{
	uint64_t word;

	check(read((int)(intptr_t)file, &word, sizeof(word)), "read");
	return NULL;
}

static void *in_write(void *unused)
{
	char block[4096] = "";
	int full[2];

	check(pipe(full), "pipe");
	while (write(full[1], block, sizeof(block)) > 0)
		;
	return unused;
}

static void *in_futex(void *word)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return NULL;
}

static void *in_wait(void *unused)
{
	waitpid(-1, NULL, 0);
	return unused;
}

static void *in_sigwait(void *unused)
{
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigwaitinfo(&set, &info);
	return unused;
}

static void *in_sleep(void *unused)
{
	struct timespec day = { .tv_sec = 86400 };

	nanosleep(&day, NULL);
	return unused;
}

static void waits(void)
{
	static int word;

	check(pipe(quiet), "pipe");
	spawn("rich-child", NULL);
	start_thread("wait-poll", in_poll, NULL);
	start_thread("wait-epoll", in_epoll, NULL);
	start_thread("wait-select", in_select, NULL);
	start_thread("wait-pipe", in_read, (void *)(intptr_t)quiet[0]);
	start_thread("wait-pipe-full", in_write, NULL);
	start_thread("wait-futex", in_futex, &word);
	start_thread("wait-futex-too", in_futex, &word);
	start_thread("wait-child", in_wait, NULL);
	start_thread("wait-signal", in_sigwait, NULL);
	start_thread("wait-sleep", in_sleep, NULL);
	start_thread("wait-eventfd", in_read, (void *)(intptr_t)eventfd(0, 0));
	start_thread("wait-inotify", in_read, (void *)(intptr_t)inotify_init());
}

static void stopped(void)
{
	ready();
	raise(SIGSTOP);
}

static void traced(void)
{
	check(ptrace(PTRACE_TRACEME, 0, 0, 0), "PTRACE_TRACEME");
	stopped();
}

static void dead(void)
{
	_exit(3);
}

// Uninterruptible until the child is done with its memory, which it never is.
static void lender(void)
{
	ready();
	if (vfork() == 0) {
		prctl(PR_SET_NAME, "rich-borrower");
		sleep_for_ever();
	}
}

static void schedule_as(int policy, int priority)
{
	struct sched_param parameter = { .sched_priority = priority };

	check(sched_setscheduler(0, policy, &parameter), "sched_setscheduler");
}

static void under_fifo(void)
{
	schedule_as(SCHED_FIFO, 10);
}

static void under_round_robin(void)
{
	schedule_as(SCHED_RR, 20);
}

static void under_batch(void)
{
	schedule_as(SCHED_BATCH, 0);
}

static void under_idle(void)
{
	schedule_as(SCHED_IDLE, 0);
}

static void under_deadline(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attributes = { sizeof(attributes), SCHED_DEADLINE, 0, 0, 0, 5000000, 50000000, 100000000 };

	check(syscall(SYS_sched_setattr, 0, &attributes, 0), "sched_setattr");
}

static void be_nice(void)
{
	check(setpriority(PRIO_PROCESS, 0, 7), "setpriority");
}

static void join_group(const char *group)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/cgroup.procs", group);
	int file = check(open(path, O_WRONLY), path);
	check(write(file, "0", 1), path);
	close(file);
}

// Queued on CPU 0 when the kernel stops: the process that stops it has a higher priority, and is there too.
static void spin_behind_gate(void)
{
	cpu_set_t first;
	struct pollfd gate = { .fd = check(open(SPINNER_GATE, O_RDWR), SPINNER_GATE), .events = POLLIN };

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	check(sched_setaffinity(0, sizeof(first), &first), "sched_setaffinity");
	ready();
	// A reader would be woken only after the one before it has run.
	if (check(poll(&gate, 1, -1), SPINNER_GATE) != 1)
		return;
	for (;;)
		__asm__ volatile("");
}

static void spin_fifo(void)
{
	under_fifo();
	spin_behind_gate();
}

static void spin_round_robin(void)
{
	under_round_robin();
	spin_behind_gate();
}

static void spin_nice(void)
{
	be_nice();
	spin_behind_gate();
}

static void spin_in_group(void)
{
	join_group("rich/other");
	spin_behind_gate();
}

static void spin_in_inner_group(void)
{
	join_group("rich/inner");
	spin_behind_gate();
}

static void on_signal(int number, siginfo_t *info, void *context)
{
}

static void block_signals(int first)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	for (int i = 0; i < 4; i++)
		sigaddset(&set, first + i);
	check(pthread_sigmask(SIG_BLOCK, &set, NULL), "pthread_sigmask");
}

static void *with_own_signals(void *unused)
{
	block_signals(SIGRTMIN + 4);
	for (int i = 0; i < 2; i++)
		check(pthread_sigqueue(pthread_self(), SIGRTMIN + 5, (union sigval){ .sival_int = 500 + i }), "sigqueue");
	check(pthread_kill(pthread_self(), SIGHUP), "pthread_kill");
	sleep_for_ever();
}

static void signals(void)
{
	static char stack[1 << 16];
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	stack_t other = { .ss_sp = stack, .ss_size = sizeof(stack) };

	check(sigaltstack(&other, NULL), "sigaltstack");
	check(sigaction(SIGUSR1, &action, NULL), "SIGUSR1");
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESETHAND;
	sigfillset(&action.sa_mask);
	check(sigaction(SIGTERM, &action, NULL), "SIGTERM");
	signal(SIGUSR2, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	block_signals(SIGRTMIN + 1);
	for (int i = 0; i < 3; i++)
		check(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 1000 + i }), "sigqueue");
	check(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_ptr = stack }), "sigqueue");
	check(kill(getpid(), SIGHUP), "kill");
	start_thread("sig-thread", with_own_signals, NULL);
}

void rich_tasks(void)
{
	spawn("rich-waits", waits);
	spawn("rich-stopped", stopped);
	spawn("rich-traced", traced);
	spawn("rich-zombie", dead);
	spawn("rich-lender", lender);
	spawn("rich-fifo", under_fifo);
	spawn("rich-rr", under_round_robin);
	spawn("rich-batch", under_batch);
	spawn("rich-idle", under_idle);
	spawn("rich-deadline", under_deadline);
	spawn("rich-nice", be_nice);
	spawn("rich-signals", signals);
	spawn("spin-plain", spin_behind_gate);
	spawn("spin-nice", spin_nice);
	spawn("spin-fifo", spin_fifo);
	spawn("spin-rr", spin_round_robin);
	spawn("spin-group", spin_in_group);
	spawn("spin-inner", spin_in_inner_group);
}
