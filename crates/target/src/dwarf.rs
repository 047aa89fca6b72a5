//! Lines, inlined functions, local variables, and types out of the kernel's and its modules' DWARF. Files are looked for
//! and opened on first use, and of each only what is asked for is read.

mod shown;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use kdive_arch::x86_64::dwarf::{PRESERVED, register};
use kdive_base::{VirtAddr, VirtualMemory};
use kdive_debuginfo::dwarf::{
    CodeFrame, DwarfFile, DwarfTypes, FrameState, Names, Placement, SourceLine, Storage,
};
use kdive_debuginfo::elf::ElfFile;
use kdive_debuginfo::{TypeId, Types};
use kdive_evidence::Frame;
use rustc_hash::FxHashMap;

use crate::artifacts::{Artifact, Want};
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::os::Module;
use crate::symbols::slide;
use crate::types::POINTER_BYTES;

/// A local variable or argument of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its name.
    pub name: Box<str>,
    /// Its function: an index into what [`Kernel::source_of`] gives for the frame.
    pub function: usize,
    /// Whether it is an argument.
    pub argument: bool,
    /// Its type, in [`Locals::types`].
    pub of: TypeId,
    /// Where its value is.
    pub storage: Storage,
}

/// The local variables of a frame.
#[derive(Clone, Debug)]
pub struct Locals {
    /// The kernel's types and those of the file that describes the frame's code.
    pub types: Types,
    /// The variables in scope, those of the innermost inlined function first.
    pub variables: Vec<Local>,
}

/// The kernel's own DWARF.
struct OfKernel(Field<Scope>);

/// The modules' DWARF, of those that were asked for.
struct OfModules(Mutex<FxHashMap<Arc<str>, Field<Scope>>>);

/// One file, and the types that names in its code mean.
#[derive(Clone)]
struct Scope {
    file: Arc<DwarfFile>,
    module: Option<Arc<str>>,
}

impl Kernel {
    /// The DWARF of the kernel itself: of the vmlinux given, or of its separate debug file.
    pub fn kernel_dwarf(&self) -> Field<Arc<DwarfFile>> {
        self.kernel_scope().map(|scope| scope.file)
    }

    /// The DWARF of a module, at the places where its sections were loaded.
    pub fn module_dwarf(&self, module: &Module) -> Field<Arc<DwarfFile>> {
        self.module_scope(module).map(|scope| scope.file)
    }

    /// The functions at a code address, innermost first, with their files and lines: those inlined there, then the one
    /// that was compiled. Empty where DWARF knows nothing of the address. For a frame use [`Kernel::source_of`].
    pub fn source(&self, address: VirtAddr) -> Field<Vec<CodeFrame>> {
        self.scope_at(address).map(|scope| scope.file.frames(address))
    }

    /// The line that an address belongs to and its code: see [`DwarfFile::line_range`].
    pub fn line_range(&self, address: VirtAddr) -> Field<Option<(SourceLine, Range<VirtAddr>)>> {
        self.scope_at(address).map(|scope| scope.file.line_range(address))
    }

    /// The compiled function that an address lies in: see [`DwarfFile::function`].
    pub fn function_range(&self, address: VirtAddr) -> Field<Option<Range<VirtAddr>>> {
        self.scope_at(address).map(|scope| scope.file.function(address))
    }

    /// The functions in which a frame stands: of a caller, those at its call instruction.
    pub fn source_of(&self, frame: &Frame) -> Field<Vec<CodeFrame>> {
        self.source(instruction(frame))
    }

    /// The variables in scope where a frame stands; `caller` is the next frame of the stack. Values in registers are
    /// known as far as the frame's registers are: see [`Kernel::recover_registers`].
    pub fn locals(&self, frame: &Frame, caller: Option<&Frame>) -> Field<Locals> {
        let scope = self.scope_at(frame.ip)?;
        let mut state = State { kernel: self, frame, cfa: None };
        state.cfa = match caller.filter(|caller| !caller.interrupted) {
            Some(caller) => caller.registers.sp(),
            None => scope.file.caller(instruction(frame), &state, &[]).map(|found| found.cfa),
        };
        let known = match &scope.module {
            Some(_) => self.all_types().cloned(),
            None => self.types().cloned(),
        };
        let mut unit = 0;
        let module = scope.module.as_deref();
        let types = known.unwrap_or_else(|_| Types::new(POINTER_BYTES)).with(|number| {
            unit = number;
            DwarfTypes::new(Arc::clone(&scope.file), number, module, Names::None)
        });
        let found = scope.file.locals(instruction(frame), &state).into_iter();
        let variables = found.map(|found| Local {
            name: found.name,
            function: found.frame,
            argument: found.argument,
            of: DwarfTypes::type_at(unit, found.of),
            storage: found.storage,
        });
        Ok(Locals { variables: variables.collect(), types })
    }

    /// Adds to the frames of a stack the registers that call frame information tells: ORC keeps the stack pointer and
    /// the frame pointer only. A frame gets none where that information contradicts what the unwinder found.
    pub fn recover_registers(&self, frames: &mut [Frame]) {
        let mut rest = frames;
        while let [frame, callers @ ..] = rest {
            if let Some(caller) = callers.first_mut() {
                self.recover_caller(frame, caller);
            }
            rest = callers;
        }
    }

    fn recover_caller(&self, frame: &Frame, caller: &mut Frame) {
        if caller.interrupted {
            return;
        }
        let Ok(scope) = self.scope_at(frame.ip) else { return };
        let state = State { kernel: self, frame, cfa: None };
        let Some(found) = scope.file.caller(instruction(frame), &state, &PRESERVED) else { return };
        let values = found.registers.into_iter();
        let found_here: Vec<_> =
            values.filter_map(|(number, value)| Some((register(number)?, value))).collect();
        let agrees = |&(register, value)| caller.registers.get(register).is_none_or(|known| known == value);
        if caller.registers.sp() != Some(found.cfa) || !found_here.iter().all(agrees) {
            return;
        }
        for (register, value) in found_here {
            caller.registers.set(register, value);
        }
    }

    fn kernel_scope(&self) -> Field<Scope> {
        self.once(|kernel| OfKernel(open_kernel(kernel))).0.clone()
    }

    fn module_scope(&self, module: &Module) -> Field<Scope> {
        let opened = self.once(|_| OfModules(Mutex::default()));
        let lock = || opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&module.name) {
            return known.clone();
        }
        let found = open_module(self, module);
        lock().entry(Arc::clone(&module.name)).or_insert(found).clone()
    }

    fn scope_at(&self, address: VirtAddr) -> Field<Scope> {
        match self.modules().at(address) {
            Some(module) => self.module_scope(module),
            None => self.kernel_scope(),
        }
    }
}

/// The instruction that a frame stands at. A return address may already belong to the next line, or even function.
fn instruction(frame: &Frame) -> VirtAddr {
    if frame.interrupted { frame.ip } else { frame.ip.sub(1) }
}

/// What is known of a frame to the locations of its variables.
struct State<'k> {
    kernel: &'k Kernel,
    frame: &'k Frame,
    cfa: Option<VirtAddr>,
}

impl FrameState for State<'_> {
    fn register(&self, number: u16) -> Option<u64> {
        self.frame.registers.get(register(number)?)
    }

    fn cfa(&self) -> Option<VirtAddr> {
        self.cfa
    }

    fn memory(&self) -> &dyn VirtualMemory {
        self.kernel.memory()
    }
}

/// The kernel's types out of its DWARF, for kernels without BTF.
pub(crate) fn types(kernel: &Kernel) -> Option<Types> {
    let file = kernel.kernel_dwarf().ok()?;
    file.check().ok()?;
    Some(Types::new(POINTER_BYTES).with(|unit| DwarfTypes::new(file, unit, None, Names::All)))
}

/// Adds the types of the kernel's variables, of which BTF has the per-CPU ones only.
pub(crate) fn with_variables(kernel: &Kernel, types: Types) -> Types {
    match kernel.kernel_dwarf() {
        Ok(file) => types.with(|unit| DwarfTypes::new(file, unit, None, Names::Variables)),
        Err(_) => types,
    }
}

/// Adds what the modules' BTF lacks: of a module with BTF the types of its variables, of one without all types.
pub(crate) fn with_modules(kernel: &Kernel, types: Types) -> Types {
    let with_btf: Vec<String> = types.modules().map(str::to_owned).collect();
    kernel.modules().iter().fold(types, |types, module| match kernel.module_dwarf(module) {
        Ok(file) => {
            let has_btf = with_btf.iter().any(|name| **name == *module.name);
            let names = if has_btf { Names::Variables } else { Names::All };
            types.with(|unit| DwarfTypes::new(file, unit, Some(&module.name), names))
        }
        Err(_) => types,
    })
}

fn open_kernel(kernel: &Kernel) -> Field<Scope> {
    let none = || {
        Lacks::unavailable("lines, inlined functions and variables need a vmlinux with DWARF: none was given")
    };
    let given = kernel.vmlinux().ok_or_else(none)?;
    let name = kernel.options().debuginfo.vmlinux.as_ref().map_or("vmlinux", |file| &file.name);
    let elf = with_dwarf(kernel, name, given)?;
    let file = DwarfFile::open(elf, Placement::Slid(slide(kernel, given))).map_err(Lacks::unavailable)?;
    Ok(Scope { file, module: None })
}

fn open_module(kernel: &Kernel, module: &Module) -> Field<Scope> {
    let name = &*module.name;
    let build_id = module.fields.build_id.as_ref().ok().map(|bytes| bytes.0.as_slice());
    let release = kernel.vmcoreinfo().release();
    let found = kernel.artifacts().find(&Want::Module { release, name, build_id });
    let Artifact { name: path, bytes } =
        found.ok_or_else(|| Lacks::unavailable(format_args!("no debuginfo of module {name} was found")))?;
    let unusable = |error| Lacks::unavailable(format_args!("{path}: {error}"));
    let given = ElfFile::parse(bytes).map_err(unusable)?;
    let elf = with_dwarf(kernel, &path, &given)?;
    // A debug file has the section table of the whole module, so either serves.
    let places = module.section_places(kernel, &elf);
    let file = DwarfFile::open(elf, Placement::Sections(places)).map_err(Lacks::unavailable)?;
    Ok(Scope { file, module: Some(Arc::clone(&module.name)) })
}

/// The file itself where it has DWARF, else its separate debug file.
fn with_dwarf(kernel: &Kernel, name: &str, elf: &ElfFile) -> Field<ElfFile> {
    if elf.has_dwarf() {
        return Ok(elf.clone());
    }
    let build_id = elf.build_id();
    let link = elf.debug_link();
    let want = Want::Debug {
        of: name,
        link: link.as_ref().map(|(name, _)| name.as_str()),
        build_id: build_id.as_deref(),
    };
    let debug = kernel.artifacts().find(&want).and_then(|found| ElfFile::parse(found.bytes).ok());
    debug
        .filter(ElfFile::has_dwarf)
        .filter(|debug| build_id.is_none() || debug.build_id().is_none() || debug.build_id() == build_id)
        .ok_or_else(|| {
            Lacks::unavailable(format_args!("{name} has no DWARF, and no debug file of it was found"))
        })
}
