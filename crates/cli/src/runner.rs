//! Running lines: one after the other, each to its end, whatever the ones before it did.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kdive_commands::line::{self, CommandLine, Line};
use kdive_commands::{Closed, CommandError, Cx, Invocation, JsonSink, Sink, TextSink};
use kdive_target::Kernel;

use crate::output::{Disk, Output};
use crate::progress::Bar;
use crate::report;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done, or there was nothing to do.
    Done,
    /// It failed; the message is out.
    Failed,
    /// The session is to end.
    Quit,
    /// Nobody reads standard output any more.
    Closed,
}

/// Files of commands that run files of commands: a file that runs itself ends here.
const MAX_SCRIPTS: usize = 16;

/// Runs lines on one kernel.
pub(crate) struct Runner {
    cx: Cx,
    json: bool,
    paged: bool,
    bar: Arc<Bar>,
    scripts: usize,
    failed: bool,
    had_gaps: bool,
}

impl Runner {
    /// `disk`: where commands read and write. `json`: every command gives its record. `paged`: long output goes through a
    /// pager.
    pub(crate) fn new(kernel: Arc<Kernel>, disk: Disk, json: bool, paged: bool) -> Self {
        let bar = Arc::new(Bar::default());
        let mut cx = Cx::new(kernel);
        let dump = cx.kernel.facts().files.join(" ");
        cx.settings.variables.insert("dumpfile".to_owned(), dump);
        cx.progress = bar.clone();
        cx.files = Arc::new(disk);
        Self { cx, json, paged, bar, scripts: 0, failed: false, had_gaps: false }
    }

    /// The session's state.
    pub(crate) fn cx(&self) -> &Cx {
        &self.cx
    }

    /// Whether a line has failed so far.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Whether a command could not tell everything so far.
    pub(crate) fn had_gaps(&self) -> bool {
        self.had_gaps
    }

    /// Runs lines until one ends the session.
    pub(crate) fn lines(&mut self, lines: impl Iterator<Item = io::Result<String>>) -> Outcome {
        for line in lines {
            let outcome = match line {
                Ok(line) => self.line(&line),
                Err(error) => return self.fail("", &format!("reading commands failed: {error}"), None),
            };
            if matches!(outcome, Outcome::Quit | Outcome::Closed) {
                return outcome;
            }
        }
        Outcome::Done
    }

    /// Runs the lines of a file. `exit` in it ends the session.
    pub(crate) fn script(&mut self, path: &Path) -> Outcome {
        if self.scripts >= MAX_SCRIPTS {
            return self.fail(
                "",
                &format!("{}: too many files of commands inside each other", path.display()),
                None,
            );
        }
        match File::open(path) {
            Ok(file) => {
                self.scripts = self.scripts.saturating_add(1);
                let outcome = self.lines(BufReader::new(file).lines());
                self.scripts = self.scripts.saturating_sub(1);
                outcome
            }
            Err(error) => self.fail("", &format!("{}: {error}", path.display()), None),
        }
    }

    /// Runs a start-up file of crash. What fails in it is told and does not count: it was written for another program.
    /// That it cannot be read does.
    pub(crate) fn start_up(&mut self, path: &Path) -> Outcome {
        let failed = self.failed;
        let outcome = self.script(path);
        if outcome != Outcome::Failed {
            self.failed = failed;
        }
        outcome
    }

    /// Runs one line.
    pub(crate) fn line(&mut self, text: &str) -> Outcome {
        match line::parse(text) {
            Ok(Line::Empty) => Outcome::Done,
            Ok(Line::Shell(command)) => self.shell(&command),
            Ok(Line::Script(path)) => self.script(Path::new(&path)),
            Ok(Line::Command(command)) => self.command(command),
            Err(error) => self.fail("", &error.to_string(), None),
        }
    }

    /// Runs one command that is already in words.
    pub(crate) fn words(&mut self, words: &[String]) -> Outcome {
        self.command(CommandLine { words: words.to_vec(), ..CommandLine::default() })
    }

    /// Shows text that is no command's, as a command's output would be shown.
    pub(crate) fn show(&mut self, text: &str) -> Outcome {
        self.bar.begin();
        let output = Output::open(&line::Output::Host, self.paged && self.scrolls(), &self.bar);
        let shown = output.and_then(|mut output| {
            output.write_all(text.as_bytes())?;
            output.finish()
        });
        match shown {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.fail("", &error.to_string(), None)
            }
            _ => Outcome::Done,
        }
    }

    /// The banner of a session: the machine, and the task that the session begins with.
    pub(crate) fn banner(&mut self) {
        let mut text = format!("kdive {}\n\n", env!("CARGO_PKG_VERSION")).into_bytes();
        // Writing into memory does not fail, and what cannot be told is a gap.
        let _ = kdive_commands::banner(&mut self.cx, &mut TextSink::new(&mut text));
        text.push(b'\n');
        let _ = io::stdout().write_all(&text);
        self.report_gaps();
    }

    fn command(&mut self, line: CommandLine) -> Outcome {
        let mut output = match Output::open(&line.output, self.paged && self.scrolls(), &self.bar) {
            Ok(output) => output,
            Err(error) => return self.fail("", &format!("the output cannot be opened: {error}"), None),
        };
        let is_stdout = output.is_stdout();
        self.cx.cancel.reset();
        self.bar.begin();
        let ran = self.run_into(&line, &mut output);
        let closed = output.finish();
        self.bar.hide();
        self.report_gaps();
        let error = match (ran, closed) {
            (Ok(()) | Err(CommandError::Closed(_)), Err(error)) => CommandError::Closed(Closed(error)),
            (Ok(()), Ok(())) => return Outcome::Done,
            (Err(error), _) => error,
        };
        match error {
            CommandError::Exit => Outcome::Quit,
            CommandError::Closed(Closed(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                if is_stdout {
                    Outcome::Closed
                } else {
                    Outcome::Done
                }
            }
            error => {
                let name = line.words.first().map(String::as_str).unwrap_or_default();
                // "command not found: x" names the word already.
                let name = if Invocation::understand(&line.words, &self.cx).is_ok() { name } else { "" };
                self.fail(name, &error.to_string(), error.hint().as_deref())
            }
        }
    }

    /// Runs the command once, or once for each line of a file of arguments.
    fn run_into(&mut self, line: &CommandLine, output: &mut Output) -> Result<(), CommandError> {
        let Some(path) = &line.arguments else { return self.run_once(line, &line.words, output) };
        let wrong = |what: String| CommandError::not_found(format!("{path}: {what}"));
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        for more in BufReader::new(file).lines() {
            let more = more.map_err(|error| wrong(error.to_string()))?;
            let more = line::words(&more).map_err(|error| wrong(error.to_string()))?;
            let words: Vec<String> = line.words.iter().cloned().chain(more).collect();
            self.run_once(line, &words, output)?;
        }
        Ok(())
    }

    fn run_once(
        &mut self,
        line: &CommandLine,
        words: &[String],
        output: &mut Output,
    ) -> Result<(), CommandError> {
        let invocation = Invocation::understand(words, &self.cx);
        if !(self.json || line.json) {
            return invocation?.run(&mut self.cx, &mut TextSink::new(output));
        }
        let name = match &invocation {
            Ok(invocation) => invocation.command.name(),
            Err(_) => words.first().map(String::as_str).unwrap_or_default(),
        };
        let mut sink = JsonSink::new(output, name)?;
        let ran = invocation.and_then(|invocation| invocation.run(&mut self.cx, &mut sink as &mut dyn Sink));
        if let Err(CommandError::Closed(_)) = ran {
            return ran;
        }
        // The document ends with the gaps, which are still reported once for people.
        let gaps = self.cx.gaps.clone().take();
        let error =
            ran.as_ref().err().filter(|error| !matches!(error, CommandError::Exit)).map(ToString::to_string);
        sink.finish(error.as_deref(), &gaps)?;
        ran
    }

    fn report_gaps(&mut self) {
        for gap in self.cx.gaps.take() {
            self.had_gaps = true;
            report::note(&gap);
        }
    }

    /// A command line of the shell, or a shell to type into. Its status is its own affair.
    fn shell(&mut self, command: &str) -> Outcome {
        // A closed standard output shows in the next command.
        let _ = io::stdout().flush();
        let shell = std::env::var_os("SHELL").unwrap_or_else(|| "sh".into());
        let ran = match command {
            "" => Command::new(shell).status(),
            _ => Command::new("sh").arg("-c").arg(command).status(),
        };
        match ran {
            Ok(_) => Outcome::Done,
            Err(error) => self.fail("", &format!("the shell cannot be started: {error}"), None),
        }
    }

    fn fail(&mut self, command: &str, what: &str, hint: Option<&str>) -> Outcome {
        self.failed = true;
        report::command_failed(command, what, hint);
        Outcome::Failed
    }

    /// `set scroll`: whether long output goes through a pager.
    fn scrolls(&self) -> bool {
        self.cx.settings.variables.get("scroll").is_none_or(|value| value != "off")
    }
}
