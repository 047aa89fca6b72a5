use proptest::prelude::*;

use super::*;

const AT: VirtAddr = VirtAddr(0xffff_ffff_81e4_5480);

fn text(bytes: &[u8], syntax: Syntax) -> String {
    let name = |at: VirtAddr| (at.0 == 0xffff_ffff_81e4_5485).then(|| "vfs_read+5".to_owned());
    let found = Disassembler::new(syntax).one(bytes, AT).unwrap();
    assert_eq!(found.bytes, bytes, "{}", found.text(&name));
    found.text(&name)
}

#[test]
fn text_is_that_of_binutils() {
    for (bytes, att, intel) in [
        (&[0x0f, 0x1f, 0x44, 0, 0][..], "nopl   0x0(%rax,%rax,1)", "nop    DWORD PTR [rax+rax*1+0x0]"),
        (&[0x66, 0x0f, 0x1f, 0], "nopw   (%rax)", "nop    WORD PTR [rax]"),
        (&[0x41, 0x57], "push   %r15", "push   r15"),
        (&[0x90], "nop", "nop"),
        (&[0x0f, 0x0b], "ud2", "ud2"),
        (&[0x65, 0x48, 0x8b, 4, 0x25, 0x28, 0, 0, 0], "mov    %gs:0x28,%rax", "mov    rax,QWORD PTR gs:0x28"),
        (&[0x48, 0x8d, 0x55, 0xc4], "lea    -0x3c(%rbp),%rdx", "lea    rdx,[rbp-0x3c]"),
        (&[0xd1, 0xf8], "sar    $1,%eax", "sar    eax,1"),
        (&[0x69, 0xdb, 0xe8, 3, 0, 0], "imul   $0x3e8,%ebx,%ebx", "imul   ebx,ebx,0x3e8"),
        (&[0xec], "in     (%dx),%al", "in     al,dx"),
        (&[0xff, 0x73, 0x40], "push   0x40(%rbx)", "push   QWORD PTR [rbx+0x40]"),
        (&[0xf0, 0xff, 0x45, 0x44], "lock incl 0x44(%rbp)", "lock inc DWORD PTR [rbp+0x44]"),
        (&[0xf3, 0x48, 0xab], "rep stos %rax,%es:(%rdi)", "rep stos QWORD PTR [rdi],rax"),
    ] {
        assert_eq!(
            (text(bytes, Syntax::Att), text(bytes, Syntax::Intel)),
            (att.to_owned(), intel.to_owned())
        );
    }
    let padding = [0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
    assert_eq!(text(&padding, Syntax::Att), "data16 cs nopw 0x0(%rax,%rax,1)");
}

#[test]
fn addresses_are_named() {
    assert_eq!(text(&[0x75, 3], Syntax::Att), "jne    0xffffffff81e45485 <vfs_read+5>");
    assert_eq!(text(&[0xe8, 0, 1, 0, 0], Syntax::Att), "call   0xffffffff81e45585");
    assert_eq!(
        text(&[0x48, 0x8b, 5, 0xfe, 0xff, 0xff, 0xff], Syntax::Att),
        "mov    -0x2(%rip),%rax        # 0xffffffff81e45485 <vfs_read+5>"
    );
    let found = Disassembler::new(Syntax::Att).one(&[0x48, 0xc7, 0xc7, 0xb8, 0x9e, 0xa4, 0x82], AT).unwrap();
    assert_eq!(found.constants, [VirtAddr(0xffff_ffff_82a4_9eb8)]);
}

#[test]
fn flow_is_told() {
    let flow = |bytes: &[u8]| Disassembler::new(Syntax::Att).one(bytes, AT).unwrap().flow;
    assert_eq!(flow(&[0xe8, 0, 1, 0, 0]), Flow::Call(Some(AT.add(0x105))));
    assert_eq!(flow(&[0x41, 0xff, 0xd5]), Flow::Call(None));
    assert_eq!(flow(&[0x74, 2]), Flow::Branch(AT.add(4)));
    assert_eq!(flow(&[0xeb, 2]), Flow::Jump(Some(AT.add(4))));
    assert_eq!(flow(&[0xc3]), Flow::Return);
    assert_eq!(flow(&[0x0f, 0x0b]), Flow::Trap);
    assert_eq!(flow(&[0x06, 0]), Flow::Invalid);
}

#[test]
fn half_an_instruction_is_none() {
    let mut disassembler = Disassembler::new(Syntax::Att);
    assert_eq!(disassembler.one(&[], AT), None);
    assert_eq!(disassembler.one(&[0x48, 0x8b], AT), None);
    // The lone byte behind `nopl 0x0(%rax,%rax,1)` cut in half, as gdb shows it.
    let found: Vec<_> = disassembler.all(&[0x1f, 0x44, 0, 0, 0x41, 0x57], AT).collect();
    assert!(found.first().unwrap().is_bad());
    assert_eq!(found.get(1).unwrap().text(&|_| None), "add    %r8b,(%rax)");
}

proptest! {
    #[test]
    fn any_bytes_end_and_advance(bytes in proptest::collection::vec(any::<u8>(), 0..200), intel in any::<bool>()) {
        let syntax = if intel { Syntax::Intel } else { Syntax::Att };
        let mut at = AT;
        for found in Disassembler::new(syntax).all(&bytes, AT) {
            prop_assert_eq!(found.address, at);
            prop_assert!(!found.bytes.is_empty() && found.bytes.len() <= LONGEST);
            prop_assert!(!found.text(&|_| None).is_empty());
            at = found.end();
        }
        // Only what may be the start of a longer instruction is left over.
        prop_assert!(AT.add(bytes.len() as u64).since(at) < LONGEST as u64);
    }

    #[test]
    fn addresses_at_the_end_of_memory_wrap(bytes in proptest::collection::vec(any::<u8>(), 15)) {
        if let Some(found) = Disassembler::new(Syntax::Att).one(&bytes, VirtAddr(u64::MAX - 3)) {
            assert!(!found.text(&|_| None).is_empty());
        }
    }
}

#[test]
fn code_of_32_bits_is_spelled_as_binutils_spells_it() {
    let mut disassembler = Disassembler::with_width(Syntax::Att, Width::Bits32);
    let mut text = |bytes: &[u8]| disassembler.one(bytes, VirtAddr(0xc027_e357)).unwrap().text(&|_| None);
    assert_eq!(text(&[0x89, 0x50, 0x04]), "mov    %edx,0x4(%eax)");
    assert_eq!(text(&[0xff, 0x96, 0x7c, 0x01, 0, 0]), "call   *0x17c(%esi)");
    assert_eq!(text(&[0x55]), "push   %ebp");
    assert_eq!(text(&[0xe8, 0, 0, 0, 0]), "call   0xc027e35c");
    assert_eq!(text(&[0xa1, 0x00, 0x01, 0x10, 0xc0]), "mov    0xc0100100,%eax");
    let flow = disassembler.one(&[0xe8, 0, 0, 0, 0], VirtAddr(0xc027_e357)).unwrap().flow;
    assert_eq!(flow, Flow::Call(Some(VirtAddr(0xc027_e35c))));
}
