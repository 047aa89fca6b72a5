//! `cargo xtask accuracy`: what `kdive analyze` says of the dumps, against what was built; makes `docs/accuracy.md`.

mod removal;
mod removed;
mod tables;
mod truths;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use rayon::prelude::*;
use serde_json::Value;

use super::check::{Session, program};
use super::descriptor::Descriptor;
use super::place::{Lab, version_numbers};
use truths::{TRUTHS, Truth};

#[derive(Args)]
pub(crate) struct AccuracyArgs {
    /// Where kernels and dumps are kept, outside the repository.
    #[arg(long, env = "KDIVE_LAB")]
    dir: Option<PathBuf>,
    /// The program to judge [default: target/release/kdive, built if it is not there].
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// Only dumps whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Judge what is said once evidence was taken out of the dumps (pages left out, log and types overwritten, the file
    /// cut) instead.
    #[arg(long)]
    evidence: bool,
    /// Write the tables to this file; those of the other kind stay as they are.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What `analyze` says in short.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    class: String,
    function: String,
    module: String,
    confidence: String,
    /// The score of the strongest finding, of 100: 25 and more is above a note.
    score: u64,
}

/// The least score that is above a note.
const ABOVE_NOTE: u64 = 25;

impl Said {
    fn of(report: &Value) -> Self {
        let of = |key: &str| {
            report.pointer(&format!("/verdict/{key}")).and_then(Value::as_str).unwrap_or("-").to_owned()
        };
        let findings = report.get("findings").and_then(Value::as_array).into_iter().flatten();
        let score = findings.filter_map(|finding| finding.get("score")?.as_u64()).max().unwrap_or(0);
        let (class, function, module, confidence) =
            (of("class"), of("function"), of("module"), of("confidence"));
        Self { class, function, module, confidence, score }
    }

    /// Nothing is claimed, or nothing above a note.
    fn is_nothing(&self) -> bool {
        self.score < ABOVE_NOTE && ["-", "note"].contains(&self.confidence.as_str())
    }
}

/// A dump with what it is.
#[derive(Clone)]
struct Case {
    dump: Descriptor,
    truth: &'static Truth,
}

impl Case {
    fn seed(&self) -> u64 {
        self.dump.variation.as_ref().map_or(0, |variation| variation.seed)
    }

    /// The class that was built.
    fn built(&self, vmlinux: bool) -> &'static str {
        match self.truth.classes.first() {
            Some(class) if vmlinux || !self.truth.needs_vmlinux => class,
            _ => "nothing",
        }
    }

    fn is_class(&self, said: &Said, vmlinux: bool) -> bool {
        match self.built(vmlinux) {
            "nothing" => said.is_nothing(),
            "forced-dump" => said.is_nothing() && said.class == "forced-dump",
            _ => self.truth.classes.contains(&said.class.as_str()),
        }
    }

    /// The function is one of those that broke the kernel, and its module is the lab's.
    fn is_culprit(&self, said: &Said, vmlinux: bool) -> bool {
        if self.built(vmlinux) == "nothing" {
            return true;
        }
        let functions = self.truth.functions;
        let named = functions.iter().any(|name| self.dump.called(name) == said.function);
        let blamed = said.module == self.dump.called("crasher");
        (functions.is_empty() || named) && (blamed || !self.truth.in_module)
    }
}

/// How one dump was judged.
struct Row {
    case: Case,
    vmlinux: bool,
    said: Said,
}

impl Row {
    fn is_class(&self) -> bool {
        self.case.is_class(&self.said, self.vmlinux)
    }

    fn is_culprit(&self) -> bool {
        self.case.is_culprit(&self.said, self.vmlinux)
    }
}

pub(crate) fn main(args: &AccuracyArgs) -> Result<()> {
    let lab = Lab::open(args.dir.clone())?;
    let cases = chosen(&lab, &args.only)?;
    if cases.is_empty() {
        bail!("no dump of a scenario whose truth is known: `cargo xtask lab all` makes them");
    }
    let (heading, part) = match args.evidence {
        true => (tables::EVIDENCE, removed::part(&lab, cases)?),
        false => (tables::VERDICTS, verdicts(&lab, args, cases)?),
    };
    if let Some(path) = &args.write {
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let text = tables::document(&old, heading, &part);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn verdicts(lab: &Lab, args: &AccuracyArgs, cases: Vec<Case>) -> Result<String> {
    let kdive = program(args.kdive.as_deref())?;
    let asked = cases.into_par_iter().flat_map_iter(|case| [(case.clone(), false), (case, true)]);
    let rows = asked.map(|(case, vmlinux)| {
        let said = ask(lab, &kdive, &case.dump, vmlinux).with_context(|| case.dump.name.clone())?;
        let row = Row { case, vmlinux, said };
        println!("{}", tables::line(&row));
        Ok(row)
    });
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    println!("\n{}", tables::summary(&rows));
    Ok(tables::verdicts(&rows))
}

/// One dump of each scenario, kernel and seed, the older kernels first.
fn chosen(lab: &Lab, only: &[String]) -> Result<Vec<Case>> {
    let mut found: BTreeMap<(Vec<u64>, String, u64), Case> = BTreeMap::new();
    for dump in Descriptor::all(lab)? {
        let seed = dump.variation.as_ref().map_or(0, |variation| variation.seed);
        let suffix = if seed == 0 { String::new() } else { format!("-s{seed}") };
        // Forms of one moment are told alike: one of each is enough, and without what a filter left out.
        let plain = dump.makedumpfile.is_none()
            && dump.name.starts_with(&format!("{}-{}{suffix}.", dump.series, dump.scenario));
        let Some(truth) = TRUTHS.iter().find(|truth| truth.scenario == dump.scenario).filter(|_| plain)
        else {
            continue;
        };
        if only.is_empty() || only.iter().any(|only| dump.name.contains(only.as_str())) {
            let key = (version_numbers(&dump.series), dump.scenario.clone(), seed);
            found.entry(key).or_insert(Case { dump, truth });
        }
    }
    Ok(found.into_values().collect())
}

fn ask(lab: &Lab, kdive: &Path, dump: &Descriptor, vmlinux: bool) -> Result<Said> {
    let mut files = dump.paths(lab);
    if vmlinux {
        files.push(lab.dir().join(&dump.vmlinux));
    }
    let session = Session { kdive, files };
    let text = session.run(&["--silent"], "analyze --format json").map_err(|error| anyhow::anyhow!(error))?;
    Ok(Said::of(&serde_json::from_str(&text)?))
}
