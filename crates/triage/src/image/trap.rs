//! The trap that the dying processor took, from what it saved: for cases whose log does not tell it.

use kdive_base::VirtAddr;
use kdive_evidence::{Access, CodeBytes, Place, Registers, Splat, SplatKind};
use kdive_target::{Field, Kernel, Load};

use crate::case::Crashed;

/// Bytes of code that an oops shows before the instruction, and from it on (arch/x86/kernel/dumpstack.c).
const BEFORE: u64 = 42;
const FROM: usize = 22;

#[derive(Load)]
#[load(type = "task_struct")]
struct Trap {
    #[load(any("thread.cr2"))]
    address: Field<VirtAddr>,
    #[load(any("thread.trap_nr", "thread.trap_no"))]
    number: Field<u64>,
    #[load(any("thread.error_code"))]
    error: Field<u64>,
}

/// The processor's exceptions (arch/x86/include/asm/trapnr.h).
const DIVIDE: u64 = 0;
const INVALID_OPCODE: u64 = 6;
const DOUBLE_FAULT: u64 = 8;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// The entries that save registers of code that died, by the exception that they are for.
const ENTRIES: &[(&str, u64)] = &[
    ("asm_exc_page_fault", PAGE_FAULT),
    ("page_fault", PAGE_FAULT),
    ("async_page_fault", PAGE_FAULT),
    ("asm_exc_general_protection", GENERAL_PROTECTION),
    ("general_protection", GENERAL_PROTECTION),
    ("asm_exc_invalid_op", INVALID_OPCODE),
    ("invalid_op", INVALID_OPCODE),
    ("asm_exc_divide_error", DIVIDE),
    ("divide_error", DIVIDE),
    ("asm_exc_double_fault", DOUBLE_FAULT),
    ("double_fault", DOUBLE_FAULT),
];

/// Where x86-64 has its modules (Documentation/arch/x86/x86_64/mm.rst): above the kernel's image, below the fixed maps.
pub(crate) const MODULES: std::ops::Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

/// The splat of the trap that is on a stack. `None` where the kernel died of no trap.
pub(super) fn splat(kernel: &Kernel, crashed: &Crashed) -> Option<Splat> {
    let registers = crashed.registers.as_ref()?;
    let ip = registers.ip()?;
    let at = crashed.frames.iter().position(|frame| frame.place.address == Some(ip) && frame.interrupted)?;
    let entry = crashed.frames.get(at.checked_sub(1)?)?.place.function.as_deref()?;
    let (_, number) = ENTRIES.iter().find(|(name, _)| *name == entry)?;
    let trap: Trap = kernel.load(crashed.task?);
    // Another trap of this task may have come later, such as one of its user code.
    let is_same = trap.number == Ok(*number);
    let error = trap.error.ok().filter(|_| is_same);
    let address = trap.address.ok().filter(|_| is_same && *number == PAGE_FAULT);
    let kind = match *number {
        PAGE_FAULT => SplatKind::PageFault,
        GENERAL_PROTECTION => SplatKind::GeneralProtection,
        DIVIDE => SplatKind::DivideError,
        DOUBLE_FAULT => SplatKind::DoubleFault,
        _ if is_bug(kernel, ip) => SplatKind::Bug,
        _ => SplatKind::InvalidOpcode,
    };
    let frame = crashed.frames.get(at)?;
    // Code that cannot be named, where modules lie: what is known of the trap would be said of others.
    let is_code =
        error.is_none_or(|error| access(error) != Access::Execute) && kernel.memory().bytes(ip, 1).is_ok();
    if frame.place.function.is_none() && MODULES.contains(&ip.0) && is_code {
        return None;
    }
    Some(Splat {
        kind,
        message: message(kind, address),
        cpu: crashed.cpu,
        pid: crashed.pid,
        comm: crashed.comm.clone(),
        address,
        access: error.filter(|_| *number == PAGE_FAULT).map(access),
        error_code: error,
        ip: Some(Place { address: Some(ip), ..frame.place.clone() }),
        registers: registers.clone(),
        code: code(kernel, registers),
        frames: crashed.frames.get(at.saturating_add(1)..).unwrap_or_default().to_vec(),
        ..Splat::default()
    })
}

/// The line that the kernel begins such a complaint with.
fn message(kind: SplatKind, address: Option<VirtAddr>) -> String {
    match (kind, address) {
        (SplatKind::PageFault, Some(at)) if at.0 < kdive_base::PAGE_SIZE => {
            format!("BUG: kernel NULL pointer dereference, address: {at}")
        }
        (SplatKind::PageFault, Some(at)) => format!("BUG: unable to handle page fault for address: {at}"),
        (SplatKind::PageFault, None) => "BUG: unable to handle page fault".into(),
        (SplatKind::GeneralProtection, _) => "general protection fault".into(),
        (SplatKind::DivideError, _) => "divide error".into(),
        (SplatKind::DoubleFault, _) => "double fault".into(),
        (SplatKind::Bug, _) => "kernel BUG".into(),
        _ => "invalid opcode".into(),
    }
}

/// What the error code of a page fault says was done.
fn access(error: u64) -> Access {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 4;
    match error {
        error if error & FETCH != 0 => Access::Execute,
        error if error & WRITE != 0 => Access::Write,
        _ => Access::Read,
    }
}

/// `ud2`: what `BUG()` compiles to.
fn is_bug(kernel: &Kernel, ip: VirtAddr) -> bool {
    kernel.memory().bytes(ip, 2).is_ok_and(|bytes| bytes == [0x0f, 0x0b])
}

fn code(kernel: &Kernel, registers: &Registers) -> Option<CodeBytes> {
    let ip = registers.ip().filter(|ip| kernel.is_code(*ip))?;
    let memory = kernel.memory();
    let bytes = memory.bytes(ip.sub(BEFORE), BEFORE as usize + FROM);
    let whole = bytes.map(|bytes| CodeBytes { bytes, at: BEFORE as usize });
    whole.or_else(|_| memory.bytes(ip, FROM).map(|bytes| CodeBytes { bytes, at: 0 })).ok()
}

/// Puts what memory tells of a trap into the splat that the log has of it; makes one where the log has none.
pub(super) fn add(splats: &mut Vec<Splat>, found: Splat) {
    let is_same = |splat: &&mut Splat| {
        let (one, other) = (splat.ip.as_ref(), found.ip.as_ref());
        let address = |place: Option<&Place>| place.and_then(|place| place.address);
        let by_address = address(one).is_some() && address(one) == address(other);
        let by_name = one.zip(other).is_some_and(|(one, other)| {
            one.function.is_some() && one.function == other.function && one.offset == other.offset
        });
        by_address || by_name
    };
    match splats.iter_mut().find(is_same) {
        Some(splat) => {
            splat.address = splat.address.or(found.address);
            splat.access = splat.access.or(found.access);
            splat.error_code = splat.error_code.or(found.error_code);
            splat.code = splat.code.take().or(found.code);
            if splat.registers.known().next().is_none() {
                splat.registers = found.registers;
            }
            if let Some(place) = &mut splat.ip {
                place.address = place.address.or(found.ip.and_then(|ip| ip.address));
            }
            // The unwinder knows each frame, a printed trace has stale ones in between; but the log has the names of modules
            // that cannot be listed.
            let is_more = !found.frames.is_empty() || splat.frames.is_empty();
            if is_more && found.frames.iter().all(|frame| frame.place.function.is_some() || frame.interrupted)
            {
                splat.frames = found.frames;
            }
        }
        None => splats.push(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_code_tells_what_was_done() {
        assert_eq!((access(0), access(2), access(0x10)), (Access::Read, Access::Write, Access::Execute));
    }

    #[test]
    fn the_log_and_the_memory_tell_of_one_trap() {
        let place = |offset| Place { function: Some("f".into()), offset: Some(offset), ..Place::default() };
        let found = Splat {
            ip: Some(Place { address: Some(VirtAddr(0x1000)), ..place(4) }),
            error_code: Some(2),
            ..Splat::default()
        };
        let mut splats = vec![Splat { ip: Some(place(4)), message: "BUG".into(), ..Splat::default() }];
        add(&mut splats, found.clone());
        assert_eq!(splats.len(), 1);
        assert_eq!((splats[0].error_code, splats[0].message.as_str()), (Some(2), "BUG"));
        let mut splats = vec![Splat { ip: Some(place(8)), ..Splat::default() }];
        add(&mut splats, found);
        assert_eq!(splats.len(), 2);
    }
}
