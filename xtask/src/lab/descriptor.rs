//! `NAME.json` beside each dump: what it is and where its kernel is. Checks, benches and tests read it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::place::{Lab, version_numbers};
use super::vary::Variation;

/// The first kernel whose page flags makedumpfile (up to 1.7.9) takes for others.
const MISFILTERED_FROM: [u64; 2] = [7, 1];
/// The dump level that looks at a page's content, not at its flags.
const ZERO_PAGES_ONLY: u32 = 1;

/// A dump of the lab. Paths are relative to the lab's directory.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Descriptor {
    /// `6.12-null.elf`.
    pub(crate) name: String,
    /// One file, or the parts of a split set.
    pub(crate) files: Vec<String>,
    pub(crate) format: String,
    /// makedumpfile's flags, or the words for kdive, when a capture kernel wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) makedumpfile: Option<String>,
    pub(crate) scenario: String,
    /// What the module of the lab was drawn from, and what became of the names of its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variation: Option<Variation>,
    pub(crate) series: String,
    pub(crate) release: String,
    pub(crate) suite: String,
    pub(crate) vmlinux: String,
    /// Modules as they were loaded.
    pub(crate) modules: String,
    /// Debuginfo of the modules.
    pub(crate) debug_modules: String,
    pub(crate) crasher: String,
    pub(crate) initrd: String,
    /// The guest's first serial port.
    pub(crate) console: String,
    /// The facts that the guest wrote down.
    pub(crate) truth: String,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    /// 5-level paging.
    pub(crate) la57: bool,
    /// Did the kernel panic, or was it dumped alive?
    pub(crate) panicked: bool,
    /// Functions that the panicking task's backtrace must have in this order, innermost first; `a|b` and `a*` as in
    /// the scenario table.
    pub(crate) frames: Vec<String>,
}

impl Descriptor {
    fn path(lab: &Lab, name: &str) -> PathBuf {
        lab.dumps().join(format!("{name}.json"))
    }

    pub(crate) fn save(&self, lab: &Lab) -> Result<()> {
        std::fs::write(Self::path(lab, &self.name), serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    pub(crate) fn exists(lab: &Lab, name: &str) -> bool {
        Self::path(lab, name).exists()
    }

    /// Deletes the dump and what describes it.
    pub(crate) fn remove(&self, lab: &Lab) -> Result<()> {
        std::fs::remove_file(Self::path(lab, &self.name))?;
        for path in self.paths(lab).iter().filter(|path| path.exists()) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn load(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
    }

    /// All dumps, by name.
    pub(crate) fn all(lab: &Lab) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let Ok(entries) = std::fs::read_dir(lab.dumps()) else { return Ok(found) };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.push(Self::load(&path)?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// What a name of the module's sources is called in this dump.
    pub(crate) fn called<'a>(&'a self, name: &'a str) -> &'a str {
        self.variation.as_ref().map_or(name, |variation| variation.called(name))
    }

    /// The dump's files, on this machine.
    pub(crate) fn paths(&self, lab: &Lab) -> Vec<PathBuf> {
        self.files.iter().map(|file| lab.dir().join(file)).collect()
    }

    /// Did makedumpfile leave out pages by page flags that it reads wrongly?
    pub(crate) fn is_misfiltered(&self) -> bool {
        let flags = self.makedumpfile.as_deref().unwrap_or_default();
        let level = flags
            .split_whitespace()
            .skip_while(|word| *word != "-d")
            .nth(1)
            .and_then(|word| word.parse().ok());
        let is_ours = flags.starts_with(super::format::OURS);
        !is_ours
            && version_numbers(&self.series) >= MISFILTERED_FROM.to_vec()
            && level.unwrap_or(0) > ZERO_PAGES_ONLY
    }
}
