//! kdive's commands: one module per command, each of arguments, a call into the models, and a rendering of the record.
//!
//! Design constraints:
//! - A command yields records through a [`Sink`]; text in crash's layout and JSON are two views of the same record.
//! - Nothing here prints, opens files or knows a terminal: the host gives the sink.
//! - Rows go out as they are found, so a pipe into `head` stops a long listing early.
//! - What cannot be told is noted in the gap ledger of [`Cx`] and the listing goes on.
//!
//! A new command is a new module with a `pub static` [`Command`], a help page beside it, and one line in [`COMMANDS`].

mod alias;
pub mod analyze;
pub mod args;
mod arithmetic;
mod ascii;
mod blk;
mod bpf;
mod bt;
mod buffer;
mod cgroup;
mod clock;
#[cfg(feature = "disassemble")]
mod code;
mod command;
mod conntrack;
mod cx;
mod dev;
#[cfg(feature = "disassemble")]
mod dis;
mod eval;
mod exec;
mod exit;
mod files;
mod foreach;
mod frag;
mod frame;
mod ftrace;
mod fuser;
mod gdb;
mod gdb_info;
mod hang;
mod help;
mod history;
mod hw;
mod info;
mod ipcs;
mod irq;
mod journal;
mod kmem;
mod kprobes;
mod kvm;
mod leaks;
pub mod line;
mod list;
mod list_cmd;
mod livepatch;
mod locks;
mod log;
mod mach;
mod meminfo;
mod memory;
mod mod_cmd;
mod mount;
mod net;
mod netns;
mod nft;
mod oom;
mod operand;
mod overdue;
mod owners;
mod pagecache;
mod print;
mod ps;
mod qdisc;
mod rcu;
mod rd;
mod refs;
mod render;
mod repeat;
mod route;
mod rpc;
mod runq;
mod rustfilt;
mod sbitmapq;
mod search;
pub mod select;
mod set;
mod settings;
mod sig;
mod sink;
mod slabtop;
mod smp;
mod softirq;
mod source_lines;
mod stacks;
mod structure;
mod swap;
mod sym;
mod sys;
mod sysctl;
mod task;
mod tcp;
mod tcp_ends;
mod text_check;
mod timer;
mod trace_dat;
mod tree;
mod unopened;
mod variables;
mod vm;
mod vtop;
mod waitq;
mod whatis;
mod where_cmd;
mod words;
mod wq;
mod wr;
mod x;

pub use alias::names as alias_names;
pub use args::{Args, Opt};
pub use bt::BT;
pub use command::{Command, CommandError, Group, Run};
pub use cx::{Cx, Files, Progress};
pub use exec::{Invocation, run};
pub use frame::SelectedFrame;
pub use history::History;
pub use list::{COMMANDS, find};
pub use log::LOG;
pub use mod_cmd::MOD;
pub use ps::PS;
pub use set::{Takes, Variable, variable, variables};
pub use settings::Settings;
pub use sink::{Closed, Form, JsonSink, Part, Render, Sink, SinkExt, TextSink};
pub use sys::SYS;
pub use sys::banner;
pub use unopened::Unopened;
