//! `cargo xtask capture`: the static `kdive-capture` for the initramfs of a capture kernel.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run;

/// What an initramfs can bear.
const MOST_BYTES: u64 = 8 << 20;
/// Named, so that flags for the program are not those of build scripts and procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn main() -> Result<()> {
    let program = build()?;
    let bytes = std::fs::metadata(&program)?.len();
    println!("{}: {bytes} bytes, {:.1} MB", program.display(), bytes as f64 / 1e6);
    if bytes > MOST_BYTES {
        bail!("more than {MOST_BYTES} bytes");
    }
    Ok(())
}

/// Builds it, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let words = ["build", "--package", "kdive", "--bin", "kdive-capture", "--no-default-features"];
    let how = ["--features", "capture", "--profile", "capture", "--target", TARGET];
    let mut cargo = run::command("cargo", words);
    cargo.args(how).current_dir(&root).env("RUSTFLAGS", "-C target-feature=+crt-static");
    run::output(&mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(TARGET).join("capture/kdive-capture"))
}
