use kdive_evidence::{Splat, SplatKind};

use super::*;
use crate::finding::{Culprit, Evidence};
use crate::report::SuspectKind;

fn finding(class: Class, score: u8, splat: Option<usize>) -> Finding {
    Finding {
        detector: "test",
        class,
        title: class.text().to_owned(),
        claim: format!("{}.", class.text()),
        score,
        culprit: Culprit { function: Some(format!("f_{score}")), ..Culprit::default() },
        supports: Vec::new(),
        against: Vec::<Evidence>::new(),
        advice: Vec::new(),
        splat,
    }
}

fn case(kinds: &[SplatKind]) -> Case<'static> {
    Case {
        splats: kinds
            .iter()
            .map(|&kind| Splat { kind, message: format!("{kind:?}"), ..Splat::default() })
            .collect(),
        ..Case::default()
    }
}

fn judge(case: &Case<'_>, findings: Vec<Finding>) -> Report {
    report(case, findings, &KnownIssues::default())
}

#[test]
fn the_first_report_is_the_cause_of_later_ones() {
    let case = case(&[SplatKind::ListCorruption, SplatKind::GeneralProtection]);
    let report = judge(
        &case,
        vec![finding(Class::NonCanonical, 90, Some(1)), finding(Class::ListCorruption, 76, Some(0))],
    );
    assert_eq!(report.verdict.unwrap().class, Class::ListCorruption);
    assert!(!report.findings[1].against.is_empty());
    // A near miss: a warning before it explains nothing.
    let report =
        judge(&case, vec![finding(Class::NonCanonical, 90, Some(1)), finding(Class::Warning, 76, Some(0))]);
    assert_eq!(report.verdict.unwrap().class, Class::NonCanonical);
}

#[test]
fn a_second_oops_is_never_the_verdict() {
    let mut case = case(&[SplatKind::PageFault, SplatKind::PageFault]);
    case.splats[0].number = Some(1);
    case.splats[1].number = Some(2);
    let report = judge(
        &case,
        vec![finding(Class::UseAfterFree, 95, Some(1)), finding(Class::WildPointer, 50, Some(0))],
    );
    assert_eq!(report.verdict.unwrap().class, Class::WildPointer);
}

#[test]
fn poison_lowers_a_flipped_bit_and_bad_memory_lowers_software() {
    let case = case(&[]);
    let report =
        judge(&case, vec![finding(Class::BitFlip, 72, None), finding(Class::UseAfterFree, 71, None)]);
    assert_eq!(report.verdict.unwrap().class, Class::UseAfterFree);
    assert_eq!(report.findings[1].score, 36);
    let report = judge(&case, vec![finding(Class::Assertion, 80, None), finding(Class::BadMemory, 60, None)]);
    assert_eq!(report.verdict.unwrap().class, Class::BadMemory);
    assert_eq!(report.suspects[0].kind, SuspectKind::Hardware);
    assert!(!report.suspects[1].why_not.is_empty());
}

#[test]
fn a_forced_dump_is_a_trigger_and_a_cause_is_looked_for() {
    let mut case = case(&[]);
    case.trigger = Some(Trigger { kind: TriggerKind::Sysrq, text: "sysrq: Trigger a crash".to_owned() });
    let report = judge(
        &case,
        vec![finding(Class::ForcedDump, 20, None), finding(Class::LowMemoryExhausted, 70, None)],
    );
    let verdict = report.verdict.unwrap();
    assert_eq!(verdict.class, Class::LowMemoryExhausted);
    assert!(verdict.trigger_differs && verdict.sentence.contains("operator"));
    let report = judge(&case, vec![finding(Class::Warning, 20, None), finding(Class::ForcedDump, 20, None)]);
    let verdict = report.verdict.unwrap();
    assert_eq!(
        (verdict.class, verdict.confidence, verdict.trigger_differs),
        (Class::ForcedDump, Confidence::Note, false)
    );
}

#[test]
fn without_evidence_nothing_is_invented() {
    let mut case = case(&[]);
    assert_eq!(judge(&case, Vec::new()).verdict, None);
    case.trigger = Some(Trigger { kind: TriggerKind::Panic, text: "panic".to_owned() });
    let verdict = judge(&case, Vec::new()).verdict.unwrap();
    assert_eq!((verdict.class, verdict.confidence), (Class::Insufficient, Confidence::Note));
}
