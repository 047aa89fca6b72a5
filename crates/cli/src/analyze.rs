//! `kdive analyze LOG`: the one command that needs no kernel.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use kdive_commands::{Closed, CommandError, JsonSink, TextSink, analyze, line};

use crate::args::OpenArgs;
use crate::output::{Disk, Output};
use crate::progress::Bar;
use crate::report::{self, Status};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that tell what something is.
const HEAD: u64 = 64 << 10;

/// A text to read.
pub(crate) enum Text {
    /// A file that was given alone, and is one.
    File(File),
    /// `-`: standard input.
    StandardInput,
}

impl Text {
    /// The text that was given instead of a dump.
    pub(crate) fn of(open: &OpenArgs) -> Option<Self> {
        if matches!(&*open.files, [file] if file == Path::new("-")) {
            return Some(Self::StandardInput);
        }
        kdive_fetch::log_alone(&open.files).filter(|_| open.raw_base.is_none()).map(Self::File)
    }

    /// Its bytes, or why they are not what can be read here.
    fn open(self) -> io::Result<Box<dyn BufRead>> {
        Ok(match self {
            Self::File(file) => Box::new(BufReader::with_capacity(CHUNK, file)),
            Self::StandardInput => Box::new(piped(io::stdin().lock())?),
        })
    }
}

/// A text that comes through a pipe. A dump does not: its pages are wanted in any order.
fn piped(mut input: impl Read) -> io::Result<impl BufRead> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head)?;
    let kind = kdive_dump::probe(&head);
    let is_text = matches!(kind, kdive_dump::Kind::Text | kdive_dump::Kind::Unknown);
    if !is_text {
        let what = kind.description();
        let next = "a pipe is read as text only; save it to a file, then kdive analyze FILE";
        return Err(io::Error::other(format!("standard input is {what}\nhint: {next}")));
    }
    Ok(BufReader::with_capacity(CHUNK, Cursor::new(head).chain(input)))
}

/// Runs the command, of these words, on text.
pub(crate) fn of_text(words: &[String], text: Text, json: bool) -> Status {
    let mut log = match text.open() {
        Ok(log) => log,
        Err(error) => {
            report::command_failed("analyze", &error.to_string(), None);
            return Status::NotOpened;
        }
    };
    let log = log.as_mut();
    let bar = Arc::new(Bar::default());
    let written = Output::open(&line::Output::Host, false, &bar).map_err(|error| Closed(error).into());
    let ran = written.and_then(|mut output| {
        let ran = into(words, log, json, &mut output);
        let closed = output.finish().map_err(|error| Closed(error).into());
        ran.and(closed)
    });
    match ran {
        Ok(()) => Status::Done,
        Err(CommandError::Closed(Closed(error))) if error.kind() == io::ErrorKind::BrokenPipe => Status::Done,
        Err(error) => {
            report::command_failed("analyze", &error.to_string(), error.hint().as_deref());
            Status::CommandFailed
        }
    }
}

fn into(
    words: &[String],
    log: &mut dyn BufRead,
    json: bool,
    output: &mut Output,
) -> Result<(), CommandError> {
    let words = words.get(1..).unwrap_or_default();
    let disk = Disk::default();
    if !json {
        return analyze::of_text(words, log, &disk, &mut TextSink::new(output));
    }
    let mut sink = JsonSink::new(output, "analyze")?;
    let ran = analyze::of_text(words, log, &disk, &mut sink);
    let error = ran.as_ref().err().map(ToString::to_string);
    sink.finish(error.as_deref(), &[])?;
    ran
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_text_or_refused() {
        let mut text = String::new();
        piped(&b"[    1.0] BUG: soft lockup\n"[..]).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "[    1.0] BUG: soft lockup\n");
        let mut dump = b"KDUMP   ".to_vec();
        dump.resize(4096, 0);
        let refused = piped(&*dump).err().unwrap().to_string();
        assert!(refused.contains("standard input is a dump") && refused.contains("save it"), "{refused}");
        assert!(piped(io::empty()).err().unwrap().to_string().contains("is empty"));
    }
}
