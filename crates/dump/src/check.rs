//! Checks the bytes of dump files by what their writer left for it: tags of encrypted chunks, hashes of blocks.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use kdive_base::{Cancel, Cancelled, ReadAt};
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::age::Identity;
use crate::formats::{Head, Source};
use crate::packed::age;
use crate::seal::{BLOCK_BYTES, Seal};
use crate::window::read_up_to;
use crate::{InputFile, OpenError};

/// Bytes of a file that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDamage {
    /// The file.
    pub file: String,
    /// Offset of the first of them.
    pub offset: u64,
    /// How many cannot be trusted.
    pub bytes: u64,
    /// How it is known.
    pub why: &'static str,
}

/// What a file has to be checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckedBy {
    /// Tags of encrypted chunks.
    Encryption,
    /// Hashes behind the dump.
    Hashes,
    /// Nothing.
    Nothing,
}

/// Blocks that are checked before looking whether to stop.
const BATCH: u64 = 1024;

/// Checks the bytes of a file. Blocks of 256 KiB have a hash, encrypted chunks of 64 KiB a tag.
///
/// # Errors
/// When it is cancelled, or encrypted and not to be opened.
pub fn check_file(
    file: &InputFile,
    identities: &Arc<[Identity]>,
    cancel: &Cancel,
) -> Result<Result<(CheckedBy, Vec<FileDamage>), Cancelled>, OpenError> {
    let source = Source::new(file.name.clone(), Arc::clone(&file.data), Arc::clone(identities));
    let bytes = source.head()?;
    if (age::WRAPPER.recognises)(&Head { bytes: &bytes, file: &*source.data }) {
        let (opened, ..) = age::open(&source)?;
        let bad = |number| opened.is_damaged(number).then(|| opened.place(number));
        let found = find(opened.count(), &bad, cancel);
        return Ok(found.map(|places| (CheckedBy::Encryption, damage(file, places, "its tag is wrong"))));
    }
    let Ok(Some(seal)) = Seal::find(&*file.data) else { return Ok(Ok((CheckedBy::Nothing, Vec::new()))) };
    let hashes = match seal.hashes(&*file.data) {
        Ok(hashes) => hashes,
        Err(_) => {
            let all = std::iter::once(seal.sealed..file.data.len()).collect();
            let why = "the list of hashes differs from what the manifest says";
            return Ok(Ok((CheckedBy::Hashes, damage(file, all, why))));
        }
    };
    let block = u64::from(BLOCK_BYTES).min(seal.block);
    let bad = |number: u64| {
        let start = number.saturating_mul(block);
        let end = start.saturating_add(block).min(seal.sealed);
        let hash = usize::try_from(number).ok().and_then(|number| hashes.get(number));
        let read = read_up_to(&*file.data, start, end.saturating_sub(start));
        let same = read.is_ok_and(|bytes| hash.is_some_and(|hash| Sha256::digest(&bytes).as_slice() == hash));
        (!same).then_some(start..end)
    };
    let found = find(hashes.len() as u64, &bad, cancel);
    Ok(found.map(|places| (CheckedBy::Hashes, damage(file, places, "it differs from its hash"))))
}

fn find(
    count: u64,
    bad: &(dyn Fn(u64) -> Option<Range<u64>> + Sync),
    cancel: &Cancel,
) -> Result<Vec<Range<u64>>, Cancelled> {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut start = 0;
    while start < count {
        cancel.check()?;
        let end = start.saturating_add(BATCH).min(count);
        let batch: Vec<_> = (start..end).into_par_iter().filter_map(bad).collect();
        for place in batch {
            match found.last_mut() {
                Some(last) if last.end == place.start => last.end = place.end,
                _ => found.push(place),
            }
        }
        start = end;
    }
    Ok(found)
}

fn damage(file: &InputFile, places: Vec<Range<u64>>, why: &'static str) -> Vec<FileDamage> {
    let of = |place: Range<u64>| FileDamage {
        file: file.name.clone(),
        offset: place.start,
        bytes: place.end.saturating_sub(place.start),
        why,
    };
    places.into_iter().map(of).collect()
}

/// A file in which what is damaged cannot be read: what lies there can be told by who asks for it.
#[must_use]
pub fn without_damage(file: &InputFile, damage: &[FileDamage]) -> InputFile {
    let places = damage.iter().filter(|damage| damage.file == file.name);
    let places = places.map(|damage| damage.offset..damage.offset.saturating_add(damage.bytes)).collect();
    InputFile { data: Arc::new(Undamaged { file: Arc::clone(&file.data), places }), ..file.clone() }
}

struct Undamaged {
    file: Arc<dyn ReadAt>,
    /// Sorted.
    places: Vec<Range<u64>>,
}

impl ReadAt for Undamaged {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let next = self.places.get(self.places.partition_point(|place| place.end <= offset));
        let room = match next {
            Some(place) if place.start <= offset => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"));
            }
            Some(place) => usize::try_from(place.start.saturating_sub(offset)).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let count = into.len().min(room);
        self.file.read_at(offset, into.get_mut(..count).unwrap_or_default())
    }

    fn len(&self) -> u64 {
        self.file.len()
    }
}
