//! The functions that a code address lies in: one that was compiled, and those inlined into it.

use std::ops::Range;
use std::sync::Arc;

use gimli::UnitOffset;
use gimli::constants as dw;
use kdive_base::VirtAddr;
use serde::Serialize;

use super::DwarfFile;
use super::die::{self, Die};
use super::lines::{Files, SourceLine};
use super::sections::{Dwarf, Unit};
use super::units::UnitInfo;
use super::walk::Walk;

/// A function on the stack of inlined calls at one address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CodeFrame {
    /// The function's name; `None` in assembly.
    pub function: Option<Box<str>>,
    /// Whether it was inlined into the next frame.
    pub inlined: bool,
    /// Where in it execution is: the address's own line, and further out the lines of the inlined calls.
    pub at: Option<SourceLine>,
}

/// Code of a function: addresses of the file, and the function's entry in its unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct FunctionRange {
    start: u64,
    end: u64,
    entry: usize,
}

/// A function, inlined call or block that covers an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) entry: UnitOffset,
    pub(super) kind: ScopeKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScopeKind {
    Function,
    Inlined,
    Block,
}

/// Real inlining and nesting of blocks stays below fifty.
const DEEPEST: usize = 256;

impl DwarfFile {
    /// The functions at a code address, innermost first: those inlined there, then the one that was compiled. Empty
    /// when the address is not in code that this file describes. See [`DwarfFile::line`] for return addresses.
    #[must_use]
    pub fn frames(&self, address: VirtAddr) -> Vec<CodeFrame> {
        let dwarf = self.sections.dwarf();
        let linked = self.sections.linked(address);
        let Some(info) = self.unit_at(&dwarf, linked) else { return Vec::new() };
        let files = Files::of(&dwarf, &info);
        let mut at = files.as_ref().and_then(|files| self.line_in(&dwarf, &info, files, linked));
        let scopes = self.scopes(&dwarf, &info, linked);
        let mut frames = Vec::new();
        for scope in scopes.iter().rev().filter(|scope| scope.kind != ScopeKind::Block) {
            let Some(die) = die_in(&dwarf, &info, scope.entry) else { continue };
            let inlined = scope.kind == ScopeKind::Inlined;
            let call =
                if inlined { files.as_ref().and_then(|files| call_site(&dwarf, &die, files)) } else { None };
            let function = self.name(&dwarf, &die);
            frames.push(CodeFrame { function, inlined, at: std::mem::replace(&mut at, call) });
        }
        if frames.is_empty() && at.is_some() {
            frames.push(CodeFrame { function: None, inlined: false, at });
        }
        frames
    }

    /// The piece of a compiled function that an address lies in, without the padding behind it. Functions that the
    /// compiler split have several.
    #[must_use]
    pub fn function(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let dwarf = self.sections.dwarf();
        let linked = self.sections.linked(address);
        let info = self.unit_at(&dwarf, linked)?;
        let found = function_at(&dwarf, &info, &info.unit(&dwarf)?, linked)?;
        let at = |place: u64| address.add(place.wrapping_sub(linked));
        Some(at(found.start)..at(found.end))
    }

    /// What covers an address of the file, outermost first.
    pub(super) fn scopes(&self, dwarf: &Dwarf<'_>, info: &UnitInfo, address: u64) -> Vec<Scope> {
        let mut scopes = Vec::new();
        if let Some(unit) = info.unit(dwarf)
            && let Some(function) = function_at(dwarf, info, &unit, address)
        {
            // A damaged function has the scopes before the damage.
            let _ = walk_scopes(dwarf, &unit, UnitOffset(function.entry), address, &mut scopes);
        }
        scopes
    }
}

pub(super) fn die_in<'a>(dwarf: &Dwarf<'a>, info: &Arc<UnitInfo>, at: UnitOffset) -> Option<Die<'a>> {
    let unit = info.unit(dwarf)?;
    let entry = unit.entry(at).ok()?;
    Some(Die { info: Arc::clone(info), unit, entry })
}

fn call_site<'a>(dwarf: &Dwarf<'a>, die: &Die<'a>, files: &Files<'a>) -> Option<SourceLine> {
    let file = die::file_number(&die.attr(dw::DW_AT_call_file)?);
    let line = die.unsigned(dw::DW_AT_call_line).unwrap_or(0);
    files.source(dwarf, file, line, die.unsigned(dw::DW_AT_call_column).unwrap_or(0))
}

fn function_at(dwarf: &Dwarf<'_>, info: &UnitInfo, unit: &Unit<'_>, address: u64) -> Option<FunctionRange> {
    /// Functions do not overlap, but for damage and for copies that the linker merged.
    const NEIGHBOURS: usize = 16;
    let functions = info.functions.get_or_init(|| {
        let mut found = Vec::new();
        // A damaged unit has the functions before the damage.
        let _ = list_functions(dwarf, unit, &mut found);
        found.sort_unstable();
        found
    });
    let end = functions.partition_point(|function| function.start <= address);
    let mut before = functions.get(..end)?.iter().rev().take(NEIGHBOURS);
    before.find(|function| address < function.end).copied()
}

fn list_functions(dwarf: &Dwarf<'_>, unit: &Unit<'_>, found: &mut Vec<FunctionRange>) -> Option<()> {
    let mut walk = Walk::new(unit, unit.header.root_offset())?;
    let mut attributes = Vec::new();
    while let Some(head) = walk.next() {
        match head.abbreviation.tag() {
            dw::DW_TAG_subprogram => {
                walk.read(&head, &mut attributes)?;
                for (start, end) in die::ranges(dwarf, unit, &attributes) {
                    found.push(FunctionRange { start, end, entry: head.at.0 });
                }
                walk.skip_children(&head, super::walk::sibling(&attributes))?;
            }
            // Functions of other languages are inside of these.
            dw::DW_TAG_namespace | dw::DW_TAG_module => walk.skip(&head)?,
            _ if head.depth == 0 => walk.skip(&head)?,
            _ => walk.skip_all(&head)?,
        }
    }
    Some(())
}

fn walk_scopes(
    dwarf: &Dwarf<'_>,
    unit: &Unit<'_>,
    function: UnitOffset,
    address: u64,
    scopes: &mut Vec<Scope>,
) -> Option<()> {
    scopes.push(Scope { entry: function, kind: ScopeKind::Function });
    let mut walk = Walk::new(unit, function)?;
    let first = walk.next()?;
    walk.skip(&first)?;
    let mut attributes = Vec::new();
    // Scopes that cover an address are nested, so nothing beside the last one found matters, and nothing after it.
    let mut inside = first.depth;
    while let Some(head) = walk.next() {
        if head.depth <= inside || scopes.len() >= DEEPEST {
            break;
        }
        let kind = match head.abbreviation.tag() {
            dw::DW_TAG_inlined_subroutine => ScopeKind::Inlined,
            dw::DW_TAG_lexical_block => ScopeKind::Block,
            _ => {
                walk.skip_all(&head)?;
                continue;
            }
        };
        walk.read(&head, &mut attributes)?;
        match die::covers(dwarf, unit, &attributes, address) {
            Some(true) => {
                scopes.push(Scope { entry: head.at, kind });
                inside = head.depth;
            }
            // A block without addresses holds none of its own, but inlined calls in it may.
            None if kind == ScopeKind::Block => {}
            _ => walk.skip_children(&head, super::walk::sibling(&attributes))?,
        }
    }
    Some(())
}
