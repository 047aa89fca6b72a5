//! Why a dump cannot be opened, and what to do next.

use crate::Kind;

/// The dump cannot be opened. The message names the file, the reason and, where there is one, the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No file at all.
    #[error("no dump file was given")]
    NoFiles,
    /// The operating system failed to read a file.
    #[error("{name}: cannot be read: {source}")]
    Io {
        /// The file.
        name: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{name} is {}, not a dump that kdive reads\nhint: {}", .kind.description(), .kind.advice())]
    NotADump {
        /// The file.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// It is a dump, but what it says of itself makes no sense.
    #[error(
        "{name}: {format}: {what}\nhint: the file is damaged; copy it again, and compare its size with the original's"
    )]
    Damaged {
        /// The file.
        name: String,
        /// The container format.
        format: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It ends before its headers do.
    #[error(
        "{name}: {format}: the file ends at {has} bytes, inside its headers, which take {needs}\nhint: the copy or the \
         capture was cut short; nothing of the memory is in this file"
    )]
    Truncated {
        /// The file.
        name: String,
        /// The container format.
        format: &'static str,
        /// Bytes that the headers take.
        needs: u64,
        /// Bytes that there are.
        has: u64,
    },
    /// It is packed in a way that gives no place to begin at.
    #[error("{name} is packed with {wrapper} as {what}: it cannot be read at random\nhint: {next}")]
    NotRandom {
        /// The file.
        name: String,
        /// The packing.
        wrapper: &'static str,
        /// What stands in the way.
        what: String,
        /// What to do.
        next: String,
    },
    /// It is encrypted, and no key was given.
    #[error(
        "{name} is encrypted with age for {recipients} recipient(s), and no identity was given\nhint: give the file with \
         the secret key: --identity FILE, or KDIVE_IDENTITY=FILE"
    )]
    NoIdentity {
        /// The file.
        name: String,
        /// Keys that open it.
        recipients: usize,
    },
    /// It is encrypted for others.
    #[error(
        "{name} is encrypted for {recipients} recipient(s), and none of the {given} identities given is one of them\nhint: \
         ask who wrote it for which public keys it was; `age-keygen -y FILE` prints the public key of an identity"
    )]
    WrongIdentity {
        /// The file.
        name: String,
        /// Keys that open it.
        recipients: usize,
        /// Keys that were tried.
        given: usize,
    },
    /// It is encrypted with a passphrase.
    #[error(
        "{name} is encrypted with a passphrase, which kdive does not take\nhint: `age -d -o vmcore {name}` asks for it; \
         `kdive dump encrypt -r age1...` encrypts for a key instead"
    )]
    Passphrase {
        /// The file.
        name: String,
    },
    /// It is encrypted for keys of other kinds only.
    #[error(
        "{name} is encrypted for keys of kinds that kdive does not have: {kinds}\nhint: `age -d -i KEY -o vmcore {name}` \
         opens it"
    )]
    ForeignRecipients {
        /// The file.
        name: String,
        /// Their kinds, as age names them.
        kinds: String,
    },
    /// Several files that do not belong together.
    #[error(
        "{first} and {second} are not parts of one dump: {why}\nhint: give one dump, or all parts of one split dump"
    )]
    NotOneDump {
        /// The first file.
        first: String,
        /// The file that does not fit.
        second: String,
        /// What differs.
        why: String,
    },
}

impl OpenError {
    pub(crate) fn damaged(name: &str, format: &'static str, what: impl Into<String>) -> Self {
        Self::Damaged { name: name.to_owned(), format, what: what.into() }
    }
}
