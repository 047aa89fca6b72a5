//! LiME's ranges, and AVML's.

use std::io::Write;

use super::PAGE;

/// A header: magic, version, first and last address.
pub fn header(magic: &[u8; 4], version: u32, start: u64, bytes: u64) -> Vec<u8> {
    let mut header = magic.to_vec();
    header.extend_from_slice(&version.to_le_bytes());
    header.extend_from_slice(&start.to_le_bytes());
    header.extend_from_slice(&(start + bytes - 1).to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header
}

/// A range as AVML has it in its second version: frames of snappy, and then their length.
pub fn avml_range(start: u64, bytes: &[u8]) -> Vec<u8> {
    let mut file = header(b"AVML", 2, start, bytes.len() as u64);
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    let frames = encoder.into_inner().unwrap();
    file.extend_from_slice(&frames);
    file.extend_from_slice(&(frames.len() as u64).to_le_bytes());
    file
}

/// Whole dumps: LiME's, and AVML's, which has no range of more than 16 MiB.
pub fn lime(pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    ranges(pages, u64::MAX)
        .flat_map(|(start, bytes)| [header(b"EMiL", 1, start, bytes.len() as u64), bytes].concat())
        .collect()
}

pub fn avml(pages: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    ranges(pages, 4096).flat_map(|(start, bytes)| avml_range(start, &bytes)).collect()
}

/// Pages that follow one another, `most` at a time.
fn ranges(
    pages: impl IntoIterator<Item = (u64, Vec<u8>)>,
    most: u64,
) -> impl Iterator<Item = (u64, Vec<u8>)> {
    let mut ranges: Vec<(u64, Vec<u8>)> = Vec::new();
    for (pfn, page) in pages {
        let at = pfn * PAGE as u64;
        match ranges.last_mut() {
            Some((start, bytes))
                if *start + bytes.len() as u64 == at && ((bytes.len() / PAGE) as u64) < most =>
            {
                bytes.extend(page);
            }
            _ => ranges.push((at, page)),
        }
    }
    ranges.into_iter()
}
