//! Debian: programs of this machine, and a small root directory per suite.
//!
//! A kernel's modules are built in the suite it came from, with that suite's compiler and headers at the paths they
//! expect; kernels are downloaded there too, so this machine's own package sources stay as they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::place::Lab;
use crate::run;

/// Where Debian's packages come from: as given, or where this machine's own package sources have them from.
pub(crate) fn mirror(given: Option<&str>) -> Result<String> {
    if let Some(given) = given {
        return Ok(given.trim_end_matches('/').to_owned());
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(more) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(more.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let words: Vec<String> =
        texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    let archive = |word: &String| {
        let path = word.strip_prefix("http")?.trim_end_matches('/');
        path.strip_suffix("/debian").map(|start| format!("http{start}"))
    };
    words
        .iter()
        .find_map(archive)
        .context("no Debian archive in this machine's package sources: give --mirror")
}

/// Programs that must run on this machine, and the packages that bring them.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("depmod", "kmod"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("mkswap", "util-linux"),
    ("setpriv", "util-linux"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("strip", "binutils"),
];

/// What debootstrap needs to trust the archive; it is no program.
const KEYRING: (&str, &str) = ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring");

/// Installs the packages whose programs are missing; none is, usually.
pub(crate) fn install_programs() -> Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| run::find_program(program).is_none()).map(|p| p.1).collect();
    if !PathBuf::from(KEYRING.0).exists() {
        missing.push(KEYRING.1);
    }
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    run::output(&mut run::command("apt-get", ["update", "-q"]))?;
    let options = ["install", "-y", "-q", "--no-install-recommends"];
    let mut install = run::command("apt-get", options.iter().chain(&missing));
    run::output(install.env("DEBIAN_FRONTEND", "noninteractive"))
        .context("the lab needs these packages, and root to install them")?;
    Ok(())
}

/// A Debian of one suite in a directory.
pub(crate) struct Suite {
    name: String,
    root: PathBuf,
}

impl Suite {
    /// The suite as it is on disk, made or not.
    pub(crate) fn at(lab: &Lab, name: &str) -> Self {
        Self { name: name.into(), root: lab.chroot(name) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A path inside, seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Makes the root directory if it is not there, and reads the archive's current lists.
    pub(crate) fn refresh(&self, mirror: &str) -> Result<()> {
        if !self.path("/usr/bin/apt-get").exists() {
            println!("{}: making a root directory (debootstrap)", self.name);
            run::make_dir(&self.root)?;
            let root = self.root.to_string_lossy().into_owned();
            let archive = format!("{mirror}/debian");
            run::output(&mut run::command(
                "debootstrap",
                ["--variant=minbase", &self.name, &root, &archive],
            ))?;
        }
        let mut sources = format!("deb {mirror}/debian {} main\n", self.name);
        if self.name != "unstable" {
            sources += &format!("deb {mirror}/debian-security {}-security main\n", self.name);
        }
        std::fs::write(self.path("/etc/apt/sources.list"), sources)?;
        // A mirror may lag behind the date that the index gives for itself.
        self.apt("apt-get", &["-o", "Acquire::Check-Valid-Until=false", "update", "-q"])?;
        Ok(())
    }

    /// A command to run inside, with `/proc` there for as long as it runs: objtool of 7.2 asks it for its stack's limit.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let script = "mount -t proc proc \"$0/proc\"; exec chroot \"$0\" \"$@\"";
        let mut command = run::command("unshare", ["--mount", "sh", "-c", script]);
        command.arg(&self.root).arg(program).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs one of apt's programs inside.
    pub(crate) fn apt(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut all = vec!["-o", "APT::Sandbox::User=root"];
        all.extend(args);
        run::output(&mut self.command(program, &all))
    }

    /// Installs packages inside.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
        args.extend(packages);
        self.apt("apt-get", &args)?;
        Ok(())
    }

    /// An empty directory inside, and its path from outside.
    pub(crate) fn scratch(&self, name: &str) -> Result<(String, PathBuf)> {
        let inside = format!("/var/tmp/kdive-lab/{name}");
        let outside = self.path(&inside);
        run::fresh_dir(&outside)?;
        Ok((inside, outside))
    }
}
