//! The header of an age file: who can open it, and the key of what follows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::keys::{Identity, Recipient};
use super::{FileKey, derive};

/// The first line of every age file.
pub(crate) const INTRO: &[u8] = b"age-encryption.org/v1\n";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
/// Lines of a stanza's body are as long; a shorter one ends it.
const COLUMNS: usize = 64;
/// Recipients of one file: a team has dozens.
const MAX_STANZAS: usize = 1024;
/// Bytes of a header that are read.
pub(crate) const MAX_HEADER: usize = 256 << 10;

/// Why a header is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It goes on after the bytes that are there.
    Cut,
    /// It makes no sense.
    Malformed(&'static str),
    /// Somebody, or a faulty disk, has changed it.
    WrongMac,
}

/// The file key, wrapped for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stanza {
    words: Vec<String>,
    body: Vec<u8>,
}

/// A parsed header.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    stanzas: Vec<Stanza>,
    /// What the MAC is over.
    text: Vec<u8>,
    mac: Vec<u8>,
    /// Bytes of the header: what follows begins here.
    pub(crate) bytes: usize,
}

impl Header {
    /// Reads the header that `bytes` begin with.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut lines = Lines { bytes, at: 0 };
        if lines.next()? != INTRO.strip_suffix(b"\n").unwrap_or_default() {
            return Err(HeaderError::Malformed("the first line is of another version"));
        }
        let mut stanzas = Vec::new();
        loop {
            let start = lines.at;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix(b"--- ") {
                let mac = BASE64.decode(mac).map_err(|_| HeaderError::Malformed("its MAC is no base64"))?;
                let text = bytes.get(..start.saturating_add(3)).unwrap_or_default().to_vec();
                return Ok(Self { stanzas, text, mac, bytes: lines.at });
            }
            let words = line.strip_prefix(b"-> ").ok_or(HeaderError::Malformed("a stanza lacks its mark"))?;
            if stanzas.len() >= MAX_STANZAS {
                return Err(HeaderError::Malformed("it has more than 1024 recipients"));
            }
            let words = String::from_utf8_lossy(words).split(' ').map(str::to_owned).collect();
            stanzas.push(Stanza { words, body: lines.body()? });
        }
    }

    /// How many recipients it has, and of which kinds.
    pub(crate) fn recipients(&self) -> Vec<&str> {
        self.stanzas.iter().map(Stanza::kind).collect()
    }

    /// Unwraps the file key with the first identity that it was wrapped for; `None` if it was for none of them.
    pub(crate) fn open(&self, identities: &[Identity]) -> Result<Option<FileKey>, HeaderError> {
        let pairs =
            identities.iter().flat_map(|identity| self.stanzas.iter().map(move |stanza| (identity, stanza)));
        let Some(key) = pairs.filter_map(|(identity, stanza)| stanza.open(identity)).next() else {
            return Ok(None);
        };
        let checked = mac(&key, &self.text).is_some_and(|mac| mac.verify_slice(&self.mac).is_ok());
        if checked { Ok(Some(key)) } else { Err(HeaderError::WrongMac) }
    }

    /// The bytes of a header that wraps a file key; `secrets` are fresh random bytes, 32 for each recipient.
    pub(crate) fn write(recipients: &[(Recipient, [u8; 32])], key: &FileKey) -> Option<Vec<u8>> {
        let mut text = INTRO.to_vec();
        for (recipient, secret) in recipients {
            let stanza = Stanza::wrap(recipient, secret, key)?;
            text.extend_from_slice(format!("-> {}\n", stanza.words.join(" ")).as_bytes());
            let body = BASE64.encode(&stanza.body);
            body.as_bytes().chunks(COLUMNS).for_each(|line| {
                text.extend_from_slice(line);
                text.push(b'\n');
            });
            // The line that ends a body is shorter than the others, and may be empty.
            if body.len().checked_rem(COLUMNS) == Some(0) {
                text.push(b'\n');
            }
        }
        text.extend_from_slice(b"---");
        let mac = mac(key, &text)?.finalize().into_bytes();
        text.extend_from_slice(format!(" {}\n", BASE64.encode(mac)).as_bytes());
        Some(text)
    }
}

impl Stanza {
    fn kind(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The file key, if it was wrapped for this identity.
    fn open(&self, identity: &Identity) -> Option<FileKey> {
        let [kind, share] = &*self.words else { return None };
        if kind != "X25519" {
            return None;
        }
        let share: [u8; 32] = BASE64.decode(share).ok()?.try_into().ok()?;
        let shared = identity.agree(&share)?;
        let key = wrapping_key(&shared, &share, &identity.recipient());
        let (sealed, tag) = self.body.split_at_checked(16)?;
        let mut file_key: FileKey = sealed.try_into().ok()?;
        let cipher = ChaCha20Poly1305::new(&key.into());
        let tag = Tag::try_from(tag).ok()?;
        cipher.decrypt_inout_detached(&Nonce::default(), b"", file_key.as_mut_slice().into(), &tag).ok()?;
        Some(file_key)
    }

    fn wrap(recipient: &Recipient, secret: &[u8; 32], file_key: &FileKey) -> Option<Self> {
        let share = x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let shared = x25519_dalek::x25519(*secret, recipient.0);
        // A public key of low order would make the same of every secret.
        if shared == [0; 32] {
            return None;
        }
        let key = wrapping_key(&shared, &share, recipient);
        let mut body = file_key.to_vec();
        let cipher = ChaCha20Poly1305::new(&key.into());
        let tag = cipher.encrypt_inout_detached(&Nonce::default(), b"", body.as_mut_slice().into()).ok()?;
        body.extend_from_slice(&tag);
        Some(Self { words: vec!["X25519".into(), BASE64.encode(share)], body })
    }
}

fn wrapping_key(shared: &[u8; 32], share: &[u8; 32], recipient: &Recipient) -> [u8; 32] {
    let salt = [share.as_slice(), &recipient.0].concat();
    derive(shared, Some(&salt), X25519_INFO)
}

fn mac(key: &FileKey, text: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&derive(key, None, b"header")).ok()?;
    mac.update(text);
    Some(mac)
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], HeaderError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(HeaderError::Cut)?;
        self.at = self.at.saturating_add(length).saturating_add(1);
        Ok(rest.get(..length).unwrap_or_default())
    }

    fn body(&mut self) -> Result<Vec<u8>, HeaderError> {
        let mut text = Vec::new();
        loop {
            let line = self.next()?;
            text.extend_from_slice(line);
            if line.len() < COLUMNS {
                break;
            }
            if line.len() > COLUMNS {
                return Err(HeaderError::Malformed("a stanza has too long a line"));
            }
        }
        BASE64.decode(text).map_err(|_| HeaderError::Malformed("a stanza is no base64"))
    }
}
