//! Encrypted dumps and seals on a real dump: what is written encrypted reads as what it was, and damage is found.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may fail as tests do")]

use std::path::Path;
use std::sync::Arc;

use kdive_base::{Cancel, Pfn};
use kdive_dump::age::{Identity, Recipient};
use kdive_dump::write::{
    Compression, Control, EncryptedSink, KdumpOptions, PlainSink, Plan, Sink, seal_of, write_kdump,
};
use kdive_dump::{
    CheckedBy, Hints, Input, InputFile, Manifest, OpenError, Opened, PhysicalMemory, RunState, check_file,
    open, without_damage,
};

fn file(bytes: Vec<u8>) -> InputFile {
    InputFile::new("f", Arc::new(bytes))
}

fn opened(file: InputFile, identities: &[Identity]) -> Result<Opened, OpenError> {
    open(Input::from(file), &Hints { identities: identities.into(), ..Hints::default() })
}

fn fixture() -> Opened {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dumps/6.12-null.zstd");
    opened(file(std::fs::read(path).unwrap()), &[]).unwrap()
}

/// Writes every ninth page of a dump: enough for headers, bitmaps and many chunks.
fn write(source: &Opened, sink: &mut dyn Sink) {
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let keep = |pfn: Pfn| pfn.0.is_multiple_of(9);
    let plan = Plan::new(&*source.memory, &keep, &control).unwrap();
    let options = KdumpOptions { compression: Compression::Snappy, ..KdumpOptions::default() };
    write_kdump(&plan, &source.notes, &options, sink, &control).unwrap();
}

fn plain(source: &Opened) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    write(source, &mut PlainSink::new(&mut bytes));
    bytes.into_inner()
}

fn encrypted(source: &Opened, recipients: &[Recipient]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let manifest = Manifest { tool: "test".into(), host: "db1".into(), ..Manifest::default() };
    write(source, &mut EncryptedSink::new(&mut bytes, recipients, manifest, None).unwrap());
    bytes
}

/// All pages that are there, by number; what cannot be read is `None`.
fn pages(memory: &dyn PhysicalMemory) -> Vec<(u64, Option<Vec<u8>>)> {
    let (mut found, mut at) = (Vec::new(), Pfn(0).start());
    while let Some(run) = memory.next_run(at) {
        at = run.start.add(run.bytes);
        if run.state == RunState::Present {
            for pfn in run.start.pfn().0..at.pfn().0 {
                let mut page = vec![0; 4096];
                let whole = memory.read(Pfn(pfn).start(), &mut page).0 == page.len();
                found.push((pfn, whole.then_some(page)));
            }
        }
    }
    found
}

#[test]
fn an_encrypted_dump_reads_as_the_plain_one() {
    let source = fixture();
    let (mine, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let bytes = encrypted(&source, &[other.recipient(), mine.recipient()]);
    let read = opened(file(bytes), &[mine]).unwrap();
    assert_eq!(read.facts.encryption.unwrap().recipients, 2);
    assert_eq!(read.facts.manifest.as_ref().unwrap().host, "db1");
    assert_eq!(read.facts.warnings, [""; 0]);
    let (was, is) = (opened(file(plain(&source)), &[]).unwrap(), pages(&*read.memory));
    let unread = is.iter().filter(|(_, page)| page.is_none()).count();
    assert!(is.len() > 100 && unread == 0, "{unread} of {}", is.len());
    assert_eq!(pages(&*was.memory), is);
}

#[test]
fn a_dump_without_its_list_of_records_is_walked_over() {
    let (source, mine) = (fixture(), Identity::generate().unwrap());
    let bytes = encrypted(&source, &[mine.recipient()]);
    let whole = pages(&*opened(file(bytes.clone()), std::slice::from_ref(&mine)).unwrap().memory);
    // The seal is in the last chunk, which is cut off; most of the pages come before.
    let cut = opened(file(bytes[..bytes.len() - 20].to_vec()), &[mine]).unwrap();
    assert!(
        cut.facts.warnings.iter().any(|warning| warning.contains("truncated")),
        "{:?}",
        cut.facts.warnings
    );
    let left: Vec<_> = pages(&*cut.memory).into_iter().filter(|(_, page)| page.is_some()).collect();
    assert!(left.len() > whole.len() / 2 && left.iter().all(|page| whole.contains(page)));
}

#[test]
fn a_flipped_bit_is_found_where_it_is_with_the_pages_that_it_concerns() {
    let (source, mine) = (fixture(), Identity::generate().unwrap());
    let plain = plain(&source);
    let seal = seal_of(&plain, &Manifest::default(), None).unwrap();
    let sealed = [plain.clone(), seal].concat();
    let encrypted = encrypted(&source, &[mine.recipient()]);
    let whole = pages(&*opened(file(plain.clone()), &[]).unwrap().memory);
    let identities: Arc<[Identity]> = Arc::new([mine]);
    for (bytes, by, block) in
        [(sealed, CheckedBy::Hashes, 256 << 10), (encrypted, CheckedBy::Encryption, 65552)]
    {
        let check = |bytes: &[u8]| {
            check_file(&file(bytes.to_vec()), &identities, &Cancel::default()).unwrap().unwrap()
        };
        assert_eq!(check(&bytes), (by, Vec::new()));
        let mut flipped = bytes.clone();
        let at = plain.len() * 2 / 3;
        flipped[at] ^= 4;
        let (_, damage) = check(&flipped);
        assert_eq!(damage.len(), 1);
        assert!(
            damage[0].bytes <= block
                && (damage[0].offset..damage[0].offset + damage[0].bytes).contains(&(at as u64))
        );
        // The pages of that block cannot be read, and all others are what they were.
        let masked = without_damage(&file(flipped), &damage);
        let read =
            open(Input::from(masked), &Hints { identities: identities.clone(), ..Hints::default() }).unwrap();
        let now = pages(&*read.memory);
        let lost = now.iter().filter(|(_, page)| page.is_none()).count();
        assert!(lost > 0 && lost < now.len() / 2, "{lost} of {}", now.len());
        assert!(now.iter().all(|page| page.1.is_none() || whole.contains(page)));
    }
}

#[test]
fn a_hash_that_was_changed_shows() {
    let plain = plain(&fixture());
    let seal = seal_of(&plain, &Manifest::default(), None).unwrap();
    let hashes = plain.len().div_ceil(256 << 10) * 32;
    for at in [0, hashes / 2, hashes - 1] {
        let mut changed = seal.clone();
        changed[at] ^= 1;
        let (_, damage) =
            check_file(&file([plain.clone(), changed].concat()), &Arc::default(), &Cancel::default())
                .unwrap()
                .unwrap();
        assert_eq!(damage.len(), 1, "{at}");
    }
}
