//! External fragmentation: free blocks by size and use (mm/vmstat.c), and what keeps larger ones from being.

use kdive_base::{Cancel, PhysAddr, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};
use rustc_hash::FxHashMap;

use crate::mmzone::Nodes;
use crate::page_alloc::FreeAreas;
use crate::pages::{Census, PageKind, Pageblock, Pages};
use crate::slab::Slabs;

/// The free blocks of a zone.
#[derive(Clone, Debug)]
pub struct ZoneFree {
    /// Its node.
    pub node: Field<u32>,
    /// Its name: `Normal`.
    pub zone: Field<String>,
    /// Free blocks by order, and in each by migrate type.
    pub blocks: Vec<Vec<u64>>,
    /// Why blocks may be lacking.
    pub incomplete: Option<Lacks>,
}

impl ZoneFree {
    /// Free pages.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages_from(0)
    }

    /// Free pages in blocks of an order and larger.
    fn pages_from(&self, order: usize) -> u64 {
        let sizes = self.blocks.iter().enumerate().skip(order);
        sizes.fold(0, |sum, (order, blocks)| {
            let count = blocks.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            sum.saturating_add(count.checked_shl(order as u32).unwrap_or(u64::MAX))
        })
    }

    /// The share of free memory that is of no use to an allocation of an order (`unusable_free_index`): 0 to 1; `None`
    /// where nothing is free.
    #[must_use]
    pub fn unusable(&self, order: usize) -> Option<f64> {
        let all = self.pages();
        (all > 0).then(|| all.saturating_sub(self.pages_from(order)) as f64 / all as f64)
    }
}

/// The names of migrate types, by number: `Unmovable`, without `MIGRATE_`, in lower case.
///
/// # Errors
/// The kernel's types do not have them.
pub fn migrate_types(kernel: &Kernel) -> Field<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (name, number) in kernel.enumerators("migratetype")? {
        // Bounds, which share their number with a type that follows.
        if matches!(&*name, "MIGRATE_PCPTYPES" | "MIGRATE_TYPES" | "__MIGRATE_TYPE_END") {
            continue;
        }
        let Some(index) = usize::try_from(number).ok().filter(|index| *index < 32) else { continue };
        if names.len() <= index {
            names.resize(index.saturating_add(1), "?".to_owned());
        }
        if let Some(place) = names.get_mut(index) {
            *place = name.trim_start_matches("MIGRATE_").to_lowercase();
        }
    }
    Ok(names)
}

/// The free blocks of the zones that have memory.
///
/// # Errors
/// Zones or their lists cannot be found.
pub fn free(kernel: &Kernel, cancel: &Cancel) -> Field<Vec<ZoneFree>> {
    let areas = FreeAreas::find(kernel)?;
    let mut found = Vec::new();
    for (node, zone) in Nodes::find(kernel)?.zones() {
        if zone.managed_pages == Ok(0) {
            continue;
        }
        let mut of =
            ZoneFree { node: node.id.clone(), zone: zone.name(kernel), blocks: Vec::new(), incomplete: None };
        for area in areas.of_zone(zone)? {
            let mut count = 0_u64;
            for block in areas.blocks(zone, area) {
                if cancel.is_cancelled() {
                    return Ok(found);
                }
                match block {
                    Ok(_) => count = count.saturating_add(1),
                    Err(lacks) => of.incomplete = Some(lacks),
                }
            }
            let (order, kind) = (area.order as usize, area.migrate_type as usize);
            if of.blocks.len() <= order {
                of.blocks.resize(order.saturating_add(1), Vec::new());
            }
            if let Some(kinds) = of.blocks.get_mut(order) {
                kinds.resize(kinds.len().max(kind.saturating_add(1)), 0);
                if let Some(place) = kinds.get_mut(kind) {
                    *place = count;
                }
            }
        }
        found.push(of);
    }
    Ok(found)
}

/// What keeps pageblocks from being free.
#[derive(Clone, Debug)]
pub struct Pin {
    /// What most of the pages are that cannot be moved.
    pub kind: PageKind,
    /// Pageblocks.
    pub blocks: u64,
    /// Pages in them that cannot be moved.
    pub pages: u64,
    /// Pages in them that are free.
    pub free_pages: u64,
    /// Of the pageblocks, those in which no more than one page in eight cannot be moved.
    pub by_few: u64,
    /// The page structure of one of the pages.
    pub example: Option<VirtAddr>,
    /// Of slabs, the caches of the first page of each pageblock, the most frequent first.
    pub caches: Vec<(String, u64)>,
}

/// All pageblocks.
#[derive(Clone, Debug)]
pub struct Pageblocks {
    /// Pages of a pageblock, as log2.
    pub order: u32,
    /// How many there are.
    pub blocks: u64,
    /// Those that are free as a whole.
    pub free: u64,
    /// Those without a page that cannot be moved: compaction can free them.
    pub movable: u64,
    /// The others, by what pins them: the most pageblocks first.
    pub pins: Vec<Pin>,
    /// Frames whose page structures could not be read, and why.
    pub incomplete: Option<(u64, Lacks)>,
}

/// Looks at every pageblock.
///
/// # Errors
/// The kernel's page structures cannot be found.
pub fn pageblocks(kernel: &Kernel) -> Field<Pageblocks> {
    let census = Census::find(kernel)?;
    let map = Pages::find(kernel).map.clone();
    let mut found = Pageblocks {
        order: census.block_order,
        blocks: census.blocks.len() as u64,
        free: 0,
        movable: 0,
        pins: Vec::new(),
        incomplete: census.incomplete.clone(),
    };
    let mut pins: FxHashMap<PageKind, (Pin, FxHashMap<String, u64>)> = FxHashMap::default();
    for block in &census.blocks {
        let free = block.counts.of(PageKind::Free).saturating_add(block.counts.of(PageKind::FreeOnCpu));
        if free == block.counts.total() {
            found.free = found.free.saturating_add(1);
            continue;
        }
        let Some((first, kind_of_first)) = block.first_unmovable else {
            found.movable = found.movable.saturating_add(1);
            continue;
        };
        let (kind, pages) = pinning(block);
        let empty = || {
            (
                Pin {
                    kind,
                    blocks: 0,
                    pages: 0,
                    free_pages: 0,
                    by_few: 0,
                    example: None,
                    caches: Vec::new(),
                },
                FxHashMap::default(),
            )
        };
        let (pin, caches) = pins.entry(kind).or_insert_with(empty);
        pin.blocks = pin.blocks.saturating_add(1);
        pin.pages = pin.pages.saturating_add(pages);
        pin.free_pages = pin.free_pages.saturating_add(free);
        if pages.saturating_mul(8) <= block.counts.total() {
            pin.by_few = pin.by_few.saturating_add(1);
        }
        if kind_of_first != kind {
            continue;
        }
        pin.example = pin.example.or_else(|| map.as_ref().ok().map(|map| map.page_of(first)));
        if kind == PageKind::Slab
            && let Some(name) = cache_name(kernel, first.start())
        {
            *caches.entry(name).or_default() += 1;
        }
    }
    found.pins = pins
        .into_values()
        .map(|(mut pin, caches)| {
            pin.caches = caches.into_iter().collect();
            pin.caches.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
            pin
        })
        .collect();
    found.pins.sort_by_key(|pin| (std::cmp::Reverse(pin.blocks), pin.kind));
    Ok(found)
}

/// The kind of most pages of a block that cannot be moved, and how many of any kind cannot.
fn pinning(block: &Pageblock) -> (PageKind, u64) {
    let unmovable = PageKind::ALL.into_iter().filter(|kind| kind.is_unmovable());
    let (mut kind, mut most, mut all) = (PageKind::Kernel, 0, 0_u64);
    for of in unmovable {
        let count = block.counts.of(of);
        all = all.saturating_add(count);
        if count > most {
            (kind, most) = (of, count);
        }
    }
    (kind, all)
}

fn cache_name(kernel: &Kernel, at: PhysAddr) -> Option<String> {
    let address = Pages::find(kernel).direct.as_ref().ok()?.address_of(at)?;
    let slab = Slabs::find(kernel).slab_at(kernel, address).ok()??;
    Some(slab.cache.display_name().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(blocks: &[u64]) -> ZoneFree {
        ZoneFree {
            node: Ok(0),
            zone: Ok("Normal".into()),
            blocks: blocks.iter().map(|count| vec![*count, 0]).collect(),
            incomplete: None,
        }
    }

    #[test]
    fn small_blocks_are_of_no_use_to_large_allocations() {
        let zone = zone(&[4, 2, 1, 0]);
        assert_eq!(zone.pages(), 12);
        assert_eq!(zone.unusable(0), Some(0.0));
        assert_eq!(zone.unusable(2), Some(8.0 / 12.0));
        assert_eq!(zone.unusable(3), Some(1.0));
        assert_eq!(ZoneFree { blocks: vec![vec![0]], ..zone.clone() }.unusable(0), None);
    }
}
