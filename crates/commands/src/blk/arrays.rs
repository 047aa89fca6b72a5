//! Arrays of disks (md).

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::block::{self, Array, Disk, Member};
use serde::Serialize;

use super::name_of;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::render::Known;
use crate::sink::{Render, Sink, SinkExt};

/// An array.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    /// Its `struct mddev`.
    mddev: VirtAddr,
    /// `raid1`...; none where it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    personality: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raid_disks: Option<u32>,
    /// Places that are empty or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syncing: Option<bool>,
    /// Sectors that the sync has come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    synced_sectors: Option<u64>,
    /// Sectors that it has to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_sectors: Option<u64>,
    /// Writes wait until all members know of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for_superblock: Option<bool>,
    members: Vec<MemberRow>,
}

/// A disk of an array.
#[derive(Debug, Serialize)]
struct MemberRow {
    member: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Its place, below zero for a spare.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    faulty: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_sync: Option<bool>,
    /// Requests that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<i32>,
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let personality = self.personality.as_deref().unwrap_or("not running");
        write!(out, "{}  {}  {personality}", Known(self.disk.as_deref()), self.mddev)?;
        write!(out, ", {} disks", Known(self.raid_disks))?;
        if self.degraded.is_some_and(|count| count > 0) {
            write!(out, ", DEGRADED by {}", Known(self.degraded))?;
        }
        let words = [
            (self.read_only, "read only"),
            (self.suspended, "SUSPENDED"),
            (self.waits_for_superblock, "writes wait for the superblocks"),
        ];
        for (_, word) in words.iter().filter(|(is, _)| *is == Some(true)) {
            write!(out, ", {word}")?;
        }
        if self.syncing == Some(true) {
            write!(out, ", syncs: {} of {} sectors", Known(self.synced_sectors), Known(self.sync_sectors))?;
        }
        writeln!(out)?;
        for member in &self.members {
            let state = match (member.faulty, member.in_sync) {
                (Some(true), _) => "FAULTY",
                (_, Some(true)) => "in sync",
                _ => "not in sync",
            };
            let place =
                member.place.filter(|place| *place >= 0).map_or("-".into(), |place| place.to_string());
            write!(out, "  {place:>3} {:<10} {}  {state}", Known(member.device.as_deref()), member.member)?;
            writeln!(out, ", {} requests", Known(member.pending))?;
        }
        Ok(())
    }
}

/// Shows arrays.
pub(super) fn show(cx: &mut Cx, disks: &[Disk], out: &mut dyn Sink) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let mut any = false;
    for disk in disks {
        cx.cancel.check()?;
        let Some(array) = Array::of(&kernel, disk) else { continue };
        any = true;
        let name = name_of(cx, disk);
        let row = row(cx, name, &array);
        out.row(&row, &())?;
    }
    if !any {
        out.heading("No disk is an array (md).\n")?;
    }
    Ok(())
}

fn row(cx: &mut Cx, disk: Option<String>, array: &Array) -> Row {
    let kernel = cx.kernel.clone();
    let place = || format!("mddev {:#}", array.at);
    let members = cx.known(array.members(&kernel), "members", place).unwrap_or_default();
    let syncing = cx.known(array.is_syncing(&kernel), "sync", place);
    Row {
        disk,
        mddev: array.at,
        personality: cx.known(array.personality(&kernel), "level", place).flatten(),
        raid_disks: cx.known(array.raid_disks.clone(), "disks", place),
        degraded: cx.known(array.degraded.clone(), "degraded", place),
        read_only: array.ro.clone().ok().map(|ro| ro != 0),
        suspended: array.suspended.clone().ok().map(|count| count > 0),
        syncing,
        synced_sectors: array.curr_resync_completed.clone().ok().filter(|_| syncing == Some(true)),
        sync_sectors: array.resync_max_sectors.clone().ok().filter(|_| syncing == Some(true)),
        waits_for_superblock: array.waits_for_superblock(&kernel).ok(),
        members: members.iter().map(|member| member_row(cx, member)).collect(),
    }
}

fn member_row(cx: &mut Cx, member: &Member) -> MemberRow {
    let kernel = cx.kernel.clone();
    let place = || format!("md_rdev {:#}", member.at);
    let device = member.device.clone().and_then(|at| block::name_of(&kernel, at));
    MemberRow {
        member: member.at,
        device: cx.known(device, "devices", place),
        place: cx.known(member.place.clone(), "places", place),
        faulty: cx.known(member.is_faulty(&kernel), "state of members", place),
        in_sync: cx.known(member.is_in_sync(&kernel), "state of members", place),
        pending: member.pending.clone().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_array_names_the_member_that_failed() {
        let member = |place, faulty| MemberRow {
            member: VirtAddr(0x10),
            device: Some(format!("loop{place}")),
            place: Some(place),
            faulty: Some(faulty),
            in_sync: Some(!faulty),
            pending: Some(0),
        };
        let row = Row {
            disk: Some("md0".into()),
            mddev: VirtAddr(0x20),
            personality: Some("raid1".into()),
            raid_disks: Some(2),
            degraded: Some(1),
            read_only: Some(false),
            suspended: Some(false),
            syncing: Some(false),
            synced_sectors: None,
            sync_sectors: None,
            waits_for_superblock: Some(false),
            members: vec![member(0, false), member(1, true)],
        };
        let mut text = String::new();
        row.render(&(), &mut text).unwrap();
        assert_eq!(
            text,
            "\
md0  0000000000000020  raid1, 2 disks, DEGRADED by 1
    0 loop0      0000000000000010  in sync, 0 requests
    1 loop1      0000000000000010  FAULTY, 0 requests
"
        );
    }
}
