//! Socket buffers (`struct sk_buff`, include/linux/skbuff.h): packets, wherever they wait.

use kdive_base::{PhysAddr, VirtAddr};
use kdive_target::{Field, Kernel, Lacks, Load};

use crate::pages::Pages;
use crate::slab::{AllSlabs, FreeObjects, Lists, Slabs};

/// The part of `struct sk_buff` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "sk_buff")]
pub struct SkBuff {
    /// Address of the `struct sk_buff`.
    #[load(address)]
    pub at: VirtAddr,
    /// First byte of its buffer.
    pub head: Field<VirtAddr>,
    /// First byte of the packet.
    pub data: Field<VirtAddr>,
    /// The end of the buffer, where `skb_shared_info` begins: an offset from `head` on 64-bit kernels.
    pub end: Field<u64>,
}

/// Memory that packets are in.
#[derive(Clone, Debug, Default)]
pub struct Buffers {
    /// Parts of the buffers themselves: where, and how many bytes.
    pub linear: Vec<(VirtAddr, u64)>,
    /// Parts of pages.
    pub fragments: Vec<(PhysAddr, u64)>,
    /// Socket buffers that were found.
    pub count: u64,
    /// Why some may be lacking.
    pub incomplete: Option<Lacks>,
}

/// The kernel's caches of socket buffers, by the names that they have had.
const CACHES: [&str; 3] = ["skbuff_head_cache", "skbuff_cache", "skbuff_fclone_cache"];
/// The same in `struct net_hotdata` (6.9).
const HOT: [&str; 2] = ["skbuff_cache", "skbuff_fclone_cache"];
/// No buffer is larger: 64 KiB of a packet, rounded up, and headers.
const MOST: u64 = 1 << 20;
/// `MAX_SKB_FRAGS` is 45 at most.
const MOST_FRAGMENTS: u8 = 64;

/// The memory of all socket buffers that are in use.
///
/// # Errors
/// Neither the caches of socket buffers nor their slabs can be found.
pub fn buffers(kernel: &Kernel) -> Field<Buffers> {
    let caches = caches(kernel)?;
    let (all, slabs) = (AllSlabs::find(kernel)?, Slabs::find(kernel));
    let incomplete = all.incomplete.as_ref().map(|(_, why)| why.clone());
    let mut found = Buffers { incomplete, ..Buffers::default() };
    let fragments = Fragments::find(kernel);
    let loader = kernel.loader::<SkBuff>();
    for cache in caches {
        let lists = Lists::find(kernel, cache);
        let free = FreeObjects::find(kernel, cache, &lists);
        for at in all.of(cache) {
            let Some(slab) = slabs.slab(kernel, *at)? else { continue };
            // Where it cannot be told which are in use, all are taken for it.
            let unused =
                free.as_ref().ok().and_then(|free| free.of_slab(kernel, &slab).ok()).unwrap_or_default();
            for object in slab.objects()?.into_iter().filter(|object| !unused.contains_key(object)) {
                found.add(kernel, &loader.load(object), &fragments);
            }
        }
    }
    found.linear.sort_unstable();
    // A clone shares its buffer.
    found.linear.dedup();
    Ok(found)
}

fn caches(kernel: &Kernel) -> Field<Vec<VirtAddr>> {
    let mut found = Vec::new();
    let mut why = None;
    let places = CACHES.iter().map(|name| kernel.symbol(name));
    let hot = HOT
        .iter()
        .map(|member| Ok(kernel.symbol("net_hotdata")?.add(kernel.offset_of("net_hotdata", member)?)));
    for place in places.chain(hot) {
        match place.and_then(|at| Ok(kernel.memory().pointer(at)?)) {
            Ok(cache) if !cache.is_null() && !found.contains(&cache) => found.push(cache),
            Ok(_) => {}
            // A name that this kernel does not have says less than one that cannot be followed.
            Err(lacks @ (Lacks::Symbol(_) | Lacks::Member { .. })) => why = why.or(Some(lacks)),
            Err(lacks) => why = Some(lacks),
        }
    }
    match why {
        Some(lacks) if found.is_empty() => Err(lacks),
        _ => Ok(found),
    }
}

impl Buffers {
    fn add(&mut self, kernel: &Kernel, skb: &SkBuff, fragments: &Field<Fragments>) {
        let (Ok(head), Ok(data), Ok(end)) = (skb.head.clone(), skb.data.clone(), skb.end.clone()) else {
            return;
        };
        let room = if end > MOST { end.wrapping_sub(head.0) } else { end };
        // Caches of one size are merged: what is no socket buffer has no such three.
        let plausible = head.0 >> 63 == 1 && room > 0 && room <= MOST && data.0.wrapping_sub(head.0) <= room;
        if !plausible {
            return;
        }
        self.count = self.count.saturating_add(1);
        self.linear.push((head, room));
        if let Ok(fragments) = fragments {
            fragments.of(kernel, head.add(room), &mut self.fragments);
        }
    }
}

/// How `skb_shared_info` lists pieces of pages.
struct Fragments {
    count: u64,
    list: u64,
    stride: u64,
    page: u64,
    bytes: u64,
    offset: u64,
    pages: std::sync::Arc<Pages>,
}

impl Fragments {
    fn find(kernel: &Kernel) -> Field<Self> {
        // `skb_frag_t` was a `bio_vec` from 5.4 to 6.9.
        let either = |own: &str, vec: &str| {
            kernel.offset_of("skb_frag", own).or_else(|_| kernel.offset_of("bio_vec", vec))
        };
        let own =
            ["netmem", "page.p", "bv_page"].iter().find_map(|name| kernel.member("skb_frag", &[name]).ok());
        let page = match own {
            Some(member) => member.offset,
            None => kernel.offset_of("bio_vec", "bv_page")?,
        };
        Ok(Self {
            count: kernel.offset_of("skb_shared_info", "nr_frags")?,
            list: kernel.offset_of("skb_shared_info", "frags")?,
            stride: kernel.size_of("skb_frag").or_else(|_| kernel.size_of("bio_vec"))?,
            page,
            bytes: either("len", "bv_len").or_else(|_| kernel.offset_of("skb_frag", "size"))?,
            offset: either("offset", "bv_offset").or_else(|_| kernel.offset_of("skb_frag", "page_offset"))?,
            pages: Pages::find(kernel),
        })
    }

    fn of(&self, kernel: &Kernel, shared: VirtAddr, into: &mut Vec<(PhysAddr, u64)>) {
        let memory = kernel.memory();
        let Ok(count) = memory.u8(shared.add(self.count)) else { return };
        for index in 0..count.min(MOST_FRAGMENTS) {
            let at = shared.add(self.list).add(u64::from(index).wrapping_mul(self.stride));
            let (page, bytes, offset) = (
                memory.pointer(at.add(self.page)),
                memory.u32(at.add(self.bytes)),
                memory.u32(at.add(self.offset)),
            );
            let (Ok(page), Ok(bytes), Ok(offset)) = (page, bytes, offset) else { continue };
            // Memory of a device has bit 0 set, and is in no dump.
            if page.0 & 1 == 1 || u64::from(bytes) > MOST {
                continue;
            }
            if let Ok(virt) = self.pages.address_of(page)
                && let Ok(place) = kernel.space().translate(virt)
            {
                into.push((place.phys.add(offset.into()), bytes.into()));
            }
        }
    }
}
