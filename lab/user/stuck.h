/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef STUCK_H
#define STUCK_H

#include "spawn.h"

/* What was built, a fact on a line: `trigger` copies it into the truth behind the key `stuck`. */
#define STUCK_FACTS "/tmp/stuck"
/* Exists when all is set up. */
#define STUCK_IS_READY "/tmp/stuck-is-ready"

/* Adds a line to the facts. */
void fact(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The monotonic clock in nanoseconds. */
unsigned long long now(void);

/* The parts: each starts processes of its own. */
void stuck_array(void);
void stuck_block(void);
void stuck_journal(void);
void stuck_net(void);
void stuck_filter(void);

/* Device mapper: makes a device of one target, suspends it as it is (queued I/O and all), sends a message to it. */
int mapper_create(const char *name, unsigned long long sectors, const char *target, const char *parameters);
int mapper_suspend(const char *name);
int mapper_message(const char *name, const char *message);

#endif
