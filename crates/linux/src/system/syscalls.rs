//! The table of system calls (arch/x86/entry/syscall_64.c).

use kdive_base::{Endian, VirtAddr};
use kdive_debuginfo::Tag;
use kdive_target::{Field, Kernel, Lacks};

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its number.
    pub number: u32,
    /// The function behind it.
    pub handler: VirtAddr,
}

/// No architecture has had more.
const MOST: u64 = 4096;

/// The system calls of 64-bit programs, by number.
///
/// Since 6.9, and in the stable kernels that took the change, `x64_sys_call` calls the functions by a switch, and the table
/// is there for tracers only; it holds the same functions.
///
/// # Errors
/// The kernel keeps no table, or it is not in the dump.
pub fn syscalls(kernel: &Kernel) -> Field<Vec<Syscall>> {
    let at = kernel.symbol("sys_call_table").map_err(|lacks| match kernel.symbol("x64_sys_call") {
        Ok(_) => Lacks::unavailable(
            "this kernel calls system calls by a switch (x64_sys_call) and keeps no table of them",
        ),
        Err(_) => lacks,
    })?;
    let count = (length(kernel, at)? / 8).min(MOST);
    let raw = kernel.memory().bytes(at, count as usize * 8)?;
    let handlers = raw.chunks_exact(8).filter_map(|word| Endian::Little.u64(word, 0).map(VirtAddr));
    // Padding behind the last is no code.
    let is_code = |at: &VirtAddr| kernel.place(*at).is_some_and(|place| place.symbol.kind.is_code());
    Ok((0..).zip(handlers.take_while(is_code)).map(|(number, handler)| Syscall { number, handler }).collect())
}

/// Bytes of the table: as its type tells, or up to what follows it.
fn length(kernel: &Kernel, at: VirtAddr) -> Field<u64> {
    let types = kernel.types()?;
    let typed = types.find(Tag::Variable, "sys_call_table").ok().and_then(|of| types.size_of(of));
    if let Some(bytes) = typed.filter(|bytes| *bytes > 0) {
        return Ok(bytes);
    }
    let next = kernel.symbol_table()?.next(at);
    next.map(|next| next.address.since(at)).ok_or_else(|| Lacks::unavailable("where sys_call_table ends"))
}
