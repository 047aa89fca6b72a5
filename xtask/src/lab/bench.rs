//! `cargo xtask bench`: kdive, crash and drgn on the same dumps, in one run, in one table.
//!
//! Each measurement is a fresh process: wall time and peak resident memory, the median of several runs after one that
//! fills the page cache. crash and drgn are those of the lab's unstable suite, run inside its root directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::check;
use super::descriptor::Descriptor;
use super::peers::Peers;
use super::place::Lab;
use crate::run;

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Where the lab keeps its kernels and dumps.
    #[arg(long, env = "KDIVE_LAB")]
    dir: Option<PathBuf>,
    /// The program to measure [default: target/release/kdive, built if it is not there].
    #[arg(long)]
    kdive: Option<PathBuf>,
    /// Measured runs of each cell.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only kdive.
    #[arg(long)]
    no_peers: bool,
    /// Only the lines of the table that contain this.
    #[arg(long)]
    only: Option<String>,
}

/// A line of the table.
struct Case {
    about: &'static str,
    dump: &'static str,
    /// kdive gets the vmlinux too; the others cannot do without.
    vmlinux: bool,
    kdive: &'static [&'static str],
    /// crash's commands, a line each; empty where it has no such thing.
    crash: &'static str,
    /// The same for drgn, as a program; empty where it has no such thing.
    drgn: &'static str,
}

const KDUMP: &str = "6.12-null-kexec.zlib";
const LOAD: &str = "6.12-load.elf";

const DRGN_BT: &str = "print(prog['init_uts_ns'].name); print(prog.crashed_thread().stack_trace())";

/// There is no such command.
const NOTHING: &str = "";

/// A command on the dump of the `big` scenario, beside crash's.
const fn of_big(about: &'static str, kdive: &'static [&'static str], crash: &'static str) -> Case {
    Case { about, dump: "6.12-big.elf", vmlinux: false, kdive, crash, drgn: "" }
}

const CASES: &[Case] = &[
    Case {
        about: "kdump, 512 MB guest: `sys`, `bt`, no vmlinux",
        dump: KDUMP,
        vmlinux: false,
        kdive: &["sys", "bt"],
        crash: "sys\nbt\n",
        drgn: DRGN_BT,
    },
    Case {
        about: "the same with a vmlinux",
        dump: KDUMP,
        vmlinux: true,
        kdive: &["sys", "bt"],
        crash: "sys\nbt\n",
        drgn: DRGN_BT,
    },
    Case {
        about: "kdump, 512 MB guest: `bt -l`, vmlinux",
        dump: KDUMP,
        vmlinux: true,
        kdive: &["bt -l"],
        crash: "bt -l\n",
        drgn: "print(prog.crashed_thread().stack_trace())",
    },
    Case {
        about: "ELF, 4 GB guest of 3,000 tasks: `foreach bt`",
        dump: "6.12-big.elf",
        vmlinux: false,
        kdive: &["foreach bt"],
        crash: "foreach bt\n",
        drgn: DRGN_FOREACH_BT,
    },
    of_big("the same guest: `ps`", &["ps"], "ps\n"),
    of_big("the same guest: `foreach files`", &["foreach files"], "foreach files\n"),
    of_big("the same guest: `foreach vm`", &["foreach vm"], "foreach vm\n"),
    of_big("the same guest: `kmem -s`", &["kmem -s"], "kmem -s\n"),
    of_big("the same guest: `kmem -S`", &["kmem -S"], "kmem -S\n"),
    of_big("the same guest: `kmem -p`", &["kmem -p"], "kmem -p\n"),
    of_big("the same guest: `kmem -i`", &["kmem -i"], "kmem -i\n"),
    of_big("the same guest: `locks`", &["locks"], NOTHING),
    of_big("the same guest: `hang`", &["hang"], NOTHING),
    of_big("the same guest: `stacks`", &["stacks"], NOTHING),
    of_big("the same guest: `meminfo`", &["meminfo"], NOTHING),
    of_big("the same guest: `slabtop`", &["slabtop"], NOTHING),
    of_big("the same guest: `blk`", &["blk"], NOTHING),
    Case {
        about: "the same guest: `text-check`, vmlinux",
        dump: "6.12-big.elf",
        vmlinux: true,
        kdive: &["text-check"],
        crash: NOTHING,
        drgn: NOTHING,
    },
    Case {
        about: "the same guest, all that the kernel maps: `search -k init_task`",
        dump: "6.12-big.elf",
        vmlinux: false,
        kdive: &["search -k init_task"],
        crash: "search -k init_task\n",
        drgn: DRGN_SEARCH,
    },
    Case {
        about: "ELF, 512 MB guest: `search -c \"Linux version 6\"`",
        dump: LOAD,
        vmlinux: false,
        kdive: &["search -c \"Linux version 6\""],
        crash: "search -c \"Linux version 6\"\n",
        drgn: DRGN_SEARCH_TEXT,
    },
    Case {
        about: "the same: start and nothing else",
        dump: LOAD,
        vmlinux: false,
        kdive: &["eval jiffies"],
        crash: "eval jiffies\n",
        drgn: "print(hex(prog.symbol('jiffies').address))",
    },
    Case {
        about: "the same: `struct task_struct init_task`",
        dump: LOAD,
        vmlinux: false,
        kdive: &["struct task_struct init_task"],
        crash: "struct task_struct init_task\n",
        drgn: "print(prog['init_task'])",
    },
    Case {
        about: "the same: `whatis -r 192`",
        dump: LOAD,
        vmlinux: false,
        kdive: &["whatis -r 192"],
        crash: "whatis -r 192\n",
        drgn: "",
    },
    Case {
        about: "flattened kdump of the same guest: `ps`",
        dump: "6.12-big.kdump-zlib",
        vmlinux: false,
        kdive: &["ps"],
        crash: "ps\n",
        drgn: "from drgn.helpers.linux.pid import for_each_task\n\
               for t in for_each_task(prog): print(t.pid.value_(), t.comm.string_().decode())",
    },
    Case {
        about: "ELF, a list of 1,000,000 objects scattered through slab: `list`",
        dump: "6.12-million.elf",
        vmlinux: false,
        kdive: &["list -o 8 -H witness_list"],
        crash: "list -o 8 -H witness_list\n",
        drgn: DRGN_MILLION,
    },
];

const DRGN_SEARCH: &str = "\
for hit in prog.search_memory_word(prog.symbol('init_task').address):
    print(hex(hit if isinstance(hit, int) else hit[0]))
";

const DRGN_SEARCH_TEXT: &str = "\
for hit in prog.search_memory(b'Linux version 6'):
    print(hex(hit))
";

const DRGN_MILLION: &str = "\
from drgn import Object
from drgn.helpers.linux.list import list_for_each
head = Object(prog, 'struct list_head', address=prog.symbol('witness_list').address)
for link in list_for_each(head.address_of_()): print(hex(link.value_() - 8))
";

const DRGN_FOREACH_BT: &str = "\
from drgn.helpers.linux.pid import for_each_task
for t in for_each_task(prog):
    try:
        print(prog.stack_trace(t))
    except Exception as error:
        print(error)
";

/// What a cell shows.
struct Cost {
    seconds: f64,
    peak_mb: f64,
}

/// `cargo xtask bench`.
pub(crate) fn main(args: BenchArgs) -> Result<()> {
    let lab = Lab::open(args.dir)?;
    let kdive = check::program(args.kdive.as_deref())?;
    if run::find_program("time").is_none() {
        bail!("peak memory is measured by GNU time: install the package `time`");
    }
    let dumps = Descriptor::all(&lab)?;
    let peers = if args.no_peers { None } else { Peers::find(&lab) };
    print_head(&args.runs, peers.as_ref());
    let wanted = |case: &&Case| args.only.as_ref().is_none_or(|only| case.about.contains(only.as_str()));
    for case in CASES.iter().filter(wanted) {
        let Some(dump) = dumps.iter().find(|dump| dump.name == case.dump) else {
            eprintln!("SKIPPED: {}: no dump {}: run `cargo xtask lab all`", case.about, case.dump);
            continue;
        };
        let bench = Bench { lab: &lab, case, dump, runs: args.runs };
        let ours = bench.cost(|| bench.kdive(&kdive));
        let theirs: Vec<Option<Cost>> = match &peers {
            Some(peers) => vec![
                if case.crash.is_empty() { None } else { bench.cost(|| bench.crash(peers)) },
                if case.drgn.is_empty() { None } else { bench.cost(|| bench.drgn(peers)) },
            ],
            None => vec![None, None],
        };
        print_row(case, ours.as_ref(), &theirs);
    }
    Ok(())
}

fn print_head(runs: &usize, peers: Option<&Peers>) {
    let (crash, drgn) = peers.map_or(("crash", "drgn"), |peers| (&*peers.crash, &*peers.drgn));
    println!(
        "Median of {runs} runs, a fresh process each, page cache warm: wall time, peak resident memory.\n"
    );
    println!("| | kdive | {crash} | {drgn} | crash : kdive | drgn : kdive |");
    println!("|---|---|---|---|---|---|");
}

fn print_row(case: &Case, ours: Option<&Cost>, theirs: &[Option<Cost>]) {
    let cell = |cost: Option<&Cost>| match cost {
        // Milliseconds count where there are few.
        Some(cost) if cost.seconds < 0.1 => format!("{:.3} s, {:.0} MB", cost.seconds, cost.peak_mb),
        Some(cost) => format!("{:.2} s, {:.0} MB", cost.seconds, cost.peak_mb),
        None => "-".into(),
    };
    let ratio = |cost: &Option<Cost>| match (ours, cost) {
        (Some(ours), Some(cost)) => format!("{:.1}", cost.seconds / ours.seconds),
        _ => "-".into(),
    };
    let cells: Vec<String> = theirs.iter().map(|cost| cell(cost.as_ref())).collect();
    let ratios: Vec<String> = theirs.iter().map(ratio).collect();
    println!("| {} | {} | {} | {} |", case.about, cell(ours), cells.join(" | "), ratios.join(" | "));
}

/// One case on its dump.
struct Bench<'a> {
    lab: &'a Lab,
    case: &'a Case,
    dump: &'a Descriptor,
    runs: usize,
}

impl Bench<'_> {
    fn kdive(&self, program: &Path) -> Result<Command> {
        let mut command = run::command(&program.to_string_lossy(), [""; 0]);
        for line in self.case.kdive {
            command.args(["-c", line]);
        }
        if self.case.vmlinux {
            command.arg(self.lab.dir().join(&self.dump.vmlinux));
        }
        command.args(self.dump.paths(self.lab));
        Ok(command)
    }

    fn dump_file(&self) -> Result<&str> {
        self.dump.files.first().map(String::as_str).context("a dump without files")
    }

    fn crash(&self, peers: &Peers) -> Result<Command> {
        let script = "tmp/bench.crash";
        run::make_dir(&self.lab.dir().join("tmp"))?;
        std::fs::write(self.lab.dir().join(script), format!("{}exit\n", self.case.crash))?;
        Ok(peers.crash(self.lab, script, &self.dump.vmlinux, self.dump_file()?))
    }

    fn drgn(&self, peers: &Peers) -> Result<Command> {
        let (dump, vmlinux) = (Peers::inside(self.dump_file()?), Peers::inside(&self.dump.vmlinux));
        let args = ["-q", "--no-default-symbols", "-c", &dump, "-s", &vmlinux, "-e", self.case.drgn];
        Ok(peers.command(self.lab, "drgn", &args.map(String::from)))
    }

    /// The median of the runs; a failure is told, and is no number.
    fn cost(&self, command: impl Fn() -> Result<Command>) -> Option<Cost> {
        let mut seconds = Vec::new();
        let mut peaks = Vec::new();
        for number in 0..=self.runs {
            match command().and_then(|command| measure(self.lab, &command)) {
                // The first fills the page cache.
                Ok(_) if number == 0 => {}
                Ok(cost) => {
                    seconds.push(cost.seconds);
                    peaks.push(cost.peak_mb);
                }
                Err(error) => {
                    eprintln!("SKIPPED: {}: {error:#}", self.case.about);
                    return None;
                }
            }
        }
        Some(Cost { seconds: median(seconds)?, peak_mb: median(peaks)? })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Runs a command under GNU time, which knows the peak of what it ran.
fn measure(lab: &Lab, command: &Command) -> Result<Cost> {
    let report = lab.dir().join("tmp/bench.time");
    run::make_dir(&lab.dir().join("tmp"))?;
    let mut timed = run::command("time", ["-f", "%M", "-o"]);
    timed.arg(&report).arg(command.get_program()).args(command.get_args());
    timed.stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = timed.output().with_context(|| run::describe(command))?;
    let seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!(
            "{}: {}\n{}",
            run::describe(command),
            output.status,
            run::tail(&String::from_utf8_lossy(&output.stderr))
        );
    }
    let text = std::fs::read_to_string(&report)?;
    let kib: f64 =
        text.lines().last().unwrap_or_default().trim().parse().context("no number from GNU time")?;
    Ok(Cost { seconds, peak_mb: kib / 1024.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_the_mean() {
        assert_eq!(median(vec![3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(vec![]), None);
    }
}
