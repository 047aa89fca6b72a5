//! Names: counted strings of tokens.

use kdive_base::{Endian, VirtAddr, VirtualMemory};

use super::{KallsymsAt, KallsymsError};
use crate::symbols::{SymbolKind, SymbolTable, SymbolTableBuilder};

/// More symbols than this are not real (a large kernel has 250,000).
const MOST_SYMBOLS: u64 = 1 << 23;
/// More bytes of compressed names than this are not real (4 MB are).
const MOST_NAME_BYTES: u64 = 64 << 20;
/// `KSYM_NAME_LEN` is 512; anything longer is damage.
const LONGEST_NAME: usize = 1024;
/// Expanded names in all: 6 MB are normal.
const MOST_EXPANDED: usize = 256 << 20;
/// Every so many symbols `kallsyms_markers` notes where the name is.
pub(super) const MARKER_STEP: usize = 256;
/// Number of tokens.
pub(super) const TOKENS: usize = 256;

/// The names' tables as bytes.
pub(super) struct Names {
    /// How many symbols the kernel counts.
    pub(super) count: usize,
    /// Compressed names, and whatever follows them.
    bytes: Vec<u8>,
    tokens: Tokens,
    lengths: Lengths,
}

/// Expanded names.
pub(super) struct Expanded {
    text: Vec<u8>,
    /// Start and length of each in `text`.
    pub(super) spans: Vec<(u32, u16)>,
    /// The number of the symbol that was asked for.
    pub(super) expected: Option<usize>,
}

/// How the length before a name is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lengths {
    /// One byte, or two with seven bits each when the first has its high bit set (6.1 and later).
    OneOrTwo,
    /// One byte (before 6.1).
    One,
}

impl Lengths {
    /// The token string at `at` and where the next name starts.
    pub(super) fn name(self, bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
        let first = *bytes.get(at)?;
        let mut start = at.checked_add(1)?;
        let mut length = usize::from(first);
        if self == Self::OneOrTwo && first & 0x80 != 0 {
            length = usize::from(first & 0x7f) | usize::from(*bytes.get(start)?) << 7;
            start = start.checked_add(1)?;
        }
        let end = start.checked_add(length)?;
        Some((bytes.get(start..end)?, end))
    }

    /// Where the name `count` names further on starts.
    pub(super) fn skip(self, bytes: &[u8], at: usize, count: usize) -> Option<usize> {
        (0..count).try_fold(at, |at, _| self.name(bytes, at).map(|(_, next)| next))
    }
}

impl Names {
    pub(super) fn read(memory: &dyn VirtualMemory, at: &KallsymsAt) -> Result<Self, KallsymsError> {
        let missing = |table| move |missing| KallsymsError::Missing { table, missing };
        let count = memory.u32(at.num_syms).map_err(missing("kallsyms_num_syms"))?;
        let count = match u64::from(count) {
            count @ 1..MOST_SYMBOLS => count,
            count => return Err(KallsymsError::Count(count)),
        };
        let tokens = Tokens::read(memory, at)?;
        // Both orders of the tables have names, then markers, then tokens. Elsewhere a guess has to do.
        let room = match at.token_table.since(at.names) {
            room if room <= MOST_NAME_BYTES => room,
            _ => count.saturating_mul(64).min(MOST_NAME_BYTES),
        };
        let mut bytes = vec![0; usize::try_from(room).unwrap_or(0)];
        let (got, why) = memory.read(at.names, &mut bytes);
        bytes.truncate(got);
        if let (0, Some(missing)) = (got, why) {
            return Err(KallsymsError::Missing { table: "kallsyms_names", missing });
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let lengths = lengths(&bytes, count, memory.endian());
        Ok(Self { count, bytes, tokens, lengths })
    }

    /// Expands all names that are there.
    pub(super) fn expand(&self, expected: Option<&str>) -> Result<Expanded, KallsymsError> {
        let expected_name = expected.unwrap_or_default().as_bytes();
        // Every name takes two bytes at least: its length and a token.
        let most = self.count.min(self.bytes.len().div_euclid(2));
        let mut spans = Vec::with_capacity(most);
        let mut text = Text::new(self.bytes.len().saturating_mul(5).div_euclid(2));
        let (mut at, mut expected) = (0, None);
        while spans.len() < self.count {
            let Some((tokens, next)) = self.lengths.name(&self.bytes, at) else { break };
            let start = text.end;
            for &token in tokens {
                text.push(self.tokens.get(token));
                if text.end.saturating_sub(start) > LONGEST_NAME {
                    return Err(KallsymsError::Damaged("a name is too long"));
                }
            }
            if text.end > MOST_EXPANDED {
                return Err(KallsymsError::Damaged("names are too long"));
            }
            if expected.is_none()
                && text.since(start).get(1..) == Some(expected_name)
                && !expected_name.is_empty()
            {
                expected = Some(spans.len());
            }
            spans.push((start as u32, text.end.saturating_sub(start) as u16));
            at = next;
        }
        if spans.is_empty() {
            return Err(KallsymsError::Damaged("no name decodes"));
        }
        Ok(Expanded { text: text.finish(), spans, expected })
    }
}

/// Bytes of a token that are copied at once; longer ones are rare.
const PIECE: usize = 32;

/// Expanded names, each with its kind in front.
struct Text {
    bytes: Vec<u8>,
    end: usize,
}

impl Text {
    fn new(room: usize) -> Self {
        Self { bytes: vec![0; room.clamp(LONGEST_NAME, MOST_EXPANDED)], end: 0 }
    }

    /// Appends a token. The copy has a fixed length, which is what makes this fast: the rest is overwritten by the next.
    fn push(&mut self, (piece, token): (&[u8; PIECE], &[u8])) {
        let room = self.end.saturating_add(token.len().max(PIECE));
        if room > self.bytes.len() {
            self.bytes.resize(room.saturating_mul(2), 0);
        }
        if token.len() <= PIECE {
            if let Some(into) = self.bytes.get_mut(self.end..room) {
                into.copy_from_slice(piece);
            }
        } else if let Some(into) = self.bytes.get_mut(self.end..room) {
            into.copy_from_slice(token);
        }
        self.end = self.end.saturating_add(token.len());
    }

    fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.end).unwrap_or_default()
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }
}

impl Expanded {
    /// The symbols at these addresses; those without one are left out.
    pub(super) fn at(self, address: impl Fn(usize) -> Option<VirtAddr>) -> SymbolTable {
        let Self { text, spans, .. } = self;
        let placed = spans.iter().enumerate().filter_map(|(number, span)| Some((span, address(number)?)));
        let plain = text.iter().all(|byte| (0x21..0x7f).contains(byte));
        match String::from_utf8(text) {
            Ok(names) if plain => {
                let mut builder = SymbolTableBuilder::with_names(names, spans.len());
                for (&(start, length), address) in placed {
                    builder.push_span(start, length, address);
                }
                builder.finish_in_order()
            }
            text => {
                let text = text.map_or_else(|error| error.into_bytes(), String::into_bytes);
                let mut builder = SymbolTableBuilder::with_capacity(spans.len(), text.len());
                for (&(start, length), address) in placed {
                    let start = start as usize;
                    let name = text.get(start..start.saturating_add(usize::from(length)));
                    if let Some((&kind, name)) = name.and_then(<[u8]>::split_first) {
                        builder.push(name, address, 0, SymbolKind::new(kind));
                    }
                }
                builder.finish_in_order()
            }
        }
    }
}

/// Tells the two ways of writing lengths apart: `kallsyms_markers`, right behind the names, agrees with one.
fn lengths(bytes: &[u8], count: usize, endian: Endian) -> Lengths {
    for lengths in [Lengths::OneOrTwo, Lengths::One] {
        let (mut at, mut marks) = (0, Vec::new());
        let whole = (0..count).all(|number| {
            if number.is_multiple_of(MARKER_STEP) {
                marks.push(at as u64);
            }
            let next = lengths.name(bytes, at).map(|(_, next)| next);
            at = next.unwrap_or(at);
            next.is_some()
        });
        if whole && marks_follow(bytes, at, &marks, endian) {
            return lengths;
        }
    }
    // One byte has always been enough in practice where two cannot occur: names compress to half.
    Lengths::OneOrTwo
}

/// Whether the markers stand behind the names, as 32-bit or (before 4.20) as long numbers.
fn marks_follow(bytes: &[u8], end: usize, marks: &[u64], endian: Endian) -> bool {
    [(4, 4), (8, 4), (8, 8)].into_iter().any(|(alignment, width)| {
        let Some(start) = end.checked_next_multiple_of(alignment) else { return false };
        marks.iter().enumerate().all(|(number, &mark)| {
            let at = number.checked_mul(width).and_then(|offset| offset.checked_add(start));
            at.and_then(|at| endian.unsigned(bytes, at, width)) == Some(mark)
        })
    })
}

/// The token strings.
pub(super) struct Tokens {
    text: Vec<u8>,
    /// Start and end in `text` of each, and its first bytes.
    ranges: Vec<(usize, usize, [u8; PIECE])>,
}

impl Tokens {
    fn read(memory: &dyn VirtualMemory, at: &KallsymsAt) -> Result<Self, KallsymsError> {
        let missing = |table| move |missing| KallsymsError::Missing { table, missing };
        let index = memory
            .bytes(at.token_index, TOKENS.saturating_mul(2))
            .map_err(missing("kallsyms_token_index"))?;
        let starts: Vec<usize> = (0..TOKENS)
            .filter_map(|token| memory.endian().u16(&index, token.checked_mul(2)?).map(usize::from))
            .collect();
        // The last token's end is not in the index; tokens are short.
        let length = starts.last().copied().unwrap_or(0).saturating_add(LONGEST_NAME);
        let mut text = vec![0; length];
        let (got, why) = memory.read(at.token_table, &mut text);
        text.truncate(got);
        if let (0, Some(why)) = (got, why) {
            return Err(missing("kallsyms_token_table")(why));
        }
        if !starts.is_sorted() || starts.first() != Some(&0) {
            return Err(KallsymsError::Damaged("the token index does not ascend"));
        }
        let ranges = starts
            .iter()
            .map(|&start| {
                let rest = text.get(start..).unwrap_or_default();
                let length = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
                let mut piece = [0; PIECE];
                piece.iter_mut().zip(rest.iter().take(length)).for_each(|(to, from)| *to = *from);
                (start, start.saturating_add(length), piece)
            })
            .collect();
        Ok(Self { text, ranges })
    }

    /// A token, and its first bytes with zeros behind.
    fn get(&self, token: u8) -> (&[u8; PIECE], &[u8]) {
        const NONE: &[u8; PIECE] = &[0; PIECE];
        let Some((start, end, piece)) = self.ranges.get(usize::from(token)) else { return (NONE, &[]) };
        (piece, self.text.get(*start..*end).unwrap_or_default())
    }
}
