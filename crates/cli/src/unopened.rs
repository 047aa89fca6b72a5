//! `log` and `info` of a file that does not open: what its bytes still hold.

use std::path::Path;
use std::sync::Arc;

use kdive_base::{Cancel, GapLedger};
use kdive_commands::{CommandError, JsonSink, TextSink, Unopened, line};
use kdive_dump::{Kind, OpenError, probe};
use kdive_fetch::{FetchError, FileSource};

use crate::args::{Cli, Job};
use crate::open::OpenFailure;
use crate::output::Output;
use crate::progress::Bar;
use crate::report::{self, Status};

/// Runs the command on the bytes of the file that failed. `None` where it is another command, or another failure.
pub(crate) fn run(cli: &Cli, failure: &OpenFailure) -> Option<Status> {
    let Job::Words(words) = &cli.job else { return None };
    let command = words.first().map(String::as_str)?;
    let name = file_of(failure)?;
    let source = FileSource::open(Path::new(name)).ok()?;
    let kind = probe(&source);
    if !worth_a_look(kind) {
        return None;
    }
    let (why, bar) = (failure.to_string(), Arc::new(Bar::default()));
    let cancel = Cancel::default();
    let file = Unopened {
        name,
        bytes: &source,
        kind,
        why: why.lines().next().unwrap_or_default().to_owned(),
        cancel: &cancel,
        progress: &*bar,
    };
    let mut output = Output::open(&line::Output::Host, false, &bar).ok()?;
    let mut gaps = GapLedger::default();
    bar.begin();
    let ran = show(&file, command, words, cli.json, &mut gaps, &mut output);
    bar.hide();
    // A reader that went away is no failure.
    let _ = output.finish();
    if matches!(ran, Err(CommandError::Closed(_))) {
        return Some(Status::Done);
    }
    if let Err(CommandError::Usage(usage)) = &ran {
        report::failure(usage);
        return Some(Status::Usage);
    }
    if command == "log" && ran.is_ok() {
        report::note(&format_args!("{why}"));
        report::note(&format_args!("{name}: the log was found by its structure, in the bytes of the file"));
    }
    let lacking = gaps.take();
    lacking.iter().for_each(|gap| report::note(gap));
    match ran {
        Ok(()) if cli.strict && !lacking.is_empty() => Some(Status::CommandFailed),
        Ok(()) => Some(Status::Done),
        Err(error) => {
            report::failure(failure);
            report::note(&error);
            Some(Status::NotOpened)
        }
    }
}

fn show(
    file: &Unopened<'_>,
    command: &str,
    words: &[String],
    json: bool,
    gaps: &mut GapLedger,
    output: &mut Output,
) -> Result<(), CommandError> {
    let mut run = |out: &mut dyn kdive_commands::Sink| match command {
        "info" => file.info(out),
        _ => file.log(words, gaps, out),
    };
    if !json {
        return run(&mut TextSink::new(output));
    }
    let mut sink = JsonSink::new(output, command)?;
    let ran = run(&mut sink);
    let error = ran.as_ref().err().map(ToString::to_string);
    let gaps = gaps.clone().take();
    sink.finish(error.as_deref(), &gaps)?;
    ran
}

/// The file that is the reason of a failure.
fn file_of(failure: &OpenFailure) -> Option<&str> {
    match failure {
        OpenFailure::Files(FetchError::Useless { name, .. })
        | OpenFailure::Dump(
            OpenError::NotADump { name, .. }
            | OpenError::Damaged { name, .. }
            | OpenError::Truncated { name, .. },
        ) => Some(name),
        _ => None,
    }
}

/// Whether a log can lie in the bytes of such a file as they are.
fn worth_a_look(kind: Kind) -> bool {
    matches!(kind, Kind::Dump(_) | Kind::UnreadDump(_) | Kind::Zeros | Kind::Unknown)
}
