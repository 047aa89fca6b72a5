//! BPF programs, maps and links (`kernel/bpf/syscall.c`, `include/linux/bpf.h`).

mod bytecode;
mod links;
mod maps;
mod programs;

use kdive_base::VirtAddr;
use kdive_debuginfo::Type;
use kdive_debuginfo::types::Enum;
use kdive_target::walk::{XArrayLayout, xarray};
use kdive_target::{Field, Kernel, Lacks, Load};
use serde::Serialize;

pub use bytecode::{Bytecode, Instruction};
pub use links::{Link, LinkLoader, Target};
pub use maps::{Map, MapLoader};
pub use programs::{Compiled, Program, ProgramLoader};

/// The objects that an IDR holds, by their ids, and why some may be lacking.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// Id and address of each.
    pub list: Vec<(u32, VirtAddr)>,
    /// Why others may be lacking.
    pub incomplete: Option<Lacks>,
}

impl Ids {
    /// The programs (`prog_idr`).
    ///
    /// # Errors
    /// This kernel keeps no list of programs (before 4.13), or has no symbols.
    pub fn of_programs(kernel: &Kernel) -> Field<Self> {
        Self::find(kernel, "prog_idr")
    }

    /// The maps (`map_idr`).
    ///
    /// # Errors
    /// As for programs.
    pub fn of_maps(kernel: &Kernel) -> Field<Self> {
        Self::find(kernel, "map_idr")
    }

    /// The links (`link_idr`).
    ///
    /// # Errors
    /// This kernel has none (before 5.8), or no symbols.
    pub fn of_links(kernel: &Kernel) -> Field<Self> {
        Self::find(kernel, "link_idr")
    }

    fn find(kernel: &Kernel, symbol: &str) -> Field<Self> {
        let head = kernel.member("idr", &["idr_rt.xa_head", "idr_rt.rnode"])?.offset;
        let head = kernel.memory().u64(kernel.symbol(symbol)?.add(head))?;
        let mut found = Self::default();
        for entry in xarray(kernel.memory(), XArrayLayout::find(kernel)?, head) {
            match entry {
                Ok(entry) => {
                    found.list.extend(u32::try_from(entry.index).map(|id| (id, VirtAddr(entry.entry))))
                }
                Err(broken) => found.incomplete = Some(broken.into()),
            }
        }
        Ok(found)
    }
}

/// What `look` makes of the enumerators of a member.
fn with_names<T>(kernel: &Kernel, record: &str, member: &str, look: impl FnOnce(&Enum) -> T) -> Option<T> {
    let of = kernel.member(record, &[member]).ok()?.of;
    match kernel.types().ok()?.stripped(of).as_deref()? {
        Type::Enum(names) => Some(look(names)),
        _ => None,
    }
}

/// The name of an enumerator without its prefix: `KPROBE` for `BPF_PROG_TYPE_KPROBE`; its number where it has no name.
fn kind(kernel: &Kernel, record: &str, member: &str, prefix: &str, value: u32) -> String {
    let name =
        with_names(kernel, record, member, |names| names.name_of(i128::from(value)).map(str::to_owned));
    name.flatten()
        .map_or_else(|| value.to_string(), |name| name.strip_prefix(prefix).unwrap_or(&name).to_owned())
}

#[derive(Load)]
#[load(type = "user_struct")]
struct User {
    #[load(any("uid.val", "uid"))]
    uid: Field<u32>,
}

fn uid(kernel: &Kernel, user: Field<VirtAddr>) -> Field<u32> {
    kernel.load::<User>(user?).uid
}

/// The name that its maker gave it; `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Name(pub Option<String>);

impl From<kdive_target::Text> for Name {
    fn from(text: kdive_target::Text) -> Self {
        Self(Some(text.0).filter(|name| !name.is_empty()))
    }
}
