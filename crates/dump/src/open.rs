//! Opening: tell the format, peel the wrappers, hand the files to the format.

use std::sync::Arc;

use kdive_base::PhysAddr;

use crate::age::Identity;
use crate::facts::Facts;
use crate::formats::{FORMATS, Format, Head, Peeled, Source, WITH_IMAGES, WRAPPERS};
use crate::memory::PhysicalMemory;
use crate::notes::Notes;
use crate::packed::{PACKINGS, age};
use crate::probe::kind_of;
use crate::redacted::{Redacted, Veiled};
use crate::seal::Seal;
use crate::{Hints, Input, InputFile, OpenError, flattened, raw};

/// Wrappers inside wrappers that are peeled.
const MAX_WRAPPERS: usize = 4;

/// An opened dump.
#[derive(Clone)]
pub struct Opened {
    /// The memory.
    pub memory: Arc<dyn PhysicalMemory>,
    /// What the container says of itself.
    pub facts: Facts,
    /// VMCOREINFO, registers and the like.
    pub notes: Notes,
    /// What the writer of the dump left to check it by.
    pub seal: Option<Arc<Seal>>,
    /// The files as they lie on disk, with their wrappers.
    pub files: Vec<InputFile>,
}

impl Opened {
    /// What a format makes of its files.
    pub(crate) fn new(memory: Arc<dyn PhysicalMemory>, facts: Facts, notes: Notes) -> Self {
        Self { memory, facts, notes, seal: None, files: Vec::new() }
    }

    /// Lets what was redacted be missing, as far as the dump says what was.
    fn hide_redacted(&mut self, hints: &Hints) {
        let redacted = Redacted::of(&self.notes);
        self.facts.redacted = redacted.facts();
        if !redacted.is_empty() && !hints.as_stored {
            self.memory = Arc::new(Veiled::missing(Arc::clone(&self.memory), &redacted));
        }
    }
}

/// Opens a dump: one file, or the parts of a split set in any order, some of which may be missing.
///
/// # Errors
/// When no memory can be had from the files at all: see [`OpenError`]. Damage that leaves some memory readable is a
/// warning in [`Facts`].
pub fn open(input: Input, hints: &Hints) -> Result<Opened, OpenError> {
    let files = input.files.clone();
    if let Some(raw) = raw_files(&input)? {
        return Ok(Opened { files, ..raw::open(&raw, hints)? });
    }
    let mut sources = Vec::with_capacity(input.files.len());
    let mut format: Option<(&'static Format, String)> = None;
    let mut bare = Vec::new();
    for file in input.files {
        let source = Source::new(file.name, file.data, hints.identities.clone());
        let (found, source) = match identify(source.clone()) {
            Err(error @ OpenError::NotADump { .. }) => {
                bare.push((error, source));
                continue;
            }
            found => found?,
        };
        match &format {
            Some((first, name)) if first.name != found.name => {
                return Err(OpenError::NotOneDump {
                    first: name.clone(),
                    second: source.name,
                    why: format!("one is {}, the other {}", first.name, found.name),
                });
            }
            Some(_) => {}
            None => format = Some((found, source.name.clone())),
        }
        sources.push(source);
    }
    let format = format.map(|(format, _)| format);
    for (error, source) in bare {
        // Told by nothing, it can still be the memory of a dump that keeps it in a file of its own.
        if !format.is_some_and(|format| WITH_IMAGES.contains(&format.name)) {
            return Err(error);
        }
        sources.push(source);
    }
    let format = format.ok_or(OpenError::NoFiles)?;
    let mut opened = (format.open)(&sources, hints)?;
    opened.facts.files = sources.iter().map(|source| source.name.clone()).collect();
    let told = sources.first().map(|source| source.told.clone()).unwrap_or_default();
    opened.facts.encryption = told.encryption;
    opened.facts.manifest = told.seal.as_ref().map(|seal| seal.manifest.clone());
    opened.seal = told.seal;
    opened.hide_redacted(hints);
    let wrapper_warnings = sources.into_iter().flat_map(|source| source.warnings);
    opened.facts.warnings.splice(0..0, wrapper_warnings);
    opened.files = files;
    Ok(opened)
}

/// The files with their base addresses, if the user calls them raw images.
fn raw_files(input: &Input) -> Result<Option<Vec<(InputFile, PhysAddr)>>, OpenError> {
    let (raw, other): (Vec<_>, Vec<_>) = input.files.iter().partition(|file| file.raw_base.is_some());
    match (raw.first(), other.first()) {
        (Some(first), Some(second)) => Err(OpenError::NotOneDump {
            first: first.name.clone(),
            second: second.name.clone(),
            why: "one is given as a raw image, the other is not".into(),
        }),
        (Some(_), None) => {
            Ok(Some(raw.into_iter().filter_map(|file| Some((file.clone(), file.raw_base?))).collect()))
        }
        _ => Ok(None),
    }
}

fn identify(mut source: Source) -> Result<(&'static Format, Source), OpenError> {
    loop {
        source.find_seal();
        let bytes = source.head()?;
        let head = Head { bytes: &bytes, file: &*source.data };
        if let Some(format) = FORMATS.iter().find(|format| (format.recognises)(&head)) {
            return Ok((format, source));
        }
        let wrapper = WRAPPERS.iter().chain(PACKINGS).find(|wrapper| (wrapper.recognises)(&head));
        match wrapper {
            Some(wrapper) if source.wrappers.len() < MAX_WRAPPERS => {
                let Peeled { data, warning, told } = (wrapper.peel)(&source)?;
                source.data = data;
                source.told.encryption = source.told.encryption.or(told.encryption);
                source.told.seal = source.told.seal.or(told.seal);
                source.wrappers.push(wrapper.name);
                source.warnings.extend(warning.map(|warning| format!("{}: {warning}", source.name)));
            }
            _ => return Err(OpenError::NotADump { kind: kind_of(&head), name: source.name }),
        }
    }
}

/// What is inside an encrypted file.
pub struct Decrypted {
    /// Its bytes.
    pub data: Arc<dyn kdive_base::ReadAt>,
    /// Whether it is a flattened dump.
    pub flattened: bool,
    /// What is wrong with the encrypted file.
    pub warning: Option<String>,
}

/// Opens an encrypted file, whatever is in it; `None` if it is not encrypted.
///
/// # Errors
/// When none of the identities opens it, or nothing of it can be had.
pub fn decrypt(
    name: &str,
    file: Arc<dyn kdive_base::ReadAt>,
    identities: Arc<[Identity]>,
) -> Result<Option<Decrypted>, OpenError> {
    let source = Source::new(name.to_owned(), file, identities);
    let bytes = source.head()?;
    if !(age::WRAPPER.recognises)(&Head { bytes: &bytes, file: &*source.data }) {
        return Ok(None);
    }
    let Peeled { data, warning, .. } = (age::WRAPPER.peel)(&source)?;
    let inside = Source { data: Arc::clone(&data), ..source };
    let head = inside.head()?;
    let flattened = (flattened::WRAPPER.recognises)(&Head { bytes: &head, file: &*data });
    Ok(Some(Decrypted { data, flattened, warning }))
}
