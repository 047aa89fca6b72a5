//! The beginning and the end: no root, no init, suspend and resume. And filesystems that found themselves damaged.

use kdive_evidence::{Splat, SplatKind};

use super::Detector;
use super::support::{
    Draft, HINT, LIKELY, POSSIBLE, PROVEN, events, hex_after, line, says, triggered, word_after,
};
use crate::case::{Case, EventKind, TriggerKind};
use crate::class::Class;
use crate::finding::Finding;

pub(super) const INIT: Detector = Detector {
    name: "init-died",
    claim: "Process 1 ended, and the kernel cannot go on without it.",
    run: init,
};

pub(super) const BOOT: Detector = Detector { name: "boot", claim: "The machine could not start.", run: boot };

pub(super) const POWER: Detector =
    Detector { name: "power", claim: "Suspend, resume or hibernation failed.", run: power };

pub(super) const FILESYSTEM: Detector =
    Detector { name: "filesystem", claim: "A filesystem found itself damaged.", run: filesystem };

pub(super) const BUSY: Detector = Detector {
    name: "busy-filesystem",
    claim: "A filesystem was unmounted while something of it was in use.",
    run: busy,
};

fn find<'c>(case: &'c Case<'_>, needles: &[&str]) -> Option<(usize, &'c Splat, &'c str)> {
    case.splats.iter().enumerate().find_map(|(index, splat)| {
        Some((index, splat, needles.iter().find_map(|needle| line(splat, needle))?))
    })
}

fn init(case: &Case<'_>, out: &mut Vec<Finding>) {
    let found = find(case, &["Attempted to kill init", "Attempted to kill the init"]);
    if found.is_none() && !triggered(case, TriggerKind::InitKilled) {
        return;
    }
    let told = found
        .map(|(.., text)| text.to_owned())
        .or_else(|| case.trigger.as_ref().map(|trigger| trigger.text.clone()))
        .unwrap_or_default();
    let how = hex_after(&told, "exitcode=").map(exit);
    // An oops in init's own system call is the cause.
    let oops = case.splats.iter().any(|splat| splat.number.is_some());
    let mut draft = Draft::new(INIT.name, Class::InitDied, if oops { POSSIBLE } else { PROVEN })
        .task(Some("init (PID 1)"))
        .title("kernel panic: Attempted to kill init")
        .claim(match &how {
            Some(how) => format!("init died ({how}), and the kernel cannot go on without it."),
            None => "init died, and the kernel cannot go on without it.".to_owned(),
        })
        .says(&told)
        .against_if(oops, "An oops came before it: that killed init.");
    if let Some((index, ..)) = found {
        draft = draft.splat(index);
    }
    let advice = match hex_after(&told, "exitcode=").map(|code| code & 0x7f) {
        Some(7 | 11 | 4) => {
            "init itself crashed: look at its binary, its libraries and the disk that they lie on."
        }
        Some(9) => "Somebody killed init: a process, or the OOM killer.",
        Some(0) => "init ended by itself: look at its last messages, and at the init= and root= options.",
        _ => "Look at init's last messages, and at the disk that it lies on.",
    };
    draft.advice(advice).push(out);
}

/// An exit code as `wait()` gives it: signal in the low 7 bits, else the status above them.
fn exit(code: u64) -> String {
    match code & 0x7f {
        0 => format!("it exited with status {}", code >> 8 & 0xff),
        4 => "signal 4, SIGILL".to_owned(),
        6 => "signal 6, SIGABRT".to_owned(),
        7 => "signal 7, SIGBUS: a page of it could not be read".to_owned(),
        9 => "signal 9, SIGKILL".to_owned(),
        11 => "signal 11, SIGSEGV".to_owned(),
        signal => format!("signal {signal}"),
    }
}

fn boot(case: &Case<'_>, out: &mut Vec<Finding>) {
    const NEEDLES: &[&str] =
        &["Unable to mount root", "No working init found", "No init found", "Requested init"];
    let splat = find(case, NEEDLES);
    let told = splat
        .map(|(.., text)| text.to_owned())
        .or_else(|| events(case, EventKind::Boot).next().map(|event| event.text.clone()));
    let Some(told) = told else { return };
    let root = told.contains("mount root");
    let mut draft = Draft::new(BOOT.name, Class::BootFailure, PROVEN)
        .title(if root { "VFS: Unable to mount root fs" } else { "No working init found" })
        .claim(if root { "The root filesystem could not be mounted." } else { "No init could be started." })
        .says(&told)
        .seen_if(
            told.contains("unknown-block(0,0)"),
            "The block device itself is unknown: its driver is not there, or root= names nothing.",
        );
    if let Some((index, ..)) = splat {
        draft = draft.splat(index);
    }
    if let Some(line) = &case.system.command_line {
        draft = draft.seen(format!("The command line: {}", super::support::shorten(line)));
    }
    draft.advice("Look whether the initramfs of this kernel exists and holds the driver of the disk and of the filesystem; rebuild it.").push(out);
}

fn power(case: &Case<'_>, out: &mut Vec<Finding>) {
    let panicked = find(case, &["DPM device timeout", "unrecoverable failure"]);
    if let Some((index, _, text)) = panicked {
        Draft::new(POWER.name, Class::PowerManagement, PROVEN - 2)
            .splat(index)
            .title("DPM device timeout")
            .claim("A driver did not end its suspend or resume callback.")
            .says(text)
            .advice("The log names the device just before: look at its driver.")
            .push(out);
    } else if let Some(event) = events(case, EventKind::PowerManagement).next() {
        let alone = case.splats.is_empty() && case.trigger.is_none();
        Draft::new(POWER.name, Class::PowerManagement, if alone { LIKELY } else { HINT })
            .title("PM: suspend failed")
            .claim("The machine did not suspend or resume.")
            .says(&event.text)
            .push(out);
    }
}

fn filesystem(case: &Case<'_>, out: &mut Vec<Finding>) {
    let forced = case.splats.iter().enumerate().find(|(_, splat)| {
        splat.kind == SplatKind::Panic
            && (says(splat, "panic forced after error") || says(splat, "panic from previous error"))
    });
    let event = events(case, EventKind::FilesystemError).next();
    let Some(text) =
        forced.map(|(_, splat)| splat.message.clone()).or_else(|| event.map(|event| event.text.clone()))
    else {
        return;
    };
    let alone = case.splats.is_empty() && case.trigger.is_none();
    let storage = events(case, EventKind::BlockError).next();
    let mut draft = Draft::new(
        FILESYSTEM.name,
        Class::FilesystemDamage,
        if forced.is_some() {
            PROVEN
        } else if alone {
            LIKELY
        } else {
            HINT + 4
        },
    )
    .title("filesystem error")
    .claim("A filesystem found itself damaged.")
    .says(event.map_or(text.as_str(), |event| event.text.as_str()))
    .seen_if(forced.is_some(), "It is mounted with errors=panic.");
    if let Some((index, _)) = forced {
        draft = draft.splat(index);
    }
    if let Some(event) = storage {
        draft = draft
            .says(&event.text)
            .seen("The device below reported errors: the filesystem may be the victim.");
    }
    draft.advice("Check the filesystem offline (fsck), and the device below it.").push(out);
}

fn busy(case: &Case<'_>, out: &mut Vec<Finding>) {
    let is_one = |text: &str| text.contains("Busy inodes after unmount") || text.contains("Dentry ");
    let Some(event) = events(case, EventKind::BusyInodes).find(|event| is_one(&event.text)) else { return };
    // The kernel may end at once by a check of its own (`BUG_ON_DATA_CORRUPTION`, `BUG: Dentry ... still in use`).
    let index = case.splats.iter().position(|splat| {
        splat
            .source
            .as_ref()
            .is_some_and(|at| at.file.ends_with("fs/super.c") || at.file.ends_with("fs/dcache.c"))
    });
    let dentry = event.text.contains("Dentry ");
    let mut draft = Draft::new(BUSY.name, Class::ReferenceLeak, if index.is_some() { PROVEN - 2 } else { LIKELY - 6 })
        .object(word_after(&event.text, if dentry { "[unmount of" } else { "unmount of" }))
        .title(if dentry { "BUG: Dentry still in use" } else { "VFS: Busy inodes after unmount" })
        .claim(if dentry {
            "A filesystem was unmounted while a directory entry of it was in use: somebody keeps a reference."
        } else {
            "A filesystem was unmounted while inodes of it were in use: who gives them back later uses freed memory."
        })
        .says(&event.text)
        .against_if(index.is_none(), "The kernel goes on; what crashes later in this filesystem's code is the consequence.")
        .advice("Look who keeps files or directories of that filesystem open without a mount (kdive: mount, files): an error path that does not give back.");
    if let Some(index) = index {
        draft = draft.splat(index);
    }
    draft.push(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_decoded() {
        assert_eq!(exit(0x0b), "signal 11, SIGSEGV");
        assert_eq!(exit(0x0000_0100), "it exited with status 1");
        assert_eq!(exit(0x7f), "signal 127");
    }
}
