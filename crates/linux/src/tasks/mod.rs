//! Tasks: `task_struct`, the list of all of them, what ran where, and who panicked.

mod list;
mod panic;
mod pids;
mod state;
mod task;

pub use list::{Processor, RunQueue, Tasks};
pub use panic::{PanicHow, PanicTask};
pub use state::{State, StateBits};
pub use task::{Task, TaskLoader, ThreadInfo};
