//! Where the lab keeps things, and the kernels it has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::run;

/// The lab's directory.
pub(crate) struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// The directory given, or `~/.cache/kdive-lab`.
    pub(crate) fn open(dir: Option<PathBuf>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => std::env::home_dir()
                .context("no home directory: give --dir or set KDIVE_LAB")?
                .join(".cache/kdive-lab"),
        };
        run::make_dir(&dir)?;
        let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The directory itself; descriptors name files relative to it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Dumps with their descriptors, consoles and truths.
    pub(crate) fn dumps(&self) -> PathBuf {
        self.dir.join("dumps")
    }

    /// The root of a small Debian of this suite.
    pub(crate) fn chroot(&self, suite: &str) -> PathBuf {
        self.dir.join("chroots").join(suite)
    }

    /// A scratch directory, empty.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join("tmp").join(name);
        run::fresh_dir(&dir)?;
        Ok(dir)
    }

    /// An unpacked kernel.
    pub(crate) fn kernel_dir(&self, release: &str) -> PathBuf {
        self.dir.join(release)
    }

    /// The prepared kernels, oldest series first.
    pub(crate) fn kernels(&self) -> Result<Vec<Kernel>> {
        let mut kernels = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let file = entry?.path().join(Kernel::FILE);
            if file.is_file() {
                let text = std::fs::read_to_string(&file)?;
                let kernel: Kernel =
                    serde_json::from_str(&text).with_context(|| file.display().to_string())?;
                kernels.push(kernel);
            }
        }
        kernels.sort_by_key(|kernel| version_numbers(&kernel.release));
        Ok(kernels)
    }

    /// The kernel whose release or series is `name`.
    pub(crate) fn kernel(&self, name: &str) -> Result<Kernel> {
        let kernels = self.kernels()?;
        let known: Vec<String> = kernels.iter().map(|kernel| kernel.release.clone()).collect();
        match kernels.into_iter().rfind(|kernel| kernel.release == name || kernel.series == name) {
            Some(kernel) => Ok(kernel),
            None if known.is_empty() => bail!("no kernel is prepared: run `cargo xtask lab prepare`"),
            None => bail!("no kernel {name}; there are {}", known.join(", ")),
        }
    }
}

/// The repository's `lab/`: the crasher module, the guest's programs, its init script.
pub(crate) fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lab")
}

/// A prepared kernel.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// `6.12`: the first two numbers, which name its dumps.
    pub(crate) series: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// The Debian suite it came from, which also has its compiler.
    pub(crate) suite: String,
}

impl Kernel {
    const FILE: &str = "kernel.json";

    pub(crate) fn new(release: &str, suite: &str) -> Self {
        let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
        Self { series, release: release.into(), suite: suite.into() }
    }

    /// Marks it as prepared.
    pub(crate) fn save(&self, lab: &Lab) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(lab.kernel_dir(&self.release).join(Self::FILE), text)?;
        Ok(())
    }

    /// The compressed image, from the lab's directory on.
    pub(crate) fn image(&self) -> String {
        format!("{0}/boot/vmlinuz-{0}", self.release)
    }

    /// The ELF file with debuginfo, from the lab's directory on.
    pub(crate) fn vmlinux(&self) -> String {
        format!("{0}/usr/lib/debug/boot/vmlinux-{0}", self.release)
    }

    /// The modules as they are loaded, from the lab's directory on.
    pub(crate) fn modules(&self) -> String {
        format!("{0}/lib/modules/{0}", self.release)
    }

    /// The modules' debuginfo, from the lab's directory on.
    pub(crate) fn debug_modules(&self) -> String {
        format!("{0}/usr/lib/debug/lib/modules/{0}", self.release)
    }

    /// The crasher module with its debuginfo, from the lab's directory on.
    pub(crate) fn crasher(&self) -> String {
        format!("{}/crasher/crasher.ko", self.release)
    }

    /// The guest's initial RAM disk, from the lab's directory on.
    pub(crate) fn initrd(&self) -> String {
        format!("{}/initrd.gz", self.release)
    }
}

/// The numbers in a release, in order: what "newest" compares.
pub(crate) fn version_numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}
