// SPDX-License-Identifier: MIT OR Apache-2.0
// stuck: I/O and network that do not go on, each in a way of its own. Runs after stuck.sh, and stays.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
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

int main(void)
{
	stuck_filter();
	stuck_net();
	stuck_array();
	stuck_block();
	stuck_journal();
	sleep(2);
	close(open(STUCK_IS_READY, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	sleep_for_ever();
}
