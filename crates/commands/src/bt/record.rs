//! What `bt` says of one task, as a record.

use kdive_arch::x86_64::stacks::Stack;
use kdive_base::VirtAddr;
use kdive_evidence::{Frame, FrameTrust, InlineFrame, Register, Registers, StackKind};
use kdive_linux::tasks::Task;
use kdive_target::Kernel;
use kdive_target::unwind::{End, Frames};
use serde::Serialize;

use super::locals::{self, BtLocal};
use super::source::{self, Source};
use crate::cx::Cx;
use crate::render::TaskLine;
use crate::words::{self, Annotator, StackWord};

/// What goes into a record besides the frames.
pub(super) struct Wanted {
    /// How the words of frames are shown, if they are.
    pub(super) words: Option<words::Mode>,
    /// Source lines and inlined functions.
    pub(super) source: bool,
    /// Arguments and local variables.
    pub(super) locals: bool,
    /// Only stacks that refer to this are of interest.
    pub(super) reference: Option<Reference>,
}

/// A task and its stack.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BtTask {
    #[serde(flatten)]
    pub(super) line: TaskLine,
    /// The innermost frame first.
    pub(super) frames: Vec<BtFrame>,
    /// Registers of the user code that entered the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Registers>,
    /// Why the walk ended before the beginning of the stack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<String>,
}

/// One frame.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BtFrame {
    /// Number that crash gives it; an interrupted frame on the stack of its interruption has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<usize>,
    /// Instruction pointer.
    pub(super) ip: VirtAddr,
    /// Address of the word that holds it, or the stack pointer of interrupted code.
    pub(super) sp: VirtAddr,
    /// The function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function: Option<String>,
    /// Bytes from the function's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    /// The module that the function belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) module: Option<String>,
    /// How the frame was found.
    pub(super) trust: FrameTrust,
    /// The stack it lies on.
    pub(super) stack: StackKind,
    /// The code was interrupted there: it had not called anything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) interrupted: bool,
    /// All registers of interrupted code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registers: Option<Registers>,
    /// The `pt_regs` that this frame's function saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pt_regs: Option<VirtAddr>,
    /// Source file and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<String>,
    /// Functions inlined there, the innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) inlined: Vec<InlineFrame>,
    /// Arguments and local variables, those of the innermost inlined function first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) locals: Vec<BtLocal>,
    /// The words of the frame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) words: Vec<StackWord>,
}

/// Notes what stacks are read and named with, and this kernel or dump lacks: frames may be less sure for it.
fn note_lacking(cx: &mut Cx) {
    let kernel = cx.kernel.clone();
    let no_orc = kernel.orc().lacking();
    if let Some(lacks) = no_orc {
        cx.lacks(lacks, "unwind tables", String::new);
    }
    for lacks in &kernel.cpu_stacks().incomplete {
        cx.lacks(lacks, "stacks of the processors", String::new);
    }
    for (what, lacks, module) in kernel.modules().lacking(no_orc.is_none()) {
        cx.lacks(lacks, what, || module.unwrap_or_default().to_owned());
    }
}

impl BtTask {
    pub(super) fn new(cx: &mut Cx, task: &Task, frames: Option<Frames>, wanted: &Wanted) -> Self {
        let kernel = cx.kernel.clone();
        let mut record = Self { line: TaskLine::new(cx, task), frames: Vec::new(), user: None, lost: None };
        let Some(Frames { frames, end }) = frames else { return record };
        record.frames = numbered(&kernel, &frames);
        note_lacking(cx);
        match end {
            End::User { registers, .. } => record.user = Some(*registers),
            End::Stack => {}
            End::Lost(lost) => {
                cx.gaps.note("frames of a task", &lost, Some(crate::render::place(task)));
                record.lost = Some(lost.to_string());
            }
        }
        if wanted.source {
            record.add_source(cx, &frames);
        }
        if wanted.locals {
            record.add_locals(cx, &frames);
        }
        let by_value = matches!(wanted.reference, Some(Reference::Value(_)));
        if let Some(mode) = wanted.words.or(by_value.then_some(words::Mode::Plain)) {
            record.add_words(cx, task, mode);
        }
        record
    }

    fn add_source(&mut self, cx: &mut Cx, frames: &[Frame]) {
        for (record, frame) in self.frames.iter_mut().zip(frames) {
            match source::of(&cx.kernel, frame) {
                Ok(Source { location, inlined }) => {
                    record.location = location;
                    record.inlined = inlined;
                }
                Err(lacks) => cx.lacks(&lacks, "source lines", String::new),
            }
        }
    }

    fn add_locals(&mut self, cx: &mut Cx, frames: &[Frame]) {
        let found = locals::of_stack(&cx.kernel, frames);
        for (record, found) in self.frames.iter_mut().zip(found) {
            match found {
                Ok(locals) => record.locals = locals,
                Err(lacks) => cx.lacks(&lacks, "local variables", String::new),
            }
        }
    }

    /// Reads the words between each numbered frame and the next on its stack.
    fn add_words(&mut self, cx: &mut Cx, task: &Task, mode: words::Mode) {
        let kernel = cx.kernel.clone();
        let mut annotator = Annotator::new(&kernel, mode);
        let places: Vec<_> = self.frames.iter().map(|frame| (frame.level, frame.sp, frame.stack)).collect();
        for (index, frame) in self.frames.iter_mut().enumerate() {
            if frame.level.is_none() {
                continue;
            }
            let mut later = places.iter().skip(index.saturating_add(1)).filter(|(level, ..)| level.is_some());
            let end = match later.next() {
                Some((_, sp, stack)) if *stack == frame.stack => sp.add(8),
                Some(_) => stack_of(&kernel, task, frame.sp).map_or(frame.sp, |stack| stack.high),
                // Behind the last frame lie the registers of user code, or nothing.
                None => continue,
            };
            match annotator.words(frame.sp.add(8), end) {
                Ok(words) => frame.words = words,
                Err(lacks) => cx.lacks(&lacks, "words of a frame", || crate::render::place(task)),
            }
        }
        if let Some(lacks) = annotator.lacks {
            cx.lacks(&lacks, "slab objects", String::new);
        }
    }
}

/// The stack of a task or processor that an address lies on.
pub(super) fn stack_of(kernel: &Kernel, task: &Task, at: VirtAddr) -> Option<Stack> {
    let own = task.stack.clone().and_then(|low| kernel.task_stack(low)).ok();
    own.filter(|stack| stack.contains(at)).or_else(|| kernel.cpu_stacks().at(at).map(|of| of.stack))
}

/// crash's numbers of frames. Interrupted code is shown with the registers of the entry that interrupted it and has no
/// number, unless it lies on another stack.
pub(crate) fn levels(kernel: &Kernel, frames: &[Frame]) -> Vec<Option<usize>> {
    numbered(kernel, frames).into_iter().map(|frame| frame.level).collect()
}

fn numbered(kernel: &Kernel, frames: &[Frame]) -> Vec<BtFrame> {
    let mut level = 0_usize;
    let mut before: Option<StackKind> = None;
    let mut records = Vec::with_capacity(frames.len());
    for frame in frames {
        let has_registers = frame.interrupted && frame.registers.get(Register::Cs).is_some();
        let counts = !has_registers || before.is_some_and(|before| before != frame.stack);
        before = Some(frame.stack);
        let mut record = BtFrame::new(kernel, frame);
        record.registers = has_registers.then(|| frame.registers.clone());
        if counts {
            record.level = Some(level);
            level = level.saturating_add(1);
        }
        records.push(record);
    }
    records
}

impl BtFrame {
    fn new(kernel: &Kernel, frame: &Frame) -> Self {
        // A call that never returns can be the last instruction of its function: the address behind it is another's.
        let back = u64::from(!frame.interrupted);
        let place = kernel.place(frame.ip.sub(back));
        Self {
            level: None,
            ip: frame.ip,
            sp: frame.sp,
            function: place.as_ref().map(|place| place.symbol.name.to_owned()),
            offset: place.as_ref().map(|place| place.offset.saturating_add(back)),
            module: place.as_ref().and_then(|place| place.symbol.module.map(str::to_owned)),
            trust: frame.trust,
            stack: frame.stack,
            interrupted: frame.interrupted,
            registers: None,
            pt_regs: frame.pt_regs,
            location: None,
            inlined: Vec::new(),
            locals: Vec::new(),
            words: Vec::new(),
        }
    }
}

/// What `-R` looks for.
#[derive(Clone, Debug)]
pub(super) enum Reference {
    /// A function among the frames.
    Function(String),
    /// A value: an instruction pointer, or any word of the frames.
    Value(VirtAddr),
}

impl Reference {
    pub(super) fn parse(kernel: &Kernel, word: &str) -> Self {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        match u64::from_str_radix(digits, 16) {
            // Some functions are named like numbers.
            Ok(value) if kernel.symbol(word).is_err() => Self::Value(VirtAddr(value)),
            _ => Self::Function(word.to_owned()),
        }
    }

    pub(super) fn is_in(&self, task: &BtTask) -> bool {
        task.frames.iter().any(|frame| match self {
            Self::Function(name) => {
                let inlined = || frame.inlined.iter().any(|inlined| inlined.function == *name);
                frame.function.as_deref() == Some(name) || inlined()
            }
            Self::Value(value) => frame.ip == *value || frame.words.iter().any(|word| word.value == *value),
        })
    }
}
