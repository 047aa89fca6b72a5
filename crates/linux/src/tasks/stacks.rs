//! The kernel stacks of all tasks, unwound once and shared.

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Place};
use rayon::prelude::*;

use super::list::Tasks;
use super::task::Task;

/// One call on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// An instruction of the function: the one that was interrupted, or the last byte of the call.
    pub at: VirtAddr,
    /// Where execution goes on in the function.
    pub ip: VirtAddr,
    /// Address of the return address, or the interrupted stack pointer.
    pub sp: VirtAddr,
}

impl Call {
    /// The function and how far into it.
    #[must_use]
    pub fn place<'k>(&self, kernel: &'k Kernel) -> Option<Place<'k>> {
        kernel.place(self.at)
    }

    /// The function's name, without what a compiler added to that of a copy (`.constprop.0`, `.isra.0`).
    #[must_use]
    pub fn function<'k>(&self, kernel: &'k Kernel) -> Option<&'k str> {
        Some(plain_name(self.place(kernel)?.symbol.name))
    }
}

/// A function's name in the source.
#[must_use]
pub fn plain_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(plain, _)| plain)
}

/// A task and the calls on its stack, the innermost first.
#[derive(Clone, Debug)]
pub struct TaskStack {
    /// Its `task_struct`.
    pub task: VirtAddr,
    /// The calls, or why they cannot be told.
    pub calls: Field<Vec<Call>>,
}

impl TaskStack {
    /// The stack of one task alone.
    #[must_use]
    pub fn of(kernel: &Kernel, task: &Task) -> Self {
        Self { task: task.at, calls: calls(kernel, task) }
    }
}

/// The stacks of all tasks, in the order of [`Tasks::all`].
#[derive(Debug)]
pub struct Stacks {
    list: Vec<TaskStack>,
}

impl Stacks {
    /// The stacks: unwound on first use, then shared.
    #[must_use]
    pub fn find(kernel: &Kernel) -> &Self {
        kernel.once(|kernel| {
            let tasks = Tasks::find(kernel);
            Self { list: tasks.all().par_iter().map(|task| TaskStack::of(kernel, task)).collect() }
        })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[TaskStack] {
        &self.list
    }
}

fn calls(kernel: &Kernel, task: &Task) -> Field<Vec<Call>> {
    let frames = kernel.unwind_task(task.at)?.frames;
    let call = |frame: &kdive_evidence::Frame| Call {
        // A call that never returns can be the last instruction of its function: the address behind it is another's.
        at: if frame.interrupted { frame.ip } else { frame.ip.sub(1) },
        ip: frame.ip,
        sp: frame.sp,
    };
    Ok(frames.iter().map(call).collect())
}

/// The words of a kernel stack that are in use.
#[derive(Clone, Debug)]
pub struct LiveWords {
    /// Address of the first word: where the stack pointer stood.
    pub low: VirtAddr,
    words: Vec<u64>,
}

impl LiveWords {
    /// The words of a task's stack from `low` to its end.
    ///
    /// # Errors
    /// Where the stack lies is not known, or `low` is not on it. Of a stack that is missing in part the words before the
    /// hole are there.
    pub fn from(kernel: &Kernel, task: &Task, low: VirtAddr) -> Field<Self> {
        let stack = kernel.task_stack(task.stack.clone()?)?;
        if !stack.contains(low) {
            let what = format_args!("the stack pointer {low} lies outside of the stack");
            return Err(Lacks::implausible(what));
        }
        let low = VirtAddr(low.0 & !7);
        let mut bytes = vec![0; stack.high.since(low) as usize];
        let (count, missing) = kernel.memory().read(low, &mut bytes);
        if let (0, Some(missing)) = (count, missing) {
            return Err(missing.into());
        }
        bytes.truncate(count);
        let words = bytes.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0)).collect();
        Ok(Self { low, words })
    }

    /// The words of a task that does not run.
    ///
    /// # Errors
    /// As [`LiveWords::from`].
    pub fn of_sleeping(kernel: &Kernel, task: &Task) -> Field<Self> {
        Self::from(kernel, task, task.sp.clone()?)
    }

    /// Each word and where it lies.
    pub fn iter(&self) -> impl Iterator<Item = (VirtAddr, VirtAddr)> + '_ {
        self.words.iter().enumerate().map(|(index, word)| (self.low.add(index as u64 * 8), VirtAddr(*word)))
    }

    /// Whether an address lies among the words.
    #[must_use]
    pub fn contains(&self, at: VirtAddr) -> bool {
        at >= self.low && at.since(self.low) < self.words.len() as u64 * 8
    }

    /// Where the word first stands.
    #[must_use]
    pub fn position(&self, word: VirtAddr) -> Option<VirtAddr> {
        self.iter().find(|(_, found)| *found == word).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_the_compiler_added() {
        assert_eq!(plain_name("__mutex_lock.constprop.0"), "__mutex_lock");
        assert_eq!(plain_name("schedule"), "schedule");
    }

    #[test]
    fn words_are_found_where_they_stand() {
        let words = LiveWords { low: VirtAddr(0x1000), words: vec![7, 9, 7] };
        assert_eq!(words.position(VirtAddr(9)), Some(VirtAddr(0x1008)));
        assert_eq!(words.position(VirtAddr(8)), None);
        assert!(words.contains(VirtAddr(0x1017)) && !words.contains(VirtAddr(0x1018)));
        assert!(!words.contains(VirtAddr(0xfff)));
    }
}
