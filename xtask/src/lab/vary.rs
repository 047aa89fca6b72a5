//! The crasher module in another shape: names, offsets in functions and structures, values and variants drawn from a
//! seed, so that no rule of triage can live on what the lab calls its functions. Seed 0 is the module as it is written.
//!
//! What may be drawn for a value stands behind it in `lab/crasher/varied.h`. Functions are found in the sources; what else
//! gets another name stands in [`NAMES`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::scenario::SCENARIOS;

/// The header with the values.
const VALUES: &str = "varied.h";

/// Modules, structures, members, variables, caches, threads and queues of the sources, besides its functions.
const NAMES: &[&str] = &[
    "crasher",
    "patcher",
    "evidence",
    "witness",
    "widget",
    "leaked",
    "peer",
    "measure",
    "numbers",
    "spare",
    "evidence_list",
    "evidence_cache",
    "evidence_tree",
    "evidence_xa",
    "witness_list",
    "widget_cache",
    "lock_a",
    "lock_b",
    "first_sem",
    "second_sem",
    "device_mutex",
    "orphan",
    "late_timer",
    "late_tasklet",
    "panicking_work",
    "stuck_work",
    "pending_works",
    "crasher_wq",
    "wq_flusher",
    "patch_holdout",
    "mutex_a",
    "mutex_b",
    "mutex_of_rwsem",
    "mutex_of_rtnl",
    "pinned_pages",
    "spin_behind",
    "spin_twice",
    "rcu_reader",
    "rcu_waiter",
    "deaf",
    "ipi_caller",
    "mutex_one",
    "mutex_two",
    "mutex_third",
    "rwsem_reader",
    "rwsem_writer",
    "rwsem_late",
    "rtnl_holder",
    "rtnl_wanter",
    "sem_holder",
    "sem_waiter",
    "rtm_holder",
    "rtm_waiter",
    "ww_holder",
    "ww_waiter",
    "percpu_reader",
    "percpu_writer",
    "page_holder",
    "page_waiter",
    "event_waiter",
    "bit_waiter",
];

const VERBS: &[&str] = &[
    "probe", "poll", "xmit", "reap", "fill", "drain", "arm", "kick", "sync", "commit", "apply", "setup",
    "update", "handle", "walk", "scan", "fetch", "attach", "post", "run", "map", "start", "parse", "resolve",
];
const NOUNS: &[&str] = &[
    "ring", "slot", "desc", "queue", "conf", "chan", "frame", "stats", "entry", "block", "unit", "port",
    "sess", "ctx", "node", "area", "link", "batch", "cell", "vport", "group", "table", "bucket", "cmd",
];
const SYLLABLES: &[&str] = &[
    "ba", "den", "fi", "gol", "hu", "jar", "ka", "lom", "mi", "nu", "per", "qua", "ro", "sil", "tu", "vex",
    "zo",
];

/// Up to so many bytes of padding in a function, and so many functions in front of another.
const PADDING: u64 = 90;
const DECOYS: u64 = 2;

/// What a seed made of the sources: kept beside the module, and in the descriptor of each dump.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Variation {
    pub(crate) seed: u64,
    /// What each name of the sources became.
    pub(crate) names: BTreeMap<String, String>,
}

/// A source file: its name and its text.
pub(crate) type Source = (String, String);

/// The sources as the seed wants them.
pub(crate) fn vary(seed: u64, sources: &[Source]) -> (Variation, Vec<Source>) {
    let mut random = Random(seed);
    let names = draw_names(&mut random, sources);
    let varied = sources.iter().map(|(file, text)| {
        let text = match file.as_str() {
            VALUES => draw_values(&mut random, text),
            file if file.ends_with(".c") => pad(&mut random, text),
            _ => text.clone(),
        };
        (rename(&names, file), rename(&names, &text))
    });
    let varied = varied.collect();
    (Variation { seed, names }, varied)
}

impl Variation {
    /// What a name of the sources is called.
    pub(crate) fn called<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }
}

/// SplitMix64: the same draws everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> Option<&'a T> {
        let at = self.below(all.len() as u64);
        all.get(usize::try_from(at).ok()?).copied()
    }

    fn word<'a>(&mut self, all: &[&'a str]) -> &'a str {
        self.one_of(all).unwrap_or_default()
    }
}

fn draw_names(random: &mut Random, sources: &[Source]) -> BTreeMap<String, String> {
    let base: String = (0..2 + random.below(2)).map(|_| random.word(SYLLABLES)).collect();
    let functions = sources.iter().filter(|(file, _)| file.ends_with(".c"));
    let functions = functions.flat_map(|(_, text)| definitions(text).into_values());
    let wanted: BTreeSet<String> = functions.chain(NAMES.iter().map(ToString::to_string)).collect();
    let mut used = BTreeSet::new();
    let mut names = BTreeMap::new();
    for name in wanted {
        loop {
            let (verb, noun, other) = (random.word(VERBS), random.word(NOUNS), random.word(NOUNS));
            let drawn = match random.below(5) {
                0 => format!("{base}_{verb}_{noun}"),
                1 => format!("{verb}_{base}_{noun}"),
                2 => format!("{base}_{noun}_{verb}"),
                3 => format!("{base}_{noun}_{other}_{verb}"),
                _ => format!("{base}_{verb}"),
            };
            if used.insert(drawn.clone()) {
                names.insert(name, drawn);
                break;
            }
        }
    }
    names
}

/// The functions that a source defines, by the number of their line `{`.
fn definitions(text: &str) -> BTreeMap<usize, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for (number, _) in lines.iter().enumerate().filter(|(_, line)| **line == "{") {
        let head = lines.iter().take(number).rfind(|line| line.starts_with(|c: char| c.is_alphabetic()));
        let name = head.and_then(|head| {
            let before = head.split_once('(')?.0;
            Some(before.rsplit(|c: char| !is_word(c)).next()?.to_owned())
        });
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            found.insert(number, name);
        }
    }
    found
}

/// Instructions that do nothing in each function, and functions that nothing calls between them.
fn pad(random: &mut Random, text: &str) -> String {
    let definitions = definitions(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut decoys = 0;
    let mut padded = String::new();
    for (number, line) in lines.iter().enumerate() {
        let starts = line.starts_with(|c: char| c.is_alphabetic()) && line.contains('(');
        let next = definitions.range(number..).next().map(|(at, _)| *at);
        let is_head = starts
            && next.is_some_and(|at| lines.iter().take(at).skip(number + 1).all(|l| l.starts_with('\t')));
        for _ in 0..if is_head { random.below(DECOYS + 1) } else { 0 } {
            decoys += 1;
            let (factor, more) = (3 + random.below(90), random.below(PADDING));
            padded += &format!(
                "static noinline __attribute__((used)) int unused_{decoys}(int n)\n{{\n\tasm volatile(\".skip {more}, 0x90\");\n\
                 \treturn n * {factor};\n}}\n\n"
            );
        }
        padded += line;
        padded.push('\n');
        if definitions.contains_key(&number) {
            padded += &format!("\tasm volatile(\".skip {}, 0x90\");\n", random.below(PADDING));
        }
    }
    padded
}

/// Draws the value of each line `#define NAME VALUE /* RANGE OR CHOICE */`.
fn draw_values(random: &mut Random, text: &str) -> String {
    let lines = text.lines().map(|line| draw_value(random, line).unwrap_or_else(|| line.to_owned()));
    lines.map(|line| line + "\n").collect()
}

fn draw_value(random: &mut Random, line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("#define ")?.split_once(char::is_whitespace)?;
    let (value, choice) = rest.trim().split_once("/*")?;
    let (value, choice) = (value.trim(), choice.strip_suffix("*/")?.trim());
    if choice.starts_with('|') {
        let texts = strings(rest);
        let drawn = random.one_of(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        return Some(format!("#define {name} {drawn}"));
    }
    let range = choice.split_once(':').map_or(choice, |(range, _)| range).trim();
    let (range, step) = range.split_once(" step ").unwrap_or((range, "1"));
    let (first, last) = range.split_once("..")?;
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    let drawn = first + step * random.below((last - first) / step + 1);
    let drawn = if value.starts_with("0x") { format!("{drawn:#x}") } else { drawn.to_string() };
    let suffix = if value.ends_with("UL") { "UL" } else { "" };
    Some(format!("#define {name} {drawn}{suffix}"))
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The string literals of a line of C, with their quotes.
fn strings(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    let mut escaped = false;
    for c in line.chars() {
        match &mut open {
            None if c == '"' => open = Some(String::from(c)),
            None => {}
            Some(text) => {
                text.push(c);
                if c == '"' && !escaped {
                    found.extend(open.take());
                }
                escaped = c == '\\' && !escaped;
            }
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Replaces whole words, in strings too; only the table of scenarios keeps its words.
fn rename(names: &BTreeMap<String, String>, text: &str) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        let is_scenario = before.ends_with("{ \"")
            && after.starts_with("\", ")
            && SCENARIOS.iter().any(|scenario| scenario.name == word);
        renamed += before;
        renamed += names.get(word).filter(|_| !is_scenario).map_or(word, String::as_str);
        rest = after;
    }
    renamed + rest
}

#[cfg(test)]
mod tests {
    use super::super::kernel::files_of;
    use super::super::place::assets;
    use super::*;

    fn sources() -> Vec<Source> {
        let files = files_of(&assets().join("crasher")).unwrap();
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
    }

    #[test]
    fn a_seed_draws_the_same_sources_again_and_another_draws_others() {
        let sources = sources();
        assert_eq!(vary(7, &sources).1, vary(7, &sources).1);
        assert_ne!(vary(7, &sources).1, vary(8, &sources).1);
    }

    #[test]
    fn no_name_of_the_module_is_left() {
        let (variation, varied) = vary(3, &sources());
        assert!(variation.names.contains_key("write_through"), "functions are found");
        for (file, text) in &varied {
            let code: String = text.lines().filter(|line| !line.contains("\", ")).collect();
            for name in variation.names.keys() {
                assert!(!code.split(|c| !is_word(c)).any(|word| word == name), "{name} in {file}");
            }
        }
        let table = &varied.iter().find(|(file, _)| file == "main.c").unwrap().1;
        assert!(table.contains(&format!("{{ \"null\", {} }}", variation.called("crash_null"))), "{table}");
    }

    #[test]
    fn values_are_drawn_from_their_range() {
        let mut random = Random(1);
        for _ in 0..100 {
            let line = draw_value(&mut random, "#define A 0x10UL /* 0x8..0x18 step 8 */").unwrap();
            assert!(["8", "10", "18"].iter().any(|hex| line == format!("#define A 0x{hex}UL")), "{line}");
            let line = draw_value(&mut random, "#define T \"a\\\"b\" /* | \"c\" */").unwrap();
            assert!(["#define T \"a\\\"b\"", "#define T \"c\""].contains(&line.as_str()), "{line}");
        }
        assert_eq!(draw_value(&mut random, "#define VARIED_H"), None);
    }

    /// No rule may know what the lab calls its functions: the sources of triage do not have the words.
    #[test]
    fn no_rule_knows_a_name_of_the_module() {
        let sources = sources();
        let functions = sources.iter().flat_map(|(_, text)| definitions(text).into_values());
        // A word alone (`traced`) is a word of English too.
        let functions: BTreeSet<String> = functions.filter(|name| name.contains('_')).collect();
        let mut dirs = vec![assets().join("../crates/triage/src"), assets().join("../known-issues")];
        let mut files = 0;
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                files += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                // Texts that tests are made of may be the lab's own.
                let is_test =
                    ["/tests", "/fixtures"].iter().any(|part| path.to_string_lossy().contains(part));
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                let known =
                    code.split(|c| !is_word(c)).find(|word| functions.contains(*word) || *word == "crasher");
                assert!(is_test || known.is_none(), "{known:?} in {}", path.display());
            }
        }
        assert!(files > 50);
    }
}
