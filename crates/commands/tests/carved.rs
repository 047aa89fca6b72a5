//! Logs carved out of the fixtures, whole and broken: the same records as the kernel's own tables lead to.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fixture that is not there fails the test"
)]

mod common;

use common::{dump, dumps, file_name, json, kernel, open_bytes};
use kdive_base::Cancel;
use kdive_linux::log::carve::{Pile, carve};
use kdive_target::{Kernel, OpenOptions};
use serde_json::Value;

/// What a record says; what is doubtful or cut is left out, and so are lines of buffers that are no part of the log.
fn sure(rows: &[Value]) -> Vec<Value> {
    let is_sure = |row: &&Value| row.get("doubts").is_none() && row.get("truncated").is_none();
    let sure = rows.iter().filter(|row| row.get("text").is_some()).filter(is_sure);
    let mut rows: Vec<Value> = sure.cloned().collect();
    for row in &mut rows {
        row.as_object_mut().expect("a row is an object").remove("log");
    }
    rows
}

fn rows(document: &Value) -> Vec<Value> {
    document["rows"].as_array().cloned().unwrap_or_default()
}

/// The records of the fullest log in the bytes of a file.
fn in_file(bytes: Vec<u8>) -> Vec<Value> {
    let carved = carve(&Pile::file(&bytes), &Cancel::default(), &|_| ()).expect("nobody cancels");
    let Some(log) = carved.logs.first() else { return Vec::new() };
    let records = log.records(&bytes).map(|record| serde_json::to_value(record).expect("a record is JSON"));
    sure(&records.collect::<Vec<_>>())
}

#[test]
fn carving_memory_finds_what_the_tables_of_the_kernel_lead_to() {
    for path in dumps().into_iter().filter(|path| path.is_file()) {
        let kernel = kernel(&path, OpenOptions::default());
        let expected = sure(&rows(&json(&kernel, "log")));
        let carved = rows(&json(&kernel, "log --carve"));
        let first: Vec<Value> = carved.into_iter().filter(|row| row["log"] == 1).collect();
        assert!(sure(&first) == expected, "{}: {} and {}", file_name(&path), first.len(), expected.len());
    }
}

#[test]
fn an_elf_dump_without_its_header_keeps_its_log() {
    let path = dump("7.2-load");
    let whole = sure(&rows(&json(&kernel(&path, OpenOptions::default()), "log")));
    let mut bytes = std::fs::read(&path).expect("the fixture can be read");
    bytes[..4096].fill(0);
    assert!(in_file(bytes.clone()) == whole);
    // Front lost, at no multiple of anything.
    assert!(in_file(bytes[4097..].to_vec()) == whole);
    // Cut: what is left is in order, and never more than there was.
    for percent in [90, 60, 30] {
        let cut = in_file(bytes[..bytes.len() / 100 * percent].to_vec());
        let mut rest = whole.iter();
        assert!(cut.iter().all(|row| rest.any(|known| known == row)), "{percent} %");
    }
}

#[test]
fn a_cut_dump_gives_the_records_that_are_left() {
    for name in ["6.1-load", "6.12-rich", "7.2-load", "5.10-rich"] {
        let path = dump(name);
        let whole = sure(&rows(&json(&kernel(&path, OpenOptions::default()), "log")));
        let bytes = std::fs::read(&path).expect("the fixture can be read");
        for percent in [30, 60, 90] {
            let Some(opened) = open_bytes(bytes[..bytes.len() / 100 * percent].to_vec()) else { continue };
            let kernel = Kernel::open(opened, OpenOptions::default(), std::sync::Arc::new(()))
                .expect("nothing was given that could be refused");
            let left = sure(&rows(&json(&kernel, "log")));
            let mut rest = whole.iter();
            assert!(left.iter().all(|row| rest.any(|known| known == row)), "{name} at {percent} %");
        }
    }
}

#[test]
fn a_kdump_file_without_its_header_opens_by_its_sub_header() {
    for name in ["5.10-deadlock", "6.12-null", "6.12-rich", "7.2-nmi"] {
        let path = dump(name);
        let whole = rows(&json(&kernel(&path, OpenOptions::default()), "log"));
        let mut bytes = std::fs::read(&path).expect("the fixture can be read");
        bytes[..4096].fill(0);
        let opened = open_bytes(bytes).unwrap_or_else(|| panic!("{name} does not open"));
        let kernel = Kernel::open(opened, OpenOptions::default(), std::sync::Arc::new(()))
            .expect("nothing was given that could be refused");
        assert!(rows(&json(&kernel, "log")) == whole, "{name}");
        assert!(!kernel.facts().wrappers.is_empty() && whole.len() > 100);
    }
}
