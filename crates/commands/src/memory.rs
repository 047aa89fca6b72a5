//! Which memory an address is of: the kernel's, that of a process, physical memory, or the dump file itself.
//!
//! Commands that read memory (`rd`, `search`, `struct`, `dis`, `x`) take crash's letters for it. Such a command puts the
//! options that it understands into its table ([`USER`], [`PHYSICAL`], [`KERNEL`], [`FILE`], [`MACHINE`]), then asks twice:
//!
//! ```text
//! let which = Which::of("rd", args)?;         // what was typed: -u, -p, -k, -f, or nothing
//! let space = which.open(cx, "rd", address)?; // the memory, opened; without a letter the address decides
//! space.memory().read(VirtAddr(address), &mut bytes)
//! ```
//!
//! [`Space::memory`] is a [`VirtualMemory`] for physical memory and the file too, so code that reads does not ask what it
//! reads. `Scope { memory: space.memory(), .. }` makes expressions follow pointers there.

use std::sync::Arc;

use kdive_base::{Missing, PhysAddr, ReadAt, VirtAddr, VirtualMemory, Why};
use kdive_dump::PhysicalMemory;
use kdive_linux::mm::MmLoader;
use kdive_linux::tasks::Task;
use kdive_target::{AddressSpace, Kernel};

use crate::args::{Args, Opt, UsageError};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::place;
use crate::select;

pub(crate) const KERNEL: Opt = Opt::flag("-k", "the address is the kernel's");
pub(crate) const USER: Opt = Opt::flag("-u", "the address is of the current task's user memory");
pub(crate) const PHYSICAL: Opt = Opt::flag("-p", "the address is physical");
pub(crate) const MACHINE: Opt =
    Opt::flag("-m", "the address is one of the Xen host: refused, this dump has none");
pub(crate) const FILE: Opt = Opt::flag("-f", "the address is an offset in the dump file");

/// What was typed about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Nothing: the lower half of the address space is the current task's, the upper half the kernel's.
    ByAddress,
    /// The kernel's virtual memory.
    Kernel,
    /// The current task's user memory.
    User,
    /// Physical memory.
    Physical,
    /// The dump file as it lies on disk; of a split dump the first file given.
    File,
}

impl Which {
    /// What the options of a command say.
    ///
    /// # Errors
    /// Two of them that contradict each other, and `-m`.
    pub(crate) fn of(command: &str, args: &Args) -> Result<Self, UsageError> {
        const LETTERS: [(&str, Which); 4] =
            [("-k", Which::Kernel), ("-u", Which::User), ("-p", Which::Physical), ("-f", Which::File)];
        if args.has("-m") {
            let why = "-m reads the memory of a Xen host, and this is no dump of one";
            return Err(UsageError::new(command, why));
        }
        let mut given = LETTERS.iter().filter(|(letter, _)| args.has(letter));
        match (given.next(), given.next()) {
            (Some((first, _)), Some((second, _))) => {
                Err(UsageError::new(command, format!("{first} and {second} name different memory")))
            }
            (Some((_, which)), None) => Ok(*which),
            (None, _) => Ok(Self::ByAddress),
        }
    }

    /// Opens that memory, to read at `at`.
    ///
    /// # Errors
    /// The current task has no user memory, or what leads to it is lacking; `-u` with an address of the kernel.
    pub(crate) fn open(self, cx: &Cx, command: &str, at: u64) -> Result<Space, CommandError> {
        match self {
            Self::ByAddress if is_user(at) => Space::of_current_task(cx, command),
            Self::ByAddress | Self::Kernel => Ok(Space::Kernel(cx.kernel.clone())),
            Self::User if is_user(at) => Space::of_current_task(cx, command),
            Self::User => Err(UsageError::new(command, format!("{at:x} is no user address")).into()),
            Self::Physical => Ok(Space::Physical(Physical(cx.kernel.physical().clone()))),
            Self::File => {
                let file = cx.kernel.files().first();
                let file = file.ok_or_else(|| CommandError::not_found("the dump file is not at hand"))?;
                Ok(Space::File(File(file.data.clone())))
            }
        }
    }
}

/// Whether an address is in the lower half of the address space, which belongs to processes.
pub(crate) const fn is_user(address: u64) -> bool {
    address >> 63 == 0
}

/// An opened memory.
pub(crate) enum Space {
    /// The kernel's.
    Kernel(Arc<Kernel>),
    /// A process's.
    User(AddressSpace),
    /// Physical memory; addresses are physical.
    Physical(Physical),
    /// The dump file; addresses are offsets in bytes.
    File(File),
}

impl Space {
    /// The user memory of the current task.
    ///
    /// # Errors
    /// As [`Space::of_task`].
    pub(crate) fn of_current_task(cx: &Cx, command: &str) -> Result<Self, CommandError> {
        Self::of_task(cx, command, &select::current(cx)?)
    }

    /// The user memory of a task.
    ///
    /// # Errors
    /// It has none, or what leads to it is lacking.
    pub(crate) fn of_task(cx: &Cx, command: &str, task: &Task) -> Result<Self, CommandError> {
        let mm = task.mm.clone()?;
        if mm.is_null() {
            return Err(CommandError::NotFound {
                what: format!("{command}: {} has no user memory", place(task)),
                hint: Some("`ps -u` lists the tasks that have; `set PID` makes one the current task".into()),
            });
        }
        let loader = MmLoader::new(&cx.kernel);
        Ok(Self::User(loader.space(&loader.load(mm))?))
    }

    /// The memory itself.
    pub(crate) fn memory(&self) -> &dyn VirtualMemory {
        match self {
            Self::Kernel(kernel) => kernel.memory(),
            Self::User(space) => space,
            Self::Physical(memory) => memory,
            Self::File(file) => file,
        }
    }

    /// Whether what is read there is the kernel's own data, whose words can point at symbols and slab objects.
    pub(crate) fn is_kernel(&self) -> bool {
        matches!(self, Self::Kernel(_) | Self::Physical(_))
    }
}

/// Physical memory by the same trait as virtual memory.
pub(crate) struct Physical(Arc<dyn PhysicalMemory>);

impl VirtualMemory for Physical {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        self.0.read(PhysAddr(at.0), into)
    }
}

/// A file by the same trait as memory.
pub(crate) struct File(Arc<dyn ReadAt>);

impl VirtualMemory for File {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let wanted = into.len();
        let (count, why) = match self.0.read_full_at(at.0, into) {
            Ok(count) => (count, Why::BeyondFileEnd),
            Err(error) => (0, Why::Io(error.kind())),
        };
        (count, (count < wanted).then(|| Missing::new(at.add(count as u64), why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPTIONS: &[Opt] = &[KERNEL, USER, PHYSICAL, MACHINE, FILE];

    fn which(line: &str) -> Result<Which, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let args = Args::parse("rd", OPTIONS, &words).unwrap();
        Which::of("rd", &args).map_err(|error| error.to_string())
    }

    #[test]
    fn letters_choose_the_memory_and_exclude_each_other() {
        assert_eq!(which(""), Ok(Which::ByAddress));
        assert_eq!(which("-p"), Ok(Which::Physical));
        assert_eq!(which("-u 400000"), Ok(Which::User));
        assert_eq!(which("-up"), Err("rd: -u and -p name different memory".into()));
        assert!(which("-m").unwrap_err().contains("Xen"));
    }

    #[test]
    fn a_file_ends_with_a_reason() {
        let file = File(Arc::new(vec![1_u8, 2, 3]));
        let mut bytes = [0; 4];
        let (count, missing) = file.read(VirtAddr(1), &mut bytes);
        assert_eq!((count, bytes), (2, [2, 3, 0, 0]));
        assert_eq!(missing, Some(Missing::new(VirtAddr(3), Why::BeyondFileEnd)));
    }
}
