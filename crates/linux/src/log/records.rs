//! Records of variable length in `log_buf`: kernels 3.5 to 5.9 (`struct printk_log`, before 3.11 `struct log`).

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel, Lacks};

use super::text::{caller, dictionary, log_text};
use super::{address, offset, size, variable_u32};

/// Largest buffer that `log_buf_len=` gives.
const MAX_BUFFER: u32 = 1 << 31;

/// Offsets in the header of a record, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the header; the text follows it.
    pub header: u64,
    /// Time in nanoseconds, 64 bits.
    pub time: u64,
    /// Length of the whole record, 16 bits; 0 where the buffer starts over.
    pub len: u64,
    /// Length of the text, 16 bits.
    pub text_len: u64,
    /// Length of the dictionary behind the text, 16 bits; facility and the byte of flags and level follow.
    pub dict_len: u64,
    /// Who logged, with `CONFIG_PRINTK_CALLER` (5.1).
    pub caller: Option<u64>,
}

impl Layout {
    /// The layout of a kernel's records.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let name = if size(kernel, "printk_log").is_ok() { "printk_log" } else { "log" };
        let at = |member| offset(kernel, name, member);
        Ok(Self {
            header: size(kernel, name)?,
            time: at("ts_nsec")?,
            len: at("len")?,
            text_len: at("text_len")?,
            dict_len: at("dict_len")?,
            caller: at("caller_id").ok(),
        })
    }
}

/// The buffer and where its records begin and end.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Layout of a record's header.
    pub layout: Layout,
    /// The buffer.
    pub data: VirtAddr,
    /// Its length in bytes.
    pub bytes: u32,
    /// Offset of the oldest record.
    pub first: u32,
    /// Offset behind the newest record.
    pub next: u32,
}

impl Buffer {
    /// The kernel's `log_buf`.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let bytes = variable_u32(kernel, "log_buf_len")?;
        if bytes > MAX_BUFFER {
            return Err(Lacks::implausible(format_args!("log_buf_len is {bytes}")));
        }
        Ok(Self {
            layout: Layout::find(kernel)?,
            data: kernel.memory().pointer(address(kernel, "log_buf")?)?,
            bytes,
            first: variable_u32(kernel, "log_first_idx")?,
            next: variable_u32(kernel, "log_next_idx")?,
        })
    }

    /// The records, oldest first.
    pub fn records<'m>(self, memory: &'m dyn VirtualMemory) -> impl Iterator<Item = Field<LogRecord>> + 'm {
        let at = u64::from(self.first);
        Walk { buffer: self, memory, at: Some(at), wrapped: false }
    }
}

struct Walk<'m> {
    buffer: Buffer,
    memory: &'m dyn VirtualMemory,
    /// Offset of the next record; `None` after the last.
    at: Option<u64>,
    wrapped: bool,
}

impl Iterator for Walk<'_> {
    type Item = Field<LogRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = self.at.take()?;
        loop {
            // After the wrap, offsets ascend up to `next`: that bounds the walk to two passes over the buffer.
            let done = at == u64::from(self.buffer.next) || self.wrapped && at > u64::from(self.buffer.next);
            if done || at.saturating_add(self.buffer.layout.header) > u64::from(self.buffer.bytes) {
                return None;
            }
            let header = match self
                .memory
                .bytes(self.buffer.data.add(at), self.buffer.layout.header.min(4096) as usize)
            {
                Ok(header) => header,
                Err(missing) => return Some(Err(missing.into())),
            };
            let length = u64::from(Endian::Little.u16(&header, self.buffer.layout.len as usize)?);
            if length == 0 {
                if std::mem::replace(&mut self.wrapped, true) {
                    return Some(Err(Lacks::implausible("the log starts over twice")));
                }
                at = 0;
                continue;
            }
            if length < self.buffer.layout.header {
                return Some(Err(Lacks::implausible("a record of the log is shorter than its header")));
            }
            self.at = at.checked_add(length);
            return self.record(&header, at, length).map(Ok);
        }
    }
}

impl Walk<'_> {
    fn record(&self, header: &[u8], at: u64, length: u64) -> Option<LogRecord> {
        let layout = &self.buffer.layout;
        let half = |at: u64| Endian::Little.u16(header, at as usize).map(usize::from);
        let byte = |at: u64| header.get(at as usize).copied();
        let (text_len, dict_len) = (half(layout.text_len)?, half(layout.dict_len)?);
        let wanted = text_len.saturating_add(dict_len);
        let inside =
            length.min(u64::from(self.buffer.bytes).saturating_sub(at)).saturating_sub(layout.header);
        let mut body = vec![0; wanted.min(inside as usize)];
        let (count, _) = self.memory.read(self.buffer.data.add(at.wrapping_add(layout.header)), &mut body);
        body.truncate(count);
        let (text, dict) = body.split_at_checked(text_len).unwrap_or((&body, &[]));
        Some(LogRecord {
            time_ns: Some(Endian::Little.u64(header, layout.time as usize)?),
            facility: byte(layout.dict_len.wrapping_add(2)),
            level: byte(layout.dict_len.wrapping_add(3)).map(|bits| bits >> 5),
            sequence: None,
            caller: layout.caller.and_then(|at| Endian::Little.u32(header, at as usize)).map(caller),
            text: log_text(text),
            dictionary: dictionary(dict),
            truncated: body.len() < wanted,
            doubts: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};
    use proptest::prelude::*;

    use super::*;

    const LAYOUT: Layout = Layout { header: 16, time: 0, len: 8, text_len: 10, dict_len: 12, caller: None };
    const BASE: u64 = 0x1000;

    struct Memory(Vec<u8>);

    impl VirtualMemory for Memory {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let rest = self.0.get(at.0.wrapping_sub(BASE) as usize..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            (count, (count < into.len()).then(|| Missing::new(at.add(count as u64), Why::Excluded)))
        }
    }

    fn record(time: u64, text: &[u8], dict: &[u8]) -> Vec<u8> {
        let length = (16 + text.len() + dict.len()).next_multiple_of(8);
        let mut bytes = time.to_le_bytes().to_vec();
        for half in [length, text.len(), dict.len()] {
            bytes.extend((half as u16).to_le_bytes());
        }
        bytes.extend([1, 6 << 5]);
        bytes.extend(text);
        bytes.extend(dict);
        bytes.resize(length, 0);
        bytes
    }

    fn read(bytes: Vec<u8>, first: u32, next: u32) -> Vec<Field<LogRecord>> {
        let length = bytes.len() as u32;
        let buffer = Buffer { layout: LAYOUT, data: VirtAddr(BASE), bytes: length, first, next };
        buffer.records(&Memory(bytes)).collect()
    }

    #[test]
    fn records_wrap_and_carry_dictionaries() {
        let new = record(3, b"new", b"");
        let old = record(1, b"old\nline", b"SUBSYSTEM=pci\0");
        let mut bytes = new.clone();
        // The kernel keeps room for a header between the newest and the oldest record.
        bytes.extend([0xff; 16]);
        let first = bytes.len() as u32;
        bytes.extend(old);
        bytes.extend([0; 16]);
        let found = read(bytes, first, new.len() as u32);
        assert_eq!(found.len(), 2);
        let old = found[0].as_ref().unwrap();
        assert_eq!(
            (old.text.as_str(), old.time_ns, old.level, old.facility),
            ("old\nline", Some(1), Some(6), Some(1))
        );
        assert_eq!(old.dictionary, [("SUBSYSTEM".to_owned(), "pci".to_owned())]);
        assert_eq!(found[1].as_ref().unwrap().text, "new");
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(16), any::<u8>()], 0..600),
                         first in 0..700_u32, next in 0..700_u32) {
            let limit = bytes.len() / 8 + 4;
            prop_assert!(read(bytes, first, next).len() <= limit);
        }
    }
}
