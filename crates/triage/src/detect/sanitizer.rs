//! KASAN, KFENCE, KMSAN, KCSAN and UBSAN.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{Draft, HINT, LIKELY, POSSIBLE, PROVEN, line, splats, symbol, triggered, word_after};
use crate::blame::{self, Mode, Role};
use crate::case::{Case, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const SANITIZER: Detector =
    Detector { name: "sanitizer", claim: "A sanitizer of the kernel caught a wrong access in the act.", run };

fn run(case: &Case<'_>, out: &mut Vec<Finding>) {
    const KINDS: &[SplatKind] =
        &[SplatKind::Kasan, SplatKind::Kfence, SplatKind::Kmsan, SplatKind::Kcsan, SplatKind::Ubsan];
    for (index, splat) in splats(case, KINDS) {
        let report = Report::of(splat);
        let fatal = triggered(case, TriggerKind::PanicOnWarn);
        let (class, score) = report.class(fatal);
        let mut draft = Draft::new(SANITIZER.name, class, score).at(index, splat, Mode::Fault);
        // The report's own function, unless it is a helper.
        if draft.current_function().is_none() {
            let named = report
                .function
                .filter(|name| blame::role(name) == Role::Ordinary || blame::role(name) == Role::Anchor);
            draft = draft.function(named);
        }
        draft = draft
            .title_in(report.title())
            .claim_in(report.claim())
            .says(&splat.message)
            .object(object(splat));
        for stack in &splat.other_stacks {
            if let Some(guilty) = blame::guilty_of(&stack.frames, Mode::Fault) {
                draft = draft.seen(format!("{} {}.", stack.heading.trim_end_matches(':'), guilty.function));
            }
        }
        if let Some(text) = line(splat, "bytes to the right of")
            .or(line(splat, "bytes to the left of"))
            .or(line(splat, "bytes inside of"))
        {
            draft = draft.says(text);
        }
        draft.push(out);
    }
}

/// `object of cache kmalloc-64`.
fn object(splat: &Splat) -> Option<String> {
    let text = line(splat, "belongs to the cache")?;
    Some(format!("object of cache {}", word_after(text, "belongs to the cache")?))
}

struct Report<'s> {
    tool: &'static str,
    /// `slab-use-after-free`, `out-of-bounds read`.
    what: &'s str,
    access: Option<&'static str>,
    function: Option<&'s str>,
}

impl<'s> Report<'s> {
    fn of(splat: &'s Splat) -> Self {
        let tool = match splat.kind {
            SplatKind::Kasan => "KASAN",
            SplatKind::Kfence => "KFENCE",
            SplatKind::Kmsan => "KMSAN",
            SplatKind::Kcsan => "KCSAN",
            _ => "UBSAN",
        };
        let head = splat
            .message
            .split_once(&format!("{tool}:"))
            .map_or(splat.message.as_str(), |(_, rest)| rest)
            .trim();
        let (what, place) = head.split_once(" in ").unwrap_or((head, ""));
        let access = if line(splat, "Write of size").is_some() || what.ends_with(" write") {
            Some("Write")
        } else if line(splat, "Read of size").is_some() || what.ends_with(" read") {
            Some("Read")
        } else {
            None
        };
        // UBSAN names a file where the others name a function.
        let function = if tool == "UBSAN" { None } else { symbol(place) };
        Self { tool, what: what.trim_end_matches(" read").trim_end_matches(" write"), access, function }
    }

    fn title(&self) -> String {
        match self.access {
            Some(access) => format!("{}: {} {access}", self.tool, self.what),
            None => format!("{}: {}", self.tool, self.what),
        }
    }

    fn claim(&self) -> String {
        let access = match self.access {
            Some("Write") => " by a write",
            Some(_) => " by a read",
            None => "",
        };
        format!("{} caught {}{access}", self.tool, self.what.replace('-', " "))
    }

    fn class(&self, fatal: bool) -> (Class, u8) {
        let what = self.what;
        let class = match self.tool {
            "KMSAN" if what.contains("use-after-free") => Class::UseAfterFree,
            "KMSAN" => Class::Uninitialized,
            "KCSAN" => Class::DataRace,
            "UBSAN" if what.contains("array-index-out-of-bounds") || what.contains("object-size") => {
                Class::OutOfBounds
            }
            "UBSAN" if what.contains("null-ptr") => Class::NullDereference,
            "UBSAN" => Class::UndefinedBehaviour,
            _ if what.contains("double-free")
                || what.contains("invalid-free")
                || what.contains("invalid free") =>
            {
                Class::DoubleFree
            }
            _ if what.contains("use-after") || what.contains("page-free") || what.contains("slab-free") => {
                Class::UseAfterFree
            }
            _ if what.contains("null-ptr-deref") => Class::NullDereference,
            _ if what.contains("wild") || what.contains("user-memory-access") || what == "invalid" => {
                Class::WildPointer
            }
            _ => Class::OutOfBounds,
        };
        let score = match self.tool {
            "KASAN" | "KFENCE" => PROVEN,
            "KMSAN" => LIKELY,
            _ if fatal => LIKELY + 10,
            "UBSAN" if class == Class::OutOfBounds => POSSIBLE,
            _ => HINT,
        };
        (class, score)
    }
}
