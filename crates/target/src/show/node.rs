//! The tree of a value.

use kdive_base::{Missing, VirtAddr};
use kdive_debuginfo::types::Encoding;

/// A value, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// An integer, `char` and `_Bool` included.
    Integer(Integer),
    /// An enum: what is written for it (`TT_NONE`, `(A | B)`), if that is more than its number, and the number.
    Enum {
        /// The enumerator, or the flags.
        name: Option<String>,
        /// The number.
        value: i128,
    },
    /// A number with a fraction, as C's `%g` writes it with all its digits.
    Float(String),
    /// A pointer.
    Pointer(Pointer),
    /// A function stands for its address.
    Function(Pointer),
    /// A character array: its bytes.
    Text(Text),
    /// A struct or union.
    Record(Vec<Member>),
    /// An array.
    Array(Array),
    /// It has no value: `void`.
    Void,
    /// Only the name of its type is known.
    Incomplete,
    /// It lies deeper than is shown, or behind more than is.
    Elided,
    /// It cannot be read. `None` where the bytes at hand end before it.
    Unavailable(Option<Missing>),
}

/// An integer and how C reads its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// The bits, those above the width zero.
    pub raw: u128,
    /// Width in bits: of the type, or of a bit-field.
    pub bits: u32,
    /// Signed, unsigned, truth value.
    pub encoding: Encoding,
    /// Whether it is one byte wide by its type, and so a character too.
    pub character: bool,
}

/// A pointer and what is known of the place that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The address.
    pub address: VirtAddr,
    /// The symbol that it lies in, with the offset: `init_task+2192`.
    pub symbol: Option<String>,
    /// The text that a pointer to characters leads to.
    pub text: Option<Result<Text, Missing>>,
}

/// Characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The bytes shown; NULs may be among them.
    pub bytes: Vec<u8>,
    /// Whether there is more.
    pub more: bool,
}

/// A member of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// `None` for an anonymous struct or union.
    pub name: Option<Box<str>>,
    /// Its value.
    pub node: Node,
}

/// An array's elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Those that are shown.
    pub items: Vec<Node>,
    /// How many more there are.
    pub more: u64,
}

impl Integer {
    /// The number.
    #[must_use]
    pub fn value(&self) -> i128 {
        let unused = 128_u32.saturating_sub(self.bits.clamp(1, 128));
        match self.encoding {
            Encoding::Signed => (self.raw.wrapping_shl(unused) as i128).wrapping_shr(unused),
            Encoding::Unsigned | Encoding::Bool => self.raw as i128,
        }
    }
}
