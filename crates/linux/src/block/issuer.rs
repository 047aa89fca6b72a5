//! Who issued I/O, and who waits for it: from a bio back to a task.
//!
//! The block layer keeps no issuer. What leads back to one is what the bio tells when it is done: a waiting task, a
//! structure on a task's stack, an asynchronous request of a process. Last, the stacks of blocked tasks are searched for
//! the addresses of the request, its bios and its pages.

use std::sync::Arc;

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Load};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::bio::Bio;
use crate::tasks::{State, StateBits, Task, Tasks};
use crate::time;

/// How it is known that I/O is a task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is the task to be woken when the I/O is done.
    Waiter,
    /// A structure of the I/O lies on the task's stack.
    OnStack,
    /// The I/O belongs to an asynchronous context (`io_setup`) of the task's process.
    Aio,
    /// The I/O belongs to a request of the task's io_uring.
    IoUring,
    /// The task is blocked, and its stack has the address of the I/O, of its buffer or of its page: it waits for it.
    Refers,
}

/// A task that issued I/O or waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// How that is known.
    pub how: How,
}

/// Answers who issued I/O. What it needs to know of all tasks is gathered once.
pub struct Issuers<'k> {
    kernel: &'k Kernel,
    tasks: Arc<Tasks>,
    /// Lowest addresses of stacks and their tasks, in order.
    stacks: Vec<(VirtAddr, VirtAddr)>,
    stack_bytes: u64,
    /// Words on the stacks of blocked tasks, and whose they are.
    words: FxHashMap<u64, Vec<VirtAddr>>,
    /// Asynchronous contexts (`struct kioctx`) and a task of the process that made them.
    contexts: FxHashMap<VirtAddr, VirtAddr>,
}

#[derive(Load)]
#[load(type = "blkdev_dio")]
struct BlockDirect {
    // A union with `waiter`.
    iocb: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "iomap_dio")]
struct IomapDirect {
    iocb: Field<VirtAddr>,
    wait_for_completion: Field<bool>,
    #[load(any("submit.waiter"))]
    waiter: Field<VirtAddr>,
}

/// `struct dio`, fs/direct-io.c.
#[derive(Load)]
#[load(type = "dio")]
struct Direct {
    iocb: Field<VirtAddr>,
    waiter: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "kiocb")]
struct Iocb {
    ki_complete: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "aio_kiocb")]
struct AioIocb {
    ki_ctx: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "io_kiocb")]
struct RingIocb {
    task: Field<VirtAddr>,
    tctx: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "io_uring_task")]
struct RingTask {
    task: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "mm_struct")]
struct Contexts {
    ioctx_table: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "kioctx_table")]
struct ContextTable {
    nr: Field<u32>,
}

/// Device mapper's share of a bio, drivers/md/dm-core.h.
#[derive(Load)]
#[load(type = "dm_target_io", module)]
struct TargetIo {
    io: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "dm_io", module)]
struct DmIo {
    orig_bio: Field<VirtAddr>,
}

/// Bios that stand for other bios: no stack of drivers is deeper.
const MOST_STEPS: usize = 32;
/// Tasks kept for one word: more say nothing.
const MOST_TASKS: usize = 64;
/// Contexts of a process.
const MOST_CONTEXTS: u32 = 1 << 16;
/// No kernel address is below: text, data and stacks are in the upper half.
const KERNEL: u64 = 1 << 63;

impl<'k> Issuers<'k> {
    /// Gathers stacks and contexts of all tasks.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        let tasks = Tasks::find(kernel);
        let all = || tasks.all().iter().chain(tasks.idle());
        let mut stacks: Vec<_> = all().filter_map(|task| Some((task.stack.clone().ok()?, task.at))).collect();
        stacks.sort_unstable();
        let stack_bytes = kernel.task_stack_bytes().unwrap_or(0);
        let mut found = Self {
            kernel,
            stacks,
            stack_bytes,
            words: FxHashMap::default(),
            contexts: FxHashMap::default(),
            tasks: tasks.clone(),
        };
        let states = StateBits::of(kernel);
        for task in tasks.all().iter().filter(|task| states.state(task) == Some(State::Uninterruptible)) {
            found.add_words(task);
        }
        found.add_contexts(&tasks);
        found
    }

    /// Notes the words between a task's stack pointer and the top of its stack.
    fn add_words(&mut self, task: &Task) {
        let (Ok(sp), Ok(stack)) = (&task.sp, &task.stack) else { return };
        let top = stack.add(self.stack_bytes);
        if *sp < *stack || *sp >= top {
            return;
        }
        let mut bytes = vec![0; top.since(*sp) as usize];
        let (count, _) = self.kernel.memory().read(*sp, &mut bytes);
        let words = bytes.get(..count).unwrap_or_default().chunks_exact(8);
        for word in words.filter_map(|word| Endian::Little.u64(word, 0)).filter(|word| *word >= KERNEL) {
            let whose = self.words.entry(word).or_default();
            if whose.len() < MOST_TASKS && whose.last() != Some(&task.at) {
                whose.push(task.at);
            }
        }
    }

    fn add_contexts(&mut self, tasks: &Tasks) {
        let Ok(table) = self.kernel.offset_of("kioctx_table", "table") else { return };
        let (spaces, tables) = (self.kernel.loader::<Contexts>(), self.kernel.loader::<ContextTable>());
        let memory = self.kernel.memory();
        for task in tasks.all().iter().filter(|task| task.is_group_leader() == Some(true)) {
            let Some(space) = task.mm.clone().ok().filter(|mm| !mm.is_null()) else { continue };
            let Some(at) = spaces.load(space).ioctx_table.ok().filter(|at| !at.is_null()) else { continue };
            let count = tables.load(at).nr.unwrap_or(0).min(MOST_CONTEXTS);
            for index in 0..u64::from(count) {
                match memory.pointer(at.add(table).add(index.wrapping_mul(8))) {
                    Ok(context) if !context.is_null() => _ = self.contexts.entry(context).or_insert(task.at),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Nanoseconds since a blocked task last came onto a processor; `None` for one that is not blocked.
    #[must_use]
    pub fn blocked_ns(&self, at: VirtAddr) -> Option<u64> {
        let task = self.tasks.at(at)?;
        let blocked = StateBits::of(self.kernel).state(task) == Some(State::Uninterruptible);
        let cpu = task.cpu.clone().ok().filter(|_| blocked)?;
        let processor = self.tasks.processors().iter().find(|processor| processor.cpu == cpu)?;
        let now = processor.queue.clone().ok()?.clock.ok()?;
        Some(now.saturating_sub(task.last_run.clone().ok()?))
    }

    /// The task on whose stack an address lies.
    #[must_use]
    pub fn on_stack(&self, at: VirtAddr) -> Option<VirtAddr> {
        let behind = self.stacks.partition_point(|(stack, _)| *stack <= at);
        let (stack, task) = self.stacks.get(behind.checked_sub(1)?)?;
        (at.since(*stack) < self.stack_bytes).then_some(*task)
    }

    /// Who issued the bios or waits for them, the surest first; `others` are addresses that a waiter may know them by.
    #[must_use]
    pub fn of(&self, bios: &[Bio], others: &[VirtAddr]) -> Vec<Owner> {
        let mut found = Found::default();
        for &other in others.iter().filter(|at| !at.is_null()) {
            found.extend(self.on_stack(other).map(|task| Owner { task, how: How::OnStack }));
            found.extend(self.refers(other));
        }
        for bio in bios {
            self.follow(bio.clone(), &mut found);
        }
        found.sorted()
    }

    /// From a bio to those that it stands for, and to who is told of them.
    fn follow(&self, mut bio: Bio, found: &mut Found) {
        for _ in 0..MOST_STEPS {
            found.extend(self.on_stack(bio.at).map(|task| Owner { task, how: How::OnStack }));
            found.extend(self.refers(bio.at));
            for page in bio.pages(self.kernel) {
                let head = self.kernel.load::<crate::pages::Page>(page).head().unwrap_or(page);
                found.extend(self.refers(head));
            }
            let end_io = bio.end_io_name(self.kernel).unwrap_or_default();
            let private = bio.private.clone().ok().filter(|at| !at.is_null());
            match self.above(&bio, &end_io, private) {
                Some(next) => bio = self.kernel.load(next),
                None => return self.told(&bio, &end_io, private, found),
            }
        }
    }

    /// The bio that one was split off or cloned from.
    fn above(&self, bio: &Bio, end_io: &str, private: Option<VirtAddr>) -> Option<VirtAddr> {
        match end_io {
            "bio_chain_endio" => private,
            "clone_endio" => {
                let clone = self.kernel.module_member("dm_target_io", &["clone"]).ok()?.offset;
                let io = self.kernel.load::<TargetIo>(bio.at.sub(clone)).io.ok()?;
                self.kernel.load::<DmIo>(io).orig_bio.ok().filter(|at| !at.is_null())
            }
            _ => None,
        }
    }

    /// Who is told that a bio is done.
    fn told(&self, bio: &Bio, end_io: &str, private: Option<VirtAddr>, found: &mut Found) {
        let kernel = self.kernel;
        match (end_io, private) {
            ("blkdev_bio_end_io_async", _) => {
                let inside = kernel.offset_of("blkdev_dio", "bio").unwrap_or(0);
                self.told_by_iocb(kernel.load::<BlockDirect>(bio.at.sub(inside)).iocb, found);
            }
            ("blkdev_bio_end_io", Some(dio)) => {
                self.told_by_iocb(kernel.load::<BlockDirect>(dio).iocb, found);
            }
            ("iomap_dio_bio_end_io", Some(dio)) => {
                let dio: IomapDirect = kernel.load(dio);
                let waits = dio.wait_for_completion.unwrap_or(false);
                self.told_by_iocb(if waits { dio.waiter } else { dio.iocb }, found);
            }
            ("dio_bio_end_io" | "dio_bio_end_aio", Some(dio)) => {
                let dio: Direct = kernel.load(dio);
                self.told_by_iocb(dio.waiter, found);
                self.told_by_iocb(dio.iocb, found);
            }
            (_, Some(private)) => {
                let task = self.tasks.at(private).map(|task| Owner { task: task.at, how: How::Waiter });
                found.extend(task);
                found.extend(self.on_stack(private).map(|task| Owner { task, how: How::OnStack }));
                found.extend(self.refers(private));
            }
            (_, None) => {}
        }
    }

    /// By a `struct kiocb`, or by a task in its place.
    fn told_by_iocb(&self, at: Field<VirtAddr>, found: &mut Found) {
        let Some(at) = at.ok().filter(|at| !at.is_null()) else { return };
        if let Some(task) = self.tasks.at(at) {
            return found.add(Owner { task: task.at, how: How::Waiter });
        }
        if let Some(task) = self.on_stack(at) {
            return found.add(Owner { task, how: How::OnStack });
        }
        let complete = self.kernel.load::<Iocb>(at).ki_complete.ok();
        match complete.and_then(|at| time::function_name(self.kernel, at)).as_deref() {
            // The kiocb is the first member of either.
            Some("aio_complete_rw") => {
                let context = self.kernel.load::<AioIocb>(at).ki_ctx.ok();
                let task = context.and_then(|context| self.contexts.get(&context));
                found.extend(task.map(|&task| Owner { task, how: How::Aio }));
            }
            Some(name) if name.starts_with("io_complete_rw") => {
                let request: RingIocb = self.kernel.load(at);
                let task = request.task.or_else(|_| self.kernel.load::<RingTask>(request.tctx?).task);
                let task = task.ok().and_then(|at| self.tasks.at(at));
                found.extend(task.map(|task| Owner { task: task.at, how: How::IoUring }));
            }
            _ => found.extend(self.refers(at)),
        }
    }

    fn refers(&self, at: VirtAddr) -> impl Iterator<Item = Owner> {
        let tasks = self.words.get(&at.0).map_or(&[][..], Vec::as_slice);
        tasks.iter().map(|&task| Owner { task, how: How::Refers })
    }
}

/// Each task once, with the surest way in which it was found.
#[derive(Default)]
struct Found {
    owners: Vec<Owner>,
    seen: FxHashSet<(VirtAddr, u8)>,
}

impl Found {
    fn add(&mut self, owner: Owner) {
        if self.owners.len() < MOST_TASKS && self.seen.insert((owner.task, owner.how as u8)) {
            self.owners.push(owner);
        }
    }

    fn extend(&mut self, owners: impl IntoIterator<Item = Owner>) {
        owners.into_iter().for_each(|owner| self.add(owner));
    }

    fn sorted(mut self) -> Vec<Owner> {
        self.owners.sort_by_key(|owner| owner.how);
        let mut seen = FxHashSet::default();
        self.owners.retain(|owner| seen.insert(owner.task));
        self.owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_in_the_surest_way() {
        let owner = |task, how| Owner { task: VirtAddr(task), how };
        let mut found = Found::default();
        found.extend([
            owner(1, How::Refers),
            owner(2, How::Refers),
            owner(2, How::Waiter),
            owner(1, How::Refers),
        ]);
        assert_eq!(found.sorted(), [owner(2, How::Waiter), owner(1, How::Refers)]);
    }
}
