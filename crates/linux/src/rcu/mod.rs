//! Read-copy-update: the grace period, and who has not let it pass (kernel/rcu/tree.c).
//!
//! A grace period ends when every processor has passed a quiescent state and every task that was preempted in a reader has
//! left it. Leaves of a tree (`struct rcu_node`) keep a bit for each processor and a list of such tasks.

mod srcu;
mod tasks;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use serde::Serialize;

pub use self::srcu::Srcu;
pub use self::tasks::RcuTasks;
use crate::tasks::{Task, TaskName, Tasks, plain_name};
use crate::time::{jiffies, jiffies_to_ns};

/// Who holds out a grace period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holdout {
    /// The processor that passed no quiescent state; `None` for a task that was preempted in a reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The task: the one that the processor ran, or the reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
    /// Whether it holds out an expedited grace period.
    pub expedited: bool,
}

/// A grace period, or the time between two.
#[derive(Clone, Debug, Serialize)]
pub struct GracePeriod {
    /// The number of the current grace period, or of the last; the kernel begins to count at -300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Whether one is under way.
    pub in_progress: bool,
    /// What its thread does (`RCU_GP_WAIT_FQS`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How long ago it began, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
    /// How long ago its thread did anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ns: Option<u64>,
    /// The thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<TaskName>,
    /// After how many seconds the kernel calls it a stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout_s: Option<u32>,
    /// Whether it has lasted longer than that.
    pub stalled: bool,
    /// Whether an expedited grace period is under way.
    pub expedited: bool,
    /// Who holds them out.
    pub holdouts: Vec<Holdout>,
}

/// The callbacks that wait on one processor for a grace period.
#[derive(Clone, Debug, Serialize)]
pub struct Callbacks {
    /// The processor.
    pub cpu: u32,
    /// How many there are, by the kernel's count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Grace periods that the processor has not noticed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// Timer ticks that it took during this grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticks: Option<u64>,
    /// The functions that are to be called, and how often: most often first. `kfree` stands for memory that is only freed.
    pub functions: Vec<(String, u64)>,
}

/// What is known of RCU.
#[derive(Debug)]
pub struct Rcu {
    /// The grace period.
    pub period: GracePeriod,
    /// Callbacks by processor.
    pub callbacks: Vec<Callbacks>,
    /// What could not be told.
    pub lacks: Vec<(&'static str, Lacks)>,
}

#[derive(Load)]
#[load(type = "rcu_state")]
struct State {
    node: Field<MemberAddress>,
    gp_seq: Field<u64>,
    gp_kthread: Field<VirtAddr>,
    gp_state: Field<u16>,
    gp_start: Field<u64>,
    gp_activity: Field<u64>,
    expedited_sequence: Field<u64>,
}

#[derive(Load)]
#[load(type = "rcu_node")]
struct Node {
    qsmask: Field<u64>,
    expmask: Field<u64>,
    grplo: Field<i32>,
    grphi: Field<i32>,
    blkd_tasks: Field<MemberAddress>,
    gp_tasks: Field<VirtAddr>,
    exp_tasks: Field<VirtAddr>,
    level: Field<u8>,
}

#[derive(Load)]
#[load(type = "rcu_data")]
struct Data {
    gp_seq: Field<u64>,
    ticks_this_gp: Field<u64>,
    #[load(any("cblist.head"))]
    head: Field<VirtAddr>,
    #[load(any("cblist.len"))]
    len: Field<u64>,
}

#[derive(Load)]
#[load(type = "callback_head", type = "rcu_head")]
struct Head {
    func: Field<u64>,
}

/// The two low bits of a sequence number say whether a grace period is under way (kernel/rcu/rcu.h).
const SEQ_STATE_BITS: u32 = 2;
const SEQ_STATE: u64 = 3;
/// No machine's tree has more nodes.
const MOST_NODES: u64 = 1 << 12;
/// Longest list of callbacks and of readers that is walked.
const MOST: usize = 1 << 20;
/// Callbacks that are no function but the offset of the head in what is freed (`__is_kvfree_rcu_offset`).
const KFREE_OFFSETS: u64 = 4096;

impl Rcu {
    /// What the kernel's RCU was at.
    ///
    /// # Errors
    /// It has no `rcu_state` (a kernel for one processor), or its layout is not known.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let at = kernel.any_symbol(&["rcu_state", "rcu_preempt_state", "rcu_sched_state"])?;
        let state: State = kernel.load(at);
        let tasks = Tasks::find(kernel);
        let mut lacks = Vec::new();
        let mut period = period(kernel, &tasks, &state, &mut lacks);
        match holdouts(kernel, &tasks, &state) {
            Ok(holdouts) => period.holdouts = holdouts,
            Err(why) => lacks.push(("who holds out the grace period", why)),
        }
        let callbacks = tasks.processors().iter().filter_map(|of| match callbacks(kernel, of.cpu, &state) {
            Ok(callbacks) => Some(callbacks),
            Err(why) => {
                lacks.push(("callbacks of a processor", why));
                None
            }
        });
        let callbacks = callbacks.collect();
        Ok(Self { period, callbacks, lacks })
    }
}

fn period(
    kernel: &Kernel,
    tasks: &Tasks,
    state: &State,
    lacks: &mut Vec<(&'static str, Lacks)>,
) -> GracePeriod {
    let now = jiffies(kernel);
    let mut ago = |then: &Field<u64>| {
        let ticks = now.clone().and_then(|now| Ok(now.wrapping_sub(then.clone()?)));
        // What lies in the future has never been set.
        let ticks = ticks.map(|ticks| if ticks >> 63 == 1 { 0 } else { ticks });
        match ticks.and_then(|ticks| jiffies_to_ns(kernel, ticks)) {
            Ok(age) => Some(age),
            Err(why) => {
                lacks.push(("age of the grace period", why));
                None
            }
        }
    };
    let in_progress = state.gp_seq.as_ref().is_ok_and(|sequence| sequence & SEQ_STATE != 0);
    let (age_ns, idle_ns) = (ago(&state.gp_start), ago(&state.gp_activity));
    let timeout = kernel.symbol("rcu_cpu_stall_timeout").and_then(|at| Ok(kernel.memory().u32(at)?)).ok();
    let limit = timeout.map(|seconds| u64::from(seconds).saturating_mul(1_000_000_000));
    let thread = state.gp_kthread.as_ref().ok().and_then(|at| TaskName::at(tasks, *at));
    GracePeriod {
        number: state.gp_seq.as_ref().ok().map(|sequence| *sequence as i64 >> SEQ_STATE_BITS),
        in_progress,
        state: state.gp_state.as_ref().ok().and_then(|state| state_name(kernel, *state)),
        age_ns: age_ns.filter(|_| in_progress),
        idle_ns,
        thread,
        stall_timeout_s: timeout,
        stalled: in_progress && age_ns.zip(limit).is_some_and(|(age, limit)| age >= limit),
        expedited: state.expedited_sequence.as_ref().is_ok_and(|sequence| sequence & SEQ_STATE != 0),
        holdouts: Vec::new(),
    }
}

/// `gp_state_names` (kernel/rcu/tree.h), the kernel's own words.
fn state_name(kernel: &Kernel, state: u16) -> Option<String> {
    const STATES: u16 = 9;
    let table = kernel.symbol("gp_state_names").ok().filter(|_| state < STATES)?;
    let at = kernel.memory().pointer(table.add(u64::from(state) * 8)).ok()?;
    let name = kernel.memory().c_string(at, 32).ok()?;
    Some(kdive_base::printable(&name))
}

fn holdouts(kernel: &Kernel, tasks: &Tasks, state: &State) -> Field<Vec<Holdout>> {
    let MemberAddress(first) = state.node.clone()?;
    let bytes = kernel.size_of("rcu_node")?;
    let count = kernel.symbol("rcu_num_nodes").and_then(|at| Ok(kernel.memory().u32(at)?))?;
    let loader = kernel.loader::<Node>();
    let nodes =
        (0..u64::from(count).min(MOST_NODES)).map(|index| loader.load(first.add(index.wrapping_mul(bytes))));
    let nodes: Vec<Node> = nodes.collect();
    let leaves = nodes.iter().filter_map(|node| node.level.clone().ok()).max().unwrap_or(0);
    let link = kernel.offset_of("task_struct", "rcu_node_entry");
    let mut found = Vec::new();
    for node in nodes.iter().filter(|node| node.level == Ok(leaves)) {
        let lowest = node.grplo.clone()?;
        let highest = node.grphi.clone()?;
        for (mask, expedited) in [(&node.qsmask, false), (&node.expmask, true)] {
            let mask = mask.clone()?;
            let bits = (0..64).filter(|bit| mask >> bit & 1 == 1);
            let cpus = bits.map(|bit| lowest.saturating_add(bit)).filter(|cpu| *cpu <= highest);
            found.extend(cpus.filter_map(|cpu| u32::try_from(cpu).ok()).map(|cpu| Holdout {
                cpu: Some(cpu),
                task: tasks.on_cpu(cpu).map(TaskName::of),
                expedited,
            }));
        }
        let Ok(link) = link else { continue };
        for (first, expedited) in [(&node.gp_tasks, false), (&node.exp_tasks, true)] {
            let readers = readers(kernel, tasks, node, first, link);
            found.extend(readers.map(|task| Holdout {
                cpu: None,
                task: Some(TaskName::of(task)),
                expedited,
            }));
        }
    }
    Ok(found)
}

/// The tasks from one of the list on: those before it came later, and hold out the next grace period only.
fn readers<'t>(
    kernel: &Kernel,
    tasks: &'t Tasks,
    node: &Node,
    first: &Field<VirtAddr>,
    link: u64,
) -> impl Iterator<Item = &'t Task> + use<'t> {
    let first = first.as_ref().ok().copied().filter(|at| !at.is_null());
    let end = node.blkd_tasks.as_ref().ok().map(|MemberAddress(head)| *head);
    let links: Vec<VirtAddr> = match first.zip(end) {
        Some((first, end)) => {
            walk::chain(kernel.memory(), first, 0).ending_at(end).take(MOST).map_while(Result::ok).collect()
        }
        None => Vec::new(),
    };
    links.into_iter().filter_map(move |at| tasks.at(at.sub(link)))
}

fn callbacks(kernel: &Kernel, cpu: u32, state: &State) -> Field<Callbacks> {
    let data: Data = kernel.load(kernel.per_cpu("rcu_data", cpu)?);
    let heads = kernel.loader::<Head>();
    let mut functions: rustc_hash::FxHashMap<u64, u64> = rustc_hash::FxHashMap::default();
    for at in walk::null_terminated(kernel.memory(), data.head.clone()?, 0).take(MOST) {
        // What comes behind a break is lost; what came before it counts.
        let Ok(at) = at else { break };
        let function = heads.load(at).func.unwrap_or(0);
        let count = functions.entry(function).or_insert(0);
        *count = count.saturating_add(1);
    }
    let name = |at: u64| match kernel.place(VirtAddr(at)) {
        _ if at < KFREE_OFFSETS => "kfree".to_owned(),
        Some(place) => plain_name(place.symbol.name).to_owned(),
        None => VirtAddr(at).to_string(),
    };
    let mut functions: Vec<(String, u64)> =
        functions.into_iter().map(|(at, count)| (name(at), count)).collect();
    functions.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let noticed = data.gp_seq.ok().zip(state.gp_seq.clone().ok());
    Ok(Callbacks {
        cpu,
        count: data.len.ok(),
        behind: noticed.map(|(own, latest)| (latest >> SEQ_STATE_BITS).saturating_sub(own >> SEQ_STATE_BITS)),
        ticks: data.ticks_this_gp.ok(),
        functions,
    })
}
