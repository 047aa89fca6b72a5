//! Where SLUB keeps the slabs of a cache, and free objects apart from their slabs (mm/slub.c): with each processor and
//! with each node. Slabs without a free object are on no list; they are found through the page structures.

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

use crate::mmzone::Nodes;

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache")]
struct CacheFields {
    /// Per-CPU `struct kmem_cache_cpu`: gone where sheaves took their place.
    cpu_slab: Field<VirtAddr>,
    /// Per-CPU `struct slub_percpu_sheaves` (6.18).
    cpu_sheaves: Field<VirtAddr>,
    /// An array of pointers to `struct kmem_cache_node`, by node.
    node: Field<MemberAddress>,
    /// An array of `struct kmem_cache_per_node_ptrs`, by node.
    per_node: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache_per_node_ptrs")]
struct PerNode {
    node: Field<VirtAddr>,
    barn: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache_cpu")]
struct CpuFields {
    freelist: Field<VirtAddr>,
    #[load(any("slab", "page"))]
    slab: Field<VirtAddr>,
    partial: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kmem_cache_node")]
struct NodeFields {
    nr_partial: Field<u64>,
    partial: Field<MemberAddress>,
    /// With `CONFIG_SLUB_DEBUG`.
    #[load(any("nr_slabs.counter"))]
    nr_slabs: Field<u64>,
    #[load(any("total_objects.counter"))]
    total_objects: Field<u64>,
    full: Field<MemberAddress>,
    barn: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "slub_percpu_sheaves")]
struct CpuSheaves {
    main: Field<VirtAddr>,
    spare: Field<VirtAddr>,
    rcu_free: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "node_barn")]
struct Barn {
    sheaves_full: Field<MemberAddress>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "slab_sheaf")]
struct SheafFields {
    size: Field<u32>,
    objects: Field<MemberAddress>,
}

/// A list of slabs, as far as it could be followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlabList {
    /// Each `struct slab` (before 5.17 `struct page`).
    pub slabs: Vec<VirtAddr>,
    /// Why slabs may be lacking.
    pub incomplete: Option<Lacks>,
}

/// What a processor keeps.
#[derive(Clone, Debug)]
pub struct CpuSlabs {
    /// The processor.
    pub cpu: u32,
    /// Its `struct kmem_cache_cpu`.
    pub at: VirtAddr,
    /// First object of its own list of free ones, from its slab.
    pub freelist: Field<VirtAddr>,
    /// The slab that it allocates from; null where it has none.
    pub slab: Field<VirtAddr>,
    /// The slabs that come next (`CONFIG_SLUB_CPU_PARTIAL`).
    pub partial: SlabList,
}

/// What a node keeps.
#[derive(Clone, Debug)]
pub struct NodeSlabs {
    /// The node.
    pub node: u32,
    /// Its `struct kmem_cache_node`.
    pub at: VirtAddr,
    /// All slabs of the cache on this node.
    pub slabs: Field<u64>,
    /// Objects in all of them, free or not.
    pub objects: Field<u64>,
    /// Slabs with free objects.
    pub partial: SlabList,
    /// Slabs without, which are on a list only while the cache is debugged (`slub_debug=`).
    pub full: SlabList,
}

/// Who keeps a sheaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// A processor: what it allocates from and frees to.
    Main(u32),
    /// A processor: the next one.
    Spare(u32),
    /// A processor: objects that a grace period of RCU keeps.
    Rcu(u32),
    /// A node's barn of full sheaves.
    Barn(u32),
}

/// An array of free objects of several slabs.
#[derive(Clone, Debug)]
pub struct Sheaf {
    /// Its `struct slab_sheaf`.
    pub at: VirtAddr,
    /// Who keeps it.
    pub keeper: Keeper,
    /// The objects in it.
    pub objects: Field<Vec<VirtAddr>>,
}

/// All that is kept of a cache.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// By processor; none where the kernel has no such slabs.
    pub cpus: Vec<CpuSlabs>,
    /// By node.
    pub nodes: Vec<NodeSlabs>,
    /// Of processors and nodes.
    pub sheaves: Vec<Sheaf>,
    /// What is lacking.
    pub lacking: Vec<Lacks>,
}

/// More slabs than any list has: a damaged one must not fill memory.
const MOST_SLABS: usize = 1 << 24;
/// Objects in a sheaf: `sheaf_capacity` is some 60.
const MOST_OBJECTS: u32 = 1 << 14;
/// Full sheaves in a barn: `MAX_FULL_SHEAVES` is 10.
const MOST_SHEAVES: usize = 1 << 12;

impl Lists {
    /// What is kept of the cache at an address (`struct kmem_cache`).
    #[must_use]
    pub fn find(kernel: &Kernel, cache: VirtAddr) -> Self {
        let mut found = Self::default();
        let fields: CacheFields = kernel.load(cache);
        match &fields.cpu_slab {
            Ok(variable) if !variable.is_null() => found.cpu_slabs(kernel, *variable),
            Ok(_) | Err(Lacks::Member { .. }) => {}
            Err(lacks) => found.lacking.push(lacks.clone()),
        }
        if let Ok(variable) = fields.cpu_sheaves
            && !variable.is_null()
        {
            found.cpu_sheaves(kernel, variable);
        }
        match node_pointers(kernel, &fields) {
            Ok(nodes) => nodes.into_iter().for_each(|(id, node, barn)| found.node(kernel, id, node, barn)),
            Err(lacks) => found.lacking.push(lacks),
        }
        found
    }

    fn cpu_slabs(&mut self, kernel: &Kernel, variable: VirtAddr) {
        let (loader, next) = (kernel.loader::<CpuFields>(), next_offset(kernel));
        for (cpu, at) in self.per_cpu(kernel, variable) {
            let fields = loader.load(at);
            let partial = match (fields.partial, &next) {
                (Ok(first), Ok(next)) => collect(walk::null_terminated(kernel.memory(), first, *next), 0),
                // A kernel without such lists has no such member.
                (Err(Lacks::Member { .. }), _) => SlabList::default(),
                (Err(lacks), _) => SlabList { incomplete: Some(lacks), ..SlabList::default() },
                (_, Err(lacks)) => SlabList { incomplete: Some(lacks.clone()), ..SlabList::default() },
            };
            self.cpus.push(CpuSlabs { cpu, at, freelist: fields.freelist, slab: fields.slab, partial });
        }
    }

    fn per_cpu(&mut self, kernel: &Kernel, variable: VirtAddr) -> Vec<(u32, VirtAddr)> {
        let cpus = match kernel.cpus() {
            Ok(cpus) => cpus,
            Err(lacks) => {
                self.lacking.push(lacks);
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        for cpu in cpus.possible.iter().filter(|&cpu| cpu < cpus.limit) {
            match cpus.per_cpu(variable, cpu) {
                Ok(at) => found.push((cpu, at)),
                Err(lacks) => self.lacking.push(lacks),
            }
        }
        found
    }

    fn cpu_sheaves(&mut self, kernel: &Kernel, variable: VirtAddr) {
        let loader = kernel.loader::<CpuSheaves>();
        for (cpu, at) in self.per_cpu(kernel, variable) {
            let fields = loader.load(at);
            let kept = [
                (fields.main, Keeper::Main(cpu)),
                (fields.spare, Keeper::Spare(cpu)),
                (fields.rcu_free, Keeper::Rcu(cpu)),
            ];
            for (sheaf, keeper) in kept {
                match sheaf {
                    Ok(at) if at.is_null() => {}
                    Ok(at) => self.sheaves.push(Sheaf { at, keeper, objects: objects(kernel, at) }),
                    Err(lacks) => self.lacking.push(lacks),
                }
            }
        }
    }

    fn node(&mut self, kernel: &Kernel, node: u32, at: VirtAddr, barn: VirtAddr) {
        let fields: NodeFields = kernel.load(at);
        let link =
            kernel.member("slab", &["slab_list"]).or_else(|_| kernel.member("page", &["slab_list", "lru"]));
        let slabs = |head: Field<MemberAddress>| match (head, &link) {
            (Ok(MemberAddress(head)), Ok(link)) => collect(walk::list(kernel.memory(), head), link.offset),
            // Without debugging there is no such list.
            (Err(Lacks::Member { .. }), _) => SlabList::default(),
            (Err(lacks), _) => SlabList { incomplete: Some(lacks), ..SlabList::default() },
            (_, Err(lacks)) => SlabList { incomplete: Some(lacks.clone()), ..SlabList::default() },
        };
        let mut partial = slabs(fields.partial);
        if let (Ok(count), None) = (fields.nr_partial, &partial.incomplete)
            && count != partial.slabs.len() as u64
        {
            let why = format!("the list has {} slabs, nr_partial is {count}", partial.slabs.len());
            partial.incomplete = Some(Lacks::implausible(why));
        }
        let full = slabs(fields.full);
        self.nodes.push(NodeSlabs {
            node,
            at,
            slabs: fields.nr_slabs,
            objects: fields.total_objects,
            partial,
            full,
        });
        let barn = if barn.is_null() { fields.barn.unwrap_or(VirtAddr(0)) } else { barn };
        if !barn.is_null() {
            self.barn(kernel, node, barn);
        }
    }

    fn barn(&mut self, kernel: &Kernel, node: u32, barn: VirtAddr) {
        let fields: Barn = kernel.load(barn);
        let link = kernel.offset_of("slab_sheaf", "barn_list");
        let (head, link) = match (fields.sheaves_full, link) {
            (Ok(MemberAddress(head)), Ok(link)) => (head, link),
            (Err(lacks), _) | (_, Err(lacks)) => return self.lacking.push(lacks),
        };
        for item in walk::list(kernel.memory(), head).take(MOST_SHEAVES) {
            match item {
                Ok(at) => {
                    let at = at.sub(link);
                    let keeper = Keeper::Barn(node);
                    self.sheaves.push(Sheaf { at, keeper, objects: objects(kernel, at) });
                }
                Err(broken) => self.lacking.push(broken.into()),
            }
        }
    }
}

/// The `kmem_cache_node` of each node, and its barn where the cache says where that is.
fn node_pointers(kernel: &Kernel, cache: &CacheFields) -> Field<Vec<(u32, VirtAddr, VirtAddr)>> {
    let nodes = Nodes::find(kernel)?;
    let mut found = Vec::new();
    for (node, _) in &nodes.list {
        let id = node.id.clone()?;
        let (node, barn) = match (&cache.node, &cache.per_node) {
            (Ok(MemberAddress(table)), _) => {
                (kernel.memory().pointer(table.add(u64::from(id).wrapping_mul(8)))?, VirtAddr(0))
            }
            (Err(_), Ok(MemberAddress(table))) => {
                let loader = kernel.loader::<PerNode>();
                let of = loader.load(table.add(u64::from(id).wrapping_mul(loader.size()?)));
                (of.node?, of.barn?)
            }
            (Err(lacks), Err(_)) => return Err(lacks.clone()),
        };
        if !node.is_null() {
            found.push((id, node, barn));
        }
    }
    Ok(found)
}

/// Offset of the link between slabs that a processor keeps.
fn next_offset(kernel: &Kernel) -> Field<u64> {
    let member = kernel.member("slab", &["next"]).or_else(|_| kernel.member("page", &["next"]))?;
    Ok(member.offset)
}

fn collect(chain: walk::Chain<'_>, link: u64) -> SlabList {
    let mut list = SlabList::default();
    for item in chain {
        match item {
            Ok(at) if list.slabs.len() < MOST_SLABS => list.slabs.push(at.sub(link)),
            Ok(_) => break,
            Err(broken) => list.incomplete = Some(broken.into()),
        }
    }
    list
}

fn objects(kernel: &Kernel, sheaf: VirtAddr) -> Field<Vec<VirtAddr>> {
    let fields: SheafFields = kernel.load(sheaf);
    let (count, MemberAddress(at)) = (fields.size?, fields.objects?);
    if count > MOST_OBJECTS {
        return Err(Lacks::implausible(format_args!("a sheaf of {count} objects")));
    }
    let bytes = kernel.memory().bytes(at, count as usize * 8)?;
    Ok((0..count as usize).filter_map(|index| Endian::Little.u64(&bytes, index * 8)).map(VirtAddr).collect())
}
