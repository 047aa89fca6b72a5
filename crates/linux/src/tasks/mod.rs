//! Tasks: `task_struct`, the list of all of them, what ran where, and who panicked.

mod list;
mod name;
mod panic;
mod pids;
mod stacks;
mod state;
mod task;

pub use list::{Processor, RunQueue, Tasks};
pub use name::TaskName;
pub use panic::{PanicHow, PanicTask};
pub use stacks::{Call, LiveWords, Stacks, TaskStack, plain_name};
pub use state::{State, StateBits};
pub use task::{Task, TaskLoader, ThreadInfo};
