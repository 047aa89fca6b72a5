//! I/O ports and I/O memory, and who has them (`struct resource`, include/linux/ioport.h; kernel/resource.c).

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load};
use rustc_hash::FxHashSet;

/// A range that is taken.
#[derive(Clone, Debug, Load)]
#[load(type = "resource")]
pub struct Resource {
    /// Address of the `struct resource`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its first port or byte.
    pub start: Field<u64>,
    /// Its last.
    pub end: Field<u64>,
    /// Who has it (`char *`).
    pub name: Field<VirtAddr>,
    /// `IORESOURCE_*` flags.
    pub flags: Field<u64>,
    sibling: Field<VirtAddr>,
    child: Field<VirtAddr>,
}

/// More resources than any machine has.
const MOST: usize = 1 << 20;
const MOST_NAME_BYTES: usize = 256;

impl Resource {
    /// Who has it.
    ///
    /// # Errors
    /// The name is not in the dump.
    pub fn name(&self, kernel: &Kernel) -> Field<Option<String>> {
        let at = self.name.clone()?;
        if at.is_null() {
            return Ok(None);
        }
        Ok(Some(printable(&kernel.memory().c_string(at, MOST_NAME_BYTES)?)))
    }
}

/// A tree of resources.
pub struct Resources {
    /// From its root down: a range, then what lies in it. With how many ranges each lies in.
    pub all: Vec<(u32, Resource)>,
    /// Why some are lacking, where they are.
    pub incomplete: Vec<Lacks>,
}

/// The tree of a root (`ioport_resource`, `iomem_resource`).
///
/// # Errors
/// The kernel has no such symbol.
pub fn tree(kernel: &Kernel, root: &str) -> Field<Resources> {
    let loader = kernel.loader::<Resource>();
    let mut found = Resources { all: Vec::new(), incomplete: Vec::new() };
    let mut seen = FxHashSet::default();
    let mut todo = vec![(0_u32, kernel.symbol(root)?)];
    while let Some((depth, at)) = todo.pop() {
        if at.is_null() {
            continue;
        }
        if !seen.insert(at) || found.all.len() >= MOST {
            found.incomplete.push(Lacks::implausible("the tree of resources does not end"));
            break;
        }
        let resource = loader.load(at);
        // What lies in it comes before what lies beside it.
        for (link, depth) in [(&resource.sibling, depth), (&resource.child, depth.saturating_add(1))] {
            match link {
                Ok(next) => todo.push((depth, *next)),
                Err(lacks) => found.incomplete.push(lacks.clone()),
            }
        }
        found.all.push((depth, resource));
    }
    Ok(found)
}
