//! What `analyze` says once evidence was taken out of a dump: it may say less and be less sure, but nothing that is not so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use kdive_dump::{Hints, Input};
use kdive_target::{Kernel, OpenOptions};
use kdive_triage::known::KnownIssues;
use rayon::prelude::*;

use super::super::place::{Lab, version_numbers};
use super::removal::Removal;
use super::{Case, Said};

/// Classes that say less than the one that was built, and nothing that is not so: what is left of it when its proof is gone.
const WEAKER: &[(&str, &[&str])] = &[
    ("use-after-free", &["non-canonical", "wild-pointer"]),
    ("out-of-bounds", &["non-canonical", "wild-pointer", "memory-overwrite"]),
    ("memory-overwrite", &["non-canonical", "wild-pointer", "list-corruption"]),
    ("bit-flip", &["non-canonical", "wild-pointer"]),
    ("non-canonical", &["wild-pointer"]),
    ("page-table-corruption", &["wild-pointer"]),
    ("use-after-unload", &["wild-pointer", "callback-corruption"]),
    ("deleted-list-entry", &["list-corruption", "assertion", "non-canonical"]),
    ("double-free", &["slab-corruption", "assertion"]),
    ("bad-jump", &["wild-pointer", "null-dereference"]),
    ("null-dereference", &["wild-pointer"]),
    ("stack-overflow", &["double-fault"]),
    ("stack-corruption", &["double-fault"]),
    // The NMI that ended the machine did come from outside.
    ("hard-lockup", &["external-reset"]),
    ("deadlock", &["hung-task"]),
    ("spinlock-hang", &["soft-lockup"]),
    ("cpu-unresponsive", &["soft-lockup"]),
    ("refcount", &["warning"]),
    ("cgroup-out-of-memory", &["out-of-memory"]),
    ("filesystem-hang", &["io-hang", "hung-task"]),
    // The lab fails paths of a multipath device, and the kernel says so.
    ("io-hang", &["hung-task", "device-failure"]),
];

/// Larger guests, in MiB, are left out: nothing else is in them.
const MOST_MEMORY: u32 = 1024;

/// What became of a verdict.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The same, as sure.
    Same,
    /// The same, less sure; or a class or a function less.
    Less,
    /// Nothing above a note.
    Nothing,
    /// More sure than the whole dump was.
    Surer,
    /// A class or a function that was not built.
    Wrong,
}

impl Change {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Same, "same"),
        (Self::Less, "less"),
        (Self::Nothing, "nothing"),
        (Self::Surer, "SURER"),
        (Self::Wrong, "WRONG"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, word)| word)
    }
}

fn change(case: &Case, whole: &Said, less: &Said) -> Change {
    // Without a vmlinux.
    if case.built(false) == "nothing" || case.built(false) == "forced-dump" {
        return if less.is_nothing() { Change::Same } else { Change::Wrong };
    }
    if less.is_nothing() {
        return Change::Nothing;
    }
    let weaker = || {
        // That it panicked says less than anything.
        if (less.class.as_str(), less.function.as_str()) == ("panic", "-") {
            return true;
        }
        let of = |class: &&str| {
            WEAKER.iter().find(|(built, _)| built == class).map_or(&[][..], |(_, weaker)| weaker)
        };
        case.truth.classes.iter().flat_map(of).any(|class| *class == less.class)
    };
    let names = less.function == "-" || case.is_culprit(less, false);
    match case.is_class(less, false) {
        true if names && less.score > whole.score => Change::Surer,
        true if names && less == whole => Change::Same,
        true if names => Change::Less,
        false if names && weaker() => Change::Less,
        _ => Change::Wrong,
    }
}

/// A dump's verdicts: whole, and after each removal.
struct Row {
    case: Case,
    whole: Said,
    less: Vec<(Removal, Said)>,
}

/// Runs all, and returns the part of the document.
pub(super) fn part(lab: &Lab, cases: Vec<Case>) -> Result<String> {
    let judged = one_of_each(cases).into_par_iter().map(|case| judge(lab, case).inspect(print));
    let rows = judged.collect::<Result<Vec<Row>>>()?;
    println!("\n{}", summary(&rows));
    Ok(document(&rows))
}

fn print(row: &Row) {
    let Row { case, whole, less } = row;
    let lines = less.iter().map(|(removal, said)| {
        let change = change(case, whole, said).word();
        format!("\n    {} {change} ({} {} {})", removal.name(), said.class, said.function, said.score)
    });
    let lines: String = lines.collect();
    println!("{}: {} {} {}{lines}", case.dump.name, whole.class, whole.function, whole.score);
}

/// Of each scenario and kernel the dump with the highest seed.
fn one_of_each(cases: Vec<Case>) -> Vec<Case> {
    let mut found: BTreeMap<(Vec<u64>, String), Case> = BTreeMap::new();
    let fits = |case: &Case| case.dump.files.len() == 1 && case.dump.memory_mib <= MOST_MEMORY;
    for case in cases.into_iter().filter(fits) {
        found.insert((version_numbers(&case.dump.series), case.dump.scenario.clone()), case);
    }
    found.into_values().collect()
}

fn judge(lab: &Lab, case: Case) -> Result<Row> {
    let path = case.dump.paths(lab).into_iter().next().context("a dump without files")?;
    let inputs = kdive_fetch::sort(std::slice::from_ref(&path), None)?;
    let opened = kdive_dump::open(Input { files: inputs.dump }, &Hints::default())?;
    let kernel = Kernel::open(opened.clone(), OpenOptions::default(), Arc::new(()))?;
    let whole = analyze(&kernel).with_context(|| case.dump.name.clone())?;
    let mut less = Vec::new();
    for removal in Removal::ALL {
        let said = removal.open(&path, &kernel, &opened).and_then(|kernel| analyze(&kernel));
        less.push((removal, said.with_context(|| format!("{}: {}", case.dump.name, removal.name()))?));
    }
    Ok(Row { case, whole, less })
}

fn analyze(kernel: &Kernel) -> Result<Said> {
    let report = kdive_triage::analyze(&kdive_triage::image::read(kernel), &KnownIssues::built_in());
    Ok(Said::of(&serde_json::to_value(&report)?))
}

fn summary(rows: &[Row]) -> String {
    let mut text = String::from("| removed | dumps |");
    for (_, word) in Change::ALL {
        let _ = write!(text, " {word} |");
    }
    text.push_str("\n|---|---|---|---|---|---|---|\n");
    for removal in Removal::ALL {
        let _ = write!(text, "| {} | {} |", removal.name(), rows.len());
        for (wanted, _) in Change::ALL {
            let of = |row: &&Row| {
                let said = row.less.iter().find(|(other, _)| *other == removal);
                said.is_some_and(|(_, said)| change(&row.case, &row.whole, said) == wanted)
            };
            let _ = write!(text, " {} |", rows.iter().filter(of).count());
        }
        text.push('\n');
    }
    text
}

fn document(rows: &[Row]) -> String {
    let mut text = String::from(
        "Made by `cargo xtask accuracy --evidence --write docs/accuracy.md`, without a vmlinux. Numbers are scores of\n\
         100: from 25 on more than a note, from 50 on medium, from 75 on high. *Same* is the verdict of the whole dump with its\n\
         score; *less* is a lower score, no function, or a class that says less (a wild pointer where a use after free cannot be\n\
         proven any more); *nothing* is no more than a note. *Surer* and *wrong* (a class or a function that was not built, or\n\
         anything above a note on a healthy machine) must be 0.\n\n",
    );
    text.push_str(&summary(rows));
    text.push_str("\n| scenario | kernel | seed | whole dump |");
    for removal in Removal::ALL {
        let _ = write!(text, " {} |", removal.name());
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        let Said { class, score, .. } = &row.whole;
        let Case { dump, .. } = &row.case;
        let _ =
            write!(text, "| {} | {} | {} | {class}, {score} |", dump.scenario, dump.series, row.case.seed());
        for (_, said) in &row.less {
            let _ = match change(&row.case, &row.whole, said) {
                change @ (Change::Same | Change::Nothing) => write!(text, " {} |", change.word()),
                Change::Less if said.class == *class => write!(text, " {} |", said.score),
                Change::Less => write!(text, " {}, {} |", said.class, said.score),
                change => write!(text, " **{}**: {}, {} |", change.word(), said.class, said.score),
            };
        }
        text.push('\n');
    }
    text
}
