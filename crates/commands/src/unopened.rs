//! What can be had from a file that does not open as a dump: cut, overwritten, without its header, or no dump at all.
//!
//! The two commands that work without a kernel, `log` and `info`, on bytes. Hosts call them where opening has failed.

use std::fmt;

use kdive_base::{Cancel, GapLedger, ReadAt};
use kdive_dump::Kind;
use kdive_linux::log::carve::{Carved, Pile};
use serde::Serialize;

use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Progress;
use crate::log::carved::{Summary, search, show};
use crate::log::{LOG, View};
use crate::render::size;
use crate::sink::{Render, Sink, SinkExt};

/// Places at which a file is looked at to tell how much of it is zeros.
const SAMPLES: u64 = 1024;
const SAMPLE_BYTES: usize = 4096;

/// A file that did not open.
pub struct Unopened<'a> {
    /// As the user calls it.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a dyn ReadAt,
    /// What it seems to be.
    pub kind: Kind,
    /// Why it did not open, in words.
    pub why: String,
    /// Set when the user stops the command.
    pub cancel: &'a Cancel,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
}

impl Unopened<'_> {
    /// `log` with its options: the logs that lie in the bytes.
    ///
    /// # Errors
    /// When no log is found; and as any command.
    pub fn log(
        &self,
        words: &[String],
        gaps: &mut GapLedger,
        out: &mut dyn Sink,
    ) -> Result<(), CommandError> {
        let args = Args::parse("log", LOG.options, words.get(1..).unwrap_or_default())?;
        let pile = Pile::file(self.bytes);
        let carved = search(&pile, self.cancel, self.progress)?;
        if carved.logs.is_empty() {
            return Err(CommandError::not_found(format!(
                "no log was found in the {} bytes of {}",
                pile.len(),
                self.name
            )));
        }
        show(&carved, self.bytes, &View::without_clock(&args), self.cancel, gaps, out)
    }

    /// `info`: what the file is, and what can be had from it.
    ///
    /// # Errors
    /// As any command.
    pub fn info(&self, out: &mut dyn Sink) -> Result<(), CommandError> {
        let pile = Pile::file(self.bytes);
        let Carved { logs, releases, .. } = search(&pile, self.cancel, self.progress)?;
        let mut next = Vec::new();
        if logs.iter().any(|log| log.records > 0) {
            next.push(format!("kdive log {}    the log that lies in its bytes", self.name));
        }
        if matches!(self.kind, Kind::Unknown | Kind::Zeros) && !self.bytes.is_empty() {
            next.push(format!(
                "kdive --raw-base 0 {}    if it is an image of RAM from address 0 on",
                self.name
            ));
        }
        if next.is_empty() {
            next.push(self.kind.advice());
        }
        let info = Info {
            file: self.name.to_owned(),
            bytes: self.bytes.len(),
            kind: self.kind.description(),
            why: self.why.clone(),
            zeros_percent: zeros(self.bytes),
            releases,
            logs: logs.iter().map(Summary::of).collect(),
            next,
        };
        out.header(&info, &())?;
        Ok(())
    }
}

/// A file that is no dump, or no longer one.
#[derive(Debug, Serialize)]
struct Info {
    file: String,
    /// Length of the file.
    bytes: u64,
    /// What it seems to be.
    kind: String,
    /// Why it does not open.
    why: String,
    /// How much of it is zeros, by samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    zeros_percent: Option<u64>,
    /// Kernels whose VMCOREINFO is in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    releases: Vec<String>,
    /// Logs that lie in it.
    logs: Vec<Summary>,
    /// What can be done with it.
    next: Vec<String>,
}

impl Render for Info {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let mut line = |label: &str, text: &dyn fmt::Display| writeln!(out, "{label:>14}: {text}");
        line("FILE", &self.file)?;
        line("SIZE", &format_args!("{} ({} bytes)", size(self.bytes), self.bytes))?;
        line("IT IS", &self.kind)?;
        line("NOT OPENED", &self.why)?;
        if let Some(percent) = self.zeros_percent.filter(|&percent| percent > 0) {
            line("ZEROS", &format_args!("about {percent} % of it"))?;
        }
        for release in &self.releases {
            line("KERNEL", &format_args!("{release}, by a VMCOREINFO in it"))?;
        }
        for log in &self.logs {
            line("LOG", log)?;
        }
        if self.logs.is_empty() {
            line("LOG", &"none found")?;
        }
        self.next.iter().try_for_each(|next| line("NEXT", next))
    }
}

/// Percentage of pages that are all zeros, by samples spread over the file.
fn zeros(bytes: &dyn ReadAt) -> Option<u64> {
    let step = (bytes.len() / SAMPLES).max(SAMPLE_BYTES as u64);
    let (mut looked, mut zeros) = (0_u64, 0_u64);
    let mut page = [0; SAMPLE_BYTES];
    for index in 0..SAMPLES {
        let at = index.saturating_mul(step);
        let count = bytes.read_full_at(at, &mut page).ok()?;
        if count == 0 {
            break;
        }
        looked = looked.saturating_add(1);
        zeros = zeros.saturating_add(u64::from(page.iter().take(count).all(|&byte| byte == 0)));
    }
    zeros.saturating_mul(100).checked_div(looked)
}
