//! kallsyms tables built by hand in every shape that kernels have had.

use kdive_base::{Endian, Why};
use proptest::prelude::*;

use super::names::{Lengths, MARKER_STEP};
use super::*;

const BASE: u64 = 0xffff_ffff_8200_0000;
const TEXT: u64 = BASE - 0x100_0000;

/// A piece of memory.
struct Memory {
    bytes: Vec<u8>,
    start: u64,
    endian: Endian,
}

impl VirtualMemory for Memory {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let rest =
            at.0.checked_sub(self.start).and_then(|at| self.bytes.get(at as usize..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        let missing =
            (count < into.len()).then(|| Missing::new(at.add(count as u64), Why::NotMapped { level: 1 }));
        (count, missing)
    }

    fn endian(&self) -> Endian {
        self.endian
    }
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    encoding: Encoding,
    /// Addresses behind the token index (6.4 and later).
    newer: bool,
    lengths: Lengths,
    endian: Endian,
    marker_bytes: usize,
    /// `kallsyms_seqs_of_names` between markers and tokens.
    seqs: bool,
}

struct Writer {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Writer {
    fn put(&mut self, value: u64, width: usize) {
        let raw = value.to_le_bytes();
        let mut raw = raw[..width].to_vec();
        if self.endian == Endian::Big {
            raw.reverse();
        }
        self.bytes.extend(raw);
    }

    fn align(&mut self) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        BASE + self.bytes.len() as u64
    }
}

/// Token 1 is `sym_`, token 2 is `_stext`; the others are themselves, as far as they are printable.
fn tokens() -> Vec<Vec<u8>> {
    (0..=255_u8)
        .map(|token| match token {
            1 => b"sym_".to_vec(),
            2 => b"_stext".to_vec(),
            0x20..0x7f => vec![token],
            _ => b"xy".to_vec(),
        })
        .collect()
}

fn compressed(name: &str) -> Vec<u8> {
    name.replace("sym_", "\x01").replace("_stext", "\x02").into_bytes()
}

/// `_stext`, `linux_banner` and many more, some of them with long names, and per-CPU ones if the encoding has them.
fn symbols(shape: Shape) -> Vec<(u64, String)> {
    let mut symbols = vec![];
    if shape.encoding == Encoding::BaseRelativePerCpu {
        symbols.extend((0..5).map(|n| (n * 0x1000, format!("Asym_cpu{n}"))));
    }
    symbols.push((TEXT, "T_stext".into()));
    symbols.extend((1..900).map(|n| (TEXT + n * 0x40, format!("tsym_{n}"))));
    let long = if shape.lengths == Lengths::One { 100 } else { 300 };
    symbols.push((TEXT + 0x20_0000, format!("t{}", "l".repeat(long))));
    symbols.push((BASE, "Rlinux_banner".into()));
    symbols
}

fn build(shape: Shape) -> (Memory, KallsymsAt, Vec<(u64, String)>) {
    let symbols = symbols(shape);
    let mut w = Writer { bytes: b"Linux version 6.x\n\0".to_vec(), endian: shape.endian };
    let nowhere = VirtAddr(0);
    let mut at = KallsymsAt {
        num_syms: nowhere,
        names: nowhere,
        token_table: nowhere,
        token_index: nowhere,
        offsets: None,
        relative_base: None,
        addresses: None,
    };
    let addresses = |w: &mut Writer, at: &mut KallsymsAt| {
        let here = w.align();
        for (number, &(address, _)) in symbols.iter().enumerate() {
            match shape.encoding {
                Encoding::Absolute => w.put(address, 8),
                Encoding::BaseRelative => w.put(address - TEXT, 4),
                Encoding::BaseRelativePerCpu if address < TEXT => w.put(address, 4),
                Encoding::BaseRelativePerCpu => w.put((TEXT.wrapping_sub(1)).wrapping_sub(address), 4),
                Encoding::PlaceRelative => w.put(address.wrapping_sub(here + number as u64 * 4), 4),
            }
        }
        if shape.encoding == Encoding::Absolute {
            at.addresses = Some(VirtAddr(here));
            return;
        }
        at.offsets = Some(VirtAddr(here));
        let base = w.align();
        if shape.encoding != Encoding::PlaceRelative {
            at.relative_base = Some(VirtAddr(base));
            w.put(TEXT, 8);
        }
    };
    if !shape.newer {
        addresses(&mut w, &mut at);
    }
    at.num_syms = VirtAddr(w.align());
    w.put(symbols.len() as u64, 4);
    at.names = VirtAddr(w.align());
    let start = w.bytes.len();
    let mut marks = vec![];
    for (number, (_, name)) in symbols.iter().enumerate() {
        if number % MARKER_STEP == 0 {
            marks.push((w.bytes.len() - start) as u64);
        }
        let name = compressed(name);
        if name.len() >= 0x80 && shape.lengths == Lengths::OneOrTwo {
            w.bytes.extend([0x80 | (name.len() & 0x7f) as u8, (name.len() >> 7) as u8]);
        } else {
            w.bytes.push(name.len() as u8);
        }
        w.bytes.extend(name);
    }
    w.align();
    for mark in marks {
        w.put(mark, shape.marker_bytes);
    }
    if shape.seqs {
        w.align();
        (0..symbols.len() as u64).rev().for_each(|number| w.put(number * 7919 % 900, 3));
    }
    at.token_table = VirtAddr(w.align());
    let mut index = vec![];
    let table = w.bytes.len();
    for token in tokens() {
        index.push((w.bytes.len() - table) as u64);
        w.bytes.extend(token);
        w.bytes.push(0);
    }
    at.token_index = VirtAddr(w.align());
    for offset in index {
        w.put(offset, 2);
    }
    if shape.newer {
        addresses(&mut w, &mut at);
    }
    w.align();
    w.bytes.resize(w.bytes.len() + 4096, 0x5a);
    (Memory { bytes: w.bytes, start: BASE, endian: shape.endian }, at, symbols)
}

fn shapes() -> Vec<Shape> {
    let encodings =
        [Encoding::Absolute, Encoding::BaseRelative, Encoding::BaseRelativePerCpu, Encoding::PlaceRelative];
    let mut shapes = vec![];
    for encoding in encodings {
        for newer in [false, true] {
            for lengths in [Lengths::One, Lengths::OneOrTwo] {
                for (endian, marker_bytes) in [(Endian::Little, 4), (Endian::Big, 4), (Endian::Little, 8)] {
                    shapes.push(Shape { encoding, newer, lengths, endian, marker_bytes, seqs: false });
                }
                shapes.push(Shape {
                    encoding,
                    newer,
                    lengths,
                    endian: Endian::Little,
                    marker_bytes: 4,
                    seqs: true,
                });
            }
        }
    }
    shapes
}

fn check(found: &Kallsyms, symbols: &[(u64, String)], shape: Shape) {
    let read: Vec<_> = found.symbols.iter().map(|s| (s.address.0, format!("{}{}", s.kind, s.name))).collect();
    assert_eq!(read, symbols, "{shape:?}");
    assert_eq!((found.encoding, found.lost), (shape.encoding, 0), "{shape:?}");
}

#[test]
fn every_shape_reads_back() {
    for shape in shapes() {
        let (memory, at, symbols) = build(shape);
        let expect = Expect { symbol: Some(("_stext", VirtAddr(TEXT))), image: None };
        check(&read(&memory, &at, &expect).unwrap(), &symbols, shape);
    }
}

#[test]
fn the_scan_finds_tables_by_their_shape() {
    for shape in shapes() {
        let (memory, at, symbols) = build(shape);
        // No kernel had these: whole addresses behind the names, or no relative base before them.
        if shape.newer == (shape.encoding == Encoding::Absolute)
            || (shape.encoding == Encoding::PlaceRelative && !shape.newer)
        {
            continue;
        }
        let image = VirtAddr(TEXT)..VirtAddr(BASE + memory.bytes.len() as u64);
        let found = scan(&memory, &image, &Expect::default());
        let found = found.unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        check(&found, &symbols, shape);
        assert_eq!((found.at.names, found.at.token_index), (at.names, at.token_index));
    }
}

#[test]
fn the_scan_reads_little_of_a_large_image() {
    /// Counts what is read around the tables, which lie far inside an image of zeros.
    struct Counting(Memory, std::sync::atomic::AtomicU64);
    impl VirtualMemory for Counting {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            self.1.fetch_add(into.len() as u64, std::sync::atomic::Ordering::Relaxed);
            into.fill(0);
            for (place, byte) in (at.0..).zip(into.iter_mut()) {
                *byte = place
                    .checked_sub(BASE)
                    .and_then(|at| self.0.bytes.get(at as usize))
                    .copied()
                    .unwrap_or(0);
            }
            (into.len(), None)
        }
    }
    // A small table is met by a sample when it is at a multiple of the stride, so this one is moved there.
    let shape = Shape { encoding: Encoding::BaseRelative, newer: false, ..shapes()[0] };
    let (memory, at, symbols) = build(shape);
    let start = at.offsets.unwrap().add(64 * 4).0 - (256 << 20);
    let memory = Counting(memory, Default::default());
    let image = VirtAddr(start.min(TEXT))..VirtAddr(start + (300 << 20));
    let found = scan(&memory, &(VirtAddr(start)..image.end), &Expect { image: Some(image), symbol: None });
    check(&found.unwrap(), &symbols, shape);
    assert!(memory.1.into_inner() < 64 << 20);
}

#[test]
fn a_wrong_expectation_is_an_error() {
    let (memory, at, _) = build(shapes()[0]);
    let expect = Expect { symbol: Some(("_stext", VirtAddr(1))), image: None };
    let error = read(&memory, &at, &expect).unwrap_err();
    assert_eq!(error.to_string(), "no encoding of kallsyms addresses puts _stext at 0x1");
    let image = VirtAddr(0)..VirtAddr(0x100_0000);
    assert_eq!(scan(&memory, &image, &Expect::default()).err(), Some(KallsymsError::NotFound(0)));
    let at = KallsymsAt { num_syms: VirtAddr(16), ..at };
    assert!(matches!(read(&memory, &at, &expect), Err(KallsymsError::Missing { .. })));
}

#[test]
fn a_cut_table_yields_what_is_there() {
    let shape = Shape { newer: true, encoding: Encoding::PlaceRelative, ..shapes()[0] };
    let (mut memory, at, symbols) = build(shape);
    let offsets = at.offsets.unwrap().0 - BASE;
    memory.bytes.truncate(offsets as usize + 400);
    let found = read(&memory, &at, &Expect::default());
    let found = found.unwrap();
    assert_eq!((found.symbols.len(), found.lost), (100, symbols.len() - 100));
}

proptest! {
    #[test]
    fn damage_never_panics(
        shape in 0_usize..64, cut in any::<u16>(), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..8),
    ) {
        let shape = shapes()[shape];
        let (mut memory, at, _) = build(shape);
        for (place, value) in flips {
            let place = usize::from(place) % memory.bytes.len();
            memory.bytes[place] = value;
        }
        memory.bytes.truncate(usize::from(cut));
        let _ = read(&memory, &at, &Expect::default());
        let image = VirtAddr(TEXT)..VirtAddr(BASE + 0x10_0000);
        let _ = scan(&memory, &image, &Expect { symbol: Some(("_stext", VirtAddr(TEXT))), image: None });
    }
}
