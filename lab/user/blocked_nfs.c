// SPDX-License-Identifier: MIT OR Apache-2.0
// A server of NFS that answers as much as a mount of version 3 needs (RFC 1813, RFC 5531), and nothing else: what comes
// behind that, and all of version 4, waits for ever.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocked.h"

#define PORT 2049
#define SERVER_OF_3 "127.0.0.3"
#define SERVER_OF_4 "127.0.0.4"

enum { NFS = 100003, MOUNT = 100005 };
enum { NULL_CALL = 0, MOUNT_MNT = 1, NFS_GETATTR = 1, NFS_FSSTAT = 18, NFS_FSINFO = 19, NFS_PATHCONF = 20 };

struct message {
	uint32_t words[64];
	int count;
};

static void put(struct message *to, uint32_t word)
{
	to->words[to->count++] = htonl(word);
}

static void put_all(struct message *to, const uint32_t *words, int count)
{
	while (count--)
		put(to, *words++);
}

// fattr3: a directory of mode 0777 with inode 1, of size 512.
static void put_attributes(struct message *to)
{
	static const uint32_t words[21] = { 2, 0777, 2, 0, 0, 0, 512, 0, 512, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0 };

	put_all(to, words, 21);
}

// The results of a call; whether it is answered at all.
static int answer(struct message *to, uint32_t program, uint32_t procedure)
{
	// An opaque handle of 8 bytes, and one flavour of authentication, AUTH_SYS.
	static const uint32_t mounted[] = { 0, 8, 0x6c616221, 0x726f6f74, 1, 1 };
	static const uint32_t info[] = { 0, 0, 65536, 65536, 4096, 65536, 65536, 4096, 4096, 1 << 20, 0, 0, 1, 0x1b };
	static const uint32_t limits[] = { 0, 0, 32, 255, 1, 1, 0, 1 };
	static const uint32_t space[] = { 0, 0, 0, 1 << 20, 0, 1 << 20, 0, 1 << 20, 0, 100, 0, 100, 0, 100, 0 };

	if (procedure == NULL_CALL)
		return 1;
	if (program == MOUNT && procedure == MOUNT_MNT)
		put_all(to, mounted, sizeof(mounted) / 4);
	else if (program == NFS && procedure == NFS_FSINFO)
		put_all(to, info, sizeof(info) / 4);
	else if (program == NFS && procedure == NFS_PATHCONF)
		put_all(to, limits, sizeof(limits) / 4);
	else if (program == NFS && procedure == NFS_FSSTAT)
		put_all(to, space, sizeof(space) / 4);
	else if (program == NFS && procedure == NFS_GETATTR) {
		put(to, 0);
		put_attributes(to);
	} else
		return 0;
	return 1;
}

static int receive(int connection, void *into, int bytes)
{
	return recv(connection, into, bytes, MSG_WAITALL) == bytes;
}

// One connection: each call is a record with its length in front.
static void *serve(void *argument)
{
	int connection = (int)(long)argument;
	uint32_t length, call[1024];

	while (receive(connection, &length, 4)) {
		length = ntohl(length) & 0x7fffffff;
		if (length > sizeof(call) || length < 24 || !receive(connection, call, length))
			break;
		uint32_t xid = ntohl(call[0]), program = ntohl(call[3]), version = ntohl(call[4]), procedure = ntohl(call[5]);
		struct message reply = { .count = 1 };	// the length comes first
		put(&reply, xid);
		put(&reply, 1);		// REPLY
		for (int i = 0; i < 4; i++)
			put(&reply, 0);	// accepted, no verifier of no bytes, done
		if ((version == 4 && procedure != NULL_CALL) || !answer(&reply, program, procedure)) {
			fact("unanswered %08x %u %u %u %llu\n", xid, program, version, procedure, now());
			continue;
		}
		reply.words[0] = htonl(0x80000000u | (reply.count - 1) * 4);
		check(send(connection, reply.words, reply.count * 4, 0), "reply");
	}
	return NULL;
}

static void *accept_all(void *argument)
{
	for (;;) {
		long connection = accept((int)(long)argument, NULL, NULL);
		if (connection >= 0)
			start_thread("nfs-connection", serve, (void *)connection);
	}
	return NULL;
}

static void run_server(void)
{
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket"), on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	check(bind(listener, (struct sockaddr *)&own, sizeof(own)), "port 2049");
	check(listen(listener, 16), "listen");
	start_thread("nfs-listener", accept_all, (void *)(long)listener);
}

// "nfs PID NAME SERVER VERSION NANOSECONDS": what is about to wait for the server.
static void note(const char *name, const char *server, int version)
{
	fact("nfs %d %s %s %d %llu\n", getpid(), name, server, version, now());
	ready();
}

static void look_up(void)
{
	struct stat status;

	note("nfs-lookup", SERVER_OF_3, 3);
	stat("/tmp/nfs3/file", &status);
	fprintf(stderr, "lab: the server of NFS answered\n");
}

static void make(void)
{
	note("nfs-make", SERVER_OF_3, 3);
	mkdir("/tmp/nfs3/directory", 0700);
	fprintf(stderr, "lab: the server of NFS answered\n");
}

static void mount_4(void)
{
	note("nfs-mount", SERVER_OF_4, 4);
	check(mount(SERVER_OF_4 ":/", "/tmp/nfs4", "nfs4", 0,
		    "vers=4.1,proto=tcp,port=2049,addr=" SERVER_OF_4 ",clientaddr=127.0.0.1"), "NFS 4");
	fprintf(stderr, "lab: the mount ended\n");
}

void blocked_nfs(void)
{
	spawn("nfs-server", run_server);
	int mounted = mount(SERVER_OF_3 ":/export", "/tmp/nfs3", "nfs", 0,
			    "vers=3,proto=tcp,port=2049,nolock,noacl,hard,addr=" SERVER_OF_3 ",mountproto=tcp,mountport=2049,"
			    "mountvers=3,mountaddr=" SERVER_OF_3);
	if (check(mounted, "NFS 3") == 0) {
		spawn("nfs-lookup", look_up);
		spawn("nfs-make", make);
	}
	spawn("nfs-mount", mount_4);
}
