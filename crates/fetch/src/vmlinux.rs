//! A vmlinux out of whatever holds one: a boot image, a package, an archive, a compressed file, one inside of another.

use std::io::{self, Read};

use kdive_debuginfo::Blob;
use kdive_dump::{Kind, probe};

use crate::archive::{Member, ar, cpio, rpm_payload, tar};
use crate::unpack::{MAX_UNPACKED, compression, reader, unpack};

/// Things inside of things.
const MAX_DEPTH: usize = 4;
/// Bytes that tell what something is.
const HEAD: u64 = 8192;

/// A vmlinux, and the way to it.
#[derive(Clone, Debug)]
pub struct Vmlinux {
    /// Members and packings that it was found in, outermost first; empty for a file that is a vmlinux.
    pub inside: Vec<String>,
    /// The ELF file.
    pub bytes: Blob,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoVmlinux {
    /// It is something that holds none.
    #[error("it is {}, and no vmlinux is in it{}", .kind.description(), .hint)]
    None {
        /// What it is.
        kind: Kind,
        /// Where to look instead; begins with a line feed.
        hint: &'static str,
    },
    /// It does not unpack.
    #[error("unpacking {what} failed: {source}")]
    Unpack {
        /// Which part of it.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// Finds the vmlinux in a file's bytes.
///
/// # Errors
/// When none is in it, or it is damaged.
pub fn vmlinux(bytes: &Blob) -> Result<Vmlinux, NoVmlinux> {
    let mut inside = Vec::new();
    let found = search(bytes, &mut inside, 0)?;
    Ok(Vmlinux { inside, bytes: found })
}

/// Whether a file of this kind can hold a vmlinux.
pub(crate) fn can_hold(kind: Kind) -> bool {
    matches!(kind, Kind::BootImage | Kind::Archive("Debian package" | "RPM package" | "cpio archive"))
}

fn search(bytes: &Blob, inside: &mut Vec<String>, depth: usize) -> Result<Blob, NoVmlinux> {
    let head = bytes.get(..HEAD as usize).unwrap_or(bytes).to_vec();
    let kind = probe(&head);
    let none = |hint| NoVmlinux::None { kind, hint };
    if depth > MAX_DEPTH {
        return Err(none(""));
    }
    let deeper = depth.saturating_add(1);
    match kind {
        Kind::Vmlinux => Ok(bytes.clone()),
        Kind::BootImage => {
            let (tool, payload) =
                payload(bytes).ok_or_else(|| none(": its payload is not where its header says"))?;
            inside.push(format!("its {tool} payload"));
            let unpacked = unpack(tool, payload).map_err(|source| failed(inside, source))?;
            search(&unpacked, inside, deeper)
        }
        Kind::Archive("Debian package") => {
            let members = ar(bytes);
            let data = members.into_iter().find(|(name, _)| name.starts_with("data.tar"));
            let (name, data) = data.ok_or_else(|| none(": it has no data.tar"))?;
            inside.push(name.to_owned());
            let found = member(data, inside, tar)?;
            search(&found.ok_or_else(|| none(DEB_HINT))?, inside, deeper)
        }
        Kind::Archive("RPM package") => {
            let payload = rpm_payload(bytes).ok_or_else(|| none(": its headers make no sense"))?;
            inside.push("its payload".to_owned());
            let found = member(payload, inside, cpio)?;
            search(&found.ok_or_else(|| none(RPM_HINT))?, inside, deeper)
        }
        Kind::Archive("cpio archive") => {
            let (found, rest) = segment(bytes, inside)?;
            match found {
                Some(found) => search(&found, inside, deeper),
                // An initramfs is several archives one after the other, the first for the processor's microcode.
                None if !rest.is_empty() => search(&rest, inside, deeper),
                None => Err(none("")),
            }
        }
        Kind::Compressed(tool) => {
            inside.push(tool.to_owned());
            let unpacked = unpack(tool, bytes).map_err(|source| failed(inside, source))?;
            search(&unpacked, inside, deeper)
        }
        _ => Err(none("")),
    }
}

const DEB_HINT: &str = "\nhint: the vmlinux with debuginfo is in the package of the same name with -dbg (Debian) or \
                        -dbgsym (Ubuntu)";
const RPM_HINT: &str =
    "\nhint: the vmlinux with debuginfo is in kernel-debuginfo, kernel-default-debuginfo on SUSE";

fn failed(inside: &[String], source: io::Error) -> NoVmlinux {
    NoVmlinux::Unpack { what: inside.last().cloned().unwrap_or_default(), source }
}

/// How good a member is by its name: a vmlinux, then one that is packed or boots. Modules are none.
fn rank(path: &str) -> Option<u8> {
    let name = path.rsplit('/').next()?;
    if name.starts_with("vmlinux") && !name.ends_with(".ko") {
        return Some(u8::from(name.ends_with(".xz") || name.ends_with(".gz") || name.ends_with(".zst")));
    }
    (name.starts_with("vmlinuz") || name.starts_with("bzImage")).then_some(2)
}

type Walk = fn(&mut dyn Read, &mut dyn FnMut(Member<'_>) -> io::Result<Option<()>>) -> io::Result<Option<()>>;

/// The best member of a packed archive.
fn member(packed: &[u8], inside: &mut Vec<String>, walk: Walk) -> Result<Option<Blob>, NoVmlinux> {
    let blob = packed.get(..HEAD as usize).unwrap_or(packed).to_vec();
    let tool = compression(&Blob::from(blob));
    let mut stream: Box<dyn Read + '_> = match tool {
        Some(tool) => reader(tool, packed)
            .and_then(|stream| stream.ok_or_else(|| io::ErrorKind::Unsupported.into()))
            .map_err(|source| failed(inside, source))?,
        None => Box::new(packed),
    };
    let (found, ended) = best(&mut *stream, walk);
    // Damage behind what was found does not matter.
    match (found, ended) {
        (Some((path, data)), _) => {
            inside.push(path);
            Ok(Some(Blob::from(data)))
        }
        (None, Ok(())) => Ok(None),
        (None, Err(source)) => Err(failed(inside, source)),
    }
}

type Found = Option<(String, Vec<u8>)>;

fn best(stream: &mut dyn Read, walk: Walk) -> (Found, io::Result<()>) {
    let mut best: Option<(u8, String, Vec<u8>)> = None;
    let walked = walk(stream, &mut |member| {
        let Some(rank) = rank(&member.path).filter(|_| member.bytes > 0 && member.bytes <= MAX_UNPACKED)
        else {
            return Ok(None);
        };
        if best.as_ref().is_none_or(|(known, _, _)| rank < *known) {
            let mut data = Vec::new();
            member.data.read_to_end(&mut data)?;
            if data.len() as u64 == member.bytes {
                best = Some((rank, member.path, data));
            }
        }
        // A vmlinux by name is what was looked for: the rest is left packed.
        Ok((rank == 0).then_some(()))
    });
    (best.map(|(_, path, data)| (path, data)), walked.map(drop))
}

/// The best member of the cpio archive that the bytes begin with, and what lies behind it.
fn segment(bytes: &Blob, inside: &mut Vec<String>) -> Result<(Option<Blob>, Blob), NoVmlinux> {
    let mut stream: &[u8] = bytes;
    let (found, ended) = best(&mut stream, cpio);
    if let Some((path, data)) = found {
        inside.push(path);
        return Ok((Some(Blob::from(data)), Blob::default()));
    }
    ended.map_err(|source| failed(inside, source))?;
    let padding = stream.iter().take_while(|&&byte| byte == 0).count();
    let at = bytes.len().saturating_sub(stream.len()).saturating_add(padding);
    Ok((None, bytes.slice(at..bytes.len()).unwrap_or_default()))
}

/// The compressed kernel in a bzImage (Documentation/arch/x86/boot.rst), and what it is packed with.
fn payload(image: &[u8]) -> Option<(&'static str, &[u8])> {
    let word = |at: usize| {
        let raw = image.get(at..at.checked_add(4)?)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*raw)).ok()
    };
    // Zero means four, for the oldest of loaders.
    let sectors = usize::from(*image.get(0x1f1)?).max(if image.get(0x1f1) == Some(&0) { 4 } else { 1 });
    let start = sectors.checked_add(1)?.checked_mul(512)?.checked_add(word(0x248)?)?;
    let packed = image.get(start..start.checked_add(word(0x24c)?)?)?;
    let magics: [(&str, &[u8]); 7] = [
        ("gzip", b"\x1f\x8b"),
        ("xz", b"\xfd7zXZ\0"),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("legacy lz4", b"\x02\x21\x4c\x18"),
        ("lzma", b"\x5d\0\0"),
        ("bzip2", b"BZh"),
        ("lzop", b"\x89LZO"),
    ];
    let (tool, _) = magics.into_iter().find(|(_, magic)| packed.starts_with(magic))?;
    // Four bytes behind a payload tell how long it is unpacked, but behind gzip's, which ends with them by itself.
    let tail = if tool == "gzip" { 0 } else { 4 };
    Some((tool, packed.get(..packed.len().checked_sub(tail)?)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::unpack::tests::gzip;

    fn elf() -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0xffff_ffff_8100_0000_u64, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        bytes.extend([1, 0, 0, 0, 5, 0, 0, 0]);
        for word in [120, 0xffff_ffff_8100_0000_u64, 0x100_0000, 16, 16, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"some text of a kernel".repeat(3000));
        bytes
    }

    fn bz_image(packed: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&100_u32.to_le_bytes());
        let tail = if packed.starts_with(b"\x1f\x8b") { 0 } else { 4 };
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32 + tail).to_le_bytes());
        image.extend([0xcc; 100]);
        image.extend(packed);
        image.extend(vec![9; tail as usize]);
        image.extend([0xcc; 100]);
        image
    }

    fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut member = |name: &str, kind: u8, data: &[u8]| {
            let mut header = vec![0; 512];
            let short = &name.as_bytes()[..name.len().min(100)];
            header[..short.len()].copy_from_slice(short);
            header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
            header[156] = kind;
            archive.extend(header);
            archive.extend(data);
            archive.resize(archive.len().next_multiple_of(512), 0);
        };
        for (name, data) in members {
            if name.len() > 100 {
                member("././@LongLink", b'L', name.as_bytes());
            }
            member(name, b'0', data);
        }
        archive.extend([0; 1024]);
        archive
    }

    fn cpio_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, data) in members.iter().chain(&[("TRAILER!!!", &b""[..])]) {
            let mut fields = [0_usize; 13];
            (fields[1], fields[6], fields[11]) = (0o100_644, data.len(), name.len() + 1);
            archive.extend(b"070701");
            fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
            archive.extend(name.bytes());
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(*data);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    fn deb(data: &[u8]) -> Vec<u8> {
        let mut archive = b"!<arch>\n".to_vec();
        for (name, data) in
            [("debian-binary", &b"2.0\n"[..]), ("control.tar.gz", b"odd"), ("data.tar.gz", data)]
        {
            archive.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, data.len()).bytes(),
            );
            archive.extend(data);
            archive.resize(archive.len().next_multiple_of(2), b'\n');
        }
        archive
    }

    fn rpm(payload: &[u8]) -> Vec<u8> {
        let mut package = b"\xed\xab\xee\xdb".to_vec();
        package.resize(96, 0);
        for (entries, bytes) in [(2_u32, 13_u32), (5, 100)] {
            package.extend(b"\x8e\xad\xe8\x01\0\0\0\0");
            package.extend(entries.to_be_bytes());
            package.extend(bytes.to_be_bytes());
            package.resize(package.len() + entries as usize * 16 + bytes as usize, 7);
            if entries == 2 {
                package.resize(package.len().next_multiple_of(8), 0);
            }
        }
        package.extend(payload);
        package
    }

    fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        use liblzma::stream::{LzmaOptions, Stream};
        let all = |mut stream: Box<dyn Read>| {
            let mut packed = Vec::new();
            stream.read_to_end(&mut packed).unwrap();
            packed
        };
        let owned = || io::Cursor::new(bytes.to_vec());
        let lzma = Stream::new_lzma_encoder(&LzmaOptions::new_preset(1).unwrap()).unwrap();
        let mut lz4 = b"\x02\x21\x4c\x18".to_vec();
        for block in bytes.chunks(8 << 20) {
            let block = lz4_flex::block::compress(block);
            lz4.extend((block.len() as u32).to_le_bytes());
            lz4.extend(block);
        }
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(bytes).unwrap();
        // Stored blocks: no packer for lzo is at hand.
        let mut lzop = b"\x89LZO\0\r\n\x1a\n\x10\x30\x20\xa0\x09\x40\x01\x09\x03\0\0\x01".to_vec();
        lzop.extend([0; 12]);
        lzop.extend(b"\x01k\0\0\0\0");
        for block in bytes.chunks(40_000) {
            let length = (block.len() as u32).to_be_bytes();
            lzop.extend([length, length, [5; 4]].concat());
            lzop.extend(block);
        }
        lzop.extend([0; 4]);
        vec![
            ("gzip", gzip(bytes)),
            ("xz", all(Box::new(liblzma::read::XzEncoder::new(owned(), 1)))),
            ("zstd", zstd::stream::encode_all(bytes, 1).unwrap()),
            ("legacy lz4", lz4),
            ("lzma", all(Box::new(liblzma::read::XzEncoder::new_stream(owned(), lzma)))),
            ("bzip2", bzip2.finish().unwrap()),
            ("lzop", lzop),
        ]
    }

    fn found(bytes: Vec<u8>) -> Vec<String> {
        let found = vmlinux(&Blob::from(bytes)).unwrap();
        assert!(found.bytes[..] == elf());
        found.inside
    }

    #[test]
    fn every_payload_of_a_boot_image_unpacks() {
        for (tool, packed) in packed(&elf()) {
            assert_eq!(found(bz_image(&packed)), [format!("its {tool} payload")]);
        }
        assert!(found(elf()).is_empty());
        assert_eq!(found(gzip(&elf())), ["gzip"]);
    }

    #[test]
    fn packages_give_their_best_member() {
        let long = format!("./usr/lib/debug/{}/vmlinux-6.1", "deep/".repeat(20));
        let image = bz_image(&gzip(&elf()));
        let data = tar_of(&[
            ("./boot/vmlinuz-6.1", &image),
            ("./lib/modules/a.ko", b"x"),
            (&long, &elf()),
            ("./z", b""),
        ]);
        assert_eq!(found(deb(&gzip(&data))), ["data.tar.gz".to_owned(), long]);
        let data = tar_of(&[("./a", b"x"), ("./boot/vmlinuz-6.1", &image)]);
        assert_eq!(found(deb(&gzip(&data))), ["data.tar.gz", "./boot/vmlinuz-6.1", "its gzip payload"]);
        let payload =
            cpio_of(&[("./usr/share/doc", b"xyz"), ("./usr/lib/debug/lib/modules/6.1/vmlinux", &elf())]);
        let payload = zstd::stream::encode_all(&payload[..], 1).unwrap();
        assert_eq!(found(rpm(&payload)), ["its payload", "./usr/lib/debug/lib/modules/6.1/vmlinux"]);
        // An initramfs: microcode first, then the rest, packed.
        let mut initramfs = cpio_of(&[("kernel/x86/microcode/GenuineIntel.bin", b"12345")]);
        initramfs.extend([0; 300]);
        initramfs.extend(gzip(&cpio_of(&[("init", b"#!"), ("boot/vmlinux", &elf())])));
        assert_eq!(found(initramfs), ["gzip", "boot/vmlinux"]);
    }

    #[test]
    fn what_holds_none_says_where_to_look() {
        let error = |bytes: Vec<u8>| vmlinux(&Blob::from(bytes)).unwrap_err().to_string();
        let empty = deb(&gzip(&tar_of(&[("./usr/share/doc/copyright", b"x")])));
        assert!(error(empty).starts_with("it is a Debian package, and no vmlinux is in it\nhint: "));
        assert_eq!(error(b"text\n".to_vec()), "it is a text file, and no vmlinux is in it");
        let cut = deb(&gzip(&tar_of(&[("./boot/vmlinux-1", &elf())]))[..300]);
        assert!(error(cut).starts_with("unpacking data.tar.gz failed"));
    }

    proptest! {
        #[test]
        fn damage_never_panics(which in 0..5_usize, at in any::<prop::sample::Index>(), with in any::<[u8; 4]>()) {
            let image = bz_image(&gzip(&elf()));
            let mut bytes = match which {
                0 => image,
                1 => deb(&tar_of(&[("./a", b"x"), ("./boot/vmlinuz-6.1", &image)])),
                2 => rpm(&cpio_of(&[("./boot/vmlinux", &elf())])),
                3 => cpio_of(&[("a", b"xyz"), ("boot/vmlinux", &elf())]),
                _ => packed(&elf()).pop().unwrap().1,
            };
            let at = at.index(bytes.len() - 4).min(4000);
            bytes[at..at + 4].copy_from_slice(&with);
            let _ = vmlinux(&Blob::from(bytes));
        }
    }
}
