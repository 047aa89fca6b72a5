//! kdump-tools: Debian, Ubuntu.
//!
//! `kdump-config savecore` runs `makedumpfile $MAKEDUMP_ARGS` by name, with or without `-F`, and once more with
//! `--dump-dmesg`. /etc/default/kdump-tools is sourced by it, so the name can be led to kdive there and nowhere else.

use super::edit::{Edit, MARK};
use super::{PROGRAM, Wishes};

const SETTINGS: &str = "etc/default/kdump-tools";
const LINK: &str = "usr/lib/kdive/makedumpfile";
const HOOK: &str = "etc/initramfs-tools/hooks/kdive";
const SCRIPT: &str = "etc/initramfs-tools/scripts/local-bottom/kdive";

pub(super) const NEXT: &[&str] = &[
    "rm -f /var/lib/kdump/initrd.img-$(uname -r)    # made anew by the next line",
    "kdump-config unload; kdump-config symlinks $(uname -r); kdump-config load",
    "kdump-config show",
];

pub(super) fn edits(wishes: &Wishes) -> Vec<Edit> {
    let flags = format!("{} -d {}", wishes.compression, wishes.level);
    let flags = flags.trim();
    let lines = vec!["PATH=/usr/lib/kdive:$PATH".into(), format!("MAKEDUMP_ARGS=\"{flags}\"")];
    vec![
        Edit::Link { path: LINK, to: "kdive-capture" },
        Edit::Block { path: SETTINGS, lines, replaced: |line| line.starts_with("MAKEDUMP_ARGS=") },
        Edit::Script { path: HOOK, text: hook() },
        Edit::Script { path: SCRIPT, text: script(flags) },
    ]
}

/// Brings the program into the initramfs (initramfs-tools(7), "Hook scripts").
fn hook() -> String {
    format!(
        "\
#!/bin/sh
# {MARK}
PREREQ=\"\"
case \"$1\" in prereqs) echo \"$PREREQ\"; exit 0;; esac
. /usr/share/initramfs-tools/hook-functions
copy_exec /{PROGRAM} /bin/kdive-capture
"
    )
}

/// Saves the dump when the root file system is there and nothing of it runs yet (initramfs-tools(7), "Boot scripts").
/// Where that fails, the boot goes on, and kdump-tools tries.
fn script(flags: &str) -> String {
    format!(
        "\
#!/bin/sh
# {MARK}
PREREQ=\"\"
case \"$1\" in prereqs) echo \"$PREREQ\"; exit 0;; esac
[ -e /proc/vmcore ] || exit 0
[ -r \"$rootmnt/{SETTINGS}\" ] && . \"$rootmnt/{SETTINGS}\"
stamp=$(date +%Y%m%d%H%M)
dir=$rootmnt${{KDUMP_COREDIR:-/var/crash}}/$stamp
mount -o remount,rw \"$rootmnt\" && mkdir -p \"$dir\" || exit 0
if kdive-capture makedumpfile ${{MAKEDUMP_ARGS:-{flags}}} /proc/vmcore \"$dir/dump-incomplete\"; then
  mv \"$dir/dump-incomplete\" \"$dir/dump.$stamp\"
  kdive-capture makedumpfile --dump-dmesg /proc/vmcore \"$dir/dmesg.$stamp\"
  sync
  mount -o remount,ro \"$rootmnt\"
  reboot -f
fi
mount -o remount,ro \"$rootmnt\"
exit 0
"
    )
}
