//! Plain text in `log_buf`: kernels before 3.5.

use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel, Lacks};

use super::text::log_text;
use super::{address, variable_u32};

/// Larger than any `log_buf_len=` of those kernels.
const MAX_BUFFER: u32 = 64 << 20;

/// The log of a kernel that keeps it as text.
pub fn read(kernel: &Kernel) -> Field<Vec<LogRecord>> {
    let memory = kernel.memory();
    let length = variable_u32(kernel, "log_buf_len")?;
    if length == 0 || length > MAX_BUFFER {
        return Err(Lacks::implausible(format_args!("log_buf_len is {length}")));
    }
    let mut buffer = vec![0; length as usize];
    let (count, _) = memory.read(memory.pointer(address(kernel, "log_buf")?)?, &mut buffer);
    let end = variable_u32(kernel, "log_end")?;
    let holed = buffer.len() - count;
    Ok(unwrap(&buffer, end).map(|text| parse(&text, holed > 0)).unwrap_or_default())
}

/// The text of a ring in order. `end` counts all characters that were ever logged, modulo 2^32.
fn unwrap(ring: &[u8], end: u32) -> Option<Vec<u8>> {
    let at = (end as usize).checked_rem(ring.len())?;
    // Before the first wrap, what follows the end was never written: it is zero.
    let (newer, older) = ring.split_at_checked(at)?;
    Some([older, newer].concat().into_iter().filter(|&byte| byte != 0).collect())
}

/// Splits text into records, one for each line.
fn parse(text: &[u8], truncated: bool) -> Vec<LogRecord> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| LogRecord { truncated, ..parse_line(line) }).collect()
}

/// `<6>[    1.234567] text`, where level and time may be absent.
pub(super) fn parse_line(line: &[u8]) -> LogRecord {
    let (level, rest) = bracketed(line, b'<', b'>').and_then(number).unwrap_or((None, line));
    let (time_ns, rest) = bracketed(rest, b'[', b']').and_then(seconds).unwrap_or((None, rest));
    LogRecord {
        time_ns,
        level: level.map(|priority| (priority & 7) as u8),
        facility: level.map(|priority| (priority >> 3) as u8),
        text: log_text(if time_ns.is_some() { rest.strip_prefix(b" ").unwrap_or(rest) } else { rest }),
        ..LogRecord::default()
    }
}

/// What stands between two brackets at the start of a line, and the rest.
fn bracketed(line: &[u8], open: u8, close: u8) -> Option<(&str, &[u8])> {
    let inner = line.strip_prefix(&[open])?;
    let end = inner.iter().take(32).position(|&byte| byte == close)?;
    Some((std::str::from_utf8(inner.get(..end)?).ok()?, inner.get(end.saturating_add(1)..)?))
}

fn number<'a>((text, rest): (&str, &'a [u8])) -> Option<(Option<u32>, &'a [u8])> {
    Some((Some(text.parse().ok()?), rest))
}

fn seconds<'a>((text, rest): (&str, &'a [u8])) -> Option<(Option<u64>, &'a [u8])> {
    let (seconds, micros) = text.trim_start().split_once('.')?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1000)?)?;
    Some((Some(nanos), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_ring_reads_in_order() {
        let stream = b"<4>lost\n<4>later\n<6>[    1.500000] new\n";
        let mut ring = [0; 34];
        for (at, byte) in stream.iter().enumerate() {
            ring[at % 34] = *byte;
        }
        let records = parse(&unwrap(&ring, stream.len() as u32).unwrap(), false);
        let texts: Vec<_> = records.iter().map(|record| record.text.as_str()).collect();
        assert_eq!(texts, ["st", "later", "new"]);
        assert_eq!((records[2].time_ns, records[2].level), (Some(1_500_000_000), Some(6)));
        assert!(unwrap(&[], 5).is_none());
    }

    #[test]
    fn lines_without_level_or_time_are_kept() {
        let line = parse_line(b"Linux version 2.6");
        assert_eq!((line.text.as_str(), line.level, line.time_ns), ("Linux version 2.6", None, None));
        let line = parse_line(b"<14>[nonsense] x");
        assert_eq!((line.text.as_str(), line.level, line.facility), ("[nonsense] x", Some(6), Some(1)));
    }
}
