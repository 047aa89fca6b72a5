//! Tests of the views, on one report that has every part, with hostile text in it.

use kdive_base::VirtAddr;
use kdive_evidence::{FrameTrust, Place, TraceFrame};
use kdive_triage::case::{CaseGap, System, Trigger, TriggerKind};
use kdive_triage::report::{
    Change, Happened, KnownIssueMatch, MemoryGrowth, MemoryPicture, REPORT_VERSION, ReportFrame, Signature,
    Suspect, SuspectKind, Verdict, WaitEdge, WaitGraph, WaitNode,
};
use kdive_triage::{Class, Confidence, Culprit, Evidence, Finding, Report};

use super::Form;

const HOSTILE: &str = "<script>alert(1)</script>\u{1b}[31m`_*|\u{202e}";

fn frame(function: &str, module: Option<&str>, guilty: bool, folded: u32) -> ReportFrame {
    let place = Place {
        function: Some(function.to_owned()),
        offset: Some(0x20),
        module: module.map(str::to_owned),
        ..Place::default()
    };
    let frame = TraceFrame { place, trust: FrameTrust::Orc, stack: None, inlined: false, interrupted: false };
    ReportFrame { frame, guilty, folded }
}

fn waits() -> WaitGraph {
    let node = |name: &str, age_s: u64| WaitNode {
        name: name.to_owned(),
        task: None,
        age_ns: Some(age_s * 1_000_000_000),
    };
    let edge = |from, to, lock: &str, at: u64| WaitEdge {
        from,
        to,
        lock: lock.to_owned(),
        at: Some(VirtAddr(at)),
        function: Some("take_both".to_owned()),
        sure: true,
    };
    WaitGraph {
        nodes: vec![node("dead_a (PID 71)", 123), node("dead_b (PID 72)", 122), node("late (PID 80)", 5)],
        edges: vec![
            edge(0, Some(1), "mutex lock_b", 0xffff_ffff_c020_0040),
            edge(1, Some(0), "mutex lock_a", 0xffff_ffff_c020_0000),
            edge(2, Some(1), "mutex lock_b", 0xffff_ffff_c020_0040),
        ],
        cycles: vec![vec![0, 1]],
        left_out: 0,
    }
}

fn finding(title: &str, score: u8) -> Finding {
    Finding {
        detector: "test",
        class: Class::Deadlock,
        title: title.to_owned(),
        claim: format!("Two tasks wait for one another, {HOSTILE}."),
        score,
        culprit: Culprit::default(),
        supports: vec![Evidence::shown("dead_a holds lock_a and waits for lock_b", "locks")],
        against: vec![Evidence::seen("the log says nothing of it ".repeat(8))],
        advice: Vec::new(),
        splat: None,
    }
}

fn report() -> Report {
    Report {
        version: REPORT_VERSION,
        verdict: Some(Verdict {
            class: Class::Deadlock,
            title: "deadlock in take_both".to_owned(),
            sentence: format!("dead_a (PID 71) and dead_b (PID 72) wait for one another {HOSTILE}"),
            function: Some("take_both".to_owned()),
            module: None,
            confidence: Confidence::High,
            trigger_differs: true,
            advice: vec!["Reboot, and take both locks in one order.".to_owned()],
        }),
        trigger: Some(Trigger {
            kind: TriggerKind::HungTaskPanic,
            text: "hung_task: blocked tasks".to_owned(),
        }),
        system: System {
            release: Some("6.12.0".to_owned()),
            nodename: Some(HOSTILE.to_owned()),
            ..System::default()
        },
        happened: Some(Happened {
            message: format!("INFO: task blocked {HOSTILE}"),
            fault: None,
            instruction: Some("mov %rax,(%rbx)".to_owned()),
            provenance: None,
            task: Some("PID 71 \"dead_a\" on CPU 1".to_owned()),
            frames: vec![frame("mutex_lock", None, false, 2), frame("take_both", Some("crasher"), true, 0)],
        }),
        suspects: vec![Suspect {
            kind: SuspectKind::Module,
            name: "crasher".to_owned(),
            score: 80,
            why: vec!["it takes both locks".to_owned()],
            why_not: Vec::new(),
        }],
        findings: vec![finding("deadlock in take_both", 90), finding("BUG: soft lockup in x", 30)],
        known_issues: vec![KnownIssueMatch {
            id: "x".to_owned(),
            title: "A known deadlock".to_owned(),
            links: vec!["https://example.org/?a=1&b=\"2\"".to_owned(), "javascript:alert(1)".to_owned()],
            fixed_in: Some("Linux 6.13".to_owned()),
            has_fix: Some(false),
            advice: None,
            why: vec!["the stack has a < b".to_owned()],
            score: 70,
        }],
        wait_graph: Some(waits()),
        memory: Some(MemoryPicture {
            uses: vec![("tmpfs".to_owned(), 3 << 30), ("slab".to_owned(), 1 << 30)],
            growth: Some(MemoryGrowth {
                before: format!("earlier{HOSTILE}"),
                seconds: Some(7200),
                doubts: vec!["the earlier dump is of another host".to_owned()],
                caches: vec![
                    Change { name: format!("leaky{HOSTILE}"), before: 1 << 20, after: 13 << 20 },
                    Change { name: "shrunk".to_owned(), before: 5 << 20, after: 2 << 20 },
                ],
                ..MemoryGrowth::default()
            }),
            ..MemoryPicture::default()
        }),
        signature: Some(Signature {
            version: 1,
            exact: "abc".to_owned(),
            fuzzy: "def".to_owned(),
            readable: "deadlock take_both".to_owned(),
        }),
        gaps: vec![CaseGap { what: "user pages".to_owned(), why: "excluded".to_owned(), next_time: None }],
    }
}

fn rendered(form: Form) -> String {
    let mut text = String::new();
    form.render(&report(), &mut text).unwrap();
    text
}

#[test]
fn nothing_drives_a_terminal() {
    for form in [Form::Text, Form::Markdown, Form::Html] {
        let text = rendered(form);
        let wild = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(wild, None, "{form:?}");
    }
}

#[test]
fn text_is_a_hundred_columns_wide_and_begins_with_the_answer() {
    let text = rendered(Form::Text);
    assert!(text.starts_with("dead_a (PID 71) and dead_b (PID 72) wait for one another"), "{text}");
    let long = text.lines().find(|line| line.chars().count() > 100);
    assert_eq!(long, None);
    assert!(text.contains("      kdive> locks\n"), "{text}");
    assert!(text.contains("ended by hung_task: blocked tasks"));
    assert!(text.contains("... 2 more"), "{text}");
}

#[test]
fn a_newcomer_sees_who_holds_what() {
    let text = rendered(Form::Text);
    let expected = "\
  Deadlock of 2 tasks:
    ┌─> dead_a (PID 71)
    │     holds      mutex lock_a ffffffffc0200000
    │     waits for  mutex lock_b ffffffffc0200040, since 2m03s, in take_both
    │   which is held by
    │   dead_b (PID 72)
    │     holds      mutex lock_b ffffffffc0200040
    │     waits for  mutex lock_a ffffffffc0200000, since 2m02s, in take_both
    └── which is held by dead_a (PID 71)
  mutex lock_b ffffffffc0200040, held by dead_b (PID 72)
       5.0 s  late (PID 80) in take_both
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn growth_is_told_with_its_sign_and_what_speaks_against_it() {
    let text = rendered(Form::Text);
    for line in ["  growth by slab cache", "+12 MB  to     13 MB  leaky", "-3 MB  to      2 MB  shrunk"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("But the earlier dump is of another host."), "{text}");
    assert!(text.contains(", 2h00m before:"), "{text}");
}

#[test]
fn html_runs_and_fetches_nothing() {
    let text = rendered(Form::Html);
    let lower = text.to_ascii_lowercase();
    for word in
        ["<script", "src=", "<link", "@import", "url(", "href=\"javascript", "onload", "<img", "<iframe"]
    {
        let found = lower.find(word).filter(|at| !lower[*at..].starts_with("url(#arrow)"));
        assert_eq!(found, None, "{word}");
    }
    assert!(text.contains("&lt;script&gt;"));
    assert!(text.contains("https://example.org/?a=1&amp;b=&quot;2&quot;"));
    assert!(text.contains("<svg "));
    for tag in ["section", "ul", "ol", "li", "dl", "p", "pre", "table", "header", "main", "svg", "h3"] {
        let opened = text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn markdown_keeps_names_whole() {
    let text = rendered(Form::Markdown);
    assert!(text.contains("dead\\_a (PID 71)"), "{text}");
    assert!(!text.contains("\n<script"), "{text}");
    assert!(text.contains("`locks`"));
}

#[test]
fn a_report_without_a_verdict_says_so() {
    let empty = Report {
        verdict: None,
        trigger: None,
        happened: None,
        suspects: Vec::new(),
        findings: Vec::new(),
        known_issues: Vec::new(),
        wait_graph: None,
        memory: None,
        signature: None,
        gaps: Vec::new(),
        ..report()
    };
    for form in [Form::Text, Form::Markdown, Form::Html] {
        let mut text = String::new();
        form.render(&empty, &mut text).unwrap();
        assert!(text.contains("Nothing wrong was found."), "{form:?}: {text}");
    }
}
