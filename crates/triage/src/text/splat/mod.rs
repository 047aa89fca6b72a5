//! One complaint, line by line: its head, who ran, registers, code, traces, and when it ends.

mod assertion;
mod fault;
mod hang;
mod lock;
mod machine;
mod memory;
mod sanitizer;

use kdive_base::VirtAddr;
use kdive_evidence::{OtherStack, Place, Register, Splat, SplatKind as Kind};

use super::context::{self, Context};
use super::lines::Line;
use super::memory as memory_rows;
use super::modules::ModuleList;
use super::openings::Opening;
use super::scan::{after, decimal, hex, hex_after, word};
use super::trace::{self, Trace};
use super::{code, registers};
use crate::case::Module;

pub(super) use fault::access;
pub(super) use machine::reason;

/// The openings of all families. What is listed first wins where several match.
pub(super) fn families() -> [&'static [Opening]; 7] {
    [
        fault::OPENINGS,
        hang::OPENINGS,
        lock::OPENINGS,
        memory::OPENINGS,
        sanitizer::OPENINGS,
        assertion::OPENINGS,
        machine::OPENINGS,
    ]
}

/// Lines of others that may stand amid a complaint before it is taken for ended.
const MOST_FOREIGN: u32 = 8;
/// The same, before anything of its body came, and for complaints with long tables.
const MOST_FOREIGN_BEFORE: u32 = 40;
/// Lines of its own words that a complaint keeps.
const MOST_DETAILS: usize = 120;
/// Further stacks that a complaint keeps.
const MOST_STACKS: usize = 256;
/// Lines that one complaint may have.
const MOST_LINES: u32 = 20_000;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// It belongs to the complaint.
    Taken,
    /// It does not.
    Foreign,
    /// It belongs, and is the last.
    End,
    /// It does not, and the complaint has ended before.
    Over,
}

/// A complaint that is being read.
#[derive(Debug)]
pub(super) struct Builder {
    pub(super) splat: Splat,
    pub(super) context: Context,
    pub(super) modules: Vec<Module>,
    pub(super) unloaded: Vec<String>,
    /// Words of the printed stack.
    pub(super) stack_words: Vec<u64>,
    /// It only repeats what another complaint said: read, but not kept.
    pub(super) discard: bool,
    list: Option<ModuleList>,
    trace: Trace,
    other: Option<(String, Trace)>,
    part: Part,
    foreign: u32,
    lines: u32,
    separators: u32,
    /// The last `CR2`.
    cr2: Option<u64>,
    /// The instruction pointer was printed with the registers of a program.
    user: bool,
}

/// What the next lines may continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Place,
    Stack,
    Trace,
    Code,
    /// Behind the trace.
    Tail,
}

impl Builder {
    pub(super) fn new(splat: Splat) -> Self {
        let mut builder = Self {
            splat: Splat { message: String::new(), ..splat },
            context: Context::default(),
            modules: Vec::new(),
            unloaded: Vec::new(),
            stack_words: Vec::new(),
            discard: false,
            list: None,
            trace: Trace::default(),
            other: None,
            part: Part::Head,
            foreign: 0,
            lines: 0,
            separators: 0,
            cr2: None,
            user: false,
        };
        let message = splat.message;
        builder.opening_line(&message);
        builder.splat.message = message;
        builder
    }

    /// The first line may hold more than the opening: `Call Trace: [<c01>] f`, `RIP: 0010:f`.
    fn opening_line(&mut self, text: &str) {
        if text.starts_with("Call Trace:") || text.starts_with("RIP") || text.starts_with("EIP") {
            self.body(text, 0);
        }
        if text.ends_with("RIP:") {
            self.part = Part::Place;
        }
        if self.splat.kind == Kind::SpinlockDebug && text.contains(" eip: ") {
            self.splat.ip =
                hex_after(text, " eip: ").map(|at| Place { address: Some(VirtAddr(at)), ..Place::default() });
        }
    }

    /// Whether anything but the head has been read.
    pub(super) fn has_body(&self) -> bool {
        self.has_trace() || self.splat.code.is_some() || self.splat.registers.known().next().is_some()
    }

    /// Whether a trace has been read.
    pub(super) fn has_trace(&self) -> bool {
        !self.trace.frames.is_empty() || self.part == Part::Trace
    }

    /// Whether its trace is being read, so that frames belong to it rather than to one that waits for its trace.
    pub(super) fn wants_frames(&self) -> bool {
        self.part == Part::Trace
    }

    /// Whether a line `CPU: 1 ...` is of the processor that the first line named.
    pub(super) fn is_of_cpu(&self, text: &str) -> bool {
        let cpu = text.strip_prefix("CPU: ").and_then(decimal).and_then(|(cpu, _)| u32::try_from(cpu).ok());
        cpu.is_some() && cpu == self.splat.cpu && !self.has_trace()
    }

    /// Whether such a line is still missing: what tells complaints apart that are printed at once.
    pub(super) fn lacks(&self, text: &str) -> bool {
        let first = text.split([':', ' ']).next().unwrap_or_default();
        match first {
            "RIP" | "EIP" => self.splat.ip.is_none() && !self.has_trace(),
            "Code" => self.splat.code.is_none() && !self.has_trace(),
            "Call" => !self.has_trace(),
            "CPU" | "Pid" => self.splat.pid.is_none() && !self.has_trace(),
            "Oops" => self.splat.number.is_none(),
            "Modules" => self.list.is_none() && self.modules.is_empty(),
            _ => {
                let mut probe = kdive_evidence::Registers::default();
                let registers = registers::line(text, &mut probe).and_then(|_| probe.known().next());
                match registers {
                    Some((register, _)) => self.splat.registers.get(register).is_none() && !self.has_trace(),
                    None => self.wants_frames(),
                }
            }
        }
    }

    /// Keeps a line in its words.
    pub(super) fn detail(&mut self, text: &str) {
        if self.splat.details.len() < MOST_DETAILS {
            self.splat.details.push(text.to_owned());
        }
    }

    /// Whether it is a report of memory that ran out, with its tables.
    pub(super) fn is_memory_report(&self) -> bool {
        matches!(self.splat.kind, Kind::OutOfMemory | Kind::AllocationFailure)
    }

    /// Takes a row of its tables; `false` where it has had too many lines.
    pub(super) fn row(&mut self) -> bool {
        self.lines = self.lines.saturating_add(1);
        self.foreign = 0;
        if self.part == Part::Trace && !self.trace.frames.is_empty() {
            self.part = Part::Tail;
        }
        self.lines <= MOST_LINES
    }

    /// Takes a line.
    pub(super) fn feed(&mut self, line: &Line<'_>) -> Fed {
        let text = line.text();
        self.lines = self.lines.saturating_add(1);
        if self.lines > MOST_LINES {
            return Fed::Over;
        }
        if text.contains("[ end ") && (text.contains("[ end trace ") || text.contains("[ end Kernel panic")) {
            return Fed::End;
        }
        if self.continues(text, line.width) || self.body(text, line.width) {
            self.foreign = 0;
            return Fed::Taken;
        }
        if is_separator(text) {
            self.separators = self.separators.saturating_add(1);
            let framed = matches!(
                self.splat.kind,
                Kind::Kasan | Kind::Kfence | Kind::Kmsan | Kind::Kcsan | Kind::Ubsan
            );
            return if framed && self.has_trace() { Fed::End } else { Fed::Taken };
        }
        // Serial consoles and mail put blank lines anywhere: they end nothing.
        if text.is_empty() {
            return Fed::Taken;
        }
        self.unknown(text)
    }

    fn unknown(&mut self, text: &str) -> Fed {
        if self.part == Part::Trace && !self.trace.frames.is_empty() {
            self.part = Part::Tail;
        }
        self.foreign = self.foreign.saturating_add(1);
        if self.is_memory_report() && memory_rows::is_row(text) {
            self.foreign = 0;
            return Fed::Taken;
        }
        if self.splat.kind == Kind::MachineCheck && self.splat.ip.is_none() {
            self.splat.ip = machine::place(text);
        }
        let early = matches!(self.part, Part::Head | Part::Place);
        // 2.4 names its modules behind the `Oops` without a heading.
        if early
            && self.splat.error_code.is_some()
            && self.splat.number.is_none()
            && text.split(' ').count() > 4
        {
            let (modules, _) = ModuleList::begin(text, 0).finish();
            if modules.len() == text.split_whitespace().count() && self.modules.is_empty() {
                self.modules = modules;
                return Fed::Taken;
            }
        }
        if early || self.is_long() {
            if self.is_detail(text) {
                self.detail(text);
                return Fed::Taken;
            }
            return if self.foreign > MOST_FOREIGN_BEFORE { Fed::Over } else { Fed::Foreign };
        }
        if self.foreign > MOST_FOREIGN { Fed::Over } else { Fed::Foreign }
    }

    /// Complaints that print tables.
    fn is_long(&self) -> bool {
        matches!(
            self.splat.kind,
            Kind::OutOfMemory
                | Kind::AllocationFailure
                | Kind::RcuStall
                | Kind::WorkqueueLockup
                | Kind::Lockdep
                | Kind::Kasan
                | Kind::Kfence
                | Kind::Kcsan
                | Kind::Kmsan
                | Kind::Slab
                | Kind::HungTask
                | Kind::BadPage
                | Kind::MachineCheck
        )
    }

    /// Whether a line that no rule knows is kept with it. Before the trace everything is that a kernel may say there.
    fn is_detail(&self, text: &str) -> bool {
        // Words of the printed stack, echoes of commands, audit records tell nothing.
        !(text.starts_with("audit")
            || matches!(text, "SMP" | "printing eip:")
            || text.starts_with("\"echo 0 >")
            || is_words(text))
    }

    /// Continues what the last line began: wrapped lists of modules, code and places.
    fn continues(&mut self, text: &str, width: usize) -> bool {
        if let Some(list) = &mut self.list {
            if list.more(text, width) {
                return true;
            }
            self.end_list();
        }
        match self.part {
            Part::Code => {
                if let Some(code) = &mut self.splat.code
                    && code::more(text, code)
                {
                    return true;
                }
                self.part = Part::Tail;
            }
            Part::Place => {
                let cut = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                if let Some(place) = self.splat.ip.as_mut().filter(|place| cut && place.size.is_some()) {
                    let whole = format!("{:x}{text}", place.size.unwrap_or_default());
                    place.size = hex(&whole)
                        .map(|(size, ..)| size)
                        .filter(|&size| place.offset.is_some_and(|offset| offset <= size))
                        .or(place.size);
                    return true;
                }
                let mut trace = Trace::default();
                if self.splat.ip.is_none() && trace.line(text) {
                    self.splat.ip = trace.frames.into_iter().next().map(|frame| frame.place);
                    return true;
                }
            }
            Part::Stack if is_words(text) => {
                self.words(text);
                return true;
            }
            _ => {}
        }
        false
    }

    fn end_list(&mut self) {
        if let Some(list) = self.list.take() {
            let (modules, unloaded) = list.finish();
            if self.modules.is_empty() {
                self.modules = modules;
                self.unloaded = unloaded;
            }
        }
    }

    fn words(&mut self, text: &str) {
        const MOST_WORDS: usize = 256;
        let words = text.split_whitespace().filter_map(|token| hex(token.trim_start_matches("<d>")));
        let room = MOST_WORDS.saturating_sub(self.stack_words.len());
        self.stack_words.extend(
            words
                .filter(|(_, digits, rest)| *digits >= 8 && rest.is_empty())
                .map(|(word, ..)| word)
                .take(room),
        );
    }

    /// Lines that every complaint may have.
    fn body(&mut self, text: &str, width: usize) -> bool {
        // Frames are most of what is read, and no other rule wants such a line.
        if self.part == Part::Trace && is_frame(text) && self.frames(text) {
            return true;
        }
        if let Some(rest) = text
            .strip_prefix("Call Trace:")
            .or_else(|| text.strip_prefix("Call trace:"))
            .or_else(|| text.strip_prefix("Backtrace:"))
        {
            return self.begin_trace(rest);
        }
        if let Some(rest) = text.strip_prefix("Stack:").or_else(|| text.strip_prefix("Stack :")) {
            self.part = Part::Stack;
            self.words(rest);
            return true;
        }
        if let Some(rest) = text.strip_prefix("Modules linked in:") {
            self.end_list();
            self.list = Some(ModuleList::begin(rest, width));
            return true;
        }
        if let Some(rest) = text.strip_prefix("Code:") {
            return self.code(rest);
        }
        if context::line(text, &mut self.splat, &mut self.context) || self.place(text) {
            return true;
        }
        if self.heading(text) {
            return true;
        }
        if let Some(control) = self.registers(text) {
            self.cr2 = self.cr2.or(control.cr2);
            return true;
        }
        if fault::head(text, &mut self.splat)
            || sanitizer::access_line(text, &mut self.splat)
            || memory::page_line(text, &mut self.splat)
        {
            return true;
        }
        self.frames(text)
    }

    fn registers(&mut self, text: &str) -> Option<registers::Control> {
        // Behind the trace stand those of the program that called, or of other processors.
        if self.has_trace() || self.user {
            return registers::line(text, &mut kdive_evidence::Registers::default());
        }
        let control = registers::line(text, &mut self.splat.registers)?;
        if text.starts_with("EFLAGS")
            && let Some(release) = after(text, "(")
        {
            context::release(release, &mut self.splat);
        }
        Some(control)
    }

    fn begin_trace(&mut self, rest: &str) -> bool {
        if self.other.is_none() && !self.trace.frames.is_empty() {
            let heading = self.splat.details.last().cloned().unwrap_or_else(|| "Call Trace:".to_owned());
            self.other = Some((heading, Trace::default()));
        }
        self.part = Part::Trace;
        self.frames(rest);
        true
    }

    fn frames(&mut self, text: &str) -> bool {
        let text = text.trim();
        if text.is_empty() {
            return false;
        }
        if let Some((_, trace)) = &mut self.other {
            return trace.line(text);
        }
        if self.part == Part::Tail && !self.trace.frames.is_empty() {
            // A second trace without its heading: not of this complaint.
            return false;
        }
        if self.trace.line(text) {
            self.part = Part::Trace;
            return true;
        }
        false
    }

    fn code(&mut self, rest: &str) -> bool {
        if self.splat.code.is_some() || self.has_trace() && self.splat.ip.is_none() || self.user {
            return true;
        }
        match code::bytes(rest) {
            Some(bytes) => {
                self.splat.code = Some(bytes);
                self.part = Part::Code;
            }
            None => self.detail(&format!("Code:{rest}")),
        }
        true
    }

    /// `RIP: 0010:f+0x8/0x20`, `EIP is at f+0x6b/0xd8`, `pc : f+0x8/0x20` and their kind.
    fn place(&mut self, text: &str) -> bool {
        let Some(rest) = [
            "RIP:",
            "RIP ",
            "EIP:",
            "EIP is at ",
            "RIP is at ",
            "pc :",
            "epc :",
            "PC is at ",
            "NIP [",
            "IP:",
        ]
        .iter()
        .find_map(|mark| text.strip_prefix(mark)) else {
            return false;
        };
        let (selector, rest) = selector(rest.trim_start());
        if selector.is_some_and(|selector| selector & 3 == 3) {
            self.user = self.splat.ip.is_none() && !self.has_trace();
            return true;
        }
        let place = place_of(rest);
        if self.has_trace() {
            if let (Some(place), Part::Trace) = (place, self.part) {
                match &mut self.other {
                    Some((_, trace)) => trace.interrupted(place),
                    None if self.trace.frames.iter().all(|frame| frame.place != place)
                        && self.splat.ip.as_ref() != Some(&place) =>
                    {
                        self.trace.interrupted(place);
                    }
                    None => {}
                }
            }
            return true;
        }
        if let Some((_, trace)) = &mut self.other {
            if let Some(place) = place {
                trace.interrupted(place);
            }
            return true;
        }
        if let Some(selector) = selector.filter(|_| self.splat.registers.get(Register::Cs).is_none()) {
            self.splat.registers.set(Register::Cs, selector);
        }
        if let Some(place) = place {
            self.merge_place(place);
        }
        if let Some(at) = text.find("ainted").and_then(|at| text.get(at.saturating_sub(5)..)) {
            let at = at
                .find("Not tainted")
                .or_else(|| at.find("Tainted"))
                .and_then(|start| at.get(start..))
                .unwrap_or(at);
            context::taint(at, &mut self.splat, false);
        }
        if let Some(rest) = after(text, "EFLAGS:") {
            registers::line(&format!("EFLAGS:{rest}"), &mut self.splat.registers);
        }
        if let Some((_, release)) = text.rsplit_once(" (") {
            context::release(release, &mut self.splat);
        }
        self.part = Part::Place;
        true
    }

    fn merge_place(&mut self, place: Place) {
        if let Some(address) = place.address
            && self.splat.registers.get(Register::Rip).is_none()
        {
            self.splat.registers.set(Register::Rip, address.0);
        }
        let known = self.splat.ip.get_or_insert_default();
        let same = known.function.is_none() || place.function.is_none() || known.function == place.function;
        if !same {
            return;
        }
        known.address = known.address.or(place.address);
        known.offset = known.offset.or(place.offset);
        known.size = known.size.or(place.size);
        known.module = known.module.take().or(place.module);
        known.function = known.function.take().or(place.function);
    }

    /// Headings of further stacks.
    fn heading(&mut self, text: &str) -> bool {
        let starts = |marks: &[&str]| marks.iter().any(|mark| text.starts_with(mark));
        if starts(&["stack backtrace:"]) {
            self.end_other();
            return true;
        }
        let heads = starts(&[
            "Allocated by task",
            "Freed by task",
            "allocated by task",
            "freed by task",
            "Last potentially related",
            "Second to last potentially",
            "Uninit was ",
            "Local variable ",
            "NMI backtrace for cpu",
            "Task dump for CPU",
            "read to 0x",
            "write to 0x",
            "read (",
            "write (",
            "page last ",
            "INFO: Allocated in",
            "INFO: Freed in",
            "Allocated in ",
            "Freed in ",
            "-> #",
            "the existing dependency chain",
            "last function called",
            "hardirqs last ",
            "task:",
            "Sending NMI",
        ]) && !text.contains("skipped");
        let kinds = self.splat.kind != Kind::PageFault || !text.starts_with("task:");
        if !heads || !kinds {
            return false;
        }
        if text.starts_with("hardirqs last")
            || text.starts_with("Sending NMI")
            || text.starts_with("task:") && !self.has_trace()
        {
            self.detail(text);
            return true;
        }
        self.end_other();
        self.other = Some((text.to_owned(), Trace::default()));
        true
    }

    fn end_other(&mut self) {
        if let Some((heading, trace)) = self.other.take()
            && !trace.frames.is_empty()
            && self.splat.other_stacks.len() < MOST_STACKS
        {
            self.splat.other_stacks.push(OtherStack { heading, frames: trace.frames });
        }
    }

    /// The complaint as it is.
    pub(super) fn finish(&mut self) -> Splat {
        self.end_list();
        self.end_other();
        let mut splat = std::mem::take(&mut self.splat);
        splat.frames = std::mem::take(&mut self.trace.frames);
        if let (Some(place), Some(rip)) = (&mut splat.ip, splat.registers.get(Register::Rip)) {
            place.address = place.address.or(Some(VirtAddr(rip)));
        } else if let (None, Some(rip)) = (&splat.ip, splat.registers.get(Register::Rip)) {
            splat.ip = Some(Place { address: Some(VirtAddr(rip)), ..Place::default() });
        }
        if splat.kind == Kind::PageFault {
            splat.address = splat.address.or(self.cr2.map(VirtAddr));
            splat.access = splat.access.or(splat.error_code.map(fault::access));
        }
        if let Some(ip) = splat.ip.as_mut().filter(|ip| ip.function.is_none() && ip.address.is_some())
            && let Some(named) = splat.frames.iter().find(|frame| frame.place.address == ip.address)
        {
            *ip = named.place.clone();
        }
        // The frame of `ip` is not repeated. Its trace may begin with it.
        if let (Some(ip), Some(first)) = (&splat.ip, splat.frames.first())
            && ip.function.is_some()
            && first.place.function == ip.function
            && first.place.offset == ip.offset
        {
            splat.frames.remove(0);
        }
        splat.damage = splat.damage.take().or_else(|| damage(&splat));
        splat
    }
}

/// What a complaint of this kind should have had.
fn damage(splat: &Splat) -> Option<String> {
    let exception = matches!(
        splat.kind,
        Kind::PageFault
            | Kind::GeneralProtection
            | Kind::InvalidOpcode
            | Kind::DivideError
            | Kind::Bug
            | Kind::DoubleFault
    );
    if exception && splat.ip.is_none() {
        return Some("the instruction pointer is missing".to_owned());
    }
    (exception && splat.frames.is_empty()).then(|| "the call trace is missing".to_owned())
}

/// `0010:f+0x8`: the selector of the code segment. A bare `RIP` of a program has `0033`.
fn selector(text: &str) -> (Option<u64>, &str) {
    match hex(text) {
        Some((selector, 4, rest)) if rest.starts_with(':') => {
            (Some(selector), rest.get(1..).unwrap_or_default())
        }
        _ => (None, text),
    }
}

/// The place in what stands behind `RIP:`: addresses and a name of whatever age.
fn place_of(text: &str) -> Option<Place> {
    let text = text.trim_start();
    if let Some((place, _)) = trace::symbol(text) {
        return Some(place);
    }
    let mut rest = text;
    let mut address = None;
    loop {
        let (token, behind) = word(rest);
        let plain = token.trim_start_matches(['[', '<']);
        let Some((value, digits, tail)) = hex(plain).filter(|(_, digits, _)| *digits >= 1) else { break };
        let zero = value == 0 && token.starts_with("0x");
        if digits < 7 && !zero && !token.starts_with("0x") {
            break;
        }
        address = Some(VirtAddr(value));
        if let Some(inner) = between_braces(tail) {
            return trace::old_symbol(inner).map(|place| Place { address, ..place });
        }
        rest = behind;
    }
    let named = trace::symbol(rest).map(|(place, _)| place).filter(|place| place.offset.is_some());
    match named {
        Some(place) => Some(Place { address, ..place }),
        None => address.map(|address| Place { address: Some(address), ..Place::default() }),
    }
}

fn between_braces(text: &str) -> Option<&str> {
    after(text, "{")?.split_once('}').map(|(inner, _)| inner)
}

/// Whether a line looks like a frame of today: `f+0x8/0x20`.
fn is_frame(text: &str) -> bool {
    let (first, _) = word(text.trim_start_matches("? "));
    first.contains("+0x") && !first.contains(':')
}

/// A line of `=` or `-` or `*`.
fn is_separator(text: &str) -> bool {
    text.len() >= 8
        && ["=", "-", "*", "+"]
            .iter()
            .any(|mark| text.trim_matches(|letter: char| mark.contains(letter)).is_empty())
}

/// Nothing but words of memory.
fn is_words(text: &str) -> bool {
    let mut any = false;
    let all = text.split_whitespace().all(|token| {
        any = true;
        let digits = token.trim_start_matches("<d>");
        matches!(digits.len(), 8 | 16) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    any && all
}
