//! `alias`: short names for command lines.

use std::fmt;

use serde::Serialize;

use crate::args::UsageError;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::line;
use crate::list::find;
use crate::settings::Settings;
use crate::sink::{Render, Sink, SinkExt};

/// Lists, makes and removes aliases.
pub(crate) static ALIAS: Command = Command {
    names: &["alias"],
    group: Group::Session,
    summary: "short names for command lines",
    operands: "[name [command line]]",
    options: &[],
    help: include_str!("alias.md"),
    run: Run::Words(alias),
};

/// Aliases that every session has, as crash's users know them.
static BUILTIN: &[(&str, &[&str])] = &[
    ("?", &["help"]),
    ("dec", &["set", "radix", "10"]),
    ("dmesg", &["log"]),
    ("for", &["foreach"]),
    ("g", &["gdb"]),
    ("hex", &["set", "radix", "16"]),
    ("last", &["ps", "-l"]),
    ("lsmod", &["mod"]),
    ("man", &["help"]),
    ("pd", &["p", "-d"]),
    ("px", &["p", "-x"]),
    ("sf", &["set", "scroll", "off"]),
    ("size", &["*"]),
    ("sn", &["set", "scroll", "on"]),
    // lcrash's.
    ("base", &["eval"]),
    ("dump", &["rd"]),
    ("symbol", &["sym"]),
    ("walk", &["list"]),
];

/// What an alias stands for: the user's meaning before the built-in one.
pub(crate) fn meaning(name: &str, settings: &Settings) -> Option<Vec<String>> {
    let builtin = || {
        let (_, words) = BUILTIN.iter().find(|(builtin, _)| *builtin == name)?;
        Some(words.iter().map(|&word| word.to_owned()).collect())
    };
    settings.aliases.get(name).cloned().or_else(builtin)
}

/// The names of all aliases.
pub fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.aliases.keys().map(String::as_str).chain(BUILTIN.iter().map(|(name, _)| *name))
}

#[derive(Serialize)]
struct Row<'a> {
    origin: &'static str,
    alias: &'a str,
    command: String,
}

impl Render for Row<'_> {
    type View = ();
    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{:<8} {:<10} {}", self.origin, self.alias, self.command)
    }
}

fn alias(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    match words {
        [] => list(cx, None, out),
        [name] => list(cx, Some(name), out),
        [name, meaning @ ..] => set(&mut cx.settings, name, meaning),
    }
}

fn list(cx: &Cx, only: Option<&str>, out: &mut dyn Sink) -> Result<(), CommandError> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let own = cx.settings.aliases.iter().map(|(name, words)| ("session", name.as_str(), words.join(" ")));
    let builtin = BUILTIN
        .iter()
        .filter(|(name, _)| !cx.settings.aliases.contains_key(*name))
        .map(|(name, words)| ("builtin", *name, words.join(" ")));
    let mut rows = own.chain(builtin).filter(|(_, name, _)| wanted(name)).peekable();
    if let (None, Some(name)) = (rows.peek(), only) {
        return Err(CommandError::not_found(format!("alias: there is no alias {name}")));
    }
    out.heading(&format!("{:<8} {:<10} COMMAND\n", "ORIGIN", "ALIAS"))?;
    for (origin, alias, command) in rows {
        out.row(&Row { origin, alias, command }, &())?;
    }
    Ok(())
}

/// One quoted word is a command line of its own, as crash wants it; several words are taken as they are.
fn set(settings: &mut Settings, name: &str, meaning: &[String]) -> Result<(), CommandError> {
    let wrong = |what: String| CommandError::from(UsageError::new("alias", what));
    let words = match meaning {
        [text] => {
            let text = line::regex_of(text).unwrap_or(text);
            line::words(text).map_err(|error| wrong(error.to_string()))?
        }
        words => words.to_vec(),
    };
    if find(name).is_some() {
        return Err(wrong(format!("{name} is a command already")));
    }
    if words.is_empty() {
        let removed = settings.aliases.remove(name);
        return removed
            .map(drop)
            .ok_or_else(|| CommandError::not_found(format!("alias: there is no alias {name}")));
    }
    settings.aliases.insert(name.to_owned(), words);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn aliases_are_made_and_removed() {
        let mut settings = Settings::default();
        set(&mut settings, "kt", &words(&["ps -k"])).unwrap();
        set(&mut settings, "ut", &words(&["'ps -u'"])).unwrap();
        set(&mut settings, "gl", &words(&["ps", "-G"])).unwrap();
        assert_eq!(meaning("kt", &settings).unwrap(), ["ps", "-k"]);
        assert_eq!(meaning("ut", &settings).unwrap(), ["ps", "-u"]);
        assert_eq!(meaning("gl", &settings).unwrap(), ["ps", "-G"]);
        set(&mut settings, "kt", &words(&[""])).unwrap();
        assert_eq!(meaning("kt", &settings), None);
        assert!(set(&mut settings, "kt", &words(&[""])).is_err());
        assert!(set(&mut settings, "alias", &words(&["ps"])).is_err());
    }

    #[test]
    fn built_in_aliases_name_commands() {
        // `set`, `ps` and `log` come from their own modules: an alias of a command that is not there helps nobody.
        for (name, words) in BUILTIN {
            assert!(find(words[0]).is_some(), "{name} stands for {}, which is no command", words[0]);
        }
        let settings = Settings::default();
        assert_eq!(meaning("last", &settings).unwrap(), ["ps", "-l"]);
    }
}
