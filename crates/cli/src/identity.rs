//! Secret keys that open encrypted dumps.

use std::path::PathBuf;
use std::sync::Arc;

use kdive_dump::age::{Identity, KeyError};

/// Names a file of identities where the command line does not.
pub(crate) const VARIABLE: &str = "KDIVE_IDENTITY";

/// Why an identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoIdentity {
    #[error("{}: {source}\nhint: it is the file with the secret key, as age-keygen makes it", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", .path.display())]
    Key { path: PathBuf, source: KeyError },
}

/// The keys in the files given with `--identity`, else in the one that the environment names.
pub(crate) fn read(files: &[PathBuf]) -> Result<Arc<[Identity]>, NoIdentity> {
    let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let from_environment = named.filter(|_| files.is_empty());
    let mut identities = Vec::new();
    for path in files.iter().chain(&from_environment) {
        let text = std::fs::read_to_string(path)
            .map_err(|source| NoIdentity::Read { path: path.clone(), source })?;
        let keys =
            Identity::parse_file(&text).map_err(|source| NoIdentity::Key { path: path.clone(), source })?;
        identities.extend(keys);
    }
    Ok(identities.into())
}
