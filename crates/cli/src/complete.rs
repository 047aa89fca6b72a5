//! Completion at the cursor: commands, options, symbols, types and their members, modules, files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kdive_commands::{COMMANDS, Command, Opt, Run};
use kdive_debuginfo::types::{Tag, Type};
use kdive_target::Kernel;
use kdive_target::c::{Scope, complete};
use reedline::{Completer, CompletionResult, Span, Suggestion};

/// More than this no one reads: another letter is typed.
const MOST: usize = 500;

/// Completes the lines of a session.
pub(crate) struct LineCompleter {
    kernel: Arc<Kernel>,
    aliases: Arc<Mutex<Vec<String>>>,
}

impl LineCompleter {
    /// `aliases` are the names in use, which change during the session.
    pub(crate) fn new(kernel: Arc<Kernel>, aliases: Arc<Mutex<Vec<String>>>) -> Self {
        Self { kernel, aliases }
    }

    fn candidates(&self, context: &Context<'_>) -> Vec<Candidate> {
        let mut found = match context.wanted {
            Wanted::Command => self.commands(context.word),
            Wanted::Option(command) => options(command, context.word),
            Wanted::File => files(context.word),
            Wanted::Operand(command) => self.named(command.operands, context.word),
            Wanted::Value(value) => self.named(value, context.word),
            Wanted::Expression(before) => self.expression(before),
            Wanted::Nothing => Vec::new(),
        };
        found.truncate(MOST);
        found
    }

    fn commands(&self, word: &str) -> Vec<Candidate> {
        let aliases = self.aliases.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let named =
            COMMANDS.iter().flat_map(|command| command.names.iter().map(|name| (*name, command.summary)));
        let named = named.map(|(name, summary)| Candidate::described(name, summary));
        let all: BTreeSet<_> =
            named.chain(aliases.iter().map(|name| Candidate::described(name, "alias"))).collect();
        all.into_iter().filter(|candidate| candidate.text.starts_with(word)).collect()
    }

    /// Things by what a usage line calls them.
    fn named(&self, usage: &str, word: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        for what in usage.split(|c: char| !c.is_ascii_alphanumeric()) {
            match what {
                "symbol" => found.extend(self.symbols(word)),
                "type" | "struct" | "union" => found.extend(self.types(word)),
                "module" => found.extend(self.modules(word)),
                "command" => found.extend(self.commands(word)),
                "file" | "directory" | "dir" => found.extend(files(word)),
                _ => {}
            }
        }
        found
    }

    /// What can stand at the end of an expression.
    fn expression(&self, before: &str) -> Vec<Candidate> {
        let found = complete(before, before.len(), &Scope::global(&self.kernel));
        found.candidates.iter().map(|candidate| Candidate::plain(candidate)).collect()
    }

    fn symbols(&self, word: &str) -> Vec<Candidate> {
        let (Ok(symbols), false) = (self.kernel.symbols(), word.is_empty()) else { return Vec::new() };
        let names: BTreeSet<&str> =
            symbols.iter().map(|symbol| symbol.name).filter(|name| name.starts_with(word)).collect();
        names.into_iter().take(MOST).map(Candidate::plain).collect()
    }

    /// Names of structures and unions, or the members of the one before a dot.
    fn types(&self, word: &str) -> Vec<Candidate> {
        let (Ok(types), false) = (self.kernel.types(), word.is_empty()) else { return Vec::new() };
        let tags = [Tag::Struct, Tag::Union];
        if let Some((path, member)) = word.rsplit_once('.') {
            let (record, inner) =
                path.split_once('.').map_or((path, None), |(record, inner)| (record, Some(inner)));
            let Some(record) = tags.iter().find_map(|tag| types.find(*tag, record).ok()) else {
                return Vec::new();
            };
            let of = match inner {
                Some(inner) => types.member(record, inner).map(|member| member.of),
                None => Ok(record),
            };
            let Some(Type::Record(record)) = of.ok().and_then(|of| types.stripped(of)).as_deref().cloned()
            else {
                return Vec::new();
            };
            let names = record.members.iter().filter_map(|member| member.name.as_deref());
            let names = names.filter(|name| name.starts_with(member));
            return names.map(|name| Candidate::plain(&format!("{path}.{name}"))).collect();
        }
        let mut names = BTreeSet::new();
        for tag in tags {
            types.for_each_name(tag, |name, _| {
                if name.starts_with(word) {
                    names.insert(name.to_owned());
                }
            });
        }
        names.iter().map(|name| Candidate::plain(name)).collect()
    }

    fn modules(&self, word: &str) -> Vec<Candidate> {
        let names = self.kernel.modules().iter().map(|module| &*module.name);
        names.filter(|name| name.starts_with(word)).map(Candidate::plain).collect()
    }
}

impl Completer for LineCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        let context = context(line.get(..position).unwrap_or(line));
        let span = Span { start: position.saturating_sub(context.word.len()), end: position };
        let suggest = |candidate: Candidate| Suggestion {
            append_whitespace: !candidate.text.ends_with('/')
                && !matches!(context.wanted, Wanted::Expression(_)),
            value: candidate.text,
            description: candidate.about.map(str::to_owned),
            span,
            ..Suggestion::default()
        };
        CompletionResult::fresh(self.candidates(&context).into_iter().map(suggest).collect::<Vec<_>>())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    text: String,
    about: Option<&'static str>,
}

impl Candidate {
    fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), about: None }
    }

    fn described(text: &str, about: &'static str) -> Self {
        Self { text: text.to_owned(), about: Some(about) }
    }
}

/// What is to be completed.
struct Context<'l> {
    /// The word so far.
    word: &'l str,
    wanted: Wanted<'l>,
}

#[derive(Clone, Copy)]
enum Wanted<'l> {
    Command,
    Option(&'static Command),
    /// The value of an option, by what its usage calls it.
    Value(&'static str),
    Operand(&'static Command),
    File,
    /// The end of an expression: the line up to there.
    Expression(&'l str),
    /// The shell's business.
    Nothing,
}

/// Looks at a line up to the cursor. It need not be a whole line: quotes may be open.
fn context(line: &str) -> Context<'_> {
    if let Some(word) = word_of_expression(line) {
        return Context { word, wanted: Wanted::Expression(line) };
    }
    let start =
        line.rfind(|c: char| c.is_whitespace() || matches!(c, '|' | '<' | '>' | '(')).map_or(0, |at| {
            // All of these take one byte, but white space need not.
            at.saturating_add(line.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8))
        });
    let (before, word) = line.split_at_checked(start).unwrap_or((line, ""));
    let before = before.trim();
    let wanted = if before.starts_with('!') || word.starts_with('!') || before.contains('|') {
        Wanted::Nothing
    } else if before.ends_with('<') || before.ends_with('>') {
        Wanted::File
    } else if before.is_empty() {
        Wanted::Command
    } else {
        behind_command(before, word)
    };
    Context { word, wanted }
}

/// The last word of the line, if it is part of an expression: behind a command that takes one, or in an operand in
/// parentheses.
fn word_of_expression(line: &str) -> Option<&str> {
    let (command, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let command = kdive_commands::find(command)?;
    let expression = match command.run {
        // Options come first; inside the expression `-` is C's.
        Run::Expression(_) => !line.split_whitespace().next_back()?.starts_with('-') || line.ends_with(' '),
        _ => rest.matches('(').count() > rest.matches(')').count(),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let start = line.rfind(|c: char| !is_word(c)).map_or(0, |at| {
        at.saturating_add(line.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8))
    });
    line.get(start..).filter(|_| expression && !line.contains('|'))
}

fn behind_command(before: &str, word: &str) -> Wanted<'static> {
    let mut words = before.split_whitespace();
    let first = words.next().unwrap_or_default();
    let last = words.next_back();
    let Some(command) = kdive_commands::find(first) else { return Wanted::Nothing };
    // Behind a command that runs commands, what counts is the last command in the line.
    let inner = before.split_whitespace().skip(1).filter_map(kdive_commands::find).last();
    let command = if command.operands.contains("command") { inner.unwrap_or(command) } else { command };
    let value = last.and_then(|last| command.options.iter().find(|option| option.name == last)?.value);
    match value {
        Some(value) => Wanted::Value(value),
        None if word.starts_with('-') => Wanted::Option(command),
        None => Wanted::Operand(command),
    }
}

fn options(command: &Command, word: &str) -> Vec<Candidate> {
    let matching = command.options.iter().filter(|option: &&Opt| option.name.starts_with(word));
    matching.map(|option| Candidate::described(option.name, option.help)).collect()
}

/// The files whose paths begin with a word.
fn files(word: &str) -> Vec<Candidate> {
    let (directory, name) = word.rsplit_once('/').map_or(("", word), |(directory, name)| (directory, name));
    let shown = if word.contains('/') { format!("{directory}/") } else { String::new() };
    let place = if shown.is_empty() { PathBuf::from(".") } else { PathBuf::from(&shown) };
    let Ok(listing) = std::fs::read_dir(Path::new(&place)) else { return Vec::new() };
    let mut found: Vec<_> = listing
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let hidden = file.starts_with('.') && !name.starts_with('.');
            let slash = if entry.path().is_dir() { "/" } else { "" };
            (file.starts_with(name) && !hidden).then(|| Candidate::plain(&format!("{shown}{file}{slash}")))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> String {
        let Context { word, wanted } = context(line);
        let what = match wanted {
            Wanted::Command => "command".to_owned(),
            Wanted::Option(command) => format!("option of {}", command.name()),
            Wanted::Value(value) => format!("value {value}"),
            Wanted::Operand(command) => format!("operand of {}", command.name()),
            Wanted::File => "file".to_owned(),
            Wanted::Expression(_) => "expression".to_owned(),
            Wanted::Nothing => "nothing".to_owned(),
        };
        format!("{word}: {what}")
    }

    #[test]
    fn the_place_of_a_word_tells_what_it_is() {
        for (line, expected) in [
            ("", ": command"),
            ("he", "he: command"),
            ("help ", ": operand of help"),
            ("help ali", "ali: operand of help"),
            ("foreach kernel alias -", "-: option of alias"),
            ("help > /tm", "/tm: file"),
            ("help | gre", "gre: nothing"),
            ("! l", "l: nothing"),
            ("unknown x", "x: nothing"),
            ("help é x", "x: operand of help"),
            ("sym (init_task.ta", "ta: expression"),
            ("sym (1) x", "x: operand of sym"),
            ("x init_task.mm->p", "p: expression"),
            ("x -", "-: option of x"),
        ] {
            assert_eq!(wanted(line), expected, "{line:?}");
        }
    }

    #[test]
    fn files_are_listed_below_what_was_typed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("vmcore"), b"").unwrap();
        std::fs::create_dir(directory.path().join("vmdir")).unwrap();
        std::fs::write(directory.path().join(".hidden"), b"").unwrap();
        let root = directory.path().display();
        let texts: Vec<_> = files(&format!("{root}/")).into_iter().map(|found| found.text).collect();
        assert_eq!(texts, [format!("{root}/vmcore"), format!("{root}/vmdir/")]);
        assert_eq!(files(&format!("{root}/vmc")).len(), 1);
    }
}
