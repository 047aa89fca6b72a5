//! Changes bytes of small dumps of every format and in every wrapping, well formed before, and opens what comes of it.
#![no_main]

#[path = "../../crates/dump/tests/support/mod.rs"]
mod support;
#[path = "../touch.rs"]
mod touch;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use support::every::{every_format, every_wrapped};

/// The dumps, made once.
static DUMPS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| every_format().into_iter().chain(every_wrapped()).map(|(_, bytes)| bytes).collect());

// Which dump, where to cut it, and then changes: offset in three bytes, and the byte.
fuzz_target!(|data: &[u8]| {
    let [which, cut_low, cut_high, changes @ ..] = data else { return };
    let mut bytes = DUMPS[usize::from(*which) % DUMPS.len()].clone();
    for change in changes.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        bytes[at] = change[3];
    }
    let cut = usize::from(u16::from_le_bytes([*cut_low, *cut_high]));
    bytes.truncate(bytes.len() - cut % bytes.len());
    touch::touch(&[&bytes]);
});
