//! Compression of pages, one stream a page.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};
use kdive_base::Why;

/// How a page is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    /// Not at all.
    Raw,
    /// RFC 1950.
    Zlib,
    /// LZO1X, without a header.
    Lzo,
    /// Raw snappy, without frames.
    Snappy,
    /// A zstd frame.
    Zstd,
}

/// The state of the decompressors that have one: each thread keeps its own and uses it again for every page.
struct Decoders {
    zlib: Decompress,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static DECODERS: RefCell<Decoders> = RefCell::new(Decoders { zlib: Decompress::new(true), zstd: None });
}

impl Codec {
    /// The name, in messages and in `kdive info`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "none",
            Self::Zlib => "zlib",
            Self::Lzo => "lzo",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }

    /// Decompresses one page. It must fill `page` to the last byte and no more.
    pub(crate) fn decode(self, packed: &[u8], page: &mut [u8]) -> Result<(), Why> {
        let wanted = page.len();
        let count = match self {
            Self::Raw => {
                let same = packed.len() == wanted;
                if same {
                    page.copy_from_slice(packed);
                }
                same.then_some(wanted)
            }
            Self::Zlib => DECODERS.with_borrow_mut(|decoders| inflate(&mut decoders.zlib, packed, page)),
            Self::Lzo => lzo::decompress_into(packed, page).ok(),
            Self::Snappy => snappy(packed, page),
            Self::Zstd => DECODERS.with_borrow_mut(|decoders| decoders.zstd(packed, page)),
        };
        if count == Some(wanted) { Ok(()) } else { Err(Why::Corrupt(self.name())) }
    }
}

fn inflate(state: &mut Decompress, packed: &[u8], page: &mut [u8]) -> Option<usize> {
    state.reset(true);
    match state.decompress(packed, page, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => usize::try_from(state.total_out()).ok(),
        _ => None,
    }
}

fn snappy(packed: &[u8], page: &mut [u8]) -> Option<usize> {
    // The decoder refuses a buffer that is too small, but only after this length was trusted elsewhere.
    if snap::raw::decompress_len(packed).ok()? != page.len() {
        return None;
    }
    snap::raw::Decoder::new().decompress(packed, page).ok()
}

impl Decoders {
    fn zstd(&mut self, packed: &[u8], page: &mut [u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        self.zstd.as_mut()?.decompress_to_buffer(packed, page).ok()
    }
}
