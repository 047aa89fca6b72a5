//! Verdicts: of the thirteen field cases, and of samples of every class in the catalogue with a near miss beside them.

use std::path::Path;

use kdive_triage::known::KnownIssues;
use kdive_triage::report::Report;
use kdive_triage::{Class, analyze, text};

mod catalogue;

fn judge(bytes: &[u8]) -> Report {
    analyze(&text::read_bytes(bytes), &KnownIssues::default())
}

fn summary(report: &Report) -> String {
    let verdict = report.verdict.as_ref();
    let line = verdict.map_or_else(
        || "no verdict".to_owned(),
        |verdict| {
            format!(
                "{:?} in {:?} [{:?}]: {} ({})",
                verdict.class,
                verdict.function,
                verdict.module,
                verdict.title,
                verdict.confidence.name()
            )
        },
    );
    let findings: Vec<String> = report
        .findings
        .iter()
        .take(6)
        .map(|finding| {
            format!(
                "\n      {} {:?} {} {:?}",
                finding.score, finding.class, finding.detector, finding.culprit
            )
        })
        .collect();
    format!("{line}{}", findings.concat())
}

/// A field case: its file, the class, the guilty function, the module, and a word of the advice or of a suspect.
type Expected = (&'static str, Class, Option<&'static str>, Option<&'static str>, &'static str);

const FIELD: &[Expected] = &[
    ("01-rhel4-spinlock-bug", Class::LockCorruption, None, None, "object that was freed"),
    ("02-rhel3-rmqueue-bug", Class::Assertion, Some("rmqueue"), None, "IBM"),
    ("03-rhel4-netrx-list-poison", Class::DeletedListEntry, Some("net_rx_action"), None, "common lock"),
    ("04-rhel5-end-page-writeback", Class::Assertion, Some("end_page_writeback"), None, "lpfc"),
    ("04b-rhel5-bad-page-state", Class::BadMemory, None, None, "Test the memory"),
    ("05-rhel4-incomplete-dump-strings", Class::Assertion, Some("next_thread"), None, "kernel/exit.c:904"),
    ("06-rhel3-lowmem-exhaustion", Class::LowMemoryExhausted, None, None, "16 GB"),
    ("07-rhel4-nmi-watchdog-timer", Class::ClockTrouble, Some("do_timer"), None, "clock=hpet"),
    (
        "08-rhel5-sctp-double-list-del",
        Class::DeletedListEntry,
        Some("sctp_association_free"),
        Some("sctp"),
        "dropped too early",
    ),
    ("09-fedora14-icmp-stack-protector", Class::StackCorruption, Some("icmp_send"), None, "packet"),
    (
        "10-el7-kvm-rmap-ascii-overwrite",
        Class::MemoryOverwrite,
        Some("kvm_zap_rmapp"),
        Some("kvm"),
        "writes that text",
    ),
    ("11-el6-tcp-v4-err-bug", Class::Assertion, Some("tcp_v4_err"), None, "tcp_ipv4.c:417"),
    ("12-kvm-guest-clocksource", Class::ClockTrouble, None, None, "kvm-clock"),
];

#[test]
fn field_cases_reach_their_verdicts() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let mut wrong = Vec::new();
    for (file, class, function, module, word) in FIELD {
        let report = judge(&std::fs::read(cases.join(file).with_extension("txt")).unwrap());
        let told = report.verdict.as_ref().is_some_and(|verdict| {
            let advised = verdict.advice.iter().any(|text| text.contains(word))
                || report.suspects.iter().any(|suspect| suspect.name.contains(word));
            // Where no function is expected, a guess is no error.
            let named = function.is_none() || verdict.function.as_deref() == *function;
            verdict.class == *class
                && named
                && (module.is_none() || verdict.module.as_deref() == *module)
                && advised
        });
        if !told {
            wrong.push(format!(
                "\n{file}: {}\n      advice {:?}\n      suspects {:?}",
                summary(&report),
                report.verdict.as_ref().map(|verdict| &verdict.advice),
                report.suspects.iter().map(|suspect| &suspect.name).collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn the_dump_of_a_starved_machine_was_forced() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let report = judge(&std::fs::read(cases.join("06-rhel3-lowmem-exhaustion.txt")).unwrap());
    assert!(report.verdict.unwrap().trigger_differs);
}

/// A class as it is written in reports.
fn written(class: Class) -> String {
    serde_json::to_value(class).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

fn class(report: &Report) -> String {
    report.verdict.as_ref().map_or_else(|| "none".to_owned(), |verdict| written(verdict.class))
}

#[test]
fn samples_of_the_catalogue_are_told() {
    let mut wrong = Vec::new();
    for sample in catalogue::samples() {
        let report = judge(sample.log.as_bytes());
        let function = report.verdict.as_ref().and_then(|verdict| verdict.function.as_deref());
        let title = report.verdict.as_ref().map(|verdict| verdict.title.as_str()).unwrap_or_default();
        let by_whom = report
            .findings
            .iter()
            .any(|found| found.detector == sample.detector && written(found.class) == sample.class);
        // A note is no verdict: there it is enough that the finding is made.
        let is_note = report.findings.iter().any(|found| {
            found.detector == sample.detector && found.confidence() == kdive_triage::Confidence::Note
        });
        let told = class(&report) == sample.verdict || is_note && class(&report) == "none";
        if !told
            || !by_whom && sample.detector != "none"
            || sample.function.is_some() && function != sample.function
            || !sample.title.is_none_or(|words| title.contains(words))
        {
            wrong.push(format!("\n{} ({}): {}", sample.row, sample.class, summary(&report)));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong: {}", wrong.len(), wrong.concat());
}

#[test]
fn near_misses_of_the_catalogue_are_something_else() {
    let mut wrong = Vec::new();
    for sample in catalogue::samples() {
        let report = judge(sample.near_miss.as_bytes());
        let found = class(&report);
        let is_taken = found == sample.class
            || report.findings.iter().any(|found| {
                found.detector == sample.detector
                    && written(found.class) == sample.class
                    && found.confidence() > kdive_triage::Confidence::Note
            });
        if is_taken && sample.near_miss_is != Some(sample.class)
            || sample.near_miss_is.is_some_and(|class| class != found)
        {
            wrong.push(format!(
                "\n{} (not {}, but {:?}): {}",
                sample.row,
                sample.class,
                sample.near_miss_is,
                summary(&report)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong: {}", wrong.len(), wrong.concat());
}

#[test]
fn every_detector_is_in_the_catalogue() {
    let samples = catalogue::samples();
    assert!(samples.len() > 120);
    for detector in kdive_triage::detect::DETECTORS {
        let known = samples.iter().any(|sample| sample.detector == detector.name)
            || catalogue::OF_IMAGES.contains(&detector.name);
        assert!(known, "no sample shows the detector {}", detector.name);
    }
}
