//! The report as text for a terminal: the answer first, at most 100 columns.

use std::fmt::{self, Write};

use kdive_triage::Report;

use super::document::{self, Block, Entry, Speaks};
use crate::render::{in_unit, percent};

const WIDTH: usize = 100;

/// Writes the whole report.
pub(super) fn render(report: &Report, out: &mut dyn Write) -> fmt::Result {
    for block in document::of(report) {
        write_block(&block, out)?;
    }
    Ok(())
}

fn write_block(block: &Block<'_>, out: &mut dyn Write) -> fmt::Result {
    match block {
        Block::Answer(answer) => {
            wrapped(out, "", "", &answer.sentence)?;
            if let Some((class, confidence)) = &answer.class {
                wrapped(out, "", "", &format!("{class}; confidence: {}", confidence.name()))?;
            }
            if let Some(title) = &answer.title {
                wrapped(out, "", "", title)?;
            }
            match &answer.trigger {
                Some(trigger) => wrapped(out, "ended by ", "         ", trigger),
                None => Ok(()),
            }
        }
        Block::Section(name) => writeln!(out, "\n{name}"),
        Block::Facts(facts) => facts
            .iter()
            .try_for_each(|(name, value)| wrapped(out, &format!("  {name:<12}"), "              ", value)),
        Block::Text(text) => wrapped(out, "  ", "  ", text),
        Block::Steps(steps) => steps
            .iter()
            .zip(1_usize..)
            .try_for_each(|(step, number)| wrapped(out, &format!("  {number}. "), "     ", step)),
        Block::Lines(lines) => lines.iter().try_for_each(|(line, _)| writeln!(out, "  {line}")),
        Block::Evidence { speaks, points } => {
            let sign = if *speaks == Speaks::For { '+' } else { '-' };
            points.iter().try_for_each(|point| {
                wrapped(out, &format!("  {sign} "), "    ", &point.text)?;
                point.command.iter().try_for_each(|command| writeln!(out, "      kdive> {command}"))
            })
        }
        Block::Suspects(entries) => ranked(entries, out),
        Block::Issues(entries) => entries.iter().try_for_each(|entry| write_entry(entry, "* ", out)),
        Block::Findings(entries) => entries.iter().try_for_each(|entry| write_entry(entry, "- ", out)),
        Block::Waits(graph) => {
            document::waits_as_lines(graph).iter().try_for_each(|(line, _)| writeln!(out, "  {line}"))
        }
        Block::Sizes { title, rows } => {
            let whole = rows.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
            writeln!(out, "  {title}")?;
            rows.iter().try_for_each(|(name, bytes)| {
                writeln!(out, "    {:>9}  {:>5.1} %  {name}", in_unit(*bytes), percent(*bytes, whole))
            })
        }
        Block::Growth { title, rows } => {
            writeln!(out, "  {title}")?;
            rows.iter().try_for_each(|(name, before, after)| {
                let (change, now) = (document::signed(*before, *after), in_unit(*after));
                writeln!(out, "    {change:>10}  to {now:>9}  {name}")
            })
        }
    }
}

fn ranked(entries: &[Entry], out: &mut dyn Write) -> fmt::Result {
    entries.iter().zip(1_usize..).try_for_each(|(entry, rank)| write_entry(entry, &format!("{rank}. "), out))
}

fn write_entry(entry: &Entry, sign: &str, out: &mut dyn Write) -> fmt::Result {
    let mut head = entry.name.clone();
    if let Some(mark) = &entry.mark {
        head.push_str("; ");
        head.push_str(mark);
    }
    if entry.score > 0 {
        write!(head, " ({} of 100)", entry.score)?;
    }
    wrapped(out, &format!("  {sign}"), "     ", &head)?;
    entry.text.iter().try_for_each(|text| wrapped(out, "     ", "     ", text))?;
    entry.but.iter().try_for_each(|text| wrapped(out, "     but: ", "          ", text))?;
    entry.links.iter().try_for_each(|link| writeln!(out, "     {link}"))
}

/// A paragraph, broken between words; `first` stands before its first line, `rest` before the others.
fn wrapped(out: &mut dyn Write, first: &str, rest: &str, text: &str) -> fmt::Result {
    let mut used = first.chars().count();
    let mut is_empty = true;
    out.write_str(first)?;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !is_empty && used.saturating_add(length).saturating_add(1) > WIDTH {
            write!(out, "\n{rest}")?;
            (used, is_empty) = (rest.chars().count(), true);
        }
        if !is_empty {
            out.write_char(' ')?;
            used = used.saturating_add(1);
        }
        out.write_str(word)?;
        used = used.saturating_add(length);
        is_empty = false;
    }
    out.write_char('\n')
}
