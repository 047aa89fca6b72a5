//! What opening asks of the outside: debuginfo by build-id or name. `fetch` answers.

use kdive_debuginfo::Blob;

/// A file that was found.
#[derive(Clone)]
pub struct Artifact {
    /// Where it came from, for messages.
    pub name: String,
    /// Its bytes.
    pub bytes: Blob,
}

/// A file that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// The debuginfo of a module of this kernel.
    Module {
        /// `UTS_RELEASE` of the kernel.
        release: Option<&'a str>,
        /// The module's name, with underscores.
        name: &'a str,
        /// Its build-id, where the kernel keeps it.
        build_id: Option<&'a [u8]>,
    },
    /// The file that a module was loaded from, or one like it: with its code, not debuginfo alone.
    ModuleCode {
        /// `UTS_RELEASE` of the kernel.
        release: Option<&'a str>,
        /// The module's name, with underscores.
        name: &'a str,
        /// Its build-id, where the dump has it.
        build_id: Option<&'a [u8]>,
    },
    /// A separate debug file that `.gnu_debuglink` or the build-id of a stripped file names.
    Debug {
        /// The file that was stripped, as it was given.
        of: &'a str,
        /// The file name in `.gnu_debuglink`.
        link: Option<&'a str>,
        /// The build-id of the stripped file.
        build_id: Option<&'a [u8]>,
    },
    /// A file of the kernel's sources.
    Source {
        /// The directory of the source tree; without one the file is looked for where the compiler found it.
        tree: Option<&'a str>,
        /// The file as DWARF names it, with the directory that the compiler ran in or without.
        file: &'a str,
    },
}

/// Finds files. Each call is answered at once; `None` means not found.
pub trait Artifacts: Send + Sync {
    /// Looks for a file.
    fn find(&self, want: &Want<'_>) -> Option<Artifact>;
}

/// Finds nothing.
impl Artifacts for () {
    fn find(&self, _want: &Want<'_>) -> Option<Artifact> {
        None
    }
}

/// Debuginfo that the user gave by hand.
#[derive(Clone, Default)]
pub struct Debuginfo {
    /// A vmlinux, with or without DWARF.
    pub vmlinux: Option<Artifact>,
    /// A System.map.
    pub system_map: Option<Artifact>,
}
