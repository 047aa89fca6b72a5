//! Compressed debuginfo (`.ko.xz`, `.ko.zst`, `vmlinux.gz`): unpacked into memory, within a bound.

use std::io::{self, Read};

use kdive_debuginfo::Blob;
use kdive_dump::{Kind, probe};
use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use crate::blocks::{legacy_lz4, lzop};

/// The largest debuginfo seen (a distribution's vmlinux with DWARF) is some 800 MB unpacked.
pub(crate) const MAX_UNPACKED: u64 = 4 << 30;

/// For lzma's dictionary: kernels are packed with up to 64 MB.
const MAX_MEMORY: u64 = 128 << 20;

/// The stream that unpacks `bytes`, if `tool` is a compression that debuginfo comes in.
pub(crate) fn reader<'a>(tool: &str, bytes: &'a [u8]) -> io::Result<Option<Box<dyn Read + 'a>>> {
    Ok(match tool {
        "gzip" => Some(Box::new(flate2::read::MultiGzDecoder::new(bytes))),
        "zstd" => Some(Box::new(zstd::stream::read::Decoder::new(bytes)?)),
        "bzip2" => Some(Box::new(bzip2::read::MultiBzDecoder::new(bytes))),
        "lzma" => Some(Box::new(XzDecoder::new_stream(bytes, Stream::new_lzma_decoder(MAX_MEMORY)?))),
        "lzop" => Some(Box::new(lzop(bytes)?)),
        "legacy lz4" => Some(Box::new(legacy_lz4(bytes))),
        "lz4" => Some(Box::new(lz4_flex::frame::FrameDecoder::new(bytes))),
        "xz" => Some(Box::new(XzDecoder::new_multi_decoder(bytes))),
        _ => None,
    })
}

/// What a compressed file is inside, as far as its first bytes tell; [`Kind::Compressed`] where they do not.
pub(crate) fn probe_inside(tool: &'static str, bytes: &[u8]) -> Kind {
    const HEAD: u64 = 1 << 20;
    let mut head = Vec::new();
    match reader(tool, bytes) {
        // An error behind the first bytes does not matter here.
        Ok(Some(stream)) => {
            let _ = stream.take(HEAD).read_to_end(&mut head);
            probe(&head)
        }
        _ => Kind::Compressed(tool),
    }
}

/// Unpacks all of it.
pub(crate) fn unpack(tool: &str, bytes: &[u8]) -> io::Result<Blob> {
    let stream = reader(tool, bytes)?.ok_or(io::ErrorKind::Unsupported)?;
    let mut all = Vec::new();
    if stream.take(MAX_UNPACKED).read_to_end(&mut all)? as u64 == MAX_UNPACKED {
        return Err(io::Error::other("it is larger than 4 GiB unpacked"));
    }
    Ok(Blob::from(all))
}

/// The bytes, unpacked if they are compressed.
pub(crate) fn unpacked(bytes: Blob) -> io::Result<Blob> {
    match compression(&bytes) {
        Some(tool) => unpack(tool, &bytes),
        None => Ok(bytes),
    }
}

/// How the bytes are compressed.
pub(crate) fn compression(bytes: &Blob) -> Option<&'static str> {
    const HEAD: usize = 1 << 10;
    let head = bytes.get(..HEAD).unwrap_or(bytes).to_vec();
    match probe(&head) {
        Kind::Compressed(tool) => Some(tool),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn every_compression_unpacks() {
        let bytes = b"\x7fELF and so on".repeat(1000);
        let zstd = zstd::stream::encode_all(&bytes[..], 1).unwrap();
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&bytes[..], 1).read_to_end(&mut xz).unwrap();
        for packed in [gzip(&bytes), zstd, xz, bytes.clone()] {
            assert_eq!(&*unpacked(Blob::from(packed)).unwrap(), &bytes[..]);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let mut packed = gzip(&b"0123456789".repeat(1000));
        packed.truncate(packed.len() / 2);
        assert!(unpacked(Blob::from(packed)).is_err());
    }
}
