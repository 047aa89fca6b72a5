//! A pager for what is longer than the screen.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Holds output back until it is known whether it fits on the screen: then it is written, else a pager is started.
pub(crate) struct Pager {
    rows: usize,
    columns: usize,
    held: Vec<u8>,
    /// Rows that the held output takes, and columns of its last line.
    used: (usize, usize),
    shows: Shows,
}

enum Shows {
    /// Nothing yet.
    Held,
    /// The pager.
    Pager(Child, ChildStdin),
    /// The terminal itself: there is no pager.
    Terminal,
}

impl Pager {
    /// A pager for the terminal's size now; `None` where there is no terminal.
    pub(crate) fn for_terminal() -> Option<Self> {
        let (columns, rows) = terminal_size::terminal_size()?;
        Some(Self::new(rows.0.into(), columns.0.into()))
    }

    fn new(rows: usize, columns: usize) -> Self {
        Self {
            rows: rows.max(2),
            columns: columns.max(1),
            held: Vec::new(),
            used: (0, 0),
            shows: Shows::Held,
        }
    }

    /// Whether the held output still leaves a row for the prompt.
    fn fits(&mut self, bytes: &[u8]) -> bool {
        let (rows, column) = &mut self.used;
        for character in String::from_utf8_lossy(bytes).chars() {
            if character == '\n' {
                *rows = rows.saturating_add(1);
                *column = 0;
                continue;
            }
            if *column >= self.columns {
                *rows = rows.saturating_add(1);
                *column = 0;
            }
            let width = if character == '\t' { 8_usize.saturating_sub(*column % 8) } else { 1 };
            *column = column.saturating_add(width);
        }
        *rows < self.rows
    }

    fn start(&mut self) -> io::Result<()> {
        let Ok((child, mut stdin)) = spawn() else {
            self.shows = Shows::Terminal;
            return io::stdout().write_all(&std::mem::take(&mut self.held));
        };
        let held = std::mem::take(&mut self.held);
        let written = stdin.write_all(&held);
        self.shows = Shows::Pager(child, stdin);
        written
    }

    /// Shows what is held, or waits until the user leaves the pager.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.shows {
            Shows::Held => {
                let mut stdout = io::stdout();
                stdout.write_all(&self.held)?;
                stdout.flush()
            }
            Shows::Pager(mut child, stdin) => {
                drop(stdin);
                child.wait().map(drop)
            }
            Shows::Terminal => io::stdout().flush(),
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.shows {
            Shows::Pager(_, stdin) => return stdin.write(bytes),
            Shows::Terminal => return io::stdout().write(bytes),
            Shows::Held => self.held.extend(bytes),
        }
        if !self.fits(bytes) {
            self.start()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.shows {
            Shows::Pager(_, stdin) => stdin.flush(),
            Shows::Terminal => io::stdout().flush(),
            // Someone wants to see it now, before a pause: it is not known whether more comes.
            Shows::Held => {
                self.shows = Shows::Terminal;
                let mut stdout = io::stdout();
                stdout.write_all(&std::mem::take(&mut self.held))?;
                stdout.flush()
            }
        }
    }
}

/// `$PAGER`, else `less`, which leaves at once what fits and keeps colours and the screen.
fn spawn() -> io::Result<(Child, ChildStdin)> {
    let mut command = match std::env::var("PAGER") {
        Ok(pager) if !pager.trim().is_empty() => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(pager);
            command
        }
        _ => Command::new("less"),
    };
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "RFX");
    }
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, stdin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_a_terminal_shows_them() {
        let mut pager = Pager::new(4, 10);
        assert!(pager.fits(b"one\ntwo\n"));
        assert_eq!(pager.used, (2, 0));
        // Twelve characters take two rows, and their line feed ends the second.
        assert!(!pager.fits("äbcdefghijkl\n".as_bytes()));
        assert_eq!(pager.used, (4, 0));
        let mut tabs = Pager::new(4, 16);
        tabs.fits(b"a\tb");
        assert_eq!(tabs.used, (0, 9));
    }
}
