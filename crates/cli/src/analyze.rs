//! `kdive analyze LOG`: the one command that needs no kernel.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;

use kdive_commands::{Closed, CommandError, JsonSink, TextSink, analyze, line};

use crate::output::{Disk, Output};
use crate::progress::Bar;
use crate::report::{self, Status};

/// Runs the command, of these words, on a file of text.
pub(crate) fn of_text(words: &[String], log: File, json: bool) -> Status {
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

fn into(words: &[String], log: File, json: bool, output: &mut Output) -> Result<(), CommandError> {
    let words = words.get(1..).unwrap_or_default();
    let mut log = BufReader::with_capacity(1 << 20, log);
    if !json {
        return analyze::of_text(words, &mut log, &Disk, &mut TextSink::new(output));
    }
    let mut sink = JsonSink::new(output, "analyze")?;
    let ran = analyze::of_text(words, &mut log, &Disk, &mut sink);
    let error = ran.as_ref().err().map(ToString::to_string);
    sink.finish(error.as_deref(), &[])?;
    ran
}
