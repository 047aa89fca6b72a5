//! What the code of a function did before it called on: whether it took a lock.

use kdive_base::{Endian, VirtAddr};
use kdive_evidence::Frame;
use kdive_target::Kernel;

use crate::tasks::{Call, plain_name};

/// No function is searched further back than this, in bytes.
const LONGEST: u64 = 64 << 10;
/// A call comes at most so many bytes behind the instruction that loads its argument.
const ARGUMENT_TO_CALL: usize = 48;
const CALL: u8 = 0xe8;
const CALL_BYTES: usize = 5;

/// Whether the function of a frame called one that takes spinlocks, with the address of this lock as a constant, at a place
/// before the call that it is in now. It may have given it back since.
pub(super) fn took_before(kernel: &Kernel, frame: &Frame, lock: VirtAddr) -> bool {
    let at = if frame.interrupted { frame.ip } else { frame.ip.sub(1) };
    called_before(kernel, at, frame.ip, lock, is_taker)
}

/// Whether a function on a task's stack entered a reader of this `srcu_struct`, a constant, before the call that it is in.
pub(super) fn entered_before(kernel: &Kernel, call: &Call, srcu: VirtAddr) -> bool {
    called_before(kernel, call.at, call.ip, srcu, |name| name.starts_with("__srcu_read_lock"))
}

fn called_before(
    kernel: &Kernel,
    at: VirtAddr,
    ip: VirtAddr,
    lock: VirtAddr,
    is_wanted: impl Fn(&str) -> bool,
) -> bool {
    let Some(place) = kernel.place(at) else { return false };
    let start = at.sub(place.offset);
    let length = ip.since(start);
    if length > LONGEST {
        return false;
    }
    let mut code = vec![0; length as usize];
    let (count, _) = kernel.memory().read(start, &mut code);
    code.truncate(count);
    let takes = |target: VirtAddr| {
        let place = kernel.place(target).filter(|place| place.offset == 0);
        place.is_some_and(|place| is_wanted(plain_name(place.symbol.name)))
    };
    calls_with(&code, start, lock).any(|(back, target)| back != ip && takes(target))
}

/// Functions that come back with the lock held (kernel/locking/spinlock.c).
fn is_taker(name: &str) -> bool {
    let starts = ["_raw_spin_lock", "_raw_read_lock", "_raw_write_lock", "_raw_spin_trylock"];
    starts.iter().any(|start| name.starts_with(start))
}

/// The first call behind each instruction that mentions `value`: where it returns to, and its target.
fn calls_with(
    code: &[u8],
    start: VirtAddr,
    value: VirtAddr,
) -> impl Iterator<Item = (VirtAddr, VirtAddr)> + '_ {
    let mentions = (0..code.len()).filter(move |at| {
        let Some(word) = Endian::Little.u32(code, *at) else { return false };
        // `mov $value,%rdi` sign-extends; `lea value(%rip),%rdi` counts from behind the word.
        let constant = i64::from(word as i32) as u64;
        let behind = start.add(*at as u64).add(4);
        constant == value.0 || behind.0.wrapping_add(constant) == value.0
    });
    mentions.filter_map(move |at| {
        let from = at.checked_add(4)?;
        let window = code.get(from..)?;
        let call = window.iter().take(ARGUMENT_TO_CALL).position(|byte| *byte == CALL)?.checked_add(from)?;
        let distance = Endian::Little.u32(code, call.checked_add(1)?)? as i32;
        let back = start.add(call.checked_add(CALL_BYTES)? as u64);
        Some((back, back.offset(i64::from(distance))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_with_their_constant_argument() {
        let start = VirtAddr(0xffff_ffff_8100_0000);
        // mov $0xffffffffc0492380,%rdi; call +0x100; nop; lea 0x10(%rip),%rdi; call -0x20
        let code = [
            0x48, 0xc7, 0xc7, 0x80, 0x23, 0x49, 0xc0, 0xe8, 0x00, 0x01, 0x00, 0x00, 0x90, 0x48, 0x8d, 0x3d,
            0x10, 0, 0, 0, 0xe8, 0xe0, 0xff, 0xff, 0xff,
        ];
        let found = |value| calls_with(&code, start, VirtAddr(value)).collect::<Vec<_>>();
        assert_eq!(found(0xffff_ffff_c049_2380), [(start.add(12), start.add(12 + 0x100))]);
        assert_eq!(found(start.0 + 20 + 0x10), [(start.add(25), start.add(25).sub(0x20))]);
        assert!(found(0xffff_ffff_c049_2384).is_empty());
    }
}
