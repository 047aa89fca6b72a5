//! A small dump in each format.

use std::io::Write;

use super::lkcd::{Lkcd, Packing};
use super::sadump::{self, Sadump};
use super::savevm::Savevm;
use super::vmware::Vmware;
use super::{Kdump, Layout, PAGE, Stored, flatten, lime, page, s390, xen};

fn pages() -> impl Iterator<Item = (u64, Vec<u8>)> {
    (0..4).map(|pfn| (pfn, page(pfn)))
}

pub fn kdump() -> Vec<u8> {
    sample().build()
}

fn sample() -> Kdump {
    let mut dump = Kdump { ram: vec![0..16], max_mapnr: 16, ..Kdump::default() };
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

fn lkcd(packing: Packing) -> Lkcd {
    Lkcd { packing, buffer: 1024, ..Lkcd::of_pages(pages()) }
}

fn mapped() -> Vec<u8> {
    let blocks = vec![("pc.ram", 4 * PAGE as u64)];
    Savevm { capabilities: vec!["mapped-ram"], blocks, ..Savevm::of_pages(pages()) }.build()
}
