//! Arguments of a command, as crash's users type them.
//!
//! Single letters cluster (`bt -sx`), a value follows its letter with or without a space (`-c 0,2-4`, `-c0`), options and
//! operands may be mixed, and `--` ends the options. A whole word may be an option (`rd -32`); a word such as `-4` that is
//! none is a number.

use std::iter::Peekable;

use serde::Serialize;

/// An option of a command.
#[derive(Debug, Serialize)]
pub struct Opt {
    /// As typed: `-a`, `-FF` (the letter twice), `-32`, or `--trust`. [`Opt::FORMAT`] is what follows the slash in `p/x`.
    pub name: &'static str,
    /// What its value is called in the usage line; `None` for a plain flag.
    pub value: Option<&'static str>,
    /// For a value that may be left out: whether a word can be it.
    #[serde(skip)]
    pub takes: Option<fn(&str) -> bool>,
    /// What it does, in a line.
    pub help: &'static str,
}

impl Opt {
    /// A flag.
    #[must_use]
    pub const fn flag(name: &'static str, help: &'static str) -> Self {
        Self { name, value: None, takes: None, help }
    }

    /// An option that takes a value.
    #[must_use]
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value: Some(value), takes: None, help }
    }

    /// An option with a value that may be left out: the next word is its value if `takes` says so.
    #[must_use]
    pub const fn optional(
        name: &'static str,
        value: &'static str,
        takes: fn(&str) -> bool,
        help: &'static str,
    ) -> Self {
        Self { name, value: Some(value), takes: Some(takes), help }
    }

    /// The name of the option that gdb's users type behind the command's name: `x` in `p/x`, `8gx` in `x/8gx`.
    pub const FORMAT: &'static str = "/";
}

/// A command was typed wrongly.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {what}")]
pub struct UsageError {
    /// The command.
    pub command: String,
    /// What is wrong.
    pub what: String,
}

impl UsageError {
    /// `what` is wrong with how `command` was typed.
    pub fn new(command: impl Into<String>, what: impl Into<String>) -> Self {
        Self { command: command.into(), what: what.into() }
    }

    pub(crate) fn hint(&self) -> String {
        format!("`help {}` shows its options with examples", self.command)
    }
}

/// Parsed arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    given: Vec<(&'static str, Option<String>)>,
    /// The words that are not options, in their order.
    pub operands: Vec<String>,
}

impl Args {
    /// Parses the words after a command's name. The same option twice is kept twice (`-FF`).
    pub fn parse(command: &str, options: &'static [Opt], words: &[String]) -> Result<Self, UsageError> {
        Self::parse_until(command, options, words, false)
    }

    /// As [`Args::parse`], but the first operand ends the options: it begins an expression, in which `-` is C's.
    pub fn parse_leading(
        command: &str,
        options: &'static [Opt],
        words: &[String],
    ) -> Result<Self, UsageError> {
        Self::parse_until(command, options, words, true)
    }

    fn parse_until(
        command: &str,
        options: &'static [Opt],
        words: &[String],
        operand_ends: bool,
    ) -> Result<Self, UsageError> {
        let mut args = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let whole = options.iter().find(|option| option.name == word);
            if word == "--" {
                args.operands.extend(words.cloned());
                break;
            } else if let Some(option) = whole {
                args.give(command, option, None, &mut words)?;
            } else if word.starts_with("--") {
                args.long(command, options, word, &mut words)?;
            } else if word.starts_with('-') && !is_negative(word) {
                args.cluster(command, options, word, &mut words)?;
            } else {
                args.operands.push(word.clone());
                if operand_ends {
                    args.operands.extend(words.cloned());
                    break;
                }
            }
        }
        Ok(args)
    }

    fn long<'a>(
        &mut self,
        command: &str,
        options: &'static [Opt],
        word: &str,
        words: &mut Peekable<impl Iterator<Item = &'a String>>,
    ) -> Result<(), UsageError> {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        self.give(command, find(command, options, name)?, attached, words)
    }

    /// Keeps an option with the value attached to it, or with the next word where it needs or takes that.
    fn give<'a>(
        &mut self,
        command: &str,
        option: &'static Opt,
        attached: Option<String>,
        words: &mut Peekable<impl Iterator<Item = &'a String>>,
    ) -> Result<(), UsageError> {
        let name = option.name;
        let value = match (option.value, option.takes, attached) {
            (None, _, None) => None,
            (None, _, Some(_)) => return Err(UsageError::new(command, format!("{name} takes no value"))),
            (Some(_), _, Some(value)) => Some(value),
            (Some(_), Some(takes), None) => words.next_if(|word| takes(word)).cloned(),
            (Some(what), None, None) => Some(
                words
                    .next()
                    .cloned()
                    .ok_or_else(|| UsageError::new(command, format!("{name} needs a value: {what}")))?,
            ),
        };
        self.given.push((name, value));
        Ok(())
    }

    fn cluster<'a>(
        &mut self,
        command: &str,
        options: &'static [Opt],
        word: &str,
        words: &mut Peekable<impl Iterator<Item = &'a String>>,
    ) -> Result<(), UsageError> {
        let mut letters = word.chars().skip(1);
        while let Some(letter) = letters.next() {
            let option = find(command, options, &format!("-{letter}"))?;
            let attached: Option<String> = match option.value {
                None => None,
                Some(_) => Some(letters.by_ref().collect()).filter(|rest: &String| !rest.is_empty()),
            };
            self.give(command, option, attached, words)?;
        }
        Ok(())
    }

    /// Whether an option was given (`-a`, `--trust`).
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.count(name) > 0
    }

    /// Whether no option was given at all.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.given.is_empty()
    }

    /// How many times an option was given.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.given.iter().filter(|(given, _)| *given == name).count()
    }

    /// The value of an option; of the last, where it was given several times.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| *given == name)?.1.as_deref()
    }

    /// The values of several options, in the order in which they were given.
    pub fn values<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(|(given, _)| names.contains(given)).filter_map(|(_, value)| value.as_deref())
    }

    /// Which of several options was given last: for those that replace one another.
    #[must_use]
    pub fn last_of(&self, names: &[&str]) -> Option<&'static str> {
        self.given.iter().rev().map(|(given, _)| *given).find(|given| names.contains(given))
    }

    /// The same options with other operands: what `foreach` hands on.
    #[must_use]
    pub fn with_operands(&self, operands: Vec<String>) -> Self {
        Self { given: self.given.clone(), operands }
    }
}

fn find(command: &str, options: &'static [Opt], name: &str) -> Result<&'static Opt, UsageError> {
    options
        .iter()
        .find(|option| option.name == name)
        .ok_or_else(|| UsageError::new(command, format!("no option {name}")))
}

/// `-4`, `-0x10`, and `-` alone.
fn is_negative(word: &str) -> bool {
    word.get(1..).is_none_or(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The numbers of a list such as `0,2-4` or `all`, each below `limit`.
pub fn number_list(command: &str, text: &str, limit: u32) -> Result<Vec<u32>, UsageError> {
    let wrong = || UsageError::new(command, format!("{text}: expected numbers below {limit}, as in 0,2-4"));
    if matches!(text, "a" | "all") {
        return Ok((0..limit).collect());
    }
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last >= limit {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    static OPTIONS: &[Opt] = &[
        Opt::flag("-s", ""),
        Opt::flag("-x", ""),
        Opt::flag("-F", ""),
        Opt::value("-c", "cpus", ""),
        Opt::flag("--trust", ""),
        Opt::flag("-32", ""),
        Opt::optional("-b", "count", |word| word.parse::<u64>().is_ok(), ""),
    ];

    fn parse(line: &str) -> Result<Args, UsageError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Args::parse("bt", OPTIONS, &words)
    }

    #[test]
    fn options_cluster_and_mix_with_operands() {
        let args = parse("-sx 1 -FF --trust -c0,2 shell").unwrap();
        assert!(args.has("-s") && args.has("-x") && args.has("--trust"));
        assert_eq!(args.count("-F"), 2);
        assert_eq!(args.value("-c"), Some("0,2"));
        assert_eq!(args.operands, ["1", "shell"]);
        assert_eq!(parse("-c 3 -- -s").unwrap().operands, ["-s"]);
        assert_eq!(parse("-s -x -F").unwrap().last_of(&["-s", "-x"]), Some("-x"));
    }

    #[test]
    fn numbers_are_operands_unless_an_option_is_called_so() {
        let args = parse("-32 -4 - -b 7 -b x").unwrap();
        assert!(args.has("-32"));
        assert_eq!(args.operands, ["-4", "-", "x"]);
        assert_eq!(args.count("-b"), 2);
        assert_eq!(parse("-b7").unwrap().value("-b"), Some("7"));
        assert_eq!(parse("-b").unwrap().value("-b"), None);
    }

    #[test]
    fn an_expression_keeps_its_minus_signs() {
        let words: Vec<String> = ["-x", "a", "-s", "--"].map(str::to_owned).into();
        let args = Args::parse_leading("p", OPTIONS, &words).unwrap();
        assert!(args.has("-x") && !args.has("-s"));
        assert_eq!(args.operands, ["a", "-s", "--"]);
    }

    #[test]
    fn wrong_options_say_so() {
        assert_eq!(parse("-q").unwrap_err().to_string(), "bt: no option -q");
        assert_eq!(parse("-c").unwrap_err().to_string(), "bt: -c needs a value: cpus");
        assert_eq!(parse("--trust=1").unwrap_err().to_string(), "bt: --trust takes no value");
    }

    #[test]
    fn number_lists() {
        assert_eq!(number_list("bt", "0,2-4", 8).unwrap(), [0, 2, 3, 4]);
        assert!(number_list("bt", "9", 8).is_err());
        assert!(number_list("bt", "4-2", 8).is_err());
        assert_eq!(number_list("bt", "all", 2).unwrap(), [0, 1]);
    }
}
