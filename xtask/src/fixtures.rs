//! `cargo xtask fixtures trim`: a small copy of a dump that holds what kdive's commands read of it.
//!
//! The commands of `tests/commands.txt` run once over the dump while it is noted which pages they read. The copy
//! holds those pages, and knows of the others that they were filtered out.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kdive_base::{Cancel, Pfn};
use kdive_commands::{CommandError, Cx, TextSink};
use kdive_dump::write::{
    Compression, Control, FlattenedSink, FrameSet, Frames, KdumpOptions, PlainSink, Plan, Sink, write_elf,
    write_kdump,
};
use kdive_dump::{Hints, Input, Opened, Touched};
use kdive_target::{Hidden, Kernel, OpenOptions};
use rayon::prelude::*;

/// How a fixture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Zlib,
    Zstd,
    Flattened,
    Elf,
}

#[derive(clap::Args)]
pub(crate) struct FixturesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write the pages of a dump that the commands of tests/commands.txt read
    Trim {
        /// A dump of the lab's
        dump: PathBuf,
        /// The fixture to write
        out: PathBuf,
        /// Its format
        #[arg(long, value_enum, default_value = "zstd")]
        form: Form,
        /// Every page that the dump has
        #[arg(long)]
        all: bool,
        /// Also run each command without each of the names it asks for: minutes, for the fixture of the test that does so
        #[arg(long)]
        hidden: bool,
    },
}

pub(crate) fn main(args: FixturesArgs) -> anyhow::Result<()> {
    let Verb::Trim { dump, out, form, all, hidden } = args.verb;
    trim(&dump, &out, form, all, hidden)
}

fn trim(dump: &Path, out: &Path, form: Form, all: bool, hidden: bool) -> anyhow::Result<()> {
    let inputs = kdive_fetch::sort(&[PathBuf::from(dump)], None)?;
    let opened = kdive_dump::open(Input { files: inputs.dump }, &Hints::default())?;
    let touched = if all { None } else { Some(touched_pages(&opened, hidden)?) };
    let keep = |pfn: Pfn| {
        let gib =
            |touched: &Frames| touched.of_gib(pfn.0 / FrameSet::FRAMES).is_some_and(|gib| gib.contains(pfn));
        touched.as_ref().is_none_or(gib)
    };
    let written = write(&opened, out, form, &keep)?;
    println!("{}: {written} pages, {} bytes", out.display(), out.metadata()?.len());
    Ok(())
}

/// The line of `tests/commands.txt` behind which command lines read all of memory: no page would be left out for them.
const UNTRIMMED: &str = "# Not for trimming";

/// Runs every command line of `tests/commands.txt` and returns the pages they read; with `hidden`, also without each name
/// that a command asks for, since other ways to the same thing read other pages.
fn touched_pages(opened: &Opened, hidden: bool) -> anyhow::Result<Frames> {
    let touched = Arc::new(Touched::new(opened.memory.clone()));
    let watched = Opened { memory: touched.clone(), ..opened.clone() };
    let kernel = Kernel::open(watched, OpenOptions::default(), Arc::new(()))?;
    let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/commands.txt");
    let text = std::fs::read_to_string(commands)?;
    let trimming = text.split(UNTRIMMED).next().unwrap_or_default();
    let lines: Vec<&str> =
        trimming.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    lines.par_iter().for_each(|line| {
        let watching = kernel.hiding(Hidden::watching());
        if let Err(error) = run(&watching, line) {
            eprintln!("{line}: {error}");
        }
        if !hidden {
            return;
        }
        for name in watching.options().hidden.asked() {
            // What a kernel without the name cannot do is not the trimmer's affair.
            let _ = run(&kernel.hiding(Hidden::new([name])), line);
        }
    });
    Ok(touched.frames())
}

fn run(kernel: &Arc<Kernel>, line: &str) -> Result<(), CommandError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    kdive_commands::run(&mut Cx::new(kernel.clone()), &words, &mut TextSink::new(std::io::sink()))
}

fn write(
    opened: &Opened,
    out: &Path,
    form: Form,
    keep: &(impl Fn(Pfn) -> bool + Sync),
) -> anyhow::Result<u64> {
    let cancel = Cancel::default();
    let control = Control::new(&cancel);
    let file = BufWriter::new(File::create(out)?);
    let plan = Plan::new(opened.memory.as_ref(), keep, &control)?;
    let mut options = KdumpOptions { dump_level: 31, ..KdumpOptions::default() };
    options.uts = opened.facts.uts.clone().unwrap_or_default();
    options.compression = match form {
        Form::Zstd => Compression::Zstd(19),
        _ => Compression::Zlib(9),
    };
    let kdump = |sink: &mut dyn Sink| write_kdump(&plan, &opened.notes, &options, sink, &control);
    let written = match form {
        Form::Elf => write_elf(&plan, &opened.notes, &mut PlainSink::new(file), &control)?,
        Form::Flattened => kdump(&mut FlattenedSink::new(file)?)?,
        Form::Zlib | Form::Zstd => kdump(&mut PlainSink::new(file))?,
    };
    Ok(written.pages)
}
