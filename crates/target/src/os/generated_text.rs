//! Code that the kernel writes while it runs, which no symbol table holds: BPF programs and trampolines, ftrace
//! trampolines, kprobe slots.

use std::ops::Range;

use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_debuginfo::{Symbol, SymbolKind};

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::load::{Load, MemberAddress, Text};
use crate::walk;

/// Who wrote a piece of code, which decides how its frames look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedKind {
    /// A BPF program, or a trampoline or dispatcher of the BPF JIT: they keep a frame pointer.
    Bpf,
    /// A copy of `ftrace_caller` or `ftrace_regs_caller`, made for one user of ftrace.
    Ftrace {
        /// Which of the two was copied.
        template: &'static str,
    },
    /// Slots that hold copies of probed instructions, to be single-stepped.
    KprobeSlots,
    /// Slots of optimised kprobes: each saves a `pt_regs` on the stack and calls the probe's handler.
    OptimisedKprobeSlots,
}

/// A piece of generated code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedCode {
    /// Its addresses.
    pub range: Range<VirtAddr>,
    /// Its name, as the kernel's own traces show it.
    pub name: String,
    /// Who wrote it.
    pub kind: GeneratedKind,
}

/// All generated code, by address.
#[derive(Debug, Default)]
pub struct GeneratedText {
    code: Vec<GeneratedCode>,
    /// Why some may be lacking; empty where every list was whole.
    pub incomplete: Vec<Lacks>,
}

/// No piece of generated code is larger: a BPF program has at most a million instructions.
const MAX_BYTES: u64 = 64 << 20;

impl GeneratedText {
    pub(super) fn find(kernel: &Kernel) -> Self {
        let mut found = Self::default();
        for finder in [bpf, ftrace, kprobe_slots, optimised_kprobe_slots] {
            match finder(kernel, &mut found.code) {
                // A kernel without the feature lacks nothing.
                Ok(()) | Err(Lacks::Symbol(_)) => {}
                Err(lacks) => found.incomplete.push(lacks),
            }
        }
        found.code.retain(|code| {
            code.range.start < code.range.end && code.range.end.since(code.range.start) <= MAX_BYTES
        });
        found.code.sort_by_key(|code| code.range.start);
        found
    }

    /// The code that an address lies in.
    #[must_use]
    pub fn at(&self, address: VirtAddr) -> Option<&GeneratedCode> {
        let end = self.code.partition_point(|code| code.range.start <= address);
        self.code.get(end.checked_sub(1)?).filter(|code| code.range.contains(&address))
    }

    /// All of it, by address.
    pub fn iter(&self) -> std::slice::Iter<'_, GeneratedCode> {
        self.code.iter()
    }
}

impl GeneratedCode {
    /// The code as a symbol.
    #[must_use]
    pub fn symbol(&self) -> Symbol<'_> {
        Symbol {
            name: &self.name,
            module: None,
            address: self.range.start,
            size: Some(self.range.end.since(self.range.start)),
            kind: SymbolKind::new(b't'),
        }
    }
}

/// `struct bpf_ksym` (`include/linux/bpf.h`, 5.7).
#[derive(Load)]
#[load(type = "bpf_ksym")]
struct BpfSymbol {
    start: Field<VirtAddr>,
    end: Field<VirtAddr>,
    name: Field<Text>,
}

fn bpf(kernel: &Kernel, into: &mut Vec<GeneratedCode>) -> Field<()> {
    let head = kernel.symbol("bpf_kallsyms")?;
    let link = kernel.offset_of("bpf_ksym", "lnode")?;
    let loader = kernel.loader::<BpfSymbol>();
    for at in walk::list(kernel.memory(), head) {
        let symbol = loader.load(at?.sub(link));
        let (Ok(start), Ok(end)) = (symbol.start, symbol.end) else { continue };
        let name = match symbol.name {
            Ok(Text(name)) if !name.is_empty() => name,
            _ => "bpf".to_owned(),
        };
        into.push(GeneratedCode { range: start..end, name, kind: GeneratedKind::Bpf });
    }
    Ok(())
}

/// `struct ftrace_ops` (`include/linux/ftrace.h`).
#[derive(Load)]
#[load(type = "ftrace_ops")]
struct FtraceOps {
    trampoline: Field<VirtAddr>,
    trampoline_size: Field<u64>,
    flags: Field<u64>,
}

/// `FTRACE_OPS_FL_SAVE_REGS`, for kernels whose type information lacks the enumerator.
const SAVE_REGS: u64 = 1 << 2;

/// `ftrace_ops_trampoline_list` (5.9) holds those with a trampoline of their own; before it, all are on a chain.
fn ftrace(kernel: &Kernel, into: &mut Vec<GeneratedCode>) -> Field<()> {
    let loader = kernel.loader::<FtraceOps>();
    let save_regs = kernel.enumerator("FTRACE_OPS_FL_SAVE_REGS").map_or(SAVE_REGS, |bit| bit as u64);
    let mut take = |ops: &FtraceOps| {
        let (Ok(start), Ok(bytes), Ok(flags)) = (&ops.trampoline, &ops.trampoline_size, &ops.flags) else {
            return;
        };
        if start.is_null() || *bytes == 0 {
            return;
        }
        let template = if flags & save_regs == 0 { "ftrace_caller" } else { "ftrace_regs_caller" };
        into.push(GeneratedCode {
            range: *start..start.add(*bytes),
            name: "ftrace_trampoline".to_owned(),
            kind: GeneratedKind::Ftrace { template },
        });
    };
    if let Ok(head) = kernel.symbol("ftrace_ops_trampoline_list") {
        let link = kernel.offset_of("ftrace_ops", "list")?;
        for at in walk::list(kernel.memory(), head) {
            take(&loader.load(at?.sub(link)));
        }
        return Ok(());
    }
    let first = kernel.memory().pointer(kernel.symbol("ftrace_ops_list")?)?;
    let next = kernel.offset_of("ftrace_ops", "next")?;
    for at in walk::null_terminated(kernel.memory(), first, next) {
        take(&loader.load(at?));
    }
    Ok(())
}

/// `struct kprobe_insn_cache` (`include/linux/kprobes.h`).
#[derive(Load)]
#[load(type = "kprobe_insn_cache")]
struct SlotCache {
    pages: Field<MemberAddress>,
}

fn kprobe_slots(kernel: &Kernel, into: &mut Vec<GeneratedCode>) -> Field<()> {
    slots(kernel, "kprobe_insn_slots", "kprobe_insn_page", GeneratedKind::KprobeSlots, into)
}

fn optimised_kprobe_slots(kernel: &Kernel, into: &mut Vec<GeneratedCode>) -> Field<()> {
    slots(kernel, "kprobe_optinsn_slots", "kprobe_optinsn_page", GeneratedKind::OptimisedKprobeSlots, into)
}

/// The pages of a cache of slots. `struct kprobe_insn_page` is private to kernel/kprobes.c: its first members are the
/// list link and the page, in all kernels since 2.6.
fn slots(
    kernel: &Kernel,
    symbol: &str,
    name: &str,
    kind: GeneratedKind,
    into: &mut Vec<GeneratedCode>,
) -> Field<()> {
    const PAGE_AFTER_LINK: u64 = 16;
    let cache: SlotCache = kernel.load(kernel.symbol(symbol)?);
    let MemberAddress(head) = cache.pages?;
    let page_at = kernel.offset_of("kprobe_insn_page", "insns").unwrap_or(PAGE_AFTER_LINK);
    let link = kernel.offset_of("kprobe_insn_page", "list").unwrap_or(0);
    for at in walk::list(kernel.memory(), head) {
        let start = kernel.memory().pointer(at?.sub(link).add(page_at))?;
        into.push(GeneratedCode { range: start..start.add(PAGE_SIZE), name: name.to_owned(), kind });
    }
    Ok(())
}

impl Kernel {
    /// Code that the kernel wrote while it ran.
    #[must_use]
    pub fn generated_text(&self) -> &GeneratedText {
        self.once(GeneratedText::find)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_between_pieces_belong_to_none() {
        let code = |start, end| GeneratedCode {
            range: VirtAddr(start)..VirtAddr(end),
            name: format!("at_{start:x}"),
            kind: GeneratedKind::Bpf,
        };
        let text =
            GeneratedText { code: vec![code(0x100, 0x180), code(0x200, 0x280)], incomplete: Vec::new() };
        let name = |address| text.at(VirtAddr(address)).map(|code| code.name.as_str());
        assert_eq!(name(0xff), None);
        assert_eq!(name(0x17f), Some("at_100"));
        assert_eq!(name(0x180), None);
        assert_eq!(name(0x200), Some("at_200"));
        assert_eq!(text.at(VirtAddr(0x210)).unwrap().symbol().size, Some(0x80));
    }
}
