//! Dumps cut at any byte and with flipped bits: a partial answer or a clear error, never a panic or a hang.

mod common;

use kdive_target::{Kernel, OpenOptions};
use std::sync::Arc;

/// What every damaged dump is asked: the cheap commands that touch every layer.
const LINES: [&str; 5] = ["sys", "log", "bt", "ps", "mod"];

fn ask(bytes: Vec<u8>) {
    let Some(opened) = common::open_bytes(bytes) else { return };
    let Ok(kernel) = Kernel::open(opened, OpenOptions::default(), Arc::new(())) else { return };
    for line in LINES {
        common::json(&kernel, line);
    }
}

#[test]
fn a_dump_cut_anywhere_still_answers() {
    let whole = std::fs::read(common::dump("6.1-")).unwrap();
    let length = whole.len();
    // Close to the start each structure of the headers is cut through; further on, by sixteenths.
    let cuts =
        (0..16).map(|part| part * 700).chain((1..16).map(|part| length * part / 16)).chain([length - 1]);
    for cut in cuts {
        ask(whole[..cut.min(length)].to_vec());
    }
}

#[test]
fn the_log_survives_a_cut_behind_it() {
    let path = common::dump("6.1-");
    let whole = common::json(&common::kernel(&path, OpenOptions::default()), "log");
    let rows = whole["rows"].as_array().unwrap().len();
    assert!(rows > 100, "the fixture has a log");
    let bytes = std::fs::read(&path).unwrap();
    let cut = bytes[..bytes.len() - bytes.len() / 50].to_vec();
    let opened = common::open_bytes(cut).expect("a cut tail does not matter to the header");
    let kernel = Kernel::open(opened, OpenOptions::default(), Arc::new(())).unwrap();
    let log = common::json(&kernel, "log");
    assert!(!log["rows"].as_array().unwrap().is_empty(), "{log}");
}

#[test]
fn flipped_bits_never_panic() {
    let whole = std::fs::read(common::dump("6.12")).unwrap();
    // A fixed sequence (Numerical Recipes' generator), so that a failure repeats.
    let mut seed = 12_345_u64;
    for round in 0..24 {
        let mut bytes = whole.clone();
        for _ in 0..=round * 40 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 24) as usize % bytes.len();
            bytes[at] ^= 1 << (seed >> 60 & 7);
        }
        ask(bytes);
    }
}
