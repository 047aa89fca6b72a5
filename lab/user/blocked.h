/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BLOCKED_H
#define BLOCKED_H

#include "stuck.h"

/* A server of NFS that falls silent, and processes that wait for it. */
void blocked_nfs(void);

#endif
