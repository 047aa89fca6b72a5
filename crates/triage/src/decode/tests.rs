use super::*;
use crate::case::Case;

fn case_file(name: &str) -> Case<'static> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name);
    crate::text::read_bytes(&std::fs::read(path).unwrap())
}

fn first(case: &Case<'_>) -> Fault {
    fault(&case.splats[0], case).unwrap()
}

#[test]
fn a_store_through_a_deleted_entry_of_32_bits() {
    let fault = first(&case_file("03-rhel4-netrx-list-poison.txt"));
    assert_eq!(fault.instruction.as_deref(), Some("mov    %edx,0x4(%eax)"));
    assert_eq!((fault.access, fault.size), (Some(Access::Write), Some(4)));
    assert_eq!((fault.register.as_deref(), fault.displacement), (Some("eax"), Some(4)));
    assert_eq!(fault.pattern.as_ref().map(Pattern::text).as_deref(), Some("LIST_POISON1"));
    let loaded = fault.loaded.unwrap();
    assert_eq!(
        (loaded.instruction.as_str(), loaded.from.as_deref(), loaded.displacement),
        ("mov    (%ebx),%eax", Some("ebx"), Some(0))
    );
}

#[test]
fn a_load_that_only_the_sessions_disassembly_shows() {
    let fault = first(&case_file("08-rhel5-sctp-double-list-del.txt"));
    assert_eq!(fault.instruction.as_deref(), Some("mov (%rax),%rdx"));
    assert_eq!(
        (fault.access, fault.size, fault.address),
        (Some(Access::Read), Some(8), Some(VirtAddr(0x20_0200)))
    );
    assert_eq!(fault.pattern.as_ref().map(Pattern::text).as_deref(), Some("LIST_POISON2"));
}

#[test]
fn bugs_are_traps() {
    for name in ["04-rhel5-end-page-writeback.txt", "11-el6-tcp-v4-err-bug.txt"] {
        let fault = first(&case_file(name));
        assert_eq!(
            (fault.instruction.as_deref(), fault.trap, fault.access),
            (Some("ud2"), true, None),
            "{name}"
        );
    }
}

fn oops(lines: &str) -> Fault {
    first(&crate::text::read_bytes(lines.as_bytes()))
}

#[test]
fn the_register_of_a_bad_pointer_is_traced_to_its_load() {
    // mov 0x8(%rdi),%rax; mov 0x18(%rax),%rdx with rax poisoned.
    let fault = oops(
        "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b83: 0000 [#1] SMP\n\
         RIP: 0010:f+0x14/0x20 [m]\n\
         Code: 0f 1f 44 00 00 48 8b 47 08 <48> 8b 50 18 c3\n\
         RAX: 6b6b6b6b6b6b6b6b RBX: 0000000000000000 RCX: 0000000000000000\n\
         Call Trace:\n g+0x1/0x2\n",
    );
    assert_eq!(fault.instruction.as_deref(), Some("mov    0x18(%rax),%rdx"));
    assert_eq!(
        (fault.register.as_deref(), fault.displacement, fault.access),
        (Some("rax"), Some(0x18), Some(Access::Read))
    );
    assert_eq!(fault.pattern.as_ref().and_then(Pattern::meaning), Some(super::pattern::Meaning::Freed));
    let loaded = fault.loaded.unwrap();
    assert_eq!((loaded.from.as_deref(), loaded.displacement), (Some("rdi"), Some(8)));
}

#[test]
fn a_jump_to_nowhere_blames_the_instruction_pointer() {
    let fault = oops(
        "BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
         #PF: supervisor instruction fetch in kernel mode\n\
         #PF: error_code(0x0010) - not-present page\n\
         Oops: Oops: 0010 [#1] SMP\n\
         RIP: 0010:0x0\n\
         Code: Unable to access opcode bytes at 0xffffffffffffffd6.\n\
         RSP: 0018:ffffc90000123e00 EFLAGS: 00010246\n\
         RAX: ffff888100000000 RBX: 0000000000000000 RCX: 0000000000000000\n\
         Call Trace:\n g+0x1/0x2\n",
    );
    assert_eq!(
        (fault.access, fault.register.as_deref(), fault.pattern),
        (Some(Access::Execute), Some("rip"), Some(Pattern::Null))
    );
}

#[test]
fn an_index_is_blamed_when_the_base_is_good() {
    // mov (%rdi,%rcx,8),%rax
    let fault = oops(
        "BUG: unable to handle page fault for address: ffff8889abcdef00\n\
         Oops: Oops: 0000 [#1] SMP\n\
         RIP: 0010:f+0x4/0x20\n\
         Code: <48> 8b 04 cf\n\
         RCX: 0000000123456780 RDI: ffff8880a0000300 RAX: 0000000000000000\n\
         Call Trace:\n g+0x1/0x2\n",
    );
    assert_eq!(fault.register.as_deref(), Some("rcx"));
}
