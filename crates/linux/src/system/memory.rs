//! How much memory the machine had.

use kdive_base::VirtAddr;
use kdive_target::os::CpuMask;
use kdive_target::{Field, Kernel, Lacks, Load};

#[derive(Load)]
#[load(type = "pglist_data")]
struct Node {
    node_present_pages: Field<u64>,
}

/// More nodes than any kernel is configured for (`CONFIG_NODES_SHIFT` is at most 10).
const MAX_NODES: u32 = 1024;

/// Pages of RAM in all online nodes, those the kernel reserves for itself included.
pub fn present_pages(kernel: &Kernel) -> Field<u64> {
    let loader = kernel.loader::<Node>();
    let mut pages = 0_u64;
    for node in nodes(kernel)? {
        pages = pages.saturating_add(loader.load(node?).node_present_pages?);
    }
    match pages {
        0 => Err(Lacks::implausible("no node has memory")),
        pages => Ok(pages),
    }
}

/// The `pglist_data` of each online node.
fn nodes(kernel: &Kernel) -> Field<Vec<Field<VirtAddr>>> {
    let table = match kernel.symbol("node_data") {
        Ok(table) => table,
        // A kernel without NUMA has one node.
        Err(lacks) => return Ok(vec![Ok(kernel.symbol("contig_page_data").map_err(|_| lacks)?)]),
    };
    let node = |index: u32| Ok(kernel.memory().pointer(table.add(u64::from(index).wrapping_mul(8)))?);
    Ok(online(kernel)?.iter().take_while(|node| *node < MAX_NODES).map(node).collect())
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
    let words = bytes.min(u64::from(MAX_NODES) / 8) / 8;
    let words =
        (0..words).map(|word| kernel.memory().u64(at.add(word * 8))).collect::<Result<Vec<_>, _>>()?;
    Ok(CpuMask::new(words))
}
