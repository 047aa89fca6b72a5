//! What the walkers' tests share.

use kdive_base::{Missing, VirtAddr, VirtualMemory, Why};

use super::Broken;

/// Words at multiples of eight, from address 0 on.
pub(super) struct Words(pub(super) Vec<u64>);

impl VirtualMemory for Words {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        let mut done = 0;
        for byte in into.iter_mut() {
            let here = at.0.saturating_add(done as u64);
            let word = usize::try_from(here / 8).ok().and_then(|index| self.0.get(index));
            let Some(word) = word else {
                return (done, Some(Missing::new(VirtAddr(here), Why::NotMapped { level: 1 })));
            };
            *byte = word.to_le_bytes()[(here % 8) as usize];
            done += 1;
        }
        (done, None)
    }
}

/// [`Broken`] without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    Missing,
    Cycle,
    TooLong,
    Node,
}

pub(super) fn said(broken: Broken) -> Said {
    match broken {
        Broken::Missing(_) => Said::Missing,
        Broken::Cycle(_) => Said::Cycle,
        Broken::TooLong => Said::TooLong,
        Broken::Node(..) => Said::Node,
    }
}
