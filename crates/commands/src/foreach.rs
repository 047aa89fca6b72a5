//! `foreach`: commands for many tasks, several at a time, their output in the order of the tasks.

use kdive_base::GapLedger;
use kdive_linux::tasks::{State, Task, Tasks};
use kdive_target::Text;
use rayon::prelude::*;
use serde_json::json;

use crate::alias;
use crate::args::{Args, UsageError};
use crate::buffer::{Buffer, ReadyJson};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::exec::{Invocation, PerTask};
use crate::list::find;
use crate::render::place;
use crate::select::Selector;
use crate::settings::Settings;
use crate::sink::{Closed, Form, Part, Sink, SinkExt};

/// Runs commands for many tasks.
pub(crate) static FOREACH: Command = Command {
    names: &["foreach"],
    group: Group::Tasks,
    summary: "run commands for many tasks",
    operands: "[pid | task | name | 'regex' | state | kernel | user | gleader | active]... command [option | argument]...",
    options: &[],
    help: include_str!("foreach.md"),
    run: Run::Words(foreach),
};

fn foreach(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let (filter, words) = Filter::parse(words, &cx.settings)?;
    let tasks = Tasks::find(&cx.kernel);
    // First: a mistyped command looks like a name of tasks.
    let chosen: Vec<&Task> = filter.choose(&tasks)?;
    let jobs = jobs(cx, words)?;
    for lacks in &tasks.incomplete {
        cx.lacks(lacks, "list of tasks", String::new);
    }
    // What is kept back is bounded: a few tasks' output for each thread.
    let batch = rayon::current_num_threads().saturating_mul(32).max(1);
    let mut writer = Writer { out, header: Vec::new(), started: false };
    let (mut done, total) = (0_u64, chosen.len() as u64);
    for part in chosen.chunks(batch) {
        let shared: &Cx = cx;
        let form = writer.out.form();
        let outputs: Vec<_> = part.par_iter().map(|task| run_for(shared, &jobs, task, form)).collect();
        for (task, outputs) in part.iter().zip(outputs) {
            for (job, output) in jobs.iter().zip(outputs?) {
                cx.gaps.absorb(output.gaps);
                writer.write(job.command, task, &output.buffer)?;
            }
        }
        cx.cancel.check()?;
        done = done.saturating_add(part.len() as u64);
        cx.progress.step("tasks", done, Some(total));
    }
    Ok(())
}

/// A command to run for each task.
struct Job {
    command: &'static str,
    run: PerTask,
    args: Args,
}

/// The commands in `words`: each name of a command that runs for tasks, and each alias of one, begins one.
fn jobs(cx: &Cx, words: &[String]) -> Result<Vec<Job>, CommandError> {
    let begins = |word: &String| begins_job(word, &cx.settings);
    let mut lines: Vec<Vec<String>> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if !begins(word) => line.push(word.clone()),
            _ => lines.push(vec![word.clone()]),
        }
    }
    if lines.is_empty() {
        return Err(UsageError::new("foreach", "which command?").into());
    }
    lines.iter().map(|line| job(cx, line)).collect()
}

fn job(cx: &Cx, line: &[String]) -> Result<Job, CommandError> {
    let Invocation { command, words } = Invocation::find(line, &cx.settings)?;
    let name = command.name();
    let run = command
        .per_task()
        .ok_or_else(|| UsageError::new("foreach", format!("{name} does not run for single tasks")))?;
    Ok(Job { command: name, run, args: Args::parse(name, command.options, &words)? })
}

fn begins_job(word: &str, settings: &Settings) -> bool {
    let found = Invocation::find(&[word.to_owned()], settings);
    found.is_ok_and(|found| found.command.per_task().is_some())
}

/// What one command gave for one task.
struct TaskOutput {
    buffer: Buffer,
    gaps: GapLedger,
}

/// Runs the commands for one task. What fails for this task alone is a gap; what would fail for all is an error.
fn run_for(cx: &Cx, jobs: &[Job], task: &Task, form: Form) -> Result<Vec<TaskOutput>, CommandError> {
    let mut cx = cx.fork();
    cx.task = Some(task.at);
    jobs.iter()
        .map(|job| {
            cx.cancel.check()?;
            let mut buffer = Buffer::new(form);
            match (job.run)(&mut cx, &job.args, task, &mut buffer) {
                Ok(()) => {}
                Err(error @ (CommandError::Lacks(_) | CommandError::NotFound { .. })) => {
                    cx.gaps.note(job.command, error, Some(place(task)));
                }
                Err(error) => return Err(error),
            }
            Ok(TaskOutput { buffer, gaps: std::mem::take(&mut cx.gaps) })
        })
        .collect()
}

/// Writes kept output: the same column titles once, a blank line between outputs that are no rows of one table.
struct Writer<'a> {
    out: &'a mut dyn Sink,
    header: Vec<u8>,
    started: bool,
}

impl Writer<'_> {
    fn write(&mut self, command: &str, task: &Task, output: &Buffer) -> Result<(), Closed> {
        match self.out.form() {
            Form::Text if output.is_empty() => Ok(()),
            Form::Text => {
                let table = self.started && !output.header.is_empty() && output.header == self.header;
                if self.started && !table {
                    self.out.text("\n")?;
                }
                if !table {
                    self.text(&output.header)?;
                    self.header.clone_from(&output.header);
                }
                self.started = true;
                self.text(&output.rows)?;
                self.text(&output.trailer)
            }
            Form::Json => {
                let mut json = task_json(command, task);
                // The object goes on with what the command gave.
                json.pop();
                output.json_members(&mut json);
                json.push(b'}');
                self.out.take(Part::Row, &ReadyJson(json), &|_| Ok(()))
            }
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.out.text(&String::from_utf8_lossy(bytes))
    }
}

fn task_json(command: &str, task: &Task) -> Vec<u8> {
    let mut object = json!({ "command": command, "task": task.at });
    if let Some(fields) = object.as_object_mut() {
        fields.extend(task.pid.iter().map(|pid| ("pid".into(), json!(pid))));
        fields.extend(task.comm.iter().map(|Text(comm)| ("comm".into(), json!(comm))));
    }
    object.to_string().into_bytes()
}

/// Which tasks: those named, or all; and of them those in one of the states, and of the kinds asked for.
#[derive(Default)]
struct Filter {
    named: Vec<(String, Selector)>,
    states: Vec<State>,
    kinds: Vec<Kind>,
}

/// A keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kernel,
    User,
    GroupLeader,
    Active,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "kernel" => Some(Self::Kernel),
            "user" => Some(Self::User),
            "gleader" => Some(Self::GroupLeader),
            "active" => Some(Self::Active),
            _ => None,
        }
    }

    fn holds(self, tasks: &Tasks, task: &Task) -> bool {
        match self {
            Self::Kernel => task.is_kernel_thread() == Some(true),
            Self::User => task.is_kernel_thread() == Some(false),
            // As crash's help has it: of user tasks only.
            Self::GroupLeader => {
                task.is_group_leader() == Some(true) && task.is_kernel_thread() == Some(false)
            }
            Self::Active => tasks.is_active(task),
        }
    }
}

impl Filter {
    /// Takes the words up to the first command.
    fn parse<'w>(words: &'w [String], settings: &Settings) -> Result<(Self, &'w [String]), UsageError> {
        let mut filter = Self::default();
        let mut rest = words;
        while let Some((word, behind)) = rest.split_first() {
            if let Some(kind) = Kind::parse(word) {
                filter.kinds.push(kind);
            } else if let Some(state) = State::from_letters(word).filter(|state| state.letters() == word) {
                filter.states.push(state);
            } else if is_command(word, settings) || word.starts_with('-') {
                break;
            } else {
                filter.named.push((word.clone(), Selector::parse("foreach", word)?));
            }
            rest = behind;
        }
        Ok((filter, rest))
    }

    fn choose<'t>(&self, tasks: &'t Tasks) -> Result<Vec<&'t Task>, CommandError> {
        let mut named: Vec<&Task> = Vec::new();
        for (word, selector) in &self.named {
            let found = selector.find(tasks);
            if found.is_empty() {
                return Err(CommandError::NotFound {
                    what: format!(
                        "foreach: {word} is no command, pid, task address or command name of a task"
                    ),
                    hint: Some("`help` lists the commands, `ps` the tasks".into()),
                });
            }
            named.extend(found);
        }
        let all: Vec<&Task> = if self.named.is_empty() { tasks.all().iter().collect() } else { named };
        Ok(all.into_iter().filter(|task| self.holds(tasks, task)).collect())
    }

    fn holds(&self, tasks: &Tasks, task: &Task) -> bool {
        let in_state = || tasks.bits.state(task).is_some_and(|state| self.states.contains(&state));
        (self.states.is_empty() || in_state()) && self.kinds.iter().all(|kind| kind.holds(tasks, task))
    }
}

/// Commands and aliases begin the command line.
fn is_command(word: &str, settings: &Settings) -> bool {
    find(word).is_some() || alias::meaning(word, settings).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn selectors_end_where_the_command_begins() {
        let line = words("RU UN kernel gleader active 1 insmod 'k.*' \\foreach alias -x y");
        let (filter, rest) = Filter::parse(&line, &Settings::default()).unwrap();
        assert_eq!(filter.states, [State::Running, State::Uninterruptible]);
        assert_eq!(filter.kinds, [Kind::Kernel, Kind::GroupLeader, Kind::Active]);
        assert_eq!(filter.named.len(), 4);
        assert_eq!(rest, words("alias -x y"));
    }

    #[test]
    fn an_alias_begins_a_command_as_its_meaning_does() {
        let mut settings = Settings::default();
        settings.aliases.insert("stack".to_owned(), words("bt -s"));
        let begins = |word| begins_job(word, &settings);
        assert!(begins("bt") && begins("stack") && begins("last"));
        assert!(!begins("man") && !begins("help") && !begins("-x") && !begins("kernel"));
    }

    #[test]
    fn small_letters_are_a_name() {
        let line = words("ru alias");
        let (filter, _) = Filter::parse(&line, &Settings::default()).unwrap();
        assert!(filter.states.is_empty());
        assert_eq!(filter.named.len(), 1);
    }
}
