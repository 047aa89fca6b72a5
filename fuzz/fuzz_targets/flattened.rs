//! Opens the bytes as the records of a flattened file.
#![no_main]

#[path = "../touch.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    let mut file = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    file.resize(4096, 0);
    file.extend_from_slice(records);
    touch::touch(&[&file]);
});
