//! Names that a test hides, to see that only what depends on them changes.

use rustc_hash::FxHashSet;

/// Symbols (`init_task`) and members (`task_struct.pid`) that the kernel pretends not to have.
#[derive(Clone, Debug, Default)]
pub struct Hidden(FxHashSet<String>);

impl Hidden {
    /// Hides these names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    pub(crate) fn symbol(&self, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(name)
    }

    pub(crate) fn member(&self, record: &str, member: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&format!("{record}.{member}"))
    }
}
