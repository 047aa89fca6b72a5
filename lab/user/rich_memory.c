// SPDX-License-Identifier: MIT OR Apache-2.0
// Mappings of every kind: huge, locked, shared, swapped out, forbidden.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#include "rich.h"

#define PAGE 4096UL
#define HUGE (2UL << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static char *map(size_t length, int protection, int flags, int file, const char *what)
{
	char *memory = mmap(NULL, length, protection, flags, file, 0);

	if (memory == MAP_FAILED) {
		check(-1, what);
		return NULL;
	}
	return memory;
}

static void fill(char *memory, size_t length, const char *what)
{
	for (size_t at = 0; memory && at < length; at += PAGE)
		snprintf(memory + at, 64, "%s page %zu", what, at / PAGE);
}

static void advise(char *memory, size_t length, int advice, const char *what)
{
	if (memory)
		check(madvise(memory, length, advice), what);
}

static void map_private(void)
{
	int plain = PROT_READ | PROT_WRITE, anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

	char *locked = map(16 * PAGE, plain, anonymous | MAP_LOCKED, -1, "MAP_LOCKED");
	fill(locked, 16 * PAGE, "locked");
	char *faulted = map(16 * PAGE, plain, anonymous, -1, "onfault");
	check(mlock2(faulted, 16 * PAGE, MLOCK_ONFAULT), "mlock2");
	fill(faulted, 2 * PAGE, "onfault");
	map(PAGE * 8, PROT_NONE, anonymous | MAP_NORESERVE, -1, "PROT_NONE");
	map(PAGE * 8, plain, anonymous | MAP_GROWSDOWN, -1, "MAP_GROWSDOWN");
	char *secret = map(PAGE * 2, plain, anonymous, -1, "secret");
	fill(secret, PAGE * 2, "secret");
	advise(secret, PAGE * 2, MADV_DONTDUMP, "DONTDUMP");
	advise(secret, PAGE, MADV_WIPEONFORK, "WIPEONFORK");
	char *same = map(32 * PAGE, plain, anonymous, -1, "same");
	for (size_t at = 0; same && at < 32; at++)
		memset(same + at * PAGE, 7, PAGE);
	advise(same, 32 * PAGE, MADV_MERGEABLE, "MERGEABLE");
	char *swapped = map(1024 * PAGE, plain, anonymous, -1, "swapped");
	fill(swapped, 1024 * PAGE, "swapped");
	advise(swapped, 1024 * PAGE, MADV_PAGEOUT, "PAGEOUT");
	fill(swapped, 8 * PAGE, "back");	// in memory again, and in the swap cache perhaps
	check(mprotect(map(PAGE, plain, anonymous, -1, "code"), PAGE, PROT_READ | PROT_EXEC), "mprotect");
}

static void map_huge(void)
{
	int plain = PROT_READ | PROT_WRITE;

	char *huge = map(3 * HUGE, plain, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, "MAP_HUGETLB");
	fill(huge, 2 * HUGE, "huge");
	int file = check(open("/dev/hugepages/rich", O_CREAT | O_RDWR, 0600), "hugetlbfs");
	char *shared = map(HUGE, plain, MAP_SHARED, file, "hugetlbfs");
	fill(shared, HUGE, "hugetlbfs");
	char *transparent = map(4 * HUGE, plain, MAP_PRIVATE | MAP_ANONYMOUS, -1, "THP");
	advise(transparent, 4 * HUGE, MADV_HUGEPAGE, "MADV_HUGEPAGE");
	fill(transparent, 4 * HUGE, "transparent");
}

static void map_shared(void)
{
	int plain = PROT_READ | PROT_WRITE;

	int file = check(open("/data/rich-mapped", O_CREAT | O_RDWR | O_TRUNC, 0600), "rich-mapped");
	check(ftruncate(file, 64 * PAGE), "ftruncate");
	char *mapped = map(64 * PAGE, plain, MAP_SHARED, file, "shared file");
	fill(mapped, 40 * PAGE, "file");
	char *copied = map(8 * PAGE, plain, MAP_PRIVATE, file, "private file");
	fill(copied, 2 * PAGE, "copy");
	check(remap_file_pages(mapped, PAGE, 0, 3, 0), "remap_file_pages");
	fill(map(8 * PAGE, plain, MAP_SHARED | MAP_ANONYMOUS, -1, "shared"), 8 * PAGE, "shared");
	int memory = memfd_create("rich-shared", 0);
	check(ftruncate(memory, 4 * PAGE), "ftruncate");
	fill(map(4 * PAGE, plain, MAP_SHARED, memory, "memfd"), 4 * PAGE, "memfd");
	close(file);
}

// Before the disk: what is swapped out from here on goes there.
static void swap_on(const char *device)
{
	check(swapon(device, SWAP_FLAG_PREFER | 10), device);
}

static void various_memory(void)
{
	swap_on("/dev/zram0");
	map_private();
	map_huge();
	map_shared();
}

static void all_locked(void)
{
	check(mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall");
}

void rich_memory(void)
{
	spawn("rich-memory", various_memory);
	spawn("rich-mlockall", all_locked);
}
