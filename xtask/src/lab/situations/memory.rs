//! Memory that is lost, used up or in pieces (scenarios `memory`, `fragment`, `slableak`).

use serde_json::Value;

use super::super::compare::{Faults, Known};
use super::super::words::{near, number, text};
const WRITTEN: &str = "/tmp/kdive-known-file";
/// What may move between the words and the dump, in KiB.
const BAND_KBYTES: u64 = 6 << 10;

/// The word behind another in a line of the module's: `crasher: leaked count 4000 bytes 160 ...`.
fn said<'k>(known: &Known<'k>, line: &str, key: &str) -> Option<&'k str> {
    let line = known.console.lines().find_map(|text| text.split_once(&format!("crasher: {line} ")))?.1;
    let mut words = line.split_whitespace();
    words.find(|word| *word == key)?;
    words.next()
}

/// A line `NAME: VALUE kB` of `/proc/meminfo`.
fn kbytes(known: &Known<'_>, name: &str) -> Option<u64> {
    let lines = known.truth.lines("meminfo");
    let line = lines.iter().find_map(|line| line.strip_prefix(&format!("{name}:")))?;
    line.split_whitespace().next()?.parse().ok()
}

fn row<'r>(rows: &'r [Value], name: &str, value: &str) -> Option<&'r Value> {
    rows.iter().find(|row| text(row, name) == value)
}

pub(super) fn account(known: &Known<'_>, rows: &[Value]) -> Faults {
    let pages = |row: &Value| row.get("pages").and_then(Value::as_i64);
    let (all, parts) = match rows.split_first() {
        Some((all, parts)) => (pages(all), parts.iter().map(pages).sum::<Option<i64>>()),
        None => return vec!["no rows".into()],
    };
    let mut faults = Faults::new();
    if all.is_none() || all != parts {
        faults.push(format!("the shares add up to {parts:?} pages of {all:?}"));
    }
    let shares = [
        ("free", "MemFree"),
        ("anonymous", "AnonPages"),
        ("shmem", "Shmem"),
        ("slab-reclaimable", "SReclaimable"),
        ("slab-unreclaimable", "SUnreclaim"),
        ("kernel-stacks", "KernelStack"),
    ];
    for (share, line) in shares {
        let found = row(rows, "use", share).and_then(|row| number(row, "bytes")).map(|bytes| bytes >> 10);
        faults.extend(near(share, found, kbytes(known, line), BAND_KBYTES));
    }
    faults
}

pub(super) fn caches(known: &Known<'_>, rows: &[Value]) -> Faults {
    /// The guest fills these by reading `/proc` for the other words.
    const OBSERVED: &[&str] = &["proc_inode_cache", "dentry", "lsm_inode_cache"];
    let mut faults = Faults::new();
    for line in known.truth.lines("slabinfo").iter().skip(2) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(objects)) =
            (words.first(), words.get(2).and_then(|word| word.parse::<u64>().ok()))
        else {
            continue;
        };
        let found = row(rows, "name", name).and_then(|row| number(row, "objects"));
        let band = if OBSERVED.contains(name) { 1000 } else { (objects / 10).max(300) };
        faults.extend(near(name, found, Some(objects), band));
    }
    faults
}

pub(super) fn groups(known: &Known<'_>, rows: &[Value]) -> Faults {
    /// Bytes that come and go.
    const BAND: u64 = 1 << 20;
    let mut faults = Faults::new();
    for path in ["/limited", "/limited/inner"] {
        let fact = |file: &str| known.truth.fact(&format!("cgroup{path}/{file}"));
        let count = |file: &str| fact(file).and_then(|word| word.parse::<u64>().ok());
        let Some(row) = row(rows, "path", path) else {
            faults.push(format!("no group {path}"));
            continue;
        };
        let of = |part: &str, name: &str| row.get(part).and_then(|part| number(part, name));
        faults.extend(near(
            &format!("memory of {path}"),
            of("memory", "usage"),
            count("memory.current"),
            BAND,
        ));
        faults.extend(near(&format!("pids of {path}"), of("pids", "usage"), count("pids.current"), 0));
        if of("memory", "max") != count("memory.max") || of("pids", "max") != count("pids.max") {
            faults.push(format!("other limits of {path}: {row}"));
        }
        let kills = known.truth.lines(&format!("cgroup{path}/memory.events"));
        let kills = kills.iter().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        let events = row.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let found = events.iter().find(|event| text(event, "name") == "oom_kill");
        faults.extend(near(&format!("kills in {path}"), found.and_then(|of| number(of, "count")), kills, 0));
    }
    let hits = known.truth.lines("cgroup/limited/memory.events");
    let hits = hits.iter().find_map(|line| line.strip_prefix("max ")?.trim().parse::<u64>().ok());
    if hits.is_none_or(|hits| hits == 0) {
        faults.push("/limited never was at its limit: the situation is not there".into());
    }
    let dying =
        rows.iter().filter(|row| row.get("dying").and_then(Value::as_bool) == Some(true)).count() as u64;
    let told = known.truth.lines("cgroup/cgroup.stat");
    let told = told.iter().find_map(|line| line.strip_prefix("nr_dying_descendants ")?.trim().parse().ok());
    faults.extend(near("dying groups", Some(dying), told, 0));
    faults
}

pub(super) fn badness(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    for thread in
        known.truth.threads.iter().filter(|thread| thread.tid == thread.process && !thread.is_kernel())
    {
        let fact = |file: &str| known.truth.fact(&format!("{}/{file}", thread.tid));
        let wanted = fact("oom_score").and_then(|word| word.parse().ok());
        let row = rows
            .iter()
            .find(|row| number(row, "pid") == Some(thread.tid.into()) && row.get("task").is_some());
        let what = format!("score of {} ({})", thread.tid, thread.name);
        faults.extend(near(&what, row.and_then(|row| number(row, "score")), wanted, 1));
    }
    let killed = known.console.lines().filter_map(|line| line.split_once(": Killed process "));
    for (_, rest) in killed {
        let pid = rest.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        let name = rest.split(['(', ')']).nth(1).unwrap_or_default();
        let is_named = |row: &&Value| {
            row.get("of_group").is_some() && number(row, "pid") == pid && text(row, "name") == name
        };
        match rows.iter().find(is_named) {
            Some(row) if text(row, "group") == "/limited" => {}
            found => faults.push(format!("the kill of {pid:?} ({name}) is {found:?}")),
        }
    }
    faults
}

/// Settings whose handlers are known have the value that the kernel showed.
pub(super) fn settings(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let lines = known.truth.lines("sysctl");
    for line in lines {
        let Some((path, shown)) = line.split_once(' ') else { continue };
        let Some((directory, name)) = path.rsplit_once('/') else { continue };
        // What a name has of dots are slashes.
        let name = format!(
            "{}.{}",
            directory.replace('.', "\0").replace('/', ".").replace('\0', "/"),
            name.replace('.', "/")
        );
        let Some(row) = row(rows, "name", &name) else {
            faults.push(format!("no setting {name}"));
            continue;
        };
        let Some(value) = row.get("value").filter(|_| row.get("raw").is_none()) else { continue };
        let value = match value {
            Value::Array(numbers) => numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Value::Bool(is_set) => u8::from(*is_set).to_string(),
            // The guest wrote the first line.
            Value::String(text) => text.split("\\x0a").next().unwrap_or_default().to_owned(),
            other => other.to_string(),
        };
        let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        if value != shown {
            faults.push(format!("{name} is {value} instead of {shown}"));
        }
    }
    faults
}

/// One group of objects: the one that the module lost.
pub(super) fn lost_records(known: &Known<'_>, rows: &[Value]) -> Faults {
    let [row] = rows else { return vec![format!("{} suspects instead of one", rows.len())] };
    let count = |key| said(known, "leaked", key).and_then(|word| word.parse::<u64>().ok());
    let mut faults = Faults::new();
    faults.extend(near("lost objects", number(row, "objects"), count("count"), 8));
    // Stale pointers to some of them may be left.
    let band = count("count").unwrap_or(0) / 10;
    faults.extend(near("objects that nothing points to", number(row, "unreferenced"), count("count"), band));
    let size = number(row, "object_size").zip(count("bytes"));
    if size.is_none_or(|(size, asked)| size < asked || size > asked * 2) {
        faults.push(format!("another size: {row}"));
    }
    if !text(row, "text").starts_with("kdive: a record") {
        faults.push(format!("another content: {row}"));
    }
    faults
}

/// Where the guest was booted with tracks, the function that the module named allocated what it lost.
pub(super) fn allocators(known: &Known<'_>, rows: &[Value]) -> Faults {
    let has_tracks = known.truth.fact("cmdline").is_some_and(|line| line.contains("slub_debug=U"));
    if !has_tracks {
        return rows.iter().map(|row| format!("an owner without tracks: {row}")).collect();
    }
    let function = said(known, "leaked", "by").unwrap_or("nothing named");
    let of = |row: &&Value| text(row, "caller_name").split('+').next() == Some(function);
    let found = rows.iter().find(of).and_then(|row| number(row, "objects"));
    let wanted = said(known, "leaked", "count").and_then(|word| word.parse().ok());
    near(&format!("objects of {function}"), found, wanted, 0).into_iter().collect()
}

fn known_file<'k>(known: &Known<'k>) -> Option<(&'k str, u64, u64)> {
    let mut words = known.truth.fact("known-file")?.split_whitespace();
    let (path, size) = (words.next()?, words.next()?.parse().ok()?);
    Some((path, size, u64::from_str_radix(words.next()?, 16).ok()?))
}

pub(super) fn files(known: &Known<'_>, rows: &[Value]) -> Faults {
    let Some((path, size, _)) = known_file(known) else { return vec!["no known file".into()] };
    let mut faults = Faults::new();
    let of = |path: &str| row(rows, "path", path);
    faults.extend(near(path, of(path).and_then(|row| number(row, "size")), Some(size), 0));
    faults.extend(near(path, of(path).and_then(|row| number(row, "pages")), Some(size.div_ceil(4096)), 0));
    let eater = rows.first().map(|row| text(row, "path")).unwrap_or_default();
    if eater != "/tmp/eater" {
        faults.push(format!("most pages has {eater} instead of /tmp/eater"));
    }
    faults
}

pub(super) fn written_out(known: &Known<'_>, _: &[Value]) -> Faults {
    let Some((_, size, wanted)) = known_file(known) else { return vec!["no known file".into()] };
    let bytes = match std::fs::read(WRITTEN) {
        Ok(bytes) => bytes,
        Err(error) => return vec![format!("{WRITTEN}: {error}")],
    };
    // FNV-1a, as in lab/user/truth_memory.c.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    match (bytes.len() as u64, hash) == (size, wanted) {
        true => Faults::new(),
        false => {
            vec![format!("{} bytes of hash {hash:016x} instead of {size} of {wanted:016x}", bytes.len())]
        }
    }
}

pub(super) fn fragments(known: &Known<'_>, rows: &[Value]) -> Faults {
    let mut faults = Faults::new();
    let zones = rows.iter().filter_map(|row| row.get("blocks")?.as_array());
    let (mut small, mut large) = (0_u64, 0_u64);
    for blocks in zones {
        for (order, count) in blocks.iter().enumerate() {
            let pages = count.as_u64().unwrap_or(0) << order;
            if order < 2 { small += pages } else { large += pages }
        }
    }
    if small < 10 * large {
        faults.push(format!("{large} free pages in blocks of four and more, {small} in smaller ones"));
    }
    let kept = said(known, "fragmented", "kept").and_then(|word| word.parse::<u64>().ok());
    let pinned =
        row(rows, "kind", "kernel").and_then(|row| number(row, "pinned_bytes")).map(|bytes| bytes / 4096);
    if kept.is_none() || pinned < kept.map(|kept| kept * 9 / 10) {
        faults.push(format!("pinned by memory of the kernel are {pinned:?} pages instead of {kept:?}"));
    }
    faults
}

/// The first is the cache that the module named.
pub(super) fn greedy_cache(known: &Known<'_>, rows: &[Value]) -> Faults {
    let wanted = said(known, "evidence", "cache").unwrap_or("nothing named");
    let found = rows.first().map(|row| text(row, "cache").trim_start_matches("0x")).unwrap_or_default();
    match found == wanted.trim_start_matches("0x") {
        true => Faults::new(),
        false => vec![format!("the first is the cache {found} instead of {wanted}")],
    }
}
