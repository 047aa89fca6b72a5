//! Models of the Linux kernel's subsystems.
//!
//! Design constraints:
//! - A model reads a [`Kernel`](kdive_target::Kernel) and yields plain values; it renders nothing.
//! - Layouts are chosen by the existence of members and symbols, through [`Load`](kdive_target::Load), and nowhere else.
//! - Every field is its value or the reason why it lacks one: a hole in the dump costs what depends on it, no more.

pub mod block;
pub mod bpf;
pub mod btrfs;
pub mod cgroup;
pub mod device;
pub mod extfrag;
pub mod fs;
pub mod hugetlb;
pub mod ipc;
pub mod irq;
pub mod jbd2;
pub mod keys;
pub mod kprobes;
pub mod kvm;
pub mod limits;
pub mod livepatch;
pub mod locate;
pub mod locking;
pub mod log;
pub mod meminfo;
pub mod memory_block;
pub mod mm;
pub mod mmzone;
pub mod net;
pub mod nvme;
pub mod oom_kill;
pub mod page_alloc;
pub mod pages;
pub mod path;
pub mod pci;
pub mod percpu_counter;
pub mod ras;
pub mod rcu;
pub mod resource;
pub mod sbitmap;
pub mod sched;
pub mod scsi;
pub mod signal;
pub mod slab;
pub mod smp;
pub mod softirq;
pub mod sparse;
pub mod sunrpc;
pub mod swap;
pub mod system;
pub mod tasks;
pub mod text;
pub mod time;
pub mod trace;
pub mod virtio;
pub mod vma;
pub mod vmalloc;
pub mod vmstat;
pub mod wait;
pub mod workqueue;
pub mod xfs;
