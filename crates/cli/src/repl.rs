//! The session on a terminal.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use kdive_commands::alias_names;
use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder as _, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu,
    SearchDirection, SearchQuery, Signal, default_emacs_keybindings,
};

use crate::complete::LineCompleter;
use crate::history::{Recall, recall};
use crate::report;
use crate::runner::{Outcome, Runner};

/// Lines of history that are kept.
const HISTORY_LINES: usize = 10_000;
const MENU: &str = "completion";

/// Reads and runs lines until the user leaves.
pub(crate) fn run(runner: &mut Runner, silent: bool) -> Outcome {
    // From here on Ctrl-C stops the running command. While a line is typed it is a key like any other.
    let interrupt = signal_hook::flag::register(signal_hook::consts::SIGINT, runner.cx().cancel.flag());
    if let Err(error) = interrupt {
        report::note(&format_args!("Ctrl-C will end the session: {error}"));
    }
    if !silent {
        runner.banner();
    }
    let aliases = Arc::new(Mutex::new(Vec::new()));
    let completer = LineCompleter::new(runner.cx().kernel.clone(), aliases.clone());
    let mut editor = editor(completer);
    loop {
        let names = alias_names(&runner.cx().settings).map(str::to_owned).collect();
        *aliases.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let line = match editor.read_line(&KdivePrompt) {
            Ok(Signal::Success(line)) => line,
            Ok(Signal::CtrlD) => return Outcome::Done,
            Ok(_) => continue,
            Err(error) => {
                report::failure(&format_args!("reading the terminal failed: {error}"));
                return Outcome::Failed;
            }
        };
        let outcome = match expand(&editor, &line) {
            Expanded::Line(line) => runner.line(&line),
            Expanded::List(lines) => runner.show(&lines),
            Expanded::NotFound => {
                report::command_failed("", &format!("{}: no such line", line.trim()), Some("`h` lists them"));
                Outcome::Failed
            }
        };
        if matches!(outcome, Outcome::Quit | Outcome::Closed) {
            return outcome;
        }
    }
}

enum Expanded {
    Line(String),
    List(String),
    NotFound,
}

/// Replaces a line that asks for an earlier one; the line that will run is shown.
fn expand(editor: &Reedline, line: &str) -> Expanded {
    let everything = SearchQuery::everything(SearchDirection::Forward, None);
    let mut before: Vec<String> = editor
        .history()
        .search(everything)
        .unwrap_or_default()
        .into_iter()
        .map(|item| item.command_line)
        .collect();
    // The line itself is the last one already.
    before.pop_if(|last| last == line);
    match recall(line, &before) {
        None => Expanded::Line(line.to_owned()),
        Some(Recall::NotFound) => Expanded::NotFound,
        Some(Recall::Line(found)) => {
            report::echo(found);
            Expanded::Line(found.to_owned())
        }
        Some(Recall::List) => {
            let numbered = before.iter().enumerate();
            Expanded::List(
                numbered.map(|(at, line)| format!("[{}] {line}\n", at.saturating_add(1))).collect(),
            )
        }
    }
}

fn editor(completer: LineCompleter) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_completer(Box::new(completer))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .with_hinter(Box::new(DefaultHinter::default()))
        .with_ansi_colors(std::env::var_os("NO_COLOR").is_none())
        .with_edit_mode(Box::new(Emacs::new(keys)));
    match history() {
        Some(history) => editor.with_history(Box::new(history)),
        None => editor,
    }
}

/// The history in the user's state directory; a session without one has its own lines only.
fn history() -> Option<FileBackedHistory> {
    let directory = crate::user_directory("XDG_STATE_HOME", ".local/state")?.join("kdive");
    let open = |directory: PathBuf| {
        std::fs::create_dir_all(&directory)?;
        FileBackedHistory::with_file(HISTORY_LINES, directory.join("history")).map_err(std::io::Error::other)
    };
    match open(directory) {
        Ok(history) => Some(history),
        Err(error) => {
            report::note(&format_args!("lines are not kept for the next session: {error}"));
            None
        }
    }
}

/// `kdive> `, plain: the terminal's own colours are the user's choice.
struct KdivePrompt;

impl Prompt for KdivePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("kdive")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("     > ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing like ",
        };
        Cow::Owned(format!(" ({failing}{:?})> ", search.term))
    }
}
