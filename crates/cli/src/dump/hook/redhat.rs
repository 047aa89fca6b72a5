//! kdump.conf and dracut: Red Hat Enterprise Linux, Fedora and their relatives.
//!
//! kdump.conf(5): `core_collector` is the command that copies the vmcore, its input and output are put behind it; a command
//! other than makedumpfile has to be named, with its full path, in `extra_bins` too, which brings it into the initramfs.

use super::edit::Edit;
use super::{PROGRAM, Wishes};

const SETTINGS: &str = "etc/kdump.conf";

pub(super) const NEXT: &[&str] = &["kdumpctl rebuild && kdumpctl restart", "kdumpctl status"];

pub(super) fn edits(wishes: &Wishes) -> Vec<Edit> {
    let flags = format!("makedumpfile {} -d {}", wishes.compression, wishes.level);
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let lines = vec![
        "# A target of ssh or raw takes a stream: put -F behind makedumpfile there.".into(),
        format!("core_collector /{PROGRAM} {}", flags.join(" ")),
        format!("extra_bins /{PROGRAM}"),
    ];
    vec![Edit::Block {
        path: SETTINGS,
        lines,
        replaced: |line| line.split_whitespace().next() == Some("core_collector"),
    }]
}
