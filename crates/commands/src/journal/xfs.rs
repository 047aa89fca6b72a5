//! Logs of xfs.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::xfs::{Buffer, Checkpoint, Log, Lsn, Mounted, WaitsFor};
use serde::Serialize;

use super::{Place, Waiters, task_line};
use crate::cx::Cx;
use crate::render::{Known, TaskLine, size};
use crate::sink::Render;

/// The log of an xfs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its `struct xlog`.
    log: VirtAddr,
    /// Its `struct xfs_mount`.
    mount: VirtAddr,
    #[serde(flatten)]
    place: Place,
    /// Whether the file system was shut down: it takes no more changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    shut_down: Option<bool>,
    /// Whether writing the log failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<bool>,
    /// Where it is written next: cycle and block.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Lsn>,
    /// From where on it is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    tail: Option<Lsn>,
    /// Blocks of 512 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<u32>,
    /// Blocks from its tail to its head.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_blocks: Option<u64>,
    /// Bytes that those can have who want to begin a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    free_to_reserve: Option<u64>,
    /// Bytes that those can have who want to go on with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    free_to_write: Option<u64>,
    checkpoints: Vec<CheckpointRow>,
    buffers: Vec<BufferRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_items: Option<ActiveRow>,
    waiters: Vec<WaiterRow>,
}

/// Changes that are written to the log together.
#[derive(Debug, Serialize)]
struct CheckpointRow {
    /// Its `struct xfs_cil_ctx`.
    checkpoint: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// Where it begins in the log; none before it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Lsn>,
    /// Where it ends in the log; none before its end is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<Lsn>,
}

/// A buffer of the log.
#[derive(Debug, Serialize)]
struct BufferRow {
    /// Its `struct xlog_in_core`.
    buffer: VirtAddr,
    /// `syncing`: the disk has it.
    state: String,
    /// Bytes in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u32>,
    /// How many write to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    writers: Option<u32>,
}

/// What is in the log and not yet in its place (the AIL).
#[derive(Debug, Serialize)]
struct ActiveRow {
    items: usize,
    /// The `struct xfs_log_item` that holds the tail.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at: Option<Lsn>,
    /// `inode`, `buffer`...
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_kind: Option<&'static str>,
    /// Up to where the thread is asked to write.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Lsn>,
    /// The thread (xfsaild).
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<TaskLine>,
}

/// A task that waits.
#[derive(Debug, Serialize)]
struct WaiterRow {
    #[serde(flatten)]
    task: TaskLine,
    waits_for: WaitsFor,
}

impl Waiters for Row {
    fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }
}

/// The row of a log.
pub(super) fn row(cx: &mut Cx, mounted: &Mounted, log: &Log, of: Place) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("xlog {:#}", log.at);
    let (reserve, write) = log.free(&kernel);
    let checkpoints = cx.known(log.committing(&kernel), "checkpoints", place).unwrap_or_default();
    let buffers = cx.known(log.buffers(&kernel), "buffers", place).unwrap_or_default();
    let active = cx.known(mounted.active(&kernel), "items of the log", place).map(|active| ActiveRow {
        items: active.items,
        oldest: active.oldest,
        oldest_at: active.oldest_lsn,
        oldest_kind: active.oldest_kind,
        target: active.target,
        thread: active.thread.map(|at| task_line(cx, at)),
    });
    let waiters = cx.known(log.waiters(&kernel, mounted), "waiters", place).unwrap_or_default();
    let waiters = waiters.into_iter().map(|(at, waits_for)| WaiterRow { task: task_line(cx, at), waits_for });
    let waiters = waiters.collect();
    Row {
        log: log.at,
        mount: mounted.at,
        place: of,
        shut_down: cx.known(mounted.is_shut_down(), "states of file systems", place),
        failed: log.failed().ok(),
        head: cx.known(log.head(), "heads of logs", place),
        tail: cx.known(log.tail(), "tails of logs", place),
        blocks: log.blocks.clone().ok(),
        used_blocks: log.used_blocks().ok(),
        free_to_reserve: cx.known(reserve, "room in logs", place),
        free_to_write: write.ok(),
        checkpoints: checkpoints.iter().map(CheckpointRow::new).collect(),
        buffers: buffers.into_iter().map(BufferRow::new).collect(),
        active_items: active,
        waiters,
    }
}

impl CheckpointRow {
    fn new(of: &Checkpoint) -> Self {
        Self { checkpoint: of.at, sequence: of.sequence.clone().ok(), start: of.start(), commit: of.commit() }
    }
}

impl BufferRow {
    fn new(of: Buffer) -> Self {
        Self { buffer: of.at, state: of.state, used: of.used.ok(), writers: of.writers.ok() }
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}  xfs log {}{}", Known(self.place.disk.as_deref()), self.log, self.place)?;
        write!(out, "  head {}, tail {}", Known(self.head), Known(self.tail))?;
        if let (Some(used), Some(blocks)) = (self.used_blocks, self.blocks) {
            write!(out, ", {used} of {blocks} blocks in use")?;
        }
        if let Some(free) = self.free_to_reserve {
            write!(out, ", {} free", size(free))?;
        }
        if self.shut_down == Some(true) {
            write!(out, "  SHUT DOWN")?;
        }
        if self.failed == Some(true) {
            write!(out, "  THE LOG FAILED")?;
        }
        writeln!(out)?;
        for of in &self.checkpoints {
            write!(out, "  checkpoint {} ({}) commits", Known(of.sequence), of.checkpoint)?;
            match (of.start, of.commit) {
                (Some(start), Some(commit)) => writeln!(out, ": from {start}, its end at {commit}")?,
                (Some(start), None) => writeln!(out, ": from {start}, its end is not written")?,
                (None, _) => writeln!(out, ": nothing of it is written")?,
            }
        }
        for of in self.buffers.iter().filter(|of| of.state != "active" && of.state != "dirty") {
            let used = Known(of.used);
            writeln!(
                out,
                "  buffer {}: {}, {used} bytes, {} writers",
                of.buffer,
                of.state,
                Known(of.writers)
            )?;
        }
        if let Some(active) = self.active_items.as_ref().filter(|active| active.items > 0) {
            let items = if active.items == 1 { "item is" } else { "items are" };
            write!(out, "  {} {items} not in place", active.items)?;
            if let (Some(at), Some(oldest)) = (active.oldest_at, active.oldest) {
                let kind = active.oldest_kind.unwrap_or("item");
                write!(out, ", the oldest at {at}: {kind} {oldest}")?;
            }
            out.write_char('\n')?;
        }
        for waiter in &self.waiters {
            let what = match waiter.waits_for {
                WaitsFor::Force => "for the log to be on the disk",
                WaitsFor::Write => "for a buffer to be written",
                WaitsFor::Buffer => "for a free buffer",
                WaitsFor::Reserve => "for room to begin",
                WaitsFor::Regrant => "for room to go on",
                WaitsFor::Checkpoint => "for a checkpoint before its own",
                WaitsFor::Push => "for fewer changes in memory",
                WaitsFor::Empty => "for the log to be empty",
            };
            writeln!(out, "  waits {what}: {}", waiter.task)?;
        }
        Ok(())
    }
}
