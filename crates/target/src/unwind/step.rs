//! One step of unwinding, from a frame to the one that called it or that it interrupted.
//!
//! The rules are those of the kernel's own tables (`arch/x86/include/asm/orc_types.h`). All that a step asks of the
//! kernel goes through [`World`], so that each transition is tested on made-up stacks.

use kdive_arch::x86_64::pt_regs::{self, IRET_FRAME_BYTES, IRET_FRAME_OFFSET, PT_REGS_BYTES};
use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{Missing, VirtAddr};
use kdive_debuginfo::orc::{OrcEntry, OrcKind, OrcRegister};
use kdive_evidence::{FrameTrust, Register, Registers};

/// What stepping asks of the kernel.
pub(crate) trait World {
    /// Fills `into` from memory.
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> Result<(), Missing>;

    /// How to step from code at an address. `interrupted`: the address is where execution stood, not where it returns.
    fn rule(&self, ip: VirtAddr, interrupted: bool) -> Rule;

    /// Whether an address lies in code.
    fn is_code(&self, ip: VirtAddr) -> bool;

    /// Whether an address lies in code, behind a call.
    fn is_return_address(&self, ip: VirtAddr) -> bool;

    /// Whether the call before the return address `ip` leads to the function that holds `callee`.
    fn calls(&self, ip: VirtAddr, callee: VirtAddr) -> bool;

    /// The stack that an address lies on.
    fn stack_at(&self, sp: VirtAddr) -> Option<Stack>;

    /// What stood at `slot` before a tracer of returns put its trampoline `ip` there; `ip` itself if it is none.
    fn real_return(&self, slot: VirtAddr, ip: VirtAddr) -> VirtAddr;

    /// The word at an address.
    fn word(&self, at: VirtAddr) -> Result<u64, Missing> {
        let mut raw = [0; 8];
        self.read(at, &mut raw)?;
        Ok(u64::from_le_bytes(raw))
    }

    /// The pointer at an address.
    fn pointer(&self, at: VirtAddr) -> Result<VirtAddr, Missing> {
        self.word(at).map(VirtAddr)
    }
}

/// How to step from a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// As the kernel's table says.
    Orc(OrcEntry),
    /// The code keeps a frame pointer; `offset` bytes lie before the instruction in its function.
    FramePointer {
        /// Bytes from the start of the function.
        offset: u64,
    },
    /// The code has saved a `pt_regs` where the stack pointer stands (optimised kprobes).
    SavedRegisters,
    /// Nothing is known of it.
    Unknown,
}

/// The registers of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// All that are known; `rip` and `rsp` always are.
    pub(crate) registers: Registers,
    /// The instruction pointer stands at an interrupted instruction, not at a return address.
    pub(crate) interrupted: bool,
}

impl State {
    pub(crate) fn new(ip: VirtAddr, sp: VirtAddr, bp: Option<VirtAddr>, interrupted: bool) -> Self {
        let mut registers = Registers::default().with(Register::Rip, ip.0).with(Register::Rsp, sp.0);
        registers.set(Register::Rbp, bp.map(|bp| bp.0));
        Self { registers, interrupted }
    }

    pub(crate) fn ip(&self) -> VirtAddr {
        self.registers.ip().unwrap_or_default()
    }

    pub(crate) fn sp(&self) -> VirtAddr {
        self.registers.sp().unwrap_or_default()
    }

    /// The state of a caller: a call keeps only what the callee saved, of which the tables tell `rbp` alone.
    fn caller(ip: VirtAddr, sp: VirtAddr, bp: Option<VirtAddr>) -> Self {
        Self::new(ip, sp, bp, false)
    }
}

/// What lies before a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its caller.
    Caller {
        /// The caller's registers after the return.
        state: State,
        /// Address of the return address.
        slot: VirtAddr,
        /// How it was found.
        trust: FrameTrust,
    },
    /// Kernel code that was interrupted.
    Interrupted {
        /// Its registers.
        state: State,
        /// Address of the `pt_regs` that holds them. Of one that was not wholly saved only the end exists.
        at: VirtAddr,
    },
    /// User code.
    User {
        /// Address of the `pt_regs`.
        at: VirtAddr,
        /// Its registers.
        registers: Registers,
    },
    /// Nothing: the stack began with this frame.
    End,
}

/// Why there is no next frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// The stack is not in the dump.
    #[error("the stack cannot be read: {0}")]
    Missing(#[from] Missing),
    /// No table and no frame pointer tells how to go on from this code.
    #[error("nothing tells how to go on from {0:#}")]
    NoRule(VirtAddr),
    /// The rule needs a register that is not known here.
    #[error("the frame at {0:#} is found through a register that is not known")]
    UnknownRegister(VirtAddr),
    /// A return address that points to no code, or a `pt_regs` that cannot be one.
    #[error("the stack holds {value:#} at {at:#}, which is no code")]
    NotCode {
        /// Where it was read.
        at: VirtAddr,
        /// What was read.
        value: VirtAddr,
    },
    /// The stack pointer would not move on, or would come back to a stack that was left.
    #[error("the stack turns back on itself at {0:#}")]
    Loop(VirtAddr),
    /// More frames than any stack holds.
    #[error("there are more frames than a stack can hold")]
    TooDeep,
}

/// Steps as the code's own rule says.
pub(crate) fn step(world: &dyn World, state: &State) -> Result<Next, Lost> {
    match world.rule(state.ip(), state.interrupted) {
        Rule::Orc(entry) => orc(world, state, &entry),
        Rule::FramePointer { offset } => frame_pointer(world, state, offset),
        Rule::SavedRegisters => pt_regs(world, state.sp()),
        Rule::Unknown => Err(Lost::NoRule(state.ip())),
    }
}

/// Bytes from the value of `rsp` in the caller down to the word that holds the return address.
const RETURN_ADDRESS: u64 = 8;

fn orc(world: &dyn World, state: &State, entry: &OrcEntry) -> Result<Next, Lost> {
    match entry.kind {
        OrcKind::EndOfStack => return Ok(Next::End),
        OrcKind::Undefined => return Err(Lost::NoRule(state.ip())),
        OrcKind::Call | OrcKind::Regs | OrcKind::RegsPartial => {}
    }
    let previous_sp = previous_sp(world, state, entry)?;
    match entry.kind {
        OrcKind::Call => {
            let bp = previous_bp(world, state, entry, previous_sp)?;
            return caller(world, previous_sp.sub(RETURN_ADDRESS), bp, FrameTrust::Orc);
        }
        OrcKind::Regs => pt_regs(world, previous_sp),
        _ => iret_frame(world, state, entry, previous_sp),
    }
    .map(|next| match next {
        Next::Interrupted { mut state, at } => {
            state.interrupted = entry.signal;
            Next::Interrupted { state, at }
        }
        other => other,
    })
}

/// The stack pointer of the previous frame, or for the `Regs` kinds the place of the saved registers.
fn previous_sp(world: &dyn World, state: &State, entry: &OrcEntry) -> Result<VirtAddr, Lost> {
    let unknown = Lost::UnknownRegister(state.sp());
    let register = |register| state.registers.get(register).map(VirtAddr).ok_or(unknown.clone());
    let offset = i64::from(entry.sp_offset);
    Ok(match entry.sp {
        OrcRegister::Sp => state.sp().offset(offset),
        OrcRegister::Bp => register(Register::Rbp)?.offset(offset),
        OrcRegister::R10 => register(Register::R10)?.offset(offset),
        OrcRegister::R13 => register(Register::R13)?.offset(offset),
        OrcRegister::Di => register(Register::Rdi)?.offset(offset),
        OrcRegister::Dx => register(Register::Rdx)?.offset(offset),
        OrcRegister::Ax => register(Register::Rax)?.offset(offset),
        // The word at the top of the stack is the other stack's pointer...
        OrcRegister::SpIndirect => world.pointer(state.sp())?.offset(offset),
        // ...or a word of the frame is.
        OrcRegister::BpIndirect => world.pointer(register(Register::Rbp)?.offset(offset))?,
        OrcRegister::Undefined | OrcRegister::PrevSp => return Err(Lost::NoRule(state.ip())),
    })
}

/// The frame pointer of the previous frame; unknown stays unknown.
fn previous_bp(
    world: &dyn World,
    state: &State,
    entry: &OrcEntry,
    previous_sp: VirtAddr,
) -> Result<Option<VirtAddr>, Lost> {
    let offset = i64::from(entry.bp_offset);
    let bp = state.registers.bp();
    Ok(match (entry.bp, bp) {
        (OrcRegister::PrevSp, _) => Some(world.pointer(previous_sp.offset(offset))?),
        (OrcRegister::Bp, Some(bp)) => Some(world.pointer(bp.offset(offset))?),
        _ => bp,
    })
}

/// The frame that a return address leads to.
pub(crate) fn caller(
    world: &dyn World,
    slot: VirtAddr,
    bp: Option<VirtAddr>,
    trust: FrameTrust,
) -> Result<Next, Lost> {
    let written = world.pointer(slot)?;
    let ip = world.real_return(slot, written);
    if !world.is_code(ip) {
        return Err(Lost::NotCode { at: slot, value: written });
    }
    Ok(Next::Caller { state: State::caller(ip, slot.add(RETURN_ADDRESS), bp), slot, trust })
}

/// Selectors are 16 bits wide; newer kernels keep other things in the bits above (FRED).
const SELECTOR: u64 = 0xffff;

fn with_selectors(mut registers: Registers) -> Registers {
    for register in [Register::Cs, Register::Ss] {
        registers.set(register, registers.get(register).map(|selector| selector & SELECTOR));
    }
    registers
}

/// The code whose registers a whole `pt_regs` holds.
pub(crate) fn pt_regs(world: &dyn World, at: VirtAddr) -> Result<Next, Lost> {
    let mut raw = [0; PT_REGS_BYTES];
    world.read(at, &mut raw)?;
    interrupted(at, pt_regs::from_pt_regs(&raw).map(with_selectors).unwrap_or_default())
}

/// The code that the processor's own five words tell of. The other registers are still as they were, where they are
/// known at all.
fn iret_frame(world: &dyn World, state: &State, entry: &OrcEntry, at: VirtAddr) -> Result<Next, Lost> {
    let mut raw = [0; IRET_FRAME_BYTES];
    world.read(at, &mut raw)?;
    let pushed = pt_regs::from_iret_frame(&raw).map(with_selectors).unwrap_or_default();
    let mut registers = if state.interrupted { state.registers.clone() } else { Registers::default() };
    registers.set(Register::OrigRax, None);
    registers.set(Register::Rbp, previous_bp(world, state, entry, at)?.map(|bp| bp.0));
    for (register, value) in pushed.known() {
        registers.set(register, value);
    }
    interrupted(at.sub(IRET_FRAME_OFFSET as u64), registers)
}

fn interrupted(at: VirtAddr, registers: Registers) -> Result<Next, Lost> {
    if registers.in_user_mode() {
        return Ok(Next::User { at, registers });
    }
    // A kernel code segment is never null: this memory holds no registers.
    if registers.get(Register::Cs).is_none_or(|cs| cs == 0) {
        return Err(Lost::NotCode { at, value: registers.ip().unwrap_or_default() });
    }
    Ok(Next::Interrupted { state: State { registers, interrupted: true }, at })
}

/// Bytes at the start of a function in which the frame pointer may not be set up yet: `endbr64`, a 5-byte nop, three
/// bytes for the tail-call counter, `push %rbp` (1) and `mov %rsp,%rbp` (3).
const PROLOGUE: u64 = 16;

fn frame_pointer(world: &dyn World, state: &State, offset: u64) -> Result<Next, Lost> {
    let sp = state.sp();
    if state.interrupted && offset < PROLOGUE {
        if world.is_return_address(world.pointer(sp)?) {
            return caller(world, sp, state.registers.bp(), FrameTrust::FramePointer);
        }
        let saved = world.pointer(sp)?;
        if state.registers.bp() == Some(saved) && world.is_return_address(world.pointer(sp.add(8))?) {
            return caller(world, sp.add(8), Some(saved), FrameTrust::FramePointer);
        }
    }
    let bp = state.registers.bp().ok_or(Lost::UnknownRegister(sp))?;
    if bp < sp || bp.0 % 8 != 0 {
        return Err(Lost::NotCode { at: sp, value: bp });
    }
    caller(world, bp.add(8), Some(world.pointer(bp)?), FrameTrust::FramePointer)
}

/// Steps where the code's own rule is lacking or failed: a call into nowhere, a plausible frame pointer, a nearby return
/// to a caller of this very function, or the next word on `stack` that looks like a return address.
pub(crate) fn guess(world: &dyn World, state: &State, stack: &Stack) -> Option<Next> {
    let sp = state.sp();
    if !stack.contains(sp) {
        return None;
    }
    // A call through a wild pointer faults before its first instruction: its return address is the last thing pushed.
    if state.interrupted && !world.is_code(state.ip()) && return_at(world, sp).is_some() {
        return caller(world, sp, state.registers.bp(), FrameTrust::Orc).ok();
    }
    if let Some(bp) = state.registers.bp()
        && bp >= sp
        && bp.0 % 8 == 0
        && stack.holds(bp, 16)
        && return_at(world, bp.add(8)).is_some()
        && let Ok(saved) = world.pointer(bp)
    {
        return caller(world, bp.add(8), Some(saved), FrameTrust::FramePointer).ok();
    }
    let near = |slot: &VirtAddr| slot.since(sp) < LARGEST_FRAME;
    let calls = |slot: &VirtAddr| return_at(world, *slot).is_some_and(|ip| world.calls(ip, state.ip()));
    if let Some(slot) = slots(sp, stack).take_while(near).find(calls) {
        return caller(world, slot, None, FrameTrust::CallSite).ok();
    }
    let slot = slots(sp, stack).find(|slot| return_at(world, *slot).is_some())?;
    caller(world, slot, None, FrameTrust::Scan).ok()
}

/// The kernel's build warns of larger frames (`CONFIG_FRAME_WARN`).
const LARGEST_FRAME: u64 = 2048;

/// The words of a stack from `sp` up.
fn slots(sp: VirtAddr, stack: &Stack) -> impl Iterator<Item = VirtAddr> + use<> {
    let (stack, first) = (*stack, VirtAddr(sp.0.wrapping_add(7) & !7));
    (0_u64..).map(move |word| first.add(word.wrapping_mul(8))).take_while(move |slot| stack.holds(*slot, 8))
}

/// The return address in a word of the stack, if it holds one.
fn return_at(world: &dyn World, slot: VirtAddr) -> Option<VirtAddr> {
    let ip = world.real_return(slot, world.pointer(slot).ok()?);
    world.is_return_address(ip).then_some(ip)
}
