//! The work of `kdive dump`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use kdive_base::{Cancel, Cancelled};
use kdive_commands::Progress as _;
use kdive_dump::age::Identity;
use kdive_dump::write::{Control, Frames, Keep, Plan, WriteError, Written};
use kdive_dump::{
    Hints, Input, Manifest, Notes, PhysicalMemory, Redacted, TooMany, Touched, Veiled, without_damage,
};
use kdive_filter::{
    Classes, DumpLevel, Format, Found, Header, Levels, Output, Redact, Rules, Selection, Usage, verify,
    verify_files,
};
use kdive_target::{Kernel, Lacks};

use super::args::{FilterArgs, FormArgs, OutputArgs, RuleArgs, SplitArgs, UsageArgs};
use super::first;
use super::report::{Report, UsageTable, Verdict, show};
use super::sealing::{Sealing, now};
use super::target::{NoTarget, Target};
use crate::args::OpenArgs;
use crate::open::{self, OpenFailure};
use crate::progress::Bar;
use crate::report::{Status, note};

/// An opened dump, to be worked on.
pub(super) struct Job {
    pub(super) notes: Vec<String>,
    inputs: Vec<PathBuf>,
    pub(super) dump: kdive_dump::Opened,
    kernel: Option<Arc<Kernel>>,
    /// Notes what the kernel reads.
    touched: Arc<Touched>,
    /// Pages that are written first, once they were asked for.
    first: OnceLock<Vec<Frames>>,
    pub(super) cancel: Cancel,
    bar: Bar,
    identities: Arc<[Identity]>,
}

/// Why the work was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    Target(#[from] NoTarget),
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("what pages are used for cannot be told: {0}\nhint: levels 0 and 1 ask nothing of the kernel")]
    Classes(Lacks),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("threads cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("{} is incomplete: {source}", .name)]
    Incomplete { name: String, source: WriteError },
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error(transparent)]
    Open(#[from] kdive_dump::OpenError),
    #[error("only kdump-compressed dumps can be split")]
    SplitElf,
}

/// What is read to be written.
struct Source {
    memory: Arc<dyn PhysicalMemory>,
    notes: Notes,
}

impl JobError {
    /// Whether it was for lack of room.
    fn is_full(&self) -> bool {
        let (Self::Write(error) | Self::Incomplete { source: error, .. }) = self else { return false };
        matches!(error, WriteError::Io(error) if error.kind() == io::ErrorKind::StorageFull)
    }
}

impl Job {
    /// Opens a dump, and the kernel in it where that has a say.
    pub(super) fn open(args: &OpenArgs, asks_kernel: bool) -> Result<Self, OpenFailure> {
        let mut container = open::container(args)?;
        let (dump, notes) = (container.dump.clone(), container.notes.clone());
        let identities = Arc::clone(&container.identities);
        let touched = Arc::new(Touched::new(dump.memory.clone()));
        container.dump.memory = touched.clone();
        let kernel = if asks_kernel { Some(container.kernel(args)?.kernel) } else { None };
        let cancel = Cancel::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Without it the process is killed, and leaves what a killed process leaves.
            let _ = signal_hook::flag::register(signal, cancel.flag());
        }
        let bar = Bar::default();
        bar.begin();
        let (inputs, first) = (args.files.clone(), OnceLock::new());
        Ok(Self { notes, inputs, dump, kernel, touched, first, cancel, bar, identities })
    }

    /// `kdive dump filter`.
    pub(super) fn filter(&self, args: &FilterArgs, json: bool) -> Result<Status, JobError> {
        let (mut target, form) = (self.target(&args.output)?, &args.output.form);
        let report = in_pool(form.threads, || self.levels(&args.levels, &args.rules, form, &mut target))??;
        self.told(&report, &target, json)
    }

    fn rules(&self, args: &RuleArgs) -> Option<Arc<Rules>> {
        let kept = args.kept();
        let kernel = self.kernel.as_ref().filter(|_| !kept.is_empty() || !args.drop.is_empty())?;
        Some(Arc::new(Rules::find(kernel, &kept, &args.drop)))
    }

    /// The pages that are written first, where there is a file and its format has an order to choose.
    fn first(&self, format: Format, target: &Target) -> Vec<Frames> {
        match (&self.kernel, format, target) {
            (Some(kernel), Format::Kdump(_), Target::File { .. } | Target::Stream(_)) => {
                self.first.get_or_init(|| first::pages(kernel, &self.touched, &self.cancel)).clone()
            }
            _ => Vec::new(),
        }
    }

    /// `kdive dump convert` and `join`.
    pub(super) fn convert(&self, args: &OutputArgs, json: bool) -> Result<Status, JobError> {
        let (mut target, form) = (self.target(args)?, &args.form);
        let report = in_pool(form.threads, || self.copy(form, &mut target))??;
        self.told(&report, &target, json)
    }

    /// `kdive dump redact`.
    pub(super) fn redact(&self, args: &OutputArgs, json: bool) -> Result<Status, JobError> {
        let mut form = args.form.clone();
        if form.redact.is_empty() {
            form.redact = vec![Redact::Keys, Redact::Args, Redact::Net];
        }
        let mut target = self.target(args)?;
        let report = in_pool(form.threads, || self.copy(&form, &mut target))??;
        self.told(&report, &target, json)
    }

    /// What is to be written: the dump's memory and notes, and in them what is to be overwritten.
    fn source(&self, form: &FormArgs) -> Result<Source, JobError> {
        let (mut memory, mut notes) = (Arc::clone(&self.dump.memory), self.dump.notes.clone());
        if form.redact.is_empty() {
            return Ok(Source { memory, notes });
        }
        let found = Found::find(&form.redact, self.kernel.as_deref(), &*memory, &self.cancel)?;
        for kind in found.redacted.facts() {
            note(&format_args!("redacted {}: {} bytes in {} places", kind.kind, kind.bytes, kind.ranges));
        }
        found.lacking.iter().for_each(|lacking| note(&format_args!("not redacted: {lacking}")));
        found.redacted.add_to(&mut notes)?;
        memory = Arc::new(Veiled::filled(memory, &found.redacted));
        Ok(Source { memory, notes })
    }

    /// Writes every page.
    pub(super) fn copy(&self, form: &FormArgs, target: &mut Target) -> Result<Report, JobError> {
        self.write(&Selection::everything(), form, target, DumpLevel::default())
    }

    /// `kdive dump split`.
    pub(super) fn split(&self, args: &SplitArgs, json: bool) -> Result<Status, JobError> {
        let stem = last(&args.files);
        let names = (1..=args.parts.max(1)).map(|number| {
            let mut name = stem.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        });
        let level = args.levels.0.first().copied().unwrap_or_default();
        let names: Vec<PathBuf> = names.collect();
        let report = in_pool(args.form.threads, || self.split_into(&names, level, &args.form))??;
        self.told(&report, &Target::Nowhere, json)
    }

    /// Writes a dump of a level into several files.
    pub(super) fn split_into(
        &self,
        names: &[PathBuf],
        level: DumpLevel,
        form: &FormArgs,
    ) -> Result<Report, JobError> {
        if form.format() == Format::Elf {
            return Err(JobError::SplitElf);
        }
        let start = Instant::now();
        let (classes, unknown) = self.classes(level.asks_use())?;
        let selection = Selection::of_level(level, classes);
        let progress = |done, all| self.step("writing", done, all);
        let control = Control { progress: &progress, ..self.control(form) };
        let source = self.source(form)?;
        let plan = Plan::new(&*source.memory, &selection, &control)?;
        let output = self.output(form, level);
        let mut report = self.report(level);
        let parts = plan.split(names.len());
        for (name, part) in names.iter().zip(parts) {
            let mut target = self.file(name, form.overwrite)?;
            let notes = &source.notes;
            let write = |sink: &mut dyn kdive_dump::write::Sink| {
                output.write(&plan, notes, Some(part), sink, &control)
            };
            let written = self.sealing(form, &output, &source.notes).write(&mut target, form.limit, write)?;
            let source_is = |source| JobError::Incomplete { name: target.name(), source };
            report.add(target.name(), &written.map_err(source_is)?);
        }
        report.unknown_pages = unknown();
        report.seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }

    /// Writes a dump of the first level that fits.
    pub(super) fn levels(
        &self,
        levels: &Levels,
        rules: &RuleArgs,
        form: &FormArgs,
        target: &mut Target,
    ) -> Result<Report, JobError> {
        // Before all else that reads: what rules read is not what comes first.
        self.first(form.format(), target);
        let rules = self.rules(rules);
        let mut left = levels.0.iter().copied().peekable();
        while let Some(level) = left.next() {
            match self.level(level, rules.as_ref(), form, target) {
                Err(error) if error.is_full() && target.can_start_over() && left.peek().is_some() => {
                    note(&format_args!("a dump of level {level} does not fit"));
                }
                done => return done,
            }
        }
        Ok(Report::default())
    }

    fn level(
        &self,
        level: DumpLevel,
        rules: Option<&Arc<Rules>>,
        form: &FormArgs,
        target: &mut Target,
    ) -> Result<Report, JobError> {
        let (classes, unknown) =
            self.classes(level.asks_use() || rules.is_some_and(|rules| rules.ask_pages()))?;
        let mut selection = Selection::of_level(level, classes);
        if let Some(rules) = rules {
            selection = selection.with_rules(rules.clone());
        }
        if form.format() == Format::Elf {
            selection = selection.without_zeros(self.dump.memory.clone());
        }
        let mut report = self.write(&selection, form, target, level)?;
        report.unknown_pages = unknown();
        if let Some(rules) = rules {
            report.rules = rules.found().to_vec();
            report.ruled = Some(selection.ruled());
        }
        Ok(report)
    }

    /// What frames are used for if that is asked, and how many of those asked for nobody could tell.
    fn classes(&self, asks: bool) -> Result<(Option<Arc<Classes>>, impl Fn() -> u64 + use<>), JobError> {
        let classes = match &self.kernel {
            Some(kernel) if asks => Some(Arc::new(Classes::find(kernel).map_err(JobError::Classes)?)),
            _ => None,
        };
        let asked = classes.clone();
        Ok((classes, move || asked.as_ref().map_or(0, |classes| classes.unknown())))
    }

    fn write(
        &self,
        keep: &dyn Keep,
        form: &FormArgs,
        target: &mut Target,
        level: DumpLevel,
    ) -> Result<Report, JobError> {
        let start = Instant::now();
        let progress = |done, all| self.step("writing", done, all);
        let control = Control { progress: &progress, ..self.control(form) };
        let first = self.first(form.format(), target);
        let source = self.source(form)?;
        let plan = Plan::new(&*source.memory, keep, &control)?.first(first);
        let output = self.output(form, level);
        let mut report = self.report(level);
        let written = self
            .sealing(form, &output, &source.notes)
            .write(target, form.limit, |sink| output.write(&plan, &source.notes, None, sink, &control))?;
        self.bar.hide();
        let name = target.name();
        report.add(name.clone(), &written.map_err(|source| JobError::Incomplete { name, source })?);
        report.seconds = start.elapsed().as_secs_f64();
        Ok(report)
    }

    /// `kdive dump verify`.
    pub(super) fn verify(&self, json: bool) -> Result<Status, JobError> {
        let progress = |done, all| self.step("checking", done, all);
        let control = Control { progress: &progress, ..self.plain() };
        let hints = Hints { identities: Arc::clone(&self.identities), as_stored: true, ..Hints::default() };
        let mut found = verify_files(&self.dump, &hints, &control)??;
        // Pages whose bytes are not what was written are damaged, whatever they decode to.
        let clean: Vec<_> = self.dump.files.iter().map(|file| without_damage(file, &found.files)).collect();
        let again = if found.files.is_empty() {
            None
        } else {
            Some(kdive_dump::open(Input { files: clean }, &hints))
        };
        match again.unwrap_or_else(|| Ok(self.dump.clone())) {
            Ok(dump) => found.pages(verify(&dump, &control)?),
            Err(why) => found.unopened = Some(why.to_string()),
        }
        self.bar.hide();
        show(&Verdict(&found), &found, json)?;
        Ok(if found.is_good() { Status::Done } else { Status::CommandFailed })
    }

    /// `kdive dump usage`.
    pub(super) fn usage(&self, args: &UsageArgs, json: bool) -> Result<Status, JobError> {
        let usage = self.count(args.zero)?;
        show(&UsageTable(&usage), &usage, json)?;
        Ok(Status::Done)
    }

    /// Counts pages by use.
    pub(super) fn count(&self, zeros: bool) -> Result<Usage, JobError> {
        let kernel = self.kernel.as_ref().ok_or(JobError::Classes(Lacks::Types))?;
        let classes = Classes::find(kernel).map_err(JobError::Classes)?;
        Ok(Usage::count(&*self.dump.memory, &classes, zeros, &self.plain())?)
    }

    /// The kernel in the dump.
    pub(super) fn kernel(&self) -> Option<&Arc<Kernel>> {
        self.kernel.as_ref()
    }

    fn target(&self, args: &OutputArgs) -> Result<Target, JobError> {
        if args.dry_run {
            return Ok(Target::Nowhere);
        }
        self.file(last(&args.files), args.form.overwrite)
    }

    /// A file to write.
    pub(super) fn file(&self, path: &Path, overwrite: bool) -> Result<Target, JobError> {
        Ok(Target::open(path, overwrite, &self.inputs)?)
    }

    fn output(&self, form: &FormArgs, level: DumpLevel) -> Output {
        let header = Header::of_dump(&self.dump.facts, &self.dump.notes).with_level(level);
        let header = match &self.kernel {
            Some(kernel) => header.with_kernel(kernel),
            None => header,
        };
        Output { format: form.format(), header }
    }

    /// What goes around the dump, and behind it.
    fn sealing(&self, form: &FormArgs, output: &Output, notes: &Notes) -> Sealing {
        let manifest = Manifest {
            tool: format!("kdive {}", env!("CARGO_PKG_VERSION")),
            written: now(),
            redacted: Redacted::of(notes).kinds.into_iter().map(|kind| kind.name).collect(),
            ..output.header.manifest(notes)
        };
        let recipients = form.encrypt.iter().flat_map(|keys| keys.0.iter().cloned()).collect();
        Sealing { recipients, manifest: (!form.no_manifest).then_some(manifest) }
    }

    fn plain(&self) -> Control<'_> {
        Control::new(&self.cancel)
    }

    fn control(&self, form: &FormArgs) -> Control<'_> {
        Control { memory: usize::try_from(form.memory).unwrap_or(usize::MAX), ..self.plain() }
    }

    fn step(&self, what: &str, done: u64, all: u64) {
        self.bar.step(what, done, Some(all));
    }

    fn report(&self, level: DumpLevel) -> Report {
        let source_pages = self.dump.memory.totals(&self.cancel).map_or(0, |totals| totals.present / 4096);
        Report { level: level.number(), source_pages, ..Report::default() }
    }

    fn told(&self, report: &Report, target: &Target, json: bool) -> Result<Status, JobError> {
        // Standard output may be the dump.
        if json && !matches!(target, Target::Stream(_)) {
            show(&report, report, true)?;
        } else {
            note(report);
        }
        Ok(Status::Done)
    }
}

impl Report {
    fn add(&mut self, name: String, written: &Written) {
        self.files.push(name);
        self.pages = self.pages.saturating_add(written.pages);
        self.zero_pages = self.zero_pages.saturating_add(written.zero);
        self.unreadable_pages = self.unreadable_pages.saturating_add(written.unreadable);
        self.bytes = self.bytes.saturating_add(written.bytes);
    }
}

/// Runs work in a pool of so many threads.
pub(super) fn in_pool<R: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> R + Send,
) -> Result<R, rayon::ThreadPoolBuildError> {
    match threads {
        Some(count) => Ok(rayon::ThreadPoolBuilder::new().num_threads(count.max(1)).build()?.install(work)),
        None => Ok(work()),
    }
}

fn last(files: &[PathBuf]) -> &Path {
    files.last().map_or(Path::new("-"), PathBuf::as_path)
}
