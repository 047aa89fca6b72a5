//! Memory: meminfo, slabinfo, vmstat, zoneinfo, vmallocinfo, swaps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Faults, near, number, same, text, word};
use crate::lab::truth::Truth;

/// Pages that come and go while the words are sent.
const PAGES: u64 = 2048;

/// `MemTotal:  474716 kB` in pages.
fn meminfo(truth: &Truth, name: &str) -> Option<u64> {
    let line = truth.lines("meminfo").iter().find(|line| line.split(':').next() == Some(name))?;
    Some(word(line, 1)? / 4)
}

pub(super) fn summary(truth: &Truth, rows: &[Value]) -> Faults {
    let of = |name: &str| meminfo(truth, name);
    let sum = |one: &str, other: &str| Some(of(one)? + of(other)?);
    let huge = |name: &str| {
        let kilobytes = of("Hugepagesize")?;
        Some(of(name)? * 4 * kilobytes)
    };
    let used = of("SwapTotal").zip(of("SwapFree")).map(|(total, free)| total - free);
    let wanted = [
        ("TOTAL MEM", of("MemTotal"), 0),
        ("FREE", of("MemFree"), PAGES),
        ("BUFFERS", of("Buffers"), 64),
        ("CACHED", of("Cached"), PAGES),
        ("SLAB", sum("SReclaimable", "SUnreclaim"), 256),
        ("TOTAL HUGE", huge("HugePages_Total"), 0),
        ("HUGE FREE", huge("HugePages_Free"), 0),
        ("TOTAL SWAP", of("SwapTotal"), 0),
        ("SWAP USED", used, 64),
        ("SWAP FREE", of("SwapFree"), 64),
        ("COMMIT LIMIT", of("CommitLimit"), 0),
        ("COMMITTED", of("Committed_AS"), PAGES),
    ];
    let row = |name: &str| rows.iter().find(|row| text(row, "name") == name);
    let check = |(name, wanted, band): (&str, Option<u64>, u64)| {
        near(name, row(name).and_then(|row| number(row, "pages")), wanted, band)
    };
    wanted.into_iter().filter_map(check).collect()
}

pub(super) fn huge(truth: &Truth, rows: &[Value]) -> Faults {
    let Some(bytes) = meminfo(truth, "Hugepagesize").map(|kilobytes| kilobytes * 4096) else {
        return Faults::new();
    };
    let Some(row) = rows.iter().find(|row| number(row, "bytes") == Some(bytes)) else {
        return vec![format!("no huge pages of {bytes} bytes")];
    };
    let names = [("total", "HugePages_Total"), ("free", "HugePages_Free"), ("reserved", "HugePages_Rsvd")];
    let check = |(name, wanted)| near(name, number(row, name), meminfo(truth, wanted).map(|n| n * 4), 3);
    names.into_iter().filter_map(check).collect()
}

/// `NAME <active_objs> <num_objs> <objsize> <objperslab> ... : slabdata <active_slabs> <num_slabs> <shared>`
pub(super) fn caches(truth: &Truth, rows: &[Value]) -> Faults {
    let found: BTreeMap<&str, &Value> = rows.iter().map(|row| (text(row, "name"), row)).collect();
    let mut faults = Faults::new();
    let lines =
        truth.lines("slabinfo").iter().filter(|line| line.contains(" : slabdata ") && !line.starts_with('#'));
    for line in lines {
        let name = line.split(' ').next().unwrap_or_default();
        let Some(row) = found.get(name) else {
            faults.push(format!("{name} is missing"));
            continue;
        };
        let per_slab = word(line, 4).unwrap_or(1);
        let total = word(line, 2);
        // Whole slabs come and go. Objects on the slabs of processors count as taken in slabinfo, and each of the two
        // processors may keep 30 slabs of small objects (`cpu_partial`), all of them free.
        let slabs = 16 + total.unwrap_or(0) / per_slab.max(1) / 8;
        let of = |what: &str| number(row, what);
        let fewer = of("allocated") < word(line, 1);
        let on_cpus = per_slab * if fewer { 60 } else { 24 } + total.unwrap_or(0) / 16;
        let say = |what: &str| format!("{what} of {name}");
        faults.extend(near(&say("total"), of("total"), total, slabs * per_slab));
        faults.extend(near(&say("slabs"), of("slabs"), word(line, 14), slabs));
        faults.extend(near(&say("allocated"), of("allocated"), word(line, 1), on_cpus));
        faults.extend(near(&say("object size"), of("object_size"), object_size(truth, name), 0));
    }
    faults
}

/// From /sys/kernel/slab, where a merged cache is a link.
fn object_size(truth: &Truth, name: &str) -> Option<u64> {
    let alias = truth.lines("slab/alias").iter().find_map(|line| line.strip_prefix(&format!("{name} ")));
    let directory = format!("{} ", alias.unwrap_or(name).trim());
    let line = truth.lines("slab/cache").iter().find(|line| line.starts_with(&directory))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "object_size");
    words.nth(1)?.parse().ok()
}

/// Every name of a merged cache is found at the cache that it was merged with; `run` gives a command's rows.
pub(super) fn aliases(truth: &Truth, run: &dyn Fn(&str) -> Result<Vec<Value>, String>) -> Faults {
    /// Each is a run: some of them stand for all.
    const SAMPLES: usize = 4;
    let names = truth.lines("slab/alias").iter().filter_map(|line| line.split_once(' '));
    let merged: Vec<&str> =
        names.filter(|(_, cache)| cache.trim().starts_with(':')).map(|(name, _)| name).collect();
    let check = |name: &&str| match run(&format!("kmem -s {name}")) {
        Ok(rows) if rows.iter().any(|row| text(row, "alias") == *name || text(row, "name") == *name) => None,
        Ok(_) => Some(format!("kmem -s {name}: it is not found")),
        Err(error) => Some(error),
    };
    merged.iter().step_by((merged.len() / SAMPLES).max(1)).filter_map(check).collect()
}

/// Slabs that are full are listed too: together they hold the objects that slabinfo counts.
pub(super) fn objects(truth: &Truth, run: &dyn Fn(&str) -> Result<Vec<Value>, String>) -> Faults {
    let mut faults = Faults::new();
    for name in ["task_struct", "vm_area_struct", "dentry"] {
        let lines = truth.lines("slabinfo");
        let Some(line) = lines.iter().find(|line| line.split(' ').next() == Some(name)) else { continue };
        let per_slab = word(line, 4).unwrap_or(1);
        match run(&format!("kmem -S {name}")) {
            Ok(rows) => {
                let found = rows.iter().map(total_of_slabs).sum();
                let band = 8 * per_slab + word(line, 2).unwrap_or(0) / 16;
                faults.extend(near(&format!("kmem -S {name}: objects"), Some(found), word(line, 2), band));
            }
            Err(error) => faults.push(error),
        }
    }
    faults
}

/// The objects of all slabs in a record, wherever in it they stand.
fn total_of_slabs(value: &Value) -> u64 {
    match value {
        Value::Array(values) => values.iter().map(total_of_slabs).sum(),
        Value::Object(fields) if fields.contains_key("memory") => number(value, "total").unwrap_or(0),
        Value::Object(fields) => fields.values().map(total_of_slabs).sum(),
        _ => 0,
    }
}

pub(super) fn counters(truth: &Truth, rows: &[Value]) -> Faults {
    let all = rows.iter().filter_map(|row| row.get("counters")?.as_array()).flatten();
    let found: BTreeMap<String, u64> =
        all.filter_map(|row| Some((text(row, "name").to_lowercase(), number(row, "value")?))).collect();
    let mut faults = Faults::new();
    for line in truth.lines("vmstat") {
        let (Some(name), Some(wanted)) = (line.split(' ').next(), word(line, 1)) else { continue };
        // Shown in kilobytes, counted in sectors.
        let wanted = if matches!(name, "pgpgin" | "pgpgout") { wanted * 2 } else { wanted };
        if let Some(&count) = found.get(name) {
            faults.extend(near(name, Some(count), Some(wanted), PAGES + wanted / 8));
        }
    }
    // Others are named differently there than by their enumerators, or are calculated.
    let is_known = |line: &&String| line.split(' ').next().is_some_and(|name| found.contains_key(name));
    let known = truth.lines("vmstat").iter().filter(is_known).count();
    let all = truth.lines("vmstat").len();
    if known * 2 < all {
        faults.push(format!("only {known} of the {all} counters of vmstat"));
    }
    faults
}

/// `Node 0, zone      DMA`, then lines of that zone.
pub(super) fn zones(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let mut row = None;
    for line in truth.lines("zoneinfo") {
        if let Some((_, name)) = line.split_once(", zone") {
            row = rows.iter().find(|row| text(row, "name") == name.trim());
            if row.is_none() {
                faults.push(format!("zone {} is missing", name.trim()));
            }
        }
        let Some(row) = row else { continue };
        let name = text(row, "name");
        let mut check = |what: &str, found: Option<u64>, wanted: Option<u64>, band| {
            faults.extend(near(&format!("{what} of {name}"), found, wanted, band));
        };
        let mark = |index: usize| row.get("watermarks")?.as_array()?.get(index)?.as_u64();
        match line.split_whitespace().next() {
            Some("spanned") => check("spanned", number(row, "spanned_pages"), word(line, 1), 0),
            Some("present") => check("present", number(row, "present_pages"), word(line, 1), 0),
            Some("managed") => check("managed", number(row, "managed_pages"), word(line, 1), 0),
            Some("min") => check("min", mark(0), word(line, 1), 0),
            Some("low") => check("low", mark(1), word(line, 1), 0),
            Some("high") if line.split_whitespace().count() == 2 => check("high", mark(2), word(line, 1), 0),
            _ => {}
        }
    }
    faults
}

/// `Node 0, zone  DMA32  12 5 ...`: free blocks by order; whole pages are compared, for blocks split and merge.
pub(super) fn free_blocks(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for line in truth.lines("buddyinfo") {
        let Some((_, rest)) = line.split_once(", zone") else { continue };
        let mut words = rest.split_whitespace();
        let name = words.next().unwrap_or_default();
        let blocks = words.filter_map(|word| word.parse::<u64>().ok());
        let wanted: u64 = blocks.enumerate().map(|(order, blocks)| blocks << order).sum();
        let mut zone = "";
        let mut found = 0;
        for row in rows {
            if row.get("order").is_none() && !text(row, "name").is_empty() {
                zone = text(row, "name");
            } else if zone == name && row.get("migrate_type").is_some() {
                found += number(row, "pages").unwrap_or(0);
            }
        }
        faults.extend(near(&format!("free pages of {name}"), Some(found), Some(wanted), PAGES));
    }
    faults
}

/// `memory0 online`
pub(super) fn blocks(truth: &Truth, rows: &[Value]) -> Faults {
    let check = |line: &String| {
        let (name, state) = line.trim().split_once(' ')?;
        let row = rows.iter().find(|row| text(row, "name") == name && row.get("memory_block").is_some());
        let found = row.map_or("missing", |row| text(row, "state"));
        same(name, &found.to_lowercase(), state)
    };
    truth.lines("memory_block").iter().filter_map(check).collect()
}

/// `0x...-0x...   20480 caller+0xf4/0x130 ...`: addresses are hashed, so sizes with callers are counted.
pub(super) fn areas(truth: &Truth, rows: &[Value]) -> Faults {
    /// Stacks of tasks, buffers of programs: they come and go.
    const MOVING: usize = 8;
    let mut wanted: BTreeMap<(u64, String), i64> = BTreeMap::new();
    for line in truth.lines("vmallocinfo") {
        let caller = line.split_whitespace().nth(2).and_then(|word| word.split('+').next());
        if let (Some(size), Some(caller)) = (word(line, 1), caller.filter(|_| line.contains("+0x"))) {
            *wanted.entry((size, caller.to_owned())).or_default() += 1;
        }
    }
    for row in rows {
        let caller = row.get("caller").map(|caller| text(caller, "name")).filter(|name| !name.is_empty());
        if let (Some(size), Some(caller)) = (number(row, "size"), caller) {
            *wanted.entry((size, caller.to_owned())).or_default() -= 1;
        }
    }
    let differs: Vec<String> = wanted
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|((size, caller), count)| format!("{:+} {caller} {size}", -count))
        .collect();
    if differs.len() > MOVING { vec![format!("areas differ: {}", differs.join(", "))] } else { Faults::new() }
}

/// `/dev/vdc   partition   262140   32960   -2`, in kilobytes.
pub(super) fn swaps(truth: &Truth, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for line in truth.lines("swaps").iter().skip(1) {
        let name = line.split_whitespace().next().unwrap_or_default();
        let Some(row) = rows.iter().find(|row| text(row, "filename") == name) else {
            faults.push(format!("{name} is missing"));
            continue;
        };
        let kilobytes = |what: &str| number(row, what).map(|bytes| bytes / 1024);
        faults.extend(near(name, kilobytes("bytes"), word(line, 2), 0));
        faults.extend(near(&format!("used of {name}"), kilobytes("used_bytes"), word(line, 3), 256));
        let priority = row.get("priority").and_then(Value::as_i64).map(|priority| priority.to_string());
        let wanted = line.split_whitespace().nth(4).unwrap_or_default();
        faults.extend(same(&format!("priority of {name}"), priority.as_deref().unwrap_or_default(), wanted));
    }
    faults
}
