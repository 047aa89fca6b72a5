//! Samples of logs, in the formats of kernels from 4.x to 7.x: one for each class of the catalogue, and near misses.

use kdive_triage::Class;

/// A log and its verdict.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) class: Option<Class>,
    pub(crate) function: Option<&'static str>,
    pub(crate) title: &'static str,
    pub(crate) log: &'static str,
}

macro_rules! samples {
    ($($name:literal: $class:expr, $function:expr, $title:literal, $log:literal;)*) => {
        pub(crate) const SAMPLES: &[Sample] = &[$(Sample { name: $name, class: $class, function: $function, title: $title, log: $log }),*];
    };
}

samples! {
    "null": Some(Class::NullDereference), Some("foo_ioctl"), "NULL pointer dereference in foo_ioctl", "\
[   12.000000] BUG: kernel NULL pointer dereference, address: 0000000000000018
[   12.000001] #PF: supervisor read access in kernel mode
[   12.000002] #PF: error_code(0x0000) - not-present page
[   12.000003] PGD 0 P4D 0 
[   12.000004] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_ioctl+0x12/0x80 [foo]
[   12.000007] Code: 0f 1f 44 00 00 55 48 89 e5 <48> 8b 47 18 5d c3
[   12.000008] RAX: 0000000000000000 RBX: ffff888004512300 RCX: 0000000000000000
[   12.000009] RDX: 0000000000000000 RSI: 0000000000000001 RDI: 0000000000000000
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  vfs_ioctl+0x1a/0x30
[   12.000013]  __x64_sys_ioctl+0x8f/0xd0
[   12.000014]  do_syscall_64+0x5b/0x80
[   12.000015]  entry_SYSCALL_64_after_hwframe+0x63/0xcd
[   12.000016]  </TASK>
[   12.000017] ---[ end trace 0000000000000000 ]---
";
    "use after free by poison": Some(Class::UseAfterFree), Some("foo_put"), "general protection fault in foo_put", "\
[   12.000000] general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b8b: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_put+0x12/0x80 [foo]
[   12.000007] Code: 0f 1f 44 00 00 55 48 89 e5 <48> 8b 40 20 5d c3
[   12.000008] RAX: 6b6b6b6b6b6b6b6b RBX: ffff888004512300 RCX: 0000000000000000
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_release+0x1a/0x30 [foo]
[   12.000016]  </TASK>
";
    "deleted list entry": Some(Class::DeletedListEntry), Some("foo_remove"), "general protection fault in foo_remove", "\
[   12.000000] general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_remove+0x12/0x80 [foo]
[   12.000007] Code: 0f 1f 44 00 00 55 48 89 e5 <48> 89 50 08 5d c3
[   12.000008] RAX: dead000000000100 RBX: ffff888004512300 RCX: 0000000000000000
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_release+0x1a/0x30 [foo]
[   12.000016]  </TASK>
";
    "list_del corruption": Some(Class::DeletedListEntry), Some("foo_remove"), "BUG: corrupted list in foo_remove", "\
[   12.000000] list_del corruption, ffff888004512300->next is LIST_POISON1 (dead000000000100)
[   12.000001] ------------[ cut here ]------------
[   12.000002] kernel BUG at lib/list_debug.c:56!
[   12.000003] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:__list_del_entry_valid.cold+0x1d/0x69
[   12.000007] Code: c7 c7 30 0f 0b 48 <0f> 0b 48 89 fe
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_remove+0x1a/0x30 [foo]
[   12.000013]  do_one_initcall+0x44/0x220
[   12.000016]  </TASK>
[   12.000017] ---[ end trace 0000000000000000 ]---
[   12.000018] Kernel panic - not syncing: Fatal exception
";
    "error pointer": Some(Class::WildPointer), Some("foo_open"), "BUG: unable to handle kernel paging request in foo_open", "\
[   12.000000] BUG: unable to handle page fault for address: fffffffffffffff4
[   12.000001] #PF: supervisor read access in kernel mode
[   12.000002] #PF: error_code(0x0000) - not-present page
[   12.000004] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_open+0x12/0x80 [foo]
[   12.000010] Call Trace:
[   12.000012]  chrdev_open+0xc4/0x250
";
    "bad jump": Some(Class::BadJump), Some("foo_call"), "paging request in foo_call", "\
[   12.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[   12.000001] #PF: supervisor instruction fetch in kernel mode
[   12.000002] #PF: error_code(0x0010) - not-present page
[   12.000004] Oops: 0010 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:0x0
[   12.000007] Code: Unable to access opcode bytes at 0xffffffffffffffd6.
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_call+0x1a/0x30 [foo]
[   12.000016]  </TASK>
";
    "divide error": Some(Class::DivideError), Some("foo_rate"), "divide error in foo_rate", "\
[   12.000000] divide error: 0000 [#1] PREEMPT SMP NOPTI
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_rate+0x12/0x80 [foo]
[   12.000010] Call Trace:
[   12.000012]  foo_ioctl+0x1a/0x30 [foo]
";
    "kasan": Some(Class::UseAfterFree), Some("foo_read"), "KASAN: slab-use-after-free Read in foo_read", "\
[   12.000000] ==================================================================
[   12.000001] BUG: KASAN: slab-use-after-free in foo_read+0x6d/0x80 [foo]
[   12.000002] Read of size 8 at addr ffff888004512300 by task test/123
[   12.000003] 
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.12.0 #1
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  dump_stack_lvl+0x5d/0x80
[   12.000013]  print_report+0x171/0x486
[   12.000014]  kasan_report+0xb1/0x180
[   12.000015]  foo_read+0x6d/0x80 [foo]
[   12.000016]  vfs_read+0x1a0/0x5d0
[   12.000017]  </TASK>
";
    "slub red zone": Some(Class::OutOfBounds), Some("foo_alloc"), "red zone overwritten in foo_alloc", "\
[   12.000000] =============================================================================
[   12.000001] BUG kmalloc-64 (Tainted: G           O     ): Right Redzone overwritten
[   12.000002] -----------------------------------------------------------------------------
[   12.000003] 
[   12.000004] 0xffff888004512340-0xffff888004512347 @offset=832. First byte 0x41 instead of 0xcc
[   12.000005] Allocated in foo_alloc+0x2d/0x60 [foo] age=12 cpu=1 pid=123
[   12.000006] Slab 0xffffea0000114480 objects=21 used=3 fp=0xffff888004512400 flags=0x100000000000200(slab|node=0|zone=1)
[   12.000007] CPU: 1 PID: 124 Comm: other Tainted: G    B      O       6.1.0 #1
[   12.000008] Call Trace:
[   12.000009]  dump_stack_lvl+0x44/0x5c
[   12.000010]  check_bytes_and_report.cold+0x6f/0x9f
[   12.000011]  check_object+0x1a7/0x270
[   12.000012]  free_debug_processing+0x1c4/0x540
[   12.000013]  kfree+0x8e/0xe0
[   12.000014]  innocent_free+0x1d/0x20
";
    "refcount": Some(Class::Refcount), Some("foo_put"), "WARNING: refcount bug in foo_put", "\
[   12.000000] ------------[ cut here ]------------
[   12.000001] refcount_t: underflow; use-after-free.
[   12.000002] WARNING: CPU: 1 PID: 123 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
[   12.000005] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:refcount_warn_saturate+0xba/0x110
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_put+0x3a/0x40 [foo]
[   12.000013]  foo_release+0x1a/0x30 [foo]
[   12.000016]  </TASK>
[   12.000017] ---[ end trace 0000000000000000 ]---
";
    "stack protector": Some(Class::StackCorruption), Some("foo_parse"), "kernel panic: stack is corrupted in foo_parse", "\
[   12.000000] Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: foo_parse+0x6d/0x80 [foo]
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000010] Call Trace:
[   12.000012]  dump_stack_lvl+0x44/0x5c
[   12.000013]  panic+0x118/0x2ed
[   12.000014]  __stack_chk_fail+0x10/0x10
[   12.000015]  foo_parse+0x6d/0x80 [foo]
";
    "stack overflow": Some(Class::StackOverflow), Some("foo_recurse"), "stack guard page was hit in foo_recurse", "\
[   12.000000] BUG: TASK stack guard page was hit at ffffc90000a0bff8 (stack is ffffc90000a0c000..ffffc90000a10000)
[   12.000003] stack guard page: 0000 [#1] PREEMPT SMP NOPTI
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000006] RIP: 0010:foo_recurse+0x5/0x30 [foo]
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  foo_recurse+0x1d/0x30 [foo]
[   12.000013]  foo_recurse+0x1d/0x30 [foo]
[   12.000014]  foo_recurse+0x1d/0x30 [foo]
[   12.000015]  foo_start+0x1d/0x30 [foo]
[   12.000016]  </TASK>
";
    "soft lockup": Some(Class::SoftLockup), Some("foo_spin"), "BUG: soft lockup in foo_spin", "\
[   40.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [test:123]
[   40.000001] Modules linked in: foo(O)
[   40.000004] CPU: 1 PID: 123 Comm: test Tainted: G           O       6.1.0 #1
[   40.000006] RIP: 0010:foo_spin+0x5/0x10 [foo]
[   40.000010] Call Trace:
[   40.000011]  <TASK>
[   40.000012]  foo_start+0x1d/0x30 [foo]
[   40.000013]  do_one_initcall+0x44/0x220
[   40.000016]  </TASK>
[   40.000017] Kernel panic - not syncing: softlockup: hung tasks
";
    "spinlock hang": Some(Class::SpinlockHang), Some("foo_take"), "BUG: soft lockup in foo_take", "\
[   40.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [test:123]
[   40.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   40.000006] RIP: 0010:native_queued_spin_lock_slowpath+0x5f/0x2a0
[   40.000010] Call Trace:
[   40.000011]  <TASK>
[   40.000012]  _raw_spin_lock+0x25/0x30
[   40.000013]  foo_take+0x1d/0x30 [foo]
[   40.000016]  </TASK>
";
    "hard lockup": Some(Class::HardLockup), Some("foo_spin"), "BUG: hard lockup in foo_spin", "\
[   40.000000] NMI watchdog: Watchdog detected hard LOCKUP on cpu 1
[   40.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   40.000006] RIP: 0010:foo_spin+0x5/0x10 [foo]
[   40.000010] Call Trace:
[   40.000012]  foo_start+0x1d/0x30 [foo]
[   40.000017] Kernel panic - not syncing: Hard LOCKUP
";
    "rcu stall": Some(Class::RcuStall), Some("foo_read_side"), "INFO: rcu detected stall in foo_read_side", "\
[   40.000000] rcu: INFO: rcu_preempt self-detected stall on CPU
[   40.000001] rcu: \t1-....: (5249 ticks this GP) idle=1f04/1/0x4000000000000000 softirq=1234/1234 fqs=2624
[   40.000002] rcu: \t(t=5250 jiffies g=1021 q=12 ncpus=2)
[   40.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   40.000006] RIP: 0010:foo_read_side+0x5/0x10 [foo]
[   40.000010] Call Trace:
[   40.000011]  <TASK>
[   40.000012]  foo_start+0x1d/0x30 [foo]
[   40.000016]  </TASK>
";
    "hung on a disk": Some(Class::IoHang), None, "INFO: task hung", "\
[  200.000000] INFO: task writer:123 blocked for more than 120 seconds.
[  200.000001]       Not tainted 6.1.0 #1
[  200.000002] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.
[  200.000003] task:writer          state:D stack:0     pid:123   ppid:1      flags:0x00000002
[  200.000004] Call Trace:
[  200.000005]  <TASK>
[  200.000006]  __schedule+0x33f/0x9b0
[  200.000007]  schedule+0x5d/0xe0
[  200.000008]  io_schedule+0x42/0x70
[  200.000009]  folio_wait_bit_common+0x13e/0x370
[  200.000010]  foo_write_page+0x13e/0x370
[  200.000011]  </TASK>
[  200.000012] Kernel panic - not syncing: hung_task: blocked tasks
";
    "hung on a mutex": Some(Class::HungTask), Some("foo_lock_it"), "INFO: task hung in foo_lock_it", "\
[  200.000000] INFO: task waiter:123 blocked for more than 120 seconds.
[  200.000001]       Not tainted 6.1.0 #1
[  200.000003] task:waiter          state:D stack:0     pid:123   ppid:1      flags:0x00000002
[  200.000004] Call Trace:
[  200.000005]  <TASK>
[  200.000006]  __schedule+0x33f/0x9b0
[  200.000007]  schedule+0x5d/0xe0
[  200.000008]  schedule_preempt_disabled+0x14/0x30
[  200.000009]  __mutex_lock.constprop.0+0x3b4/0x700
[  200.000010]  foo_lock_it+0x1e/0x40 [foo]
[  200.000011]  kthread+0xe6/0x110
[  200.000012]  </TASK>
";
    "workqueue": Some(Class::WorkqueueStall), Some("foo_work"), "BUG: workqueue lockup in foo_work", "\
[   40.000000] BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 32s!
[   40.000001] Showing busy workqueues and worker pools:
[   40.000002] workqueue events: flags=0x0
[   40.000003]   pwq 2: cpus=1 node=0 flags=0x0 nice=0 active=1/256 refcnt=2
[   40.000004]     in-flight: 123:foo_work [foo]
";
    "scheduling while atomic": Some(Class::SleepInAtomic), Some("foo_sleep"), "BUG: scheduling while atomic in foo_sleep", "\
[   12.000000] BUG: scheduling while atomic: test/123/0x00000002
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000010] Call Trace:
[   12.000011]  <TASK>
[   12.000012]  dump_stack_lvl+0x44/0x5c
[   12.000013]  __schedule_bug.cold+0x47/0x53
[   12.000014]  __schedule+0x8ba/0x9b0
[   12.000015]  schedule+0x5d/0xe0
[   12.000016]  msleep+0x29/0x40
[   12.000017]  foo_sleep+0x1e/0x40 [foo]
[   12.000018]  </TASK>
";
    "bad page once": Some(Class::BadPageState), None, "BUG: Bad page state", "\
[   12.000000] BUG: Bad page state in process test  pfn:04512
[   12.000001] page:00000000f2a1c1a5 refcount:0 mapcount:-128 mapping:0000000000000000 index:0x1 pfn:0x4512
[   12.000002] flags: 0x100000000000000(node=0|zone=1)
[   12.000003] page dumped because: nonzero mapcount
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000010] Call Trace:
[   12.000012]  dump_stack_lvl+0x44/0x5c
[   12.000013]  bad_page.cold+0x63/0x8f
[   12.000014]  get_page_from_freelist+0xbd6/0x1270
";
    "memory cgroup": Some(Class::CgroupOutOfMemory), None, "Memory cgroup out of memory", "\
[   12.000000] test invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000010] Call Trace:
[   12.000012]  dump_stack_lvl+0x44/0x5c
[   12.000013]  dump_header+0x4a/0x211
[   12.000014]  oom_kill_process.cold+0xb/0x10
[   12.000020] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/box,task_memcg=/box,task=test,pid=123,uid=0
[   12.000021] Memory cgroup out of memory: Killed process 123 (test) total-vm:102400kB, anon-rss:65536kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:180kB oom_score_adj:0
";
    "out of memory": Some(Class::OutOfMemory), None, "Out of memory", "\
[   12.000000] test invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj=0
[   12.000004] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000020] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=test,pid=123,uid=0
[   12.000021] Out of memory: Killed process 123 (test) total-vm:102400kB, anon-rss:65536kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:180kB oom_score_adj:0
[   12.000022] Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled
";
    "machine check": Some(Class::HardwareError), None, "Machine check", "\
[   12.000000] mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 7: be00000000010090
[   12.000001] mce: [Hardware Error]: RIP !INEXACT! 10:<ffffffff81000000> {foo+0x1/0x2}
[   12.000002] mce: [Hardware Error]: TSC 0 ADDR 12345000 
[   12.000003] mce: [Hardware Error]: PROCESSOR 0:50654 TIME 1600000000 SOCKET 0 APIC 0 microcode 1
[   12.000004] Kernel panic - not syncing: Fatal machine check
";
    "init": Some(Class::InitDied), None, "Attempted to kill init", "\
[   12.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b
[   12.000001] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1
[   12.000002] Call Trace:
[   12.000003]  dump_stack_lvl+0x44/0x5c
[   12.000004]  panic+0x118/0x2ed
[   12.000005]  do_exit.cold+0x15/0x15
";
    "no root": Some(Class::BootFailure), None, "VFS: Unable to mount root fs", "\
[    2.000000] VFS: Cannot open root device \"sda1\" or unknown-block(0,0): error -6
[    2.000001] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
[    2.000002] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0 #1
";
    "sysrq on a healthy machine": Some(Class::ForcedDump), None, "sysrq", "\
[  100.000000] sysrq: Trigger a crash
[  100.000001] Kernel panic - not syncing: sysrq triggered crash
[  100.000002] CPU: 0 PID: 123 Comm: sh Not tainted 6.1.0 #1
[  100.000003] Call Trace:
[  100.000004]  <TASK>
[  100.000005]  dump_stack_lvl+0x44/0x5c
[  100.000006]  panic+0x118/0x2ed
[  100.000007]  sysrq_handle_crash+0x16/0x20
[  100.000008]  __handle_sysrq.cold+0x43/0x11c
[  100.000009]  write_sysrq_trigger+0x24/0x40
[  100.000010]  vfs_write+0xbd/0x3e0
[  100.000011]  </TASK>
";
    "lockdep": Some(Class::PossibleDeadlock), None, "possible deadlock", "\
[   12.000000] ======================================================
[   12.000001] WARNING: possible circular locking dependency detected
[   12.000002] 6.1.0 #1 Not tainted
[   12.000003] ------------------------------------------------------
[   12.000004] test/123 is trying to acquire lock:
[   12.000005] ffffffffc0403040 (lock_a){+.+.}-{3:3}, at: foo_lock_a+0x1e/0x40 [foo]
[   12.000006] but task is already holding lock:
[   12.000007] ffffffffc0403080 (lock_b){+.+.}-{3:3}, at: foo_lock_b+0x1e/0x40 [foo]
[   12.000020] stack backtrace:
[   12.000021] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000022] Call Trace:
[   12.000023]  <TASK>
[   12.000024]  dump_stack_lvl+0x44/0x5c
[   12.000025]  check_noncircular+0x102/0x120
[   12.000026]  __lock_acquire+0x1176/0x1d90
[   12.000027]  lock_acquire+0xc8/0x2d0
[   12.000028]  __mutex_lock+0x9d/0x810
[   12.000029]  foo_lock_a+0x1e/0x40 [foo]
[   12.000030]  </TASK>
";
    "netdev reference": Some(Class::ReferenceLeak), None, "unregister_netdevice: waiting for veth0", "\
[  300.000000] unregister_netdevice: waiting for veth0 to become free. Usage count = 2
";
    "bad magic": Some(Class::LockCorruption), Some("foo_take"), "BUG: spinlock bad magic in foo_take", "\
[   12.000000] BUG: spinlock bad magic on CPU#1, test/123
[   12.000001]  lock: 0xffff888004512300, .magic: 00000000, .owner: <none>/-1, .owner_cpu: 0
[   12.000002] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000003] Call Trace:
[   12.000004]  dump_stack_lvl+0x44/0x5c
[   12.000005]  do_raw_spin_lock+0x6b/0xb0
[   12.000006]  foo_take+0x1e/0x40 [foo]
";
    "a panic of its own": Some(Class::Panic), Some("foo_give_up"), "kernel panic: foo: no more", "\
[   12.000000] Kernel panic - not syncing: foo: no more
[   12.000001] CPU: 1 PID: 123 Comm: test Not tainted 6.1.0 #1
[   12.000002] Call Trace:
[   12.000003]  dump_stack_lvl+0x44/0x5c
[   12.000004]  panic+0x118/0x2ed
[   12.000005]  foo_give_up+0x1e/0x40 [foo]
";
    "near miss: a fault of a program": None, None, "", "\
[   12.000000] test[123]: segfault at 0 ip 0000000000401136 sp 00007ffd4c3a2a10 error 6 in test[401000+1000]
[   12.000001] traps: other[124] general protection fault ip:401136 sp:7ffd4c3a2a10 error:0 in other[401000+1000]
";
    "near miss: links that go up and corrected noise": None, None, "", "\
[   12.000000] e1000: eth0 NIC Link is Up 1000 Mbps Full Duplex
[   12.000001] EDAC MC: Ver: 3.0.0
[   12.000002] audit: type=1400 audit(1.2:3): avc:  denied  { read } for  pid=1
";
}
