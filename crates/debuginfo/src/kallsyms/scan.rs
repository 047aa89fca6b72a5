//! Finding the tables in a kernel image without being told where they are.
//!
//! The digits are tokens of themselves, so the token table holds `0\01\02\0...9\0`. From there the token index follows
//! (it repeats the tokens' offsets), and backwards come the markers (ascending from 0) and the names, whose count stands
//! before them. The table of addresses is before the count (up to 6.3) or behind the token index (6.4 and later).

use std::ops::Range;

use kdive_base::{Endian, PAGE_SIZE, VirtAddr, VirtualMemory, Why};

use super::names::{Lengths, MARKER_STEP, Names, TOKENS};
use super::{Expect, Kallsyms, KallsymsAt, KallsymsError, addresses, join};

const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";
/// Bytes that one sample takes, and from one to the next: a table of addresses has 120 KiB or more.
const SAMPLE: usize = 256;
const STRIDE: u64 = 64 << 10;
/// The token table lies this far before or behind any place in the table of addresses, at most.
const AROUND_BEFORE: u64 = 2 << 20;
const AROUND_BEHIND: u64 = 8 << 20;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// The token table is below 64 KiB (its index has 16 bits) and the pattern in it.
const TOKEN_TABLE: usize = 1 << 16;
/// Names and markers before the token table: 2 to 5 MB in practice.
const BEFORE: u64 = 16 << 20;
/// Bytes of `kallsyms_seqs_of_names` at most: two million symbols.
const MOST_SEQS: usize = 6 << 20;
/// What 256 names take: each a length and a token at least, and `KSYM_NAME_LEN` and a long length at most.
const MARKER_GAP: Range<u64> = 512..256 * 515;

/// Finds the tables in `image` (which may have holes) and reads them. A copy that does not decode, or that puts the
/// expected symbol elsewhere, is passed over.
///
/// # Errors
/// [`KallsymsError::NotFound`] when there are none.
pub fn scan(
    memory: &dyn VirtualMemory,
    image: &Range<VirtAddr>,
    expect: &Expect<'_>,
) -> Result<Kallsyms, KallsymsError> {
    let expect = Expect { image: expect.image.clone().or_else(|| Some(image.clone())), ..expect.clone() };
    let mut searched = Searched { bytes: 0, end: image.start };
    // Most pages of a compressed dump need not be read: the table of addresses is long and easy to recognise.
    for sample in samples(memory, image) {
        let start = VirtAddr(sample.0.saturating_sub(AROUND_BEFORE)).max(searched.end);
        let end = VirtAddr(sample.0.saturating_add(AROUND_BEHIND)).min(image.end);
        if let Some(found) = search(memory, &(start..end), image, &expect, &mut searched) {
            return Ok(found);
        }
    }
    let found = search(memory, image, image, &expect, &mut searched);
    found.ok_or(KallsymsError::NotFound(searched.bytes))
}

/// What a search has been over.
struct Searched {
    bytes: u64,
    end: VirtAddr,
}

/// Looks at a little of the image every here and there: where numbers ascend or descend in small steps there may be the
/// table of addresses.
fn samples(memory: &dyn VirtualMemory, image: &Range<VirtAddr>) -> impl Iterator<Item = VirtAddr> {
    let (mut at, end, endian) = (image.start, image.end, memory.endian());
    std::iter::from_fn(move || {
        while at < end {
            let here = at;
            let mut sample = [0; SAMPLE];
            let (got, why) = memory.read(here, &mut sample);
            let hole = skip_hole(here, got, why.map(|missing| missing.why));
            let step = if got == SAMPLE { STRIDE } else { hole.next_multiple_of(STRIDE) };
            at = VirtAddr(here.0.checked_add(step)?);
            if got == SAMPLE && (is_ramp(&sample, 4, endian) || is_ramp(&sample, 8, endian)) {
                return Some(here);
            }
        }
        None
    })
}

/// Whether numbers of this width go one way in steps as small as functions are.
fn is_ramp(sample: &[u8], width: usize, endian: Endian) -> bool {
    const LONGEST: u64 = 1 << 16;
    let numbers = sample.chunks_exact(width).filter_map(|raw| match width {
        4 => endian.u32(raw, 0).map(|number| i64::from(number.cast_signed())),
        _ => endian.u64(raw, 0).map(u64::cast_signed),
    });
    let steps: Vec<i64> = numbers.clone().zip(numbers.skip(1)).map(|(a, b)| b.wrapping_sub(a)).collect();
    let moving = steps.iter().filter(|&&step| step != 0).count();
    let small = steps.iter().all(|step| step.unsigned_abs() < LONGEST);
    let one_way = steps.iter().all(|&step| step >= 0) || steps.iter().all(|&step| step <= 0);
    small && one_way && moving > steps.len().div_euclid(2)
}

/// Looks for tables at every byte of a range.
fn search(
    memory: &dyn VirtualMemory,
    range: &Range<VirtAddr>,
    image: &Range<VirtAddr>,
    expect: &Expect<'_>,
    searched: &mut Searched,
) -> Option<Kallsyms> {
    let mut at = range.start;
    let mut buffer = vec![0; CHUNK.saturating_add(DIGITS.len())];
    while at < range.end {
        let room = usize::try_from(range.end.since(at)).unwrap_or(usize::MAX).min(buffer.len());
        let (got, why) = memory.read(at, buffer.get_mut(..room)?);
        searched.bytes = searched.bytes.saturating_add(got as u64);
        for offset in find_digits(buffer.get(..got).unwrap_or_default()) {
            if let Some(found) = try_at(memory, at.add(offset as u64), image, expect) {
                return Some(found);
            }
        }
        let step =
            if got == room { CHUNK as u64 } else { skip_hole(at, got, why.map(|missing| missing.why)) };
        at = VirtAddr(at.0.checked_add(step)?);
        searched.end = searched.end.max(at);
    }
    None
}

/// Bytes from `at` to where memory may go on after a read that stopped `got` bytes on.
fn skip_hole(at: VirtAddr, got: usize, why: Option<Why>) -> u64 {
    let stop = at.add(got as u64);
    let hole: u64 = match why {
        // A whole table is missing: x86-64's second level maps 2 MiB, its third 1 GiB.
        Some(Why::NotMapped { level: 2 }) => 1 << 21,
        Some(Why::NotMapped { level: 3.. }) => 1 << 30,
        _ => PAGE_SIZE,
    };
    let next = (stop.0 & !hole.wrapping_sub(1)).saturating_add(hole);
    next.saturating_sub(at.0).max(PAGE_SIZE)
}

/// Where the pattern of digits is in `bytes`. Looks at four bytes in every sixteen: the pattern is twenty long.
fn find_digits(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).step_by(16).filter_map(|at| {
        let (digit, ahead) = match *bytes.get(at..at.checked_add(4)?)? {
            [digit @ b'0'..=b'8', 0, next, 0] if next == digit.wrapping_add(1) => (digit, 0),
            [0, digit @ b'1'..=b'9', 0, _] => (digit, 1),
            _ => return None,
        };
        let before = usize::from(digit.wrapping_sub(b'0')).checked_mul(2)?;
        let start = at.checked_add(ahead)?.checked_sub(before)?;
        (bytes.get(start..start.checked_add(DIGITS.len())?)? == DIGITS).then_some(start)
    })
}

/// Reads the tables around a pattern at `digits`.
fn try_at(
    memory: &dyn VirtualMemory,
    digits: VirtAddr,
    image: &Range<VirtAddr>,
    expect: &Expect<'_>,
) -> Option<Kallsyms> {
    let endian = memory.endian();
    let (token_table, token_index) = tokens_around(memory, digits, endian)?;
    let lowest = token_table.sub(BEFORE.min(token_table.since(image.start)));
    let before = read_before(memory, token_table, lowest, CHUNK as u64);
    let (names, count_at, count) = names_before(&before, endian)?;
    let start = token_table.sub(before.len() as u64);
    let base = KallsymsAt {
        num_syms: start.add(count_at as u64),
        names: start.add(names as u64),
        token_table,
        token_index,
        offsets: None,
        relative_base: None,
        addresses: None,
    };
    let decoded = Names::read(memory, &base).ok()?;
    let expanded = decoded.expand(expect.symbol.map(|(name, _)| name)).ok()?;
    let choices = address_tables(&base, count as u64).into_iter().filter_map(|at| {
        let choice = addresses::choose(memory, &at, expanded.spans.len(), expect, expanded.expected).ok()?;
        Some((at, choice))
    });
    let (at, choice) = choices.max_by_key(|(_, choice)| choice.plausibility)?;
    Some(join(&at, &decoded, expanded, &choice)).filter(|found| real(memory, found, image))
}

/// The start of the token table and of its index.
fn tokens_around(
    memory: &dyn VirtualMemory,
    digits: VirtAddr,
    endian: Endian,
) -> Option<(VirtAddr, VirtAddr)> {
    // What lies before may end at a hole; what lies behind holds the rest of the table and the index.
    let mut bytes = read_before(memory, digits, digits.sub(TOKEN_TABLE as u64), PAGE_SIZE);
    let mut start = bytes.len();
    let mut behind = vec![0; TOKEN_TABLE.saturating_mul(2)];
    let (got, _) = memory.read(digits, &mut behind);
    bytes.extend_from_slice(behind.get(..got)?);
    let (digits_at, first) = (start, digits.sub(start as u64));
    for _ in 0..b'0' {
        let end = start.checked_sub(1)?;
        if *bytes.get(end)? != 0 {
            return None;
        }
        start = bytes.get(..end)?.iter().rposition(|&byte| byte == 0).map_or(0, |at| at.saturating_add(1));
    }
    // On a big-endian machine the last marker, which ends in no zero, can touch the first token.
    let aligned = (start.checked_next_multiple_of(4)?..digits_at).step_by(4);
    [start].into_iter().chain(aligned).take(16).find_map(|start| {
        let index = index_of(bytes.get(start..)?, endian)?;
        let token_table = first.add(start as u64);
        Some((token_table, token_table.add(index as u64)))
    })
}

/// Where behind a token table its index is: the 16-bit offsets of all tokens.
fn index_of(table: &[u8], endian: Endian) -> Option<usize> {
    /// Alignment between the two takes less.
    const GAP: usize = 256;
    let (mut offsets, mut at) = (Vec::with_capacity(TOKENS), 0_usize);
    for _ in 0..TOKENS {
        offsets.push(at as u64);
        let length = table.get(at..)?.iter().position(|&byte| byte == 0)?;
        at = at.checked_add(length)?.checked_add(1)?;
    }
    (at.checked_next_multiple_of(2)?..at.checked_add(GAP)?).step_by(2).find(|&index| {
        offsets.iter().enumerate().all(|(token, &offset)| {
            let at = token.checked_mul(2).and_then(|at| at.checked_add(index));
            at.and_then(|at| endian.u16(table, at)).map(u64::from) == Some(offset)
        })
    })
}

/// The bytes from `lowest` to `end`, or those behind the last hole in between, read in steps of `step` bytes (a power
/// of two).
fn read_before(memory: &dyn VirtualMemory, end: VirtAddr, lowest: VirtAddr, step: u64) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut at = end;
    while at > lowest {
        let start = VirtAddr(at.0.saturating_sub(1) & !step.wrapping_sub(1)).max(lowest);
        let length = usize::try_from(at.since(start)).unwrap_or(0);
        let mut piece = vec![0; length];
        let (got, _) = memory.read(start, &mut piece);
        if got < length {
            break;
        }
        pieces.push(piece);
        at = start;
    }
    pieces.reverse();
    pieces.concat()
}

/// In the bytes before the token table: where names start, where their count is, and the count.
fn names_before(before: &[u8], endian: Endian) -> Option<(usize, usize, usize)> {
    // Between markers and tokens 6.1 (late) to 6.3 have `kallsyms_seqs_of_names`, three bytes for each symbol.
    let last = before.len();
    let ends = (last.saturating_sub(MOST_SEQS)..=last).rev().step_by(4).map(|end| (4, end));
    [(8, last)].into_iter().chain(ends).find_map(|(width, end)| {
        let marks = markers_before(before, end, width, endian)?;
        let found = |lengths| names_by_markers(before, &marks, lengths, endian);
        found(Lengths::OneOrTwo).or_else(|| found(Lengths::One))
    })
}

/// The markers: where they start, and their values from the first.
struct Marks {
    start: usize,
    values: Vec<u64>,
}

fn markers_before(before: &[u8], end: usize, width: usize, endian: Endian) -> Option<Marks> {
    let mut values = Vec::new();
    let mut start = end;
    let mut last = BEFORE;
    while last > 0 {
        start = start.checked_sub(width)?;
        let value = endian.unsigned(before, start, width)?;
        let step = last.checked_sub(value)?;
        if value >= last || (last != BEFORE && !MARKER_GAP.contains(&step)) {
            return None;
        }
        values.push(value);
        last = value;
    }
    values.reverse();
    (values.len() >= 2).then_some(Marks { start, values })
}

fn names_by_markers(
    before: &[u8],
    marks: &Marks,
    lengths: Lengths,
    endian: Endian,
) -> Option<(usize, usize, usize)> {
    let last = usize::try_from(*marks.values.last()?).ok()?;
    let second = usize::try_from(*marks.values.get(1)?).ok()?;
    let most = marks.values.len().checked_mul(MARKER_STEP)?;
    let least = most.checked_sub(MARKER_STEP)?;
    let latest = marks.start.checked_sub(last)? & !3;
    // The names behind the last marker take some bytes more: up to 256 of up to 512 and their lengths.
    let earliest = latest.saturating_sub(MARKER_STEP.saturating_mul(520)).max(8);
    (earliest..=latest).rev().step_by(4).find_map(|names| {
        // The count is 32 bits wide, with or without padding to 64.
        [8, 4].into_iter().find_map(|back| {
            let at = names.checked_sub(back)?;
            let count = endian.u32(before, at)? as usize;
            if count <= least || count > most {
                return None;
            }
            if lengths.skip(before, names, MARKER_STEP)? != names.checked_add(second)? {
                return None;
            }
            let end = lengths.skip(before, names, count)?;
            (end <= marks.start && marks.start.checked_sub(end)? < 8).then_some((names, at, count))
        })
    })
}

/// The places where the table of addresses can be.
fn address_tables(base: &KallsymsAt, count: u64) -> Vec<KallsymsAt> {
    let align =
        |at: VirtAddr, to: u64| VirtAddr(at.0.saturating_add(to.saturating_sub(1)) & !to.wrapping_sub(1));
    let size = count.saturating_mul(4);
    let index_end = base.token_index.add(TOKENS as u64).add(TOKENS as u64);
    let newer = align(index_end, 8);
    let older_base = base.num_syms.sub(8);
    vec![
        KallsymsAt { offsets: Some(align(index_end, 4)), ..*base },
        KallsymsAt { offsets: Some(newer), relative_base: Some(align(newer.add(size), 8)), ..*base },
        KallsymsAt {
            offsets: Some(older_base.sub(align(VirtAddr(size), 8).0)),
            relative_base: Some(older_base),
            ..*base
        },
        KallsymsAt { addresses: Some(base.num_syms.sub(count.saturating_mul(8))), ..*base },
    ]
}

/// Whether decoded symbols describe this memory: the kernel's banner is where they say, and its text in the image.
fn real(memory: &dyn VirtualMemory, found: &Kallsyms, image: &Range<VirtAddr>) -> bool {
    const BANNER: &[u8] = b"Linux version ";
    let inside = |name| found.symbols.by_name(name).any(|symbol| image.contains(&symbol.address));
    if !inside("_stext") && !inside("_text") {
        return false;
    }
    let mut banners = found.symbols.by_name("linux_banner").peekable();
    // Without CONFIG_KALLSYMS_ALL data has no symbols.
    banners.peek().is_none()
        || banners.any(|symbol| memory.bytes(symbol.address, BANNER.len()).is_ok_and(|text| text == BANNER))
}
