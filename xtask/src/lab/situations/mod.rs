//! Commands against situations that the lab built on purpose: they name what was built, and nothing on a system at rest.

mod blocked;
mod kvm;
mod locking;
mod memory;
mod stalls;
mod stuck;
mod stuck_net;
mod system;
mod text;
mod tracing;

use serde_json::Value;

use super::compare::{Faults, Known};
use super::words;

/// A dump of a scenario, a command line, and what its rows must say.
struct Situation {
    scenario: &'static str,
    command: &'static str,
    judge: fn(&Known<'_>, &[Value]) -> Faults,
}

/// Systems in which nothing is wrong.
const AT_REST: &[&str] = &["idle", "load"];

/// Commands that look for trouble and report none of it on a system at rest.
const TROUBLE: &[&str] = &[
    "text-check",
    "locks",
    "hang",
    "smp",
    "overdue",
    "rpc",
    "blk --older 1",
    "journal -w",
    "tcp -r",
    "qdisc -w",
    "leaks",
    "cgroup -l",
    "oom -k",
    "kprobes",
    "livepatch",
    "hw",
];

const SITUATIONS: &[Situation] = &[
    Situation { scenario: "deadlock", command: "locks", judge: locking::two_mutexes },
    Situation { scenario: "deadlock", command: "hang", judge: locking::two_tasks },
    Situation { scenario: "hung", command: "locks", judge: locking::locks },
    Situation { scenario: "hung", command: "hang", judge: locking::hang },
    Situation { scenario: "spinlock", command: "locks", judge: locking::locks },
    Situation { scenario: "rcustall", command: "locks", judge: locking::locks },
    Situation { scenario: "memory", command: "meminfo", judge: memory::account },
    Situation { scenario: "memory", command: "slabtop -n 0", judge: memory::caches },
    Situation { scenario: "memory", command: "cgroup", judge: memory::groups },
    Situation { scenario: "memory", command: "oom -n 0", judge: memory::badness },
    Situation { scenario: "memory", command: "leaks", judge: memory::lost_records },
    Situation { scenario: "memory", command: "pagecache -n 0", judge: memory::files },
    Situation {
        scenario: "memory",
        command: "pagecache -w /tmp/kdive-known-file /data/known",
        judge: memory::written_out,
    },
    Situation { scenario: "memory", command: "owners -n 0", judge: memory::allocators },
    Situation { scenario: "memory", command: "sysctl", judge: memory::settings },
    Situation { scenario: "memory", command: "params crasher", judge: system::parameters },
    Situation { scenario: "memory", command: "clock", judge: system::clocks },
    Situation { scenario: "fragment", command: "frag", judge: memory::fragments },
    Situation { scenario: "slableak", command: "slabtop", judge: memory::greedy_cache },
    Situation { scenario: "slableak", command: "leaks", judge: memory::greedy_cache },
    Situation { scenario: "hung", command: "wq", judge: stalls::works },
    Situation { scenario: "rcustall", command: "rcu", judge: stalls::grace_period },
    Situation { scenario: "bitflip", command: "text-check", judge: text::flipped_bit },
    Situation { scenario: "moduleflip", command: "text-check", judge: text::flipped_in_module },
    Situation { scenario: "kvm", command: "kvm", judge: kvm::machine },
    Situation { scenario: "paused", command: "clock", judge: system::pause },
    Situation { scenario: "deafcpu", command: "smp", judge: stalls::calls },
    Situation { scenario: "deafcpu", command: "softirq", judge: stalls::tasklets },
    Situation { scenario: "deafcpu", command: "overdue", judge: stalls::timers },
    Situation { scenario: "stuck", command: "blk", judge: stuck::requests },
    Situation { scenario: "stuck", command: "blk -m", judge: stuck::mappings },
    Situation { scenario: "stuck", command: "blk -s", judge: stuck::scsi_commands },
    Situation { scenario: "stuck", command: "blk -r", judge: stuck::arrays },
    Situation { scenario: "stuck", command: "blk -n", judge: stuck::controllers },
    Situation { scenario: "stuck", command: "blk -v", judge: stuck::rings },
    Situation { scenario: "stuck", command: "journal", judge: stuck::journals },
    Situation { scenario: "stuck", command: "tcp", judge: stuck_net::connections },
    Situation { scenario: "stuck", command: "route -4", judge: stuck_net::routes_v4 },
    Situation { scenario: "stuck", command: "route -6 -a", judge: stuck_net::routes_v6 },
    Situation { scenario: "stuck", command: "qdisc", judge: stuck_net::disciplines },
    Situation { scenario: "stuck", command: "qdisc -b", judge: stuck_net::backlogs },
    Situation { scenario: "stuck", command: "conntrack", judge: stuck_net::tracked },
    Situation { scenario: "stuck", command: "nft", judge: stuck_net::filters },
    Situation { scenario: "blocked", command: "rpc", judge: blocked::calls },
    Situation { scenario: "blocked", command: "rpc -s", judge: blocked::servers },
    Situation { scenario: "blocked", command: "hang", judge: blocked::hung_on },
    Situation { scenario: "blocked", command: "locks", judge: blocked::grace_periods },
    Situation { scenario: "blocked", command: "rcu", judge: blocked::flavours },
    Situation { scenario: "blocked", command: "journal", judge: blocked::logs },
    Situation { scenario: "blocked", command: "blk", judge: blocked::frozen },
    Situation { scenario: "blocked", command: "blk -q sdb", judge: blocked::frozen_queue },
    Situation { scenario: "blocked", command: "blk -s", judge: blocked::recovering_host },
    Situation { scenario: "blocked", command: "qdisc -q", judge: blocked::stopped_queue },
    Situation { scenario: "blocked", command: "ftrace", judge: blocked::function_graph },
    Situation { scenario: "rich", command: "tcp -l", judge: stuck_net::listeners },
    Situation { scenario: "rich", command: "tcp -t", judge: stuck_net::ended },
    Situation { scenario: "rich", command: "ftrace", judge: tracing::events },
    Situation { scenario: "rich", command: "ftrace -l", judge: tracing::settings },
    Situation { scenario: "traced", command: "ftrace", judge: tracing::events },
    Situation { scenario: "traced", command: "ftrace -i spy", judge: tracing::events_of_spy },
    Situation { scenario: "traced", command: "kprobes", judge: tracing::probes },
    Situation { scenario: "traced", command: "livepatch", judge: tracing::live_patch },
    Situation { scenario: "mce", command: "hw", judge: tracing::machine_checks },
];

/// Commands that compare the dump with its vmlinux, and say so where there is none.
const OF_THE_VMLINUX: &[&str] = &["text-check"];

/// Judges all commands that know a situation in this dump; `None` where none does. `run` gives a command's JSON.
pub(super) fn judge(
    known: &Known<'_>,
    has_vmlinux: bool,
    run: &dyn Fn(&str) -> Result<String, String>,
) -> Option<Faults> {
    let can_run = |command: &str| has_vmlinux || !OF_THE_VMLINUX.contains(&command);
    let scenario = &*known.dump.scenario;
    let rows = |command: &str| run(command).and_then(|text| words::rows(command, &text));
    let mut judged = None;
    let mut keep = |command: &str, found: Faults| {
        let found = found.into_iter().map(|fault| format!("{command}: {fault}"));
        judged.get_or_insert_with(Faults::new).extend(found);
    };
    let wanted = |situation: &&Situation| situation.scenario == scenario && can_run(situation.command);
    for situation in SITUATIONS.iter().filter(wanted) {
        let found = match rows(situation.command) {
            Ok(rows) => (situation.judge)(known, &rows),
            Err(error) => vec![error],
        };
        keep(situation.command, found);
    }
    for command in TROUBLE.iter().filter(|command| AT_REST.contains(&scenario) && can_run(command)) {
        let found = match rows(command) {
            Ok(rows) => rows.iter().map(|row| format!("reported on a system at rest: {row}")).collect(),
            Err(error) => vec![error],
        };
        keep(command, found);
    }
    judged
}
