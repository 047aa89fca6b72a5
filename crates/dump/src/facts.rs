//! What a container says of itself: `kdive info` shows it.

use kdive_base::ByteReader;
use kdive_base::bytes::until_nul;
use serde::Serialize;

use crate::redacted::RedactedFacts;
use crate::seal::Manifest;

/// What a container says of itself. Every field can be absent: formats differ in what they tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Names of the files, as they were given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Name of the container format.
    pub format: &'static str,
    /// Version of the format, from its header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Wrappers that were peeled off, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrappers: Vec<&'static str>,
    /// Bits of the header's words: 32 or 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word_bits: Option<u32>,
    /// Whether the header is big-endian.
    pub big_endian: bool,
    /// Machine, as the header names it (`x86-64`, or `utsname.machine`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Names of the page compressions that the header announces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compression: Vec<&'static str>,
    /// Filter level of makedumpfile: 1 zero, 2 and 4 cache, 8 user, 16 free pages were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dump_level: Option<u32>,
    /// The capture says that it could not finish, for lack of space.
    pub incomplete: bool,
    /// Pages of the memory map itself were left out (makedumpfile `-e`).
    pub excluded_vmemmap: bool,
    /// The parts of a split dump, in the order of their memory; empty for a dump in one file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartFacts>,
    /// `utsname` from the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<UtsName>,
    /// Time of the capture from the header, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// Bytes of a page, where the format has pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u64>,
    /// One more than the highest page frame number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_mapnr: Option<u64>,
    /// That the file is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What the writer of the dump left to check it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// What was overwritten on purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<RedactedFacts>,
    /// What is wrong with the file, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An encrypted file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Encryption {
    /// How many keys open it.
    pub recipients: usize,
}

/// One part of a split dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartFacts {
    /// The file, or `None` for a part that was not given.
    pub name: Option<String>,
    /// First page frame number that the part holds.
    pub start_pfn: u64,
    /// One more than the last.
    pub end_pfn: u64,
}

/// The kernel's `struct new_utsname`, as a dump header copies it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UtsName {
    /// Operating system; QEMU leaves it empty.
    pub sysname: String,
    /// Host name.
    pub nodename: String,
    /// Kernel release.
    pub release: String,
    /// Kernel version: build number and date.
    pub version: String,
    /// Architecture.
    pub machine: String,
    /// NIS domain name.
    pub domainname: String,
}

impl UtsName {
    /// Reads the six texts of 65 bytes each.
    pub(crate) fn read(reader: &mut ByteReader<'_>) -> Option<Self> {
        const FIELD: usize = 65;
        let mut field = || {
            let text = reader.take(FIELD)?;
            Some(String::from_utf8_lossy(until_nul(text)).into_owned())
        };
        Some(Self {
            sysname: field()?,
            nodename: field()?,
            release: field()?,
            version: field()?,
            machine: field()?,
            domainname: field()?,
        })
    }
}
