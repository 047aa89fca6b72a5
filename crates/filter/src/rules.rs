//! Rules that keep or leave out pages by whom they belong to, whatever the level says.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kdive_base::VirtAddr;
use kdive_dump::write::Frames;
use kdive_linux::cgroup::Cgroups;
use kdive_linux::mm::MmLoader;
use kdive_linux::pages::{Charges, Excludable, PageOwners};
use kdive_linux::slab::{Slabs, aliases};
use kdive_linux::tasks::{Task, Tasks};
use kdive_linux::vma;
use kdive_target::{AddressSpace, Field, Kernel, Lacks};
use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::first::{insert, insert_mapped};

/// Whom pages belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A slab cache, by its name or that of a cache merged into it.
    Cache,
    /// A module, by its name.
    Module,
    /// A control group and those below it, by its path.
    Cgroup,
    /// A process, by the pid or the name of one of its threads.
    Task,
}

/// Whom a rule is about: `cache:NAME`, `module:NAME`, `cgroup:PATH`, `task:PID` or `task:NAME`. `*` and `?` stand for any
/// text and any letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What kind of thing.
    pub owner: Owner,
    /// Its name.
    pub pattern: String,
}

/// Not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: a rule is cache:NAME, module:NAME, cgroup:PATH, task:PID or task:NAME")]
pub struct NotARule(String);

impl Owner {
    const ALL: [(&'static str, Self); 4] =
        [("cache", Self::Cache), ("module", Self::Module), ("cgroup", Self::Cgroup), ("task", Self::Task)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, owner)| *owner == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, pattern) = text.split_once(':').ok_or_else(|| NotARule(text.to_owned()))?;
        let found = Owner::ALL.iter().find(|(name, _)| *name == kind).filter(|_| !pattern.is_empty());
        let (_, owner) = found.ok_or_else(|| NotARule(text.to_owned()))?;
        Ok(Self { owner: *owner, pattern: pattern.to_owned() })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.owner.name(), self.pattern)
    }
}

/// What a rule does with the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// They are written, whatever the level and other rules say.
    Keep,
    /// They are left out.
    Drop,
}

/// What a rule found in the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct RuleFound {
    /// What it does.
    pub verdict: Verdict,
    /// The rule.
    pub rule: String,
    /// What it is about: caches, modules, groups, processes with their pids.
    pub names: Vec<String>,
    /// What it could not find.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

impl fmt::Display for RuleFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Names that are said; JSON has all.
        const SAID: usize = 6;
        let verb = if self.verdict == Verdict::Keep { "keeps" } else { "leaves out" };
        write!(f, "{} {verb} ", self.rule)?;
        match self.names.get(..SAID).filter(|_| self.names.len() > SAID) {
            _ if self.names.is_empty() => f.write_str("nothing")?,
            Some(first) => write!(f, "{}, and {} more", first.join(", "), self.names.len() - SAID)?,
            None => f.write_str(&self.names.join(", "))?,
        }
        self.lacks.iter().try_for_each(|lacks| write!(f, "; {lacks}"))
    }
}

/// Pages of one verdict.
#[derive(Debug, Default)]
struct Pages {
    /// By number: modules, and of what is kept the memory of processes.
    frames: Frames,
    /// By number, but no page that the kernel itself uses: memory of processes that is left out.
    of_tasks: Frames,
    /// Of these caches (`struct kmem_cache`).
    caches: FxHashSet<u64>,
    /// Charged to these groups (`struct mem_cgroup`).
    groups: FxHashSet<u64>,
}

/// The rules of a dump, bound to its kernel.
pub struct Rules {
    kernel: Arc<Kernel>,
    keep: Pages,
    drop: Pages,
    owners: Option<PageOwners>,
    charges: Option<Charges>,
    found: Vec<RuleFound>,
}

impl Rules {
    /// Looks up what the rules are about. A rule that finds nothing does nothing, and [`Rules::found`] says so: a dump is
    /// better than none.
    #[must_use]
    pub fn find(kernel: &Arc<Kernel>, keep: &[Rule], drop: &[Rule]) -> Self {
        let mut rules = Self {
            kernel: kernel.clone(),
            keep: Pages::default(),
            drop: Pages::default(),
            owners: PageOwners::find(kernel).ok(),
            charges: None,
            found: Vec::new(),
        };
        let all = keep.iter().map(|rule| (Verdict::Keep, rule));
        for (verdict, rule) in all.chain(drop.iter().map(|rule| (Verdict::Drop, rule))) {
            let mut found =
                RuleFound { verdict, rule: rule.to_string(), names: Vec::new(), lacks: Vec::new() };
            if let Err(lacks) = rules.look_up(rule, &mut found) {
                found.lacks.push(lacks.to_string());
            } else if found.names.is_empty() {
                found.lacks.push(format!("there is no such {}", rule.owner.name()));
            }
            rules.found.push(found);
        }
        rules
    }

    /// What each rule found.
    #[must_use]
    pub fn found(&self) -> &[RuleFound] {
        &self.found
    }

    /// Whether page structures have to be looked at.
    #[must_use]
    pub fn ask_pages(&self) -> bool {
        [&self.keep, &self.drop]
            .iter()
            .any(|pages| !pages.caches.is_empty() || !pages.groups.is_empty() || !pages.of_tasks.is_empty())
    }

    /// Pages that are kept by their numbers.
    pub(crate) fn kept_frames(&self) -> &Frames {
        &self.keep.frames
    }

    /// Pages that are left out by their numbers.
    pub(crate) fn dropped_frames(&self) -> &Frames {
        &self.drop.frames
    }

    /// Pages that are left out by their numbers, unless the kernel itself uses them.
    pub(crate) fn dropped_of_tasks(&self) -> &Frames {
        &self.drop.of_tasks
    }

    /// What the rules say of a page by its structure, with which `bytes` begin, and what else it is.
    pub(crate) fn judge(&self, bytes: &[u8], class: Option<Excludable>) -> Option<Verdict> {
        let owners = self.owners.as_ref()?;
        // Nobody owns these, whatever their structures hold.
        if matches!(class, Some(Excludable::Free | Excludable::HwPoison | Excludable::Offline)) {
            return None;
        }
        let cache = owners.cache(bytes);
        let group = || self.charges.as_ref()?.group(&self.kernel, owners.charge(bytes)?);
        let group = if cache.is_none() { group() } else { None };
        let is_of = |pages: &Pages| {
            (
                cache.is_some_and(|at| pages.caches.contains(&at.0)),
                group.is_some_and(|at| pages.groups.contains(&at.0)),
            )
        };
        match (is_of(&self.keep), is_of(&self.drop)) {
            ((true, _) | (_, true), _) => Some(Verdict::Keep),
            // Page tables and stacks are charged to groups: without them nothing could be told of its tasks.
            (_, (true, _)) => Some(Verdict::Drop),
            (_, (_, true)) if class.is_some() => Some(Verdict::Drop),
            _ => None,
        }
    }

    fn look_up(&mut self, rule: &Rule, found: &mut RuleFound) -> Field<()> {
        match rule.owner {
            Owner::Cache => self.caches(&rule.pattern, found),
            Owner::Module => self.modules(&rule.pattern, found),
            Owner::Cgroup => self.groups(&rule.pattern, found),
            Owner::Task => self.tasks(&rule.pattern, found),
        }
    }

    fn pages(&mut self, verdict: Verdict) -> &mut Pages {
        match verdict {
            Verdict::Keep => &mut self.keep,
            Verdict::Drop => &mut self.drop,
        }
    }

    fn owners(&self) -> Field<&PageOwners> {
        self.owners.as_ref().ok_or_else(|| Lacks::unavailable("page structures cannot be read"))
    }

    fn caches(&mut self, pattern: &str, found: &mut RuleFound) -> Field<()> {
        self.owners()?.know_caches()?;
        let caches = Slabs::find(&self.kernel).caches(&self.kernel)?;
        let merged = aliases::find(&self.kernel).unwrap_or_default();
        for cache in &caches.list {
            let name = cache.display_name();
            let others = merged.caches.get(&cache.at).map_or(&[][..], Vec::as_slice);
            let other = others.iter().find(|other| matches(pattern, other));
            if matches(pattern, &name) {
                found.names.push(name.to_string());
            } else if let Some(other) = other {
                found.names.push(format!("{name} (with {other})"));
            } else {
                continue;
            }
            self.pages(found.verdict).caches.insert(cache.at.0);
        }
        found.lacks.extend(caches.incomplete.map(|lacks| lacks.to_string()));
        Ok(())
    }

    fn modules(&mut self, pattern: &str, found: &mut RuleFound) -> Field<()> {
        let kernel = self.kernel.clone();
        // As the kernel writes names.
        let pattern = pattern.replace('-', "_");
        for module in kernel.modules().iter().filter(|module| matches(&pattern, &module.name)) {
            found.names.push(module.name.to_string());
            for part in &module.memory {
                insert_mapped(&kernel, part.start, part.bytes, &mut self.pages(found.verdict).frames);
            }
        }
        Ok(())
    }

    fn groups(&mut self, pattern: &str, found: &mut RuleFound) -> Field<()> {
        self.owners()?.know_groups()?;
        let groups = Cgroups::find(&self.kernel)?;
        let pattern = pattern.trim_matches('/');
        for group in groups.hierarchies.iter().flat_map(|of| &of.groups) {
            let Some(memory) = &group.memory else { continue };
            let path = group.path.trim_matches('/');
            if matches(pattern, path) {
                found.names.push(group.path.clone());
            } else if !is_below(pattern, path) {
                continue;
            }
            self.pages(found.verdict).groups.insert(memory.at.0);
        }
        self.charges.get_or_insert_with(|| Charges::new(&self.kernel, &groups));
        Ok(())
    }

    fn tasks(&mut self, pattern: &str, found: &mut RuleFound) -> Field<()> {
        let kernel = self.kernel.clone();
        let tasks = Tasks::find(&kernel);
        let number: Option<i32> = pattern.parse().ok();
        let is_meant = |task: &Task| match number {
            Some(number) => task.pid == Ok(number) || task.tgid == Ok(number),
            None => matches(pattern, task.name()),
        };
        // Threads share their memory: the first one names the process.
        let mut processes = FxHashSet::default();
        for task in tasks.all().iter().filter(|task| is_meant(task)) {
            let Some(mm) = task.mm.as_ref().ok().filter(|mm| !mm.is_null()) else { continue };
            if !processes.insert(*mm) {
                continue;
            }
            let pid = task.tgid.as_ref().or(task.pid.as_ref()).map_or("?".to_owned(), i32::to_string);
            found.names.push(format!("{} ({pid})", task.name()));
            let loader = MmLoader::new(&kernel);
            let space = loader.space(&loader.load(*mm))?;
            let pages = self.pages(found.verdict);
            let into = match found.verdict {
                Verdict::Keep => &mut pages.frames,
                Verdict::Drop => &mut pages.of_tasks,
            };
            if let Err(lacks) = user_frames(&kernel, *mm, &space, into) {
                found.lacks.push(lacks.to_string());
            }
        }
        if found.names.is_empty() && tasks.all().iter().any(is_meant) {
            return Err(Lacks::unavailable(
                "it has no memory of its own: a thread of the kernel, or it has exited",
            ));
        }
        Ok(())
    }
}

/// The pages that the areas of a process map.
fn user_frames(kernel: &Kernel, mm: VirtAddr, space: &AddressSpace, into: &mut Frames) -> Field<()> {
    let (areas, incomplete) = vma::all(kernel, mm)?;
    let mut missing = 0_u64;
    for area in &areas {
        let (Ok(start), Ok(end)) = (&area.start, &area.end) else { continue };
        if start < end {
            let runs = space.mapped(*start, end.sub(1)).inspect(|run| missing += u64::from(run.is_err()));
            insert(runs.flatten(), into);
        }
    }
    match incomplete {
        Some(lacks) => Err(lacks),
        None if missing > 0 => {
            Err(Lacks::unavailable(format_args!("{missing} of its page tables are not in the dump")))
        }
        None => Ok(()),
    }
}

/// Whether a path lies below one that a pattern means.
fn is_below(pattern: &str, path: &str) -> bool {
    let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
    pattern.is_empty() || parents.into_iter().any(|parent| matches(pattern, parent))
}

/// Whether a pattern of letters, `*` and `?` means a name. Linear for each `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut here) = (0, 0);
    // Behind the last `*`, and where the text that it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = name.get(here) {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                star = Some((at, here));
            }
            Some(wanted) if *wanted == '?' || wanted == letter => {
                at += 1;
                here += 1;
            }
            _ => {
                let Some((behind, end)) = star else { return false };
                star = Some((behind, end + 1));
                (at, here) = (behind, end + 1);
            }
        }
    }
    pattern.iter().skip(at).all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_a_kind_and_a_name() {
        let rule: Rule = "cgroup:/system.slice/a:b".parse().unwrap();
        assert_eq!((rule.owner, &*rule.pattern), (Owner::Cgroup, "/system.slice/a:b"));
        assert_eq!(rule.to_string(), "cgroup:/system.slice/a:b");
        for wrong in ["", "dentry", "cache:", "slab:dentry", ":x"] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn stars_stand_for_any_text_and_question_marks_for_a_letter() {
        for (pattern, name, expected) in [
            ("bash", "bash", true),
            ("bash", "bash2", false),
            ("kmalloc-*", "kmalloc-64", true),
            ("kmalloc-*", "kmalloc", false),
            ("*", "", true),
            ("?", "", false),
            ("k*-?", "kmalloc-rcl-8", true),
            ("*ab*b", "aabab", true),
            ("*ab*c", "aabab", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} of {name}");
        }
    }

    #[test]
    fn groups_below_a_group_belong_to_it() {
        assert!(is_below("system.slice", "system.slice/cron.service"));
        assert!(is_below("a/*", "a/b/c"));
        assert!(is_below("", "a"));
        assert!(!is_below("a/b", "a/bc"));
        assert!(!is_below("a", "b/a"));
    }
}
