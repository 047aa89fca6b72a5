//! The words of a record, as `rd` shows memory (`-r`).

use kdive_base::VirtualMemory;

use super::operands::Place;
use super::shape::Shape;
use crate::command::CommandError;
use crate::cx::Cx;
use crate::rd::rows::{self, View};
use crate::sink::Sink;

/// The record's bytes, or each chosen member's, in words of the largest size that divides them.
pub(super) fn show(
    cx: &mut Cx,
    shape: &Shape,
    memory: &dyn VirtualMemory,
    place: Place,
    out: &mut dyn Sink,
) -> Result<(), CommandError> {
    let kernel = cx.kernel.clone();
    let types = shape.types(&kernel)?;
    let members = shape
        .members
        .iter()
        .map(|member| (member.at.byte_offset(), types.size_of(member.at.of).unwrap_or(0)));
    let parts: Vec<(u64, u64)> = match shape.members.is_empty() {
        true => vec![(0, shape.bytes)],
        false => members.collect(),
    };
    for (offset, bytes) in parts {
        let size =
            [8_usize, 4, 2, 1].into_iter().find(|size| bytes.is_multiple_of(*size as u64)).unwrap_or(1);
        rows::show(cx, memory, place.at.add(offset).0, bytes, &View::plain(size), out)?;
    }
    Ok(())
}
