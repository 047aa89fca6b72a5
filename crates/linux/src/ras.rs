//! Errors of the hardware that the kernel knows of: machine checks (arch/x86/kernel/cpu/mce), PCI Express
//! (drivers/pci/pcie/aer.c), memory that was taken out of use, heat, and what the log says.

use kdive_base::VirtAddr;
use kdive_evidence::LogRecord;
use kdive_target::{Field, Kernel, Lacks, Load, walk};
use serde::Serialize;

use crate::{log, pci};

/// Where a machine check was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FoundIn {
    /// The worst that the processor saw while it handled an exception (`mces_seen`).
    Exception,
    /// It was noted, and nobody has been told yet (`mce_event_llist`).
    Queue,
    /// The log tells of it (`__print_mce`).
    Log,
}

/// A machine check (`struct mce`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineCheck {
    /// The `struct mce`; `None` where only the log tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mce: Option<VirtAddr>,
    /// Where it was found.
    pub found_in: FoundIn,
    /// The processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The bank of registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<u8>,
    /// `MCi_STATUS`.
    #[serde(serialize_with = "as_hex")]
    pub status: u64,
    /// `MCG_STATUS`.
    #[serde(serialize_with = "as_hex")]
    pub mcgstatus: u64,
    /// `MCi_ADDR`: a physical address as a rule; `None` where the bank says that it has none.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_some_hex")]
    pub address: Option<u64>,
    /// `MCi_MISC`, likewise.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_some_hex")]
    pub misc: Option<u64>,
    /// The instruction at which it came; 0 where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<VirtAddr>,
    /// When, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<u64>,
    /// What the status says.
    pub meaning: Vec<&'static str>,
}

fn as_hex<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

fn as_some_hex<S: serde::Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    as_hex(&value.unwrap_or_default(), serializer)
}

/// A counter of errors that is not zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// Whose: a processor, a PCI device, the kernel.
    pub source: String,
    /// What is counted.
    pub what: String,
    /// How many there were.
    pub count: u64,
    /// When the last one was, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
}

/// A page of memory with errors that were corrected (`drivers/ras/cec.c`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeakPage {
    /// The page.
    pub pfn: u64,
    /// How many of its errors are remembered.
    pub count: u64,
}

/// All that is known of errors of the hardware.
#[derive(Debug, Default)]
pub struct HardwareErrors {
    /// Machine checks.
    pub checks: Vec<MachineCheck>,
    /// Counters that are not zero.
    pub counts: Vec<ErrorCount>,
    /// Pages with errors.
    pub pages: Vec<WeakPage>,
    /// Records of the log about hardware, but those that machine checks were read from.
    pub log: Vec<LogRecord>,
    /// Whether the kernel handles machine checks at all.
    pub handles_checks: bool,
    /// What could not be told.
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "mce")]
struct RawCheck {
    #[load(address)]
    at: VirtAddr,
    status: Field<u64>,
    misc: Field<u64>,
    addr: Field<u64>,
    mcgstatus: Field<u64>,
    ip: Field<u64>,
    time: Field<u64>,
    bank: Field<u8>,
    extcpu: Field<u32>,
}

#[derive(Load)]
#[load(type = "ce_array")]
struct RawCollector {
    array: Field<VirtAddr>,
    n: Field<u32>,
    pfns_poisoned: Field<u64>,
    ces_entered: Field<u64>,
}

#[derive(Load)]
#[load(type = "thermal_state")]
struct RawHeat {
    #[load(any("core_throttle.count"))]
    core: Field<u64>,
    #[load(any("package_throttle.count"))]
    package: Field<u64>,
}

#[derive(Load)]
#[load(type = "hwerr_info")]
struct RawRecovered {
    count: Field<u32>,
    timestamp: Field<i64>,
}

#[derive(Load)]
#[load(type = "aer_info", type = "aer_stats")]
struct RawAer {
    dev_total_cor_errs: Field<u64>,
    dev_total_fatal_errs: Field<u64>,
    dev_total_nonfatal_errs: Field<u64>,
    rootport_total_cor_errs: Field<u64>,
    rootport_total_fatal_errs: Field<u64>,
    rootport_total_nonfatal_errs: Field<u64>,
}

/// Longest queue of machine checks: `MCE_POOLSZ` has room for less than a hundred per processor.
const MOST_CHECKS: usize = 1 << 16;
/// The collector has one page of numbers (`MAX_ELEMS`).
const MOST_PAGES: u32 = 512;
const MOST_KINDS: u64 = 64;
/// How many records of the log are kept: the last ones.
const MOST_RECORDS: usize = 100;

impl HardwareErrors {
    /// What a kernel knows.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Self {
        let mut found = Self::default();
        let parts: [fn(&mut Self, &Kernel) -> Field<()>; 6] = [
            Self::add_checks,
            Self::add_collector,
            Self::add_recovered,
            Self::add_heat,
            Self::add_aer,
            Self::add_log,
        ];
        for add in parts {
            if let Err(why) = add(&mut found, kernel) {
                found.lacks.push(why);
            }
        }
        if let Ok(at) = kernel.symbol("num_poisoned_pages") {
            match kernel.memory().u64(at) {
                Ok(count) => found.count("memory", "pages taken out of use", count, None),
                Err(why) => found.lacks.push(why.into()),
            }
        }
        found
    }

    fn count(&mut self, source: &str, what: &str, count: u64, last: Option<i64>) {
        if count != 0 {
            self.counts.push(ErrorCount { source: source.into(), what: what.into(), count, last });
        }
    }

    fn add_checks(&mut self, kernel: &Kernel) -> Field<()> {
        let seen = kernel.any_symbol(&["mces_seen", "hw_errs_seen"]);
        let queue = kernel.symbol("mce_event_llist");
        self.handles_checks = seen.is_ok() || queue.is_ok();
        let loader = kernel.loader::<RawCheck>();
        // A record for all makers, and behind it since 6.13 what one maker adds.
        let inside = kernel.offset_of("mce_hw_err", "m").unwrap_or(0);
        let cpus = kernel.cpus()?;
        for cpu in cpus.possible.iter() {
            if let Ok(seen) = seen {
                let raw = loader.load(cpus.per_cpu(seen, cpu)?.add(inside));
                self.checks.extend(check(&raw, FoundIn::Exception, Some(cpu)));
            }
            if let Ok(symbol) = kernel.symbol("mce_exception_count") {
                let count = kernel.memory().u32(cpus.per_cpu(symbol, cpu)?)?;
                self.count(&format!("CPU {cpu}"), "machine check exceptions", count.into(), None);
            }
        }
        let Ok(queue) = queue else { return Ok(()) };
        let first = kernel.memory().pointer(queue)?;
        if first.is_null() {
            return Ok(());
        }
        let node = kernel.offset_of("mce_evt_llist", "llnode")?;
        let record = kernel.member("mce_evt_llist", &["err.m", "mce"])?.offset;
        for at in walk::null_terminated(kernel.memory(), first, 0).take(MOST_CHECKS) {
            let raw = loader.load(at?.sub(node).add(record));
            self.checks.extend(check(&raw, FoundIn::Queue, None));
        }
        Ok(())
    }

    /// Corrected errors of memory, where a collector was set up.
    fn add_collector(&mut self, kernel: &Kernel) -> Field<()> {
        let Ok(at) = kernel.symbol("ce_arr") else { return Ok(()) };
        // Each number has the page, and below it 2 bits of age and 10 of count (drivers/ras/cec.c).
        const PAGE_SHIFT: u32 = 12;
        const COUNT: u64 = (1 << 10) - 1;
        let raw: RawCollector = kernel.load(at);
        self.count("memory", "corrected errors", raw.ces_entered?, None);
        self.count("memory", "pages with too many corrected errors", raw.pfns_poisoned?, None);
        let array = raw.array?;
        for index in 0..raw.n?.min(MOST_PAGES) {
            let number = kernel.memory().u64(array.add(u64::from(index) * 8))?;
            self.pages.push(WeakPage { pfn: number >> PAGE_SHIFT, count: number & COUNT });
        }
        Ok(())
    }

    /// Errors that the kernel survived (`hwerr_data`, 6.18).
    fn add_recovered(&mut self, kernel: &Kernel) -> Field<()> {
        let Ok(table) = kernel.symbol("hwerr_data") else { return Ok(()) };
        let size = kernel.size_of("hwerr_info")?;
        let loader = kernel.loader::<RawRecovered>();
        for (name, value) in kernel.enumerators("hwerr_error_type")? {
            let index = u64::try_from(value).unwrap_or(MOST_KINDS);
            if index >= MOST_KINDS || name.ends_with("_MAX") {
                continue;
            }
            let raw = loader.load(table.add(index.wrapping_mul(size)));
            let what = name.trim_start_matches("HWERR_RECOV_").to_lowercase();
            self.count("recovered", &format!("{what} errors"), raw.count?.into(), raw.timestamp.ok());
        }
        Ok(())
    }

    fn add_heat(&mut self, kernel: &Kernel) -> Field<()> {
        let Ok(symbol) = kernel.symbol("thermal_state") else { return Ok(()) };
        let cpus = kernel.cpus()?;
        let loader = kernel.loader::<RawHeat>();
        for cpu in cpus.possible.iter() {
            let raw = loader.load(cpus.per_cpu(symbol, cpu)?);
            self.count(&format!("CPU {cpu}"), "times throttled because its core was hot", raw.core?, None);
            self.count(
                &format!("CPU {cpu}"),
                "times throttled because the package was hot",
                raw.package?,
                None,
            );
        }
        Ok(())
    }

    /// Errors that PCI Express devices reported.
    fn add_aer(&mut self, kernel: &Kernel) -> Field<()> {
        let (Ok(member), Ok(buses)) =
            (kernel.member("pci_dev", &["aer_info", "aer_stats"]), pci::buses(kernel))
        else {
            return Ok(());
        };
        let loader = kernel.loader::<RawAer>();
        for device in buses.all.iter().flat_map(|bus| &bus.devices) {
            let info = kernel.memory().pointer(device.at.add(member.offset))?;
            if info.is_null() {
                continue;
            }
            let raw = loader.load(info);
            let name = device.name.clone().and_then(|at| Ok(kernel.memory().c_string(at, 64)?));
            let name = name.map_or_else(|_| device.at.to_string(), |name| kdive_base::printable(&name));
            self.count(&name, "corrected PCIe errors", raw.dev_total_cor_errs?, None);
            self.count(&name, "PCIe errors that were not fatal", raw.dev_total_nonfatal_errs?, None);
            self.count(&name, "fatal PCIe errors", raw.dev_total_fatal_errs?, None);
            self.count(&name, "messages of corrected errors below it", raw.rootport_total_cor_errs?, None);
            self.count(&name, "messages of errors below it", raw.rootport_total_nonfatal_errs?, None);
            self.count(&name, "messages of fatal errors below it", raw.rootport_total_fatal_errs?, None);
        }
        Ok(())
    }

    fn add_log(&mut self, kernel: &Kernel) -> Field<()> {
        let mut checks = Checks::default();
        for record in log::records(kernel)?.flatten().filter(|record| is_of_hardware(&record.text)) {
            if !checks.take(&record.text) {
                self.log.push(record);
            }
        }
        for check in checks.0 {
            // What is in memory too is known better from there.
            let key = |of: &MachineCheck| (of.cpu, of.bank, of.status);
            if !self.checks.iter().any(|known| key(known) == key(&check)) {
                self.checks.push(check);
            }
        }
        self.log.drain(..self.log.len().saturating_sub(MOST_RECORDS));
        self.checks.drain(..self.checks.len().saturating_sub(MOST_CHECKS));
        Ok(())
    }
}

/// Machine checks out of lines of the log, the oldest first.
#[derive(Default)]
struct Checks(Vec<MachineCheck>);

impl Checks {
    /// Takes a line, if it is one of those that tell of a machine check:
    ///
    /// ```text
    /// mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 2: be00000000000135
    /// mce: [Hardware Error]: RIP !INEXACT! 10:<ffffffffb8e93f8f> {pv_native_safe_halt+0xf/0x20}
    /// mce: [Hardware Error]: TSC 27c604e251 ADDR 23456000 MISC 8c
    /// mce: [Hardware Error]: PROCESSOR 2:60fb1 TIME 1795303374 SOCKET 0 APIC 1 microcode 1000065
    /// ```
    fn take(&mut self, line: &str) -> bool {
        let Some((_, line)) = line.split_once("[Hardware Error]: ") else { return false };
        if let Some(check) = first_line(line) {
            self.0.push(check);
            return true;
        }
        let Some(check) = self.0.last_mut() else { return false };
        let words: Vec<&str> = line.split_whitespace().collect();
        let behind = |name: &str, radix: u32| {
            let at = words.iter().position(|word| *word == name)?.checked_add(1)?;
            u64::from_str_radix(words.get(at)?, radix).ok()
        };
        match words.first() {
            Some(&"TSC") => {
                check.address = check.address.or(behind("ADDR", 16));
                check.misc = check.misc.or(behind("MISC", 16));
            }
            Some(&"PROCESSOR") => check.time = check.time.or(behind("TIME", 10)),
            Some(&"RIP") => {
                let ip = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                check.ip = ip.and_then(|(digits, _)| u64::from_str_radix(digits, 16).ok()).map(VirtAddr);
            }
            _ => return false,
        }
        true
    }
}

/// `CPU 1: Machine Check Exception: 5 Bank 2: be00000000000135`
fn first_line(line: &str) -> Option<MachineCheck> {
    let (cpu, rest) = line.strip_prefix("CPU ")?.split_once(": Machine Check")?;
    let (mcgstatus, rest) = rest.trim_start_matches(" Exception").strip_prefix(": ")?.split_once(" Bank ")?;
    let (bank, status) = rest.split_once(": ")?;
    let status = u64::from_str_radix(status.trim(), 16).ok()?;
    Some(MachineCheck {
        mce: None,
        found_in: FoundIn::Log,
        cpu: cpu.parse().ok(),
        bank: bank.parse().ok(),
        status,
        mcgstatus: u64::from_str_radix(mcgstatus, 16).ok()?,
        address: None,
        misc: None,
        ip: None,
        time: None,
        meaning: meaning(status),
    })
}

/// Whether a line of the log tells of an error of the hardware.
fn is_of_hardware(text: &str) -> bool {
    // `HW_ERR`, and what AER, EDAC, the handler of bad memory and that of heat begin their lines with.
    const SIGNS: &[&str] = &[
        "[Hardware Error]",
        "AER: ",
        "PCIe Bus Error",
        "EDAC MC",
        "Memory failure: ",
        "temperature above threshold",
    ];
    let is_setup = text.contains("AER: enabled with IRQ") || text.starts_with("EDAC MC: Ver");
    !is_setup && SIGNS.iter().any(|sign| text.contains(sign))
}

// Bits of `MCi_STATUS` (arch/x86/include/asm/mce.h).
const VALID: u64 = 1 << 63;
const OVERFLOW: u64 = 1 << 62;
const UNCORRECTED: u64 = 1 << 61;
const HAS_MISC: u64 = 1 << 59;
const HAS_ADDRESS: u64 = 1 << 58;
const CONTEXT_CORRUPT: u64 = 1 << 57;

fn check(raw: &RawCheck, found_in: FoundIn, cpu: Option<u32>) -> Option<MachineCheck> {
    let status = raw.status.clone().ok().filter(|status| status & VALID != 0)?;
    Some(MachineCheck {
        mce: Some(raw.at),
        found_in,
        cpu: cpu.or_else(|| raw.extcpu.clone().ok()),
        bank: raw.bank.clone().ok(),
        status,
        mcgstatus: raw.mcgstatus.clone().unwrap_or(0),
        address: raw.addr.clone().ok().filter(|_| status & HAS_ADDRESS != 0),
        misc: raw.misc.clone().ok().filter(|_| status & HAS_MISC != 0),
        ip: raw.ip.clone().ok().filter(|ip| *ip != 0).map(VirtAddr),
        time: raw.time.clone().ok().filter(|time| *time != 0),
        meaning: meaning(status),
    })
}

/// What a status says: how bad it is, and the kind of error by its code (Intel's manual, volume 3, "Interpreting machine
/// check error codes"; AMD's codes are the same).
fn meaning(status: u64) -> Vec<&'static str> {
    let mut says = vec![if status & UNCORRECTED != 0 { "uncorrected" } else { "corrected" }];
    if status & CONTEXT_CORRUPT != 0 {
        says.push("context corrupt");
    }
    if status & OVERFLOW != 0 {
        says.push("others were lost");
    }
    // Bit 12 says that corrected errors of this kind are filtered.
    let code = status & 0xefff;
    says.push(match code {
        0 => "no error code",
        1 => "unclassified",
        2 => "microcode ROM parity",
        3 => "external error",
        4 => "redundancy checks of processors differ",
        5 => "internal parity",
        0x400 => "internal timer",
        0x0e0b => "I/O error",
        code if code & 0xf800 == 0x800 => "bus or interconnect",
        code if code & 0xfc00 == 0x400 => "internal, unclassified",
        code if code & 0xff00 == 0x100 => "cache",
        code if code & 0xff80 == 0x80 => "memory controller",
        code if code & 0xfff0 == 0x10 => "TLB",
        code if code & 0xfffc == 0xc => "generic cache hierarchy",
        _ => "unknown code",
    });
    let requests = [
        "error",
        "read",
        "write",
        "data read",
        "data write",
        "instruction fetch",
        "prefetch",
        "eviction",
        "snoop",
    ];
    let of_memory = ["unspecified request", "read", "write", "command or address", "scrub"];
    let request = match code {
        code if code & 0xff00 == 0x100 || code & 0xf800 == 0x800 => requests.get((code >> 4 & 15) as usize),
        code if code & 0xff80 == 0x80 => of_memory.get((code >> 4 & 7) as usize),
        _ => None,
    };
    says.extend(request.copied());
    says
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_words() {
        assert_eq!(meaning(0x9c00_0000_0000_009f), ["corrected", "memory controller", "read"]);
        assert_eq!(meaning(0xbe00_0000_0000_0135), ["uncorrected", "context corrupt", "cache", "data read"]);
        assert_eq!(meaning(VALID | OVERFLOW | 0x1014), ["corrected", "others were lost", "TLB"]);
        assert_eq!(meaning(VALID | 0x0c0f), ["corrected", "bus or interconnect", "error"]);
    }

    #[test]
    fn the_log_tells_of_checks() {
        let mut checks = Checks::default();
        assert!(!checks.take("mce: [Hardware Error]: TSC 1 ADDR 2 "), "of none");
        for line in [
            "CPU 1: Machine Check Exception: 5 Bank 2: be00000000000135",
            "RIP !INEXACT! 10:<ffffffffb8e93f8f> {pv_native_safe_halt+0xf/0x20}",
            "TSC 27c604e251 ADDR 23456000 MISC 8c ",
            "PROCESSOR 2:60fb1 TIME 1795303374 SOCKET 0 APIC 1 microcode 1000065",
            "CPU 0: Machine Check: 0 Bank 3: 9c0000000000009f",
        ] {
            assert!(checks.take(&format!("mce: [Hardware Error]: {line}")), "{line}");
        }
        assert!(!checks.take("mce: [Hardware Error]: Machine check: Processor Context Corrupt"));
        let [fatal, corrected] = &checks.0[..] else { panic!("{:?}", checks.0) };
        assert_eq!((fatal.cpu, fatal.bank, fatal.mcgstatus), (Some(1), Some(2), 5));
        assert_eq!(
            (fatal.address, fatal.misc, fatal.time),
            (Some(0x2345_6000), Some(0x8c), Some(1_795_303_374))
        );
        assert_eq!(fatal.ip, Some(VirtAddr(0xffff_ffff_b8e9_3f8f)));
        assert_eq!((corrected.cpu, corrected.address), (Some(0), None));
    }

    #[test]
    fn lines_of_setup_are_no_errors() {
        assert!(is_of_hardware("mce: [Hardware Error]: Machine check events logged"));
        assert!(is_of_hardware("pcieport 0000:00:1c.0: AER: Corrected error received"));
        assert!(!is_of_hardware("pcieport 0000:00:1c.0: AER: enabled with IRQ 122"));
        assert!(!is_of_hardware("EDAC MC: Ver: 3.0.0"));
    }

    #[test]
    fn a_record_that_is_not_valid_is_none() {
        let raw = |status| RawCheck {
            at: VirtAddr(0),
            status: Ok(status),
            misc: Ok(1),
            addr: Ok(2),
            mcgstatus: Ok(5),
            ip: Ok(0),
            time: Ok(0),
            bank: Ok(3),
            extcpu: Ok(1),
        };
        assert_eq!(check(&raw(5), FoundIn::Queue, None), None);
        let found = check(&raw(VALID | HAS_ADDRESS), FoundIn::Queue, None).unwrap();
        assert_eq!((found.cpu, found.address, found.misc, found.ip), (Some(1), Some(2), None, None));
    }
}
