// SPDX-License-Identifier: MIT OR Apache-2.0
// rich: a system with something in every subsystem that a command lists. Runs after rich.sh, and stays.
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "rich.h"

int main(void)
{
	rich_ipc();
	rich_net();
	rich_tasks();
	rich_timers();
	rich_memory();
	rich_files();
	rich_bpf();
	rich_io();
	close(open(RICH_IS_READY, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	sleep_for_ever();
}
