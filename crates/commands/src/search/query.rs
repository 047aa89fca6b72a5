//! What was typed.

use kdive_base::VirtAddr;

use super::pattern::Pattern;
use crate::args::{Args, UsageError};
use crate::arithmetic;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::memory::is_user;
use crate::operand;

/// Which memory is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Kernel(Part),
    User,
    Physical,
    Stacks {
        /// Only of tasks on a processor.
        running: bool,
    },
}

/// Which part of the kernel's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// The direct map and the kernel's image.
    Unity,
    /// All but these.
    Rest,
}

pub(super) struct Query {
    pub(super) area: Area,
    /// First and last address.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) pattern: Pattern,
    /// How each value was typed, for those that were not typed as a number.
    pub(super) names: Vec<Option<String>>,
    /// Bytes of a number; 0 for texts.
    pub(super) size: usize,
    /// Numbers to show before and behind each.
    pub(super) context: Option<u64>,
}

/// More context than a screen holds is a mistake.
const MOST_CONTEXT: u64 = 4096;
/// Longest text that is looked for.
const LONGEST_TEXT: usize = 4096;

fn wrong(what: impl Into<String>) -> UsageError {
    UsageError::new("search", what)
}

fn hexadecimal(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, 16).ok())?
}

impl Query {
    pub(super) fn parse(cx: &Cx, args: &Args) -> Result<Self, CommandError> {
        if args.operands.is_empty() {
            return Err(wrong("what is to be found?").into());
        }
        let mut area = area(args)?;
        // Where the start is given, it says which part is meant: so with crash.
        if let Area::Kernel(part) = &mut area
            && args.has("-s")
        {
            *part = Part::All;
        }
        let (first, last) = range(cx, args, area)?;
        let context = context(args)?;
        let (pattern, names, size) = pattern(cx, args)?;
        // Numbers lie where they are aligned; the one that the start lies in is searched, as crash does.
        let first = first.saturating_sub(first % pattern.alignment());
        Ok(Self { area, first, last, pattern, names, size, context })
    }
}

fn area(args: &Args) -> Result<Area, UsageError> {
    const LETTERS: [(&str, Area); 7] = [
        ("-k", Area::Kernel(Part::All)),
        ("-K", Area::Kernel(Part::Unity)),
        ("-V", Area::Kernel(Part::Rest)),
        ("-u", Area::User),
        ("-p", Area::Physical),
        ("-t", Area::Stacks { running: false }),
        ("-T", Area::Stacks { running: true }),
    ];
    let mut given = LETTERS.iter().filter(|(letter, _)| args.has(letter));
    let area = match (given.next(), given.next()) {
        (Some((first, _)), Some((second, _))) => {
            return Err(wrong(format!("{first} and {second} name different memory")));
        }
        (Some((_, area)), None) => *area,
        (None, _) => Area::Kernel(Part::All),
    };
    if matches!(area, Area::Stacks { .. }) && ["-s", "-e", "-l"].iter().any(|option| args.has(option)) {
        return Err(wrong("-t option cannot be used with other memory-selection options"));
    }
    Ok(area)
}

/// The first and the last address to search.
fn range(cx: &Cx, args: &Args, area: Area) -> Result<(u64, u64), CommandError> {
    let upper = cx.kernel.space().page_table().map_or(1 << 63, |table| table.format().upper_half());
    let (lowest, highest) = match area {
        Area::Kernel(_) | Area::Stacks { .. } => (upper, u64::MAX),
        Area::User => (0, !upper),
        Area::Physical => (0, u64::MAX),
    };
    let address = |name: &str| -> Result<Option<u64>, CommandError> {
        let Some(word) = args.value(name) else { return Ok(None) };
        let VirtAddr(at) = operand::address(cx, "search", word)?;
        match (area, is_user(at)) {
            (Area::Kernel(_), true) => {
                Err(wrong(format!("{at:x} is no kernel address; -u searches user memory, -p physical"))
                    .into())
            }
            (Area::User, false) => Err(wrong(format!("{at:x} is no user address")).into()),
            _ => Ok(Some(at)),
        }
    };
    let first = address("-s")?.unwrap_or(lowest);
    if args.has("-e") && args.has("-l") {
        return Err(wrong("give an end or a length, not both").into());
    }
    let end = match args.value("-l") {
        Some(word) => Some(first.saturating_add(operand::count("search", word)?)),
        None => address("-e")?,
    };
    match end {
        Some(end) if end <= first => {
            Err(wrong(format!("the end {end:x} is not behind the start {first:x}")).into())
        }
        Some(end) => Ok((first, (end - 1).min(highest))),
        None => Ok((first, highest)),
    }
}

fn context(args: &Args) -> Result<Option<u64>, UsageError> {
    let Some(word) = args.value("-x") else { return Ok(None) };
    if args.has("-c") {
        return Err(wrong("-x option is not allowed with -c"));
    }
    let count = operand::count("search", word)?;
    if count > MOST_CONTEXT {
        return Err(wrong(format!("-x {word}: at most {MOST_CONTEXT}")));
    }
    Ok(Some(count))
}

/// What is looked for, what the values were typed as, and bytes of a number.
fn pattern(cx: &Cx, args: &Args) -> Result<(Pattern, Vec<Option<String>>, usize), CommandError> {
    let ignored = match args.value("-m") {
        Some(word) => {
            hexadecimal(word).ok_or_else(|| wrong(format!("-m {word}: expected a hexadecimal mask")))?
        }
        None => 0,
    };
    if args.has("-c") {
        if let Some(bad) = args.operands.iter().find(|text| text.is_empty() || text.len() > LONGEST_TEXT) {
            return Err(wrong(format!("a text has 1 to {LONGEST_TEXT} bytes, not {}", bad.len())).into());
        }
        return Ok((Pattern::texts(&args.operands), Vec::new(), 0));
    }
    let (size, option) = match args.last_of(&["-w", "-h"]) {
        Some("-w") => (4, "-w"),
        Some(_) => (2, "-h"),
        None => (8, ""),
    };
    let mut values = Vec::new();
    let mut names = Vec::new();
    for word in &args.operands {
        let (value, name) = value(cx, word)?;
        if size < 8 && value >> (8 * size) != 0 {
            let name = name.map_or(String::new(), |name| format!("({name})"));
            return Err(wrong(format!("value too large for {option} option: {value:x} {name}")).into());
        }
        values.push(value);
        names.push(name);
    }
    Ok((Pattern::Numbers { size, values, ignored }, names, size))
}

/// A value, and how it was typed if that is no number.
fn value(cx: &Cx, word: &str) -> Result<(u64, Option<String>), CommandError> {
    if let Some(expression) = word.strip_prefix('(') {
        let value = operand::expression(cx, "search", word)?;
        return Ok((value, Some(expression.strip_suffix(')').unwrap_or(expression).to_owned())));
    }
    if let Some(value) = hexadecimal(word) {
        return Ok((value, None));
    }
    match arithmetic::symbol(cx, word) {
        Some(at) => Ok((at.0, Some(word.to_owned()))),
        // For its error, with the nearest name.
        None => operand::address(cx, "search", word).map(|at| (at.0, Some(word.to_owned()))),
    }
}
