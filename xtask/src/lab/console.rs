//! A guest's console while it runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::run;

/// A kernel that panics in an NMI may never print its last line (5.10): quiet for so long, it has ended.
const QUIET: Duration = Duration::from_secs(5);

/// The console's file, and when it last grew.
pub(crate) struct Console {
    path: PathBuf,
    text: String,
    grown: Instant,
}

impl Console {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, text: String::new(), grown: Instant::now() }
    }

    /// Reads what there is by now.
    pub(crate) fn refresh(&mut self) {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.len() != self.text.len() {
            self.grown = Instant::now();
        }
        self.text = text;
    }

    pub(crate) fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// Has the kernel panicked, and said all that it had to say?
    pub(crate) fn panicked(&self) -> bool {
        self.says("end Kernel panic")
            || (self.says("Kernel panic - not syncing") && self.grown.elapsed() > QUIET)
    }

    /// Its last lines.
    pub(crate) fn tail(&self) -> String {
        run::tail(&self.text)
    }
}
