//! `struct new_utsname` (include/uapi/linux/utsname.h): what `uname` tells.

use kdive_base::bytes::until_nul;
use kdive_base::{VirtAddr, VirtualMemory, printable};
use kdive_target::{Field, Kernel, Lacks};
use serde::Serialize;

/// `__NEW_UTS_LEN` and the NUL: the layout is part of the ABI, so it needs no type information.
const FIELD: usize = 65;

/// What `uname` tells of the initial namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uts {
    /// `Linux`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysname: Option<String>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodename: Option<String>,
    /// Kernel release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Build number, options and date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

impl Uts {
    /// From the kernel's memory; what that lacks, from the dump's header and VMCOREINFO. The error says why the memory did
    /// not tell.
    #[must_use]
    pub fn find(kernel: &Kernel) -> (Self, Option<Lacks>) {
        let (mut uts, lacks) = match Self::in_memory(kernel) {
            Ok(uts) => (uts, None),
            Err(lacks) => (Self::default(), Some(lacks)),
        };
        let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        if let Some(header) = &kernel.facts().uts {
            uts.sysname = uts.sysname.or_else(|| filled(&header.sysname));
            uts.nodename = uts.nodename.or_else(|| filled(&header.nodename));
            uts.release = uts.release.or_else(|| filled(&header.release));
            uts.version = uts.version.or_else(|| filled(&header.version));
            uts.machine = uts.machine.or_else(|| filled(&header.machine));
        }
        uts.release = uts.release.or_else(|| kernel.vmcoreinfo().release().map(str::to_owned));
        uts.machine = uts.machine.or_else(|| kernel.facts().machine.clone());
        (uts, lacks)
    }

    fn in_memory(kernel: &Kernel) -> Field<Self> {
        let info = kernel.vmcoreinfo();
        let told = info.symbol("init_uts_ns").zip(info.offset("uts_namespace.name"));
        let at = match told {
            Some((at, offset)) => at.add(offset),
            None => kernel.symbol("init_uts_ns")?.add(kernel.offset_of("uts_namespace", "name")?),
        };
        Self::at(kernel.memory(), at)
    }

    fn at(memory: &dyn VirtualMemory, at: VirtAddr) -> Field<Self> {
        let bytes = memory.bytes(at, FIELD * 5)?;
        let mut fields = bytes.chunks_exact(FIELD).map(|field| Some(printable(until_nul(field))));
        let mut next = || fields.next().flatten();
        let (sysname, nodename) = (next(), next());
        if sysname.as_deref() != Some("Linux") {
            return Err(Lacks::implausible("init_uts_ns does not hold the name of a Linux system"));
        }
        Ok(Self { sysname, nodename, release: next(), version: next(), machine: next() })
    }
}
