//! Programs.

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, Loader, MemberAddress, Text};

use super::{Name, kind, uid};

/// What a program or its maps may have: `BPF_MAX_SUBPROGS` is 256, `MAX_USED_MAPS` 64.
const MOST: u32 = 1 << 10;
/// The verifier takes a million instructions, and may put others between them.
const MOST_INSTRUCTIONS: u32 = 1 << 23;
/// Bytes of an instruction (`struct bpf_insn`).
const INSTRUCTION: u32 = 8;

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its number.
    pub id: u32,
    /// Its `struct bpf_prog`.
    pub at: VirtAddr,
    /// Its `struct bpf_prog_aux`.
    pub aux: Field<VirtAddr>,
    /// `KPROBE`: an enumerator of `enum bpf_prog_type` without its prefix.
    pub kind: Field<String>,
    /// The hash of its code, in hexadecimal.
    pub tag: Field<String>,
    /// Ids of the maps that it uses.
    pub maps: Field<Vec<u32>>,
    /// Instructions after verification.
    pub instructions: Field<u32>,
    /// Whether it runs as compiled code.
    pub jited: Field<bool>,
    /// Bytes of memory locked for it.
    pub locked: Field<u64>,
    /// Nanoseconds from boot to its loading, time asleep included.
    pub loaded: Field<u64>,
    /// Whether its licence is compatible with the GPL.
    pub gpl_compatible: Field<bool>,
    /// Its name.
    pub name: Field<Name>,
    /// The user who loaded it.
    pub uid: Field<u32>,
    /// Its first instruction.
    code: Field<VirtAddr>,
    compiled: Field<Compiled>,
    functions: Field<(u32, VirtAddr)>,
}

/// Compiled code of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Its first byte.
    pub at: VirtAddr,
    /// Its length in bytes.
    pub bytes: u32,
}

#[derive(Load)]
#[load(type = "bpf_prog")]
struct Fields {
    pages: Field<u16>,
    jited: Field<bool>,
    gpl_compatible: Field<bool>,
    #[load(any("type"))]
    kind: Field<u32>,
    len: Field<u32>,
    jited_len: Field<u32>,
    tag: Field<Bytes>,
    bpf_func: Field<VirtAddr>,
    aux: Field<VirtAddr>,
    insnsi: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "bpf_prog_aux")]
struct Aux {
    used_map_cnt: Field<u32>,
    used_maps: Field<VirtAddr>,
    func_cnt: Field<u32>,
    func: Field<VirtAddr>,
    user: Field<VirtAddr>,
    load_time: Field<u64>,
    name: Field<Text>,
}

#[derive(Load)]
#[load(type = "bpf_map")]
struct MapId {
    id: Field<u32>,
}

/// Loads programs.
pub struct ProgramLoader<'k> {
    kernel: &'k Kernel,
    fields: Loader<'k, Fields>,
    aux: Loader<'k, Aux>,
    map: Loader<'k, MapId>,
}

impl<'k> ProgramLoader<'k> {
    /// Binds the layouts.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, fields: kernel.loader(), aux: kernel.loader(), map: kernel.loader() }
    }

    /// The program at `at`.
    #[must_use]
    pub fn load(&self, id: u32, at: VirtAddr) -> Program {
        let fields = self.fields.load(at);
        let named = |kind_of: u32| kind(self.kernel, "bpf_prog", "type", "BPF_PROG_TYPE_", kind_of);
        let aux = fields.aux.clone().map(|aux| self.aux.load(aux));
        let aux = aux.as_ref().map_err(Lacks::clone);
        Program {
            id,
            at,
            aux: fields.aux.clone(),
            kind: fields.kind.map(named),
            tag: fields.tag.map(|Bytes(tag)| tag.iter().map(|byte| format!("{byte:02x}")).collect()),
            maps: aux.clone().and_then(|aux| self.maps(aux)),
            instructions: fields.len,
            jited: fields.jited,
            locked: fields.pages.map(|pages| u64::from(pages).saturating_mul(PAGE_SIZE)),
            loaded: aux.clone().and_then(|aux| aux.load_time.clone()),
            gpl_compatible: fields.gpl_compatible,
            name: aux.clone().and_then(|aux| aux.name.clone().map(Name::from)),
            uid: aux.clone().and_then(|aux| uid(self.kernel, aux.user.clone())),
            code: fields.insnsi.map(|code| code.0),
            compiled: compiled(&fields.bpf_func, &fields.jited_len),
            functions: aux.and_then(|aux| Ok((aux.func_cnt.clone()?, aux.func.clone()?))),
        }
    }

    fn maps(&self, aux: &Aux) -> Field<Vec<u32>> {
        let count = aux.used_map_cnt.clone()?;
        pointers(self.kernel, aux.used_maps.clone()?, count)?
            .into_iter()
            .map(|at| self.map.load(at).id)
            .collect()
    }

    /// The maps of a program by their addresses: what its code names them by.
    pub fn map_addresses(&self, program: &Program) -> Field<Vec<(VirtAddr, u32)>> {
        let aux = self.aux.load(program.aux.clone()?);
        let maps = pointers(self.kernel, aux.used_maps.clone()?, aux.used_map_cnt.clone()?)?;
        Ok(maps.into_iter().filter_map(|at| Some((at, self.map.load(at).id.ok()?))).collect())
    }

    /// Its compiled functions, the main one first: none where it is interpreted.
    pub fn compiled(&self, program: &Program) -> Field<Vec<Compiled>> {
        if !program.jited.clone()? {
            return Ok(Vec::new());
        }
        let functions = program.functions.clone();
        match functions {
            // The first of several is the main one.
            Ok((count, functions)) if count > 0 && !functions.is_null() => {
                let of = |at| {
                    let fields = self.fields.load(at);
                    compiled(&fields.bpf_func, &fields.jited_len)
                };
                pointers(self.kernel, functions, count)?.into_iter().map(of).collect()
            }
            _ => program.compiled.clone().map(|compiled| vec![compiled]),
        }
    }

    /// The bytes of its instructions after verification.
    pub fn code(&self, program: &Program) -> Field<Vec<u8>> {
        let count = program.instructions.clone()?;
        if count > MOST_INSTRUCTIONS {
            return Err(Lacks::implausible(format_args!("a program of {count} instructions")));
        }
        let bytes = count.saturating_mul(INSTRUCTION);
        Ok(self.kernel.memory().bytes(program.code.clone()?, bytes as usize)?)
    }
}

fn compiled(at: &Field<VirtAddr>, bytes: &Field<u32>) -> Field<Compiled> {
    Ok(Compiled { at: at.clone()?, bytes: bytes.clone()? })
}

/// An array of pointers, none of them null.
fn pointers(kernel: &Kernel, at: VirtAddr, count: u32) -> Field<Vec<VirtAddr>> {
    if count > MOST {
        return Err(Lacks::implausible(format_args!("an array of {count} pointers")));
    }
    let memory = kernel.memory();
    let bytes = memory.bytes(at, count as usize * 8)?;
    let words = bytes.chunks_exact(8).filter_map(|word| memory.endian().u64(word, 0));
    Ok(words.map(VirtAddr).filter(|at| !at.is_null()).collect())
}
