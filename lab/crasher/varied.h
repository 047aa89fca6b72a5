/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What differs from build to build: `lab boot --seed N` draws each value anew, from the range or the choice that stands
 * behind it, and names, too (xtask/src/lab/vary.rs). Seed 0 is what is written here.
 */
#ifndef VARIED_H
#define VARIED_H

/* Words of 8 bytes in front of the members of a structure: offsets, sizes, caches to merge with. */
#define EVIDENCE_SPARE 0		/* 0..24 */
#define WITNESS_SPARE 0			/* 0..8 */
#define WIDGET_SPARE 0			/* 0..30 */
#define LEAKED_SPARE 0			/* 0..40 */

/* Wrong pointers, and whether they are read or written through. */
#define THROUGH_READS 0			/* 0..1 */
#define NULL_OFFSET 0x10UL		/* 0x0..0xff8 step 8 */
#define WILD_ADDRESS 0xdead4ead00001234UL /* 0x0100000000000000..0xfe00000000000000 */
#define HELPER_OFFSET 0x18UL		/* 0x8..0xff8 step 8 */
#define STALE_BYTE 0x37			/* 0x01..0x7f */
#define STALE_POINTER 0x0f37c0de12345678UL /* 0x0100000000000000..0xfe00000000000000 */
#define POINTER_BIT 42			/* 32..62 */
#define JUMP_INTO 0			/* 0..2 : a fresh object, null, data of the module */

/* What is written over other data. */
#define LOG_TEXT "kvm [26261]: vcpu0 unhandled rdmsr: 0x1a2 ......" /* | "GET /index.html HTTP/1.1\r\nHost: example.org\r\n" | "<6>eth0: link becomes ready, full duplex\n" */
#define PAST_TEXT "A"			/* | "overrun of a name " | "user=root;shell=/bin/sh;" | "zz" */
#define PAST_MORE 8			/* 8..32 step 8 */
#define TABLE_TEXT "garbage!"		/* | "#!/bin/s" | "Content-" | "deadline" */
#define STACK_END_WORD 0x6e6f737265746570UL /* 0x0100000000000000..0xfe00000000000000 */
#define LEAKED_TEXT "kdive: a record that nobody frees" /* | "session of a client that has gone" | "lease of 10.1.2.3, expired" */

/* Which object, how many, how deep. */
#define DELETED_ENTRY 0			/* 0..999 */
#define OVERWRITTEN_ENTRY 0		/* 0..500 */
#define LEAKED_COUNT 4000		/* 3000..9000 */
#define FRAME_BYTES 512			/* 64..1024 step 32 */
#define CODE_OFFSET 14			/* 6..20 */
#define CODE_BIT 2			/* 0..7 */
#define REFCOUNT_TAKES 0		/* 0..1 : taken from zero instead of given back twice */
#define DIVIDE_FOR_REST 0		/* 0..1 */

#endif
