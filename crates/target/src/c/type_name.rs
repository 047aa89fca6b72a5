//! C's type names (C11 6.7.7): `unsigned long`, `struct list_head *`, `int (*)[4]`, `void (*)(struct work_struct *)`.

use kdive_debuginfo::Tag;

use super::ast::{Base, Derived, Qualifiers, TypeName};
use super::error::{Eval, Fault};
use super::lexer::Kind;
use super::parser::{DEEPEST, Parser};

/// Words that make up the names of numbers.
const NUMBERS: &[&str] = &[
    "void",
    "char",
    "short",
    "int",
    "long",
    "signed",
    "__signed__",
    "unsigned",
    "_Bool",
    "bool",
    "float",
    "double",
    "__int128",
];
/// Annotations of the kernel's source that say nothing about the layout.
const ANNOTATIONS: &[&str] = &[
    "restrict",
    "__restrict",
    "__restrict__",
    "_Atomic",
    "__user",
    "__kernel",
    "__iomem",
    "__percpu",
    "__rcu",
    "register",
    "static",
    "extern",
    "inline",
];
const TYPE_OF: &[&str] = &["typeof", "__typeof__", "__typeof", "typeof_unqual"];

fn tag(word: &str) -> Option<Tag> {
    match word {
        "struct" => Some(Tag::Struct),
        "union" => Some(Tag::Union),
        "enum" => Some(Tag::Enum),
        _ => None,
    }
}

fn is_qualifier(word: &str) -> bool {
    matches!(word, "const" | "__const" | "volatile" | "__volatile__") || ANNOTATIONS.contains(&word)
}

impl Parser<'_> {
    /// Whether a type begins `ahead` of the next token.
    pub(super) fn starts_type(&self, ahead: usize) -> bool {
        let Some(word) = self.word_at(ahead) else { return false };
        if is_qualifier(word) || NUMBERS.contains(&word) || tag(word).is_some() || TYPE_OF.contains(&word) {
            return true;
        }
        let behind = ahead.saturating_add(1);
        if self.is_at(behind, "::") {
            return false;
        }
        self.names.is_type(word) || (self.only_stars_follow(behind) && self.names.may_be_type(word))
    }

    /// Whether `*` and `)` follow, which no value could stand before: `(page *)` is a cast even where something else is
    /// called `page` too.
    fn only_stars_follow(&self, ahead: usize) -> bool {
        let mut at = ahead;
        while self.is_at(at, "*") {
            at = at.saturating_add(1);
        }
        at > ahead && (self.is_at(at, ")") || self.is_at(at, "}") || self.peek_at(at).is_none())
    }

    /// A type where only a type can stand.
    pub(super) fn type_name(&mut self) -> Eval<TypeName> {
        self.nested(Self::type_name_here)
    }

    fn type_name_here(&mut self) -> Eval<TypeName> {
        let start = self.here().start;
        let mut qualifiers = Qualifiers::default();
        self.qualifiers(&mut qualifiers);
        let base = self.base(&mut qualifiers)?;
        self.qualifiers(&mut qualifiers);
        let derived = self.declarator()?;
        let at = self.since(start);
        let parts = derived.iter().map(|derived| match derived {
            Derived::Pointer(_) | Derived::Array(None) => 0,
            Derived::Array(Some(count)) => count.depth,
            Derived::Function { params, .. } => params.iter().map(|param| param.depth).max().unwrap_or(0),
        });
        let base_depth = match &base {
            Base::TypeOf(node) => node.depth,
            Base::TypeOfType(of) => of.depth,
            Base::Words(_) | Base::Tagged(..) | Base::Named(_) => 0,
        };
        let depth = parts.max().unwrap_or(0).max(base_depth).saturating_add(1);
        if derived.len() > DEEPEST || depth > DEEPEST {
            return Err(Fault::wrong(at, "nested too deeply"));
        }
        Ok(TypeName { base, qualifiers, derived, at, depth })
    }

    fn qualifiers(&mut self, found: &mut Qualifiers) {
        while let Some(word) = self.word().filter(|word| is_qualifier(word)) {
            found.constant |= word.contains("const");
            found.volatile |= word.contains("volatile");
            self.advance();
        }
    }

    fn base(&mut self, qualifiers: &mut Qualifiers) -> Eval<Base> {
        let Some(word) = self.word() else { return Err(self.unexpected("a type is missing")) };
        if let Some(tag) = tag(word) {
            self.advance();
            let Some(name) = self.word().map(str::to_owned) else {
                return Err(self.unexpected(&format!("the name of the {tag} is missing")));
            };
            self.advance();
            return Ok(Base::Tagged(tag, name));
        }
        if TYPE_OF.contains(&word) {
            self.advance();
            self.expect("(")?;
            let base = match self.starts_type(0) {
                true => Base::TypeOfType(Box::new(self.type_name()?)),
                false => Base::TypeOf(self.expression()?),
            };
            self.expect(")")?;
            return Ok(base);
        }
        if NUMBERS.contains(&word) {
            return Ok(Base::Words(self.words(qualifiers)));
        }
        self.advance();
        Ok(Base::Named(word.to_owned()))
    }

    /// `long const unsigned int`: the words in any order, qualifiers among them.
    fn words(&mut self, qualifiers: &mut Qualifiers) -> String {
        let mut words = String::new();
        while let Some(word) = self.word() {
            if NUMBERS.contains(&word) {
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(word);
                self.advance();
            } else if is_qualifier(word) {
                self.qualifiers(qualifiers);
            } else {
                break;
            }
        }
        words
    }

    /// What is made of the base, innermost first. A name in it, as parameters have one, is passed over.
    fn declarator(&mut self) -> Eval<Vec<Derived>> {
        let mut derived = Vec::new();
        while self.take("*") {
            let mut qualifiers = Qualifiers::default();
            self.qualifiers(&mut qualifiers);
            derived.push(Derived::Pointer(qualifiers));
        }
        let mut inner = Vec::new();
        if self.is("(") && self.opens_declarator() {
            self.advance();
            inner = self.nested(Self::declarator)?;
            self.expect(")")?;
        } else if let Some(Kind::Word(word)) = self.peek()
            && !derived.is_empty()
            && !is_qualifier(word)
        {
            self.advance();
        }
        let mut suffixes = Vec::new();
        loop {
            if self.take("[") {
                let count = if self.is("]") { None } else { Some(self.argument()?) };
                self.expect("]")?;
                suffixes.push(Derived::Array(count));
            } else if self.is("(") {
                suffixes.push(self.parameters()?);
            } else {
                break;
            }
            if suffixes.len() > DEEPEST {
                return Err(Fault::wrong(self.here(), "nested too deeply"));
            }
        }
        suffixes.reverse();
        derived.append(&mut suffixes);
        derived.append(&mut inner);
        Ok(derived)
    }

    /// Whether the parenthesis that comes next holds a declarator and not parameters.
    fn opens_declarator(&self) -> bool {
        matches!(self.peek_at(1), Some(Kind::Punct("*" | "(" | "[")))
    }

    fn parameters(&mut self) -> Eval<Derived> {
        self.expect("(")?;
        let mut params = Vec::new();
        let mut variadic = false;
        if self.word() == Some("void") && self.is_at(1, ")") {
            self.advance();
        }
        while !self.is(")") {
            if self.take("...") {
                variadic = true;
                break;
            }
            params.push(self.type_name()?);
            // The parameter's name, where no star stood before it.
            if self.word().is_some() {
                self.advance();
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(Derived::Function { params, variadic })
    }
}
