//! The program `kdive-capture`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kdive_cli::kdive_capture()
}
