//! The names a kernel is asked for, for tests: which there are, and what happens without one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashSet;

/// Symbols (`init_task`) and members (`task_struct.pid`) that the kernel pretends not to have, and a list of those that
/// it was asked for and had.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    names: FxHashSet<String>,
    asked: Option<Arc<Mutex<BTreeSet<String>>>>,
}

impl Hidden {
    /// Hides these names.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), asked: None }
    }

    /// Hides nothing, and keeps the names that were asked for and found.
    #[must_use]
    pub fn watching() -> Self {
        Self { names: FxHashSet::default(), asked: Some(Arc::default()) }
    }

    /// The names asked for and found so far.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<String> {
        let asked =
            self.asked.as_ref().map(|asked| asked.lock().unwrap_or_else(PoisonError::into_inner).clone());
        asked.unwrap_or_default()
    }

    pub(crate) fn symbol(&self, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains(name)
    }

    pub(crate) fn member(&self, record: &str, member: &str) -> bool {
        !self.names.is_empty() && self.names.contains(&format!("{record}.{member}"))
    }

    pub(crate) fn found_symbol(&self, name: &str) {
        self.keep(|| name.to_owned());
    }

    pub(crate) fn found_member(&self, record: &str, member: &str) {
        self.keep(|| format!("{record}.{member}"));
    }

    fn keep(&self, name: impl FnOnce() -> String) {
        if let Some(asked) = &self.asked {
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name());
        }
    }
}
