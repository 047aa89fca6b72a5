//! Resource limits (`signal_struct.rlim`, include/uapi/asm-generic/resource.h).

use kdive_base::{Endian, VirtAddr};
use kdive_target::{Bytes, Field, Kernel, Load};
use serde::Serialize;

/// The limits of x86 and the generic ABI, by number.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

#[derive(Load)]
#[load(type = "signal_struct")]
struct Fields {
    /// `struct rlimit[]`: the soft and the hard limit, two words each.
    rlim: Field<Bytes>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name without `RLIMIT_`.
    pub name: &'static str,
    /// What holds now; `None` is no limit.
    pub current: Option<u64>,
    /// What it can be raised to; `None` is no limit.
    pub maximum: Option<u64>,
}

/// The limits of a thread group, by its `signal_struct`.
pub fn limits(kernel: &Kernel, signal: VirtAddr) -> Field<Vec<Limit>> {
    let Bytes(raw) = kernel.load::<Fields>(signal).rlim?;
    Ok(parse(&raw))
}

fn parse(raw: &[u8]) -> Vec<Limit> {
    let value = |pair: &[u8], at| Endian::Little.u64(pair, at).filter(|&value| value != u64::MAX);
    let limits = NAMES.into_iter().zip(raw.chunks_exact(16));
    limits.map(|(name, pair)| Limit { name, current: value(pair, 0), maximum: value(pair, 8) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ones_is_no_limit() {
        let mut raw = 5_u64.to_le_bytes().to_vec();
        raw.extend([0xff; 8]);
        assert_eq!(parse(&raw), [Limit { name: "CPU", current: Some(5), maximum: None }]);
    }
}
