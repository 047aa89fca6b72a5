//! What `kdive dump` leaves behind a dump to check it by: hashes, and a manifest that says whose dump it is.
//!
//! It lies behind the end of the dump, where other readers do not look: behind the pages of a kdump-compressed file or an ELF
//! core, behind the end mark of a flattened stream. Of an encrypted dump it is inside what is encrypted. Of a flattened
//! stream it also lists the records, so that nobody has to walk over them.
//!
//! Layout, little-endian: the list of records (for each, where its bytes are in the stream, where in the dump they belong,
//! and how many, three 64-bit words); SHA-256 of each block of the bytes before the seal; the manifest, JSON; a signature
//! of 96 bytes or nothing; a trailer of 64 bytes: `KDIVSEAL`, version 1 and the bytes of a block (32-bit words), then as
//! 64-bit words the bytes before the seal, the number of records, the bytes of the manifest, those of the signature, a
//! zero, and the first 8 bytes of SHA-256 of the 56 before. The manifest has SHA-256 of the hashes and of the records.

use std::io;

use kdive_base::{Endian, ReadAt};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::window::read_up_to;

/// Bytes that one hash is over.
pub const BLOCK_BYTES: u32 = 256 << 10;
const MAGIC: &[u8; 8] = b"KDIVSEAL";
const VERSION: u32 = 1;
const TRAILER: u64 = 64;
const HASH: u64 = 32;
const RECORD: u64 = 24;
const MAX_MANIFEST: u64 = 1 << 20;
const MAX_SIGNATURE: u64 = 96;

/// What a dump is, in the words of who wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The program that wrote the dump, with its version.
    pub tool: String,
    /// When, in seconds since 1970.
    pub written: u64,
    /// Name of the machine that crashed.
    pub host: String,
    /// Kernel release.
    pub release: String,
    /// Architecture.
    pub machine: String,
    /// Build-id of the kernel, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// When the kernel died, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_time: Option<u64>,
    /// The dump level.
    pub level: u32,
    /// Kinds of data that were overwritten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<String>,
    /// SHA-256 of the hashes of all blocks.
    pub blocks_sha256: String,
    /// SHA-256 of the list of records, if there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub records_sha256: String,
}

/// Why a seal proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The seal itself was changed.
    #[error("the seal of the dump is damaged: {0} differs from what its manifest says")]
    Damaged(&'static str),
    /// It cannot be read.
    #[error("the seal of the dump cannot be read: {0}")]
    Io(io::ErrorKind),
}

/// Where a record of a flattened stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Offset of its bytes in the stream.
    pub(crate) at: u64,
    /// Offset in the dump.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A seal that was found; what it says is proven by [`hashes`](Self::hashes).
#[derive(Clone, Debug)]
pub struct Seal {
    /// What the dump is.
    pub manifest: Manifest,
    /// Bytes before the seal: those that were hashed.
    pub sealed: u64,
    /// Bytes that one hash is over.
    pub block: u64,
    records: u64,
    manifest_text: Vec<u8>,
    signature: Vec<u8>,
}

impl Seal {
    /// The seal at the end of a file; `None` where there is none.
    pub(crate) fn find(file: &dyn ReadAt) -> io::Result<Option<Self>> {
        let Some(at) = file.len().checked_sub(TRAILER) else { return Ok(None) };
        let trailer = read_up_to(file, at, TRAILER)?;
        let Some(layout) = Layout::parse(&trailer, file.len()) else { return Ok(None) };
        let manifest_at = at.saturating_sub(layout.signature).saturating_sub(layout.manifest);
        let manifest_text = read_up_to(file, manifest_at, layout.manifest)?;
        let Ok(manifest) = serde_json::from_slice(&manifest_text) else { return Ok(None) };
        let signature = read_up_to(file, at.saturating_sub(layout.signature), layout.signature)?;
        let Layout { sealed, block, records, .. } = layout;
        Ok(Some(Self { manifest, sealed, block, records, manifest_text, signature }))
    }

    /// The manifest's text, which the signature is over.
    #[must_use]
    pub fn manifest_text(&self) -> &[u8] {
        &self.manifest_text
    }

    /// The signature: the public key and what it signs with, if the dump was signed.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        Some(&*self.signature).filter(|bytes| !bytes.is_empty())
    }

    /// The hashes of the blocks, checked against the manifest.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn hashes(&self, file: &dyn ReadAt) -> Result<Vec<[u8; 32]>, SealError> {
        let at = self.sealed.saturating_add(self.records.saturating_mul(RECORD));
        let bytes = blocks(self.sealed, self.block).saturating_mul(HASH);
        let table = checked(file, at, bytes, &self.manifest.blocks_sha256, "the list of hashes")?;
        Ok(table.as_chunks().0.to_vec())
    }

    /// The records of a flattened stream, checked against the manifest; `None` if there is no list of them.
    pub(crate) fn records(&self, file: &dyn ReadAt) -> Result<Option<Vec<Record>>, SealError> {
        if self.records == 0 {
            return Ok(None);
        }
        let bytes = self.records.saturating_mul(RECORD);
        let table = checked(file, self.sealed, bytes, &self.manifest.records_sha256, "the list of records")?;
        let words = |record: &[u8; RECORD as usize]| {
            let word = |index| Endian::Little.u64(record, index).unwrap_or(0);
            Record { at: word(0), offset: word(8), bytes: word(16) }
        };
        let records: Vec<Record> = table.as_chunks().0.iter().map(words).collect();
        let inside =
            |record: &Record| record.at.checked_add(record.bytes).is_some_and(|end| end <= self.sealed);
        Ok(records.iter().all(inside).then_some(records))
    }
}

/// SHA-256, in hexadecimal.
fn hex_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn checked(
    file: &dyn ReadAt,
    at: u64,
    bytes: u64,
    expected: &str,
    what: &'static str,
) -> Result<Vec<u8>, SealError> {
    let table = read_up_to(file, at, bytes).map_err(|error| SealError::Io(error.kind()))?;
    if table.len() as u64 == bytes && hex_of(&table) == expected {
        Ok(table)
    } else {
        Err(SealError::Damaged(what))
    }
}

fn blocks(sealed: u64, block: u64) -> u64 {
    sealed.checked_add(block.saturating_sub(1)).and_then(|sum| sum.checked_div(block)).unwrap_or(0)
}

struct Layout {
    sealed: u64,
    block: u64,
    records: u64,
    manifest: u64,
    signature: u64,
}

impl Layout {
    /// What a trailer says, if it fits the file.
    fn parse(trailer: &[u8], file: u64) -> Option<Self> {
        let (words, sum) = trailer.split_at_checked(56)?;
        if !words.starts_with(MAGIC) || !Sha256::digest(words).starts_with(sum) || sum.len() != 8 {
            return None;
        }
        let word = |at| Endian::Little.u64(words, at);
        if Endian::Little.u32(words, 8)? != VERSION {
            return None;
        }
        let block = u64::from(Endian::Little.u32(words, 12)?);
        let layout =
            Self { sealed: word(16)?, block, records: word(24)?, manifest: word(32)?, signature: word(40)? };
        let tables = layout
            .records
            .checked_mul(RECORD)?
            .checked_add(blocks(layout.sealed, block).checked_mul(HASH)?)?;
        let tail = layout.manifest.checked_add(layout.signature)?.checked_add(TRAILER)?;
        let fits = layout.sealed.checked_add(tables)?.checked_add(tail)? == file;
        let sane = block > 0 && layout.manifest <= MAX_MANIFEST && layout.signature <= MAX_SIGNATURE;
        (fits && sane).then_some(layout)
    }
}

/// Signs the text of a manifest: gives the public key and the signature, 96 bytes.
pub type Sign<'a> = &'a (dyn Fn(&[u8]) -> Vec<u8> + Sync);

/// The bytes of a seal, for `sealed` bytes before it with these hashes.
pub(crate) fn seal(
    sealed: u64,
    hashes: &[[u8; 32]],
    records: &[Record],
    manifest: &Manifest,
    sign: Option<Sign<'_>>,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(records.len().saturating_mul(RECORD as usize));
    for Record { at, offset, bytes: count } in records {
        [at, offset, count].into_iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    let records_sha256 = if records.is_empty() { String::new() } else { hex_of(&bytes) };
    let table = hashes.concat();
    let manifest = Manifest { blocks_sha256: hex_of(&table), records_sha256, ..manifest.clone() };
    let text = serde_json::to_vec(&manifest).map_err(io::Error::other)?;
    let signature = sign.map(|sign| sign(&text)).unwrap_or_default();
    bytes.extend_from_slice(&table);
    bytes.extend_from_slice(&text);
    bytes.extend_from_slice(&signature);
    let mut trailer = MAGIC.to_vec();
    trailer.extend_from_slice(&VERSION.to_le_bytes());
    trailer.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
    for word in [sealed, records.len() as u64, text.len() as u64, signature.len() as u64, 0] {
        trailer.extend_from_slice(&word.to_le_bytes());
    }
    let sum = Sha256::digest(&trailer);
    trailer.extend_from_slice(sum.get(..8).unwrap_or_default());
    bytes.extend_from_slice(&trailer);
    Ok(bytes)
}

/// Hashes blocks of what is written one after the other.
#[derive(Default)]
pub(crate) struct BlockHasher {
    hasher: Sha256,
    /// Bytes of the block that were seen.
    filled: usize,
    /// Bytes of all.
    pub(crate) bytes: u64,
    hashes: Vec<[u8; 32]>,
}

impl BlockHasher {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let room = (BLOCK_BYTES as usize).saturating_sub(self.filled).min(bytes.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.hasher.update(now);
            self.filled = self.filled.saturating_add(now.len());
            if self.filled >= BLOCK_BYTES as usize {
                self.close();
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        self.hashes.push(self.hasher.finalize_reset().into());
        self.filled = 0;
    }

    pub(crate) fn finish(mut self) -> Vec<[u8; 32]> {
        if self.filled > 0 {
            self.close();
        }
        self.hashes
    }
}
