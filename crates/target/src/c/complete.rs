//! Completion at the cursor: members of what stands before a `.` or `->`, else names.

use std::collections::BTreeSet;

use kdive_debuginfo::types::{Tag, Type};
use kdive_debuginfo::{TypeId, Types};

use super::eval::Evaluator;
use super::lexer::{Kind, Token, tokens};
use super::parser;
use super::resolve::Known;
use super::suggest;
use super::world::World;

/// More than this no one reads.
const MOST: usize = 500;
/// Words that are offered like names.
const WORDS: [&str; 10] = [
    "sizeof",
    "offsetof",
    "container_of",
    "struct",
    "union",
    "enum",
    "typeof",
    "unsigned",
    "per_cpu",
    "per_cpu_ptr",
];

/// What could stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// Where the word begins that a candidate replaces, in bytes of the text.
    pub start: usize,
    /// Whole words, in order.
    pub candidates: Vec<String>,
}

/// What could stand in `text` at the cursor, a number of bytes. What is behind the cursor does not matter, and what is
/// before it need not be a whole expression.
#[must_use]
pub fn complete(text: &str, cursor: usize, world: &dyn World) -> Completions {
    let before = text.get(..cursor).unwrap_or(text);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let start = before.rfind(|c: char| !is_word(c)).map_or(0, |at| {
        at.saturating_add(before.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8))
    });
    let (front, word) = before.split_at_checked(start).unwrap_or((before, ""));
    let names = match record_before(front) {
        Some(record) => members(record, word, world),
        None => self::names(front, word, world),
    };
    Completions { start, candidates: names.into_iter().take(MOST).collect() }
}

/// The expression whose member is to be completed: what stands before the `.` or `->` at the end.
fn record_before(front: &str) -> Option<&str> {
    let front = front.trim_end();
    let front = front.strip_suffix("->").or_else(|| front.strip_suffix('.'))?;
    let tokens = tokens(front).ok()?;
    let start = operand_start(&tokens)?;
    front.get(start..)
}

/// Where the last operand of the tokens begins: `b->c` of `a + b->c`, `f(x)[1]` of `(f(x)[1]`.
fn operand_start(tokens: &[Token<'_>]) -> Option<usize> {
    let mut at = tokens.len();
    loop {
        at = at.checked_sub(1)?;
        let token = tokens.get(at)?;
        match &token.kind {
            Kind::Punct(close @ (")" | "]")) => {
                at = opening(tokens, at)?;
                // `a[i]` goes on with what is indexed; `name(...)` with its name.
                let called = at.checked_sub(1).and_then(|before| tokens.get(before));
                let called = called.filter(|before| matches!(before.kind, Kind::Word(_)));
                if *close == "]" {
                    continue;
                }
                if called.is_some() {
                    at = at.saturating_sub(1);
                }
            }
            Kind::Word(_) | Kind::Variable(_) | Kind::Quoted(_) => {}
            _ => return None,
        }
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        match before.map(|token| &token.kind) {
            Some(Kind::Punct("." | "->" | "::")) => at = at.saturating_sub(1),
            _ => return tokens.get(at).map(|token| token.at.start),
        }
    }
}

/// The bracket that the one at `close` closes.
fn opening(tokens: &[Token<'_>], close: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in (0..=close).rev() {
        match tokens.get(at).map(|token| &token.kind) {
            Some(Kind::Punct(")" | "]")) => depth = depth.saturating_add(1),
            Some(Kind::Punct("(" | "[")) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn members(record: &str, prefix: &str, world: &dyn World) -> BTreeSet<String> {
    let mut evaluator = Evaluator::new(world);
    // Only its type counts: memory that is missing does not matter.
    let value = parser::expression(record, &Known { world })
        .and_then(|node| evaluator.idly(|evaluator| evaluator.eval(&node)));
    let of = match value {
        Ok(value) => value.of,
        // `task_struct.` as the data commands take it.
        Err(_) => match parser::type_name(record, &Known { world })
            .and_then(|name| evaluator.resolve(&name, None))
        {
            Ok(of) => of,
            Err(_) => return BTreeSet::new(),
        },
    };
    let found = members_of(&evaluator.types, of);
    let found = if found.is_empty() && evaluator.widen() { members_of(&evaluator.types, of) } else { found };
    found.into_iter().filter(|name| name.starts_with(prefix)).collect()
}

/// Members of a record, or of what a pointer or an array leads to.
fn members_of(types: &Types, of: TypeId) -> Vec<String> {
    match types.stripped(of).as_deref() {
        Some(Type::Pointer { to, .. } | Type::Array { of: to, .. }) => suggest::members(types, *to),
        _ => suggest::members(types, of),
    }
}

/// Variables, symbols, enumerators and types.
fn names(front: &str, prefix: &str, world: &dyn World) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if prefix.is_empty() {
        return found;
    }
    let types = world.types();
    let keyword = tokens(front).ok().and_then(|tokens| match tokens.last()?.kind {
        Kind::Word("struct") => Some(Tag::Struct),
        Kind::Word("union") => Some(Tag::Union),
        Kind::Word("enum") => Some(Tag::Enum),
        _ => None,
    });
    if let Some(tag) = keyword {
        types.for_each_name(tag, |name, _| keep(&mut found, prefix, name));
        return found;
    }
    for name in world.variables().names() {
        keep(&mut found, prefix, &name);
    }
    for word in WORDS {
        keep(&mut found, prefix, word);
    }
    if prefix.starts_with('$') {
        return found;
    }
    world.for_each_name(prefix, &mut |name| {
        keep(&mut found, prefix, name);
        found.len() < MOST
    });
    for tag in [Tag::Struct, Tag::Union, Tag::Typedef] {
        types.for_each_name(tag, |name, _| keep(&mut found, prefix, name));
    }
    types.for_each_name(Tag::Enum, |_, id| {
        if let Some(Type::Enum(of)) = types.get(id).as_deref() {
            of.values.iter().for_each(|(name, _)| keep(&mut found, prefix, name));
        }
    });
    found
}

fn keep(found: &mut BTreeSet<String>, prefix: &str, name: &str) {
    if name.starts_with(prefix) {
        found.insert(name.to_owned());
    }
}
