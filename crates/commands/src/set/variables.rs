//! The session's variables.

use std::fmt;

use serde::Serialize;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::settings::{Radix, Settings};
use crate::sink::{Render, Sink, SinkExt};

/// A variable of the session.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it holds until it is set.
    pub default: &'static str,
    /// What it can be set to.
    pub takes: Takes,
}

/// What a variable can be set to.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// `on` or `off`; 1 and 0 mean the same.
    Switch,
    /// A number.
    Number,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Any word.
    Any,
    /// Nothing: it is decided when the dump is opened.
    Fixed(&'static str),
}

const fn of(name: &'static str, default: &'static str, takes: Takes) -> Variable {
    Variable { name, default, takes }
}

/// All variables, in crash's order. Those that mean nothing here are taken so that start-up files of crash run.
static VARIABLES: &[Variable] = &[
    of("scroll", "on", Takes::Words(&["on", "off", "less", "more", "CRASHPAGER"])),
    of("radix", "10", Takes::Words(&["10", "16"])),
    of("refresh", "on", Takes::Switch),
    of("print_max", "256", Takes::Number),
    of("print_array", "off", Takes::Switch),
    of("console", "(not assigned)", Takes::Any),
    of("debug", "0", Takes::Number),
    of("core", "off", Takes::Switch),
    of("hash", "on", Takes::Switch),
    of("silent", "off", Takes::Switch),
    of("edit", "emacs", Takes::Words(&["vi", "emacs"])),
    of("namelist", "(none)", Takes::Fixed("give the vmlinux when kdive is started")),
    of("dumpfile", "(none)", Takes::Fixed("give the dump when kdive is started")),
    of("unwind", "off", Takes::Switch),
    of("zero_excluded", "off", Takes::Fixed("start kdive with --zero-excluded")),
    of("null-stop", "off", Takes::Switch),
    of("gdb", "off", Takes::Words(&["off"])),
    of("scope", "0 (not set)", Takes::Any),
    of("offline", "show", Takes::Words(&["show", "hide"])),
    of("redzone", "on", Takes::Switch),
    of("error", "default", Takes::Any),
    of("src", "(not set)", Takes::Any),
];

/// All variables, in the order in which `set -v` shows them.
#[must_use]
pub fn variables() -> &'static [Variable] {
    VARIABLES
}

/// The variable of a name.
#[must_use]
pub fn variable(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// Words that set a variable alone: crash's `set hex`, `set vi`.
const BARE: [(&str, &str, &str); 4] =
    [("hex", "radix", "16"), ("dec", "radix", "10"), ("vi", "edit", "vi"), ("emacs", "edit", "emacs")];

pub(super) fn is_bare(word: &str) -> bool {
    BARE.iter().any(|(bare, _, _)| *bare == word)
}

impl Variable {
    /// Its value in a session.
    fn value(&self, cx: &Cx) -> String {
        match (self.name, cx.settings.variables.get(self.name)) {
            ("radix", _) if cx.settings.radix == Radix::Hexadecimal => "16 (hex)".to_owned(),
            ("radix", _) => "10 (decimal)".to_owned(),
            (_, Some(value)) => value.clone(),
            ("namelist", None) => {
                let vmlinux = cx.kernel.options().debuginfo.vmlinux.as_ref();
                vmlinux.map_or(self.default, |vmlinux| &vmlinux.name).to_owned()
            }
            ("dumpfile", None) => cx.kernel.facts().files.join(" "),
            (_, None) => self.default.to_owned(),
        }
    }

    /// Sets it.
    fn set(&self, settings: &mut Settings, value: &str) -> Result<(), UsageError> {
        let wrong = |what: &str| UsageError::new("set", format!("{}: {value}: {what}", self.name));
        let value = match self.takes {
            Takes::Switch => match value {
                "on" | "1" => "on",
                "off" | "0" => "off",
                _ => return Err(wrong("expected on or off")),
            },
            Takes::Number if value.parse::<u64>().is_err() => return Err(wrong("expected a number")),
            Takes::Words(words) if !words.contains(&value) => {
                return Err(wrong(&format!("expected {}", words.join(", "))));
            }
            Takes::Fixed(how) => return Err(wrong(how)),
            Takes::Number | Takes::Words(_) | Takes::Any => value,
        };
        if self.name == "radix" {
            settings.radix = if value == "16" { Radix::Hexadecimal } else { Radix::Decimal };
        } else {
            settings.variables.insert(self.name.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

/// A variable and its value.
#[derive(Serialize)]
struct Row {
    variable: &'static str,
    value: String,
}

impl Render for Row {
    /// Column where the names end.
    type View = usize;

    fn render(&self, width: &usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let name = if *width == 0 && self.variable == "radix" { "output radix" } else { self.variable };
        writeln!(out, "{name:>width$}: {}", self.value, width = *width)
    }
}

pub(super) fn show_all(cx: &mut Cx, out: &mut dyn Sink) -> Result<(), CommandError> {
    const WIDTH: usize = 14;
    for variable in VARIABLES {
        out.row(&Row { variable: variable.name, value: variable.value(cx) }, &WIDTH)?;
    }
    Ok(())
}

/// `set NAME`, `set NAME VALUE`, several of them in a line.
pub(super) fn assign(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let bare = BARE.iter().find(|(bare, _, _)| *bare == word);
        let name = bare.map_or(word, |(_, name, _)| name);
        let unknown = || UsageError::new("set", format!("{word} is no variable"));
        let variable = variable(name).ok_or_else(unknown)?;
        let value = match bare {
            Some((_, _, value)) => Some(*value),
            // A name behind a name asks for both.
            None => words.next_if(|word| self::variable(word).is_none()),
        };
        if let Some(value) = value {
            variable.set(&mut cx.settings, value)?;
        }
        out.row(&Row { variable: variable.name, value: variable.value(cx) }, &0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_what_they_can_hold() {
        let mut settings = Settings::default();
        let mut set = |name, value| {
            variable(name).unwrap().set(&mut settings, value).map_err(|error| error.to_string())
        };
        set("radix", "16").unwrap();
        set("hash", "0").unwrap();
        assert_eq!(set("hash", "maybe"), Err("set: hash: maybe: expected on or off".into()));
        assert_eq!(set("print_max", "x"), Err("set: print_max: x: expected a number".into()));
        assert!(set("zero_excluded", "on").unwrap_err().contains("--zero-excluded"));
        assert_eq!(settings.radix, Radix::Hexadecimal);
        assert_eq!(settings.variables["hash"], "off");
    }

    #[test]
    fn bare_words_name_variables() {
        for (bare, name, value) in BARE {
            assert!(is_bare(bare));
            assert!(variable(name).unwrap().set(&mut Settings::default(), value).is_ok());
        }
    }
}
