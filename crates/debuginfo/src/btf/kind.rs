//! The kinds of BTF types and how many bytes each takes (include/uapi/linux/btf.h).

/// Bytes that every type starts with: name, info, size or type.
pub(super) const HEAD: usize = 12;

/// `BTF_KIND_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    Prototype,
    Variable,
    Section,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    /// From the info word; `None` for 0 and for kinds from the future, whose length nobody knows.
    pub(super) const fn of(info: u32) -> Option<Self> {
        Some(match (info >> 24) & 0x1f {
            1 => Self::Int,
            2 => Self::Pointer,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Forward,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Function,
            13 => Self::Prototype,
            14 => Self::Variable,
            15 => Self::Section,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Bytes of each of the entries that follow the head.
    pub(super) const fn entry(self) -> usize {
        match self {
            Self::Struct | Self::Union | Self::Section | Self::Enum64 => 12,
            Self::Enum | Self::Prototype => 8,
            _ => 0,
        }
    }

    /// Bytes of the whole type.
    pub(super) const fn length(self, info: u32) -> usize {
        let fixed: usize = match self {
            Self::Int | Self::Variable | Self::DeclTag => 4,
            Self::Array => 12,
            _ => 0,
        };
        HEAD.saturating_add(fixed).saturating_add(self.entry().saturating_mul(count(info)))
    }
}

/// The number of entries that an info word gives (`vlen`).
pub(super) const fn count(info: u32) -> usize {
    (info & 0xffff) as usize
}
