//! Logs written as kernels lay them out, then found again.

use kdive_evidence::Doubt;
use proptest::prelude::*;

use super::*;

const TOP_2_32: u64 = 1 << 32;
const TOP_2_62: u64 = 1 << 62;

/// A ring buffer of 2^`bits` descriptors: its three arrays as bytes.
struct Ring {
    infos: Vec<u8>,
    descs: Vec<u8>,
    text: Vec<u8>,
    size: usize,
    bits: u32,
    top: u64,
}

impl Ring {
    fn new(bits: u32, size: usize, top: u64) -> Self {
        let count = 1 << bits;
        Self {
            infos: vec![0; count * size],
            descs: vec![0; count * 24],
            text: vec![0; count * 64],
            size,
            bits,
            top,
        }
    }

    /// Logs records with these texts, numbered from `first` on.
    fn log<'t>(mut self, first: u64, texts: impl IntoIterator<Item = &'t str>) -> Self {
        let ring = self.text.len();
        let mut position = 0_usize;
        for (step, text) in texts.into_iter().enumerate() {
            let sequence = first + step as u64;
            let id = (self.top - (1 << self.bits) + sequence) & ((1 << 62) - 1);
            let bytes = (8 + text.len()).next_multiple_of(8);
            let mut at = position % ring;
            if at + bytes > ring {
                // What does not fit before the end starts over; both places carry the id.
                self.text[at..at + 8].copy_from_slice(&id.to_le_bytes());
                position = position.next_multiple_of(ring);
                at = 0;
            }
            self.text[at..at + bytes].fill(0xee);
            self.text[at..at + 8].copy_from_slice(&id.to_le_bytes());
            self.text[at + 8..at + 8 + text.len()].copy_from_slice(text.as_bytes());
            let index = (sequence & ((1 << self.bits) - 1)) as usize;
            let info = &mut self.infos[index * self.size..][..self.size];
            info.fill(0);
            info[..8].copy_from_slice(&sequence.to_le_bytes());
            info[8..16].copy_from_slice(&(sequence * 1000).to_le_bytes());
            info[16..18].copy_from_slice(&(text.len() as u16).to_le_bytes());
            info[19] = 6 << 5;
            info[20] = 1;
            let device = if self.size == 88 { 24 } else { 44 };
            info[device..device + 3].copy_from_slice(b"pci");
            let desc = &mut self.descs[index * 24..][..24];
            desc[..8].copy_from_slice(&(1 << 63 | id).to_le_bytes());
            desc[8..16].copy_from_slice(&(position as u64).to_le_bytes());
            desc[16..].copy_from_slice(&((position + bytes) as u64).to_le_bytes());
            position += bytes;
        }
        self
    }

    /// The arrays at places that are multiples of four, with noise between.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x5a; 1004];
        bytes.extend(&self.infos);
        bytes.extend([0; 12]);
        bytes.extend(&self.descs);
        bytes.extend([0x5a; 4000]);
        bytes.extend(&self.text);
        bytes.extend([0; 500]);
        bytes
    }
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("message {n} of a driver{}", " that talks".repeat(n % 4))).collect()
}

fn carved(bytes: &[u8]) -> (Vec<Log>, Vec<Vec<kdive_evidence::LogRecord>>) {
    let file = bytes.to_vec();
    let carved = carve(&Pile::file(&file), &Cancel::default(), &|_| ()).unwrap();
    let records = carved.logs.iter().map(|log| log.records(&file).collect()).collect();
    (carved.logs, records)
}

#[test]
fn a_ring_is_found_whatever_it_begins_with() {
    let texts = texts(40);
    for (size, top) in [(88, TOP_2_32), (112, TOP_2_62), (88, TOP_2_62)] {
        let ring = Ring::new(6, size, top).log(0, texts.iter().map(String::as_str));
        let (logs, records) = carved(&ring.bytes());
        assert_eq!(logs.len(), 1, "{size} {top:#x}: {logs:?}");
        assert_eq!(logs[0].form, Form::Ring);
        let found: Vec<_> = records[0].iter().map(|record| record.text.clone()).collect();
        assert_eq!(found, texts);
        let record = &records[0][7];
        assert_eq!((record.sequence, record.time_ns, record.level), (Some(7), Some(7000), Some(6)));
        assert_eq!((record.caller.as_deref(), record.doubts.len()), (Some("T1"), 0));
        assert_eq!(record.dictionary, [("SUBSYSTEM".to_owned(), "pci".to_owned())]);
    }
}

#[test]
fn a_ring_that_started_over_reads_in_order() {
    // 300 records went through 64 descriptors; ids have passed 2^32.
    let texts = texts(300);
    let ring = Ring::new(6, 88, TOP_2_32).log(0, texts.iter().map(String::as_str));
    let (_, records) = carved(&ring.bytes());
    let sure: Vec<_> = records[0].iter().filter(|record| record.doubts.is_empty()).collect();
    let numbers: Vec<u64> = sure.iter().filter_map(|record| record.sequence).collect();
    assert!(numbers.is_sorted() && numbers.last() == Some(&299) && numbers.len() > 30, "{numbers:?}");
    assert!(sure.iter().all(|record| record.text == texts[record.sequence.unwrap() as usize]));
}

#[test]
fn what_is_lost_is_said() {
    let texts = texts(60);
    let ring = Ring::new(6, 88, TOP_2_32).log(0, texts.iter().map(String::as_str));
    // Text alone: no time, and the end of the last is a guess.
    let (logs, records) = carved(&ring.text);
    assert_eq!((logs[0].records, records[0][3].text.as_str()), (60, texts[3].trim_end()));
    assert_eq!(records[0][3].doubts, [Doubt::HeaderLost, Doubt::EndGuessed]);
    assert_eq!(records[0][3].sequence, None);
    // Headers alone: nothing to show, but known.
    let (logs, _) = carved(&ring.infos);
    assert_eq!((logs[0].records, logs[0].without_text), (0, 60));
    // A part of the text overwritten.
    let mut bytes = ring.bytes();
    let text = bytes.len() - 500 - ring.text.len();
    bytes[text + 400..text + 900].fill(0);
    let (_, records) = carved(&bytes);
    let lost = records[0].iter().filter(|record| record.doubts == [Doubt::TextLost]).count();
    assert!((5..30).contains(&lost), "{lost}");
    assert!(records[0].iter().filter(|record| record.doubts.is_empty()).count() > 30);
    // The kernel was writing the last record, and has freed the first.
    let mut bytes = ring.bytes();
    let descs = 1004 + ring.infos.len() + 12;
    bytes[descs + 24 * 59 + 7] = 0;
    bytes[descs + 7] |= 0xc0;
    bytes[descs + 24 + 7] |= 0xc0;
    let (_, records) = carved(&bytes);
    assert_eq!(records[0][59].doubts, [Doubt::Unfinished]);
    assert_eq!(records[0][0].doubts, [Doubt::Freed]);
}

#[test]
fn a_file_may_have_lost_bytes_at_its_front() {
    let texts = texts(20);
    let bytes = Ring::new(6, 88, TOP_2_32).log(0, texts.iter().map(String::as_str)).bytes();
    for cut in [1, 2, 3, 4, 333] {
        assert_eq!(carved(&bytes[cut..]).0[0].records, 20, "{cut}");
    }
}

#[test]
fn two_kernels_are_two_logs() {
    let (one, other) = (texts(40), texts(33));
    let other: Vec<_> = other.iter().map(|text| format!("{text} again, and longer")).collect();
    let mut bytes = Ring::new(6, 88, TOP_2_32).log(0, one.iter().map(String::as_str)).bytes();
    let mut second = Ring::new(6, 88, TOP_2_32).log(0, other.iter().map(String::as_str));
    for info in second.infos.chunks_exact_mut(88) {
        info[12] = u8::from(info[16] != 0); // Later, by four seconds.
    }
    bytes.extend(second.bytes());
    let (logs, records) = carved(&bytes);
    assert_eq!(logs.iter().map(|log| log.records).collect::<Vec<_>>(), [40, 33]);
    assert_eq!(records[1][5].text, other[5]);
}

fn header(time: u64, text: &str, pairs: &str, size: usize) -> Vec<u8> {
    let length = (size + text.len() + pairs.len()).next_multiple_of(4);
    let mut bytes = time.to_le_bytes().to_vec();
    for half in [length, text.len(), pairs.len()] {
        bytes.extend((half as u16).to_le_bytes());
    }
    bytes.extend([0, 5 << 5]);
    bytes.resize(size, 0);
    if size == 20 {
        bytes[16] = 9;
    }
    bytes.extend(text.bytes());
    bytes.extend(pairs.bytes());
    bytes.resize(length, 0);
    bytes
}

#[test]
fn records_are_found_with_and_without_callers_and_across_the_wrap() {
    for size in [16, 20] {
        let texts = texts(50);
        let second = 1_000_000_000;
        let record = |n: usize| {
            header(n as u64 * 10 * second, &texts[n], if n == 9 { "SUBSYSTEM=pci\0" } else { "" }, size)
        };
        // The newest thirty stand before the oldest twenty.
        let mut bytes = vec![0x33; 100];
        (20..50).for_each(|n| bytes.extend(record(n)));
        bytes.extend([0xee; 24]);
        (0..20).for_each(|n| bytes.extend(record(n)));
        bytes.extend([0; 16]);
        let (logs, records) = carved(&bytes);
        assert_eq!((logs.len(), logs[0].form), (1, Form::Records), "{size}: {logs:?}");
        let found: Vec<_> = records[0].iter().map(|record| record.text.clone()).collect();
        assert_eq!(found, texts);
        assert_eq!(records[0][9].dictionary.len(), 1);
        assert_eq!(records[0][9].caller.as_deref(), (size == 20).then_some("T9"));
    }
}

#[test]
fn plain_text_is_unwrapped_where_time_falls_back() {
    let lines: Vec<_> = (0..40).map(|n| format!("<{}>[{n:5}.000000] line {n}\n", n % 7)).collect();
    let all = lines.concat();
    let at = all.find("line 12").unwrap();
    let mut bytes = vec![0; 100];
    // The buffer starts over inside line 12: its end is the oldest that is left.
    bytes.extend(lines[30..].concat().bytes());
    bytes.extend(all[at..at + 8].bytes());
    bytes.extend(lines[13..30].concat().bytes());
    let (logs, records) = carved(&bytes);
    assert_eq!((logs[0].form, records[0].len()), (Form::Plain, 28));
    assert_eq!((records[0][0].text.as_str(), &records[0][0].doubts[..]), ("line 12", &[Doubt::Torn][..]));
    assert_eq!((records[0][1].text.as_str(), records[0][1].level), ("line 13", Some(6)));
    // Without times the place of the wrap is a guess, but for the rest of a torn line.
    let old: Vec<_> = (0..30).map(|n| format!("<4>call {n} of a trace\n")).collect();
    let mut bytes = vec![0; 8];
    bytes.extend(old.concat().bytes());
    bytes.extend([0; 100]);
    let (_, records) = carved(&bytes);
    assert_eq!((records[0].len(), records[0][0].text.as_str()), (30, "call 0 of a trace"));
    assert_eq!(records[0][3].doubts, [Doubt::OrderGuessed]);
}

#[test]
fn the_release_is_told_by_vmcoreinfo() {
    let mut file = vec![0; 100];
    file.extend(b"OSRELEASE=6.1.0-56-cloud-amd64\nBUILD-ID=00\n OSRELEASE=%s\nBUILD-ID=");
    let carved = carve(&Pile::file(&file), &Cancel::default(), &|_| ()).unwrap();
    assert_eq!(carved.releases, ["6.1.0-56-cloud-amd64"]);
    assert!(carved.logs.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_changes_no_other_record(at in 0..8000_usize, with in proptest::collection::vec(any::<u8>(), 1..40)) {
        let texts = texts(60);
        let mut bytes = Ring::new(6, 88, TOP_2_32).log(0, texts.iter().map(String::as_str)).bytes();
        let end = (at + with.len()).min(bytes.len());
        if at < end {
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
        let (_, records) = carved(&bytes);
        let right = records.iter().flatten().filter(|record| {
            record.sequence.is_some_and(|number| texts.get(number as usize) == Some(&record.text))
        });
        prop_assert!(right.count() > 40);
    }

    #[test]
    fn any_bytes_end(bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), Just(b'<'), any::<u8>()], 0..6000)) {
        carved(&bytes);
    }
}

/// The bytes of a file, by offset.
struct OnDisk(std::fs::File, u64);

impl ReadAt for OnDisk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, into, offset)
    }

    fn len(&self) -> u64 {
        self.1
    }
}

/// The dumps of the lab as mere bytes: no header, no notes, no page tables are looked at.
#[test]
#[ignore = "needs the lab: set KDIVE_LAB"]
#[allow(clippy::print_stdout, reason = "it measures")]
fn the_lab_s_dumps_read_as_bytes() {
    let lab = std::path::PathBuf::from(std::env::var_os("KDIVE_LAB").unwrap()).join("dumps");
    for name in ["5.10-load", "6.1-load", "6.12-load", "7.2-load", "6.12-big"] {
        let file = std::fs::File::open(lab.join(format!("{name}.elf"))).unwrap();
        let bytes = file.metadata().unwrap().len();
        let file = OnDisk(file, bytes);
        for percent in [100, 90, 60, 30] {
            let mut pile = Pile::file(&file);
            pile.spans.clear();
            pile.spans.push(4096..bytes / 100 * percent);
            let start = std::time::Instant::now();
            let carved = carve(&pile, &Cancel::default(), &|_| ()).unwrap();
            let took = start.elapsed();
            let logs: Vec<String> = carved
                .logs
                .iter()
                .map(|log| {
                    let records: Vec<_> = log.records(&file).collect();
                    let sure = records.iter().filter(|record| record.doubts.is_empty()).count();
                    format!("{:?} {} sure of {}", log.form, sure, records.len())
                })
                .collect();
            println!(
                "{name} {percent} %: {logs:?} {:.0} MB/s",
                (bytes >> 20) as f64 * percent as f64 / 100.0 / took.as_secs_f64()
            );
            if percent == 100 {
                assert!(logs.len() == 1 && carved.logs[0].records > 390 && carved.logs[0].without_text == 0);
            }
        }
    }
}
