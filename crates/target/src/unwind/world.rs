//! A kernel, as stepping sees it.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::RwLock;

use kdive_arch::x86_64::calls::{self, LONGEST_CALL};
use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{Missing, PAGE_SIZE, VirtAddr};
use kdive_evidence::StackKind;
use rustc_hash::FxHashMap;

use super::returns::{Trampolines, real_return};
use super::step::{Rule, World};
use crate::kernel::Kernel;
use crate::os::GeneratedKind;

const SHARDS: usize = 16;
/// Addresses kept apiece: many tasks share their return addresses, and a hostile dump must not fill memory.
const MAX_CACHED: usize = 1 << 16;

/// What is known of all code, for every walk of a kernel.
pub(crate) struct CodeRules {
    /// Ranges of code, by address, not touching one another's starts.
    code: Vec<Range<VirtAddr>>,
    trampolines: Trampolines,
    cache: [RwLock<FxHashMap<u64, Rule>>; SHARDS],
}

impl CodeRules {
    pub(crate) fn find(kernel: &Kernel) -> Self {
        Self { code: code_ranges(kernel), trampolines: Trampolines::find(kernel), cache: Default::default() }
    }

    pub(crate) fn is_code(&self, ip: VirtAddr) -> bool {
        let end = self.code.partition_point(|range| range.start <= ip);
        end.checked_sub(1).and_then(|at| self.code.get(at)).is_some_and(|range| range.contains(&ip))
    }

    fn rule(&self, kernel: &Kernel, at: VirtAddr) -> Rule {
        let shard = self.cache.get((at.0 >> 4) as usize % SHARDS);
        if let Some(rule) = shard.and_then(|shard| shard.read().ok()?.get(&at.0).copied()) {
            return rule;
        }
        let rule = find_rule(kernel, at);
        if let Some(mut cached) = shard.and_then(|shard| shard.write().ok())
            && cached.len() < MAX_CACHED / SHARDS
        {
            cached.insert(at.0, rule);
        }
        rule
    }
}

/// Kernel text, the text of its start, modules' text, generated code.
fn code_ranges(kernel: &Kernel) -> Vec<Range<VirtAddr>> {
    let mut code = Vec::new();
    let between = |(start, end)| Some(kernel.symbol(start).ok()?..kernel.symbol(end).ok()?);
    code.extend([("_stext", "_etext"), ("_text", "_etext")].into_iter().filter_map(between));
    // All that the start needs, with its text in it (arch/x86/kernel/vmlinux.lds.S): idle tasks have a frame there.
    code.extend(between(("_sinittext", "_einittext")).or_else(|| between(("__init_begin", "__init_end"))));
    let modules = kernel.modules().iter().flat_map(|module| module.memory.iter());
    code.extend(
        modules.filter(|memory| memory.text).map(|memory| memory.start..memory.start.add(memory.bytes)),
    );
    code.extend(kernel.generated_text().iter().map(|code| code.range.clone()));
    code.retain(|range| range.start < range.end);
    code.sort_by_key(|range| range.start);
    // Ranges that lie in one another (_text and _stext) become one, so that the nearest start below decides.
    let mut merged: Vec<Range<VirtAddr>> = Vec::with_capacity(code.len());
    for range in code {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn find_rule(kernel: &Kernel, at: VirtAddr) -> Rule {
    let orc = |at| kernel.orc().entry(kernel, at).map_or(Rule::Unknown, Rule::Orc);
    let Some(code) = kernel.generated_text().at(at) else { return orc(at) };
    let offset = at.since(code.range.start);
    match code.kind {
        GeneratedKind::Bpf => Rule::FramePointer { offset },
        // The copy keeps the template's layout, so the template's table tells.
        GeneratedKind::Ftrace { template } => match kernel.symbol(template) {
            Ok(start) => orc(start.add(offset)),
            Err(_) => Rule::Unknown,
        },
        GeneratedKind::OptimisedKprobeSlots => Rule::SavedRegisters,
        GeneratedKind::KprobeSlots => Rule::Unknown,
    }
}

/// One page of the stack: steps read its words one by one.
#[derive(Default)]
struct Page {
    start: Option<VirtAddr>,
    bytes: Vec<u8>,
}

/// A kernel, and the task whose stack is walked.
pub(crate) struct KernelWorld<'k> {
    kernel: &'k Kernel,
    rules: &'k CodeRules,
    task: Option<VirtAddr>,
    task_stack: Option<Stack>,
    page: RefCell<Page>,
}

impl<'k> KernelWorld<'k> {
    pub(crate) fn new(kernel: &'k Kernel, task: Option<VirtAddr>, task_stack: Option<Stack>) -> Self {
        Self { kernel, rules: kernel.code_rules(), task, task_stack, page: RefCell::default() }
    }

    /// The bytes of code that end at an address.
    fn code_before(&self, ip: VirtAddr) -> Option<[u8; LONGEST_CALL]> {
        let mut before = [0; LONGEST_CALL];
        self.kernel.memory().read_exact(ip.sub(LONGEST_CALL as u64), &mut before).ok()?;
        Some(before)
    }
}

/// Bytes below a stack that nothing is mapped in (`CONFIG_VMAP_STACK`), so that an overflow faults at once.
const GUARD: u64 = PAGE_SIZE;

/// A stack with the guard below it: where the stack pointer of a task stands whose stack overflowed. The stacks of
/// exceptions lie between guards of their own and do not nest so deep.
fn with_guard(stack: Stack) -> Stack {
    match stack.kind {
        StackKind::Task | StackKind::Irq => Stack { low: stack.low.sub(GUARD), ..stack },
        _ => stack,
    }
}

impl World for KernelWorld<'_> {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Missing> {
        let start = at.page_start();
        let mut page = self.page.borrow_mut();
        if page.start != Some(start) {
            page.bytes.resize(PAGE_SIZE as usize, 0);
            let (count, _) = self.kernel.memory().read(start, &mut page.bytes);
            page.bytes.truncate(count);
            page.start = Some(start);
        }
        let offset = at.page_offset() as usize;
        match page.bytes.get(offset..offset.saturating_add(into.len())) {
            Some(bytes) => {
                into.copy_from_slice(bytes);
                Ok(())
            }
            // Over the end of the page, or missing: memory itself says which.
            None => self.kernel.memory().read_exact(at, into),
        }
    }

    fn rule(&self, ip: VirtAddr, interrupted: bool) -> Rule {
        // A return address can lie behind its function when the call was the last instruction: the call decides.
        self.rules.rule(self.kernel, if interrupted { ip } else { ip.sub(1) })
    }

    fn is_code(&self, ip: VirtAddr) -> bool {
        self.rules.is_code(ip)
    }

    fn is_return_address(&self, ip: VirtAddr) -> bool {
        if !self.is_code(ip) {
            return false;
        }
        // Code that is not in the dump cannot speak against it.
        self.code_before(ip).is_none_or(|code| calls::follows_call(&code))
    }

    fn calls(&self, ip: VirtAddr, callee: VirtAddr) -> bool {
        let target = self.code_before(ip).and_then(|code| calls::direct_target(&code, ip));
        target.is_some_and(|target| {
            let function = self.kernel.place(callee.sub(1)).map(|place| place.symbol.address);
            function == Some(target)
        })
    }

    fn stack_at(&self, sp: VirtAddr) -> Option<Stack> {
        let task = self.task_stack.map(with_guard).filter(|stack| stack.contains(sp));
        let of_cpu = |at| self.kernel.cpu_stacks().at(at).map(|of| with_guard(of.stack));
        task.or_else(|| of_cpu(sp)).or_else(|| of_cpu(sp.add(GUARD))).filter(|stack| stack.contains(sp))
    }

    fn real_return(&self, slot: VirtAddr, ip: VirtAddr) -> VirtAddr {
        match self.task {
            Some(task) if self.rules.trampolines.contains(ip) => {
                real_return(self.kernel, &self.rules.trampolines, task, slot, ip)
            }
            _ => ip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_pointer_in_the_guard_belongs_to_the_stack_above() {
        let stack = |kind| Stack { kind, low: VirtAddr(0x8000), high: VirtAddr(0xc000) };
        assert!(with_guard(stack(StackKind::Task)).contains(VirtAddr(0x7f00)));
        assert!(!with_guard(stack(StackKind::Task)).contains(VirtAddr(0x6f00)));
        assert!(!with_guard(stack(StackKind::Nmi)).contains(VirtAddr(0x7f00)));
    }
}
