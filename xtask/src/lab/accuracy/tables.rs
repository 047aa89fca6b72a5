//! The tables of `docs/accuracy.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::place::version_numbers;
use super::Row;

/// Headings of the two parts of the document.
pub(super) const VERDICTS: &str = "## Verdicts\n";
pub(super) const EVIDENCE: &str = "## With evidence removed\n";

const TITLE: &str = "# Accuracy of `kdive analyze`\n\n\
    The verdicts on the dumps of the lab, against what was built there (`lab/README.md`). The module that breaks the\n\
    kernel is built anew from each seed: the names of functions, of the module itself, of its structures and caches,\n\
    offsets in functions and structures, the values that are wrong and which variant of a scenario runs are drawn, and so\n\
    is what else the guest does meanwhile. Seed 0 is the module as it is written.\n\n";

/// The document with one part replaced.
pub(super) fn document(old: &str, heading: &str, part: &str) -> String {
    let mut text = String::from(TITLE);
    for known in [VERDICTS, EVIDENCE] {
        let kept = old.split_once(known).map(|(_, rest)| rest.split("\n## ").next().unwrap_or_default());
        let content = if known == heading { Some(part) } else { kept };
        if let Some(content) = content {
            let _ = write!(text, "{known}\n{}\n\n", content.trim());
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn mark(right: bool) -> &'static str {
    if right { "right" } else { "WRONG" }
}

fn given(vmlinux: bool) -> &'static str {
    if vmlinux { "vmlinux" } else { "dump alone" }
}

/// One verdict as the terminal shows it.
pub(super) fn line(row: &Row) -> String {
    format!(
        "{:<34} {:<10} class {:<24} {}  culprit {:<30} {}  ({})",
        row.case.dump.name,
        given(row.vmlinux),
        row.said.class,
        mark(row.is_class()),
        format!("{} [{}]", row.said.function, row.said.module),
        mark(row.is_culprit()),
        row.said.confidence
    )
}

/// The part of the rows that is right, by kernel and by whether there was a vmlinux.
pub(super) fn summary(rows: &[Row]) -> String {
    let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let series = &row.case.dump.series;
        groups.entry((version_numbers(series), series.clone(), row.vmlinux)).or_default().push(row);
    }
    let mut text = String::from(
        "| kernel | given | dumps | of these varied | class right | culprit right |\n|---|---|---|---|---|---|\n",
    );
    for ((_, series, vmlinux), rows) in groups {
        let class = rows.iter().filter(|row| row.is_class()).count();
        let culprit = rows.iter().filter(|row| row.is_class() && row.is_culprit()).count();
        let varied = rows.iter().filter(|row| row.case.seed() != 0).count();
        let percent = |part: usize| part * 100 / rows.len().max(1);
        let _ = writeln!(
            text,
            "| {series} | {} | {} | {varied} | {class} ({} %) | {culprit} ({} %) |",
            given(vmlinux),
            rows.len(),
            percent(class),
            percent(culprit)
        );
    }
    text
}

pub(super) fn verdicts(rows: &[Row]) -> String {
    let mut text = String::from(
        "Made by `cargo xtask accuracy --write docs/accuracy.md`. A verdict is right if its class is one that was built, and\n\
         if its function is one of those that broke the kernel and its module that of the lab. On a machine in which nothing\n\
         is wrong (`idle`, `load`, `sysrq`, `big`, `rich`) it is right if no finding at all is above a note.\n\n",
    );
    text.push_str(&summary(rows));
    text.push_str("\n### Class built, class given\n\n");
    text.push_str(&confusion(rows));
    text.push_str(
        "\n### Each dump\n\n| scenario | kernel | seed | given | class | | function | | confidence |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let bold = |right| if right { "right" } else { "**wrong**" };
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.case.dump.scenario,
            row.case.dump.series,
            row.case.seed(),
            given(row.vmlinux),
            row.said.class,
            bold(row.is_class()),
            row.said.function,
            bold(row.is_culprit()),
            row.said.confidence
        );
    }
    text
}

/// The confusion table. It is sparse: of a class that was built, only the classes given stand there.
fn confusion(rows: &[Row]) -> String {
    let mut built: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        built.entry(row.case.built(row.vmlinux)).or_default().push(row);
    }
    let mut text = String::from(
        "Some scenarios may be told as one of several classes; the one built is the first. Verdicts that are a note are left\n\
         out of \"wrong\" where nothing was built.\n\n\
         | class built | verdicts | given | wrong |\n|---|---|---|---|\n",
    );
    for (class, rows) in built {
        let count = |wrong: bool| {
            let mut given: BTreeMap<&str, usize> = BTreeMap::new();
            for row in rows.iter().filter(|row| !wrong || !row.is_class()) {
                *given.entry(&row.said.class).or_default() += 1;
            }
            let mut given: Vec<(&str, usize)> = given.into_iter().collect();
            given.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let words: Vec<String> = given.iter().map(|(class, count)| format!("{class} {count}")).collect();
            if words.is_empty() { "-".to_owned() } else { words.join(", ") }
        };
        let _ = writeln!(text, "| {class} | {} | {} | {} |", rows.len(), count(false), count(true));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_other_stays() {
        let first = document("", VERDICTS, "one\n\n### more\n");
        let both = document(&first, EVIDENCE, "two");
        let again = document(&both, VERDICTS, "three");
        assert!(both.contains("one\n\n### more\n\n## With evidence removed\n\ntwo\n"), "{both}");
        assert!(again.contains("three") && again.ends_with("two\n") && !again.contains("one\n"), "{again}");
        assert_eq!(document(&again, EVIDENCE, "two"), again);
    }
}
