//! The log of xfs (fs/xfs/xfs_log_priv.h, fs/xfs/xfs_trans_priv.h): how full it is, what is on its way to the disk, and
//! who waits for it.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Field, Kernel, Load, MemberAddress};
use rustc_hash::FxHashSet;
use serde::{Serialize, Serializer};

use crate::fs::SuperBlock;
use crate::tasks::Tasks;
use crate::wait;

/// A place in the log: how often it was written around, and a block of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// How often the log was written around.
    #[must_use]
    pub fn cycle(self) -> u64 {
        self.0 >> 32
    }

    /// A block of 512 bytes in the log.
    #[must_use]
    pub fn block(self) -> u64 {
        self.0 & 0xffff_ffff
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cycle(), self.block())
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The part of `struct xfs_mount` that is about its log.
#[derive(Clone, Debug, Load)]
#[load(type = "xfs_mount", module)]
pub struct Mounted {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    m_log: Field<VirtAddr>,
    m_ail: Field<VirtAddr>,
    m_opstate: Field<u64>,
    /// Until 5.13.
    m_flags: Field<u64>,
}

/// A log (`struct xlog`).
#[derive(Clone, Debug, Load)]
#[load(type = "xlog", module)]
pub struct Log {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Bytes of it.
    #[load(any("l_logsize"))]
    pub bytes: Field<u32>,
    /// Blocks of 512 bytes.
    #[load(any("l_logBBsize"))]
    pub blocks: Field<u32>,
    l_opstate: Field<u64>,
    l_curr_cycle: Field<u32>,
    l_curr_block: Field<u32>,
    #[load(any("l_tail_lsn.counter"))]
    l_tail_lsn: Field<u64>,
    /// Bytes from the tail to the head (6.12); there the grants are plain bytes.
    l_tail_space: Field<u64>,
    l_cilp: Field<VirtAddr>,
    l_iclog: Field<VirtAddr>,
    l_iclog_bufs: Field<u32>,
    l_flush_wait: Field<MemberAddress>,
    l_reserve_head: Field<MemberAddress>,
    l_write_head: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "xlog_grant_head", module)]
struct GrantHead {
    waiters: Field<MemberAddress>,
    #[load(any("grant.counter"))]
    grant: Field<u64>,
}

#[derive(Load)]
#[load(type = "xlog_ticket", module)]
struct Ticket {
    t_task: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "xlog_in_core", module)]
struct InCore {
    ic_force_wait: Field<MemberAddress>,
    ic_write_wait: Field<MemberAddress>,
    ic_next: Field<VirtAddr>,
    ic_state: Field<u32>,
    ic_offset: Field<u32>,
    #[load(any("ic_refcnt.counter"))]
    ic_refcnt: Field<u32>,
}

#[derive(Load)]
#[load(type = "xfs_cil", module)]
struct Cil {
    xc_committing: Field<MemberAddress>,
    xc_commit_wait: Field<MemberAddress>,
    xc_start_wait: Field<MemberAddress>,
    xc_push_wait: Field<MemberAddress>,
}

/// A checkpoint: changes that are written to the log together (`struct xfs_cil_ctx`).
#[derive(Clone, Debug, Load)]
#[load(type = "xfs_cil_ctx", module)]
pub struct Checkpoint {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    pub sequence: Field<u64>,
    start_lsn: Field<u64>,
    commit_lsn: Field<u64>,
}

#[derive(Load)]
#[load(type = "xfs_ail", module)]
struct Ail {
    ail_head: Field<MemberAddress>,
    ail_target: Field<u64>,
    ail_task: Field<VirtAddr>,
    ail_empty: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "xfs_log_item", module)]
struct LogItem {
    li_lsn: Field<u64>,
    li_type: Field<u32>,
}

/// A buffer of the log (`struct xlog_in_core`).
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Its address.
    pub at: VirtAddr,
    /// `active`, `want-sync`, `syncing` (the disk has it), `done-sync`, `callback`, `dirty`.
    pub state: String,
    /// Bytes in it.
    pub used: Field<u32>,
    /// How many write to it.
    pub writers: Field<u32>,
}

/// What is in the log, and not in its place on the disk.
#[derive(Clone, Debug)]
pub struct Active {
    /// Items; the list of them may break.
    pub items: usize,
    /// The oldest of them (`struct xfs_log_item`), which holds the tail.
    pub oldest: Option<VirtAddr>,
    /// Where that is in the log.
    pub oldest_lsn: Option<Lsn>,
    /// What that is of: `inode`, `buffer`...
    pub oldest_kind: Option<&'static str>,
    /// Up to where its thread is asked to write.
    pub target: Option<Lsn>,
    /// Its thread (`task_struct`).
    pub thread: Option<VirtAddr>,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// A buffer of the log to be on the disk: a log force.
    Force,
    /// A buffer of the log to be written.
    Write,
    /// A free buffer.
    Buffer,
    /// Room in the log for a new transaction.
    Reserve,
    /// Room in the log to go on.
    Regrant,
    /// A checkpoint that comes before it, to be committed.
    Checkpoint,
    /// The changes in memory to be fewer.
    Push,
    /// All of the log to be in its place.
    Empty,
}

/// `XFS_OPSTATE_SHUTDOWN` is bit 2, `XFS_MOUNT_FS_SHUTDOWN` was 1 << 4.
const OPSTATE_SHUTDOWN: u64 = 1 << 2;
const FLAG_SHUTDOWN: u64 = 1 << 4;
/// `XLOG_IO_ERROR` of `l_opstate`.
const LOG_ERROR: u64 = 1 << 2;
/// Bytes of a block of the log (`BBSIZE`).
const BLOCK: u64 = 512;
const MOST_BUFFERS: usize = 256;
const MOST_CHECKPOINTS: usize = 1 << 16;
const MOST_ITEMS: usize = 1 << 20;
const MOST_TICKETS: usize = 1 << 22;

/// The mount and log of a file system; `None` for one of another type.
///
/// # Errors
/// The way to it is lacking.
pub fn of_super_block(kernel: &Kernel, super_block: &SuperBlock) -> Field<Option<(Mounted, Log)>> {
    if super_block.type_name(kernel)? != "xfs" {
        return Ok(None);
    }
    let mounted: Mounted = kernel.load(super_block.info.clone()?);
    let log = mounted.m_log.clone()?;
    Ok((!log.is_null()).then(|| (mounted, kernel.load(log))))
}

impl Mounted {
    /// Whether it was shut down after an error: it takes no more changes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_shut_down(&self) -> Field<bool> {
        match &self.m_opstate {
            Ok(state) => Ok(state & OPSTATE_SHUTDOWN != 0),
            Err(_) => Ok(self.m_flags.clone()? & FLAG_SHUTDOWN != 0),
        }
    }

    /// What is in the log and not in its place.
    ///
    /// # Errors
    /// It cannot be found.
    pub fn active(&self, kernel: &Kernel) -> Field<Active> {
        let ail: Ail = kernel.load(self.m_ail.clone()?);
        let MemberAddress(head) = ail.ail_head?;
        let link = kernel.module_member("xfs_log_item", &["li_ail"])?.offset;
        let mut items = walk::list(kernel.memory(), head).take(MOST_ITEMS).map_while(Result::ok);
        let oldest = items.next().map(|at| at.sub(link));
        let item = oldest.map(|at| kernel.load::<LogItem>(at));
        Ok(Active {
            items: items.count().saturating_add(usize::from(oldest.is_some())),
            oldest,
            oldest_lsn: item.as_ref().and_then(|item| item.li_lsn.clone().ok()).map(Lsn),
            oldest_kind: item.as_ref().and_then(|item| item.li_type.clone().ok()).and_then(kind_name),
            target: ail.ail_target.ok().map(Lsn),
            thread: ail.ail_task.ok().filter(|at| !at.is_null()),
        })
    }
}

impl Log {
    /// Whether writing it failed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn failed(&self) -> Field<bool> {
        Ok(self.l_opstate.clone()? & LOG_ERROR != 0)
    }

    /// Where it is written next.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn head(&self) -> Field<Lsn> {
        Ok(Lsn(u64::from(self.l_curr_cycle.clone()?) << 32 | u64::from(self.l_curr_block.clone()?)))
    }

    /// From where on it is needed after a crash.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tail(&self) -> Field<Lsn> {
        self.l_tail_lsn.clone().map(Lsn)
    }

    /// Blocks from its tail to its head.
    ///
    /// # Errors
    /// Its places cannot be read.
    pub fn used_blocks(&self) -> Field<u64> {
        Ok(blocks_between(self.tail()?, self.head()?, self.blocks.clone()?.into()))
    }

    /// Bytes that can be granted to those that want room to begin, and to those that want to go on.
    pub fn free(&self, kernel: &Kernel) -> (Field<u64>, Field<u64>) {
        let of = |head: &Field<MemberAddress>| {
            let MemberAddress(at) = head.clone()?;
            let grant = kernel.load::<GrantHead>(at).grant?;
            let size = u64::from(self.bytes.clone()?);
            match &self.l_tail_space {
                Ok(tail) => Ok(size.saturating_sub(*tail).saturating_sub(grant)),
                Err(_) => Ok(free_bytes(self.tail()?, Lsn(grant), size)),
            }
        };
        (of(&self.l_reserve_head), of(&self.l_write_head))
    }

    /// Its buffers, from the one that is filled on.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn buffers(&self, kernel: &Kernel) -> Field<Vec<Buffer>> {
        let states = kernel.module_enumerators("xlog_iclog_state").unwrap_or_default();
        let name = |state: u32| {
            let name = states.iter().find(|(_, of)| *of == i128::from(state));
            let name = name.and_then(|(name, _)| name.strip_prefix("XLOG_STATE_"));
            name.map_or_else(|| state.to_string(), |name| name.to_lowercase().replace('_', "-"))
        };
        let ring = self.ring(kernel)?;
        Ok(ring
            .into_iter()
            .map(|(at, buffer)| Buffer {
                at,
                state: buffer.ic_state.map_or_else(|_| "?".to_owned(), name),
                used: buffer.ic_offset,
                writers: buffer.ic_refcnt,
            })
            .collect())
    }

    fn ring(&self, kernel: &Kernel) -> Field<Vec<(VirtAddr, InCore)>> {
        let count = self.l_iclog_bufs.clone().map_or(MOST_BUFFERS, |count| count as usize).min(MOST_BUFFERS);
        let loader = kernel.loader::<InCore>();
        let (mut all, mut seen) = (Vec::new(), FxHashSet::default());
        let mut at = self.l_iclog.clone()?;
        while all.len() < count && !at.is_null() && seen.insert(at) {
            let buffer = loader.load(at);
            let next = buffer.ic_next.clone();
            all.push((at, buffer));
            at = next?;
        }
        Ok(all)
    }

    /// The checkpoints that are being written.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn committing(&self, kernel: &Kernel) -> Field<Vec<Checkpoint>> {
        let MemberAddress(head) = kernel.load::<Cil>(self.l_cilp.clone()?).xc_committing?;
        let link = kernel.module_member("xfs_cil_ctx", &["committing"])?.offset;
        let loader = kernel.loader::<Checkpoint>();
        let all = walk::list(kernel.memory(), head).take(MOST_CHECKPOINTS);
        all.map(|at| Ok(loader.load(at?.sub(link)))).collect()
    }

    /// The tasks that wait for the log of a mount.
    ///
    /// # Errors
    /// A queue cannot be read.
    pub fn waiters(&self, kernel: &Kernel, mounted: &Mounted) -> Field<Vec<(VirtAddr, WaitsFor)>> {
        let mut queues = Vec::new();
        let mut add = |queue: &Field<MemberAddress>, what| {
            queues.extend(queue.as_ref().ok().map(|MemberAddress(at)| (*at, what)));
        };
        for (_, buffer) in self.ring(kernel)? {
            add(&buffer.ic_force_wait, WaitsFor::Force);
            add(&buffer.ic_write_wait, WaitsFor::Write);
        }
        add(&self.l_flush_wait, WaitsFor::Buffer);
        let cil: Cil = kernel.load(self.l_cilp.clone()?);
        add(&cil.xc_commit_wait, WaitsFor::Checkpoint);
        add(&cil.xc_start_wait, WaitsFor::Checkpoint);
        add(&cil.xc_push_wait, WaitsFor::Push);
        if let Ok(at) = mounted.m_ail.clone() {
            add(&kernel.load::<Ail>(at).ail_empty, WaitsFor::Empty);
        }
        let mut all = wait::tasks_of(kernel, queues)?;
        for (head, what) in
            [(&self.l_reserve_head, WaitsFor::Reserve), (&self.l_write_head, WaitsFor::Regrant)]
        {
            all.extend(tickets(kernel, head)?.into_iter().map(|task| (task, what)));
        }
        Ok(all)
    }
}

/// The tasks that wait for room, by their tickets.
fn tickets(kernel: &Kernel, head: &Field<MemberAddress>) -> Field<Vec<VirtAddr>> {
    let tasks = Tasks::find(kernel);
    let MemberAddress(head) = head.clone()?;
    let MemberAddress(list) = kernel.load::<GrantHead>(head).waiters?;
    let link = kernel.module_member("xlog_ticket", &["t_queue"])?.offset;
    let loader = kernel.loader::<Ticket>();
    let mut all = Vec::new();
    for at in walk::list(kernel.memory(), list).take(MOST_TICKETS) {
        let task = loader.load(at?.sub(link)).t_task?;
        all.extend(tasks.at(task).map(|task| task.at));
    }
    Ok(all)
}

impl Checkpoint {
    /// Where it begins in the log; `None` before it is written.
    #[must_use]
    pub fn start(&self) -> Option<Lsn> {
        self.start_lsn.clone().ok().filter(|at| *at != 0).map(Lsn)
    }

    /// Where the record lies that ends it; `None` before that is written.
    #[must_use]
    pub fn commit(&self) -> Option<Lsn> {
        self.commit_lsn.clone().ok().filter(|at| *at != 0).map(Lsn)
    }
}

/// Blocks from one place to a later one, in a log of so many.
fn blocks_between(tail: Lsn, head: Lsn, blocks: u64) -> u64 {
    match head.cycle() == tail.cycle() {
        true => head.block().saturating_sub(tail.block()),
        false => blocks.saturating_sub(tail.block()).saturating_add(head.block()).min(blocks),
    }
}

/// Bytes that are free behind a head that counts cycles and bytes (`xlog_space_left`, until 6.11).
fn free_bytes(tail: Lsn, head: Lsn, size: u64) -> u64 {
    let tail_bytes = tail.block().saturating_mul(BLOCK);
    if tail.cycle() == head.cycle() && head.block() >= tail_bytes {
        size.saturating_sub(head.block().saturating_sub(tail_bytes))
    } else if tail.cycle().saturating_add(1) < head.cycle() {
        0
    } else if tail.cycle() < head.cycle() {
        tail_bytes.saturating_sub(head.block())
    } else {
        // The head is behind the tail: the kernel takes the log for empty then.
        size
    }
}

/// `XFS_LI_*`, fs/xfs/libxfs/xfs_log_format.h.
fn kind_name(kind: u32) -> Option<&'static str> {
    const FIRST: u32 = 0x1236;
    const KINDS: &[&str] = &[
        "extent free intent",
        "extent free done",
        "?",
        "?",
        "?",
        "inode",
        "buffer",
        "dquot",
        "quotaoff",
        "inode create",
        "rmap update intent",
        "rmap update done",
        "refcount update intent",
        "refcount update done",
        "bmap update intent",
        "bmap update done",
        "attr intent",
        "attr done",
        "exchange intent",
        "exchange done",
    ];
    KINDS.get(usize::try_from(kind.checked_sub(FIRST)?).ok()?).copied().filter(|name| *name != "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_lies_between_head_and_tail() {
        let at = |cycle: u64, rest: u64| Lsn(cycle << 32 | rest);
        // One block in use; nothing in use; head around the end, tail not yet; a head that ran too far.
        assert_eq!(free_bytes(at(1, 2), at(1, 3 * BLOCK), 100 * BLOCK), 99 * BLOCK);
        assert_eq!(free_bytes(at(1, 2), at(1, 2 * BLOCK), 100 * BLOCK), 100 * BLOCK);
        assert_eq!(free_bytes(at(1, 90), at(2, 10 * BLOCK), 100 * BLOCK), 80 * BLOCK);
        assert_eq!(free_bytes(at(1, 90), at(3, 10 * BLOCK), 100 * BLOCK), 0);
        assert_eq!(blocks_between(at(1, 90), at(2, 10), 100), 20);
        assert_eq!(blocks_between(at(2, 10), at(2, 10), 100), 0);
        assert_eq!(at(7, 12).to_string(), "7:12");
    }

    #[test]
    fn items_are_named_by_their_types() {
        assert_eq!(kind_name(0x123b), Some("inode"));
        assert_eq!(kind_name(0x123c), Some("buffer"));
        assert_eq!(kind_name(0x1239), None);
        assert_eq!(kind_name(7), None);
    }
}
