/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef TRUTH_H
#define TRUTH_H

#include <stdio.h>

/* Where the truth is being written. */
extern FILE *out;

/* Each line of a file behind a key, without the first `skip` lines. */
void copy_lines(const char *key, const char *path, int skip);
/* Calls `visit` with each name of a directory that is a number. */
void for_each_number(const char *directory, void (*visit)(const char *name));

/* What the kernel says of its memory, of every process's badness, and of control groups. */
void write_memory_truth(void);

/* The scenario `rich`: facts that stay, and facts that move until the end. */
void write_steady_truth(void);
void write_moving_truth(void);
void fill_run_queue(void);

#endif
