//! The walk from the innermost frame outwards: always ends, whatever the stacks hold.

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::{PAGE_SIZE, VirtAddr};
use kdive_evidence::{Frame, FrameTrust, StackKind};

use super::step::{Lost, Next, State, World, guess, step};
use super::{End, Frames};

/// Frames of one walk. Stacks are bounded, but a chain over many of them could still be long.
const MAX_FRAMES: usize = 4096;

/// Where the first frame came from.
#[derive(Clone, Debug)]
pub(crate) struct First {
    pub(crate) state: State,
    /// The word that holds the instruction pointer, where it came from the stack.
    pub(crate) slot: Option<VirtAddr>,
    pub(crate) trust: FrameTrust,
}

/// Which stack the walk is on, and those it has left for good.
struct Track {
    stack: Stack,
    sp: VirtAddr,
    left: Vec<Stack>,
}

impl Track {
    fn new(world: &dyn World, sp: VirtAddr) -> Self {
        Self { stack: world.stack_at(sp).unwrap_or_else(|| unknown_stack(sp)), sp, left: Vec::new() }
    }

    /// Moves on to a caller's stack pointer. It must lie higher on the same stack, or on a stack not yet seen.
    fn advance(&mut self, world: &dyn World, sp: VirtAddr) -> Result<(), Lost> {
        if self.stack.contains(sp) && sp > self.sp {
            self.sp = sp;
            return Ok(());
        }
        let next = world.stack_at(sp).filter(|next| *next != self.stack && !self.left.contains(next));
        let next = next.ok_or(Lost::Loop(sp))?;
        self.left.push(std::mem::replace(&mut self.stack, next));
        self.sp = sp;
        Ok(())
    }
}

/// What stands for a stack whose bounds are not known: the usual 16 KiB around its pointer.
fn unknown_stack(sp: VirtAddr) -> Stack {
    const BYTES: u64 = 4 * PAGE_SIZE;
    let low = VirtAddr(sp.0 & !(BYTES - 1));
    Stack { kind: StackKind::Task, low, high: low.add(BYTES) }
}

/// All frames from `first` on.
pub(crate) fn walk(world: &dyn World, first: First) -> Frames {
    let First { mut state, slot, trust } = first;
    let mut track = Track::new(world, state.sp());
    let mut frames = vec![frame(&state, slot.unwrap_or(state.sp()), trust, track.stack.kind)];
    if state.registers.in_user_mode() {
        // The processor ran user code: there is no kernel frame, and its registers are the whole answer.
        return Frames {
            frames: Vec::new(),
            end: End::User { at: None, registers: Box::new(state.registers) },
        };
    }
    let end = loop {
        if frames.len() >= MAX_FRAMES {
            break End::Lost(Lost::TooDeep);
        }
        let next = match next(world, &state, &mut track) {
            Ok(next) => next,
            Err(lost) => break End::Lost(lost),
        };
        let (next_state, slot, trust) = match next {
            Next::Caller { state, slot, trust } => (state, slot, trust),
            Next::Interrupted { state, at } => {
                if let Some(last) = frames.last_mut() {
                    last.pt_regs = Some(at);
                }
                let sp = state.sp();
                (state, sp, FrameTrust::PtRegs)
            }
            Next::User { at, registers } => {
                if let Some(last) = frames.last_mut() {
                    last.pt_regs = Some(at);
                }
                break End::User { at: Some(at), registers: Box::new(registers) };
            }
            Next::End => break End::Stack,
        };
        let kind = if next_state.interrupted { track.stack.kind } else { slot_kind(world, slot, &track) };
        frames.push(frame(&next_state, slot, trust, kind));
        state = next_state;
    };
    Frames { frames, end }
}

/// The stack that a frame's return address lies on: the walk may have moved on to another with it.
fn slot_kind(world: &dyn World, slot: VirtAddr, track: &Track) -> StackKind {
    if track.stack.contains(slot) {
        return track.stack.kind;
    }
    world.stack_at(slot).map_or(track.stack.kind, |stack| stack.kind)
}

/// The next frame by the code's rule, else by a guess, with the stack pointer moved on.
fn next(world: &dyn World, state: &State, track: &mut Track) -> Result<Next, Lost> {
    let stepped = step(world, state).and_then(|next| move_on(world, next, track));
    match stepped {
        Ok(next) => Ok(next),
        Err(lost) => {
            let guessed = guess(world, state, &track.stack).ok_or(lost.clone())?;
            move_on(world, guessed, track).map_err(|_| lost)
        }
    }
}

fn move_on(world: &dyn World, next: Next, track: &mut Track) -> Result<Next, Lost> {
    match &next {
        Next::Caller { state, .. } => track.advance(world, state.sp())?,
        // The interrupted stack pointer may stand right behind the registers, so it lies higher than the frame did.
        Next::Interrupted { state, .. } => track.advance(world, state.sp())?,
        Next::User { .. } | Next::End => {}
    }
    Ok(next)
}

fn frame(state: &State, sp: VirtAddr, trust: FrameTrust, stack: StackKind) -> Frame {
    Frame {
        ip: state.ip(),
        sp,
        trust,
        stack,
        interrupted: state.interrupted,
        registers: state.registers.clone(),
        pt_regs: None,
    }
}
