//! A process's memory in numbers, and as an address space (`struct mm_struct`, include/linux/mm_types.h).

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_target::{AddressSpace, Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, Words};

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
    /// `MMF_*` flags (a bitmap of their own since 6.18).
    #[load(any("flags.__mm_flags", "flags"))]
    pub flags: Field<Words>,
    /// Bytes of page tables (4.15).
    #[load(any("pgtables_bytes.counter"))]
    pub pgtables_bytes: Field<u64>,
    /// The task whose control group the memory is charged to.
    pub owner: Field<VirtAddr>,
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

/// Pages of a process. Counters that processors raced for may be below zero for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PagesByKind {
    /// Of files.
    pub file: i64,
    /// Anonymous.
    pub anonymous: i64,
    /// In swap.
    pub swap: i64,
    /// Of shared memory and tmpfs.
    pub shmem: i64,
}

impl PagesByKind {
    /// Those in RAM.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let sum = self.file.saturating_add(self.anonymous).saturating_add(self.shmem);
        // As in the kernel's own sums.
        u64::try_from(sum).unwrap_or(0)
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
        match (&mm.rss_stat, &mm.file_rss, &mm.anon_rss) {
            (Err(_), Ok(file), Ok(anon)) => Ok(file.saturating_add(*anon)),
            _ => Ok(self.pages_by_kind(mm, users)?.resident()),
        }
    }

    /// Pages that a process uses, by kind (2.6.34).
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn pages_by_kind(&self, mm: &Mm, users: &[&Task]) -> Field<PagesByKind> {
        let MemberAddress(at) = mm.rss_stat.clone()?;
        let counters = self.counters.clone()?;
        let count = |name: &str, usual: Option<u64>| -> Field<i64> {
            let kind = match (self.kernel.enumerator(name), usual) {
                (Ok(kind), _) => kind as u64,
                // Without any enumerators, the order of 4.5.
                (Err(_), Some(usual)) if self.kernel.enumerator("MM_FILEPAGES").is_err() => usual,
                // No shared memory apart before 4.5.
                (Err(_), _) => return Ok(0),
            };
            let sum = counters.read(self.kernel, at, kind)?;
            let held_back = users.iter().filter_map(|task| not_added(task, kind));
            Ok(held_back.fold(sum, i64::saturating_add))
        };
        Ok(PagesByKind {
            file: count("MM_FILEPAGES", Some(0))?,
            anonymous: count("MM_ANONPAGES", Some(1))?,
            swap: count("MM_SWAPENTS", Some(2))?,
            shmem: count("MM_SHMEMPAGES", Some(3))?,
        })
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
