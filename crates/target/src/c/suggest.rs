//! Names close to a mistyped one.

use kdive_debuginfo::types::{Closest, Tag};
use kdive_debuginfo::{Type, TypeId, Types};

/// Records inside each other that are looked at.
const DEEPEST: usize = 16;

/// The names of a record's members, those of anonymous records inside included.
pub(super) fn members(types: &Types, record: TypeId) -> Vec<String> {
    let mut names = Vec::new();
    collect(types, record, 0, &mut names);
    names
}

fn collect(types: &Types, record: TypeId, depth: usize, names: &mut Vec<String>) {
    let Some(found) = types.stripped(record).filter(|_| depth < DEEPEST) else { return };
    let Type::Record(record) = &*found else { return };
    for member in &record.members {
        match &member.name {
            Some(name) => names.push(name.to_string()),
            None => collect(types, member.of, depth.saturating_add(1), names),
        }
    }
}

/// The member that was meant: underscores in front are what people forget.
pub(super) fn member(types: &Types, record: TypeId, wanted: &str) -> Option<String> {
    closest(wanted, &members(types, record))
}

/// The nearest of some names, underscores in front aside.
pub(super) fn closest(wanted: &str, names: &[String]) -> Option<String> {
    let bare = |name: &str| name.trim_start_matches('_').to_owned();
    let wanted = bare(wanted);
    let mut close = Closest::new(&wanted);
    for name in names {
        close.offer(&bare(name));
    }
    let nearest = close.take().into_iter().next()?;
    names.iter().find(|name| bare(name) == nearest).cloned()
}

/// A type that is typed without a keyword.
pub(super) fn bare_type(types: &Types, wanted: &str) -> Option<String> {
    [Tag::Typedef, Tag::Struct, Tag::Union]
        .into_iter()
        .find_map(|tag| types.near(tag, wanted).into_iter().next())
}
