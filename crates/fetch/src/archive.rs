//! Members of packages and archives, one after the other out of a stream: nothing is kept but the member that is wanted.

use std::io::{self, Read};

/// A member: its path, and as many bytes as it has.
pub(crate) struct Member<'a> {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) data: &'a mut dyn Read,
}

/// Takes a member's bytes, or leaves them. `Some` ends the walk.
pub(crate) type Visit<'v, T> = &'v mut dyn FnMut(Member<'_>) -> io::Result<Option<T>>;

/// Paths are no longer in any package.
const MAX_PATH: u64 = 64 << 10;

/// The members of a Debian package's outer archive (ar(5)): name, and where it lies.
pub(crate) fn ar(bytes: &[u8]) -> Vec<(&str, &[u8])> {
    const HEADER: usize = 60;
    let mut members = Vec::new();
    let mut rest = bytes.strip_prefix(b"!<arch>\n").unwrap_or_default();
    while let Some((header, behind)) = rest.split_at_checked(HEADER) {
        let text =
            |range| header.get(range).and_then(|text| std::str::from_utf8(text).ok()).map(str::trim_end);
        let (Some(name), Some(Ok(size))) = (text(0..16), text(48..58).map(str::parse::<usize>)) else {
            break;
        };
        let held = behind.get(..size.min(behind.len())).unwrap_or_default();
        members.push((name.trim_end_matches('/'), held));
        // Members begin at even offsets.
        rest = behind.get(size.saturating_add(size & 1)..).unwrap_or_default();
    }
    members
}

/// Walks over a tar archive (POSIX ustar, GNU and pax long names).
pub(crate) fn tar<T>(stream: &mut dyn Read, visit: Visit<'_, T>) -> io::Result<Option<T>> {
    const BLOCK: u64 = 512;
    let mut long_name = None;
    let mut header = [0; BLOCK as usize];
    loop {
        if !full(stream, &mut header)? || header.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let size = tar_number(header.get(124..136).unwrap_or_default()).ok_or_else(|| bad("tar header"))?;
        let padded = size.checked_next_multiple_of(BLOCK).ok_or_else(|| bad("tar header"))?;
        match header.get(156) {
            Some(b'L') => long_name = Some(text_until_nul(&small(stream, size, padded)?)),
            Some(b'x') => long_name = pax_path(&small(stream, size, padded)?).or(long_name),
            Some(b'0' | 0) => {
                let name = text_until_nul(header.get(..100).unwrap_or_default());
                let prefix = match header.get(257..262) {
                    Some(b"ustar") => text_until_nul(header.get(345..500).unwrap_or_default()),
                    _ => String::new(),
                };
                let short = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                let path = long_name.take().unwrap_or(short);
                if let Some(found) = offer(stream, path, size, padded, visit)? {
                    return Ok(Some(found));
                }
            }
            _ => {
                long_name = None;
                skip(stream, padded)?;
            }
        }
    }
}

/// Octal digits, or big-endian behind a set upper bit.
fn tar_number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        return field
            .iter()
            .skip(4)
            .try_fold(0_u64, |value, &byte| value.checked_mul(256)?.checked_add(byte.into()));
    }
    let digits = field.iter().map(|&byte| char::from(byte)).filter(|digit| !matches!(digit, ' ' | '\0'));
    digits
        .map(|digit| digit.to_digit(8))
        .try_fold(0_u64, |value, digit| value.checked_mul(8)?.checked_add(digit?.into()))
}

/// The `path` of an extended header: lines of `LENGTH KEY=VALUE`.
fn pax_path(header: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(header);
    text.lines().find_map(|line| Some(line.split_once(' ')?.1.strip_prefix("path=")?.to_owned()))
}

/// Walks over a cpio archive in the new ASCII format, with or without checksums, up to its trailer.
pub(crate) fn cpio<T>(stream: &mut dyn Read, visit: Visit<'_, T>) -> io::Result<Option<T>> {
    const HEADER: u64 = 110;
    loop {
        let mut header = [0; HEADER as usize];
        if !full(stream, &mut header)? {
            return Ok(None);
        }
        if !matches!(header.get(..6), Some(b"070701" | b"070702")) {
            return Err(bad("cpio header"));
        }
        let field = |index: usize| {
            let at = index.checked_mul(8)?.checked_add(6)?;
            let digits = std::str::from_utf8(header.get(at..at.checked_add(8)?)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        let (Some(mode), Some(size), Some(name_size)) = (field(1), field(6), field(11)) else {
            return Err(bad("cpio header"));
        };
        // Header and name together are padded to four bytes; so is what follows.
        let name_padded = HEADER.saturating_add(name_size).next_multiple_of(4).saturating_sub(HEADER);
        let path = text_until_nul(&small(stream, name_size, name_padded)?);
        if path == "TRAILER!!!" {
            return Ok(None);
        }
        let padded = size.next_multiple_of(4);
        if mode & 0o170_000 != 0o100_000 {
            skip(stream, padded)?;
        } else if let Some(found) = offer(stream, path, size, padded, visit)? {
            return Ok(Some(found));
        }
    }
}

/// Where the payload of an RPM package begins: behind its lead and two headers (RPM v3 and v4 format).
pub(crate) fn rpm_payload(bytes: &[u8]) -> Option<&[u8]> {
    const LEAD: usize = 96;
    let mut at = LEAD;
    for is_last in [false, true] {
        let header = bytes.get(at..)?;
        if !header.starts_with(b"\x8e\xad\xe8\x01") {
            return None;
        }
        let word = |place: usize| {
            let raw = header.get(place..place.checked_add(4)?)?.first_chunk::<4>()?;
            usize::try_from(u32::from_be_bytes(*raw)).ok()
        };
        let length = word(8)?.checked_mul(16)?.checked_add(word(12)?)?.checked_add(16)?;
        at = at.checked_add(length)?;
        // The first, of signatures, is padded to eight bytes.
        if !is_last {
            at = at.checked_next_multiple_of(8)?;
        }
    }
    bytes.get(at..)
}

/// Hands a member out, then passes over what was left of it.
fn offer<T>(
    stream: &mut dyn Read,
    path: String,
    bytes: u64,
    padded: u64,
    visit: Visit<'_, T>,
) -> io::Result<Option<T>> {
    let mut data = stream.take(bytes);
    let found = visit(Member { path, bytes, data: &mut data })?;
    let left = data.limit();
    if found.is_none() {
        skip(stream, left.saturating_add(padded.saturating_sub(bytes)))?;
    }
    Ok(found)
}

/// A name or an extended header, and its padding.
fn small(stream: &mut dyn Read, bytes: u64, padded: u64) -> io::Result<Vec<u8>> {
    if bytes > MAX_PATH {
        return Err(bad("a name of a member is too long"));
    }
    let mut data = Vec::new();
    stream.take(bytes).read_to_end(&mut data)?;
    skip(stream, padded.saturating_sub(bytes))?;
    Ok(data)
}

fn skip(stream: &mut dyn Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut stream.take(bytes), &mut io::sink())? {
        count if count < bytes => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Fills all of `into`; `false` at the end of the stream.
fn full(stream: &mut dyn Read, into: &mut [u8]) -> io::Result<bool> {
    let wanted = into.len() as u64;
    let count = io::copy(&mut stream.take(wanted), &mut &mut *into)?;
    match count {
        0 => Ok(false),
        count if count < wanted => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(true),
    }
}

fn text_until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} makes no sense"))
}
