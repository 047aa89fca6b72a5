//! The program `kdive`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kdive_cli::kdive()
}
