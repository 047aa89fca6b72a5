//! Areas of vmalloc space (`struct vmap_area`, `struct vm_struct`, include/linux/vmalloc.h).

use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};

/// An area that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmapArea {
    /// Its `struct vmap_area`.
    pub at: VirtAddr,
    /// First address.
    pub start: VirtAddr,
    /// First address behind it; the last page is a guard.
    pub end: VirtAddr,
    /// The `struct vm_struct` of what is mapped there; lacking for areas of `vm_map_ram`, which have none.
    pub vm: Field<VirtAddr>,
}

/// What is mapped in an area.
#[derive(Clone, Debug, Load)]
#[load(type = "vm_struct")]
pub struct VmStruct {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Bytes, the guard page included.
    pub size: Field<u64>,
    /// `VM_*` flags of vmalloc.
    pub flags: Field<u64>,
    /// Who asked for it: an address of code.
    pub caller: Field<VirtAddr>,
}

/// The areas in use, by address.
#[derive(Clone, Debug, Default)]
pub struct VmapAreas {
    list: Vec<VmapArea>,
    /// Why areas may be lacking.
    pub incomplete: Option<Lacks>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "vmap_area")]
struct Fields {
    va_start: Field<VirtAddr>,
    va_end: Field<VirtAddr>,
    vm: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "vmap_node")]
struct Node {
    #[load(any("busy.head"))]
    busy: Field<MemberAddress>,
}

/// `nr_vmap_nodes` is 128 at most.
const MOST_NODES: u32 = 1 << 12;
/// 64 TiB of vmalloc space in pages and guards would be more, but no memory could back them.
const MOST_AREAS: usize = 1 << 22;

impl VmapAreas {
    /// The kernel's areas: walked on first use, then shared.
    ///
    /// # Errors
    /// The kernel has none of the lists that are known.
    pub fn find(kernel: &Kernel) -> Field<Arc<Self>> {
        kernel.once(|kernel| Self::walk(kernel).map(Arc::new)).clone()
    }

    fn walk(kernel: &Kernel) -> Field<Self> {
        let link = kernel.offset_of("vmap_area", "list")?;
        let loader = kernel.loader::<Fields>();
        let mut found = Self::default();
        for head in heads(kernel)? {
            for item in walk::list(kernel.memory(), head) {
                let at = match item {
                    Ok(at) if found.list.len() < MOST_AREAS => at.sub(link),
                    Ok(_) => break,
                    Err(broken) => {
                        found.incomplete = Some(broken.into());
                        break;
                    }
                };
                let fields = loader.load(at);
                match (fields.va_start, fields.va_end) {
                    (Ok(start), Ok(end)) if start < end => {
                        let vm = fields.vm.and_then(|vm| match vm.is_null() {
                            true => Err(Lacks::unavailable("the area has no vm_struct")),
                            false => Ok(vm),
                        });
                        found.list.push(VmapArea { at, start, end, vm });
                    }
                    (Ok(_), Ok(_)) => {
                        found.incomplete = Some(Lacks::implausible("an area ends before it begins"));
                    }
                    (Err(lacks), _) | (_, Err(lacks)) => found.incomplete = Some(lacks),
                }
            }
        }
        found.list.sort_by_key(|area| area.start);
        Ok(found)
    }

    /// The area that holds an address.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<&VmapArea> {
        let end = self.list.partition_point(|area| area.start <= address);
        self.list.get(end.checked_sub(1)?).filter(|area| address < area.end)
    }

    /// All of them, by address.
    pub fn iter(&self) -> std::slice::Iter<'_, VmapArea> {
        self.list.iter()
    }
}

/// The heads of the lists: one, or since 6.9 one for each of several nodes.
fn heads(kernel: &Kernel) -> Field<Vec<VirtAddr>> {
    let memory = kernel.memory();
    let Ok(nodes) = kernel.symbol("vmap_nodes") else { return Ok(vec![kernel.symbol("vmap_area_list")?]) };
    let first = memory.pointer(nodes)?;
    let count = memory.u32(kernel.symbol("nr_vmap_nodes")?)?;
    if count > MOST_NODES {
        return Err(Lacks::implausible(format_args!("nr_vmap_nodes is {count}")));
    }
    let loader = kernel.loader::<Node>();
    let bytes = loader.size()?;
    (0..u64::from(count))
        .map(|index| loader.load(first.add(index.wrapping_mul(bytes))).busy.map(|MemberAddress(at)| at))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_between_areas_are_in_none() {
        let area = |start, end| VmapArea {
            at: VirtAddr(start),
            start: VirtAddr(start),
            end: VirtAddr(end),
            vm: Ok(VirtAddr(1)),
        };
        let areas = VmapAreas { list: vec![area(0x1000, 0x3000), area(0x3000, 0x4000)], incomplete: None };
        let start = |address| areas.at(VirtAddr(address)).map(|area| area.start.0);
        assert_eq!(start(0xfff), None);
        assert_eq!(start(0x2fff), Some(0x1000));
        assert_eq!(start(0x3000), Some(0x3000));
        assert_eq!(start(0x4000), None);
    }
}
