//! Journals of ext4.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::Now;
use kdive_linux::jbd2::{self, Holder, Journal, Transaction, WaitsFor};
use kdive_target::Text;
use serde::Serialize;

use super::{Place, Waiters, task_line};
use crate::cx::Cx;
use crate::render::{Age, Known, TaskLine};
use crate::sink::Render;

/// A journal.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its `struct journal_s`.
    journal: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    place: Place,
    /// Its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<TaskLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aborted: Option<bool>,
    /// Why it was aborted, below zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<i32>,
    /// How many keep handles from beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    barriers: Option<i32>,
    /// The last transaction that was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<u32>,
    /// Blocks of the log, and how many are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    /// The committing one first.
    transactions: Vec<TransactionRow>,
    waiters: Vec<WaiterRow>,
}

/// A transaction.
#[derive(Debug, Serialize)]
struct TransactionRow {
    transaction: VirtAddr,
    /// `committing` or `running`.
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// Nanoseconds since its commit was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_handles: Option<u32>,
    /// Blocks that it changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    buffers: Option<u32>,
    /// Blocks that its handles may still need.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<i32>,
    holders: Vec<HolderRow>,
}

/// A task with an open handle.
#[derive(Debug, Serialize)]
struct HolderRow {
    #[serde(flatten)]
    task: TaskLine,
    handle: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// What the handle is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'static str>,
    /// The line of ext4's source that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<i32>,
}

/// A task that waits.
#[derive(Debug, Serialize)]
struct WaiterRow {
    #[serde(flatten)]
    task: TaskLine,
    waits_for: WaitsFor,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}  journal {}", Known(self.name.as_deref()), self.journal)?;
        write!(out, "{}", self.place)?;
        if let Some(thread) = &self.thread {
            write!(out, "  thread {}", Known(thread.pid))?;
        }
        if self.aborted == Some(true) {
            write!(out, "  ABORTED, error {}", Known(self.error))?;
        }
        if self.barriers.is_some_and(|count| count > 0) {
            write!(out, "  BARRIER: no handle may begin")?;
        }
        if self.transactions.is_empty() && self.waiters.is_empty() {
            write!(out, "  idle, committed {}", Known(self.committed))?;
        }
        writeln!(out)?;
        self.transactions.iter().try_for_each(|transaction| transaction.lines(out))?;
        for waiter in &self.waiters {
            let what = match waiter.waits_for {
                WaitsFor::Begin => "to begin a handle",
                WaitsFor::Commit => "for a commit",
                WaitsFor::Handles => "for handles to end",
                WaitsFor::Reserved => "for reserved room",
            };
            writeln!(out, "  waits {what}: {}", waiter.task)?;
        }
        Ok(())
    }
}

impl TransactionRow {
    fn lines(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "  {} {} ({})", self.role, Known(self.number), self.transaction)?;
        write!(out, ": {}", Known(self.state.as_deref()))?;
        if let Some(age) = self.age_ns {
            write!(out, ", begun {} ago", Age(age))?;
        }
        if let Some(age) = self.requested_ns {
            write!(out, ", commit asked for {} ago", Age(age))?;
        }
        writeln!(out, ", {} open handles, {} blocks", Known(self.open_handles), Known(self.buffers))?;
        for holder in &self.holders {
            let age = holder.age_ns.map(|age| Age(age).to_string());
            writeln!(out, "    held for {}: {}", Known(age.as_deref()), holder.task)?;
            write!(out, "      handle {}", holder.handle)?;
            if let Some(purpose) = holder.purpose {
                write!(out, " ({purpose}")?;
                match holder.line {
                    Some(line) => write!(out, ", line {line})")?,
                    None => write!(out, ")")?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

impl Waiters for Row {
    fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }
}

/// The row of a journal.
pub(super) fn row(cx: &mut Cx, journal: &Journal, now: &Now, of: Place) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("journal {:#}", journal.at);
    let roles = [("committing", journal.committing(&kernel)), ("running", journal.running(&kernel))];
    let transactions: Vec<(&str, Transaction)> =
        roles.into_iter().filter_map(|(role, found)| Some((role, cx.known(found, role, place)??))).collect();
    let places: Vec<_> = transactions.iter().map(|(_, transaction)| transaction.at).collect();
    let holders = if places.is_empty() { Vec::new() } else { jbd2::holders(&kernel, &places, now) };
    let rows =
        transactions.iter().map(|(role, transaction)| transaction_row(cx, role, transaction, &holders, now));
    let transactions = rows.collect();
    let waiters = cx.known(journal.waiters(&kernel), "waiters", place).unwrap_or_default();
    let waiters = waiters.into_iter().map(|(at, waits_for)| WaiterRow { task: task_line(cx, at), waits_for });
    let waiters = waiters.collect();
    let thread = journal.thread.clone().ok().filter(|at| !at.is_null()).map(|at| task_line(cx, at));
    Row {
        journal: journal.at,
        name: cx.known(journal.name.clone(), "names of journals", place).map(|Text(name)| name),
        place: of,
        thread,
        aborted: cx.known(journal.is_aborted(), "flags of journals", place),
        error: journal.error.clone().ok(),
        barriers: journal.barriers.clone().ok(),
        committed: journal.committed.clone().ok(),
        blocks: journal.blocks().ok(),
        free: journal.free.clone().ok(),
        transactions,
        waiters,
    }
}

fn transaction_row(
    cx: &mut Cx,
    role: &'static str,
    transaction: &Transaction,
    holders: &[Holder],
    now: &Now,
) -> TransactionRow {
    let kernel = cx.kernel.clone();
    let place = || format!("transaction {:#}", transaction.at);
    let own = holders.iter().filter(|holder| holder.transaction == transaction.at);
    let holders = own.map(|holder| HolderRow {
        task: task_line(cx, holder.task),
        handle: holder.handle,
        age_ns: holder.age_ns,
        purpose: holder.kind,
        line: holder.line,
        credits: holder.credits.clone().ok(),
    });
    let holders = holders.collect();
    TransactionRow {
        transaction: transaction.at,
        role,
        number: cx.known(transaction.number.clone(), "numbers of transactions", place),
        state: cx.known(transaction.state(&kernel), "states of transactions", place),
        age_ns: transaction.age_ns(now),
        requested_ns: (role == "committing").then(|| transaction.requested_ns(now)).flatten(),
        open_handles: cx.known(transaction.open_handles.clone(), "handles", place),
        buffers: transaction.buffers.clone().ok(),
        credits: transaction.credits.clone().ok(),
        holders,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_below_its_transaction() {
        let task =
            TaskLine { pid: Some(260), task: VirtAddr(0x10), cpu: Some(0), command: Some("mkdir".into()) };
        let handle = VirtAddr(0x20);
        let holder = HolderRow {
            task,
            handle,
            age_ns: Some(2_900_000_000),
            purpose: Some("directory"),
            line: Some(3018),
            credits: Some(9),
        };
        let row = TransactionRow {
            transaction: VirtAddr(0x30),
            role: "running",
            number: Some(5),
            state: Some("running".into()),
            age_ns: None,
            requested_ns: None,
            open_handles: Some(1),
            buffers: Some(2),
            credits: None,
            holders: vec![holder],
        };
        let mut text = String::new();
        row.lines(&mut text).unwrap();
        assert_eq!(
            text,
            "\
\x20 running 5 (0000000000000030): running, 1 open handles, 2 blocks
    held for 2.9 s: PID: 260      TASK: 0000000000000010  CPU: 0    COMMAND: \"mkdir\"
      handle 0000000000000020 (directory, line 3018)
"
        );
    }
}
