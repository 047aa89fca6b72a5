// SPDX-License-Identifier: MIT OR Apache-2.0
// An array of two disks, one of which failed.
#include <fcntl.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stuck.h"

#define KILOBYTES 4096
#define ACTIVE_AND_IN_SYNC 6	// MD_DISK_ACTIVE, MD_DISK_SYNC: bits 1 and 2
#define LOOP 7

static void add_disk(int array, int place)
{
	mdu_disk_info_t disk = { .number = place, .major = LOOP, .minor = place + 1, .raid_disk = place,
				 .state = ACTIVE_AND_IN_SYNC };

	check(ioctl(array, ADD_NEW_DISK, &disk), "ADD_NEW_DISK");
}

void stuck_array(void)
{
	mdu_array_info_t info = { .major_version = 0, .minor_version = 90, .level = 1, .size = KILOBYTES, .nr_disks = 2,
				  .raid_disks = 2, .not_persistent = 1, .state = 1, .active_disks = 2, .working_disks = 2 };
	int parameter = check(open("/sys/module/md_mod/parameters/new_array", O_WRONLY | O_CLOEXEC), "new_array");

	check(write(parameter, "md0", 3), "new_array");
	close(parameter);
	mknod("/dev/md0", S_IFBLK | 0600, makedev(MD_MAJOR, 0));
	int array = check(open("/dev/md0", O_RDWR | O_CLOEXEC), "/dev/md0");
	check(ioctl(array, SET_ARRAY_INFO, &info), "SET_ARRAY_INFO");
	add_disk(array, 0);
	add_disk(array, 1);
	check(ioctl(array, RUN_ARRAY, NULL), "RUN_ARRAY");
	check(ioctl(array, SET_DISK_FAULTY, makedev(LOOP, 2)), "SET_DISK_FAULTY");
	fact("array md0 raid1 loop1 loop2\n");	// the second failed
}
