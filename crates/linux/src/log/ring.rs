//! The lockless ring buffer of 5.10 and later (kernel/printk/printk_ringbuffer.h).
//!
//! Descriptors and their infos are two arrays of the same length, indexed by the low bits of a descriptor id. A
//! descriptor says where its text lies in the text ring, as two logical positions that count on over all wraps.

use kdive_base::bytes::until_nul;
use kdive_base::{Endian, VirtAddr, VirtualMemory, printable};
use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel, Lacks};

use super::text::{caller, log_text};
use super::{address, offset, size};

/// `log_buf_len=` allows 2 GiB of text, and 32 bytes of text for each descriptor.
const MAX_COUNT_BITS: u32 = 26;
const MAX_SIZE_BITS: u32 = 31;
/// States of a descriptor, in the top two bits of its state variable.
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
const STATE_SHIFT: u32 = 62;
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;
/// Both positions of a block without data are odd; an empty line has 3, a block that could not be had has 1.
const DATALESS: u64 = 1;
const EMPTY_LINE: u64 = 3;

/// Offsets in the structures of the ring buffer, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `prb_desc_ring.count_bits`, from the start of `printk_ringbuffer`; so are the next four.
    pub count_bits: u64,
    /// `prb_desc_ring.descs`
    pub descs: u64,
    /// `prb_desc_ring.infos`
    pub infos: u64,
    /// `prb_desc_ring.head_id`
    pub head_id: u64,
    /// `prb_desc_ring.tail_id`
    pub tail_id: u64,
    /// `prb_data_ring.size_bits`, from the start of `printk_ringbuffer`; so is the next.
    pub size_bits: u64,
    /// `prb_data_ring.data`
    pub data: u64,
    /// Size of `prb_desc`.
    pub desc_size: u64,
    /// `prb_desc.state_var`
    pub state: u64,
    /// `prb_desc.text_blk_lpos.begin`
    pub begin: u64,
    /// `prb_desc.text_blk_lpos.next`
    pub next: u64,
    /// Size of `printk_info`.
    pub info_size: u64,
    /// `printk_info.seq`
    pub seq: u64,
    /// `printk_info.ts_nsec`
    pub time: u64,
    /// `printk_info.text_len`; facility and the byte of flags and level follow it.
    pub text_len: u64,
    /// `printk_info.caller_id`
    pub caller: u64,
    /// `printk_info.dev_info.subsystem` and its length.
    pub subsystem: Option<(u64, u64)>,
    /// `printk_info.dev_info.device` and its length.
    pub device: Option<(u64, u64)>,
}

impl Layout {
    /// The layout of a kernel's ring buffer.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let at = |record: &str, member: &str| offset(kernel, record, member);
        let counter = at("atomic_long_t", "counter").unwrap_or(0);
        let ring = at("printk_ringbuffer", "desc_ring")?;
        let text = at("printk_ringbuffer", "text_data_ring")?;
        let block = at("prb_desc", "text_blk_lpos")?;
        let device_info = at("printk_info", "dev_info");
        let array = |member: &str, length: &str| {
            let start = device_info.as_ref().ok()?.checked_add(at("dev_printk_info", member).ok()?)?;
            let told = kernel.vmcoreinfo().length(length);
            Some((start, told.or_else(|| Some(kernel.member("dev_printk_info", &[member]).ok()?.bytes))?))
        };
        Ok(Self {
            count_bits: ring.wrapping_add(at("prb_desc_ring", "count_bits")?),
            descs: ring.wrapping_add(at("prb_desc_ring", "descs")?),
            infos: ring.wrapping_add(at("prb_desc_ring", "infos")?),
            head_id: ring.wrapping_add(at("prb_desc_ring", "head_id")?).wrapping_add(counter),
            tail_id: ring.wrapping_add(at("prb_desc_ring", "tail_id")?).wrapping_add(counter),
            size_bits: text.wrapping_add(at("prb_data_ring", "size_bits")?),
            data: text.wrapping_add(at("prb_data_ring", "data")?),
            desc_size: size(kernel, "prb_desc")?,
            state: at("prb_desc", "state_var")?.wrapping_add(counter),
            begin: block.wrapping_add(at("prb_data_blk_lpos", "begin")?),
            next: block.wrapping_add(at("prb_data_blk_lpos", "next")?),
            info_size: size(kernel, "printk_info")?,
            seq: at("printk_info", "seq")?,
            time: at("printk_info", "ts_nsec")?,
            text_len: at("printk_info", "text_len")?,
            caller: at("printk_info", "caller_id")?,
            subsystem: array("subsystem", "printk_info_subsystem"),
            device: array("device", "printk_info_device"),
        })
    }
}

/// A ring buffer, found and checked.
#[derive(Clone, Debug)]
pub struct Ring {
    layout: Layout,
    count_bits: u32,
    descs: VirtAddr,
    infos: VirtAddr,
    head_id: u64,
    tail_id: u64,
    size_bits: u32,
    data: VirtAddr,
}

impl Ring {
    /// The kernel's ring buffer: where `prb` points.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let at = kernel.memory().pointer(address(kernel, "prb")?)?;
        Self::at(kernel.memory(), at, Layout::find(kernel)?)
    }

    /// The ring buffer at `at`.
    pub fn at(memory: &dyn VirtualMemory, at: VirtAddr, layout: Layout) -> Field<Self> {
        let count_bits = memory.u32(at.add(layout.count_bits))?;
        let size_bits = memory.u32(at.add(layout.size_bits))?;
        if count_bits > MAX_COUNT_BITS || size_bits > MAX_SIZE_BITS {
            return Err(Lacks::implausible(format_args!(
                "the log's ring buffer claims 2^{count_bits} records and 2^{size_bits} bytes"
            )));
        }
        // Every descriptor and info is read as one piece.
        if layout.desc_size > 4096 || layout.info_size > 4096 {
            return Err(Lacks::implausible("the log's structures are larger than a page"));
        }
        Ok(Self {
            count_bits,
            size_bits,
            descs: memory.pointer(at.add(layout.descs))?,
            infos: memory.pointer(at.add(layout.infos))?,
            head_id: memory.u64(at.add(layout.head_id))? & ID_MASK,
            tail_id: memory.u64(at.add(layout.tail_id))? & ID_MASK,
            data: memory.pointer(at.add(layout.data))?,
            layout,
        })
    }

    /// The records, oldest first.
    pub fn records<'m>(self, memory: &'m dyn VirtualMemory) -> impl Iterator<Item = Field<LogRecord>> + 'm {
        let count = 1_u64 << self.count_bits;
        // A ring never holds more than its descriptors: other distances are damage, and the newest records count most.
        let used = (self.head_id.wrapping_sub(self.tail_id) & ID_MASK).saturating_add(1).min(count);
        let first = self.head_id.wrapping_sub(used.wrapping_sub(1)) & ID_MASK;
        (0..used).filter_map(move |step| self.record(memory, first.wrapping_add(step) & ID_MASK).transpose())
    }

    /// The record of a descriptor; `None` for one that holds none (not yet written, or recycled).
    fn record(&self, memory: &dyn VirtualMemory, id: u64) -> Field<Option<LogRecord>> {
        let layout = &self.layout;
        let index = id & (1_u64 << self.count_bits).wrapping_sub(1);
        let desc =
            memory.bytes(self.descs.add(index.wrapping_mul(layout.desc_size)), layout.desc_size as usize)?;
        let state = word(&desc, layout.state)?;
        if state & ID_MASK != id || !matches!(state >> STATE_SHIFT, COMMITTED | FINALIZED) {
            return Ok(None);
        }
        let info =
            memory.bytes(self.infos.add(index.wrapping_mul(layout.info_size)), layout.info_size as usize)?;
        let mut record = self.info(&info)?;
        let wanted = usize::from(half(&info, layout.text_len)?);
        let block = self.block(word(&desc, layout.begin)?, word(&desc, layout.next)?);
        let (text, whole) = match block {
            Block::Empty => (Vec::new(), true),
            Block::Lost => (Vec::new(), false),
            Block::At { start, bytes } => read_text(memory, self.data.add(start), bytes, id, wanted),
        };
        record.text = log_text(&text);
        record.truncated = !whole;
        Ok(Some(record))
    }

    fn info(&self, info: &[u8]) -> Field<LogRecord> {
        let layout = &self.layout;
        let byte = |at: u64| info.get(at as usize).copied();
        // u16 text_len; u8 facility; u8 flags:5, level:3.
        let facility = byte(layout.text_len.wrapping_add(2));
        let level = byte(layout.text_len.wrapping_add(3)).map(|bits| bits >> 5);
        let mut dictionary = Vec::new();
        for (key, place) in [("SUBSYSTEM", layout.subsystem), ("DEVICE", layout.device)] {
            let bytes = place.and_then(|(at, length)| {
                info.get(at as usize..at.checked_add(length)? as usize).map(until_nul)
            });
            if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                dictionary.push((key.to_owned(), printable(bytes)));
            }
        }
        Ok(LogRecord {
            time_ns: Some(word(info, layout.time)?),
            level,
            facility,
            sequence: Some(word(info, layout.seq)?),
            caller: Endian::Little.u32(info, layout.caller as usize).map(caller),
            dictionary,
            ..LogRecord::default()
        })
    }

    /// Where the text block between two logical positions lies in the text ring.
    fn block(&self, begin: u64, next: u64) -> Block {
        if begin & DATALESS != 0 || next & DATALESS != 0 {
            return if begin == EMPTY_LINE { Block::Empty } else { Block::Lost };
        }
        let ring = 1_u64 << self.size_bits;
        let (begin_index, next_index) = (begin & (ring - 1), next & (ring - 1));
        // Positions start just below zero, so the count of wraps itself wraps on a young kernel.
        let wraps =
            (next >> self.size_bits).wrapping_sub(begin >> self.size_bits) & (u64::MAX >> self.size_bits);
        match wraps {
            0 if begin_index < next_index => {
                Block::At { start: begin_index, bytes: next_index - begin_index }
            }
            // A block that ends where the ring ends.
            1 if next_index == 0 => Block::At { start: begin_index, bytes: ring - begin_index },
            // A block that did not fit before the end starts over at the beginning of the ring.
            1 => Block::At { start: 0, bytes: next_index },
            _ => Block::Lost,
        }
    }
}

enum Block {
    Empty,
    Lost,
    At { start: u64, bytes: u64 },
}

/// The text of a block: the id of its descriptor, then the text. `false` where some of it is lacking.
fn read_text(
    memory: &dyn VirtualMemory,
    at: VirtAddr,
    bytes: u64,
    id: u64,
    wanted: usize,
) -> (Vec<u8>, bool) {
    const ID_BYTES: u64 = 8;
    // A block whose id is another's has been recycled since, or is damaged: its text is not this record's.
    match memory.u64(at) {
        Ok(owner) if owner & ID_MASK != id => return (Vec::new(), wanted == 0),
        _ => {}
    }
    let available = usize::try_from(bytes.saturating_sub(ID_BYTES)).unwrap_or(usize::MAX);
    let mut text = vec![0; wanted.min(available)];
    let (count, _) = memory.read(at.add(ID_BYTES), &mut text);
    text.truncate(count);
    let whole = text.len() == wanted;
    (text, whole)
}

fn word(bytes: &[u8], at: u64) -> Field<u64> {
    Endian::Little.u64(bytes, at as usize).ok_or_else(outside)
}

fn half(bytes: &[u8], at: u64) -> Field<u16> {
    Endian::Little.u16(bytes, at as usize).ok_or_else(outside)
}

fn outside() -> Lacks {
    Lacks::implausible("a member of the log's structures lies outside its structure")
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
