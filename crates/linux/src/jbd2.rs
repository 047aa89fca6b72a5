//! Journals of ext4 and ocfs2 (fs/jbd2, include/linux/jbd2.h): transactions, who holds handles in them, and who waits.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Load, MemberAddress, Text};
use serde::Serialize;

use crate::block::Now;
use crate::fs::SuperBlock;
use crate::tasks::Tasks;
use crate::wait;

/// A journal.
#[derive(Clone, Debug, Load)]
#[load(type = "journal_s", module)]
pub struct Journal {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its name: the device, and the number of the journal's inode: `vda1-8`.
    #[load(any("j_devname"))]
    pub name: Field<Text>,
    /// `JBD2_*` flags.
    #[load(any("j_flags"))]
    pub flags: Field<u64>,
    /// Why it was aborted, below zero; 0 for a journal that works.
    #[load(any("j_errno"))]
    pub error: Field<i32>,
    /// How many hold a barrier: no handle may begin (a frozen file system).
    #[load(any("j_barrier_count"))]
    pub barriers: Field<i32>,
    /// Its thread (`task_struct`).
    #[load(any("j_task"))]
    pub thread: Field<VirtAddr>,
    /// The last transaction that was committed.
    #[load(any("j_commit_sequence"))]
    pub committed: Field<u32>,
    /// The last transaction whose commit was asked for.
    #[load(any("j_commit_request"))]
    pub requested: Field<u32>,
    /// Blocks that are free in it.
    #[load(any("j_free"))]
    pub free: Field<u64>,
    /// First and past-the-last block.
    #[load(any("j_first"))]
    first: Field<u64>,
    #[load(any("j_last"))]
    last: Field<u64>,
    j_running_transaction: Field<VirtAddr>,
    j_committing_transaction: Field<VirtAddr>,
    j_wait_transaction_locked: Field<MemberAddress>,
    j_wait_done_commit: Field<MemberAddress>,
    j_wait_updates: Field<MemberAddress>,
    j_wait_reserved: Field<MemberAddress>,
}

/// `JBD2_ABORT`.
const ABORTED: u64 = 2;

/// A transaction that runs or commits.
#[derive(Clone, Debug, Load)]
#[load(type = "transaction_s", module)]
pub struct Transaction {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    #[load(any("t_tid"))]
    pub number: Field<u32>,
    t_state: Field<u32>,
    /// Handles that are open in it.
    #[load(any("t_updates.counter"))]
    pub open_handles: Field<u32>,
    /// Handles that it ever had.
    #[load(any("t_handle_count.counter"))]
    pub handles: Field<u32>,
    /// Blocks that its handles may still need.
    #[load(any("t_outstanding_credits.counter"))]
    pub credits: Field<i32>,
    /// Blocks that it changes.
    #[load(any("t_nr_buffers"))]
    pub buffers: Field<u32>,
    /// By the monotonic clock.
    t_start_time: Field<u64>,
    /// In jiffies: when its commit was asked for.
    t_requested: Field<u64>,
}

/// What a task waits for in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// The running transaction is locked, or a barrier is up: it may not begin a handle.
    Begin,
    /// A commit to end.
    Commit,
    /// All handles of the transaction to end, before it commits: the journal's thread, or who puts up a barrier.
    Handles,
    /// Room that others have reserved.
    Reserved,
}

/// A task that has a handle open.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// Its handle (`struct jbd2_journal_handle`).
    pub handle: VirtAddr,
    /// The transaction it is in.
    pub transaction: VirtAddr,
    /// Nanoseconds since it began.
    pub age_ns: Option<u64>,
    /// What it is for (`EXT4_HT_*`, fs/ext4/ext4_jbd2.h).
    pub kind: Option<&'static str>,
    /// The line of the source of ext4 that began it.
    pub line: Option<u32>,
    /// Blocks that it may change still.
    pub credits: Field<i32>,
}

#[derive(Load)]
#[load(type = "jbd2_journal_handle", module)]
struct Handle {
    h_transaction: Field<VirtAddr>,
    h_total_credits: Field<i32>,
    #[load(any("h_total_credits", "h_buffer_credits"))]
    credits: Field<i32>,
    h_type: Field<u32>,
    h_line_no: Field<u32>,
    h_start_jiffies: Field<u64>,
}

#[derive(Load)]
#[load(type = "ext4_sb_info", module)]
struct Ext4 {
    s_journal: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct OfTask {
    journal_info: Field<VirtAddr>,
}

/// The journal of a mounted file system; `None` for one of another type, or without a journal.
///
/// # Errors
/// The way to it is lacking.
pub fn of_super_block(kernel: &Kernel, super_block: &SuperBlock) -> Field<Option<Journal>> {
    // ext4 serves ext3 and ext2 under their names.
    if !matches!(super_block.type_name(kernel)?.as_str(), "ext4" | "ext3" | "ext2") {
        return Ok(None);
    }
    let journal = kernel.load::<Ext4>(super_block.info.clone()?).s_journal?;
    Ok((!journal.is_null()).then(|| kernel.load(journal)))
}

impl Journal {
    /// Whether it was given up after an error: the file system takes no more changes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_aborted(&self) -> Field<bool> {
        Ok(self.flags.clone()? & ABORTED != 0)
    }

    /// Blocks of its log.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn blocks(&self) -> Field<u64> {
        Ok(self.last.clone()?.saturating_sub(self.first.clone()?))
    }

    /// The transaction that handles are begun in; `None` for none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn running(&self, kernel: &Kernel) -> Field<Option<Transaction>> {
        let at = self.j_running_transaction.clone()?;
        Ok((!at.is_null()).then(|| kernel.load(at)))
    }

    /// The transaction that is being written; `None` for none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn committing(&self, kernel: &Kernel) -> Field<Option<Transaction>> {
        let at = self.j_committing_transaction.clone()?;
        Ok((!at.is_null()).then(|| kernel.load(at)))
    }

    /// The tasks on its wait queues, without its thread when that has nothing to do.
    ///
    /// # Errors
    /// A queue cannot be read.
    pub fn waiters(&self, kernel: &Kernel) -> Field<Vec<(VirtAddr, WaitsFor)>> {
        let queues = [
            (&self.j_wait_transaction_locked, WaitsFor::Begin),
            (&self.j_wait_done_commit, WaitsFor::Commit),
            (&self.j_wait_updates, WaitsFor::Handles),
            (&self.j_wait_reserved, WaitsFor::Reserved),
        ];
        wait::tasks_of(
            kernel,
            queues.into_iter().filter_map(|(queue, what)| Some((queue.clone().ok()?.0, what))),
        )
    }
}

/// `enum` of `transaction_s.t_state`, in order.
const STATES: &[&str] = &[
    "T_RUNNING",
    "T_LOCKED",
    "T_SWITCH",
    "T_FLUSH",
    "T_COMMIT",
    "T_COMMIT_DFLUSH",
    "T_COMMIT_JFLUSH",
    "T_COMMIT_CALLBACK",
    "T_FINISHED",
];

impl Transaction {
    /// Its state: `running`, `locked` (waits for its handles), `flush` (writes data), `commit` (writes the log)...
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, kernel: &Kernel) -> Field<String> {
        let value = self.t_state.clone()?;
        let is = |name: &&&str| kernel.module_enumerator(name).is_ok_and(|of| of == i128::from(value));
        let name = STATES.iter().find(is).map(|name| name.trim_start_matches("T_"));
        Ok(name.map_or_else(|| value.to_string(), |name| name.to_lowercase().replace('_', "-")))
    }

    /// Nanoseconds since it began.
    #[must_use]
    pub fn age_ns(&self, now: &Now) -> Option<u64> {
        now.since_ns(self.t_start_time.clone().ok()?)
    }

    /// Nanoseconds since its commit was asked for.
    #[must_use]
    pub fn requested_ns(&self, now: &Now) -> Option<u64> {
        now.since_jiffies(self.t_requested.clone().ok().filter(|at| *at != 0)?)
    }
}

/// Every task that has a handle open in one of these transactions.
#[must_use]
pub fn holders(kernel: &Kernel, transactions: &[VirtAddr], now: &Now) -> Vec<Holder> {
    let (tasks, handles) = (kernel.loader::<OfTask>(), kernel.loader::<Handle>());
    let with_handle = Tasks::find(kernel);
    let with_handle = with_handle.all().iter().filter_map(|task| {
        let at = tasks.load(task.at).journal_info.ok().filter(|at| !at.is_null())?;
        let handle = handles.load(at);
        // Other file systems keep other things there.
        let transaction = handle.h_transaction.ok().filter(|at| transactions.contains(at))?;
        Some(Holder {
            task: task.at,
            handle: at,
            transaction,
            age_ns: handle.h_start_jiffies.ok().and_then(|at| now.since_jiffies(at)),
            kind: handle.h_type.ok().and_then(kind_name),
            line: handle.h_line_no.ok().filter(|line| *line != 0),
            credits: handle.h_total_credits.or(handle.credits),
        })
    });
    with_handle.collect()
}

/// `EXT4_HT_*`, fs/ext4/ext4_jbd2.h.
fn kind_name(kind: u32) -> Option<&'static str> {
    const KINDS: &[&str] = &[
        "misc",
        "inode",
        "write page",
        "map blocks",
        "directory",
        "truncate",
        "quota",
        "resize",
        "migrate",
        "move extents",
        "xattr",
        "convert extents",
    ];
    KINDS.get(usize::try_from(kind).ok()?).copied()
}
