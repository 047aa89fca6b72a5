//! Whether an issue matches a case.

use kdive_evidence::{Place, Register, Registers, Splat, TraceFrame};

use super::issue::{KnownIssue, Pattern, kind_name, log_pattern};
use super::release::Release;
use crate::case::Case;
use crate::class::Class;
use crate::finding::Finding;
use crate::report::KnownIssueMatch;

/// What of a case issues are matched with.
pub(super) struct Facts<'c> {
    /// Complaints, the first is the cause of later ones.
    sites: Vec<Site<'c>>,
    /// Lines that are of the case as a whole.
    lines: Vec<&'c str>,
    modules: Vec<&'c str>,
    classes: Vec<Class>,
    release: Option<Release>,
}

/// One place where something went wrong: a splat, or the backtrace of the task that died.
struct Site<'c> {
    kind: Option<String>,
    comm: Option<&'c str>,
    ip: Option<&'c Place>,
    registers: Option<&'c Registers>,
    /// Stacks, innermost function first.
    stacks: Vec<Vec<&'c Place>>,
    lines: Vec<&'c str>,
}

/// Findings below this do not say what class of failure it is.
const LEAST_SCORE: u8 = 25;

impl<'c> Facts<'c> {
    pub(super) fn new(case: &'c Case<'_>, findings: &[Finding]) -> Self {
        let mut sites: Vec<Site<'c>> = case.splats.iter().map(Site::of_splat).collect();
        if let Some(crashed) = &case.crashed {
            sites.push(Site {
                kind: None,
                comm: crashed.comm.as_deref(),
                ip: None,
                registers: crashed.registers.as_ref(),
                stacks: vec![places(&crashed.frames)],
                lines: Vec::new(),
            });
        }
        if sites.is_empty() {
            sites.push(Site {
                kind: None,
                comm: None,
                ip: None,
                registers: None,
                stacks: vec![],
                lines: vec![],
            });
        }
        let system = &case.system;
        let mut lines: Vec<&str> = case.events.iter().map(|event| event.text.as_str()).collect();
        lines.extend(case.trigger.iter().map(|trigger| trigger.text.as_str()));
        lines.extend(case.stray_text.iter().map(|stray| stray.text.as_str()));
        lines.extend(system.hardware.as_deref());
        lines.extend(system.hypervisor.as_deref());
        let of_splats = || case.splats.iter().find_map(|splat| splat.release.as_deref());
        Self {
            sites,
            lines,
            modules: case.modules.iter().map(|module| module.name.as_str()).collect(),
            classes: findings
                .iter()
                .filter(|found| found.score >= LEAST_SCORE)
                .map(|found| found.class)
                .collect(),
            release: system
                .release
                .as_deref()
                .or_else(of_splats)
                .and_then(|release| Release::parse(release, system.version.as_deref())),
        }
    }

    /// The match of an issue with the complaint that it matches best.
    pub(super) fn matched(&self, issue: &KnownIssue) -> Option<KnownIssueMatch> {
        let release = self.release.as_ref();
        if !issue.only.is_empty()
            && release.is_some_and(|release| !issue.only.contains(&release.family().to_string()))
        {
            return None;
        }
        if release.is_some_and(|release| issue.since.reached(release) == Some(false)) {
            return None;
        }
        let (mut score, mut why) = self
            .sites
            .iter()
            .enumerate()
            .filter_map(|(number, site)| self.matched_at(&issue.pattern, site, number))
            // The first of equals.
            .rev()
            .max_by_key(|(score, _)| *score)?;
        if issue.classes.iter().any(|class| self.classes.contains(class)) {
            score += 15;
        } else if !self.classes.is_empty() {
            score -= 20;
            let expected: Vec<&str> = issue.classes.iter().map(|class| class.text()).collect();
            why.push(format!("but it shows itself as {}, which was not found", expected.join(" or ")));
        }
        let has_fix = release.and_then(|release| issue.fixed_in.reached(release));
        match has_fix {
            Some(false) => score += 10,
            Some(true) => {
                score = score.min(20);
                why.push("but this kernel has the fix: another cause, or the fix is not complete".to_owned());
            }
            None => {}
        }
        if !issue.only.is_empty() && release.is_some() {
            score += 10;
        }
        Some(KnownIssueMatch {
            id: issue.id.clone(),
            title: issue.title.clone(),
            links: issue.links.clone(),
            fixed_in: issue.fixed_in.in_words(release.map(Release::family)),
            has_fix,
            advice: issue.advice.clone(),
            why,
            score: u8::try_from(score.clamp(1, 100)).unwrap_or(100),
        })
    }

    /// What speaks for the pattern at one place, when nothing speaks against it.
    fn matched_at(&self, pattern: &Pattern, site: &Site<'c>, number: usize) -> Option<(i32, Vec<String>)> {
        let mut found = Found::default();
        if !pattern.kinds.is_empty() {
            let kind = site.kind.as_ref()?;
            found.add(5, pattern.kinds.contains(kind), || format!("the complaint is of the kind {kind}"))?;
        }
        if let Some(comm) = &pattern.comm {
            let task = site.comm.filter(|it| is_name(comm, it));
            found.add(10, task.is_some(), || format!("the task is {}", task.unwrap_or_default()))?;
        }
        if let Some(ip) = &pattern.ip {
            let function = site.ip().and_then(|place| place.function.as_deref());
            found.add(30, function.is_some_and(|it| is_function(ip, it)), || {
                format!("it failed in {}", function.unwrap_or_default())
            })?;
        }
        if !pattern.functions.is_empty() {
            let chain = site.stacks.iter().find_map(|stack| chain(stack, &pattern.functions));
            let weight = 25 + 10 * i32::try_from(pattern.functions.len().min(4)).unwrap_or(4);
            found.add(weight, chain.is_some(), || {
                format!("the stack has {}", chain.unwrap_or_default().join(" < "))
            })?;
        }
        if let Some(module) = &pattern.module {
            let inside = site.stacks.iter().flatten().any(|place| place.module.as_deref() == Some(module));
            found.add(10, inside, || format!("the module {module} is on the stack"))?;
        }
        for module in &pattern.loaded {
            found.add(5, self.modules.contains(&module.as_str()), || {
                format!("the module {module} is loaded")
            })?;
        }
        for (register, value) in &pattern.registers {
            let holds = site.registers.and_then(|registers| holding(registers, register, value));
            found.add(20, holds.is_some(), || format!("{} holds {value}", holds.unwrap_or_default()))?;
        }
        for text in &pattern.log {
            let expression = log_pattern(text).ok()?;
            let line = site.lines.iter().chain(&self.lines).find(|line| expression.is_match(line));
            found.add(30, line.is_some(), || {
                format!("the log says \"{}\"", line.copied().unwrap_or_default())
            })?;
        }
        if number > 0 && !site.lines.is_empty() {
            found.score -= 10;
            found.why.push("in a complaint that is not the first".to_owned());
        }
        Some((found.score, found.why))
    }
}

/// What was found of a pattern.
#[derive(Default)]
struct Found {
    score: i32,
    why: Vec<String>,
}

impl Found {
    /// Notes a condition that holds; `None` when it does not.
    fn add(&mut self, weight: i32, holds: bool, why: impl FnOnce() -> String) -> Option<()> {
        if !holds {
            return None;
        }
        self.score += weight;
        self.why.push(why());
        Some(())
    }
}

impl<'c> Site<'c> {
    fn of_splat(splat: &'c Splat) -> Self {
        let mut main: Vec<&Place> = splat.ip.iter().collect();
        main.extend(places(&splat.frames));
        let mut stacks = vec![main];
        stacks.extend(splat.other_stacks.iter().map(|stack| places(&stack.frames)));
        let mut lines = vec![splat.message.as_str()];
        lines.extend(splat.details.iter().map(String::as_str));
        lines.extend(splat.other_stacks.iter().map(|stack| stack.heading.as_str()));
        Self {
            kind: Some(kind_name(splat.kind)),
            comm: splat.comm.as_deref(),
            ip: splat.ip.as_ref(),
            registers: Some(&splat.registers),
            stacks,
            lines,
        }
    }

    /// Where it failed: the instruction pointer, or where that is not told the innermost frame.
    fn ip(&self) -> Option<&'c Place> {
        self.ip.or_else(|| self.stacks.first()?.first().copied())
    }
}

fn places(frames: &[TraceFrame]) -> Vec<&Place> {
    frames.iter().map(|frame| &frame.place).collect()
}

/// The functions of a stack that are those of a pattern, where it has all of them in their order.
fn chain<'s>(stack: &[&'s Place], functions: &[String]) -> Option<Vec<&'s str>> {
    let mut found = Vec::new();
    let mut rest = functions.iter();
    let mut wanted = rest.next();
    for function in stack.iter().filter_map(|place| place.function.as_deref()) {
        match wanted {
            Some(name) if is_function(name, function) => {
                found.push(function);
                wanted = rest.next();
            }
            Some(_) => {}
            None => break,
        }
    }
    wanted.is_none().then_some(found)
}

/// Whether a function is one of the names: suffixes that the compiler adds do not count.
fn is_function(names: &str, function: &str) -> bool {
    is_name(names, function.split('.').next().unwrap_or(function))
}

/// `a|b*`: whether it is one of the names.
fn is_name(names: &str, it: &str) -> bool {
    names.split('|').any(|name| match name.strip_suffix('*') {
        Some(start) => it.starts_with(start),
        None => it == name,
    })
}

/// The name of a register that holds the pattern.
fn holding(registers: &Registers, name: &str, pattern: &str) -> Option<&'static str> {
    let holds = |register: &Register| {
        registers.get(*register).is_some_and(|value| is_value(&pattern.to_ascii_lowercase(), value))
    };
    if name == "any" {
        return Register::GENERAL.iter().find(|register| holds(register)).map(|register| register.name());
    }
    // `eax` is kept as `rax`.
    let same = |register: &&Register| {
        register.name() == name
            || name.strip_prefix('e').is_some_and(|rest| register.name().strip_prefix('r') == Some(rest))
    };
    Register::ALL.iter().find(same).filter(|register| holds(register)).map(|register| register.name())
}

fn is_value(pattern: &str, value: u64) -> bool {
    let digits = format!("{value:x}");
    let pattern = match pattern.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    match pattern.split_once('*') {
        None => pattern.len() == digits.len() && is_start(pattern, &digits),
        Some((start, end)) => {
            let least = start.len().saturating_add(end.len());
            let tail = digits.len().checked_sub(end.len()).and_then(|at| digits.get(at..));
            digits.len() >= least && is_start(start, &digits) && tail.is_some_and(|tail| is_start(end, tail))
        }
    }
}

/// Whether digits begin with a pattern of digits and `?`.
fn is_start(pattern: &str, digits: &str) -> bool {
    pattern.len() <= digits.len() && pattern.bytes().zip(digits.bytes()).all(|(p, d)| p == b'?' || p == d)
}

#[cfg(test)]
mod tests {
    use kdive_evidence::{FrameTrust, SplatKind};

    use super::*;
    use crate::finding::Culprit;
    use crate::known::KnownIssues;

    fn frame(function: &str, module: Option<&str>) -> TraceFrame {
        TraceFrame {
            place: Place {
                function: Some(function.to_owned()),
                module: module.map(str::to_owned),
                ..Place::default()
            },
            trust: FrameTrust::Printed,
            stack: None,
            inlined: false,
            interrupted: false,
        }
    }

    fn case(release: &str) -> Case<'static> {
        let splat = Splat {
            kind: SplatKind::PageFault,
            message: "BUG: unable to handle page fault for address: dead000000000108".to_owned(),
            ip: Some(frame("list_user.isra.0", Some("sctp")).place),
            frames: vec![frame("middle", None), frame("caller.constprop.0", None), frame("outer", None)],
            registers: Registers::default().with(Register::Rax, 0xdead_0000_0000_0100),
            ..Splat::default()
        };
        let mut case = Case { splats: vec![splat], ..Case::default() };
        case.system.release = Some(release.to_owned());
        case
    }

    const ISSUE: &str = r#"
        title = "Something breaks"
        classes = ["deleted-list-entry"]
        links = ["https://example.org/commit"]
        [since]
        upstream = "5.4"
        [fixed-in]
        upstream = ["6.8", "6.6.15"]
        [match]
        ip = "other|list_user"
        functions = ["list_user", "caller", "out*"]
        module = "sctp"
        registers = { any = "dead00000000????" }
        log = ["unable to handle page fault"]
    "#;

    fn found(issue: &str, case: &Case<'_>, findings: &[Finding]) -> Option<KnownIssueMatch> {
        let mut known = KnownIssues::default();
        known.add("x", issue).unwrap();
        known.matches(case, findings).into_iter().next()
    }

    #[test]
    fn all_conditions_must_hold() {
        let case = case("6.6.14");
        let it = found(ISSUE, &case, &[]).unwrap();
        assert_eq!(it.has_fix, Some(false));
        assert_eq!(it.fixed_in.as_deref(), Some("Linux 6.8, 6.6.15"));
        assert!(it.score > 75, "{it:?}");
        for (from, to) in [
            ("\"caller\", \"out*\"", "\"out*\", \"caller\""),
            ("other|list_user", "other"),
            ("\"sctp\"", "\"tcp\""),
            ("????", "0??8"),
            ("page fault", "NULL pointer"),
        ] {
            assert!(found(&ISSUE.replace(from, to), &case, &[]).is_none(), "{from} -> {to}");
        }
    }

    #[test]
    fn versions_decide() {
        assert!(found(ISSUE, &case("5.3.18"), &[]).is_none(), "too old to have it");
        let fixed = found(ISSUE, &case("6.6.15"), &[]).unwrap();
        assert_eq!(fixed.has_fix, Some(true));
        assert!(fixed.score <= 20, "{fixed:?}");
        assert_eq!(found(ISSUE, &case("5.14.0-503.el9.x86_64"), &[]).unwrap().has_fix, None);
        let only = ISSUE.replace("[since]", "only = [\"el9\"]\n[since]");
        assert!(found(&only, &case("6.6.14"), &[]).is_none());
        assert!(found(&only, &case("5.14.0-503.el9.x86_64"), &[]).is_some());
    }

    #[test]
    fn another_class_speaks_against_it() {
        let finding = |class: Class| Finding {
            detector: "test",
            class,
            title: String::new(),
            claim: String::new(),
            score: 80,
            culprit: Culprit::default(),
            supports: Vec::new(),
            against: Vec::new(),
            advice: Vec::new(),
            splat: None,
        };
        let case = case("5.14.0-503.el9.x86_64");
        let issue = ISSUE
            .replace("ip = \"other|list_user\"", "")
            .replace("registers = { any = \"dead00000000????\" }", "");
        let same = found(&issue, &case, &[finding(Class::DeletedListEntry)]).unwrap().score;
        let none = found(&issue, &case, &[]).unwrap().score;
        let other = found(&issue, &case, &[finding(Class::SoftLockup)]).unwrap().score;
        assert!(other < none && none <= same, "{other} {none} {same}");
    }

    #[test]
    fn registers_have_patterns() {
        assert!(is_value("00200200", 0x20_0200));
        assert!(is_value("dead*", 0xdead_0000_0000_0100));
        assert!(is_value("dead*1??", 0xdead_0000_0000_0122));
        assert!(!is_value("dead*2??", 0xdead_0000_0000_0122));
        assert!(is_value("0", 0));
        assert!(!is_value("6b", 0x6b6b));
        assert!(is_value("6b*6b", 0x6b6b_6b6b));
        let registers = Registers::default().with(Register::Rbx, 5);
        assert_eq!(holding(&registers, "ebx", "5"), Some("rbx"));
        assert_eq!(holding(&registers, "any", "5"), Some("rbx"));
        assert_eq!(holding(&registers, "rax", "5"), None);
    }
}
