// SPDX-License-Identifier: MIT OR Apache-2.0
// Processes and threads with names, which stay.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "spawn.h"

#define PATIENCE_MS 20000

static int ready_pipe = -1;
static const char *own_name = "lab";

long check(long result, const char *what)
{
	if (result < 0)
		fprintf(stderr, "lab: %s: %s: %s\n", own_name, what, strerror(errno));
	return result;
}

void sleep_for_ever(void)
{
	for (;;)
		pause();
}

void ready(void)
{
	if (ready_pipe >= 0)
		close(ready_pipe);
	ready_pipe = -1;
}

int spawn(const char *name, void (*work)(void))
{
	int ends[2];

	if (check(pipe(ends), "pipe") < 0)
		return -1;
	int child = fork();
	if (child == 0) {
		close(ends[0]);
		ready();	// a parent that is itself being waited for
		ready_pipe = ends[1];
		own_name = name;
		prctl(PR_SET_NAME, name);
		if (work)
			work();
		ready();
		sleep_for_ever();
	}
	close(ends[1]);
	// The pipe ends when the child closes it, or dies.
	struct pollfd end = { .fd = ends[0], .events = POLLIN };
	if (poll(&end, 1, PATIENCE_MS) == 0)
		fprintf(stderr, "lab: %s is not ready\n", name);
	close(ends[0]);
	return child;
}

struct start {
	const char *name;
	void *(*work)(void *);
	void *argument;
};

static void *run_thread(void *argument)
{
	struct start start = *(struct start *)argument;

	free(argument);
	prctl(PR_SET_NAME, start.name);
	return start.work(start.argument);
}

void start_thread(const char *name, void *(*work)(void *), void *argument)
{
	struct start *start = malloc(sizeof(*start));
	pthread_t thread;

	*start = (struct start){ name, work, argument };
	errno = pthread_create(&thread, NULL, run_thread, start);
	check(errno ? -1 : 0, name);
}
