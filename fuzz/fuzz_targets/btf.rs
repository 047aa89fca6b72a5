//! Opens the bytes as the kernel's BTF and as a module's on top, and asks for everything that is in them.
#![no_main]

use kdive_debuginfo::{Btf, Tag, Types};
use libfuzzer_sys::fuzz_target;

use hostile_btf::{Heads, blob, types};

mod hostile_btf;

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
