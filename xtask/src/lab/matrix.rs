//! The matrix: which kernels, scenarios and formats `lab all` makes, and the list of what is there.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use super::boot::{Boot, KFENCE, NOMERGE, TRACKS};
use super::descriptor::Descriptor;
use super::format;
use super::place::{Kernel, Lab};
use super::qmp;
use super::scenario;

#[derive(Args)]
pub(crate) struct AllArgs {
    /// A round of a few minutes: `null` on every kernel, some contexts on one.
    #[arg(long)]
    quick: bool,
    /// Make them again even if they exist.
    #[arg(long)]
    again: bool,
    /// Only these series or releases.
    #[arg(long, value_delimiter = ',')]
    kernel: Vec<String>,
}

/// One boot per row.
#[derive(Clone, Copy)]
struct Row {
    scenario: &'static str,
    formats: &'static [&'static str],
    la57: bool,
    /// More kernel parameters.
    append: &'static str,
    /// In `--quick` too; of the scenarios on one kernel only.
    quick: bool,
    /// On one kernel only.
    once: bool,
}

const fn row(scenario: &'static str, formats: &'static [&'static str]) -> Row {
    Row { scenario, formats, la57: true, append: "", quick: false, once: false }
}

const SMALL: &[&str] = &["kdump-zlib"];

/// All that QEMU writes, where it is new enough and was built with the libraries.
const QEMU_FORMATS: &[&str] = &[
    "elf",
    "kdump-zlib",
    "kdump-lzo",
    "kdump-snappy",
    "kdump-raw-zlib",
    "kdump-raw-lzo",
    "kdump-raw-snappy",
];

const ROWS: &[Row] = &[
    Row { quick: true, ..row("null", QEMU_FORMATS) },
    Row { la57: false, ..row("null", &["elf", "kdump-zlib"]) },
    row("load", &["elf", "kdump-zlib"]),
    row("rich", &["elf"]),
    Row { append: NOMERGE, ..row("rich", &["elf"]) },
    row("deadlock", &["elf", "kdump-zlib"]),
    row("hung", SMALL),
    row("spinlock", SMALL),
    row("rcustall", SMALL),
    row("deafcpu", SMALL),
    row("sysrq", &["elf", "kdump-zlib"]),
    Row { quick: true, once: true, ..row("load", SMALL) },
    Row { quick: true, once: true, ..row("deadlock", SMALL) },
    row("hardirq", SMALL),
    row("softirq", SMALL),
    row("nested", SMALL),
    row("nmi", SMALL),
    row("stack", SMALL),
    row("bpf", &["elf", "kdump-zlib"]),
    row("null", &["vmcore", "zlib", "lzo", "snappy", "zstd", "zlib-d1", "elf17", "flat", "split"]),
    // The same guest in two forms: both must read back the same memory.
    Row { once: true, ..row("idle", &["elf", "savevm"]) },
    Row { once: true, ..row("big", &["elf", "kdump-zlib"]) },
    row("memory", SMALL),
    Row { append: TRACKS, ..row("memory", SMALL) },
    Row { append: KFENCE, ..row("memory", SMALL) },
    row("fragment", SMALL),
    row("slableak", SMALL),
    row("stuck", SMALL),
    row("blocked", SMALL),
    row("traced", SMALL),
    row("bitflip", SMALL),
    row("moduleflip", SMALL),
    row("kvm", SMALL),
    row("paused", SMALL),
    row("ipi", SMALL),
    row("hardlockup", SMALL),
    row("softlockup", SMALL),
    row("kprobe", SMALL),
    row("optprobe", SMALL),
    row("ftraceprobe", SMALL),
    row("kretprobe", SMALL),
    row("ftrace", SMALL),
    row("bug", SMALL),
    row("wild", SMALL),
    row("panic", SMALL),
    row("listdel", SMALL),
    row("doublefree", SMALL),
    Row { quick: true, once: true, ..row("hardirq", SMALL) },
    Row { quick: true, once: true, ..row("nmi", SMALL) },
    Row { once: true, ..row("million", &["elf"]) },
    // The older cloud kernels do not handle machine checks.
    Row { once: true, ..row("mce", SMALL) },
    Row { once: true, ..row("idle", SMALL) },
    Row { once: true, ..row("ascii", SMALL) },
    Row { once: true, ..row("oom", SMALL) },
];

/// Scenarios that are booted on each kernel with the module drawn from a seed: what `cargo xtask accuracy` judges.
const VARIED: &[&str] = &[
    "useafterfree",
    "outofbounds",
    "refcount",
    "divide",
    "badjump",
    "stackend",
    "doublefault",
    "bitpointer",
    "pagetable",
    "unload",
    "rwsem",
    "rtnl",
    "initdies",
    "tmpfs",
    "cgroupoom",
    "wild",
    "bug",
    "panic",
    "listdel",
    "doublefree",
    "ascii",
    "softlockup",
    "hardlockup",
    "ipi",
    "oom",
    "null",
    "deadlock",
    "spinlock",
    "stack",
    "hung",
    "deafcpu",
    "rcustall",
    "bpf",
    "softirq",
    "nmi",
    "hardirq",
    "nested",
    "sysrq",
    "load",
    "slableak",
    "memory",
    "fragment",
    "bitflip",
    "stuck",
];

/// Modules that are drawn for a kernel; the scenarios take turns.
const SEEDS: u64 = 3;

/// The first seed of a kernel: no two kernels share one.
fn first_seed(series: &str) -> u64 {
    match series {
        "5.10" => 1,
        "6.1" => 11,
        "6.12" => 21,
        _ => 31,
    }
}

/// All rows, with the number that the seed of a varied one is counted on from.
fn rows() -> impl Iterator<Item = (Row, Option<u64>)> {
    let plain = ROWS.iter().map(|row| (*row, None));
    let varied =
        VARIED.iter().zip(0..).map(|(scenario, number)| (row(scenario, SMALL), Some(number % SEEDS)));
    plain.chain(varied)
}

/// The kernel that rows of one kernel take.
const ONCE_SERIES: &str = "6.12";

impl Row {
    fn boot(&self, kernel: &Kernel, seed: Option<u64>, known: &[String]) -> Result<Boot> {
        let mut formats = self.formats.iter().map(|name| format::find(name)).collect::<Result<Vec<_>>>()?;
        formats.retain(|format| format.is_written(known));
        let mut boot = Boot::new(kernel.clone(), scenario::find(self.scenario)?, formats);
        boot.la57 &= self.la57;
        boot.append = self.append.into();
        boot.seed = seed.map_or(0, |number| first_seed(&kernel.series) + number);
        boot.name = boot.default_name();
        Ok(boot)
    }
}

/// `lab all`: boots what is missing, one guest at a time. A failed boot does not stop the others.
pub(crate) fn all(lab: &Lab, args: &AllArgs) -> Result<()> {
    let kernels = lab.kernels()?;
    if kernels.is_empty() {
        bail!("no kernel is prepared: run `cargo xtask lab prepare`");
    }
    let once = kernels.iter().rfind(|kernel| kernel.series == ONCE_SERIES).or(kernels.last());
    let once = once.map(|kernel| kernel.release.clone());
    let known = qmp::known_formats(lab)?;
    let unknown = ROWS.iter().flat_map(|row| row.formats).filter_map(|name| format::find(name).ok());
    let unknown: BTreeSet<&str> =
        unknown.filter(|format| !format.is_written(&known)).map(|format| format.name).collect();
    if !unknown.is_empty() {
        eprintln!("SKIPPED: this QEMU cannot write {}", Vec::from_iter(unknown).join(" "));
    }
    let start = Instant::now();
    let (mut made, mut kept, mut failed) = (0, 0, Vec::new());
    for (row, seed) in rows().filter(|(row, _)| row.quick || !args.quick) {
        for kernel in &kernels {
            let wanted = args.kernel.is_empty()
                || args.kernel.iter().any(|k| *k == kernel.series || *k == kernel.release);
            if !wanted || (row.once && Some(&kernel.release) != once.as_ref()) {
                continue;
            }
            let boot = row.boot(kernel, seed, &known)?;
            if boot.is_done(lab) && !args.again {
                kept += 1;
                continue;
            }
            match boot.run(lab) {
                Ok(()) => made += 1,
                Err(error) => {
                    eprintln!("FAILED: {error:#}");
                    failed.push(boot.name);
                }
            }
        }
    }
    println!("{made} boots in {:.0} s, {kept} kept, {} failed", start.elapsed().as_secs_f64(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    Ok(())
}

/// `lab list`.
pub(crate) fn list(lab: &Lab) -> Result<()> {
    let dumps = Descriptor::all(lab)?;
    println!(
        "{:<32} {:<28} {:<12} {:<14} {:>6} {:>9}",
        "DUMP", "KERNEL", "SCENARIO", "FORMAT", "PAGING", "MB"
    );
    for dump in &dumps {
        let sizes =
            dump.paths(lab).into_iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len()));
        let paging = if dump.la57 { "5" } else { "4" };
        println!(
            "{:<32} {:<28} {:<12} {:<14} {:>6} {:>9.1}",
            dump.name,
            dump.release,
            dump.scenario,
            dump.format,
            paging,
            sizes.sum::<u64>() as f64 / 1e6
        );
    }
    println!("{} dumps in {}", dumps.len(), lab.dumps().display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::VARIED;

    #[test]
    fn what_is_varied_is_a_scenario() {
        for name in VARIED {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == *name), "{name}");
        }
    }
}
