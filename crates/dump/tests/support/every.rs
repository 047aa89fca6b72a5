//! A small dump in each format.

use std::io::Write;

use super::lkcd::{Lkcd, Packing};
use super::sadump::{self, Sadump};
use super::savevm::{Record, Savevm, libvirt};
use super::vmware::Vmware;
use super::{Kdump, Layout, PAGE, Stored, flatten, lime, page, s390, xen};

fn pages() -> impl Iterator<Item = (u64, Vec<u8>)> {
    (0..4).map(|pfn| (pfn, page(pfn)))
}

pub fn kdump() -> Vec<u8> {
    sample().build()
}

fn sample() -> Kdump {
    let mut dump = Kdump { ram: std::iter::once(0..16).collect(), max_mapnr: 16, ..Kdump::default() };
    for pfn in 0..4 {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&page(pfn)).unwrap();
        dump.pages.insert(pfn, Stored { flags: 1, bytes: encoder.finish().unwrap() });
    }
    dump
}

fn elf() -> Vec<u8> {
    let mut file = Layout::default();
    file.put(0, b"\x7fELF\x02\x01\x01")
        .int(16, 2, 4)
        .int(18, 2, 62)
        .int(32, 8, 64)
        .int(54, 2, 56)
        .int(56, 2, 2);
    let note = super::note(kdive_base::Endian::Little, "VMCOREINFO", 0, b"OSRELEASE=1\n");
    file.int(64, 4, 4).int(72, 8, 176).int(96, 8, note.len() as u64).put(176, &note);
    file.int(120, 4, 1).int(128, 8, 512).int(152, 8, 4 * PAGE as u64).int(160, 8, 4 * PAGE as u64);
    for pfn in 0..4 {
        file.put(512 + PAGE * pfn, &page(pfn as u64));
    }
    file.bytes
}

/// Four pages, 0 to 3, in each format of one file.
pub fn every_format() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("kdump", kdump()),
        ("flattened kdump", flatten(&kdump(), &[4096, 333], |_| ())),
        ("ELF", elf()),
        ("flattened ELF", flatten(&elf(), &[1000], |_| ())),
        ("LiME", lime::lime(pages())),
        ("AVML", lime::avml(pages())),
        ("diskdump", Kdump { signature: b"DISKDUMP", one_bitmap: true, ..sample() }.build()),
        ("LKCD", lkcd(Packing::Gzip).build()),
        ("LKCD, run-length", lkcd(Packing::Rle).build()),
        ("savevm, mapped-ram", mapped()),
        ("VMware", Vmware { is_inside: true, ..Vmware::of_pages(pages()) }.build()),
        ("s390", s390::build(&pages().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>())),
        ("Xen", xen::build(&pages().collect::<Vec<_>>(), false)),
        ("Xen, paravirtual", xen::build(&pages().collect::<Vec<_>>(), true)),
        ("sadump", Sadump::of_pages(sadump::Kind::Single, pages()).build().swap_remove(0)),
        ("sadump, medium", Sadump::of_pages(sadump::Kind::Media, pages()).build().swap_remove(0)),
        ("savevm", Savevm::of_pages(pages()).build()),
    ]
}

/// The same pages where a file lies in another, or lacks its beginning.
pub fn every_wrapped() -> Vec<(&'static str, Vec<u8>)> {
    let stream = Savevm::of_pages(pages()).build();
    vec![
        ("gzip", gzip(&kdump())),
        ("zstd", elf().chunks(5000).flat_map(|piece| zstd::bulk::compress(piece, 1).unwrap()).collect()),
        ("xz", xz(&elf(), 5000)),
        ("lz4", lz4(&lime::lime(pages()))),
        ("gzip in gzip", gzip(&gzip(&elf()))),
        ("libvirt save", libvirt(&stream, b"LibvirtQemudSave", 0)),
        ("libvirt save, packed", libvirt(&gzip(&stream), b"LibvirtQemudSave", 1)),
        ("a kdump without its header", without_header()),
        ("savevm, packed pages", packed_pages()),
    ]
}

/// The same pages in formats of several files.
pub fn every_set() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let part = |part: std::ops::Range<u64>| {
        let mut dump = Kdump { part: Some(part.clone()), ..sample() };
        dump.pages.retain(|pfn, _| part.contains(pfn));
        dump.build()
    };
    let beside = Vmware::of_pages(pages());
    vec![
        ("split kdump", vec![part(0..2), part(2..16)]),
        ("sadump, disks", Sadump::of_pages(sadump::Kind::Disks(2), pages()).build()),
        ("VMware, beside", vec![beside.build(), beside.image]),
    ]
}

/// The blocks of its sub-header are as many as what lies in them needs.
fn without_header() -> Vec<u8> {
    let mut vmcoreinfo = b"OSRELEASE=6.12.1-test\nPAGESIZE=4096\n".to_vec();
    vmcoreinfo.resize(PAGE + 100, b'\n');
    let mut file = Kdump { vmcoreinfo, ..sample() }.build();
    file[..PAGE].fill(0);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut packer = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn xz(bytes: &[u8], piece: usize) -> Vec<u8> {
    use liblzma::stream::{Action, Check, Status, Stream};
    let mut packer = Stream::new_easy_encoder(1, Check::Crc32).unwrap();
    let mut packed = Vec::with_capacity(bytes.len() * 2 + 10_000);
    for piece in bytes.chunks(piece) {
        let before = packer.total_in();
        // All at once, and the end of a block behind it.
        while packer
            .process_vec(&piece[(packer.total_in() - before) as usize..], &mut packed, Action::FullFlush)
            .unwrap()
            != Status::StreamEnd
        {}
    }
    while packer.process_vec(&[], &mut packed, Action::Finish).unwrap() != Status::StreamEnd {}
    packed
}

/// Pages in each of the forms that a stream can have them in.
fn packed_pages() -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&page(1)).unwrap();
    let at = |pfn: u64| pfn * PAGE as u64;
    // Page 2 is sent whole, then as nothing but its first byte: as many unchanged bytes, changed bytes, and those.
    let records = vec![
        Record::Page("pc.ram", 0, page(0)),
        Record::Packed("pc.ram", at(1), zlib.finish().unwrap()),
        Record::Page("pc.ram", at(2), page(2)),
        Record::Delta("pc.ram", at(2), vec![0, 1, page(2)[0]]),
        Record::Page("pc.ram", at(3), page(3)),
        Record::Fill("pc.ram", at(4), 0),
    ];
    Savevm { sections: vec![records], capabilities: vec!["xbzrle"], ..Savevm::of_pages(pages()) }.build()
}

fn lkcd(packing: Packing) -> Lkcd {
    Lkcd { packing, buffer: 1024, ..Lkcd::of_pages(pages()) }
}

fn mapped() -> Vec<u8> {
    let blocks = vec![("pc.ram", 4 * PAGE as u64)];
    Savevm { capabilities: vec!["mapped-ram"], blocks, ..Savevm::of_pages(pages()) }.build()
}
