mod families;

use std::fmt::Write as _;

use kdive_evidence::{Register, SplatKind};
use proptest::prelude::*;

use super::*;
use crate::case::{EventKind, TriggerKind};

/// An oops as a kernel of today prints it, one line each.
const OOPS: &[&str] = &[
    "BUG: kernel NULL pointer dereference, address: 0000000000000018",
    "#PF: supervisor write access in kernel mode",
    "#PF: error_code(0x0002) - not-present page",
    "PGD 0 P4D 0",
    "Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "CPU: 1 UID: 0 PID: 203 Comm: trigger me Tainted: G           OE      6.12.1-amd64 #1  Debian 6.12.1-1",
    "Tainted: [O]=OOT_MODULE, [E]=UNSIGNED_MODULE",
    "Hardware name: QEMU Standard PC",
    "RIP: 0010:write_through+0x18/0x30 [victim]",
    "Code: 1f 44 00 00 0f 1f 44 00 00 48 8b 47 08 <48> 89 50 18 c3 cc cc cc cc",
    "RSP: 0018:ff6cf1e60076fa38 EFLAGS: 00010246",
    "RAX: 0000000000000000 RBX: 0000000000000010 RCX: 0000000000000003",
    "RDX: 0000000000000005 RSI: 0000000000000003 RDI: ffff888100000000",
    "FS:  00000000121fb400(0000) GS:ff240f588e65b000(0000) knlGS:0000000000000000",
    "CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033",
    "CR2: 0000000000000018 CR3: 0000000001058000 CR4: 0000000000751eb0",
    "Call Trace:",
    " <TASK>",
    " ? __die_body.cold+0x19/0x27",
    " outer+0x51/0x230 [victim]",
    " do_one_initcall+0x58/0x240",
    " </TASK>",
    "Modules linked in: victim(OE) ext4 jbd2",
    "CR2: 0000000000000018",
    "---[ end trace 0000000000000000 ]---",
    "RIP: 0010:write_through+0x18/0x30 [victim]",
    "RAX: 0000000000000000 RBX: 0000000000000010 RCX: 0000000000000003",
    "Kernel panic - not syncing: Fatal exception",
    "Kernel Offset: 0x37200000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xffffffffbfffffff)",
    "---[ end Kernel panic - not syncing: Fatal exception ]---",
];

fn log(line: impl Fn(usize, &str) -> String) -> Vec<u8> {
    OOPS.iter().enumerate().map(|(at, text)| line(at, text)).collect::<String>().into_bytes()
}

/// Nothing of the oops may be lost, whatever carried it.
fn assert_whole(case: &Case<'_>, how: &str) {
    let [splat] = &*case.splats else { panic!("{how}: {:#?}", case.splats) };
    assert_eq!(splat.kind, SplatKind::PageFault, "{how}");
    assert_eq!(splat.message, OOPS[0], "{how}");
    let place = splat.ip.as_ref().unwrap_or_else(|| panic!("{how}"));
    assert_eq!(
        (place.function.as_deref(), place.offset, place.module.as_deref()),
        (Some("write_through"), Some(0x18), Some("victim")),
        "{how}"
    );
    assert_eq!(
        (splat.pid, splat.comm.as_deref(), splat.cpu, splat.number),
        (Some(203), Some("trigger me"), Some(1), Some(1)),
        "{how}"
    );
    assert_eq!(splat.taint.as_deref(), Some("GOE"), "{how}");
    assert_eq!(splat.registers.get(Register::Rdi), Some(0xffff_8881_0000_0000), "{how}");
    assert_eq!(splat.code.as_ref().map(|code| (code.at, code.bytes.len())), Some((13, 22)), "{how}");
    let frames: Vec<_> = splat.frames.iter().filter_map(|frame| frame.place.function.as_deref()).collect();
    assert_eq!(frames, ["__die_body.cold", "outer", "do_one_initcall"], "{how}");
    assert_eq!(case.modules.len(), 3, "{how}");
    assert_eq!(case.trigger.as_ref().map(|trigger| trigger.kind), Some(TriggerKind::PanicOnOops), "{how}");
    assert_eq!(splat.damage, None, "{how}");
    let fault = crate::decode::fault(splat, case).unwrap_or_else(|| panic!("{how}"));
    assert_eq!((fault.register.as_deref(), fault.displacement), (Some("rax"), Some(0x18)), "{how}");
}

#[test]
fn an_oops_is_whole_in_every_wrapping() {
    type Wrapping = (&'static str, fn(usize, &str) -> String);
    let wrappings: &[Wrapping] = &[
        ("plain", |_, text| format!("{text}\n")),
        ("CR LF", |_, text| format!("{text}\r\n")),
        ("CR CR LF", |_, text| format!("{text}\r\r\n")),
        ("blank lines between", |_, text| format!("{text}\n\n")),
        ("dmesg", |at, text| format!("[   12.{at:06}] {text}\n")),
        ("dmesg -r", |at, text| format!("<4>[   12.{at:06}] {text}\n")),
        ("dmesg -x", |at, text| format!("kern  :alert : [   12.{at:06}] {text}\n")),
        ("dmesg -T", |_, text| format!("[Tue Jan  2 03:04:05 2024] {text}\n")),
        ("dmesg in colours", |at, text| match text.split_once(": ") {
            Some((head, rest)) => {
                format!("\x1b[32m[   12.{at:06}] \x1b[0m\x1b[33m{head}: \x1b[0m\x1b[31m{rest}\x1b[0m\n")
            }
            None => format!("\x1b[32m[   12.{at:06}] \x1b[0m{text}\n"),
        }),
        ("callers", |at, text| format!("[   12.{at:06}][  T203] {text}\n")),
        ("syslog", |_, text| format!("Dec  5 11:38:22 host-1 kernel: {text}\n")),
        ("syslog with times", |at, text| format!("Dec  5 11:38:22 host-1 kernel: [   12.{at:06}] {text}\n")),
        ("rsyslog", |at, text| {
            format!("2024-01-02T03:04:05.678901+00:00 host kernel: [   12.{at:06}] {text}\n")
        }),
        ("journald", |_, text| format!("Jan 02 03:04:05 host kernel: {text}\n")),
        ("journald with a full date", |_, text| format!("Tue 2024-01-02 03:04:05 UTC host kernel: {text}\n")),
        ("journald monotonic", |at, text| format!("[   12.{at:06}] host kernel: {text}\n")),
        ("serial console with a clock", |at, text| format!("[2024-01-02 03:04:05] [   12.{at:06}] {text}\n")),
        ("serial console", |at, text| format!("<4>[   12.{at:06}] {text}\r\n")),
        ("netconsole", |at, text| format!("4,{at},12{at:06},-;{text}\n")),
        ("netconsole with callers", |at, text| format!("4,{at},12{at:06},-,caller=T203;{text}\n")),
        ("mail", |at, text| format!("> [   12.{at:06}] {text}\n")),
        ("page source", |at, text| {
            format!("[   12.{at:06}] {}<br>\n", text.replace('<', "&lt;").replace('>', "&gt;"))
        }),
        ("typography", |_, text| {
            format!("{}\n", text.replace(" - ", " \u{2013} ").replace("---", "\u{2014}\u{2013}"))
        }),
        ("spaces that are none", |_, text| format!("{}\n", text.replace("  ", "\u{a0} "))),
        ("broken UTF-8 between", |_, text| format!("{text}\n")),
    ];
    for (how, wrap) in wrappings {
        let mut text = log(wrap);
        if how.contains("UTF-8") {
            let end = text.iter().position(|&byte| byte == b'\n').unwrap();
            text.splice(end + 1..end + 1, b"\xff\xfe\xc3\x28 noise\n".iter().copied());
        }
        assert_whole(&read_bytes(&text), how);
    }
}

#[test]
fn one_oops_is_found_in_garbage() {
    let mut text = Vec::new();
    let mut seed = 1_u32;
    for _ in 0..100_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend(seed.to_le_bytes());
    }
    let garbage = text.clone();
    text.extend(log(|at, text| format!("<4>[   12.{at:06}] {text}\n")));
    text.extend(&garbage);
    assert_whole(&read_bytes(&text), "random bytes");
    let zeroes = vec![0; 1 << 20];
    let text = [&*zeroes, &log(|_, text| format!("{text}\n")), &*zeroes].concat();
    assert_whole(&read_bytes(&text), "zeroes");
    let endless = vec![b'x'; 1 << 20];
    let text = [&*endless, b"\n", &log(|_, text| format!("{text}\n")), &*endless].concat();
    assert_whole(&read_bytes(&text), "an endless line");
}

#[test]
fn two_processors_are_told_apart_by_their_callers() {
    let mut text = String::new();
    for line in OOPS.iter().take(25) {
        let other = line
            .replace("write_through", "read_through")
            .replace("CPU: 1", "CPU: 3")
            .replace("203", "204")
            .replace("outer", "inner");
        let _ = writeln!(text, "[   12.000001][  T203] {line}\n[   12.000001][  T204] {other}");
    }
    let case = read_bytes(text.as_bytes());
    let [first, second] = &*case.splats else { panic!("{:#?}", case.splats) };
    assert_eq!((first.pid, second.pid), (Some(203), Some(204)));
    assert_eq!(first.frames[1].place.function.as_deref(), Some("outer"));
    assert_eq!(second.frames[1].place.function.as_deref(), Some("inner"));
    assert_eq!(second.ip.as_ref().and_then(|place| place.function.as_deref()), Some("read_through"));
    assert_eq!((first.damage.as_deref(), second.damage.as_deref()), (None, None));
}

#[test]
fn two_processors_without_callers_are_marked() {
    let mut text = String::new();
    for line in OOPS.iter().take(12) {
        let other =
            line.replace("write_through", "read_through").replace("CPU: 1", "CPU: 3").replace("203", "204");
        let _ = writeln!(text, "[   12.000001] {line}\n[   12.000001] {other}");
    }
    let case = read_bytes(text.as_bytes());
    let [first, second] = &*case.splats else { panic!("{:#?}", case.splats) };
    assert!(first.damage.is_some() && second.damage.is_some());
    let functions =
        [first, second].map(|splat| splat.ip.as_ref().and_then(|place| place.function.clone()).unwrap());
    assert_eq!(functions, ["write_through", "read_through"]);
}

#[test]
fn missing_lines_cost_only_themselves() {
    for (missing, lost) in OOPS.iter().enumerate().take(25) {
        let text: String = OOPS
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != missing)
            .map(|(_, text)| format!("{text}\n"))
            .collect();
        let case = read_bytes(text.as_bytes());
        assert_eq!(case.splats.len(), 1, "without {:?}: {:#?}", lost, case.splats);
        let splat = &case.splats[0];
        assert_eq!(splat.kind, SplatKind::PageFault, "without {:?}", lost);
        assert_eq!(splat.ip.is_some(), missing != 8, "without {:?}", lost);
        assert!(splat.frames.len() >= 2, "without {:?}", lost);
    }
}

#[test]
fn the_first_of_several_oopses_comes_first() {
    let first = log(|_, text| format!("{text}\n"));
    let second = String::from_utf8(first.clone())
        .unwrap()
        .replace("[#1]", "[#2]")
        .replace("write_through", "victim_of_it");
    let whole = [&first[..], second.as_bytes()].concat();
    let case = read_bytes(&whole);
    assert_eq!(case.splats.iter().map(|splat| splat.number).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn the_last_boot_that_failed_is_the_case() {
    let boot = "[    0.000000] Linux version 6.12.1 (a@b) (gcc) #1 SMP\n";
    let bad = String::from_utf8(log(|at, text| format!("[   12.{at:06}] {text}\n"))).unwrap();
    let case = read_bytes(format!("{boot}{bad}{boot}[    1.000000] all is well\n").as_bytes());
    assert_eq!(case.splats.len(), 1);
    assert_eq!(case.system.release.as_deref(), Some("6.12.1"));
    assert_eq!(case.gaps.len(), 1);
}

#[test]
fn control_characters_of_names_do_not_come_through() {
    let text = "INFO: task \x1b[31mevil\x07\x1b]0;t\x07:12 blocked for more than 120 seconds.\n      Not tainted 5.10\nCall Trace:\n f+0x1/0x2\n";
    let case = read_bytes(text.as_bytes());
    assert_eq!(case.splats[0].comm.as_deref(), Some("evil\\x07"));
    assert!(case.splats[0].message.chars().all(|letter| !letter.is_control()));
}

#[test]
fn events_are_counted_once_each() {
    let case = read_bytes(b"sd 0:0:0:0: [sda] rejecting I/O to offline device\nblk_update_request: I/O error, dev sda, sector 1\nblk_update_request: I/O error, dev sda, sector 2\nEXT4-fs error (device sda1): x\n");
    let found: Vec<_> = case.events.iter().map(|event| (event.kind, event.count)).collect();
    assert_eq!(
        found,
        [(EventKind::BlockError, 1), (EventKind::BlockError, 2), (EventKind::FilesystemError, 1)]
    );
}

#[test]
fn tasks_of_sysrq_are_stacks_and_no_complaints() {
    let case = read_bytes(b"[   12.5] sysrq: Show Blocked State\n[   12.5] task:a b             state:D stack:0     pid:12    tgid:12    ppid:2      flags:0x00004000\n[   12.5] Call Trace:\n[   12.5]  <TASK>\n[   12.5]  __schedule+0x1/0x2\n[   12.5]  schedule+0x1/0x2\n[   12.5]  </TASK>\n[   12.5] task:c              state:D stack:0     pid:13    tgid:13    ppid:2      flags:0x00004000\n[   12.5] Call Trace:\n[   12.5]  __schedule+0x1/0x2\n");
    assert!(case.splats.is_empty(), "{:?}", case.splats);
    let stacks: Vec<_> = case
        .stacks
        .iter()
        .map(|stack| (stack.comm.as_deref(), stack.pid, stack.state, stack.frames.len()))
        .collect();
    assert_eq!(stacks, [(Some("a b"), Some(12), Some('D'), 2), (Some("c"), Some(13), Some('D'), 1)]);
}

#[test]
fn chunks_may_end_anywhere() {
    let text = log(|at, text| format!("[   12.{at:06}] {text}\r\n"));
    let whole = read_bytes(&text);
    for at in (0..text.len()).step_by(7) {
        let mut reader = Reader::new();
        let (head, tail) = text.split_at(at);
        reader.push(head);
        reader.push(tail);
        assert_eq!(reader.finish().splats, whole.splats, "{at}");
    }
}

/// Lines of logs and sessions, whole and cut, in any order.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&'static str> = OOPS
        .iter()
        .copied()
        .chain([
            "crash> bt",
            "KERNEL: vmlinux",
            "PANIC: \"Oops: 0002 [#1]\" (check log for details)",
            "PID: 21797 TASK: db976d30 CPU: 0 COMMAND: \"nodemon\"",
            "#0 [c03c7e60] netpoll_start_netdump at f89ac570",
            "[exception RIP: list_del+8]",
            "EAX: 00100100 EBX: f76ac100 ECX: f76ac3d0 EDX: 00200200 EBP: bed4a876",
            "KERNEL-MODE EXCEPTION FRAME AT d0b03fa0:",
            "08175860: 44445320 362e3120 302e322e 3220312d SDD 1.6.2.01 2",
            "0xffffffff80153f77 <list_del+8>: mov (%rax),%rdx",
            "1 Normal 225280 10372 c103c02c 1000000 4096",
            "INFO: task a:12 blocked for more than 120 seconds.",
            "a invoked oom-killer: gfp_mask=0xcc0, order=0",
            "Mem-Info:",
            "Node 0 DMA32 free:2380kB min:2620kB low:3272kB",
            "[    175]     0   175     4351     4277     4108        1 name",
            "Linux version 6.12.1 (a@b) #1",
            "WARNING: CPU: 1 PID: 123 at kernel/x.c:12 f+0x12/0x34 [m]",
            "refcount_t: underflow; use-after-free.",
            "BUG: KASAN: slab-use-after-free in f+0x12/0x34",
            "Allocated by task 12:",
        ])
        .collect();
    let piece = prop_oneof![
        4 => (proptest::sample::select(lines), 0_usize..200).prop_map(|(line, cut)| {
            let mut line = line.as_bytes().to_vec();
            line.truncate(cut.max(8));
            line.push(b'\n');
            line
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_input_panics_and_nothing_controls_a_terminal(text in pieces()) {
        let case = read_bytes(&text);
        for splat in &case.splats {
            let _ = crate::decode::fault(splat, &case);
            prop_assert!(splat.message.chars().all(|letter| !letter.is_control()));
        }
        let shown = serde_json::to_string(&case.splats).unwrap();
        prop_assert!(!shown.contains("\\u001b"));
    }
}
