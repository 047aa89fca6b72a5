//! makedumpfile's flags (makedumpfile(8)).

use std::path::PathBuf;

use kdive_dump::write::Compression;
use kdive_filter::{DumpLevel, Levels};

use crate::dump::args::{ZLIB_LEVEL, bytes};

pub(super) const HELP: &str = "\
makedumpfile, played by kdive: makes a small dump of a dump.

  makedumpfile    [OPTION] [-x VMLINUX|-i VMCOREINFO] VMCORE DUMPFILE
  makedumpfile -F [OPTION] [-x VMLINUX|-i VMCOREINFO] VMCORE
  makedumpfile --split [OPTION] VMCORE DUMPFILE1 DUMPFILE2 [DUMPFILE3 ..]
  makedumpfile --reassemble DUMPFILE1 DUMPFILE2 [DUMPFILE3 ..] DUMPFILE
  makedumpfile -R DUMPFILE
  makedumpfile --dump-dmesg VMCORE LOGFILE
  makedumpfile --mem-usage VMCORE

  -c -p -z          compress pages with zlib, snappy, zstd
  -d LEVEL[,LEVEL]  leave out: 1 zeros, 2 non-private cache, 4 cache, 8 user, 16 free; next level if it does not fit
  -L SIZE           limit the size of the file
  -E                write an ELF core
  -F                write a flattened dump to standard output
  -R                make a file of a flattened dump from standard input
  -f                overwrite
  -x -i             a vmlinux, a file with VMCOREINFO
  --num-threads N   threads that compress
  --message-level N 1 progress, 2 messages, 4 errors, 8 debug, 16 report
  --show-stats, --dry-run, --check-params, --vtop ADDRESS, -D, -h, -v
  -b, --cyclic-buffer, --work-dir, --non-mmap, --splitblock-size: taken, and not needed

LZO (-l) is compressed as zlib, which every reader knows. Not there: -e -g -X, --xen-*, --config, --eppic, --extension,
--partial-dmesg. `kdive dump --help` has the rest of what kdive does with dumps.
";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Help,
    Version,
    Check,
    Dump(PathBuf),
    Split(Vec<PathBuf>),
    Reassemble(PathBuf),
    Rearrange(PathBuf),
    Dmesg(PathBuf),
    MemUsage,
    Vtop(u64),
}

/// The command line.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    pub(super) action: Action,
    pub(super) inputs: Vec<PathBuf>,
    pub(super) compression: Compression,
    pub(super) levels: Levels,
    pub(super) elf: bool,
    pub(super) flattened: bool,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) stats: bool,
    pub(super) limit: Option<u64>,
    pub(super) memory: u64,
    pub(super) threads: usize,
    pub(super) message_level: u32,
    pub(super) vmlinux: Option<PathBuf>,
    pub(super) vmcoreinfo: Option<PathBuf>,
}

/// The bit of `--message-level` that `--show-stats` stands for.
const REPORT: u32 = 16;
/// Letters that take a value.
const WITH_VALUE: &str = "bdgiLx";
const WITHOUT_VALUE: &str = "cDeEFfhlpRvXz";
/// Long options, and whether they take a value.
const LONG: &[(&str, bool)] = &[
    ("split", false),
    ("reassemble", false),
    ("dump-dmesg", false),
    ("partial-dmesg", false),
    ("mem-usage", false),
    ("dry-run", false),
    ("show-stats", false),
    ("check-params", false),
    ("non-mmap", false),
    ("help", false),
    ("message-level", true),
    ("num-threads", true),
    ("cyclic-buffer", true),
    ("splitblock-size", true),
    ("work-dir", true),
    ("vtop", true),
    ("diskset", true),
    ("config", true),
    ("eppic", true),
    ("extension", true),
    ("xen-syms", true),
    ("xen-vmcoreinfo", true),
    ("xen_phys_start", true),
];

/// An option with its value, or a file.
enum Word {
    Option(String, String),
    File(PathBuf),
}

/// Takes the words apart as getopt_long(3) does.
fn words(given: Vec<String>) -> Result<Vec<Word>, String> {
    let mut found = Vec::new();
    let mut given = given.into_iter();
    while let Some(word) = given.next() {
        if word == "--" {
            found.extend(given.by_ref().map(|file| Word::File(file.into())));
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let &(_, takes) = LONG
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| format!("unknown option --{name}"))?;
            let value = match (takes, value) {
                (true, None) => given.next().ok_or_else(|| format!("--{name} takes a value"))?,
                (true, Some(value)) => value,
                (false, None) => String::new(),
                (false, Some(_)) => return Err(format!("--{name} takes no value")),
            };
            found.push(Word::Option(format!("--{name}"), value));
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                if WITHOUT_VALUE.contains(letter) {
                    found.push(Word::Option(format!("-{letter}"), String::new()));
                } else if WITH_VALUE.contains(letter) {
                    let joined: String = rest.by_ref().collect();
                    let mut next = || given.next().ok_or_else(|| format!("-{letter} takes a value"));
                    let value = if joined.is_empty() { next()? } else { joined };
                    found.push(Word::Option(format!("-{letter}"), value));
                } else {
                    return Err(format!("unknown option -{letter}"));
                }
            }
        } else {
            found.push(Word::File(word.into()));
        }
    }
    Ok(found)
}

/// The actions that flags name.
#[derive(Default)]
struct Wanted {
    help: bool,
    version: bool,
    check: bool,
    split: bool,
    reassemble: bool,
    rearrange: bool,
    dmesg: bool,
    mem_usage: bool,
    vtop: Option<u64>,
}

impl Flags {
    pub(super) fn parse(given: Vec<String>) -> Result<Self, String> {
        let mut flags = Self {
            action: Action::Help,
            inputs: Vec::new(),
            compression: Compression::None,
            levels: Levels(vec![DumpLevel::default()]),
            elf: false,
            flattened: false,
            force: false,
            dry_run: false,
            stats: false,
            limit: None,
            memory: 32 << 20,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            message_level: 7,
            vmlinux: None,
            vmcoreinfo: None,
        };
        let (mut wanted, mut files) = (Wanted::default(), Vec::new());
        for word in words(given)? {
            match word {
                Word::File(file) => files.push(file),
                Word::Option(name, value) => flags.take(&name, value, &mut wanted)?,
            }
        }
        flags.action = flags.choose(&wanted, files)?;
        Ok(flags)
    }

    fn take(&mut self, name: &str, value: String, wanted: &mut Wanted) -> Result<(), String> {
        let number =
            |value: &str| value.parse::<u32>().map_err(|_| format!("{name}: {value} is not a number"));
        match name {
            "-c" | "-l" => self.compress(Compression::Zlib(ZLIB_LEVEL))?,
            "-p" => self.compress(Compression::Snappy)?,
            "-z" => self.compress(Compression::Zstd(1))?,
            "-d" => self.levels = value.parse().map_err(|error| format!("-d: {error}"))?,
            "-E" => self.elf = true,
            "-F" => self.flattened = true,
            "-R" => wanted.rearrange = true,
            "-f" => self.force = true,
            "-h" | "--help" => wanted.help = true,
            "-v" => wanted.version = true,
            "-x" => self.vmlinux = Some(value.into()),
            "-i" => self.vmcoreinfo = Some(value.into()),
            "-L" => self.limit = Some(bytes(&value).map_err(|error| format!("-L: {error}"))?),
            "--split" => wanted.split = true,
            "--reassemble" => wanted.reassemble = true,
            "--dump-dmesg" => wanted.dmesg = true,
            "--mem-usage" => wanted.mem_usage = true,
            "--dry-run" => self.dry_run = true,
            "--show-stats" => self.stats = true,
            "--check-params" => wanted.check = true,
            "--num-threads" => self.threads = number(&value)?.max(1) as usize,
            "--message-level" => self.message_level = number(&value)?,
            // In KiB: what fits there fits kdive's bitmaps, which need no more than makedumpfile's.
            "--cyclic-buffer" => self.memory = u64::from(number(&value)?).saturating_mul(2048).max(8 << 20),
            "--vtop" => {
                let digits = value.strip_prefix("0x").unwrap_or(&value);
                let address = u64::from_str_radix(digits, 16);
                wanted.vtop = Some(address.map_err(|_| format!("--vtop: {value} is not an address"))?);
            }
            "--diskset" => self.inputs.push(value.into()),
            "-D" | "-b" | "--non-mmap" | "--work-dir" | "--splitblock-size" => {}
            other => return Err(format!("{other} is not supported")),
        }
        Ok(())
    }

    fn compress(&mut self, compression: Compression) -> Result<(), String> {
        if self.compression != Compression::None && self.compression != compression {
            return Err("one of -c, -l, -p and -z".into());
        }
        self.compression = compression;
        Ok(())
    }

    fn choose(&mut self, wanted: &Wanted, mut files: Vec<PathBuf>) -> Result<Action, String> {
        if wanted.help {
            return Ok(Action::Help);
        }
        if wanted.version {
            return Ok(Action::Version);
        }
        if self.elf && self.compression != Compression::None {
            return Err("-E cannot be compressed: without -c, -l, -p and -z".into());
        }
        if self.elf && wanted.split {
            return Err("--split makes kdump-compressed files only: without -E".into());
        }
        if self.message_level > 31 {
            return Err("--message-level is 0 to 31".into());
        }
        if self.dry_run && (wanted.dmesg || wanted.reassemble) {
            return Err("--dry-run goes with neither --dump-dmesg nor --reassemble".into());
        }
        self.stats |= self.message_level & REPORT != 0;
        let last = |files: &mut Vec<PathBuf>| files.pop().ok_or("no file is given");
        let action = if wanted.rearrange {
            Action::Rearrange(last(&mut files)?)
        } else if wanted.mem_usage {
            Action::MemUsage
        } else if let Some(address) = wanted.vtop {
            Action::Vtop(address)
        } else if wanted.reassemble {
            let out = last(&mut files)?;
            if files.len() < 2 {
                return Err("--reassemble takes two files or more, and the one to write".into());
            }
            Action::Reassemble(out)
        } else if wanted.dmesg {
            Action::Dmesg(last(&mut files)?)
        } else if wanted.split {
            let outs = files.split_off(files.len().min(1));
            if outs.len() < 2 {
                return Err("--split takes a VMCORE and two files to write or more".into());
            }
            Action::Split(outs)
        } else if self.flattened {
            Action::Dump("-".into())
        } else {
            Action::Dump(last(&mut files)?)
        };
        let takes_input = !matches!(action, Action::Rearrange(_));
        self.inputs.append(&mut files);
        match (takes_input, self.inputs.len()) {
            (true, 0) => Err("a VMCORE and a file to write are needed".into()),
            (false, 1..) => Err("too many files".into()),
            _ if wanted.check => Ok(Action::Check),
            _ => Ok(action),
        }
    }

    /// Whether messages that are no errors are wanted.
    pub(super) fn tells_progress(&self) -> bool {
        self.message_level & 2 != 0
    }

    /// Whether error messages are wanted.
    pub(super) fn tells_errors(&self) -> bool {
        self.message_level & 4 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, String> {
        Flags::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn kdump_tools_and_kexec_tools_call_it_like_this() {
        let debian = parse("-c -d 31 /proc/vmcore /var/crash/dump").unwrap();
        assert_eq!(debian.action, Action::Dump("/var/crash/dump".into()));
        assert_eq!(debian.inputs, [PathBuf::from("/proc/vmcore")]);
        assert_eq!((debian.compression, debian.levels.0.len()), (Compression::Zlib(ZLIB_LEVEL), 1));
        let fedora = parse("-l --message-level 7 -d 31 /proc/vmcore out").unwrap();
        assert_eq!((fedora.message_level, fedora.threads > 0), (7, true));
        assert!(!fedora.stats && parse("--message-level 23 -d 31 /proc/vmcore out").unwrap().stats);
        let ssh = parse("-F -zd17,31 --num-threads=4 /proc/vmcore").unwrap();
        assert!(ssh.flattened && ssh.threads == 4 && ssh.levels.0.len() == 2);
        assert_eq!(ssh.action, Action::Dump("-".into()));
        let log = parse("--dump-dmesg /proc/vmcore dmesg.txt").unwrap();
        assert_eq!(log.action, Action::Dmesg("dmesg.txt".into()));
    }

    #[test]
    fn actions_take_their_files() {
        let split = parse("--split -c vmcore a b c").unwrap();
        assert_eq!(split.action, Action::Split(["a", "b", "c"].map(PathBuf::from).to_vec()));
        assert_eq!(split.inputs, [PathBuf::from("vmcore")]);
        let join = parse("--reassemble a b c").unwrap();
        assert_eq!((join.action, join.inputs.len()), (Action::Reassemble("c".into()), 2));
        assert_eq!(parse("-R out").unwrap().action, Action::Rearrange("out".into()));
        assert_eq!(parse("--mem-usage vmcore").unwrap().action, Action::MemUsage);
        assert_eq!(
            parse("--vtop 0xffffffff81000000 vmcore").unwrap().action,
            Action::Vtop(0xffff_ffff_8100_0000)
        );
        assert_eq!(parse("--check-params -d 31 a b").unwrap().action, Action::Check);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
        assert_eq!(parse("-x vmlinux vmcore out").unwrap().vmlinux, Some("vmlinux".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "vmcore",
            "-c -E vmcore out",
            "-c -z vmcore out",
            "-d 32 vmcore out",
            "--split vmcore a",
            "--reassemble a b",
            "-R a b",
            "--num-threads",
            "--num-threads x a b",
            "-Q a b",
            "--nonsense a b",
            "--message-level 32 a b",
            "--config rules vmcore out",
            "-E --split vmcore a b",
            "--split=2 a b c",
            "--dry-run --dump-dmesg vmcore log",
            "--dry-run --reassemble a b c",
        ] {
            assert!(parse(line).is_err(), "{line:?} was taken");
        }
    }
}
