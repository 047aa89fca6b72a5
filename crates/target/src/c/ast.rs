//! What an expression says, before it is known what its names mean.

use std::ops::Range;

use kdive_debuginfo::Tag;

use super::lexer::Number;

/// A part of an expression and the bytes of the text that it is.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Box<Expr>,
    pub(super) at: Range<usize>,
    /// Nodes on the longest way down from here, this one included.
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Number(Number),
    Char(u8),
    Text(Vec<u8>),
    Name(String),
    /// `$name`
    Variable(String),
    /// `'file.c'::name`, `module::name`, `function::name`, `::name` (with an empty scope)
    Scoped {
        scope: String,
        name: String,
    },
    Unary(Unary, Node),
    Binary(Binary, Node, Node),
    Conditional(Node, Node, Node),
    Cast(TypeName, Node),
    /// `{type} address`
    At(TypeName, Node),
    /// `of.name`, `of->name`
    Member {
        of: Node,
        name: String,
        name_at: Range<usize>,
    },
    Index(Node, Node),
    SizeOf(Node),
    SizeOfType(TypeName),
    AlignOfType(TypeName),
    OffsetOf(TypeName, Path),
    ContainerOf {
        pointer: Node,
        of: TypeName,
        path: Path,
    },
    /// `per_cpu(variable, cpu)`
    PerCpu(Node, Node),
    /// `per_cpu_ptr(pointer, cpu)`
    PerCpuPointer(Node, Node),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Plus,
    Minus,
    Not,
    Complement,
    Dereference,
    AddressOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Comma,
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    ShiftLeft,
    ShiftRight,
    /// gdb's `first@count`.
    Slice,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Binary {
    /// The operator as it is typed.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Comma => ",",
            Self::Or => "||",
            Self::And => "&&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::BitAnd => "&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::LessEqual => "<=",
            Self::GreaterEqual => ">=",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
            Self::Slice => "@",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    pub(super) const ALL: [Self; 20] = [
        Self::Comma,
        Self::Or,
        Self::And,
        Self::BitOr,
        Self::BitXor,
        Self::BitAnd,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::Greater,
        Self::LessEqual,
        Self::GreaterEqual,
        Self::ShiftLeft,
        Self::ShiftRight,
        Self::Slice,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
    ];

    /// How tightly it binds, loosest first. gdb's `@` lies between shifts and sums: `a[0]@n+1` has `n+1` elements.
    pub(super) const fn strength(self) -> u8 {
        match self {
            Self::Comma => 1,
            Self::Or => 4,
            Self::And => 5,
            Self::BitOr => 6,
            Self::BitXor => 7,
            Self::BitAnd => 8,
            Self::Equal | Self::NotEqual => 9,
            Self::Less | Self::Greater | Self::LessEqual | Self::GreaterEqual => 10,
            Self::ShiftLeft | Self::ShiftRight => 11,
            Self::Slice => 12,
            Self::Add | Self::Subtract => 13,
            Self::Multiply | Self::Divide | Self::Remainder => 14,
        }
    }
}

/// Where `?:` and assignments stand among [`Binary::strength`].
pub(super) const CONDITIONAL: u8 = 3;

/// `a.b[2].c` in `offsetof` and `container_of`.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Member(String, Range<usize>),
    Index(Node),
}

/// A type as it is written.
#[derive(Clone, Debug)]
pub(super) struct TypeName {
    pub(super) base: Base,
    pub(super) qualifiers: Qualifiers,
    /// What is made of the base, one after the other: `int *[4]` is a pointer, then an array.
    pub(super) derived: Vec<Derived>,
    pub(super) at: Range<usize>,
    /// As [`Node::depth`].
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Base {
    /// `unsigned long`: words of the language.
    Words(String),
    /// `struct name`
    Tagged(Tag, String),
    /// A typedef, or a record without its keyword.
    Named(String),
    TypeOf(Node),
    TypeOfType(Box<TypeName>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) constant: bool,
    pub(super) volatile: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Derived {
    Pointer(Qualifiers),
    Array(Option<Node>),
    Function { params: Vec<TypeName>, variadic: bool },
}
