//! What carried a line: levels, time stamps, callers, hosts. Taken off piece by piece, until what the kernel said is left.

use super::Caller;
use crate::text::scan::{after, decimal, word};

/// A line without its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stripped<'t> {
    pub(super) rest: &'t str,
    pub(super) time_ns: Option<u64>,
    pub(super) caller: Option<Caller>,
}

/// Pieces that one line may begin with.
const MOST_PIECES: usize = 8;

/// Takes the prefix off.
pub(super) fn strip(text: &str) -> Stripped<'_> {
    let mut line = Stripped { rest: text.trim_start(), time_ns: None, caller: None };
    for _ in 0..MOST_PIECES {
        let Some(rest) = piece(&mut line) else { break };
        line.rest = rest.trim_start();
        // Behind a stamp of `printk` words are what the kernel said, but for the host that journald puts there.
        let words =
            line.time_ns.is_some() && line.rest.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if words && tagged(line.rest).is_none() {
            break;
        }
    }
    if line.time_ns.is_none()
        && let Some(at) = stamp_within(line.rest)
    {
        line.rest = line.rest.get(at..).unwrap_or_default();
        for _ in 0..MOST_PIECES {
            let Some(rest) = bracket(&mut line) else { break };
            line.rest = rest.trim_start();
        }
    }
    line
}

/// What follows the first piece of a prefix; `None` when the line begins with none.
fn piece<'t>(line: &mut Stripped<'t>) -> Option<&'t str> {
    let text = line.rest;
    let first = *text.as_bytes().first()?;
    match first {
        b'<' => level(text),
        b'[' => bracket(line),
        b'0'..=b'9' => kmsg(line).or_else(|| date(text)),
        b'>' | b'|' => quote(text),
        b'-' => pager(text),
        b'M' if text.starts_with("Message from syslogd@") => Some(""),
        b'A'..=b'Z' => syslog(text).or_else(|| tagged(text)).or_else(|| console(text)),
        b'a'..=b'z' => facility(text).or_else(|| tagged(text)).or_else(|| console(text)),
        _ => None,
    }
}

/// `<4>`, `<190>1 `, and `<d>` and `<c>` of continued lines.
fn level(text: &str) -> Option<&str> {
    let (inner, rest) = text.strip_prefix('<')?.split_once('>')?;
    if matches!(inner, "c" | "d") {
        return Some(rest);
    }
    if inner.len() > 3 || !inner.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // `<89> 50 04` is the middle of a line of code.
    let (next, _) = word(rest);
    if inner.len() == 2 && next.len() == 2 && next.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    // RFC 5424 has its version here, and a year behind it.
    match rest.strip_prefix("1 ") {
        Some(behind) if behind.starts_with(|letter: char| letter.is_ascii_digit()) => Some(behind),
        _ => Some(rest),
    }
}

/// `[  123.456789]`, `[T12]`, `[Tue Jan  2 03:04:05 2024]`.
fn bracket<'t>(line: &mut Stripped<'t>) -> Option<&'t str> {
    let (inner, rest) = line.rest.strip_prefix('[')?.split_once(']')?;
    let inner = inner.trim();
    if let Some(caller) = caller(inner) {
        line.caller = Some(caller);
        return Some(rest);
    }
    if let Some(time) = seconds(inner) {
        line.time_ns = line.time_ns.or(Some(time));
        return Some(rest);
    }
    is_clock(inner).then_some(rest)
}

/// `T12` or `C0`.
pub(super) fn caller(text: &str) -> Option<Caller> {
    let number = text.get(1..)?.trim().parse().ok()?;
    match text.as_bytes().first()? {
        b'T' => Some(Caller::Task(number)),
        b'C' => Some(Caller::Cpu(number)),
        _ => None,
    }
}

/// `123.456789`, also followed by `<    0.000012>`.
fn seconds(text: &str) -> Option<u64> {
    let text = text.split_once('<').map_or(text, |(before, _)| before.trim_end());
    let (whole, fraction) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 || whole.len() > 10 {
        return None;
    }
    let scale = 10_u64.checked_pow(9_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?)?;
    let nanoseconds = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A date, a time of day, or `+0.000012`.
fn is_clock(text: &str) -> bool {
    if let Some(relative) = text.strip_prefix('+') {
        return seconds(relative).is_some();
    }
    let word = |word: &str| {
        DAYS.contains(&word)
            || MONTHS.contains(&word)
            || matches!(
                word,
                "UTC" | "GMT" | "Z" | "T" | "CET" | "CEST" | "EST" | "EDT" | "PST" | "PDT" | "JST" | "KST"
            )
    };
    let letters = text.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|part| !part.is_empty());
    let known = text.len() <= 40 && letters.into_iter().all(word);
    let marks = text.chars().all(|letter| letter.is_ascii_alphanumeric() || " :-.,+/".contains(letter));
    known && marks && time_of_day(text).is_some()
}

/// Where `03:04` stands in a text.
fn time_of_day(text: &str) -> Option<usize> {
    let digit = |byte: &u8| byte.is_ascii_digit();
    text.as_bytes().windows(5).position(|window| match window {
        [a, b, b':', c, d] => [a, b, c, d].into_iter().all(digit),
        _ => false,
    })
}

/// `4,1234,123456789,-;` and `4,1234,123456789,-,caller=T12;` of `/dev/kmsg` and of extended netconsole.
fn kmsg<'t>(line: &mut Stripped<'t>) -> Option<&'t str> {
    let (head, rest) = line.rest.split_once(';')?;
    let mut fields = head.split(',');
    let (level, sequence, time) = (fields.next()?, fields.next()?, fields.next()?);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if head.len() > 120 || !number(level) || !number(sequence) || !number(time) {
        return None;
    }
    line.time_ns = time.parse::<u64>().ok()?.checked_mul(1000);
    line.caller = fields.find_map(|field| caller(field.strip_prefix("caller=")?)).or(line.caller);
    Some(rest)
}

/// `2024-01-02T03:04:05.678901+00:00 `, `2024-01-02 03:04:05 `, `03:04:05 `; the host and tag behind it are their own piece.
fn date(text: &str) -> Option<&str> {
    let (first, rest) = word(text);
    let day = first.get(..10).filter(|day| {
        let parts: Vec<_> = day.split(['-', '/']).map(str::len).collect();
        matches!(*parts, [4, 2, 2])
            && day.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'/'))
    });
    if day.is_none() {
        return (time_of_day(first) == Some(0)
            && first.bytes().filter(|&byte| byte == b':').count() >= 2
            && is_clock(first))
        .then(|| hosted(rest));
    }
    if time_of_day(first).is_some() {
        return Some(hosted(rest));
    }
    let (time, behind) = word(rest);
    (first.len() == 10 && time_of_day(time) == Some(0)).then(|| {
        let (zone, behind_zone) = word(behind);
        hosted(if is_zone(zone) { behind_zone } else { behind })
    })
}

fn is_zone(text: &str) -> bool {
    let offset = text.len() == 5
        && text.starts_with(['+', '-'])
        && text.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    offset || matches!(text, "UTC" | "GMT" | "CET" | "CEST" | "EST" | "EDT" | "PST" | "PDT" | "JST" | "KST")
}

/// `Dec 15 11:38:22 host kernel: ` and `Tue 2024-01-02 03:04:05 UTC host kernel: `.
fn syslog(text: &str) -> Option<&str> {
    let (first, rest) = word(text);
    if DAYS.contains(&first) {
        let (next, _) = word(rest);
        return if MONTHS.contains(&next) { syslog(rest) } else { date(rest) };
    }
    if !MONTHS.contains(&first) {
        return None;
    }
    let (day, rest) = word(rest);
    decimal(day).filter(|(day, rest)| (1..=31).contains(day) && rest.is_empty())?;
    let (time, behind) = word(rest);
    if time_of_day(time) == Some(0) {
        let (year, behind_year) = word(behind);
        let is_year = year.len() == 4
            && year.starts_with("20")
            && decimal(year).is_some_and(|(_, rest)| rest.is_empty());
        return Some(hosted(if is_year { behind_year } else { behind }));
    }
    // The year before the time.
    let (time, behind) = word(behind);
    (time_of_day(time) == Some(0)).then(|| hosted(behind))
}

/// `host kernel: `, `host kern.warn kernel: `, `host kernel - - - ` behind a date. Another program's line stays as it is.
fn hosted(text: &str) -> &str {
    let (host, rest) = word(text);
    if let Some(rest) = kernel_tag(host, rest) {
        return rest;
    }
    let (tag, behind) = word(rest);
    if let Some(rest) = kernel_tag(tag, behind) {
        return rest;
    }
    let facility = tag.split_once('.').is_some_and(|(first, _)| matches!(first, "kern" | "user" | "daemon"));
    let (next, behind) = word(behind);
    if facility && let Some(rest) = kernel_tag(next, behind) {
        return rest;
    }
    text
}

fn kernel_tag<'t>(tag: &str, rest: &'t str) -> Option<&'t str> {
    let name = tag.strip_suffix(':');
    let name = name.map(|name| name.split_once('[').map_or(name, |(name, _)| name));
    match name {
        Some("kernel" | "klogd" | "vmunix" | "kern") => Some(rest),
        None if tag == "kernel" => Some(rest.strip_prefix("- - -")?.trim_start()),
        _ => None,
    }
}

/// `kernel: ` and `host kernel: ` without a date.
fn tagged(text: &str) -> Option<&str> {
    let (first, rest) = word(text);
    if let Some(rest) = kernel_tag(first, rest) {
        return Some(rest);
    }
    let (tag, behind) = word(rest);
    let host =
        first.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'));
    (host && matches!(tag, "kernel:")).then_some(behind)
}

/// `kern  :warn  : ` of `dmesg -x`.
fn facility(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    let known =
        matches!(name.trim_end(), "kern" | "user" | "daemon" | "syslog" | "auth" | "authpriv" | "cron");
    let levels = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    (known && levels.contains(&level.trim())).then_some(rest)
}

/// `node1 login: `: what stood on a serial console before the kernel wrote.
fn console(text: &str) -> Option<&str> {
    let (host, rest) = word(text);
    let rest = rest.strip_prefix("login: ")?;
    (host.len() < 65 && !rest.is_empty()).then_some(rest)
}

/// `> ` of mail. crash's `ps` marks running tasks with it, and numbers follow.
fn quote(text: &str) -> Option<&str> {
    let rest = text.get(1..)?;
    let next = rest.trim_start();
    (rest.starts_with([' ', '>', '[', '<', '|']) && !next.starts_with(|letter: char| letter.is_ascii_digit()))
        .then_some(rest)
}

/// `-- MORE --  forward: <SPACE>, ... quit: q`: the pager of crash.
fn pager(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(['-', ' ']).strip_prefix("MORE ")?;
    after(rest, "quit: q").or(Some(""))
}

/// Where a time stamp of `printk` stands, behind an unknown prefix.
fn stamp_within(text: &str) -> Option<usize> {
    const LONGEST_PREFIX: usize = 120;
    let bytes = text.as_bytes();
    let head = bytes.get(..LONGEST_PREFIX).unwrap_or(bytes);
    let at = memchr::memchr_iter(b'[', head).find(|&at| {
        let inner = text.get(at.saturating_add(1)..).and_then(|rest| rest.split_once(']'));
        inner.is_some_and(|(inner, _)| {
            let fraction = inner.rsplit_once('.').map(|(_, fraction)| fraction.len());
            fraction == Some(6) && seconds(inner.trim()).is_some()
        })
    })?;
    // A quoted line is part of what another line says.
    let before = text.get(..at)?;
    (at > 0 && !before.contains("PANIC:")).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_any_fraction() {
        assert_eq!(seconds("12.5"), Some(12_500_000_000));
        assert_eq!(seconds("0.000000"), Some(0));
        assert_eq!(seconds("12.345678 <    0.000012>"), Some(12_345_678_000));
        for text in ["12", ".5", "1.2.3", "a.b", "12.0123456789", "99999999999.0"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn lines_of_other_programs_keep_their_name() {
        assert_eq!(strip("Dec 15 11:38:22 udb sshd[12]: Accepted").rest, "udb sshd[12]: Accepted");
    }
}
