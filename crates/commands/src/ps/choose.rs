//! Which tasks are listed.

use kdive_linux::tasks::{Task, Tasks};
use rustc_hash::FxHashSet;

use crate::args::{Args, UsageError};
use crate::cx::Cx;
use crate::select::Selector;

/// Scheduling policies by number (include/uapi/linux/sched.h). 4 was reserved and never used.
const POLICIES: [(u32, &str); 8] = [
    (0, "NORMAL"),
    (1, "FIFO"),
    (2, "RR"),
    (3, "BATCH"),
    (4, "ISO"),
    (5, "IDLE"),
    (6, "DEADLINE"),
    (7, "EXT"),
];

/// The name of a scheduling policy.
pub(super) fn policy_name(policy: u32) -> Option<&'static str> {
    POLICIES.iter().find(|(number, _)| *number == policy).map(|(_, name)| *name)
}

/// The kinds of tasks that are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    kernel: Option<bool>,
    leaders: bool,
    no_idle: bool,
    active: bool,
    policies: Option<Vec<u32>>,
}

impl Filter {
    pub(super) fn parse(args: &Args) -> Result<Self, UsageError> {
        let kernel = match (args.has("-k"), args.has("-u")) {
            (true, true) => return Err(UsageError::new("ps", "-k and -u leave nothing: give one")),
            (false, false) => None,
            (kernel, _) => Some(kernel),
        };
        let policies = args.value("-y").map(policies).transpose()?;
        Ok(Self {
            kernel,
            leaders: args.has("-G"),
            no_idle: args.has("-I"),
            active: args.has("-A"),
            policies,
        })
    }

    /// Whether a task is wanted. What is not known of it does not count against it.
    pub(super) fn holds(&self, cx: &Cx, tasks: &Tasks, task: &Task) -> bool {
        let kernel = self.kernel.is_none_or(|wanted| task.is_kernel_thread().is_none_or(|is| is == wanted));
        let leader = !self.leaders || task.is_group_leader().unwrap_or(true);
        let policy = self
            .policies
            .as_ref()
            .is_none_or(|wanted| task.policy.as_ref().map_or(true, |policy| wanted.contains(policy)));
        let idle = !self.no_idle || !tasks.is_idle(task);
        kernel && leader && policy && idle && (!self.active || cx.is_active(tasks, task))
    }
}

fn policies(list: &str) -> Result<Vec<u32>, UsageError> {
    let parse = |word: &str| {
        let known = POLICIES
            .iter()
            .find(|(number, name)| name.eq_ignore_ascii_case(word) || word.parse() == Ok(*number));
        known.map(|(number, _)| *number).ok_or_else(|| {
            let names: Vec<_> = POLICIES.iter().map(|(number, name)| format!("{number} {name}")).collect();
            UsageError::new("ps", format!("{word} is no scheduling policy: {}", names.join(", ")))
        })
    };
    list.split(',').map(parse).collect()
}

/// The tasks that the operands name, in their order and each once; all of them where there are no operands. With them the
/// first operand that names none.
pub(super) fn named<'t>(
    tasks: &'t Tasks,
    words: &[String],
) -> Result<(Vec<&'t Task>, Option<String>), UsageError> {
    if words.is_empty() {
        return Ok((tasks.all().iter().collect(), None));
    }
    let mut chosen = Vec::new();
    let mut seen = FxHashSet::default();
    let mut unknown = None;
    for word in words {
        let found = Selector::parse("ps", word)?.find(tasks);
        if found.is_empty() {
            unknown = unknown.or_else(|| Some(word.clone()));
        }
        chosen.extend(found.into_iter().filter(|task| seen.insert(task.at)));
    }
    Ok((chosen, unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_go_by_name_and_number() {
        assert_eq!(policies("1,rr,Deadline").unwrap(), [1, 2, 6]);
        let error = policies("9").unwrap_err().to_string();
        assert!(error.starts_with("ps: 9 is no scheduling policy: 0 NORMAL, 1 FIFO"), "{error}");
    }
}
