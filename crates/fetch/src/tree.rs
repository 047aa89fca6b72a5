//! A directory of modules, by module name.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Depth of `lib/modules/<release>/kernel/drivers/...`; symbolic links are not followed, so there are no cycles.
const MAX_DEPTH: usize = 16;
/// A distribution has some 5,000 modules per kernel.
const MAX_FILES: usize = 1 << 18;

/// The files of modules under a directory, found on the first question.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    root: PathBuf,
    by_name: OnceLock<HashMap<String, Vec<PathBuf>>>,
}

impl ModuleTree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, by_name: OnceLock::new() }
    }

    /// The files that could be a module's, by its name with underscores. Debug files come first: they have the DWARF.
    pub(crate) fn find(&self, name: &str) -> &[PathBuf] {
        self.by_name.get_or_init(|| index(&self.root)).get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

fn index(root: &Path) -> HashMap<String, Vec<PathBuf>> {
    let mut by_name: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let mut directories = vec![(root.to_owned(), 0_usize)];
    let mut files = 0_usize;
    while let Some((directory, depth)) = directories.pop() {
        let Ok(listing) = fs::read_dir(&directory) else { continue };
        for entry in listing.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH {
                directories.push((entry.path(), depth.saturating_add(1)));
            } else if let Some(name) = entry.file_name().to_str().and_then(module_of) {
                files = files.saturating_add(1);
                by_name.entry(name).or_default().push(entry.path());
            }
            if files >= MAX_FILES {
                return by_name;
            }
        }
    }
    for paths in by_name.values_mut() {
        paths.sort_by_key(|path| (!is_debug_file(path), path.clone()));
    }
    by_name
}

/// Red Hat and SUSE name them `.ko.debug`; Debian keeps the name, under `usr/lib/debug`.
fn is_debug_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "debug")
        || path.components().any(|part| part.as_os_str() == "debug")
}

/// The module that a file is of, with underscores: `snd-hda-intel.ko.xz` is of `snd_hda_intel`.
pub(crate) fn module_of(file: &str) -> Option<String> {
    let compressed = [".xz", ".zst", ".gz"].iter().find_map(|end| file.strip_suffix(end));
    let file = compressed.unwrap_or(file);
    let file = file.strip_suffix(".debug").unwrap_or(file);
    let name = file.strip_suffix(".ko")?;
    (!name.is_empty()).then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_by_name_at_any_depth() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("kernel/sound/pci");
        fs::create_dir_all(&deep).unwrap();
        for name in ["snd-hda-intel.ko", "snd-hda-intel.ko.debug", "README", "snd.ko.xz"] {
            fs::write(deep.join(name), b"x").unwrap();
        }
        let tree = ModuleTree::new(directory.path().to_owned());
        assert_eq!(
            tree.find("snd_hda_intel"),
            [deep.join("snd-hda-intel.ko.debug"), deep.join("snd-hda-intel.ko")]
        );
        assert_eq!(tree.find("snd").len(), 1);
        assert!(tree.find("README").is_empty());
    }

    #[test]
    fn names_of_module_files() {
        assert_eq!(module_of("nf-nat.ko.zst").as_deref(), Some("nf_nat"));
        assert_eq!(module_of(".ko"), None);
        assert_eq!(module_of("vmlinux"), None);
    }
}
