//! `whatis` and `ptype`: the type of a name or expression, and types by size and by what they hold.

mod ptype;
mod search;

use std::fmt;

use kdive_debuginfo::{Tag, Type, TypeId, Types};
use kdive_target::c::{EvalError, Evaluated};
use serde::Serialize;

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::sink::{Render, Sink, SinkExt};
use crate::structure::{Layout, Margin, Shape, shape};
use crate::variables::SessionVariables;

pub(crate) use self::ptype::PTYPE;

/// Says what a name is.
pub(crate) static WHATIS: Command = Command {
    names: &["whatis"],
    group: Group::Memory,
    summary: "the type of a name or expression; types by size or member",
    operands: "[type | symbol | expression]",
    options: &[
        Opt::flag("-o", "show offsets of members"),
        Opt::value("-r", "size", "list the types of a size in bytes, or of sizes lo-hi"),
        Opt::value("-m", "type", "list the types that hold a member of this type, or a pointer to it"),
    ],
    help: include_str!("whatis.md"),
    run: Run::Expression(whatis),
};

fn whatis(cx: &mut Cx, args: &Args, text: &str, out: &mut dyn Sink) -> Result<(), CommandError> {
    if args.has("-r") || args.has("-m") {
        if !text.is_empty() {
            return Err(
                UsageError::new("whatis", format!("{text}: -r and -m list types, and take no name")).into()
            );
        }
        return search::list(cx, args.value("-r"), args.value("-m"), out);
    }
    if text.is_empty() {
        return Err(UsageError::new("whatis", "what is what?").into());
    }
    let margin = Margin { offsets: args.has("-o"), hexadecimal: false };
    match meaning(cx, text)? {
        Meaning::Record(shape) => {
            let kernel = cx.kernel.clone();
            let layout = Layout::of_shape(shape.types(&kernel)?, &shape);
            Ok(out.row(&layout, &margin)?)
        }
        Meaning::Type(types, of) => Ok(out.row(&Layout::of(&types, of), &margin)?),
        Meaning::Value(found) => Ok(out.row(&Named::of(text, &found), &())?),
    }
}

/// What a text is the name of.
enum Meaning {
    Record(Shape),
    Type(Types, TypeId),
    Value(Evaluated),
}

/// A record before a value, and a value before other types: `whatis jiffies` is about the variable.
fn meaning(cx: &Cx, text: &str) -> Result<Meaning, CommandError> {
    let (tags, name) = match text.split_once(char::is_whitespace) {
        Some(("struct", name)) => (shape::STRUCT, name.trim()),
        Some(("union", name)) => (shape::UNION, name.trim()),
        _ => (shape::ANY, text),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@.-".contains(c);
    let typed_so = name.len() < text.len();
    if !name.contains(|c| !plain(c)) && (typed_so || names_record(cx, name)) {
        return Ok(Meaning::Record(Shape::parse(cx, "whatis", tags, name)?));
    }
    let kernel = cx.kernel.clone();
    let variables = SessionVariables::new(cx);
    let scope = variables.scope();
    let wrong = match kernel.evaluate(text, &scope) {
        Ok(found) => return Ok(Meaning::Value(found)),
        Err(error) => error,
    };
    match kernel.type_named(text, &scope) {
        Ok(of) => Ok(Meaning::Type(kernel.types_knowing(of)?.clone(), of)),
        Err(of_type) => Err(nearer(wrong, of_type).into()),
    }
}

/// What words without a command are about.
pub(crate) enum Kind {
    /// A variable or an expression.
    Value,
    /// A struct or union.
    Record,
    /// Another type.
    Type,
}

/// What the first word of a line without a command, or the whole line, is the name of. A variable goes before a type of
/// its name, and what only begins like a variable is an expression, right or wrong.
pub(crate) fn kind(cx: &Cx, first: &str, line: &str) -> Option<Kind> {
    let end = first.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(first.len());
    let (name, behind) = first.split_at(end);
    let is_symbol = cx.kernel.symbols().is_ok_and(|symbols| !symbols.by_name(name).is_empty());
    if is_symbol && !name.is_empty() {
        return Some(Kind::Value);
    }
    if matches!(behind.chars().next(), None | Some('.' | '@')) && names_record(cx, first) {
        return Some(Kind::Record);
    }
    let variables = SessionVariables::new(cx);
    let scope = variables.scope();
    if cx.kernel.evaluate(line, &scope).is_ok() {
        return Some(Kind::Value);
    }
    cx.kernel.type_named(line, &scope).is_ok().then_some(Kind::Type)
}

/// Of two errors the one that came further, and so understood more.
fn nearer(value: EvalError, of_type: EvalError) -> EvalError {
    if of_type.at.start > value.at.start { of_type } else { value }
}

/// Whether the kernel has a record of this name, which no variable has too: its layout is what is asked for.
pub(crate) fn names_record(cx: &Cx, name: &str) -> bool {
    let name = name.split(['@', '.']).next().unwrap_or(name);
    let known = |types: &Types| {
        shape::ANY.iter().any(|&tag| {
            let all = types.find_all(tag, name);
            all.iter().any(|&id| matches!(types.stripped(id).as_deref(), Some(Type::Record(_))))
        })
    };
    let own = cx.kernel.types().is_ok_and(known);
    let a_typedef_too = || cx.kernel.types().is_ok_and(|types| types.find(Tag::Typedef, name).is_ok());
    let a_value = || cx.kernel.symbols().is_ok_and(|symbols| !symbols.by_name(name).is_empty());
    own || (!a_typedef_too() && !a_value() && cx.kernel.all_types().is_ok_and(known))
}

/// A value and its type.
#[derive(Serialize)]
struct Named {
    /// The name, where it is a variable's or function's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type")]
    of: String,
    /// The number, of an enumerator.
    #[serde(skip_serializing_if = "Option::is_none")]
    enumerator: Option<i64>,
    /// What of the type is guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    guessed: Option<String>,
    #[serde(skip)]
    declaration: String,
}

impl Named {
    fn of(text: &str, found: &Evaluated) -> Self {
        let Evaluated { value, types, guessed } = found;
        let of = types.name_of(value.of);
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let enumerator = match types.stripped(value.of).as_deref() {
            Some(Type::Enum(kind)) if plain => {
                let found = kind.values.iter().find(|(name, _)| **name == *text);
                found.and_then(|(_, value)| i64::try_from(*value).ok())
            }
            _ => None,
        };
        let variable = plain && value.address().is_some();
        let declaration = match (enumerator, variable) {
            (Some(number), _) => format!("{of} = {number}"),
            (None, true) => format!("{};", types.declare(value.of, text)),
            (None, false) => of.clone(),
        };
        let guessed = guessed.as_ref().map(ToString::to_string);
        Self { name: variable.then(|| text.to_owned()), of, enumerator, guessed, declaration }
    }
}

impl Render for Named {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match &self.guessed {
            Some(guessed) => writeln!(out, "{}  ({guessed})", self.declaration),
            None => writeln!(out, "{}", self.declaration),
        }
    }
}
