//! The kernel's formats of text (`printf` with the extensions of lib/vsprintf.c), over values out of a dump.

use std::fmt::Write as _;

use kdive_base::VirtAddr;
use kdive_base::bytes::until_nul;
use kdive_target::Kernel;

/// What a format asks of the kernel.
pub(super) trait World {
    /// The string at an address, without its NUL.
    fn string(&self, at: VirtAddr) -> Option<Vec<u8>>;
    /// The function or variable at an address: `name [module]`, with `+0xOFFSET` where that is wanted.
    fn symbol(&self, at: VirtAddr, with_offset: bool) -> String;
    /// The value of a name: formats have names of enumerators.
    fn enumerator(&self, name: &str) -> Option<i64>;
}

impl World for Kernel {
    fn string(&self, at: VirtAddr) -> Option<Vec<u8>> {
        self.memory().c_string(at, MOST_WIDTH).ok()
    }

    fn symbol(&self, at: VirtAddr, with_offset: bool) -> String {
        let Some(place) = self.place(at) else { return format!("0x{:x}", at.0) };
        let mut text = place.symbol.name.to_owned();
        if with_offset {
            let _ = write!(text, "+{:#x}", place.offset);
        }
        if let Some(module) = place.symbol.module {
            let _ = write!(text, " [{module}]");
        }
        text
    }

    fn enumerator(&self, name: &str) -> Option<i64> {
        i64::try_from(Kernel::enumerator(self, name).ok()?).ok()
    }
}

/// A value that a format shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// An integer or a pointer, sign-extended where it is signed.
    Int(i64),
    /// A string or an array.
    Bytes(Vec<u8>),
    /// What cannot be told: an address that the format computes.
    Unknown,
}

/// One conversion of a format (`%-16.3lx`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    left: bool,
    plus: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer.
    pub(super) bytes: u32,
    /// `d`, `x`, `s`, `p`...
    pub(super) conversion: char,
    /// What follows `%p` (`S`, `I4`).
    pub(super) extension: String,
}

/// Longest text that a format makes: widths are the dump's.
const MOST_WIDTH: usize = 4096;

/// Formats values, which `next` gives one after the other for their conversions; `None` where it has none.
pub(super) fn format(
    world: &dyn World,
    text: &str,
    mut next: impl FnMut(&Spec) -> Option<Value>,
) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (spec, after) = spec(after, &mut next)?;
        let value = next(&spec)?;
        pad(&mut out, &spec, &show(world, &spec, &value));
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// Takes a conversion apart; a `*` takes a value.
fn spec<'t>(text: &'t str, next: &mut impl FnMut(&Spec) -> Option<Value>) -> Option<(Spec, &'t str)> {
    let mut spec = Spec { bytes: 4, ..Spec::default() };
    let flags = text.len() - text.trim_start_matches(['-', '+', ' ', '#', '0']).len();
    let (given, mut rest) = text.split_at_checked(flags)?;
    (spec.left, spec.plus) = (given.contains('-'), given.contains('+'));
    (spec.alternate, spec.zero) = (given.contains('#'), given.contains('0'));
    let mut number = |rest: &mut &'t str| -> Option<Option<usize>> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            let Value::Int(value) = next(&Spec { bytes: 4, conversion: 'd', ..Spec::default() })? else {
                return None;
            };
            return Some(Some(usize::try_from(value).unwrap_or(0)));
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        *rest = after;
        Some(number.parse().ok())
    };
    spec.width = number(&mut rest)?.unwrap_or(0).min(MOST_WIDTH);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(number(&mut rest)?.unwrap_or(0));
    }
    for (length, bytes) in
        [("hh", 1), ("h", 2), ("ll", 8), ("l", 8), ("L", 8), ("q", 8), ("z", 8), ("Z", 8), ("t", 8)]
    {
        if let Some(after) = rest.strip_prefix(length) {
            (spec.bytes, rest) = (bytes, after);
            break;
        }
    }
    spec.conversion = rest.chars().next()?;
    rest = rest.get(spec.conversion.len_utf8()..)?;
    if spec.conversion == 'p' {
        spec.bytes = 8;
        let length = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).len();
        let (extension, after) = rest.split_at_checked(length)?;
        spec.extension = extension.to_owned();
        rest = after;
    }
    Some((spec, rest))
}

fn pad(out: &mut String, spec: &Spec, text: &str) {
    let fill = spec.width.saturating_sub(text.chars().count());
    let zero = spec.zero && !spec.left && spec.conversion != 's';
    if spec.left {
        let _ = write!(out, "{text}{:fill$}", "");
    } else if zero {
        // Zeros go behind a sign and `0x`.
        let sign = ["-0x", "0x", "-", "+"].into_iter().find(|sign| text.starts_with(sign)).unwrap_or("");
        let digits = text.strip_prefix(sign).unwrap_or(text);
        let _ = write!(out, "{sign}{}{digits}", "0".repeat(fill));
    } else {
        let _ = write!(out, "{:fill$}{text}", "");
    }
}

/// The low bytes of an integer: with its sign, and without.
fn narrowed(value: i64, bytes: u32) -> (i64, u64) {
    let unused = 64_u32.saturating_sub(bytes.saturating_mul(8)).min(63);
    (value << unused >> unused, (value.cast_unsigned() << unused) >> unused)
}

fn show(world: &dyn World, spec: &Spec, value: &Value) -> String {
    match (spec.conversion, value) {
        ('s', value) => {
            let bytes = match value {
                Value::Bytes(bytes) => bytes.clone(),
                // A pointer: the string itself was not written.
                Value::Int(0) => b"(null)".to_vec(),
                Value::Int(at) => world.string(VirtAddr(at.cast_unsigned())).unwrap_or_default(),
                Value::Unknown => b"?".to_vec(),
            };
            let text = until_nul(&bytes);
            let most = spec.precision.unwrap_or(usize::MAX).min(text.len());
            kdive_base::printable(text.get(..most).unwrap_or_default())
        }
        ('p', value) => pointer(world, &spec.extension, spec.width, value),
        ('c', Value::Int(value)) => kdive_base::printable(&[*value as u8]),
        (conversion, Value::Int(value)) => integer(spec, conversion, *value),
        (_, Value::Bytes(bytes)) => hex(bytes, " "),
        (_, Value::Unknown) => "?".to_owned(),
    }
}

fn integer(spec: &Spec, conversion: char, value: i64) -> String {
    let (signed, unsigned) = narrowed(value, spec.bytes);
    let digits = match conversion {
        'x' => format!("{unsigned:x}"),
        'X' => format!("{unsigned:X}"),
        'o' => format!("{unsigned:o}"),
        'u' => unsigned.to_string(),
        _ => signed.unsigned_abs().to_string(),
    };
    let least = spec.precision.unwrap_or(0).min(MOST_WIDTH);
    let zeros = "0".repeat(least.saturating_sub(digits.len()));
    let prefix = match conversion {
        'x' if spec.alternate => "0x",
        'X' if spec.alternate => "0X",
        'o' if spec.alternate => "0",
        'd' | 'i' if signed < 0 => "-",
        'd' | 'i' if spec.plus => "+",
        _ => "",
    };
    format!("{prefix}{zeros}{digits}")
}

/// Text as one line that drives no terminal: the format is the dump's.
pub(super) fn one_line(text: &str) -> String {
    kdive_base::printable(text.trim_end().replace('\n', " ").as_bytes())
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

/// `%p` and its extensions (Documentation/core-api/printk-formats.rst). Addresses are shown as they are.
fn pointer(world: &dyn World, extension: &str, width: usize, value: &Value) -> String {
    match (extension.as_bytes(), value) {
        ([b'S' | b's' | b'F' | b'f' | b'B', ..], Value::Int(at)) => {
            world.symbol(VirtAddr(at.cast_unsigned()), extension.starts_with(['S', 'F', 'B']))
        }
        ([b'I' | b'i', b'4', ..], Value::Bytes(bytes)) => address_v4(bytes),
        ([b'I' | b'i', b'6', ..], Value::Bytes(bytes)) => address_v6(bytes),
        ([b'I', b'S', flags @ ..], Value::Bytes(bytes)) => socket_address(bytes, flags.contains(&b'p')),
        ([b'M', ..], Value::Bytes(bytes)) => hex(bytes, ":"),
        ([b'U', ..], Value::Bytes(bytes)) => hex(bytes, ""),
        ([b'h', rest @ ..], Value::Bytes(bytes)) => {
            let bytes = bytes.get(..width.min(bytes.len())).unwrap_or_default();
            let between = match rest {
                [b'C', ..] => ":",
                [b'D', ..] => "-",
                [b'N', ..] => "",
                _ => " ",
            };
            hex(bytes, between)
        }
        (_, Value::Int(at)) => format!("{:016x}", at.cast_unsigned()),
        (_, Value::Bytes(bytes)) => hex(bytes, " "),
        (_, Value::Unknown) => "?".to_owned(),
    }
}

fn address_v4(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(u8::to_string).collect::<Vec<_>>().join(".")
}

fn address_v6(bytes: &[u8]) -> String {
    match <[u8; 16]>::try_from(bytes.get(..16).unwrap_or_default()) {
        Ok(octets) => std::net::Ipv6Addr::from(octets).to_string(),
        Err(_) => hex(bytes, ":"),
    }
}

/// A `struct sockaddr_in` or `sockaddr_in6`, with its port.
fn socket_address(bytes: &[u8], with_port: bool) -> String {
    let family = kdive_base::Endian::Little.u16(bytes, 0);
    let port = kdive_base::Endian::Big.u16(bytes, 2).filter(|_| with_port);
    let address = match family {
        Some(2) => address_v4(bytes.get(4..8).unwrap_or_default()),
        Some(10) if with_port => format!("[{}]", address_v6(bytes.get(8..24).unwrap_or_default())),
        Some(10) => address_v6(bytes.get(8..24).unwrap_or_default()),
        _ => return hex(bytes, " "),
    };
    match port {
        Some(port) => format!("{address}:{port}"),
        None => address,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One string, one function, one enumerator.
    pub(in super::super) struct Small;

    impl World for Small {
        fn string(&self, at: VirtAddr) -> Option<Vec<u8>> {
            (at.0 == 0x1000).then(|| b"there".to_vec())
        }

        fn symbol(&self, at: VirtAddr, with_offset: bool) -> String {
            if with_offset { format!("f+{:#x}", at.0) } else { "f".into() }
        }

        fn enumerator(&self, name: &str) -> Option<i64> {
            (name == "TEN").then_some(10)
        }
    }

    fn shown(text: &str, values: &[Value]) -> Option<String> {
        let mut values = values.iter().cloned();
        format(&Small, text, |_| values.next())
    }

    #[test]
    fn integers_are_narrowed_and_padded() {
        let int = Value::Int;
        assert_eq!(
            shown("%d %u|%5d|%-5d|", &[int(-1), int(-1), int(7), int(7)]).unwrap(),
            "-1 4294967295|    7|7    |"
        );
        assert_eq!(
            shown("%#lx %llu", &[int(-1), int(-1)]).unwrap(),
            "0xffffffffffffffff 18446744073709551615"
        );
        assert_eq!(
            shown("%04x %#06x %hhu %+d", &[int(10), int(10), int(257), int(3)]).unwrap(),
            "000a 0x000a 1 +3"
        );
        assert_eq!(shown("%*d%%", &[int(4), int(1)]).unwrap(), "   1%");
        assert_eq!(shown("%d %d", &[int(1)]), None);
        assert_eq!(shown("100%", &[]), None, "a conversion that is cut off");
    }

    #[test]
    fn strings_and_pointers() {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        assert_eq!(
            shown("%s,%.2s,%-4s|", &[bytes(b"ab\0c"), bytes(b"xyz"), bytes(b"a")]).unwrap(),
            "ab,xy,a   |"
        );
        assert_eq!(shown("%s %s", &[Value::Int(0x1000), Value::Int(0)]).unwrap(), "there (null)");
        assert_eq!(
            shown("%ps %pS %p", &[Value::Int(1), Value::Int(2), Value::Int(3)]).unwrap(),
            "f f+0x2 0000000000000003"
        );
        assert_eq!(
            shown("%pI4 %pM", &[bytes(&[10, 0, 2, 15]), bytes(&[1, 2, 255])]).unwrap(),
            "10.0.2.15 01:02:ff"
        );
        let socket = [2, 0, 0, 22, 127, 0, 0, 1];
        assert_eq!(shown("%pISpc", &[bytes(&socket)]).unwrap(), "127.0.0.1:22");
        assert_eq!(shown("[%*phD]", &[Value::Int(2), bytes(&[1, 2, 3])]).unwrap(), "[01-02]");
        assert_eq!(shown("%s", &[bytes(b"\x1b[31m")]).unwrap(), "\\x1b[31m");
    }
}
