//! Counters of virtual memory (mm/vmstat.c): of zones, of nodes, and events.

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Member};
use rustc_hash::FxHashMap;

use crate::mmzone::Nodes;

/// A table of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Pages of all zones by state (`vm_zone_stat`, before 4.8 `vm_stat`).
    Zone,
    /// Pages of all nodes by state (`vm_node_stat`, 4.8).
    Node,
    /// Where allocations of NUMA machines went (`vm_numa_event` 5.14, `vm_numa_stat` 4.14).
    Numa,
    /// What happened since boot, added up over all processors (`vm_event_states`).
    Events,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Zone, Self::Node, Self::Numa, Self::Events];

    /// The enumerations that name its counters.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Zone => &["zone_stat_item"],
            Self::Node => &["node_stat_item"],
            Self::Numa => &["numa_stat_item"],
            Self::Events => &["vm_event_item"],
        }
    }

    /// The variables that hold it.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Zone => &["vm_zone_stat", "vm_stat"],
            Self::Node => &["vm_node_stat"],
            Self::Numa => &["vm_numa_event", "vm_numa_stat"],
            Self::Events => &["vm_event_states"],
        }
    }
}

/// More counters than any table has.
const MOST_COUNTERS: usize = 1024;

/// The names of a table's counters, by number: each number's first name, and none for bounds and for names of ranges.
///
/// # Errors
/// The kernel has no such enumeration.
pub fn names(kernel: &Kernel, table: Table) -> Field<Vec<Box<str>>> {
    let mut why = None;
    for name in table.names() {
        match kernel.enumerators(name) {
            Ok(values) => return Ok(by_number(&values)),
            Err(lacks) => why = why.or(Some(lacks)),
        }
    }
    Err(why.unwrap_or(Lacks::Types))
}

/// The name of each number, up to the enumerator that counts them.
fn by_number(values: &[(Box<str>, i128)]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    let count = values.iter().map(|(_, value)| *value).max().unwrap_or(0);
    for number in 0..count.clamp(0, MOST_COUNTERS as i128) {
        // The first element of a range has the range's name first (`NR_LRU_BASE`).
        let mut named = values.iter().filter(|(name, value)| *value == number && !name.ends_with("_BASE"));
        names.push(named.next_back().map_or_else(|| "?".into(), |(name, _)| name.clone()));
    }
    names
}

/// The counters of a table.
///
/// # Errors
/// The kernel has no such table, or it is not in the dump.
pub fn counters(kernel: &Kernel, table: Table) -> Field<Vec<(Box<str>, i64)>> {
    let names = names(kernel, table)?;
    let at = kernel.any_symbol(table.variables())?;
    let values = match table {
        Table::Events => events(kernel, at, names.len())?,
        Table::Numa => numa(kernel, words(kernel, at, names.len())?)?,
        Table::Zone | Table::Node => words(kernel, at, names.len())?,
    };
    Ok(names.into_iter().zip(values).collect())
}

/// Events are counted by each processor alone.
fn events(kernel: &Kernel, variable: VirtAddr, count: usize) -> Field<Vec<i64>> {
    let cpus = kernel.cpus()?;
    let mut sums = vec![0_i64; count];
    for cpu in cpus.possible.iter().filter(|&cpu| cpu < cpus.limit) {
        let counts = words(kernel, cpus.per_cpu(variable, cpu)?, count)?;
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count);
        }
    }
    Ok(sums)
}

/// The kernel adds up what processors counted for each zone when somebody asks for it: most of it is still there.
fn numa(kernel: &Kernel, mut sums: Vec<i64>) -> Field<Vec<i64>> {
    let zones = Nodes::find(kernel)?;
    let (member, in_stats) = either(kernel.member("per_cpu_zonestat", &["vm_numa_event"]), || {
        kernel.member("per_cpu_pageset", &["vm_numa_stat_diff"])
    })?;
    for (_, zone) in zones.zones() {
        let variable = if in_stats { &zone.per_cpu_zonestats } else { &zone.per_cpu_pages };
        add_per_cpu(kernel, &mut sums, variable.clone()?, &member, false)?;
    }
    Ok(sums)
}

/// The member of the newer structure, and whether it was that.
fn either(newer: Field<Member>, older: impl FnOnce() -> Field<Member>) -> Field<(Member, bool)> {
    match newer {
        Ok(member) => Ok((member, true)),
        Err(_) => Ok((older()?, false)),
    }
}

/// Adds what each processor counted for itself: an array with an element for each sum, of whatever width.
fn add_per_cpu(
    kernel: &Kernel,
    sums: &mut [i64],
    variable: VirtAddr,
    member: &Member,
    signed: bool,
) -> Field<()> {
    let cpus = kernel.cpus()?;
    let width = usize::try_from(member.bytes).unwrap_or(0).checked_div(sums.len()).unwrap_or(0);
    for cpu in cpus.possible.iter().filter(|&cpu| cpu < cpus.limit) {
        let at = cpus.per_cpu(variable, cpu)?.add(member.offset);
        let bytes = kernel.memory().bytes(at, width.saturating_mul(sums.len()))?;
        for (index, sum) in sums.iter_mut().enumerate() {
            let count = Endian::Little.unsigned(&bytes, index.saturating_mul(width), width).unwrap_or(0);
            // A difference of one byte is below zero as often as not.
            let count = if signed && width == 1 { i64::from(count as u8 as i8) } else { count.cast_signed() };
            *sum = sum.saturating_add(count);
        }
    }
    Ok(())
}

/// The counters of zones and nodes, with what processors have not added yet: what the kernel would count if it stood
/// still for a second.
#[derive(Clone, Debug, Default)]
pub struct Settled(FxHashMap<Box<str>, i64>);

impl Settled {
    /// All counters of this kernel.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn find(kernel: &Kernel) -> Field<Self> {
        let mut all = FxHashMap::default();
        for table in [Table::Zone, Table::Node] {
            let names = match names(kernel, table) {
                // Before 4.8 zones counted what nodes count now.
                Err(Lacks::Type(_)) if table == Table::Node => continue,
                names => names?,
            };
            let mut sums = words(kernel, kernel.any_symbol(table.variables())?, names.len())?;
            // Without them the counters are a little behind, no more.
            let _ = add_pending(kernel, table, &mut sums);
            all.extend(names.into_iter().zip(sums));
        }
        Ok(Self(all))
    }

    /// A counter by the first of several names that this kernel has; below zero is 0.
    ///
    /// # Errors
    /// The kernel has no counter of these names.
    pub fn get(&self, names: &[&str]) -> Field<u64> {
        let value = names.iter().find_map(|name| self.0.get(*name));
        let value = value.ok_or_else(|| {
            Lacks::unavailable(format_args!("this kernel counts no {}", names.join(" and no ")))
        })?;
        Ok(u64::try_from(*value).unwrap_or(0))
    }

    /// The sum of counters, of those that this kernel has.
    #[must_use]
    pub fn sum(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|name| self.get(&[name]).ok()).fold(0, u64::saturating_add)
    }
}

fn add_pending(kernel: &Kernel, table: Table, sums: &mut [i64]) -> Field<()> {
    let nodes = Nodes::find(kernel)?;
    if table == Table::Node {
        let member = kernel.member("per_cpu_nodestat", &["vm_node_stat_diff"])?;
        for (node, _) in &nodes.list {
            add_per_cpu(kernel, sums, node.per_cpu_stats.clone()?, &member, true)?;
        }
        return Ok(());
    }
    let (member, in_stats) = either(kernel.member("per_cpu_zonestat", &["vm_stat_diff"]), || {
        kernel.member("per_cpu_pageset", &["vm_stat_diff"])
    })?;
    for (_, zone) in nodes.zones() {
        // The boot pageset that empty zones share counts nothing.
        if zone.present_pages.clone()? == 0 {
            continue;
        }
        let variable = if in_stats { &zone.per_cpu_zonestats } else { &zone.per_cpu_pages };
        add_per_cpu(kernel, sums, variable.clone()?, &member, true)?;
    }
    Ok(())
}

fn words(kernel: &Kernel, at: VirtAddr, count: usize) -> Field<Vec<i64>> {
    let bytes = kernel.memory().bytes(at, count.saturating_mul(8))?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect())
}

/// One counter of all zones or nodes, by the first of several names that this kernel has, in pages. It may be a little
/// behind: processors add to it in batches. Counters below zero are such a moment's, and 0.
///
/// # Errors
/// The kernel has no counter of these names.
pub fn counter(kernel: &Kernel, names: &[&str]) -> Field<u64> {
    let mut why = None;
    for name in names {
        for table in [Table::Node, Table::Zone] {
            match one(kernel, table, name) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(lacks) => why = why.or(Some(lacks)),
            }
        }
    }
    Err(why.unwrap_or_else(|| {
        Lacks::unavailable(format_args!("this kernel counts no {}", names.join(" and no ")))
    }))
}

fn one(kernel: &Kernel, table: Table, name: &str) -> Field<Option<u64>> {
    let mut number = None;
    for of in table.names() {
        let values = kernel.enumerators(of)?;
        number = number.or(values.iter().find(|(known, _)| &**known == name).map(|(_, value)| *value));
    }
    let Some(number) = number else { return Ok(None) };
    let at = kernel.any_symbol(table.variables())?.add((number as u64).wrapping_mul(8));
    Ok(Some(u64::try_from(kernel.memory().u64(at)?.cast_signed()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_own_names_not_those_of_ranges() {
        let values =
            [("NR_LRU_BASE", 0), ("NR_INACTIVE_ANON", 0), ("NR_ACTIVE_ANON", 1), ("NR_STAT_ITEMS", 2)];
        let values: Vec<_> = values.into_iter().map(|(name, value)| (Box::from(name), value)).collect();
        assert_eq!(by_number(&values), ["NR_INACTIVE_ANON".into(), Box::<str>::from("NR_ACTIVE_ANON")]);
        assert!(by_number(&[("A".into(), -4)]).is_empty());
    }
}
