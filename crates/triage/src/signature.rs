//! Signatures for grouping many crashes.
//!
//! Made of names only: a rebuild of the same kernel moves addresses and offsets, and another compiler renames clones
//! (`f.isra.0`), but the functions stay. Both hashes are FNV-1a over 128 bits, which any host can compute again from the
//! readable form.

use kdive_evidence::Splat;

use crate::blame::{self, Mode};
use crate::class::{Category, Class};
use crate::finding::Finding;
use crate::report::Signature;

/// Version of how signatures are made.
pub const SIGNATURE_VERSION: u32 = 1;

/// Functions of the stack that the exact signature holds.
const DEPTH: usize = 6;

/// The signature of a finding and the splat that it explains.
#[must_use]
pub fn of(finding: &Finding, splat: Option<&Splat>) -> Signature {
    let class = class_name(finding.class);
    let culprit = &finding.culprit;
    let function = culprit.function.as_deref().map_or("-", blame::plain);
    let module = culprit.module.as_deref().unwrap_or("-");
    let chain = splat.map(|splat| chain(splat, finding.class)).unwrap_or_default();
    let readable = format!("{class}|{function}|{module}|{}", chain.join("<"));
    let fuzzy = format!("{class}|{}", stem(function));
    Signature { version: SIGNATURE_VERSION, exact: hash(&readable), fuzzy: hash(&fuzzy), readable }
}

fn chain(splat: &Splat, class: Class) -> Vec<String> {
    let mode = match class.category() {
        Category::Hang
            if matches!(
                class,
                Class::SoftLockup | Class::HardLockup | Class::RcuStall | Class::SpinlockHang
            ) =>
        {
            Mode::Stall
        }
        Category::Hang => Mode::Blocked,
        _ => Mode::Fault,
    };
    let mut names = blame::chain(splat, mode);
    // Recursion of another depth is the same crash.
    names.dedup();
    names.truncate(DEPTH);
    names
}

/// The class as the JSON names it.
fn class_name(class: Class) -> String {
    let mut name = String::new();
    for (at, c) in format!("{class:?}").char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            name.push('-');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// A function's name without the prefixes that tell only how it is called.
fn stem(function: &str) -> &str {
    const PREFIXES: &[&str] =
        &["__x64_sys_", "__ia32_sys_", "__do_sys_", "__se_sys_", "ksys_", "sys_", "SyS_", "SYSC_"];
    let stem = PREFIXES.iter().find_map(|prefix| function.strip_prefix(prefix)).unwrap_or(function);
    match stem.trim_start_matches('_') {
        "" => function,
        stem => stem,
    }
}

/// FNV-1a over 128 bits, as 32 hex digits.
fn hash(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let value = text.bytes().fold(OFFSET, |value, byte| (value ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{value:032x}")
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, Place, TraceFrame};

    use super::*;
    use crate::finding::Culprit;

    fn finding(function: &str) -> Finding {
        Finding {
            detector: "test",
            class: Class::UseAfterFree,
            title: String::new(),
            claim: String::new(),
            score: 90,
            culprit: Culprit { function: Some(function.to_owned()), ..Culprit::default() },
            supports: Vec::new(),
            against: Vec::new(),
            advice: Vec::new(),
            splat: Some(0),
        }
    }

    fn splat(names: &[(&str, u64)]) -> Splat {
        let frame = |&(name, offset): &(&str, u64)| TraceFrame {
            place: Place { function: Some(name.to_owned()), offset: Some(offset), ..Place::default() },
            trust: FrameTrust::Printed,
            stack: None,
            inlined: false,
            interrupted: false,
        };
        Splat { frames: names.iter().map(frame).collect(), ..Splat::default() }
    }

    #[test]
    fn offsets_and_suffixes_change_nothing_and_another_caller_does() {
        let one = of(
            &finding("put_it.isra.0"),
            Some(&splat(&[("list_del", 1), ("put_it.isra.0", 2), ("close_it", 3)])),
        );
        let two = of(&finding("put_it"), Some(&splat(&[("list_del", 9), ("put_it", 8), ("close_it", 7)])));
        let other = of(&finding("put_it"), Some(&splat(&[("put_it", 8), ("open_it", 7)])));
        assert_eq!(one, two);
        assert_eq!(one.readable, "use-after-free|put_it|-|put_it<close_it");
        assert_ne!(one.exact, other.exact);
        assert_eq!(one.fuzzy, other.fuzzy);
        assert_ne!(one.fuzzy, of(&finding("get_it"), None).fuzzy);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(hash(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hash("a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
