//! The payload of an age file: chunks of 64 KiB, sealed one by one.

use std::io::{self, Write};

use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Nonce, Tag};

use super::{FileKey, Header, Recipient, derive};

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 64 << 10;
/// Bytes of its tag.
const TAG: usize = 16;
/// Bytes of a chunk in the file.
pub(crate) const SEALED_CHUNK: usize = CHUNK + TAG;

/// Seals and opens the chunks of one file.
pub(crate) struct Chunks(ChaCha20Poly1305);

impl Chunks {
    /// Bytes before the first chunk.
    pub(crate) const NONCE: usize = 16;

    pub(crate) fn new(key: &FileKey, nonce: &[u8; Self::NONCE]) -> Self {
        Self(ChaCha20Poly1305::new(&derive(key, Some(nonce), b"payload").into()))
    }

    fn nonce(number: u64, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        let (counter, flag) = nonce.split_at_mut(11);
        if let Some(low) = counter.last_chunk_mut::<8>() {
            *low = number.to_be_bytes();
        }
        flag.fill(u8::from(last));
        nonce.into()
    }

    /// Seals a chunk: the tag goes behind it.
    fn seal(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> io::Result<()> {
        let sealed =
            self.0.encrypt_inout_detached(&Self::nonce(number, last), b"", chunk.as_mut_slice().into());
        let tag = sealed.map_err(|_| io::Error::other("a chunk cannot be sealed"))?;
        chunk.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens a chunk in place; `None` if it is not what was sealed.
    pub(crate) fn open(&self, number: u64, last: bool, chunk: &mut Vec<u8>) -> Option<()> {
        let text = chunk.len().checked_sub(TAG)?;
        let tag = Tag::try_from(chunk.get(text..)?).ok()?;
        chunk.truncate(text);
        let opened =
            self.0.decrypt_inout_detached(&Self::nonce(number, last), b"", chunk.as_mut_slice().into(), &tag);
        opened.ok()
    }
}

/// Encrypts what is written to it, in one pass. What was not [finished](Self::finish) is a file that was cut, and says so.
pub struct Encryptor<W> {
    output: W,
    chunks: Chunks,
    next: u64,
    /// The chunk that is being filled: it is sealed when it is known whether it is the last.
    chunk: Vec<u8>,
}

impl<W: Write> Encryptor<W> {
    /// Writes the header for `recipients`, at least one.
    ///
    /// # Errors
    /// When the output fails, the system gives no randomness, or there is no recipient that one can encrypt to.
    pub fn new(mut output: W, recipients: &[Recipient]) -> io::Result<Self> {
        let mut key = FileKey::default();
        let mut nonce = [0; Chunks::NONCE];
        random(&mut key)?;
        random(&mut nonce)?;
        let mut with_secrets = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let mut secret = [0; 32];
            random(&mut secret)?;
            with_secrets.push((recipient.clone(), secret));
        }
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if recipients.is_empty() {
            return Err(invalid("there is nobody to encrypt to"));
        }
        let header = Header::write(&with_secrets, &key)
            .ok_or_else(|| invalid("one of the recipients is a key that keeps no secret"))?;
        output.write_all(&header)?;
        output.write_all(&nonce)?;
        Ok(Self {
            output,
            chunks: Chunks::new(&key, &nonce),
            next: 0,
            chunk: Vec::with_capacity(SEALED_CHUNK),
        })
    }

    /// Seals the last chunk. Returns the output, which is not flushed.
    ///
    /// # Errors
    /// When the output fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.output)
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        self.chunks.seal(self.next, last, &mut self.chunk)?;
        self.output.write_all(&self.chunk)?;
        self.next = self.next.saturating_add(1);
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.chunk.len() == CHUNK {
            self.put(false)?;
        }
        let count = bytes.len().min(CHUNK.saturating_sub(self.chunk.len()));
        self.chunk.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Flushes the output; a chunk that is not full stays.
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn random(into: &mut [u8]) -> io::Result<()> {
    getrandom::fill(into)
        .map_err(|error| io::Error::other(format!("the system gives no random bytes: {error}")))
}
