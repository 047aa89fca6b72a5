//! What tasks and thread groups do about signals, as records.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::signal::{self, Action, FLAGS, Pending, Signals};
use kdive_linux::tasks::Task;
use kdive_target::Field;
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Hex, Known, TaskLine, UNKNOWN, place};
use crate::sink::Render;

/// What a thread group shares.
#[derive(Serialize)]
struct Shared {
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_struct: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nr_threads: Option<i32>,
    actions: Vec<ActionRow>,
    pending: PendingRow,
}

/// What happens on one signal.
#[derive(Serialize)]
struct ActionRow {
    signal: u32,
    #[serde(flatten)]
    action: Option<KnownAction>,
}

/// The action itself.
#[derive(Serialize)]
struct KnownAction {
    sigaction: VirtAddr,
    handler: Handler,
    mask: Hex,
    flags: Hex,
    flag_names: Vec<&'static str>,
}

/// Who handles a signal.
#[derive(Clone, Copy, Serialize)]
enum Handler {
    #[serde(rename = "SIG_DFL")]
    Default,
    #[serde(rename = "SIG_IGN")]
    Ignore,
    #[serde(rename = "SIG_ERR")]
    Error,
    /// A function of the process.
    #[serde(untagged)]
    At(VirtAddr),
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("SIG_DFL"),
            Self::Ignore => f.pad("SIG_IGN"),
            Self::Error => f.pad("SIG_ERR"),
            Self::At(at) => f.pad(&format!("{:x}", at.0)),
        }
    }
}

impl KnownAction {
    fn new(action: &Action) -> Self {
        let handler = match action.handler {
            0 => Handler::Default,
            1 => Handler::Ignore,
            u64::MAX => Handler::Error,
            at => Handler::At(VirtAddr(at)),
        };
        let set = FLAGS.iter().filter(|(bit, _)| action.flags & bit != 0);
        Self {
            sigaction: action.at,
            handler,
            mask: Hex(action.mask),
            flags: Hex(action.flags),
            flag_names: set.map(|(_, name)| *name).collect(),
        }
    }
}

/// What waits.
#[derive(Serialize)]
struct PendingRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<Hex>,
    queue: Vec<WaitingRow>,
}

#[derive(Serialize)]
struct WaitingRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    siginfo: VirtAddr,
}

impl PendingRow {
    fn new(cx: &mut Cx, task: &Task, pending: Field<Pending>) -> Self {
        let none = Self { signal: None, queue: Vec::new() };
        let Some(pending) = cx.known(pending, "pending signals", || place(task)) else { return none };
        if let Some(lacks) = &pending.lacks {
            cx.lacks(lacks, "queued signals", || place(task));
        }
        let mut row = |waiting: &signal::Waiting| {
            let signal = cx.known(waiting.signal.clone(), "queued signal", || waiting.info.to_string());
            let name = signal.and_then(|signal| signal::name(u32::try_from(signal).ok()?));
            WaitingRow { signal, name, siginfo: waiting.info }
        };
        let queue = pending.queue.iter().map(&mut row).collect();
        Self { signal: cx.known(pending.set, "pending signals", || place(task)).map(Hex), queue }
    }

    fn render(&self, title: &str, margin: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:margin$}{title}", "")?;
        let signal = self.signal.map(|Hex(set)| format!("{set:016x}"));
        writeln!(out, "{:margin$}    SIGNAL: {}", "", Known(signal))?;
        if self.queue.is_empty() {
            return writeln!(out, "{:margin$}  SIGQUEUE: (empty)", "");
        }
        writeln!(out, "{:margin$}  SIGQUEUE:  SIG      SIGINFO     ", "")?;
        for waiting in &self.queue {
            // As in crash, in one column for threads of a group too.
            writeln!(out, "{:>16}  {}", Known(waiting.signal), waiting.siginfo)?;
        }
        Ok(())
    }
}

impl Shared {
    fn of(cx: &mut Cx, signals: &Signals<'_>, task: &Task) -> Self {
        let signal_struct = cx.known(task.signal.clone(), "SIGNAL_STRUCT", || place(task));
        let signal_struct = signal_struct.filter(|at| !at.is_null());
        let nr_threads =
            signal_struct.and_then(|at| cx.known(signals.threads(at), "NR_THREADS", || place(task)));
        let actions = cx.known(signals.actions(task), "signal handlers", || place(task)).unwrap_or_default();
        let actions = (1..).zip(actions).map(|(signal, action)| {
            let action = cx.known(action, "SIGACTION", || place(task));
            ActionRow { signal, action: action.as_ref().map(KnownAction::new) }
        });
        let actions = actions.collect();
        let pending = task.signal.clone().map(|at| signals.shared(at));
        Self { signal_struct, nr_threads, actions, pending: PendingRow::new(cx, task, pending) }
    }

    fn render(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "SIGNAL_STRUCT: {}  NR_THREADS: {}",
            Known(self.signal_struct),
            Known(self.nr_threads)
        )?;
        writeln!(out, " SIG    SIGACTION        HANDLER       MASK       FLAGS           ")?;
        for row in &self.actions {
            let number = format!("[{}]", row.signal);
            let Some(action) = &row.action else {
                writeln!(out, "{number:>4} {UNKNOWN:>16}")?;
                continue;
            };
            let (Hex(mask), Hex(flags)) = (action.mask, action.flags);
            write!(out, "{number:>4} {} {:>10} {mask:016x} {flags:x} ", action.sigaction, action.handler)?;
            match action.flag_names.is_empty() {
                true => writeln!(out)?,
                false => writeln!(out, "({})", action.flag_names.join("|"))?,
            }
        }
        Ok(())
    }
}

/// What a task has for itself.
#[derive(Serialize)]
struct Own {
    #[serde(flatten)]
    task: TaskLine,
    /// Whether a signal waits that it does not block.
    #[serde(skip_serializing_if = "Option::is_none")]
    sigpending: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<Hex>,
    private_pending: PendingRow,
}

impl Own {
    fn of(cx: &mut Cx, signals: &Signals<'_>, task: &Task, shared: Option<Hex>) -> Self {
        let blocked = cx.known(signals.blocked(task.at), "BLOCKED", || place(task)).map(Hex);
        let private_pending = PendingRow::new(cx, task, Ok(signals.private(task.at)));
        let waits = private_pending.signal.zip(shared).map(|(Hex(own), Hex(shared))| own | shared);
        let sigpending = waits.zip(blocked).map(|(waits, Hex(blocked))| waits & !blocked != 0);
        Self { task: TaskLine::new(cx, task), sigpending, blocked, private_pending }
    }

    fn render(&self, margin: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let pending = self.sigpending.map(|pending| if pending { "yes" } else { "no" });
        let blocked = self.blocked.map(|Hex(set)| format!("{set:016x}"));
        writeln!(out, "{:margin$}SIGPENDING: {}", "", Known(pending))?;
        writeln!(out, "{:margin$}   BLOCKED: {}", "", Known(blocked))?;
        self.private_pending.render("PRIVATE_PENDING", margin, out)
    }
}

/// One task, with what its group shares.
#[derive(Serialize)]
pub(super) struct Group {
    #[serde(flatten)]
    own: Own,
    shared: Shared,
}

impl Group {
    pub(super) fn of_task(cx: &mut Cx, signals: &Signals<'_>, task: &Task) -> Self {
        let shared = Shared::of(cx, signals, task);
        Self { own: Own::of(cx, signals, task, shared.pending.signal), shared }
    }
}

impl Render for Group {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.own.task)?;
        self.shared.render(out)?;
        self.own.render(0, out)?;
        self.shared.pending.render("SHARED_PENDING", 0, out)
    }
}

/// A thread group with each of its threads.
#[derive(Serialize)]
pub(super) struct Threads {
    #[serde(flatten)]
    leader: TaskLine,
    shared: Shared,
    threads: Vec<Own>,
}

impl Threads {
    pub(super) fn of(cx: &mut Cx, signals: &Signals<'_>, leader: &Task, group: &[&Task]) -> Self {
        let shared = Shared::of(cx, signals, leader);
        let threads = group.iter().map(|task| Own::of(cx, signals, task, shared.pending.signal)).collect();
        Self { leader: TaskLine::new(cx, leader), shared, threads }
    }
}

impl Render for Threads {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.leader)?;
        self.shared.render(out)?;
        self.shared.pending.render("SHARED_PENDING", 0, out)?;
        for thread in &self.threads {
            writeln!(out)?;
            writeln!(out, "  {}", thread.task)?;
            thread.render(2, out)?;
        }
        Ok(())
    }
}
