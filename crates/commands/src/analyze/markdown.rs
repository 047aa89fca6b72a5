//! The report as Markdown, for tickets.

use std::fmt::{self, Write};

use kdive_triage::Report;

use super::document::{self, Block, Entry, Speaks};
use crate::render::in_unit;

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
            writeln!(out, "# {}\n", escaped(&answer.sentence))?;
            if let Some((class, confidence)) = &answer.class {
                writeln!(out, "**{}**, confidence **{}**\n", escaped(class), confidence.name())?;
            }
            if let Some(title) = &answer.title {
                writeln!(out, "{}\n", code(title))?;
            }
            match &answer.trigger {
                Some(trigger) => writeln!(out, "Ended by {}, which is not the cause.\n", code(trigger)),
                None => Ok(()),
            }
        }
        Block::Section(name) => writeln!(out, "## {name}\n"),
        Block::Facts(facts) => {
            facts.iter().try_for_each(|(name, value)| writeln!(out, "- {name}: {}", code(value)))?;
            out.write_char('\n')
        }
        Block::Text(text) => writeln!(out, "{}\n", escaped(text)),
        Block::Steps(steps) => {
            let mut numbered = steps.iter().zip(1_usize..);
            numbered.try_for_each(|(step, number)| writeln!(out, "{number}. {}", escaped(step)))?;
            out.write_char('\n')
        }
        Block::Lines(lines) => fenced(lines.iter().map(|(line, _)| line.as_str()), out),
        Block::Waits(graph) => {
            let lines = document::waits_as_lines(graph);
            fenced(lines.iter().map(|(line, _)| line.as_str()), out)
        }
        Block::Evidence { speaks, points } => {
            writeln!(out, "{}\n", if *speaks == Speaks::For { "For:" } else { "Against:" })?;
            for point in points {
                write!(out, "- {}", escaped(&point.text))?;
                match &point.command {
                    Some(command) => writeln!(out, " ({})", code(command))?,
                    None => out.write_char('\n')?,
                }
            }
            out.write_char('\n')
        }
        Block::Suspects(entries) => {
            entries
                .iter()
                .zip(1_usize..)
                .try_for_each(|(entry, rank)| write_entry(entry, &format!("{rank}."), out))?;
            out.write_char('\n')
        }
        Block::Issues(entries) | Block::Findings(entries) => {
            entries.iter().try_for_each(|entry| write_entry(entry, "-", out))?;
            out.write_char('\n')
        }
        Block::Sizes { title, rows } => {
            writeln!(out, "| memory {title} | |\n|---|---:|")?;
            rows.iter()
                .try_for_each(|(name, bytes)| writeln!(out, "| {} | {} |", escaped(name), in_unit(*bytes)))?;
            out.write_char('\n')
        }
        Block::Growth { title, rows } => {
            writeln!(out, "| memory {title} | before | now | change |\n|---|---:|---:|---:|")?;
            rows.iter().try_for_each(|(name, before, after)| {
                let change = document::signed(*before, *after);
                writeln!(out, "| {} | {} | {} | {change} |", escaped(name), in_unit(*before), in_unit(*after))
            })?;
            out.write_char('\n')
        }
    }
}

fn write_entry(entry: &Entry, sign: &str, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{sign} **{}**", escaped(&entry.name))?;
    if let Some(mark) = &entry.mark {
        write!(out, ", {}", escaped(mark))?;
    }
    if entry.score > 0 {
        write!(out, " ({} of 100)", entry.score)?;
    }
    out.write_char('\n')?;
    let indent = " ".repeat(sign.len().saturating_add(1));
    entry.text.iter().try_for_each(|text| writeln!(out, "{indent}- {}", escaped(text)))?;
    entry.but.iter().try_for_each(|text| writeln!(out, "{indent}- but: {}", escaped(text)))?;
    entry.links.iter().try_for_each(|link| writeln!(out, "{indent}- <{}>", link.replace(['<', '>', ' '], "")))
}

/// A block of lines as they are; the fence is longer than any row of backticks in them.
fn fenced<'t>(lines: impl Iterator<Item = &'t str> + Clone, out: &mut dyn Write) -> fmt::Result {
    let longest = lines.clone().map(longest_ticks).max().unwrap_or(0);
    let fence = "`".repeat(longest.saturating_add(1).max(3));
    writeln!(out, "{fence}text")?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{fence}\n")
}

fn longest_ticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Code within a line.
fn code(text: &str) -> String {
    let ticks = "`".repeat(longest_ticks(text).saturating_add(1));
    let room = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{room}{text}{room}{ticks}")
}

/// Text in which nothing is markup: names of functions are full of underscores.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(
            character,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '@' | '!'
        ) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
