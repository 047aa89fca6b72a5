//! `kdive dump`: smaller dumps of dumps, other formats, checks. It opens files and writes files; the work is done by
//! `kdive-filter`.
//!
//! `args` says what can be typed, `job` does it, `first` says what is written first, `target` is where the bytes go,
//! `sealing` what goes around and behind them, `report` what is said of it; `envelope` encrypts and decrypts files as they
//! are; `makedumpfile` takes the flags of that program instead, `hook` makes a system's kdump run kdive.

mod args;
mod envelope;
mod first;
mod hook;
mod job;
pub(crate) mod makedumpfile;
mod report;
mod sealing;
mod target;

use std::process::ExitCode;

pub(crate) use args::DumpVerb;

use crate::args::OpenArgs;
use crate::report::{Status, failure, note};
use job::Job;

/// Runs one verb.
pub(crate) fn run(verb: &DumpVerb, open: &OpenArgs, silent: bool, json: bool) -> ExitCode {
    if let DumpVerb::Makedumpfile { words } = verb {
        return makedumpfile::main(words.clone());
    }
    if let DumpVerb::Hook(args) = verb {
        return hook::run(args, json).into();
    }
    let enveloped = match verb {
        DumpVerb::Encrypt(args) => Some(envelope::encrypt(args)),
        DumpVerb::Decrypt(args) => Some(envelope::decrypt(args, open)),
        _ => None,
    };
    if let Some(done) = enveloped {
        return done
            .unwrap_or_else(|problem| {
                failure(&problem);
                Status::CommandFailed
            })
            .into();
    }
    let job = match Job::open(open, verb.asks_kernel()) {
        Ok(job) => job,
        Err(problem) => {
            failure(&problem);
            return Status::NotOpened.into();
        }
    };
    if !silent {
        job.notes.iter().for_each(|warning| note(warning));
    }
    let done = match verb {
        DumpVerb::Filter(args) => job.filter(args, json),
        DumpVerb::Convert(args) | DumpVerb::Join(args) => job.convert(args, json),
        DumpVerb::Redact(args) => job.redact(args, json),
        DumpVerb::Split(args) => job.split(args, json),
        DumpVerb::Verify(_) => job.verify(json),
        DumpVerb::Usage(args) => job.usage(args, json),
        DumpVerb::Encrypt(_) | DumpVerb::Decrypt(_) | DumpVerb::Hook(_) | DumpVerb::Makedumpfile { .. } => {
            Ok(Status::Done)
        }
    };
    match done {
        Ok(status) => status.into(),
        Err(problem) => {
            failure(&problem);
            Status::CommandFailed.into()
        }
    }
}
