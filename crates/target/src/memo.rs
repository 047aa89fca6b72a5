//! Values that models above keep with the kernel: computed on first use, then shared.

use std::any::{Any, TypeId};
use std::sync::{Arc, OnceLock, RwLock};

use rustc_hash::FxHashMap;

use crate::kernel::Kernel;

type Slot = Arc<OnceLock<Arc<dyn Any + Send + Sync>>>;

/// At most one value of each type.
#[derive(Default)]
pub(crate) struct Memo(RwLock<FxHashMap<TypeId, Slot>>);

impl Memo {
    fn slot(&self, kind: TypeId) -> Slot {
        if let Some(slot) = self.0.read().ok().and_then(|slots| slots.get(&kind).cloned()) {
            return slot;
        }
        match self.0.write() {
            Ok(mut slots) => slots.entry(kind).or_default().clone(),
            Err(_) => Slot::default(),
        }
    }
}

impl Kernel {
    /// The one `T` of this kernel: found on the first call, shared by all later ones. `find` must not ask for the same
    /// `T` again.
    pub fn once<T: Send + Sync + 'static>(&self, find: fn(&Self) -> T) -> Arc<T> {
        // The slot is held apart from the map, so that `find` can ask for values of other kinds.
        let slot = self.memo().slot(TypeId::of::<T>());
        let value = slot.get_or_init(|| Arc::new(find(self))).clone();
        value.downcast().unwrap_or_else(|_| Arc::new(find(self)))
    }
}
