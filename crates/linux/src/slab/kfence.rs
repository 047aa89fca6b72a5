//! KFENCE: sampled allocations, each alone on a page between guard pages (mm/kfence/core.c). They belong to an ordinary
//! cache, but lie at either end of their page, where no cache's layout would put them.

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_target::{Field, Kernel, Load};

use crate::pages::DirectMap;

#[derive(Clone, Debug, Load)]
#[load(type = "kfence_metadata")]
struct Metadata {
    addr: Field<VirtAddr>,
}

/// The pool of a kernel that samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kfence {
    pool: VirtAddr,
    /// The object on each page between guards, in order.
    objects: Vec<VirtAddr>,
}

/// `CONFIG_KFENCE_NUM_OBJECTS` is at most this.
const MOST_OBJECTS: u64 = 65535;
/// An object's page and the guard page behind it.
const SLOT_BYTES: u64 = 2 * PAGE_SIZE;

impl Kfence {
    /// `None` where KFENCE is not built in, or switched off.
    pub(super) fn find(kernel: &Kernel, direct: &Field<DirectMap>) -> Option<Self> {
        let memory = kernel.memory();
        let pool = memory.pointer(kernel.symbol("__kfence_pool").ok()?).ok()?;
        if pool.is_null() {
            return None;
        }
        let table = kernel.symbol("kfence_metadata").ok()?;
        // The array itself, since 6.6 a pointer to it. Its first word is a list link between static objects: only the
        // pointer leads into the direct map.
        let word = memory.pointer(table).ok()?;
        let table = if direct.as_ref().ok()?.phys_of(word).is_some() { word } else { table };
        let loader = kernel.loader::<Metadata>();
        let bytes = loader.size().ok()?;
        // Nothing says how many there are, but each one's address is on its page from the start.
        let objects = (0..MOST_OBJECTS).map_while(|index| {
            let object = loader.load(table.add(index * bytes)).addr.ok()?;
            (index_of(pool, object.page_start()) == Some(index)).then_some(object)
        });
        Some(Self { pool, objects: objects.collect() })
    }

    /// Where the object on the page at an address is; `None` for a page that is not of the pool.
    pub(super) fn object_on(&self, page: VirtAddr) -> Option<VirtAddr> {
        let object = self.objects.get(usize::try_from(index_of(self.pool, page)?).ok()?)?;
        Some(*object).filter(|object| object.page_start() == page)
    }
}

/// The number of the object whose page, or the guard page behind it, is at an address: the pool starts with two guards.
fn index_of(pool: VirtAddr, page: VirtAddr) -> Option<u64> {
    (page.0.checked_sub(pool.0)? / SLOT_BYTES).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_on_their_pages_between_guards() {
        let pool = VirtAddr(0xffff_8880_1000_0000);
        let objects = vec![pool.add(2 * PAGE_SIZE), pool.add(4 * PAGE_SIZE + 0xf00)];
        let kfence = Kfence { pool, objects: objects.clone() };
        let on = |page: u64| kfence.object_on(pool.add(page * PAGE_SIZE));
        assert_eq!(kfence.object_on(pool.sub(PAGE_SIZE)), None);
        assert_eq!((on(0), on(1), on(3), on(5), on(6)), (None, None, None, None, None));
        assert_eq!((on(2), on(4)), (Some(objects[0]), Some(objects[1])));
    }
}
