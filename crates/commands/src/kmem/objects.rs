//! `kmem -S`: the slabs of a cache with their objects, and the object at an address.

use std::fmt;
use std::sync::Arc;

use kdive_base::{Cancel, VirtAddr};
use kdive_linux::pages::{Page, node_of};
use kdive_linux::slab::{
    AllSlabs, Counts, FreeObjects, Keeper, Lists, ObjectState, Slab, SlabList, Slabs, Usage,
};
use kdive_target::{Field, Kernel, Lacks};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::caches::{CacheRow, Chosen, TITLES};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

const SLAB_TITLES: &str = "  SLAB              MEMORY            NODE  TOTAL  ALLOCATED  FREE";

/// A slab in numbers, and its objects where they are shown.
#[derive(Debug, Default, Serialize)]
pub(super) struct SlabRow {
    slab: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<ObjectRow>>,
}

/// An object.
#[derive(Debug, Serialize)]
pub(super) struct ObjectRow {
    object: VirtAddr,
    state: ObjectState,
}

/// Whether the titles go before a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Titles {
    Shown,
    Understood,
}

impl Render for SlabRow {
    type View = Titles;

    fn render(&self, titles: &Titles, out: &mut dyn fmt::Write) -> fmt::Result {
        if *titles == Titles::Shown {
            writeln!(out, "{SLAB_TITLES}")?;
        }
        let memory = Known(self.memory);
        write!(out, "  {}  {memory:>16}{:>6}{:>7}", self.slab, Known(self.node), Known(self.total))?;
        writeln!(out, "{:>11}{:>6}", Known(self.allocated), Known(self.free))?;
        let Some(objects) = &self.objects else { return Ok(()) };
        writeln!(out, "  FREE / [ALLOCATED]")?;
        objects.iter().try_for_each(|object| object.line(out))
    }
}

impl ObjectRow {
    fn line(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let at = self.object;
        match self.state {
            ObjectState::Allocated => writeln!(out, "  [{at}]"),
            ObjectState::Free => writeln!(out, "   {at}  "),
            ObjectState::FreeOnCpu(cpu) => writeln!(out, "   {at}  (cpu {cpu} cache)"),
            ObjectState::FreeInSheaf(cpu) => writeln!(out, "   {at}  (cpu {cpu} sheaf)"),
            ObjectState::FreeAfterRcu(cpu) => writeln!(out, "   {at}  (cpu {cpu} rcu sheaf)"),
            ObjectState::FreeInBarn(node) => writeln!(out, "   {at}  (node {node} barn)"),
        }
    }
}

/// Everything that is kept of a cache.
#[derive(Debug, Serialize)]
struct CacheObjects {
    #[serde(flatten)]
    cache: CacheRow,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<CpuRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sheaves: Vec<SheafRow>,
    nodes: Vec<NodeRow>,
}

#[derive(Debug, Serialize)]
struct CpuRow {
    cpu: u32,
    kmem_cache_cpu: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    slab: Option<SlabRow>,
    partial: Vec<SlabRow>,
}

#[derive(Debug, Serialize)]
struct SheafRow {
    sheaf: VirtAddr,
    keeper: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<Vec<VirtAddr>>,
}

#[derive(Debug, Serialize)]
struct NodeRow {
    node: u32,
    kmem_cache_node: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    slabs: Option<u64>,
    /// Slabs that processors allocate from.
    per_cpu: u64,
    partial: Vec<SlabRow>,
    full: Vec<SlabRow>,
}

impl Render for CacheObjects {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(TITLES)?;
        self.cache.render(&(), out)?;
        for of in &self.cpus {
            writeln!(out, "CPU {} KMEM_CACHE_CPU:\n  {}\nCPU {} SLAB:", of.cpu, of.kmem_cache_cpu, of.cpu)?;
            each(&of.slab, Titles::Shown, out)?;
            writeln!(out, "CPU {} PARTIAL:", of.cpu)?;
            each(&of.partial, Titles::Shown, out)?;
        }
        for sheaf in &self.sheaves {
            let count = Known(sheaf.objects.as_ref().map(Vec::len));
            writeln!(out, "{}:\n  {}  {count} objects", sheaf.keeper, sheaf.sheaf)?;
            for object in sheaf.objects.iter().flatten() {
                writeln!(out, "   {object}")?;
            }
        }
        for of in &self.nodes {
            writeln!(out, "KMEM_CACHE_NODE   NODE  SLABS  PARTIAL  PER-CPU")?;
            write!(out, "{}{:>6}{:>7}", of.kmem_cache_node, of.node, Known(of.slabs))?;
            writeln!(out, "{:>9}{:>9}\nNODE {} PARTIAL:", of.partial.len(), of.per_cpu, of.node)?;
            table(&of.partial, out)?;
            writeln!(out, "NODE {} FULL:", of.node)?;
            table(&of.full, out)?;
        }
        writeln!(out)
    }
}

fn each<'r>(
    rows: impl IntoIterator<Item = &'r SlabRow>,
    titles: Titles,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let mut none = true;
    for row in rows {
        none = false;
        row.render(&titles, out)?;
    }
    if none { writeln!(out, "  (empty)") } else { Ok(()) }
}

fn table(rows: &[SlabRow], out: &mut dyn fmt::Write) -> fmt::Result {
    if !rows.is_empty() {
        writeln!(out, "{SLAB_TITLES}")?;
    }
    each(rows, Titles::Understood, out)
}

/// What reading a cache takes, and what it lacked.
struct Reader<'k> {
    kernel: &'k Kernel,
    slabs: Arc<Slabs>,
    free: Field<FreeObjects>,
    lacking: Vec<(&'static str, Lacks)>,
}

impl<'k> Reader<'k> {
    fn new(kernel: &'k Kernel, cache: VirtAddr, lists: &Lists) -> Self {
        let free = FreeObjects::find(kernel, cache, lists);
        Self { kernel, slabs: Slabs::find(kernel), free, lacking: Vec::new() }
    }

    fn known<T>(&mut self, field: Field<T>, what: &'static str) -> Option<T> {
        field.map_err(|lacks| self.lacking.push((what, lacks))).ok()
    }

    /// The line of a slab, and with `objects` what becomes of each.
    fn slab(&mut self, at: VirtAddr, objects: bool) -> SlabRow {
        let counts: Counts = self.kernel.load(at);
        let page: Page = self.kernel.load(at);
        let node = page.flags.and_then(|flags| node_of(self.kernel, flags));
        let node = self.known(node, "NODE of a slab");
        let (total, inuse) =
            (self.known(counts.objects, "TOTAL of a slab"), self.known(counts.inuse, "ALLOCATED of a slab"));
        let row = SlabRow { slab: at, node, total, ..SlabRow::default() };
        let slab = self.slabs.slab(self.kernel, at).and_then(|slab| {
            slab.ok_or_else(|| Lacks::implausible("a list of slabs leads to a page that is none"))
        });
        let Some(slab) = self.known(slab, "slab") else { return row };
        let counted = total.zip(inuse).map(|(total, inuse)| total.saturating_sub(inuse));
        let free = match &self.free {
            Ok(free) => free.of_slab(self.kernel, &slab),
            Err(lacks) => Err(lacks.clone()),
        };
        let free = self.known(free, "free objects of a slab");
        let count = free.as_ref().map(|free| free.len() as u32).or(counted);
        let listed = objects.then(|| self.known(slab.objects(), "objects of a slab")).flatten();
        SlabRow {
            memory: Some(slab.start),
            free: count,
            allocated: total.zip(count).map(|(total, free)| total.saturating_sub(free)),
            objects: listed.zip(free).map(|(objects, free)| states(&objects, &free)),
            ..row
        }
    }

    fn list(&mut self, list: SlabList, objects: bool) -> Vec<SlabRow> {
        if let Some(lacks) = list.incomplete {
            self.lacking.push(("list of slabs", lacks));
        }
        list.slabs.into_iter().map(|slab| self.slab(slab, objects)).collect()
    }

    /// The slabs that are on none of the lists, by node.
    fn full(&mut self, cache: VirtAddr, lists: &Lists) -> FxHashMap<u32, Vec<SlabRow>> {
        let Some(all) = self.known(AllSlabs::find(self.kernel), "full slabs") else {
            return FxHashMap::default();
        };
        let on_cpus = lists.cpus.iter().flat_map(|of| of.slab.iter().chain(&of.partial.slabs));
        let on_nodes = lists.nodes.iter().flat_map(|of| &of.partial.slabs);
        let listed: FxHashSet<VirtAddr> = on_cpus.chain(on_nodes).copied().collect();
        let mut full: FxHashMap<u32, Vec<SlabRow>> = FxHashMap::default();
        for &slab in all.of(cache).iter().filter(|slab| !listed.contains(slab)) {
            let row = self.slab(slab, false);
            full.entry(row.node.unwrap_or(0)).or_default().push(row);
        }
        full
    }
}

fn states(objects: &[VirtAddr], free: &FxHashMap<VirtAddr, ObjectState>) -> Vec<ObjectRow> {
    let state = |object| free.get(object).copied().unwrap_or(ObjectState::Allocated);
    objects.iter().map(|object| ObjectRow { object: *object, state: state(object) }).collect()
}

fn keeper(keeper: Keeper) -> String {
    match keeper {
        Keeper::Main(cpu) => format!("CPU {cpu} MAIN SHEAF"),
        Keeper::Spare(cpu) => format!("CPU {cpu} SPARE SHEAF"),
        Keeper::Rcu(cpu) => format!("CPU {cpu} RCU SHEAF"),
        Keeper::Barn(node) => format!("NODE {node} BARN SHEAF"),
    }
}

/// The lists of a cache, of some processors only if they are given.
fn read(cx: &mut Cx, chosen: &Chosen, cpus: Option<&[u32]>) -> (CacheObjects, Vec<(&'static str, Lacks)>) {
    let kernel = cx.kernel.clone();
    let cache = &chosen.cache;
    let lists = Lists::find(&kernel, cache.at);
    let row = CacheRow::new(cx, chosen, Usage::find(&kernel, cache));
    let mut reader = Reader::new(&kernel, cache.at, &lists);
    let mut full = reader.full(cache.at, &lists);
    let shown = |cpu: u32| cpus.is_none_or(|cpus| cpus.contains(&cpu));
    let mut found = CacheObjects { cache: row, cpus: Vec::new(), sheaves: Vec::new(), nodes: Vec::new() };
    let mut per_cpu = 0;
    for of in lists.cpus.into_iter().filter(|of| shown(of.cpu)) {
        let slab = reader.known(of.slab, "slab of a processor").filter(|slab| !slab.is_null());
        per_cpu += u64::from(slab.is_some());
        let slab = slab.map(|slab| reader.slab(slab, true));
        let partial = reader.list(of.partial, true);
        found.cpus.push(CpuRow { cpu: of.cpu, kmem_cache_cpu: of.at, slab, partial });
    }
    for sheaf in lists.sheaves {
        let of_cpu = match sheaf.keeper {
            Keeper::Main(cpu) | Keeper::Spare(cpu) | Keeper::Rcu(cpu) => shown(cpu),
            Keeper::Barn(_) => true,
        };
        if of_cpu {
            let objects = reader.known(sheaf.objects, "objects in a sheaf");
            found.sheaves.push(SheafRow { sheaf: sheaf.at, keeper: keeper(sheaf.keeper), objects });
        }
    }
    for of in lists.nodes {
        let partial = reader.list(of.partial, false);
        let slabs = reader.known(of.slabs, "SLABS of a node");
        let full = full.remove(&of.node).unwrap_or_default();
        found.nodes.push(NodeRow { node: of.node, kmem_cache_node: of.at, slabs, per_cpu, partial, full });
    }
    (found, reader.lacking)
}

/// `kmem -S`.
pub(super) fn show(
    cx: &mut Cx,
    chosen: &[Chosen],
    cpus: Option<&[u32]>,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let batch = rayon::current_num_threads().saturating_mul(4).max(1);
    // Found once, before several threads ask for them.
    let all = AllSlabs::find(&cx.kernel);
    if let Some((pages, lacks)) = all.as_ref().ok().and_then(|all| all.incomplete.clone()) {
        cx.lacks(&lacks, "full slabs", || format!("{pages} page structures"));
    }
    for part in chosen.chunks(batch) {
        cx.cancel.check()?;
        let shared: &Cx = cx;
        let read: Vec<_> = part.par_iter().map(|chosen| read_one(shared, chosen, cpus)).collect();
        for (cache, (found, gaps)) in part.iter().zip(read) {
            cx.gaps.absorb(gaps);
            match found {
                Some(found) => out.row(&found, &())?,
                None => {
                    out.heading(TITLES)?;
                    out.row(&CacheRow::ignored(&cache.cache), &())?;
                }
            }
        }
    }
    Ok(())
}

fn read_one(cx: &Cx, chosen: &Chosen, cpus: Option<&[u32]>) -> (Option<CacheObjects>, kdive_base::GapLedger) {
    let mut cx = cx.fork();
    if chosen.ignored || Cancel::check(&cx.cancel).is_err() {
        return (None, cx.gaps);
    }
    let (found, lacking) = read(&mut cx, chosen, cpus);
    let place = format!("kmem_cache {}", chosen.cache.at);
    cx.lacks_together(&lacking, || place.clone());
    (Some(found), cx.gaps)
}

/// The slab that an address lies in, its cache first.
#[derive(Debug, Serialize)]
struct Holder {
    #[serde(flatten)]
    cache: CacheRow,
    holder: SlabRow,
}

impl Render for Holder {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str(TITLES)?;
        self.cache.render(&(), out)?;
        self.holder.render(&Titles::Shown, out)
    }
}

/// The slab object that holds an address, or with `whole` all objects of its slab; whether there is one.
pub(super) fn at(
    cx: &mut Cx,
    address: VirtAddr,
    whole: bool,
    out: &mut dyn Sink,
) -> Result<bool, CommandError> {
    let kernel = cx.kernel.clone();
    let Some(slab) = Slabs::find(&kernel).slab_at(&kernel, address)? else { return Ok(false) };
    let Some(object) = slab.object_at(address)? else { return Ok(false) };
    let chosen = Chosen { cache: slab.cache.clone(), alias: None, ignored: false };
    let cache = CacheRow::new(cx, &chosen, Usage::find(&kernel, &slab.cache));
    let holder = holder(cx, &kernel, &slab, (!whole).then_some(object));
    out.row(&Holder { cache, holder }, &())?;
    Ok(true)
}

fn holder(cx: &mut Cx, kernel: &Kernel, slab: &Slab, only: Option<VirtAddr>) -> SlabRow {
    let lists = Lists::find(kernel, slab.cache.at);
    let mut reader = Reader::new(kernel, slab.cache.at, &lists);
    let mut row = reader.slab(slab.at, true);
    if let (Some(only), Some(objects)) = (only, &mut row.objects) {
        objects.retain(|of| of.object == only);
    }
    let place = format!("slab {}", slab.at);
    cx.lacks_together(&reader.lacking, || place.clone());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let object = |object, state| ObjectRow { object: VirtAddr(object), state };
        let row = SlabRow {
            slab: VirtAddr(0xffdf_5426_8006_d000),
            memory: Some(VirtAddr(0xff27_0289_01b4_0000)),
            node: Some(0),
            total: Some(3),
            allocated: Some(2),
            free: Some(1),
            objects: Some(vec![
                object(0xff27_0289_01b4_0000, ObjectState::FreeOnCpu(0)),
                object(0xff27_0289_01b4_2100, ObjectState::Allocated),
                object(0xff27_0289_01b4_4200, ObjectState::Free),
            ]),
        };
        let mut text = String::new();
        row.render(&Titles::Shown, &mut text).unwrap();
        assert_eq!(
            text,
            "  SLAB              MEMORY            NODE  TOTAL  ALLOCATED  FREE\n\
             \x20 ffdf54268006d000  ff27028901b40000     0      3          2     1\n\
             \x20 FREE / [ALLOCATED]\n\
             \x20  ff27028901b40000  (cpu 0 cache)\n\
             \x20 [ff27028901b42100]\n\
             \x20  ff27028901b44200  \n"
        );
        let mut text = String::new();
        table(&[], &mut text).unwrap();
        assert_eq!(text, "  (empty)\n");
    }
}
