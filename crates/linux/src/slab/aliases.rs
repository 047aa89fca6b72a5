//! Names of caches that were merged into others: links beside the caches in `/sys/kernel/slab` (mm/slub.c).

use std::collections::BTreeMap;

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, walk};

/// `KERNFS_LINK` (include/linux/kernfs.h).
const LINK: u16 = 0x4;

#[derive(Clone, Debug, Load)]
#[load(type = "kset")]
struct Kset {
    #[load(any("kobj.sd"))]
    directory: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "kernfs_node")]
struct Node {
    name: Field<VirtAddr>,
    flags: Field<u16>,
    /// The root of its entries.
    #[load(any("dir.children.rb_node"))]
    children: Field<VirtAddr>,
    #[load(any("symlink.target_kn"))]
    target: Field<VirtAddr>,
    #[load(any("priv"))]
    owner: Field<VirtAddr>,
}

/// Longer than any name there.
const MOST_NAME_BYTES: usize = 256;

/// The names under which each cache answers besides its own.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    /// By the cache's address (`struct kmem_cache`).
    pub caches: BTreeMap<VirtAddr, Vec<String>>,
    /// Why names may be lacking.
    pub incomplete: Option<Lacks>,
}

/// The names of merged caches.
///
/// # Errors
/// The kernel has no such directory, or it cannot be found.
pub fn find(kernel: &Kernel) -> Field<Aliases> {
    let memory = kernel.memory();
    let set: Kset = kernel.load(memory.pointer(kernel.symbol("slab_kset")?)?);
    let nodes = kernel.loader::<Node>();
    let root = nodes.load(set.directory?).children?;
    let (link, object) = (kernel.offset_of("kernfs_node", "rb")?, kernel.offset_of("kmem_cache", "kobj")?);
    let layout = walk::RbLayout::find(kernel)?;
    let alias = |node: Node| -> Field<Option<(VirtAddr, String)>> {
        if node.flags? & LINK == 0 {
            return Ok(None);
        }
        let cache = nodes.load(node.target?).owner?;
        let name = printable(&memory.c_string(node.name?, MOST_NAME_BYTES)?);
        Ok(Some((cache.sub(object), name)))
    };
    let mut found = Aliases::default();
    for item in walk::rbtree(memory, layout, root, walk::Order::Sorted) {
        match item.map_err(Lacks::from).and_then(|item| alias(nodes.load(item.at.sub(link)))) {
            Ok(Some((cache, name))) => found.caches.entry(cache).or_default().push(name),
            Ok(None) => {}
            Err(lacks) => found.incomplete = found.incomplete.or(Some(lacks)),
        }
    }
    Ok(found)
}
