//! What scripts rely on: exit statuses, which stream says what, and one line for a file that is no dump.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A directory with the smallest dump that opens: an ELF core with one page of memory and no notes.
fn workspace() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vmcore"), elf(4, 0xffff_8880_0000_0000)).unwrap();
    directory
}

/// An x86-64 ELF file of a type with one segment that loads at an address.
fn elf(kind: u16, address: u64) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    for half in [kind, 62] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [1_u32, 5] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [4096_u64, address, 0, 4096, 4096, 4096] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(8192, 0x90);
    bytes
}

fn kdive(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kdive"));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    command.env("XDG_CONFIG_HOME", directory).env("XDG_STATE_HOME", directory);
    command
}

fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    said(&kdive(directory, arguments).output().unwrap())
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn run_with_input(directory: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = kdive(directory, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    said(&child.wait_with_output().unwrap())
}

#[test]
fn a_file_that_is_no_dump_gets_one_line() {
    let directory = workspace();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("text"), b"a console log\n").unwrap();
    fs::write(at("vmlinux"), elf(2, 0xffff_ffff_8100_0000)).unwrap();
    fs::create_dir(at("dir")).unwrap();
    for (file, is, give) in [
        ("empty", "is empty", "look for the dump elsewhere"),
        ("text", "is a text file", "give the vmcore"),
        ("vmlinux", "is a vmlinux", "give it together with a vmcore"),
        ("dir", "is a directory without a vmcore", "give the vmcore"),
        ("nothing", "no such file", ""),
    ] {
        let (status, stdout, stderr) = run(directory.path(), &[file]);
        assert_eq!((status, stdout.as_str(), stderr.lines().count()), (3, "", 1), "{file}: {stderr}");
        assert!(stderr.starts_with(&format!("kdive: {file}")) && stderr.contains(is), "{file}: {stderr}");
        assert!(stderr.contains(give), "{file}: {stderr}");
    }
}

#[test]
fn exit_statuses_tell_what_happened() {
    let directory = workspace();
    for (arguments, expected) in [
        (&["-c", "help", "vmcore"][..], 0),
        (&["-c", "nonsense", "vmcore"], 1),
        (&["-c", "nonsense", "-c", "help", "vmcore"], 1),
        (&["-c", "exit", "-c", "nonsense", "vmcore"], 0),
        (&["--nonsense", "vmcore"], 2),
        (&["--cr3", "x", "vmcore"], 2),
        (&["--version"], 0),
        (&["info", "vmcore"], 0),
        (&[], 3),
    ] {
        let (status, _, stderr) = run(directory.path(), arguments);
        assert_eq!(status, expected, "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_start_up_file_of_crash_runs_as_it_is() {
    let directory = workspace();
    let text = "# mine\nalias dl 'help set'\nset scroll off\nextend gcore.so\nset hex\n// the end\n";
    fs::write(directory.path().join("crashrc"), text).unwrap();
    let (status, stdout, stderr) =
        run(directory.path(), &["--crashrc", "crashrc", "-c", "dl", "-c", "set radix", "vmcore"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("radix") && stdout.contains("16 (hex)"), "{stdout}");
    assert!(stderr.contains("command not found: extend"), "{stderr}");
    let (status, _, stderr) = run(directory.path(), &["--crashrc", "nothing", "-c", "help", "vmcore"]);
    assert_eq!(status, 1, "{stderr}");
}

#[test]
fn gaps_are_a_failure_only_when_asked() {
    let directory = workspace();
    // Without symbols there is no list of modules.
    let (status, _, stderr) = run(directory.path(), &["-c", "mod", "vmcore"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("note: list of modules"), "{stderr}");
    let (status, ..) = run(directory.path(), &["--strict", "-c", "mod", "vmcore"]);
    assert_eq!(status, 1);
}

#[test]
fn lines_come_from_options_files_and_standard_input() {
    let directory = workspace();
    fs::write(directory.path().join("commands"), "# a comment\nalias h help\nalias h\n").unwrap();
    let expected = "ORIGIN   ALIAS      COMMAND\nsession  h          help\n";
    for (arguments, input) in [
        (&["-i", "commands", "vmcore"][..], ""),
        (&["-c", "< commands", "vmcore"], ""),
        (&["-c", "alias h help", "-c", "alias h", "vmcore"], ""),
        (&["vmcore"], "alias h help\nalias h\nexit\nnonsense\n"),
    ] {
        let (status, stdout, stderr) = run_with_input(directory.path(), arguments, input);
        assert_eq!((status, stdout.as_str()), (0, expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn output_goes_where_the_line_says() {
    let directory = workspace();
    let (status, stdout, stderr) = run(
        directory.path(),
        &[
            "-c",
            "alias man > out",
            "-c",
            "alias for >> out",
            "-c",
            "! cat out",
            "-c",
            "alias | grep -c builtin | tr -d '\\n'",
            "-c",
            "alias man | json | tr '{' '<'",
            "vmcore",
        ],
    );
    assert_eq!(status, 0, "{stderr}");
    let saved = fs::read_to_string(directory.path().join("out")).unwrap();
    assert_eq!(saved.lines().count(), 4, "{saved}");
    assert!(stdout.starts_with(&saved), "{stdout}");
    let after = stdout.strip_prefix(&saved).unwrap();
    assert!(after.contains("<\"command\":\"alias\""), "{after}");
}

#[test]
fn json_is_one_document_for_each_command() {
    let directory = workspace();
    let (status, stdout, _) =
        run(directory.path(), &["--json", "-c", "alias man", "-c", "nonsense", "vmcore"]);
    assert_eq!(status, 1);
    let documents: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents[0]["rows"][0]["command"], "help");
    assert_eq!(documents[1]["error"], "command not found: nonsense");
    assert!(documents.iter().all(|document| document["gaps"].is_array()));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let directory = workspace();
    let script = format!(
        "{} -c 'help all' -c 'help all' vmcore 2>err | head -1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_kdive")
    );
    let shell = Command::new("bash").args(["-c", &script]).current_dir(directory.path()).output();
    // PIPESTATUS is bash's; the shell's own pipe below needs no bash.
    if let Ok(output) = shell {
        let (_, stdout, _) = said(&output);
        assert_eq!(stdout.lines().last(), Some("0"), "{stdout}");
        assert_eq!(fs::read_to_string(directory.path().join("err")).unwrap(), "");
    }
    let (status, stdout, stderr) = run(directory.path(), &["-c", "help all | head -1", "vmcore"]);
    assert_eq!((status, stdout.lines().count(), stderr.as_str()), (0, 1, ""));
}

#[test]
fn the_start_up_file_is_the_users_own() {
    let directory = workspace();
    fs::create_dir(directory.path().join("kdive")).unwrap();
    fs::write(directory.path().join("kdive/kdiverc"), "alias mine help\n").unwrap();
    fs::write(directory.path().join("kdiverc"), "alias stray help\n").unwrap();
    let status = |arguments: &[&str]| run(directory.path(), arguments).0;
    assert_eq!(status(&["-c", "alias mine", "vmcore"]), 0);
    assert_eq!(status(&["-c", "alias stray", "vmcore"]), 1);
    assert_eq!(status(&["--no-config", "-c", "alias mine", "vmcore"]), 1);
}
