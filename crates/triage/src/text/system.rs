//! What the log says of the machine: release, command line, hypervisor, memory.

use crate::case::System;

use super::scan::{after, decimal, number_after, word};

/// Phrases of such lines.
pub(super) const SYSTEM_PHRASES: &[&str] = &[
    "Linux version ",
    "ommand line: ",
    "DMI: ",
    "Hypervisor detected: ",
    "Booting paravirtualized kernel on ",
    "k available",
    "K available",
    "CPUs, ",
    "processors activated",
];

/// Whether a line begins the log of a boot.
pub(super) fn is_boot(text: &str) -> bool {
    text.starts_with("Linux version ") && text.contains('(')
}

/// Takes what a line tells. What is known already stays.
pub(super) fn line(text: &str, system: &mut System) {
    if let Some(rest) = text.strip_prefix("Linux version ") {
        let (release, _) = word(rest);
        keep(&mut system.release, Some(release.to_owned()));
        keep(
            &mut system.version,
            rest.find(" #").and_then(|at| rest.get(at..)).map(|version| version.trim().to_owned()),
        );
    } else if let Some(rest) =
        text.strip_prefix("Command line: ").or_else(|| text.strip_prefix("Kernel command line: "))
    {
        keep(&mut system.command_line, Some(rest.trim().to_owned()));
    } else if let Some(rest) = text.strip_prefix("DMI: ").filter(|rest| !rest.starts_with("SMBIOS")) {
        let name = rest.split(", BIOS").next().unwrap_or(rest);
        keep(&mut system.hardware, Some(name.trim().to_owned()));
    } else if let Some(rest) = text.strip_prefix("Hypervisor detected: ") {
        keep(&mut system.hypervisor, Some(rest.trim().to_owned()));
    } else if let Some(rest) =
        after(text, "Booting paravirtualized kernel on ").filter(|rest| *rest != "bare hardware")
    {
        keep(&mut system.hypervisor, Some(rest.trim().to_owned()));
    } else if let Some(rest) = text.strip_prefix("Memory: ") {
        let total = after(rest, "/").and_then(decimal).map(|(kilobytes, _)| kilobytes.saturating_mul(1024));
        keep(&mut system.memory_bytes, total);
    } else if text.contains("Allowing ") {
        keep(&mut system.cpus, number_after(text, "Allowing ").and_then(|count| u32::try_from(count).ok()));
    } else if text.contains("processors activated") {
        keep(&mut system.cpus, number_after(text, "Total of ").and_then(|count| u32::try_from(count).ok()));
    }
}

/// The architecture in a release such as `2.6.32-279.14.1.el6.x86_64`.
pub(super) fn machine_of(release: &str) -> Option<&'static str> {
    ["x86_64", "amd64", "i686", "i586", "i386", "aarch64", "arm64", "ppc64le", "s390x", "riscv64"]
        .into_iter()
        .find(|machine| release.contains(machine))
        .map(|machine| match machine {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            _ => machine,
        })
}

pub(super) fn keep<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_log_tells_the_machine() {
        let mut system = System::default();
        for text in [
            "Linux version 6.12.1-cloud-amd64 (debian@debian.org) (gcc 14) #1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1 (2024-11-24)",
            "Command line: root=/dev/vda console=ttyS0",
            "DMI: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-1 04/01/2014",
            "Hypervisor detected: KVM",
            "Memory: 467436K/523768K available (16384K kernel code)",
            "smpboot: Allowing 2 CPUs, 0 hotplug CPUs",
        ] {
            line(text, &mut system);
        }
        assert_eq!(system.release.as_deref(), Some("6.12.1-cloud-amd64"));
        assert_eq!(system.version.as_deref(), Some("#1 SMP PREEMPT_DYNAMIC Debian 6.12.1-1 (2024-11-24)"));
        assert_eq!(system.hardware.as_deref(), Some("QEMU Standard PC (Q35 + ICH9, 2009)"));
        assert_eq!((system.cpus, system.memory_bytes), (Some(2), Some(523_768 * 1024)));
        assert_eq!(system.release.as_deref().and_then(machine_of), Some("x86_64"));
    }
}
