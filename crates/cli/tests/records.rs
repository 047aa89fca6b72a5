//! The records that `--json` prints, held against their document, `docs/records.schema.json`.
//!
//! The document says what a program may find in each command's rows. Every record of every command line on every dump of
//! the repository must be in it: a member that is new, or of a new type, fails here until it is written down by
//! `KDIVE_BLESS=1 cargo test -p kdive --test records`, to be read before it is committed. A member is never required:
//! what a dump does not tell is left out.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod shape;

use std::collections::BTreeMap;
use std::fs;

use common::{commands, dumps, kdive, tests};
use serde_json::{Map, Value, json};
use shape::Shape;

const DOCUMENT: &str = "../docs/records.schema.json";
const RECORDS: &str = "#/$defs/";

/// The records of one command, as they were written down.
type Records = BTreeMap<String, Shape>;

#[test]
fn every_record_is_in_the_document() {
    let path = tests().join(DOCUMENT);
    let written = fs::read_to_string(&path).unwrap_or_default();
    let mut records = read(&written);
    let mut news = Vec::new();
    for dump in dumps() {
        for (line, document) in documents(&dump) {
            let mut keep = |command: &str, record: &Value| {
                let known = records.entry(command.to_owned()).or_default();
                known.learn(record, &mut |what| news.push(format!("{dump}: {line}: {what}")));
            };
            assert!(document["gaps"].is_array(), "{dump}: {line}: no gaps");
            let command = document["command"].as_str().unwrap();
            for row in document["rows"].as_array().unwrap() {
                // A row of `foreach` is what another command told of one task.
                match (command, row["command"].as_str(), row["rows"].as_array()) {
                    ("foreach", Some(inner), Some(rows)) => rows.iter().for_each(|row| keep(inner, row)),
                    _ => keep(command, row),
                }
            }
        }
    }
    if std::env::var_os("KDIVE_BLESS").is_some() {
        fs::write(path, write(&records)).unwrap();
        return;
    }
    let shown = news.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(news.is_empty(), "{} members are not in docs/records.schema.json:\n{shown}", news.len());
    assert_eq!(written, write(&records), "docs/records.schema.json is not as it is written");
}

/// What each command line prints on a dump.
fn documents(dump: &str) -> Vec<(String, Value)> {
    // A stage of the shell would print text; the record is that of the command before it.
    let plain: Vec<String> = commands().into_iter().filter(|line| !line.contains('|')).collect();
    let lines = plain.iter().flat_map(|command| ["-c", command]);
    let arguments: Vec<&str> = ["--json"].into_iter().chain(lines).chain([dump]).collect();
    let output = kdive(&arguments).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), plain.len(), "{dump}: one document for each command");
    let parse = |(line, text): (&String, &str)| {
        let document = serde_json::from_str(text).unwrap_or_else(|error| panic!("{dump}: {line}: {error}"));
        (line.clone(), document)
    };
    plain.iter().zip(stdout.lines()).map(parse).collect()
}

/// The records in the text of a document.
fn read(text: &str) -> Records {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let records = document["$defs"].as_object().cloned().unwrap_or_default();
    records.iter().map(|(command, schema)| (command.clone(), Shape::read(schema))).collect()
}

/// The text of the document of these records.
fn write(records: &Records) -> String {
    let summary = |name: &str| kdive_commands::COMMANDS.iter().find(|command| command.name() == name);
    let definition = |(name, shape): (&String, &Shape)| {
        let mut schema = shape.write();
        schema["description"] = json!(summary(name).map_or("", |command| command.summary));
        (name.clone(), schema)
    };
    let definitions: Map<String, Value> = records.iter().map(definition).collect();
    let choice = |name: &String| {
        json!({
            "if": { "properties": { "command": { "const": name } } },
            "then": { "properties": { "rows": { "items": { "$ref": format!("{RECORDS}{name}") } } } },
        })
    };
    let document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What `kdive --json` prints: a document for each command line",
        "description": "No member is required: what a dump does not tell is left out, and `gaps` says why. \
            Addresses are hexadecimal strings. `value` is a value of one of the kernel's types, as C names its members. \
            New members may come at any time.",
        "type": "object",
        "properties": {
            "command": { "type": "string" },
            "rows": { "type": "array" },
            "error": { "type": "string", "description": "Why there are no more rows." },
            "gaps": { "type": "array", "items": { "type": "object" } },
        },
        "allOf": records.keys().map(choice).collect::<Vec<_>>(),
        "$defs": definitions,
    });
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}
