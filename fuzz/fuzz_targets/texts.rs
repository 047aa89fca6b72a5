//! Parses the bytes as VMCOREINFO and as a System.map.
#![no_main]

use kdive_debuginfo::{KallsymsAt, SystemMap, VmcoreInfo};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let info = VmcoreInfo::parse(text);
    for (key, value) in info.lines() {
        assert_eq!(info.get(key), Some(value));
        let name = key.split(['(', ')']).nth(1).unwrap_or(key);
        let _ = (info.symbol(name), info.number(name), info.size(name), info.offset(name), info.length(name));
    }
    let _ = (info.build_id(), info.crash_time(), info.kaslr_offset(), KallsymsAt::from_vmcoreinfo(&info));
    if let Ok(map) = SystemMap::parse(text) {
        assert!(map.kernel.iter().is_sorted_by_key(|symbol| symbol.address));
        let _ = map.kernel.image();
    }
});
