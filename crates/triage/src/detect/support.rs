//! What detectors share: drafts of findings, and small readers of a splat's lines.

use kdive_evidence::{Splat, SplatKind};

use crate::blame::{self, Mode};
use crate::case::{Case, Event, EventKind, TriggerKind};
use crate::class::Class;
use crate::finding::{Culprit, Evidence, Finding};

/// The kernel itself says so, or the facts leave no other reading.
pub(super) const PROVEN: u8 = 92;
/// The facts say so; something rare could look alike.
pub(super) const STRONG: u8 = 84;
/// The best explanation of its facts.
pub(super) const LIKELY: u8 = 70;
/// One of several explanations.
pub(super) const POSSIBLE: u8 = 48;
/// Speaks for a suspicion.
pub(super) const HINT: u8 = 32;
/// Worth knowing.
pub(super) const NOTE: u8 = 20;

/// A finding in the making.
pub(super) struct Draft(Finding);

impl Draft {
    pub(super) fn new(detector: &'static str, class: Class, score: u8) -> Self {
        Self(Finding {
            detector,
            class,
            title: String::new(),
            claim: String::new(),
            score,
            culprit: Culprit::default(),
            supports: Vec::new(),
            against: Vec::new(),
            advice: Vec::new(),
            splat: None,
        })
    }

    /// It explains a splat: its guilty function is the culprit.
    pub(super) fn at(mut self, index: usize, splat: &Splat, mode: Mode) -> Self {
        self.0.splat = Some(index);
        if let Some(guilty) = blame::guilty(splat, mode) {
            let module = guilty.module.clone().or_else(|| blame::module_of(splat, &guilty.function));
            self.0.culprit.function = Some(guilty.function);
            self.0.culprit.module = module;
        }
        if let Some(damage) = &splat.damage {
            self.0.against.push(Evidence::seen(format!("The report in the log is damaged: {damage}.")));
            self.0.score = self.0.score.saturating_sub(5);
        }
        self
    }

    pub(super) fn splat(mut self, index: usize) -> Self {
        self.0.splat = Some(index);
        self
    }

    pub(super) fn function(mut self, function: Option<impl Into<String>>) -> Self {
        if let Some(function) = function {
            self.0.culprit.function = Some(function.into());
        }
        self
    }

    /// No function is to blame.
    pub(super) fn nobody(mut self) -> Self {
        self.0.culprit.function = None;
        self.0.culprit.module = None;
        self
    }

    pub(super) fn module(mut self, module: Option<impl Into<String>>) -> Self {
        if let Some(module) = module {
            self.0.culprit.module = Some(module.into());
        }
        self
    }

    pub(super) fn task(mut self, task: Option<impl Into<String>>) -> Self {
        self.0.culprit.task = task.map(Into::into);
        self
    }

    pub(super) fn object(mut self, object: Option<impl Into<String>>) -> Self {
        self.0.culprit.object = object.map(Into::into);
        self
    }

    /// `TITLE in f`, or the title alone where no function is known.
    pub(super) fn title_in(mut self, title: impl Into<String>) -> Self {
        self.0.title = crate::title::in_function(&title.into(), self.0.culprit.function.as_deref());
        self
    }

    pub(super) fn title(mut self, title: impl Into<String>) -> Self {
        self.0.title = title.into();
        self
    }

    /// The claim: `CLAIM in f [module]` and a full stop.
    pub(super) fn claim_in(mut self, claim: impl Into<String>) -> Self {
        let claim = claim.into();
        self.0.claim = match (&self.0.culprit.function, &self.0.culprit.module) {
            (Some(function), Some(module)) => format!("{claim} in {function} [{module}]."),
            (Some(function), None) => format!("{claim} in {function}."),
            (None, Some(module)) => format!("{claim} in module {module}."),
            (None, None) => format!("{claim}."),
        };
        self
    }

    pub(super) fn claim(mut self, claim: impl Into<String>) -> Self {
        self.0.claim = claim.into();
        self
    }

    pub(super) fn seen(mut self, text: impl Into<String>) -> Self {
        self.0.supports.push(Evidence::seen(text));
        self
    }

    /// With the command that shows it again.
    pub(super) fn shown(mut self, evidence: Evidence) -> Self {
        self.0.supports.push(evidence);
        self
    }

    pub(super) fn seen_if(self, condition: bool, text: impl Into<String>) -> Self {
        if condition { self.seen(text) } else { self }
    }

    /// The splat's own line speaks for it.
    pub(super) fn says(self, line: &str) -> Self {
        self.seen(format!("The kernel says: {}", shorten(line)))
    }

    pub(super) fn against(mut self, text: impl Into<String>) -> Self {
        self.0.against.push(Evidence::seen(text));
        self
    }

    pub(super) fn against_if(self, condition: bool, text: impl Into<String>) -> Self {
        if condition { self.against(text) } else { self }
    }

    pub(super) fn advice(mut self, text: impl Into<String>) -> Self {
        self.0.advice.push(text.into());
        self
    }

    pub(super) fn current_function(&self) -> Option<&str> {
        self.0.culprit.function.as_deref()
    }

    pub(super) fn push(self, out: &mut Vec<Finding>) {
        out.push(self.0);
    }
}

/// A line cut to what a sentence bears.
pub(super) fn shorten(line: &str) -> String {
    const MOST: usize = 160;
    let line = line.trim();
    if line.chars().count() <= MOST {
        return line.to_owned();
    }
    let mut text: String = line.chars().take(MOST).collect();
    text.push('…');
    text
}

/// Splats of some kinds, with their indices.
pub(super) fn splats<'c>(
    case: &'c Case<'_>,
    kinds: &'static [SplatKind],
) -> impl Iterator<Item = (usize, &'c Splat)> {
    case.splats.iter().enumerate().filter(move |(_, splat)| kinds.contains(&splat.kind))
}

/// Events of a kind.
pub(super) fn events<'c>(case: &'c Case<'_>, kind: EventKind) -> impl Iterator<Item = &'c Event> {
    case.events.iter().filter(move |event| event.kind == kind)
}

/// The first line of a splat that contains a text.
pub(super) fn line<'s>(splat: &'s Splat, needle: &str) -> Option<&'s str> {
    std::iter::once(&splat.message)
        .chain(&splat.details)
        .map(String::as_str)
        .find(|line| line.contains(needle))
}

/// Whether a line of a splat contains a text.
pub(super) fn says(splat: &Splat, needle: &str) -> bool {
    line(splat, needle).is_some()
}

/// The word after a text: up to white space, a comma, a bracket or the end.
pub(super) fn word_after<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    let rest = text.get(text.find(before)?.saturating_add(before.len())..)?.trim_start();
    let end =
        rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ')' | ';' | ']')).unwrap_or(rest.len());
    rest.get(..end).map(|word| word.trim_end_matches(['.', ':', '!'])).filter(|word| !word.is_empty())
}

/// The decimal number after a text, with its sign.
pub(super) fn number_after(text: &str, before: &str) -> Option<i64> {
    let rest = text.get(text.find(before)?.saturating_add(before.len())..)?.trim_start();
    let end = rest
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_digit() || at == 0 && c == '-'))
        .map_or(rest.len(), |(at, _)| at);
    rest.get(..end)?.parse().ok()
}

/// The hexadecimal number after a text, with or without `0x`.
pub(super) fn hex_after(text: &str, before: &str) -> Option<u64> {
    let rest = text.get(text.find(before)?.saturating_add(before.len())..)?.trim_start();
    hex(rest)
}

/// The hexadecimal number that a text begins with.
pub(super) fn hex(text: &str) -> Option<u64> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    u64::from_str_radix(text.get(..end)?, 16).ok()
}

/// The function in `f+0x12/0x34` or `f+0x12`, without suffixes of the compiler.
pub(super) fn symbol(text: &str) -> Option<&str> {
    let name = text.split(['+', ' ', '[']).next()?.trim();
    // An address whose name is not known is no name.
    let address = name.len() >= 8 && name.chars().all(|c| c.is_ascii_hexdigit());
    let first = name.chars().next().filter(|_| !address)?;
    (first.is_ascii_alphabetic() || first == '_').then(|| blame::plain(name))
}

/// `comm (PID n)` of a splat.
pub(super) fn task_of(splat: &Splat) -> Option<String> {
    match (&splat.comm, splat.pid) {
        (Some(comm), Some(pid)) => Some(format!("{comm} (PID {pid})")),
        (Some(comm), None) => Some(comm.clone()),
        (None, Some(pid)) => Some(format!("PID {pid}")),
        (None, None) => None,
    }
}

/// Whether an operator asked for the dump.
pub(super) fn forced(case: &Case<'_>) -> bool {
    case.trigger.as_ref().is_some_and(|trigger| {
        matches!(trigger.kind, TriggerKind::Sysrq | TriggerKind::NmiButton | TriggerKind::Snapshot)
    })
}

/// Whether a kind of end is the trigger.
pub(super) fn triggered(case: &Case<'_>, kind: TriggerKind) -> bool {
    case.trigger.as_ref().is_some_and(|trigger| trigger.kind == kind)
}

/// Whether nothing ended the kernel and nothing worse than a warning is told: then what a single line says may be the matter.
pub(super) fn alone(case: &Case<'_>) -> bool {
    case.trigger.is_none()
        && case.splats.iter().all(|splat| matches!(splat.kind, SplatKind::Warning | SplatKind::Other))
}

/// Whether two words differ in exactly one bit.
pub(super) fn one_bit_apart(a: u64, b: u64) -> bool {
    (a ^ b).count_ones() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_readers_stop_where_a_word_ends() {
        assert_eq!(word_after("Killed process 123 (stress) total", "Killed process"), Some("123"));
        assert_eq!(number_after("delta = -25769803766 ns", "delta ="), Some(-25_769_803_766));
        assert_eq!(hex_after("error_code: 0x1f,", "error_code:"), Some(0x1f));
        assert_eq!(symbol("foo.isra.0+0x12/0x40 [bar]"), Some("foo"));
        assert_eq!(symbol("0xffffffff"), None);
        assert_eq!(symbol("ffffffff81417249"), None);
        assert!(one_bit_apart(0x6b, 0x6a) && !one_bit_apart(0x6b, 0x6b));
    }
}
