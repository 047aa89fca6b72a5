//! Each packing, as its own tool writes it.

use std::io::Write as _;
use std::sync::Arc;

use kdive_base::ReadAt;
use proptest::prelude::*;

use crate::formats::{Head, Source};
use crate::packed::{MAX_PIECE, PACKINGS};
use crate::{Hints, Input, InputFile, OpenError};

/// Bytes in which each stretch differs, some of them hard to pack.
fn content(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let words = (0..bytes.div_ceil(4)).flat_map(|at| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (if at % 64 < 40 { at as u32 / 16 } else { state }).to_le_bytes()
    });
    words.take(bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer =
        flate2::GzBuilder::new().filename("vmcore").write(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zstd_frames(bytes: &[u8], piece: usize) -> Vec<u8> {
    bytes.chunks(piece).flat_map(|piece| zstd::bulk::compress(piece, 1).unwrap()).collect()
}

fn xz_blocks(bytes: &[u8], piece: usize) -> Vec<u8> {
    use liblzma::stream::{Action, Check, Status, Stream};
    let mut packer = Stream::new_easy_encoder(1, Check::Crc32).unwrap();
    let mut packed = Vec::with_capacity(bytes.len() * 2 + 10_000);
    for piece in bytes.chunks(piece) {
        let before = packer.total_in();
        // All at once, and the end of a block behind it.
        while packer
            .process_vec(&piece[(packer.total_in() - before) as usize..], &mut packed, Action::FullFlush)
            .unwrap()
            != Status::StreamEnd
        {}
    }
    while packer.process_vec(&[], &mut packed, Action::Finish).unwrap() != Status::StreamEnd {}
    packed
}

fn lz4(bytes: &[u8], linked: bool) -> Vec<u8> {
    let mode =
        if linked { lz4_flex::frame::BlockMode::Linked } else { lz4_flex::frame::BlockMode::Independent };
    let info =
        lz4_flex::frame::FrameInfo::new().block_mode(mode).block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut packer = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn peel(packed: Vec<u8>) -> Result<(Arc<dyn ReadAt>, Option<String>), OpenError> {
    let source = Source::new("f".into(), Arc::new(packed), Arc::default());
    let head = source.head().unwrap();
    let head = Head { bytes: &head, file: &*source.data };
    let wrapper = PACKINGS.iter().find(|wrapper| (wrapper.recognises)(&head)).expect("a packing");
    (wrapper.peel)(&source).map(|peeled| (peeled.data, peeled.warning))
}

fn all(file: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; file.len() as usize];
    let count = file.read_full_at(0, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

/// Reads at places out of order, across the ends of pieces.
fn same_at_random(file: &dyn ReadAt, expected: &[u8]) {
    assert_eq!(file.len(), expected.len() as u64);
    let mut at = 7_777_usize;
    for _ in 0..60 {
        at = at.wrapping_mul(7_919).wrapping_add(12_345) % expected.len();
        let mut bytes = [0; 5000];
        let count = file.read_full_at(at as u64, &mut bytes).unwrap();
        assert_eq!(count, 5000.min(expected.len() - at));
        assert!(bytes[..count] == expected[at..at + count], "at {at}");
    }
    assert!(all(file) == expected);
}

#[test]
fn every_packing_is_read_at_random() {
    let bytes = content(5_000_001);
    let mut members = gzip(&bytes[..2_500_000]);
    members.extend(gzip(&bytes[2_500_000..]));
    members.extend([0; 512]);
    let mut streams = xz_blocks(&bytes[..3_000_000], 400_000);
    streams.extend([0; 8]);
    streams.extend(xz_blocks(&bytes[3_000_000..], 400_000));
    let mut frames = lz4(&bytes[..1_000_000], false);
    frames.extend(lz4(&bytes[1_000_000..], false));
    let packed =
        [gzip(&bytes), members, zstd_frames(&bytes, 300_000), xz_blocks(&bytes, 500_000), streams, frames];
    for packed in packed {
        let (file, warning) = peel(packed).unwrap();
        assert_eq!(warning, None);
        same_at_random(&*file, &bytes);
    }
}

#[test]
fn a_cut_file_yields_its_beginning() {
    let bytes = content(3_000_000);
    for packed in [gzip(&bytes), zstd_frames(&bytes, 300_000), lz4(&bytes, false)] {
        let (file, warning) = peel(packed[..packed.len() * 2 / 3].to_vec()).unwrap();
        assert!(warning.unwrap().starts_with("truncated"));
        let held = all(&*file);
        assert!(held.len() > 1_000_000 && bytes.starts_with(&held), "{}", held.len());
    }
    let packed = xz_blocks(&bytes, 300_000);
    let error = peel(packed[..packed.len() / 2].to_vec()).err().unwrap().to_string();
    assert!(error.contains("the list of its blocks") && error.contains("hint: "), "{error}");
}

#[test]
fn what_has_no_places_to_begin_at_says_so() {
    let error = peel(lz4(&content(300_000), true)).err().unwrap().to_string();
    assert_eq!(
        error,
        "f is packed with lz4 as blocks that need the ones before: it cannot be read at random\n\
         hint: unpack it first with `lz4 -d`, or pack it with `lz4 -BI`"
    );
    let zeros = vec![0; MAX_PIECE as usize + 1];
    let error = peel(zstd::bulk::compress(&zeros, 1).unwrap()).err().unwrap().to_string();
    assert!(error.contains("a frame of 64 MB") && error.contains("pzstd"), "{error}");
}

#[test]
fn a_wrong_bit_is_told() {
    let mut packed = gzip(&content(100_000));
    let at = packed.len() - 6;
    packed[at] ^= 1;
    assert!(peel(packed).unwrap().1.unwrap().contains("checksum"));
}

#[test]
fn a_dump_opens_inside_of_a_packing_inside_of_another() {
    let mut lime = b"EMiL\x01\0\0\0".to_vec();
    lime.extend([0; 8]);
    lime.extend(0xffff_u64.to_le_bytes());
    lime.extend([0; 8]);
    lime.extend(content(0x10000));
    let packed = zstd_frames(&gzip(&lime), 10_000);
    let files = vec![InputFile::new("f", Arc::new(packed))];
    let opened = crate::open(Input { files }, &Hints::default()).unwrap();
    assert_eq!(opened.facts.wrappers, ["zstd", "gzip"]);
    let mut page = [0; 4096];
    assert_eq!(opened.memory.read(kdive_base::PhysAddr(0x3000), &mut page), (4096, None));
    assert!(page == content(0x10000)[0x3000..0x4000]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damage_never_panics(which in 0..4_usize, at in 0..20_000_usize, with in any::<[u8; 6]>(), cut in 0..30_000_usize) {
        let bytes = content(60_000);
        let mut packed = match which {
            0 => gzip(&bytes),
            1 => zstd_frames(&bytes, 20_000),
            2 => xz_blocks(&bytes, 20_000),
            _ => lz4(&bytes, false),
        };
        let at = 6 + at % (packed.len() - 12);
        packed[at..at + 6].copy_from_slice(&with);
        packed.truncate(packed.len().saturating_sub(cut.saturating_sub(15_000)).max(6));
        if let Ok((file, _)) = peel(packed) {
            let mut into = [0; 3000];
            for at in [0, file.len() / 2, file.len().saturating_sub(100)] {
                let _ = file.read_full_at(at, &mut into);
            }
        }
    }
}
