//! Messages that were logged where the log could not be taken, and not flushed before the kernel died: the per-CPU
//! buffers of kernel/printk/printk_safe.c (4.10 to 5.14).

use kdive_base::VirtAddr;
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};
use serde::Serialize;

use super::text::log_text;

/// The two variables, in the order in which crash shows them.
const BUFFERS: [&str; 2] = ["nmi_print_seq", "safe_print_seq"];

#[derive(Load)]
#[load(type = "printk_safe_seq_buf")]
struct Fields {
    len: Field<i32>,
    message_lost: Field<i32>,
    buffer: Field<MemberAddress>,
}

/// The buffer of one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SafeBuffer {
    /// The per-CPU variable (`nmi_print_seq`).
    pub name: &'static str,
    /// The CPU.
    pub cpu: u32,
    /// Address of its copy.
    pub address: VirtAddr,
    /// Bytes used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Messages that did not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u32>,
    /// The text, line by line.
    pub lines: Vec<String>,
}

/// The buffers of all CPUs.
pub fn buffers(kernel: &Kernel) -> Field<Vec<SafeBuffer>> {
    let gone = |_| Lacks::unavailable("this kernel has no printk safe buffers: Linux 4.10 to 5.14 had them");
    let cpus = kernel.cpus()?;
    kernel.any_symbol(&BUFFERS).map_err(gone)?;
    let loader = kernel.loader::<Fields>();
    let room = kernel.member("printk_safe_seq_buf", &["buffer"]).map_or(0, |member| member.bytes);
    let mut found = Vec::new();
    for name in BUFFERS {
        for cpu in cpus.possible.iter() {
            let Ok(address) = kernel.per_cpu(name, cpu) else { continue };
            let fields = loader.load(address);
            let length = fields.len.ok().map(|length| u64::from(length.cast_unsigned()).min(room));
            let mut text = vec![0; length.unwrap_or(0) as usize];
            if let Ok(MemberAddress(at)) = fields.buffer {
                let (count, _) = kernel.memory().read(at, &mut text);
                text.truncate(count);
            }
            found.push(SafeBuffer {
                name,
                cpu,
                address,
                length: length.map(|length| length as u32),
                lost: fields.message_lost.ok().map(i32::cast_unsigned),
                lines: lines(&text),
            });
        }
    }
    Ok(found)
}

/// Each message begins with SOH and the level's digit (include/linux/kern_levels.h), which are not text.
fn lines(text: &[u8]) -> Vec<String> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| match line {
            [1, _, rest @ ..] => log_text(rest),
            other => log_text(other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_marks_are_not_text() {
        assert_eq!(lines(b"\x016Uhhuh.\n\x01cDo you\nplain\n"), ["Uhhuh.", "Do you", "plain"]);
    }
}
