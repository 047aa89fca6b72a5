//! The guilty function: who called the helper that noticed.
//!
//! The function that an exception or a check stopped is often not the one to blame: `list_del` finds a list that somebody
//! else broke, `schedule` is where a task waits for what another holds. So a stack is walked from inside outwards, past
//! functions that only notice ([`roles`]), to the first that did something of its own.

mod roles;

use kdive_evidence::{FrameTrust, Place, Splat, TraceFrame};

pub use roles::{Role, role};

/// What kind of complaint the stack belongs to: it decides what is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Something failed at the innermost function.
    Fault,
    /// A processor does not come on: an interrupt noticed, and what it interrupted is of interest.
    Stall,
    /// A task waits.
    Blocked,
}

/// The guilty function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guilty {
    /// Its name, without suffixes of the compiler.
    pub function: String,
    /// The module that it is in.
    pub module: Option<String>,
    /// It is only the least bad candidate: the stack holds nothing but helpers and dispatchers.
    pub weak: bool,
}

/// One step of a stack, innermost first.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The function's name without suffixes of the compiler.
    pub name: &'a str,
    /// Where it is.
    pub place: &'a Place,
    /// What it is to blame.
    pub role: Role,
    /// The kernel itself doubts the frame.
    pub unsure: bool,
}

impl<'a> Step<'a> {
    fn of(place: &'a Place, unsure: bool) -> Option<Self> {
        let name = plain(place.function.as_deref()?);
        // Names of helpers are the kernel's own: a module may have a function of the same name that does real work.
        let role = match role(name) {
            Role::Entry | Role::Anchor | Role::Dispatcher if place.module.is_some() => Role::Ordinary,
            role => role,
        };
        Some(Self { name, place, role, unsure })
    }

    fn guilty(&self, weak: bool) -> Guilty {
        Guilty { function: self.name.to_owned(), module: self.place.module.clone(), weak }
    }
}

/// A function's name without what the compiler puts behind it (`.isra.0`, `.constprop.0`, `.cold`, `.part.0`, `.llvm.1`).
#[must_use]
pub fn plain(name: &str) -> &str {
    let name = name.strip_prefix("__pfx_").unwrap_or(name);
    // `.text.lock.vmscan` of old kernels is a name of its own.
    if name.starts_with('.') {
        return name;
    }
    match name.get(1..).and_then(|rest| rest.find('.')) {
        Some(at) => name.get(..at.saturating_add(1)).unwrap_or(name),
        None => name,
    }
}

/// The steps of a splat: the place that failed, then its callers. Frames that the kernel doubts are left out while there are others.
#[must_use]
pub fn steps(splat: &Splat) -> Vec<Step<'_>> {
    steps_of(splat.ip.as_ref(), &splat.frames)
}

/// The steps of any stack.
#[must_use]
pub fn steps_of<'a>(ip: Option<&'a Place>, frames: &'a [TraceFrame]) -> Vec<Step<'a>> {
    let first = ip.and_then(|place| Step::of(place, false));
    // Beyond code that has no name nobody can be blamed: it may have been that code.
    let named = frames.iter().take_while(|frame| !is_unnamed(frame));
    let all: Vec<Step<'_>> = first
        .into_iter()
        .chain(named.filter_map(|frame| {
            let unsure = matches!(frame.trust, FrameTrust::PrintedUnsure | FrameTrust::Scan);
            Step::of(&frame.place, unsure)
        }))
        .collect();
    let sure = all.iter().filter(|step| !step.unsure && step.role != Role::CrashPath).count();
    let mut kept: Vec<Step<'_>> =
        if sure >= 1 { all.into_iter().filter(|step| !step.unsure).collect() } else { all };
    kept.dedup_by(|next, previous| {
        next.name == previous.name
            && next.place.module == previous.place.module
            && next.place.offset == previous.place.offset
    });
    kept
}

/// Whether an unwinder found a caller that no symbol names, such as one in a module when modules cannot be listed. What
/// an exception interrupted is no caller: it may be no code at all.
fn is_unnamed(frame: &TraceFrame) -> bool {
    let place = &frame.place;
    let found = match frame.trust {
        FrameTrust::Printed | FrameTrust::PrintedUnsure => false,
        // A scan has an address for all that it found: without one it says that it stepped over something.
        FrameTrust::Scan => place.address.is_none(),
        _ => place.address.is_some(),
    };
    found && !frame.interrupted && place.function.is_none()
}

/// The guilty function of a splat.
#[must_use]
pub fn guilty(splat: &Splat, mode: Mode) -> Option<Guilty> {
    let found = among(&steps(splat), mode)?;
    if !found.weak || mode != Mode::Fault {
        return Some(found);
    }
    // The caller that no symbol names called the helpers, and nobody knows who called it.
    if splat.frames.iter().any(is_unnamed) {
        return None;
    }
    // Helpers only: a frame that the kernel doubts is a better guess than a helper, and stays marked as weak.
    let unsure: Vec<Step<'_>> =
        splat.frames.iter().filter_map(|frame| Step::of(&frame.place, true)).collect();
    among(&unsure, mode)
        .filter(|other| !other.weak)
        .map(|other| Guilty { weak: true, ..other })
        .or(Some(found))
}

/// The guilty function of a stack.
#[must_use]
pub fn guilty_of(frames: &[TraceFrame], mode: Mode) -> Option<Guilty> {
    among(&steps_of(None, frames), mode)
}

fn among(steps: &[Step<'_>], mode: Mode) -> Option<Guilty> {
    let rest = beyond_crash_path(steps, mode);
    let mut weak: Option<&Step<'_>> = None;
    for (index, step) in rest.iter().enumerate() {
        match step.role {
            Role::Ordinary => return Some(step.guilty(false)),
            Role::Anchor if mode == Mode::Fault => return Some(step.guilty(false)),
            // Only helpers and locks are below: the anchor is where it began, and no more can be said.
            Role::Anchor => return Some(step.guilty(true)),
            // What a dispatcher called was no code or broke it: who is beyond has nothing to do with it.
            Role::Dispatcher => return Some(weak.unwrap_or(step).guilty(true)),
            Role::Interrupt if mode == Mode::Fault && index > 0 => break,
            Role::Allocator if weak.is_none() => weak = Some(step),
            _ => {}
        }
    }
    weak.map(|step| step.guilty(true))
}

/// The stack without the functions that report. After a watchdog's report the interrupt that it came by goes too.
fn beyond_crash_path<'a, 'b>(steps: &'b [Step<'a>], mode: Mode) -> &'b [Step<'a>] {
    let leading = steps.iter().take_while(|step| step.role == Role::CrashPath).count();
    let rest = steps.get(leading..).unwrap_or_default();
    let watchdog = mode == Mode::Stall && leading > 0;
    // A watchdog's timer or NMI: everything up to where it interrupted.
    let plumbing = if watchdog {
        rest.iter()
            .take(12)
            .rposition(|step| matches!(step.role, Role::Interrupt | Role::CrashPath))
            .filter(|&last| {
                rest.get(..last).unwrap_or_default().iter().all(|step| step.role != Role::Ordinary)
            })
            .map_or(0, |last| last.saturating_add(1))
    } else {
        0
    };
    rest.get(plumbing..).unwrap_or_default()
}

/// The chain of a splat's functions that tell one crash from another: names without helpers, crash path and entry code.
#[must_use]
pub fn chain(splat: &Splat, mode: Mode) -> Vec<String> {
    let steps = steps(splat);
    beyond_crash_path(&steps, mode)
        .iter()
        .filter(|step| matches!(step.role, Role::Ordinary | Role::Anchor | Role::Allocator))
        .map(|step| step.name.to_owned())
        .collect()
}

/// Whether a function of that name is anywhere on the splat's stack, doubted frames included.
#[must_use]
pub fn mentions(splat: &Splat, wanted: impl Fn(&str) -> bool) -> bool {
    let ip = splat.ip.iter();
    ip.chain(splat.frames.iter().map(|frame| &frame.place))
        .filter_map(|place| place.function.as_deref())
        .any(|name| wanted(plain(name)))
}

/// The module that a function is in, where the trace does not say it. Old sessions print `f at ADDRESS` without modules:
/// then an address outside of the kernel's own text and a prefix that several functions of the stack share tell it.
#[must_use]
pub fn module_of(splat: &Splat, function: &str) -> Option<String> {
    let places = || splat.ip.iter().chain(splat.frames.iter().map(|frame| &frame.place));
    let own = |place: &&Place| place.function.as_deref().map(plain) == Some(function);
    if let Some(module) = places().filter(own).find_map(|place| place.module.clone()) {
        return Some(module);
    }
    let address = places().find(own)?.address?.0;
    if !matches!(address, 0xffff_ffff_8800_0000..0xffff_ffff_8c00_0000 | 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000)
    {
        return None;
    }
    // A kernel whose own text is there has no modules there.
    let core = places()
        .filter_map(|place| Some(place.address?.0))
        .filter(|&at| at < 0xffff_ffff_8800_0000 && at > 0xffff_ffff_8000_0000);
    if core.count() < 2 {
        return None;
    }
    let prefix = function.split('_').next().filter(|prefix| prefix.len() >= 3)?;
    let alike = places()
        .filter(|place| place.address.is_some_and(|at| at.0 >= 0xffff_ffff_8800_0000))
        .filter_map(|place| place.function.as_deref())
        .filter(|name| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_')))
        .count();
    (alike >= 2).then(|| prefix.to_owned())
}

#[cfg(test)]
mod tests;
