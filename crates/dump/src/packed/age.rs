//! age: chunks of 64 KiB that are opened as they are asked for, with the identity that the host gives.
//!
//! Nothing that was not authenticated is handed out. What is left of a file that was cut opens up to the last whole chunk.

use std::io;
use std::sync::Arc;

use kdive_base::ReadAt;

use super::damaged;
use crate::OpenError;
use crate::age::{CHUNK, Chunks, Header, HeaderError, MAX_HEADER, SEALED_CHUNK};
use crate::cache::Cache;
use crate::facts::Encryption;
use crate::formats::{Head, Peeled, Source, Told, Wrapper};
use crate::window::read_up_to;

pub(crate) const WRAPPER: Wrapper = Wrapper { name: "age", recognises, peel };

const INTRO: &[u8] = b"age-encryption.org/v1\n";
/// Opened chunks that are kept: 32 MiB of them.
const KEPT: usize = 512;

fn recognises(head: &Head<'_>) -> bool {
    head.bytes.starts_with(INTRO)
}

fn peel(source: &Source) -> Result<Peeled, OpenError> {
    let (opened, warning, encryption) = open(source)?;
    if opened.bytes == 0 {
        let what = warning.unwrap_or_else(|| "nothing is in it".into());
        return Err(OpenError::damaged(&source.name, WRAPPER.name, what));
    }
    let told = Told { encryption: Some(encryption), ..Told::default() };
    Ok(Peeled { data: Arc::new(opened), warning, told })
}

/// Opens a file with the identities that were given. Says what is wrong with it, and for how many it is encrypted.
pub(crate) fn open(source: &Source) -> Result<(Opened, Option<String>, Encryption), OpenError> {
    let file = &*source.data;
    let name = || source.name.clone();
    let io = |error| OpenError::Io { name: name(), source: error };
    let start = read_up_to(file, 0, MAX_HEADER as u64).map_err(io)?;
    let refuse = |error| match error {
        HeaderError::Cut if start.len() < MAX_HEADER => OpenError::Truncated {
            name: name(),
            format: WRAPPER.name,
            needs: file.len().saturating_add(1),
            has: file.len(),
        },
        HeaderError::Cut => OpenError::damaged(&source.name, WRAPPER.name, "its header has no end"),
        HeaderError::Malformed(what) => OpenError::damaged(&source.name, WRAPPER.name, what),
        HeaderError::WrongMac => OpenError::damaged(
            &source.name,
            WRAPPER.name,
            "its header was changed: the checksum of it is wrong",
        ),
    };
    let header = Header::parse(&start).map_err(refuse)?;
    let kinds = header.recipients();
    let encryption = Encryption { recipients: kinds.len() };
    let Some(key) = header.open(&source.identities).map_err(refuse)? else {
        return Err(locked(source, &kinds));
    };
    let nonce = start
        .get(header.bytes..)
        .and_then(|rest| rest.first_chunk())
        .ok_or_else(|| refuse(HeaderError::Cut))?;
    let at = (header.bytes as u64).saturating_add(Chunks::NONCE as u64);
    let (opened, warning) =
        Opened::new(Arc::clone(&source.data), at, Chunks::new(&key, nonce)).map_err(io)?;
    Ok((opened, warning, encryption))
}

/// Why nobody who was given opens it.
fn locked(source: &Source, kinds: &[&str]) -> OpenError {
    let name = source.name.clone();
    let given = source.identities.len();
    match kinds {
        ["scrypt"] => OpenError::Passphrase { name },
        _ if !kinds.contains(&"X25519") => OpenError::ForeignRecipients { name, kinds: kinds.join(", ") },
        _ if given == 0 => OpenError::NoIdentity { name, recipients: kinds.len() },
        _ => OpenError::WrongIdentity { name, recipients: kinds.len(), given },
    }
}

/// The file inside.
pub(crate) struct Opened {
    file: Arc<dyn ReadAt>,
    /// Offset of the first chunk.
    at: u64,
    chunks: Chunks,
    /// Chunks that can be handed out.
    count: u64,
    /// Whether the last of them is marked so.
    ends: bool,
    /// Bytes of the file inside.
    bytes: u64,
    cache: Cache<Vec<u8>>,
}

impl Opened {
    /// Opens the last chunk: it says how long the file inside is, and whether the file was cut.
    fn new(file: Arc<dyn ReadAt>, at: u64, chunks: Chunks) -> io::Result<(Self, Option<String>)> {
        let sealed = file.len().saturating_sub(at);
        let count = sealed.div_ceil(SEALED_CHUNK as u64);
        let mut opened = Self { file, at, chunks, count, ends: true, bytes: 0, cache: Cache::new(KEPT) };
        let Some(last) = count.checked_sub(1) else {
            return Ok((opened, Some(opened_cut(at))));
        };
        if let Ok(chunk) = opened.open(last) {
            opened.bytes = last.saturating_mul(CHUNK as u64).saturating_add(chunk.len() as u64);
            return Ok((opened, None));
        }
        // The last one is missing: what is whole before it can be had.
        opened.ends = false;
        let whole = sealed.checked_div(SEALED_CHUNK as u64).unwrap_or(0);
        opened.count = whole;
        opened.bytes = whole.saturating_mul(CHUNK as u64);
        let end = opened.file.len();
        Ok((opened, Some(opened_cut(end))))
    }

    /// How many chunks there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Where a chunk is in the encrypted file.
    pub(crate) fn place(&self, number: u64) -> std::ops::Range<u64> {
        let start = self.at.saturating_add(number.saturating_mul(SEALED_CHUNK as u64));
        start..start.saturating_add(SEALED_CHUNK as u64).min(self.file.len())
    }

    /// Whether a chunk is not what was written.
    pub(crate) fn is_damaged(&self, number: u64) -> bool {
        self.open(number).is_err()
    }

    fn open(&self, number: u64) -> io::Result<Vec<u8>> {
        let offset = self.at.saturating_add(number.saturating_mul(SEALED_CHUNK as u64));
        let mut chunk = read_up_to(&*self.file, offset, SEALED_CHUNK as u64)?;
        let last = self.ends && number.saturating_add(1) == self.count;
        self.chunks
            .open(number, last, &mut chunk)
            .ok_or_else(|| damaged("a chunk of the encrypted file is not what was written"))?;
        Ok(chunk)
    }
}

fn opened_cut(end: u64) -> String {
    format!("truncated: the encrypted file ends at {end} bytes without its last chunk, or that is damaged")
}

impl ReadAt for Opened {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let number = offset.checked_div(CHUNK as u64).unwrap_or(0);
        if number >= self.count {
            return Ok(0);
        }
        let within = usize::try_from(offset.checked_rem(CHUNK as u64).unwrap_or(0)).unwrap_or(CHUNK);
        let copy = |chunk: &Vec<u8>, into: &mut [u8]| {
            let held = chunk.get(within..).unwrap_or_default();
            let count = held.len().min(into.len());
            if let (Some(to), Some(from)) = (into.get_mut(..count), held.get(..count)) {
                to.copy_from_slice(from);
            }
            count
        };
        if let Some(count) = self.cache.get(number, |chunk| copy(chunk, into)) {
            return Ok(count);
        }
        let chunk = self.open(number)?;
        let count = copy(&chunk, into);
        self.cache.insert(number, chunk);
        Ok(count)
    }

    fn len(&self) -> u64 {
        self.bytes
    }
}
