//! The facts that are read out of the thirteen field cases, against goldens beside them.
//!
//! `KDIVE_BLESS=1 cargo test -p kdive-triage --test cases` writes the goldens anew, to be read before they are committed.

use std::path::{Path, PathBuf};

use kdive_triage::Case;
use serde_json::{Value, json};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases")
}

/// What a case holds, but for the bulk: stacks of other tasks and long tables are counted, and their beginning is shown.
fn facts(case: &Case<'_>) -> Value {
    let stacks: Vec<_> = case.stacks.iter().take(3).collect();
    let mut memory = case.memory.clone();
    memory.caches.truncate(2);
    let memory = json!({ "caches": case.memory.caches.len(), "first": memory });
    json!({
        "system": case.system,
        "splats": case.splats,
        "events": case.events,
        "trigger": case.trigger,
        "crashed": case.crashed,
        "registers": case.crashed.as_ref().and_then(|crashed| crashed.registers.as_ref()),
        "modules": case.modules.iter().map(|module| format!("{}{}{}", module.name, if module.taint.is_empty() { "" } else { ":" }, module.taint)).collect::<Vec<_>>().join(" "),
        "unloaded": case.unloaded,
        "stray_text": case.stray_text,
        "stacks": { "count": case.stacks.len(), "first": stacks },
        "memory": memory,
        "instructions": { "count": case.instructions.len(), "first": case.instructions.first() },
        "gaps": case.gaps,
    })
}

#[test]
fn facts_of_the_field_cases_are_as_written_down() {
    let bless = std::env::var_os("KDIVE_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        let case = kdive_triage::text::read_bytes(&std::fs::read(&path).unwrap());
        let found = format!("{:#}\n", facts(&case));
        let golden = path.with_extension("facts.json");
        if bless {
            std::fs::write(&golden, found).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != found {
            wrong.push(path.file_name().unwrap().to_owned());
        }
    }
    assert_eq!(count, 13);
    assert!(wrong.is_empty(), "facts differ: {wrong:?}");
}
