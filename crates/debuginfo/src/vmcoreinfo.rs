//! VMCOREINFO, the text in which a kernel describes itself to dump tools (kernel/vmcore_info.c, before 6.9
//! kernel/crash_core.c; Documentation/admin-guide/kdump/vmcoreinfo.rst).

use std::fmt;
use std::str::FromStr;

use kdive_base::{VirtAddr, printable};
use rustc_hash::FxHashMap;

/// Lines beyond this are not read: real ones are about a hundred.
const MOST_LINES: usize = 4096;

/// The parsed text. Every line is optional: which there are depends on the kernel's version and architecture.
#[derive(Clone, Default)]
pub struct VmcoreInfo {
    lines: FxHashMap<Box<str>, Box<str>>,
}

impl fmt::Debug for VmcoreInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VmcoreInfo")
            .field("release", &self.release())
            .field("lines", &self.lines.len())
            .finish()
    }
}

impl VmcoreInfo {
    /// Parses `KEY=value` lines up to the first NUL. Lines of any other form are left out; of repeated keys the last
    /// counts, as the kernel only ever appends.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let lines = kdive_base::bytes::until_nul(text).split(|&byte| byte == b'\n').take(MOST_LINES);
        let pairs = lines.filter_map(|line| {
            let equals = line.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
            let (key, value) = line.split_at_checked(equals)?;
            Some((printable(key).into(), printable(value.get(1..)?).into()))
        });
        Self { lines: pairs.collect() }
    }

    /// Whether there is no line at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines as key and value, sorted by key.
    #[must_use]
    pub fn lines(&self) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> = self.lines.iter().map(|(key, value)| (&**key, &**value)).collect();
        lines.sort_unstable();
        lines
    }

    /// The value of a line by its whole key: `OSRELEASE`, `SYMBOL(_stext)`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines.get(key).map(|value| &**value)
    }

    /// The address of a symbol (`SYMBOL(name)`), where the kernel ran: KASLR is in it.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<VirtAddr> {
        hexadecimal(self.get(&format!("SYMBOL({name})"))?).map(VirtAddr)
    }

    /// The size of a type in bytes (`SIZE(name)`).
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.parsed(&format!("SIZE({name})"))
    }

    /// The offset of a member in bytes (`OFFSET(struct.member)`).
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.parsed(&format!("OFFSET({name})"))
    }

    /// The number of elements of an array (`LENGTH(name)`).
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.parsed(&format!("LENGTH({name})"))
    }

    /// A number (`NUMBER(name)`), written as decimal or with `0x`. Addresses written so come back with the same 64 bits.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.get(&format!("NUMBER({name})"))?.trim();
        match value.strip_prefix("0x") {
            Some(digits) => hexadecimal(digits).map(u64::cast_signed),
            None => value.parse().ok().or_else(|| value.parse().ok().map(u64::cast_signed)),
        }
    }

    /// The kernel's release (`OSRELEASE`), e.g. `6.12.117-cloud-amd64`.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.get("OSRELEASE")
    }

    /// The base page size in bytes (`PAGESIZE`).
    #[must_use]
    pub fn page_size(&self) -> Option<u64> {
        self.parsed("PAGESIZE")
    }

    /// The kernel's build-id (`BUILD-ID`, 5.9 and later). Some stable kernels wrote garbage here (6.11.3 to 6.11.9,
    /// 6.1.113 to 6.1.118 and others): when it matters, trust the notes in the kernel's memory more
    /// ([`crate::elf::build_id_in_notes`]).
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let digits = self.get("BUILD-ID")?.trim().as_bytes();
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect();
        bytes.filter(|_| digits.len() >= 16 && digits.len().is_multiple_of(2))
    }

    /// When the kernel panicked, in seconds since 1970 (`CRASHTIME`); absent in a dump of a running kernel.
    #[must_use]
    pub fn crash_time(&self) -> Option<u64> {
        self.parsed("CRASHTIME")
    }

    /// How far KASLR moved the kernel's image from where it was linked (`KERNELOFFSET`).
    #[must_use]
    pub fn kaslr_offset(&self) -> Option<u64> {
        hexadecimal(self.get("KERNELOFFSET")?)
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.trim().parse().ok()
    }
}

/// A hexadecimal number with or without `0x`.
fn hexadecimal(digits: &str) -> Option<u64> {
    let digits = digits.trim();
    u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_by_kind() {
        let info = VmcoreInfo::parse(
            b"OSRELEASE=6.1.0\nBUILD-ID=504bcc4a522542ce1a8bf0e932a32579aba76ca4\nPAGESIZE=4096\n\
              SYMBOL(_stext)=ffffffff81000000\nSIZE(page)=64\nOFFSET(page.lru)=8\nLENGTH(zone.free_area)=11\n\
              NUMBER(phys_base)=-132120608\nNUMBER(kimage_voffset)=0xffff800000000000\nKERNELOFFSET=1a000000\n\
              CRASHTIME=1763667000\n=x\nnothing\n\0SYMBOL(after)=1\n",
        );
        assert_eq!(info.release(), Some("6.1.0"));
        assert_eq!(info.build_id().unwrap()[..2], [0x50, 0x4b]);
        assert_eq!(info.page_size(), Some(4096));
        assert_eq!(info.symbol("_stext"), Some(VirtAddr(0xffff_ffff_8100_0000)));
        assert_eq!(
            (info.size("page"), info.offset("page.lru"), info.length("zone.free_area")),
            (Some(64), Some(8), Some(11))
        );
        assert_eq!(info.number("phys_base"), Some(-132_120_608));
        assert_eq!(info.number("kimage_voffset").map(i64::cast_unsigned), Some(0xffff_8000_0000_0000));
        assert_eq!(info.kaslr_offset(), Some(0x1a00_0000));
        assert_eq!(info.crash_time(), Some(1_763_667_000));
        assert_eq!((info.symbol("after"), info.get("")), (None, None));
        assert_eq!(info.lines().len(), 11);
    }

    #[test]
    fn garbage_is_not_a_value() {
        let info = VmcoreInfo::parse(
            b"BUILD-ID=\xff\xfe0011223344556677\nPAGESIZE=x\nNUMBER(a)=0x\nSYMBOL(b)=\nX=\x1b[2J\n",
        );
        assert_eq!(
            (info.build_id(), info.page_size(), info.number("a"), info.symbol("b")),
            (None, None, None, None)
        );
        assert_eq!(info.get("X"), Some("\\x1b[2J"));
    }
}
