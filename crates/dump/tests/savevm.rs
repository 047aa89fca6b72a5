//! QEMU's migration streams laid out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use std::io::Write;

use kdive_base::{PhysAddr, Why};
use kdive_dump::{Notes, RunState};
use kdive_evidence::Register;
use support::savevm::{Record, Savevm, libvirt};
use support::{PAGE, open_bytes, page, read_page, runs};

const GIB: u64 = 1 << 30;

#[test]
fn pages_are_found_and_the_last_of_two_counts() {
    let mut stream = Savevm::of_pages((0..20).map(|pfn| (pfn, page(pfn))));
    stream.sections.push(vec![
        Record::Fill("pc.bios", 0, 9),
        Record::Page("pc.ram", 3 * PAGE as u64, page(77)),
        Record::Fill("pc.ram", 4 * PAGE as u64, 0xcc),
        Record::Fill("pc.ram", 5 * PAGE as u64, 0xcc),
    ]);
    let opened = open_bytes(&stream.build()).unwrap();
    assert_eq!((opened.facts.format, opened.facts.version), ("QEMU savevm", Some(3)));
    assert_eq!(opened.facts.machine.as_deref(), Some("pc-i440fx-7.2"));
    for pfn in (0..3).chain(6..20) {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 3).unwrap(), page(77));
    assert_eq!(read_page(&*opened.memory, 5).unwrap(), vec![0xcc; PAGE]);
    assert_eq!(read_page(&*opened.memory, 20), Err(Why::NeverPresent), "it never came");
    let mut all = vec![0; 3 * PAGE];
    assert_eq!(opened.memory.read(PhysAddr(PAGE as u64 / 2), &mut all), (3 * PAGE, None));
    assert_eq!(all[PAGE / 2..PAGE / 2 + PAGE], page(1));
}

#[test]
fn memory_above_the_hole_begins_at_four_gibibytes() {
    for (machine, total, hole) in [
        ("pc-i440fx-7.2", 4 * GIB, 0xc000_0000),
        ("pc-q35-7.2", 4 * GIB, 0x8000_0000),
        ("pc-q35-9.0", 2 * GIB, 2 * GIB),
    ] {
        let mut stream = Savevm::of_pages([]);
        stream.machine = machine;
        stream.blocks[0].1 = total;
        let last = total - PAGE as u64;
        stream.sections[0] = vec![
            Record::Page("pc.ram", hole - PAGE as u64, page(1)),
            Record::Page("pc.ram", hole % total, page(2)),
            Record::Page("pc.ram", last, page(3)),
        ];
        let opened = open_bytes(&stream.build()).unwrap();
        let at = |address: u64| read_page(&*opened.memory, address / PAGE as u64);
        if hole < total {
            assert_eq!(at(hole - PAGE as u64).unwrap(), page(1), "{machine}");
            assert_eq!(at(hole), Err(Why::NeverPresent));
            assert_eq!(at(4 * GIB).unwrap(), page(2), "{machine}");
            assert_eq!(at(4 * GIB + last - hole).unwrap(), page(3), "{machine}");
        } else {
            assert_eq!(at(last).unwrap(), page(3), "{machine}: all of it is below");
        }
    }
}

/// A run that goes over the hole is two ranges of memory, and one range of the file.
#[test]
fn a_run_goes_on_above_the_hole() {
    let mut stream = Savevm::of_pages([]);
    stream.blocks[0].1 = 4 * GIB;
    let first = 0xc000_0000 / PAGE as u64 - 2;
    let record = |number: u64| Record::Page("pc.ram", (first + number) * PAGE as u64, page(number));
    stream.sections[0] = (0..5).map(record).collect();
    let opened = open_bytes(&stream.build()).unwrap();
    let above = 4 * GIB / PAGE as u64;
    for (pfn, seed) in [(first, 0), (first + 1, 1), (above, 2), (above + 2, 4)] {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(seed), "page {seed}");
    }
    let present: Vec<_> =
        runs(&*opened.memory).into_iter().filter(|(.., state)| *state == RunState::Present).collect();
    assert_eq!(present.len(), 2);
}

/// One processor whose description has a field before the registers, and one behind.
fn with_a_cpu() -> Savevm {
    let mut stream = Savevm::of_pages([(0, page(0))]);
    let mut cpu = vec![4, 0, 0, 0, 11, 3];
    cpu.extend(b"cpu\0\0\0\0\0\0\0\x0c");
    cpu.extend([0xee; 6]);
    (0..16_u64).for_each(|register| cpu.extend((0x100 + register).to_be_bytes()));
    cpu.extend(0xffff_ffff_8100_0010_u64.to_be_bytes());
    for segment in 0..6_u64 {
        cpu.extend((0x10 + segment as u32).to_be_bytes());
        cpu.extend((0x1000 * segment).to_be_bytes());
        cpu.extend([0; 8]);
    }
    for control in [0x8005_0033, 2, 0x1234_5000, 0x6f0_u64] {
        cpu.extend(control.to_be_bytes());
    }
    stream.devices = cpu;
    stream.description = r#"{"page_size": 4096, "devices": [
        {"name": "timer", "instance_id": 0, "vmsd_name": "timer", "version": 2, "fields": []},
        {"name": "slirp", "instance_id": 0, "data": [], "size": 131},
        {"name": "cpu", "instance_id": 0, "vmsd_name": "cpu", "version": 12, "fields": [
          {"name": "before", "array_len": 3, "type": "uint16", "size": 2},
          {"name": "env.regs", "array_len": 16, "type": "uint64", "size": 8},
          {"name": "env.eip", "type": "uint64", "size": 8},
          {"name": "env.segs", "array_len": 6, "type": "struct", "struct": {"fields": []}, "size": 20},
          {"name": "env.cr[0]", "type": "uint64", "size": 8}, {"name": "env.cr[2]", "type": "uint64", "size": 8},
          {"name": "env.cr[3]", "type": "uint64", "size": 8}, {"name": "env.cr[4]", "type": "uint64", "size": 8}
        ]}]}"#
        .to_owned();
    stream
}

#[test]
fn registers_are_where_the_description_says() {
    let Notes { cpus, .. } = open_bytes(&with_a_cpu().build()).unwrap().notes;
    let [cpu] = cpus.as_slice() else { panic!("{cpus:?}") };
    let register = |register| cpu.registers.get(register).unwrap();
    assert_eq!(register(Register::Rax), 0x100);
    assert_eq!(register(Register::Rcx), 0x101);
    assert_eq!(register(Register::Rsp), 0x104);
    assert_eq!(register(Register::R15), 0x10f);
    assert_eq!(register(Register::Rip), 0xffff_ffff_8100_0010);
    assert_eq!((register(Register::Cs), register(Register::GsBase)), (0x11, 0x5000));
    let control = cpu.control.unwrap();
    assert_eq!((control.cr2, control.cr3.0, control.cr4), (2, 0x1234_5000, 0x6f0));
    assert_eq!(control.gs_base, 0x5000);
    assert_eq!(control.kernel_gs_base, None, "this machine's description does not have it");
}

#[test]
fn a_stream_without_its_end_still_has_its_memory() {
    let whole = with_a_cpu().build();
    let cut = open_bytes(&whole[..whole.len() - 40]).unwrap();
    assert!(cut.notes.cpus.is_empty());
    assert!(cut.facts.warnings[0].contains("description"), "{:?}", cut.facts.warnings);
    assert_eq!(read_page(&*cut.memory, 0).unwrap(), page(0));
}

#[test]
fn what_cannot_be_passed_over_is_named() {
    let mut bytes = Savevm::of_pages((0..4).map(|pfn| (pfn, page(pfn)))).build();
    let at = bytes.windows(5).rposition(|window| window == [3, 0, 0, 0, 2]).unwrap();
    bytes[at] = 0x55;
    let opened = open_bytes(&bytes).unwrap();
    assert!(opened.facts.warnings[0].contains("unknown kind 0x55"), "{:?}", opened.facts.warnings);
    assert_eq!(read_page(&*opened.memory, 1).unwrap(), page(1));
    assert_eq!(read_page(&*opened.memory, 3), Err(Why::BeyondFileEnd));
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_pages_and_changes_of_pages_are_put_together() {
    let at = |pfn: u64| pfn * PAGE as u64;
    let mut stream = Savevm::of_pages((0..3).map(|pfn| (pfn, page(pfn))));
    stream.sections.push(vec![
        Record::Packed("pc.ram", at(1), zlib(&page(50))),
        Record::Delta("pc.ram", at(0), vec![2, 2, 0xaa, 0xbb]),
        Record::Fill("pc.ram", at(4), 7),
        Record::Fill("pc.ram", at(5), 7),
    ]);
    stream.sections.push(vec![
        Record::Delta("pc.ram", at(0), vec![3, 1, 0xcc]),
        Record::Delta("pc.ram", at(1), vec![0, 1, 0xdd]),
        Record::Delta("pc.ram", at(2), vec![0, 1, 0xee]),
        Record::Delta("pc.ram", at(5), vec![9, 1, 8]),
        Record::Packed("pc.ram", at(6), b"no zlib".to_vec()),
    ]);
    // A page that comes whole again has no older changes.
    stream.sections.push(vec![Record::Page("pc.ram", at(2), page(60))]);
    let opened = open_bytes(&stream.build()).unwrap();
    let changed = |seed: u64, changes: &[(usize, u8)]| {
        let mut bytes = page(seed);
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        bytes
    };
    for _ in 0..2 {
        let read = |pfn: u64| read_page(&*opened.memory, pfn);
        assert_eq!(read(0).unwrap(), changed(0, &[(2, 0xaa), (3, 0xcc)]));
        assert_eq!(read(1).unwrap(), changed(50, &[(0, 0xdd)]));
        assert_eq!(read(2).unwrap(), page(60));
        assert_eq!(read(4).unwrap(), vec![7; PAGE]);
        assert_eq!((read(5).unwrap()[8], read(5).unwrap()[9]), (7, 8));
        assert_eq!(read(6), Err(Why::Corrupt("zlib")));
    }
    let mut across = vec![0; PAGE];
    assert_eq!(opened.memory.read(PhysAddr(at(1) - 100), &mut across), (PAGE, None));
    assert_eq!((across[100], &across[101..]), (0xdd, &page(50)[1..PAGE - 100]));
}

fn mapped(before: u64) -> Savevm {
    let mut stream = with_a_cpu();
    stream.sections = Savevm::of_pages([(0, page(0)), (3, page(3)), (4, page(4)), (255, page(255))]).sections;
    stream.capabilities = vec!["mapped-ram", "multifd"];
    stream.before = before;
    stream
}

#[test]
fn mapped_ram_has_a_place_for_each_page() {
    for before in [0, 0x3000] {
        let opened = open_bytes(&mapped(before).build()).unwrap();
        assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
        assert_eq!(opened.notes.cpus.len(), 1);
        for pfn in [0, 3, 4, 255] {
            assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn));
        }
        assert_eq!(
            read_page(&*opened.memory, 1).unwrap(),
            vec![0; PAGE],
            "a bit that is clear is a page of zeros"
        );
        assert_eq!(read_page(&*opened.memory, 256), Err(Why::NeverPresent));
        let mut both = vec![0; 3 * PAGE];
        assert_eq!(opened.memory.read(PhysAddr(2 * PAGE as u64), &mut both), (both.len(), None));
        assert_eq!(both, [vec![0; PAGE], page(3), page(4)].concat());
    }
}

/// QEMU writes the bitmaps when all pages are written.
#[test]
fn a_clear_bit_means_nothing_before_the_end() {
    let whole = mapped(0).build();
    let first_page = whole.windows(64).position(|window| window == &page(3)[..64]).unwrap();
    let cut = open_bytes(&whole[..first_page + PAGE]).unwrap();
    assert!(cut.facts.warnings[0].contains("truncated"), "{:?}", cut.facts.warnings);
    assert_eq!(read_page(&*cut.memory, 1), Err(Why::NotWritten));
    assert_eq!(read_page(&*cut.memory, 3).unwrap(), page(3));
    assert_eq!(read_page(&*cut.memory, 4), Err(Why::BeyondFileEnd));
}

/// Found by wrong bits: a few bytes claimed petabytes that are there.
#[test]
fn a_block_of_mapped_ram_is_no_bigger_than_the_file() {
    let mut bytes = mapped(0).build();
    let at = bytes.windows(6).position(|window| window == b"pc.ram").unwrap() + 6;
    bytes[at] = 0x7f;
    let opened = open_bytes(&bytes).unwrap();
    let present = opened.memory.next_run(PhysAddr(0)).unwrap();
    assert!(present.bytes < bytes.len() as u64, "{present:?}");
    assert_eq!(read_page(&*opened.memory, 3).unwrap(), page(3));
}

#[test]
fn memory_that_went_elsewhere_is_named() {
    let mut stream = mapped(0);
    stream.capabilities = vec!["multifd"];
    let error = open_bytes(&stream.build()).map(drop).unwrap_err();
    assert!(error.to_string().contains("multifd"), "{error}");
}

#[test]
fn what_libvirt_saved_is_the_stream_behind_its_header() {
    let stream = with_a_cpu().build();
    let opened = open_bytes(&libvirt(&stream, b"LibvirtQemudSave", 0)).unwrap();
    assert_eq!(opened.facts.wrappers, ["libvirt save"]);
    assert_eq!(opened.facts.format, "QEMU savevm");
    assert!(opened.facts.warnings.is_empty(), "{:?}", opened.facts.warnings);
    assert_eq!(read_page(&*opened.memory, 0).unwrap(), page(0));
    assert_eq!(opened.notes.cpus.len(), 1);
    let unfinished = open_bytes(&libvirt(&stream, b"LibvirtQemudPart", 0)).unwrap();
    assert!(unfinished.facts.warnings[0].contains("did not finish"), "{:?}", unfinished.facts.warnings);
    let error = open_bytes(&libvirt(b"BZh91AY&SY", b"LibvirtQemudSave", 3)).map(drop).unwrap_err();
    assert!(error.to_string().contains("compressed by bzip2"), "{error}");
    let error = open_bytes(&libvirt(b"", b"LibvirtQemudSave", 0)).map(drop).unwrap_err();
    assert!(error.to_string().contains("inside its headers"), "{error}");
}
