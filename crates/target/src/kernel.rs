//! The handle.

use std::any::TypeId as RustType;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, RwLock};

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::elf::ElfFile;
use kdive_debuginfo::vmcoreinfo::VmcoreInfo;
use kdive_dump::{Facts, InputFile, Notes, Opened, PhysicalMemory};
use rustc_hash::FxHashMap;

use crate::artifacts::{Artifacts, Debuginfo};
use crate::bootstrap::{Bootstrap, Overrides, VmcoreinfoSource};
use crate::hide::Hidden;
use crate::lacks::Field;
use crate::load::{Layout, Load, Loader};
use crate::memo::Memo;
use crate::space::AddressSpace;
use crate::symbols::KernelSymbols;
use crate::types::KernelTypes;

/// How to open.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// What the user knows better.
    pub overrides: Overrides,
    /// Debuginfo given by hand.
    pub debuginfo: Debuginfo,
    /// Goes on with a vmlinux of another build.
    pub force: bool,
    /// Takes every type from DWARF, as if the kernel had no BTF.
    pub no_btf: bool,
    /// Symbols and members that a test hides.
    pub hidden: Hidden,
}

/// Why a kernel was not opened: only what the user gave by hand can be refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The vmlinux is of another build than the dump.
    #[error("{name} is not the kernel of this dump: its build-id is {given}, the dump's is {wanted}")]
    WrongVmlinux {
        /// The file given.
        name: String,
        /// Its build-id.
        given: String,
        /// The dump's.
        wanted: String,
    },
    /// The vmlinux cannot be read.
    #[error("{name}: {why}")]
    BadDebuginfo {
        /// The file given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A dead kernel. Shared by everything that reads it; each fact resolves once, on first use.
pub struct Kernel {
    opened: Opened,
    vmcoreinfo: VmcoreInfo,
    vmcoreinfo_source: VmcoreinfoSource,
    phys_base: Field<u64>,
    paging: Field<()>,
    space: Arc<AddressSpace>,
    options: OpenOptions,
    vmlinux: Option<ElfFile>,
    artifacts: Arc<dyn Artifacts>,
    symbols: OnceLock<Field<KernelSymbols>>,
    types: OnceLock<Field<KernelTypes>>,
    layouts: RwLock<FxHashMap<RustType, Arc<Layout>>>,
    memo: Memo,
}

impl Kernel {
    /// Opens the kernel in a dump. Only debuginfo given by hand can make this fail.
    pub fn open(
        opened: Opened,
        options: OpenOptions,
        artifacts: Arc<dyn Artifacts>,
    ) -> Result<Arc<Self>, OpenError> {
        let Bootstrap { vmcoreinfo, source, phys_base, space, paging } =
            Bootstrap::run(&opened, &options.overrides);
        let vmlinux = open_vmlinux(&options, &vmcoreinfo)?;
        Ok(Arc::new(Self {
            opened,
            vmcoreinfo,
            vmcoreinfo_source: source,
            phys_base,
            paging,
            space: Arc::new(space),
            options,
            vmlinux,
            artifacts,
            symbols: OnceLock::new(),
            types: OnceLock::new(),
            layouts: RwLock::default(),
            memo: Memo::default(),
        }))
    }

    /// The same kernel without the names that `hidden` holds: for tests. What was parsed of symbols and types is shared.
    #[must_use]
    pub fn hiding(&self, hidden: Hidden) -> Arc<Self> {
        Arc::new(Self {
            opened: self.opened.clone(),
            vmcoreinfo: self.vmcoreinfo.clone(),
            vmcoreinfo_source: self.vmcoreinfo_source,
            phys_base: self.phys_base.clone(),
            paging: self.paging.clone(),
            space: self.space.clone(),
            options: OpenOptions { hidden, ..self.options.clone() },
            vmlinux: self.vmlinux.clone(),
            artifacts: self.artifacts.clone(),
            symbols: self.symbols.clone(),
            types: self.types.clone(),
            layouts: RwLock::default(),
            memo: Memo::default(),
        })
    }

    /// The kernel's address space.
    #[must_use]
    pub fn memory(&self) -> &dyn VirtualMemory {
        &*self.space
    }

    /// The kernel's address space, with its page tables.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The dump's physical memory.
    #[must_use]
    pub fn physical(&self) -> &Arc<dyn PhysicalMemory> {
        &self.opened.memory
    }

    /// The files of the dump as they lie on disk.
    #[must_use]
    pub fn files(&self) -> &[InputFile] {
        &self.opened.files
    }

    /// What the container says of itself.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.opened.facts
    }

    /// The container's notes.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.opened.notes
    }

    /// VMCOREINFO; empty where there is none.
    #[must_use]
    pub fn vmcoreinfo(&self) -> &VmcoreInfo {
        &self.vmcoreinfo
    }

    /// Where VMCOREINFO was found.
    #[must_use]
    pub fn vmcoreinfo_source(&self) -> VmcoreinfoSource {
        self.vmcoreinfo_source
    }

    /// Physical address that the kernel's text mapping is shifted by.
    pub fn phys_base(&self) -> &Field<u64> {
        &self.phys_base
    }

    /// Why the kernel's page tables are not usable, if they are not.
    pub fn paging(&self) -> &Field<()> {
        &self.paging
    }

    /// The vmlinux given by the user.
    #[must_use]
    pub fn vmlinux(&self) -> Option<&ElfFile> {
        self.vmlinux.as_ref()
    }

    /// How the kernel was opened.
    #[must_use]
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// Where debuginfo is asked for.
    #[must_use]
    pub fn artifacts(&self) -> &Arc<dyn Artifacts> {
        &self.artifacts
    }

    pub(crate) fn kernel_symbols(&self) -> &Field<KernelSymbols> {
        self.symbols.get_or_init(|| KernelSymbols::find(self))
    }

    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    pub(crate) fn kernel_types(&self) -> &Field<KernelTypes> {
        self.types.get_or_init(|| KernelTypes::find(self))
    }

    /// A loader of `T`, its layout bound to this kernel once.
    #[must_use]
    pub fn loader<T: Load>(&self) -> Loader<'_, T> {
        Loader { kernel: self, layout: self.layout::<T>(), kind: PhantomData }
    }

    /// One structure at a kernel address. For many of a kind, keep a [`Kernel::loader`].
    #[must_use]
    pub fn load<T: Load>(&self, at: VirtAddr) -> T {
        self.loader().load(at)
    }

    fn layout<T: Load>(&self) -> Arc<Layout> {
        let kind = RustType::of::<T>();
        if let Some(layout) = self.layouts.read().ok().and_then(|layouts| layouts.get(&kind).cloned()) {
            return layout;
        }
        let layout = Arc::new(self.bind(T::TYPES, T::MEMBERS, T::OF_MODULE));
        if let Ok(mut layouts) = self.layouts.write() {
            layouts.insert(kind, layout.clone());
        }
        layout
    }
}

fn open_vmlinux(options: &OpenOptions, vmcoreinfo: &VmcoreInfo) -> Result<Option<ElfFile>, OpenError> {
    let Some(artifact) = &options.debuginfo.vmlinux else { return Ok(None) };
    let elf = ElfFile::parse(artifact.bytes.clone())
        .map_err(|error| OpenError::BadDebuginfo { name: artifact.name.clone(), why: error.to_string() })?;
    if let (Some(given), Some(wanted), false) = (elf.build_id(), vmcoreinfo.build_id(), options.force)
        && given != wanted
    {
        return Err(OpenError::WrongVmlinux {
            name: artifact.name.clone(),
            given: hex(&given),
            wanted: hex(&wanted),
        });
    }
    Ok(Some(elf))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
