//! Printed registers, 64 and 32 bits wide, as the kernel and crash print them.

use kdive_evidence::{Register, Registers};

use super::scan::hex;

/// What a line of registers tells besides them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// The address of the last page fault.
    pub(super) cr2: Option<u64>,
    /// The error code that crash shows (`ERR:`, `ORIG_RAX:`).
    pub(super) error: Option<u64>,
}

/// Takes the registers of a line into `registers`; a value that is there already stays. `None`: it is no such line.
pub(super) fn line(text: &str, registers: &mut Registers) -> Option<Control> {
    let mut control = Control::default();
    let mut rest = text.trim_start();
    let mut count = 0_usize;
    while let Some((before, behind)) = rest.split_once(':') {
        let name = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        if count == 0 && before.trim() != name {
            return None;
        }
        let Some((value, digits, behind)) = hex(behind.trim_start()) else {
            // A line that begins with a register is one, whatever follows.
            if count == 0 {
                return None;
            }
            rest = behind;
            continue;
        };
        // `RSP: 0018:ffff88002f863bd0`: a selector and an offset.
        let pair = behind.strip_prefix(':').and_then(hex).filter(|_| digits == 4);
        let (selector, value, digits, behind) = match pair {
            Some((offset, digits, behind)) => (Some(value), offset, digits, behind),
            None => (None, value, digits, behind),
        };
        match name {
            "CR2" => control.cr2 = Some(value),
            "ERR" => control.error = Some(value),
            _ => {
                let Some(register) = register(name, digits) else {
                    if count == 0 && !is_control(name) {
                        return None;
                    }
                    count += 1;
                    rest = behind;
                    continue;
                };
                keep(registers, register, value);
                if let Some(selector) = selector {
                    keep(
                        registers,
                        if register == Register::Rip { Register::Cs } else { Register::Ss },
                        selector,
                    );
                }
            }
        }
        count += 1;
        rest = behind;
    }
    (count > 0).then_some(control)
}

fn keep(registers: &mut Registers, register: Register, value: u64) {
    if registers.get(register).is_none() {
        registers.set(register, value);
    }
}

/// Registers that are no use to a reader of splats, but may begin a line.
fn is_control(name: &str) -> bool {
    matches!(name, "CR0" | "CR3" | "CR4" | "knlGS" | "PKRU" | "DR0" | "DR1" | "DR2" | "DR3" | "DR6" | "DR7")
}

/// The register of a name; four digits tell a selector from a base.
fn register(name: &str, digits: usize) -> Option<Register> {
    // No name is longer than `ORIG_RAX`; this is asked for every line with a colon.
    let mut upper = [0; 8];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name.as_bytes());
    upper.make_ascii_uppercase();
    Some(match std::str::from_utf8(upper).ok()? {
        "RAX" | "EAX" => Register::Rax,
        "RBX" | "EBX" => Register::Rbx,
        "RCX" | "ECX" => Register::Rcx,
        "RDX" | "EDX" => Register::Rdx,
        "RSI" | "ESI" => Register::Rsi,
        "RDI" | "EDI" => Register::Rdi,
        "RBP" | "EBP" => Register::Rbp,
        "RSP" | "ESP" => Register::Rsp,
        "R8" | "R08" => Register::R8,
        "R9" | "R09" => Register::R9,
        "R10" => Register::R10,
        "R11" => Register::R11,
        "R12" => Register::R12,
        "R13" => Register::R13,
        "R14" => Register::R14,
        "R15" => Register::R15,
        "RIP" | "EIP" => Register::Rip,
        "EFLAGS" | "RFLAGS" => Register::Rflags,
        "ORIG_RAX" | "ORIG_EAX" => Register::OrigRax,
        "CS" => Register::Cs,
        "SS" => Register::Ss,
        "DS" => Register::Ds,
        "ES" => Register::Es,
        "FS" if digits > 4 => Register::FsBase,
        "FS" => Register::Fs,
        "GS" if digits > 4 => Register::GsBase,
        "GS" => Register::Gs,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Registers {
        let mut registers = Registers::default();
        for text in lines {
            assert!(line(text, &mut registers).is_some(), "{text}");
        }
        registers
    }

    #[test]
    fn the_64_bit_form_is_read() {
        let registers = read(&[
            "RSP: 0018:ffff88002f863bd0  EFLAGS: 00010246",
            "RAX: ffff8801bde90208 RBX: ffff880215d49c2c RCX: ffff8801bde90208",
            "RBP: ffff88002f863c50 R08: ffff8801bde90150 R09: ffff8801bde90188",
            "FS:  0000000000000000(0000) GS:ffff88002f860000(0000) knlGS:0000000000000000",
            "CS:  0010 DS: 0018 ES: 0018 CR0: 000000008005003b",
        ]);
        assert_eq!(registers.get(Register::Rsp), Some(0xffff_8800_2f86_3bd0));
        assert_eq!(registers.get(Register::Ss), Some(0x18));
        assert_eq!(registers.get(Register::R8), Some(0xffff_8801_bde9_0150));
        assert_eq!(registers.get(Register::GsBase), Some(0xffff_8800_2f86_0000));
        assert_eq!(registers.get(Register::Cs), Some(0x10));
        assert_eq!(registers.get(Register::Rflags), Some(0x10246));
    }

    #[test]
    fn the_32_bit_forms_are_read() {
        let kernel =
            read(&["eax: 00100100 ebx: f76ac100 ecx: f76ac3d0 edx: 00200200", "ds: 007b es: 007b ss: 0068"]);
        assert_eq!(kernel.get(Register::Rdx), Some(0x0020_0200));
        let new = read(&[
            "EAX: 00000000 EBX: c1234567 ECX: 00000001 EDX: 00000002",
            "DS: 007b ES: 007b FS: 00d8 GS: 0000 SS: 0068 EFLAGS: 00010246",
        ]);
        assert_eq!((new.get(Register::Rbx), new.get(Register::Fs)), (Some(0xc123_4567), Some(0xd8)));
        let crash = read(&[
            "DS: 007b ESI: f76ac000 ES: 007b EDI: c201fc80",
            "CS: 0060 EIP: c027e357 ERR: ffffffff EFLAGS: 00010002",
        ]);
        assert_eq!(
            (crash.get(Register::Rip), crash.get(Register::Rsi)),
            (Some(0xc027_e357), Some(0xf76a_c000))
        );
    }

    #[test]
    fn what_was_first_stays_and_other_lines_are_none() {
        let mut registers = read(&["RAX: 0000000000000001"]);
        assert_eq!(
            line("CR2: 0000000000000008", &mut registers),
            Some(Control { cr2: Some(8), error: None })
        );
        assert!(line("RAX: 0000000000000002", &mut registers).is_some());
        assert_eq!(registers.get(Register::Rax), Some(1));
        for text in [
            "Code: 81 e1",
            "Pid: 12, comm: x",
            "CPU: 0 PID: 1 Comm: a",
            "usb 1-7: 12",
            "EDAC MC0: 1",
            "Comm: 00",
        ] {
            assert_eq!(line(text, &mut registers), None, "{text}");
        }
    }
}
