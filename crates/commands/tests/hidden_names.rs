//! Hides each member and symbol that a command loads, one at a time: the command goes on, and says what it could not
//! tell. That is how a kernel looks which has renamed the member since.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;

use kdive_target::{Hidden, OpenOptions};
use rayon::prelude::*;
use serde_json::Value;

/// Every leaf of a document by its path, without its gaps and error.
fn leaves(document: &Value) -> BTreeMap<String, String> {
    fn collect(at: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| collect(&format!("{at}.{key}"), value, into))
            }
            Value::Array(list) => {
                list.iter()
                    .enumerate()
                    .for_each(|(index, value)| collect(&format!("{at}[{index}]"), value, into));
            }
            Value::Null => {}
            leaf => drop(into.insert(at.to_owned(), leaf.to_string())),
        }
    }
    let mut all = BTreeMap::new();
    for part in ["header", "rows", "trailer"] {
        collect(part, &document[part], &mut all);
    }
    all
}

/// One line for each command and each of its views that loads names of its own.
const LINES: [&str; 21] = [
    "sys",
    "sys -t",
    "log",
    "log -T",
    "bt",
    "bt -a",
    "bt 1",
    "ps",
    "ps -t",
    "ps -a",
    "ps -g",
    "ps -r",
    "ps -s",
    "ps -Y",
    "mod",
    "mod -t",
    "set",
    "vtop init_task",
    "vtop -c 1 400000",
    "ptov 1000 20000:a",
    "where init_task",
];

/// Names without which a command still answers, differently and not worse, and why that needs no word.
const REPLACED: [(&str, &str); 4] = [
    ("task_struct.start_boottime", "start_time tells the same, without the time in suspend"),
    ("task_struct.group_leader", "the leader of a group is also the task whose pid is the tgid"),
    ("inactive_task_frame.bp", "rbp is one of the registers that a sleeping task may not tell"),
    ("panic_cpu", "the task that panicked is then found by its stack"),
];

fn explained(document: &Value) -> bool {
    document.get("error").is_some() || document["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty())
}

#[test]
fn a_hidden_name_costs_what_depends_on_it_and_says_so() {
    let kernel = common::kernel(&common::dump("6.12"), OpenOptions::default());
    let silent = Mutex::new(Vec::new());
    let checked = Mutex::new(0_usize);
    LINES.par_iter().for_each(|line| {
        let watching = kernel.hiding(Hidden::watching());
        let whole = common::json(&watching, line);
        let whole_leaves = leaves(&whole);
        for name in watching.options().hidden.asked() {
            let without = kernel.hiding(Hidden::new([name.clone()]));
            let document = common::json(&without, line);
            *checked.lock().unwrap() += 1;
            // A command that has another source for the same thing loses nothing.
            let replaced = REPLACED.iter().any(|(replaced, _)| *replaced == name);
            if !replaced && leaves(&document) != whole_leaves && !explained(&document) && !explained(&whole) {
                let now = leaves(&document);
                let differs = whole_leaves.iter().find(|(leaf, value)| now.get(*leaf) != Some(value));
                silent.lock().unwrap().push(format!(
                    "`{line}` without {name} changes and does not say why, first {differs:?}, now {:?}",
                    differs.and_then(|(leaf, _)| now.get(leaf))
                ));
            }
        }
    });
    let silent = silent.into_inner().unwrap();
    assert!(*checked.lock().unwrap() > 100, "the commands load hardly anything");
    assert!(silent.is_empty(), "{} silent changes:\n{}", silent.len(), silent.join("\n"));
}
