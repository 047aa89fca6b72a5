//! From a record and a path such as `a.b[2].c` to an offset and a type.

use rustc_hash::FxHashSet;

use super::{DEEPEST, Record, Type, TypeId, Types};

/// Where a member lies in its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberAt {
    /// Offset in bits from the record's start; bit-fields count as [`super::Member::bit_offset`] says.
    pub bit_offset: u64,
    /// Width in bits of a bit-field.
    pub bit_size: Option<u32>,
    /// The member's type.
    pub of: TypeId,
}

impl MemberAt {
    /// Offset in bytes: of the member, or of the byte in which a bit-field starts.
    #[must_use]
    pub const fn byte_offset(&self) -> u64 {
        self.bit_offset / 8
    }
}

/// Why a path does not lead to a member.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MemberError {
    /// The record lacks it: normal between kernel versions.
    #[error("{record} has no member {member}")]
    NoMember {
        /// The record's name.
        record: String,
        /// The part of the path that it lacks.
        member: String,
    },
    /// A part before a `.` is no record, or is a pointer, which a path does not follow.
    #[error("{member} is of type {of}, which has no members")]
    NotARecord {
        /// The part of the path.
        member: String,
        /// Its type.
        of: String,
    },
    /// A part before a `[` is no array.
    #[error("{member} is of type {of}, not an array")]
    NotAnArray {
        /// The part of the path.
        member: String,
        /// Its type.
        of: String,
    },
    /// Only the name of the record is known.
    #[error("the layout of {record} is not known")]
    Incomplete {
        /// The record's name.
        record: String,
    },
    /// The path is not of the form `a.b[2].c`.
    #[error("{path:?} is not a member path")]
    Syntax {
        /// The path.
        path: String,
    },
}

/// A piece of a path.
enum Step<'p> {
    Member(&'p str),
    Index(u64),
}

impl Types {
    /// Follows a path of members and array indices from a record (or a typedef of one). Members of anonymous structs
    /// and unions belong to the record around them, as in C. Pointers are not followed. Indices are not checked against
    /// the array's length, as in C.
    ///
    /// # Errors
    /// Says which part of the path failed and why.
    pub fn member(&self, record: TypeId, path: &str) -> Result<MemberAt, MemberError> {
        let mut here = MemberAt { bit_offset: 0, bit_size: None, of: record };
        let mut walked = String::new();
        for step in steps(path).ok_or_else(|| MemberError::Syntax { path: path.to_owned() })? {
            let next = match step {
                Step::Member(name) => self.step_member(&here, name, &walked)?,
                Step::Index(index) => self.step_index(&here, index, &walked)?,
            };
            let bit_offset = here.bit_offset.checked_add(next.bit_offset);
            let bit_offset = bit_offset.ok_or_else(|| MemberError::Syntax { path: path.to_owned() })?;
            here = MemberAt { bit_offset, ..next };
            match step {
                Step::Member(name) if walked.is_empty() => walked.push_str(name),
                Step::Member(name) => walked.push_str(&format!(".{name}")),
                Step::Index(index) => walked.push_str(&format!("[{index}]")),
            }
        }
        Ok(here)
    }

    fn step_member(&self, here: &MemberAt, name: &str, walked: &str) -> Result<MemberAt, MemberError> {
        match self.stripped(here.of).as_deref() {
            Some(Type::Record(record)) => self
                .member_of(record, name, 0, &mut FxHashSet::default())
                .ok_or_else(|| MemberError::NoMember {
                    record: self.name_of(self.strip(here.of)),
                    member: name.to_owned(),
                }),
            Some(Type::Declaration { .. }) | None => {
                Err(MemberError::Incomplete { record: self.name_of(here.of) })
            }
            Some(_) => Err(MemberError::NotARecord {
                member: if walked.is_empty() { "it".to_owned() } else { walked.to_owned() },
                of: self.name_of(here.of),
            }),
        }
    }

    fn step_index(&self, here: &MemberAt, index: u64, walked: &str) -> Result<MemberAt, MemberError> {
        let not_an_array =
            || MemberError::NotAnArray { member: walked.to_owned(), of: self.name_of(here.of) };
        let Some(Type::Array { of, .. }) = self.stripped(here.of).as_deref().cloned() else {
            return Err(not_an_array());
        };
        let bytes = self.size_of(of).ok_or_else(|| MemberError::Incomplete { record: self.name_of(of) })?;
        let bit_offset = bytes.checked_mul(8).and_then(|bits| bits.checked_mul(index));
        Ok(MemberAt { bit_offset: bit_offset.ok_or_else(not_an_array)?, bit_size: None, of })
    }

    /// A direct member by name, or one of an anonymous record inside. The first one wins, as compilers forbid others.
    /// `searched` are the anonymous records that do not have it: damaged types can hold one another any number of times.
    fn member_of(
        &self,
        record: &Record,
        name: &str,
        depth: usize,
        searched: &mut FxHashSet<TypeId>,
    ) -> Option<MemberAt> {
        let named = record.members.iter().find(|member| member.name.as_deref() == Some(name));
        if let Some(member) = named {
            return Some(MemberAt {
                bit_offset: member.bit_offset,
                bit_size: member.bit_size,
                of: member.of,
            });
        }
        if depth > DEEPEST {
            return None;
        }
        record.members.iter().filter(|member| member.name.is_none()).find_map(|member| {
            let inner = self.strip(member.of);
            if !searched.insert(inner) {
                return None;
            }
            let Type::Record(inner) = &*self.get(inner)? else { return None };
            let found = self.member_of(inner, name, depth.saturating_add(1), searched)?;
            Some(MemberAt { bit_offset: member.bit_offset.checked_add(found.bit_offset)?, ..found })
        })
    }

    /// The named member that holds the byte at `offset`, followed down to the innermost one: `se.run_node` for an
    /// offset into `task_struct`. `None` for padding. Array elements get their index.
    #[must_use]
    pub fn path_at(&self, record: TypeId, offset: u64) -> Option<String> {
        let mut path = String::new();
        let (mut at, mut rest) = (self.strip(record), offset);
        for _ in 0..DEEPEST {
            match self.get(at).as_deref() {
                Some(Type::Record(record)) => {
                    let Some((member, start)) = record.members.iter().find_map(|member| {
                        let start = member.bit_offset / 8;
                        let bytes = match member.bit_size {
                            Some(bits) => (member.bit_offset % 8).saturating_add(u64::from(bits)).div_ceil(8),
                            None => self.size_of(member.of)?,
                        };
                        (start..start.saturating_add(bytes)).contains(&rest).then_some((member, start))
                    }) else {
                        break;
                    };
                    if let Some(name) = &member.name {
                        if !path.is_empty() {
                            path.push('.');
                        }
                        path.push_str(name);
                    }
                    rest = rest.saturating_sub(start);
                    at = self.strip(member.of);
                }
                Some(Type::Array { of, .. }) => {
                    let Some(bytes) = self.size_of(*of).filter(|&bytes| bytes > 0) else { break };
                    path.push_str(&format!("[{}]", rest.checked_div(bytes)?));
                    rest = rest.checked_rem(bytes)?;
                    at = self.strip(*of);
                }
                _ => break,
            }
        }
        (!path.is_empty()).then_some(path)
    }
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        let name = name.trim();
        if name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'_') {
            return None;
        }
        if !name.is_empty() {
            steps.push(Step::Member(name));
        } else if !(steps.is_empty() && indices.starts_with('[')) {
            return None;
        }
        while !indices.is_empty() {
            let (index, rest) = indices.strip_prefix('[')?.split_once(']')?;
            steps.push(Step::Index(index.trim().parse().ok()?));
            indices = rest.trim_start();
        }
    }
    Some(steps)
}
