//! A pasted session of crash, or of kdive: the system block, backtraces, disassembly, dumped words, tables.
//!
//! Sections are told by the shape of their lines, not by the prompt before them: what people paste has lost its prompts.
//! What no section wants is the log.

mod block;
mod bt;
mod dump;
mod table;

use kdive_base::VirtAddr;

use super::lines::Line;
use super::scan::{decimal, hex};
use crate::case::{Case, MemoryFacts, Module, ShownInstruction};

pub(super) use block::Block;
pub(super) use bt::Backtrace;

/// Phrases that only a session has.
pub(super) const SESSION_PHRASES: &[&str] = &[
    "crash>",
    "crash >",
    "kdive>",
    "DUMPFILE:",
    "KERNEL: ",
    "[exception RIP: ",
    "COMMAND: ",
    "KERNEL-MODE EXCEPTION FRAME",
    "TASK: ",
];

/// Facts of one kind that are kept.
const MOST_ROWS: usize = 4096;

/// A session that is being read.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Something of a session was seen: all lines matter from then on.
    pub(super) active: bool,
    pub(super) block: Block,
    pub(super) backtraces: Vec<Backtrace>,
    current: Option<Backtrace>,
    words: dump::Words,
    modules: Vec<Module>,
    instructions: Vec<ShownInstruction>,
    tables: table::Tables,
}

impl Session {
    /// Takes a line. Whether it was one of a session; otherwise it is of a log.
    pub(super) fn line(&mut self, line: &Line<'_>) -> bool {
        let text = line.text();
        if let Some(command) = prompt(text) {
            self.active = true;
            self.block.end();
            self.end_backtrace();
            self.words.end();
            self.tables.end();
            // Some lines lost the break behind their command.
            return !command.starts_with('[');
        }
        if self.block.line(text) {
            self.active = true;
            return true;
        }
        let taken = self.backtrace(text) || (self.active && self.section(text));
        self.active |= taken;
        taken
    }

    fn backtrace(&mut self, text: &str) -> bool {
        if let Some(next) = bt::Backtrace::heading(text) {
            self.end_backtrace();
            self.current = Some(next);
            return true;
        }
        if text.starts_with("#0 [") && self.current.as_ref().is_some_and(Backtrace::has_frames) {
            self.end_backtrace();
        }
        if self.current.is_none()
            && (text.starts_with('#') && text.contains(" [") || text.starts_with("[exception RIP: "))
        {
            let mut next = Backtrace::default();
            if next.line(text) {
                self.current = Some(next);
                return true;
            }
            return false;
        }
        let Some(current) = &mut self.current else { return false };
        if current.line(text) {
            return true;
        }
        // Frames are followed by their words, and by remarks of whoever pasted them; a log ends the backtrace.
        if !text.is_empty() && !current.is_remark(text) {
            self.end_backtrace();
        }
        false
    }

    fn end_backtrace(&mut self) {
        if let Some(mut backtrace) = self.current.take()
            && self.backtraces.len() < MOST_ROWS
        {
            backtrace.end();
            self.backtraces.push(backtrace);
        }
    }

    fn section(&mut self, text: &str) -> bool {
        if let Some(shown) = instruction(text) {
            if self.instructions.len() < MOST_ROWS {
                self.instructions.push(shown);
            }
            return true;
        }
        if self.words.line(text) {
            return true;
        }
        if let Some(module) = module(text) {
            if self.modules.len() < MOST_ROWS {
                self.modules.push(module);
            }
            return true;
        }
        self.tables.line(text)
    }

    /// Gives what it found to the case, where the log did not tell better; the backtraces stay, to be judged with the splats.
    pub(super) fn finish(&mut self, case: &mut Case<'static>) {
        self.end_backtrace();
        self.words.end();
        self.tables.end();
        self.block.finish(&mut case.system);
        if case.modules.is_empty() {
            case.modules = std::mem::take(&mut self.modules);
        }
        case.instructions = std::mem::take(&mut self.instructions);
        case.stray_text.append(&mut self.words.found);
        if self.tables.memory != MemoryFacts::default() {
            case.memory = std::mem::take(&mut self.tables.memory);
        }
    }
}

/// What stands behind a prompt.
fn prompt(text: &str) -> Option<&str> {
    let text = text.trim_start();
    ["crash>", "crash >", "kdive>"].iter().find_map(|prompt| text.strip_prefix(prompt)).map(str::trim)
}

/// `0xffffffff80153f77 <list_del+8>: mov (%rax),%rdx`.
fn instruction(text: &str) -> Option<ShownInstruction> {
    let (address, _, rest) = hex(text.strip_prefix("0x").map(|_| text)?)?;
    let (name, rest) = rest.trim_start().strip_prefix('<')?.split_once(">:")?;
    let (function, offset) = match name.split_once('+') {
        Some((function, offset)) => (function, decimal(offset)?.0),
        None => (name, 0),
    };
    let mut instruction = String::new();
    for part in rest.split_whitespace() {
        if !instruction.is_empty() {
            instruction.push(' ');
        }
        instruction.push_str(part);
    }
    Some(ShownInstruction {
        address: VirtAddr(address),
        function: function.to_owned(),
        offset,
        text: instruction,
    })
}

/// A row of `mod`: `ffffffff88007e80 ehci_hcd 65741 (not loaded) [CONFIG_KALLSYMS]`.
fn module(text: &str) -> Option<Module> {
    let mut columns = text.split_whitespace();
    let address = columns.next()?;
    let name = columns.next()?;
    let _ = hex(address).filter(|(_, digits, rest)| matches!(digits, 8 | 16) && rest.is_empty())?;
    // Since 8.0 the base address has a column of its own.
    let mut size = columns.next()?;
    let name = if hex(name).is_some_and(|(_, digits, rest)| digits == 16 && rest.is_empty()) {
        std::mem::replace(&mut size, columns.next()?)
    } else {
        name
    };
    let object = columns.next()?;
    let known =
        size.bytes().all(|byte| byte.is_ascii_digit()) && (object == "(not" || object.starts_with('/'));
    known.then(|| Module { name: name.to_owned(), ..Module::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_and_modules_are_read() {
        let shown = instruction("0xffffffff80153f77 <list_del+8>:   mov    (%rax),%rdx").unwrap();
        assert_eq!(
            (shown.function.as_str(), shown.offset, shown.text.as_str()),
            ("list_del", 8, "mov (%rax),%rdx")
        );
        assert_eq!(instruction("0xffffffff80153f77"), None);
        assert_eq!(
            module("ffffffff8816ce00 lpfc 352909 (not loaded) [CONFIG_KALLSYMS]").unwrap().name,
            "lpfc"
        );
        assert_eq!(
            module("ffffffffc03a5000 ffffffffc03a1000 lpfc 352909 (not loaded)").unwrap().name,
            "lpfc"
        );
        assert_eq!(module("f7f47e80 inode_cache 344 697 1056 96 4k"), None);
    }
}
