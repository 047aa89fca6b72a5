//! `locks` as text.

use std::fmt;

use kdive_linux::locking::{Cycle, Holder, Lock, LockKind, Wait};
use kdive_linux::tasks::State;

use super::Summary;
use crate::render::{Age, Known, UNKNOWN};
use crate::sink::Render;

impl Render for Summary {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        if self.waiters == 0 {
            return writeln!(out, "no task waits for a lock");
        }
        let tasks = if self.waiters == 1 { "task waits" } else { "tasks wait" };
        let locks = if self.locks == 1 { "lock" } else { "locks" };
        writeln!(out, "{} {tasks} for {} {locks}", self.waiters, self.locks)?;
        self.deadlocks.iter().try_for_each(|cycle| writeln!(out, "{}", Deadlock(cycle)))
    }
}

/// `DEADLOCK: 206 abba_one -> 207 abba_two -> 206 abba_one`
pub(crate) struct Deadlock<'c>(pub(crate) &'c Cycle);

impl fmt::Display for Deadlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.sure { "DEADLOCK: " } else { "LIKELY DEADLOCK: " })?;
        for task in &self.0.tasks {
            write!(f, "{task} -> ")?;
        }
        match self.0.tasks.first() {
            Some(first) => write!(f, "{first}"),
            None => f.write_str(UNKNOWN),
        }
    }
}

/// The kind of a lock, its address and its name.
pub(crate) struct Titled<'l> {
    pub(crate) kind: LockKind,
    pub(crate) lock: Option<kdive_base::VirtAddr>,
    pub(crate) name: Option<&'l str>,
}

impl fmt::Display for Titled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LockKind::Rcu => f.write_str("grace period of")?,
            kind => f.write_str(kind.name())?,
        }
        if let Some(lock) = self.lock {
            write!(f, " {lock}")?;
        }
        match self.name {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

impl Render for Lock {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "\n{}", Titled { kind: self.kind, lock: self.lock, name: self.name.as_deref() })?;
        let word = self.waiters.iter().find_map(|wait| wait.word);
        if let Some(tail) = word.and_then(|word| word.tail) {
            write!(out, "  (last in its queue: CPU {tail})")?;
        }
        if let Some(bit) = self.waiters.iter().find_map(|wait| wait.bit) {
            write!(out, "  (bit {bit})")?;
        }
        out.write_char('\n')?;
        if let Some(readers) = self.readers {
            writeln!(out, "  held to read, {readers} times")?;
        }
        for holder in &self.holders {
            writeln!(out, "  {}", Held(holder))?;
        }
        if self.holders.is_empty() && self.kind.has_holder() {
            writeln!(out, "  its holder is not known")?;
        }
        waiters(&self.waiters, out)
    }
}

/// `held by 207 abba_two (the lock's owner)`
struct Held<'h>(&'h Holder);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { task, evidence, sure } = self.0;
        f.write_str(if *sure { "held by " } else { "perhaps held by " })?;
        write!(f, "{task} (")?;
        for (index, evidence) in evidence.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", evidence.words())?;
        }
        f.write_str(")")
    }
}

fn waiters(waiters: &[Wait], out: &mut dyn fmt::Write) -> fmt::Result {
    let modes = waiters.iter().any(|wait| wait.mode.is_some());
    let mode = if modes { "MODE   " } else { "" };
    writeln!(out, "      PID  TASK              ST  CPU      AGE  {mode}COMMAND           WANTED BY")?;
    for wait in waiters {
        let mode = match (modes, wait.mode) {
            (true, mode) => format!("{:<7}", mode.map_or("", kdive_linux::locking::Mode::name)),
            (false, _) => String::new(),
        };
        let (pid, cpu, age) = (Known(wait.task.pid), Known(wait.cpu), Known(wait.age_ns.map(Age)));
        let state = wait.state.map_or(UNKNOWN, State::letters);
        let command = wait.task.command.as_deref().unwrap_or(UNKNOWN);
        let function = wait.function.as_deref().unwrap_or(UNKNOWN);
        write!(
            out,
            "  {pid:>7}  {}  {state:<2}  {cpu:>3}  {age:>7}  {mode}{command:<16}  {function}",
            wait.task.task
        )?;
        match &wait.operation {
            Some(operation) => writeln!(out, ", {operation}")?,
            None => out.write_char('\n')?,
        }
    }
    Ok(())
}
