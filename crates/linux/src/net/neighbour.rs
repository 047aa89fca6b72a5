//! Neighbours: who has which address on the link (`struct neighbour`, include/net/neighbour.h).

use std::net::IpAddr;

use kdive_base::VirtAddr;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, walk};

use super::device::read_address;

/// What is known of a neighbour (`NUD_*`, include/uapi/linux/neighbour.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u8);

impl State {
    /// The kernel's name without `NUD_`; none for bits that have none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "NONE",
            0x01 => "INCOMPLETE",
            0x02 => "REACHABLE",
            0x04 => "STALE",
            0x08 => "DELAY",
            0x10 => "PROBE",
            0x20 => "FAILED",
            0x40 => "NOARP",
            0x80 => "PERMANENT",
            _ => return None,
        })
    }
}

/// A neighbour.
#[derive(Clone, Debug, Load)]
#[load(type = "neighbour")]
pub struct Neighbour {
    /// Address of the `struct neighbour`.
    #[load(address)]
    pub at: VirtAddr,
    /// What is known of it.
    #[load(any("nud_state"))]
    pub state: Field<u8>,
    /// Its address on the link; more bytes than the device's kind of link has.
    #[load(any("ha"))]
    pub hardware: Field<Bytes>,
    /// The device on the way to it (`struct net_device`).
    #[load(any("dev"))]
    pub device: Field<VirtAddr>,
}

/// A protocol's table of neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourTable {
    /// IPv4's (`arp_tbl`).
    Arp,
    /// IPv6's (`nd_tbl`).
    NeighbourDiscovery,
}

#[derive(Load)]
#[load(type = "neigh_table")]
struct Table {
    key_len: Field<u32>,
    nht: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "neigh_hash_table")]
struct HashTable {
    // Heads of hlists since 6.13: the address of the first link too, as a bucket is.
    #[load(any("hash_buckets", "hash_heads"))]
    buckets: Field<VirtAddr>,
    hash_shift: Field<u32>,
}

/// A table that is larger holds no neighbours: the kernel doubles it as it fills.
const MOST_SHIFT: u32 = 24;

/// Tells the neighbours of a table.
pub struct Neighbours<'k> {
    kernel: &'k Kernel,
    /// Where the links of each chain are in a neighbour, as the pointers to them have it.
    inside: u64,
    /// From such a pointer to the next one.
    next: u64,
    key: u64,
    key_bytes: u32,
    buckets: VirtAddr,
    count: u64,
}

impl<'k> Neighbours<'k> {
    /// Finds a table.
    ///
    /// # Errors
    /// The kernel has no such table, or it cannot be read.
    pub fn find(kernel: &'k Kernel, which: NeighbourTable) -> Field<Self> {
        let name = match which {
            NeighbourTable::Arp => "arp_tbl",
            NeighbourTable::NeighbourDiscovery => "nd_tbl",
        };
        let table: Table = kernel.load(kernel.symbol(name)?);
        let hash: HashTable = kernel.load(table.nht?);
        let shift = hash.hash_shift?;
        if shift > MOST_SHIFT {
            return Err(Lacks::implausible(format_args!("a hash table of 2^{shift} chains")));
        }
        // Pointers from neighbour to neighbour, or since 6.13 an hlist inside.
        let (inside, next) = match kernel.offset_of("neighbour", "next") {
            Ok(next) => (0, next),
            Err(_) => (kernel.offset_of("neighbour", "hash")?, 0),
        };
        let key = kernel.offset_of("neighbour", "primary_key")?;
        let (buckets, count) = (hash.buckets?, 1 << shift);
        Ok(Self { kernel, inside, next, key, key_bytes: table.key_len?, buckets, count })
    }

    /// All of them; a broken chain costs what is behind the break. Where the table itself ends early, the last item says
    /// why.
    pub fn iter(&self) -> impl Iterator<Item = Field<Neighbour>> + '_ {
        let loader = self.kernel.loader::<Neighbour>();
        let links = walk::hash_table(self.kernel.memory(), self.buckets, self.count, self.next);
        links.map(move |at| Ok(loader.load(at?.sub(self.inside))))
    }

    /// The address of a neighbour in its protocol.
    ///
    /// # Errors
    /// It is not in the dump.
    pub fn address(&self, neighbour: &Neighbour) -> Field<Option<IpAddr>> {
        read_address(self.kernel.memory(), neighbour.at.add(self.key), self.key_bytes)
    }
}
