//! Public and secret keys as age writes them: Bech32 of 32 bytes, and files with one on each line.

use std::fmt;
use std::sync::Arc;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use x25519_dalek::{PublicKey, StaticSecret};

const PUBLIC: &str = "age";
const SECRET: &str = "age-secret-key-";

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret key where a public one belongs.
    #[error(
        "this is a secret key: it opens dumps, and has no business where they are written\nhint: give the public key, \
         which begins with age1; `age-keygen -y FILE` prints it"
    )]
    Secret,
    /// A public key where a secret one belongs.
    #[error(
        "this is a public key: it cannot open anything\nhint: give the file with AGE-SECRET-KEY-1... in it"
    )]
    Public,
    /// Some other kind of key.
    #[error("{0} are not supported\nhint: use a native key: `age-keygen -o FILE` makes one")]
    Unsupported(&'static str),
    /// It is no key, or was copied wrongly.
    #[error("{0:?} is not an age key: {1}")]
    Malformed(String, &'static str),
    /// A file without keys.
    #[error("there is no key in it")]
    Empty,
    /// A line of a file.
    #[error("line {line}: {error}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        error: Box<KeyError>,
    },
    /// There is no randomness to make a key of.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// A public key: `age1...`.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(pub(super) [u8; 32]);

/// A secret key: `AGE-SECRET-KEY-1...`. It is wiped from memory when the last copy is dropped.
#[derive(Clone)]
pub struct Identity(Arc<StaticSecret>);

impl Recipient {
    /// Reads a public key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if has_prefix(text, "AGE-SECRET-KEY-") {
            return Err(KeyError::Secret);
        }
        other_kind(text)?;
        if has_prefix(text, "age1") && text.len() > 100 {
            return Err(KeyError::Unsupported("age keys of plugins and post-quantum ones"));
        }
        decode(text, PUBLIC).map(Self)
    }

    /// The public keys of a file: one on each line, `#` begins a comment.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse_file(text: &str) -> Result<Vec<Self>, KeyError> {
        each_line(text, Self::parse)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Hrp::parse(PUBLIC).ok().and_then(|hrp| bech32::encode::<Bech32>(hrp, &self.0).ok());
        f.write_str(&text.unwrap_or_default())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Identity {
    /// Makes a new key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandom)?;
        Ok(Self(Arc::new(StaticSecret::from(bytes))))
    }

    /// Reads a secret key.
    ///
    /// # Errors
    /// See [`KeyError`]. The message never has the key in it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if has_prefix(text, "age1") {
            return Err(KeyError::Public);
        }
        if has_prefix(text, "age-encryption.org/") || has_prefix(text, "-----BEGIN AGE ENCRYPTED FILE") {
            return Err(KeyError::Unsupported("key files that are themselves encrypted"));
        }
        if has_prefix(text, "AGE-PLUGIN-") || has_prefix(text, "AGE-SECRET-KEY-PQ-") {
            return Err(KeyError::Unsupported("age keys of plugins and post-quantum ones"));
        }
        other_kind(text)?;
        let secret = decode(text, SECRET).map_err(|error| match error {
            KeyError::Malformed(_, why) => KeyError::Malformed("...".into(), why),
            other => other,
        })?;
        Ok(Self(Arc::new(StaticSecret::from(secret))))
    }

    /// The secret keys of a file: one on each line, `#` begins a comment.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse_file(text: &str) -> Result<Vec<Self>, KeyError> {
        each_line(text, Self::parse)
    }

    /// The public key that goes with it.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&*self.0).to_bytes())
    }

    /// The key itself, as text: to be written to a file that nobody else reads.
    #[must_use]
    pub fn secret_text(&self) -> String {
        let hrp = Hrp::parse(SECRET).ok();
        hrp.and_then(|hrp| bech32::encode_upper::<Bech32>(hrp, self.0.as_bytes()).ok()).unwrap_or_default()
    }

    /// What it has in common with the other side's public key; `None` where that is none that anyone would make.
    pub(super) fn agree(&self, share: &[u8; 32]) -> Option<[u8; 32]> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*share));
        shared.was_contributory().then(|| shared.to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient())
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn other_kind(text: &str) -> Result<(), KeyError> {
    let is_ssh = has_prefix(text, "ssh-") || has_prefix(text, "-----BEGIN");
    if is_ssh { Err(KeyError::Unsupported("SSH keys")) } else { Ok(()) }
}

fn decode(text: &str, prefix: &str) -> Result<[u8; 32], KeyError> {
    let malformed = |why| KeyError::Malformed(text.chars().take(80).collect(), why);
    let checked = CheckedHrpstring::new::<Bech32>(text)
        .map_err(|_| malformed("its checksum is wrong, or it is cut short: copy it again"))?;
    if checked.hrp().to_lowercase() != prefix {
        return Err(malformed("it is of another kind"));
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|_| malformed("it has not 32 bytes"))
}

fn each_line<T>(text: &str, parse: impl Fn(&str) -> Result<T, KeyError>) -> Result<Vec<T>, KeyError> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at_line = |error| KeyError::Line { line: index.saturating_add(1), error: Box::new(error) };
        keys.push(parse(line).map_err(at_line)?);
    }
    if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
}
