//! The walker against page tables built here, by a builder that knows nothing of the walker's formats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kdive_arch::paging::PageTables;
use kdive_arch::x86_64::paging::{FIVE_LEVEL, FOUR_LEVEL};
use kdive_base::{Missing, PhysAddr, VirtAddr, VirtualMemory, Why};
use kdive_dump::{PhysicalMemory, Run};
use proptest::prelude::*;

use super::{Mapped, PageTable};
use crate::AddressSpace;

/// Physical memory that exists where something was written.
#[derive(Default)]
struct Ram(Mutex<BTreeMap<u64, Vec<u8>>>);

impl Ram {
    fn word(&self, at: u64) -> u64 {
        let pages = self.0.lock().unwrap();
        let Some(page) = pages.get(&(at >> 12)) else { return 0 };
        u64::from_le_bytes(page[(at & 0xff8) as usize..][..8].try_into().unwrap())
    }

    fn set(&self, at: u64, word: u64) {
        let mut pages = self.0.lock().unwrap();
        let page = pages.entry(at >> 12).or_insert_with(|| vec![0; 4096]);
        page[(at & 0xff8) as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }
}

impl PhysicalMemory for Ram {
    fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let pages = self.0.lock().unwrap();
        for (done, byte) in into.iter_mut().enumerate() {
            let here = at.0.wrapping_add(done as u64);
            let Some(page) = pages.get(&(here >> 12)) else {
                return (done, Some(Missing::new(PhysAddr(here), Why::Excluded)));
            };
            *byte = page[(here & 0xfff) as usize];
        }
        (into.len(), None)
    }

    fn next_run(&self, _from: PhysAddr) -> Option<Run> {
        None
    }
}

const ROOT: u64 = 0x1000;

/// Maps `1 << shift` bytes at `virt`; tables are taken from below 16 MiB, one page after the other.
fn map(ram: &Ram, levels: u32, virt: u64, phys: u64, shift: u32, next_table: &mut u64) {
    let mut table = ROOT;
    let mut at = 12 + 9 * (levels - 1);
    loop {
        let slot = table + (virt >> at & 0x1ff) * 8;
        if at == shift {
            let huge = if shift > 12 { 1 << 7 } else { 0 };
            ram.set(slot, phys | huge | 1);
            return;
        }
        let entry = ram.word(slot);
        if entry & 1 != 0 && entry & 0x80 != 0 {
            return; // already inside a larger page
        }
        if entry & 1 == 0 {
            ram.set(slot, *next_table | 0x63);
            ram.set(*next_table, 0);
            table = *next_table;
            *next_table += 0x1000;
        } else {
            table = entry & 0x000f_ffff_ffff_f000;
        }
        at -= 9;
    }
}

fn format(five: bool) -> (&'static PageTables, u32) {
    if five { (&FIVE_LEVEL, 5) } else { (&FOUR_LEVEL, 4) }
}

fn canonical(address: u64, bits: u32) -> u64 {
    ((address << (64 - bits)) as i64 >> (64 - bits)) as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mapped_addresses_translate_and_their_neighbours_do_not(
        five: bool,
        pages in proptest::collection::btree_map(0_u64..1 << 45, (0_u64..1 << 20, 0_u32..2), 1..20),
    ) {
        let (tables, levels) = format(five);
        let ram = Arc::new(Ram::default());
        ram.set(ROOT, 0);
        let mut next_table = 0x2000;
        let mut truth = Vec::new();
        for (page, (frame, huge)) in pages {
            let shift = 12 + 9 * huge;
            let virt = canonical(page << 21, 12 + 9 * levels);
            let phys = frame << 21;
            map(&ram, levels, virt, phys, shift, &mut next_table);
            truth.push((virt, phys, 1_u64 << shift));
        }
        let table = PageTable::new(ram, tables, PhysAddr(ROOT), 0);
        for (virt, phys, bytes) in truth {
            for inside in [0, 8, bytes - 1] {
                let found = table.translate(VirtAddr(virt + inside)).unwrap();
                prop_assert_eq!((found.phys.0, found.page_bytes), (phys + inside, bytes));
                prop_assert_eq!(found.bytes_left(), bytes - inside);
            }
            if bytes == 4096 {
                let neighbour = table.translate(VirtAddr(virt + 4096)).unwrap_err();
                prop_assert_eq!(neighbour.why, Why::NotMapped { level: 1 });
            }
        }
    }

    #[test]
    fn garbage_tables_never_panic(
        five: bool,
        words in proptest::collection::vec((0_u64..64, 0_u64..512, any::<u64>()), 0..200),
        addresses in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let ram = Arc::new(Ram::default());
        for (page, slot, word) in words {
            // Half of the entries point at other garbage.
            let word = if word & 2 == 0 { word & 0x3f_ffff | 1 } else { word };
            ram.set(page << 12 | slot << 3, word);
        }
        let table = PageTable::new(ram.clone(), format(five).0, PhysAddr(0), 0);
        let space = AddressSpace::new(ram, Some(table), Vec::new());
        for address in addresses {
            let mut bytes = [0; 64];
            let (count, missing) = space.read(VirtAddr(address), &mut bytes);
            prop_assert_eq!(count < bytes.len(), missing.is_some());
        }
    }
}

#[test]
fn the_encryption_bit_is_not_part_of_an_address() {
    const SME: u64 = 1 << 47;
    let ram = Arc::new(Ram::default());
    let mut next_table = 0x2000;
    map(&ram, 4, 0xffff_8880_0000_0000, 0x5000 | SME, 12, &mut next_table);
    let table = PageTable::new(ram, &FOUR_LEVEL, PhysAddr(ROOT), SME);
    assert_eq!(table.translate(VirtAddr(0xffff_8880_0000_0010)).unwrap().phys, PhysAddr(0x5010));
}

#[test]
fn a_swapped_page_says_where_it_went() {
    let ram = Arc::new(Ram::default());
    let mut next_table = 0x2000;
    map(&ram, 4, 0x40_0000, 0x5000, 12, &mut next_table);
    let leaf = (0x2000..next_table).step_by(8).find(|&at| ram.word(at) == 0x5001).unwrap();
    ram.set(leaf, 1 << 59 | (!0x24225_u64 << 14) >> 5);
    let table = PageTable::new(ram, &FOUR_LEVEL, PhysAddr(ROOT), 0);
    let missing = table.translate(VirtAddr(0x40_0000)).unwrap_err();
    assert_eq!(missing.why, Why::Swapped { area: 1, offset: 0x24225 });
}

#[test]
fn a_missing_table_is_bridged_by_the_linear_map() {
    use crate::LinearMap;
    let ram = Arc::new(Ram::default());
    ram.set(ROOT, 0x9000_0001); // the next table is not in the dump
    ram.set(0x5000, 77);
    let table = PageTable::new(ram.clone(), &FOUR_LEVEL, PhysAddr(ROOT), 0);
    let linear = LinearMap { start: VirtAddr(0), end: VirtAddr(0x10_0000), phys: PhysAddr(0x4000) };
    let space = AddressSpace::new(ram, Some(table), vec![linear]);
    assert_eq!(space.u64(VirtAddr(0x1000)).unwrap(), 77);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The runs of a range are what single translations of its pages say.
    #[test]
    fn runs_agree_with_single_translations(
        five: bool,
        upper: bool,
        pages in proptest::collection::btree_map(0_u64..3000, (0_u64..6000, 0_u32..2), 1..60),
        skip in 0_u64..0x80_0000,
        length in 1_u64..0x200_0000,
    ) {
        let (tables, levels) = format(five);
        let ram = Arc::new(Ram::default());
        ram.set(ROOT, 0);
        let mut next_table = 0x2000;
        let start = canonical(if upper { 1 << (11 + 9 * levels) } else { 0x4000_0000 }, 12 + 9 * levels);
        for (page, (frame, huge)) in pages {
            // Half of the pages lie in order, so that runs grow over them.
            let frame = if frame % 2 == 0 { page + 0x10_0000 } else { frame + 0x1000 };
            let (page, frame) = (page >> (9 * huge) << (9 * huge), frame >> (9 * huge) << (9 * huge));
            map(&ram, levels, start + (page << 12), frame << 12, 12 + 9 * huge, &mut next_table);
        }
        let table = PageTable::new(ram, tables, PhysAddr(ROOT), 0);
        let (first, last) = (start + skip, start + skip + (length - 1));
        let runs: Vec<_> = table.mapped(VirtAddr(first), VirtAddr(last)).map(Result::unwrap).collect();
        for pair in runs.windows(2) {
            let end = pair[0].virt.0 + pair[0].bytes;
            prop_assert!(end < pair[1].virt.0 || pair[0].phys.0 + pair[0].bytes != pair[1].phys.0, "{pair:?}");
            prop_assert!(end <= pair[1].virt.0, "{pair:?}");
        }
        let run_at = |at: u64| runs.iter().find(|run| at.wrapping_sub(run.virt.0) < run.bytes);
        for at in (first..=last).step_by(4096).chain([last]) {
            let found = run_at(at).map(|run| run.phys.0 + (at - run.virt.0));
            prop_assert_eq!(found, table.translate(VirtAddr(at)).ok().map(|found| found.phys.0), "{:#x}", at);
        }
        let inside = |run: &Mapped| first <= run.virt.0 && run.virt.0 + (run.bytes - 1) <= last;
        prop_assert!(runs.iter().all(inside), "a run leaves the range");
    }

    #[test]
    fn garbage_tables_are_walked_to_an_end(
        five: bool,
        words in proptest::collection::vec((0_u64..16, 0_u64..512, any::<u64>()), 0..200),
        first: u64,
        last: u64,
    ) {
        let ram = Arc::new(Ram::default());
        for (page, slot, word) in words {
            ram.set(page << 12 | slot << 3, if word & 2 == 0 { word & 0xffff | 1 } else { word });
        }
        let table = PageTable::new(ram, format(five).0, PhysAddr(0), 0);
        let count = table.mapped(VirtAddr(first), VirtAddr(last)).count();
        // 16 pages as tables of 5 levels, 8 visits of 512 entries each, and as many tables that are not there.
        prop_assert!(count <= 2 * 16 * 5 * 8 * 512, "{count}");
    }
}

#[test]
fn a_table_that_holds_itself_is_left() {
    let ram = Arc::new(Ram::default());
    for slot in 0..512 {
        ram.set(ROOT + slot * 8, ROOT | 0x63);
    }
    let table = PageTable::new(ram, &FIVE_LEVEL, PhysAddr(ROOT), 0);
    let bytes: u64 = table.mapped(VirtAddr(0), VirtAddr(u64::MAX)).map(|run| run.unwrap().bytes).sum();
    assert!((1..=8 * 512 * 4096 * 512 * 512).contains(&bytes), "{bytes:#x}");
}

#[test]
fn a_missing_table_is_told_once_and_the_walk_goes_on() {
    let ram = Arc::new(Ram::default());
    let mut next_table = 0x2000;
    map(&ram, 4, 0x40_0000, 0x5000, 12, &mut next_table);
    ram.set(ROOT + 8, 0x9000_0063); // the second 512 GiB: their table is not in the dump
    map(&ram, 4, 0x0000_7fff_0000_0000, 0x6000, 12, &mut next_table);
    let table = PageTable::new(ram, &FOUR_LEVEL, PhysAddr(ROOT), 0);
    let runs: Vec<_> = table.mapped(VirtAddr(0), VirtAddr(u64::MAX)).collect();
    let page = |virt, phys| Ok(Mapped { virt: VirtAddr(virt), phys: PhysAddr(phys), bytes: 4096 });
    let missing = Err(Missing::new(VirtAddr(1 << 39), Why::Excluded));
    assert_eq!(runs, [page(0x40_0000, 0x5000), missing, page(0x0000_7fff_0000_0000, 0x6000)]);
}
