// SPDX-License-Identifier: MIT OR Apache-2.0
// background SEED: between 6 and 60 processes that go on while the kernel breaks; how many, what they are called and what
// they do is drawn from the seed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FEWEST 6
#define MORE 54

static uint64_t state;

static uint32_t below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 33) % limit;
}

static void pass(uint32_t milliseconds)
{
	struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

static void sleeps(void)
{
	for (;;)
		pass(2000 + below(60000));
}

static void burns(void)
{
	for (;;) {
		for (volatile uint32_t n = 200000 + below(2000000); n; n--)
			;
		pass(200 + below(500));
	}
}

static void touches(void)
{
	size_t bytes = (1 + below(4)) << 20;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (;;) {
		for (int n = 0; n < 50; n++)
			memory[below(bytes)] = n;
		pass(100 + below(400));
	}
}

static void writes(void)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/tmp/background-%d", getpid());
	memset(text, 'a' + below(26), sizeof(text));
	for (;;) {
		int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

		for (int n = below(100); n >= 0; n--)
			if (write(file, text, sizeof(text)) < 0)
				break;
		close(file);
		pass(300 + below(700));
	}
}

// A child answers each byte.
static void talks(void)
{
	int ends[2];
	char byte = 'x';

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return;
	if (fork() == 0)
		while (read(ends[1], &byte, 1) == 1 && write(ends[1], &byte, 1) == 1)
			;
	for (;;) {
		if (write(ends[0], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
			return;
		pass(100 + below(300));
	}
}

static void forks(void)
{
	for (;;) {
		if (fork() == 0)
			_exit(0);
		wait(NULL);
		pass(500 + below(1000));
	}
}

static void waits(void)
{
	int ends[2];

	if (pipe(ends))
		return;
	struct pollfd end = { .fd = ends[0], .events = POLLIN };
	for (;;)
		poll(&end, 1, 1000 + below(9000));
}

static void (*const works[])(void) = { sleeps, burns, touches, writes, talks, forks, waits };

int main(int argc, char **argv)
{
	state = argc > 1 ? strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15 + 1 : 1;
	for (uint32_t left = FEWEST + below(MORE); left; left--) {
		uint64_t own = state ^ left * 0xbf58476d1ce4e5b9;
		char name[16] = "";

		for (uint32_t length = 3 + below(9), at = 0; at < length; at++)
			name[at] = 'a' + below(26);
		void (*work)(void) = works[below(sizeof(works) / sizeof(works[0]))];
		if (fork() == 0) {
			state = own | 1;
			prctl(PR_SET_NAME, name);
			if (nice(10) < 0)
				return 1;
			work();
			return 0;
		}
	}
	sleeps();
}
