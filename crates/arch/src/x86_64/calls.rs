//! Recognising a return address: the bytes before it are a call.

use kdive_base::{Endian, VirtAddr};

/// The longest form of a call that [`follows_call`] looks for, in bytes.
pub const LONGEST_CALL: usize = 7;

const CALL_RELATIVE: u8 = 0xe8;
const GROUP_5: u8 = 0xff;

/// Whether code that ends with `before` ends with a call instruction, so that the address after it can be a return
/// address. `before` holds up to [`LONGEST_CALL`] bytes, the last one just below the address in question.
///
/// Forms (Intel SDM volume 2, CALL): `e8 rel32`, and `ff /2` with a register or any memory operand. Prefixes lie before
/// the opcode and need not be looked at.
#[must_use]
pub fn follows_call(before: &[u8]) -> bool {
    let from_end = |count: usize| before.len().checked_sub(count).and_then(|at| before.get(at..));
    let relative = from_end(5).is_some_and(|code| code.first() == Some(&CALL_RELATIVE));
    let indirect = |length: usize| {
        from_end(length).is_some_and(|code| match *code {
            [GROUP_5, modrm, ref rest @ ..] => indirect_length(modrm, rest.first().copied()) == Some(length),
            _ => false,
        })
    };
    relative || (2..=LONGEST_CALL).any(indirect)
}

/// Where the direct call that `before` ends with leads; `ip` is the address after it. `None` for other code.
#[must_use]
pub fn direct_target(before: &[u8], ip: VirtAddr) -> Option<VirtAddr> {
    let code = before.len().checked_sub(5).and_then(|at| before.get(at..))?;
    if code.first() != Some(&CALL_RELATIVE) {
        return None;
    }
    Some(ip.offset(Endian::Little.i32(code, 1)?.into()))
}

/// Length of `ff /2` with this ModRM byte, or `None` if it is another instruction of the group.
fn indirect_length(modrm: u8, sib: Option<u8>) -> Option<usize> {
    const CALL_NEAR: u8 = 2;
    let (mode, operation, operand) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    if operation != CALL_NEAR {
        return None;
    }
    let has_sib = mode != 3 && operand == 4;
    let base_is_displacement = match (mode, operand) {
        (0, 5) => true,
        (0, 4) => sib? & 7 == 5,
        _ => false,
    };
    let displacement = match mode {
        1 => 1,
        2 => 4,
        _ if base_is_displacement => 4,
        _ => 0,
    };
    Some(2_usize.saturating_add(usize::from(has_sib)).saturating_add(displacement))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_a_call_are_known() {
        let calls: [&[u8]; 10] = [
            &[0xe8, 1, 2, 3, 4],                         // call rel32
            &[0xff, 0xd0],                               // call *%rax
            &[0x41, 0xff, 0xd3],                         // call *%r11
            &[0xff, 0x13],                               // call *(%rbx)
            &[0xff, 0x50, 0x18],                         // call *0x18(%rax)
            &[0xff, 0x54, 0x24, 0x08],                   // call *8(%rsp)
            &[0xff, 0x15, 1, 2, 3, 4],                   // call *x(%rip)
            &[0xff, 0x90, 1, 2, 3, 4],                   // call *x(%rax)
            &[0xff, 0x14, 0x25, 1, 2, 3, 4],             // call *absolute
            &[0x90, 0x90, 0xff, 0x14, 0xc5, 1, 2, 3, 4], // call *x(,%rax,8)
        ];
        for call in calls {
            assert!(follows_call(call), "{call:x?}");
        }
        let others: [&[u8]; 5] = [&[], &[0xe8], &[0xff, 0xe0], &[0xe9, 1, 2, 3, 4], &[0xff, 0x50]];
        for other in others {
            assert!(!follows_call(other), "{other:x?}");
        }
    }

    #[test]
    fn a_direct_call_tells_its_target() {
        assert_eq!(
            direct_target(&[0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff], VirtAddr(0x1005)),
            Some(VirtAddr(0x1000))
        );
        assert_eq!(direct_target(&[0xff, 0xd0], VirtAddr(0x1005)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let known = follows_call(&bytes);
            // A byte in front of the code does not change what it ends with, within the longest form.
            let mut longer = vec![0x90];
            longer.extend(&bytes);
            prop_assert!(!known || follows_call(&longer));
        }
    }
}
