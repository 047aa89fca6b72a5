//! `analyze`: why the kernel died, with the evidence.
//!
//! The record is triage's [`Report`]; `document` puts it into the order in which it is
//! told, and text, Markdown and HTML draw that, one file each.

mod document;
mod html;
mod markdown;
mod text;
mod waits;

#[cfg(test)]
mod views;

use std::fmt;
use std::io::{self, BufRead, Write as _};
use std::path::Path;

use kdive_triage::case::CaseGap;
use kdive_triage::known::KnownIssues;
use kdive_triage::text::Reader;
use kdive_triage::{Report, analyze, image};

use crate::args::{Args, Opt, UsageError};
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::{Cx, Files};
use crate::sink::{Closed, Part, Sink, ToJson as _};

/// Says why the kernel died.
pub(crate) static ANALYZE: Command = Command {
    names: &["analyze"],
    group: Group::System,
    summary: "why the kernel died, who is to blame, and what shows it",
    operands: "",
    options: &[
        Opt::value("--format", "form", "text, json, markdown or html"),
        Opt::value("--known-issues", "dir", "a directory of known issues to look through too"),
        Opt::value("--before", "dump", "an earlier dump of the same host: what grew since in memory"),
        Opt::value("-o", "file", "write the report to a file; its ending tells the form"),
    ],
    help: include_str!("analyze.md"),
    run: Run::Once(run),
};

fn run(cx: &mut Cx, args: &Args, out: &mut dyn Sink) -> Result<(), CommandError> {
    let target = Target::of(args)?;
    let kernel = cx.kernel.clone();
    let (known, gaps) = known_issues(args, cx.files.as_ref())?;
    let mut report = analyze(&image::read(&kernel), &known);
    report.gaps.extend(gaps);
    if let Some(path) = args.value("--before") {
        let earlier = cx
            .files
            .kernel(path)
            .map_err(|error| CommandError::not_found(format!("the earlier dump {path}: {error}")))?;
        image::grow(&earlier, &kernel, path, &mut report);
    }
    target.write(&report, cx.files.as_ref(), out)
}

/// The known issues: those that are shipped, the user's own, those of `--known-issues`. A file that is none is a gap.
fn known_issues(args: &Args, files: &dyn Files) -> Result<(KnownIssues, Vec<CaseGap>), CommandError> {
    let mut known = KnownIssues::built_in();
    let mut gaps = Vec::new();
    let given = args.value("--known-issues").map(str::to_owned);
    for directory in files.known_issues().into_iter().chain(given) {
        let texts = files
            .texts(&directory)
            .map_err(|error| CommandError::not_found(format!("known issues in {directory}: {error}")))?;
        for (id, text) in texts {
            if let Err(error) = known.add(&id, &text) {
                let next_time = Some("kdive known-issues check says what is wrong".to_owned());
                gaps.push(CaseGap {
                    what: format!("the known issue {id}"),
                    why: error.to_string(),
                    next_time,
                });
            }
        }
    }
    Ok((known, gaps))
}

/// The report on a kernel of which only text is left: a console log, `dmesg`, a pasted session.
///
/// # Errors
/// The words behind the command's name are wrong, or the input cannot be read, or the output has gone.
pub fn of_text(
    words: &[String],
    input: &mut dyn BufRead,
    files: &dyn Files,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let args = Args::parse(ANALYZE.name(), ANALYZE.options, words)?;
    let target = Target::of(&args)?;
    if args.value("--before").is_some() {
        return Err(UsageError::new("analyze", "--before compares two dumps, and this is a text").into());
    }
    let mut reader = Reader::new();
    loop {
        let chunk = input
            .fill_buf()
            .map_err(|error| CommandError::not_found(format!("reading the text failed: {error}")))?;
        let count = chunk.len();
        if count == 0 {
            break;
        }
        reader.push(chunk);
        input.consume(count);
    }
    let (known, gaps) = known_issues(&args, files)?;
    let mut report = analyze(&reader.finish(), &known);
    report.gaps.extend(gaps);
    target.write(&report, files, out)
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Markdown,
    Html,
}

impl Form {
    /// By the name that is typed, or by how files of that form end.
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "text" | "txt" => Some(Self::Text),
            "json" => Some(Self::Json),
            "markdown" | "md" => Some(Self::Markdown),
            "html" | "htm" => Some(Self::Html),
            _ => None,
        }
    }

    fn render(self, report: &Report, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Text => text::render(report, out),
            Self::Json => {
                let mut json = Vec::new();
                report.to_json(&mut json).map_err(|_| fmt::Error)?;
                out.write_str(std::str::from_utf8(&json).map_err(|_| fmt::Error)?)?;
                out.write_char('\n')
            }
            Self::Markdown => markdown::render(report, out),
            Self::Html => html::render(report, out),
        }
    }
}

/// Where a report goes, and in which form.
struct Target<'a> {
    form: Form,
    file: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn of(args: &'a Args) -> Result<Self, UsageError> {
        if let Some(word) = args.operands.first() {
            return Err(UsageError::new("analyze", format!("{word}: it takes no operands")));
        }
        let file = args.value("-o");
        let ending = file.and_then(|file| Path::new(file).extension()?.to_str());
        let form = match args.value("--format") {
            Some(name) => Form::named(name).ok_or_else(|| {
                UsageError::new("analyze", format!("--format {name}: text, json, markdown or html"))
            })?,
            None => ending.and_then(Form::named).unwrap_or(Form::Text),
        };
        Ok(Self { form, file })
    }

    fn write(&self, report: &Report, files: &dyn Files, out: &mut dyn Sink) -> Result<(), CommandError> {
        let Some(path) = self.file else {
            return Ok(out.take(Part::Row, report, &|out| self.form.render(report, out))?);
        };
        let mut text = String::new();
        self.form.render(report, &mut text).map_err(|error| Closed(io::Error::other(error)))?;
        let written = files.create(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.flush()
        });
        written.map_err(|error| CommandError::not_found(format!("{path}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(words: &[&str]) -> Result<(Form, Option<String>), UsageError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let args = Args::parse("analyze", ANALYZE.options, &words)?;
        Target::of(&args).map(|target| (target.form, target.file.map(str::to_owned)))
    }

    #[test]
    fn the_ending_of_the_file_tells_the_form() {
        assert_eq!(target(&[]), Ok((Form::Text, None)));
        assert_eq!(target(&["-o", "report.html"]), Ok((Form::Html, Some("report.html".into()))));
        assert_eq!(target(&["-o", "a.html", "--format", "md"]).map(|(form, _)| form), Ok(Form::Markdown));
        assert!(target(&["--format", "pdf"]).is_err() && target(&["vmcore"]).is_err());
    }
}
