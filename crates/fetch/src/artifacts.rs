//! Where debuginfo lies on this machine.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use kdive_debuginfo::Blob;
use kdive_debuginfo::elf::ElfFile;
use kdive_target::{Artifact, Artifacts, Want};

use crate::tree::{ModuleTree, module_of};
use crate::{mmap, unpack};

/// Finds debuginfo: first among the files given by hand, then under the directories given, then beside the vmlinux,
/// then where distributions install it.
///
/// By build-id, a file under `.build-id/` is taken on its word. By name, a file is taken unless it has another build-id
/// than the one wanted.
#[derive(Debug, Default)]
pub struct DebugDirectories {
    given: Vec<Given>,
    roots: Vec<PathBuf>,
    /// Directories given by hand, which may hold modules without any structure.
    by_hand: Vec<Arc<ModuleTree>>,
    /// The directories of the modules of releases that were asked for.
    by_release: Mutex<HashMap<PathBuf, Arc<ModuleTree>>>,
    vmlinux: Option<PathBuf>,
}

/// A file given by hand.
#[derive(Debug)]
struct Given {
    name: String,
    bytes: Blob,
    module: Option<String>,
    build_id: Option<Vec<u8>>,
    has_code: bool,
}

/// Where distributions put debuginfo.
const SYSTEM_ROOTS: [&str; 2] = ["/usr/lib/debug", "/"];
/// Where a tree of debuginfo can begin under a directory given by hand: at its top, or unpacked out of packages.
const UNPACKED_AT: [&str; 2] = ["", "usr/lib/debug"];
/// How far above a vmlinux the directories of its modules are looked for (`usr/lib/debug/lib/modules/<release>/vmlinux`).
const ANCESTORS: usize = 5;

impl DebugDirectories {
    /// The system's directories behind those of `directories`; `vmlinux` is the file that was given, whose neighbours
    /// are looked at too.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>, vmlinux: Option<PathBuf>) -> Self {
        let given = directories.iter().flat_map(|root| UNPACKED_AT.map(|part| root.join(part)));
        let system = SYSTEM_ROOTS.iter().map(PathBuf::from);
        let near =
            vmlinux.iter().flat_map(|path| path.ancestors().skip(1).take(ANCESTORS)).map(Path::to_owned);
        let roots = given.chain(near).chain(system).collect();
        let by_hand = directories.into_iter().map(|root| Arc::new(ModuleTree::new(root))).collect();
        Self { roots, by_hand, vmlinux, ..Self::default() }
    }

    /// Adds files given by hand.
    #[must_use]
    pub fn with_files(mut self, files: impl IntoIterator<Item = Artifact>) -> Self {
        self.given.extend(files.into_iter().map(Given::new));
        self
    }

    fn by_build_id(&self, build_id: &[u8]) -> Option<Artifact> {
        let path = build_id_path(build_id)?;
        let roots =
            self.roots.iter().flat_map(|root| [root.join(".build-id"), root.join("usr/lib/debug/.build-id")]);
        roots.map(|root| root.join(&path)).find_map(|path| load(&path))
    }

    fn module(&self, release: Option<&str>, name: &str, build_id: Option<&[u8]>) -> Option<Artifact> {
        let given = || self.given.iter().filter(|file| file.module.as_deref() == Some(name));
        let by_hand = || given().find(|file| file.fits(build_id)).map(Given::artifact);
        by_hand()
            .or_else(|| self.by_build_id(build_id?))
            .or_else(|| self.in_trees(release, name, build_id, |_| true))
    }

    /// Files under `.build-id/` have no code as a rule, so those by name go first.
    fn module_code(&self, release: Option<&str>, name: &str, build_id: Option<&[u8]>) -> Option<Artifact> {
        let is_it =
            |file: &&Given| file.has_code && file.module.as_deref() == Some(name) && file.fits(build_id);
        let by_hand = self.given.iter().find(is_it).map(Given::artifact);
        let has_code = |file: &Artifact| ElfFile::parse(file.bytes.clone()).is_ok_and(|elf| elf.has_code());
        by_hand
            .or_else(|| self.in_trees(release, name, build_id, ElfFile::has_code))
            .or_else(|| self.by_build_id(build_id?).filter(has_code))
    }

    fn in_trees(
        &self,
        release: Option<&str>,
        name: &str,
        build_id: Option<&[u8]>,
        usable: fn(&ElfFile) -> bool,
    ) -> Option<Artifact> {
        let trees = self.trees(release);
        let mut files = trees.iter().flat_map(|tree| tree.find(name));
        files.find_map(|path| load_matching(path, build_id, usable))
    }

    /// The directories that can hold the modules of a release. Those given by hand come first.
    fn trees(&self, release: Option<&str>) -> Vec<Arc<ModuleTree>> {
        let mut trees = self.by_hand.clone();
        // The release is out of the dump: as a path it must be one plain name.
        let plain = |release: &&str| !release.is_empty() && !release.contains('/') && *release != "..";
        let (Some(release), Ok(mut known)) = (release.filter(plain), self.by_release.lock()) else {
            return trees;
        };
        let named = self.roots.iter().filter(|root| root.ends_with(release)).cloned();
        let below = self.roots.iter().map(|root| root.join("lib/modules").join(release));
        for path in named.chain(below).filter(|path| path.is_dir()) {
            let tree = known.entry(path.clone()).or_insert_with(|| Arc::new(ModuleTree::new(path)));
            trees.push(tree.clone());
        }
        trees
    }

    fn debug(&self, of: &str, link: Option<&str>, build_id: Option<&[u8]>) -> Option<Artifact> {
        let given = self.given.iter().find(|file| build_id.is_some() && file.build_id.as_deref() == build_id);
        given.map(Given::artifact).or_else(|| self.by_build_id(build_id?)).or_else(|| {
            link_candidates(of, link?).into_iter().find_map(|path| load_matching(&path, build_id, |_| true))
        })
    }
}

impl Artifacts for DebugDirectories {
    fn find(&self, want: &Want<'_>) -> Option<Artifact> {
        match *want {
            Want::Module { release, name, build_id } => self.module(release, name, build_id),
            Want::ModuleCode { release, name, build_id } => self.module_code(release, name, build_id),
            Want::Debug { of, link, build_id } => {
                // Files given as `vmlinux` are known by what was typed, which may be relative.
                let of = self
                    .vmlinux
                    .as_deref()
                    .and_then(Path::to_str)
                    .filter(|path| path.ends_with(of))
                    .unwrap_or(of);
                self.debug(of, link, build_id)
            }
            Want::Source { tree, file } => source(tree.map(Path::new), file),
        }
    }
}

/// A source file: in the tree that was given under as much of its path as is there, or where its path leads.
fn source(tree: Option<&Path>, file: &str) -> Option<Artifact> {
    let path = inside(Path::new(file))?;
    let candidates: Vec<PathBuf> = match tree {
        // `debian/build/build_amd64/fs/read_write.c` was `fs/read_write.c` before it was configured.
        Some(tree) => {
            let parts: Vec<_> = path.components().collect();
            (0..parts.len()).map(|first| tree.join(parts.iter().skip(first).collect::<PathBuf>())).collect()
        }
        None if file.starts_with('/') => vec![Path::new("/").join(path)],
        None => return None,
    };
    candidates.iter().filter(|path| path.is_file()).find_map(|path| load(path))
}

/// A path without its root, with `..` resolved by name. The path is out of a file that may be hostile: `None` when it
/// leads out of where it begins, or to what is no source.
fn inside(path: &Path) -> Option<PathBuf> {
    const KINDS: [&str; 7] = ["c", "h", "S", "s", "rs", "inc", "cc"];
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir if !inside.pop() => return None,
            _ => {}
        }
    }
    let kind = inside.extension()?.to_str()?;
    KINDS.contains(&kind).then_some(inside)
}

impl Given {
    fn new(file: Artifact) -> Self {
        let elf = ElfFile::parse(file.bytes.clone()).ok();
        let in_name = || module_of(Path::new(&file.name).file_name()?.to_str()?);
        let module =
            elf.as_ref().and_then(ElfFile::module_name).map(|name| name.replace('-', "_")).or_else(in_name);
        let (build_id, has_code) = elf.map(|elf| (elf.build_id(), elf.has_code())).unwrap_or_default();
        Self { module, build_id, has_code, name: file.name, bytes: file.bytes }
    }

    fn fits(&self, wanted: Option<&[u8]>) -> bool {
        match (wanted, &self.build_id) {
            (Some(wanted), Some(has)) => wanted == has.as_slice(),
            _ => true,
        }
    }

    fn artifact(&self) -> Artifact {
        Artifact { name: self.name.clone(), bytes: self.bytes.clone() }
    }
}

/// `xx/yyyy.debug` of a build-id.
fn build_id_path(build_id: &[u8]) -> Option<String> {
    let (first, rest) = build_id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let mut path = format!("{first:02x}/");
    for byte in rest {
        let _ = write!(path, "{byte:02x}");
    }
    path.push_str(".debug");
    Some(path)
}

/// Where gdb's documentation says that a `.gnu_debuglink` is looked for: beside the file, in `.debug/` beside it, and
/// under the system's directory at the file's own path.
fn link_candidates(of: &str, link: &str) -> Vec<PathBuf> {
    if link.contains('/') {
        return Vec::new();
    }
    let of = std::path::absolute(of).unwrap_or_else(|_| of.into());
    let Some(directory) = of.parent() else { return Vec::new() };
    let system = Path::new("/usr/lib/debug").join(directory.strip_prefix("/").unwrap_or(directory));
    let candidates = [directory.join(link), directory.join(".debug").join(link), system.join(link)];
    // A debuglink that names the file itself would be no debug file.
    candidates.into_iter().filter(|path| *path != of).collect()
}

fn load(path: &Path) -> Option<Artifact> {
    let file = File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let bytes = unpack::unpacked(mmap::map(&file).ok()?).ok()?;
    Some(Artifact { name: path.display().to_string(), bytes })
}

fn load_matching(path: &Path, build_id: Option<&[u8]>, usable: fn(&ElfFile) -> bool) -> Option<Artifact> {
    let file = load(path)?;
    let elf = ElfFile::parse(file.bytes.clone()).ok().filter(usable)?;
    match (build_id, elf.build_id()) {
        (Some(wanted), Some(has)) if wanted != has.as_slice() => None,
        _ => Some(file),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The smallest ELF file: a header without sections. It has no build-id, so every name fits.
    fn elf() -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
        bytes.resize(52, 0);
        bytes.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
        bytes
    }

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, elf()).unwrap();
    }

    fn module<'a>(release: &'a str, name: &'a str, build_id: Option<&'a [u8]>) -> Want<'a> {
        Want::Module { release: Some(release), name, build_id }
    }

    #[test]
    fn modules_are_found_beside_the_vmlinux() {
        let root = tempfile::tempdir().unwrap();
        let vmlinux = root.path().join("usr/lib/debug/boot/vmlinux-6.1");
        let file = root.path().join("usr/lib/debug/lib/modules/6.1/kernel/net/nf-nat.ko");
        write(&vmlinux);
        write(&file);
        let directories = DebugDirectories::new(Vec::new(), Some(vmlinux));
        let found = directories.find(&module("6.1", "nf_nat", None)).unwrap();
        assert_eq!(found.name, file.display().to_string());
        assert!(directories.find(&module("6.2", "nf_nat", None)).is_none());
        assert!(directories.find(&module("../lib/modules/6.1", "nf_nat", None)).is_none());
    }

    #[test]
    fn a_file_without_code_is_no_code_of_a_module() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("any/x.ko"));
        let directories = DebugDirectories::new(vec![root.path().to_owned()], None);
        assert!(directories.find(&module("6.1", "x", None)).is_some());
        let code = Want::ModuleCode { release: Some("6.1"), name: "x", build_id: None };
        assert!(directories.find(&code).is_none());
    }

    #[test]
    fn a_build_id_goes_before_a_name() {
        let root = tempfile::tempdir().unwrap();
        let by_id = root.path().join("usr/lib/debug/.build-id/ab/cdef.debug");
        write(&by_id);
        write(&root.path().join("any/x.ko"));
        let directories = DebugDirectories::new(vec![root.path().to_owned()], None);
        let found = directories.find(&module("6.1", "x", Some(&[0xab, 0xcd, 0xef]))).unwrap();
        assert_eq!(found.name, by_id.display().to_string());
        let found = directories.find(&module("6.1", "x", Some(&[1, 2]))).unwrap();
        assert!(found.name.ends_with("any/x.ko"));
    }

    #[test]
    fn a_debuglink_is_looked_for_beside_the_file() {
        let root = tempfile::tempdir().unwrap();
        let of = root.path().join("vmlinux");
        let debug = root.path().join(".debug/vmlinux.debug");
        write(&of);
        write(&debug);
        let directories = DebugDirectories::new(Vec::new(), Some(of.clone()));
        let of = of.display().to_string();
        let want = |link| Want::Debug { of: &of, link: Some(link), build_id: None };
        assert_eq!(directories.find(&want("vmlinux.debug")).unwrap().name, debug.display().to_string());
        assert!(directories.find(&want("vmlinux")).is_none());
        assert!(directories.find(&want("../vmlinux")).is_none());
    }

    #[test]
    fn sources_are_found_in_their_tree_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("linux/fs/read_write.c");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "int x;\n").unwrap();
        fs::write(root.path().join("secret.c"), "no").unwrap();
        fs::write(root.path().join("linux/passwords"), "no").unwrap();
        let tree = root.path().join("linux").display().to_string();
        let directories = DebugDirectories::new(Vec::new(), None);
        let find = |file| directories.find(&Want::Source { tree: Some(&tree), file });
        for name in ["fs/read_write.c", "debian/build/amd64/fs/read_write.c", "./fs/x/../read_write.c"] {
            assert_eq!(find(name).unwrap().bytes[..], *b"int x;\n", "{name}");
        }
        for name in ["../secret.c", "fs/../../secret.c", "passwords", "fs/other.c", ""] {
            assert!(find(name).is_none(), "{name}");
        }
        let absolute = file.display().to_string();
        assert!(directories.find(&Want::Source { tree: None, file: &absolute }).is_some());
        assert!(directories.find(&Want::Source { tree: None, file: "fs/read_write.c" }).is_none());
    }

    #[test]
    fn files_given_by_hand_come_first() {
        let file = Artifact { name: "/x/snd-hda.ko".into(), bytes: Blob::from(elf()) };
        let directories = DebugDirectories::new(Vec::new(), None).with_files([file]);
        assert!(directories.find(&module("6.1", "snd_hda", Some(&[1, 2]))).is_some());
    }
}
