//! Local variables and arguments at a code address, and where their values are (2.6, 4.1).

use gimli::constants as dw;
use gimli::{Evaluation, EvaluationResult, UnitOffset, ValueType};
use kdive_base::{VirtAddr, VirtualMemory};

use super::DwarfFile;
use super::die::Die;
use super::frames::{ScopeKind, die_in};
use super::sections::{Dwarf, Slice, Value};
use super::walk::Walk;

/// What is known of a stack frame.
pub trait FrameState {
    /// The value of a register in this frame, by its number in the processor's DWARF supplement; `None` when it was
    /// not recovered.
    fn register(&self, number: u16) -> Option<u64>;

    /// The frame's canonical frame address: on x86-64 the stack pointer before the call that made the frame.
    fn cfa(&self) -> Option<VirtAddr>;

    /// The memory that the frame's code saw.
    fn memory(&self) -> &dyn VirtualMemory;
}

/// A local variable or argument that is in scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its name.
    pub name: Box<str>,
    /// Its function: an index into what [`DwarfFile::frames`] gives for the address.
    pub frame: usize,
    /// Whether it is an argument.
    pub argument: bool,
    /// The entry of its type: see [`super::DwarfTypes::type_at`]. `None` for `void`, which no variable has.
    pub of: Option<usize>,
    /// Where its value is.
    pub storage: Storage,
}

/// Where a value is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In memory.
    Memory(VirtAddr),
    /// In a register, or nowhere but known: its bytes as they would lie in memory. There may be more of them than the
    /// type has: the value begins at the least significant end.
    Bytes(Box<[u8]>),
    /// Spread out: parts in the order of memory.
    Pieces(Vec<Piece>),
    /// The compiler kept no value here.
    OptimizedOut,
    /// There is a value, but it cannot be told: a register that was not recovered, memory that is not in the dump, or
    /// the value at the function's entry.
    Unknown(&'static str),
}

/// A part of a spread-out value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its size in bits.
    pub bits: u64,
    /// Where it is: never in pieces again.
    pub storage: Storage,
}

/// Most variables that are told for one address; the largest functions have some hundreds.
const MOST_VARIABLES: usize = 4096;
/// Most entries of one location list that are looked at; real ones have below a thousand.
const MOST_LOCATIONS: usize = 1 << 14;
/// Most operations of one expression. Real ones have below fifty, and no loops.
const MOST_OPERATIONS: u32 = 4096;

impl DwarfFile {
    /// The variables in scope at a code address, innermost function first, as the frame's state tells their values.
    /// For the frame of a caller, give the address of the call: see [`DwarfFile::line`].
    #[must_use]
    pub fn locals(&self, address: VirtAddr, state: &dyn FrameState) -> Vec<Variable> {
        let dwarf = self.sections.dwarf_with_locations();
        let linked = self.sections.linked(address);
        let Some(info) = self.unit_at(&dwarf, linked) else { return Vec::new() };
        let scopes = self.scopes(&dwarf, &info, linked);
        let functions = scopes.iter().filter(|scope| scope.kind != ScopeKind::Block).count();
        let Some(function) = scopes.first().and_then(|scope| die_in(&dwarf, &info, scope.entry)) else {
            return Vec::new();
        };
        let eval = Eval { file: self, dwarf: &dwarf, function, address: linked, state };
        let mut found = Vec::new();
        let mut outer = 0_usize;
        for scope in scopes {
            outer = outer.saturating_add(usize::from(scope.kind != ScopeKind::Block));
            // A damaged scope has the variables before the damage.
            let _ = eval.scope(scope.entry, functions.saturating_sub(outer), &mut found);
        }
        found.sort_by_key(|variable| variable.frame);
        found
    }
}

/// Evaluates locations at one address.
struct Eval<'e, 'a> {
    file: &'e DwarfFile,
    dwarf: &'e Dwarf<'a>,
    /// The function that was compiled: its frame base counts for all that was inlined into it.
    function: Die<'a>,
    /// In the file.
    address: u64,
    state: &'e dyn FrameState,
}

impl<'a> Eval<'_, 'a> {
    /// The variables right below a function, inlined call or block.
    fn scope(&self, scope: UnitOffset, frame: usize, found: &mut Vec<Variable>) -> Option<()> {
        let info = &self.function.info;
        let mut walk = Walk::new(&self.function.unit, scope)?;
        let first = walk.next()?;
        walk.skip(&first)?;
        while let Some(head) = walk.next() {
            let tag = head.abbreviation.tag();
            if matches!(tag, dw::DW_TAG_formal_parameter | dw::DW_TAG_variable)
                && found.len() < MOST_VARIABLES
            {
                let die = die_in(self.dwarf, info, head.at)?;
                found.extend(self.variable(&die, frame));
            }
            walk.skip_all(&head)?;
        }
        Some(())
    }

    fn variable(&self, die: &Die<'a>, frame: usize) -> Option<Variable> {
        // `extern` in a function: the thing itself is global.
        if die.has(dw::DW_AT_declaration) {
            return None;
        }
        let name = self.file.name(self.dwarf, die)?;
        let of = self.file.inherited(self.dwarf, die, |die| die.reference(dw::DW_AT_type));
        let argument = die.entry.tag() == dw::DW_TAG_formal_parameter;
        Some(Variable { name, frame, argument, of, storage: self.storage(die) })
    }

    fn storage(&self, die: &Die<'a>) -> Storage {
        let constant = || {
            let value = self.file.inherited(self.dwarf, die, |die| die.attr(dw::DW_AT_const_value))?;
            self.constant(&value)
        };
        let location = self.file.inherited(self.dwarf, die, |die| die.attr(dw::DW_AT_location));
        match location {
            None => constant().unwrap_or(Storage::OptimizedOut),
            Some(Value::Exprloc(expression)) => self.evaluate(expression, true),
            Some(list) => match self.listed(list) {
                Some(expression) => self.evaluate(expression, true),
                None => Storage::OptimizedOut,
            },
        }
    }

    /// The expression of a location list that holds at the address (2.6.2).
    fn listed(&self, list: Value<'a>) -> Option<gimli::Expression<Slice<'a>>> {
        let mut list = self.dwarf.attr_locations(&self.function.unit, list).ok()??;
        for _ in 0..MOST_LOCATIONS {
            let entry = list.next().ok()??;
            if (entry.range.begin..entry.range.end).contains(&self.address) {
                return Some(entry.data);
            }
        }
        None
    }

    fn constant(&self, value: &Value<'a>) -> Option<Storage> {
        let bytes: Box<[u8]> = match value {
            Value::Block(bytes) | Value::String(bytes) => bytes.slice().into(),
            Value::Sdata(value) => self.in_memory(*value as u64),
            value => self.in_memory(value.udata_value()?),
        };
        Some(Storage::Bytes(bytes))
    }

    /// A number as the dumped machine would store it in eight bytes. Big-endian machines have the value at the end, so
    /// there its leading zeros are kept: the caller takes the last bytes.
    fn in_memory(&self, value: u64) -> Box<[u8]> {
        let bytes =
            if self.file.sections.is_little_endian() { value.to_le_bytes() } else { value.to_be_bytes() };
        Box::new(bytes)
    }

    fn evaluate(&self, expression: gimli::Expression<Slice<'a>>, with_frame_base: bool) -> Storage {
        if expression.0.is_empty() {
            return Storage::OptimizedOut;
        }
        let mut evaluation = expression.evaluation(self.function.unit.header.encoding());
        evaluation.set_max_iterations(MOST_OPERATIONS);
        match self.run(&mut evaluation, with_frame_base) {
            Ok(()) => self.result(evaluation.as_result()),
            Err(why) => Storage::Unknown(why),
        }
    }

    fn run(&self, evaluation: &mut Evaluation<Slice<'a>>, with_frame_base: bool) -> Result<(), &'static str> {
        const DAMAGED: &str = "its location is damaged";
        let mut result = evaluation.evaluate();
        // Each request costs an operation, so that the limit on those ends this too.
        for _ in 0..MOST_OPERATIONS {
            result = match result.map_err(|_| DAMAGED)? {
                EvaluationResult::Complete => return Ok(()),
                EvaluationResult::RequiresRegister { register, base_type } => {
                    let value = self.state.register(register.0).ok_or("its register was not recovered")?;
                    let value = gimli::Value::from_u64(self.value_type(base_type).ok_or(DAMAGED)?, value);
                    evaluation.resume_with_register(value.map_err(|_| DAMAGED)?)
                }
                EvaluationResult::RequiresMemory { address, size, base_type, .. } => {
                    let value = self.memory(address, size).ok_or("it is in memory that the dump lacks")?;
                    let value = gimli::Value::from_u64(self.value_type(base_type).ok_or(DAMAGED)?, value);
                    evaluation.resume_with_memory(value.map_err(|_| DAMAGED)?)
                }
                EvaluationResult::RequiresFrameBase if with_frame_base => {
                    evaluation.resume_with_frame_base(self.frame_base()?.0)
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    let cfa = self.state.cfa().ok_or("the address of its frame was not recovered")?;
                    evaluation.resume_with_call_frame_cfa(cfa.0)
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(self.file.sections.placed(address).0)
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let address = self.dwarf.address(&self.function.unit, index).map_err(|_| DAMAGED)?;
                    let placed = self.file.sections.placed(address).0;
                    evaluation.resume_with_indexed_address(if relocate { placed } else { address })
                }
                EvaluationResult::RequiresBaseType(at) => {
                    evaluation.resume_with_base_type(self.value_type(at).ok_or(DAMAGED)?)
                }
                EvaluationResult::RequiresEntryValue(_) => {
                    return Err("only its value at the function's entry is known");
                }
                _ => return Err("its location is of an unknown kind"),
            };
        }
        Err(DAMAGED)
    }

    /// What `DW_OP_fbreg` counts from (3.3.5).
    fn frame_base(&self) -> Result<VirtAddr, &'static str> {
        const UNKNOWN: &str = "the base of its frame is not known";
        let expression = match self.function.attr(dw::DW_AT_frame_base).ok_or(UNKNOWN)? {
            Value::Exprloc(expression) => expression,
            list => self.listed(list).ok_or(UNKNOWN)?,
        };
        match self.evaluate(expression, false) {
            Storage::Memory(base) => Ok(base),
            // A register alone means its value: so clang writes that functions count from %rbp.
            Storage::Bytes(bytes) => {
                let endian = self.state.memory().endian();
                endian.unsigned(&bytes, 0, bytes.len()).map(VirtAddr).ok_or(UNKNOWN)
            }
            Storage::Unknown(why) => Err(why),
            _ => Err(UNKNOWN),
        }
    }

    fn value_type(&self, at: UnitOffset) -> Option<ValueType> {
        if at.0 == 0 {
            return Some(ValueType::Generic);
        }
        ValueType::from_entry(&self.function.unit.entry(at).ok()?).ok()?
    }

    fn memory(&self, address: u64, size: u8) -> Option<u64> {
        let memory = self.state.memory();
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..usize::from(size))?;
        memory.read_exact(VirtAddr(address), bytes).ok()?;
        memory.endian().unsigned(bytes, 0, bytes.len())
    }

    fn result(&self, pieces: &[gimli::Piece<Slice<'a>>]) -> Storage {
        match pieces {
            [] => Storage::OptimizedOut,
            [one] if one.size_in_bits.is_none() => self.place(&one.location),
            pieces => {
                let whole = pieces.iter().all(|piece| piece.bit_offset.unwrap_or(0) == 0);
                let parts = pieces.iter().map(|piece| {
                    Some(Piece { bits: piece.size_in_bits?, storage: self.place(&piece.location) })
                });
                match parts.collect::<Option<Vec<_>>>().filter(|_| whole) {
                    Some(parts) => Storage::Pieces(parts),
                    None => Storage::Unknown("its location is of an unknown kind"),
                }
            }
        }
    }

    fn place(&self, location: &gimli::Location<Slice<'a>>) -> Storage {
        match location {
            gimli::Location::Empty => Storage::OptimizedOut,
            gimli::Location::Address { address } => Storage::Memory(VirtAddr(*address)),
            gimli::Location::Register { register } => match self.state.register(register.0) {
                Some(value) => Storage::Bytes(self.in_memory(value)),
                None => Storage::Unknown("its register was not recovered"),
            },
            gimli::Location::Value { value } => match value.to_u64(u64::MAX) {
                Ok(value) => Storage::Bytes(self.in_memory(value)),
                Err(_) => Storage::Unknown("it is a floating-point number"),
            },
            gimli::Location::Bytes { value } => Storage::Bytes(value.slice().into()),
            gimli::Location::ImplicitPointer { .. } => Storage::Unknown("it points to what is in no memory"),
        }
    }
}
