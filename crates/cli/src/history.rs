//! Lines typed before: `h`, `r`, `r N`, `r text`, `!!`, `!N`, `!?text`.

/// A line that asks for another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recall<'a> {
    /// The list of lines.
    List,
    /// This line once more.
    Line(&'a str),
    /// There is no such line.
    NotFound,
}

/// What a line asks of the lines before it, oldest first; `None` for a line that stands for itself.
pub(crate) fn recall<'a>(line: &str, before: &'a [String]) -> Option<Recall<'a>> {
    let line = line.trim();
    let wanted = match line {
        "h" | "history" => return Some(Recall::List),
        "r" | "!!" => return Some(found(last(before, |_| true))),
        _ => match (line.strip_prefix("r "), line.strip_prefix("!?")) {
            (Some(wanted), _) | (None, Some(wanted)) => wanted.trim(),
            // `!12`, but not `!1.sh`, which is a command of the shell.
            (None, None) => line.strip_prefix('!').filter(|number| number.parse::<usize>().is_ok())?,
        },
    };
    let numbered = wanted.parse::<usize>().ok();
    Some(found(match numbered {
        Some(number) => number.checked_sub(1).and_then(|index| before.get(index)),
        None => last(before, |line| line.starts_with(wanted)),
    }))
}

/// The last line that is a command of its own and wanted.
fn last(before: &[String], wanted: impl Fn(&str) -> bool) -> Option<&String> {
    before.iter().rev().find(|line| recall(line, &[]).is_none() && wanted(line))
}

fn found(line: Option<&String>) -> Recall<'_> {
    line.map_or(Recall::NotFound, |line| Recall::Line(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let before = ["bt", "ps -m", "log", "r", "h"].map(str::to_owned);
        assert_eq!(recall("h", &before), Some(Recall::List));
        assert_eq!(recall("r", &before), Some(Recall::Line("log")));
        assert_eq!(recall("!!", &before), Some(Recall::Line("log")));
        assert_eq!(recall("r 2", &before), Some(Recall::Line("ps -m")));
        assert_eq!(recall("!1", &before), Some(Recall::Line("bt")));
        assert_eq!(recall("r p", &before), Some(Recall::Line("ps -m")));
        assert_eq!(recall("!?b", &before), Some(Recall::Line("bt")));
        assert_eq!(recall("!9", &before), Some(Recall::NotFound));
        assert_eq!(recall("r 0", &before), Some(Recall::NotFound));
        assert_eq!(recall("!ls", &before), None);
        assert_eq!(recall("rd 10", &before), None);
        assert_eq!(recall("!!", &[]), Some(Recall::NotFound));
    }
}
