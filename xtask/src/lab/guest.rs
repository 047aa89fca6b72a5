//! What runs in the guest: programs of Debian unstable, the lab's own programs, modules, and the initial RAM disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::kernel::{Varied, files_of};
use super::place::{Kernel, Lab, assets};
use super::suite::Suite;
use super::vary::Variation;
use crate::run;

/// The suite whose programs the guest runs: the newest makedumpfile, and crash and drgn to compare with.
pub(crate) const TOOLS_SUITE: &str = "unstable";
const TOOLS_PACKAGES: &[&str] = &[
    "busybox-static",
    "kexec-tools",
    "makedumpfile",
    "gcc",
    "libc6-dev",
    "crash",
    "python3-drgn",
    "gdb-minimal",
    "zstd",
    "xfsprogs",
    "btrfs-progs",
];

/// Programs of the suite that go into the guest.
const TOOLS: &[&str] =
    &["/usr/sbin/kexec", "/usr/bin/makedumpfile", "/usr/sbin/mkfs.xfs", "/usr/sbin/mkfs.btrfs"];

const APPLETS: &[&str] = &[
    "sh", "mount", "umount", "modprobe", "sleep", "dd", "cat", "echo", "ls", "mkdir", "nc", "ps", "grep",
    "swapon", "poweroff", "sync", "ip", "tail", "mkswap", "losetup", "mke2fs", "brctl", "tunctl", "mkfifo",
    "truncate", "time",
];

/// Modules of the guest, with all that they need; what a kernel has built in is not looked for.
const MODULES: &[&str] = &[
    "qemu_fw_cfg",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "ext4",
    "zram",
    "tun",
    "bridge",
    "sctp",
    "dm_mod",
    "nf_conntrack",
    "loop",
    "dummy",
    "veth",
    "overlay",
    "lzo_rle",
    "scsi_debug",
    "nvme",
    "raid1",
    "sd_mod",
    "dm_multipath",
    "dm_round_robin",
    "sch_netem",
    "nf_tables",
    "nft_ct",
    "xfs",
    "btrfs",
    "nfsv3",
    "nfsv4",
    "kvm_amd",
];

/// `init`, and what it reads in one scenario.
const SCRIPTS: &[&str] = &["init", "blocked.sh", "kvm.sh", "memory.sh", "rich.sh", "stuck.sh", "traced.sh"];

/// The lab's own programs: sources and compiler options of each.
const PROGRAMS: &[(&str, &[&str], &[&str])] = &[
    ("hog", &["hog.c"], &["-O1", "-static"]),
    ("trigger", &["trigger.c", "truth.c", "truth_memory.c", "truth_rich.c", "bpf.c"], &["-O1", "-static"]),
    (
        "rich",
        &[
            "rich.c",
            "spawn.c",
            "rich_bpf.c",
            "rich_files.c",
            "rich_io.c",
            "rich_ipc.c",
            "rich_memory.c",
            "rich_net.c",
            "rich_tasks.c",
            "rich_timers.c",
        ],
        &["-O1", "-static", "-pthread"],
    ),
    (
        "stuck",
        &[
            "stuck.c",
            "spawn.c",
            "stuck_array.c",
            "stuck_block.c",
            "stuck_facts.c",
            "stuck_filter.c",
            "stuck_mapper.c",
            "stuck_net.c",
        ],
        &["-O1", "-static", "-pthread"],
    ),
    (
        "blocked",
        &["blocked.c", "blocked_nfs.c", "spawn.c", "stuck_facts.c", "stuck_mapper.c"],
        &["-O1", "-static", "-pthread"],
    ),
    ("background", &["background.c"], &["-O1", "-static"]),
    ("kvmguest", &["kvmguest.c", "spawn.c"], &["-O1", "-static", "-pthread"]),
    ("bigload", &["bigload.c"], &["-O1", "-static", "-pthread"]),
    // Plain code and shared libraries: a process as users have them.
    ("userprog", &["userprog.c"], &["-O0", "-g", "-pthread"]),
];

fn program_path(lab: &Lab, name: &str) -> PathBuf {
    lab.dir().join("guest").join(name)
}

fn sources() -> Result<Vec<PathBuf>> {
    files_of(&assets().join("user"))
}

/// Installs the guest's tools.
pub(crate) fn install_tools(lab: &Lab, mirror: &str) -> Result<()> {
    let suite = Suite::at(lab, TOOLS_SUITE);
    suite.refresh(mirror)?;
    suite.install(TOOLS_PACKAGES)
}

/// Compiles the lab's programs.
pub(crate) fn build_programs(lab: &Lab) -> Result<()> {
    let suite = Suite::at(lab, TOOLS_SUITE);
    let sources = sources()?;
    let (inside, outside) = suite.scratch("user")?;
    for source in &sources {
        run::copy(source, &outside.join(source.file_name().unwrap_or_default()))?;
    }
    run::make_dir(&lab.dir().join("guest"))?;
    for (name, files, options) in PROGRAMS {
        if run::is_fresh(&program_path(lab, name), &sources) {
            continue;
        }
        let script = format!("cd {inside} && gcc -Wall {} -o {name} {}", options.join(" "), files.join(" "));
        run::output(&mut suite.command("sh", &["-c", &script]))?;
        run::copy(&outside.join(name), &program_path(lab, name))?;
    }
    Ok(())
}

/// The initial RAM disk of a kernel, if a part of it is newer.
pub(crate) fn build_initrd(lab: &Lab, kernel: &Kernel) -> Result<()> {
    let product = lab.dir().join(kernel.initrd());
    let mut parts = SCRIPTS.iter().map(|script| assets().join(script)).collect::<Vec<_>>();
    parts.push(lab.dir().join(kernel.crasher()));
    parts.extend(PROGRAMS.iter().map(|(name, ..)| program_path(lab, name)));
    if run::is_fresh(&product, &parts) {
        return Ok(());
    }
    println!("packing the initial RAM disk of {}", kernel.release);
    let stage = lab.scratch("stage")?;
    stage_programs(lab, &stage)?;
    stage_modules(&lab.dir().join(kernel.modules()), &stage, &kernel.release)?;
    let built = |module: &str| lab.dir().join(kernel.crasher()).with_file_name(module);
    stage_crasher(&stage, &built("crasher.ko"), &built("patcher.ko"))?;
    for script in SCRIPTS {
        run::copy(&assets().join(script), &stage.join(script))?;
    }
    run::output(run::command("chmod", ["755"]).arg(stage.join("init")))?;
    pack(&stage, &product)?;
    std::fs::remove_dir_all(&stage)?;
    Ok(())
}

/// The modules, under the names that the guest looks for, whatever they call themselves.
fn stage_crasher(stage: &Path, crasher: &Path, patcher: &Path) -> Result<()> {
    for (built, name) in [(crasher, "crasher.ko"), (patcher, "patcher.ko")] {
        run::output(run::command("strip", ["-g", "-o"]).arg(stage.join(name)).arg(built))?;
    }
    Ok(())
}

fn pack(stage: &Path, product: &Path) -> Result<()> {
    let script = "find . | cpio -o -H newc 2>/dev/null | gzip -1 >\"$1\"";
    run::output(run::command("sh", ["-c", script, "sh"]).arg(product).current_dir(stage))?;
    Ok(())
}

/// The initial RAM disk with the varied module: a second archive behind the first replaces its files.
pub(crate) fn varied_initrd(lab: &Lab, kernel: &Kernel, varied: &Varied, scratch: &Path) -> Result<PathBuf> {
    let stage = scratch.join("varied");
    run::fresh_dir(&stage)?;
    stage_crasher(&stage, &varied.crasher, &varied.patcher)?;
    let Variation { seed, .. } = varied.variation;
    let name = varied.variation.called("crasher");
    std::fs::write(stage.join("seed"), format!("seed={seed}; crasher={name}\n"))?;
    let (more, product) = (scratch.join("varied.gz"), scratch.join("initrd.gz"));
    pack(&stage, &more)?;
    let mut archive = std::fs::read(lab.dir().join(kernel.initrd()))?;
    archive.extend(std::fs::read(&more)?);
    std::fs::write(&product, archive)?;
    Ok(product)
}

fn stage_programs(lab: &Lab, stage: &Path) -> Result<()> {
    let suite = Suite::at(lab, TOOLS_SUITE);
    for dir in ["bin", "sbin", "proc", "sys", "dev", "tmp", "mnt", "run", "etc"] {
        run::make_dir(&stage.join(dir))?;
    }
    run::copy(&suite.path("/usr/bin/busybox"), &stage.join("bin/busybox"))?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", stage.join("bin").join(applet))?;
    }
    for tool in TOOLS {
        let name = Path::new(tool).file_name().unwrap_or_default();
        run::copy(&suite.path(tool), &stage.join("sbin").join(name))?;
        stage_libraries(&suite, tool, stage)?;
    }
    for (name, ..) in PROGRAMS {
        run::copy(&program_path(lab, name), &stage.join("bin").join(name))?;
    }
    // userprog needs no more than its C library, which the tools above have brought.
    Ok(())
}

/// The shared libraries of a program, at the paths where it looks for them.
fn stage_libraries(suite: &Suite, program: &str, stage: &Path) -> Result<()> {
    let list = run::output(&mut suite.command("ldd", &[program]))?;
    for library in list.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = stage.join(library.trim_start_matches('/'));
        run::make_dir(to.parent().unwrap_or(stage))?;
        // Resolved inside the root: its links may be absolute.
        let real = run::output(&mut suite.command("readlink", &["-f", library]))?;
        run::copy(&suite.path(real.trim()), &to)?;
    }
    Ok(())
}

/// Which modules a module needs, by `modules.dep`; names have underscores.
struct Dependencies(BTreeMap<String, (String, Vec<String>)>);

impl Dependencies {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(
            lines
                .map(|(file, needs)| {
                    let needs = needs.split_whitespace().map(String::from).collect();
                    (module_name(file), (file.to_string(), needs))
                })
                .collect(),
        )
    }

    /// The files of these modules and of all they need.
    fn closure(&self, names: &[&str]) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for (file, needs) in names.iter().filter_map(|name| self.0.get(*name)) {
            // modules.dep lists what a module needs through others, too.
            files.insert(file.clone());
            files.extend(needs.iter().cloned());
        }
        files
    }
}

fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

fn stage_modules(from: &Path, stage: &Path, release: &str) -> Result<()> {
    let text = std::fs::read_to_string(from.join("modules.dep"))
        .with_context(|| format!("cannot read {}/modules.dep", from.display()))?;
    let to = stage.join("lib/modules").join(release);
    for file in Dependencies::parse(&text).closure(MODULES) {
        let target = to.join(file.trim_end_matches(".xz").trim_end_matches(".zst"));
        run::make_dir(target.parent().unwrap_or(&to))?;
        let unpack = match file.rsplit('.').next() {
            Some("xz") => "xz -dc",
            Some("zst") => "zstd -dcq",
            _ => "cat",
        };
        let script = format!("{unpack} <\"$1\" >\"$2\"");
        run::output(run::command("sh", ["-c", &script, "sh"]).arg(from.join(&file)).arg(&target))?;
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        if from.join(list).exists() {
            run::copy(&from.join(list), &to.join(list))?;
        }
    }
    run::output(run::command("depmod", ["-b"]).arg(stage).arg(release))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_brings_what_it_needs() {
        let text = "kernel/net/8021q/garp.ko.xz:\n\
                    kernel/drivers/block/virtio-blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n\
                    kernel/drivers/virtio/virtio.ko.xz:\n";
        let files = Dependencies::parse(text).closure(&["virtio_blk", "built_in"]);
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_eq!(names, ["kernel/drivers/block/virtio-blk.ko.xz", "kernel/drivers/virtio/virtio.ko.xz"]);
    }
}
