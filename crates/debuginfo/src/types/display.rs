//! Types as C spells them, in gdb's spacing (which crash shows): `struct list_head *`, `char [16]`, `int (*)(void)`.

use super::near;
use super::{DEEPEST, Prototype, Qualifier, RecordKind, Tag, Type, TypeId, Types};

/// Longest spelling of one type. Function types of damaged tables can branch without end.
const LONGEST: usize = 4096;

impl Types {
    /// The type's name: `struct task_struct *`, `char [16]`, `void (*)(struct callback_head *)`. Anonymous records and
    /// enums are `struct {...}`.
    #[must_use]
    pub fn name_of(&self, id: TypeId) -> String {
        self.declare(id, "")
    }

    /// The declaration of something with this type: `char comm[16]` for `comm`.
    #[must_use]
    pub fn declare(&self, id: TypeId, declarator: &str) -> String {
        self.spell(id, declarator.to_owned(), 0)
    }

    fn spell(&self, id: TypeId, mut inner: String, depth: usize) -> String {
        if depth > DEEPEST || inner.len() > LONGEST {
            return join("...", &inner);
        }
        let deeper = depth.saturating_add(1);
        match self.get(id).as_deref() {
            None => join("<damaged type>", &inner),
            Some(Type::Void) => join("void", &inner),
            Some(Type::Int { name, .. }) => join(near::usual_base_name(name), &inner),
            Some(Type::Float { name, .. } | Type::Typedef { name, .. }) => join(name, &inner),
            Some(Type::Record(record)) => {
                let keyword = match record.kind {
                    RecordKind::Struct => "struct",
                    RecordKind::Union => "union",
                };
                join(&tagged(keyword, record.name.as_deref()), &inner)
            }
            Some(Type::Enum(of)) => join(&tagged(Tag::Enum.word(), of.name.as_deref()), &inner),
            Some(Type::Declaration { tag, name }) => join(&tagged(tag.word(), Some(name)), &inner),
            Some(Type::Pointer { to, .. }) => {
                inner.insert(0, '*');
                if self.binds_tighter_than_a_pointer(*to) {
                    inner = format!("({inner})");
                }
                self.spell(*to, inner, deeper)
            }
            Some(Type::Array { of, count }) => {
                match count {
                    Some(count) => inner.push_str(&format!("[{count}]")),
                    None => inner.push_str("[]"),
                }
                self.spell(*of, inner, deeper)
            }
            Some(Type::Function(prototype)) => {
                inner.push_str(&self.parameters(prototype, deeper));
                self.spell(prototype.returns, inner, deeper)
            }
            Some(Type::Qualified { qualifier, of }) => self.qualify(qualifier, *of, inner, deeper),
        }
    }

    fn qualify(&self, qualifier: &Qualifier, of: TypeId, inner: String, depth: usize) -> String {
        let word = match qualifier {
            Qualifier::Const => "const",
            Qualifier::Volatile => "volatile",
            Qualifier::Restrict => "restrict",
            Qualifier::Atomic => "_Atomic",
            Qualifier::Tag(_) => return self.spell(of, inner, depth),
        };
        // A qualified pointer has the word behind its star, everything else before its name.
        if matches!(self.get(of).as_deref(), Some(Type::Pointer { .. })) {
            self.spell(of, join(&format!(" {word}"), &inner), depth)
        } else {
            format!("{word} {}", self.spell(of, inner, depth))
        }
    }

    fn parameters(&self, prototype: &Prototype, depth: usize) -> String {
        let mut text = String::from("(");
        for (number, param) in prototype.params.iter().enumerate() {
            if number > 0 {
                text.push_str(", ");
            }
            if text.len() > LONGEST {
                return text + "...)";
            }
            text.push_str(&self.spell(param.of, String::new(), depth));
        }
        match (prototype.variadic, prototype.params.is_empty()) {
            (true, true) => text.push_str("..."),
            (true, false) => text.push_str(", ..."),
            (false, true) => text.push_str("void"),
            (false, false) => {}
        }
        text.push(')');
        text
    }

    /// Whether a pointer to this needs parentheses: `int (*)[4]`, `int (*)(void)`.
    fn binds_tighter_than_a_pointer(&self, id: TypeId) -> bool {
        let mut at = id;
        for _ in 0..DEEPEST {
            match self.get(at).as_deref() {
                Some(Type::Array { .. } | Type::Function(_)) => return true,
                Some(Type::Qualified { of, .. }) => at = *of,
                _ => return false,
            }
        }
        false
    }
}

fn tagged(keyword: &str, name: Option<&str>) -> String {
    format!("{keyword} {}", name.unwrap_or("{...}"))
}

fn join(name: &str, declarator: &str) -> String {
    if declarator.is_empty() { name.to_owned() } else { format!("{name} {declarator}") }
}
