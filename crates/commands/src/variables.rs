//! What expressions see of the session: the current task, its registers, the values shown before.

use std::sync::OnceLock;

use kdive_debuginfo::Types;
use kdive_evidence::{Register, Registers};
use kdive_linux::tasks::Task;
use kdive_target::Kernel;
use kdive_target::c::{Scope, Value, Variables};

use crate::cx::Cx;
use crate::frame;
use crate::history::History;
use crate::select;

/// The session's variables. Each is looked up when it is asked for.
pub(crate) struct SessionVariables<'c> {
    kernel: &'c Kernel,
    cx: &'c Cx,
    history: &'c History,
    task: OnceLock<Option<Task>>,
    registers: OnceLock<Option<Registers>>,
}

/// Variables about the current task, with what they are for completion.
const OF_TASK: [&str; 3] = ["$task", "$pid", "$cpu"];

/// Names that gdb gives to registers besides the processor's own.
const USUAL: [(&str, Register); 4] =
    [("pc", Register::Rip), ("sp", Register::Rsp), ("fp", Register::Rbp), ("eflags", Register::Rflags)];

impl<'c> SessionVariables<'c> {
    pub(crate) fn new(cx: &'c Cx) -> Self {
        let (task, registers) = (OnceLock::new(), OnceLock::new());
        Self { kernel: &cx.kernel, cx, history: &cx.history, task, registers }
    }

    /// What an expression sees with them.
    pub(crate) fn scope(&'c self) -> Scope<'c> {
        Scope { variables: self, ..Scope::global(self.kernel) }
    }

    fn task(&self) -> Option<&Task> {
        self.task.get_or_init(|| select::current(self.cx).ok()).as_ref()
    }

    /// The registers of the selected frame, as far as they are known.
    fn register(&self, name: &str) -> Option<u64> {
        let usual = USUAL.iter().find(|(usual, _)| *usual == name).map(|(_, register)| *register);
        let register =
            usual.or_else(|| Register::ALL.iter().copied().find(|register| register.name() == name))?;
        let registers = self.registers.get_or_init(|| {
            let selected = frame::selected_frame(self.cx).ok()?;
            let frame = selected.frame()?;
            let mut registers = frame.registers.clone();
            registers.set(Register::Rip, frame.ip.0);
            Some(registers)
        });
        registers.as_ref()?.get(register)
    }

    fn int(&self, value: i32) -> Option<Value> {
        Some(Value::computed(self.kernel.types().ok()?.int(4, true), value.to_le_bytes().to_vec()))
    }
}

impl Variables for SessionVariables<'_> {
    fn variable(&self, name: &str) -> Option<Value> {
        let bare = name.strip_prefix('$')?;
        match bare {
            "task" => {
                let types = self.kernel.types().ok()?;
                let of = types.pointer_to(self.kernel.record("task_struct").ok()?);
                Some(Value::computed(of, self.task()?.at.0.to_le_bytes().to_vec()))
            }
            "pid" => self.int(self.task()?.pid.clone().ok()?),
            "cpu" => self.int(self.task()?.cpu.clone().ok()?.cast_signed()),
            _ => match self.history.get(name) {
                Some(value) => Some(value.clone()),
                None => self.register(bare).map(|value| Value::unsigned(&self.scope(), value)),
            },
        }
    }

    fn names(&self) -> Vec<String> {
        let registers = Register::ALL.iter().map(|register| register.name());
        let registers = registers.chain(USUAL.iter().map(|(name, _)| *name)).map(|name| format!("${name}"));
        OF_TASK.iter().map(|&name| name.to_owned()).chain(registers).collect()
    }

    fn types(&self) -> Option<&Types> {
        self.history.types()
    }
}
