//! One report of each family, as kernels print it.

use kdive_evidence::{Access, Splat, SplatKind};

use crate::text::read_bytes;

fn only(text: &str) -> Splat {
    let case = read_bytes(text.as_bytes());
    let [splat] = &*case.splats else { panic!("{:#?}", case.splats) };
    splat.clone()
}

fn function(splat: &Splat) -> Option<&str> {
    splat.ip.as_ref()?.function.as_deref()
}

fn frames(splat: &Splat) -> Vec<&str> {
    splat.frames.iter().filter_map(|frame| frame.place.function.as_deref()).collect()
}

#[test]
fn kasan() {
    let splat = only(
        "==================================================================
BUG: KASAN: slab-use-after-free in use_it+0x8a/0xb0 [victim]
Read of size 8 at addr ffff888108f4a018 by task insmod/512

CPU: 1 UID: 0 PID: 512 Comm: insmod Tainted: G           OE      6.12.1 #1
Hardware name: QEMU Standard PC
Call Trace:
 <TASK>
 dump_stack_lvl+0x76/0xa0
 print_report+0xce/0x5f0
 kasan_report+0xbe/0xf0
 use_it+0x8a/0xb0 [victim]
 do_one_initcall+0x9d/0x3a0
 </TASK>

Allocated by task 512:
 kasan_save_stack+0x33/0x60
 __kasan_kmalloc+0xaa/0xb0
 make_it+0x3a/0x60 [victim]

Freed by task 513:
 kasan_save_stack+0x33/0x60
 kfree+0x110/0x3f0
 drop_it+0x21/0x30 [victim]

The buggy address belongs to the object at ffff888108f4a000
 which belongs to the cache kmalloc-64 of size 64
The buggy address is located 24 bytes inside of
 freed 64-byte region [ffff888108f4a000, ffff888108f4a040)

Memory state around the buggy address:
 ffff888108f49f00: fc fc fc fc fc fc fc fc fc fc fc fc fc fc fc fc
>ffff888108f4a000: fa fb fb fb fb fb fb fb fc fc fc fc fc fc fc fc
                            ^
==================================================================
Disabling lock debugging due to kernel taint
",
    );
    assert_eq!(
        (splat.kind, splat.access, splat.address.map(|at| at.0)),
        (SplatKind::Kasan, Some(Access::Read), Some(0xffff_8881_08f4_a018))
    );
    assert_eq!(
        (function(&splat), splat.pid, splat.comm.as_deref()),
        (Some("use_it"), Some(512), Some("insmod"))
    );
    assert_eq!(frames(&splat).last(), Some(&"do_one_initcall"));
    let stacks: Vec<_> = splat
        .other_stacks
        .iter()
        .map(|stack| {
            (stack.heading.as_str(), stack.frames.last().unwrap().place.function.as_deref().unwrap())
        })
        .collect();
    assert_eq!(stacks, [("Allocated by task 512:", "make_it"), ("Freed by task 513:", "drop_it")]);
    assert!(splat.details.iter().any(|line| line.contains("cache kmalloc-64")), "{:?}", splat.details);
}

#[test]
fn kfence() {
    let splat = only(
        "==================================================================
BUG: KFENCE: use-after-free read in use_it+0x14/0x30 [victim]

Use-after-free read at 0x00000000abcdef12 (in kfence-#103):
 use_it+0x14/0x30 [victim]
 do_one_initcall+0x57/0x230

kfence-#103: 0x00000000abcdef12-0x00000000abcdef51, size=64, cache=kmalloc-64

allocated by task 512 on cpu 1 at 35.123456s (0.001s ago):
 make_it+0x3a/0x60 [victim]

freed by task 512 on cpu 1 at 35.123460s (0.001s ago):
 drop_it+0x21/0x30 [victim]

CPU: 1 UID: 0 PID: 512 Comm: insmod Not tainted 6.12.1 #1
==================================================================
",
    );
    assert_eq!(
        (splat.kind, splat.access, function(&splat)),
        (SplatKind::Kfence, Some(Access::Read), Some("use_it"))
    );
    assert_eq!(splat.other_stacks.len(), 2);
    assert_eq!(splat.pid, Some(512));
}

#[test]
fn slub() {
    let splat = only(
        "=============================================================================
BUG kmalloc-64 (Tainted: G    B      OE     ): Poison overwritten
-----------------------------------------------------------------------------

0xffff888108f4a018-0xffff888108f4a01f @offset=24. First byte 0x0 instead of 0x6b
Allocated in make_it+0x3a/0x60 [victim] age=5 cpu=1 pid=512
 kmalloc_trace+0x2c/0x90
 make_it+0x3a/0x60 [victim]
Freed in drop_it+0x21/0x30 [victim] age=5 cpu=1 pid=512
 kfree+0x110/0x3f0
 drop_it+0x21/0x30 [victim]
Slab 0xffffea000423d280 objects=21 used=21 fp=0x0000000000000000 flags=0x17ffffc0000200
Object 0xffff888108f4a000 @offset=0 fp=0x0000000000000000

Redzone  ffff888108f49fc0: bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb bb  ................
Object   ffff888108f4a000: 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  kkkkkkkkkkkkkkkk
CPU: 0 PID: 600 Comm: sh Tainted: G    B      OE      6.1.0 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 check_bytes_and_report.cold+0x6a/0x8c
 </TASK>
FIX kmalloc-64: Restoring Poison 0xffff888108f4a018-0xffff888108f4a01f=0x6b
",
    );
    assert_eq!((splat.kind, splat.taint.as_deref(), splat.pid), (SplatKind::Slab, Some("GBOE"), Some(600)));
    assert_eq!(splat.other_stacks.len(), 2, "{:#?}", splat.other_stacks);
    assert!(splat.details.iter().any(|line| line.contains("instead of 0x6b")));
}

#[test]
fn lockdep() {
    let splat = only(
        "======================================================
WARNING: possible circular locking dependency detected
6.12.1 #1 Tainted: G           OE
------------------------------------------------------
abba_two/207 is trying to acquire lock:
ffffffffc0420f30 (lock_a){+.+.}-{3:3}, at: take_two+0x2a/0x50 [victim]

but task is already holding lock:
ffffffffc0420f90 (lock_b){+.+.}-{3:3}, at: take_two+0x1e/0x50 [victim]

which lock already depends on the new lock.

the existing dependency chain (in reverse order) is:

-> #1 (lock_b){+.+.}-{3:3}:
       __mutex_lock+0x9e/0xc10
       take_one+0x2a/0x50 [victim]

-> #0 (lock_a){+.+.}-{3:3}:
       __lock_acquire+0x1223/0x2160
       take_two+0x2a/0x50 [victim]

other info that might help us debug this:

 Possible unsafe locking scenario:

       CPU0                    CPU1
       ----                    ----
  lock(lock_b);
                               lock(lock_a);

 *** DEADLOCK ***

1 lock held by abba_two/207:
 #0: ffffffffc0420f90 (lock_b){+.+.}-{3:3}, at: take_two+0x1e/0x50 [victim]

stack backtrace:
CPU: 1 UID: 0 PID: 207 Comm: abba_two Tainted: G           OE      6.12.1 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x78/0xe0
 print_circular_bug+0x2c0/0x3a0
 take_two+0x2a/0x50 [victim]
 </TASK>
",
    );
    assert_eq!((splat.kind, splat.pid), (SplatKind::Lockdep, Some(207)));
    assert_eq!(splat.message, "WARNING: possible circular locking dependency detected");
    assert_eq!(frames(&splat), ["dump_stack_lvl", "print_circular_bug", "take_two"]);
    assert_eq!(splat.other_stacks.len(), 2, "{:#?}", splat.other_stacks);
    assert!(splat.details.iter().any(|line| line.contains("is trying to acquire lock")));
    assert!(splat.details.iter().any(|line| line.contains("(lock_b)")), "{:?}", splat.details);
}

#[test]
fn a_warning_is_of_what_it_says() {
    // Since 5.x the text comes first, before it the other way round.
    for text in [
        "------------[ cut here ]------------
refcount_t: underflow; use-after-free.
WARNING: CPU: 1 PID: 512 at lib/refcount.c:28 refcount_warn_saturate+0xf4/0x110
Modules linked in: victim(OE)
CPU: 1 PID: 512 Comm: insmod Tainted: G           OE      6.1.0 #1
RIP: 0010:refcount_warn_saturate+0xf4/0x110
Call Trace:
 <TASK>
 put_it+0x1/0x2 [victim]
 </TASK>
---[ end trace 0000000000000000 ]---
",
        "WARNING: CPU: 1 PID: 512 at lib/refcount.c:28 refcount_warn_saturate+0xf4/0x110
refcount_t: underflow; use-after-free.
Modules linked in: victim(OE)
CPU: 1 PID: 512 Comm: insmod Tainted: G           OE      4.19.0 #1
RIP: 0010:refcount_warn_saturate+0xf4/0x110
Call Trace:
 put_it+0x1/0x2 [victim]
---[ end trace 0123456789abcdef ]---
",
    ] {
        let splat = only(text);
        assert_eq!(
            (splat.kind, splat.message.as_str()),
            (SplatKind::Refcount, "refcount_t: underflow; use-after-free.")
        );
        assert_eq!((function(&splat), frames(&splat)), (Some("refcount_warn_saturate"), vec!["put_it"]));
        assert_eq!(splat.source.as_ref().map(|source| source.line), Some(28));
    }
}

#[test]
fn a_corrupted_list_ends_in_a_bug() {
    let splat = only(
        "list_del corruption, ffff888108f4a018->next is LIST_POISON1 (dead000000000100)
------------[ cut here ]------------
kernel BUG at lib/list_debug.c:56!
Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI
CPU: 1 UID: 0 PID: 512 Comm: insmod Tainted: G           OE      6.12.1 #1
RIP: 0010:__list_del_entry_valid_or_report.cold+0x6d/0x9c
Code: 48 c7 c7 <0f> 0b
RAX: 0000000000000054 RBX: dead000000000100 RCX: 0000000000000000
Call Trace:
 <TASK>
 drop_twice+0x1/0x2 [victim]
 </TASK>
---[ end trace 0000000000000000 ]---
",
    );
    assert_eq!((splat.kind, splat.number), (SplatKind::ListCorruption, Some(1)));
    assert!(splat.message.starts_with("list_del corruption"));
    assert_eq!(splat.source.map(|source| source.file).as_deref(), Some("lib/list_debug.c"));
}

#[test]
fn a_hard_lockup_of_el7() {
    let splat = only(
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 5
Modules linked in: xfs libcrc32c
CPU: 5 PID: 4242 Comm: java Kdump: loaded Tainted: G           O   3.10.0-957.el7.x86_64 #1
Hardware name: HP ProLiant
task: ffff9d1f00000000 ti: ffff9d1f00010000 task.ti: ffff9d1f00010000
RIP: 0010:[<ffffffff8111234a>]  [<ffffffff8111234a>] native_queued_spin_lock_slowpath+0x1ca/0x200
RSP: 0018:ffff9d1f00013c40  EFLAGS: 00000046
RAX: 0000000000000000 RBX: 0000000000000046 RCX: 0000000000000129
Call Trace:
 [<ffffffff8176a5b3>] queued_spin_lock_slowpath+0xb/0xf
 [<ffffffffc0333333>] grab+0x12/0x30 [slow]
Kernel panic - not syncing: Hard LOCKUP
CPU: 5 PID: 4242 Comm: java Kdump: loaded Tainted: G           O   3.10.0-957.el7.x86_64 #1
Call Trace:
 <NMI>  [<ffffffff8176a5b3>] dump_stack+0x19/0x1b
",
    );
    assert_eq!(
        (splat.kind, splat.cpu, splat.comm.as_deref()),
        (SplatKind::HardLockup, Some(5), Some("java"))
    );
    assert_eq!(function(&splat), Some("native_queued_spin_lock_slowpath"));
    assert_eq!(frames(&splat), ["queued_spin_lock_slowpath", "grab"]);
}

#[test]
fn a_stall_with_the_stacks_of_others() {
    let splat = only(
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:
rcu: 	1-...0: (1 GPs behind) idle=8a6/1/0x4000000000000000 softirq=123/124 fqs=2500
	(detected by 0, t=5252 jiffies, g=141, q=3)
Sending NMI from CPU 0 to CPUs 1:
NMI backtrace for cpu 1
CPU: 1 PID: 512 Comm: spinner Tainted: G           OE     5.10.0 #1
RIP: 0010:spin_for_ever+0x5/0x10 [victim]
RSP: 0018:ffffb0a0c0123e10 EFLAGS: 00000246
Call Trace:
 kthread+0x11b/0x140
 ret_from_fork+0x22/0x30
rcu: rcu_sched kthread starved for 5252 jiffies! g141 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1
",
    );
    assert_eq!(splat.kind, SplatKind::RcuStall);
    let [stack] = &*splat.other_stacks else { panic!("{:#?}", splat) };
    assert_eq!(stack.heading, "NMI backtrace for cpu 1");
    let functions: Vec<_> = stack.frames.iter().filter_map(|frame| frame.place.function.as_deref()).collect();
    assert_eq!(functions, ["spin_for_ever", "kthread", "ret_from_fork"]);
    assert!(splat.details.iter().any(|line| line.contains("starved")), "{:?}", splat.details);
}

#[test]
fn an_oops_of_32_bits_of_the_middle_age() {
    let splat = only(
        "BUG: unable to handle kernel NULL pointer dereference at 00000004
IP: [<f8a1b00c>] touch+0xc/0x20 [victim]
*pde = 00000000
Oops: 0002 [#1] SMP
last sysfs file: /sys/block/sda/size
Modules linked in: victim(U)

Pid: 512, comm: insmod Not tainted (2.6.32-71.el6.i686 #1) VMware Virtual Platform
EIP: 0060:[<f8a1b00c>] EFLAGS: 00010246 CPU: 0
EIP is at touch+0xc/0x20 [victim]
EAX: 00000000 EBX: f8a1b380 ECX: 00000000 EDX: 00000000
ESI: 00000000 EDI: 09d3c018 EBP: f5b71f80 ESP: f5b71f80
 DS: 007b ES: 007b FS: 00d8 GS: 00e0 SS: 0068
Process insmod (pid: 512, ti=f5b70000 task=f5a3c030 task.ti=f5b70000)
Stack:
 f5b71f9c c0403123 00000000 f8a1b380
Call Trace:
 [<c0403123>] ? do_one_initcall+0x33/0x170
 [<c0409adc>] ? sysenter_do_call+0x12/0x28
Code: 90 90 55 89 e5 31 c0 31 d2 <89> 50 04 5d c3
EIP: [<f8a1b00c>] touch+0xc/0x20 [victim] SS:ESP 0068:f5b71f80
CR2: 0000000000000004
---[ end trace 0123456789abcdef ]---
",
    );
    assert_eq!(
        (splat.kind, splat.access, splat.address.map(|at| at.0)),
        (SplatKind::PageFault, Some(Access::Write), Some(4))
    );
    assert_eq!(
        (function(&splat), splat.pid, splat.release.as_deref()),
        (Some("touch"), Some(512), Some("2.6.32-71.el6.i686"))
    );
    assert_eq!(splat.frames.len(), 2);
    assert_eq!(splat.code.as_ref().map(|code| code.at), Some(9));
}

#[test]
fn other_families_are_known_by_their_first_line() {
    for (text, kind) in [
        (
            "UBSAN: array-index-out-of-bounds in drivers/x.c:12:5\nindex 8 is out of range for type 'int [8]'\nCall Trace:\n f+0x1/0x2\n",
            SplatKind::Ubsan,
        ),
        (
            "BUG: KCSAN: data-race in read_it / write_it\n\nwrite to 0xffff88810a0b0c0d of 8 bytes by task 12 on cpu 0:\n write_it+0x1/0x2\n\nread to 0xffff88810a0b0c0d of 8 bytes by task 13 on cpu 1:\n read_it+0x1/0x2\n",
            SplatKind::Kcsan,
        ),
        (
            "BUG: Bad page state in process sh  pfn:12345\npage:ffffea0000048d14 refcount:-1 mapcount:0\nflags: 0x17ffffc0000000(node=0)\nCall Trace:\n bad_page+0x1/0x2\n",
            SplatKind::BadPage,
        ),
        (
            "BUG: scheduling while atomic: insmod/512/0x00000002\nCall Trace:\n f+0x1/0x2\n",
            SplatKind::AtomicSchedule,
        ),
        (
            "BUG: sleeping function called from invalid context at mm/slab.h:1\nCall Trace:\n f+0x1/0x2\n",
            SplatKind::AtomicSchedule,
        ),
        (
            "BUG: spinlock bad magic on CPU#0, insmod/512\n lock: 0xffff8881, .magic: 00000000\nCall Trace:\n f+0x1/0x2\n",
            SplatKind::SpinlockDebug,
        ),
        (
            "irq 16: nobody cared (try booting with the \"irqpoll\" option)\nCall Trace:\n f+0x1/0x2\n",
            SplatKind::IrqNobodyCared,
        ),
        (
            "Uhhuh. NMI received for unknown reason 21 on CPU 0.\nDo you have a strange power saving mode enabled?\n",
            SplatKind::Nmi,
        ),
        (
            "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 31s!\nShowing busy workqueues and worker pools:\n",
            SplatKind::WorkqueueLockup,
        ),
        (
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009\nCPU: 0 PID: 1 Comm: init\nCall Trace:\n panic+0x1/0x2\n",
            SplatKind::Panic,
        ),
        (
            "Kernel panic - not syncing: corrupted stack end detected inside scheduler\nCall Trace:\n panic+0x1/0x2\n",
            SplatKind::StackEnd,
        ),
        ("rust_kernel: panicked at samples/rust/x.rs:1:2:\nCall Trace:\n f+0x1/0x2\n", SplatKind::RustPanic),
        ("Call Trace:\n f+0x1/0x2\n g+0x1/0x2\n", SplatKind::Other),
    ] {
        assert_eq!(only(text).kind, kind, "{text}");
    }
}
