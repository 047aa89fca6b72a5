//! What a file is, told by its content, so that a host can say "this is X, give Y".

use kdive_base::ReadAt;
use serde::Serialize;

use crate::elf::{ElfHeader, is_user_core};
use crate::formats::{FORMATS, HEAD_BYTES, Head, WITH_IMAGES, WRAPPERS};
use crate::window::read_up_to;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Kind {
    /// A dump that [`crate::open()`] reads, by the name of its format or of the wrapper around it.
    Dump(&'static str),
    /// A dump of a known format that is not read yet, by name.
    UnreadDump(&'static str),
    /// A linked kernel: ELF executable at kernel addresses, with or without debuginfo.
    Vmlinux,
    /// A kernel image that boots: bzImage.
    BootImage,
    /// A relocatable ELF object: a kernel module, or its debuginfo.
    Relocatable,
    /// Some other ELF file: a program or a library.
    OtherElf,
    /// The core of a process.
    UserCore,
    /// A `System.map`.
    SystemMap,
    /// Other text: a console log perhaps.
    Text,
    /// A compressed file, by the tool that unpacks it. [`crate::open()`] reads dumps through some of them.
    Compressed(&'static str),
    /// A package or an archive, by name.
    Archive(&'static str),
    /// No bytes at all.
    Empty,
    /// Only zeros at the start.
    Zeros,
    /// Cannot be read at all.
    Unreadable,
    /// Anything else: a raw image of RAM perhaps.
    Unknown,
}

impl Kind {
    /// Whether [`crate::open()`] takes it.
    #[must_use]
    pub fn is_dump(self) -> bool {
        matches!(self, Self::Dump(_))
    }

    /// Whether its memory can lie in a file of its own, of the same name but for the ending.
    #[must_use]
    pub fn can_have_an_image(self) -> bool {
        matches!(self, Self::Dump(name) if WITH_IMAGES.contains(&name))
    }

    /// What it is, to go after "is".
    #[must_use]
    pub fn description(self) -> String {
        match self {
            Self::Dump(name) => format!("a dump ({name})"),
            Self::UnreadDump(name) => format!("a dump in {name} format"),
            Self::Vmlinux => "a vmlinux".into(),
            Self::BootImage => "a kernel boot image (bzImage)".into(),
            Self::Relocatable => "an ELF object (a kernel module or its debuginfo)".into(),
            Self::OtherElf => "an ELF program or library".into(),
            Self::UserCore => "the core of a process".into(),
            Self::SystemMap => "a System.map".into(),
            Self::Text => "a text file".into(),
            Self::Compressed(tool) => format!("a file compressed by {tool}"),
            Self::Archive(name) => format!("a {name}"),
            Self::Empty => "empty".into(),
            Self::Zeros => "a file that begins with zeros".into(),
            Self::Unreadable => "unreadable".into(),
            Self::Unknown => "of no format that kdive knows".into(),
        }
    }

    /// What to do with it, as a sentence without a capital.
    #[must_use]
    pub fn advice(self) -> String {
        match self {
            Self::Dump(_) => "give it as the dump".into(),
            Self::UnreadDump(_) => "convert it to an ELF core or a kdump-compressed file first".into(),
            Self::Vmlinux | Self::BootImage | Self::Relocatable | Self::SystemMap => {
                "give it together with a vmcore".into()
            }
            Self::OtherElf => "give a vmcore, and a vmlinux if there is one".into(),
            Self::UserCore => "open it with gdb; kdive reads dumps of the kernel".into(),
            Self::Text => "give the vmcore that was written beside it".into(),
            Self::Compressed(tool) => {
                format!("no dump is seen at its beginning; unpack it with {tool} to see what it is")
            }
            Self::Archive(_) => "unpack it first".into(),
            Self::Empty => {
                "the capture or the copy failed: look for the dump elsewhere, or at the capture kernel's log"
                    .into()
            }
            Self::Zeros | Self::Unknown => {
                "the header may be lost; if it is a raw image of RAM, give its physical base address".into()
            }
            Self::Unreadable => "check the file and its permissions".into(),
        }
    }
}

/// Tells what a file is by its content. Reads its first kilobytes and, of ELF cores, the notes.
#[must_use]
pub fn probe(file: &dyn ReadAt) -> Kind {
    match read_up_to(file, 0, HEAD_BYTES) {
        Ok(bytes) => kind_of(&Head { bytes: &bytes, file }),
        Err(_) => Kind::Unreadable,
    }
}

pub(crate) fn kind_of(head: &Head<'_>) -> Kind {
    let dump = FORMATS.iter().find(|format| (format.recognises)(head)).map(|format| format.name);
    let wrapper = || WRAPPERS.iter().find(|wrapper| (wrapper.recognises)(head)).map(|wrapper| wrapper.name);
    if let Some(name) = dump.or_else(wrapper) {
        return Kind::Dump(name);
    }
    if let Some(header) = ElfHeader::parse(head.bytes) {
        return elf_kind(&header, head.file);
    }
    by_magic(head.bytes).unwrap_or_else(|| by_text(head.bytes))
}

fn elf_kind(header: &ElfHeader, file: &dyn ReadAt) -> Kind {
    const ET_REL: u16 = 1;
    const PT_LOAD: u32 = 1;
    // The upper half of 64-bit addresses, or of 32-bit ones.
    let kernel_half = if header.is_64 { 1 << 63 } else { 1 << 31 };
    match header.kind {
        ET_REL => Kind::Relocatable,
        _ if is_user_core(header, file) => Kind::UserCore,
        _ if header
            .program_headers(file)
            .1
            .iter()
            .any(|load| load.kind == PT_LOAD && load.virt >= kernel_half) =>
        {
            Kind::Vmlinux
        }
        _ => Kind::OtherElf,
    }
}

/// A signature at an offset.
type Magic = (usize, &'static [u8], Kind);

/// Signatures of what is not read, from the formats' own documentation.
static MAGICS: &[Magic] = &[
    (0, b"\xcd\x23\x8f\x61\x73\x01\x19\xa8", Kind::UnreadDump("LKCD live")),
    (0, b"\xdd\xcc\x8b\x9a", Kind::UnreadDump("Mission Critical Linux")),
    (0, b"QEVM", Kind::UnreadDump("QEMU savevm of an old version")),
    (0, b"LinuxGuestRecord", Kind::UnreadDump("Xen save")),
    (0, b"\xed\xeb\x0f\xf0", Kind::UnreadDump("Xen core")),
    (0, b"\xee\xeb\x0f\xf0", Kind::UnreadDump("Xen HVM core")),
    (0, b"\xd3\xbe\xd3\xbe", Kind::UnreadDump("VMware snapshot")),
    (0, b"\xd1\xba\xd1\xba", Kind::UnreadDump("VMware snapshot")),
    (0, b"\xd2\xba\xd2\xba", Kind::UnreadDump("VMware snapshot")),
    (0, b"PAGEDU64", Kind::UnreadDump("Windows crash dump")),
    (0, b"\x1f\x8b", Kind::Compressed("gzip")),
    (0, b"\x28\xb5\x2f\xfd", Kind::Compressed("zstd")),
    (0, b"\xfd7zXZ\0", Kind::Compressed("xz")),
    (0, b"BZh", Kind::Compressed("bzip2")),
    (0, b"\x04\x22\x4d\x18", Kind::Compressed("lz4")),
    (0, b"\x89LZO\0\r\n\x1a\n", Kind::Compressed("lzop")),
    (0, b"!<arch>\ndebian-binary", Kind::Archive("Debian package")),
    (0, b"\xed\xab\xee\xdb", Kind::Archive("RPM package")),
    (0, b"070701", Kind::Archive("cpio archive")),
    (0, b"070702", Kind::Archive("cpio archive")),
    (0, b"PK\x03\x04", Kind::Archive("zip archive")),
    (0, b"!<arch>\n", Kind::Archive("static library (ar archive)")),
    (257, b"ustar", Kind::Archive("tar archive")),
    (0x202, b"HdrS", Kind::BootImage),
];

fn by_magic(head: &[u8]) -> Option<Kind> {
    let found =
        MAGICS.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map(|&(_, _, kind)| kind)
}

fn by_text(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Empty;
    }
    if head.iter().all(|&byte| byte == 0) {
        return Kind::Zeros;
    }
    let control =
        head.iter().filter(|&&byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b)).count();
    if control > 0 {
        return Kind::Unknown;
    }
    let mut lines = head.split(|&byte| byte == b'\n').take(3);
    if lines.all(is_system_map_line) { Kind::SystemMap } else { Kind::Text }
}

/// `ffffffff81000000 T _text`
fn is_system_map_line(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ');
    let address = words
        .next()
        .is_some_and(|word| matches!(word.len(), 8 | 16) && word.iter().all(u8::is_ascii_hexdigit));
    let letter = words.next().is_some_and(|word| matches!(word, [letter] if letter.is_ascii_alphabetic()));
    address && letter && words.next().is_some_and(|name| !name.is_empty())
}
