/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef RICH_H
#define RICH_H

/* A FIFO: the spinners spin as soon as there is something in it. */
#define SPINNER_GATE "/tmp/rich-gate"
/* Exists when all is set up. */
#define RICH_IS_READY "/tmp/rich-is-ready"

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

/* The parts: each starts processes of its own. */
void rich_ipc(void);
void rich_net(void);
void rich_tasks(void);
void rich_timers(void);
void rich_memory(void);
void rich_files(void);
void rich_bpf(void);
void rich_io(void);

#endif
