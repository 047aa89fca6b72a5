//! From a text to a value.

use kdive_base::VirtAddr;
use kdive_debuginfo::TypeId;

use super::{EvalError, Scope, Value, Why};
use crate::kernel::Kernel;

impl Kernel {
    /// The value of an expression.
    ///
    /// # Errors
    /// What is wrong with it, and where: see [`EvalError`].
    pub fn eval(&self, text: &str, scope: &Scope<'_>) -> Result<Value, EvalError> {
        let _ = scope;
        Err(EvalError {
            text: text.to_owned(),
            at: 0..text.len(),
            why: Why::Wrong("not an expression".to_owned()),
            hint: None,
        })
    }

    /// The address that an expression means: the value of a pointer or an integer, the place of a record or an array.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn eval_address(&self, text: &str, scope: &Scope<'_>) -> Result<VirtAddr, EvalError> {
        let value = self.eval(text, scope)?;
        value.address().ok_or_else(|| EvalError {
            text: text.to_owned(),
            at: 0..text.len(),
            why: Why::Wrong("this has no address".to_owned()),
            hint: None,
        })
    }

    /// The type that a C type name means: `struct list_head *`, `unsigned long`, `task_struct` (the keyword may be left
    /// out), `typeof(expression)`.
    ///
    /// # Errors
    /// As [`Kernel::eval`].
    pub fn type_named(&self, text: &str, scope: &Scope<'_>) -> Result<TypeId, EvalError> {
        let types = scope.kernel.types().map_err(|lacks| EvalError {
            text: text.to_owned(),
            at: 0..text.len(),
            why: lacks.into(),
            hint: None,
        })?;
        let _ = types;
        self.record(text).map_err(|lacks| EvalError {
            text: text.to_owned(),
            at: 0..text.len(),
            why: lacks.into(),
            hint: None,
        })
    }
}
