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

fuzz_target!(|input: (&[u8], &[u8], bool)| {
    let (kernel, module, distilled) = input;
    let Ok(btf) = Btf::parse(kernel.to_vec().into()) else { return };
    let types = Types::new(8).with_btf(btf);
    ask(&types);
    let base = distilled.then(|| kernel.to_vec().into());
    if let Ok(types) = types.with_module_btf("module", module.to_vec().into(), base) {
        ask(&types);
    }
});
