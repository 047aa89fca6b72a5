// SPDX-License-Identifier: MIT OR Apache-2.0
// System V and POSIX IPC, in two namespaces.
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "rich.h"

struct message {
	long type;
	char text[4096];
};

static void send_message(int queue, long type, size_t length)
{
	struct message message = { .type = type };

	memset(message.text, 'a' + type % 26, length);
	check(msgsnd(queue, &message, length, IPC_NOWAIT), "msgsnd");
}

static void *wait_semaphore(void *set)
{
	struct sembuf down = { .sem_num = 1, .sem_op = -100 };

	check(semop(*(int *)set, &down, 1), "semop");
	return NULL;
}

static void *wait_message(void *queue)
{
	struct message message;

	check(msgrcv(*(int *)queue, &message, sizeof(message.text), 99, 0), "msgrcv");
	return NULL;
}

static int make_semaphores(int key, int count)
{
	int set = check(semget(key, count, IPC_CREAT | 0640), "semget");

	for (int i = 0; i < count; i++)
		check(semctl(set, i, SETVAL, i + 1), "SETVAL");
	return set;
}

static void *make_segment(int key, size_t size, int flags)
{
	int segment = check(shmget(key, size, IPC_CREAT | 0600 | flags), "shmget");
	char *memory = shmat(segment, NULL, 0);

	if (memory == (void *)-1)
		return NULL;
	memset(memory, 's', size);
	return memory;
}

static void first_namespace(void)
{
	static int set, queue;
	int flags = IPC_CREAT | 0660;

	set = make_semaphores(0x5e01, 4);
	make_semaphores(0x5e02, 32);
	make_semaphores(IPC_PRIVATE, 1);
	struct sembuf undone = { .sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO };
	check(semop(set, &undone, 1), "semop with undo");
	start_thread("wait-sem", wait_semaphore, &set);

	queue = check(msgget(0x3501, flags), "msgget");
	for (int i = 1; i <= 3; i++)
		send_message(queue, i, 100 * i);
	int other = check(msgget(0x3502, flags), "msgget");
	send_message(other, 7, 4000);
	check(msgget(0x3503, flags), "msgget");
	start_thread("wait-msg", wait_message, &queue);

	make_segment(0x5401, 3 * 4096, 0);
	make_segment(0x5402, 2 << 20, SHM_HUGETLB);
	check(shmget(0x5403, 12345, flags), "shmget");	// attached by nobody
	int gone = check(shmget(IPC_PRIVATE, 8192, flags), "shmget");
	if (shmat(gone, NULL, SHM_RDONLY) != (void *)-1)
		check(shmctl(gone, IPC_RMID, NULL), "IPC_RMID");	// status `dest`
	int locked = check(shmget(0x5404, 4096, flags), "shmget");
	check(shmctl(locked, SHM_LOCK, NULL), "SHM_LOCK");	// status `locked`

	mqd_t posix = check(mq_open("/rich", O_CREAT | O_RDWR, 0600, NULL), "mq_open");
	check(mq_send(posix, "one", 3, 5), "mq_send");
	check(mq_send(posix, "two", 3, 1), "mq_send");
}

static void second_namespace(void)
{
	if (check(unshare(CLONE_NEWIPC), "unshare ipc") < 0)
		return;
	make_semaphores(0x2e01, 2);
	int queue = check(msgget(0x2501, IPC_CREAT | 0666), "msgget");
	send_message(queue, 5, 55);
	make_segment(0x2401, 4096, 0);
}

void rich_ipc(void)
{
	spawn("rich-ipc", first_namespace);
	spawn("rich-ipcns", second_namespace);
}
