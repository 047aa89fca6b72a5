//! What a kernel or its dump does not have, as a value that a field carries.

use std::fmt;
use std::sync::Arc;

use kdive_base::Missing;
use serde::{Serialize, Serializer};

/// Why one thing could not be told. Cheap to clone: a listing of a million rows carries many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lacks {
    /// The memory is not in the dump, or not mapped.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// No symbol of any of these names.
    #[error("this kernel has no symbol {0}")]
    Symbol(Names),
    /// No type of this name in the type information at hand.
    #[error("no type information for {0}")]
    Type(Names),
    /// The structure has no member of any of these names.
    #[error("{record} has no member {members}")]
    Member {
        /// The structure.
        record: Arc<str>,
        /// The names tried, in order.
        members: Names,
    },
    /// No type information at all was found.
    #[error("no type information: the dump has no BTF, and no vmlinux was given")]
    Types,
    /// The bytes are there, but they cannot be what they should be.
    #[error("{0}")]
    Implausible(Arc<str>),
    /// Something this depends on was itself lacking, in words.
    #[error("{0}")]
    Unavailable(Arc<str>),
}

impl Lacks {
    /// Data that contradicts itself, in words.
    #[must_use]
    pub fn implausible(what: impl fmt::Display) -> Self {
        Self::Implausible(what.to_string().into())
    }

    /// Something that cannot be told, in words.
    #[must_use]
    pub fn unavailable(what: impl fmt::Display) -> Self {
        Self::Unavailable(what.to_string().into())
    }
}

impl Serialize for Lacks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One name, or several that were tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(Arc<[Box<str>]>);

impl Names {
    /// The names tried.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(Box::from).collect())
    }
}

impl From<&str> for Names {
    fn from(name: &str) -> Self {
        Self::new([name])
    }
}

impl From<&[&str]> for Names {
    fn from(names: &[&str]) -> Self {
        Self::new(names.iter().copied())
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            match index {
                0 => {}
                _ if index.saturating_add(1) == self.0.len() => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// A field of a kernel object: its value, or why there is none.
pub type Field<T> = Result<T, Lacks>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_sentences() {
        let lacks = Lacks::Member { record: "mm_struct".into(), members: Names::new(["mmap", "mm_mt"]) };
        assert_eq!(lacks.to_string(), "mm_struct has no member mmap or mm_mt");
        assert_eq!(
            Lacks::Symbol(Names::new(["a", "b", "c"])).to_string(),
            "this kernel has no symbol a, b or c"
        );
    }
}
