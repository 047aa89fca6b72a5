//! The report: what `kdive analyze` says, as records.

use kdive_base::VirtAddr;
use kdive_evidence::TraceFrame;
use serde::Serialize;

use crate::case::{CaseGap, System, Trigger};
use crate::class::Class;
use crate::finding::{Confidence, Finding};

/// Version of the JSON document.
pub const REPORT_VERSION: u32 = 1;

/// The whole report. `docs/analyze.schema.json` describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The answer. `None` when there is nothing wrong to be seen, or nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What ended the kernel, apart from the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// The machine and its kernel.
    pub system: System,
    /// What happened: the splat that the verdict explains, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub happened: Option<Happened>,
    /// Who may be to blame, the likeliest first.
    pub suspects: Vec<Suspect>,
    /// All findings, the surest first; the verdict is the first of them.
    pub findings: Vec<Finding>,
    /// Known issues that match, the best match first.
    pub known_issues: Vec<KnownIssueMatch>,
    /// Who waits for whom, where anything is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_graph: Option<WaitGraph>,
    /// Where memory went, where memory is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryPicture>,
    /// For grouping many crashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// What is missing and would decide it, and how to have it next time.
    pub gaps: Vec<CaseGap>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The class of failure.
    pub class: Class,
    /// One line as kernel people search for it.
    pub title: String,
    /// One sentence: what happened, and where.
    pub sentence: String,
    /// The guilty function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The module that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// How sure.
    pub confidence: Confidence,
    /// What ended the kernel is something else than the cause.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub trigger_differs: bool,
    /// What to do now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// The panic line or the first line of the splat.
    pub message: String,
    /// The fault in words: `write of 8 bytes at 0xdead000000000108 (LIST_POISON1 + 8)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The instruction that failed, in assembly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Where the bad value came from: which register, loaded by which instruction from which member of a structure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<String>,
    /// Who ran: `PID 123 "insmod" on CPU 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The backtrace, folded to what matters.
    pub frames: Vec<ReportFrame>,
}

/// A frame of the folded backtrace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportFrame {
    /// The frame.
    #[serde(flatten)]
    pub frame: TraceFrame,
    /// The guilty one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guilty: bool,
    /// Frames left out between this one and the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub folded: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Somebody who may be to blame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// What it is.
    pub kind: SuspectKind,
    /// Its name.
    pub name: String,
    /// 0 to 100; the scores of all suspects need not add up.
    pub score: u8,
    /// Why it is suspected.
    pub why: Vec<String>,
    /// Why it is not suspected more: for all but the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why_not: Vec<String>,
}

/// Kinds of suspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspectKind {
    /// A function of the kernel or of a module.
    Function,
    /// A module as a whole.
    Module,
    /// A task.
    Task,
    /// Memory, processor, bus or device.
    Hardware,
    /// The hypervisor.
    Hypervisor,
    /// A person who asked for it.
    Administrator,
}

/// A known issue that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KnownIssueMatch {
    /// Its identifier: the name of its file.
    pub id: String,
    /// What it is.
    pub title: String,
    /// Commits, bug reports, advisories.
    pub links: Vec<String>,
    /// Where it is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_in: Option<String>,
    /// Whether this kernel has the fix already; `None` when its version does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_fix: Option<bool>,
    /// What to do until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Which of its conditions match, in words.
    pub why: Vec<String>,
    /// How well it matches, 0 to 100.
    pub score: u8,
}

/// Who waits for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitGraph {
    /// Tasks and processors.
    pub nodes: Vec<WaitNode>,
    /// Waits.
    pub edges: Vec<WaitEdge>,
    /// Circles: indices of [`nodes`](Self::nodes), each waiting for the next, the last for the first.
    pub cycles: Vec<Vec<usize>>,
    /// Tasks that are not shown, because too many wait alike.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

/// A task or processor in the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WaitNode {
    /// `dead_a (PID 123)`.
    pub name: String,
    /// Its `task_struct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<VirtAddr>,
    /// For how long it waits, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitEdge {
    /// Index of who waits.
    pub from: usize,
    /// Index of who holds it; `None` when that is not known or nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// The lock: `mutex rtnl_mutex`.
    pub lock: String,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<VirtAddr>,
    /// The function that wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Whether the holder is proven.
    pub sure: bool,
}

/// Where memory went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPicture {
    /// What it is used for, in bytes, the most first: `("tmpfs", 123)`.
    pub uses: Vec<(String, u64)>,
    /// The slab caches that hold most, in bytes.
    pub caches: Vec<(String, u64)>,
    /// The tasks that hold most, in bytes.
    pub tasks: Vec<(String, u64)>,
    /// Zones and how they stand, one sentence each.
    pub zones: Vec<String>,
    /// Leaks that are suspected, one sentence each.
    pub leaks: Vec<String>,
    /// What changed since an earlier dump of the same host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<MemoryGrowth>,
}

/// How memory changed since an earlier dump. Rows that changed, those that grew most first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryGrowth {
    /// The earlier dump.
    pub before: String,
    /// Seconds between both, where they are of one boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// Why both may not be comparable, in words.
    pub doubts: Vec<String>,
    /// By use.
    pub uses: Vec<Change>,
    /// By slab cache.
    pub caches: Vec<Change>,
    /// By process.
    pub tasks: Vec<Change>,
    /// By zone: what is free in it.
    pub zones: Vec<Change>,
}

/// A change, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Of what.
    pub name: String,
    /// In the earlier dump.
    pub before: u64,
    /// In this one.
    pub after: u64,
}

/// For grouping many crashes: a pair of hashes over names, never over addresses or offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// Version of how it is made. Signatures of different versions are not compared.
    pub version: u32,
    /// Same class, same guilty function, same chain of functions.
    pub exact: String,
    /// Same class and guilty function, stable against offsets, inlining and suffixes of the compiler.
    pub fuzzy: String,
    /// What the exact one is made of, for people.
    pub readable: String,
}
