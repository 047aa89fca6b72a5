//! Writes the table of the known issues that are shipped: `known-issues/*.toml` of the repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let variable =
        |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(name.to_owned()));
    let directory = variable("CARGO_MANIFEST_DIR")?.join("../../known-issues");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut table =
        String::from("/// Name and text of each.\npub(crate) static BUILT_IN: &[(&str, &str)] = &[\n");
    for file in &files {
        let id = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let path = fs::canonicalize(file)?;
        let _ = writeln!(table, "    ({id:?}, include_str!({path:?})),");
    }
    table.push_str("];\n");
    fs::write(variable("OUT_DIR")?.join("built_in.rs"), table)?;
    tell_cargo(&directory);
    Ok(())
}

fn tell_cargo(directory: &Path) {
    println!("cargo::rerun-if-changed={}", directory.display());
}
