// SPDX-License-Identifier: MIT OR Apache-2.0
// stuck: I/O and network that do not go on, each in a way of its own. Runs after stuck.sh, and stays.
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "stuck.h"

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
