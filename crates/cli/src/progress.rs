//! A progress bar on standard error, on a terminal, for what takes longer than half a second.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kdive_commands::Progress;

/// Work that is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The bar of the running command.
#[derive(Default)]
pub(crate) struct Bar {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    bar: Option<ProgressBar>,
    /// The output has reached the screen: a bar would only get into its way.
    over: bool,
}

impl Bar {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What is in it is a picture: half-changed is good enough.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a command.
    pub(crate) fn begin(&self) {
        self.hide();
        *self.state() = State { since: Some(Instant::now()), bar: None, over: !io::stderr().is_terminal() };
    }

    /// Takes the bar off the screen for the rest of the command.
    pub(crate) fn hide(&self) {
        let mut state = self.state();
        state.over = true;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn step(&self, what: &str, done: u64, total: Option<u64>) {
        let mut state = self.state();
        if state.over || state.since.is_none_or(|since| since.elapsed() < PATIENCE) {
            return;
        }
        let bar = state.bar.get_or_insert_with(|| new_bar(total));
        bar.set_message(what.to_owned());
        bar.set_position(done);
    }
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => {
            let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
            let bar = ProgressBar::new(total);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        }
        None => ProgressBar::new_spinner(),
    }
}
