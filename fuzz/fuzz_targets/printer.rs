//! Prints fuzzed bytes as fuzzed types: values over one line and several, as JSON, with declarations and offsets.
#![no_main]

use std::sync::{Arc, LazyLock};

use hostile_btf::{Heads, blob, types};
use kdive_base::{Missing, PhysAddr, VirtAddr, VirtualMemory, Why};
use kdive_debuginfo::{Btf, Tag, Types};
use kdive_dump::{Hints, Input, InputFile};
use kdive_target::c::{Stored, Value};
use kdive_target::show::{Style, declaration, offsets};
use kdive_target::{Kernel, OpenOptions};
use libfuzzer_sys::fuzz_target;

mod hostile_btf;

/// Where memory begins.
const START: u64 = 0xffff_8880_0000_0000;
/// No text is longer than its limit, the bytes of what stands last, and the braces that are still open.
const LIMIT: usize = 4096;

struct Memory(Vec<u8>);

impl VirtualMemory for Memory {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let rest = at.0.checked_sub(START).and_then(|at| self.0.get(usize::try_from(at).ok()?..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        let missing = Missing::new(at.add(count as u64), Why::Excluded);
        (count, (count < into.len()).then_some(missing))
    }
}

/// A kernel in a dump of nothing: the printer asks it for symbols only.
static KERNEL: LazyLock<Arc<Kernel>> = LazyLock::new(|| {
    let file = InputFile::raw("nothing", Arc::new(vec![0_u8; 4096]), PhysAddr(0));
    let opened = kdive_dump::open(Input::from(file), &Hints::default()).expect("raw bytes open");
    Kernel::open(opened, OpenOptions::default(), Arc::new(())).expect("nothing was given by hand")
});

fuzz_target!(|input: (Heads, &[u8], u8, u8, bool, bool, Vec<u8>)| {
    let (heads, strings, elements, depth, lines, hexadecimal, bytes) = input;
    let Ok(btf) = Btf::parse(blob(&types(&heads), strings).into()) else { return };
    let known = Types::new(8).with_btf(btf);
    let memory = Memory(bytes);
    let style = Style {
        lines,
        array_lines: lines,
        hexadecimal,
        elements: elements.into(),
        depth: depth.into(),
        length: LIMIT,
        ..Style::LINES
    };
    let mut names = vec![];
    for tag in [Tag::Struct, Tag::Union, Tag::Typedef, Tag::Enum] {
        known.for_each_name(tag, |_, id| names.push(id));
    }
    for id in names.into_iter().take(50) {
        let value = Value { of: id, stored: Stored::Memory(VirtAddr(START)) };
        let shown = KERNEL.shown(&known, &memory, &value, &style);
        let text = shown.text(&style);
        assert!(text.len() < 64 * LIMIT, "{} bytes of text", text.len());
        let _ = serde_json::to_string(&shown);
        let _ = KERNEL.show(&known, id, &memory.0, &style);
        let _ = (declaration(&known, id), offsets(&known, id));
    }
});
