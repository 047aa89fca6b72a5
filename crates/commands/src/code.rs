//! Code: instructions in a memory, the functions they lie in, and the names of the addresses in them.

use std::ops::Range;

use kdive_arch::x86_64::disassemble::{Disassembler, Flow, Instruction, LONGEST, Syntax};
use kdive_base::{Missing, PAGE_SIZE, VirtAddr, VirtualMemory};
use kdive_target::Kernel;

/// More than any function has.
const LONGEST_FUNCTION: u64 = 1 << 20;

/// Instructions one behind the other, read from a memory.
pub(crate) struct Instructions<'m> {
    memory: &'m dyn VirtualMemory,
    disassembler: Disassembler,
    /// What was read, and where it begins.
    bytes: Vec<u8>,
    from: VirtAddr,
    /// Where the next one lies.
    pub(crate) at: VirtAddr,
    /// Bytes behind `ud2` that are no code.
    bug_bytes: u64,
}

impl<'m> Instructions<'m> {
    /// Those from `at` on.
    pub(crate) fn new(memory: &'m dyn VirtualMemory, at: VirtAddr, syntax: Syntax) -> Self {
        let disassembler = Disassembler::new(syntax);
        Self { memory, disassembler, bytes: Vec::new(), from: at, at, bug_bytes: 0 }
    }

    /// Leaves out bytes behind `ud2`: see [`crate::settings::Settings::bug_bytes`].
    pub(crate) fn skipping(self, bug_bytes: u64) -> Self {
        Self { bug_bytes, ..self }
    }

    /// The next one, or why it cannot be read.
    pub(crate) fn one(&mut self) -> Result<Instruction, Missing> {
        let mut missing = None;
        if self.ahead().len() < LONGEST {
            missing = self.fill();
        }
        let rest = usize::try_from(self.at.since(self.from)).ok();
        let rest = rest.and_then(|done| self.bytes.get(done..)).unwrap_or_default();
        let Some(found) = self.disassembler.one(rest, self.at) else {
            let unread = Missing::new(self.at, kdive_base::Why::NeverPresent);
            return Err(missing.unwrap_or(unread));
        };
        let skipped =
            if found.flow == Flow::Trap && found.bytes == [0x0f, 0x0b] { self.bug_bytes } else { 0 };
        self.at = found.end().add(skipped);
        Ok(found)
    }

    fn ahead(&self) -> &[u8] {
        let done = usize::try_from(self.at.since(self.from)).unwrap_or(usize::MAX);
        self.bytes.get(done..).unwrap_or_default()
    }

    /// Reads a page's worth from here on.
    fn fill(&mut self) -> Option<Missing> {
        self.bytes.resize(PAGE_SIZE as usize, 0);
        let (count, missing) = self.memory.read(self.at, &mut self.bytes);
        self.bytes.truncate(count);
        self.from = self.at;
        missing
    }
}

/// A function's code.
pub(crate) struct Function {
    /// From its symbol to its end.
    pub(crate) range: Range<VirtAddr>,
    /// The end is where the next symbol is, so there is padding before it.
    pub(crate) padded: bool,
}

/// The function that an address lies in.
pub(crate) fn function(kernel: &Kernel, at: VirtAddr) -> Option<Function> {
    let place = kernel.place(at)?;
    let start = place.symbol.address;
    // Labels inside a function of assembly are symbols too: DWARF knows better where it ends.
    if let Some(range) = compiled(kernel, start).filter(|range| range.start == start && range.contains(&at)) {
        return Some(Function { range, padded: false });
    }
    if let Some(size) = place.symbol.size.filter(|&size| size > place.offset && size < LONGEST_FUNCTION) {
        return Some(Function { range: start..start.add(size), padded: false });
    }
    let next = kernel.symbols().ok()?.neighbours(at).1.map(|next| next.address);
    let bound = start.add(LONGEST_FUNCTION);
    let next = next.filter(|next| *next > at && *next < bound).unwrap_or(bound);
    Some(Function { range: start..next, padded: true })
}

#[cfg(feature = "dwarf")]
fn compiled(kernel: &Kernel, at: VirtAddr) -> Option<Range<VirtAddr>> {
    kernel.function_range(at).ok()?
}

#[cfg(not(feature = "dwarf"))]
fn compiled(_kernel: &Kernel, _at: VirtAddr) -> Option<Range<VirtAddr>> {
    None
}

/// Drops the padding behind a function: what comes after its last way out and does nothing.
pub(crate) fn without_padding(code: &mut Vec<Instruction>) {
    /// A way out has room for a jump of five bytes: what the kernel patches in leaves `int3` behind it.
    const GUARDS: usize = 4;
    let Some(last) = code.iter().rposition(|found| !is_padding(found)) else { return };
    let leaves = code.get(last).is_some_and(|last| matches!(last.flow, Flow::Return | Flow::Jump(_)));
    let behind = code.iter().skip(last.saturating_add(1));
    let guards = behind.take_while(|found| leaves && found.bytes == [0xcc]).take(GUARDS).count();
    code.truncate(last.saturating_add(1).saturating_add(guards));
}

fn is_padding(found: &Instruction) -> bool {
    let name = found.mnemonic.rsplit(' ').next().unwrap_or_default();
    let does_nothing = matches!(name, "nop" | "nopw" | "nopl" | "int3");
    does_nothing || found.bytes == [0x66, 0x90]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of what is left of some code.
    fn kept(bytes: &[u8]) -> Vec<String> {
        let mut code: Vec<_> = Disassembler::new(Syntax::Att).all(bytes, VirtAddr(0)).collect();
        without_padding(&mut code);
        code.into_iter().map(|found| found.mnemonic).collect()
    }

    #[test]
    fn padding_is_not_shown() {
        assert_eq!(kept(&[0x5b, 0xc3, 0xcc, 0x90, 0x90, 0x66, 0x90]), ["pop", "ret", "int3"]);
        assert_eq!(
            kept(&[0x5b, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc]),
            ["pop", "ret", "int3", "int3", "int3", "int3"]
        );
        assert_eq!(kept(&[0x0f, 0x0b, 0x90, 0x0f, 0x1f, 0x40, 0]), ["ud2"]);
        assert_eq!(kept(&[0x90, 0x90]), ["nop", "nop"]);
    }

    struct Memory(Vec<u8>);

    impl VirtualMemory for Memory {
        fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
            let rest = self.0.get(at.0 as usize..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            let missing = Missing::new(at.add(count as u64), kdive_base::Why::NeverPresent);
            (count, (count < into.len()).then_some(missing))
        }
    }

    #[test]
    fn code_is_read_across_pages_and_ends_where_memory_does() {
        // 2731 instructions of three bytes: some lie across the end of what is read at a time.
        let memory = Memory([0x48, 0x89, 0xe5].repeat(2731));
        let mut instructions = Instructions::new(&memory, VirtAddr(0), Syntax::Att);
        for number in 0..2731_u64 {
            assert_eq!(instructions.one().unwrap().address, VirtAddr(number * 3));
        }
        assert_eq!(instructions.one().unwrap_err().address, kdive_base::Address::Virtual(VirtAddr(8193)));
    }

    #[test]
    fn what_stands_behind_a_bug_is_left_out() {
        let memory = Memory(vec![0x0f, 0x0b, 1, 2, 0x5b, 0, 0, 0]);
        let mut instructions = Instructions::new(&memory, VirtAddr(0), Syntax::Att).skipping(2);
        assert_eq!(instructions.one().unwrap().mnemonic, "ud2");
        assert_eq!(instructions.one().unwrap().mnemonic, "pop");
    }
}
