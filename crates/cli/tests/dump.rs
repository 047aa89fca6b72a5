//! What `kdive dump` writes of real dumps: what rules keep and leave out, and what a dump that was cut still tells.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Filters a fixture into a directory; the new file and the report.
fn filter(dump: &str, into: &Path, options: &[&str]) -> (PathBuf, Value) {
    let out = into.join("vmcore");
    let name = out.to_str().unwrap();
    let arguments = [&["--json", "dump", "filter", "--overwrite"][..], options, &[dump, name]].concat();
    let output = common::kdive(&arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    (out, serde_json::from_slice(&output.stdout).unwrap())
}

/// What a command prints of a dump.
fn answer(dump: &Path, line: &str) -> String {
    let output = common::kdive(&["-s", "-c", line, dump.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // It names the file and says that it is cut.
    text.lines().filter(|line| !line.trim_start().starts_with("DUMPFILE")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_dump_that_was_cut_tells_what_happened() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dump, _) = filter("6.12-rich.zstd", whole.path(), &[]);
    let bytes = fs::read(&dump).unwrap();
    let cut = cut.path().join("vmcore");
    fs::write(&cut, &bytes[..bytes.len() * 4 / 5]).unwrap();
    for line in ["log", "sys", "bt", "bt -a", "mod"] {
        let expected = answer(&dump, line);
        assert!(expected.lines().count() > 3, "{line}: {expected}");
        assert_eq!(answer(&cut, line), expected, "{line}");
    }
}

#[test]
fn rules_keep_and_leave_out_what_they_name() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = common::tests().join("dumps/6.12-rich.zstd");
    let (dump, report) = filter("6.12-rich.zstd", directory.path(), &["--drop", "cache:dentry", "-d", "0"]);
    assert_eq!(report["rules"][0]["names"], serde_json::json!(["dentry"]));
    assert!(report["ruled"]["dropped"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["ruled"]["kept"], 0);
    let dentries = answer(&fixture, "files 1");
    assert_ne!(answer(&dump, "files 1"), dentries);
    let both = ["--drop", "cache:dentry", "--keep", "cache:dent*", "-d", "0"];
    let (dump, report) = filter("6.12-rich.zstd", directory.path(), &both);
    assert_eq!(report["ruled"], serde_json::json!({ "kept": 0, "dropped": 0 }));
    assert_eq!(answer(&dump, "files 1"), dentries);
}

#[test]
fn a_rule_that_finds_nothing_says_so_and_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        ["--keep-user", "nobody", "--keep", "cgroup:/none", "--drop", "module:none", "--keep", "task:2"];
    let (_, report) = filter("6.12-rich.zstd", directory.path(), &options);
    let rules = report["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 4);
    for rule in rules {
        assert_eq!(rule["names"], serde_json::json!([]), "{rule}");
        assert_eq!(rule["lacks"].as_array().unwrap().len(), 1, "{rule}");
    }
    assert_eq!(report["ruled"], serde_json::json!({ "kept": 0, "dropped": 0 }));
}
