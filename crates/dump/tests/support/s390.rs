//! Stand-alone dumps of s390.

use kdive_base::Endian;

use super::{Layout, PAGE};

/// Memory from address 0 on.
pub fn build(memory: &[u8]) -> Vec<u8> {
    let mut file = Layout::new(Endian::Big);
    file.int(0, 8, 0xa819_0173_618f_23fd).int(8, 4, 5).int(12, 4, 4096).int(16, 4, 4).int(20, 4, PAGE as u64);
    file.int(24, 8, memory.len() as u64).int(40, 8, memory.len() as u64);
    file.int(48, 4, (memory.len() / PAGE) as u64).int(56, 8, 0xe100_0000_0000_0000);
    // 64 bits, built on 64 bits, the memory that the machine has, one processor.
    file.int(72, 4, 2).int(80, 4, 2).int(84, 8, memory.len() as u64).int(93, 2, 1).int(95, 2, 1);
    file.put(4096, memory);
    let end = file.bytes.len();
    file.put(end, b"DUMP_END").int(end + 8, 8, 0xe100_0000_0000_1000);
    file.bytes
}
