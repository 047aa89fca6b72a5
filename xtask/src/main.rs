//! The project's chores: `cargo xtask lab` makes crash dumps of stock kernels and checks `kdive` against them.

// A host: it talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod capture;
mod fixtures;
mod lab;
mod run;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
enum Chore {
    /// Boot stock kernels, break them in known ways, dump them, and check kdive against what is known.
    Lab(lab::LabArgs),
    /// Measure kdive against crash and drgn.
    Bench(lab::BenchArgs),
    /// Run the same command lines through kdive and crash, and show where they differ.
    Diff(lab::DiffArgs),
    /// Judge kdive analyze by what the lab built.
    Accuracy(lab::AccuracyArgs),
    /// Build the static `kdive-capture`, for the initramfs of a capture kernel.
    Capture,
    /// Make the small dumps that the tests run on.
    Fixtures(fixtures::FixturesArgs),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Lab(args) => lab::main(args),
        Chore::Bench(args) => lab::bench(args),
        Chore::Diff(args) => lab::diff(args),
        Chore::Accuracy(args) => lab::accuracy(&args),
        Chore::Capture => capture::main(),
        Chore::Fixtures(args) => fixtures::main(args),
    }
}
