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

/// The name of a flag of areas: `VM_*` without the prefix (include/linux/mm.h). The kernel's own table of them, for
/// `/proc/PID/smaps`, tells which bit is which; the bits that only some kernels have are named by it alone.
#[must_use]
pub fn flag_names(kernel: &Kernel, flags: u64) -> Vec<String> {
    let table = kernel.once(FlagTable::find);
    (0..u64::BITS).filter(|bit| flags >> bit & 1 == 1).map(|bit| table.name(bit)).collect()
}

/// The two letters of each bit.
struct FlagTable(Vec<[u8; 2]>);

/// Letters in `/proc/PID/smaps` and the names that they stand for (`show_smap_vma_flags`, fs/proc/task_mmu.c).
const LETTERS: [(&[u8; 2], &str); 37] = [
    (b"rd", "READ"),
    (b"wr", "WRITE"),
    (b"ex", "EXEC"),
    (b"sh", "SHARED"),
    (b"mr", "MAYREAD"),
    (b"mw", "MAYWRITE"),
    (b"me", "MAYEXEC"),
    (b"ms", "MAYSHARE"),
    (b"gd", "GROWSDOWN"),
    (b"um", "UFFD_MISSING"),
    (b"pf", "PFNMAP"),
    (b"gu", "MAYBE_GUARD"),
    (b"dw", "DENYWRITE"),
    (b"uw", "UFFD_WP"),
    (b"lo", "LOCKED"),
    (b"io", "IO"),
    (b"sr", "SEQ_READ"),
    (b"rr", "RAND_READ"),
    (b"dc", "DONTCOPY"),
    (b"de", "DONTEXPAND"),
    (b"lf", "LOCKONFAULT"),
    (b"ac", "ACCOUNT"),
    (b"nr", "NORESERVE"),
    (b"ht", "HUGETLB"),
    (b"sf", "SYNC"),
    (b"ar", "ARCH_1"),
    (b"wf", "WIPEONFORK"),
    (b"dd", "DONTDUMP"),
    (b"sd", "SOFTDIRTY"),
    (b"mm", "MIXEDMAP"),
    (b"hg", "HUGEPAGE"),
    (b"nh", "NOHUGEPAGE"),
    (b"mg", "MERGEABLE"),
    (b"ui", "UFFD_MINOR"),
    (b"ss", "SHADOW_STACK"),
    (b"dp", "DROPPABLE"),
    (b"sl", "SEALED"),
];
/// The table as it is today, where the kernel's own is not found: the letters of bits 0 to 31.
const USUAL: &[u8; 64] = b"rdwrexshmrmwmemsgdumpf??uwloiosrrrdcdelfacnrhtsfarwfddsdmmhgnhmg";

impl FlagTable {
    /// `mnemonics`: a static array of two letters for each bit, or since 6.18 of two letters and a NUL.
    fn find(kernel: &Kernel) -> Self {
        let usual = || Self(USUAL.as_chunks::<2>().0.to_vec());
        let Ok(table) = kernel.symbol_table() else { return usual() };
        let mut named = table.iter().filter(|symbol| symbol.name.starts_with("mnemonics"));
        let found = named.find_map(|symbol| Self::parse(&kernel.memory().bytes(symbol.address, 192).ok()?));
        found.unwrap_or_else(usual)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let width = match bytes {
            [b'r', b'd', b'w', b'r', ..] => 2,
            [b'r', b'd', 0, b'w', b'r', ..] => 3,
            _ => return None,
        };
        let letters = bytes.chunks_exact(width).take(64).map(|letters| match letters {
            [one, two, ..] => [*one, *two],
            _ => [0; 2],
        });
        Some(Self(letters.collect()))
    }

    fn name(&self, bit: u32) -> String {
        let letters = self.0.get(bit as usize).copied().unwrap_or_default();
        let known = LETTERS.iter().find(|(known, _)| **known == letters).map(|(_, name)| (*name).to_owned());
        known.unwrap_or_else(|| match letters {
            [one @ b'a'..=b'z', two] if two.is_ascii_alphanumeric() => {
                [one, two].map(char::from).iter().collect::<String>().to_uppercase()
            }
            _ => format!("BIT_{bit}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_by_the_kernels_own_table() {
        let table = FlagTable::parse(b"rdwrexsh").unwrap();
        assert_eq!(table.name(1), "WRITE");
        assert_eq!(table.name(40), "BIT_40");
        let table = FlagTable::parse(b"rd\0wr\0ex\0zz\0??\0").unwrap();
        assert_eq!([2, 3, 4].map(|bit| table.name(bit)), ["EXEC", "ZZ", "BIT_4"]);
        assert!(FlagTable::parse(b"garbage").is_none());
        assert_eq!(FlagTable(USUAL.as_chunks::<2>().0.to_vec()).name(27), "SOFTDIRTY");
    }
}
