//! Maps.

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_debuginfo::types::Enum;
use kdive_target::{Field, Kernel, Lacks, Load, Loader, Text};

use super::{Name, kind, uid, with_names};

/// A map.
#[derive(Clone, Debug)]
pub struct Map {
    /// Its number.
    pub id: u32,
    /// Its `struct bpf_map`.
    pub at: VirtAddr,
    /// `HASH`: an enumerator of `enum bpf_map_type` without its prefix.
    pub kind: Field<String>,
    /// `BPF_F_*`.
    pub flags: Field<u32>,
    /// Bytes of a key.
    pub key_bytes: Field<u32>,
    /// Bytes of a value.
    pub value_bytes: Field<u32>,
    /// Entries at most.
    pub most: Field<u32>,
    /// Bytes of memory that it takes: counted by kernels before 5.11, since then an estimate from the sizes.
    pub locked: Field<u64>,
    /// Its name.
    pub name: Field<Name>,
    /// The user who made it; kernels since 5.11 charge a control group instead.
    pub uid: Option<Field<u32>>,
}

#[derive(Load)]
#[load(type = "bpf_map")]
struct Fields {
    #[load(any("map_type"))]
    kind: Field<u32>,
    map_flags: Field<u32>,
    key_size: Field<u32>,
    value_size: Field<u32>,
    max_entries: Field<u32>,
    name: Field<Text>,
    #[load(any("memory.pages", "pages"))]
    pages: Field<u32>,
    #[load(any("memory.user", "user"))]
    user: Field<VirtAddr>,
}

/// `kernel/bpf/ringbuf.c`
#[derive(Load)]
#[load(type = "bpf_ringbuf_map")]
struct RingMap {
    rb: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_ringbuf")]
struct Ring {
    nr_pages: Field<u32>,
}

const KIND_PREFIX: &str = "BPF_MAP_TYPE_";

/// Loads maps.
pub struct MapLoader<'k> {
    kernel: &'k Kernel,
    fields: Loader<'k, Fields>,
    /// Possible processors: each has its own values in a per-CPU map.
    cpus: u64,
}

impl<'k> MapLoader<'k> {
    /// Binds the layout.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        let cpus = kernel.cpus().map_or(1, |cpus| u64::from(cpus.possible.count()));
        Self { kernel, fields: kernel.loader(), cpus }
    }

    /// Letters of the longest type that this kernel knows, without its prefix.
    #[must_use]
    pub fn longest_kind(&self) -> Option<usize> {
        let length = |name: &str| name.strip_prefix(KIND_PREFIX).map(str::len);
        let longest = |names: &Enum| names.values.iter().filter_map(|(name, _)| length(name)).max();
        with_names(self.kernel, "bpf_map", "map_type", longest).flatten()
    }

    /// The map at `at`.
    #[must_use]
    pub fn load(&self, id: u32, at: VirtAddr) -> Map {
        let fields = self.fields.load(at);
        let named = |of: u32| kind(self.kernel, "bpf_map", "map_type", KIND_PREFIX, of);
        let kind = fields.kind.clone().map(named);
        Map {
            id,
            at,
            locked: self.locked(at, &fields, kind.as_deref().unwrap_or_default()),
            kind,
            flags: fields.map_flags,
            key_bytes: fields.key_size,
            value_bytes: fields.value_size,
            most: fields.max_entries,
            name: fields.name.map(Name::from),
            uid: match fields.user {
                Err(Lacks::Member { .. }) => None,
                user => Some(uid(self.kernel, user)),
            },
        }
    }

    fn locked(&self, at: VirtAddr, fields: &Fields, kind: &str) -> Field<u64> {
        if let Ok(pages) = fields.pages {
            return Ok(u64::from(pages).saturating_mul(PAGE_SIZE));
        }
        let sizes = (fields.key_size.clone()?, fields.value_size.clone()?, fields.max_entries.clone()?);
        // 6.3: each type of map counts for itself, and of a ring no estimate from the sizes would be near.
        if kind == "RINGBUF" && self.kernel.offset_of("bpf_map_ops", "map_mem_usage").is_ok() {
            return self.ring(at, sizes.2);
        }
        Ok(footprint(kind, sizes, self.cpus))
    }

    /// `ringbuf_map_mem_usage()`: the structure, its pages, and pointers to them, of which the data's are there twice.
    fn ring(&self, at: VirtAddr, bytes: u32) -> Field<u64> {
        /// Of the ring's own structure, and of its two positions.
        const META_PAGES: u64 = 3;
        let ring = self.kernel.load::<RingMap>(at).rb?;
        let pages = u64::from(self.kernel.load::<Ring>(ring).nr_pages?);
        let data = u64::from(bytes) / PAGE_SIZE;
        let pointers = data.saturating_mul(2).saturating_add(META_PAGES).saturating_mul(8);
        let own = self.kernel.size_of("bpf_ringbuf_map")?;
        Ok(pages.saturating_mul(PAGE_SIZE).saturating_add(pointers).saturating_add(own))
    }
}

/// What Linux from 5.11 to 6.2 says of itself in `fdinfo`: whole pages for all keys and values, however they are kept.
fn footprint(kind: &str, (key, value, most): (u32, u32, u32), cpus: u64) -> u64 {
    /// Bytes of the number of a program, map or file.
    const NUMBER: u64 = 4;
    let value = u64::from(value);
    let value = match kind {
        _ if kind.contains("PERCPU") => value.next_multiple_of(8).saturating_mul(cpus),
        "PROG_ARRAY" | "PERF_EVENT_ARRAY" | "CGROUP_ARRAY" | "ARRAY_OF_MAPS" | "HASH_OF_MAPS" => NUMBER,
        _ => value,
    };
    let entry = u64::from(key).saturating_add(value).checked_next_multiple_of(8).unwrap_or(u64::MAX);
    let bytes = u64::from(most).saturating_mul(entry);
    bytes.checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn footprints_are_the_kernels() {
        // 64 entries of 24 bytes.
        assert_eq!(footprint("HASH", (4, 16, 64), 2), 4096);
        assert_eq!(footprint("HASH", (4, 16, 10_000), 2), 241_664);
        assert_eq!(footprint("PERCPU_ARRAY", (4, 8, 1024), 4), 40 * 1024);
        assert_eq!(footprint("PROG_ARRAY", (4, 4, 1024), 4), 8192);
        assert_eq!(footprint("RINGBUF", (0, 0, 4096), 4), 0);
        assert_eq!(footprint("HASH", (u32::MAX, u32::MAX, u32::MAX), u64::MAX), u64::MAX);
    }
}
