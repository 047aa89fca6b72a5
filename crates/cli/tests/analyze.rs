//! What `kdive analyze --format json` prints, held against its document, `docs/analyze.schema.json`.
//!
//! Every report on the dumps and on the fixtures of the known issues must be in it: a member that is new, or of a new type,
//! fails here until it is written down by `KDIVE_BLESS=1 cargo test -p kdive --test analyze`, to be read before it is
//! committed. A member is never required.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, reason = "other tests use the rest")]
mod common;
mod shape;

use std::fs;
use std::path::PathBuf;

use common::{dumps, kdive, tests};
use serde_json::{Value, json};
use shape::Shape;

const DOCUMENT: &str = "../docs/analyze.schema.json";

/// The texts that known issues match.
fn fixtures() -> Vec<PathBuf> {
    let directory = tests().join("../known-issues/fixtures");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join("match.txt")).collect();
    paths.sort();
    paths
}

fn report(of: &str) -> Value {
    report_of(&[of])
}

/// What is printed of a dump, with an earlier one.
fn report_of(words: &[&str]) -> Value {
    let of = words.join(" ");
    let words = [&["analyze", "--format", "json"][..], words].concat();
    let output = kdive(&words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{of}: {error}: {text}"))
}

#[test]
fn every_report_is_in_the_document() {
    let path = tests().join(DOCUMENT);
    let written = fs::read_to_string(&path).unwrap_or_default();
    let document: Value = serde_json::from_str(&written).unwrap_or_default();
    let mut known = Shape::read(&document);
    let mut news = Vec::new();
    let texts = fixtures();
    let texts = texts.iter().map(|path| path.to_str().unwrap().to_owned());
    for of in texts.chain(dumps()) {
        known.learn(&report(&of), &mut |what| news.push(format!("{of}: {what}")));
    }
    for (earlier, of) in [("6.12-load.zstd", "6.12-rich.zstd"), ("6.12-rich.zstd", "6.12-rich.zstd")] {
        let grown = report_of(&["--before", earlier, of]);
        assert_eq!(grown["memory"]["growth"]["before"], earlier);
        known.learn(&grown, &mut |what| news.push(format!("{of} after {earlier}: {what}")));
    }
    let mut schema = known.write();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("What `kdive analyze --format json` prints");
    schema["description"] = json!(
        "No member is required: what is not known is left out. `version` is that of the document; a member that is there \
         keeps its meaning within a version, and new ones may come at any time. Addresses are hexadecimal strings."
    );
    let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("KDIVE_BLESS").is_some() {
        fs::write(path, schema).unwrap();
        return;
    }
    let shown = news.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(news.is_empty(), "{} members are not in docs/analyze.schema.json:\n{shown}", news.len());
    assert_eq!(written, schema, "docs/analyze.schema.json is not as it is written");
}
