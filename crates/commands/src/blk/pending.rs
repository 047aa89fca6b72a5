//! I/O that is not done.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{Bio, Disk, How, Io, Issuers, Mapped, Owner, Queue, Requests, Stands};
use kdive_linux::tasks::TaskLoader;
use kdive_target::Kernel;
use serde::Serialize;

use super::name_of;
use super::queues::Trouble;
use crate::args::Args;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;
use crate::render::{Age, Known, TaskLine, UNKNOWN};
use crate::sink::{Render, Sink, SinkExt};

/// I/O that is not done.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// The disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// The `struct request`; none for I/O that waits as a bio.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<VirtAddr>,
    /// The `struct bio` that waits where there are no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    bio: Option<VirtAddr>,
    /// Where it stands.
    stands: Stands,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// `SYNC`, `META`, `FUA`...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<String>,
    /// In units of 512 bytes, of the whole disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    sector: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u32>,
    /// Nanoseconds since it was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<u64>,
    /// Nanoseconds since the task that waits for it last ran, which is its age where nobody noted that.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ns: Option<u64>,
    /// Nanoseconds since the driver was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_ns: Option<u64>,
    /// Nanoseconds until the driver is told that it timed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    times_out_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<u32>,
    /// Who issued it or waits for it, the surest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<OwnerRow>,
    /// The bios of a request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bios: Vec<BioRow>,
}

/// A task that issued I/O or waits for it.
#[derive(Debug, Serialize)]
struct OwnerRow {
    #[serde(flatten)]
    task: TaskLine,
    /// How that is known.
    how: How,
}

/// A bio of a request.
#[derive(Debug, Serialize)]
struct BioRow {
    bio: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sector: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u32>,
    /// The function that is called when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_io: Option<String>,
    /// What that is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<VirtAddr>,
}

const TITLES: &str =
    "DISK     REQUEST          OPERATION      SECTOR    SIZE    AGE  STANDS        PID  COMMAND\n";

/// How much is shown.
#[derive(Clone, Copy)]
pub(super) struct View {
    all: bool,
}

impl Render for Row {
    type View = View;

    fn render(&self, view: &View, out: &mut dyn fmt::Write) -> fmt::Result {
        let disk = self.disk.as_deref().unwrap_or(UNKNOWN);
        let at = self.request.or(self.bio).map_or(format!("{UNKNOWN:^16}"), |at| at.to_string());
        write!(out, "{disk:<8} {at} {:<9}", self.operation.as_deref().unwrap_or(UNKNOWN))?;
        let size = self.bytes.map(bytes);
        write!(out, "{:>12}{:>8}", Known(self.sector), Known(size.as_deref()))?;
        let age = self.age_ns.or(self.waited_ns).map(|age| Age(age).to_string());
        write!(out, "{:>7}  {:<9}", Known(age.as_deref()), self.stands.name())?;
        if let Some(first) = self.tasks.first() {
            write!(out, " {:>6}  {}", Known(first.task.pid), Known(first.task.command.as_deref()))?;
            match self.tasks.len().saturating_sub(1) {
                0 => {}
                more if !view.all => write!(out, " and {more} more")?,
                _ => {}
            }
        }
        writeln!(out)?;
        if view.all { self.details(out) } else { Ok(()) }
    }
}

impl Row {
    fn details(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.hardware_queue.map(|number| format!("hardware queue {number}")));
        parts.extend(self.tag.map(|tag| format!("tag {tag}")));
        parts.extend(self.issued_ns.map(|age| format!("with the driver for {}", Age(age))));
        parts.extend(self.times_out_ns.map(|left| match u64::try_from(left) {
            Ok(left) => format!("times out in {}", Age(left)),
            Err(_) => format!("timed out {} ago", Age(left.unsigned_abs())),
        }));
        if !self.flags.is_empty() {
            parts.push(self.flags.join(" "));
        }
        if !parts.is_empty() {
            writeln!(out, "         {}", parts.join(", "))?;
        }
        for bio in &self.bios {
            let end = bio.end_io.as_deref().unwrap_or(UNKNOWN);
            writeln!(out, "         bio {}  {end}  {}", bio.bio, Known(bio.private))?;
        }
        for owner in &self.tasks {
            writeln!(out, "         {}  ({})", owner.task, how(owner.how))?;
        }
        Ok(())
    }
}

/// How it is known whose I/O is, in words.
fn how(how: How) -> &'static str {
    match how {
        How::Waiter => "woken when it is done",
        How::OnStack => "its structure is on the stack",
        How::Aio => "its asynchronous context",
        How::IoUring => "its io_uring",
        How::Refers => "blocked, with it on the stack",
    }
}

/// Bytes as short as a column is wide.
fn bytes(bytes: u32) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{} MB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => format!("{} KB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// What was found, in a sentence.
#[derive(Debug, Serialize)]
struct Summary {
    /// I/O that is not done.
    pending: usize,
    /// Disks that it is on.
    disks: usize,
    /// Nanoseconds of the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ns: Option<u64>,
    /// Disks that something holds back.
    held: usize,
}

impl Render for Summary {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        match (self.pending, self.held) {
            (0, 0) => return writeln!(out, "No I/O is under way, and nothing holds any disk."),
            (0, held) => writeln!(out, "No I/O is under way; {held} {} held:", disks_are(held))?,
            (pending, _) => {
                let count = if pending == 1 { "1 piece".into() } else { format!("{pending} pieces") };
                let verb = if pending == 1 { "is" } else { "are" };
                let disks = if self.disks == 1 { "1 disk".into() } else { format!("{} disks", self.disks) };
                write!(out, "{count} of I/O {verb} not done, on {disks}")?;
                match self.oldest_ns {
                    Some(oldest) => writeln!(out, "; the oldest began {} ago.", Age(oldest))?,
                    None => writeln!(out, ".")?,
                }
            }
        }
        writeln!(out)
    }
}

fn disks_are(count: usize) -> &'static str {
    if count == 1 { "disk is" } else { "disks are" }
}

/// I/O of a disk, before it is shown.
struct Found {
    disk: Option<String>,
    io: Io,
}

impl Found {
    fn age_ns(&self) -> Option<u64> {
        self.io.age_ns.or(self.io.waited_ns)
    }
}

/// Shows I/O that is not done, the oldest first, then what holds disks back.
pub(super) fn show(cx: &mut Cx, args: &Args, disks: &[Disk], out: &mut dyn Sink) -> Result<(), CommandError> {
    let older = match args.value("--older") {
        None => None,
        Some(word) => Some(operand::seconds("blk", "--older", word)?),
    };
    let kernel = cx.kernel.clone();
    let requests = Requests::new(&kernel);
    let (mut found, mut troubles) = (Vec::new(), Vec::new());
    for disk in disks {
        cx.cancel.check()?;
        let name = name_of(cx, disk);
        add_requests(cx, &requests, disk, name.as_ref(), &mut found);
        add_bios(cx, &requests, disk, name.as_ref(), &mut found);
        if older.is_none() {
            troubles.extend(Trouble::of(cx, disk, name));
        }
    }
    if !found.is_empty() {
        let issuers = Issuers::new(&kernel);
        for found in &mut found {
            cx.cancel.check()?;
            found.io.find_owners(&kernel, &issuers);
        }
    }
    found.retain(|found| older.is_none_or(|limit| found.age_ns().is_some_and(|age| age > limit)));
    found.sort_by_key(|found| std::cmp::Reverse(found.age_ns()));
    out.header(&summary(&found, &troubles), &())?;
    if !found.is_empty() {
        out.heading(TITLES)?;
        for found in found {
            let row = row(cx, found);
            out.row(&row, &View { all: args.has("-a") })?;
        }
    }
    if !troubles.is_empty() {
        out.heading("\n")?;
    }
    for trouble in &troubles {
        out.row(trouble, &())?;
    }
    Ok(())
}

fn summary(found: &[Found], troubles: &[Trouble]) -> Summary {
    let mut disks: Vec<_> = found.iter().map(|found| &found.disk).collect();
    disks.sort_unstable();
    disks.dedup();
    Summary {
        pending: found.len(),
        disks: disks.len(),
        oldest_ns: found.iter().filter_map(Found::age_ns).max(),
        held: troubles.len(),
    }
}

fn add_requests(
    cx: &mut Cx,
    requests: &Requests<'_>,
    disk: &Disk,
    name: Option<&String>,
    found: &mut Vec<Found>,
) {
    let place = || format!("gendisk {:#}", disk.at);
    let Some(at) = cx.known(disk.queue.clone(), "queues of disks", place) else { return };
    let queue: Queue = cx.kernel.load(at);
    if queue.has_no_requests() {
        return;
    }
    let pending = requests.of_queue(&queue);
    for lacks in &pending.lacking {
        cx.lacks(lacks, "requests", place);
    }
    found.extend(pending.all.into_iter().map(|io| Found { disk: name.cloned(), io }));
}

/// Bios that wait in a device of the device mapper.
fn add_bios(
    cx: &mut Cx,
    requests: &Requests<'_>,
    disk: &Disk,
    name: Option<&String>,
    found: &mut Vec<Found>,
) {
    let kernel = cx.kernel.clone();
    let Some(mapped) = Mapped::of(&kernel, disk) else { return };
    let place = || format!("mapped_device {:#}", mapped.at);
    let mut waiting: Vec<Bio> =
        cx.known(mapped.deferred(&kernel), "deferred bios", place).unwrap_or_default();
    let targets = cx.known(mapped.targets(&kernel), "targets", place).unwrap_or_default();
    for multipath in targets.iter().filter_map(|target| target.multipath(&kernel)) {
        waiting.extend(cx.known(multipath.queued(&kernel), "queued bios", place).unwrap_or_default());
    }
    let of_bio = |bio| Found { disk: name.cloned(), io: requests.of_bio(bio, Stands::Deferred) };
    found.extend(waiting.into_iter().map(of_bio));
}

fn row(cx: &mut Cx, found: Found) -> Row {
    let Found { disk, io } = found;
    let kernel = cx.kernel.clone();
    let place = || format!("{} {:#}", if io.is_request { "request" } else { "bio" }, io.at);
    let operation = cx.known(io.operation.clone(), "OPERATION", place);
    let tasks = io.owners.iter().map(|owner| owner_row(cx, &kernel, *owner)).collect();
    let bios =
        if io.is_request { io.bios.iter().map(|bio| bio_row(&kernel, bio)).collect() } else { Vec::new() };
    Row {
        disk,
        request: io.is_request.then_some(io.at),
        bio: (!io.is_request).then_some(io.at),
        stands: io.stands,
        flags: operation.as_ref().map(|operation| operation.flags.clone()).unwrap_or_default(),
        operation: operation.map(|operation| operation.name),
        // A flush has no place on the disk.
        sector: cx.known(io.sector.clone(), "SECTOR", place).filter(|sector| *sector != u64::MAX),
        bytes: cx.known(io.bytes.clone(), "SIZE", place),
        age_ns: io.age_ns,
        waited_ns: io.waited_ns,
        issued_ns: io.issued_ns,
        times_out_ns: io.times_out_ns,
        hardware_queue: io.hardware_queue,
        tag: io.tag,
        tasks,
        bios,
    }
}

fn owner_row(cx: &mut Cx, kernel: &Kernel, owner: Owner) -> OwnerRow {
    let task = TaskLoader::new(kernel).load(owner.task);
    OwnerRow { task: TaskLine::new(cx, &task), how: owner.how }
}

fn bio_row(kernel: &Kernel, bio: &Bio) -> BioRow {
    BioRow {
        bio: bio.at,
        sector: bio.sector.clone().ok(),
        bytes: bio.bytes.clone().ok(),
        end_io: bio.end_io_name(kernel),
        private: bio.private.clone().ok().filter(|at| !at.is_null()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let task = TaskLine {
            pid: Some(251),
            task: VirtAddr(0xff47_b5fb_08bb_a100),
            cpu: Some(1),
            command: Some("dd".into()),
        };
        Row {
            disk: Some("vdd".into()),
            request: Some(VirtAddr(0xff47_b5fb_08bb_0000)),
            bio: None,
            stands: Stands::Driver,
            operation: Some("read".into()),
            flags: vec!["SYNC".into()],
            sector: Some(2048),
            bytes: Some(4096),
            age_ns: Some(4_200_000_000),
            waited_ns: None,
            issued_ns: Some(4_100_000_000),
            times_out_ns: Some(-2_000_000_000),
            hardware_queue: Some(0),
            tag: Some(7),
            tasks: vec![OwnerRow { task, how: How::OnStack }],
            bios: Vec::new(),
        }
    }

    #[test]
    fn a_line_stands_under_its_titles() {
        let mut text = TITLES.to_owned();
        row().render(&View { all: false }, &mut text).unwrap();
        assert_eq!(
            text,
            "\
DISK     REQUEST          OPERATION      SECTOR    SIZE    AGE  STANDS        PID  COMMAND
vdd      ff47b5fb08bb0000 read             2048    4 KB  4.2 s  driver       251  dd
"
        );
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let bare = Row { age_ns: None, sector: None, tasks: Vec::new(), request: None, ..row() };
        let mut text = String::new();
        bare.render(&View { all: false }, &mut text).unwrap();
        assert!(text.contains(" ? ") && !text.contains("251"), "{text}");
    }

    #[test]
    fn details_say_when_it_timed_out() {
        let mut text = String::new();
        row().details(&mut text).unwrap();
        assert!(text.contains("tag 7, with the driver for 4.1 s, timed out 2.0 s ago, SYNC"), "{text}");
    }

    #[test]
    fn the_sentence_fits_the_number() {
        let say = |pending, disks, held| {
            let mut text = String::new();
            let summary = Summary { pending, disks, oldest_ns: Some(4_200_000_000), held };
            summary.render(&(), &mut text).unwrap();
            text
        };
        assert_eq!(say(0, 0, 0), "No I/O is under way, and nothing holds any disk.\n");
        assert!(
            say(1, 1, 0).starts_with("1 piece of I/O is not done, on 1 disk; the oldest began 4.2 s ago.")
        );
        assert!(say(3, 2, 1).starts_with("3 pieces of I/O are not done, on 2 disks"));
        assert!(say(0, 0, 2).starts_with("No I/O is under way; 2 disks are held"));
    }
}
