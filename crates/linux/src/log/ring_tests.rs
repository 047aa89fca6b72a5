use std::collections::BTreeMap;

use kdive_base::{Missing, Why};
use proptest::prelude::*;

use super::*;

const RING: u64 = 0x1000;
const DESCS: u64 = 0x10_0000;
const INFOS: u64 = 0x20_0000;
const TEXT: u64 = 0x30_0000;

fn layout() -> Layout {
    Layout {
        count_bits: 0,
        descs: 8,
        infos: 16,
        head_id: 24,
        tail_id: 32,
        size_bits: 48,
        data: 56,
        desc_size: 24,
        state: 0,
        begin: 8,
        next: 16,
        info_size: 88,
        seq: 0,
        time: 8,
        text_len: 16,
        caller: 20,
        subsystem: Some((24, 16)),
        device: Some((40, 48)),
    }
}

/// Areas of memory by their start.
#[derive(Clone, Default)]
struct Memory(BTreeMap<u64, Vec<u8>>);

impl VirtualMemory for Memory {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let area = self.0.range(..=at.0).next_back();
        let rest = area.and_then(|(start, bytes)| bytes.get((at.0 - start) as usize..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        (count, (count < into.len()).then(|| Missing::new(at.add(count as u64), Why::Excluded)))
    }
}

/// Writes records as the kernel does: blocks aligned to words, never across the end of the ring.
struct Writer {
    count_bits: u32,
    size_bits: u32,
    descs: Vec<u8>,
    infos: Vec<u8>,
    text: Vec<u8>,
    head_id: u64,
    tail_id: u64,
    head: u64,
    written: u64,
}

impl Writer {
    fn new(count_bits: u32, size_bits: u32) -> Self {
        let count = 1_usize << count_bits;
        // As the kernel starts: ids count from just below zero, positions one ring before it.
        let head_id = 0_u64.wrapping_sub(count as u64 + 1) & ID_MASK;
        let mut descs = vec![0; count * 24];
        for (index, desc) in descs.chunks_exact_mut(24).enumerate() {
            let id = head_id.wrapping_sub(count as u64 - 1).wrapping_add(index as u64) & ID_MASK;
            desc[..8].copy_from_slice(&(id | 3 << STATE_SHIFT).to_le_bytes());
        }
        Self {
            count_bits,
            size_bits,
            descs,
            infos: vec![0; count * 88],
            text: vec![0; 1 << size_bits],
            head_id,
            tail_id: head_id,
            head: 0_u64.wrapping_sub(1 << size_bits),
            written: 0,
        }
    }

    fn write(&mut self, text: &[u8]) {
        let count = 1_u64 << self.count_bits;
        let ring = 1_u64 << self.size_bits;
        self.head_id = self.head_id.wrapping_add(1) & ID_MASK;
        if self.head_id.wrapping_sub(self.tail_id) & ID_MASK >= count {
            self.tail_id = self.tail_id.wrapping_add(1) & ID_MASK;
        }
        let size = (8 + text.len() as u64).next_multiple_of(8);
        let begin = self.head;
        let fits = begin >> self.size_bits == begin.wrapping_add(size) >> self.size_bits;
        let (at, next) = if fits {
            (begin & (ring - 1), begin.wrapping_add(size))
        } else {
            (0, ((begin >> self.size_bits).wrapping_add(1) << self.size_bits).wrapping_add(size))
        };
        self.head = next;
        let id = self.head_id;
        self.text[at as usize..at as usize + 8].copy_from_slice(&id.to_le_bytes());
        self.text[at as usize + 8..at as usize + 8 + text.len()].copy_from_slice(text);
        self.put(id, FINALIZED, begin, next, text.len() as u16);
    }

    fn put(&mut self, id: u64, state: u64, begin: u64, next: u64, text_len: u16) {
        let index = (id & ((1 << self.count_bits) - 1)) as usize;
        let desc = &mut self.descs[index * 24..][..24];
        for (at, word) in [(0, id | state << STATE_SHIFT), (8, begin), (16, next)] {
            desc[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let info = &mut self.infos[index * 88..][..88];
        info.fill(0);
        info[..8].copy_from_slice(&self.written.to_le_bytes());
        info[8..16].copy_from_slice(&(self.written * 1000).to_le_bytes());
        info[16..18].copy_from_slice(&text_len.to_le_bytes());
        info[18..20].copy_from_slice(&[3, 5 << 5 | 2]);
        info[20..24].copy_from_slice(&0x8000_0002_u32.to_le_bytes());
        info[24..27].copy_from_slice(b"pci");
        self.written += 1;
    }

    fn memory(&self) -> Memory {
        let mut ring = vec![0; 88];
        ring[..4].copy_from_slice(&self.count_bits.to_le_bytes());
        ring[48..52].copy_from_slice(&self.size_bits.to_le_bytes());
        for (at, word) in [(8, DESCS), (16, INFOS), (24, self.head_id), (32, self.tail_id), (56, TEXT)] {
            ring[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let areas = [
            (RING, ring),
            (DESCS, self.descs.clone()),
            (INFOS, self.infos.clone()),
            (TEXT, self.text.clone()),
        ];
        Memory(areas.into_iter().collect())
    }
}

fn read(memory: &Memory) -> Vec<Field<LogRecord>> {
    Ring::at(memory, VirtAddr(RING), layout()).map(|ring| ring.records(memory).collect()).unwrap_or_default()
}

fn texts(memory: &Memory) -> Vec<String> {
    read(memory).into_iter().flatten().filter(|record| !record.truncated).map(|record| record.text).collect()
}

#[test]
fn a_fresh_ring_is_empty_and_records_come_in_order() {
    let mut writer = Writer::new(4, 8);
    assert!(read(&writer.memory()).is_empty());
    writer.write(b"one");
    writer.write(b"two\nlines");
    let records: Vec<_> = read(&writer.memory()).into_iter().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    let second = &records[1];
    assert_eq!(second.text, "two\nlines");
    assert_eq!(
        (second.sequence, second.time_ns, second.level, second.facility),
        (Some(1), Some(1000), Some(5), Some(3))
    );
    assert_eq!(second.caller.as_deref(), Some("C2"));
    assert_eq!(second.dictionary, [("SUBSYSTEM".to_owned(), "pci".to_owned())]);
}

#[test]
fn text_that_was_overwritten_is_not_shown_as_another_records() {
    let mut writer = Writer::new(4, 6);
    for text in [&b"aaaaaaaaaaaaaaaa"[..], b"bbbbbbbbbbbbbbbb", b"cccccccccccccccc"] {
        writer.write(text);
    }
    let records = read(&writer.memory());
    assert_eq!(texts(&writer.memory()), ["bbbbbbbbbbbbbbbb", "cccccccccccccccc"]);
    assert!(records[0].as_ref().unwrap().truncated);
}

#[test]
fn empty_lines_lost_texts_and_open_records() {
    let mut writer = Writer::new(4, 8);
    writer.write(b"first");
    for (state, begin, length) in [(FINALIZED, EMPTY_LINE, 0), (FINALIZED, DATALESS, 9), (0, 0, 9)] {
        writer.head_id = writer.head_id.wrapping_add(1) & ID_MASK;
        writer.put(writer.head_id, state, begin, begin, length);
    }
    let records: Vec<_> = read(&writer.memory()).into_iter().map(Result::unwrap).collect();
    let shown: Vec<_> = records.iter().map(|record| (record.text.as_str(), record.truncated)).collect();
    assert_eq!(shown, [("first", false), ("", false), ("", true)]);
}

#[test]
fn a_block_may_end_where_the_ring_ends() {
    let ring = Ring::at(&Writer::new(4, 8).memory(), VirtAddr(RING), layout()).unwrap();
    assert!(matches!(ring.block(0xf0, 0x100), Block::At { start: 0xf0, bytes: 0x10 }));
    assert!(matches!(ring.block(0xf0, 0x120), Block::At { start: 0, bytes: 0x20 }));
    assert!(matches!(ring.block(0x10, 0x30), Block::At { start: 0x10, bytes: 0x20 }));
    assert!(matches!(ring.block(0x30, 0x10), Block::Lost));
    assert!(matches!(ring.block(0x10, 0x1000), Block::Lost));
}

#[test]
fn missing_pages_cost_their_records_only() {
    let mut writer = Writer::new(4, 8);
    writer.write(b"kept");
    writer.write(b"lost");
    let mut memory = writer.memory();
    let text = memory.0.get_mut(&TEXT).unwrap();
    text.truncate(26);
    let records: Vec<_> = read(&memory).into_iter().map(Result::unwrap).collect();
    assert_eq!((records[0].text.as_str(), records[0].truncated), ("kept", false));
    assert_eq!((records[1].text.as_str(), records[1].truncated), ("lo", true));
    memory.0.remove(&INFOS);
    assert!(read(&memory).iter().all(Result::is_err));
}

proptest! {
    /// Whatever was written, only that is read back, in its order, and the newest record is there.
    #[test]
    fn what_was_written_is_read(
        lines in proptest::collection::vec("[a-z]{1,40}", 1..60),
        count_bits in 2..6_u32,
        size_bits in 7..10_u32,
    ) {
        let mut writer = Writer::new(count_bits, size_bits);
        for line in &lines {
            writer.write(line.as_bytes());
        }
        let found = texts(&writer.memory());
        let mut rest = lines.iter();
        prop_assert!(found.iter().all(|text| rest.any(|line| line == text)), "{found:?} out of {lines:?}");
        prop_assert_eq!(found.last(), lines.last());
    }

    /// Damage never panics, hangs or grows beyond the ring.
    #[test]
    fn damage_is_survived(
        lines in proptest::collection::vec("[a-z]{0,20}", 1..20),
        area in 0..4_usize,
        at in 0..2000_usize,
        bytes in any::<[u8; 8]>(),
    ) {
        let mut writer = Writer::new(4, 8);
        for line in &lines {
            writer.write(line.as_bytes());
        }
        let mut memory = writer.memory();
        let area = memory.0.values_mut().nth(area).unwrap();
        let at = at % area.len();
        for (to, from) in area[at..].iter_mut().zip(bytes) {
            *to = from;
        }
        // `count_bits` itself may be what was damaged: the bound is then that of the claim.
        prop_assert!(Ring::at(&memory, VirtAddr(RING), layout())
            .is_ok_and(|ring| ring.count_bits > 12) || read(&memory).len() <= 1 << 12);
    }
}
