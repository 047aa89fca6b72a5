//! What logs are made of, taken out of bytes one by one, and how far one follows another.

use kdive_base::Endian;
use kdive_dump::Window;

/// `PRINTK_MESSAGE_MAX` is 2048, and a record may be continued.
pub(super) const MAX_TEXT: usize = 4096;
/// Times of neighbours may be out of order by what another CPU was slow.
const JITTER_NS: u64 = 1_000_000_000;
/// A quiet machine says nothing for weeks; longer is damage.
const MAX_QUIET_NS: u64 = 90 * 86_400 * 1_000_000_000;
/// A descriptor's id without its state.
pub(super) const ID_MASK: u64 = (1 << 62) - 1;
/// Ids that may be missing between two blocks: records without text have none.
const MAX_ID_STEP: u64 = 64;
/// `LOG_LINE_MAX` is 1024 with its prefix, in kernels that keep plain text.
const MAX_LINE: usize = 1100;

/// Something at a place in a file.
pub(super) trait Item: Copy {
    /// Offset of its first byte.
    fn at(&self) -> u64;
    /// Offset behind its last byte.
    fn end(&self) -> u64;
}

/// Offsets in `struct printk_info`, which begins with `u64 seq, ts_nsec; u16 text_len; u8 facility; u8 flags:5, level:3;
/// u32 caller_id` everywhere.
#[derive(Debug)]
pub(super) struct InfoLayout {
    pub(super) size: usize,
    /// `dev_info.subsystem`, 16 bytes; `device`, 48 bytes, follows.
    pub(super) device: usize,
}

/// With and without `CONFIG_PRINTK_EXECUTION_CTX`, which adds a second caller and a command's name.
pub(super) const INFO_LAYOUTS: [InfoLayout; 2] =
    [InfoLayout { size: 88, device: 24 }, InfoLayout { size: 112, device: 44 }];
pub(super) const SUBSYSTEM_BYTES: usize = 16;
pub(super) const DEVICE_BYTES: usize = 48;

/// A `printk_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    at: u64,
    pub(super) layout: u8,
    pub(super) facility: u8,
    pub(super) level: u8,
    pub(super) text_len: u16,
    pub(super) caller: u32,
    pub(super) sequence: u64,
    pub(super) time: u64,
}

impl Item for Info {
    fn at(&self) -> u64 {
        self.at
    }
    fn end(&self) -> u64 {
        let size = INFO_LAYOUTS.get(usize::from(self.layout)).map_or(0, |layout| layout.size);
        self.at.saturating_add(size as u64)
    }
}

/// A `prb_desc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Desc {
    at: u64,
    pub(super) id: u64,
    /// Two bits: reserved, committed, finalised, reusable.
    pub(super) state: u8,
    /// Bytes of its block of text, its id included; 0 where it has none or where it wraps.
    pub(super) bytes: u64,
}

impl Item for Desc {
    fn at(&self) -> u64 {
        self.at
    }
    fn end(&self) -> u64 {
        self.at.saturating_add(24)
    }
}

/// A block of the text ring: an id, and text behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    at: u64,
    pub(super) id: u64,
    /// Length, the id included.
    pub(super) bytes: u32,
    /// No other block follows: the end is where text seems to end.
    pub(super) open: bool,
}

impl Item for Block {
    fn at(&self) -> u64 {
        self.at
    }
    fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.into())
    }
}

/// The header of a `printk_log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    at: u64,
    pub(super) time: u64,
    len: u16,
    pub(super) text_len: u16,
    pub(super) dict_len: u16,
    pub(super) facility: u8,
    pub(super) level: u8,
}

impl Header {
    /// Bytes that are neither text nor dictionary, beyond the 16 that every header has.
    pub(super) fn slack(&self) -> u16 {
        self.len.saturating_sub(16).saturating_sub(self.text_len).saturating_sub(self.dict_len)
    }
}

impl Item for Header {
    fn at(&self) -> u64 {
        self.at
    }
    fn end(&self) -> u64 {
        self.at.saturating_add(self.len.into())
    }
}

/// A line of a plain buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    at: u64,
    /// Without its line feed.
    pub(super) bytes: u16,
    /// It begins with `<level>`.
    pub(super) level: bool,
    /// It has its line feed.
    pub(super) ended: bool,
}

impl Item for Line {
    fn at(&self) -> u64 {
        self.at
    }
    fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.into()).saturating_add(u64::from(self.ended))
    }
}

/// Whether `later` can follow `earlier`.
fn follows(earlier: u64, later: u64) -> bool {
    later.saturating_add(JITTER_NS) >= earlier && later.saturating_sub(earlier) < MAX_QUIET_NS
}

/// Whether a ring of at least 32 entries starts over between two neighbours, by their numbers.
fn starts_over(earlier: u64, later: u64) -> bool {
    earlier
        .checked_add(1)
        .and_then(|next| next.checked_sub(later))
        .is_some_and(|by| by >= 32 && by.is_power_of_two())
}

/// Collects what `next` finds at the end of what it found before, up to `stop`.
fn grow<T: Item>(at: u64, stop: u64, mut next: impl FnMut(u64, Option<&T>) -> Option<T>) -> Vec<T> {
    let mut items: Vec<T> = Vec::new();
    let mut at = at;
    while at < stop {
        let Some(item) = next(at, items.last()) else { break };
        if item.end() <= at {
            break;
        }
        at = item.end();
        items.push(item);
    }
    items
}

/// The infos that lie one after the other at `at`.
pub(super) fn infos(window: &mut Window<'_>, at: u64, stop: u64, layout: usize) -> Vec<Info> {
    let items = grow(at, stop, |at, last: Option<&Info>| {
        let info = info(window, at, layout)?;
        let fits = last.is_none_or(|last| {
            info.sequence == last.sequence.wrapping_add(1) && follows(last.time, info.time)
                || starts_over(last.sequence, info.sequence)
        });
        fits.then_some(info)
    });
    let has_text = items.iter().filter(|info| info.text_len > 0).count();
    if items.len() >= 3 && has_text.saturating_mul(2) >= items.len() { items } else { Vec::new() }
}

fn info(window: &mut Window<'_>, at: u64, index: usize) -> Option<Info> {
    let layout = INFO_LAYOUTS.get(index)?;
    let bytes = window.exact(at, layout.size).ok()?;
    let device = bytes.get(layout.device..)?;
    let (subsystem, device) = device.split_at_checked(SUBSYSTEM_BYTES)?;
    if !is_name(subsystem) || !is_name(device.get(..DEVICE_BYTES)?) {
        return None;
    }
    let text_len = Endian::Little.u16(bytes, 16)?;
    Some(Info {
        at,
        layout: index as u8,
        facility: *bytes.get(18)?,
        level: bytes.get(19)? >> 5,
        text_len: Some(text_len).filter(|&len| usize::from(len) <= MAX_TEXT)?,
        caller: Endian::Little.u32(bytes, 20)?,
        sequence: Endian::Little.u64(bytes, 0)?,
        time: Endian::Little.u64(bytes, 8).filter(|time| *time < 1 << 58)?,
    })
}

/// Printable characters and then zeros.
fn is_name(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (name, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or_default();
    end.is_some() && name.iter().all(|byte| (0x20..0x7f).contains(byte)) && rest.iter().all(|&byte| byte == 0)
}

/// The descriptors that lie one after the other at `at`.
pub(super) fn descs(window: &mut Window<'_>, at: u64, stop: u64) -> Vec<Desc> {
    let items = grow(at, stop, |at, last: Option<&Desc>| {
        let bytes = window.exact(at, 24).ok()?;
        let word = |at| Endian::Little.u64(bytes, at);
        let (state, begin, next) = (word(0)?, word(8)?, word(16)?);
        let desc = Desc {
            at,
            id: state & ID_MASK,
            state: (state >> 62) as u8,
            bytes: if (begin | next) & 1 == 0 { next.wrapping_sub(begin) } else { 0 },
        };
        let fits = last
            .is_none_or(|last| desc.id == last.id.wrapping_add(1) & ID_MASK || starts_over(last.id, desc.id));
        fits.then_some(desc)
    });
    let plausible = items.iter().filter(|desc| desc.bytes <= MAX_TEXT as u64).count();
    if items.len() >= 3 && plausible.saturating_mul(4) >= items.len().saturating_mul(3) {
        items
    } else {
        Vec::new()
    }
}

/// The blocks of text that lie one after the other at `at`.
pub(super) fn blocks(window: &mut Window<'_>, at: u64, stop: u64) -> Vec<Block> {
    let items = grow(at, stop, |at, last: Option<&Block>| {
        if last.is_some_and(|last| last.open) {
            return None;
        }
        let bytes = window.get(at, MAX_TEXT.saturating_add(16)).ok()?;
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        let id = u64::from_le_bytes(*id);
        let ids = rest.as_chunks::<8>().0.iter().enumerate().skip(1);
        // The next block is where the text ends: after what is reserved and not stored, and padding.
        let text = rest.iter().take(MAX_TEXT).take_while(|&&byte| is_text(byte)).count();
        let next = ids.take_while(|(index, _)| index.saturating_mul(8) <= text.saturating_add(16));
        let next = next.map(|(index, word)| (index, u64::from_le_bytes(*word))).find(|(_, word)| {
            (1..=MAX_ID_STEP).contains(&(word.wrapping_sub(id) & ID_MASK)) && word >> 62 == 0
        });
        let length = match next {
            Some((index, _)) => index.saturating_mul(8),
            None => text,
        };
        // The last bytes of a block are what was reserved and not stored (up to 4) and padding (up to 7): they may be anything.
        let certain = rest.get(..length.saturating_sub(11).max(1).min(length))?;
        if certain.is_empty() || !certain.iter().all(|&byte| is_text(byte)) {
            return None;
        }
        let bytes = u32::try_from(length.saturating_add(8)).ok()?;
        Some(Block { at, id, bytes, open: next.is_none() })
    });
    if items.len() >= 2 { items } else { Vec::new() }
}

/// What stands in a log: no control characters but the few that drivers print.
fn is_text(byte: u8) -> bool {
    !matches!(byte, 0..=6 | 14..=26 | 28..=31 | 127)
}

/// The records of 3.5 to 5.9 that lie one after the other at `at`.
pub(super) fn headers(window: &mut Window<'_>, at: u64, stop: u64) -> Vec<Header> {
    let items = grow(at, stop, |at, last: Option<&Header>| {
        let bytes = window.get(at, 64).ok()?;
        let half = |at| Endian::Little.u16(bytes, at);
        let header = Header {
            at,
            time: Endian::Little.u64(bytes, 0)?,
            len: half(8)?,
            text_len: half(10)?,
            dict_len: half(12)?,
            facility: *bytes.get(14)?,
            level: bytes.get(15)? >> 5,
        };
        let parts = u32::from(header.text_len).saturating_add(header.dict_len.into()).saturating_add(16);
        let slack = u32::from(header.len).checked_sub(parts)?;
        // The text begins behind a header of 16, 20 or 24 bytes.
        let text =
            bytes.get(24..24_usize.saturating_add(usize::from(header.text_len).saturating_sub(8).min(40)))?;
        let sound = slack < 16
            && header.len & 3 == 0
            && header.time < 1 << 58
            && usize::from(header.text_len) <= MAX_TEXT
            && text.iter().all(|&byte| is_text(byte))
            && last.is_none_or(|last| follows(last.time, header.time));
        sound.then_some(header)
    });
    let told = items.iter().filter(|header| header.text_len > 0).count();
    if items.len() >= 4 && told.saturating_mul(2) >= items.len() { items } else { Vec::new() }
}

/// The lines of plain text around the `<` at `at`, which a line feed goes before.
pub(super) fn lines(window: &mut Window<'_>, at: u64, stop: u64) -> Vec<Line> {
    let first = before(window, at);
    let more = grow(at, stop, |at, last: Option<&Line>| {
        if last.is_some_and(|last| !last.ended) {
            return None;
        }
        let bytes = window.get(at, MAX_LINE).ok()?;
        let length = bytes.iter().take_while(|&&byte| byte != b'\n' && is_text(byte)).count();
        let line = Line {
            at,
            bytes: u16::try_from(length).ok()?,
            level: has_level(bytes),
            ended: bytes.get(length) == Some(&b'\n'),
        };
        // Text without a level is not the kernel's, unless it is what a ring left of a line.
        let bare = !line.level && last.is_some_and(|last| !last.level);
        (!bare && (line.ended || length >= 4)).then_some(line)
    });
    let levels = more.iter().filter(|line| line.level).count();
    if levels < 6 || levels.saturating_mul(2) < more.len() {
        return Vec::new();
    }
    first.into_iter().chain(more).collect()
}

/// The line that ends before `at`, as far as it is there.
fn before(window: &mut Window<'_>, at: u64) -> Option<Line> {
    let end = at.checked_sub(1)?;
    let from = end.saturating_sub(MAX_LINE as u64);
    let bytes = window.exact(from, usize::try_from(end.saturating_sub(from)).ok()?).ok()?;
    let length = bytes.iter().rev().take_while(|&&byte| byte != b'\n' && is_text(byte)).count();
    let text = bytes.get(bytes.len().saturating_sub(length)..)?;
    (length > 0).then(|| Line {
        at: end.saturating_sub(length as u64),
        bytes: length as u16,
        level: has_level(text),
        ended: true,
    })
}

/// `<6>`, or `<30>` with a facility.
fn has_level(line: &[u8]) -> bool {
    let digits = line.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    line.first() == Some(&b'<')
        && (1..=3).contains(&digits)
        && line.get(digits.saturating_add(1)) == Some(&b'>')
}
