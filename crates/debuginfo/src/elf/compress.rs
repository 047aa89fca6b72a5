//! Compressed sections: `SHF_COMPRESSED` with zlib or zstd, and the older `.zdebug_*`.

use std::io::Read;

use kdive_base::Endian;
use object::elf;

use super::{ElfError, Section};
use crate::blob::Blob;

/// Larger sections are not real; the claimed size alone must not make us allocate it.
const LARGEST: u64 = 1 << 33;

/// The section's bytes, decompressed where they are compressed.
pub(super) fn decompress(
    section: &Section,
    raw: Blob,
    endian: Endian,
    is_64: bool,
) -> Result<Blob, ElfError> {
    let failed = |why: String| ElfError::Compressed { section: section.name.clone(), why };
    if section.flags & elf::SHF_COMPRESSED.0 == 0 {
        let old = section.name.starts_with(".zdebug_").then(|| raw.strip_prefix(b"ZLIB")).flatten();
        return match old.and_then(|rest| Some((Endian::Big.u64(rest, 0)?, rest.get(8..)?))) {
            Some((size, body)) => inflate(flate2::read::ZlibDecoder::new(body), size).map_err(failed),
            None => Ok(raw),
        };
    }
    // Elf64_Chdr has four bytes of padding behind its type, Elf32_Chdr has none and ends 12 bytes earlier.
    let (size, header) =
        if is_64 { (endian.u64(&raw, 8), 24) } else { (endian.u32(&raw, 4).map(u64::from), 12) };
    let kind = endian.u32(&raw, 0);
    let (Some(kind), Some(size), Some(body)) = (kind, size, raw.get(header..)) else {
        return Err(failed("its header is cut".into()));
    };
    match kind {
        kind if kind == elf::ELFCOMPRESS_ZLIB.0 => inflate(flate2::read::ZlibDecoder::new(body), size),
        kind if kind == elf::ELFCOMPRESS_ZSTD.0 => match zstd::stream::read::Decoder::with_buffer(body) {
            Ok(decoder) => inflate(decoder, size),
            Err(error) => Err(error.to_string()),
        },
        other => Err(format!("compression {other} is not known")),
    }
    .map_err(failed)
}

fn inflate(decoder: impl Read, size: u64) -> Result<Blob, String> {
    if size > LARGEST {
        return Err(format!("a size of {size} bytes is not real"));
    }
    let mut bytes = Vec::new();
    let count = decoder.take(size).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if (count as u64) < size {
        return Err(format!("{count} bytes came out, {size} were promised"));
    }
    Ok(bytes.into())
}
