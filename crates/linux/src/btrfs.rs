//! Transactions of btrfs (fs/btrfs/transaction.h): the one that runs, those that commit, who is in them, and who waits.

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Field, Kernel, Load, MemberAddress};
use serde::Serialize;

use crate::block::Now;
use crate::fs::SuperBlock;
use crate::tasks::Tasks;
use crate::wait;

/// A file system (`struct btrfs_fs_info`).
#[derive(Clone, Debug, Load)]
#[load(type = "btrfs_fs_info", module)]
pub struct FileSystem {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// The number of its latest transaction.
    pub generation: Field<u64>,
    /// The last transaction that is on the disk.
    #[load(any("last_trans_committed"))]
    pub committed: Field<u64>,
    /// Its thread that commits (`task_struct`).
    #[load(any("transaction_kthread"))]
    pub thread: Field<VirtAddr>,
    /// Why it takes no more changes, below zero (6.4).
    fs_error: Field<i32>,
    fs_state: Field<u64>,
    running_transaction: Field<VirtAddr>,
    trans_list: Field<MemberAddress>,
    transaction_wait: Field<MemberAddress>,
    transaction_blocked_wait: Field<MemberAddress>,
    transaction_throttle: Field<MemberAddress>,
}

/// A transaction (`struct btrfs_transaction`).
#[derive(Clone, Debug, Load)]
#[load(type = "btrfs_transaction", module)]
pub struct Transaction {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    #[load(any("transid"))]
    pub number: Field<u64>,
    state: Field<u32>,
    /// Handles that are open in it; the task that commits it has one.
    #[load(any("num_writers.counter"))]
    pub writers: Field<u32>,
    /// Those of them that keep it from beginning to commit.
    #[load(any("num_extwriters.counter"))]
    pub external_writers: Field<u32>,
    /// Ordered extents that it waits for.
    #[load(any("pending_ordered.counter"))]
    pub pending_ordered: Field<u32>,
    /// Why it was aborted, below zero.
    pub aborted: Field<i32>,
    /// Seconds of the monotonic clock.
    start_time: Field<u64>,
    writer_wait: Field<MemberAddress>,
    commit_wait: Field<MemberAddress>,
    pending_wait: Field<MemberAddress>,
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// A transaction to be on the disk.
    Commit,
    /// The other handles of the transaction that it commits to end.
    Handles,
    /// Data of the transaction that it commits to be written.
    Ordered,
    /// The transaction that commits to let others begin.
    Begin,
    /// A commit to begin.
    CommitStart,
    /// Fewer changes to be on their way.
    Throttle,
}

/// A task that has a handle open (`struct btrfs_trans_handle`).
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// Its handle.
    pub handle: VirtAddr,
    /// The transaction it is in.
    pub transaction: VirtAddr,
    /// Bytes that it has reserved.
    pub reserved: Field<u64>,
}

#[derive(Load)]
#[load(type = "btrfs_trans_handle", module)]
struct Handle {
    transaction: Field<VirtAddr>,
    bytes_reserved: Field<u64>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct OfTask {
    journal_info: Field<VirtAddr>,
}

/// `BTRFS_FS_STATE_ERROR` or the older bit of the same number.
const STATE_ERROR: u64 = 1;
const NS_PER_SECOND: u64 = 1_000_000_000;
const MOST_TRANSACTIONS: usize = 1 << 10;
/// A handle is an object of a slab cache: other things are kept in `journal_info` too.
const ALIGNMENT: u64 = 8;

/// The file system behind a super block; `None` for one of another type.
///
/// # Errors
/// The way to it is lacking.
pub fn of_super_block(kernel: &Kernel, super_block: &SuperBlock) -> Field<Option<FileSystem>> {
    if super_block.type_name(kernel)? != "btrfs" {
        return Ok(None);
    }
    let info = super_block.info.clone()?;
    Ok((!info.is_null()).then(|| kernel.load(info)))
}

impl FileSystem {
    /// Whether it failed: it takes no more changes. With the error, below zero, where the kernel keeps it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn error(&self) -> Field<Option<i32>> {
        match (&self.fs_error, &self.fs_state) {
            (Ok(error), _) => Ok((*error != 0).then_some(*error)),
            (_, Ok(state)) => Ok((state & STATE_ERROR != 0).then_some(-1)),
            (Err(lacks), _) => Err(lacks.clone()),
        }
    }

    /// Its transactions that are not on the disk, the oldest first.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn transactions(&self, kernel: &Kernel) -> Field<Vec<Transaction>> {
        let MemberAddress(head) = self.trans_list.clone()?;
        let link = kernel.module_member("btrfs_transaction", &["list"])?.offset;
        let loader = kernel.loader::<Transaction>();
        let all = walk::list(kernel.memory(), head).take(MOST_TRANSACTIONS);
        all.map(|at| Ok(loader.load(at?.sub(link)))).collect()
    }

    /// Whether changes are made in a transaction: others commit.
    #[must_use]
    pub fn runs(&self, transaction: &Transaction) -> bool {
        self.running_transaction == Ok(transaction.at)
    }

    /// The tasks that wait for these transactions of it, or for one to begin.
    ///
    /// # Errors
    /// A queue cannot be read.
    pub fn waiters(&self, kernel: &Kernel, transactions: &[Transaction]) -> Field<Vec<Waiter>> {
        let of_transactions = transactions.iter().flat_map(|of| {
            let number = of.number.clone().ok();
            [
                (&of.commit_wait, (WaitsFor::Commit, number)),
                (&of.writer_wait, (WaitsFor::Handles, number)),
                (&of.pending_wait, (WaitsFor::Ordered, number)),
            ]
        });
        let own = [
            (&self.transaction_wait, (WaitsFor::Begin, None)),
            (&self.transaction_blocked_wait, (WaitsFor::CommitStart, None)),
            (&self.transaction_throttle, (WaitsFor::Throttle, None)),
        ];
        let queues = of_transactions.chain(own);
        wait::tasks_of(kernel, queues.filter_map(|(queue, what)| Some((queue.clone().ok()?.0, what))))
    }
}

/// A task, what it waits for, and the number of the transaction if that is of one.
pub type Waiter = (VirtAddr, (WaitsFor, Option<u64>));

impl Transaction {
    /// Its state: `running`, `commit-prep`, `commit-start`, `commit-doing` (nobody may begin), `unblocked` (its blocks are
    /// written, the next one may begin), `super-committed`, `completed`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, kernel: &Kernel) -> Field<String> {
        let value = self.state.clone()?;
        let names = kernel.module_enumerators("btrfs_trans_state").unwrap_or_default();
        let name = names.iter().find(|(_, of)| *of == i128::from(value));
        let name = name.and_then(|(name, _)| name.strip_prefix("TRANS_STATE_"));
        Ok(name.map_or_else(|| value.to_string(), |name| name.to_lowercase().replace('_', "-")))
    }

    /// Nanoseconds since it began; the kernel notes whole seconds.
    #[must_use]
    pub fn age_ns(&self, now: &Now) -> Option<u64> {
        now.since_ns(self.start_time.clone().ok()?.saturating_mul(NS_PER_SECOND))
    }
}

/// Every task that has a handle open in one of these transactions.
#[must_use]
pub fn holders(kernel: &Kernel, transactions: &[VirtAddr]) -> Vec<Holder> {
    if transactions.is_empty() {
        return Vec::new();
    }
    let (tasks, handles) = (kernel.loader::<OfTask>(), kernel.loader::<Handle>());
    let all = Tasks::find(kernel);
    let with_handle = all.all().iter().filter_map(|task| {
        let at =
            tasks.load(task.at).journal_info.ok().filter(|at| at.0 > ALIGNMENT && at.0 % ALIGNMENT == 0)?;
        let handle = handles.load(at);
        let transaction = handle.transaction.ok().filter(|at| transactions.contains(at))?;
        Some(Holder { task: task.at, handle: at, transaction, reserved: handle.bytes_reserved })
    });
    with_handle.collect()
}
