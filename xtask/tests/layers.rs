//! The layers of ARCHITECTURE.md, checked against what the crates really depend on.

// A test's helpers may fail as the test does.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::process::Command;

/// Each crate and its layer. A crate may use crates of lower layers only.
const LAYERS: &[(&str, u32)] = &[
    ("kdive-base", 0),
    ("kdive-evidence", 0),
    ("kdive-dump", 1),
    ("kdive-debuginfo", 1),
    ("kdive-arch", 2),
    ("kdive-target-derive", 2),
    ("kdive-target", 3),
    ("kdive-fetch", 3),
    ("kdive-linux", 4),
    ("kdive-triage", 5),
    ("kdive-filter", 5),
    ("kdive-commands", 6),
    ("kdive", 7),
    ("xtask", 8),
];

/// Siblings that may use each other, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("kdive-evidence", "kdive-base", "registers and frames carry addresses"),
    ("kdive-fetch", "kdive-target", "fetch answers the requests that target makes"),
];

/// Crates that may not be used below the hosts, and who may use them: what they do belongs to that layer alone.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("object", &["kdive-debuginfo"]),
    ("gimli", &["kdive-debuginfo"]),
    ("memmap2", &["kdive-fetch"]),
    ("clap", &["kdive", "xtask"]),
    ("reedline", &["kdive"]),
    ("indicatif", &["kdive"]),
    ("anyhow", &["xtask"]),
];

#[test]
fn crates_use_lower_layers_only() {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, dependencies) in workspace() {
        let Some(&layer) = layers.get(name.as_str()) else {
            wrong.push(format!("{name} has no layer: give it one in LAYERS"));
            continue;
        };
        for dependency in &dependencies {
            if let Some(&below) = layers.get(dependency.as_str()) {
                let allowed = EXCEPTIONS.iter().any(|(user, used, _)| name == *user && dependency == used);
                if below >= layer && !allowed {
                    wrong.push(format!("{name} (layer {layer}) uses {dependency} (layer {below})"));
                }
            }
            let users = OUTSIDE.iter().find(|(outside, _)| dependency == outside);
            if let Some((outside, users)) = users.filter(|(_, users)| !users.contains(&name.as_str())) {
                wrong.push(format!("{name} uses {outside}, which only {users:?} may"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_layer_is_a_crate() {
    let members: Vec<String> = workspace().into_iter().map(|(name, _)| name).collect();
    for (name, _) in LAYERS {
        assert!(members.iter().any(|member| member == name), "{name} is in LAYERS but not in the workspace");
    }
}

/// The workspace's crates, each with its direct dependencies (development dependencies left out).
fn workspace() -> Vec<(String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .map(|dependency| dependency["name"].as_str().expect("name").to_owned())
            .collect()
    };
    packages
        .iter()
        .map(|package| (package["name"].as_str().expect("name").to_owned(), names(package)))
        .collect()
}
