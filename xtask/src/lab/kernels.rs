//! `docs/kernels.md`: which command lines answer on which kernel, and why where they do not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde_json::Value;

use super::check::Session;
use super::descriptor::Descriptor;
use super::place::{Lab, version_numbers};

/// Everything behind it is made here.
const TITLE: &str = "## Command lines and kernels";

/// One line for each thing that a command can be asked for. Behind `||` is the line for kernels that keep it elsewhere.
const LINES: &[&str] = &[
    "sys",
    "sys -t",
    "sys -i",
    "sys -c",
    "sys config",
    "mach",
    "mach -m",
    "mach -c",
    "log",
    "log -a",
    "log -c",
    "mod",
    "mod -t",
    "ps",
    "ps -a",
    "ps -g",
    "ps -l",
    "ps -m",
    "ps -r",
    "ps -s",
    "ps -t",
    "ps -S",
    "ps -Y",
    "bt",
    "bt -a",
    "foreach bt",
    "task",
    "sig",
    "sig -g",
    "sig -l",
    "foreach sig",
    "runq",
    "runq -t",
    "runq -T",
    "runq -m",
    "runq -g",
    "timer",
    "timer -r",
    "waitq (&init_task.signal->wait_chldexit)",
    "ipcs",
    "ipcs -s",
    "ipcs -m",
    "ipcs -M",
    "ipcs -q",
    "vm 1",
    "vm -p 1",
    "vm -v 1",
    "vm -m 1",
    "foreach vm",
    "kmem -i",
    "kmem -s",
    "kmem -S pid",
    "kmem -r",
    "kmem -f",
    "kmem -v",
    "kmem -V",
    "kmem -n",
    "kmem -z",
    "kmem -o",
    "kmem -h",
    "kmem -g",
    "kmem -c",
    "kmem -C",
    "kmem -p (&init_task)",
    "kmem init_task",
    "swap",
    "files 1",
    "files -c 1",
    "foreach files",
    "fuser /dev/console",
    "mount",
    "mount -f",
    "mount -i",
    "dev",
    "dev -i",
    "dev -p",
    "dev -d",
    "dev -D",
    "dev -V",
    "irq",
    "irq -u",
    "irq -d",
    "irq -b",
    "irq -a",
    "irq -s",
    "net",
    "net -a",
    "foreach net -s",
    "foreach net -S",
    "bpf",
    "bpf -P",
    "bpf -M",
    "bpf -Pt",
    "bpf -Pj",
    "sbitmapq (&swap_info[0]->bdev->bd_disk->queue->tag_set->tags[0]->bitmap_tags) || \
     sbitmapq (swap_info[0]->bdev->bd_disk->queue->tag_set->tags[0]->bitmap_tags)",
    "info",
    "locks",
    "hang",
    "stacks",
    "wq",
    "rcu",
    "smp",
    "softirq",
    "overdue",
    "meminfo",
    "meminfo -p",
    "slabtop",
    "oom",
    "cgroup",
    "leaks",
    "pagecache",
    "frag",
    "owners",
    "owners -k",
    "blk",
    "blk -q",
    "blk -m",
    "blk -r",
    "blk -s",
    "blk -n",
    "blk -v",
    "blk -l",
    "journal",
    "route",
    "tcp",
    "qdisc",
    "qdisc -b",
    "conntrack",
    "nft",
    "bpf -L",
    "sysctl",
    "params",
    "clock",
    "tcp -l",
    "tcp -t",
    "ftrace",
    "ftrace -l",
    "kprobes",
    "livepatch",
    "kvm",
    "hw",
    "text-check",
    "analyze",
];

/// What became of a line on a dump.
enum Answer {
    /// It said something, and left nothing out.
    Whole,
    /// It said something; what it left out, and why.
    Gaps(Vec<String>),
    /// Why it said nothing.
    None(String),
}

fn ask_either(session: &Session<'_>, line: &str) -> Answer {
    let (first, other) = line.split_once(" || ").map_or((line, None), |(first, other)| (first, Some(other)));
    let answers = std::iter::once(first).chain(other).map(|line| ask(session, line));
    let mut answers = answers.collect::<Vec<_>>();
    let whole = answers.iter().position(|answer| matches!(answer, Answer::Whole));
    answers.swap_remove(whole.unwrap_or(0))
}

fn ask(session: &Session<'_>, line: &str) -> Answer {
    let text = match session.run(&["--json"], line) {
        Ok(text) => text,
        Err(error) => return Answer::None(error.rsplit(": ").next().unwrap_or(&error).trim().to_owned()),
    };
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let list = |name: &str| document.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let part = |gap: &Value, name: &str| gap.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let gaps: Vec<String> =
        list("gaps").iter().map(|gap| format!("{}: {}", part(gap, "what"), part(gap, "why"))).collect();
    match (list("rows").is_empty() && document.get("header").is_none(), gaps.is_empty()) {
        (true, true) => Answer::None("nothing is there to be listed".into()),
        (true, false) => Answer::None(gaps.join("; ")),
        (false, true) => Answer::Whole,
        (false, false) => Answer::Gaps(gaps),
    }
}

/// The newest name of each series of the scenario's dumps, oldest kernel first.
fn columns(dumps: &[Descriptor]) -> Vec<&Descriptor> {
    let mut chosen: Vec<&Descriptor> = dumps
        .iter()
        .filter(|dump| {
            dump.scenario == "rich" && dump.name == format!("{}-rich.{}", dump.series, dump.format)
        })
        .collect();
    chosen.sort_by_key(|dump| version_numbers(&dump.series));
    chosen
}

/// Asks all lines of all kernels, and writes the table.
pub(crate) fn write(lab: &Lab, kdive: &Path, dumps: &[Descriptor]) -> Result<()> {
    let columns = columns(dumps);
    if columns.is_empty() {
        bail!("no dump of the scenario rich: run `cargo xtask lab all`");
    }
    let answers: Vec<Vec<Answer>> = LINES
        .par_iter()
        .map(|line| {
            let session = |dump: &&Descriptor| Session { kdive, files: dump.paths(lab) };
            columns.iter().map(|dump| ask_either(&session(dump), line)).collect()
        })
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md");
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let written_by_hand = page.split(TITLE).next().unwrap_or_default().trim_end();
    let page = format!("{written_by_hand}\n\n{}", table(&columns, &answers));
    std::fs::write(&path, page).with_context(|| path.display().to_string())?;
    println!("{} lines on {} kernels: {}", LINES.len(), columns.len(), path.display());
    Ok(())
}

fn table(columns: &[&Descriptor], answers: &[Vec<Answer>]) -> String {
    let mut notes: BTreeMap<String, usize> = BTreeMap::new();
    let mut note = |reason: &str| {
        let next = notes.len() + 1;
        *notes.entry(reason.to_owned()).or_insert(next)
    };
    let names: Vec<String> = columns.iter().map(|dump| format!("| {} ", dump.release)).collect();
    let mut text = format!(
        "{TITLE}\n\nMade by `cargo xtask lab check --write-kernels` from the dumps of the scenario \
         `rich`, without a vmlinux: a stock Debian\nkernel each. `yes`: it answers, and nothing is left out. A number \
         stands for what is left out, or why there is no\nanswer (`no`).\n\n| command {}|\n|---{}|\n",
        names.concat(),
        "|---".repeat(columns.len())
    );
    for (line, row) in LINES.iter().zip(answers) {
        let _ = write!(text, "| `{}` ", line.split(" || ").next().unwrap_or(line));
        for answer in row {
            let _ = match answer {
                Answer::Whole => write!(text, "| yes "),
                Answer::Gaps(gaps) => {
                    let numbers: Vec<String> = gaps.iter().map(|gap| note(gap).to_string()).collect();
                    write!(text, "| yes, but {} ", numbers.join(", "))
                }
                Answer::None(why) => write!(text, "| no: {} ", note(why)),
            };
        }
        text.push_str("|\n");
    }
    text.push_str("\nWhy:\n\n");
    let mut ordered: Vec<(usize, String)> =
        notes.into_iter().map(|(reason, number)| (number, reason)).collect();
    ordered.sort();
    for (number, reason) in ordered {
        let _ = writeln!(text, "{number}. {}", reason.replace('\n', " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_have_reasons() {
        let answers = vec![
            vec![Answer::Whole],
            vec![Answer::None("not supported".into())],
            vec![Answer::Gaps(vec!["name: excluded".into(), "not supported".into()])],
        ];
        let text = table(&[], &answers);
        assert!(
            text.contains("| `sys` | yes |\n| `sys -t` | no: 1 |\n| `sys -i` | yes, but 2, 1 |\n"),
            "{text}"
        );
        assert!(text.ends_with("1. not supported\n2. name: excluded\n"));
    }
}
