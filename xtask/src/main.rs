//! The project's chores: `cargo xtask lab` makes crash dumps of stock kernels and checks `kdive` against them.

// A host: it talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod lab;
mod run;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
enum Chore {
    /// Boot stock kernels, break them in known ways, dump them, and check kdive against what is known.
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Lab(args) => lab::main(args),
    }
}
