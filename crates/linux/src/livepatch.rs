//! Live patches: functions that were replaced in the running kernel, and tasks that still use the old ones
//! (kernel/livepatch).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Text, walk};
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::tasks::{State, TaskName, TaskStack, Tasks, plain_name};

/// A function that a patch replaces.
#[derive(Clone, Debug, Serialize)]
pub struct PatchedFunction {
    /// Its `struct klp_func`.
    pub klp_func: VirtAddr,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the old code is; `None` while its module is not loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<VirtAddr>,
    /// Where the new code is; `None` for one that goes back to the old code (`nop`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<VirtAddr>,
    /// The new code by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_name: Option<String>,
    /// Whether calls of the old code are led away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patched: Option<bool>,
    /// Whether that depends on the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_transition: Option<bool>,
}

/// What a patch changes: the kernel itself or a module.
#[derive(Clone, Debug, Serialize)]
pub struct PatchedObject {
    /// The module's name; `None` for the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Whether it is patched; it is not while that module is not loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patched: Option<bool>,
    /// The functions.
    pub functions: Vec<PatchedFunction>,
}

/// A task that holds up a patch.
#[derive(Clone, Debug, Serialize)]
pub struct PatchHoldout {
    /// The task.
    pub task: TaskName,
    /// Its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The replaced function that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
}

/// A live patch.
#[derive(Clone, Debug, Serialize)]
pub struct LivePatch {
    /// Its `struct klp_patch`.
    pub klp_patch: VirtAddr,
    /// The module that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is on, or on its way to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it replaces all patches before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<bool>,
    /// Whether it was forced on tasks that held it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<bool>,
    /// Whether tasks are still being moved to the new code, or back.
    pub in_transition: bool,
    /// What it changes.
    pub objects: Vec<PatchedObject>,
    /// Who holds up the move.
    pub holdouts: Vec<PatchHoldout>,
}

/// All live patches.
#[derive(Debug)]
pub struct LivePatches {
    /// In the order in which they were loaded.
    pub patches: Vec<LivePatch>,
    /// What could not be told.
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "klp_patch")]
struct RawPatch {
    #[load(any("mod"))]
    module: Field<VirtAddr>,
    replace: Field<bool>,
    enabled: Field<bool>,
    forced: Field<bool>,
    obj_list: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "klp_object")]
struct RawObject {
    name: Field<VirtAddr>,
    func_list: Field<MemberAddress>,
    patched: Field<bool>,
}

#[derive(Load)]
#[load(type = "klp_func")]
struct RawFunction {
    #[load(address)]
    at: VirtAddr,
    old_name: Field<VirtAddr>,
    new_func: Field<VirtAddr>,
    old_func: Field<VirtAddr>,
    old_size: Field<u64>,
    nop: Field<bool>,
    patched: Field<bool>,
    transition: Field<bool>,
}

#[derive(Load)]
#[load(type = "module")]
struct RawModule {
    name: Field<Text>,
}

#[derive(Load)]
#[load(type = "task_struct")]
struct RawTask {
    patch_state: Field<i32>,
}

/// Most patches, objects of a patch and functions of an object.
const MOST: usize = 1 << 16;
const LONGEST_NAME: usize = 512;

impl LivePatches {
    /// The live patches of a kernel.
    ///
    /// # Errors
    /// It was built without them, or its types are lacking.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let head = kernel.symbol("klp_patches")?;
        let link = kernel.offset_of("klp_patch", "list")?;
        let moving = kernel.symbol("klp_transition_patch").and_then(|at| Ok(kernel.memory().pointer(at)?));
        let mut found = Self { patches: Vec::new(), lacks: Vec::new() };
        for item in walk::list(kernel.memory(), head).take(MOST) {
            let at = match item {
                Ok(at) => at.sub(link),
                Err(why) => {
                    found.lacks.push(why.into());
                    continue;
                }
            };
            let patch = found.patch(kernel, at, moving.as_ref().is_ok_and(|moving| *moving == at));
            found.patches.push(patch);
        }
        found.lacks.extend(moving.err());
        Ok(found)
    }

    fn patch(&mut self, kernel: &Kernel, at: VirtAddr, in_transition: bool) -> LivePatch {
        let raw: RawPatch = kernel.load(at);
        let module = raw.module.and_then(|at| kernel.load::<RawModule>(at).name);
        let mut old = Vec::new();
        let objects = raw.obj_list.and_then(|MemberAddress(head)| objects(kernel, head, &mut old));
        let objects = objects.unwrap_or_else(|why| {
            self.lacks.push(why);
            Vec::new()
        });
        let holdouts = match in_transition.then(|| holdouts(kernel, &old)) {
            Some(Ok(holdouts)) => holdouts,
            Some(Err(why)) => {
                self.lacks.push(why);
                Vec::new()
            }
            None => Vec::new(),
        };
        LivePatch {
            klp_patch: at,
            name: module.ok().map(|Text(name)| name),
            enabled: raw.enabled.ok(),
            replaces: raw.replace.ok(),
            forced: raw.forced.ok(),
            in_transition,
            objects,
            holdouts,
        }
    }
}

fn text(kernel: &Kernel, at: VirtAddr) -> Field<String> {
    Ok(kdive_base::printable(&kernel.memory().c_string(at, LONGEST_NAME)?))
}

/// A range of replaced code.
struct OldCode {
    start: VirtAddr,
    bytes: u64,
    name: String,
}

fn objects(kernel: &Kernel, head: VirtAddr, old: &mut Vec<OldCode>) -> Field<Vec<PatchedObject>> {
    let memory = kernel.memory();
    let (link, function_link) =
        (kernel.offset_of("klp_object", "node")?, kernel.offset_of("klp_func", "node")?);
    let (objects, functions) = (kernel.loader::<RawObject>(), kernel.loader::<RawFunction>());
    let mut found = Vec::new();
    for at in walk::list(memory, head).take(MOST) {
        let raw = objects.load(at?.sub(link));
        let mut object = PatchedObject {
            module: raw.name.ok().filter(|at| !at.is_null()).and_then(|at| text(kernel, at).ok()),
            patched: raw.patched.ok(),
            functions: Vec::new(),
        };
        let MemberAddress(head) = raw.func_list?;
        for at in walk::list(memory, head).take(MOST) {
            object.functions.push(function(kernel, functions.load(at?.sub(function_link)), old));
        }
        found.push(object);
    }
    Ok(found)
}

fn function(kernel: &Kernel, raw: RawFunction, old: &mut Vec<OldCode>) -> PatchedFunction {
    let name = raw.old_name.and_then(|at| text(kernel, at)).ok();
    let start = raw.old_func.ok().filter(|at| !at.is_null());
    let is_nop = raw.nop.unwrap_or(false);
    let new = raw.new_func.ok().filter(|at| !at.is_null() && !is_nop);
    if let Some((start, bytes)) = start.zip(raw.old_size.ok()) {
        old.push(OldCode { start, bytes, name: name.clone().unwrap_or_default() });
    }
    PatchedFunction {
        klp_func: raw.at,
        name,
        old: start,
        new,
        new_name: new.and_then(|at| Some(plain_name(kernel.place(at)?.symbol.name).to_owned())),
        patched: raw.patched.ok(),
        in_transition: raw.transition.ok(),
    }
}

/// The tasks that are not where the patch moves them to (`klp_target_state`).
fn holdouts(kernel: &Kernel, old: &[OldCode]) -> Field<Vec<PatchHoldout>> {
    let target = kernel.memory().u32(kernel.symbol("klp_target_state")?)?.cast_signed();
    let tasks = Tasks::find(kernel);
    let loader = kernel.loader::<RawTask>();
    let mut found = Vec::new();
    let mut seen = FxHashSet::default();
    for task in tasks.all().iter().chain(tasks.idle()).filter(|task| seen.insert(task.at)) {
        if loader.load(task.at).patch_state? == target {
            continue;
        }
        // A task in old code, or called from it, keeps to it until it returns.
        let calls = TaskStack::of(kernel, task).calls.unwrap_or_default();
        let inside = calls.iter().find_map(|call| {
            old.iter().find(|code| call.at >= code.start && call.at.since(code.start) < code.bytes)
        });
        found.push(PatchHoldout {
            task: TaskName::of(task),
            state: tasks.bits.state(task),
            inside: inside.map(|code| code.name.clone()),
        });
    }
    Ok(found)
}
