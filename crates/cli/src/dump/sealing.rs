//! What goes around and behind the dumps that are written: encryption, hashes, a manifest.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kdive_base::ReadAt;
use kdive_dump::Manifest;
use kdive_dump::age::Recipient;
use kdive_dump::write::{EncryptedSink, Sink, WriteError, seal_of};

use super::target::Target;

/// Public keys, as `--encrypt` takes them: one, or a file of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recipients(pub(crate) Vec<Recipient>);

/// Reads what was given with `--encrypt`: a public key, or the name of a file with one on each line.
pub(super) fn recipients(text: &str) -> Result<Recipients, String> {
    let is_key = ["age1", "AGE-", "ssh-"].iter().any(|prefix| text.starts_with(prefix));
    if is_key && !Path::new(text).exists() {
        return Recipient::parse(text).map(|key| Recipients(vec![key])).map_err(|error| error.to_string());
    }
    let keys = std::fs::read_to_string(text).map_err(|error| format!("{text}: {error}"))?;
    Recipient::parse_file(&keys).map(Recipients).map_err(|error| format!("{text}: {error}"))
}

/// How a dump is sealed.
pub(super) struct Sealing {
    /// Whom it is encrypted for; nobody is everybody.
    pub(super) recipients: Vec<Recipient>,
    /// What is left behind it to check it by.
    pub(super) manifest: Option<Manifest>,
}

impl Sealing {
    /// Hands a sink to `write` that seals what goes through it. What is incomplete gets no seal.
    pub(super) fn write<W>(
        &self,
        target: &mut Target,
        limit: Option<u64>,
        write: impl FnOnce(&mut dyn Sink) -> Result<W, WriteError>,
    ) -> io::Result<Result<W, WriteError>> {
        if self.recipients.is_empty() {
            let done = target.with_sink(limit, write)?;
            return Ok(match (done, target, &self.manifest) {
                (Ok(written), Target::File { file, .. }, Some(manifest)) => {
                    append(file, manifest, limit).map(|()| written).map_err(WriteError::Io)
                }
                (done, ..) => done,
            });
        }
        let file: &mut File = match target {
            Target::File { file, .. } => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                file
            }
            Target::Stream(file) => file,
            Target::Nowhere => return target.with_sink(limit, write),
        };
        let output =
            Limited { file: BufWriter::with_capacity(1 << 20, file), left: limit.unwrap_or(u64::MAX) };
        let manifest = self.manifest.clone().unwrap_or_default();
        Ok(write(&mut EncryptedSink::new(output, &self.recipients, manifest, None)?))
    }
}

/// Seals a file that is complete. A device, or what cannot be read, gets no seal.
fn append(file: &mut File, manifest: &Manifest, limit: Option<u64>) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    let written = Written { file, bytes: metadata.len() };
    let seal = seal_of(&written, manifest, None)?;
    if limit.is_some_and(|limit| metadata.len().saturating_add(seal.len() as u64) > limit) {
        return Ok(());
    }
    file.seek(SeekFrom::End(0))?;
    file.write_all(&seal)
}

/// The file that was written.
struct Written<'a> {
    file: &'a File,
    bytes: u64,
}

impl ReadAt for Written<'_> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self.file, into, offset)
    }

    fn len(&self) -> u64 {
        self.bytes
    }
}

/// Takes so many bytes and is full then, as a disk.
struct Limited<'a> {
    file: BufWriter<&'a mut File>,
    left: u64,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::StorageFull)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Now, in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
