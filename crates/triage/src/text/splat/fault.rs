//! Exceptions of the processor: page faults, general protection, divide errors and their kind, from 2.4 to 7.2.

use kdive_base::VirtAddr;
use kdive_evidence::{Access, Splat, SplatKind as Kind};

use crate::text::openings::{Opening, plain};
use crate::text::scan::{after, decimal, hex, hex_after};

const fn opening(phrase: &'static str, kind: Kind, read: fn(&str, &mut Splat) -> bool) -> Opening {
    Opening { phrase, kind, read }
}

pub(super) const OPENINGS: &[Opening] = &[
    opening("nable to handle kernel NULL pointer", Kind::PageFault, page_fault),
    opening("nable to handle kernel paging request", Kind::PageFault, page_fault),
    opening("nable to handle kernel access", Kind::PageFault, page_fault),
    opening("nable to handle page fault for address", Kind::PageFault, page_fault),
    opening("kernel NULL pointer dereference, address", Kind::PageFault, page_fault),
    opening("kernel NULL pointer dereference at", Kind::PageFault, page_fault),
    opening("Kernel attempted to ", Kind::PageFault, page_fault),
    opening("orrupted page table at address", Kind::PageFault, page_fault),
    plain("Bad pagetable: ", Kind::PageFault),
    opening("general protection fault", Kind::GeneralProtection, protection),
    opening("invalid opcode", Kind::InvalidOpcode, exception),
    opening("invalid operand", Kind::InvalidOpcode, exception),
    opening("divide error", Kind::DivideError, exception),
    opening("double fault", Kind::DoubleFault, double_fault),
    opening("stack guard page was hit at", Kind::StackGuard, |text, splat| {
        splat.address = hex_after(text, "was hit at").map(VirtAddr);
        true
    }),
    plain("kernel stack overflow", Kind::StackGuard),
    plain("Insufficient stack space to handle exception", Kind::StackGuard),
    plain("Thread overran stack, or stack corrupted", Kind::StackEnd),
    opening("int3:", Kind::Exception, exception),
    opening("stack segment:", Kind::Exception, exception),
    opening("segment not present:", Kind::Exception, exception),
    opening("invalid TSS:", Kind::Exception, exception),
    opening("bounds:", Kind::Exception, exception),
    opening("overflow:", Kind::Exception, exception),
    opening("alignment check:", Kind::Exception, exception),
    opening("coprocessor segment overrun:", Kind::Exception, exception),
    opening("device not available:", Kind::Exception, exception),
    opening("simd exception:", Kind::Exception, exception),
    opening("fpu exception:", Kind::Exception, exception),
    opening("control protection fault:", Kind::Exception, exception),
    plain("Missing ENDBR", Kind::Exception),
    plain("CFI failure at", Kind::Exception),
    opening("Internal error", Kind::PageFault, internal),
    opening("Oops", Kind::PageFault, |text, splat| {
        let starts = text.starts_with("Oops")
            && (text.contains("[#") || text.contains("[0") || hex_after(text, "Oops:").is_some());
        starts && {
            number(text, splat);
            true
        }
    }),
];

/// The address behind the phrase, of whatever age.
fn page_fault(text: &str, splat: &mut Splat) -> bool {
    let address =
        ["virtual address", "for address:", "address:", "request at", "dereference at", "at address"];
    splat.address = address.iter().find_map(|mark| hex_after(text, mark)).map(VirtAddr);
    // `user-space` complaints name a program.
    !text.contains("user space") && (splat.address.is_some() || text.len() < 160)
}

fn protection(text: &str, splat: &mut Splat) -> bool {
    // `prog[123] general protection fault ip:... error:0 in libc.so`: a program, not the kernel.
    if is_program(text) {
        return false;
    }
    splat.address =
        hex_after(text, "non-canonical address").or_else(|| hex_after(text, "for address")).map(VirtAddr);
    number(text, splat);
    true
}

fn exception(text: &str, splat: &mut Splat) -> bool {
    number(text, splat);
    let numbered = splat.number.is_some() || splat.error_code.is_some();
    numbered && !is_program(text)
}

fn double_fault(text: &str, splat: &mut Splat) -> bool {
    number(text, splat);
    splat.error_code = splat.error_code.or_else(|| hex_after(text, "error_code:"));
    text.contains("PANIC")
        || splat.number.is_some()
        || text.contains("Double fault:")
        || text.starts_with("double fault")
}

/// arm64 wraps what it says.
fn internal(text: &str, splat: &mut Splat) -> bool {
    number(text, splat);
    if text.contains("BUG") {
        splat.kind = Kind::Bug;
    } else if text.contains("undefined instruction") {
        splat.kind = Kind::InvalidOpcode;
    } else if text.contains("UBSAN") {
        splat.kind = Kind::Ubsan;
    }
    splat.number.is_some()
}

/// A fault of a program, which the kernel only reports.
fn is_program(text: &str) -> bool {
    let ip = text.contains(" ip:") || text.contains(" rip:") || text.contains(" ip ");
    ip && (text.contains(" sp:") || text.contains(" rsp:") || text.contains(" sp "))
        || text.contains("in user mode")
}

/// `Oops: 0002 [#1] SMP`: the error code and the count of oopses; `[1]` on old x86-64.
pub(super) fn number(text: &str, splat: &mut Splat) {
    let mark = text.split_once("[#").or_else(|| text.rsplit_once('['));
    let count = mark.and_then(|(_, rest)| decimal(rest)).filter(|(_, rest)| rest.starts_with(']'));
    splat.number = splat.number.or(count.and_then(|(count, _)| u32::try_from(count).ok()));
    let before = mark.map_or(text, |(before, _)| before).trim_end();
    let code = before.rsplit([':', ' ']).next().unwrap_or_default();
    let code = hex(code).filter(|(_, digits, rest)| (4..=8).contains(digits) && rest.is_empty());
    splat.error_code = splat.error_code.or(code.map(|(code, ..)| code));
}

/// Lines of the head of an oops. Whether it was one.
pub(super) fn head(text: &str, splat: &mut Splat) -> bool {
    if let Some(rest) = after(text, "#PF: supervisor ").or_else(|| after(text, "#PF: user ")) {
        splat.access = match rest.split_whitespace().next() {
            Some("read") => Some(Access::Read),
            Some("write") => Some(Access::Write),
            Some("instruction") => Some(Access::Execute),
            _ => splat.access,
        };
        return true;
    }
    if text.starts_with("#PF: error_code(") {
        splat.error_code = splat.error_code.or_else(|| hex_after(text, "error_code("));
        splat.details.push(text.to_owned());
        return true;
    }
    if text.contains("kernel tried to execute NX-protected page")
        || text.contains("unable to execute userspace code")
    {
        splat.access = Some(Access::Execute);
        splat.details.push(text.to_owned());
        return true;
    }
    false
}

/// The access that the error code of a page fault tells (Intel SDM volume 3, 4.7: bit 1 write, bit 4 fetch).
pub(in crate::text) fn access(error_code: u64) -> Access {
    if error_code & 0x10 != 0 {
        Access::Execute
    } else if error_code & 2 != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::openings;

    fn open(text: &str) -> Option<Splat> {
        openings::of(text, &openings::meanings(text))
    }

    #[test]
    fn page_faults_of_all_ages_name_their_address() {
        for (text, address) in [
            ("Unable to handle kernel paging request at virtual address 00100104", 0x0010_0104),
            ("Unable to handle kernel NULL pointer dereference at 0000000000000008 RIP:", 8),
            ("BUG: unable to handle kernel NULL pointer dereference at 0000000000000010", 0x10),
            ("BUG: unable to handle kernel paging request at ffffffffa0123456", 0xffff_ffff_a012_3456),
            ("BUG: kernel NULL pointer dereference, address: 0000000000000018", 0x18),
            ("BUG: unable to handle page fault for address: ffffc90000e3ffd8", 0xffff_c900_00e3_ffd8),
            (
                "Unable to handle kernel paging request at virtual address dead000000000108",
                0xdead_0000_0000_0108,
            ),
            ("runaway: Corrupted page table at address 7f1234567000", 0x7f12_3456_7000),
        ] {
            let splat = open(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((splat.kind, splat.address), (Kind::PageFault, Some(VirtAddr(address))), "{text}");
        }
    }

    #[test]
    fn exceptions_tell_their_number() {
        for (text, kind, number, code) in [
            ("general protection fault: 0000 [#1] SMP", Kind::GeneralProtection, Some(1), Some(0)),
            (
                "Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#2] SMP",
                Kind::GeneralProtection,
                Some(2),
                Some(0),
            ),
            ("invalid operand: 0000 [1] SMP", Kind::InvalidOpcode, Some(1), Some(0)),
            ("Oops: divide error: 0000 [#1] PREEMPT SMP NOPTI", Kind::DivideError, Some(1), Some(0)),
            ("Oops: 0002 [#1]", Kind::PageFault, Some(1), Some(2)),
            ("Oops: 0002", Kind::PageFault, None, Some(2)),
            ("Oops: Oops: 0010 [#3] PREEMPT SMP", Kind::PageFault, Some(3), Some(0x10)),
            ("PANIC: double fault, error_code: 0x0", Kind::DoubleFault, None, Some(0)),
            ("traps: PANIC: double fault, error_code: 0x0", Kind::DoubleFault, None, Some(0)),
            ("Internal error: Oops: 0000000096000004 [#1] SMP", Kind::PageFault, Some(1), None),
        ] {
            let splat = open(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((splat.kind, splat.number, splat.error_code), (kind, number, code), "{text}");
        }
    }

    #[test]
    fn faults_of_programs_are_none() {
        for text in [
            "traps: foo[123] general protection fault ip:4005d0 sp:7ffd12 error:0 in foo[400000+1000]",
            "foo[12] trap invalid opcode ip:4005d0 sp:7ffd12 error:0 in foo[400000+1000]",
            "foo[12] general protection rip:4005d0 rsp:7ffd12 error:0",
            "traps: foo[123] trap divide error ip:4005d0 sp:7ffd12 error:0 in foo[400000+1000]",
        ] {
            assert_eq!(open(text), None, "{text}");
        }
    }
}
