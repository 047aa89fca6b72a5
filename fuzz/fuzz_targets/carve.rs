//! Looks for logs in any bytes, and reads their records.
#![no_main]

use kdive_base::Cancel;
use kdive_linux::log::carve::{Pile, carve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = data.to_vec();
    let Ok(carved) = carve(&Pile::file(&file), &Cancel::default(), &|_| ()) else { return };
    for log in &carved.logs {
        let count = log.records(&file).count();
        assert!(count <= log.records + log.without_text, "{count} records of {log:?}");
    }
});
