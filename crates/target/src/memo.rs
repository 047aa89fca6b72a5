//! What is found out once and kept with the kernel: by this crate and by the models above.

use std::any::Any;
use std::sync::OnceLock;

use crate::kernel::Kernel;

/// At most one value of each type: a chain that only grows, so that what it holds can be lent out.
#[derive(Default)]
pub(crate) struct Memo(OnceLock<Box<Slot>>);

struct Slot {
    /// An `OnceLock<T>`.
    cell: Box<dyn Any + Send + Sync>,
    next: Memo,
}

impl Memo {
    /// The cell for a `T`. It is kept apart from the chain, so that whoever fills it can ask for other cells.
    fn cell<T: Send + Sync + 'static>(&self) -> &OnceLock<T> {
        let mut memo = self;
        loop {
            let new = || Box::new(Slot { cell: Box::new(OnceLock::<T>::new()), next: Self::default() });
            let slot = memo.0.get_or_init(new);
            match slot.cell.downcast_ref() {
                Some(cell) => return cell,
                None => memo = &slot.next,
            }
        }
    }
}

impl Kernel {
    /// The one `T` of this kernel: found on the first call, shared by all later ones. `find` must not ask for the same
    /// `T` again.
    pub fn once<T: Send + Sync + 'static>(&self, find: fn(&Self) -> T) -> &T {
        self.memo().cell().get_or_init(|| find(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_cell_of_its_own() {
        let memo = Memo::default();
        memo.cell::<u32>().set(1).unwrap();
        memo.cell::<Option<u32>>().get_or_init(|| memo.cell::<u32>().get().copied());
        assert_eq!(memo.cell::<Option<u32>>().get(), Some(&Some(1)));
        assert_eq!(memo.cell::<u64>().get(), None);
    }
}
