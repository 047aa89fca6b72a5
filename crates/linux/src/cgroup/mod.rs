//! Control groups (kernel/cgroup/cgroup.c): the hierarchies of v1 and v2, each group with what its controllers count.

mod controllers;

use std::sync::Arc;

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, MemberAddress, Text, walk};
use rustc_hash::{FxHashMap, FxHashSet};

pub use controllers::{Counter, MemoryController, PidsController, memory_limit};

/// The part of `struct cgroup` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "cgroup")]
struct Fields {
    #[load(any("self.flags"))]
    css_flags: Field<u32>,
    #[load(any("self.children"))]
    children: Field<MemberAddress>,
    flags: Field<u64>,
    #[load(any("nr_descendants"))]
    descendants: Field<i32>,
    #[load(any("nr_dying_descendants"))]
    dying_descendants: Field<i32>,
    kn: Field<VirtAddr>,
    subsys: Field<MemberAddress>,
    cset_links: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "cgroup_root")]
struct RootFields {
    cgrp: Field<MemberAddress>,
    hierarchy_id: Field<i32>,
    subsys_mask: Field<u32>,
    name: Field<Text>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kernfs_node")]
struct KernfsNode {
    name: Field<VirtAddr>,
}

/// `CSS_DYING` (include/linux/cgroup-defs.h).
const CSS_DYING: u32 = 1 << 4;
/// `CSS_ONLINE`.
const CSS_ONLINE: u32 = 1 << 1;
/// `NAME_MAX`.
const MOST_NAME_BYTES: usize = 255;
/// More groups than any machine has: a damaged tree must end.
const MOST_GROUPS: usize = 1 << 18;
/// `PATH_MAX`.
const MOST_PATH_BYTES: usize = 4096;
/// No path is deeper (`cgroup.max.depth` is unlimited, but paths are not).
const MOST_DEPTH: u32 = 512;
/// `CGROUP_SUBSYS_COUNT` is below 16.
const MOST_SUBSYSTEMS: u64 = 32;

/// A group.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its `struct cgroup`.
    pub at: VirtAddr,
    /// Its path from the root of its hierarchy, `/` for the root.
    pub path: String,
    /// Steps from the root.
    pub depth: u32,
    /// Whether it was removed, and something still refers to it.
    pub dying: Field<bool>,
    /// Whether its tasks are frozen (v2).
    pub frozen: bool,
    /// Groups below it.
    pub descendants: Field<i32>,
    /// Groups below it that were removed and are still there.
    pub dying_descendants: Field<i32>,
    /// Its `struct css_set`s: what tasks point to.
    pub csets: Field<Vec<VirtAddr>>,
    /// Its memory controller, where it has one.
    pub memory: Option<MemoryController>,
    /// Its pids controller, where it has one.
    pub pids: Option<PidsController>,
}

/// A hierarchy: the unified one of v2, or one of v1.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Its `struct cgroup_root`.
    pub at: VirtAddr,
    /// Whether it is the unified one.
    pub is_unified: bool,
    /// Its number, as /proc/PID/cgroup has it; 0 for the unified one.
    pub id: Field<i32>,
    /// Its name, where it was mounted with one (`name=systemd`).
    pub name: String,
    /// The controllers that are bound to it.
    pub controllers: Vec<Box<str>>,
    /// Its groups, each behind its parent.
    pub groups: Vec<Group>,
    /// Why groups may be lacking.
    pub incomplete: Option<Lacks>,
}

/// All hierarchies.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    /// The unified one first.
    pub hierarchies: Vec<Hierarchy>,
    /// Why hierarchies may be lacking.
    pub incomplete: Option<Lacks>,
}

impl Cgroups {
    /// The kernel's groups: walked on first use, then shared.
    ///
    /// # Errors
    /// The kernel was built without control groups, or says nowhere where they are.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::walk(kernel).map(Arc::new)).clone()
    }

    fn walk(kernel: &Kernel) -> Field<Self> {
        let unified = kernel.symbol("cgrp_dfl_root")?;
        let link = kernel.offset_of("cgroup_root", "root_list")?;
        let walker = Walker::new(kernel);
        let mut found = Self::default();
        let mut roots = vec![unified];
        for item in walk::list(kernel.memory(), kernel.any_symbol(&["cgroup_roots", "roots"])?) {
            match item {
                Ok(at) => roots.push(at.sub(link)),
                Err(broken) => found.incomplete = Some(broken.into()),
            }
        }
        let mut seen = FxHashSet::default();
        for at in roots.into_iter().filter(|at| seen.insert(*at)) {
            match walker.hierarchy(at, at == unified) {
                Ok(hierarchy) => found.hierarchies.push(hierarchy),
                Err(lacks) => found.incomplete = Some(lacks),
            }
        }
        Ok(found)
    }

    /// The group of the memory controller that a path names; with or without the leading `/`.
    #[must_use]
    pub fn with_memory(&self, path: &str) -> Option<&Group> {
        let path = path.trim_matches('/');
        let groups = self.hierarchies.iter().flat_map(|of| &of.groups);
        groups.filter(|group| group.memory.is_some()).find(|group| group.path.trim_matches('/') == path)
    }
}

struct Walker<'k> {
    kernel: &'k Kernel,
    group: Loader<'k, Fields>,
    /// Name and number of each controller.
    subsystems: Vec<(Box<str>, u64)>,
    /// Offset of the link among siblings.
    sibling: Field<u64>,
    frozen: u64,
    controllers: controllers::Loaders<'k>,
}

impl<'k> Walker<'k> {
    fn new(kernel: &'k Kernel) -> Self {
        let named = kernel.enumerators("cgroup_subsys_id").unwrap_or_default();
        let subsystems = named.iter().filter_map(|(name, number)| {
            Some((Box::from(name.strip_suffix("_cgrp_id")?), u64::try_from(*number).ok()?))
        });
        let frozen = kernel.enumerator("CGRP_FROZEN").ok().and_then(|bit| u32::try_from(bit).ok());
        Self {
            kernel,
            group: kernel.loader(),
            subsystems: subsystems.filter(|(_, number)| *number < MOST_SUBSYSTEMS).collect(),
            sibling: kernel.offset_of("cgroup_subsys_state", "sibling"),
            frozen: frozen.and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0),
            controllers: controllers::Loaders::new(kernel),
        }
    }

    fn hierarchy(&self, at: VirtAddr, is_unified: bool) -> Field<Hierarchy> {
        let root: RootFields = self.kernel.load(at);
        let MemberAddress(first) = root.cgrp?;
        let mask = root.subsys_mask.unwrap_or(0);
        let bound = |number: u64| mask.checked_shr(number as u32).unwrap_or(0) & 1 == 1;
        let controllers = self.subsystems.iter().filter(|(_, number)| bound(*number));
        let mut hierarchy = Hierarchy {
            at,
            is_unified,
            id: root.hierarchy_id,
            name: root.name.map(|Text(name)| name).unwrap_or_default(),
            controllers: controllers.map(|(name, _)| name.clone()).collect(),
            groups: Vec::new(),
            incomplete: None,
        };
        self.groups(first, &mut hierarchy);
        Ok(hierarchy)
    }

    /// The groups from the root on, depth first, in the order in which they were made.
    fn groups(&self, root: VirtAddr, into: &mut Hierarchy) {
        let mut seen = FxHashSet::default();
        let mut stack = vec![(root, 0_u32, String::new())];
        while let Some((at, depth, parent)) = stack.pop() {
            if !seen.insert(at)
                || depth > MOST_DEPTH
                || parent.len() > MOST_PATH_BYTES
                || into.groups.len() >= MOST_GROUPS
            {
                into.incomplete = Some(Lacks::implausible("a tree of control groups that does not end"));
                continue;
            }
            let fields = self.group.load(at);
            let path = match depth {
                0 => "/".to_owned(),
                _ => format!("{}/{}", parent.trim_end_matches('/'), self.name(&fields)),
            };
            match self.children(&fields) {
                Ok((children, broken)) => {
                    let below = depth.saturating_add(1);
                    stack.extend(children.into_iter().rev().map(|child| (child, below, path.clone())));
                    into.incomplete = broken.or(into.incomplete.take());
                }
                Err(lacks) => into.incomplete = Some(lacks),
            }
            into.groups.push(self.load(at, depth, path, fields));
        }
    }

    fn name(&self, fields: &Fields) -> String {
        let name = || -> Field<String> {
            let node: KernfsNode = self.kernel.load(fields.kn.clone()?);
            Ok(printable(&self.kernel.memory().c_string(node.name?, MOST_NAME_BYTES)?))
        };
        name().unwrap_or_else(|_| "?".to_owned())
    }

    /// The groups of a list of siblings: a `cgroup` begins with its own `cgroup_subsys_state`.
    fn children(&self, fields: &Fields) -> Field<(Vec<VirtAddr>, Option<Lacks>)> {
        let (MemberAddress(head), link) = (fields.children.clone()?, self.sibling.clone()?);
        let inside = self.kernel.offset_of("cgroup", "self")?.saturating_add(link);
        let (mut found, mut broken) = (Vec::new(), None);
        for item in walk::list(self.kernel.memory(), head).take(MOST_GROUPS) {
            match item {
                Ok(at) => found.push(at.sub(inside)),
                Err(error) => broken = Some(error.into()),
            }
        }
        Ok((found, broken))
    }

    fn load(&self, at: VirtAddr, depth: u32, path: String, fields: Fields) -> Group {
        let css = |name: &str| {
            let (_, number) = self.subsystems.iter().find(|(known, _)| &**known == name)?;
            let MemberAddress(table) = fields.subsys.clone().ok()?;
            let css = self.kernel.memory().pointer(table.add(number.wrapping_mul(8))).ok()?;
            (!css.is_null()).then_some(css)
        };
        Group {
            at,
            path,
            depth,
            dying: fields
                .css_flags
                .map(|flags| depth > 0 && (flags & CSS_DYING != 0 || flags & CSS_ONLINE == 0)),
            frozen: fields.flags.unwrap_or(0) & self.frozen != 0,
            descendants: fields.descendants,
            dying_descendants: fields.dying_descendants,
            csets: csets(self.kernel, &fields.cset_links),
            memory: css("memory").map(|css| self.controllers.memory(css)),
            pids: css("pids").map(|css| self.controllers.pids(css)),
        }
    }
}

#[derive(Clone, Debug, Load)]
#[load(type = "cgrp_cset_link")]
struct Link {
    cset: Field<VirtAddr>,
}

fn csets(kernel: &Kernel, links: &Field<MemberAddress>) -> Field<Vec<VirtAddr>> {
    let (MemberAddress(head), link) = (links.clone()?, kernel.offset_of("cgrp_cset_link", "cset_link")?);
    let loader = kernel.loader::<Link>();
    walk::list(kernel.memory(), head).map(|item| loader.load(item?.sub(link)).cset).collect()
}

#[derive(Clone, Debug, Load)]
#[load(type = "task_struct")]
struct TaskGroups {
    cgroups: Field<VirtAddr>,
}

/// The tasks of each `struct css_set`, by what the tasks say.
pub fn tasks_by_cset(
    kernel: &Kernel,
    tasks: impl Iterator<Item = VirtAddr>,
) -> FxHashMap<VirtAddr, Vec<VirtAddr>> {
    let loader = kernel.loader::<TaskGroups>();
    let mut found: FxHashMap<VirtAddr, Vec<VirtAddr>> = FxHashMap::default();
    for task in tasks {
        if let Ok(cset) = loader.load(task).cgroups {
            found.entry(cset).or_default().push(task);
        }
    }
    found
}
