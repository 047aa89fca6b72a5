//! Opens any bytes as a dump, as one file and as two parts, and reads around in it.
#![no_main]

#[path = "../touch.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    touch::touch(&[data]);
    if let Some((first, second)) = data.split_at_checked(data.len() / 2) {
        touch::touch(&[second, first]);
    }
});
