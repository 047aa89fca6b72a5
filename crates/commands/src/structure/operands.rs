//! The operands behind the name: addresses and a count.

use kdive_base::VirtAddr;

use super::shape::{self, Shape};
use crate::args::{Args, UsageError};
use crate::command::CommandError;
use crate::cx::Cx;
use crate::operand;

/// Where records lie, and how many.
pub(super) struct Operands {
    pub(super) places: Vec<Place>,
    count: i64,
    /// Subtracted from each address: where the member lies that it is of.
    back: u64,
}

/// Where one record lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) at: VirtAddr,
    /// The processor whose copy it is.
    pub(super) cpu: Option<u32>,
}

/// Records in one go: more is a slip.
const MOST: u64 = 1 << 24;

/// Digits of the longest word that is a count where an address could stand too.
const COUNT_DIGITS: usize = 8;

impl Operands {
    pub(super) fn parse(cx: &Cx, command: &str, args: &Args, words: &[String]) -> Result<Self, CommandError> {
        let mut count = args.value("-c").map(|word| parse_count(command, word)).transpose()?;
        let back = args.value("-l").map_or(Ok(0), |word| offset(cx, command, word))?;
        let mut places = Vec::new();
        for word in words {
            match bare_count(word).filter(|_| !places.is_empty()) {
                Some(number) if count.is_none() => count = Some(number),
                Some(_) => return Err(UsageError::new(command, format!("{word}: a second count")).into()),
                None => places.extend(parse_place(cx, command, word)?),
            }
        }
        Ok(Self { places, count: count.unwrap_or(1), back })
    }

    /// Steps from the address on, in records.
    pub(super) fn indices(&self) -> impl Iterator<Item = i64> {
        let most = self.count.unsigned_abs().min(MOST) as i64;
        let first = if self.count < 0 { most.saturating_sub(1).saturating_neg() } else { 0 };
        (first..).take(most as usize)
    }

    pub(super) fn address(
        &self,
        _cx: &Cx,
        command: &str,
        shape: &Shape,
        place: &Place,
        index: i64,
    ) -> Result<VirtAddr, CommandError> {
        let step = i64::try_from(shape.bytes).ok().and_then(|bytes| bytes.checked_mul(index));
        let step = step.ok_or_else(|| UsageError::new(command, "the count is too large"))?;
        Ok(place.at.sub(self.back).offset(step))
    }
}

/// A number short enough to be no address.
fn bare_count(word: &str) -> Option<i64> {
    (word.trim_start_matches('-').len() <= COUNT_DIGITS).then(|| word.parse().ok())?
}

fn parse_count(command: &str, word: &str) -> Result<i64, UsageError> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let number = i64::try_from(operand::count(command, digits)?);
    let number = number.map_err(|_| UsageError::new(command, format!("{word} is too large")))?;
    Ok(number.saturating_mul(sign))
}

/// An address, or those of a per-CPU variable's copies.
fn parse_place(cx: &Cx, command: &str, word: &str) -> Result<Vec<Place>, CommandError> {
    let (name, cpus) = operand::processors(cx, command, word)?;
    let at = operand::address(cx, command, name)?;
    let Some(cpus) = cpus else { return Ok(vec![Place { at, cpu: None }]) };
    let known = cx.kernel.cpus()?;
    cpus.into_iter().map(|cpu| Ok(Place { at: known.per_cpu(at, cpu)?, cpu: Some(cpu) })).collect()
}

/// An offset in a record: a number of bytes, or the member whose offset it is.
pub(crate) fn offset(cx: &Cx, command: &str, word: &str) -> Result<u64, CommandError> {
    if let Some(number) = operand::number(word) {
        return Ok(number);
    }
    let shape = Shape::parse(cx, command, shape::ANY, word)?;
    match shape.members.as_slice() {
        [member] => Ok(member.at.byte_offset()),
        _ => Err(UsageError::new(command, format!("{word}: expected an offset or struct.member")).into()),
    }
}
