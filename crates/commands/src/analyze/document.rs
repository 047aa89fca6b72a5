//! What a report says, in order: blocks that each view draws in its own way. No view looks at the report itself.
//!
//! Text out of a dump or a log becomes printable here, once.

use std::fmt::Write as _;

use kdive_base::printable;
use kdive_evidence::{FrameTrust, Place};
use kdive_triage::report::{
    Happened, KnownIssueMatch, MemoryGrowth, MemoryPicture, ReportFrame, Suspect, SuspectKind, WaitGraph,
};
use kdive_triage::{Confidence, Evidence, Finding, Report};

use super::waits::{self, Lines};
use crate::render::Age;

/// A part of the document.
pub(super) enum Block<'r> {
    /// The answer.
    Answer(Answer),
    /// The heading of what follows.
    Section(&'static str),
    /// A name and its value each.
    Facts(Vec<(&'static str, String)>),
    /// A paragraph.
    Text(String),
    /// What to do, in this order.
    Steps(Vec<String>),
    /// Lines that stay as they are: a message, a backtrace.
    Lines(Lines),
    /// What speaks for the claim, or against it.
    Evidence { speaks: Speaks, points: Vec<Point> },
    /// Who may be to blame, the likeliest first.
    Suspects(Vec<Entry>),
    /// Known issues that match.
    Issues(Vec<Entry>),
    /// Findings besides the first.
    Findings(Vec<Entry>),
    /// Who waits for whom.
    Waits(&'r WaitGraph),
    /// What memory is used for, in bytes.
    Sizes { title: &'static str, rows: Vec<(String, u64)> },
    /// How that changed: before and now, in bytes.
    Growth { title: &'static str, rows: Vec<(String, u64, u64)> },
}

/// The first thing that is said.
pub(super) struct Answer {
    /// One sentence.
    pub(super) sentence: String,
    /// The line that people search for.
    pub(super) title: Option<String>,
    /// What class of failure, and how sure.
    pub(super) class: Option<(String, Confidence)>,
    /// What ended the kernel, where that is not the cause.
    pub(super) trigger: Option<String>,
}

/// For or against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    For,
    Against,
}

/// Something seen, and the command that shows it again.
pub(super) struct Point {
    pub(super) text: String,
    pub(super) command: Option<String>,
}

/// One of a ranking.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) score: u8,
    /// A word or two on how it stands.
    pub(super) mark: Option<String>,
    pub(super) text: Vec<String>,
    /// What speaks against it.
    pub(super) but: Vec<String>,
    pub(super) links: Vec<String>,
}

/// Other findings that are listed.
const MOST_FINDINGS: usize = 12;

/// Modules and other values of one line.
fn shown(text: &str) -> String {
    printable(text.trim().as_bytes())
}

fn all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| shown(text)).collect()
}

/// The document of a report.
pub(super) fn of(report: &Report) -> Vec<Block<'_>> {
    let mut blocks = vec![Block::Answer(answer(report))];
    if let Some(verdict) = report.verdict.as_ref().filter(|verdict| !verdict.advice.is_empty()) {
        blocks.extend([Block::Section("What to do now"), Block::Steps(all(&verdict.advice))]);
    }
    if let Some(happened) = &report.happened {
        blocks.push(Block::Section("What happened"));
        blocks.extend(what_happened(happened));
    }
    if let Some(graph) = report.wait_graph.as_ref().filter(|graph| !graph.edges.is_empty()) {
        blocks.extend([Block::Section("Who waits for whom"), Block::Waits(graph)]);
    }
    let chosen = chosen(report);
    if let Some(finding) = chosen.and_then(|index| report.findings.get(index)) {
        blocks.push(Block::Section("Evidence"));
        let sentence = report.verdict.as_ref().map_or("", |verdict| verdict.sentence.as_str());
        blocks.extend(evidence(finding, sentence));
    }
    if let Some(memory) = &report.memory {
        blocks.push(Block::Section("Memory"));
        blocks.extend(memory_picture(memory));
    }
    if !report.known_issues.is_empty() {
        blocks.push(Block::Section("Known issues"));
        blocks.push(Block::Issues(report.known_issues.iter().map(issue).collect()));
    }
    if !report.suspects.is_empty() {
        blocks.push(Block::Section("Suspects"));
        blocks.push(Block::Suspects(suspects(&report.suspects)));
    }
    let others: Vec<&Finding> = report
        .findings
        .iter()
        .enumerate()
        .filter(|(index, _)| chosen != Some(*index))
        .map(|(_, found)| found)
        .collect();
    if !others.is_empty() {
        blocks.push(Block::Section(if chosen.is_some() { "Other findings" } else { "Findings" }));
        blocks.push(Block::Findings(others.iter().take(MOST_FINDINGS).map(|found| finding(found)).collect()));
        if let Some(more) = others.len().checked_sub(MOST_FINDINGS).filter(|more| *more > 0) {
            blocks.push(Block::Text(format!("{more} more are in the JSON form.")));
        }
    }
    if !report.gaps.is_empty() {
        blocks.push(Block::Section("What is missing"));
        blocks.push(Block::Findings(report.gaps.iter().map(gap).collect()));
    }
    blocks.extend([Block::Section("The machine"), Block::Facts(machine(report))]);
    blocks
}

/// The finding that is the verdict.
fn chosen(report: &Report) -> Option<usize> {
    let verdict = report.verdict.as_ref()?;
    report
        .findings
        .iter()
        .position(|found| found.class == verdict.class && found.title == verdict.title)
        .or(Some(0))
}

fn answer(report: &Report) -> Answer {
    let trigger = report.trigger.as_ref().map(|trigger| shown(&trigger.text));
    let Some(verdict) = &report.verdict else {
        let sentence =
            if report.findings.is_empty() { "Nothing wrong was found." } else { "No cause was found." };
        return Answer { sentence: sentence.to_owned(), title: None, class: None, trigger };
    };
    Answer {
        sentence: shown(&verdict.sentence),
        title: Some(shown(&verdict.title)).filter(|title| *title != shown(&verdict.sentence)),
        class: Some((verdict.class.text().to_owned(), verdict.confidence)),
        trigger: trigger.filter(|_| verdict.trigger_differs),
    }
}

fn what_happened(happened: &Happened) -> Vec<Block<'_>> {
    let mut facts = Vec::new();
    let mut fact = |name, value: &Option<String>| {
        if let Some(value) = value {
            facts.push((name, shown(value)));
        }
    };
    fact("task", &happened.task);
    fact("fault", &happened.fault);
    fact("instruction", &happened.instruction);
    fact("value from", &happened.provenance);
    let mut blocks = vec![Block::Lines(happened.message.lines().map(|line| (shown(line), false)).collect())];
    if !facts.is_empty() {
        blocks.push(Block::Facts(facts));
    }
    if !happened.frames.is_empty() {
        blocks.push(Block::Lines(backtrace(&happened.frames)));
    }
    blocks
}

fn backtrace(frames: &[ReportFrame]) -> Lines {
    let mut lines = Lines::new();
    let mut number: u32 = 0;
    for shown_frame in frames {
        let mut line = format!("#{number:<2} {}", place(&shown_frame.frame.place));
        match shown_frame.frame.trust {
            FrameTrust::Scan | FrameTrust::PrintedUnsure => line.push_str("  ?"),
            _ if shown_frame.frame.inlined => line.push_str("  (inlined)"),
            _ => {}
        }
        if shown_frame.guilty {
            line.push_str("  <- to blame");
        }
        lines.push((line, shown_frame.guilty));
        number = number.saturating_add(1).saturating_add(shown_frame.folded);
        if shown_frame.folded > 0 {
            lines.push((format!("    ... {} more", shown_frame.folded), false));
        }
    }
    lines
}

fn place(place: &Place) -> String {
    let mut text = match (&place.function, place.address) {
        (Some(function), _) => shown(function),
        (None, Some(address)) => address.to_string(),
        (None, None) => "?".to_owned(),
    };
    if place.function.is_some()
        && let Some(offset) = place.offset
    {
        let _ = write!(text, "+{offset:#x}");
    }
    if let Some(module) = &place.module {
        let _ = write!(text, " [{}]", shown(module));
    }
    text
}

fn evidence<'r>(finding: &'r Finding, sentence: &str) -> Vec<Block<'r>> {
    let side = |speaks, points: &[Evidence]| {
        let points: Vec<Point> = points
            .iter()
            .map(|point| Point { text: shown(&point.text), command: point.command.as_deref().map(shown) })
            .collect();
        (!points.is_empty()).then_some(Block::Evidence { speaks, points })
    };
    // The answer has said it already, unless it says more.
    let claim = (!sentence.starts_with(finding.claim.trim())).then(|| Block::Text(shown(&finding.claim)));
    [claim, side(Speaks::For, &finding.supports), side(Speaks::Against, &finding.against)]
        .into_iter()
        .flatten()
        .collect()
}

fn memory_picture(memory: &MemoryPicture) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for (title, rows) in
        [("by use", &memory.uses), ("by slab cache", &memory.caches), ("by task", &memory.tasks)]
    {
        if !rows.is_empty() {
            let rows = rows.iter().map(|(name, bytes)| (shown(name), *bytes)).collect();
            blocks.push(Block::Sizes { title, rows });
        }
    }
    blocks.extend(memory.zones.iter().chain(&memory.leaks).map(|sentence| Block::Text(shown(sentence))));
    blocks.extend(memory.growth.iter().flat_map(memory_growth));
    blocks
}

fn memory_growth(growth: &MemoryGrowth) -> Vec<Block<'_>> {
    let since = growth.seconds.map_or_else(String::new, |seconds| {
        format!(", {} before", Age(seconds.saturating_mul(1_000_000_000)))
    });
    let mut blocks = vec![Block::Text(format!("Since {}{since}:", shown(&growth.before)))];
    blocks.extend(growth.doubts.iter().map(|doubt| Block::Text(format!("But {}.", shown(doubt)))));
    let tables = [
        ("growth by use", &growth.uses),
        ("growth by slab cache", &growth.caches),
        ("growth by process", &growth.tasks),
        ("growth by zone", &growth.zones),
    ];
    let before = blocks.len();
    for (title, rows) in tables.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        let rows = rows.iter().map(|row| (shown(&row.name), row.before, row.after)).collect();
        blocks.push(Block::Growth { title, rows });
    }
    if blocks.len() == before {
        blocks.push(Block::Text("Nothing changed by 1 MB or more.".to_owned()));
    }
    blocks
}

/// A change of bytes with its sign: `+12.0 MB`.
pub(super) fn signed(before: u64, after: u64) -> String {
    let sign = if after < before { '-' } else { '+' };
    format!("{sign}{}", crate::render::in_unit(before.abs_diff(after)))
}

fn issue(issue: &KnownIssueMatch) -> Entry {
    let fixed = issue.fixed_in.as_deref().map(shown);
    let mark = match (issue.has_fix, &fixed) {
        (Some(true), _) => Some("fixed in this kernel already".to_owned()),
        (Some(false), Some(fixed)) => Some(format!("not fixed in this kernel; fixed in {fixed}")),
        (None, Some(fixed)) => Some(format!("fixed in {fixed}")),
        _ => None,
    };
    let advice = issue.advice.iter().map(|advice| shown(advice));
    Entry {
        name: shown(&issue.title),
        score: issue.score,
        mark,
        text: advice.chain([format!("Matches because {}.", all(&issue.why).join("; "))]).collect(),
        but: Vec::new(),
        links: all(&issue.links),
    }
}

/// The suspects. Who is named by the very findings that name the one before it does not say them all again.
fn suspects(list: &[Suspect]) -> Vec<Entry> {
    let before = std::iter::once(None).chain(list.iter().map(Some));
    let repeats = |one: &Suspect, before: Option<&Suspect>| {
        before.is_some_and(|before| before.why == one.why) && !one.why_not.is_empty()
    };
    let entry = |(one, before): (&Suspect, Option<&Suspect>)| {
        let text = if repeats(one, before) { Vec::new() } else { all(&one.why) };
        Entry { text, ..suspect(one) }
    };
    list.iter().zip(before).map(entry).collect()
}

fn suspect(suspect: &Suspect) -> Entry {
    let kind = match suspect.kind {
        SuspectKind::Function => "function",
        SuspectKind::Module => "module",
        SuspectKind::Task => "task",
        SuspectKind::Hardware => "hardware",
        SuspectKind::Hypervisor => "hypervisor",
        SuspectKind::Administrator => "administrator",
    };
    Entry {
        name: shown(&suspect.name),
        score: suspect.score,
        mark: Some(kind.to_owned()),
        text: all(&suspect.why),
        but: all(&suspect.why_not),
        links: Vec::new(),
    }
}

fn finding(finding: &Finding) -> Entry {
    Entry {
        name: shown(&finding.title),
        score: finding.score,
        mark: Some(finding.confidence().name().to_owned()),
        text: vec![shown(&finding.claim)],
        but: finding.against.iter().map(|point| shown(&point.text)).collect(),
        links: Vec::new(),
    }
}

fn gap(gap: &kdive_triage::case::CaseGap) -> Entry {
    let next = gap.next_time.as_deref().map(|next| format!("Next time: {}", shown(next)));
    Entry {
        name: shown(&gap.what),
        score: 0,
        mark: None,
        text: [shown(&gap.why)].into_iter().chain(next).collect(),
        but: Vec::new(),
        links: Vec::new(),
    }
}

fn machine(report: &Report) -> Vec<(&'static str, String)> {
    let system = &report.system;
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push((name, shown(&value)));
        }
    };
    fact("kernel", system.release.clone());
    fact("version", system.version.clone());
    fact("machine", system.machine.clone());
    fact("hardware", system.hardware.clone());
    fact("hypervisor", system.hypervisor.clone());
    fact("host", system.nodename.clone());
    fact("up", system.uptime_s.map(|seconds| Age(seconds.saturating_mul(1_000_000_000)).to_string()));
    fact("CPUs", system.cpus.map(|cpus| cpus.to_string()));
    fact("memory", system.memory_bytes.map(crate::render::in_unit));
    fact("taint", system.taint.clone());
    fact("ended by", report.trigger.as_ref().map(|trigger| trigger.text.clone()));
    if let Some(signature) = &report.signature {
        let ids = format!("{}  (fuzzy {}, version {})", signature.exact, signature.fuzzy, signature.version);
        fact("signature", Some(ids));
        fact("made of", Some(signature.readable.clone()));
    }
    facts
}

/// The text of a graph of waits.
pub(super) fn waits_as_lines(graph: &WaitGraph) -> Lines {
    waits::lines(graph)
}
