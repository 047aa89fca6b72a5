//! BTF of modules: the list that the kernel keeps of it (`kernel/bpf/btf.c`).

use kdive_base::VirtAddr;
use kdive_debuginfo::{Blob, Types};

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::{Load, Text};
use crate::walk;

/// `struct btf_module`: one entry of the list `btf_modules`.
#[derive(Load)]
#[load(type = "btf_module")]
struct BtfModule {
    btf: Field<VirtAddr>,
}

/// `struct btf`: the parsed BTF of one module.
#[derive(Load)]
#[load(type = "btf")]
struct BtfFields {
    data: Field<VirtAddr>,
    data_size: Field<u32>,
    name: Field<Text>,
}

/// A module's BTF is a few hundred kilobytes at most.
const MAX_BYTES: u32 = 64 << 20;

/// The kernel's types with those of every module whose BTF can be read, and why others could not.
pub(crate) fn with_modules(kernel: &Kernel, types: &Types) -> (Types, Vec<Lacks>) {
    let mut all = types.clone();
    let mut lacks = Vec::new();
    let head = kernel.symbol("btf_modules");
    let link = kernel.offset_of("btf_module", "list");
    let (head, link) = match (head, link) {
        (Ok(head), Ok(link)) => (head, link),
        (Err(lack), _) | (_, Err(lack)) => return (all, vec![lack]),
    };
    for at in walk::list(kernel.memory(), head) {
        let added = at.map_err(Lacks::from).and_then(|at| add(kernel, &all, at.sub(link)));
        match added {
            Ok(more) => all = more,
            Err(lack) => lacks.push(lack),
        }
    }
    (all, lacks)
}

fn add(kernel: &Kernel, types: &Types, at: VirtAddr) -> Field<Types> {
    let entry: BtfModule = kernel.load(at);
    let btf: BtfFields = kernel.load(entry.btf?);
    let Text(name) = btf.name?;
    let bytes = btf.data_size?;
    if bytes > MAX_BYTES {
        return Err(Lacks::implausible(format_args!("BTF of module {name} has {bytes} bytes")));
    }
    let data = kernel.memory().bytes(btf.data?, bytes as usize)?;
    types.with_module_btf(&name, Blob::from(data), None).map_err(Lacks::unavailable)
}
