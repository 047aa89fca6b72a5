//! How a complaint of the kernel begins: all phrases in one list, one automaton over them.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use kdive_evidence::{Splat, SplatKind};

use super::events::EVENTS;
use super::session::SESSION_PHRASES;
use super::splat;
use super::system::SYSTEM_PHRASES;
use super::trigger::TRIGGER_PHRASES;

/// A phrase that begins a complaint.
pub(super) struct Opening {
    /// What the line contains: never across a colour that `dmesg` puts in, so not over `: `.
    pub(super) phrase: &'static str,
    /// What it is then.
    pub(super) kind: SplatKind,
    /// Takes the facts of the line into the splat; `false` when the line only looks like it.
    pub(super) read: fn(&str, &mut Splat) -> bool,
}

/// An opening that needs no further reading.
pub(super) const fn plain(phrase: &'static str, kind: SplatKind) -> Opening {
    Opening { phrase, kind, read: |_, _| true }
}

/// What a phrase stands for.
#[derive(Clone, Copy)]
pub(super) enum Phrase {
    /// The beginning of a complaint.
    Opening(&'static Opening),
    /// An event, by its index in [`EVENTS`].
    Event(usize),
    /// A line of a session of crash.
    Session,
    /// What only says that a line must be looked at.
    Other,
}

struct Phrases {
    automaton: Option<AhoCorasick>,
    meanings: Vec<Phrase>,
}

static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    let mut texts = Vec::new();
    let mut meanings = Vec::new();
    for opening in splat::families().into_iter().flatten() {
        texts.push(opening.phrase);
        meanings.push(Phrase::Opening(opening));
    }
    for (index, event) in EVENTS.iter().enumerate() {
        texts.push(event.phrase);
        meanings.push(Phrase::Event(index));
    }
    for phrase in SESSION_PHRASES {
        texts.push(phrase);
        meanings.push(Phrase::Session);
    }
    for phrase in SYSTEM_PHRASES.iter().chain(TRIGGER_PHRASES) {
        texts.push(phrase);
        meanings.push(Phrase::Other);
    }
    let automaton = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(MatchKind::Standard)
        .build(texts)
        .ok();
    Phrases { automaton, meanings }
});

/// Where the next phrase ends in a block of raw text.
pub(super) fn next_in(block: &[u8]) -> Option<usize> {
    Some(PHRASES.automaton.as_ref()?.find(block)?.end())
}

/// What the phrases in a line mean, the first in the lists first.
pub(super) fn meanings(text: &str) -> Vec<Phrase> {
    let Some(automaton) = &PHRASES.automaton else { return Vec::new() };
    // Most lines have none, and the search for the first is the faster one.
    if automaton.find(text).is_none() {
        return Vec::new();
    }
    let mut found: Vec<_> =
        automaton.find_overlapping_iter(text).map(|hit| hit.pattern().as_usize()).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().filter_map(|index| PHRASES.meanings.get(index).copied()).collect()
}

/// Whether a line may begin a complaint.
pub(super) fn may_open(meanings: &[Phrase]) -> bool {
    meanings.iter().any(|meaning| matches!(meaning, Phrase::Opening(_)))
}

/// The complaint that a line begins, if it begins one.
pub(super) fn of(text: &str, meanings: &[Phrase]) -> Option<Splat> {
    // `---[ end Kernel panic - not syncing: ... ]---` repeats what it ends.
    if meanings.is_empty() || text.contains("--[ end ") {
        return None;
    }
    meanings.iter().find_map(|meaning| {
        let Phrase::Opening(opening) = meaning else { return None };
        // Source code, and what quotes a log, says nothing.
        if text.split_once(opening.phrase).is_some_and(|(before, _)| before.contains('"')) {
            return None;
        }
        let mut splat = Splat { kind: opening.kind, message: text.to_owned(), ..Splat::default() };
        (opening.read)(text, &mut splat).then_some(splat)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_automaton_is_built() {
        assert!(PHRASES.automaton.is_some());
        assert!(next_in(b"nothing of interest here").is_none());
    }

    #[test]
    fn no_phrase_stands_twice() {
        let mut texts: Vec<_> =
            splat::families().into_iter().flatten().map(|opening| opening.phrase).collect();
        texts.sort_unstable();
        let twice: Vec<_> = texts.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}
