//! BTF whose frame is right and whose contents are fuzzed.

/// Types as lists of words: name, kind, flag, size or type, what follows.
pub(crate) type Heads = Vec<(u8, u8, bool, u32, [u32; 8])>;

/// A blob with a good header, whose types and strings are fuzzed.
pub(crate) fn blob(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let words = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    blob.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
    blob.extend([types, strings].concat());
    blob
}

/// Types as lists of words, with the kind kept among those that exist.
pub(crate) fn types(heads: &Heads) -> Vec<u8> {
    let mut bytes = vec![];
    for (name, kind, flag, size_or_type, rest) in heads {
        let (kind, count) = (u32::from(kind % 20), u32::from(kind / 20) % 3);
        let rest_words = match kind {
            1 | 14 | 17 => 1,
            3 => 3,
            4 | 5 | 15 | 19 => 3 * count as usize,
            6 | 13 => 2 * count as usize,
            _ => 0,
        };
        let head = [u32::from(*name), kind << 24 | count | u32::from(*flag) << 31, *size_or_type];
        bytes.extend(head.iter().chain(&rest[..rest_words]).flat_map(|word| word.to_le_bytes()));
    }
    bytes
}
