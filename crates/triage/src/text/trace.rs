//! Call traces of all ages.
//!
//! ```text
//! f+0x8/0x20 [mod]                                  since 4.10
//! ? f+0x8/0x20 [mod 0123456789abcdef...]            unsure; with the build-id of the module
//! [<ffffffffa046d26d>] ? f+0x41/0x52 [bridge]       2.6.24 to 4.9
//! [<ffffffff88182386>] :dm_mod:dec_pending+0x170/0x194    2.6.18 x86-64
//! <ffffffff801167ee>{timer_interrupt+587} <...>{:mod:f+12}    2.6.9 x86-64, several in a line, decimal
//! [<c01d1caa>] __handle_sysrq_nolock [kernel] 0x7a (0xefbe9d84)    2.4 of Red Hat
//! [<c0124cc5>] [<c01265f5>]                         2.4, addresses only
//! f (fs/read_write.c:123) mod                       after scripts/decode_stacktrace.sh
//! ```

use kdive_base::VirtAddr;
use kdive_evidence::{FrameTrust, Place, StackKind, TraceFrame};

use super::scan::{decimal, hex, word};

/// Frames that one trace may have: deeper ones are recursion, of which this is enough.
const MOST_FRAMES: usize = 512;

/// A call trace that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub(super) frames: Vec<TraceFrame>,
    stack: Option<StackKind>,
    /// The next frame was interrupted.
    interrupted: bool,
}

impl Trace {
    /// Takes a line of frames and marks of stacks. Whether it was one.
    pub(super) fn line(&mut self, text: &str) -> bool {
        let before = (self.frames.len(), self.stack, self.interrupted);
        if self.pieces(text).is_some() {
            return true;
        }
        self.frames.truncate(before.0);
        (self.stack, self.interrupted) = (before.1, before.2);
        false
    }

    fn pieces(&mut self, text: &str) -> Option<()> {
        let mut rest = text.trim();
        let mut any = false;
        while !rest.is_empty() {
            if let Some(behind) = self.mark(rest) {
                rest = behind.trim_start();
            } else {
                let (place, unsure, behind) = frame(rest)?;
                self.push(place, unsure);
                rest = behind.trim_start();
            }
            any = true;
        }
        any.then_some(())
    }

    fn push(&mut self, place: Place, unsure: bool) {
        if self.frames.len() >= MOST_FRAMES {
            return;
        }
        let trust = if unsure { FrameTrust::PrintedUnsure } else { FrameTrust::Printed };
        let interrupted = std::mem::take(&mut self.interrupted);
        self.frames.push(TraceFrame { place, trust, stack: self.stack, inlined: false, interrupted });
    }

    /// Takes a frame that an exception interrupted: a `RIP:` line amid a trace.
    pub(super) fn interrupted(&mut self, place: Place) {
        self.interrupted = true;
        self.push(place, false);
    }

    /// `<IRQ>`, `</IRQ>`, `<EOI>` and their kind.
    fn mark<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
        let (ends, name) = name.strip_prefix('/').map_or((false, name), |name| (true, name));
        if ends || matches!(name, "EOI" | "EOE") {
            stack_of(name).or((!ends).then_some(StackKind::Task))?;
            self.stack = None;
            self.interrupted = name != "TASK" && !self.frames.is_empty();
            return Some(rest);
        }
        self.stack = Some(stack_of(name)?);
        Some(rest)
    }
}

fn stack_of(mark: &str) -> Option<StackKind> {
    Some(match mark {
        "TASK" => StackKind::Task,
        "IRQ" => StackKind::Irq,
        "SOFTIRQ" => StackKind::SoftIrq,
        "NMI" | "NMI exception stack" => StackKind::Nmi,
        "#DF" | "DOUBLEFAULT" => StackKind::DoubleFault,
        "#DB" | "#DB1" | "#DB2" | "DEBUG" | "<EOE>" | "#BP" | "INT3" => StackKind::Debug,
        "#MC" | "MCE" => StackKind::MachineCheck,
        "#VC" | "#VC2" => StackKind::VmmCommunication,
        "ENTRY_TRAMPOLINE" | "SYSENTER" => StackKind::Entry,
        _ => return None,
    })
}

/// One frame at the start of a text: its place, whether the kernel doubts it, and what follows.
fn frame(text: &str) -> Option<(Place, bool, &str)> {
    let (address, rest) = addresses(text);
    let rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{')
        && address.is_some()
    {
        let (inner, rest) = inner.split_once('}')?;
        let place = Place { address, ..old_symbol(inner)? };
        return Some((place, false, rest));
    }
    let (unsure, rest) = rest.strip_prefix('?').map_or((false, rest), |rest| (true, rest.trim_start()));
    if let Some((place, rest)) = symbol(rest) {
        let (rest, doubted) = remarks(rest);
        return Some((Place { address, ..place }, unsure || doubted, rest));
    }
    // Addresses alone.
    let alone = rest.is_empty() || rest.starts_with("[<") || rest.starts_with('<');
    (address.is_some() && alone).then(|| (Place { address, ..Place::default() }, unsure, rest))
}

/// Addresses before the name. The last counts: PowerPC prints the stack pointer first.
fn addresses(text: &str) -> (Option<VirtAddr>, &str) {
    let mut found = None;
    let mut rest = text;
    while let Some((address, behind)) = bracketed(rest) {
        // `[<c01>] [<c02>]`, names lacking, are two frames; the same twice is one.
        if found.is_some_and(|found| found != address) && text.starts_with("[<") {
            break;
        }
        found = Some(address);
        rest = behind.trim_start();
    }
    // `[<0>]` says that the kernel does not tell addresses.
    (found.filter(|&address| address != 0).map(VirtAddr), rest)
}

/// `[<c0124cc5>]`, `<ffffffff80141400>` or `[c0000000000f4c10]`.
fn bracketed(text: &str) -> Option<(u64, &str)> {
    let (open, close) = match text.as_bytes() {
        [b'[', b'<', ..] => ("[<", ">]"),
        [b'<', ..] => ("<", ">"),
        [b'[', ..] => ("[", "]"),
        _ => return None,
    };
    let (value, digits, rest) = hex(text.strip_prefix(open)?)?;
    (digits >= 7 || open == "[<").then_some((value, rest.strip_prefix(close)?))
}

/// `f+0x8/0x20 [mod]`, `:mod:f+0x8/0x20`, `f [kernel] 0x7a`, `f (file.c:12) mod` at the start of a text.
pub(super) fn symbol(text: &str) -> Option<(Place, &str)> {
    let (module, text) = match text.strip_prefix(':').and_then(|text| text.split_once(':')) {
        Some((module, text)) if is_name(module) => (Some(module), text),
        _ => (None, text),
    };
    let end = text.find(|letter: char| !is_name_letter(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let with_offset = rest.starts_with("+0x");
    if !is_name(name) || !with_offset && !rest.starts_with(" [") && !rest.starts_with(" (") {
        return None;
    }
    let mut place =
        Place { function: Some(name.to_owned()), module: module.map(str::to_owned), ..Place::default() };
    if let Some(numbers) = rest.strip_prefix("+0x") {
        let (offset, _, rest) = hex(numbers)?;
        place.offset = Some(offset);
        let rest = match rest.strip_prefix("/0x").and_then(hex) {
            Some((size, _, rest)) => {
                place.size = Some(size);
                rest
            }
            None => rest,
        };
        let rest = in_module(rest, &mut place);
        return Some((place, source_position(rest)));
    }
    let rest = rest.strip_prefix(' ')?;
    if let Some((owner, offset)) = rest.strip_prefix('[').and_then(|rest| rest.split_once("] 0x")) {
        let (offset, _, rest) = hex(offset)?;
        place.offset = Some(offset);
        place.module = (owner != "kernel" && is_name(owner)).then(|| owner.to_owned());
        return Some((place, stack_word(rest)));
    }
    // Decoded by the kernel's script: the place in the source takes the offset's room.
    let (position, rest) = rest.strip_prefix('(')?.split_once(')')?;
    position.split_once(':').filter(|(file, line)| file.contains('.') && decimal(line).is_some())?;
    let rest = rest.trim_start_matches(')').trim_start();
    let (last, behind) = word(rest);
    if is_name(last) && behind.is_empty() {
        place.module = Some(last.to_owned());
        return Some((place, behind));
    }
    Some((place, in_module(rest, &mut Place::default())))
}

/// `panic+211` and `:mod:f+12` of old x86-64 kernels, and of crash: decimal.
pub(super) fn old_symbol(text: &str) -> Option<Place> {
    let (module, text) = match text.strip_prefix(':').and_then(|text| text.split_once(':')) {
        Some((module, text)) => (Some(module.to_owned()), text),
        None => (None, text),
    };
    let (name, offset) = match text.split_once('+') {
        Some((name, offset)) => {
            let offset = if offset.starts_with("0x") { hex(offset)?.0 } else { decimal(offset)?.0 };
            (name, Some(offset))
        }
        None => (text, None),
    };
    is_name(name).then(|| Place { function: Some(name.to_owned()), offset, module, ..Place::default() })
}

/// ` [mod]`, ` [mod 0123abcd...]`, `[mod(O)]`.
fn in_module<'t>(text: &'t str, place: &mut Place) -> &'t str {
    let found = text.trim_start().strip_prefix('[').and_then(|text| text.split_once(']'));
    let Some((inner, rest)) = found else { return text };
    let name = inner.split([' ', '(']).next().unwrap_or_default();
    if !is_name(name) || name.starts_with(|letter: char| letter.is_ascii_digit()) && name.len() > 8 {
        return text;
    }
    place.module = Some(name.to_owned());
    rest
}

/// What the script adds behind an offset: ` file.c:12`.
fn source_position(text: &str) -> &str {
    let (first, rest) = word(text);
    let position = first.trim_matches(|letter| matches!(letter, '(' | ')'));
    match position.rsplit_once(':') {
        Some((file, line)) if file.contains('.') && decimal(line).is_some() => rest
            .strip_prefix("(discriminator")
            .and_then(|rest| rest.split_once(')'))
            .map_or(rest, |(_, rest)| rest),
        _ => text,
    }
}

/// ` (0xefbe9d84)`: the word of the stack.
fn stack_word(text: &str) -> &str {
    let inner = text.trim_start().strip_prefix("(0x").and_then(|text| text.split_once(')'));
    inner.map_or(text, |(_, rest)| rest)
}

/// `(unreliable)`, `(P)`, `(L)`: what some architectures add. Whether it doubts the frame.
fn remarks(text: &str) -> (&str, bool) {
    let trimmed = text.trim_start();
    match trimmed.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some(("unreliable", rest)) => (rest, true),
        Some((letters, rest))
            if letters.len() <= 4 && letters.bytes().all(|byte| byte.is_ascii_uppercase()) =>
        {
            (rest, false)
        }
        _ => (text, false),
    }
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '$' | '-')
}

/// Whether it can be the name of a function or module.
pub(super) fn is_name(text: &str) -> bool {
    let start =
        text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '$'));
    start && text.chars().all(is_name_letter) && text.len() <= 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> TraceFrame {
        let mut trace = Trace::default();
        assert!(trace.line(text), "{text}");
        assert_eq!(trace.frames.len(), 1, "{text}");
        trace.frames.remove(0)
    }

    fn place(address: u64, function: &str, offset: u64, size: u64, module: Option<&str>) -> Place {
        Place {
            address: (address != 0).then_some(VirtAddr(address)),
            function: Some(function.to_owned()),
            offset: Some(offset),
            size: (size != 0).then_some(size),
            module: module.map(str::to_owned),
        }
    }

    #[test]
    fn every_age_of_frame_is_read() {
        for (text, expected) in [
            ("f+0x8/0x20", place(0, "f", 8, 0x20, None)),
            (" f.isra.0+0x8/0x20 [crc32c_intel]", place(0, "f.isra.0", 8, 0x20, Some("crc32c_intel"))),
            ("f+0x8/0x20 [m 0123456789abcdef0123456789abcdef01234567]", place(0, "f", 8, 0x20, Some("m"))),
            ("f+0x8/0x20 [m] (P)", place(0, "f", 8, 0x20, Some("m"))),
            ("f+0x8/0x20 fs/open.c:12", place(0, "f", 8, 0x20, None)),
            ("[<c0126424>] __do_softirq+0x4c/0xb1", place(0xc012_6424, "__do_softirq", 0x4c, 0xb1, None)),
            (
                "[<ffffffff88182386>] :dm_mod:dec_pending+0x170/0x194",
                place(0xffff_ffff_8818_2386, "dec_pending", 0x170, 0x194, Some("dm_mod")),
            ),
            (
                "<ffffffff801167ee>{timer_interrupt+587}",
                place(0xffff_ffff_8011_67ee, "timer_interrupt", 587, 0, None),
            ),
            (
                "<ffffffffa0167fee>{:ext3:ext3_find+12}",
                place(0xffff_ffff_a016_7fee, "ext3_find", 12, 0, Some("ext3")),
            ),
            ("[<c01d1caa>] handle [kernel] 0x7a (0xefbe9d84)", place(0xc01d_1caa, "handle", 0x7a, 0, None)),
            (
                "[<f88d1caa>] get_block [ext3] 0x7a (0xefbe9d84)",
                place(0xf88d_1caa, "get_block", 0x7a, 0, Some("ext3")),
            ),
            ("[<0>] f+0x8/0x20", place(0, "f", 8, 0x20, None)),
            (
                "[c0000000fe1f3b60] [c0000000000f4c10] f+0x8/0x20",
                place(0xc000_0000_000f_4c10, "f", 8, 0x20, None),
            ),
        ] {
            let frame = one(text);
            assert_eq!(frame.place, expected, "{text}");
            assert_eq!(frame.trust, FrameTrust::Printed, "{text}");
        }
    }

    #[test]
    fn doubted_frames_are_marked() {
        for text in [
            "? f+0x8/0x20",
            "[<ffffffff81417249>] ? f+0x8/0x20 [m]",
            "[c0000000fe1f3b60] [c0000000000f4c10] f+0x8/0x20 (unreliable)",
        ] {
            assert_eq!(one(text).trust, FrameTrust::PrintedUnsure, "{text}");
        }
    }

    #[test]
    fn frames_of_decoded_traces_have_no_offset() {
        let frame = one("vfs_read (fs/read_write.c:474) ext4");
        assert_eq!(frame.place.function.as_deref(), Some("vfs_read"));
        assert_eq!((frame.place.offset, frame.place.module.as_deref()), (None, Some("ext4")));
    }

    #[test]
    fn several_frames_stand_in_one_line_with_marks_of_stacks() {
        let mut trace = Trace::default();
        assert!(
            trace
                .line("<IRQ> <ffffffff801167ee>{timer_interrupt+587} <ffffffff801340e4>{rebalance_tick+133}")
        );
        assert!(trace.line("<EOI> <ffffffff801656ca>{s_show+515}"));
        let [first, second, third] = &*trace.frames else { panic!("{:?}", trace.frames) };
        assert_eq!(
            (first.stack, second.stack, third.stack),
            (Some(StackKind::Irq), Some(StackKind::Irq), None)
        );
        assert_eq!((first.interrupted, third.interrupted), (false, true));
    }

    #[test]
    fn bare_addresses_are_frames() {
        let mut trace = Trace::default();
        assert!(trace.line("[<c0124cc5>] [<c01265f5>]"));
        assert_eq!(trace.frames.len(), 2);
    }

    #[test]
    fn other_lines_are_no_frames() {
        for text in [
            "",
            "Code: 81 e1 ff",
            "f+0x8/0x20 is a fine place",
            "RSP: 0018:ffff88002f863bd0",
            "=====",
            "[<zzz>] f",
            "audit(12.3:4): x",
            "<d> ffff8801bde90188 fd02a8c0",
        ] {
            let mut trace = Trace::default();
            assert!(!trace.line(text), "{text}");
            assert!(trace.frames.is_empty(), "{text}");
        }
    }
}
