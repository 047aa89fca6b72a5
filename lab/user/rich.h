/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef RICH_H
#define RICH_H

#include "spawn.h"

/* A FIFO: the spinners spin as soon as there is something in it. */
#define SPINNER_GATE "/tmp/rich-gate"
/* Exists when all is set up. */
#define RICH_IS_READY "/tmp/rich-is-ready"

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
