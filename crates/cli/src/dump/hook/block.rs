//! A marked block of lines in somebody else's file of settings.

const BEGIN: &str = "# kdive: begin. `kdive dump hook --undo` takes this out";
const END: &str = "# kdive: end";
/// Before lines that the block stands for.
const OFF: &str = "#kdive# ";

/// A file with the block at its end. Lines that `replaced` names are switched off; a block that was there is replaced.
pub(super) fn with(text: &str, lines: &[String], replaced: impl Fn(&str) -> bool) -> String {
    let mut new = String::new();
    for line in without(text).lines() {
        if replaced(line) {
            new.push_str(OFF);
        }
        new.push_str(line);
        new.push('\n');
    }
    for line in [BEGIN].into_iter().chain(lines.iter().map(String::as_str)).chain([END]) {
        new.push_str(line);
        new.push('\n');
    }
    new
}

/// A file without the block, its own lines switched on again. A block whose end is gone ends with the file.
pub(super) fn without(text: &str) -> String {
    let mut inside = false;
    let mut new = String::new();
    for line in text.lines() {
        match line {
            BEGIN => inside = true,
            END if inside => inside = false,
            _ if inside => {}
            _ => {
                new.push_str(line.strip_prefix(OFF).unwrap_or(line));
                new.push('\n');
            }
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "# kdump\npath /var/crash\ncore_collector makedumpfile -l -d 31\n#extra_bins /bin/x\n";

    fn replaced(line: &str) -> bool {
        line.starts_with("core_collector")
    }

    #[test]
    fn a_block_can_be_taken_out_again() {
        let lines = ["core_collector x".to_owned()];
        let with_block = with(CONF, &lines, replaced);
        assert!(with_block.contains("\n#kdive# core_collector makedumpfile -l -d 31\n"));
        assert!(with_block.contains("\ncore_collector x\n"));
        assert_eq!(without(&with_block), CONF);
        assert_eq!(with("", &lines, replaced).lines().count(), 3);
    }

    #[test]
    fn a_second_block_replaces_the_first() {
        let once = with(CONF, &["core_collector one".to_owned()], replaced);
        let twice = with(&once, &["core_collector two".to_owned()], replaced);
        assert_eq!(twice, with(CONF, &["core_collector two".to_owned()], replaced));
    }

    #[test]
    fn lines_that_came_behind_the_block_stay() {
        let text = with(CONF, &["a".to_owned()], replaced) + "default reboot\n";
        assert_eq!(without(&text), format!("{CONF}default reboot\n"));
    }
}
