//! `Modules linked in:` with its marks of taint and what was unloaded last.

use crate::case::Module;

use super::scan::between;
use super::trace::is_name;

/// A list of modules, possibly over several lines.
#[derive(Clone, Debug, Default)]
pub(super) struct ModuleList {
    lines: Vec<(String, usize)>,
}

/// Lines that a list may have.
const MOST_LINES: usize = 200;

impl ModuleList {
    /// Begins with what stands behind the heading; `width` is the whole line's length in letters.
    pub(super) fn begin(text: &str, width: usize) -> Self {
        Self { lines: vec![(text.trim().to_owned(), width)] }
    }

    /// Takes a further line. Whether it was one: nothing but names.
    pub(super) fn more(&mut self, text: &str, width: usize) -> bool {
        let text = text.trim();
        if self.ended() || self.lines.len() >= MOST_LINES || text.is_empty() {
            return false;
        }
        let plain = text.split_once("[last unloaded").map_or(text, |(before, _)| before);
        let names = plain.split_whitespace().all(|token| named(token).is_some() || token.starts_with('('));
        let enough = plain.split_whitespace().count() > 1 || text != plain || width <= 40;
        // A single word may be anything, except behind a full line.
        let full = self.lines.last().is_some_and(|(_, last)| *last >= 70);
        if !names || !enough || !full {
            return false;
        }
        self.lines.push((text.to_owned(), width));
        true
    }

    fn ended(&self) -> bool {
        self.lines.last().is_some_and(|(text, _)| text.ends_with(']'))
    }

    /// The modules, and those that were unloaded last.
    pub(super) fn finish(&self) -> (Vec<Module>, Vec<String>) {
        let text = self.joined();
        let unloaded = between(&text, "[last unloaded:", "]").unwrap_or_default();
        let unloaded = unloaded.split_whitespace().filter_map(named).map(|module| module.name).collect();
        let listed = text.split_once("[last unloaded").map_or(&*text, |(before, _)| before);
        (listed.split_whitespace().filter_map(named).collect(), unloaded)
    }

    /// Lines that a terminal broke at its edge go on without a space; those that were broken between words with one.
    fn joined(&self) -> String {
        let full = self.lines.split_last().map_or(&[][..], |(_, full)| full);
        let width = full.iter().map(|(_, width)| *width).max().unwrap_or_default();
        let by_edge = match full {
            [_] => matches!(width, 80 | 132 | 160),
            _ => full.iter().all(|(_, length)| *length + 1 >= width),
        };
        let mut text = String::new();
        for (line, length) in &self.lines {
            text.push_str(line);
            if !(by_edge && *length == width) {
                text.push(' ');
            }
        }
        text
    }
}

/// `name`, `name(OE)`, `name(U)`, `name(O+)`.
fn named(token: &str) -> Option<Module> {
    let (name, taint) = match token.split_once('(') {
        Some((name, letters)) => (name, letters.strip_suffix(')')?),
        None => (token, ""),
    };
    let marks = taint.bytes().all(|letter| letter.is_ascii_uppercase() || matches!(letter, b'+' | b'-'));
    let taint: String = taint.chars().filter(char::is_ascii_uppercase).collect();
    (marks && is_name(name) && name.len() < 64).then(|| Module {
        name: name.to_owned(),
        taint,
        version: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lines: &[&str]) -> Vec<String> {
        let mut list = ModuleList::begin(lines[0], lines[0].len() + "Modules linked in: ".len());
        for line in &lines[1..] {
            assert!(list.more(line, line.len()), "{line}");
        }
        list.finish().0.into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn taint_and_the_unloaded_are_read() {
        let (modules, unloaded) =
            ModuleList::begin("seos(U) vmci(PO) ext3 nvidia(POE+) [last unloaded: ipmi_si a(O)]", 80)
                .finish();
        assert_eq!(
            modules.iter().map(|module| (&*module.name, &*module.taint)).collect::<Vec<_>>(),
            [("seos", "U"), ("vmci", "PO"), ("ext3", ""), ("nvidia", "POE")]
        );
        assert_eq!(unloaded, ["ipmi_si", "a"]);
    }

    #[test]
    fn names_that_a_terminal_cut_are_whole_again() {
        let found = names(&[
            "vfat fat usb_storage iptable_mangle iptable_nat ip_nat ip_con",
            "ntrack nfnetlink iptable_filter ip_tables x_tables ipv6 xfrm_nalgo crypto_api au",
            "tofs4 sunrpc",
        ]);
        assert!(
            found.contains(&"ip_conntrack".to_owned()) && found.contains(&"autofs4".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn lines_that_were_broken_between_words_stay_apart() {
        let found = names(&[
            "snapapi26(U) i2c_dev i2c_core md5 ipv6 ide_dump scsi_dump diskdump zlib_deflate",
            "dm_mirror dm_mod emcpvlumd(U) emcpxcrypt(U) emcpdm(U) emcpgpx(U) emcpmpx(U) emcp(U) button",
            "battery ac",
        ]);
        assert!(
            found.contains(&"zlib_deflate".to_owned()) && found.contains(&"battery".to_owned()),
            "{found:?}"
        );
    }

    #[test]
    fn other_lines_end_the_list() {
        let mut list = ModuleList::begin("loop md5", 27);
        for text in ["CPU: 0", "EIP: 0060:[<c0124cc5>] Tainted: P VLI", "", "Pid: 1, comm: a"] {
            assert!(!list.more(text, text.len()), "{text}");
        }
    }
}
