//! A process's memory in numbers, and as an address space (`struct mm_struct`, include/linux/mm_types.h).

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_target::{AddressSpace, Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress};

use crate::percpu_counter::PerCpuCounter;
use crate::tasks::Task;

/// The part of `mm_struct` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "mm_struct")]
pub struct Mm {
    /// Address of the `mm_struct`.
    #[load(address)]
    pub at: VirtAddr,
    /// Top-level page table (a kernel address).
    pub pgd: Field<VirtAddr>,
    /// Pages mapped.
    pub total_vm: Field<u64>,
    /// Resident pages by kind: see [`MmLoader::resident_pages`].
    pub rss_stat: Field<MemberAddress>,
    /// Pages of files, before 2.6.34.
    #[load(any("_file_rss"))]
    pub file_rss: Field<u64>,
    /// Anonymous pages, before 2.6.34.
    #[load(any("_anon_rss"))]
    pub anon_rss: Field<u64>,
    /// First byte of the command line, in user space.
    pub arg_start: Field<VirtAddr>,
    /// First byte after it.
    pub arg_end: Field<VirtAddr>,
    /// First byte of the environment, in user space.
    pub env_start: Field<VirtAddr>,
    /// First byte after it.
    pub env_end: Field<VirtAddr>,
}

/// Loads `mm_struct`s and adds up their counters.
#[derive(Clone)]
pub struct MmLoader<'k> {
    kernel: &'k Kernel,
    mm: Loader<'k, Mm>,
    counters: Field<Counters>,
}

/// How a kernel counts resident pages.
#[derive(Clone, Copy, Debug)]
enum Counters {
    /// `struct mm_rss_stat { atomic_long_t count[] }` (2.6.34).
    Atomic { count: u64 },
    /// `struct percpu_counter rss_stat[]` (6.2): a sum, and what each CPU has not added yet.
    PerCpu(PerCpuCounter),
}

impl Counters {
    fn find(kernel: &Kernel) -> Field<Self> {
        let own = kernel.member("mm_rss_stat", &["count"]);
        if let (Ok(member), Ok(_)) = (&own, kernel.member("mm_struct", &["rss_stat.count"])) {
            return Ok(Self::Atomic { count: member.offset });
        }
        Ok(Self::PerCpu(PerCpuCounter::find(kernel)?))
    }

    fn read(self, kernel: &Kernel, at: VirtAddr, kind: u64) -> Field<i64> {
        match self {
            Self::Atomic { count } => {
                Ok(kernel.memory().u64(at.add(count).add(kind.wrapping_mul(8)))?.cast_signed())
            }
            Self::PerCpu(counter) => counter.sum(kernel, at.add(kind.wrapping_mul(counter.size))),
        }
    }
}

impl<'k> MmLoader<'k> {
    /// A loader bound to this kernel's layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, mm: kernel.loader(), counters: Counters::find(kernel) }
    }

    /// The `mm_struct` at `at`.
    #[must_use]
    pub fn load(&self, at: VirtAddr) -> Mm {
        self.mm.load(at)
    }

    /// Pages of RAM that a process uses: of files, anonymous ones and shared memory. `users` are the tasks that share the
    /// memory: each may hold back a few pages of the sum.
    pub fn resident_pages(&self, mm: &Mm, users: &[&Task]) -> Field<u64> {
        let MemberAddress(at) = match (&mm.rss_stat, &mm.file_rss, &mm.anon_rss) {
            (Ok(at), _, _) => *at,
            (Err(_), Ok(file), Ok(anon)) => return Ok(file.saturating_add(*anon)),
            (Err(lacks), _, _) => return Err(lacks.clone()),
        };
        let counters = self.counters.clone()?;
        let mut pages = 0_i64;
        for (name, usual) in [("MM_FILEPAGES", 0), ("MM_ANONPAGES", 1), ("MM_SHMEMPAGES", 3)] {
            let kind = match self.kernel.enumerator(name) {
                Ok(kind) => kind as u64,
                // No shared memory apart before 4.5; without any enumerators, the order of 4.5.
                Err(_) if usual == 3 && self.kernel.enumerator("MM_FILEPAGES").is_ok() => continue,
                Err(_) => usual,
            };
            let count = counters.read(self.kernel, at, kind)?;
            let held_back =
                users.iter().filter_map(|task| not_added(task, kind)).fold(0, i64::saturating_add);
            pages = pages.saturating_add(count).saturating_add(held_back);
        }
        // Counters of CPUs that raced may end below zero for a moment, as in the kernel's own sums.
        Ok(u64::try_from(pages).unwrap_or(0))
    }

    /// The process's user memory.
    pub fn space(&self, mm: &Mm) -> Field<AddressSpace> {
        let kernel = self.kernel;
        let table = kernel.space().page_table();
        let table = table.ok_or_else(|| Lacks::unavailable("the kernel's page tables were not found"))?;
        let root = kernel.space().translate(mm.pgd.clone()?)?.phys;
        Ok(AddressSpace::new(kernel.physical().clone(), Some(table.with_root(root)), Vec::new()))
    }
}

/// What a task has not added to its process's counter of one kind.
fn not_added(task: &Task, kind: u64) -> Option<i64> {
    let Bytes(counts) = task.rss_not_added.as_ref().ok()?;
    let at = usize::try_from(kind).ok()?.checked_mul(4)?;
    Endian::Little.i32(counts, at).map(i64::from)
}

/// Strings of a process between two of its addresses, each ended by NUL: its arguments, its environment.
pub fn strings(space: &AddressSpace, start: VirtAddr, end: VirtAddr) -> Field<Vec<Vec<u8>>> {
    /// `MAX_ARG_STRLEN` is 128 KiB for one string; damaged bounds may claim anything.
    const MOST: u64 = 256 << 10;
    let length = end.since(start).min(MOST);
    if end < start {
        return Err(Lacks::implausible("the strings end before they begin"));
    }
    let mut bytes = vec![0; length as usize];
    let (count, missing) = space.read(start, &mut bytes);
    bytes.truncate(count);
    match missing {
        Some(missing) if bytes.is_empty() && length > 0 => Err(missing.into()),
        _ => {
            let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
            Ok(bytes.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
        }
    }
}
