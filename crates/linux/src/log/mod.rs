//! The kernel's log, in each of the forms that kernels have kept it in.
//!
//! - since 5.10 a ring of descriptors over a ring of text (`struct printk_ringbuffer`): [`ring`];
//! - 3.5 to 5.9 records of variable length in `log_buf` (`struct printk_log`, first `struct log`): [`records`];
//! - before that plain text in `log_buf`: [`plain`].
//!
//! [`carve`] finds each of them in any bytes, without knowing where.
//!
//! Offsets come from VMCOREINFO where it has them, which is enough to read the log of a kernel without types or symbols;
//! else from type information.

pub mod audit;
pub mod carve;
pub mod plain;
pub mod records;
pub mod ring;
pub mod safe;
mod text;

use kdive_base::VirtAddr;
use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel};

pub use text::log_text;

/// Records of the log, oldest first. An error stands for one record that cannot be read, or for the rest of the log.
pub type Records<'k> = Box<dyn Iterator<Item = Field<LogRecord>> + 'k>;

/// The kernel's log.
pub fn records(kernel: &Kernel) -> Field<Records<'_>> {
    let ring = ring::Ring::find(kernel);
    let lacks = match ring {
        Ok(ring) => return Ok(Box::new(ring.records(kernel.memory()))),
        Err(lacks) => lacks,
    };
    if address(kernel, "log_buf").is_err() {
        return Err(lacks);
    }
    match records::Buffer::find(kernel) {
        Ok(buffer) => Ok(Box::new(buffer.records(kernel.memory()))),
        Err(_) => Ok(Box::new(plain::read(kernel)?.into_iter().map(Ok))),
    }
}

/// The address of a symbol that VMCOREINFO may tell, so that no symbol table is needed.
fn address(kernel: &Kernel, symbol: &str) -> Field<VirtAddr> {
    match kernel.vmcoreinfo().symbol(symbol) {
        Some(at) => Ok(at),
        None => kernel.symbol(symbol),
    }
}

/// The offset of a member, from VMCOREINFO or from types.
fn offset(kernel: &Kernel, record: &str, member: &str) -> Field<u64> {
    match kernel.vmcoreinfo().offset(&format!("{record}.{member}")) {
        Some(offset) => Ok(offset),
        None => kernel.offset_of(record, member),
    }
}

/// The size of a structure, from VMCOREINFO or from types.
fn size(kernel: &Kernel, record: &str) -> Field<u64> {
    match kernel.vmcoreinfo().size(record) {
        Some(size) => Ok(size),
        None => kernel.size_of(record),
    }
}

/// The 32-bit variable behind a symbol.
fn variable_u32(kernel: &Kernel, symbol: &str) -> Field<u32> {
    Ok(kernel.memory().u32(address(kernel, symbol)?)?)
}
