//! Opens the bytes as an ELF file and asks for everything that is in it.
#![no_main]

use kdive_debuginfo::ElfFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = ElfFile::parse(bytes.to_vec().into()) else { return };
    let _ = (file.kind(), file.build_id(), file.module_name(), file.debug_link(), file.has_dwarf());
    let _ = file.symbols();
    let _ = file.symbols_at(&|section| section.is_loaded().then_some(section.address));
    for section in file.sections().iter().take(32) {
        let _ = file.contents(section);
    }
});
