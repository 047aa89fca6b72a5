//! C's operators on numbers and pointers.

use std::ops::Range;

use kdive_base::VirtAddr;
use kdive_debuginfo::TypeId;

use super::ast::{Binary, Node, Unary};
use super::convert::{Class, INT, Integer, LONG, UNSIGNED_LONG};
use super::error::{Eval, Fault};
use super::eval::Evaluator;
use super::value::{Stored, Value};

/// A value as operators take it: arrays and functions have become pointers.
pub(super) enum Operand {
    Number {
        /// The type that it is promoted from; of a bit-field that `int` can hold, `int`.
        of: Integer,
        /// Extended to 128 bits by the sign of `of`.
        raw: u128,
    },
    Pointer {
        of: TypeId,
        to: TypeId,
        address: u64,
    },
    /// A record, a float, nothing.
    Other(Value),
}

impl Evaluator<'_> {
    pub(super) fn operand(&mut self, node: &Node) -> Eval<Operand> {
        let value = self.eval(node)?;
        self.decayed(value, &node.at)
    }

    pub(super) fn decayed(&mut self, value: Value, at: &Range<usize>) -> Eval<Operand> {
        match self.class(value.of) {
            Class::Integer(of) => {
                let raw = self.read(at, |reader| reader.number(&value))?;
                let of = match value.stored {
                    // What `int` can hold is an `int` (6.3.1.1).
                    Stored::Bits { width, .. } if width < 32 || (width == 32 && of.signed) => INT,
                    _ => of,
                };
                Ok(Operand::Number { of, raw })
            }
            Class::Pointer { to } => {
                let address = self.read(at, |reader| reader.pointer(&value))?.0;
                Ok(Operand::Pointer { of: value.of, to, address })
            }
            Class::Array { of, .. } => match value.address() {
                Some(VirtAddr(address)) => {
                    Ok(Operand::Pointer { of: self.types.pointer_to(of), to: of, address })
                }
                None => Ok(Operand::Other(value)),
            },
            Class::Function => match value.address() {
                Some(VirtAddr(address)) => {
                    Ok(Operand::Pointer { of: self.types.pointer_to(value.of), to: value.of, address })
                }
                None => Ok(Operand::Other(value)),
            },
            _ => Ok(Operand::Other(value)),
        }
    }

    pub(super) fn truth(&mut self, node: &Node) -> Eval<bool> {
        match self.operand(node)? {
            Operand::Number { raw, .. } => Ok(raw != 0),
            Operand::Pointer { address, .. } => Ok(address != 0),
            Operand::Other(value) => Err(self.unfit(&value, &node.at, "is neither true nor false")),
        }
    }

    pub(super) fn arithmetic_unary(&mut self, operator: Unary, node: &Node) -> Eval<Value> {
        if operator == Unary::Not {
            let truth = self.truth(node)?;
            return Ok(self.integer(INT, (!truth).into()));
        }
        let (of, raw) = match self.operand(node)? {
            Operand::Number { of, raw } => (of.promoted(), raw),
            Operand::Pointer { .. } => {
                return Err(Fault::wrong(node.at.clone(), "a number is needed, not a pointer"));
            }
            Operand::Other(value) => return Err(self.unfit(&value, &node.at, "is no number")),
        };
        let raw = match operator {
            Unary::Minus => raw.wrapping_neg(),
            Unary::Complement => !raw,
            _ => raw,
        };
        Ok(self.integer(of, raw))
    }

    pub(super) fn compute(
        &mut self,
        operator: Binary,
        left: &Node,
        right: &Node,
        at: &Range<usize>,
    ) -> Eval<Value> {
        let (a, b) = (self.operand(left)?, self.operand(right)?);
        match (a, b) {
            (Operand::Number { of: a_of, raw: a }, Operand::Number { of: b_of, raw: b }) => match operator {
                Binary::ShiftLeft | Binary::ShiftRight => self.shift(operator, a_of.promoted(), a, b, right),
                _ => self.numbers(operator, a_of.common(b_of), a, b, right),
            },
            (Operand::Pointer { of, to, address }, Operand::Number { raw, .. })
                if matches!(operator, Binary::Add | Binary::Subtract) =>
            {
                let distance = if operator == Binary::Add { raw } else { raw.wrapping_neg() };
                self.moved(of, to, address, distance, at)
            }
            (Operand::Number { raw, .. }, Operand::Pointer { of, to, address })
                if operator == Binary::Add =>
            {
                self.moved(of, to, address, raw, at)
            }
            (Operand::Pointer { to, address: a, .. }, Operand::Pointer { to: b_to, address: b, .. })
                if operator == Binary::Subtract =>
            {
                self.distance((to, a), (b_to, b), at)
            }
            (Operand::Other(value), _) => Err(self.unfit(&value, &left.at, &no_operand(operator))),
            (_, Operand::Other(value)) => Err(self.unfit(&value, &right.at, &no_operand(operator))),
            (a, b) => {
                if !is_comparison(operator) {
                    let what = format!("pointers have no operator {}", operator.text());
                    return Err(Fault::wrong(at.clone(), what).hinting("cast them to unsigned long"));
                }
                let (a, b) = (bits_of(&a), bits_of(&b));
                self.numbers(operator, UNSIGNED_LONG, a, b, right)
            }
        }
    }

    fn numbers(&mut self, operator: Binary, of: Integer, a: u128, b: u128, right: &Node) -> Eval<Value> {
        let (a, b) = (of.wrap(a), of.wrap(b));
        if let Some(holds) = compare(operator, of.signed, a, b) {
            return Ok(self.integer(INT, holds.into()));
        }
        let divides = matches!(operator, Binary::Divide | Binary::Remainder);
        if divides && b == 0 && !self.idle {
            return Err(Fault::wrong(right.at.clone(), "division by zero"));
        }
        let b = if divides && b == 0 { 1 } else { b };
        let raw = match operator {
            Binary::Add => a.wrapping_add(b),
            Binary::Subtract => a.wrapping_sub(b),
            Binary::Multiply => a.wrapping_mul(b),
            Binary::Divide if of.signed => (a as i128).wrapping_div(b as i128) as u128,
            Binary::Divide => a.wrapping_div(b),
            Binary::Remainder if of.signed => (a as i128).wrapping_rem(b as i128) as u128,
            Binary::Remainder => a.wrapping_rem(b),
            Binary::BitAnd => a & b,
            Binary::BitOr => a | b,
            _ => a ^ b,
        };
        Ok(self.integer(of, raw))
    }

    /// Shifts compute in the type of the left operand. C leaves a count beyond its width open: that is refused, as the
    /// zero of one machine and the low bits of another are both wrong for who typed `1 << 40`.
    fn shift(&mut self, operator: Binary, of: Integer, raw: u128, count: u128, right: &Node) -> Eval<Value> {
        let name = self.types.name_of(of.id(&self.types));
        let count = match u32::try_from(count).ok().filter(|&count| count < of.bits()) {
            Some(count) => count,
            None if self.idle => 0,
            None => {
                let what = format!("a shift by {} of a {name}, which has {} bits", count as i128, of.bits());
                return Err(Fault::wrong(right.at.clone(), what).hinting("1UL has 64"));
            }
        };
        let raw = of.wrap(raw);
        let raw = match operator {
            Binary::ShiftLeft => raw.wrapping_shl(count),
            _ if of.signed => (raw as i128).wrapping_shr(count) as u128,
            _ => raw.wrapping_shr(count),
        };
        Ok(self.integer(of, raw))
    }

    /// A pointer so many elements further on.
    fn moved(
        &mut self,
        of: TypeId,
        to: TypeId,
        address: u64,
        elements: u128,
        at: &Range<usize>,
    ) -> Eval<Value> {
        let stride = self.read(at, |reader| reader.stride(to))?;
        Ok(self.pointer(of, address.wrapping_add((elements as u64).wrapping_mul(stride))))
    }

    /// Elements from `b` to `a`.
    fn distance(&mut self, a: (TypeId, u64), b: (TypeId, u64), at: &Range<usize>) -> Eval<Value> {
        let stride = self.read(at, |reader| reader.stride(a.0))?;
        if self.read(at, |reader| reader.stride(b.0))? != stride || stride == 0 {
            let (a, b) = (self.types.name_of(a.0), self.types.name_of(b.0));
            return Err(Fault::wrong(
                at.clone(),
                format!("a pointer to {a} and one to {b} have no distance"),
            ));
        }
        let bytes = a.1.wrapping_sub(b.1) as i64;
        let elements = bytes.wrapping_div(i64::try_from(stride).unwrap_or(i64::MAX));
        Ok(self.integer(LONG, elements as u128))
    }

    /// The value of `?:`, in the type that both of its branches have together.
    pub(super) fn balance(&mut self, value: Value, other: &Operand, at: &Range<usize>) -> Eval<Value> {
        match (self.class(value.of), other) {
            (Class::Integer(_), Operand::Number { of: other, .. }) => match self.decayed(value, at)? {
                Operand::Number { of, raw } => Ok(self.integer(of.common(*other), raw)),
                Operand::Pointer { .. } | Operand::Other(_) => Err(Fault::wrong(at.clone(), "no number")),
            },
            // A null pointer constant takes the type of the other pointer.
            (Class::Integer(_), Operand::Pointer { of, .. }) => match self.decayed(value, at)? {
                Operand::Number { raw, .. } => Ok(self.pointer(*of, raw as u64)),
                Operand::Pointer { .. } | Operand::Other(_) => Err(Fault::wrong(at.clone(), "no number")),
            },
            _ => Ok(value),
        }
    }

    pub(super) fn cast_node(&mut self, to: TypeId, node: &Node, at: &Range<usize>) -> Eval<Value> {
        let value = self.eval(node)?;
        self.cast(to, value, &node.at, at)
    }

    fn cast(&mut self, to: TypeId, value: Value, value_at: &Range<usize>, at: &Range<usize>) -> Eval<Value> {
        match self.class(to) {
            Class::Integer(of) => match self.decayed(value, value_at)? {
                Operand::Number { raw, .. } => Ok(self.integer_as(to, of, raw)),
                Operand::Pointer { address, .. } => Ok(self.integer_as(to, of, address.into())),
                Operand::Other(value) => {
                    self.float(&value, value_at).map(|float| self.integer_as(to, of, float as i128 as u128))
                }
            },
            Class::Pointer { .. } => match self.decayed(value, value_at)? {
                Operand::Number { raw, .. } => Ok(self.pointer(to, raw as u64)),
                Operand::Pointer { address, .. } => Ok(self.pointer(to, address)),
                Operand::Other(value) => Err(self
                    .unfit(&value, value_at, "is no pointer")
                    .hinting("did you mean its address, with &?")),
            },
            Class::Void => Ok(Value::computed(to, Vec::new())),
            Class::Incomplete => {
                let unknown = self.reader().unknown(to);
                Err(Fault::lacks(at.clone(), unknown))
            }
            Class::Record | Class::Array { .. } | Class::Float { .. } | Class::Function => {
                self.seen_as(to, value, at)
            }
        }
    }

    /// An object seen as another type of the same size, which gdb allows and C does not.
    fn seen_as(&mut self, to: TypeId, value: Value, at: &Range<usize>) -> Eval<Value> {
        let sizes = (self.types.size_of(to), self.types.size_of(value.of));
        let same = sizes.0.is_some() && sizes.0 == sizes.1 && !matches!(value.stored, Stored::Bits { .. });
        if same || self.types.same_layout(self.types.strip(to), self.types.strip(value.of)) {
            return Ok(Value { of: to, ..value });
        }
        let (to, of) = (self.types.name_of(to), self.types.name_of(value.of));
        let fault = Fault::wrong(at.clone(), format!("a value of type {of} cannot become {to}"));
        Err(fault.hinting(format!("what lies at an address is *({to} *)")))
    }

    fn float(&mut self, value: &Value, at: &Range<usize>) -> Eval<f64> {
        let bytes = match self.class(value.of) {
            Class::Float { .. } => self.read(at, |reader| reader.bytes(value))?,
            _ => return Err(self.unfit(value, at, "is no number")),
        };
        let big = self.world.memory().endian() == kdive_base::Endian::Big;
        match *bytes {
            [a, b, c, d] if big => Ok(f32::from_be_bytes([a, b, c, d]).into()),
            [a, b, c, d] => Ok(f32::from_le_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] if big => Ok(f64::from_be_bytes([a, b, c, d, e, f, g, h])),
            [a, b, c, d, e, f, g, h] => Ok(f64::from_le_bytes([a, b, c, d, e, f, g, h])),
            _ => Err(self.unfit(value, at, "is too wide a float")),
        }
    }
}

fn bits_of(operand: &Operand) -> u128 {
    match operand {
        Operand::Number { raw, .. } => *raw,
        Operand::Pointer { address, .. } => (*address).into(),
        Operand::Other(_) => 0,
    }
}

fn no_operand(operator: Binary) -> String {
    format!("has no operator {}", operator.text())
}

fn is_comparison(operator: Binary) -> bool {
    compare(operator, false, 0, 0).is_some()
}

/// The truth of a comparison of numbers that are extended to 128 bits; `None` for other operators.
fn compare(operator: Binary, signed: bool, a: u128, b: u128) -> Option<bool> {
    let order = if signed { (a as i128).cmp(&(b as i128)) } else { a.cmp(&b) };
    Some(match operator {
        Binary::Equal => order.is_eq(),
        Binary::NotEqual => order.is_ne(),
        Binary::Less => order.is_lt(),
        Binary::LessEqual => order.is_le(),
        Binary::Greater => order.is_gt(),
        Binary::GreaterEqual => order.is_ge(),
        _ => return None,
    })
}
