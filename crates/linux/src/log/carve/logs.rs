//! From things found in bytes to logs: what belongs together, in which order, and what is doubtful about it.

use std::collections::BTreeMap;

use kdive_base::{ReadAt, bytes::until_nul, printable};
use kdive_evidence::{Doubt, LogRecord};
use serde::Serialize;

use super::items::{
    Block, DEVICE_BYTES, Desc, Header, ID_MASK, INFO_LAYOUTS, Info, Item, Line, SUBSYSTEM_BYTES,
};
use crate::log::plain::parse_line;
use crate::log::text::{caller, dictionary, log_text};

/// Logs of one form that are told apart.
const MAX_LOGS: usize = 32;
/// Runs of one kind that are looked at, the longest first.
const MAX_RUNS: usize = 1024;
/// Pieces of one log lie no further apart: the largest buffers are of this size.
const MAX_SPREAD: u64 = 256 << 20;
/// Times of neighbours may be out of order by this much.
const JITTER_NS: u64 = 1_000_000_000;
/// Blocks that are compared to tell how ids and sequence numbers belong together.
const SAMPLE: usize = 256;
/// Text alone, without headers, is a log from so many blocks on.
const MIN_TEXTS: usize = 8;
/// Blocks of a log that is text alone are on average as long.
const MIN_TEXT_BYTES: usize = 32;
const COMMITTED: u8 = 1;
const FINALIZED: u8 = 2;
const REUSABLE: u8 = 3;

/// How a kernel keeps its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The ring buffer of Linux 5.10 and later.
    Ring,
    /// The records of Linux 3.5 to 5.9.
    Records,
    /// The plain text of older kernels.
    Plain,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring buffer (Linux 5.10 and later)",
            Self::Records => "records (Linux 3.5 to 5.9)",
            Self::Plain => "plain text (before Linux 3.5)",
        })
    }
}

/// A log that was found.
#[derive(Debug)]
pub struct Log {
    /// How it is kept.
    pub form: Form,
    /// Offset of its text, in the bytes that were looked through.
    pub at: u64,
    /// Records that are there with their text.
    pub records: usize,
    /// Records of which only the header is there.
    pub without_text: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Ring(Ring),
    Records(Vec<Header>),
    /// The lines in order; `true` where the order is a guess.
    Plain(Vec<Line>, bool),
}

impl Log {
    /// The records, oldest first, out of the bytes in which the log was found.
    pub fn records<'a>(&'a self, bytes: &'a dyn ReadAt) -> Box<dyn Iterator<Item = LogRecord> + 'a> {
        match &self.body {
            Body::Ring(ring) => Box::new(ring.entries.iter().filter_map(|(key, entry)| {
                let sequence = (!ring.texts_only).then_some(*key);
                entry.record(bytes, sequence)
            })),
            Body::Records(headers) => {
                let size = header_size(headers);
                Box::new(headers.iter().map(move |header| record(bytes, header, size)))
            }
            Body::Plain(lines, guessed) => Box::new(lines.iter().map(|line| plain(bytes, line, *guessed))),
        }
    }
}

/// Makes logs of all that was found.
pub(super) fn assemble(
    bytes: &dyn ReadAt,
    infos: Vec<Vec<Info>>,
    descs: Vec<Vec<Desc>>,
    blocks: Vec<Vec<Block>>,
    headers: Vec<Vec<Header>>,
    lines: Vec<Vec<Line>>,
) -> Vec<Log> {
    let mut logs: Vec<Log> = rings(infos, descs, blocks).into_iter().filter_map(Ring::log).collect();
    logs.extend(of_records(headers));
    // A kernel that keeps records has its text lying around as well: in a console's buffer, in a page of a file.
    if logs.iter().all(|log| log.records == 0) {
        logs.extend(longest(lines).into_iter().take(MAX_LOGS).map(|lines| in_order(bytes, lines)));
    }
    logs.sort_by_key(|log| std::cmp::Reverse((log.records, log.without_text)));
    // Few records beside a real log are what look-alikes or a stray page come to.
    let most = logs.first().map_or(0, |log| log.records);
    logs.retain(|log| log.records >= 4 && log.records >= most / 64 || most == 0);
    logs.truncate(MAX_LOGS);
    logs
}

fn longest<T>(mut runs: Vec<Vec<T>>) -> Vec<Vec<T>> {
    runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
    runs.truncate(MAX_RUNS);
    runs
}

/// A ring buffer: what is known of each record, by sequence number, or by id where no header was found.
#[derive(Debug, Default)]
struct Ring {
    entries: BTreeMap<u64, Entry>,
    /// What ids are more than sequence numbers. A log that was moved to a larger buffer has two.
    bases: Vec<u64>,
    texts_only: bool,
    place: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    info: Option<Info>,
    block: Option<Block>,
    state: Option<u8>,
}

fn rings(infos: Vec<Vec<Info>>, descs: Vec<Vec<Desc>>, blocks: Vec<Vec<Block>>) -> Vec<Ring> {
    let mut rings: Vec<Ring> = Vec::new();
    for run in longest(infos) {
        let count = rings.len();
        match rings.iter_mut().find(|ring| ring.takes_infos(&run)) {
            Some(ring) => ring.add_infos(&run),
            None if count < MAX_LOGS => {
                let mut ring = Ring { place: run.first().map_or(0, Item::at), ..Ring::default() };
                ring.add_infos(&run);
                rings.push(ring);
            }
            None => {}
        }
    }
    let mut texts: Vec<Ring> = Vec::new();
    for run in longest(blocks) {
        let scores = rings.iter_mut().map(|ring| (ring.best_base(&run), ring));
        let best = scores.filter_map(|(best, ring)| Some((best?, ring))).max_by_key(|((score, _), _)| *score);
        if let Some(((_, base), ring)) = best {
            ring.add_blocks(&run, base);
            continue;
        }
        let count = texts.len();
        match texts.iter_mut().find(|ring| ring.takes_blocks(&run)) {
            Some(ring) => ring.add_blocks(&run, 0),
            None if count < MAX_LOGS => {
                let place = run.first().map_or(0, Item::at);
                let mut ring = Ring { texts_only: true, place, ..Ring::default() };
                ring.add_blocks(&run, 0);
                texts.push(ring);
            }
            None => {}
        }
    }
    // Much else is numbered text. Beside a log with headers it is never a log.
    if rings.iter().all(|ring| ring.entries.values().all(|entry| entry.block.is_none())) {
        rings.extend(texts.into_iter().filter(Ring::is_like_a_log));
    }
    for run in longest(descs) {
        let scores = rings.iter_mut().map(|ring| (ring.score_descs(&run), ring));
        if let Some(((_, base), ring)) =
            scores.max_by_key(|((score, _), _)| *score).filter(|((score, _), _)| *score > 1)
        {
            ring.add_states(&run, base);
        }
    }
    rings
}

impl Ring {
    /// Whether infos are of this log: the same where they overlap, in its times where they do not.
    fn takes_infos(&self, run: &[Info]) -> bool {
        let (Some(first), Some(last)) =
            (run.iter().min_by_key(|info| info.sequence), run.iter().max_by_key(|info| info.sequence))
        else {
            return false;
        };
        let same = |info: &Info| match self.entries.get(&info.sequence).and_then(|entry| entry.info) {
            Some(known) => known.time == info.time,
            None => true,
        };
        let before = self.entries.range(..first.sequence).next_back().and_then(|(_, entry)| entry.info);
        let after = self.entries.range(last.sequence..).nth(1).and_then(|(_, entry)| entry.info);
        self.place.abs_diff(first.at()) <= MAX_SPREAD
            && run.iter().all(same)
            && before.is_none_or(|before| before.time <= first.time.saturating_add(JITTER_NS))
            && after.is_none_or(|after| last.time <= after.time.saturating_add(JITTER_NS))
    }

    fn add_infos(&mut self, run: &[Info]) {
        for info in run {
            self.entries.entry(info.sequence).or_default().info.get_or_insert(*info);
        }
    }

    /// How ids would have to belong to sequence numbers for most of the blocks to be as long as the infos say.
    fn best_base(&self, run: &[Block]) -> Option<(usize, u64)> {
        if self.texts_only {
            return None;
        }
        let scored = possible_bases().map(|base| {
            let (mut fit, mut met) = (0_usize, 0_usize);
            for block in run.iter().take(SAMPLE).filter(|block| !block.open) {
                let sequence = block.id.wrapping_sub(base) & ID_MASK;
                if let Some(info) = self.entries.get(&sequence).and_then(|entry| entry.info) {
                    met = met.saturating_add(1);
                    fit = fit.saturating_add(usize::from(fits(block, info.text_len)));
                }
            }
            (fit, met, base)
        });
        let (fit, met, base) = scored
            .max_by_key(|(fit, met, base)| (*fit, std::cmp::Reverse(*met), self.bases.contains(base)))?;
        (fit >= 2 && fit.saturating_mul(2) > met).then_some((fit, base))
    }

    fn takes_blocks(&self, run: &[Block]) -> bool {
        let near = run.first().is_some_and(|first| self.place.abs_diff(first.at()) <= MAX_SPREAD);
        near && run.iter().all(|block| !self.entries.contains_key(&block.id))
    }

    fn add_blocks(&mut self, run: &[Block], base: u64) {
        if !self.bases.contains(&base) {
            self.bases.push(base);
        }
        for block in run {
            let entry = self.entries.entry(block.id.wrapping_sub(base) & ID_MASK).or_default();
            let exact = |block: &Block| entry.info.is_some_and(|info| fits(block, info.text_len));
            if entry.block.is_none_or(|known| !exact(&known) && exact(block)) {
                entry.block = Some(*block);
            }
        }
    }

    /// Whether text without headers is what a kernel logs: lines, with ids as rings begin with, or very many.
    fn is_like_a_log(&self) -> bool {
        const USUAL_ID: u64 = 1 << 31;
        let blocks = || self.entries.values().filter_map(|entry| entry.block);
        let count = blocks().count();
        let bytes = blocks().fold(0_usize, |sum, block| sum.saturating_add(block.bytes as usize));
        let usual = blocks().all(|block| block.id >= USUAL_ID);
        bytes >= count.saturating_mul(MIN_TEXT_BYTES)
            && count >= if usual { MIN_TEXTS } else { MIN_TEXTS.saturating_mul(8) }
    }

    fn score_descs(&self, run: &[Desc]) -> (usize, u64) {
        let score = |base: u64| {
            let same = run.iter().take(SAMPLE.saturating_mul(16)).filter(|desc| {
                let entry = self.entries.get(&(desc.id.wrapping_sub(base) & ID_MASK));
                entry.and_then(|entry| entry.block).is_some_and(|block| u64::from(block.bytes) == desc.bytes)
            });
            (same.count(), base)
        };
        self.bases.iter().map(|base| score(*base)).max().unwrap_or_default()
    }

    fn add_states(&mut self, run: &[Desc], base: u64) {
        for desc in run {
            if let Some(entry) = self.entries.get_mut(&(desc.id.wrapping_sub(base) & ID_MASK)) {
                entry.state = Some(desc.state);
            }
        }
    }

    fn log(self) -> Option<Log> {
        let records = self.entries.values().filter(|entry| entry.has_text()).count();
        let without_text = self.entries.len().saturating_sub(records);
        let text = self.entries.values().find_map(|entry| entry.block.map(|block| block.at()));
        (!self.entries.is_empty()).then(|| Log {
            form: Form::Ring,
            at: text.unwrap_or(self.place),
            records,
            without_text,
            body: Body::Ring(self),
        })
    }
}

/// What ids may be more than sequence numbers: the ring's first id, which `DESC0_ID` puts one entry below the first record,
/// lies `2^count_bits` below 2^32, or below 2^62 in later kernels.
fn possible_bases() -> impl Iterator<Item = u64> {
    [1_u64 << 32, 1 << 62].into_iter().flat_map(|top| (5..=26).map(move |bits| top.wrapping_sub(1 << bits)))
}

/// Whether a block is as long as a text of this length makes it. Room is reserved for the level before the text, the line
/// feed and the NUL behind it, none of which is stored (vprintk_store).
fn fits(block: &Block, text_len: u16) -> bool {
    const UNSTORED: u32 = 4;
    let (least, most) = (u32::from(text_len).max(1), u32::from(text_len).saturating_add(UNSTORED));
    let bytes = block.bytes.saturating_sub(8);
    let whole = (least.next_multiple_of(8)..=most.next_multiple_of(8)).contains(&bytes);
    whole || block.open && bytes.saturating_add(8) >= least
}

impl Entry {
    fn has_text(&self) -> bool {
        self.block.is_some() || self.info.is_some_and(|info| info.text_len == 0)
    }

    /// `None` for what is neither a record any more nor has left its text.
    fn record(&self, bytes: &dyn ReadAt, sequence: Option<u64>) -> Option<LogRecord> {
        let mut doubts = Vec::new();
        match self.state {
            Some(REUSABLE) if self.block.is_none() => return None,
            Some(REUSABLE) => doubts.push(Doubt::Freed),
            Some(COMMITTED | FINALIZED) | None => {}
            Some(_) => doubts.push(Doubt::Unfinished),
        }
        let wanted = self.info.map(|info| usize::from(info.text_len));
        let held = self.block.map_or(0, |block| block.bytes.saturating_sub(8)) as usize;
        let mut text = vec![0; wanted.unwrap_or(held).min(held)];
        if let Some(block) = self.block {
            let count = bytes.read_full_at(block.at().saturating_add(8), &mut text).unwrap_or(0);
            text.truncate(count);
        }
        let mut truncated = false;
        match (self.info, self.block) {
            (None, Some(_)) => {
                doubts.push(Doubt::HeaderLost);
                text.truncate(without_padding(&text));
                doubts.push(Doubt::EndGuessed);
            }
            (Some(info), None) if info.text_len > 0 => {
                truncated = true;
                doubts.push(Doubt::TextLost);
            }
            _ if wanted.is_some_and(|wanted| text.len() < wanted) => {
                truncated = true;
                doubts.push(Doubt::Torn);
            }
            _ => {}
        }
        let info = self.info;
        Some(LogRecord {
            time_ns: info.map(|info| info.time),
            level: info.map(|info| info.level),
            facility: info.map(|info| info.facility),
            sequence,
            caller: info.map(|info| caller(info.caller)),
            text: log_text(&text),
            dictionary: info.map(|info| device(bytes, &info)).unwrap_or_default(),
            truncated,
            doubts,
        })
    }
}

/// How much of a block's bytes is text. What pads a block is zero, or what was there before.
fn without_padding(block: &[u8]) -> usize {
    let text = until_nul(block);
    let padding = text.iter().rev().take(7).take_while(|byte| !(0x20..0x7f).contains(*byte)).count();
    text.len().saturating_sub(padding)
}

/// The device that a record is about.
fn device(bytes: &dyn ReadAt, info: &Info) -> Vec<(String, String)> {
    let Some(layout) = INFO_LAYOUTS.get(usize::from(info.layout)) else { return Vec::new() };
    let mut raw = [0; SUBSYSTEM_BYTES + DEVICE_BYTES];
    if bytes.read_full_at(info.at().saturating_add(layout.device as u64), &mut raw).is_err() {
        return Vec::new();
    }
    let (subsystem, device) = raw.split_at_checked(SUBSYSTEM_BYTES).unwrap_or_default();
    let pairs = [("SUBSYSTEM", subsystem), ("DEVICE", device)].map(|(key, value)| (key, until_nul(value)));
    let told = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(key, value)| (key.to_owned(), printable(value))).collect()
}

/// Logs of records: runs that lie near each other and whose times do not overlap are one buffer that started over.
fn of_records(runs: Vec<Vec<Header>>) -> Vec<Log> {
    let mut logs: Vec<Vec<Vec<Header>>> = Vec::new();
    for run in longest(runs) {
        let near = |log: &&mut Vec<Vec<Header>>| {
            log.iter().all(|other| apart(other, &run))
                && log.first().is_some_and(|other| spread(other, &run) <= MAX_SPREAD)
        };
        let count = logs.len();
        match logs.iter_mut().find(near) {
            Some(log) => log.push(run),
            None if count < MAX_LOGS => logs.push(vec![run]),
            None => {}
        }
    }
    let log = |mut runs: Vec<Vec<Header>>| {
        runs.sort_by_key(|run| run.first().map_or(0, |header| header.time));
        let headers: Vec<Header> = runs.into_iter().flatten().collect();
        let at = headers.first().map_or(0, Item::at);
        Log { form: Form::Records, at, records: headers.len(), without_text: 0, body: Body::Records(headers) }
    };
    logs.into_iter().map(log).collect()
}

/// Whether one run is wholly older than the other.
fn apart(one: &[Header], other: &[Header]) -> bool {
    let times = |run: &[Header]| Some((run.first()?.time, run.last()?.time));
    let (Some((a, b)), Some((c, d))) = (times(one), times(other)) else { return false };
    b <= c.saturating_add(JITTER_NS) || d <= a.saturating_add(JITTER_NS)
}

fn spread(one: &[Header], other: &[Header]) -> u64 {
    let at = |run: &[Header]| run.first().map_or(0, Item::at);
    at(one).abs_diff(at(other))
}

/// Size of a record's header. Records are padded to 4 bytes, or to 8 where the header is 16 or 24: what all of them have
/// to spare is the caller (5.1).
fn header_size(headers: &[Header]) -> u64 {
    match headers.iter().map(Header::slack).min() {
        Some(4..8) => 20,
        Some(8..) => 24,
        _ => 16,
    }
}

fn record(bytes: &dyn ReadAt, header: &Header, size: u64) -> LogRecord {
    let wanted = usize::from(header.text_len).saturating_add(header.dict_len.into());
    let mut body = vec![0; wanted];
    let count = bytes.read_full_at(header.at().saturating_add(size), &mut body).unwrap_or(0);
    body.truncate(count);
    let (text, pairs) = body.split_at_checked(header.text_len.into()).unwrap_or((&body, &[]));
    let mut raw = [0; 4];
    let id = (size > 16)
        .then(|| {
            bytes.read_full_at(header.at().saturating_add(16), &mut raw).ok().filter(|&count| count == 4)
        })
        .flatten();
    let truncated = count < wanted;
    LogRecord {
        time_ns: Some(header.time),
        level: Some(header.level),
        facility: Some(header.facility),
        sequence: None,
        caller: id.map(|_| caller(u32::from_le_bytes(raw))),
        text: log_text(text),
        dictionary: dictionary(pairs),
        truncated,
        doubts: truncated.then_some(Doubt::Torn).into_iter().collect(),
    }
}

/// A plain log in order. A buffer that was full starts over somewhere: where the time falls back, or where the rest of
/// a line without its level stands.
fn in_order(bytes: &dyn ReadAt, mut lines: Vec<Line>) -> Log {
    let at = lines.first().map_or(0, Item::at);
    let times: Vec<Option<u64>> = lines.iter().map(|line| plain(bytes, line, false).time_ns).collect();
    let mut last = None;
    let mut wrap = None;
    for (index, time) in times.iter().enumerate() {
        if let (Some(earlier), Some(time)) = (last, time)
            && time.saturating_add(JITTER_NS) < earlier
        {
            wrap = Some(index);
            break;
        }
        last = time.or(last);
    }
    let timed = last.is_some();
    let bare = || {
        let mut bare =
            lines.iter().enumerate().skip(1).filter(|(_, line)| !line.level).map(|(index, _)| index);
        bare.next().filter(|_| bare.next().is_none())
    };
    let starts =
        lines.first().is_some_and(|line| plain(bytes, line, false).text.starts_with("Linux version"));
    let guessed = !timed && !starts;
    let wrap = wrap.or_else(|| bare().filter(|_| guessed));
    // The rest of a torn line is older than the line behind it.
    let torn =
        wrap.and_then(|at| at.checked_sub(1)).filter(|&at| lines.get(at).is_some_and(|line| !line.level));
    if let Some(wrap) = torn.or(wrap) {
        let by = wrap.min(lines.len());
        lines.rotate_left(by);
    }
    Log { form: Form::Plain, at, records: lines.len(), without_text: 0, body: Body::Plain(lines, guessed) }
}

fn plain(bytes: &dyn ReadAt, line: &Line, guessed: bool) -> LogRecord {
    let mut text = vec![0; line.bytes.into()];
    let count = bytes.read_full_at(line.at(), &mut text).unwrap_or(0);
    text.truncate(count);
    let torn = !line.ended || !line.level;
    let mut doubts: Vec<Doubt> = torn.then_some(Doubt::Torn).into_iter().collect();
    doubts.extend(guessed.then_some(Doubt::OrderGuessed));
    LogRecord { truncated: torn, doubts, ..parse_line(&text) }
}
