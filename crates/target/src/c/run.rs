//! Expressions and type names as the rest of the program asks for them.

use kdive_base::VirtAddr;
use kdive_debuginfo::{Type, TypeId, Types};

use super::error::EvalError;
use super::eval::{Evaluator, Guess};
use super::parser;
use super::resolve::Known;
use super::scope::Scope;
use super::value::Value;
use super::world::World;
use crate::kernel::Kernel;
use crate::lacks::Field;

/// The value of an expression, and what is to be said of it.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The value.
    pub value: Value,
    /// The types among which its own is found: the kernel's, or all where it took a module's.
    pub types: Types,
    /// A variable in it whose type is not known.
    pub guessed: Option<Guess>,
}

/// The value of an expression in any surroundings.
///
/// # Errors
/// What is wrong with it, and where.
pub fn evaluate(text: &str, world: &dyn World) -> Result<Evaluated, EvalError> {
    let evaluate = || {
        let node = parser::expression(text, &Known { world })?;
        let mut evaluator = Evaluator::new(world);
        let value = evaluator.eval(&node)?;
        Ok(Evaluated { value, types: evaluator.types, guessed: evaluator.guessed })
    };
    evaluate().map_err(|fault: super::error::Fault| fault.of(text))
}

/// The address that an expression means, in any surroundings.
fn address(text: &str, world: &dyn World) -> Result<VirtAddr, EvalError> {
    let address = || {
        let node = parser::expression(text, &Known { world })?;
        Evaluator::new(world).address(&node)
    };
    address().map(VirtAddr).map_err(|fault| fault.of(text))
}

/// The type that a text means, in any surroundings.
fn type_of(text: &str, having: Option<&str>, world: &dyn World) -> Result<TypeId, EvalError> {
    let found = || {
        let name = parser::type_name(text, &Known { world })?;
        Evaluator::new(world).resolve(&name, having)
    };
    found().map_err(|fault| fault.of(text))
}

/// Longest way from a type to what tells its unit: real ones are below ten.
const DEEPEST: usize = 64;

impl Kernel {
    /// The value of an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where: see [`EvalError`].
    pub fn eval(&self, text: &str, scope: &Scope<'_>) -> Result<Value, EvalError> {
        self.evaluate(text, scope).map(|found| found.value)
    }

    /// The value of an expression, with the types that it needs and whether one of them is a guess: for commands that
    /// show it.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn evaluate(&self, text: &str, scope: &Scope<'_>) -> Result<Evaluated, EvalError> {
        evaluate(text, scope)
    }

    /// The address that an expression means: the value of a pointer or an integer, the place of a record or an array.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn eval_address(&self, text: &str, scope: &Scope<'_>) -> Result<VirtAddr, EvalError> {
        address(text, scope)
    }

    /// The type that a C type name means: `struct list_head *`, `unsigned long`, `task_struct` (the keyword may be left
    /// out), `typeof(expression)`.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn type_named(&self, text: &str, scope: &Scope<'_>) -> Result<TypeId, EvalError> {
        type_of(text, None, scope)
    }

    /// As [`Kernel::type_named`], but of several definitions of a record the one that has this member.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn type_having(&self, text: &str, member: &str, scope: &Scope<'_>) -> Result<TypeId, EvalError> {
        type_of(text, Some(member), scope)
    }

    /// The types among which this one and what it is made of are found: the kernel's own, or all of them. Modules' types
    /// are not read for what the kernel knows.
    ///
    /// # Errors
    /// There is no type information.
    pub fn types_knowing(&self, of: TypeId) -> Field<&Types> {
        let types = self.types()?;
        let mut at = of;
        for _ in 0..DEEPEST {
            at = match types.get(types.strip(at)).as_deref() {
                Some(Type::Pointer { to, .. }) => *to,
                Some(Type::Array { of, .. }) => *of,
                Some(Type::Function(prototype)) => prototype.returns,
                Some(Type::Declaration { .. }) | None => return self.all_types(),
                Some(_) => return Ok(types),
            };
        }
        Ok(types)
    }
}
