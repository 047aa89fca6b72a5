//! What a task does: running, sleeping, gone.

use kdive_base::{VirtAddr, VirtualMemory};
use kdive_target::Kernel;
use serde::Serialize;

use super::Task;

/// The state of a task, as crash abbreviates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum State {
    /// Running, or ready to run.
    #[serde(rename = "RU")]
    Running,
    /// Sleeping until a signal or what it waits for comes.
    #[serde(rename = "IN")]
    Interruptible,
    /// Sleeping, deaf to signals (all but fatal ones, where it is killable).
    #[serde(rename = "UN")]
    Uninterruptible,
    /// Exited; its parent has not asked for its status yet.
    #[serde(rename = "ZO")]
    Zombie,
    /// Stopped by a signal.
    #[serde(rename = "ST")]
    Stopped,
    /// Stopped by its tracer.
    #[serde(rename = "TR")]
    Traced,
    /// Exited and on its way out.
    #[serde(rename = "DE")]
    Dead,
    /// Swapped out as a whole (no kernel of this century).
    #[serde(rename = "SW")]
    Swapping,
    /// Being woken.
    #[serde(rename = "WA")]
    Waking,
    /// A parked thread of the kernel.
    #[serde(rename = "PA")]
    Parked,
    /// Uninterruptible without counting as load: an idle thread of the kernel.
    #[serde(rename = "ID")]
    Idle,
    /// Forked, not yet started.
    #[serde(rename = "NE")]
    New,
}

impl State {
    /// All states, in the order in which crash's help names them.
    pub const ALL: [Self; 12] = [
        Self::Running,
        Self::Interruptible,
        Self::Uninterruptible,
        Self::Zombie,
        Self::Stopped,
        Self::Traced,
        Self::Dead,
        Self::Swapping,
        Self::Waking,
        Self::Parked,
        Self::Idle,
        Self::New,
    ];

    /// crash's two letters (`RU`).
    #[must_use]
    pub fn letters(self) -> &'static str {
        match self {
            Self::Running => "RU",
            Self::Interruptible => "IN",
            Self::Uninterruptible => "UN",
            Self::Zombie => "ZO",
            Self::Stopped => "ST",
            Self::Traced => "TR",
            Self::Dead => "DE",
            Self::Swapping => "SW",
            Self::Waking => "WA",
            Self::Parked => "PA",
            Self::Idle => "ID",
            Self::New => "NE",
        }
    }

    /// The state with these letters, in either case.
    #[must_use]
    pub fn from_letters(letters: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.letters().eq_ignore_ascii_case(letters))
    }

    /// The kernel's name of the state (`TASK_RUNNING`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "TASK_RUNNING",
            Self::Interruptible => "TASK_INTERRUPTIBLE",
            Self::Uninterruptible => "TASK_UNINTERRUPTIBLE",
            Self::Zombie => "EXIT_ZOMBIE",
            Self::Stopped => "TASK_STOPPED",
            Self::Traced => "TASK_TRACING_STOPPED",
            Self::Dead => "EXIT_DEAD",
            Self::Swapping => "TASK_SWAPPING",
            Self::Waking => "TASK_WAKING",
            Self::Parked => "TASK_PARKED",
            Self::Idle => "TASK_IDLE",
            Self::New => "TASK_NEW",
        }
    }
}

const INTERRUPTIBLE: u64 = 1;
const UNINTERRUPTIBLE: u64 = 2;
const STOPPED: u64 = 4;
const TRACED: u64 = 8;

/// Which bits of `task_struct.state` mean what in this kernel.
///
/// The bits are macros, which neither BTF nor DWARF records, and they were renumbered in 3.14 and in 4.14. The kernel
/// itself names the low ones, for `/proc/PID/status`: `task_state_array` (fs/proc/array.c) holds the word of each bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBits {
    exit_dead: u64,
    exit_zombie: u64,
    parked: u64,
    dead: u64,
    wakekill: u64,
    waking: u64,
    noload: u64,
    new: u64,
}

impl StateBits {
    /// Linux 4.14 and later.
    const MODERN: Self = Self {
        exit_dead: 0x10,
        exit_zombie: 0x20,
        parked: 0x40,
        dead: 0x80,
        wakekill: 0x100,
        waking: 0x200,
        noload: 0x400,
        new: 0x800,
    };
    /// Linux 3.14 to 4.13.
    const BEFORE_PARKED_MOVED: Self = Self {
        exit_dead: 0x10,
        exit_zombie: 0x20,
        parked: 0x200,
        dead: 0x40,
        wakekill: 0x80,
        waking: 0x100,
        noload: 0x400,
        new: 0x800,
    };
    /// Before 3.14 a dead and a zombie task had each other's bit.
    const BEFORE_ZOMBIE_MOVED: Self =
        Self { exit_dead: 0x20, exit_zombie: 0x10, ..Self::BEFORE_PARKED_MOVED };

    /// The bits of this kernel, by the words of its own table; those of 4.14 where the table is not in the dump.
    #[must_use]
    pub fn of(kernel: &Kernel) -> Self {
        let Ok(table) = kernel.symbol("task_state_array") else { return Self::MODERN };
        Self::from_words(|index| word(kernel.memory(), table, index))
    }

    /// `word(n)` describes state bit `n - 1`. The table has no length of its own, so what follows it may be anything.
    fn from_words(word: impl Fn(u64) -> Option<Vec<u8>>) -> Self {
        let starts = |index, with: &[u8]| word(index).is_some_and(|word| word.starts_with(with));
        match () {
            () if starts(5, b"Z (") => Self::BEFORE_ZOMBIE_MOVED,
            () if starts(5, b"X (") && !starts(7, b"P (") => Self::BEFORE_PARKED_MOVED,
            () => Self::MODERN,
        }
    }

    /// The state that these bits mean.
    #[must_use]
    pub fn decode(&self, state: u64, exit_state: u32) -> State {
        let exit = u64::from(exit_state);
        let bits = [
            (exit, self.exit_zombie, State::Zombie),
            (exit, self.exit_dead, State::Dead),
            (state, self.dead, State::Dead),
            (state, self.new, State::New),
            (state, self.waking, State::Waking),
            (state, self.parked, State::Parked),
            (state, TRACED, State::Traced),
            (state, STOPPED, State::Stopped),
            (state, INTERRUPTIBLE, State::Interruptible),
        ];
        match bits.into_iter().find(|(value, bit, _)| value & bit != 0) {
            Some((_, _, found)) => found,
            None if state & UNINTERRUPTIBLE != 0 && state & self.noload != 0 => State::Idle,
            None if state == 0 => State::Running,
            // What is left are waits of the kernel's own: uninterruptible ones, frozen tasks, real-time locks.
            None => State::Uninterruptible,
        }
    }

    /// The kernel's names of the bits, joined by `|`; bits without a name in hexadecimal.
    #[must_use]
    pub fn names(&self, state: u64, exit_state: u32) -> String {
        let known = [
            (INTERRUPTIBLE, "TASK_INTERRUPTIBLE"),
            (UNINTERRUPTIBLE, "TASK_UNINTERRUPTIBLE"),
            (STOPPED, "TASK_STOPPED"),
            (TRACED, "TASK_TRACING_STOPPED"),
            (self.exit_dead, "EXIT_DEAD"),
            (self.exit_zombie, "EXIT_ZOMBIE"),
            (self.parked, "TASK_PARKED"),
            (self.dead, "TASK_DEAD"),
            (self.wakekill, "TASK_WAKEKILL"),
            (self.waking, "TASK_WAKING"),
            (self.noload, "TASK_NOLOAD"),
            (self.new, "TASK_NEW"),
            // 5.16 and 6.1: no kernel before had these bits.
            (0x1000, "TASK_RTLOCK_WAIT"),
            (0x2000, "TASK_FREEZABLE"),
            (0x8000, "TASK_FROZEN"),
        ];
        let mut bits = state | u64::from(exit_state);
        let mut names: Vec<String> = Vec::new();
        for (bit, name) in known {
            if bits & bit != 0 {
                names.push(name.to_owned());
                bits &= !bit;
            }
        }
        if bits != 0 {
            names.push(format!("{bits:#x}"));
        }
        if names.is_empty() { "TASK_RUNNING".to_owned() } else { names.join("|") }
    }

    /// The state of a task; `None` where its bits are not in the dump.
    #[must_use]
    pub fn state(&self, task: &Task) -> Option<State> {
        let exit_state = task.exit_state.as_ref().copied().unwrap_or(0);
        match &task.state {
            Ok(state) => Some(self.decode(*state, exit_state)),
            Err(_) if exit_state != 0 => Some(self.decode(0, exit_state)),
            Err(_) => None,
        }
    }
}

fn word(memory: &dyn VirtualMemory, table: VirtAddr, index: u64) -> Option<Vec<u8>> {
    let at = memory.pointer(table.add(index.wrapping_mul(8))).ok()?;
    memory.c_string(at, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(letters: &'static str) -> StateBits {
        StateBits::from_words(|index| {
            let letter = *letters.as_bytes().get(index as usize)?;
            Some(vec![letter, b' ', b'('])
        })
    }

    #[test]
    fn the_kernels_own_words_choose_the_bits() {
        assert_eq!(bits("RSDTtXZPI"), StateBits::MODERN);
        assert_eq!(bits("RSDTtXZx"), StateBits::BEFORE_PARKED_MOVED);
        assert_eq!(bits("RSDTtZXxKW"), StateBits::BEFORE_ZOMBIE_MOVED);
        assert_eq!(bits(""), StateBits::MODERN);
    }

    #[test]
    fn states_decode() {
        let bits = StateBits::MODERN;
        for (state, exit, expected) in [
            (0, 0, "RU"),
            (1, 0, "IN"),
            (2, 0, "UN"),
            (0x102, 0, "UN"),
            (0x402, 0, "ID"),
            (0x2001, 0, "IN"),
            (0x8000, 0, "UN"),
            (4, 0, "ST"),
            (8, 0, "TR"),
            (0x40, 0, "PA"),
            (0x80, 0x20, "ZO"),
            (0x80, 0x10, "DE"),
            (0x80, 0, "DE"),
            (0x200, 0, "WA"),
            (0x800, 0, "NE"),
        ] {
            assert_eq!(bits.decode(state, exit).letters(), expected, "{state:#x} {exit:#x}");
        }
        assert_eq!(StateBits::BEFORE_ZOMBIE_MOVED.decode(0, 0x10), State::Zombie);
        assert_eq!(StateBits::BEFORE_PARKED_MOVED.decode(0x200, 0), State::Parked);
    }

    #[test]
    fn bits_have_names() {
        let bits = StateBits::MODERN;
        assert_eq!(bits.names(0, 0), "TASK_RUNNING");
        assert_eq!(bits.names(0x402, 0), "TASK_UNINTERRUPTIBLE|TASK_NOLOAD");
        assert_eq!(bits.names(0x80, 0x20), "EXIT_ZOMBIE|TASK_DEAD");
        assert_eq!(bits.names(0x10_2001, 0), "TASK_INTERRUPTIBLE|TASK_FREEZABLE|0x100000");
    }

    #[test]
    fn letters_lead_back_to_their_state() {
        for state in State::ALL {
            assert_eq!(State::from_letters(&state.letters().to_lowercase()), Some(state));
        }
    }
}
