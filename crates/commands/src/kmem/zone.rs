//! Where a zone lies: what `-f` and `-n` say of it alike.

use kdive_base::{Pfn, VirtAddr};
use kdive_linux::mmzone::Zone;
use kdive_linux::pages::MemoryMap;
use serde::Serialize;

use crate::cx::Cx;

/// A zone's place in memory.
#[derive(Debug, Default, Serialize)]
pub(super) struct ZonePlace {
    pub(super) zone: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Frames from its first to its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// The page structure of its first frame; 0 where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mem_map: Option<VirtAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_pfn: Option<u64>,
}

impl ZonePlace {
    /// The place of a zone; what it lacks is noted as a gap.
    pub(super) fn new(cx: &mut Cx, zone: &Zone, map: Option<&MemoryMap>) -> Self {
        let kernel = cx.kernel.clone();
        let place = || format!("zone {}", zone.at);
        let size = cx.known(zone.spanned_pages.clone(), "SIZE of a zone", place);
        let start = cx.known(zone.start_pfn.clone(), "START of a zone", place);
        let empty = size == Some(0);
        let first = map.zip(start).map(|(map, pfn)| map.page_of(Pfn(pfn)));
        Self {
            zone: zone.at,
            name: cx.known(zone.name(&kernel), "NAME of a zone", place),
            size,
            mem_map: if empty { Some(VirtAddr(0)) } else { first },
            start_pfn: if empty { Some(0) } else { start },
        }
    }

    pub(super) fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or("?")
    }
}
