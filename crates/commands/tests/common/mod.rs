//! The fixtures of the repository, opened.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, clippy::panic, reason = "a fixture that is not there fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kdive_commands::{Cx, JsonSink};
use kdive_dump::{Hints, Input, InputFile, Opened};
use kdive_target::{Kernel, OpenOptions};
use serde_json::Value;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The dumps in `tests/dumps`, in the order of their names.
pub(crate) fn dumps() -> Vec<PathBuf> {
    let found = std::fs::read_dir(tests().join("dumps")).expect("tests/dumps is there");
    let mut dumps: Vec<PathBuf> = found.map(|entry| entry.expect("a directory entry").path()).collect();
    dumps.retain(|path| path.extension().is_some_and(|extension| extension != "md"));
    dumps.sort();
    assert!(dumps.len() >= 5, "fixtures are missing: {dumps:?}");
    dumps
}

/// The dump whose name begins with `name`.
pub(crate) fn dump(name: &str) -> PathBuf {
    let found = dumps().into_iter().find(|path| file_name(path).starts_with(name));
    found.unwrap_or_else(|| panic!("no fixture {name}"))
}

/// A path's last part.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().expect("a file name").to_string_lossy().into_owned()
}

/// The command lines of `tests/commands.txt`.
pub(crate) fn command_lines() -> Vec<String> {
    let text = std::fs::read_to_string(tests().join("commands.txt")).expect("tests/commands.txt is there");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// Opens the bytes of a dump.
pub(crate) fn open_bytes(bytes: Vec<u8>) -> Option<Opened> {
    let file = InputFile::new("test", Arc::new(bytes));
    kdive_dump::open(Input { files: vec![file] }, &Hints::default()).ok()
}

/// Opens a fixture.
pub(crate) fn kernel(path: &Path, options: OpenOptions) -> Arc<Kernel> {
    let bytes = std::fs::read(path).expect("the fixture can be read");
    let opened = open_bytes(bytes).expect("the fixture opens");
    Kernel::open(opened, options, Arc::new(())).expect("nothing was given that could be refused")
}

/// Runs one command line and returns its JSON document.
pub(crate) fn json(kernel: &Arc<Kernel>, line: &str) -> Value {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let mut cx = Cx::new(kernel.clone());
    let mut sink = JsonSink::new(Vec::new(), line).expect("a vector takes everything");
    let error = kdive_commands::run(&mut cx, &words, &mut sink).err().map(|error| error.to_string());
    let document = sink.finish(error.as_deref(), &cx.gaps.take()).expect("a vector takes everything");
    serde_json::from_slice(&document).expect("every document is JSON")
}
