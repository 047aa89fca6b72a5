//! The processors' registers, out of the devices' sections.
//!
//! A device's section is the byte 4, u32 number of the section, the device's name behind its length, u32 instance, u32
//! version, and then its fields, big-endian, with nothing between. Which fields it has changes from one QEMU to the next;
//! the description in JSON at the end of the stream lists them with their sizes.

use kdive_base::{Endian, PhysAddr, ReadAt};
use kdive_evidence::Register;
use serde::Deserialize;

use crate::notes::{ControlRegisters, CpuNote};
use crate::window::read_up_to;

/// The byte before the description.
const DESCRIPTION: u8 = 6;
/// Devices have kilobytes of state; those of large machines some megabytes.
const MOST_BYTES: u64 = 64 << 20;
/// What may lie behind the description: padding.
const MOST_BEHIND: usize = 64 << 10;
/// The device that a processor is.
const CPU: &[u8] = b"cpu";

/// `env.regs` in the order of x86's instruction encoding.
const GENERAL: [Register; 16] = [
    Register::Rax,
    Register::Rcx,
    Register::Rdx,
    Register::Rbx,
    Register::Rsp,
    Register::Rbp,
    Register::Rsi,
    Register::Rdi,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// `env.segs` in the order of x86's instruction encoding; each is selector (u32), base (u64), limit (u32), flags (u32).
const SEGMENTS: [(Register, Option<Register>); 6] = [
    (Register::Es, None),
    (Register::Cs, None),
    (Register::Ss, None),
    (Register::Ds, None),
    (Register::Fs, Some(Register::FsBase)),
    (Register::Gs, Some(Register::GsBase)),
];
const SEGMENT_BYTES: usize = 20;

#[derive(Deserialize)]
struct Description {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    instance_id: u32,
    #[serde(default)]
    version: u32,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    size: usize,
    #[serde(default = "one")]
    array_len: usize,
}

fn one() -> usize {
    1
}

impl Device {
    /// Where a field begins, counted from the first.
    fn offset_of(&self, name: &str) -> Option<usize> {
        let before = self.fields.iter().take_while(|field| field.name != name);
        let before =
            before.fold(0_usize, |sum, field| sum.saturating_add(field.size.saturating_mul(field.array_len)));
        self.fields.iter().any(|field| field.name == name).then_some(before)
    }
}

/// The processors, from the sections of devices that begin at an offset.
pub(super) fn cpus(file: &dyn ReadAt, at: u64) -> Result<Vec<CpuNote>, String> {
    let bytes = file.len().saturating_sub(at);
    if bytes > MOST_BYTES {
        return Err(format!("the devices take {bytes:#x} bytes"));
    }
    let tail = read_up_to(file, at, bytes).map_err(|error| error.to_string())?;
    let (start, json) = description(&tail).ok_or("the description of the devices is missing")?;
    let description: Description = serde_json::from_slice(json)
        .map_err(|error| format!("the description of the devices makes no sense: {error}"))?;
    let sections = tail.get(..start).unwrap_or_default();
    let cpus = description.devices.iter().filter(|device| device.name.as_bytes() == CPU);
    let notes: Vec<CpuNote> =
        cpus.enumerate().filter_map(|(number, device)| cpu(number, device, sections)).collect();
    if notes.is_empty() { Err("there is no processor among the devices".to_owned()) } else { Ok(notes) }
}

/// The description, which is the last in the file, and where it begins.
fn description(tail: &[u8]) -> Option<(usize, &[u8])> {
    const HEAD: usize = 5;
    let starts = (0..tail.len()).rev();
    starts.filter(|&at| tail.get(at) == Some(&DESCRIPTION)).find_map(|at| {
        let length = Endian::Big.u32(tail, at.checked_add(1)?)? as usize;
        let start = at.checked_add(HEAD)?;
        let json = tail.get(start..start.checked_add(length)?)?;
        let behind = tail.len().saturating_sub(start.saturating_add(length));
        (json.first() == Some(&b'{') && behind <= MOST_BEHIND).then_some((at, json))
    })
}

fn cpu(number: usize, device: &Device, sections: &[u8]) -> Option<CpuNote> {
    let mut head = vec![CPU.len() as u8];
    head.extend_from_slice(CPU);
    head.extend_from_slice(&device.instance_id.to_be_bytes());
    head.extend_from_slice(&device.version.to_be_bytes());
    let at = sections.windows(head.len()).position(|window| window == head)?;
    let fields = sections.get(at.checked_add(head.len())?..)?;
    let value =
        |name: &str, inside: usize| Endian::Big.u64(fields, device.offset_of(name)?.checked_add(inside)?);
    let mut cpu = CpuNote { cpu: number, ..CpuNote::default() };
    let mut set = |register, value: Option<u64>| cpu.registers.set(register, value);
    for (index, register) in GENERAL.into_iter().enumerate() {
        set(register, value("env.regs", index.saturating_mul(8)));
    }
    set(Register::Rip, value("env.eip", 0));
    set(Register::Rflags, value("env.eflags", 0));
    let segments = device.offset_of("env.segs");
    for (index, (selector, base)) in SEGMENTS.into_iter().enumerate() {
        let Some(at) = segments.and_then(|at| at.checked_add(index.checked_mul(SEGMENT_BYTES)?)) else {
            break;
        };
        set(selector, Endian::Big.u32(fields, at).map(u64::from));
        if let Some(base) = base {
            set(base, Endian::Big.u64(fields, at.saturating_add(4)));
        }
    }
    let [cr0, cr2, cr3, cr4] =
        ["env.cr[0]", "env.cr[2]", "env.cr[3]", "env.cr[4]"].map(|register| value(register, 0));
    if let (Some(cr0), Some(cr2), Some(cr3), Some(cr4)) = (cr0, cr2, cr3, cr4) {
        cpu.control = Some(ControlRegisters {
            cr0,
            cr2,
            cr3: PhysAddr(cr3),
            cr4,
            gs_base: cpu.registers.get(Register::GsBase).unwrap_or(0),
            kernel_gs_base: value("env.kernelgsbase", 0),
        });
    }
    Some(cpu)
}
