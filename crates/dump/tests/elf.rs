//! ELF cores laid out by hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "helpers of tests may fail as tests do"
)]

mod support;

use kdive_base::{Endian, PhysAddr, VirtAddr, Why};
use kdive_dump::{Hints, Kind, OpenError, RunState, open, probe};
use kdive_evidence::Register;
use support::{Layout, PAGE, input, note, open_bytes, page, read_page, runs};

/// A segment: type, virtual and physical address, bytes in the file, bytes in memory.
#[derive(Clone)]
struct Segment {
    kind: u32,
    virt: u64,
    phys: u64,
    data: Vec<u8>,
    memory: u64,
}

fn load(phys: u64, data: Vec<u8>) -> Segment {
    let memory = data.len() as u64;
    Segment { kind: 1, virt: 0, phys, data, memory }
}

fn notes(data: Vec<u8>) -> Segment {
    Segment { kind: 4, virt: 0, phys: 0, memory: data.len() as u64, data }
}

struct Core {
    endian: Endian,
    is_64: bool,
    kind: u64,
    flags: u64,
    /// The count of segments is in section 0.
    extended: bool,
    segments: Vec<Segment>,
}

impl Core {
    fn new(segments: Vec<Segment>) -> Self {
        Self { endian: Endian::Little, is_64: true, kind: 4, flags: 0, extended: false, segments }
    }

    fn build(&self) -> Vec<u8> {
        let mut file = Layout::new(self.endian);
        let word = if self.is_64 { 8 } else { 4 };
        let data = if self.endian == Endian::Little { 1 } else { 2 };
        file.put(0, &[0x7f, b'E', b'L', b'F', if self.is_64 { 2 } else { 1 }, data, 1]);
        file.int(16, 2, self.kind).int(18, 2, if self.is_64 { 62 } else { 3 }).int(20, 4, 1);
        // phoff, shoff, flags, phentsize, phnum; then sizes of a program and a section header, offset of sh_info
        let at = if self.is_64 { [32, 40, 48, 54, 56] } else { [28, 32, 36, 42, 44] };
        let (entry, section, info) = if self.is_64 { (56, 64, 44) } else { (32, 40, 28) };
        let (sections_at, entries_at) = (64, 64 + section);
        file.int(at[0], word, entries_at as u64).int(at[2], 4, self.flags).int(at[3], 2, entry as u64);
        if self.extended {
            file.int(at[1], word, sections_at).int(at[4], 2, 0xffff);
            file.int(sections_at as usize + info, 4, self.segments.len() as u64);
        } else {
            file.int(at[4], 2, self.segments.len() as u64);
        }
        let mut data_at = entries_at + entry * self.segments.len();
        for (index, segment) in self.segments.iter().enumerate() {
            let here = entries_at + entry * index;
            let fields =
                [data_at as u64, segment.virt, segment.phys, segment.data.len() as u64, segment.memory];
            file.int(here, 4, segment.kind.into());
            let first = here + if self.is_64 { 8 } else { 4 };
            for (index, &value) in fields.iter().enumerate() {
                file.int(first + word * index, word, value);
            }
            file.put(data_at, &segment.data);
            data_at += segment.data.len();
        }
        file.bytes
    }
}

fn pages(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|&seed| page(seed)).collect()
}

#[test]
fn both_word_sizes_and_byte_orders_open_with_unordered_segments() {
    for endian in [Endian::Little, Endian::Big] {
        for is_64 in [true, false] {
            for extended in [true, false] {
                let segments = vec![
                    load(0x8000, pages(&[8, 9])),
                    notes(note(endian, "VMCOREINFO", 0, b"OSRELEASE=1\n")),
                    load(0x1000, pages(&[1])),
                ];
                let core = Core { endian, is_64, extended, ..Core::new(segments) };
                let opened = open_bytes(&core.build()).unwrap();
                for pfn in [1, 8, 9] {
                    assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn));
                }
                assert_eq!(read_page(&*opened.memory, 0), Err(Why::NeverPresent));
                assert_eq!(read_page(&*opened.memory, 2), Err(Why::NeverPresent));
                assert_eq!(opened.notes.vmcoreinfo.unwrap(), b"OSRELEASE=1\n");
                assert_eq!(opened.facts.big_endian, endian == Endian::Big);
            }
        }
    }
}

#[test]
fn memory_beyond_the_file_size_of_a_segment_is_zero_or_excluded() {
    let mut short = load(0x1000, pages(&[1]));
    short.memory = 3 * PAGE as u64;
    let bytes = Core::new(vec![short]).build();
    let opened = open_bytes(&bytes).unwrap();
    assert_eq!(read_page(&*opened.memory, 1).unwrap(), page(1));
    assert_eq!(read_page(&*opened.memory, 2), Err(Why::ZeroOrExcluded));
    assert_eq!(
        runs(&*opened.memory),
        [
            (0, 0x1000, RunState::Missing(Why::NeverPresent)),
            (0x1000, 0x2000, RunState::Present),
            (0x2000, 0x4000, RunState::Missing(Why::ZeroOrExcluded)),
        ]
    );
    let zeroed = open(input(&[bytes]), &Hints { zero_excluded: true, ..Hints::default() }).unwrap();
    assert_eq!(read_page(&*zeroed.memory, 3).unwrap(), vec![0; PAGE]);
}

#[test]
fn of_overlapping_segments_the_bytes_in_the_file_win_then_the_first() {
    let mut hole = load(0x1000, Vec::new());
    hole.memory = 0x5000;
    let segments = vec![hole, load(0x2000, pages(&[2, 3])), load(0x3000, pages(&[30, 4]))];
    let opened = open_bytes(&Core::new(segments).build()).unwrap();
    for pfn in [2, 3, 4] {
        assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn), "page {pfn}");
    }
    assert_eq!(read_page(&*opened.memory, 1), Err(Why::ZeroOrExcluded));
    assert_eq!(read_page(&*opened.memory, 5), Err(Why::ZeroOrExcluded));
    let mut across = vec![0; 3 * PAGE];
    assert_eq!(opened.memory.read(PhysAddr(0x2000), &mut across), (3 * PAGE, None));
    assert_eq!(across, pages(&[2, 3, 4]));
}

#[test]
fn segments_with_virtual_addresses_are_read_by_them() {
    let mut linear = load(0x1000, pages(&[1]));
    linear.virt = 0xffff_8880_0000_1000;
    let mut vmalloc = load(u64::MAX, pages(&[2]));
    vmalloc.virt = 0xffff_c900_0000_0000;
    let opened = open_bytes(&Core::new(vec![linear, vmalloc]).build()).unwrap();
    let segments = opened.memory.virtual_segments();
    assert_eq!(segments[0].phys, Some(PhysAddr(0x1000)));
    assert_eq!(segments[1].phys, None, "vmalloc memory is not contiguous");
    let mut bytes = [0; 16];
    assert_eq!(opened.memory.read_virtual(VirtAddr(0xffff_c900_0000_0010), &mut bytes), (16, None));
    assert_eq!(bytes, page(2)[16..32]);
    let (count, missing) = opened.memory.read_virtual(VirtAddr(0xffff_8880_0000_1ff8), &mut bytes);
    assert_eq!((count, missing.unwrap().why), (8, Why::NeverPresent));
    assert_eq!(runs(&*opened.memory).len(), 2, "only one segment has a physical address");
}

#[test]
fn registers_come_from_prstatus_and_control_registers_from_qemu() {
    let endian = Endian::Little;
    let prstatus = |cpu: u64| {
        let mut status = Layout::new(endian);
        status.int(32, 4, cpu + 1).int(112 + 8 * 16, 8, 0xffff_ffff_8100_0000 + cpu).put(335, &[0]);
        status.bytes
    };
    let qemu = |cpu: u64| {
        let mut state = Layout::new(endian);
        state.int(0, 4, 1).int(4, 4, 440).int(8 + 16 * 8, 8, 0xffff_ffff_8100_0000 + cpu);
        state.int(248 + 16, 8, 0xffff_8880_0000_0000 + cpu); // gs: base
        state.int(392, 8, 0x8005_0033).int(408, 8, 0x10).int(416, 8, 0x1ac_6000 + cpu).int(424, 8, 0x75_1ef0);
        state.int(432, 8, 0x77);
        state.bytes
    };
    let mut area = Vec::new();
    (0..2).for_each(|cpu| area.extend(note(endian, "CORE", 1, &prstatus(cpu))));
    (0..2).for_each(|cpu| area.extend(note(endian, "QEMU", 0, &qemu(cpu))));
    let opened = open_bytes(&Core::new(vec![notes(area), load(0, page(0))]).build()).unwrap();
    for (cpu, found) in opened.notes.cpus.iter().enumerate() {
        let control = found.control.unwrap();
        assert_eq!(found.cpu, cpu);
        assert_eq!(found.pid, Some(cpu as i32 + 1));
        assert_eq!(found.registers.ip().unwrap().0, 0xffff_ffff_8100_0000 + cpu as u64);
        assert_eq!(
            found.registers.get(kdive_evidence::Register::GsBase),
            Some(0xffff_8880_0000_0000 + cpu as u64)
        );
        assert_eq!((control.cr0, control.cr2, control.cr4), (0x8005_0033, 0x10, 0x75_1ef0));
        assert_eq!((control.cr3.0, control.kernel_gs_base), (0x1ac_6000 + cpu as u64, Some(0x77)));
    }
    assert_eq!(opened.notes.cpus.len(), 2);
}

#[test]
fn registers_of_a_32_bit_processor() {
    let mut status = Layout::new(Endian::Little);
    // ebx at 72 ... eip is the 13th, esp the 16th of 17 registers
    status.int(24, 4, 99).int(72, 4, 0xb).int(72 + 4 * 12, 4, 0xc100_0000).int(72 + 4 * 15, 4, 0xc200_0000);
    status.put(143, &[0]);
    let core = Core {
        is_64: false,
        ..Core::new(vec![notes(note(Endian::Little, "CORE", 1, &status.bytes)), load(0, page(0))])
    };
    let cpu = open_bytes(&core.build()).unwrap().notes.cpus.remove(0);
    assert_eq!(cpu.pid, Some(99));
    assert_eq!(cpu.registers.get(kdive_evidence::Register::Rbx), Some(0xb));
    assert_eq!((cpu.registers.ip().unwrap().0, cpu.registers.sp().unwrap().0), (0xc100_0000, 0xc200_0000));
}

#[test]
fn a_device_dump_is_located_not_read() {
    let mut dump = b"cxgb4_0000:02:00.4".to_vec();
    dump.resize(44, 0);
    dump.extend_from_slice(&[0x5a; 100]);
    let bytes = Core::new(vec![notes(note(Endian::Little, "LINUX", 0x700, &dump)), load(0, page(0))]).build();
    let found = open_bytes(&bytes).unwrap().notes.device_dumps.remove(0);
    assert_eq!((found.name.as_str(), found.bytes), ("cxgb4_0000:02:00.4", 100));
    let at = found.offset as usize;
    assert_eq!(bytes[at..at + 100], [0x5a; 100]);
    assert_ne!(bytes[at - 1], 0x5a);
}

#[test]
fn a_cut_core_reads_up_to_the_cut_and_warns() {
    let bytes = Core::new(vec![load(0x1000, pages(&[1, 2, 3]))]).build();
    let opened = open_bytes(&bytes[..bytes.len() - PAGE - 100]).unwrap();
    assert!(opened.facts.warnings[0].contains("truncated"), "{:?}", opened.facts.warnings);
    assert_eq!(read_page(&*opened.memory, 1).unwrap(), page(1));
    let mut page2 = vec![0; PAGE];
    let (count, missing) = opened.memory.read(PhysAddr(0x2000), &mut page2);
    assert_eq!((count, missing.unwrap().why), (PAGE - 100, Why::BeyondFileEnd));
    assert_eq!(page2[..count], page(2)[..count]);
    assert_eq!(read_page(&*opened.memory, 3), Err(Why::BeyondFileEnd));
}

#[test]
fn an_elf_that_makedumpfile_could_not_finish_says_so() {
    let core = Core { flags: 1, ..Core::new(vec![load(0, page(0))]) };
    assert!(open_bytes(&core.build()).unwrap().facts.incomplete);
}

#[test]
fn elf_files_that_are_no_kernel_cores_are_told() {
    let kind = |core: Core| probe(&core.build());
    let mut text = load(0x100_0000, page(1));
    text.virt = 0xffff_ffff_8100_0000;
    assert_eq!(kind(Core { kind: 2, ..Core::new(vec![text]) }), Kind::Vmlinux);
    assert_eq!(kind(Core { kind: 3, ..Core::new(vec![load(0, page(1))]) }), Kind::OtherElf);
    assert_eq!(kind(Core { kind: 1, ..Core::new(vec![]) }), Kind::Relocatable);
    let process = Core::new(vec![notes(note(Endian::Little, "CORE", 6, &[0; 16])), load(0, page(1))]);
    let error = open_bytes(&process.build()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::NotADump { kind: Kind::UserCore, .. }), "{error}");
    assert_eq!(kind(Core::new(vec![load(0, page(1))])), Kind::Dump("ELF core"));
}

/// Red Hat's netdump and diskdump's savecore: notes of one processor, no VMCOREINFO, all of RAM from address 0 on.
#[test]
fn a_netdump_opens_and_says_that_pages_were_left_out() {
    for is_64 in [false, true] {
        let word = if is_64 { 8 } else { 4 };
        let (bytes, registers_at, ip, ip_at) =
            if is_64 { (336, 112, 0xffff_ffff_8013_2ed8, 16) } else { (144, 72, 0xc013_2ed8, 12) };
        let mut status = Layout::default();
        status.int(registers_at + ip_at * word, word, ip).put(bytes, &[]);
        let one = Endian::Little;
        let mut area = note(one, "CORE", 1, &status.bytes);
        area.extend(note(one, "CORE", 3, &[0; 124]));
        area.extend(note(one, "CORE", 4, &[0x10; 8][..word]));
        for partial in [false, true] {
            let mut area = area.clone();
            if partial {
                area.extend(note(one, "CORE", 0x7000_0001, &[1, 0, 0, 0]));
            }
            let mut memory = load(0, pages(&[0, 1, 2, 3]));
            memory.virt = if is_64 { 0x100_0000_0000 } else { 0xc000_0000 };
            let core = Core { is_64, ..Core::new(vec![notes(area), memory]) }.build();
            assert_eq!(probe(&core), Kind::Dump("ELF core"));
            let opened = open_bytes(&core).unwrap();
            assert_eq!(opened.facts.machine.as_deref(), Some(if is_64 { "x86_64" } else { "i386" }));
            assert_eq!(opened.notes.cpus[0].registers.get(Register::Rip), Some(ip));
            assert!(opened.notes.other.iter().any(|note| (note.kind, note.bytes) == (4, word as u64)));
            let warns = opened.facts.warnings.iter().any(|warning| warning.contains("left out"));
            assert_eq!(warns, partial, "{:?}", opened.facts.warnings);
            for pfn in 0..4 {
                assert_eq!(read_page(&*opened.memory, pfn).unwrap(), page(pfn));
            }
            let mut through = vec![0; PAGE];
            let at = if is_64 { 0x100_0000_0000 } else { 0xc000_0000 } + PAGE as u64;
            assert_eq!(opened.memory.read_virtual(VirtAddr(at), &mut through), (PAGE, None));
            assert_eq!(through, page(1));
        }
    }
}
