// SPDX-License-Identifier: MIT OR Apache-2.0
// kvmguest: a virtual machine of two processors. One writes five bytes to a port, then turns in a circle; one halts. Notes
// what it made, and stays.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "spawn.h"

#define FACTS "/tmp/kvm"
#define IS_READY "/tmp/kvm-is-ready"
#define LOW_BYTES 0x10000
#define HIGH_START 0x100000
#define HIGH_BYTES 0x200000
#define OUTS 5

// mov $0x3f8,%dx; mov $OUTS,%cx; 1: out %al,(%dx); loop 1b; 2: jmp 2b
static const unsigned char writes[] = { 0xba, 0xf8, 0x03, 0xb9, OUTS, 0x00, 0xee, 0xe2, 0xfd, 0xeb, 0xfe };
// 1: hlt; jmp 1b
static const unsigned char halts[] = { 0xf4, 0xeb, 0xfd };

static struct processor {
	int number, file, counters, thread;
	unsigned long start;
	struct kvm_run *run;
	volatile int outs, runs;
} processors[2] = { { .number = 0, .start = 0x1000 }, { .number = 1, .start = 0x2000 } };

static int machine;

static void *add_memory(int slot, unsigned long at, unsigned long bytes, int flags)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = at, .memory_size = bytes,
		.userspace_addr = (unsigned long)memory,
	};

	check(ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region), "memory");
	return memory;
}

static void set_up(struct processor *of, int run_bytes)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs registers = { .rip = of->start, .rflags = 2 };
	struct kvm_sregs special;

	of->file = check(ioctl(machine, KVM_CREATE_VCPU, of->number), "processor");
	of->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, of->file, 0);
	check(ioctl(of->file, KVM_GET_SREGS, &special), "registers");
	special.cs.base = special.cs.selector = 0;
	check(ioctl(of->file, KVM_SET_SREGS, &special), "registers");
	check(ioctl(of->file, KVM_SET_REGS, &registers), "registers");
	check(ioctl(of->file, KVM_SET_MP_STATE, &runnable), "state");
	// Since 5.14. Once it runs, whoever asks for it waits for it to come back.
	of->counters = check(ioctl(of->file, KVM_GET_STATS_FD, NULL), "counters");
}

static void *run(void *argument)
{
	struct processor *of = argument;

	of->thread = gettid();
	of->runs = 1;
	while (!check(ioctl(of->file, KVM_RUN, 0), "run"))
		if (of->run->exit_reason == KVM_EXIT_IO)
			of->outs++;
		else
			printf("kvmguest: processor %d came back: %d\n", of->number, of->run->exit_reason);
	return NULL;
}

// The counters of a processor that are one number each.
static void write_counters(FILE *facts, struct processor *of)
{
	struct kvm_stats_header header;
	int file = of->counters;
	char buffer[sizeof(struct kvm_stats_desc) + 256];
	struct kvm_stats_desc *entry = (void *)buffer;
	unsigned long long value;

	if (file < 0 || pread(file, &header, sizeof(header), 0) != sizeof(header) || header.name_size > 256)
		return;
	for (unsigned int i = 0; i < header.num_desc; i++) {
		size_t bytes = sizeof(*entry) + header.name_size;

		if (pread(file, entry, bytes, header.desc_offset + i * bytes) != (ssize_t)bytes || entry->size != 1)
			continue;
		if (pread(file, &value, sizeof(value), header.data_offset + entry->offset) == sizeof(value))
			fprintf(facts, "counter %d %s %llu\n", of->number, entry->name, value);
	}
}

static void write_facts(const char *low, const char *high)
{
	FILE *facts = fopen(FACTS, "w");

	fprintf(facts, "machine %d\n", getpid());
	fprintf(facts, "slot 0 0 %x %p\nslot 1 %x %x %p\n", LOW_BYTES, low, HIGH_START, HIGH_BYTES, high);
	for (int i = 0; i < 2; i++)
		fprintf(facts, "vcpu %d %d %s %d\n", i, processors[i].thread, i ? "halted" : "running", processors[i].outs);
	for (int i = 0; i < 2; i++)
		write_counters(facts, &processors[i]);
	fclose(facts);
}

int main(void)
{
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	char *low, *high;

	machine = check(ioctl(kvm, KVM_CREATE_VM, 0), "machine");
	check(ioctl(machine, KVM_CREATE_IRQCHIP, 0), "interrupts");
	low = add_memory(0, 0, LOW_BYTES, 0);
	high = add_memory(1, HIGH_START, HIGH_BYTES, KVM_MEM_LOG_DIRTY_PAGES);
	memcpy(low + processors[0].start, writes, sizeof(writes));
	memcpy(low + processors[1].start, halts, sizeof(halts));
	for (int i = 0; i < 2; i++)
		set_up(&processors[i], run_bytes);
	start_thread("vcpu0", run, &processors[0]);
	start_thread("vcpu1", run, &processors[1]);
	for (int tenths = 0; tenths < 300 && (processors[0].outs < OUTS || !processors[1].runs); tenths++)
		usleep(100000);
	sleep(2);
	write_facts(low, high);
	close(open(IS_READY, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	sleep_for_ever();
}
