/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef TRIGGER_H
#define TRIGGER_H

/* Writes down, line by line, what a reader of the dump must find. */
void write_truth(const char *scenario);

/* Sends a packet through a socket filter whose subprogram calls the helper bpf_ktime_get_ns; 0 when it came back. */
int run_bpf_filter(void);

#endif
