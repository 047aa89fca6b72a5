//! The names of tasks that tracing notes (`savedcmd`, kernel/trace/trace_sched_switch.c).

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_base::bytes::until_nul;
use kdive_target::{Field, Kernel, Load, MemberAddress};
use rustc_hash::FxHashMap;

use crate::tasks::Tasks;

#[derive(Load)]
#[load(type = "saved_cmdlines_buffer")]
struct RawSaved {
    map_pid_to_cmdline: Field<MemberAddress>,
    map_cmdline_to_pid: Field<VirtAddr>,
    cmdline_num: Field<u32>,
    saved_cmdlines: Field<MemberAddress>,
}

/// `PID_MAX_DEFAULT` less one: the map is by the low bits of a pid.
const PID_BITS: u64 = 0x7fff;
/// `TASK_COMM_LEN`.
const COMM_BYTES: u64 = 16;

/// Names of tasks by number.
pub(super) struct Commands<'k> {
    kernel: &'k Kernel,
    saved: Field<Saved>,
    /// Asked only for numbers without a note.
    tasks: Option<Arc<Tasks>>,
    known: FxHashMap<i32, Option<String>>,
}

struct Saved {
    map: VirtAddr,
    pids: VirtAddr,
    count: u32,
    names: VirtAddr,
}

impl<'k> Commands<'k> {
    pub(super) fn find(kernel: &'k Kernel) -> Self {
        Self { kernel, saved: saved(kernel), tasks: None, known: FxHashMap::default() }
    }

    /// The name of a task; of a number without a note, the name of the task that has it now.
    pub(super) fn of(&mut self, pid: i32) -> Option<String> {
        if pid == 0 {
            return Some("<idle>".into());
        }
        if let Some(known) = self.known.get(&pid) {
            return known.clone();
        }
        let noted = self.saved.as_ref().ok().and_then(|saved| noted(self.kernel, saved, pid));
        let name = noted.or_else(|| {
            let tasks = self.tasks.get_or_insert_with(|| Tasks::find(self.kernel));
            tasks.with_pid(pid).next().map(|task| task.name().to_owned())
        });
        self.known.insert(pid, name.clone());
        name
    }
}

fn saved(kernel: &Kernel) -> Field<Saved> {
    let raw: RawSaved = kernel.load(kernel.memory().pointer(kernel.symbol("savedcmd")?)?);
    let MemberAddress(map) = raw.map_pid_to_cmdline?;
    let MemberAddress(mut names) = raw.saved_cmdlines?;
    // A pointer before 6.8, and where fixes have not come.
    if kernel.member("saved_cmdlines_buffer", &["saved_cmdlines"])?.bytes == 8 {
        names = kernel.memory().pointer(names)?;
    }
    Ok(Saved { map, pids: raw.map_cmdline_to_pid?, count: raw.cmdline_num?, names })
}

fn noted(kernel: &Kernel, saved: &Saved, pid: i32) -> Option<String> {
    let memory = kernel.memory();
    let place = u64::from(pid.cast_unsigned()) & PID_BITS;
    let index = memory.u32(saved.map.add(place * 4)).ok().filter(|index| *index < saved.count)?;
    let owner = memory.u32(saved.pids.add(u64::from(index) * 4)).ok()?;
    let name = memory.bytes(saved.names.add(u64::from(index) * COMM_BYTES), COMM_BYTES as usize).ok();
    name.filter(|_| owner == pid.cast_unsigned()).map(|name| kdive_base::printable(until_nul(&name)))
}
