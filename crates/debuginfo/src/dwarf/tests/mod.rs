//! DWARF of a program that is compiled here, held against what the program prints about itself.

mod callers;
mod damage;
mod lines;
mod locals;
mod types;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kdive_base::VirtAddr;
use rustc_hash::FxHashMap;

use super::{DwarfFile, Placement};
use crate::blob::Blob;
use crate::elf::ElfFile;

const SOURCE: &str = include_str!("fixture.c");

/// A compiled fixture.
struct Fixture {
    bytes: Vec<u8>,
    /// What it printed; empty of an object file.
    printed: String,
}

impl Fixture {
    /// Compiles the fixture with these flags, and runs what `-c` does not make an object file.
    fn new(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("fixture.c"), SOURCE).unwrap();
        let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
        compiler.args(flags).args(["fixture.c", "-o", "fixture"]).current_dir(directory.path());
        let done = compiler.output().expect("a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let path = directory.path().join("fixture");
        let printed = if flags.contains(&"-c") { String::new() } else { run(&path) };
        Self { bytes: std::fs::read(path).unwrap(), printed }
    }

    fn elf(&self) -> ElfFile {
        ElfFile::parse(Blob::from(self.bytes.clone())).unwrap()
    }

    fn dwarf(&self) -> Arc<DwarfFile> {
        DwarfFile::open(self.elf(), Placement::Slid(0)).unwrap()
    }

    fn symbol(&self, name: &str) -> VirtAddr {
        let symbols = self.elf().symbols().unwrap();
        let found = symbols.by_name(name).next().map(|symbol| symbol.address);
        found.unwrap_or_else(|| panic!("no symbol {name}"))
    }

    /// The lines that it printed with this first word, without it.
    fn told(&self, what: &str) -> Vec<Vec<&str>> {
        let words = self.printed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let told: Vec<_> = words.filter(|words| words[0] == what).map(|words| words[1..].to_vec()).collect();
        assert!(!told.is_empty(), "the fixture prints no {what}");
        told
    }
}

fn run(path: &Path) -> String {
    String::from_utf8(Command::new(path).output().unwrap().stdout).unwrap()
}

/// The line of the fixture that holds this text.
fn line_of(text: &str) -> Option<u32> {
    let at = SOURCE.lines().position(|line| line.contains(text));
    Some(at.unwrap_or_else(|| panic!("no line with {text}")) as u32 + 1)
}

/// The sections of an object file one behind the other, as a module loader would place them.
fn placed(elf: &ElfFile) -> FxHashMap<Box<str>, VirtAddr> {
    let mut at = 0xffff_ffff_c000_0000_u64;
    let loaded = elf.sections().iter().filter(|section| section.is_loaded());
    loaded
        .map(|section| {
            let here = VirtAddr(at);
            at += section.size.next_multiple_of(4096);
            (section.name.clone(), here)
        })
        .collect()
}
