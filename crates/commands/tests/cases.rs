//! Command lines of sessions in which real crashes were solved with crash: each is understood, and its like on a fixture
//! answers the same question.

// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use kdive_commands::line::{self, Line, Output};
use kdive_commands::{Cx, Invocation, Settings, TextSink};
use kdive_target::{Kernel, OpenOptions};

/// As they were typed.
const TYPED: &[&str] = &[
    // A BUG() in rmqueue of 2.4.21.
    "bt",
    "rd 08175860 40",
    // A list entry of sctp deleted twice, 2.6.18.
    "dis sctp_association_free",
    "dis ffffffff80153f77 10",
    "rd 0xffffffff802bbb37 40",
    "list list_del",
    "p list_del",
    "list list_del 0xffffffff80153f6f",
    "list list_head 0xffffffff80153f6f",
    "list -s list_head 0xffffffff80153f6f",
    "gdb list list_del",
    "gdb list *0xffffffff80153f77",
    // Text over a reverse map of kvm, 3.10.
    "struct mmu_notifier_ops 0xffffffffc05e5ca0",
    "struct kvm -ox | grep mmu_notifier",
    "px 0xffff883f0f3b3368-0x3368",
    "px ((struct kvm_rmap_head*)0xffffc90065fc21a0)->val",
    "px *((struct kvm_rmap_head*)0xffffc90065fc21a0)->val",
    "rd 0xffff883ffe9751a0  600 | grep -v \"0000000000000000 0000000000000000\"",
    "sym -l kvm_intel | grep enable_pml",
    "x/b 0xffffffffc181490c",
];

#[test]
fn every_line_is_understood() {
    let settings = Settings::default();
    for typed in TYPED {
        let Ok(Line::Command(command)) = line::parse(typed) else { panic!("{typed}: no command") };
        let found = Invocation::find(&command.words, &settings);
        assert!(found.is_ok(), "{typed}: {:?}", found.err());
        let piped = typed.contains(" | ");
        assert_eq!(matches!(command.output, Output::Pipe(_)), piped, "{typed}");
    }
}

/// What a line prints on a kernel, or its error.
fn run(kernel: &Arc<Kernel>, typed: &str) -> Result<String, String> {
    let Ok(Line::Command(command)) = line::parse(typed) else { panic!("{typed}: no command") };
    let mut cx = Cx::new(kernel.clone());
    let mut sink = TextSink::new(Vec::new());
    let ran = kdive_commands::run(&mut cx, &command.words, &mut sink);
    let text = String::from_utf8(sink.finish().expect("memory takes it")).expect("text");
    ran.map(|()| text).map_err(|error| error.to_string())
}

#[test]
fn the_same_forms_answer_on_a_fixture() {
    let kernel = common::kernel(&common::dump("6.12-null"), OpenOptions::default());
    let lines = |typed: &str| {
        let text = run(&kernel, typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let at = kernel.symbols().expect("symbols").by_name("write_through").first().expect("a function").address;

    let whole = lines("dis write_through");
    assert!(
        whole.first().expect("rows").ends_with(" <write_through>:\tnopl   0x0(%rax,%rax,1) [FTRACE NOP]")
    );
    let store = whole.iter().find(|line| line.contains("movl   $0x2a,(%rbx)")).expect("what faulted");
    let behind = lines(&format!("dis {} 3", at.add(24)));
    assert_eq!((behind.first(), behind.len()), (Some(store), 3));

    let offsets = lines("struct task_struct -ox");
    assert!(offsets.iter().any(|line| line.trim_start().starts_with("[0x") && line.ends_with(" pid;")));

    assert!(
        lines("sym -l crasher").iter().any(
            |line| line.ends_with(" (t) write_through [crasher]") || line.ends_with(" (t) write_through")
        )
    );
    assert_eq!(lines(&format!("x/b {at:#}")), [format!("0x{:x} <write_through>:\t0x0f", at.0)]);
    assert_eq!(lines(&format!("gdb info symbol {at:#}")), ["write_through in section .text of crasher"]);

    let read = lines(&format!("rd {} 40", at));
    assert_eq!(read.len(), 20);
    assert_eq!(
        lines("px 0xffff883f0f3b3368-0x3368").last().map(String::as_str),
        Some("$1 = 0xffff883f0f3b0000")
    );

    let listed = run(&kernel, &format!("gdb list *{at:#}")).expect_err("the fixture has no DWARF");
    assert!(listed.contains("debuginfo"), "{listed}");
    let refused = run(&kernel, "gdb run").expect_err("there is no gdb");
    assert!(refused.contains("no gdb inside"), "{refused}");
}
