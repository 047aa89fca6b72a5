//! `cargo xtask accuracy`: what `kdive analyze` says of the dumps, against what was built; makes `docs/accuracy.md`.
//!
//! Which class of failure a scenario is and which functions may be called guilty stands in [`TRUTHS`]; no rule of triage
//! knows these names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::check::{Session, program};
use super::descriptor::Descriptor;
use super::place::{Lab, version_numbers};

#[derive(Args)]
pub(crate) struct AccuracyArgs {
    /// Where kernels and dumps are kept, outside the repository.
    #[arg(long, env = "KDIVE_LAB")]
    dir: Option<PathBuf>,
    /// The program to judge [default: target/release/kdive, built if it is not there].
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// Only dumps whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Write the table to this file.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What a scenario is.
struct Truth {
    scenario: &'static str,
    /// Classes that are right; none for a machine in which nothing is wrong.
    classes: &'static [&'static str],
    /// Functions that are right; none where no function is to blame.
    functions: &'static [&'static str],
    /// Only with a vmlinux it can be seen; without one, nothing may be claimed.
    needs_vmlinux: bool,
}

const fn truth(
    scenario: &'static str,
    classes: &'static [&'static str],
    functions: &'static [&'static str],
) -> Truth {
    Truth { scenario, classes, functions, needs_vmlinux: false }
}

const TRUTHS: &[Truth] = &[
    truth("idle", &[], &[]),
    truth("load", &[], &[]),
    truth("sysrq", &["forced-dump"], &[]),
    truth("big", &["forced-dump"], &[]),
    truth("rich", &["forced-dump"], &[]),
    truth("null", &["null-dereference"], &["write_through", "crash_null"]),
    truth("wild", &["non-canonical", "wild-pointer"], &["write_through", "crash_wild"]),
    truth("bug", &["assertion"], &["fail_check", "crash_bug"]),
    truth("panic", &["panic"], &["crash_panic"]),
    truth("listdel", &["deleted-list-entry", "list-corruption"], &["crash_listdel"]),
    truth("doublefree", &["double-free", "slab-corruption"], &["crash_doublefree"]),
    truth("ascii", &["memory-overwrite", "list-corruption", "non-canonical"], &["crash_ascii"]),
    truth("stack", &["stack-overflow"], &["recurse"]),
    truth("softlockup", &["soft-lockup"], &["spin_without_preemption", "crash_softlockup"]),
    truth("hardlockup", &["hard-lockup"], &["spin_without_interrupts", "crash_hardlockup"]),
    truth("deadlock", &["deadlock"], &["take_both", "abba_one", "abba_two"]),
    truth("hung", &["deadlock", "hung-task"], &[]),
    truth("spinlock", &["spinlock-hang", "deadlock"], &["spin_lock_again", "take_twice", "take_behind"]),
    truth("rcustall", &["rcu-stall"], &["read_for_ever"]),
    truth("deafcpu", &["cpu-unresponsive"], &["turn_deaf"]),
    truth("memory", &["cgroup-out-of-memory", "memory-leak", "out-of-memory"], &[]),
    truth("fragment", &["fragmentation"], &[]),
    truth("oom", &["out-of-memory", "memory-leak"], &[]),
    truth("slableak", &["memory-leak", "out-of-memory"], &[]),
    truth("stuck", &["io-hang", "filesystem-hang", "forced-dump"], &[]),
    Truth {
        scenario: "bitflip",
        classes: &["bit-flip", "text-corruption"],
        functions: &["lcm"],
        needs_vmlinux: true,
    },
    truth("bpf", &["null-dereference", "wild-pointer"], &["fault_in_helper"]),
    truth("hardirq", &["panic"], &["panic_from_irq_work"]),
    truth("softirq", &["panic"], &["panic_from_timer"]),
    truth("nested", &["panic"], &["panic_from_irq_work"]),
    truth("ipi", &["panic"], &["panic_from_ipi"]),
    truth("nmi", &["panic"], &["panic_from_nmi"]),
    truth("useafterfree", &["use-after-free"], &["ask_peer", "crash_useafterfree"]),
    truth(
        "outofbounds",
        &["out-of-bounds", "memory-overwrite"],
        &["call_measure", "write_past", "crash_outofbounds"],
    ),
    truth("refcount", &["refcount"], &["put_twice", "crash_refcount"]),
    truth("divide", &["divide-error"], &["share_out", "crash_divide"]),
    truth("badjump", &["bad-jump"], &["call_data", "crash_badjump"]),
    truth("stackend", &["stack-corruption", "stack-overflow"], &["spoil_stack_end", "crash_stackend"]),
    truth("doublefault", &["double-fault", "stack-corruption"], &["lose_stack", "crash_doublefault"]),
    truth("bitpointer", &["bit-flip"], &["sum_peers", "crash_bitpointer"]),
    truth("pagetable", &["page-table-corruption"], &[]),
    truth("unload", &["use-after-unload"], &[]),
    truth("rwsem", &["deadlock"], &["write_both", "sem_forth", "sem_back"]),
    truth("rtnl", &["deadlock"], &["configure", "net_first", "device_first"]),
    truth("initdies", &["init-died"], &[]),
    truth("tmpfs", &["out-of-memory"], &[]),
    truth("cgroupoom", &["cgroup-out-of-memory"], &[]),
    truth("mce", &["hardware-error"], &[]),
];

/// How one dump was judged.
struct Row {
    scenario: String,
    series: String,
    vmlinux: bool,
    class: String,
    function: String,
    confidence: String,
    class_right: bool,
    culprit_right: bool,
}

pub(crate) fn main(args: &AccuracyArgs) -> Result<()> {
    let lab = Lab::open(args.dir.clone())?;
    let kdive = program(args.kdive.as_deref())?;
    let mut rows = Vec::new();
    for (dump, truth) in chosen(&lab, args.only.as_deref())? {
        for vmlinux in [false, true] {
            let row = judge(&lab, &kdive, &dump, truth, vmlinux);
            let row = row.with_context(|| dump.name.clone())?;
            let mark = |right| if right { "right" } else { "WRONG" };
            println!(
                "{:<28} {:<10} class {:<24} {}  culprit {:<26} {}  ({})",
                dump.name,
                if vmlinux { "vmlinux" } else { "alone" },
                row.class,
                mark(row.class_right),
                row.function,
                mark(row.culprit_right),
                row.confidence
            );
            rows.push(row);
        }
    }
    if rows.is_empty() {
        bail!("no dump of a scenario whose truth is known: `cargo xtask lab all` makes them");
    }
    let table = table(&rows);
    println!("\n{}", summary(&rows));
    if let Some(path) = &args.write {
        std::fs::write(path, table).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// One dump of each scenario and kernel.
fn chosen(lab: &Lab, only: Option<&str>) -> Result<Vec<(Descriptor, &'static Truth)>> {
    let mut found: BTreeMap<(Vec<u64>, String), (Descriptor, &'static Truth)> = BTreeMap::new();
    for dump in Descriptor::all(lab)? {
        // Forms of one moment are told alike: one of each is enough, and without what a filter left out.
        let plain = dump.makedumpfile.is_none()
            && dump.name.starts_with(&format!("{}-{}.", dump.series, dump.scenario));
        let Some(truth) = TRUTHS.iter().find(|truth| truth.scenario == dump.scenario).filter(|_| plain)
        else {
            continue;
        };
        if only.is_none_or(|only| dump.name.contains(only)) {
            found.entry((version_numbers(&dump.series), dump.scenario.clone())).or_insert((dump, truth));
        }
    }
    Ok(found.into_values().collect())
}

fn judge(lab: &Lab, kdive: &Path, dump: &Descriptor, truth: &Truth, vmlinux: bool) -> Result<Row> {
    let mut files = dump.paths(lab);
    if vmlinux {
        files.push(lab.dir().join(&dump.vmlinux));
    }
    let session = Session { kdive, files };
    let text = session.run(&["--silent"], "analyze --format json").map_err(|error| anyhow::anyhow!(error))?;
    let report: Value = serde_json::from_str(&text)?;
    let of = |key: &str| {
        report.pointer(&format!("/verdict/{key}")).and_then(Value::as_str).unwrap_or("-").to_owned()
    };
    let (class, function, confidence) = (of("class"), of("function"), of("confidence"));
    let is_nothing = class == "-" || confidence == "note";
    let expects_nothing = truth.classes.is_empty() || truth.needs_vmlinux && !vmlinux;
    let class_right = match expects_nothing {
        true => is_nothing,
        false => truth.classes.contains(&class.as_str()),
    };
    let culprit_right =
        expects_nothing || truth.functions.is_empty() || truth.functions.contains(&function.as_str());
    Ok(Row {
        scenario: dump.scenario.clone(),
        series: dump.series.clone(),
        vmlinux,
        class,
        function,
        confidence,
        class_right,
        culprit_right,
    })
}

/// The part of the rows that is right, by kernel and by whether there was a vmlinux.
fn summary(rows: &[Row]) -> String {
    let mut groups: BTreeMap<(Vec<u64>, String, bool), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry((version_numbers(&row.series), row.series.clone(), row.vmlinux)).or_default().push(row);
    }
    let mut text =
        String::from("| kernel | given | dumps | class right | culprit right |\n|---|---|---|---|---|\n");
    for ((_, series, vmlinux), rows) in groups {
        let class = rows.iter().filter(|row| row.class_right).count();
        let culprit = rows.iter().filter(|row| row.class_right && row.culprit_right).count();
        let percent = |part: usize| part * 100 / rows.len().max(1);
        let _ = writeln!(
            text,
            "| {series} | {} | {} | {class} ({} %) | {culprit} ({} %) |",
            if vmlinux { "vmlinux" } else { "dump alone" },
            rows.len(),
            percent(class),
            percent(culprit)
        );
    }
    text
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Accuracy of `kdive analyze`\n\n\
         Made by `cargo xtask accuracy --write docs/accuracy.md`: the verdict on each dump of the lab, against what was\n\
         built there (`lab/README.md`). A verdict is right if its class is, and its function is one of those that broke the\n\
         kernel; on a machine in which nothing is wrong it is right if nothing above a note is claimed.\n\n",
    );
    text.push_str(&summary(rows));
    text.push_str("\n| scenario | kernel | given | class | | function | | confidence |\n|---|---|---|---|---|---|---|---|\n");
    let mark = |right| if right { "right" } else { "**wrong**" };
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            row.scenario,
            row.series,
            if row.vmlinux { "vmlinux" } else { "dump alone" },
            row.class,
            mark(row.class_right),
            row.function,
            mark(row.culprit_right),
            row.confidence
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::TRUTHS;

    #[test]
    fn every_truth_is_of_a_scenario() {
        for truth in TRUTHS.iter().filter(|truth| truth.scenario != "mce") {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == truth.scenario), "{}", truth.scenario);
        }
    }
}
