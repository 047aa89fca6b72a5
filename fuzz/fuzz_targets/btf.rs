//! Opens the bytes as the kernel's BTF and as a module's on top, and asks for everything that is in them.
#![no_main]

use kdive_debuginfo::{Btf, Tag, Types};
use libfuzzer_sys::fuzz_target;

const TAGS: [Tag; 7] =
    [Tag::Struct, Tag::Union, Tag::Enum, Tag::Typedef, Tag::Base, Tag::Function, Tag::Variable];

fn ask(types: &Types) {
    let mut asked = 0;
    for tag in TAGS {
        let mut names = vec![];
        types.for_each_name(tag, |name, id| names.push((name.to_owned(), id)));
        for (name, id) in names {
            asked += 1;
            if asked > 500 {
                return;
            }
            let _ = types.find(tag, &name);
            let _ = types.enumerator(&name);
            let _ = (types.name_of(id), types.size_of(id), types.path_at(id, 9));
            let _ = types.member(id, "a.b[1]");
        }
    }
}

/// A blob with a good header, whose types and strings are fuzzed.
fn blob(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let words = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    blob.extend(words.iter().flat_map(|word: &u32| word.to_le_bytes()));
    blob.extend([types, strings].concat());
    blob
}

/// Types as lists of words, with the kind kept among those that exist.
fn types(heads: &[(u8, u8, bool, u32, [u32; 8])]) -> Vec<u8> {
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

type Heads = Vec<(u8, u8, bool, u32, [u32; 8])>;

fuzz_target!(|input: (Heads, Heads, &[u8], bool, &[u8])| {
    let (kernel, module, strings, distilled, raw) = input;
    let _ = Btf::parse(raw.to_vec().into());
    let kernel = blob(&types(&kernel), strings);
    let Ok(btf) = Btf::parse(kernel.clone().into()) else { return };
    let known = Types::new(8).with_btf(btf);
    ask(&known);
    let base = distilled.then(|| kernel.into());
    if let Ok(known) = known.with_module_btf("module", blob(&types(&module), strings).into(), base) {
        ask(&known);
    }
});
