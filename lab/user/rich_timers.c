// SPDX-License-Identifier: MIT OR Apache-2.0
// Timers of every clock: POSIX timers, timerfds, interval timers, sleepers.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "rich.h"

static void set_timer(clockid_t clock, int notify, int signal, time_t seconds, time_t interval, const char *what)
{
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = signal };
	struct itimerspec times = { .it_value.tv_sec = seconds, .it_interval.tv_sec = interval };
	timer_t timer;

	event.sigev_value.sival_int = seconds;
	if (notify & SIGEV_THREAD_ID)
		event._sigev_un._tid = syscall(SYS_gettid);
	if (check(timer_create(clock, &event, &timer), what) == 0 && seconds)
		check(timer_settime(timer, 0, &times, NULL), what);
}

static void posix_timers(void)
{
	set_timer(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 1000, 0, "CLOCK_REALTIME");
	set_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 2000, 30, "CLOCK_MONOTONIC");
	set_timer(CLOCK_BOOTTIME, SIGEV_SIGNAL | SIGEV_THREAD_ID, SIGUSR2, 3000, 0, "CLOCK_BOOTTIME");
	set_timer(CLOCK_TAI, SIGEV_SIGNAL, SIGALRM, 4000, 0, "CLOCK_TAI");
	set_timer(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGXCPU, 5000, 0, "CLOCK_PROCESS_CPUTIME_ID");
	set_timer(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, SIGXCPU, 6000, 0, "CLOCK_THREAD_CPUTIME_ID");
	set_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0, 0, "not armed");
}

static void set_timerfd(clockid_t clock, time_t seconds, time_t interval, const char *what)
{
	struct itimerspec times = { .it_value.tv_sec = seconds, .it_interval.tv_sec = interval };
	int file = check(timerfd_create(clock, 0), what);

	if (file >= 0)
		check(timerfd_settime(file, 0, &times, NULL), what);
}

static void timer_files(void)
{
	set_timerfd(CLOCK_REALTIME, 1500, 0, "timerfd realtime");
	set_timerfd(CLOCK_MONOTONIC, 2500, 60, "timerfd monotonic");
	set_timerfd(CLOCK_BOOTTIME, 3500, 0, "timerfd boottime");
}

static void interval_timers(void)
{
	struct itimerval times = { .it_value.tv_sec = 1200, .it_interval.tv_sec = 5 };

	check(setitimer(ITIMER_REAL, &times, NULL), "ITIMER_REAL");
	check(setitimer(ITIMER_VIRTUAL, &times, NULL), "ITIMER_VIRTUAL");
	check(setitimer(ITIMER_PROF, &times, NULL), "ITIMER_PROF");
}

static void *sleep_by(void *clock)
{
	struct timespec long_time = { .tv_sec = 9000 };

	clock_nanosleep((clockid_t)(intptr_t)clock, 0, &long_time, NULL);
	return NULL;
}

static void sleepers(void)
{
	start_thread("sleep-realtime", sleep_by, (void *)(intptr_t)CLOCK_REALTIME);
	start_thread("sleep-monotonic", sleep_by, (void *)(intptr_t)CLOCK_MONOTONIC);
	start_thread("sleep-boottime", sleep_by, (void *)(intptr_t)CLOCK_BOOTTIME);
	start_thread("sleep-tai", sleep_by, (void *)(intptr_t)CLOCK_TAI);
}

void rich_timers(void)
{
	spawn("rich-timers", posix_timers);
	spawn("rich-timerfd", timer_files);
	spawn("rich-itimers", interval_timers);
	spawn("rich-sleepers", sleepers);
}
