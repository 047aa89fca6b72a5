//! The report as one HTML file that needs nothing else: no network, no scripts. It follows the reader's choice of light or
//! dark, and reads on a phone.

use std::fmt::{self, Write};

use kdive_triage::report::WaitGraph;
use kdive_triage::{Confidence, Report};

use super::document::{self, Answer, Block, Entry, Point, Speaks};
use crate::locks::graph::{Graph, escaped};
use crate::render::{in_unit, percent};

const STYLE: &str = include_str!("report.css");

/// Pictures of more waits than this are worse than the list.
const MOST_IN_PICTURE: usize = 60;

/// Writes the whole report.
pub(super) fn render(report: &Report, out: &mut dyn Write) -> fmt::Result {
    let blocks = document::of(report);
    let title = blocks.iter().find_map(|block| match block {
        Block::Answer(answer) => Some(answer.title.as_ref().unwrap_or(&answer.sentence)),
        _ => None,
    });
    // A browser must not fetch or run anything, whatever a dump says.
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(title.map_or("kdive analyze", String::as_str))
    )?;
    let mut open = false;
    for block in &blocks {
        if let Block::Section(name) = block {
            if open {
                out.write_str("</section>\n")?;
            }
            writeln!(out, "<section>\n<h2>{}</h2>", escaped(name))?;
            open = true;
        } else {
            write_block(block, out)?;
        }
    }
    if open {
        out.write_str("</section>\n")?;
    }
    writeln!(out, "</main>\n<footer>kdive {} analyze</footer>\n</body>\n</html>", env!("CARGO_PKG_VERSION"))
}

fn write_block(block: &Block<'_>, out: &mut dyn Write) -> fmt::Result {
    match block {
        Block::Answer(answer) => write_answer(answer, out),
        Block::Section(_) => Ok(()),
        Block::Facts(facts) => {
            out.write_str("<dl>\n")?;
            facts.iter().try_for_each(|(name, value)| {
                writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value))
            })?;
            out.write_str("</dl>\n")
        }
        Block::Text(text) => writeln!(out, "<p>{}</p>", escaped(text)),
        Block::Steps(steps) => {
            out.write_str("<ol class=\"steps\">\n")?;
            steps.iter().try_for_each(|step| writeln!(out, "<li>{}</li>", escaped(step)))?;
            out.write_str("</ol>\n")
        }
        Block::Lines(lines) => write_lines(lines, out),
        Block::Evidence { speaks, points } => write_evidence(*speaks, points, out),
        Block::Suspects(entries) => write_entries("ol", "ranked", entries, out),
        Block::Issues(entries) => write_entries("ul", "issues", entries, out),
        Block::Findings(entries) => write_entries("ul", "findings", entries, out),
        Block::Waits(graph) => write_waits(graph, out),
        Block::Sizes { title, rows } => write_sizes(title, rows, out),
        Block::Growth { title, rows } => write_growth(title, rows, out),
    }
}

fn write_answer(answer: &Answer, out: &mut dyn Write) -> fmt::Result {
    let confidence = answer.class.as_ref().map(|(_, confidence)| *confidence);
    let tone = match confidence {
        Some(Confidence::High) => "high",
        Some(Confidence::Medium) => "medium",
        Some(Confidence::Low) => "low",
        Some(Confidence::Note) | None => "note",
    };
    writeln!(out, "<header class=\"answer {tone}\">\n<h1>{}</h1>", escaped(&answer.sentence))?;
    if let Some((class, confidence)) = &answer.class {
        writeln!(
            out,
            "<p><span class=\"chip\">{}</span> <span class=\"chip sure\">confidence: {}</span></p>",
            escaped(class),
            confidence.name()
        )?;
    }
    if let Some(title) = &answer.title {
        writeln!(out, "<p class=\"title\"><code>{}</code></p>", escaped(title))?;
    }
    if let Some(trigger) = &answer.trigger {
        writeln!(out, "<p class=\"quiet\">Ended by <code>{}</code></p>", escaped(trigger))?;
    }
    out.write_str("</header>\n")
}

fn write_lines(lines: &[(String, bool)], out: &mut dyn Write) -> fmt::Result {
    out.write_str("<pre>")?;
    for (line, is_marked) in lines {
        match is_marked {
            true => writeln!(out, "<mark>{}</mark>", escaped(line))?,
            false => writeln!(out, "{}", escaped(line))?,
        }
    }
    out.write_str("</pre>\n")
}

fn write_evidence(speaks: Speaks, points: &[Point], out: &mut dyn Write) -> fmt::Result {
    let class = if speaks == Speaks::For { "for" } else { "against" };
    let word = if speaks == Speaks::For { "For" } else { "Against" };
    writeln!(out, "<h3>{word}</h3>\n<ul class=\"evidence {class}\">")?;
    for point in points {
        write!(out, "<li>{}", escaped(&point.text))?;
        if let Some(command) = &point.command {
            write!(out, "<br><code class=\"command\">{}</code>", escaped(command))?;
        }
        out.write_str("</li>\n")?;
    }
    out.write_str("</ul>\n")
}

fn write_entries(list: &str, class: &str, entries: &[Entry], out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "<{list} class=\"{class}\">")?;
    for entry in entries {
        write!(out, "<li><p class=\"name\"><b>{}</b>", escaped(&entry.name))?;
        if let Some(mark) = &entry.mark {
            write!(out, " <span class=\"chip\">{}</span>", escaped(mark))?;
        }
        if entry.score > 0 {
            write!(
                out,
                " <meter min=\"0\" max=\"100\" value=\"{0}\">{0} of 100</meter> <small>{0}</small>",
                entry.score
            )?;
        }
        out.write_str("</p>\n")?;
        entry.text.iter().try_for_each(|text| writeln!(out, "<p>{}</p>", escaped(text)))?;
        entry.but.iter().try_for_each(|text| writeln!(out, "<p class=\"but\">but: {}</p>", escaped(text)))?;
        entry.links.iter().try_for_each(|link| write_link(link, out))?;
        out.write_str("</li>\n")?;
    }
    writeln!(out, "</{list}>")
}

/// A link, where it is one: what a file of known issues says is not trusted further than this.
fn write_link(link: &str, out: &mut dyn Write) -> fmt::Result {
    let text = escaped(link);
    match link.starts_with("https://") {
        true => writeln!(out, "<p class=\"link\"><a href=\"{text}\" rel=\"noreferrer\">{text}</a></p>"),
        false => writeln!(out, "<p class=\"link\">{text}</p>"),
    }
}

fn write_waits(graph: &WaitGraph, out: &mut dyn Write) -> fmt::Result {
    if graph.edges.len() <= MOST_IN_PICTURE {
        writeln!(out, "<div class=\"picture\">{}</div>", Graph::of_report(graph).svg())?;
    }
    write_lines(&document::waits_as_lines(graph), out)
}

fn write_growth(title: &str, rows: &[(String, u64, u64)], out: &mut dyn Write) -> fmt::Result {
    writeln!(
        out,
        "<h3>{}</h3>\n<table>\n<tr><th></th><td>before</td><td>now</td><td>change</td></tr>",
        escaped(title)
    )?;
    for (name, before, after) in rows {
        writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            in_unit(*before),
            in_unit(*after),
            document::signed(*before, *after)
        )?;
    }
    out.write_str("</table>\n")
}

fn write_sizes(title: &str, rows: &[(String, u64)], out: &mut dyn Write) -> fmt::Result {
    let whole = rows.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
    writeln!(out, "<h3>{}</h3>\n<table>", escaped(title))?;
    for (name, bytes) in rows {
        let share = percent(*bytes, whole);
        writeln!(
            out,
            "<tr><th>{}</th><td>{}</td><td class=\"bar\"><i style=\"width:{share:.1}%\"></i></td><td>{share:.1} %</td></tr>",
            escaped(name),
            in_unit(*bytes)
        )?;
    }
    out.write_str("</table>\n")
}
