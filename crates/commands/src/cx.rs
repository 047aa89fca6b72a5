//! What a running command is given.

use std::io;
use std::sync::Arc;

use kdive_base::{Cancel, GapLedger, VirtAddr};
use kdive_target::{Field, Kernel, Lacks};

use crate::frame::SelectedFrame;
use crate::history::History;
use crate::settings::Settings;

/// Shows how far a long command has come. The host decides whether and how.
pub trait Progress: Send + Sync {
    /// `done` of `total` steps; `total` is `None` where it is not known.
    fn step(&self, what: &str, done: u64, total: Option<u64>);
}

/// Shows nothing.
impl Progress for () {
    fn step(&self, _what: &str, _done: u64, _total: Option<u64>) {}
}

/// Opens the files that a command writes (`rd -r FILE`). The host decides whether and where.
pub trait Files: Send + Sync {
    /// A new file, or an old one emptied.
    ///
    /// # Errors
    /// It cannot be made, or this host writes no files.
    fn create(&self, path: &str) -> io::Result<Box<dyn io::Write>>;

    /// The texts of a directory whose names end in `.toml`: each name without that, and the text. In the order of names.
    ///
    /// # Errors
    /// It cannot be read, or this host reads no directories.
    fn texts(&self, _directory: &str) -> io::Result<Vec<(String, String)>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no directories can be read here"))
    }

    /// The kernel in another dump, which is opened for it.
    ///
    /// # Errors
    /// It cannot be opened, or this host opens none.
    fn kernel(&self, _path: &str) -> io::Result<Arc<Kernel>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no other dump can be opened here"))
    }

    /// The user's own directory of known issues, where there is one.
    fn known_issues(&self) -> Option<String> {
        None
    }
}

/// Writes none.
impl Files for () {
    fn create(&self, _path: &str) -> io::Result<Box<dyn io::Write>> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "no files can be written here"))
    }
}

/// The context of a command: the kernel, the session's state, and where gaps are noted.
#[derive(Clone)]
pub struct Cx {
    /// The opened kernel.
    pub kernel: Arc<Kernel>,
    /// The current task (`task_struct`), which commands are about when no operand says otherwise.
    pub task: Option<VirtAddr>,
    /// The frame of the current task that was selected (`frame`); it holds for its task only.
    pub frame: Option<SelectedFrame>,
    /// Variables, aliases.
    pub settings: Settings,
    /// The values that `p` has shown.
    pub history: History,
    /// What could not be told so far.
    pub gaps: GapLedger,
    /// Set when the user stops the command.
    pub cancel: Cancel,
    /// Where progress goes.
    pub progress: Arc<dyn Progress>,
    /// Where files that a command writes are opened.
    pub files: Arc<dyn Files>,
}

impl Cx {
    /// A context on `kernel` without a current task.
    #[must_use]
    pub fn new(kernel: Arc<Kernel>) -> Self {
        Self {
            kernel,
            task: None,
            frame: None,
            settings: Settings::default(),
            history: History::default(),
            gaps: GapLedger::default(),
            cancel: Cancel::default(),
            progress: Arc::new(()),
            files: Arc::new(()),
        }
    }

    /// A context for a part of the work on another thread, with a ledger of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { gaps: GapLedger::default(), ..self.clone() }
    }

    /// The value of a field; its absence is noted as a gap of `what`.
    pub fn known<T>(&mut self, field: Field<T>, what: &str, place: impl FnOnce() -> String) -> Option<T> {
        match field {
            Ok(value) => Some(value),
            Err(lacks) => {
                self.lacks(&lacks, what, place);
                None
            }
        }
    }

    /// Notes what could not be told of one thing: parts of it that lack for one reason are one gap.
    pub fn lacks_together(&mut self, lacking: &[(&str, Lacks)], place: impl Fn() -> String) {
        for (what, lacks) in by_reason(lacking) {
            self.lacks(lacks, &what, &place);
        }
    }

    /// Notes that `what` could not be told.
    pub fn lacks(&mut self, lacks: &Lacks, what: &str, place: impl FnOnce() -> String) {
        match lacks {
            // The address differs each time: it is the place, and the reason alone is what repeats.
            Lacks::Missing(missing) => {
                let place = Some(place()).filter(|place| !place.is_empty());
                self.gaps.note(what, missing.why, place.or_else(|| Some(missing.address.to_string())));
            }
            other => self.gaps.note(what, other, None),
        }
    }
}

/// Each reason once, with the names of all that lack for it.
fn by_reason<'l>(lacking: &'l [(&str, Lacks)]) -> Vec<(String, &'l Lacks)> {
    let alike = |one: &Lacks, other: &Lacks| match (one, other) {
        // As in `Cx::lacks`: the address differs, the reason does not.
        (Lacks::Missing(one), Lacks::Missing(other)) => one.why == other.why,
        (one, other) => one == other,
    };
    let mut reasons: Vec<(String, &Lacks)> = Vec::new();
    for (what, lacks) in lacking {
        match reasons.iter_mut().find(|(_, known)| alike(known, lacks)) {
            Some((names, _)) => {
                names.push_str(", ");
                names.push_str(what);
            }
            None => reasons.push(((*what).to_owned(), lacks)),
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};

    use super::*;

    #[test]
    fn parts_that_lack_for_one_reason_are_one_gap() {
        let missing = |at| Lacks::Missing(Missing::new(VirtAddr(at), Why::Excluded));
        let lacking = [("PID", missing(0x10)), ("ST", Lacks::Types), ("CPU", missing(0x18))];
        let missing = &lacking[0].1;
        assert_eq!(by_reason(&lacking), [("PID, CPU".to_owned(), missing), ("ST".to_owned(), &Lacks::Types)]);
    }
}
