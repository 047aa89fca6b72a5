//! age files (age-encryption.org/v1): sealed for public keys, in chunks that can be opened alone.
//!
//! Design constraints:
//! - The side that writes needs public keys only: on a machine that crashed there is no secret to lose.
//! - One pass, bounded memory: [`Encryptor`] is a `Write`. The reader (`packed/age.rs`) opens chunks as they are asked for.
//! - X25519 recipients, the native ones. Others (SSH keys, plugins) may be among a file's recipients; a passphrase may not:
//!   it would be asked for in places where nobody can answer.
//!
//! Layout, from the specification: a text header of stanzas, each with the file key wrapped for one recipient, and a MAC over
//! it; then 16 bytes of nonce and chunks of 64 KiB, each with a tag of 16 bytes; the last chunk is marked as such, so that a
//! file that was cut shows.

mod header;
mod keys;
mod stream;

pub(crate) use header::{Header, HeaderError, MAX_HEADER};
pub use keys::{Identity, KeyError, Recipient};
pub use stream::Encryptor;
pub(crate) use stream::{CHUNK, Chunks, SEALED_CHUNK};

use hkdf::Hkdf;
use sha2::Sha256;

/// Unwraps to the key of the payload.
pub(crate) type FileKey = [u8; 16];

/// HKDF with SHA-256: 32 bytes.
fn derive(secret: &[u8], salt: Option<&[u8]>, info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    // It fails for more than 8160 bytes.
    let _ = Hkdf::<Sha256>::new(salt, secret).expand(info, &mut key);
    key
}

#[cfg(test)]
mod tests;
