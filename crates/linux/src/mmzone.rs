//! Nodes and zones of memory (`struct pglist_data`, `struct zone`, include/linux/mmzone.h).

use std::sync::Arc;

use kdive_base::{VirtAddr, printable};
use kdive_target::os::CpuMask;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, Words};

/// A node: memory that is equally far from a group of processors.
#[derive(Clone, Debug, Load)]
#[load(type = "pglist_data")]
pub struct Node {
    /// Address of its `pglist_data`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number.
    #[load(any("node_id"))]
    pub id: Field<u32>,
    /// Number of its first frame.
    #[load(any("node_start_pfn"))]
    pub start_pfn: Field<u64>,
    /// Frames from its first to its last, holes included.
    #[load(any("node_spanned_pages"))]
    pub spanned_pages: Field<u64>,
    /// Frames that are there.
    #[load(any("node_present_pages"))]
    pub present_pages: Field<u64>,
    /// Its page structures, where each node has an array of its own (`CONFIG_FLATMEM`, `CONFIG_DISCONTIGMEM`).
    #[load(any("node_mem_map"))]
    pub mem_map: Field<VirtAddr>,
    /// Boot allocator's data (before 4.20).
    pub bdata: Field<VirtAddr>,
    /// `enum node_stat_item` (4.8).
    pub vm_stat: Field<Words>,
    /// Per-CPU `struct per_cpu_nodestat`: what each processor has not added to `vm_stat` yet.
    #[load(any("per_cpu_nodestats"))]
    pub per_cpu_stats: Field<VirtAddr>,
    node_zones: Field<MemberAddress>,
}

/// A zone: the part of a node that some allocations are confined to (`DMA32`), or all the rest (`Normal`).
#[derive(Clone, Debug, Load)]
#[load(type = "zone")]
pub struct Zone {
    /// Address of its `struct zone`.
    #[load(address)]
    pub at: VirtAddr,
    /// Pointer to its name: see [`Zone::name`].
    name: Field<VirtAddr>,
    /// Number of its first frame.
    #[load(any("zone_start_pfn"))]
    pub start_pfn: Field<u64>,
    /// Frames from its first to its last, holes included.
    pub spanned_pages: Field<u64>,
    /// Frames that are there.
    pub present_pages: Field<u64>,
    /// Frames that the page allocator was given.
    #[load(any("managed_pages.counter", "managed_pages"))]
    pub managed_pages: Field<u64>,
    /// Free pages below which it is short: `enum zone_watermarks` (min, low, high).
    #[load(any("_watermark", "watermark"))]
    pub watermarks: Field<Words>,
    /// `enum zone_stat_item`.
    pub vm_stat: Field<Words>,
    /// Pages scanned for reclaim since the last success (before 4.8).
    pub pages_scanned: Field<u64>,
    /// Lists of free pages: an array of `struct free_area` by order.
    pub free_area: Field<MemberAddress>,
    /// Per-CPU `struct per_cpu_pages` (5.14), before it `struct per_cpu_pageset`: pages that a processor keeps.
    #[load(any("per_cpu_pageset", "pageset"))]
    pub per_cpu_pages: Field<VirtAddr>,
    /// Per-CPU `struct per_cpu_zonestat` (5.14).
    pub per_cpu_zonestats: Field<VirtAddr>,
}

impl Zone {
    /// Its name: `DMA`, `DMA32`, `Normal`, `Movable`.
    pub fn name(&self, kernel: &Kernel) -> Field<String> {
        /// Longer than any.
        const MOST_BYTES: usize = 32;
        Ok(printable(&kernel.memory().c_string(self.name.clone()?, MOST_BYTES)?))
    }
}

/// The nodes that are online, each with its zones, empty ones included.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// In the order of their numbers.
    pub list: Vec<(Node, Field<Vec<Zone>>)>,
    /// Why nodes may be lacking.
    pub incomplete: Option<Lacks>,
}

/// More nodes than any kernel is configured for (`CONFIG_NODES_SHIFT` is at most 10).
const MOST_NODES: u32 = 1024;
/// `MAX_NR_ZONES` is 6 at most.
const MOST_ZONES: u64 = 16;

impl Nodes {
    /// The kernel's nodes: found on first use, then shared.
    ///
    /// # Errors
    /// The kernel does not say where they are.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::load(kernel).map(Arc::new)).clone()
    }

    fn load(kernel: &Kernel) -> Field<Self> {
        let loader = kernel.loader::<Node>();
        let mut found = Self { list: Vec::new(), incomplete: None };
        for at in addresses(kernel)? {
            match at {
                Ok(at) => {
                    let node = loader.load(at);
                    let zones = zones_of(kernel, &node);
                    found.list.push((node, zones));
                }
                Err(lacks) => found.incomplete = Some(lacks),
            }
        }
        Ok(found)
    }

    /// Their zones; what is lacking of a node's is left out.
    pub fn zones(&self) -> impl Iterator<Item = (&Node, &Zone)> {
        self.list.iter().flat_map(|(node, zones)| zones.iter().flatten().map(move |zone| (node, zone)))
    }

    /// Why something of the nodes and their zones is lacking.
    pub fn lacking(&self) -> impl Iterator<Item = &Lacks> {
        self.list.iter().filter_map(|(_, zones)| zones.as_ref().err()).chain(&self.incomplete)
    }
}

/// The `struct per_cpu_pages` of each processor for each zone that has pages: free pages that it keeps for itself.
///
/// # Errors
/// The zones, their sizes or the processors' areas are not known.
pub(crate) fn per_cpu_pages(kernel: &Kernel) -> Field<Vec<VirtAddr>> {
    let cpus = kernel.cpus()?;
    // Inside of another structure before 5.14.
    let inside = kernel.offset_of("per_cpu_pageset", "pcp").unwrap_or(0);
    let mut found = Vec::new();
    for (_, zone) in Nodes::find(kernel)?.zones() {
        if zone.managed_pages.clone()? == 0 {
            continue;
        }
        let variable = zone.per_cpu_pages.clone()?;
        for cpu in cpus.possible.iter().filter(|&cpu| cpu < cpus.limit) {
            found.push(cpus.per_cpu(variable, cpu)?.add(inside));
        }
    }
    Ok(found)
}

fn zones_of(kernel: &Kernel, node: &Node) -> Field<Vec<Zone>> {
    let MemberAddress(first) = node.node_zones.clone()?;
    let loader = kernel.loader::<Zone>();
    let bytes = loader.size()?.max(1);
    let count = kernel.member("pglist_data", &["node_zones"])?.bytes / bytes;
    Ok((0..count.min(MOST_ZONES)).map(|index| loader.load(first.add(index.wrapping_mul(bytes)))).collect())
}

/// The `pglist_data` of each online node.
fn addresses(kernel: &Kernel) -> Field<Vec<Field<VirtAddr>>> {
    let table = match kernel.symbol("node_data") {
        Ok(table) => table,
        // A kernel without NUMA has one node.
        Err(lacks) => return Ok(vec![Ok(kernel.symbol("contig_page_data").map_err(|_| lacks)?)]),
    };
    let node = |index: u32| Ok(kernel.memory().pointer(table.add(u64::from(index).wrapping_mul(8)))?);
    Ok(online(kernel)?.iter().take_while(|node| *node < MOST_NODES).map(node).collect())
}

/// `node_states[N_ONLINE]`.
fn online(kernel: &Kernel) -> Field<CpuMask> {
    let at = match kernel.vmcoreinfo().symbol("node_online_map") {
        Some(at) => at,
        None => {
            let index = kernel.enumerator("N_ONLINE")? as u64;
            kernel.symbol("node_states")?.add(index.wrapping_mul(kernel.size_of("nodemask_t")?))
        }
    };
    let bytes = match kernel.vmcoreinfo().size("nodemask_t") {
        Some(bytes) => bytes,
        None => kernel.size_of("nodemask_t")?,
    };
    let words = bytes.min(u64::from(MOST_NODES) / 8) / 8;
    let words =
        (0..words).map(|word| kernel.memory().u64(at.add(word * 8))).collect::<Result<Vec<_>, _>>()?;
    Ok(CpuMask::new(words))
}

/// Pages of RAM in all online nodes, those the kernel reserves for itself included.
pub fn present_pages(kernel: &Kernel) -> Field<u64> {
    let nodes = Nodes::find(kernel)?;
    if let Some(lacks) = &nodes.incomplete {
        return Err(lacks.clone());
    }
    let mut pages = 0_u64;
    for (node, _) in &nodes.list {
        pages = pages.saturating_add(node.present_pages.clone()?);
    }
    match pages {
        0 => Err(Lacks::implausible("no node has memory")),
        pages => Ok(pages),
    }
}
