//! From the paths on a command line, in any order, to what each is for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kdive_base::{PhysAddr, ReadAt as _};
use kdive_debuginfo::Blob;
use kdive_debuginfo::elf::ElfFile;
use kdive_dump::{InputFile, Kind, probe};
use kdive_target::Artifact;

use crate::capture;
use crate::error::FetchError;
use crate::file::FileSource;
use crate::vmlinux::{can_hold, vmlinux};
use crate::{mmap, unpack};

/// Files by what they are for.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The dump: one file, or the parts of a split set.
    pub dump: Vec<InputFile>,
    /// A vmlinux, unpacked if it was compressed.
    pub vmlinux: Option<Artifact>,
    /// A System.map.
    pub system_map: Option<Artifact>,
    /// Other debuginfo: modules, and the debug file of a stripped vmlinux.
    pub debuginfo: Vec<Artifact>,
    /// What was given and not used, in words.
    pub notes: Vec<String>,
}

/// Tells what the files are by their content. A directory stands for the dump that kdump left in it. With `raw_base`,
/// the file that is no debuginfo is an image of the RAM from there on, whatever it looks like; crash's form of the same,
/// `IMAGE@ADDRESS`, gives each file its own.
///
/// # Errors
/// When there is no dump among them, a file cannot be read, or two are for one purpose. Other files that are of no use
/// beside a dump are a note.
pub fn sort(paths: &[PathBuf], raw_base: Option<PhysAddr>) -> Result<Inputs, FetchError> {
    let mut sorter = Sorter::default();
    for path in paths {
        if path.is_dir() {
            for found in capture::files(path)? {
                sorter.file(&found, raw_base)?;
            }
        } else if let Some(images) = raw_images(path) {
            for (image, base) in images {
                sorter.file(&image, Some(base))?;
            }
        } else {
            sorter.file(path, raw_base)?;
        }
    }
    sorter.finish()
}

/// `IMAGE@ADDRESS[,IMAGE@ADDRESS...]`, the addresses in hexadecimal. A file of that very name is that file.
fn raw_images(path: &Path) -> Option<Vec<(PathBuf, PhysAddr)>> {
    if path.exists() {
        return None;
    }
    let image = |part: &str| {
        let (name, address) = part.rsplit_once('@')?;
        let base = u64::from_str_radix(address.strip_prefix("0x").unwrap_or(address), 16).ok()?;
        Some((PathBuf::from(name), PhysAddr(base)))
    };
    path.to_str()?.split(',').map(image).collect()
}

/// The one file that was given, if it is text or nothing that is known: a log, for what can do without a dump. A directory
/// stands for the log that kdump left in it, where it could not save the memory.
#[must_use]
pub fn log_alone(paths: &[PathBuf]) -> Option<File> {
    let [path] = paths else { return None };
    let log = if path.is_dir() { capture::log(path)? } else { path.clone() };
    let kind = probe(&FileSource::open(&log).ok()?);
    matches!(kind, Kind::Text | Kind::Unknown).then(|| File::open(&log).ok()).flatten()
}

#[derive(Default)]
struct Sorter {
    inputs: Inputs,
    useless: Vec<(String, Kind)>,
}

impl Sorter {
    fn file(&mut self, path: &Path, raw_base: Option<PhysAddr>) -> Result<(), FetchError> {
        let name = path.display().to_string();
        let source = FileSource::open(path)?;
        let mut kind = probe(&source);
        if let Kind::Compressed(tool) = kind {
            let bytes = mmap::map(source.file()).map_err(|error| FetchError::io(path, error))?;
            let inside = unpack::probe_inside(tool, &bytes);
            if is_debuginfo(inside) {
                let bytes = unpack::unpack(tool, &bytes).map_err(|error| FetchError::Unpack {
                    name: name.clone(),
                    tool,
                    why: error.to_string(),
                })?;
                return self.debuginfo(inside, Artifact { name, bytes });
            }
            // A compressed text is as useless as a text; a compressed dump is read through its packing.
            kind = if inside == Kind::Text || inside.is_dump() { inside } else { kind };
        }
        if can_hold(kind) {
            let bytes = mmap::map(source.file()).map_err(|error| FetchError::io(path, error))?;
            let found = vmlinux(&bytes)
                .map_err(|why| FetchError::NoVmlinux { name: name.clone(), why: why.to_string() })?;
            self.inputs.notes.push(format!("{name}: the vmlinux in {}", found.inside.join(", ")));
            return self.debuginfo(Kind::Vmlinux, Artifact { name, bytes: found.bytes });
        }
        if is_debuginfo(kind) {
            let bytes = mmap::map(source.file()).map_err(|error| FetchError::io(path, error))?;
            return self.debuginfo(kind, Artifact { name, bytes });
        }
        match raw_base {
            Some(base) if !source.is_empty() => {
                self.inputs.dump.push(InputFile::raw(name, Arc::new(source), base));
            }
            _ if kind.is_dump() => self.inputs.dump.push(InputFile::new(name, Arc::new(source))),
            _ => self.useless.push((name, kind)),
        }
        Ok(())
    }

    fn debuginfo(&mut self, kind: Kind, file: Artifact) -> Result<(), FetchError> {
        match kind {
            Kind::Vmlinux => self.vmlinux(file),
            Kind::SystemMap => match self.inputs.system_map.replace(file) {
                Some(first) => {
                    let second = self.inputs.system_map.as_ref().map(|file| file.name.clone());
                    Err(twice(first.name, second.unwrap_or_default(), kind))
                }
                None => Ok(()),
            },
            _ => {
                self.inputs.debuginfo.push(file);
                Ok(())
            }
        }
    }

    /// Two vmlinux are one kernel when one is the debug file of the other: the one that was stripped of its contents.
    fn vmlinux(&mut self, file: Artifact) -> Result<(), FetchError> {
        let Some(first) = self.inputs.vmlinux.take() else {
            self.inputs.vmlinux = Some(file);
            return Ok(());
        };
        match (is_debug_file(&first.bytes), is_debug_file(&file.bytes)) {
            (false, true) => {
                self.inputs.vmlinux = Some(first);
                self.inputs.debuginfo.push(file);
            }
            (true, false) => {
                self.inputs.vmlinux = Some(file);
                self.inputs.debuginfo.push(first);
            }
            _ => return Err(twice(first.name, file.name, Kind::Vmlinux)),
        }
        Ok(())
    }

    /// VMware keeps memory in a file that nothing tells by its content: one that was given, or the one beside the snapshot.
    fn image(&mut self) -> Result<(), FetchError> {
        let mut states = self.inputs.dump.iter().filter(|file| probe(&*file.data).can_have_an_image());
        let Some(state) = states.next() else { return Ok(()) };
        let beside = Path::new(&state.name).with_extension("vmem");
        let is_image = |(_, kind): &mut (String, Kind)| matches!(kind, Kind::Unknown | Kind::Zeros);
        let mut images: Vec<PathBuf> =
            self.useless.extract_if(.., is_image).map(|(name, _)| PathBuf::from(name)).collect();
        if images.is_empty() && beside.is_file() {
            images.push(beside);
        }
        for image in images {
            let name = image.display().to_string();
            self.inputs.dump.push(InputFile::new(name, Arc::new(FileSource::open(&image)?)));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Inputs, FetchError> {
        self.image()?;
        if self.inputs.dump.is_empty() {
            return Err(self.no_dump());
        }
        let unused = |(name, kind): (String, Kind)| format!("{name} is {}: not used", kind.description());
        self.inputs.notes.extend(self.useless.into_iter().map(unused));
        Ok(self.inputs)
    }

    fn no_dump(self) -> FetchError {
        let given = [(&self.inputs.vmlinux, Kind::Vmlinux), (&self.inputs.system_map, Kind::SystemMap)];
        let debuginfo = given.into_iter().find_map(|(file, kind)| Some((file.as_ref()?.name.clone(), kind)));
        let module = self.inputs.debuginfo.first().map(|file| (file.name.clone(), Kind::Relocatable));
        match (self.useless.into_iter().next(), debuginfo.or(module)) {
            // What was meant as the dump comes first: beside a vmlinux it is the file to talk about.
            (Some((name, kind)), _) => FetchError::Useless { name, kind },
            (None, Some((name, kind))) => FetchError::NoDump { name, kind },
            (None, None) => FetchError::Nothing,
        }
    }
}

fn is_debuginfo(kind: Kind) -> bool {
    matches!(kind, Kind::Vmlinux | Kind::SystemMap | Kind::Relocatable)
}

fn twice(first: String, second: String, kind: Kind) -> FetchError {
    FetchError::Twice { first, second, what: kind.description() }
}

/// Whether an ELF file has sections without their contents, as `objcopy --only-keep-debug` leaves it.
fn is_debug_file(bytes: &Blob) -> bool {
    let Ok(elf) = ElfFile::parse(bytes.clone()) else { return false };
    let text = elf.find_section(".text");
    text.is_some_and(|text| elf.contents(text).is_ok_and(|contents| contents.is_none()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::unpack::tests::gzip;

    /// An ELF header: machine x86-64, of a type, with one program header that loads at an address or is a note.
    fn elf(kind: u16, segment: u32, address: u64) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        for half in [kind, 62] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        for word in [0_u64, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        for word in [segment, 5] {
            bytes.extend(word.to_le_bytes());
        }
        for word in [120_u64, address, 0x100_0000, 16, 16, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0x90; 4096]);
        bytes
    }

    fn vmlinux() -> Vec<u8> {
        elf(2, 1, 0xffff_ffff_8100_0000)
    }

    fn dump() -> Vec<u8> {
        elf(4, 1, 0xffff_8880_0000_0000)
    }

    const SYSTEM_MAP: &str = "ffffffff81000000 T _text\nffffffff81000040 T _stext\nffffffff81000050 T a\n";

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for (name, bytes) in files {
                fs::write(directory.path().join(name), bytes).unwrap();
            }
            Self(directory)
        }

        fn sort(&self, names: &[&str]) -> Result<Inputs, FetchError> {
            let paths: Vec<_> = names.iter().map(|name| self.0.path().join(name)).collect();
            sort(&paths, None)
        }

        /// The error of these files, without the directory's name.
        fn error(&self, names: &[&str]) -> String {
            let error = self.sort(names).err().expect("an error").to_string();
            error.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    #[test]
    fn a_log_alone_is_told_from_a_dump() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let log = write("console", b"[    0.1] Linux version 6.1\n");
        let dump = write("kernel", &vmlinux());
        assert!(log_alone(std::slice::from_ref(&log)).is_some());
        assert!(log_alone(std::slice::from_ref(&dump)).is_none());
        assert!(log_alone(&[log, dump]).is_none());
        assert!(log_alone(&[directory.path().to_owned()]).is_none());
        write("vmcore-dmesg.txt", b"[    0.1] Linux version 6.1\n");
        assert!(log_alone(&[directory.path().to_owned()]).is_some());
    }

    #[test]
    fn content_tells_and_order_does_not_matter() {
        let packed = gzip(&vmlinux());
        let files = Files::new(&[
            ("d", &dump()),
            ("k", &vmlinux()),
            ("kz", &packed),
            ("m", SYSTEM_MAP.as_bytes()),
            ("t", b"panic\n"),
        ]);
        for names in [["d", "k", "m", "t"], ["t", "m", "kz", "d"]] {
            let inputs = files.sort(&names).unwrap();
            assert_eq!(inputs.dump.len(), 1);
            assert_eq!(&*inputs.vmlinux.unwrap().bytes, &vmlinux()[..]);
            assert!(inputs.system_map.is_some());
            assert!(inputs.notes[0].ends_with("t is a text file: not used"), "{:?}", inputs.notes);
        }
        assert_eq!(files.sort(&["d", "d"]).unwrap().dump.len(), 2);
    }

    #[test]
    fn what_is_no_dump_says_what_it_is_and_what_to_give() {
        let bzip2 = b"BZh91AY&SY\x17\x72\x45\x38\x50\x90\0\0\0\0";
        let files = Files::new(&[("k", &vmlinux()), ("t", b"panic\n"), ("e", b""), ("z", bzip2)]);
        assert_eq!(
            files.error(&["k"]),
            "k is a vmlinux, and no dump was given: give it together with a vmcore"
        );
        assert_eq!(files.error(&["k", "t"]), "t is a text file: give the vmcore that was written beside it");
        assert_eq!(files.error(&["k", "k"]), "k and k are both a vmlinux: give one of them");
        assert!(files.error(&["e"]).starts_with("e is empty: "));
        assert!(files.error(&["z"]).starts_with("z is a file compressed by bzip2: "));
        assert_eq!(Files::new(&[("z", &gzip(&dump()))]).sort(&["z"]).unwrap().dump.len(), 1);
        assert_eq!(files.error(&[]), "no dump was given: kdive [VMLINUX] VMCORE");
    }

    #[test]
    fn the_image_beside_a_snapshot_is_found_or_given() {
        let state = b"\xd2\xbe\xd2\xbe\x08\0\0\0\0\0\0\0";
        let files = Files::new(&[("vm.vmss", state), ("vm.vmem", &[1; 100]), ("other", &[1; 100])]);
        let path = |name: &str| files.0.path().join(name);
        let names = |paths: &[PathBuf]| {
            let dump = sort(paths, None).unwrap().dump;
            dump.into_iter().map(|file| file.name).collect::<Vec<_>>()
        };
        let shown =
            |names: &[&str]| names.iter().map(|name| path(name).display().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&[path("vm.vmss")]), shown(&["vm.vmss", "vm.vmem"]));
        assert_eq!(names(&[path("other"), path("vm.vmss")]), shown(&["vm.vmss", "other"]));
    }

    #[test]
    fn a_raw_image_is_what_the_user_says() {
        let files = Files::new(&[("raw", &[0; 8192]), ("k", &vmlinux())]);
        let paths = ["raw", "k"].map(|name| files.0.path().join(name));
        let inputs = sort(&paths, Some(PhysAddr(0x1000))).unwrap();
        assert_eq!(inputs.dump[0].raw_base, Some(PhysAddr(0x1000)));
        assert!(files.error(&["raw"]).contains("raw image of RAM"));
    }

    #[test]
    fn raw_images_carry_their_bases_as_crash_wants_them() {
        let files = Files::new(&[("low", &[0; 4096]), ("high", &[0; 4096]), ("odd@10", &dump())]);
        let path = |name: &str| files.0.path().join(name).display().to_string();
        let both = format!("{}@0x1000,{}@80000000", path("low"), path("high"));
        let bases = |inputs: Inputs| inputs.dump.iter().map(|file| file.raw_base).collect::<Vec<_>>();
        let inputs = sort(&[both.into()], None).unwrap();
        assert_eq!(bases(inputs), [Some(PhysAddr(0x1000)), Some(PhysAddr(0x8000_0000))]);
        assert_eq!(bases(sort(&[path("odd@10").into()], None).unwrap()), [None], "there is such a file");
        assert!(sort(&[path("low@x").into()], None).is_err());
    }

    #[test]
    fn a_directory_stands_for_the_dump_in_it() {
        let files = Files::new(&[("vmcore", &dump()), ("vmcore-dmesg.txt", b"panic\n")]);
        assert_eq!(sort(&[files.0.path().to_owned()], None).unwrap().dump.len(), 1);
    }
}
