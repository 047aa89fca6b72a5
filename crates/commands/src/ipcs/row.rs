//! Objects of System V IPC as records.

use std::fmt;

use kdive_base::VirtAddr;
use kdive_linux::ipc::{Facility, MessageQueue, Object, Segment, SemaphoreArray};
use serde::Serialize;

use crate::cx::Cx;
use crate::render::{Hex, Known};
use crate::sink::Render;

/// The columns of a facility.
pub(super) fn title(facility: Facility) -> &'static str {
    match facility {
        Facility::SharedMemory => "SHMID_KERNEL     KEY      SHMID      UID   PERMS BYTES      NATTCH STATUS",
        Facility::Semaphores => "SEM_ARRAY        KEY      SEMID      UID   PERMS NSEMS     ",
        Facility::Messages => "MSG_QUEUE        KEY      MSQID      UID   PERMS USED-BYTES   MESSAGES    ",
    }
}

/// One object.
#[derive(Serialize)]
pub(super) struct Row {
    facility: Facility,
    at: VirtAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// In octal, as it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<String>,
    #[serde(flatten)]
    own: Own,
}

/// What an object of its facility has.
#[derive(Serialize)]
#[serde(untagged)]
enum Own {
    Segment {
        bytes: Option<u64>,
        attached: Option<u64>,
        destroyed: bool,
        locked: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        pages: Option<PagesRow>,
    },
    Semaphores {
        semaphores: Option<u64>,
    },
    Messages {
        used_bytes: Option<u64>,
        messages: Option<u64>,
    },
}

/// Where the pages of a segment are.
#[derive(Serialize)]
struct PagesRow {
    inode: VirtAddr,
    allocated: Option<u64>,
    resident: Option<u64>,
    swapped: Option<u64>,
}

impl Row {
    pub(super) fn new(cx: &mut Cx, facility: Facility, object: &Object, details: bool) -> Self {
        let place = || object.at.to_string();
        let permissions = object.permissions.clone();
        let mode = cx.known(permissions.mode, "PERMS", place);
        Self {
            facility,
            at: object.at,
            key: cx.known(permissions.key, "KEY", place).map(|key| Hex(key.into())),
            id: cx.known(permissions.id, "id of an object", place),
            uid: cx.known(permissions.uid, "UID", place),
            permissions: mode.map(|mode| format!("{:o}", mode & 0o777)),
            own: Own::new(cx, facility, object.at, mode.unwrap_or(0), details),
        }
    }
}

impl Own {
    fn new(cx: &mut Cx, facility: Facility, at: VirtAddr, mode: u32, details: bool) -> Self {
        let kernel = cx.kernel.clone();
        let place = || at.to_string();
        match facility {
            Facility::SharedMemory => {
                let segment: Segment = kernel.load(at);
                let (destroyed, locked) = Segment::status(mode);
                let pages = details.then(|| PagesRow::new(cx, at, &segment)).flatten();
                Self::Segment {
                    bytes: cx.known(segment.bytes, "BYTES", place),
                    attached: cx.known(segment.attached, "NATTCH", place),
                    destroyed,
                    locked,
                    pages,
                }
            }
            Facility::Semaphores => {
                let array: SemaphoreArray = kernel.load(at);
                Self::Semaphores { semaphores: cx.known(array.sem_nsems, "NSEMS", place) }
            }
            Facility::Messages => {
                let queue: MessageQueue = kernel.load(at);
                Self::Messages {
                    used_bytes: cx.known(queue.q_cbytes, "USED-BYTES", place),
                    messages: cx.known(queue.q_qnum, "MESSAGES", place),
                }
            }
        }
    }
}

impl PagesRow {
    fn new(cx: &mut Cx, at: VirtAddr, segment: &Segment) -> Option<Self> {
        let place = || at.to_string();
        let kernel = cx.kernel.clone();
        let pages = cx.known(segment.pages(&kernel), "pages of a segment", place)?;
        Some(Self {
            inode: pages.inode,
            allocated: cx.known(pages.allocated, "ALLOCATED", place),
            resident: cx.known(pages.resident, "RESIDENT", place),
            swapped: cx.known(pages.swapped, "SWAPPED", place),
        })
    }
}

impl Render for Row {
    type View = ();

    fn render(&self, (): &(), out: &mut dyn fmt::Write) -> fmt::Result {
        let key = self.key.map(|Hex(key)| format!("{key:08x}"));
        let (id, uid, permissions) = (Known(self.id), Known(self.uid), Known(self.permissions.as_ref()));
        write!(out, "{} {:<8} {id:<10} {uid:<5} {permissions:<5} ", self.at, Known(key))?;
        match &self.own {
            Own::Segment { bytes, attached, destroyed, locked, pages } => {
                let destroyed = if *destroyed { "dest" } else { "" };
                let locked = if *locked { "locked" } else { "" };
                writeln!(out, "{:<10} {:<6} {destroyed} {locked}", Known(*bytes), Known(*attached))?;
                pages.as_ref().map_or(Ok(()), |pages| pages.render(out))
            }
            Own::Semaphores { semaphores } => writeln!(out, "{:<10}", Known(*semaphores)),
            Own::Messages { used_bytes, messages } => {
                writeln!(out, "{:<12} {:<12}", Known(*used_bytes), Known(*messages))
            }
        }
    }
}

impl PagesRow {
    fn render(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let (allocated, resident) = (Known(self.allocated), Known(self.resident));
        let swapped = Known(self.swapped);
        writeln!(out, "PAGES ALLOCATED/RESIDENT/SWAPPED: {allocated}/{resident}/{swapped}")?;
        writeln!(out, "INODE: {}", self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_segment_have_columns() {
        let text = |destroyed, locked| {
            let own = Own::Segment { bytes: Some(4096), attached: Some(1), destroyed, locked, pages: None };
            let row = Row {
                facility: Facility::SharedMemory,
                at: VirtAddr(0x10),
                key: Some(Hex(0x5404)),
                id: Some(5),
                uid: Some(0),
                permissions: Some("660".to_owned()),
                own,
            };
            let mut text = String::new();
            row.render(&(), &mut text).unwrap();
            text
        };
        let start = "0000000000000010 00005404 5          0     660   4096       1      ";
        assert_eq!(text(false, false), format!("{start} \n"));
        assert_eq!(text(true, false), format!("{start}dest \n"));
        assert_eq!(text(false, true), format!("{start} locked\n"));
    }
}
