// SPDX-License-Identifier: MIT OR Apache-2.0
// Device mapper, by its ioctls.
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "stuck.h"

struct command {
	struct dm_ioctl head;
	char rest[1024];
};

static struct command *prepare(const char *name, unsigned int flags)
{
	static struct command command;

	memset(&command, 0, sizeof(command));
	command.head.version[0] = DM_VERSION_MAJOR;
	command.head.data_size = sizeof(command);
	command.head.data_start = sizeof(command.head);
	command.head.flags = flags;
	snprintf(command.head.name, sizeof(command.head.name), "%s", name);
	return &command;
}

static int run(unsigned long number, struct command *command, const char *what)
{
	int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	int result = check(ioctl(control, number, command), what);

	close(control);
	return result;
}

int mapper_create(const char *name, unsigned long long sectors, const char *target, const char *parameters)
{
	struct command *command = prepare(name, 0);
	char path[128];

	if (run(DM_DEV_CREATE, command, "DM_DEV_CREATE") < 0)
		return -1;
	unsigned int device = command->head.dev;
	command = prepare(name, 0);
	struct dm_target_spec *spec = (struct dm_target_spec *)command->rest;
	command->head.target_count = 1;
	spec->length = sectors;
	snprintf(spec->target_type, sizeof(spec->target_type), "%s", target);
	snprintf((char *)(spec + 1), 512, "%s", parameters);
	if (run(DM_TABLE_LOAD, command, parameters) < 0 || run(DM_DEV_SUSPEND, prepare(name, 0), "resume") < 0)
		return -1;
	mkdir("/dev/mapper", 0755);
	snprintf(path, sizeof(path), "/dev/mapper/%s", name);
	return mknod(path, S_IFBLK | 0600, makedev(device >> 8 & 0xfff, device & 0xff));
}

int mapper_suspend(const char *name)
{
	return run(DM_DEV_SUSPEND, prepare(name, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG), "suspend");
}

int mapper_message(const char *name, const char *message)
{
	struct command *command = prepare(name, 0);
	struct dm_target_msg *target = (struct dm_target_msg *)command->rest;

	snprintf(target->message, 512, "%s", message);
	return run(DM_TARGET_MSG, command, message);
}
