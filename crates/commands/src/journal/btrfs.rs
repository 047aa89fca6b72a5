//! Transactions of btrfs.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::Now;
use kdive_linux::btrfs::{self, FileSystem, Holder, Transaction, WaitsFor};
use serde::Serialize;

use super::{Place, Waiters, task_line};
use crate::cx::Cx;
use crate::render::{Age, Known, TaskLine};
use crate::sink::Render;

/// The transactions of a btrfs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its `struct btrfs_fs_info`.
    fs_info: VirtAddr,
    #[serde(flatten)]
    place: Place,
    /// Why it takes no more changes, below zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<i32>,
    /// The number of its latest transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// The last transaction that is on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    committed: Option<u64>,
    /// Its thread that commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<TaskLine>,
    /// The oldest first.
    transactions: Vec<TransactionRow>,
    waiters: Vec<WaiterRow>,
}

/// A transaction that is not on the disk.
#[derive(Debug, Serialize)]
struct TransactionRow {
    transaction: VirtAddr,
    /// `committing` or `running`.
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Nanoseconds since it began; the kernel notes whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// Handles that are open in it, that of the task that commits it among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    writers: Option<u32>,
    /// Handles that keep it from beginning to commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_writers: Option<u32>,
    /// Ordered extents that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_ordered: Option<u32>,
    /// Why it was aborted, below zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    aborted: Option<i32>,
    /// Who has a handle open in it.
    holders: Vec<HolderRow>,
}

/// A task with an open handle.
#[derive(Debug, Serialize)]
struct HolderRow {
    #[serde(flatten)]
    task: TaskLine,
    handle: VirtAddr,
    /// Bytes that it has reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<u64>,
}

/// A task that waits.
#[derive(Debug, Serialize)]
struct WaiterRow {
    #[serde(flatten)]
    task: TaskLine,
    waits_for: WaitsFor,
    /// The number of the transaction, where it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<u64>,
}

impl Waiters for Row {
    fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }
}

/// The row of a file system.
pub(super) fn row(cx: &mut Cx, info: &FileSystem, now: &Now, of: Place) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("btrfs_fs_info {:#}", info.at);
    let transactions = cx.known(info.transactions(&kernel), "transactions", place).unwrap_or_default();
    let places: Vec<_> = transactions.iter().map(|transaction| transaction.at).collect();
    let holders = btrfs::holders(&kernel, &places);
    let waiters = cx.known(info.waiters(&kernel, &transactions), "waiters", place).unwrap_or_default();
    let waiters = waiters
        .into_iter()
        // The thread that commits waits for something to do.
        .filter(|(_, (what, _))| *what != WaitsFor::CommitStart || !transactions.is_empty())
        .map(|(at, (waits_for, transaction))| WaiterRow { task: task_line(cx, at), waits_for, transaction });
    let waiters = waiters.collect();
    let rows = transactions.iter().map(|of| {
        let role = if info.runs(of) { "running" } else { "committing" };
        transaction_row(cx, of, role, &holders, now)
    });
    let transactions = rows.collect();
    Row {
        fs_info: info.at,
        place: of,
        error: cx.known(info.error(), "states of file systems", place).flatten(),
        generation: cx.known(info.generation.clone(), "generations", place),
        committed: cx.known(info.committed.clone(), "generations", place),
        thread: info.thread.clone().ok().filter(|at| !at.is_null()).map(|at| task_line(cx, at)),
        transactions,
        waiters,
    }
}

fn transaction_row(
    cx: &mut Cx,
    of: &Transaction,
    role: &'static str,
    holders: &[Holder],
    now: &Now,
) -> TransactionRow {
    let kernel = cx.kernel.clone();
    let place = || format!("btrfs_transaction {:#}", of.at);
    let own = holders.iter().filter(|holder| holder.transaction == of.at);
    let holders = own.map(|holder| HolderRow {
        task: task_line(cx, holder.task),
        handle: holder.handle,
        reserved: holder.reserved.clone().ok(),
    });
    let holders = holders.collect();
    TransactionRow {
        transaction: of.at,
        role,
        number: cx.known(of.number.clone(), "numbers of transactions", place),
        state: cx.known(of.state(&kernel), "states of transactions", place),
        age_ns: of.age_ns(now),
        writers: of.writers.clone().ok(),
        external_writers: of.external_writers.clone().ok(),
        pending_ordered: of.pending_ordered.clone().ok(),
        aborted: of.aborted.clone().ok().filter(|error| *error != 0),
        holders,
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}  btrfs {}{}", Known(self.place.disk.as_deref()), self.fs_info, self.place)?;
        if let Some(thread) = &self.thread {
            write!(out, "  thread {}", Known(thread.pid))?;
        }
        if let Some(error) = self.error {
            write!(out, "  FAILED, error {error}")?;
        }
        if self.transactions.is_empty() && self.waiters.is_empty() {
            write!(out, "  idle, committed {}", Known(self.committed))?;
        }
        writeln!(out)?;
        for of in &self.transactions {
            write!(out, "  {} {} ({})", of.role, Known(of.number), of.transaction)?;
            write!(out, ": {}", Known(of.state.as_deref()))?;
            if let Some(age) = of.age_ns {
                write!(out, ", begun {} ago", Age(age))?;
            }
            write!(out, ", {} open handles", Known(of.writers))?;
            if let Some(count) = of.pending_ordered.filter(|count| *count > 0) {
                write!(out, ", {count} ordered extents to be written")?;
            }
            if let Some(error) = of.aborted {
                write!(out, ", ABORTED, error {error}")?;
            }
            writeln!(out)?;
            for holder in &of.holders {
                writeln!(out, "    held by {}", holder.task)?;
            }
        }
        for waiter in &self.waiters {
            let what = match waiter.waits_for {
                WaitsFor::Commit => "for it to be on the disk",
                WaitsFor::Handles => "for the other handles to end",
                WaitsFor::Ordered => "for its data to be written",
                WaitsFor::Begin => "to begin",
                WaitsFor::CommitStart => "for a commit to go on",
                WaitsFor::Throttle => "for fewer changes",
            };
            write!(out, "  waits {what}")?;
            if let Some(number) = waiter.transaction {
                write!(out, " ({number})")?;
            }
            writeln!(out, ": {}", waiter.task)?;
        }
        Ok(())
    }
}
