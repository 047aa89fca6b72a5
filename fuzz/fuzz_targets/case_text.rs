//! Reads the bytes as a log or a pasted session, at once and in two pieces, and decodes what failed.
#![no_main]

use kdive_triage::text::{Reader, read_bytes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let case = read_bytes(text);
    for splat in &case.splats {
        assert!(splat.message.chars().all(|letter| !letter.is_control()));
        let _ = kdive_triage::decode::fault(splat, &case);
    }
    let mut reader = Reader::new();
    let (head, tail) = text.split_at(text.len() / 2);
    reader.push(head);
    reader.push(tail);
    let _ = reader.finish();
});
