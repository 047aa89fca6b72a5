//! Directories as capture tools leave them under `/var/crash`.

use std::fs;
use std::path::{Path, PathBuf};

use kdive_dump::probe;

use crate::error::FetchError;
use crate::file::FileSource;

/// A directory of dumps is listed no further than this.
const MAX_ENTRIES: usize = 4096;

/// Names of a finished dump (kdump-utils), then of one that was cut short, then of one not yet taken out of its stream.
const DUMP_NAMES: [&str; 3] = ["vmcore", "vmcore-incomplete", "vmcore.flat"];
/// The log that kdump saves even where saving the memory fails.
const LOG_NAMES: [&str; 2] = ["vmcore-dmesg.txt", "vmcore-dmesg-incomplete.txt"];

/// The files of the dump in a directory.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>, FetchError> {
    let named = DUMP_NAMES.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    if let Some(path) = named {
        return Ok(vec![path]);
    }
    let entries = entries(directory)?;
    let mut dumps: Vec<PathBuf> = entries.iter().filter(|path| is_dump(path)).cloned().collect();
    dumps.sort();
    match dumps.as_slice() {
        [] => Err(nothing(directory, &entries)),
        // Parts of a split set belong together, which opening checks.
        _ if dumps.len() == 1 || are_parts(&dumps) => Ok(dumps),
        _ => Err(FetchError::EmptyCapture {
            name: directory.display().to_string(),
            found: Some(format!(
                "it has {} dumps, give one of them, such as {}",
                dumps.len(),
                show(dumps.last())
            )),
        }),
    }
}

/// The log in a directory that has no dump.
pub(crate) fn log(directory: &Path) -> Option<PathBuf> {
    if files(directory).is_ok() {
        return None;
    }
    LOG_NAMES.iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, FetchError> {
    let listing = fs::read_dir(directory).map_err(|error| FetchError::io(directory, error))?;
    Ok(listing.take(MAX_ENTRIES).flatten().map(|entry| entry.path()).collect())
}

fn is_dump(path: &Path) -> bool {
    path.is_file() && FileSource::open(path).is_ok_and(|file| probe(&file).is_dump())
}

/// `vmcore1`, `vmcore2`... or `dumpfile_0`, `dumpfile_1`...: one name with numbers.
fn are_parts(dumps: &[PathBuf]) -> bool {
    let stem = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // A long number is a time (dump.202611201214), not the number of a part.
        (1..=3).contains(&name.len().saturating_sub(stem.len())).then(|| stem.to_owned())
    };
    let first = dumps.first().and_then(stem);
    first.is_some() && dumps.iter().all(|path| stem(path) == first)
}

fn nothing(directory: &Path, entries: &[PathBuf]) -> FetchError {
    let log = LOG_NAMES.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let mut below: Vec<&PathBuf> = entries
        .iter()
        .filter(|path| path.is_dir() && DUMP_NAMES.iter().any(|name| path.join(name).is_file()))
        .collect();
    // The names hold the time of the crash: the last is the latest.
    below.sort();
    let found = match (log, below.last()) {
        (Some(log), _) => Some(format!("only the log was saved, read {}", log.display())),
        (None, Some(path)) => Some(format!("give one of the captures in it, such as {}", path.display())),
        (None, None) => Some("give the vmcore, or the directory that kdump made for it".into()),
    };
    FetchError::EmptyCapture { name: directory.display().to_string(), found }
}

fn show(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finished_dump_goes_before_the_unfinished() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("vmcore-incomplete"), b"x").unwrap();
        assert_eq!(files(directory.path()).unwrap(), [at("vmcore-incomplete")]);
        fs::write(at("vmcore"), b"x").unwrap();
        assert_eq!(files(directory.path()).unwrap(), [at("vmcore")]);
    }

    #[test]
    fn a_directory_without_a_dump_says_where_to_look() {
        let directory = tempfile::tempdir().unwrap();
        let error = || files(directory.path()).unwrap_err().to_string();
        assert!(error().ends_with("give the vmcore, or the directory that kdump made for it"));
        for name in ["127.0.0.1-2026-11-20-12:00:00", "127.0.0.1-2026-11-21-12:00:00"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::write(directory.path().join(name).join("vmcore"), b"x").unwrap();
        }
        assert!(error().ends_with("127.0.0.1-2026-11-21-12:00:00"), "{}", error());
        fs::write(directory.path().join("vmcore-dmesg.txt"), b"x").unwrap();
        assert!(error().contains("only the log was saved"), "{}", error());
    }

    #[test]
    fn numbered_files_are_parts() {
        let paths = |names: [&str; 2]| names.map(PathBuf::from);
        assert!(are_parts(&paths(["vmcore1", "vmcore2"])));
        assert!(!are_parts(&paths(["dump.202611201214", "dump.202611211214"])));
        assert!(!are_parts(&paths(["a", "b"])));
    }
}
