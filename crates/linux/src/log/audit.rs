//! Audit records that the daemon never got (kernel/audit.c).

use kdive_base::{Endian, VirtAddr, VirtualMemory};
use kdive_target::{Field, Kernel, Load, walk};
use serde::Serialize;

use super::text::log_text;

/// The queues in the order in which the kernel empties them.
const QUEUES: [&str; 3] = ["audit_hold_queue", "audit_retry_queue", "audit_queue"];
/// `struct nlmsghdr`: length (4), type (2), flags (2), sequence (4), port (4).
const NETLINK_HEADER: usize = 16;
/// `MAX_AUDIT_MESSAGE_LENGTH` is 8970.
const MAX_MESSAGE: u32 = 16 << 10;

#[derive(Load)]
#[load(type = "sk_buff")]
struct SkBuff {
    data: Field<VirtAddr>,
    len: Field<u32>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// The queue it waits in.
    pub queue: &'static str,
    /// Type of the record (`AUDIT_*`).
    #[serde(rename = "type")]
    pub kind: u16,
    /// `audit(time:serial): ...`
    pub text: String,
}

/// The waiting records, queue by queue. An error stands for the rest of a queue.
pub fn records(kernel: &Kernel) -> Field<Vec<Field<AuditRecord>>> {
    kernel.any_symbol(&QUEUES)?;
    let loader = kernel.loader::<SkBuff>();
    let mut found = Vec::new();
    for queue in QUEUES {
        // `struct sk_buff_head` and `struct sk_buff` both begin with the links of the list.
        let Ok(head) = kernel.symbol(queue) else { continue };
        // A queue that was never set up is all zeros: the kernel died before it, or audit is off.
        if kernel.memory().pointer(head).is_ok_and(|next| next.is_null()) {
            continue;
        }
        for link in walk::list(kernel.memory(), head) {
            found.push(
                link.map_err(Into::into).and_then(|at| record(kernel.memory(), &loader.load(at), queue)),
            );
        }
    }
    Ok(found)
}

fn record(memory: &dyn VirtualMemory, buffer: &SkBuff, queue: &'static str) -> Field<AuditRecord> {
    let length = buffer.len.clone()?.min(MAX_MESSAGE);
    let message = memory.bytes(buffer.data.clone()?, length as usize)?;
    let text = message.get(NETLINK_HEADER..).unwrap_or_default();
    Ok(AuditRecord {
        queue,
        kind: Endian::Little.u16(&message, 4).unwrap_or(0),
        text: log_text(kdive_base::bytes::until_nul(text)),
    })
}
