//! `kdive dump encrypt` and `decrypt`: files as they are, whatever is in them.

use std::io::{self, BufReader, BufWriter, Write};

use kdive_base::{Cancel, Cancelled, ReadAt};
use kdive_dump::age::Encryptor;
use kdive_dump::write::PlainSink;
use kdive_fetch::{FetchError, FileSource};
use kdive_filter::{RearrangeError, rearrange};

use super::args::{DecryptArgs, EncryptArgs};
use super::target::{NoTarget, Target};
use crate::args::OpenArgs;
use crate::identity::{self, NoIdentity};
use crate::report::{Status, note};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Why a file was not encrypted or decrypted.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvelopeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Open(#[from] kdive_dump::OpenError),
    #[error(transparent)]
    Identity(#[from] NoIdentity),
    #[error(transparent)]
    Target(#[from] NoTarget),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("{name} is incomplete: {source}")]
    Write { name: String, source: io::Error },
    #[error("{name}: {source}")]
    Rearrange { name: String, source: RearrangeError },
    #[error(
        "{at:#x}: {source}\nhint: what comes before is in {name}; `kdive dump verify` says all that is damaged"
    )]
    Read { name: String, at: u64, source: io::Error },
    #[error("{0} is not encrypted")]
    Plain(String),
}

/// Encrypts a file as it is.
pub(super) fn encrypt(args: &EncryptArgs) -> Result<Status, EnvelopeError> {
    let input = FileSource::open(&args.input)?;
    let mut target = Target::open(&args.out, args.overwrite, std::slice::from_ref(&args.input))?;
    let name = target.name();
    let write = |source| EnvelopeError::Write { name: name.clone(), source };
    let recipients: Vec<_> = args.recipients.iter().flat_map(|keys| keys.0.iter().cloned()).collect();
    let Some(file) = target.writer() else { return Ok(Status::Done) };
    let mut sealed = Encryptor::new(BufWriter::with_capacity(PIECE, file), &recipients).map_err(write)?;
    copy(&input, &mut sealed, &name)?;
    sealed.finish().and_then(|mut out| out.flush()).map_err(write)?;
    note(&format_args!("{name}: encrypted for {} recipient(s)", recipients.len()));
    Ok(Status::Done)
}

/// Decrypts a file; a flattened dump becomes the file that it stands for.
pub(super) fn decrypt(args: &DecryptArgs, open: &OpenArgs) -> Result<Status, EnvelopeError> {
    let source = FileSource::open(&args.input)?;
    let input_name = args.input.display().to_string();
    let identities = identity::read(&open.identities)?;
    let Some(inside) = kdive_dump::decrypt(&input_name, std::sync::Arc::new(source), identities)? else {
        return Err(EnvelopeError::Plain(input_name));
    };
    let mut target = Target::open(&args.out, args.overwrite, std::slice::from_ref(&args.input))?;
    let name = target.name();
    let to_file = matches!(target, Target::File { .. });
    let Some(file) = target.writer() else { return Ok(Status::Done) };
    if to_file && inside.flattened {
        let mut input = BufReader::with_capacity(PIECE, Through { file: &*inside.data, at: 0 });
        let done = rearrange(&mut input, &mut PlainSink::new(file), &Cancel::default());
        done.map_err(|source| EnvelopeError::Rearrange { name: name.clone(), source })?;
    } else {
        let mut out = BufWriter::with_capacity(PIECE, file);
        copy(&*inside.data, &mut out, &name)?;
        out.flush().map_err(|source| EnvelopeError::Write { name: name.clone(), source })?;
    }
    inside.warning.iter().for_each(|warning| note(warning));
    let cut = inside.warning.is_some();
    note(&format_args!("{name}: decrypted{}", if cut { ", as far as it was there" } else { "" }));
    Ok(if cut { Status::CommandFailed } else { Status::Done })
}

fn copy(input: &dyn ReadAt, out: &mut dyn Write, name: &str) -> Result<(), EnvelopeError> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let read = input.read_full_at(at, &mut buffer).map_err(|source| EnvelopeError::Read {
            name: name.to_owned(),
            at,
            source,
        })?;
        if read == 0 {
            return Ok(());
        }
        out.write_all(buffer.get(..read).unwrap_or_default())
            .map_err(|source| EnvelopeError::Write { name: name.to_owned(), source })?;
        at = at.saturating_add(read as u64);
    }
}

/// A file read from its beginning.
struct Through<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl io::Read for Through<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(self.at, into)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}
