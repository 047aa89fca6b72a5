// SPDX-License-Identifier: MIT OR Apache-2.0
// hog WHAT MIB PLACE: a process named hog-WHAT that moves into the control group PLACE, takes memory, and stays.
// `leaver` leaves a file of that size behind in tmpfs; `file` writes the file PLACE, whose content is known.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static void enter(const char *group)
{
	char path[256];
	int file;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0 || write(file, "0", 1) != 1)
		perror(path);
	close(file);
}

static void write_words(const char *path, size_t bytes, uint64_t factor)
{
	int file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	uint64_t words[512];

	for (size_t at = 0; at < bytes; at += sizeof(words)) {
		size_t length = bytes - at < sizeof(words) ? bytes - at : sizeof(words);

		for (size_t word = 0; word < 512; word++)
			words[word] = (at / 8 + word + 1) * factor;
		if (write(file, words, length) != (ssize_t)length)
			perror(path);
	}
	close(file);
}

int main(int argc, char **argv)
{
	char name[16];

	if (argc < 4)
		return 2;
	size_t bytes = (size_t)atoi(argv[2]) << 20;
	snprintf(name, sizeof(name), "hog-%s", argv[1]);
	prctl(PR_SET_NAME, name);
	if (!strcmp(argv[1], "file")) {
		write_words(argv[3], bytes + 1234, 0x9e3779b97f4a7c15);
		return 0;
	}
	enter(argv[3]);
	if (!strcmp(argv[1], "leaver")) {
		write_words("/tmp/left-behind", bytes, 1);
		return 0;
	}
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t at = 0; memory != MAP_FAILED && at < bytes; at += 4096)
		memory[at] = 1;
	for (;;)
		pause();
}
