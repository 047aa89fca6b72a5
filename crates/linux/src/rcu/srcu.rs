//! Sleepable RCU (kernel/rcu/srcutree.c): each `struct srcu_struct` has grace periods of its own. It counts its readers, and
//! does not know who they are.

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};
use serde::Serialize;

use super::{SEQ_STATE, SEQ_STATE_BITS};
use crate::tasks::{LiveWords, Task};
use crate::time::{jiffies, jiffies_to_ns};

#[derive(Load)]
#[load(type = "srcu_struct")]
struct Raw {
    sda: Field<VirtAddr>,
    /// Its own until 6.3; since then in what it points at.
    srcu_gp_seq: Field<u64>,
    srcu_gp_start: Field<u64>,
    srcu_sup: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "srcu_usage")]
struct Usage {
    srcu_gp_seq: Field<u64>,
    srcu_gp_start: Field<u64>,
}

#[derive(Load)]
#[load(type = "srcu_data")]
struct Data {
    ssp: Field<VirtAddr>,
    srcu_lock_count: Field<MemberAddress>,
    srcu_unlock_count: Field<MemberAddress>,
    /// Both counts of each index, since 6.15.
    srcu_ctrs: Field<MemberAddress>,
}

/// What is known of one `struct srcu_struct`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Srcu {
    /// Its address.
    pub srcu: VirtAddr,
    /// The variable that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number of its grace period, or of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// Whether one is under way.
    pub in_progress: bool,
    /// How long ago that began, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
    /// Readers inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<i64>,
}

/// Places of the two counts of one index, and of the next index.
const COUNT: u64 = 8;
const INDEXES: u64 = 2;

impl Srcu {
    /// What lies at an address, if that is one: its per-CPU data say so.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub fn at(kernel: &Kernel, at: VirtAddr) -> Field<Self> {
        let raw: Raw = kernel.load(at);
        let cpus = kernel.cpus()?;
        let (data, loader) = (raw.sda.clone()?, kernel.loader::<Data>());
        let of_cpu = |cpu| Ok::<_, Lacks>(loader.load(cpus.per_cpu(data, cpu)?));
        let first = cpus.possible.iter().next().unwrap_or(0);
        if of_cpu(first)?.ssp? != at {
            return Err(Lacks::implausible("no srcu_struct: its per-CPU data belong to another"));
        }
        let (sequence, start) = match &raw.srcu_gp_seq {
            Ok(sequence) => (Ok(*sequence), raw.srcu_gp_start),
            Err(_) => {
                let usage: Usage = kernel.load(raw.srcu_sup?);
                (usage.srcu_gp_seq, usage.srcu_gp_start)
            }
        };
        let in_progress = sequence.as_ref().is_ok_and(|sequence| sequence & SEQ_STATE != 0);
        let age = || {
            let ticks = jiffies(kernel).ok()?.wrapping_sub(start.ok()?);
            jiffies_to_ns(kernel, ticks).ok().filter(|_| in_progress && ticks >> 63 == 0)
        };
        let readers: Field<i64> = cpus
            .possible
            .iter()
            .try_fold(0_i64, |sum, cpu| Ok(sum.wrapping_add(inside(kernel, &of_cpu(cpu)?)?)));
        Ok(Self {
            srcu: at,
            name: kernel
                .place(at)
                .filter(|place| place.offset == 0)
                .map(|place| place.symbol.name.to_owned()),
            number: sequence.ok().map(|sequence| sequence as i64 >> SEQ_STATE_BITS),
            in_progress,
            age_ns: age(),
            readers: readers.ok(),
        })
    }

    /// The one whose grace period a task waits for: its address is on the task's stack.
    ///
    /// # Errors
    /// The stack cannot be read, or holds none.
    pub fn awaited_by(kernel: &Kernel, task: &Task) -> Field<Self> {
        let words = LiveWords::of_sleeping(kernel, task)?;
        let mut seen = rustc_hash::FxHashSet::default();
        let candidates = words.iter().map(|(_, word)| word).filter(|word| word.0 >> 47 == (1 << 17) - 1);
        let mut found = candidates.filter(|word| !words.contains(*word) && seen.insert(*word));
        found
            .find_map(|word| Self::at(kernel, word).ok())
            .ok_or_else(|| Lacks::unavailable("no srcu_struct is on the task's stack"))
    }
}

/// Readers that one processor counts: those that left on another are below zero.
fn inside(kernel: &Kernel, data: &Data) -> Field<i64> {
    let count = |at: VirtAddr| Ok::<_, Lacks>(kernel.memory().pointer(at)?.0.cast_signed());
    let mut sum = 0_i64;
    for index in 0..INDEXES {
        let (locks, unlocks) = match (&data.srcu_ctrs, &data.srcu_lock_count, &data.srcu_unlock_count) {
            (Ok(MemberAddress(pairs)), ..) => {
                let pair = pairs.add(index.wrapping_mul(2 * COUNT));
                (pair, pair.add(COUNT))
            }
            (_, Ok(MemberAddress(locks)), Ok(MemberAddress(unlocks))) => {
                (locks.add(index.wrapping_mul(COUNT)), unlocks.add(index.wrapping_mul(COUNT)))
            }
            (Err(lacks), ..) => return Err(lacks.clone()),
        };
        sum = sum.wrapping_add(count(locks)?).wrapping_sub(count(unlocks)?);
    }
    Ok(sum)
}
