//! Changes of a system's files, and their way back.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{HookError, block};

/// A change. Paths are relative to the system's root.
pub(super) enum Edit {
    /// A block in a file of settings; lines of these settings are switched off.
    Block { path: &'static str, lines: Vec<String>, replaced: fn(&str) -> bool },
    /// A script of our own. It must have [`MARK`] in it.
    Script { path: &'static str, text: String },
    /// A link beside the program.
    Link { path: &'static str, to: &'static str },
}

/// In each script of ours: others are left alone.
pub(super) const MARK: &str = "written by `kdive dump hook`";

/// What was done with a file.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    path: PathBuf,
    what: What,
    /// Text that was written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Installed,
    Linked,
    Changed,
    Written,
    Restored,
    Removed,
    /// It is there, and not ours.
    Kept,
}

impl Edit {
    /// Whether it is of use in an initramfs alone.
    pub(super) fn is_early(&self) -> bool {
        matches!(self, Self::Script { .. })
    }

    fn path(&self) -> &'static str {
        match self {
            Self::Block { path, .. } | Self::Script { path, .. } | Self::Link { path, .. } => path,
        }
    }

    /// Makes the change, unless all is as it should be.
    pub(super) fn make(&self, root: &Path, dry: bool) -> Result<Option<Outcome>, HookError> {
        let path = root.join(self.path());
        let failed = |source| HookError::File { path: path.clone(), source };
        let outcome = |what, lines| Some(Outcome { path: path.clone(), what, lines });
        match self {
            Self::Block { lines, replaced, .. } => {
                let old = text(&path).map_err(failed)?.unwrap_or_default();
                let new = block::with(&old, lines, replaced);
                if !dry && new != old {
                    write(&path, new.as_bytes(), None).map_err(failed)?;
                }
                Ok(outcome(What::Changed, lines.clone()))
            }
            Self::Script { text: script, .. } => {
                if text(&path).map_err(failed)?.is_some_and(|old| !old.contains(MARK)) {
                    return Ok(outcome(What::Kept, Vec::new()));
                }
                if !dry {
                    write(&path, script.as_bytes(), Some(0o755)).map_err(failed)?;
                }
                Ok(outcome(What::Written, script.lines().map(str::to_owned).collect()))
            }
            Self::Link { to, .. } => {
                if !dry && !path.is_symlink() {
                    make_parent(&path)
                        .and_then(|()| std::os::unix::fs::symlink(to, &path))
                        .map_err(failed)?;
                }
                Ok(outcome(What::Linked, vec![format!("-> {to}")]))
            }
        }
    }

    /// Takes the change back; `None` where it was not made.
    pub(super) fn undo(&self, root: &Path, dry: bool) -> Result<Option<Outcome>, HookError> {
        let path = root.join(self.path());
        let failed = |source| HookError::File { path: path.clone(), source };
        let remove = |what| {
            if !dry {
                fs::remove_file(&path).map_err(failed)?;
            }
            Ok(Some(Outcome { path: path.clone(), what, lines: Vec::new() }))
        };
        match self {
            Self::Block { .. } => {
                let Some(old) = text(&path).map_err(failed)? else { return Ok(None) };
                let new = block::without(&old);
                if new == old {
                    return Ok(None);
                }
                // It was made for the block.
                if new.is_empty() {
                    return remove(What::Removed);
                }
                if !dry {
                    write(&path, new.as_bytes(), None).map_err(failed)?;
                }
                Ok(Some(Outcome { path: path.clone(), what: What::Restored, lines: Vec::new() }))
            }
            Self::Script { .. } => match text(&path).map_err(failed)? {
                Some(old) if old.contains(MARK) => remove(What::Removed),
                _ => Ok(None),
            },
            Self::Link { .. } if path.is_symlink() => remove(What::Removed),
            Self::Link { .. } => Ok(None),
        }
    }
}

/// Installs the program: the old one stays whole until the new one is.
pub(super) fn install_program(root: &Path, at: &str, bytes: &[u8], dry: bool) -> Result<Outcome, HookError> {
    let path = root.join(at);
    if !dry {
        write(&path, bytes, Some(0o755)).map_err(|source| HookError::File { path: path.clone(), source })?;
    }
    let lines = vec![format!("{} bytes", bytes.len())];
    Ok(Outcome { path, what: What::Installed, lines })
}

/// Removes the program, and its directory if nothing else is in it.
pub(super) fn remove_program(root: &Path, at: &str, dry: bool) -> Result<Option<Outcome>, HookError> {
    let path = root.join(at);
    if !path.exists() {
        return Ok(None);
    }
    if !dry {
        fs::remove_file(&path).map_err(|source| HookError::File { path: path.clone(), source })?;
        if let Some(dir) = path.parent() {
            // What else is in it is not ours.
            let _ = fs::remove_dir(dir);
        }
    }
    Ok(Some(Outcome { path, what: What::Removed, lines: Vec::new() }))
}

/// A 64-bit little-endian ELF program without an interpreter.
pub(super) fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| Some(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(program.get(at..at + 4)?.try_into().ok()?));
    let table = program.get(32..40).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let (Some(table), Some(size), Some(count)) = (table, half(54), half(56)) else { return false };
    let Ok(table) = usize::try_from(table) else { return false };
    let starts = |index: u16| table.checked_add(usize::from(index).checked_mul(size.into())?);
    program.starts_with(b"\x7fELF\x02\x01")
        && (0..count).all(|index| starts(index).and_then(word).is_some_and(|kind| kind != PT_INTERP))
}

/// A file's text, if it is there.
fn text(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// Writes a file beside the old one and puts it in its place; without `mode`, the old one's mode or 644.
fn write(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    make_parent(path)?;
    let old = fs::metadata(path).map(|meta| meta.permissions().mode()).ok();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".kdive-new");
    let beside = path.with_file_name(name);
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(mode.or(old).unwrap_or(0o644)))?;
    file.sync_all()?;
    fs::rename(beside, path)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Installed => "install",
            What::Linked => "link   ",
            What::Changed => "change ",
            What::Written => "write  ",
            What::Restored => "restore",
            What::Removed => "remove ",
            What::Kept => "keep   ",
        };
        write!(f, "{what}  {}", self.path.display())?;
        if matches!(self.what, What::Kept) {
            write!(f, "  (it is not kdive's)")?;
        }
        if matches!(self.what, What::Written | What::Changed) {
            return self.lines.iter().try_for_each(|line| write!(f, "\n  | {line}"));
        }
        self.lines.iter().try_for_each(|line| write!(f, "  {line}"))
    }
}
