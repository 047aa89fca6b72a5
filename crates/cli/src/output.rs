//! Where the records of one command go: the screen, a pager, a file, a command line of the shell.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, LineWriter, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use kdive_commands::line;

use crate::args::OpenArgs;
use crate::open;
use crate::pager::Pager;
use crate::progress::Bar;

/// Files that commands write, in the working directory, and those that they read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Files with the secret keys that open other dumps.
    pub(crate) identities: Vec<PathBuf>,
}

impl kdive_commands::Files for Disk {
    fn create(&self, path: &str) -> io::Result<Box<dyn Write>> {
        Ok(Box::new(File::create(path)?))
    }

    fn texts(&self, directory: &str) -> io::Result<Vec<(String, String)>> {
        let mut texts = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml")
                && let Some(name) = path.file_stem()
            {
                texts.push((name.to_string_lossy().into_owned(), fs::read_to_string(&path)?));
            }
        }
        texts.sort();
        Ok(texts)
    }

    fn kernel(&self, path: &str) -> io::Result<Arc<kdive_target::Kernel>> {
        let identities = self.identities.clone();
        let args = OpenArgs { files: vec![path.into()], identities, ..OpenArgs::default() };
        Ok(open::open(&args).map_err(io::Error::other)?.kernel)
    }

    fn known_issues(&self) -> Option<String> {
        let directory = crate::user_directory("XDG_CONFIG_HOME", ".config")?.join("kdive/known-issues");
        directory.is_dir().then(|| directory.to_string_lossy().into_owned())
    }
}

/// An open destination.
pub(crate) enum Output {
    /// Standard output, as it comes.
    Terminal(LineWriter<io::Stdout>, Arc<Bar>),
    /// Standard output into something that is no terminal.
    Stream(BufWriter<io::Stdout>),
    /// A pager.
    Pager(BufWriter<Pager>, Arc<Bar>),
    /// A file.
    File(BufWriter<File>),
    /// The shell.
    Pipe(Child, BufWriter<ChildStdin>),
}

impl Output {
    /// Opens the destination that a line names. `paged` says whether the screen may be a pager; `bar` is taken off the
    /// screen before anything else goes there.
    pub(crate) fn open(to: &line::Output, paged: bool, bar: &Arc<Bar>) -> io::Result<Self> {
        match to {
            line::Output::Host if !io::stdout().is_terminal() => {
                Ok(Self::Stream(BufWriter::new(io::stdout())))
            }
            line::Output::Host => Ok(match paged.then(Pager::for_terminal).flatten() {
                Some(pager) => Self::Pager(BufWriter::new(pager), bar.clone()),
                None => Self::Terminal(LineWriter::new(io::stdout()), bar.clone()),
            }),
            line::Output::File { path, append } => {
                let mut how = OpenOptions::new();
                let how = if *append { how.append(true) } else { how.write(true).truncate(true) };
                Ok(Self::File(BufWriter::new(how.create(true).open(path)?)))
            }
            line::Output::Pipe(command) => {
                // What is behind us in standard output must not overtake what the shell writes.
                io::stdout().flush()?;
                let mut child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn()?;
                let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
                Ok(Self::Pipe(child, BufWriter::new(stdin)))
            }
        }
    }

    /// Whether a reader that goes away takes standard output itself with it.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Terminal(..) | Self::Stream(_))
    }

    /// Closes it, and waits for whoever reads it.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Terminal(mut out, _) => out.flush(),
            Self::Stream(mut out) => out.flush(),
            Self::Pager(out, bar) => {
                bar.hide();
                out.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
            }
            Self::File(mut out) => out.flush(),
            Self::Pipe(mut child, out) => {
                let written = out.into_inner().map_err(io::IntoInnerError::into_error).map(drop);
                child.wait()?;
                written
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(out, bar) => {
                bar.hide();
                out.write(bytes)
            }
            Self::Stream(out) => out.write(bytes),
            Self::Pager(out, _) => out.write(bytes),
            Self::File(out) => out.write(bytes),
            Self::Pipe(_, out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Terminal(out, _) => out.flush(),
            Self::Stream(out) => out.flush(),
            Self::Pager(out, _) => out.flush(),
            Self::File(out) => out.flush(),
            Self::Pipe(_, out) => out.flush(),
        }
    }
}
