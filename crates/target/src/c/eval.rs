//! From a tree to a value.

use std::ops::Range;

use kdive_base::VirtAddr;
use kdive_debuginfo::types::MemberError;
use kdive_debuginfo::{Type, TypeId, Types};

use super::ast::{Binary, Expr, Node, Path, Step, Unary};
use super::convert::{Class, INT, Integer, UNSIGNED_LONG};
use super::error::{Eval, Fault};
use super::lexer::Number;
use super::operators::Operand;
use super::read::Reader;
use super::suggest;
use super::value::{Stored, Value};
use super::world::World;
use crate::lacks::{Field, Lacks};

/// One evaluation.
pub(super) struct Evaluator<'a> {
    pub(super) world: &'a dyn World,
    /// The kernel's types; all types as soon as those lack something.
    pub(super) types: Types,
    pub(super) widened: bool,
    /// Only types are wanted: see [`Reader::idle`].
    pub(super) idle: bool,
    pub(super) guessed: Option<Guess>,
}

/// What nothing tells of a name in an expression, and what was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The type of a variable: it is taken for an unsigned integer that fits before the next symbol.
    Variable {
        /// The variable.
        name: String,
        /// Size of that integer.
        bytes: u64,
    },
    /// What a function takes and returns.
    Function {
        /// The function.
        name: String,
    },
}

impl std::fmt::Display for Guess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable { name, bytes: 1 } => {
                write!(f, "the type of {name} is not known: guessed to be an unsigned integer of 1 byte")
            }
            Self::Variable { name, bytes } => {
                write!(
                    f,
                    "the type of {name} is not known: guessed to be an unsigned integer of {bytes} bytes"
                )
            }
            Self::Function { name } => write!(f, "the type of function {name} is not known"),
        }
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(world: &'a dyn World) -> Self {
        Self { world, types: world.types(), widened: false, idle: false, guessed: None }
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { types: &self.types, memory: self.world.memory(), idle: self.idle }
    }

    /// From now on with the types of modules. False if that was so already.
    pub(super) fn widen(&mut self) -> bool {
        if self.widened {
            return false;
        }
        self.widened = true;
        self.types = self.world.all_types();
        true
    }

    /// Reads, with all types if the kernel's own do not know enough.
    pub(super) fn read<T>(&mut self, at: &Range<usize>, read: impl Fn(&Reader<'_>) -> Field<T>) -> Eval<T> {
        let mut found = read(&self.reader());
        if matches!(found, Err(Lacks::Type(_))) && self.widen() {
            found = read(&self.reader());
        }
        found.map_err(|lacks| Fault::lacks(at.clone(), lacks))
    }

    /// Evaluates for the type alone.
    pub(super) fn idly<T>(&mut self, evaluate: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        let before = std::mem::replace(&mut self.idle, true);
        let found = evaluate(self);
        self.idle = before;
        found
    }

    pub(super) fn class(&mut self, of: TypeId) -> Class {
        let found = self.reader().class(of);
        if found == Class::Incomplete && self.widen() { self.reader().class(of) } else { found }
    }

    pub(super) fn integer(&self, of: Integer, raw: u128) -> Value {
        self.integer_as(of.id(&self.types), of, raw)
    }

    /// A number of a type that is this integer.
    pub(super) fn integer_as(&self, id: TypeId, of: Integer, raw: u128) -> Value {
        Value::computed(id, self.reader().encode(of.wrap(raw), of.bytes.into()))
    }

    /// A pointer of this type.
    pub(super) fn pointer(&self, id: TypeId, address: u64) -> Value {
        Value::computed(id, self.reader().encode(address.into(), self.types.pointer_bytes() as usize))
    }

    pub(super) fn eval(&mut self, node: &Node) -> Eval<Value> {
        let at = &node.at;
        match &*node.kind {
            Expr::Number(number) => Ok(self.number(*number)),
            Expr::Char(byte) => {
                let of = self.types.base("char").unwrap_or_else(|| self.types.int(1, true));
                Ok(Value::computed(of, vec![*byte]))
            }
            Expr::Text(text) => Ok(self.text(text)),
            Expr::Name(name) => self.name(name, at),
            Expr::Variable(name) => self.variable(name, at),
            Expr::Scoped { scope, name } => self.scoped(scope, name, at),
            Expr::Unary(operator, operand) => self.unary(*operator, operand, at),
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right, at),
            Expr::Conditional(condition, yes, no) => self.conditional(condition, yes, no),
            Expr::Cast(of, operand) => {
                let of = self.resolve(of, None)?;
                self.cast_node(of, operand, at)
            }
            Expr::At(of, operand) => {
                let of = self.resolve(of, None)?;
                self.at_address(of, operand)
            }
            Expr::Member { of, name, name_at, .. } => self.member(of, name, name_at),
            Expr::Index(left, right) => self.index(left, right, at),
            Expr::SizeOf(operand) => self.size_of(operand, at),
            Expr::SizeOfType(of) => {
                let id = self.resolve(of, None)?;
                let size = self.read(&of.at, |reader| reader.stride(id))?;
                Ok(self.integer(UNSIGNED_LONG, size.into()))
            }
            Expr::AlignOfType(of) => {
                let id = self.resolve(of, None)?;
                let bytes = self.alignment(id, &of.at)?;
                Ok(self.integer(UNSIGNED_LONG, bytes.into()))
            }
            Expr::OffsetOf(of, path) => {
                let id = self.resolve(of, path.first())?;
                let offset = self.offset_of(id, path)?;
                Ok(self.integer(UNSIGNED_LONG, offset.into()))
            }
            Expr::ContainerOf { pointer, of, path } => {
                let id = self.resolve(of, path.first())?;
                let offset = self.offset_of(id, path)?;
                let address = self.address(pointer)?;
                Ok(self.pointer(self.types.pointer_to(id), address.wrapping_sub(offset)))
            }
            Expr::PerCpu(variable, cpu) => self.per_cpu(variable, cpu, at),
            Expr::PerCpuPointer(pointer, cpu) => {
                let value = self.eval(pointer)?;
                let address = self.address(pointer)?;
                let offset = self.per_cpu_offset(cpu)?;
                Ok(self.pointer(value.of, address.wrapping_add(offset)))
            }
        }
    }

    /// An integer constant has the first type that holds it (6.4.4.1).
    fn number(&self, number: Number) -> Value {
        let Number { value, unsigned, long, decimal } = number;
        let fits_int = !long && value <= i32::MAX as u64;
        let fits_uint = !long && (unsigned || !decimal) && value <= u64::from(u32::MAX);
        let of = match () {
            () if fits_int => Integer::new(4, !unsigned),
            () if fits_uint => Integer::new(4, false),
            () if value <= i64::MAX as u64 => Integer::new(8, !unsigned),
            () => UNSIGNED_LONG,
        };
        self.integer(of, value.into())
    }

    fn text(&self, text: &[u8]) -> Value {
        let of = self.types.base("char").unwrap_or_else(|| self.types.int(1, true));
        let bytes: Vec<u8> = text.iter().copied().chain([0]).collect();
        Value::computed(self.types.array_of(of, Some(bytes.len() as u64)), bytes)
    }

    fn unary(&mut self, operator: Unary, node: &Node, at: &Range<usize>) -> Eval<Value> {
        match operator {
            Unary::AddressOf => {
                let value = self.eval(node)?;
                match value.stored {
                    Stored::Memory(address) => Ok(self.pointer(self.types.pointer_to(value.of), address.0)),
                    Stored::Bits { .. } => Err(Fault::wrong(node.at.clone(), "a bit-field has no address")),
                    Stored::Bytes(_) => {
                        Err(Fault::wrong(node.at.clone(), "this is not in memory: it has no address"))
                    }
                }
            }
            Unary::Dereference => match self.operand(node)? {
                Operand::Pointer { to, address, .. } => match self.class(to) {
                    Class::Void => {
                        Err(Fault::wrong(at.clone(), "a void pointer does not say what it points to")
                            .hinting("cast it: *(type *)"))
                    }
                    _ => Ok(Value::object(to, VirtAddr(address))),
                },
                Operand::Number { .. } => {
                    Err(Fault::wrong(node.at.clone(), "a number is no pointer").hinting("cast it: *(type *)"))
                }
                Operand::Other(value) => Err(self.unfit(&value, &node.at, "is no pointer")),
            },
            _ => self.arithmetic_unary(operator, node),
        }
    }

    fn conditional(&mut self, condition: &Node, yes: &Node, no: &Node) -> Eval<Value> {
        let holds = self.truth(condition)?;
        let (taken, other) = if holds { (yes, no) } else { (no, yes) };
        let value = self.eval(taken)?;
        // The other branch counts for the type, as C has it.
        let other = self.idly(|this| this.operand(other))?;
        self.balance(value, &other, &taken.at)
    }

    pub(super) fn at_address(&mut self, of: TypeId, operand: &Node) -> Eval<Value> {
        let address = self.address(operand)?;
        Ok(Value::object(of, VirtAddr(address)))
    }

    /// The address that a part of an expression means.
    pub(super) fn address(&mut self, node: &Node) -> Eval<u64> {
        match self.operand(node)? {
            Operand::Pointer { address, .. } => Ok(address),
            Operand::Number { raw, .. } => Ok(raw as u64),
            Operand::Other(value) => match value.address() {
                Some(address) => Ok(address.0),
                None => Err(self.unfit(&value, &node.at, "is no address")),
            },
        }
    }

    /// What stands before `.name`: of a type with several definitions the one that has the member.
    fn having(&mut self, node: &Node, name: &str) -> Eval<Value> {
        match &*node.kind {
            Expr::Cast(of, operand) => {
                let of = self.resolve(of, Some(name))?;
                self.cast_node(of, operand, &node.at)
            }
            Expr::At(of, operand) => {
                let of = self.resolve(of, Some(name))?;
                self.at_address(of, operand)
            }
            Expr::Unary(Unary::Dereference, pointer) => {
                let value = self.having(pointer, name)?;
                match self.reader().is_pointer(value.of) {
                    true => self.read(&pointer.at, |reader| reader.deref(&value)),
                    false => self.eval(node),
                }
            }
            _ => self.eval(node),
        }
    }

    /// `of.name` and `of->name`: as in gdb, either follows a pointer.
    fn member(&mut self, of: &Node, name: &str, name_at: &Range<usize>) -> Eval<Value> {
        let mut record = self.having(of, name)?;
        if matches!(self.class(record.of), Class::Pointer { .. } | Class::Array { .. }) {
            record = self.read(&of.at, |reader| reader.deref(&record))?;
        }
        if matches!(self.class(record.of), Class::Pointer { .. }) {
            let name = self.types.name_of(record.of);
            return Err(Fault::wrong(of.at.clone(), format!("this points to {name}, which has no members")));
        }
        record.of = self.defined(record.of, name, &of.at)?;
        match self.types.member(record.of, name) {
            Ok(found) => self.read(name_at, |reader| reader.part(&record, found)),
            Err(error) => Err(self.no_member(record.of, name, &error, name_at)),
        }
    }

    /// The definition of a record of which only the name is known here: of several, the one that has the member.
    fn defined(&mut self, of: TypeId, member: &str, at: &Range<usize>) -> Eval<TypeId> {
        if self.class(of) != Class::Incomplete {
            return Ok(of);
        }
        match self.types.stripped(of).as_deref() {
            Some(Type::Declaration { tag, name }) => self.tagged(*tag, name, Some(member), at),
            _ => Ok(of),
        }
    }

    fn no_member(&self, of: TypeId, name: &str, error: &MemberError, at: &Range<usize>) -> Fault {
        match error {
            MemberError::NoMember { record, .. } => {
                let near = suggest::member(&self.types, of, name);
                Fault::wrong(at.clone(), format!("no member '{name}' in {record}")).near(near)
            }
            MemberError::NotARecord { of, .. } => {
                Fault::wrong(at.clone(), format!("a value of type {of} has no members"))
            }
            _ => Fault::lacks(at.clone(), self.reader().no_member(of, name, error)),
        }
    }

    /// `a[i]`, and `i[a]`.
    fn index(&mut self, left: &Node, right: &Node, at: &Range<usize>) -> Eval<Value> {
        let indexed = self.eval(left)?;
        let (array, array_at, index) = match self.class(indexed.of) {
            Class::Integer(_) => (self.eval(right)?, &right.at, self.whole(left)?),
            _ => (indexed, &left.at, self.whole(right)?),
        };
        match self.class(array.of) {
            Class::Pointer { .. } | Class::Array { .. } => {}
            _ => return Err(self.unfit(&array, array_at, "has no elements")),
        }
        let found = self.read(at, |reader| reader.index(&array, index))?;
        match self.class(found.of) {
            Class::Void => {
                Err(Fault::wrong(array_at.clone(), "a void pointer does not say what it points to"))
            }
            _ => Ok(found),
        }
    }

    /// The value of an integer expression.
    pub(super) fn whole(&mut self, node: &Node) -> Eval<i128> {
        match self.operand(node)? {
            Operand::Number { raw, .. } => Ok(raw as i128),
            Operand::Pointer { .. } => {
                Err(Fault::wrong(node.at.clone(), "a number is needed, not a pointer"))
            }
            Operand::Other(value) => Err(self.unfit(&value, &node.at, "is no number")),
        }
    }

    fn size_of(&mut self, operand: &Node, at: &Range<usize>) -> Eval<Value> {
        let value = self.idly(|this| this.eval(operand))?;
        if matches!(value.stored, Stored::Bits { .. }) {
            return Err(Fault::wrong(operand.at.clone(), "a bit-field has no size in bytes"));
        }
        let size = self.read(at, |reader| reader.stride(value.of))?;
        Ok(self.integer(UNSIGNED_LONG, size.into()))
    }

    /// `_Alignof`: what debug information does not say of records follows from their members. Attributes are not known.
    fn alignment(&mut self, of: TypeId, at: &Range<usize>) -> Eval<u64> {
        let mut largest = 1;
        let mut left = vec![(of, 0_usize)];
        while let Some((of, depth)) = left.pop() {
            match self.types.stripped(of).as_deref() {
                Some(Type::Array { of, .. }) => left.push((*of, depth)),
                Some(Type::Record(record)) if depth < super::parser::DEEPEST => {
                    left.extend(record.members.iter().map(|member| (member.of, depth.saturating_add(1))));
                }
                _ => largest = largest.max(self.read(at, |reader| reader.stride(of))?),
            }
            if left.len() > MOST_MEMBERS {
                return Err(Fault::wrong(at.clone(), "a type with too many members"));
            }
        }
        Ok(largest.min(16))
    }

    pub(super) fn offset_of(&mut self, record: TypeId, path: &Path) -> Eval<u64> {
        let (mut of, mut offset) = (record, 0_u64);
        for step in &path.steps {
            match step {
                Step::Member(name, at) => {
                    of = self.defined(of, name, at)?;
                    let found =
                        self.types.member(of, name).map_err(|error| self.no_member(of, name, &error, at))?;
                    if found.bit_size.is_some() {
                        return Err(Fault::wrong(at.clone(), "a bit-field has no offset in bytes"));
                    }
                    offset = offset.wrapping_add(found.byte_offset());
                    of = found.of;
                }
                Step::Index(index) => {
                    let Class::Array { of: element, .. } = self.class(of) else {
                        let name = self.types.name_of(of);
                        return Err(Fault::wrong(
                            index.at.clone(),
                            format!("a member of type {name} has no elements"),
                        ));
                    };
                    let count = self.whole(index)? as u64;
                    let size = self.read(&index.at, |reader| reader.size(element))?;
                    offset = offset.wrapping_add(count.wrapping_mul(size));
                    of = element;
                }
            }
        }
        Ok(offset)
    }

    fn per_cpu(&mut self, variable: &Node, cpu: &Node, at: &Range<usize>) -> Eval<Value> {
        let value = self.eval(variable)?;
        let Some(address) = value.address() else {
            return Err(Fault::wrong(at.clone(), "a per-CPU variable is needed"));
        };
        let offset = self.per_cpu_offset(cpu)?;
        Ok(Value::object(value.of, address.add(offset)))
    }

    fn per_cpu_offset(&mut self, cpu: &Node) -> Eval<u64> {
        let number = self.whole(cpu)?;
        let none = || Lacks::unavailable(format_args!("there is no CPU {number}"));
        let offset = u32::try_from(number).map_err(|_| none()).and_then(|cpu| self.world.per_cpu_offset(cpu));
        offset.map_err(|lacks| Fault::lacks(cpu.at.clone(), lacks))
    }

    /// A value that does not fit its place.
    pub(super) fn unfit(&self, value: &Value, at: &Range<usize>, what: &str) -> Fault {
        Fault::wrong(at.clone(), format!("a value of type {} {what}", self.types.name_of(value.of)))
    }

    fn binary(&mut self, operator: Binary, left: &Node, right: &Node, at: &Range<usize>) -> Eval<Value> {
        match operator {
            Binary::Comma => {
                self.eval(left)?;
                self.eval(right)
            }
            Binary::And | Binary::Or => {
                let first = self.truth(left)?;
                let decided = first == (operator == Binary::Or);
                let second = match decided {
                    // It is not evaluated, but it has to mean something.
                    true => self.idly(|this| this.truth(right)).map(|_| first)?,
                    false => self.truth(right)?,
                };
                Ok(self.integer(INT, second.into()))
            }
            Binary::Slice => self.slice(left, right),
            _ => self.compute(operator, left, right, at),
        }
    }

    /// gdb's `first@count`: an array that begins with an object in memory.
    fn slice(&mut self, first: &Node, count: &Node) -> Eval<Value> {
        let value = self.eval(first)?;
        let Some(address) = value.address() else {
            return Err(Fault::wrong(first.at.clone(), "only what lies in memory can be extended with @"));
        };
        let number = self.whole(count)?;
        let length = u64::try_from(number).ok().filter(|&length| length > 0);
        let Some(length) = length else {
            return Err(Fault::wrong(count.at.clone(), format!("{number} elements cannot be shown")));
        };
        Ok(Value::object(self.types.array_of(value.of, Some(length)), address))
    }
}

/// Members that `_Alignof` looks at: more than the largest record of a kernel has.
const MOST_MEMBERS: usize = 1 << 16;

impl Path {
    /// The member that it begins with.
    pub(super) fn first(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Member(name, _)) => Some(name),
            _ => None,
        }
    }
}
