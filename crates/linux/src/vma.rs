//! Areas of a process's memory (`struct vm_area_struct`, include/linux/mm_types.h).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, Names, walk};

/// An area.
#[derive(Clone, Debug, Load)]
#[load(type = "vm_area_struct")]
pub struct Vma {
    /// Address of its `vm_area_struct`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its first byte.
    #[load(any("vm_start"))]
    pub start: Field<VirtAddr>,
    /// The first byte behind it.
    #[load(any("vm_end"))]
    pub end: Field<VirtAddr>,
    /// `VM_*` flags.
    #[load(any("vm_flags", "__vm_flags"))]
    pub flags: Field<u64>,
    /// The file that it maps (`struct file`); null for anonymous memory.
    #[load(any("vm_file"))]
    pub file: Field<VirtAddr>,
    /// Where it begins in the file, in pages.
    #[load(any("vm_pgoff"))]
    pub page_offset: Field<u64>,
}

/// The area of an `mm_struct` that holds an address; `None` where nothing is mapped.
///
/// # Errors
/// The areas cannot be walked.
pub fn at(kernel: &Kernel, mm: VirtAddr, address: VirtAddr) -> Field<Option<Vma>> {
    let Ok(tree) = kernel.offset_of("mm_struct", "mm_mt") else { return in_chain(kernel, mm, address) };
    let memory = kernel.memory();
    let layout = walk::MapleLayout::find(kernel)?;
    let root = layout.tree(memory, mm.add(tree))?;
    let mut broken = None;
    for range in walk::maple(memory, layout, root.root) {
        match range {
            Ok(range) if (range.first..=range.last).contains(&address.0) => {
                return Ok(Some(kernel.load(VirtAddr(range.entry))));
            }
            Ok(_) => {}
            Err(why) => broken = Some(why),
        }
    }
    // What is not among the nodes that can be read may be below one that cannot.
    broken.map_or(Ok(None), |why| Err(why.into()))
}

/// The areas of an `mm_struct` by ascending address, and why some are lacking, where they are.
///
/// # Errors
/// The areas cannot be walked.
pub fn all(kernel: &Kernel, mm: VirtAddr) -> Field<(Vec<Vma>, Option<Lacks>)> {
    let memory = kernel.memory();
    let loader = kernel.loader::<Vma>();
    let (mut areas, mut broken) = (Vec::new(), None);
    if let Ok(tree) = kernel.offset_of("mm_struct", "mm_mt") {
        let layout = walk::MapleLayout::find(kernel)?;
        let root = layout.tree(memory, mm.add(tree))?;
        for range in walk::maple(memory, layout, root.root) {
            match range {
                Ok(range) => areas.push(loader.load(VirtAddr(range.entry))),
                Err(why) => broken = Some(why.into()),
            }
        }
    } else {
        for area in chain(kernel, mm)? {
            match area {
                Ok(area) => areas.push(loader.load(area)),
                Err(why) => broken = Some(why.into()),
            }
        }
    }
    Ok((areas, broken))
}

/// Before 6.1 the areas of a process are a chain in the order of their addresses.
fn chain(kernel: &Kernel, mm: VirtAddr) -> Field<walk::Chain<'_>> {
    let first = kernel
        .offset_of("mm_struct", "mmap")
        .map_err(|_| Lacks::Member { record: "mm_struct".into(), members: Names::new(["mm_mt", "mmap"]) })?;
    let next = kernel.offset_of("vm_area_struct", "vm_next")?;
    let memory = kernel.memory();
    Ok(walk::null_terminated(memory, memory.pointer(mm.add(first))?, next))
}

fn in_chain(kernel: &Kernel, mm: VirtAddr, address: VirtAddr) -> Field<Option<Vma>> {
    let loader = kernel.loader::<Vma>();
    for area in chain(kernel, mm)? {
        let area = loader.load(area?);
        if address < area.end.clone()? {
            return Ok(Some(area).filter(|area| area.start.as_ref().is_ok_and(|start| *start <= address)));
        }
    }
    Ok(None)
}
