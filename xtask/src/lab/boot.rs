//! One boot: disks, QEMU, the wait for the end, the dumps.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::console::Console;
use super::descriptor::Descriptor;
use super::format::{self, Format, Maker};
use super::guest;
use super::kernel::{Varied, build_varied};
use super::place::{Kernel, Lab};
use super::qmp::{self, QEMU, Qmp};
use super::scenario::{self, End, Scenario};
use super::truth::Truth;
use super::vary::Variation;
use crate::run;

const CPUS: u32 = 2;
const POLL: Duration = Duration::from_millis(300);
/// A system dumped alive, and a CPU that waits for its NMI, are left alone for a while first.
const SETTLE: Duration = Duration::from_secs(3);
/// From the last line of a panic to a quiet machine.
const PANIC_SETTLE: Duration = Duration::from_millis(500);
/// Machine checks of the scenario `mce`: processor, bank, status, global status, address, miscellaneous. The first was
/// corrected (valid, enabled, with address), the second is fatal (uncorrected, context corrupt).
pub(crate) const MACHINE_CHECKS: [&str; 2] =
    ["0 3 0x9c0000000000009f 0 0x12345000 0x8c", "1 2 0xbe00000000000135 5 0x23456000 0x8c"];
/// How long the scenario `paused` stands still, first as QEMU does it, with the guest's clocks, then with clocks that go on:
/// more than twice the guest's threshold for soft lockups, 10 s.
const STOPPED: Duration = Duration::from_secs(5);
const FROZEN: Duration = Duration::from_secs(25);
const DATA_DISK: &str = "128M";
const SWAP_DISK: &str = "256M";
const MORE_DISK: &str = "64M";
/// Of the slow disk: what comes behind half a megabyte waits for a minute.
const SLOW_BYTES_PER_SECOND: u32 = 8192;
const CAPTURE_MEMORY: &str = "256M";
/// What capture kernels are given: one CPU, no waiting for devices that the dead kernel left in disorder.
const CAPTURE_OPTIONS: &str = "console=ttyS0 irqpoll nr_cpus=1 reset_devices";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Args)]
pub(crate) struct BootArgs {
    /// Series (`6.12`) or release.
    #[arg(long)]
    kernel: String,
    /// See `cargo xtask lab scenarios`.
    #[arg(long)]
    scenario: String,
    /// Formats, separated by commas, those of a capture kernel in a second boot [default: elf].
    #[arg(long, value_delimiter = ',')]
    format: Vec<String>,
    /// One more dump through kexec, with these makedumpfile flags; its format is called `custom`.
    #[arg(long, allow_hyphen_values = true, value_name = "FLAGS")]
    kdump: Option<String>,
    /// 5-level paging.
    #[arg(long, value_enum, default_value = "on")]
    la57: Switch,
    /// Guest memory in MiB, if not the scenario's.
    #[arg(long)]
    mem: Option<u32>,
    /// More kernel parameters; `slab_nomerge` keeps the evidence cache apart.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Draw names, offsets and variants of the module, and what else the guest does, from this number; 0 is the module
    /// as it is written, on an idle guest.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep the guest's swap partition too.
    #[arg(long)]
    keep_swap: bool,
    /// Name of the dumps instead of KERNEL-SCENARIO.
    #[arg(long)]
    name: Option<String>,
    /// One emulation thread for all CPUs: slower, steadier.
    #[arg(long)]
    single_thread: bool,
}

/// The capture kernel's last word.
const CAPTURED: &str = "LAB-CAPTURED";
/// On a busy machine an emulated boot may fail before the guest gets to do anything.
const TRIES: u32 = 3;

/// The kernel parameter that keeps slab caches of the same size apart.
pub(crate) const NOMERGE: &str = "slab_nomerge";

/// The kernel parameter that keeps who allocated each slab object.
pub(crate) const TRACKS: &str = "slub_debug=U";

/// The kernel parameter that switches KFENCE on, where the kernel has it: one allocation in so many milliseconds.
pub(crate) const KFENCE: &str = "kfence.sample_interval=100";

/// A boot, and the dumps to take of it.
pub(crate) struct Boot {
    pub(crate) kernel: Kernel,
    pub(crate) scenario: &'static Scenario,
    /// What its files are called.
    pub(crate) name: String,
    /// Format names with makedumpfile's flags, for formats of a capture kernel; one maker per boot.
    pub(crate) formats: Vec<&'static Format>,
    pub(crate) custom_flags: Option<String>,
    pub(crate) la57: bool,
    pub(crate) memory: u32,
    pub(crate) append: String,
    pub(crate) seed: u64,
    pub(crate) keep_swap: bool,
    pub(crate) single_thread: bool,
}

/// `lab boot`.
pub(crate) fn main(lab: &Lab, args: &BootArgs) -> Result<()> {
    let default = [String::from("elf")];
    let wanted = if args.format.is_empty() && args.kdump.is_none() { &default[..] } else { &args.format };
    let formats = wanted.iter().map(|name| format::find(name)).collect::<Result<Vec<_>>>()?;
    let known = qmp::known_formats(lab)?;
    if let Some(format) = formats.iter().find(|format| !format.is_written(&known)) {
        bail!("this QEMU cannot write {}; it knows {}", format.name, known.join(" "));
    }
    let (captured, outside): (Vec<_>, Vec<_>) = formats.into_iter().partition(|format| format.is_captured());
    let plan = |formats: Vec<&'static Format>, captured: bool| -> Result<Boot> {
        let mut boot = Boot::new(lab.kernel(&args.kernel)?, scenario::find(&args.scenario)?, formats);
        boot.la57 &= args.la57 == Switch::On;
        boot.memory = args.mem.unwrap_or(boot.memory);
        boot.append.clone_from(&args.append);
        boot.seed = args.seed;
        boot.keep_swap = args.keep_swap;
        boot.single_thread |= args.single_thread;
        boot.custom_flags = args.kdump.clone().filter(|_| captured);
        boot.name = boot.default_name();
        if let Some(name) = &args.name {
            boot.name = if captured { format!("{name}-kexec") } else { name.clone() };
        }
        Ok(boot)
    };
    let has_capture = !captured.is_empty() || args.kdump.is_some();
    if !outside.is_empty() {
        plan(outside, false)?.run(lab)?;
    }
    if has_capture {
        plan(captured, true)?.run(lab)?;
    }
    Ok(())
}

impl Boot {
    /// A boot with the scenario's own settings.
    pub(crate) fn new(kernel: Kernel, scenario: &'static Scenario, formats: Vec<&'static Format>) -> Self {
        // A capture kernel of 7.x once died of a race between emulation threads, in text patching.
        let captured = formats.iter().any(|format| format.is_captured());
        let single_thread = captured && kernel.suite == guest::TOOLS_SUITE;
        let mut boot = Self {
            kernel,
            scenario,
            name: String::new(),
            formats,
            custom_flags: None,
            la57: scenario.la57,
            memory: scenario.memory,
            append: String::new(),
            seed: 0,
            keep_swap: false,
            single_thread,
        };
        boot.name = boot.default_name();
        boot
    }

    /// `6.12-null`, with what is unusual behind it.
    pub(crate) fn default_name(&self) -> String {
        let mut name = format!("{}-{}", self.kernel.series, self.scenario.name);
        if !self.la57 && self.scenario.la57 {
            name.push_str("-4level");
        }
        if self.append.contains(NOMERGE) {
            name.push_str("-nomerge");
        }
        if self.append.contains(TRACKS) {
            name.push_str("-owners");
        }
        if self.seed != 0 {
            name.push_str(&format!("-s{}", self.seed));
        }
        if self.append.contains(KFENCE) {
            name.push_str("-kfence");
        }
        if self.is_captured() {
            name.push_str("-kexec");
        }
        name
    }

    fn is_captured(&self) -> bool {
        self.custom_flags.is_some() || self.formats.iter().any(|format| format.is_captured())
    }

    /// Are all its dumps there?
    pub(crate) fn is_done(&self, lab: &Lab) -> bool {
        self.formats.iter().all(|format| Descriptor::exists(lab, &self.dump_name(format.name)))
    }

    fn dump_name(&self, format: &str) -> String {
        format!("{}.{format}", self.name)
    }

    fn output(&self, lab: &Lab, extension: &str) -> PathBuf {
        lab.dumps().join(format!("{}.{extension}", self.name))
    }

    /// Boots, waits, dumps, and describes the dumps.
    pub(crate) fn run(&self, lab: &Lab) -> Result<()> {
        run::make_dir(&lab.dumps())?;
        let scratch = lab.scratch(&self.name)?;
        let started = Instant::now();
        let mut result = self.run_in(lab, &scratch);
        for _ in 1..TRIES {
            let Err(error) = &result else { break };
            eprintln!("{}: trying again: {error:#}", self.name);
            run::fresh_dir(&scratch)?;
            result = self.run_in(lab, &scratch);
        }
        std::fs::remove_dir_all(&scratch)?;
        let console = self.output(lab, "console");
        let made = result.with_context(|| format!("{} (console: {})", self.name, console.display()))?;
        println!("{}: {} in {:.1} s", self.name, made.join(" "), started.elapsed().as_secs_f64());
        Ok(())
    }

    fn run_in(&self, lab: &Lab, scratch: &Path) -> Result<Vec<String>> {
        self.remove_older(lab)?;
        let varied = (self.seed != 0).then(|| build_varied(lab, &self.kernel, self.seed)).transpose()?;
        let initrd = match &varied {
            Some(varied) => guest::varied_initrd(lab, &self.kernel, varied, scratch)?,
            None => lab.dir().join(self.kernel.initrd()),
        };
        self.make_disks(lab, scratch, &initrd)?;
        let socket = scratch.join("qmp");
        let mut guest = Guest(self.qemu(lab, scratch, &initrd, &socket)?.spawn().context("cannot run QEMU")?);
        let mut qmp = match Qmp::connect(&socket) {
            Ok(qmp) => qmp,
            Err(error) => {
                let words = std::fs::read_to_string(scratch.join("qemu.err")).unwrap_or_default();
                bail!("{error:#}\n{}", run::tail(&words));
            }
        };
        let mut console = Console::new(self.output(lab, "console"));
        let (made, panicked);
        if self.is_captured() {
            panicked = true;
            self.wait_for_capture(&mut qmp, &mut console, guest.0.id())?;
            guest.0.wait()?;
            made = self.collect_captured(lab, scratch)?;
        } else {
            panicked = self.wait_for_end(&mut qmp, &mut console, guest.0.id())?;
            made = self.dump_from_outside(&mut qmp, lab)?;
            // The guest may be gone before it answers.
            let _ = qmp.execute("quit", json!({}));
            guest.0.wait()?;
        }
        if self.keep_swap {
            let copy = ["--sparse=always"];
            run::output(
                run::command("cp", copy).arg(scratch.join("swap.img")).arg(self.output(lab, "swap")),
            )?;
        }
        self.describe(lab, made, panicked, varied)
    }

    /// Dumps of an older boot of this name: its console and truth are about to be replaced.
    fn remove_older(&self, lab: &Lab) -> Result<()> {
        for older in Descriptor::all(lab)?.iter().filter(|dump| dump.console == self.console()) {
            older.remove(lab)?;
        }
        Ok(())
    }

    /// Relative to the lab's directory.
    fn console(&self) -> String {
        format!("dumps/{}.console", self.name)
    }

    fn make_disks(&self, lab: &Lab, scratch: &Path, initrd: &Path) -> Result<()> {
        let stage = scratch.join("stage");
        run::make_dir(&stage.join("out"))?;
        if self.is_captured() {
            self.stage_capture(lab, &stage.join("capture"), initrd)?;
        }
        // A sparse file: it takes what is written. Each of the formats may be as large as memory.
        let size = if self.is_captured() { 1024 + 4 * self.memory } else { 64 };
        make_ext4(&scratch.join("capture.img"), &format!("{size}M"), Some(&stage))?;
        make_ext4(&scratch.join("data.img"), DATA_DISK, None)?;
        let swap = scratch.join("swap.img");
        run::output(run::command("truncate", ["-s", SWAP_DISK]).arg(&swap))?;
        run::output(run::command("mkswap", ["-q"]).arg(&swap))?;
        if self.scenario.more_disks {
            for slow in ["slow.img", "nvme.img"] {
                run::output(run::command("truncate", ["-s", MORE_DISK]).arg(scratch.join(slow)))?;
            }
            make_ext4(&scratch.join("more.img"), MORE_DISK, None)?;
        }
        Ok(())
    }

    /// What the guest needs to load its capture kernel, and what that is to write.
    fn stage_capture(&self, lab: &Lab, dir: &Path, initrd: &Path) -> Result<()> {
        run::make_dir(dir)?;
        run::copy(&lab.dir().join(self.kernel.image()), &dir.join("vmlinuz"))?;
        let staged = dir.join("initrd.gz");
        run::copy(initrd, &staged)?;
        if self.formats.iter().any(|format| format.is_ours()) {
            add_program(&format::capture_program(lab), &staged)?;
        }
        let lines: Vec<String> =
            self.captures().map(|(name, flags, _)| format!("{name} {flags}\n")).collect();
        std::fs::write(dir.join("formats"), lines.concat())?;
        std::fs::write(dir.join("append"), CAPTURE_OPTIONS)?;
        Ok(())
    }

    /// Name, flags and number of files of each dump that the capture kernel writes.
    fn captures(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        let known = self.formats.iter().filter_map(|format| match format.maker {
            Maker::Capture { flags, files } => Some((format.name, flags, files)),
            Maker::Qemu | Maker::QemuMigration => None,
        });
        known.chain(self.custom_flags.as_deref().map(|flags| ("custom", flags, 1)))
    }

    fn qemu(&self, lab: &Lab, scratch: &Path, initrd: &Path, socket: &Path) -> Result<Command> {
        let (console, truth) = (self.output(lab, "console"), self.output(lab, "truth"));
        // QEMU makes it late; an old one would be read meanwhile.
        File::create(&console)?;
        let mut append = format!(
            "console=ttyS0 ignore_loglevel no_timer_check how={} panic=0 {}",
            self.scenario.name, self.append
        );
        if self.is_captured() {
            append += &format!(" crashkernel={CAPTURE_MEMORY}");
        }
        let thread = if self.single_thread { "single" } else { "multi" };
        let cpu = if self.la57 { "max" } else { "max,la57=off" };
        // A lab that is killed takes its guest with it.
        let mut qemu = run::command("setpriv", ["--pdeathsig", "KILL", QEMU]);
        qemu.args(["-display", "none", "-no-reboot", "-device", "vmcoreinfo"]);
        qemu.args([
            "-accel",
            &format!("tcg,thread={thread}"),
            "-cpu",
            cpu,
            "-nic",
            "user,model=virtio-net-pci",
        ]);
        qemu.args(["-m", &self.memory.to_string(), "-smp", &CPUS.to_string(), "-append", append.trim()]);
        qemu.arg("-kernel").arg(lab.dir().join(self.kernel.image()));
        qemu.arg("-initrd").arg(initrd);
        qemu.args(["-serial", &format!("file:{}", console.display())]);
        qemu.args(["-serial", &format!("file:{}", truth.display())]);
        qemu.args(["-qmp", &format!("unix:{},server,nowait", socket.display())]);
        for disk in ["capture", "data", "swap"] {
            let file = scratch.join(format!("{disk}.img"));
            qemu.args(["-drive", &format!("file={},if=virtio,format=raw", file.display())]);
        }
        if self.scenario.more_disks {
            let drive = |name: &str| format!("file={},if=virtio,format=raw", scratch.join(name).display());
            qemu.args([
                "-drive",
                &format!("{},throttling.bps-total={SLOW_BYTES_PER_SECOND}", drive("slow.img")),
            ]);
            qemu.args(["-drive", &drive("more.img")]);
            let nvme = format!("file={},if=none,id=nvme,format=raw", scratch.join("nvme.img").display());
            qemu.args(["-drive", &format!("{nvme},throttling.bps-total={SLOW_BYTES_PER_SECOND}")]);
            qemu.args(["-device", "nvme,drive=nvme,serial=slow"]);
        }
        qemu.stdout(Stdio::null()).stderr(File::create(scratch.join("qemu.err"))?);
        Ok(qemu)
    }

    /// Waits for the scenario's end: did the kernel panic?
    fn wait_for_end(&self, qmp: &mut Qmp, console: &mut Console, process: u32) -> Result<bool> {
        let end = self.scenario.end;
        let panics = end != End::Alive;
        let stays = matches!(end, End::Alive | End::Either);
        self.wait_for(qmp, console, process, |console| {
            (panics && console.panicked()) || (stays && console.says("LAB-LOADED"))
        })?;
        sleep(if console.panicked() { PANIC_SETTLE } else { SETTLE });
        console.refresh();
        Ok(console.panicked())
    }

    /// Waits for a capture kernel to write its dumps and power off.
    fn wait_for_capture(&self, qmp: &mut Qmp, console: &mut Console, process: u32) -> Result<()> {
        // Between a panic and the first word of the capture kernel there can be a long silence.
        let died = |console: &Console| console.says("end Kernel panic");
        self.wait_for(qmp, console, process, |console| console.says(CAPTURED) || died(console))?;
        if !console.says(CAPTURED) {
            bail!("no capture kernel, or it died too:\n{}", console.tail());
        }
        Ok(())
    }

    fn wait_for(
        &self,
        qmp: &mut Qmp,
        console: &mut Console,
        process: u32,
        is_over: impl Fn(&Console) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        // A capture kernel boots, and writes several dumps, after the end that patience is for.
        let patience = self.scenario.patience * if self.is_captured() { 4 } else { 1 };
        let mut waits_for_nmi = self.scenario.end == End::PanicByNmi;
        let mut waits_for_pause = true;
        let mut waits_for_mce = self.scenario.end == End::PanicByMce;
        loop {
            let is_alive = qmp.is_alive();
            console.refresh();
            if console.panicked() && !console.says("LAB-READY") {
                bail!("the kernel died too early:\n{}", console.tail());
            }
            if is_over(console) {
                return Ok(());
            }
            if !is_alive {
                bail!("the guest has ended; the console ends with\n{}", console.tail());
            }
            if start.elapsed() > Duration::from_secs(patience.into()) {
                bail!("nothing happened in {patience} s; the console ends with\n{}", console.tail());
            }
            if waits_for_nmi && console.says(": waiting for an NMI") {
                sleep(SETTLE);
                qmp.execute("inject-nmi", json!({}))?;
                waits_for_nmi = false;
            }
            if waits_for_mce && console.says(": waiting for a machine check") {
                sleep(SETTLE);
                for check in MACHINE_CHECKS {
                    qmp.execute("human-monitor-command", json!({ "command-line": format!("mce {check}") }))?;
                    // The kernel looks once a second for what was corrected.
                    sleep(4 * SETTLE);
                }
                waits_for_mce = false;
            }
            if waits_for_pause && console.says("crasher: waiting to be paused") {
                sleep(SETTLE);
                pause(qmp, process)?;
                waits_for_pause = false;
            }
            sleep(POLL);
        }
    }

    /// QEMU's own dumps.
    fn dump_from_outside(&self, qmp: &mut Qmp, lab: &Lab) -> Result<Vec<Made>> {
        qmp.execute("stop", json!({}))?;
        let mut made = Vec::new();
        for format in &self.formats {
            let path = lab.dumps().join(self.dump_name(format.name));
            match format.maker {
                Maker::QemuMigration => qmp.migrate(&path)?,
                _ => qmp.dump(&path, format.name)?,
            }
            make_readable(&path)?;
            made.push((format.name.to_string(), None, format.files(&self.dump_name(format.name))));
        }
        Ok(made)
    }

    /// Takes the capture kernel's files from its disk.
    fn collect_captured(&self, lab: &Lab, scratch: &Path) -> Result<Vec<Made>> {
        let script = format!("rdump /out {}", scratch.display());
        run::output(run::command("debugfs", ["-R", &script]).arg(scratch.join("capture.img")))?;
        let mut made = Vec::new();
        for (name, flags, count) in self.captures() {
            let parts: Vec<String> =
                if count > 1 { (1..=count).map(|n| format!(".{n}")).collect() } else { vec![String::new()] };
            let mut files = Vec::new();
            for part in parts {
                let from = scratch.join("out").join(format!("{name}{part}"));
                if !from.exists() {
                    break;
                }
                let file = format!("{}{part}", self.dump_name(name));
                let to = lab.dumps().join(&file);
                std::fs::rename(&from, &to)?;
                make_readable(&to)?;
                files.push(file);
            }
            if files.len() == count {
                made.push((name.to_string(), Some(flags.to_string()), files));
            } else {
                eprintln!("SKIPPED: {}: the capture kernel wrote no {name} ({flags})", self.name);
            }
        }
        Ok(made)
    }

    fn describe(
        &self,
        lab: &Lab,
        made: Vec<Made>,
        panicked: bool,
        varied: Option<Varied>,
    ) -> Result<Vec<String>> {
        Truth::load(&self.output(lab, "truth"))?;
        let mut names = Vec::new();
        let crasher = match &varied {
            Some(varied) => varied.crasher.strip_prefix(lab.dir())?.to_string_lossy().into_owned(),
            None => self.kernel.crasher(),
        };
        let variation = varied.map(|varied| varied.variation);
        let frame = |name: &&str| {
            let called =
                |name| variation.as_ref().map_or(name, |variation: &Variation| variation.called(name));
            name.split('|').map(called).collect::<Vec<_>>().join("|")
        };
        let frames: Vec<String> = self.scenario.frames.iter().map(frame).collect();
        for (format, flags, files) in made {
            let kernel = &self.kernel;
            let descriptor = Descriptor {
                name: self.dump_name(&format),
                files: files.iter().map(|file| format!("dumps/{file}")).collect(),
                format: format.clone(),
                makedumpfile: flags.filter(|flags| !flags.is_empty()),
                scenario: self.scenario.name.into(),
                variation: variation.clone(),
                series: kernel.series.clone(),
                release: kernel.release.clone(),
                suite: kernel.suite.clone(),
                vmlinux: kernel.vmlinux(),
                modules: kernel.modules(),
                debug_modules: kernel.debug_modules(),
                crasher: crasher.clone(),
                initrd: kernel.initrd(),
                console: self.console(),
                truth: format!("dumps/{}.truth", self.name),
                memory_mib: self.memory,
                cpus: CPUS,
                la57: self.la57,
                panicked,
                frames: frames.clone(),
            };
            descriptor.save(lab)?;
            names.push(format);
        }
        Ok(names)
    }
}

/// A dump that was made: format, makedumpfile's flags, files.
type Made = (String, Option<String>, Vec<String>);

/// Ends with the lab, whatever happens.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It has usually ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_ext4(image: &Path, size: &str, content: Option<&Path>) -> Result<()> {
    run::output(run::command("truncate", ["-s", size]).arg(image))?;
    // Otherwise a kernel thread of the guest finishes the job.
    let eager = "lazy_itable_init=0,lazy_journal_init=0";
    let mut mkfs = run::command("mkfs.ext4", ["-q", "-F", "-E", eager]);
    if let Some(content) = content {
        mkfs.arg("-d").arg(content);
    }
    run::output(mkfs.arg(image))?;
    Ok(())
}

/// Stops the machine: as QEMU stops it, which its clocks do not notice, then from outside of QEMU, as a hypervisor that
/// does not run it.
fn pause(qmp: &mut Qmp, process: u32) -> Result<()> {
    qmp.execute("stop", json!({}))?;
    sleep(STOPPED);
    qmp.execute("cont", json!({}))?;
    sleep(SETTLE);
    let signal = |name: &str| run::output(&mut run::command("kill", [name, &process.to_string()]));
    signal("-STOP")?;
    sleep(FROZEN);
    signal("-CONT")?;
    Ok(())
}

/// Puts a program into /bin of an initial RAM disk: the kernel unpacks archives that follow one another.
fn add_program(program: &Path, initrd: &Path) -> Result<()> {
    let stage = initrd.with_file_name("more");
    run::make_dir(&stage.join("bin"))?;
    let name = program.file_name().context("a program without a name")?;
    run::copy(program, &stage.join("bin").join(name)).context("`cargo xtask lab capture` puts it there")?;
    let script = "find . | cpio -o -H newc 2>/dev/null | gzip -1 >>\"$1\"";
    run::output(run::command("sh", ["-c", script, "sh"]).arg(initrd).current_dir(&stage))?;
    std::fs::remove_dir_all(&stage)?;
    Ok(())
}

/// QEMU keeps its dumps to their owner.
fn make_readable(path: &Path) -> Result<()> {
    run::output(run::command("chmod", ["644"]).arg(path))?;
    Ok(())
}
