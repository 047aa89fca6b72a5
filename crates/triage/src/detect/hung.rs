//! Tasks that wait and do not come on: for what, and who is at the root.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{
    Draft, LIKELY, POSSIBLE, PROVEN, STRONG, events, line, number_after, splats, task_of, word_after,
};
use crate::blame::{self, Mode, Step};
use crate::case::{Case, EventKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const HUNG: Detector =
    Detector { name: "hung-task", claim: "A task waits for something that does not come.", run: hung };

pub(super) const CIRCLE: Detector =
    Detector { name: "lock-circle", claim: "Tasks wait for locks that each other hold.", run: circle };

/// What a task waits for, by the functions of its stack: the first entry that matches decides.
struct Wait {
    /// Names, or beginnings of names that end in `*`.
    functions: &'static [&'static str],
    class: Class,
    what: &'static str,
    advice: &'static str,
    /// Locks lead to somebody else; other waits may be the root.
    lock: bool,
}

const WAITS: &[Wait] = &[
    Wait {
        functions: &[
            "sb_wait_write",
            "__sb_start_write",
            "sb_start_write*",
            "sb_start_pagefault",
            "freeze_super",
            "percpu_rwsem_wait_frozen",
        ],
        class: Class::FilesystemHang,
        what: "a frozen filesystem to be thawed",
        advice: "Thaw it (fsfreeze -u), and find who froze it: a snapshot or backup tool.",
        lock: false,
    },
    Wait {
        functions: &[
            "rpc_wait_bit_killable",
            "__rpc_execute",
            "rpc_execute",
            "nfs_wait_bit_killable",
            "nfs4_*",
            "nfs_*",
            "cifs_*",
            "smb2_*",
            "ceph_*",
            "v9fs_*",
            "p9_*",
        ],
        class: Class::NetworkFilesystemHang,
        what: "a file server on the network",
        advice: "Look at the server and the network to it.",
        lock: false,
    },
    Wait {
        functions: &["request_wait_answer", "fuse_*"],
        class: Class::FilesystemHang,
        what: "the daemon of a FUSE filesystem",
        advice: "Look at the daemon: it is dead, stopped, or waits itself for that filesystem.",
        lock: false,
    },
    Wait {
        functions: &[
            "throttle_direct_reclaim",
            "shrink_*",
            "try_to_free_pages",
            "do_try_to_free_pages",
            "__alloc_pages_slowpath*",
            "rebalance_*",
            "wait_iff_congested",
        ],
        class: Class::ReclaimStall,
        what: "memory to be reclaimed",
        advice: "Look at free memory, swap and dirty pages.",
        lock: false,
    },
    Wait {
        functions: &["balance_dirty_pages*"],
        class: Class::IoHang,
        what: "dirty pages to be written back",
        advice: "Look at the device that the pages are to be written to.",
        lock: false,
    },
    Wait {
        functions: &[
            "jbd2_log_wait_commit",
            "log_wait_commit",
            "jbd2_complete_transaction",
            "wait_transaction_locked",
            "wait_transaction_switching",
            "start_this_handle",
            "add_transaction_credits",
            "jbd2_journal_lock_updates",
            "xfs_log_*",
            "xlog_*",
            "xfs_buf_lock",
            "xfs_trans_reserve",
            "btrfs_commit_transaction*",
            "wait_current_trans*",
            "wait_for_commit",
            "btrfs_*_lock",
        ],
        class: Class::FilesystemHang,
        what: "a filesystem's journal",
        advice: "Look at the journal's own thread and at the device below it.",
        lock: false,
    },
    Wait {
        functions: &[
            "blk_mq_get_tag",
            "blk_mq_freeze_queue_wait",
            "blk_execute_rq*",
            "__blkdev_get",
            "submit_bio_wait",
            "wait_on_buffer",
            "__wait_on_buffer",
            "folio_wait_bit*",
            "folio_wait_writeback",
            "wait_on_page_*",
            "sleep_on_page*",
            "sleep_on_buffer",
            "__bread*",
            "io_schedule*",
            "blk_wait_io",
            "scsi_error_handler",
            "nvme_*",
            "md_write_start",
            "raid5_*",
            "raid1_*",
            "dm_wait*",
            "bio_wait*",
            "blkdev_issue_flush",
            "__submit_bio_wait",
            "do_blockdev_direct_IO",
            "iomap_dio_*",
            "jbd2_journal_commit_transaction",
        ],
        class: Class::IoHang,
        what: "I/O of a block device",
        advice: "Look at the device: its queue, its errors in the log, the paths to it.",
        lock: false,
    },
    Wait {
        functions: &[
            "flush_work",
            "__flush_work",
            "flush_workqueue",
            "__flush_workqueue",
            "drain_workqueue",
            "cancel_work_sync",
            "cancel_delayed_work_sync",
            "__cancel_work_sync",
            "__cancel_work_timer",
            "kthread_stop",
            "kthread_park",
            "rescuer_*",
        ],
        class: Class::WorkqueueStall,
        what: "a work item or a kernel thread to end",
        advice: "Find the work item: its stack is that of a kworker.",
        lock: false,
    },
    Wait {
        functions: &[
            "synchronize_rcu*",
            "synchronize_net",
            "synchronize_srcu*",
            "__synchronize_srcu*",
            "rcu_barrier*",
            "__wait_rcu_gp",
            "wait_rcu_gp",
            "synchronize_sched*",
        ],
        class: Class::RcuStall,
        what: "a grace period of RCU",
        advice: "Find the processor or reader that holds the grace period up.",
        lock: false,
    },
    Wait {
        functions: &["rtnl_lock*", "rtnl_net_lock*"],
        class: Class::HungTask,
        what: "the network's big lock (rtnl_mutex)",
        advice: "Find the task that holds rtnl_mutex: it waits inside of a driver or for a device.",
        lock: true,
    },
    Wait {
        functions: &[
            "percpu_down_write*",
            "percpu_down_read*",
            "__percpu_down_read*",
            "percpu_rwsem_*",
            "cpus_read_lock",
            "cpus_write_lock",
            "cgroup_lock*",
            "cgroup_kn_lock_live",
        ],
        class: Class::HungTask,
        what: "a per-CPU reader-writer semaphore",
        advice: "Find its readers and its writer.",
        lock: true,
    },
    Wait {
        functions: &[
            "mutex_lock*",
            "__mutex_lock*",
            "__mutex_lock_slowpath",
            "ww_mutex_lock*",
            "rt_mutex_*",
            "__rt_mutex*",
            "rwbase_*",
        ],
        class: Class::HungTask,
        what: "a mutex",
        advice: "Find its holder (kdive: locks).",
        lock: true,
    },
    Wait {
        functions: &[
            "rwsem_down_*",
            "down_read*",
            "down_write*",
            "__down_read*",
            "__down_write*",
            "call_rwsem_down_*",
            "rwsem_wait*",
        ],
        class: Class::HungTask,
        what: "a reader-writer semaphore",
        advice: "Find its holder (kdive: locks).",
        lock: true,
    },
    Wait {
        functions: &["down", "__down", "__down_common", "down_interruptible", "down_timeout"],
        class: Class::HungTask,
        what: "a semaphore",
        advice: "Find who took it: a semaphore names no holder.",
        lock: true,
    },
    Wait {
        functions: &["futex_*", "do_futex"],
        class: Class::HungTask,
        what: "a futex",
        advice: "Look at the other threads of the process.",
        lock: true,
    },
    Wait {
        functions: &["wait_for_completion*", "__wait_for_common", "wait_for_common*"],
        class: Class::HungTask,
        what: "a completion",
        advice: "Find who is to complete it.",
        lock: false,
    },
];

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// What a stack waits for. Entries are tried in their order: a filesystem's function says more than the wait below it.
fn wait_of(steps: &[Step<'_>]) -> Option<&'static Wait> {
    WAITS.iter().find(|wait| {
        steps.iter().take(14).any(|step| wait.functions.iter().any(|pattern| matches(pattern, step.name)))
    })
}

fn hung(case: &Case<'_>, out: &mut Vec<Finding>) {
    let hung: Vec<(usize, &Splat)> = splats(case, &[SplatKind::HungTask]).collect();
    if hung.is_empty() {
        return;
    }
    let waits: Vec<Option<&Wait>> = hung.iter().map(|(_, splat)| wait_of(&blame::steps(splat))).collect();
    // The root is who waits for no lock: the others may wait for what it holds. Without one, it is who was found first.
    let root = waits.iter().position(|wait| wait.is_some_and(|wait| !wait.lock)).unwrap_or(0);
    let (Some(&(index, splat)), Some(wait)) = (hung.get(root), waits.get(root)) else { return };
    let class = wait.map_or(Class::HungTask, |wait| wait.class);
    let what = wait.map_or("something", |wait| wait.what);
    let mut draft = Draft::new(HUNG.name, class, LIKELY).at(index, splat, Mode::Blocked).task(task_of(splat));
    let seconds = number_after(&splat.message, "more than");
    let who = task_of(splat).unwrap_or_else(|| "A task".to_owned());
    draft = draft.title_in("INFO: task hung").says(&splat.message);
    draft = draft.claim_in(match seconds {
        Some(seconds) => format!("{who} waits for {what}, for more than {seconds} s,"),
        None => format!("{who} waits for {what}"),
    });
    for (other, wait) in hung.iter().zip(&waits).filter(|((other, _), _)| *other != index).take(6) {
        let what = wait.map_or("something", |wait| wait.what);
        draft = draft.seen(format!(
            "{} waits for {what} too.",
            task_of(other.1).unwrap_or_else(|| "Another task".to_owned())
        ));
    }
    if class == Class::IoHang || class == Class::FilesystemHang {
        for event in
            events(case, EventKind::BlockError).chain(events(case, EventKind::MultipathFailure)).take(3)
        {
            draft = draft.says(&event.text);
        }
    }
    if class == Class::NetworkFilesystemHang {
        for event in events(case, EventKind::NfsServer).take(2) {
            draft = draft.says(&event.text);
        }
    }
    draft = draft.against_if(wait.is_some_and(|wait| wait.lock), "The log does not say who holds the lock.");
    if let Some(wait) = wait {
        draft = draft.advice(wait.advice);
    }
    draft.push(out);
    several_for_locks(case, &hung, &waits, out);
}

/// Two tasks at least, and all wait for locks: nobody is left who could come on.
fn several_for_locks(
    case: &Case<'_>,
    hung: &[(usize, &Splat)],
    waits: &[Option<&Wait>],
    out: &mut Vec<Finding>,
) {
    let all_locks = hung.len() >= 2 && waits.iter().all(|wait| wait.is_some_and(|wait| wait.lock));
    let proven = case.splats.iter().any(|splat| line(splat, "likely owned by task").is_some());
    if !all_locks || proven {
        return;
    }
    let Some(&(index, splat)) = hung.first() else { return };
    let names: Vec<String> = hung.iter().filter_map(|(_, splat)| task_of(splat)).take(6).collect();
    Draft::new(CIRCLE.name, Class::Deadlock, POSSIBLE + 8)
        .at(index, splat, Mode::Blocked)
        .task(task_of(splat))
        .title_in("INFO: task hung")
        .claim_in(format!(
            "{} wait for locks, and no task is seen that could release one: a deadlock is likely",
            names.join(" and ")
        ))
        .seen("Every hung task waits for a lock.")
        .against("Who holds the locks is not in the log: only a dump proves the circle.")
        .advice("Take a dump and run kdive's locks: it names holders and circles.")
        .push(out);
}

/// `INFO: task a:12 is blocked on a mutex likely owned by task b:13.`: kernels from 6.16 on say who holds it.
fn circle(case: &Case<'_>, out: &mut Vec<Finding>) {
    let mut edges: Vec<(usize, &str, &str)> = Vec::new();
    for (index, splat) in case.splats.iter().enumerate() {
        let lines = std::iter::once(&splat.message).chain(&splat.details);
        for text in lines.filter(|text| text.contains("likely owned by task")) {
            if let (Some(from), Some(to)) = (word_after(text, "task "), word_after(text, "owned by task "))
                && !edges.iter().any(|(_, known, _)| *known == from)
            {
                edges.push((index, from, to));
            }
        }
    }
    for &(index, from, _) in &edges {
        let mut path = vec![from];
        let mut at = from;
        while let Some(&(_, _, to)) = edges.iter().find(|(_, known, _)| *known == at) {
            if path.contains(&to) {
                break;
            }
            path.push(to);
            at = to;
        }
        let closes = edges.iter().any(|(_, known, to)| *known == at && *to == from);
        // Each circle once: from its smallest name.
        if !closes || path.iter().any(|name| *name < from) {
            continue;
        }
        let Some(splat) = case.splats.get(index) else { continue };
        let circle = path.iter().chain([&from]).copied().collect::<Vec<_>>().join(" → ");
        Draft::new(CIRCLE.name, Class::Deadlock, PROVEN)
            .at(index, splat, Mode::Blocked)
            .task(Some(from))
            .title_in("INFO: task hung")
            .claim_in(format!("{} tasks wait for one another in a circle ({circle}): a deadlock", path.len()))
            .says(line(splat, "likely owned by task").unwrap_or(&splat.message))
            .advice("Take these locks in the same order everywhere.")
            .push(out);
    }
    if let [(index, from, to)] = edges.as_slice()
        && let Some(splat) = case.splats.get(*index)
    {
        Draft::new(CIRCLE.name, Class::HungTask, STRONG - 6)
            .at(*index, splat, Mode::Blocked)
            .task(Some(*to))
            .title_in("INFO: task hung")
            .claim_in(format!("{from} waits for a lock that {to} holds"))
            .says(line(splat, "likely owned by task").unwrap_or(&splat.message))
            .push(out);
    }
}
