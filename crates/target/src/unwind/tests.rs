use std::collections::BTreeMap;

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{Missing, VirtAddr, Why};
use kdive_debuginfo::orc::{OrcEntry, OrcKind, OrcRegister};
use kdive_evidence::{FrameTrust, Register, Registers, StackKind};
use proptest::prelude::*;

use super::step::{Lost, Rule, State, World};
use super::walk::{First, walk};
use super::{End, Frames};

const TASK: u64 = 0xffff_c900_0000_0000;
const IRQ: u64 = 0xffff_c900_0001_0000;
const NMI: u64 = 0xffff_fe00_0000_0000;
const STACK: u64 = 0x4000;
const TEXT: u64 = 0xffff_ffff_8100_0000;

/// A made-up machine: words of memory, rules by function (0x100 bytes each), three stacks.
#[derive(Default)]
struct Machine {
    words: BTreeMap<u64, u64>,
    rules: BTreeMap<u64, Rule>,
    replaced: BTreeMap<u64, u64>,
    /// Return addresses without a call before them.
    no_calls: bool,
    /// Return addresses and the functions that the calls before them lead to.
    calls: BTreeMap<u64, u64>,
}

impl Machine {
    fn word(mut self, at: u64, value: u64) -> Self {
        self.words.insert(at, value);
        self
    }

    fn rule(mut self, function: u64, rule: Rule) -> Self {
        self.rules.insert(function, rule);
        self
    }

    /// `pt_regs` with each register its number, but for those that matter.
    fn pt_regs(mut self, at: u64, ip: u64, cs: u64, sp: u64, bp: u64) -> Self {
        for index in 0..21 {
            self.words.insert(at + index * 8, 0x1000 + index);
        }
        for (index, value) in [(4, bp), (16, ip), (17, cs), (19, sp)] {
            self.words.insert(at + index * 8, value);
        }
        self
    }
}

impl World for Machine {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Missing> {
        for (index, byte) in into.iter_mut().enumerate() {
            let here = at.add(index as u64);
            let word = self.words.get(&(here.0 & !7)).ok_or(Missing::new(here, Why::Excluded))?;
            *byte = word.to_le_bytes()[here.0 as usize % 8];
        }
        Ok(())
    }

    fn rule(&self, ip: VirtAddr, interrupted: bool) -> Rule {
        let at = if interrupted { ip.0 } else { ip.0.wrapping_sub(1) };
        self.rules.get(&(at & !0xff)).copied().unwrap_or(Rule::Unknown)
    }

    fn is_code(&self, ip: VirtAddr) -> bool {
        (TEXT..TEXT + 0x10000).contains(&ip.0)
    }

    fn is_return_address(&self, ip: VirtAddr) -> bool {
        self.is_code(ip) && !self.no_calls
    }

    fn calls(&self, ip: VirtAddr, callee: VirtAddr) -> bool {
        self.calls.get(&ip.0) == Some(&(callee.0 & !0xff))
    }

    fn stack_at(&self, sp: VirtAddr) -> Option<Stack> {
        [(TASK, StackKind::Task), (IRQ, StackKind::Irq), (NMI, StackKind::Nmi)]
            .into_iter()
            .map(|(low, kind)| Stack { kind, low: VirtAddr(low), high: VirtAddr(low + STACK) })
            .find(|stack| stack.contains(sp))
    }

    fn real_return(&self, slot: VirtAddr, ip: VirtAddr) -> VirtAddr {
        self.replaced.get(&slot.0).map_or(ip, |real| VirtAddr(*real))
    }
}

fn entry(kind: OrcKind, sp: OrcRegister, sp_offset: i16) -> OrcEntry {
    let signal = matches!(kind, OrcKind::Regs | OrcKind::RegsPartial);
    OrcEntry { sp, sp_offset, bp: OrcRegister::Undefined, bp_offset: 0, kind, signal }
}

fn call(sp_offset: i16) -> Rule {
    Rule::Orc(entry(OrcKind::Call, OrcRegister::Sp, sp_offset))
}

fn regs() -> Rule {
    Rule::Orc(entry(OrcKind::Regs, OrcRegister::Sp, 0))
}

fn end() -> Rule {
    Rule::Orc(entry(OrcKind::EndOfStack, OrcRegister::Undefined, 0))
}

const A: u64 = TEXT;
const B: u64 = TEXT + 0x100;
const C: u64 = TEXT + 0x200;
const D: u64 = TEXT + 0x300;

fn run(machine: &Machine, ip: u64, sp: u64) -> Frames {
    run_with(machine, Registers::default().with(Register::Rip, ip).with(Register::Rsp, sp))
}

fn run_with(machine: &Machine, registers: Registers) -> Frames {
    let state = State { registers, interrupted: true };
    walk(machine, First { state, slot: None, trust: FrameTrust::Registers })
}

/// Instruction pointer, stack pointer and trust of each frame.
fn shape(frames: &Frames) -> Vec<(u64, u64, FrameTrust)> {
    frames.frames.iter().map(|frame| (frame.ip.0, frame.sp.0, frame.trust)).collect()
}

#[test]
fn calls_follow_the_tables_to_the_end_of_the_stack() {
    let machine = Machine::default()
        .rule(A, call(0x10))
        .rule(B, call(0x20))
        .rule(C, end())
        .word(TASK + 0x108, B + 5)
        .word(TASK + 0x128, C + 5);
    let frames = run(&machine, A + 4, TASK + 0x100);
    let expected = [
        (A + 4, TASK + 0x100, FrameTrust::Registers),
        (B + 5, TASK + 0x108, FrameTrust::Orc),
        (C + 5, TASK + 0x128, FrameTrust::Orc),
    ];
    assert_eq!(shape(&frames), expected);
    assert_eq!(frames.end, End::Stack);
}

#[test]
fn a_return_behind_a_function_belongs_to_the_function_that_called() {
    // The call was the last instruction of B: the return address is the first of C.
    let machine =
        Machine::default().rule(A, call(8)).rule(B, end()).rule(C, Rule::Unknown).word(TASK + 0x100, C);
    assert_eq!(run(&machine, A + 4, TASK + 0x100).end, End::Stack);
}

#[test]
fn an_exception_leads_to_the_code_that_it_interrupted() {
    let machine = Machine::default()
        .rule(A, call(8))
        .rule(B, regs())
        .rule(C, call(8))
        .rule(D, regs())
        .word(TASK + 0x100, B + 5)
        .pt_regs(TASK + 0x108, C, 0x10, TASK + 0x300, 0x77)
        .word(TASK + 0x300, D + 5)
        .pt_regs(TASK + 0x308, 0x400000, 0x33, 0x7fff_0000, 0);
    let frames = run(&machine, A + 4, TASK + 0x100);
    let expected = [
        (A + 4, TASK + 0x100, FrameTrust::Registers),
        (B + 5, TASK + 0x100, FrameTrust::Orc),
        (C, TASK + 0x300, FrameTrust::PtRegs),
        (D + 5, TASK + 0x300, FrameTrust::Orc),
    ];
    assert_eq!(shape(&frames), expected);
    assert_eq!(frames.frames[1].pt_regs, Some(VirtAddr(TASK + 0x108)));
    // C was interrupted at its first instruction: the byte before it is another function's.
    assert!(frames.frames[2].interrupted);
    assert_eq!(frames.frames[2].registers.get(Register::R10), Some(0x1007));
    let End::User { at, registers } = frames.end else { panic!("{:?}", frames.end) };
    assert_eq!((at, registers.ip()), (Some(VirtAddr(TASK + 0x308)), Some(VirtAddr(0x400000))));
}

#[test]
fn the_interrupt_stack_hands_over_through_its_top_word() {
    let indirect = Rule::Orc(entry(OrcKind::Call, OrcRegister::SpIndirect, 8));
    let top = IRQ + STACK - 8;
    let machine = Machine::default()
        .rule(A, call(8))
        .rule(B, indirect)
        .rule(C, end())
        .word(top - 8, B + 5)
        .word(top, TASK + 0x200)
        .word(TASK + 0x200, C + 5);
    let frames = run(&machine, A + 4, top - 8);
    assert_eq!(shape(&frames).last(), Some(&(C + 5, TASK + 0x200, FrameTrust::Orc)));
    let kinds: Vec<_> = frames.frames.iter().map(|frame| frame.stack).collect();
    assert_eq!(kinds, [StackKind::Irq, StackKind::Irq, StackKind::Task]);
}

#[test]
fn a_partial_frame_keeps_what_an_interrupted_frame_still_knows() {
    let partial = Rule::Orc(entry(OrcKind::RegsPartial, OrcRegister::Sp, 0));
    let mut machine = Machine::default().rule(A, partial).rule(B, end());
    for (index, value) in [(0, B + 5), (1, 0x10), (2, 2), (3, TASK + 0x200), (4, 0x18)] {
        machine = machine.word(NMI + 0x3f00 + index * 8, value);
    }
    let registers = Registers::default()
        .with(Register::Rip, A + 1)
        .with(Register::Rsp, NMI + 0x3f00)
        .with(Register::Rbx, 0x55);
    let frames = run_with(&machine, registers);
    assert_eq!(frames.frames[1].registers.get(Register::Rbx), Some(0x55));
    assert_eq!(frames.frames[1].registers.sp(), Some(VirtAddr(TASK + 0x200)));
    assert_eq!(frames.frames[1].stack, StackKind::Task);
    assert_eq!(frames.frames[0].pt_regs, Some(VirtAddr(NMI + 0x3f00 - 0x80)));
    assert_eq!(frames.end, End::Stack);
}

#[test]
fn jit_code_is_stepped_by_its_frame_pointer_in_its_prologue_and_behind_it() {
    let jit = Rule::FramePointer { offset: 0x40 };
    let base =
        Machine::default().rule(A, jit).rule(B, end()).word(TASK + 0x200, 0x99).word(TASK + 0x208, B + 5);
    let with_bp = |ip: u64, sp: u64, bp: u64| {
        Registers::default().with(Register::Rip, ip).with(Register::Rsp, sp).with(Register::Rbp, bp)
    };
    let frames = run_with(&base, with_bp(A + 0x40, TASK + 0x100, TASK + 0x200));
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x208, FrameTrust::FramePointer)));
    assert_eq!(frames.frames[1].registers.bp(), Some(VirtAddr(0x99)));

    // Before `push %rbp` the return address is on top, after it one word below.
    let prologue = Rule::FramePointer { offset: 4 };
    let machine = Machine::default().rule(A, prologue).rule(B, end()).word(TASK + 0x100, B + 5);
    let frames = run_with(&machine, with_bp(A + 4, TASK + 0x100, TASK + 0x200));
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x100, FrameTrust::FramePointer)));
    let machine = Machine::default()
        .rule(A, prologue)
        .rule(B, end())
        .word(TASK + 0x100, TASK + 0x200)
        .word(TASK + 0x108, B + 5);
    let frames = run_with(&machine, with_bp(A + 4, TASK + 0x100, TASK + 0x200));
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x108, FrameTrust::FramePointer)));
}

#[test]
fn a_traced_return_is_the_one_that_the_tracer_replaced() {
    let trampoline = D + 0x10;
    let mut machine = Machine::default().rule(A, call(8)).rule(B, end()).word(TASK + 0x100, trampoline);
    machine.replaced.insert(TASK + 0x100, B + 5);
    assert_eq!(run(&machine, A + 4, TASK + 0x100).frames[1].ip, VirtAddr(B + 5));
}

#[test]
fn an_optimised_probe_has_saved_the_registers_of_the_probed_code() {
    let machine = Machine::default().rule(A, Rule::SavedRegisters).rule(B, end()).pt_regs(
        TASK + 0x100,
        B + 5,
        0x10,
        TASK + 0x200,
        0,
    );
    let frames = run(&machine, A + 4, TASK + 0x100);
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x200, FrameTrust::PtRegs)));
}

#[test]
fn a_call_into_nowhere_returns_to_its_caller() {
    let machine = Machine::default().rule(B, end()).word(TASK + 0x100, B + 5);
    let frames = run(&machine, 0, TASK + 0x100);
    assert_eq!(
        shape(&frames),
        [(0, TASK + 0x100, FrameTrust::Registers), (B + 5, TASK + 0x100, FrameTrust::Orc),]
    );
}

#[test]
fn without_tables_the_stack_is_scanned_and_says_so() {
    let machine = Machine::default()
        .rule(B, end())
        .word(TASK + 0x100, 5)
        .word(TASK + 0x108, 0)
        .word(TASK + 0x110, B + 5);
    let frames = run(&machine, A + 4, TASK + 0x100);
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x110, FrameTrust::Scan)));
    let machine = Machine { no_calls: true, ..machine };
    let frames = run(&machine, A + 4, TASK + 0x100);
    assert_eq!((frames.frames.len(), frames.end), (1, End::Lost(Lost::NoRule(VirtAddr(A + 4)))));
}

#[test]
fn a_return_to_a_caller_of_the_function_is_preferred_to_a_stale_one() {
    let mut machine =
        Machine::default().rule(B, end()).rule(C, end()).word(TASK + 0x108, C + 5).word(TASK + 0x100, 0);
    machine = machine.word(TASK + 0x110, B + 5);
    machine.calls.insert(B + 5, A);
    let frames = run(&machine, A + 4, TASK + 0x100);
    assert_eq!(shape(&frames).last(), Some(&(B + 5, TASK + 0x110, FrameTrust::CallSite)));
}

#[test]
fn user_code_has_no_kernel_frames() {
    let registers = Registers::default()
        .with(Register::Rip, 0x400000)
        .with(Register::Rsp, 0x7fff_0000)
        .with(Register::Cs, 0x33);
    let frames = run_with(&Machine::default(), registers.clone());
    assert_eq!(
        frames,
        Frames { frames: Vec::new(), end: End::User { at: None, registers: Box::new(registers) } }
    );
}

#[test]
fn a_stack_that_was_left_is_not_entered_again() {
    // Registers on the NMI stack point to the task's stack, and those there point back.
    let machine = Machine { no_calls: true, ..Machine::default() }
        .rule(A, regs())
        .pt_regs(NMI + 0x100, A, 0x10, TASK + 0x100, 0)
        .pt_regs(TASK + 0x100, A, 0x10, NMI + 0x100, 0);
    let frames = run(&machine, A, NMI + 0x100);
    assert_eq!(frames.frames.len(), 2);
    assert!(matches!(frames.end, End::Lost(Lost::Loop(_))), "{:?}", frames.end);
}

#[test]
fn a_hole_in_the_stack_ends_the_walk_with_its_reason() {
    let machine = Machine::default().rule(A, call(8));
    let frames = run(&machine, A, TASK + 0x100);
    assert!(matches!(frames.end, End::Lost(Lost::Missing(_))), "{:?}", frames.end);
}

fn any_base() -> impl Strategy<Value = OrcRegister> {
    use OrcRegister::{Ax, Bp, BpIndirect, Di, Dx, PrevSp, R10, R13, Sp, SpIndirect, Undefined};
    prop::sample::select(vec![Undefined, PrevSp, Ax, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect])
}

fn any_kind() -> impl Strategy<Value = OrcKind> {
    use OrcKind::{Call, EndOfStack, Regs, RegsPartial, Undefined};
    prop::sample::select(vec![Call, Call, Call, Regs, RegsPartial, EndOfStack, Undefined])
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let orc = (any_kind(), any_base(), -64_i16..64, any_base(), -64_i16..64, any::<bool>());
    prop_oneof![
        8 => orc.prop_map(|(kind, sp, sp_offset, bp, bp_offset, signal)| {
            Rule::Orc(OrcEntry { sp, sp_offset, bp, bp_offset, kind, signal })
        }),
        1 => (0_u64..64).prop_map(|offset| Rule::FramePointer { offset }),
        1 => Just(Rule::SavedRegisters),
        1 => Just(Rule::Unknown),
    ]
}

/// A word as hostile stacks have them: code, places on the stacks, selectors, noise.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0_u64..0x400).prop_map(|offset| TEXT + offset),
        3 => (0_u64..0x40).prop_map(|word| TASK + 0x100 + word * 8),
        2 => (0_u64..0x40).prop_map(|word| IRQ + 0x100 + word * 8),
        1 => (0_u64..0x40).prop_map(|word| NMI + 0x100 + word * 8),
        1 => prop::sample::select(vec![0x10, 0x33, 0, u64::MAX]),
        1 => any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn any_stack_and_any_table_come_to_an_end(
        rules in proptest::collection::vec(any_rule(), 4),
        words in proptest::collection::vec(any_word(), 0x40 * 3),
        registers in proptest::collection::vec(proptest::option::of(any_word()), Register::ALL.len()),
        start in 0_u64..0x40,
        no_calls in any::<bool>(),
    ) {
        let mut machine = Machine { no_calls, ..Machine::default() };
        for (function, rule) in (0_u64..).zip(rules) {
            machine.rules.insert(TEXT + function * 0x100, rule);
        }
        for (stack, words) in [TASK, IRQ, NMI].into_iter().zip(words.chunks(0x40)) {
            for (index, word) in (0_u64..).zip(words) {
                machine.words.insert(stack + 0x100 + index * 8, *word);
            }
        }
        let mut all = Registers::default();
        for (register, value) in Register::ALL.iter().zip(registers) {
            all.set(*register, value);
        }
        all.set(Register::Rsp, TASK + 0x100 + start * 8);
        let frames = run_with(&machine, all);
        // Each frame lies higher than the one before, or on another stack; and no more of them than words.
        prop_assert!(frames.frames.len() <= 0x40 * 3 + 1);
        for pair in frames.frames.windows(2) {
            let same_stack = pair[0].stack == pair[1].stack;
            let (before, after) = (pair[0].registers.sp(), pair[1].registers.sp());
            prop_assert!(!same_stack || before < after, "{:?} {:?}", pair[0], pair[1]);
        }
    }
}
