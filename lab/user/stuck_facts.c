// SPDX-License-Identifier: MIT OR Apache-2.0
// What was built, written down while it is built.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "stuck.h"

unsigned long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

void fact(const char *format, ...)
{
	char line[512];
	va_list arguments;
	int file = open(STUCK_FACTS, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);

	va_start(arguments, format);
	int length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	check(write(file, line, length), STUCK_FACTS);
	close(file);
}
