//! Which tasks a word names: a pid, an address, a command name, a regular expression.

use kdive_base::VirtAddr;
use kdive_linux::tasks::{Task, Tasks};
use kdive_target::Text;
use regex::Regex;

use crate::args::UsageError;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::line::regex_of;

/// A word that names tasks.
#[derive(Clone, Debug)]
pub enum Selector {
    /// A number: a pid where a task has it, else the address of a `task_struct` (addresses are typed without `0x` too).
    Number {
        /// The word in decimal, if it is.
        pid: Option<i32>,
        /// The word in hexadecimal.
        address: VirtAddr,
        /// The word: a command may be named like a number (`cafe`).
        word: String,
    },
    /// A command name; `\` before it keeps it from being a keyword.
    Name(String),
    /// A regular expression over command names, typed in single quotes.
    Matching(Regex),
}

/// `TASK_COMM_LEN` less its NUL: the kernel keeps no more of a name.
const COMM_BYTES: usize = 15;

impl Selector {
    /// Takes a word of `command` apart.
    pub fn parse(command: &str, word: &str) -> Result<Self, UsageError> {
        if let Some(pattern) = regex_of(word) {
            let wrong = |error: regex::Error| {
                let why = error.to_string();
                let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                UsageError::new(command, format!("{word} is not a regular expression: {last}"))
            };
            return Regex::new(pattern).map(Self::Matching).map_err(wrong);
        }
        if let Some(name) = word.strip_prefix('\\') {
            return Ok(Self::Name(name.to_owned()));
        }
        let digits = word.strip_prefix("0x").unwrap_or(word);
        Ok(match u64::from_str_radix(digits, 16) {
            Ok(address) => {
                Self::Number { pid: word.parse().ok(), address: VirtAddr(address), word: word.to_owned() }
            }
            Err(_) => Self::Name(word.to_owned()),
        })
    }

    /// The tasks that it names.
    #[must_use]
    pub fn find<'t>(&self, tasks: &'t Tasks) -> Vec<&'t Task> {
        match self {
            Self::Number { pid, address, word } => {
                let by_pid: Vec<_> = pid.iter().flat_map(|pid| tasks.with_pid(*pid)).collect();
                match (by_pid.is_empty(), tasks.at(*address)) {
                    (false, _) => by_pid,
                    (true, Some(task)) => vec![task],
                    (true, None) => named(tasks, word),
                }
            }
            Self::Name(name) => named(tasks, name),
            Self::Matching(pattern) => {
                let matches = |task: &&Task| matches!(&task.comm, Ok(Text(comm)) if pattern.is_match(comm));
                tasks.all().iter().filter(matches).collect()
            }
        }
    }
}

fn named<'t>(tasks: &'t Tasks, name: &str) -> Vec<&'t Task> {
    let kept = name.get(..COMM_BYTES).unwrap_or(name);
    tasks.all().iter().filter(|task| matches!(&task.comm, Ok(Text(comm)) if comm == kept)).collect()
}

/// The tasks that the words of `command` name, in their order; at least one for each.
pub fn tasks(command: &str, tasks: &Tasks, words: &[String]) -> Result<Vec<Task>, CommandError> {
    let mut all = Vec::new();
    for word in words {
        let found = Selector::parse(command, word)?.find(tasks);
        if found.is_empty() {
            return Err(CommandError::NotFound {
                what: format!("{command}: {word} is no pid, task address or command name in this dump"),
                hint: Some("`ps` lists the tasks".into()),
            });
        }
        all.extend(found.into_iter().cloned());
    }
    Ok(all)
}

/// The tasks that the operands of a command name, or the current task where there are none.
pub fn operands(cx: &Cx, command: &str, words: &[String]) -> Result<Vec<Task>, CommandError> {
    if words.is_empty() { Ok(vec![current(cx)?]) } else { tasks(command, &Tasks::find(&cx.kernel), words) }
}

/// The current task: the one that was set, else the one that panicked, else what the first processor ran.
pub fn current(cx: &Cx) -> Result<Task, CommandError> {
    let tasks = Tasks::find(&cx.kernel);
    let panicked = || tasks.panic.as_ref().ok().map(|panic| panic.task);
    let first = || tasks.processors().iter().find_map(|of| tasks.on_cpu(of.cpu));
    let set = cx.task.or_else(panicked).and_then(|at| tasks.at(at));
    set.or_else(first).or_else(|| tasks.all().first()).cloned().ok_or_else(|| {
        let why = tasks.incomplete.first().map(|lacks| format!(": {lacks}")).unwrap_or_default();
        CommandError::not_found(format!("no task was found in this dump{why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        let parse = |word: &str| Selector::parse("ps", word).unwrap();
        assert!(matches!(parse("286"), Selector::Number { pid: Some(286), address: VirtAddr(0x286), .. }));
        assert!(matches!(parse("ff1152e5503d8000"), Selector::Number { pid: None, .. }));
        assert!(matches!(parse("0x1f"), Selector::Number { pid: None, address: VirtAddr(0x1f), .. }));
        assert!(matches!(parse("insmod"), Selector::Name(name) if name == "insmod"));
        assert!(matches!(parse(r"\bt"), Selector::Name(name) if name == "bt"));
        assert!(matches!(parse("'k.*d'"), Selector::Matching(_)));
        let error = Selector::parse("ps", "'k('").unwrap_err().to_string();
        assert!(error.starts_with("ps: 'k(' is not a regular expression: unclosed group"), "{error}");
    }
}
