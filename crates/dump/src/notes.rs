//! ELF notes: of ELF cores, and of the note area of kdump-compressed files.
//!
//! Layouts: `struct elf_prstatus` (include/linux/elfcore.h, include/linux/elfcore-compat.h), `struct vmcoredd_header`
//! (include/uapi/linux/vmcore.h), and QEMU's `QEMUCPUState` (documented in its docs and seen in its dumps).

use std::ops::Range;

use kdive_base::bytes::until_nul;
use kdive_base::{ByteReader, Endian, PhysAddr, ReadAt, Why};
use kdive_evidence::{PT_REGS, Register, Registers};
use serde::Serialize;

use crate::window::Window;

const VMCOREINFO: &[u8] = b"VMCOREINFO";
const NT_PRSTATUS: u32 = 1;
const NT_VMCOREDD: u32 = 0x700;
/// `VMCOREDD_MAX_NAME_BYTES` of include/uapi/linux/vmcore.h: the name that begins a device dump's descriptor.
const DEVICE_DUMP_NAME: usize = 44;
/// Descriptors above this are not read: VMCOREINFO is a few KiB, and a register note a few hundred bytes.
const MAX_DESCRIPTOR: u64 = 16 << 20;
/// Notes in all: Linux has 8192 processors at most, and s390 ten notes for each.
const MAX_NOTES: usize = 1 << 17;
/// Kinds of other notes that are kept apart.
const MAX_OTHER: usize = 256;
/// Bytes of notes that are kept as they were: those of 8192 processors, with QEMU's.
const MAX_RAW: u64 = 8 << 20;

/// What the notes of a dump say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// The kernel's VMCOREINFO text.
    #[serde(skip)]
    pub vmcoreinfo: Option<Vec<u8>>,
    /// VMCOREINFO of a Xen hypervisor.
    #[serde(skip)]
    pub vmcoreinfo_xen: Option<Vec<u8>>,
    /// One for each processor that left its registers, in the order of the notes.
    pub cpus: Vec<CpuNote>,
    /// What makedumpfile's `--config` overwrote: its log.
    #[serde(skip)]
    pub eraseinfo: Option<Vec<u8>>,
    /// Dumps of device firmware, appended by drivers.
    pub device_dumps: Vec<DeviceDump>,
    /// Notes of other kinds.
    pub other: Vec<OtherNote>,
    /// Every note as it was, but for device dumps: a copy of the dump gets them back.
    #[serde(skip)]
    pub raw: Vec<RawNote>,
}

/// A note as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawNote {
    /// Owner name.
    pub name: Vec<u8>,
    /// Note type.
    pub kind: u32,
    /// Descriptor.
    pub descriptor: Vec<u8>,
}

impl Notes {
    /// The raw notes as little-endian ELF notes, and where VMCOREINFO's text is among them.
    pub(crate) fn encode(&self) -> (Vec<u8>, Option<Range<usize>>) {
        let mut bytes = Vec::new();
        let mut vmcoreinfo = None;
        let mut push = |name: &[u8], kind: u32, descriptor: &[u8]| {
            // The name's size counts its NUL.
            let sizes = [name.len().saturating_add(1), descriptor.len()];
            for size in sizes {
                bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
            }
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let start = bytes.len();
            bytes.extend_from_slice(descriptor);
            let end = bytes.len();
            bytes.resize(end.next_multiple_of(4), 0);
            if (name, kind) == (VMCOREINFO, 0) {
                vmcoreinfo = Some(start..end);
            }
        };
        self.raw.iter().for_each(|note| push(&note.name, note.kind, &note.descriptor));
        // A sub header can point to VMCOREINFO that is in no note.
        if let Some(text) = &self.vmcoreinfo
            && !self.raw.iter().any(|note| note.name == VMCOREINFO)
        {
            push(VMCOREINFO, 0, text);
        }
        (bytes, vmcoreinfo)
    }
}

/// The registers of one processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuNote {
    /// Number of the note, from 0. It is the processor's number unless some were offline: those leave no note.
    pub cpu: usize,
    /// The process that ran (`pr_pid`), if the kernel wrote the note; QEMU writes the processor's number plus one.
    pub pid: Option<i32>,
    /// General registers.
    pub registers: Registers,
    /// Control registers, which only QEMU notes.
    pub control: Option<ControlRegisters>,
}

/// Control registers of an x86 processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControlRegisters {
    /// Protection and paging enable.
    pub cr0: u64,
    /// Address of the last page fault.
    pub cr2: u64,
    /// Physical address of the top page table.
    pub cr3: PhysAddr,
    /// Extensions: bit 12 is 5-level paging.
    pub cr4: u64,
    /// Base of `gs`.
    pub gs_base: u64,
    /// The base of `gs` that `swapgs` would bring in; `None` where QEMU's note is too old to have it.
    pub kernel_gs_base: Option<u64>,
}

/// A device dump: where it is, since it can be hundreds of megabytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceDump {
    /// The name that the driver gave it.
    pub name: String,
    /// Offset of its first byte in the dump file (inside the flattened wrapper, if there is one).
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A note of a kind that is only counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherNote {
    /// Owner name.
    pub name: String,
    /// Note type.
    pub kind: u32,
    /// How many there are.
    pub count: u64,
    /// Bytes of their descriptors together.
    pub bytes: u64,
}

/// Reads the notes in `bytes` bytes at `offset` and adds them to `notes`. Stops, saying so, where they stop making sense.
pub(crate) fn read_notes(
    file: &dyn ReadAt,
    offset: u64,
    bytes: u64,
    endian: Endian,
    notes: &mut Notes,
) -> Result<(), String> {
    let mut window = Window::new(file, 16 << 10);
    let mut states = 0_usize;
    let mut kept = 0_u64;
    let end = offset.saturating_add(bytes);
    let mut at = offset;
    for _ in 0..MAX_NOTES {
        if end.saturating_sub(at) < 12 {
            return Ok(());
        }
        let Some(header) = Header::read(&mut window, at, endian)? else { return Ok(()) };
        if header.end > end {
            return Err(format!(
                "a note at {at:#x} claims {:#x} bytes, beyond the end of the notes",
                header.desc_bytes
            ));
        }
        take_note(&mut window, &header, endian, &mut states, notes)?;
        if header.kind != NT_VMCOREDD && kept.saturating_add(header.desc_bytes) <= MAX_RAW {
            kept = kept.saturating_add(header.desc_bytes);
            let descriptor = header.descriptor(&mut window)?.to_vec();
            notes.raw.push(RawNote { name: header.name, kind: header.kind, descriptor });
        }
        at = header.end;
    }
    Err(format!("there are more than {MAX_NOTES} notes: the rest is not read"))
}

/// `Elf_Nhdr` and the owner name, alignment resolved.
struct Header {
    name: Vec<u8>,
    kind: u32,
    desc: u64,
    desc_bytes: u64,
    end: u64,
}

impl Header {
    /// The header at `at`; `None` for the zeros that pad an area of notes.
    fn read(window: &mut Window<'_>, at: u64, endian: Endian) -> Result<Option<Self>, String> {
        let ended = |why: Why| format!("the notes cannot be read at {at:#x}: {why}");
        let raw = window.exact(at, 12).map_err(ended)?;
        let mut reader = ByteReader::new(raw, endian);
        let (Some(name_bytes), Some(desc_bytes), Some(kind)) = (reader.u32(), reader.u32(), reader.u32())
        else {
            return Ok(None);
        };
        if (name_bytes, desc_bytes, kind) == (0, 0, 0) {
            return Ok(None);
        }
        if name_bytes > 256 {
            return Err(format!("a note at {at:#x} claims an owner name of {name_bytes:#x} bytes"));
        }
        let name_at = at.saturating_add(12);
        let name = until_nul(window.exact(name_at, name_bytes as usize).map_err(ended)?).to_vec();
        let padded = |bytes: u32| u64::from(bytes).next_multiple_of(4);
        let desc = name_at.saturating_add(padded(name_bytes));
        let desc_bytes = u64::from(desc_bytes);
        let end = desc.saturating_add(desc_bytes.next_multiple_of(4));
        Ok(Some(Self { name, kind, desc, desc_bytes, end }))
    }

    fn descriptor<'w>(&self, window: &'w mut Window<'_>) -> Result<&'w [u8], String> {
        if self.desc_bytes > MAX_DESCRIPTOR {
            return Err(format!("a note at {:#x} is too big ({:#x} bytes)", self.desc, self.desc_bytes));
        }
        let len = usize::try_from(self.desc_bytes).unwrap_or(usize::MAX);
        window
            .exact(self.desc, len)
            .map_err(|why| format!("the note at {:#x} cannot be read: {why}", self.desc))
    }
}

fn take_note(
    window: &mut Window<'_>,
    header: &Header,
    endian: Endian,
    states: &mut usize,
    notes: &mut Notes,
) -> Result<(), String> {
    match (header.name.as_slice(), header.kind) {
        (VMCOREINFO, 0) => notes.vmcoreinfo = Some(header.descriptor(window)?.to_vec()),
        (b"VMCOREINFO_XEN", 0) => notes.vmcoreinfo_xen = Some(header.descriptor(window)?.to_vec()),
        (b"ERASEINFO", 0) => notes.eraseinfo = Some(header.descriptor(window)?.to_vec()),
        (b"CORE", NT_PRSTATUS) => {
            let cpu = notes.cpus.len();
            let (pid, registers) = prstatus(header.descriptor(window)?, endian);
            notes.cpus.push(CpuNote { cpu, pid, registers, control: None });
        }
        (b"QEMU", 0) => {
            // The n-th of QEMU's own notes belongs to the n-th NT_PRSTATUS.
            let desc = header.descriptor(window)?;
            if let Some(cpu) = notes.cpus.get_mut(*states) {
                qemu_state(desc, endian, cpu);
            }
            *states = states.saturating_add(1);
        }
        (_, NT_VMCOREDD) => {
            let name = window
                .exact(header.desc, DEVICE_DUMP_NAME)
                .map(|raw| String::from_utf8_lossy(until_nul(raw)).into_owned())
                .unwrap_or_default();
            notes.device_dumps.push(DeviceDump {
                name,
                offset: header.desc.saturating_add(DEVICE_DUMP_NAME as u64),
                bytes: header.desc_bytes.saturating_sub(DEVICE_DUMP_NAME as u64),
            });
        }
        _ => count_other(header, notes),
    }
    Ok(())
}

fn count_other(header: &Header, notes: &mut Notes) {
    let name = String::from_utf8_lossy(&header.name).into_owned();
    let bytes = header.desc_bytes;
    let kinds = notes.other.len();
    match notes.other.iter_mut().find(|note| note.kind == header.kind && note.name == name) {
        Some(note) => {
            note.count = note.count.saturating_add(1);
            note.bytes = note.bytes.saturating_add(bytes);
        }
        None if kinds < MAX_OTHER => {
            notes.other.push(OtherNote { name, kind: header.kind, count: 1, bytes });
        }
        None => {}
    }
}

/// What `struct user_regs_struct` of x86-64 (arch/x86/include/asm/user_64.h) has behind the members of `pt_regs`.
const BEHIND_PT_REGS: [Register; 6] =
    [Register::FsBase, Register::GsBase, Register::Ds, Register::Es, Register::Fs, Register::Gs];

/// Order of `struct user_regs_struct` of 32-bit x86 (arch/x86/include/asm/user_32.h).
const USER_REGS_32: [Register; 17] = [
    Register::Rbx,
    Register::Rcx,
    Register::Rdx,
    Register::Rsi,
    Register::Rdi,
    Register::Rbp,
    Register::Rax,
    Register::Ds,
    Register::Es,
    Register::Fs,
    Register::Gs,
    Register::OrigRax,
    Register::Rip,
    Register::Cs,
    Register::Rflags,
    Register::Rsp,
    Register::Ss,
];

/// `struct elf_prstatus` of x86: 336 bytes on 64-bit machines, 144 on 32-bit ones. Other sizes are of other machines.
fn prstatus(desc: &[u8], endian: Endian) -> (Option<i32>, Registers) {
    let mut registers = Registers::default();
    let (pid_at, registers_at, width, order): (_, _, _, [&[Register]; 2]) = match desc.len() {
        336 => (32, 112, 8, [&PT_REGS, &BEHIND_PT_REGS]),
        144 => (24, 72, 4, [&USER_REGS_32, &[]]),
        _ => return (None, registers),
    };
    let mut at = registers_at;
    for &register in order.into_iter().flatten() {
        registers.set(register, endian.unsigned(desc, at, width));
        at = at.saturating_add(width);
    }
    (endian.i32(desc, pid_at), registers)
}

/// `QEMUCPUState`: version and size, 18 general registers, 10 segments of 24 bytes (selector at 0, base at 16: cs, ds, es,
/// fs, gs, ss, ldt, tr, gdt, idt), cr0 to cr4, then, in newer ones, `kernel_gs_base`. All fields are 64-bit.
fn qemu_state(desc: &[u8], endian: Endian, cpu: &mut CpuNote) {
    const FS_BASE: usize = 240;
    const GS_BASE: usize = 264;
    const CR: [usize; 4] = [392, 408, 416, 424];
    const KERNEL_GS_BASE: usize = 432;
    let value = |at| endian.u64(desc, at);
    let [Some(cr0), Some(cr2), Some(cr3), Some(cr4)] = CR.map(value) else { return };
    let Some(gs_base) = value(GS_BASE) else { return };
    // QEMU leaves the bases in NT_PRSTATUS zero.
    cpu.registers.set(Register::FsBase, value(FS_BASE));
    cpu.registers.set(Register::GsBase, gs_base);
    cpu.control = Some(ControlRegisters {
        cr0,
        cr2,
        cr3: PhysAddr(cr3),
        cr4,
        gs_base,
        kernel_gs_base: value(KERNEL_GS_BASE),
    });
}
