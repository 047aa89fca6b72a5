//! Memory overwritten with text.

use super::Detector;
use super::support::{Draft, LIKELY, POSSIBLE, STRONG, hex, shorten};
use crate::blame::Mode;
use crate::case::{Case, StrayText};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const TEXT: Detector = Detector {
    name: "text-overwrite",
    claim: "Memory that should hold pointers or other data holds text.",
    run,
};

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    let Some(first) = case.stray_text.iter().max_by_key(|stray| stray.text.len()) else { return };
    let narrow = case.system.is_32_bit();
    let at = case.stray_text.iter().find_map(|stray| address(&stray.place));
    // An address that a process could have: the text may simply be the program's.
    let user = at.is_some_and(|at| if narrow { at < 0xc000_0000 } else { at < 0x0000_8000_0000_0000 });
    let long = case.stray_text.iter().map(|stray| stray.text.len()).sum::<usize>() >= 32;
    let splat = case.splats.iter().position(|splat| splat.ip.is_some());
    let score = match (user, long, splat.is_some()) {
        (true, ..) => POSSIBLE + 8,
        (false, true, true) => STRONG + 6,
        (false, true, false) => LIKELY,
        (false, false, _) => POSSIBLE,
    };
    let mut draft = Draft::new(TEXT.name, Class::MemoryOverwrite, score);
    if let Some((index, splat)) = splat.and_then(|index| Some((index, case.splats.get(index)?))) {
        draft = draft.at(index, splat, Mode::Fault);
    }
    let whole: String = case.stray_text.iter().map(|stray| stray.text.as_str()).collect::<Vec<_>>().concat();
    let author = author(case, &whole);
    draft = draft
        .object(author.clone())
        .title_in("BUG: memory overwritten with text")
        .claim_in("Data was overwritten with text, and used");
    for StrayText { place, text } in case.stray_text.iter().take(4) {
        draft = draft.seen(format!("At {place} stands the text {:?}.", shorten(text)));
    }
    let _ = first;
    draft = match author {
        Some(author) => draft
            .seen(format!("The text names its author: {author}."))
            .advice(format!("Update or remove the driver whose text it is ({author}).")),
        None => draft,
    };
    draft
        .against_if(user, "The address is one of user space too: the text may be a program's own.")
        .advice("Find who writes that text, to the log or to a buffer: that is who wrote past it, or to memory that is not its own.")
        .push(out);
}

/// The first address in a description of a place.
fn address(place: &str) -> Option<u64> {
    place
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() >= 6 && word.chars().all(|c| c.is_ascii_hexdigit() || c == 'x'))
        .find_map(hex)
        .filter(|&at| at > 0xffff)
}

/// Who the text names: the loaded module or the subsystem of a log line, or the owner of a copyright notice.
fn author(case: &Case<'_>, text: &str) -> Option<String> {
    if let Some(notice) = text.find("(C)").or_else(|| text.find("Copyright")) {
        let owner: Vec<&str> = text
            .get(notice..)?
            .trim_start_matches("(C)")
            .trim_start_matches("Copyright")
            .split_whitespace()
            .take(2)
            .collect();
        let product = text.split_whitespace().next().unwrap_or_default();
        return Some(format!("{product} driver of {}", owner.join(" ")));
    }
    let named = |module: &&crate::case::Module| {
        module.name.len() >= 3
            && text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == module.name)
    };
    case.modules.iter().find(named).map(|module| format!("module {}", module.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_of_a_notice_is_named_and_an_address_is_read() {
        let case = Case::default();
        assert_eq!(
            author(&case, "SDD 1.6.2.01 2.4.21-47 SMP (C) IBM Corp.").as_deref(),
            Some("SDD driver of IBM Corp.")
        );
        assert_eq!(author(&case, "nothing to be seen"), None);
        assert_eq!(address("memory at 08175860 (ebp)"), Some(0x0817_5860));
        assert_eq!(address("register rax"), None);
    }
}
