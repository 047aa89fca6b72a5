/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SPAWN_H
#define SPAWN_H

/*
 * Starts a process of this name that does `work`, and returns its number once the process has called `ready`, or has
 * ended. When `work`, which may be null, returns, the process sleeps for ever.
 */
int spawn(const char *name, void (*work)(void));
void ready(void);

/* A thread of this name. */
void start_thread(const char *name, void *(*work)(void *), void *argument);
_Noreturn void sleep_for_ever(void);

/* Says what failed (a negative result), with errno; gives the result back. What one kernel lacks, another has. */
long check(long result, const char *what);

#endif
