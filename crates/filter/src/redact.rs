//! Finds what should not leave the machine: keys, command lines, packets, and what matches a pattern.
//!
//! Where things are, the models of `kdive-linux` say, never a table of versions. What cannot be found is said: a dump that
//! was redacted in part must not pass for one that was redacted.

use std::fmt;
use std::str::FromStr;

use kdive_base::{Cancel, PAGE_SIZE, PhysAddr, VirtAddr};
use kdive_dump::{PhysicalMemory, Redacted, RedactedKind, RunState};
use kdive_linux::keys;
use kdive_linux::mm::MmLoader;
use kdive_linux::net::skbuff;
use kdive_linux::tasks::Tasks;
use kdive_target::{AddressSpace, Kernel, Lacks};
use rayon::prelude::*;
use regex::bytes::Regex;

/// What to overwrite.
#[derive(Clone, Debug)]
pub enum Redact {
    /// What keys hold, and copies of it wherever they are.
    Keys,
    /// Command lines and environments of processes.
    Args,
    /// Packets in socket buffers.
    Net,
    /// What matches a regular expression, in any page.
    Pattern(Regex),
}

/// It is no kind of data that can be redacted.
#[derive(Debug, thiserror::Error)]
pub enum NotRedactable {
    /// An unknown word.
    #[error("{0}: expected keys, args, net, text:WORDS or pattern:REGEX")]
    Unknown(String),
    /// Not a regular expression, or one that matches nothing at all, everywhere.
    #[error("{0}: {1}")]
    Pattern(String, String),
}

/// What was found, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Where it is.
    pub redacted: Redacted,
    /// What may be left, in words.
    pub lacking: Vec<String>,
}

/// Bytes that are searched at a time.
const PIECE: u64 = 1 << 20;
/// A match that goes on into the next piece is found if it is no longer.
const OVERLAP: u64 = 4096;
/// Shorter keys are not looked for elsewhere: they would be found everywhere.
const SHORTEST_COPY: usize = 8;
/// Bytes of one process's command line and environment: the kernel's own limit is 6 MiB of each.
const MOST_ARGS: u64 = 16 << 20;

impl FromStr for Redact {
    type Err = NotRedactable;

    fn from_str(text: &str) -> Result<Self, NotRedactable> {
        let pattern = |regex: &str| {
            let regex = Regex::new(&format!("(?-u){regex}")).map_err(|error| error.to_string())?;
            if regex.is_match(b"") { Err("it matches where there is nothing".to_owned()) } else { Ok(regex) }
        };
        let wrong = |why| NotRedactable::Pattern(text.to_owned(), why);
        match (text, text.split_once(':')) {
            ("keys", _) => Ok(Self::Keys),
            ("args", _) => Ok(Self::Args),
            ("net", _) => Ok(Self::Net),
            (_, Some(("text", words))) => {
                pattern(&literal(words.as_bytes())).map(Self::Pattern).map_err(wrong)
            }
            (_, Some(("pattern", regex))) => pattern(regex).map(Self::Pattern).map_err(wrong),
            _ => Err(NotRedactable::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Redact {
    /// The pattern itself is not told: it may be the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys => "keys",
            Self::Args => "args",
            Self::Net => "net",
            Self::Pattern(_) => "pattern",
        })
    }
}

/// A regular expression for these bytes and no others.
fn literal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

impl Found {
    /// Looks for all that is to be redacted. Without a kernel only patterns can be.
    ///
    /// # Errors
    /// When it is cancelled.
    pub fn find(
        what: &[Redact],
        kernel: Option<&Kernel>,
        memory: &dyn PhysicalMemory,
        cancel: &Cancel,
    ) -> Result<Self, kdive_base::Cancelled> {
        let mut found = Self::default();
        for one in what {
            cancel.check()?;
            let ranges = match (one, kernel) {
                (Redact::Pattern(regex), _) => search(regex, memory, cancel)?,
                (_, None) => {
                    found.lacking.push(format!("{one}: there is no kernel in the dump"));
                    continue;
                }
                (Redact::Keys, Some(kernel)) => found.keys(kernel, memory, cancel)?,
                (Redact::Args, Some(kernel)) => found.args(kernel, cancel)?,
                (Redact::Net, Some(kernel)) => found.net(kernel),
            };
            found.redacted.kinds.push(RedactedKind::new(one.to_string(), ranges));
        }
        Ok(found)
    }

    fn lacks(&mut self, what: &str, why: &Lacks) {
        self.lacking.push(format!("{what}: {why}"));
    }

    fn keys(
        &mut self,
        kernel: &Kernel,
        memory: &dyn PhysicalMemory,
        cancel: &Cancel,
    ) -> Result<Vec<(u64, u64)>, kdive_base::Cancelled> {
        let (all, broken) = match keys::all(kernel) {
            Ok(found) => found,
            Err(lacks) => {
                self.lacks("keys", &lacks);
                return Ok(Vec::new());
            }
        };
        broken.iter().for_each(|lacks| self.lacks("some keys", lacks));
        let (mut ranges, mut copies) = (Vec::new(), Vec::new());
        for key in &all {
            cancel.check()?;
            let secrets = match key.secrets(kernel) {
                Ok(secrets) => secrets,
                Err(lacks) => {
                    self.lacks(&format!("key {}", key.at), &lacks);
                    continue;
                }
            };
            for secret in secrets {
                physical(kernel.space(), secret.at, secret.bytes, &mut ranges);
                let mut bytes = vec![0; usize::try_from(secret.bytes).unwrap_or(0).min(OVERLAP as usize)];
                let (read, _) = kdive_base::VirtualMemory::read(kernel.space(), secret.at, &mut bytes);
                bytes.truncate(read);
                let varied = bytes.iter().any(|byte| Some(byte) != bytes.first());
                if secret.exact && bytes.len() >= SHORTEST_COPY && varied {
                    copies.push(literal(&bytes));
                }
            }
        }
        if copies.is_empty() {
            return Ok(ranges);
        }
        // The program that made the key had it too, and so had the pipe or the file that it came from.
        match Regex::new(&format!("(?-u){}", copies.join("|"))) {
            Ok(regex) => ranges.extend(search(&regex, memory, cancel)?),
            Err(_) => self.lacking.push("copies of keys: there are too many keys to look for".into()),
        }
        Ok(ranges)
    }

    fn args(&mut self, kernel: &Kernel, cancel: &Cancel) -> Result<Vec<(u64, u64)>, kdive_base::Cancelled> {
        let tasks = Tasks::find(kernel);
        tasks.incomplete.first().iter().for_each(|lacks| self.lacks("some tasks", lacks));
        let loader = MmLoader::new(kernel);
        let mut seen = std::collections::BTreeSet::new();
        let mut ranges = Vec::new();
        for task in tasks.all() {
            cancel.check()?;
            let at = match &task.mm {
                Ok(mm) if mm.is_null() || !seen.insert(mm.0) => continue,
                Ok(mm) => *mm,
                Err(lacks) => {
                    self.lacks(&format!("task {}", task.at), lacks);
                    continue;
                }
            };
            let mm = loader.load(at);
            let mut one = || {
                let space = loader.space(&mm)?;
                for (start, end) in [(&mm.arg_start, &mm.arg_end), (&mm.env_start, &mm.env_end)] {
                    let (start, end) = (start.clone()?, end.clone()?);
                    let bytes = end.0.saturating_sub(start.0).min(MOST_ARGS);
                    physical(&space, start, bytes, &mut ranges);
                }
                Ok(())
            };
            if let Err(lacks) = one() {
                self.lacks(&format!("command line of task {}", task.at), &lacks);
            }
        }
        Ok(ranges)
    }

    fn net(&mut self, kernel: &Kernel) -> Vec<(u64, u64)> {
        let buffers = match skbuff::buffers(kernel) {
            Ok(buffers) => buffers,
            Err(lacks) => {
                self.lacks("packets", &lacks);
                return Vec::new();
            }
        };
        buffers.incomplete.iter().for_each(|lacks| self.lacks("some packets", lacks));
        let mut ranges = Vec::new();
        for (at, bytes) in buffers.linear {
            physical(kernel.space(), at, bytes, &mut ranges);
        }
        ranges.extend(buffers.fragments.iter().map(|(at, bytes)| (at.0, at.0.saturating_add(*bytes))));
        ranges
    }
}

/// The physical ranges of virtual ones. What is not in memory is not in the dump either.
fn physical(space: &AddressSpace, at: VirtAddr, bytes: u64, into: &mut Vec<(u64, u64)>) {
    let end = at.0.saturating_add(bytes);
    let mut next = at.0;
    while next < end {
        let until = (next - next % PAGE_SIZE).saturating_add(PAGE_SIZE).min(end);
        if let Ok(place) = space.translate(VirtAddr(next)) {
            into.push((place.phys.0, place.phys.0.saturating_add(until - next)));
        }
        next = until;
    }
}

/// Where a pattern matches in memory that follows one another.
fn search(
    regex: &Regex,
    memory: &dyn PhysicalMemory,
    cancel: &Cancel,
) -> Result<Vec<(u64, u64)>, kdive_base::Cancelled> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(run) = memory.next_run(PhysAddr(at)) {
        let end = run.start.0.saturating_add(run.bytes);
        if run.state == RunState::Present {
            let starts = (run.start.0..end).step_by(PIECE as usize);
            pieces.extend(starts.map(|start| (start, start.saturating_add(PIECE + OVERLAP).min(end))));
        }
        if end <= at {
            break;
        }
        at = end;
    }
    let found: Vec<Vec<(u64, u64)>> = pieces
        .into_par_iter()
        .map(
            |(start, end)| {
                if cancel.is_cancelled() { Vec::new() } else { matches(regex, memory, start, end) }
            },
        )
        .collect();
    cancel.check()?;
    Ok(found.concat())
}

fn matches(regex: &Regex, memory: &dyn PhysicalMemory, start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut buffer = vec![0; (end - start) as usize];
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        let into = buffer.get_mut(..(end - at) as usize).unwrap_or_default();
        let (read, _) = memory.read(PhysAddr(at), into);
        let bytes = into.get(..read).unwrap_or_default();
        let place = |offset: usize| at.saturating_add(offset as u64);
        found.extend(regex.find_iter(bytes).map(|hit| (place(hit.start()), place(hit.end()))));
        // A page that cannot be read is passed over.
        let stopped = at.saturating_add(read as u64);
        at = (stopped - stopped % PAGE_SIZE).saturating_add(PAGE_SIZE);
    }
    found
}

#[cfg(test)]
mod tests {
    use kdive_base::{Missing, Why};
    use kdive_dump::Run;

    use super::*;

    /// Memory with a hole of one page.
    struct Holed(Vec<u8>, u64);

    impl PhysicalMemory for Holed {
        fn read(&self, at: PhysAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let hole = self.1..self.1 + PAGE_SIZE;
            let stop = if at.0 < hole.start { hole.start } else { self.0.len() as u64 };
            if hole.contains(&at.0) {
                return (0, Some(Missing::new(at, Why::NotWritten)));
            }
            let count = into.len().min((stop - at.0) as usize);
            into[..count].copy_from_slice(&self.0[at.0 as usize..at.0 as usize + count]);
            (count, (count < into.len()).then(|| Missing::new(at, Why::NotWritten)))
        }

        fn next_run(&self, from: PhysAddr) -> Option<Run> {
            let bytes = (self.0.len() as u64).checked_sub(from.0).filter(|&bytes| bytes > 0)?;
            Some(Run { start: from, bytes, state: RunState::Present })
        }
    }

    #[test]
    fn a_pattern_is_found_across_pages_and_pieces_and_behind_holes() {
        let mut bytes = vec![0; 3 << 20];
        let places = [10, 4090, (1 << 20) - 3, (2 << 20) - 1, (3 << 20) - 6];
        places.iter().for_each(|&at| bytes[at..at + 6].copy_from_slice(b"sec\xffet"));
        let regex = match "pattern:sec\\xFFet".parse().unwrap() {
            Redact::Pattern(regex) => regex,
            other => panic!("{other}"),
        };
        let memory = Holed(bytes, 5 << 12);
        let mut found = search(&regex, &memory, &Cancel::default()).unwrap();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, places.map(|at| (at as u64, at as u64 + 6)));
    }

    #[test]
    fn what_is_redacted_is_said_in_words() {
        for known in ["keys", "args", "net"] {
            assert_eq!(known.parse::<Redact>().unwrap().to_string(), known);
        }
        let secret: Redact = "text:a.b".parse().unwrap();
        assert_eq!(secret.to_string(), "pattern", "a secret does not go into the dump's own notes");
        assert!(
            matches!(&secret, Redact::Pattern(regex) if regex.is_match(b"a.b") && !regex.is_match(b"axb"))
        );
        for wrong in ["pattern:(", "pattern:x*", "text:", "keyring"] {
            assert!(wrong.parse::<Redact>().is_err(), "{wrong}");
        }
    }
}
