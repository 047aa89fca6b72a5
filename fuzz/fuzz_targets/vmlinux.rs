//! Looks for a vmlinux in any bytes: images, packages, archives, packings.
#![no_main]

use kdive_debuginfo::Blob;
use kdive_fetch::vmlinux;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(found) = vmlinux(&Blob::from(data.to_vec())) {
        assert!(found.bytes.starts_with(b"\x7fELF"));
    }
});
