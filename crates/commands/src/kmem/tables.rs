//! The small tables of `kmem`: `-V` counters, `-z` zones, `-o` per-CPU offsets, `-h` huge pages, `-g` page flags.

use std::fmt;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_linux::hugetlb;
use kdive_linux::mmzone::{Node, Nodes, Zone};
use kdive_linux::vmstat::{self, Table};
use kdive_target::{Lacks, Text, Words};
use serde::Serialize;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::{Hex, Known, size_of_page};
use crate::sink::{Render, Sink, SinkExt};

/// A named counter.
#[derive(Debug, Serialize)]
struct Counter {
    name: Box<str>,
    value: i64,
}

impl Render for Counter {
    /// Width of the names.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:>width$}: {}", self.name, self.value)
    }
}

/// A table of counters.
#[derive(Debug, Serialize)]
struct Counters {
    table: &'static str,
    counters: Vec<Counter>,
}

impl Render for Counters {
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  {}:", self.table)?;
        self.counters.iter().try_for_each(|counter| counter.render(width, out))?;
        writeln!(out)
    }
}

/// `kmem -V`.
pub(super) fn counters(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut tables = Vec::new();
    for table in Table::ALL {
        let title = match table {
            Table::Zone => "VM_ZONE_STAT",
            Table::Node => "VM_NODE_STAT",
            Table::Numa => "VM_NUMA_STAT",
            Table::Events => "VM_EVENT_STATES",
        };
        match vmstat::counters(&kernel, table) {
            Ok(counters) => {
                let counters = counters.into_iter().map(|(name, value)| Counter { name, value }).collect();
                tables.push((table, Counters { table: title, counters }));
            }
            // A kernel without the table has no such line.
            Err(Lacks::Symbol(_) | Lacks::Type(_)) if table != Table::Zone => {}
            Err(lacks) => cx.lacks(&lacks, title, String::new),
        }
    }
    let longest = |events: bool| {
        let of = tables.iter().filter(|(table, _)| (*table == Table::Events) == events);
        of.flat_map(|(_, table)| &table.counters).map(|counter| counter.name.len()).max().unwrap_or(0)
    };
    let widths = (longest(false), longest(true));
    for (table, counters) in &tables {
        cx.cancel.check()?;
        out.row(counters, if *table == Table::Events { &widths.1 } else { &widths.0 })?;
    }
    Ok(())
}

/// A zone in numbers.
#[derive(Debug, Serialize)]
struct ZoneRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<u32>,
    number: usize,
    zone: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spanned_pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    present_pages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    managed_pages: Option<u64>,
    /// Min, low, high.
    #[serde(skip_serializing_if = "Option::is_none")]
    watermarks: Option<[u64; 3]>,
    vm_stat: Vec<Counter>,
}

impl Render for ZoneRow {
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "NODE: {}  ZONE: {}  ADDR: {}  ", Known(self.node), self.number, self.zone)?;
        writeln!(out, "NAME: \"{}\"", self.name.as_deref().unwrap_or("?"))?;
        if self.spanned_pages == Some(0) {
            return writeln!(out, "  [unpopulated]\n");
        }
        write!(out, "  SIZE: {}", Known(self.spanned_pages))?;
        if self.present_pages.is_some_and(|present| Some(present) < self.spanned_pages) {
            write!(out, "  PRESENT: {}", Known(self.present_pages))?;
        }
        let [min, low, high] = self.watermarks.map_or([None; 3], |marks| marks.map(Some));
        writeln!(out, "  MIN/LOW/HIGH: {}/{}/{}", Known(min), Known(low), Known(high))?;
        writeln!(out, "  VM_STAT:")?;
        self.vm_stat.iter().try_for_each(|counter| counter.render(width, out))?;
        writeln!(out, "\n")
    }
}

/// `kmem -z`.
pub(super) fn zones(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let nodes = Nodes::find(&kernel)?;
    for lacks in nodes.lacking() {
        cx.lacks(lacks, "zones of a node", String::new);
    }
    let names = cx.known(vmstat::names(&kernel, Table::Zone), "names of zone counters", String::new);
    let names = names.unwrap_or_default();
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    for (node, zones) in &nodes.list {
        for (number, zone) in zones.iter().flatten().enumerate() {
            cx.cancel.check()?;
            let row = zone_row(cx, node, number, zone, &names);
            out.row(&row, &width)?;
        }
    }
    Ok(())
}

fn zone_row(cx: &mut Cx, node: &Node, number: usize, zone: &Zone, names: &[Box<str>]) -> ZoneRow {
    let kernel = cx.kernel.clone();
    let place = || format!("zone {}", zone.at);
    let marks = cx.known(zone.watermarks.clone(), "watermarks of a zone", place);
    let stat =
        cx.known(zone.vm_stat.clone(), "VM_STAT of a zone", place).map_or(Vec::new(), |Words(stat)| stat);
    ZoneRow {
        node: cx.known(node.id.clone(), "number of a node", place),
        number,
        zone: zone.at,
        name: cx.known(zone.name(&kernel), "NAME of a zone", place),
        spanned_pages: cx.known(zone.spanned_pages.clone(), "SIZE of a zone", place),
        present_pages: cx.known(zone.present_pages.clone(), "PRESENT of a zone", place),
        managed_pages: zone.managed_pages.clone().ok(),
        watermarks: marks.and_then(|Words(marks)| marks.first_chunk::<3>().copied()),
        vm_stat: names
            .iter()
            .zip(stat)
            .map(|(name, value)| Counter { name: name.clone(), value: value.cast_signed() })
            .collect(),
    }
}

/// A processor's offset.
#[derive(Debug, Serialize)]
struct OffsetRow {
    cpu: u32,
    offset: VirtAddr,
}

impl Render for OffsetRow {
    /// Digits of the highest processor's number.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "  CPU {:>width$}: {}", self.cpu, self.offset)
    }
}

/// `kmem -o`.
pub(super) fn offsets(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let cpus = kernel.cpus()?;
    let chosen: Vec<u32> = cpus.possible.iter().filter(|&cpu| cpu < cpus.limit).collect();
    let width = chosen.last().map_or(1, |last| last.to_string().len());
    out.heading("PER-CPU OFFSET VALUES:\n")?;
    for cpu in chosen {
        let offset = cpus.per_cpu(VirtAddr(0), cpu);
        if let Some(offset) = cx.known(offset, "per-CPU offset", || format!("CPU {cpu}")) {
            out.row(&OffsetRow { cpu, offset }, &width)?;
        }
    }
    Ok(())
}

/// A pool of huge pages.
#[derive(Debug, Serialize)]
struct HstateRow {
    hstate: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    surplus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Render for HstateRow {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let size = Known(self.bytes.and_then(size_of_page));
        write!(out, "{}{size:>7}{:>8}{:>8}", self.hstate, Known(self.free), Known(self.total))?;
        writeln!(out, "  {}", self.name.as_deref().unwrap_or("?"))
    }
}

/// `kmem -h`.
pub(super) fn huge_pages(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    let pools = hugetlb::pools(&cx.kernel)?;
    out.heading("     HSTATE        SIZE    FREE   TOTAL  NAME\n")?;
    for pool in pools {
        let place = || format!("hstate {}", pool.at);
        let order = cx.known(pool.order.clone(), "SIZE of huge pages", place);
        let row = HstateRow {
            hstate: pool.at,
            bytes: order.and_then(|order| PAGE_SIZE.checked_shl(order)),
            free: cx.known(pool.free.clone(), "FREE huge pages", place),
            total: cx.known(pool.total.clone(), "TOTAL huge pages", place),
            reserved: pool.reserved.clone().ok(),
            surplus: pool.surplus.clone().ok(),
            name: cx.known(pool.name.clone(), "NAME of huge pages", place).map(|Text(name)| name),
        };
        out.row(&row, &())?;
    }
    Ok(())
}

/// A flag of pages.
#[derive(Debug, Serialize)]
struct FlagRow {
    name: Box<str>,
    bit: u32,
    value: Hex,
}

/// How flags are laid out.
struct FlagView {
    indent: &'static str,
    width: usize,
}

impl Render for FlagRow {
    type View = FlagView;

    fn render(&self, view: &FlagView, out: &mut dyn fmt::Write) -> fmt::Result {
        let FlagView { indent, width } = *view;
        writeln!(out, "{indent}{:<width$}{:>4}  {:07x}", self.name, self.bit, self.value.0)
    }
}

/// `kmem -g`.
pub(super) fn flags(cx: &mut Cx, operands: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut flags = Vec::new();
    for (name, value) in cx.kernel.enumerators("pageflags")? {
        let bit = u32::try_from(value).ok().filter(|&bit| bit < u64::BITS);
        if let Some(bit) = bit.filter(|_| name.starts_with("PG_")) {
            flags.push(FlagRow { name, bit, value: Hex(1 << bit) });
        }
    }
    let width = flags.iter().map(|flag| flag.name.len()).max().unwrap_or(0);
    if operands.is_empty() {
        return flag_table(&flags, &FlagView { indent: "", width }, out);
    }
    for word in operands {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let value = u64::from_str_radix(digits, 16)
            .map_err(|_| UsageError::new("kmem", format!("{word} is not a hexadecimal number")))?;
        out.heading(&format!("FLAGS: {value:x}\n"))?;
        let set = flags.iter().filter(|flag| value & flag.value.0 != 0);
        flag_table(set, &FlagView { indent: "  ", width }, out)?;
    }
    Ok(())
}

fn flag_table<'f>(
    flags: impl IntoIterator<Item = &'f FlagRow>,
    view: &FlagView,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let FlagView { indent, width } = *view;
    out.heading(&format!("{indent}{:<width$} BIT  VALUE\n", "PAGE-FLAG"))?;
    for flag in flags {
        out.row(flag, view)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_crashs() {
        let mut text = String::new();
        let counter = Counter { name: "NR_MLOCK".into(), value: 7 };
        counter.render(&10, &mut text).unwrap();
        let flag = FlagRow { name: "PG_locked".into(), bit: 0, value: Hex(1) };
        flag.render(&FlagView { indent: "", width: 22 }, &mut text).unwrap();
        let pool = HstateRow {
            hstate: VirtAddr(0xffff_ffff_9af7_c218),
            bytes: Some(2 << 20),
            free: Some(10),
            total: Some(64),
            reserved: None,
            surplus: None,
            name: Some("hugepages-2048kB".into()),
        };
        pool.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "  NR_MLOCK: 7\n\
             PG_locked                0  0000001\n\
             ffffffff9af7c218    2MB      10      64  hugepages-2048kB\n"
        );
    }
}
