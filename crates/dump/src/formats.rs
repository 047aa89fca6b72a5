//! The table of formats. A new container format is a file beside this one and a line in [`FORMATS`]; a wrapper around
//! whole files is a line in [`WRAPPERS`].

use std::sync::Arc;

use kdive_base::ReadAt;

use crate::age::Identity;
use crate::facts::Encryption;
use crate::open::Opened;
use crate::packed::age;
use crate::seal::Seal;
use crate::window::read_up_to;
use crate::{
    Hints, OpenError, avml, elf, flattened, kdump, libvirt, lime, lkcd, lost, s390, sadump, savevm, vmware,
    xen,
};

/// Formats that [`crate::open()`] reads, in the order in which they are tried.
pub(crate) static FORMATS: &[Format] = &[
    xen::FORMAT,
    elf::FORMAT,
    kdump::FORMAT,
    lkcd::FORMAT,
    lime::FORMAT,
    avml::FORMAT,
    s390::FORMAT,
    sadump::FORMAT,
    savevm::FORMAT,
    vmware::FORMAT,
];

/// Formats whose memory can lie in a file of its own that nothing tells by its content.
pub(crate) static WITH_IMAGES: &[&str] = &[vmware::FORMAT.name];

/// Wrappers that [`crate::open()`] peels off.
pub(crate) static WRAPPERS: &[Wrapper] = &[age::WRAPPER, flattened::WRAPPER, libvirt::WRAPPER, lost::WRAPPER];

/// Bytes of a file that formats are told by.
pub(crate) const HEAD_BYTES: u64 = 8192;

/// A container format.
pub(crate) struct Format {
    /// As `kdive info` and messages call it.
    pub(crate) name: &'static str,
    /// Whether a file is of this format, by its first bytes.
    pub(crate) recognises: fn(&Head<'_>) -> bool,
    /// Opens the files of one dump, at least one, all of this format and unwrapped.
    pub(crate) open: fn(&[Source], &Hints) -> Result<Opened, OpenError>,
}

/// Something around a whole file.
pub(crate) struct Wrapper {
    /// As `kdive info` and messages call it.
    pub(crate) name: &'static str,
    /// Whether a file is wrapped so.
    pub(crate) recognises: fn(&Head<'_>) -> bool,
    /// The file inside.
    pub(crate) peel: fn(&Source) -> Result<Peeled, OpenError>,
}

/// What was inside a wrapper.
pub(crate) struct Peeled {
    pub(crate) data: Arc<dyn ReadAt>,
    /// What is wrong with the wrapper.
    pub(crate) warning: Option<String>,
    pub(crate) told: Told,
}

/// What wrappers tell beside their contents.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) encryption: Option<Encryption>,
    pub(crate) seal: Option<Arc<Seal>>,
}

/// The beginning of a file, and the file for formats that must look further.
pub(crate) struct Head<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) file: &'a dyn ReadAt,
}

/// An input file without its wrappers.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) data: Arc<dyn ReadAt>,
    pub(crate) wrappers: Vec<&'static str>,
    /// What is wrong with the wrappers.
    pub(crate) warnings: Vec<String>,
    pub(crate) told: Told,
    /// What encrypted files can be opened with.
    pub(crate) identities: Arc<[Identity]>,
}

impl Source {
    /// A file as it was given.
    pub(crate) fn new(name: String, data: Arc<dyn ReadAt>, identities: Arc<[Identity]>) -> Self {
        Self { name, data, wrappers: Vec::new(), warnings: Vec::new(), told: Told::default(), identities }
    }

    /// Looks for a seal, where one can be: at the end of the file, or of what was encrypted.
    pub(crate) fn find_seal(&mut self) {
        if self.wrappers.iter().all(|wrapper| *wrapper == age::WRAPPER.name)
            && let Ok(Some(seal)) = Seal::find(&*self.data)
        {
            self.told.seal = Some(Arc::new(seal));
        }
    }

    /// The first bytes of the file.
    pub(crate) fn head(&self) -> Result<Vec<u8>, OpenError> {
        read_up_to(&*self.data, 0, HEAD_BYTES)
            .map_err(|source| OpenError::Io { name: self.name.clone(), source })
    }
}

/// The one file of a format that has no split sets.
pub(crate) fn single<'a>(sources: &'a [Source], format: &str) -> Result<&'a Source, OpenError> {
    match sources {
        [] => Err(OpenError::NoFiles),
        [source] => Ok(source),
        [first, second, ..] => Err(OpenError::NotOneDump {
            first: first.name.clone(),
            second: second.name.clone(),
            why: format!("each is a whole dump in {format} format"),
        }),
    }
}
