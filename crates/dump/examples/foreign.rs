//! Writes the memory of a dump in formats that no tool here writes, for other readers to open: `foreign FORMAT DUMP OUT`.
//!
//! The writers are those of the tests, which keep their own constants.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::single_range_in_vec_init,
    reason = "a tool of tests"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use kdive_base::{Endian, PhysAddr};
use kdive_dump::{Hints, Input, InputFile, RunState, open};
use support::lkcd::{Lkcd, Packing};
use support::sadump::{self, Sadump};
use support::vmware::Vmware;
use support::{Kdump, PAGE, Stored, lime, s390, xen};

type Pages = BTreeMap<u64, Vec<u8>>;

/// A format's name and its writer: one file, or several.
type Writer = (&'static str, fn(&Pages) -> Vec<Vec<u8>>);

static WRITERS: &[Writer] = &[
    ("diskdump", |pages| vec![diskdump(pages, false)]),
    ("diskdump-one-bitmap", |pages| vec![diskdump(pages, true)]),
    ("diskdump-32", |pages| {
        vec![Kdump { is_64: false, machine: "i686", ..diskdump_of(pages, false) }.build()]
    }),
    ("lkcd9-big-endian", |pages| vec![Lkcd { endian: Endian::Big, ..lkcd_of(pages) }.build()]),
    ("lkcd9-32", |pages| vec![Lkcd { is_64: false, ..lkcd_of(pages) }.build()]),
    ("lkcd5-32", |pages| {
        vec![Lkcd { is_64: false, version: 5, packing: Packing::Rle, ..lkcd_of(pages) }.build()]
    }),
    ("lkcd1-32", |pages| {
        vec![Lkcd { is_64: false, version: 1, packing: Packing::Rle, ..lkcd_of(pages) }.build()]
    }),
    ("lkcd6-gzip", |pages| lkcd(pages, 6, Packing::Gzip)),
    ("lkcd8-rle", |pages| lkcd(pages, 8, Packing::Rle)),
    ("lkcd9-gzip", |pages| lkcd(pages, 9, Packing::Gzip)),
    ("lkcd10-raw", |pages| lkcd(pages, 10, Packing::None)),
    ("lkcd7-gzip", |pages| lkcd(pages, 7, Packing::Gzip)),
    ("lkcd5-rle", |pages| lkcd(pages, 5, Packing::Rle)),
    ("lkcd3-rle", |pages| lkcd(pages, 3, Packing::Rle)),
    ("lkcd2-raw", |pages| lkcd(pages, 2, Packing::None)),
    ("s390", |pages| vec![s390::build(&flat(pages))]),
    ("xen", |pages| vec![xen::build(&listed(pages), false)]),
    ("xen-pv", |pages| vec![xen::build(&listed(pages), true)]),
    ("lime", |pages| vec![lime::lime(pages.clone())]),
    ("avml", |pages| vec![lime::avml(pages.clone())]),
    ("sadump", |pages| Sadump::of_pages(sadump::Kind::Single, pages.clone()).build()),
    ("sadump-disks", |pages| Sadump::of_pages(sadump::Kind::Disks(3), pages.clone()).build()),
    ("sadump-media", |pages| Sadump::of_pages(sadump::Kind::Media, pages.clone()).build()),
    ("vmss", |pages| vec![Vmware { is_inside: true, ..Vmware::of_pages(pages.clone()) }.build()]),
    ("vmss-vmem", |pages| {
        let snapshot = Vmware::of_pages(pages.clone());
        vec![snapshot.build(), snapshot.image]
    }),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, format, dump, out] = arguments.as_slice() else {
        let names: Vec<&str> = WRITERS.iter().map(|(name, _)| *name).collect();
        println!("usage: foreign FORMAT DUMP OUT\nformats: {}", names.join(" "));
        return;
    };
    let (_, write) =
        WRITERS.iter().find(|(name, _)| name == format).unwrap_or_else(|| panic!("no format {format}"));
    let pages = read(dump);
    let files = write(&pages);
    for (number, bytes) in files.iter().enumerate() {
        let name = if files.len() == 1 { out.clone() } else { format!("{out}.{}", number + 1) };
        File::create(name).unwrap().write_all(bytes).unwrap();
    }
    println!("{} pages", pages.len());
}

/// The dump, whose whole pages of RAM are wanted.
fn read(dump: &str) -> Pages {
    let file = InputFile::new(dump, Arc::new(std::fs::read(dump).unwrap()));
    let opened = open(Input::from(file), &Hints::default()).unwrap();
    let mut pages = Pages::new();
    let mut at = PhysAddr(0);
    while let Some(run) = opened.memory.next_run(at) {
        let end = run.start.0 + run.bytes;
        if run.state == RunState::Present {
            for pfn in run.start.0.div_ceil(PAGE as u64)..end / PAGE as u64 {
                let mut page = vec![0; PAGE];
                if opened.memory.read(PhysAddr(pfn * PAGE as u64), &mut page).1.is_none() {
                    pages.insert(pfn, page);
                }
            }
        }
        at = PhysAddr(end);
    }
    // What QEMU adds above RAM: the firmware below 4 GiB.
    pages.retain(|pfn, _| *pfn < 0xf_0000);
    pages
}

fn listed(pages: &Pages) -> Vec<(u64, Vec<u8>)> {
    pages.clone().into_iter().collect()
}

/// Memory from address 0 on, holes as zeros.
fn flat(pages: &Pages) -> Vec<u8> {
    let last = pages.keys().next_back().unwrap() + 1;
    (0..last).flat_map(|pfn| pages.get(&pfn).cloned().unwrap_or_else(|| vec![0; PAGE])).collect()
}

fn zlib(bytes: &[u8]) -> Stored {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    let packed = encoder.finish().unwrap();
    if packed.len() < bytes.len() { Stored { flags: 1, bytes: packed } } else { Stored::raw(bytes) }
}

fn diskdump(pages: &Pages, one_bitmap: bool) -> Vec<u8> {
    diskdump_of(pages, one_bitmap).build()
}

fn diskdump_of(pages: &Pages, one_bitmap: bool) -> Kdump {
    let last = pages.keys().next_back().unwrap() + 1;
    Kdump {
        signature: b"DISKDUMP",
        version: 1,
        status: 8,
        one_bitmap,
        ram: vec![0..last],
        pages: pages.iter().map(|(pfn, bytes)| (*pfn, zlib(bytes))).collect(),
        max_mapnr: last,
        ..Kdump::default()
    }
}

fn lkcd(pages: &Pages, version: u64, packing: Packing) -> Vec<Vec<u8>> {
    vec![Lkcd { version, packing, ..lkcd_of(pages) }.build()]
}

fn lkcd_of(pages: &Pages) -> Lkcd {
    Lkcd::of_pages(listed(pages))
}
