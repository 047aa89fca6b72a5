//! The firmware's map of physical memory on x86 (arch/x86/kernel/e820.c).

use kdive_base::{PhysAddr, VirtAddr};
use kdive_debuginfo::{Tag, Type};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};
use serde::Serialize;

/// One range of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapRange {
    /// Its first byte.
    pub start: PhysAddr,
    /// The first byte behind it.
    pub end: PhysAddr,
    /// What it is: `E820_RAM`.
    pub kind: String,
}

/// `struct e820_table` (4.12), `struct e820map` before.
#[derive(Load)]
#[load(type = "e820_table", type = "e820map")]
struct Table {
    #[load(any("nr_entries", "nr_map"))]
    count: Field<u32>,
    #[load(any("entries", "map"))]
    entries: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "e820_entry", type = "e820entry")]
struct Entry {
    addr: Field<u64>,
    size: Field<u64>,
    #[load(any("type"))]
    kind: Field<u32>,
}

/// `E820_MAX_ENTRIES` of any kernel is smaller.
const MOST: u32 = 1 << 16;

/// The ranges of the map that the kernel uses, in its order. What cannot be read is an item.
///
/// # Errors
/// Where the map lies is not known.
pub fn memory_map(kernel: &Kernel) -> Field<impl Iterator<Item = Field<MapRange>> + use<'_>> {
    let at = table(kernel)?;
    let table: Table = kernel.load(at);
    let (count, MemberAddress(first)) = (table.count?, table.entries?);
    if count > MOST {
        return Err(Lacks::implausible(format_args!("the firmware's map has {count} ranges")));
    }
    let entries = kernel.loader::<Entry>();
    let bytes = entries.size()?;
    Ok((0..u64::from(count)).map(move |index| {
        let entry = entries.load(first.add(bytes.wrapping_mul(index)));
        let start = entry.addr?;
        let end = PhysAddr(start.wrapping_add(entry.size?));
        Ok(MapRange { start: PhysAddr(start), end, kind: name(kernel, entry.kind?) })
    }))
}

/// A pointer since 4.12, the map itself before.
fn table(kernel: &Kernel) -> Field<VirtAddr> {
    match kernel.symbol("e820_table") {
        Ok(pointer) => Ok(kernel.memory().pointer(pointer)?),
        Err(lacks) => kernel.symbol("e820").map_err(|_| lacks),
    }
}

/// The kernel's name of a type, as it was before 4.12: without `TYPE_`.
fn name(kernel: &Kernel, kind: u32) -> String {
    let named = || {
        let types = kernel.types().ok()?;
        match types.get(types.find(Tag::Enum, "e820_type").ok()?).as_deref() {
            Some(Type::Enum(of)) => of.name_of(kind.into()).map(|name| name.replace("_TYPE_", "_")),
            _ => None,
        }
    };
    named().unwrap_or_else(|| format!("type {kind}"))
}
