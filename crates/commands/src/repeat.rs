//! `repeat`: a command over and over.

use std::time::{Duration, Instant};

use kdive_base::{Cancel, Cancelled};

use crate::args::UsageError;
use crate::command::{Command, CommandError, Group, Run};
use crate::cx::Cx;
use crate::exec::Invocation;
use crate::sink::Sink;

/// Repeats a command until it is stopped.
pub(crate) static REPEAT: Command = Command {
    names: &["repeat"],
    group: Group::Session,
    summary: "run a command again and again until Ctrl-C",
    operands: "[-seconds] command [argument]...",
    options: &[],
    help: include_str!("repeat.md"),
    run: Run::Words(repeat),
};

fn repeat(cx: &mut Cx, words: &[String], out: &mut dyn Sink) -> Result<(), CommandError> {
    let (delay, words) = delay(words)?;
    if words.is_empty() {
        return Err(UsageError::new("repeat", "which command?").into());
    }
    let invocation = Invocation::understand(words, cx)?;
    loop {
        invocation.run(cx, out)?;
        out.flush()?;
        cx.cancel.check()?;
        pause(delay, &cx.cancel)?;
    }
}

/// `-seconds`, and the words behind it.
fn delay(words: &[String]) -> Result<(Duration, &[String]), UsageError> {
    let Some((first, rest)) = words.split_first() else { return Ok((Duration::ZERO, words)) };
    let Some(seconds) = first.strip_prefix('-') else { return Ok((Duration::ZERO, words)) };
    match seconds.parse::<u32>() {
        Ok(seconds) => Ok((Duration::from_secs(seconds.into()), rest)),
        Err(_) => Err(UsageError::new("repeat", format!("{first}: expected seconds, as in -5"))),
    }
}

/// Sleeps, waking often enough for Ctrl-C to be felt.
fn pause(delay: Duration, cancel: &Cancel) -> Result<(), Cancelled> {
    const STEP: Duration = Duration::from_millis(50);
    let until = Instant::now().checked_add(delay);
    while let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left.min(STEP));
        cancel.check()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_delay_comes_first() {
        let typed = words("-5 log -t");
        let (delay, rest) = super::delay(&typed).unwrap();
        assert_eq!((delay, rest), (Duration::from_secs(5), &typed[1..]));
        assert_eq!(super::delay(&words("log -t")).unwrap().1.len(), 2);
        assert!(super::delay(&words("-x log")).is_err());
    }

    #[test]
    fn a_pause_ends_when_it_is_cancelled() {
        let cancel = Cancel::default();
        assert_eq!(pause(Duration::from_millis(1), &cancel), Ok(()));
        cancel.cancel();
        assert_eq!(pause(Duration::from_secs(3600), &cancel), Err(Cancelled));
    }
}
