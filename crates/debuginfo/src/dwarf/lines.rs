//! Line tables (6.2).

use std::ops::Range;

use gimli::constants as dw;
use kdive_base::VirtAddr;
use serde::Serialize;

use super::DwarfFile;
use super::sections::{Dwarf, Slice, Unit};
use super::units::UnitInfo;
use crate::names::safe_name;

/// A place in the sources.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SourceLine {
    /// The file, under the directory that the compiler ran in, as DWARF spells them.
    pub file: Box<str>,
    /// Bytes of `file` that name the directory the compiler ran in, its slash included.
    #[serde(skip)]
    pub directory: usize,
    /// The line, counted from 1; `None` for code that belongs to no line.
    pub line: Option<u32>,
    /// The column, counted from 1.
    pub column: Option<u32>,
}

impl SourceLine {
    /// The file as the compiler was told of it: `fs/read_write.c`.
    #[must_use]
    pub fn relative(&self) -> &str {
        self.file.get(self.directory..).unwrap_or(&self.file)
    }
}

/// A unit's line table.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// Runs of rows that cover their addresses without a hole, by start.
    sequences: Vec<Sequence>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: u32,
    line: u32,
    column: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    start: u64,
    end: u64,
    /// Range of its rows.
    first: usize,
    after: usize,
}

impl Rows {
    fn read(dwarf: &Dwarf<'_>, info: &UnitInfo) -> Option<Self> {
        let program = line_program(dwarf, info)?;
        let mut table = Self::default();
        let mut rows = program.rows();
        let mut first = 0;
        while let Ok(Some((_, row))) = rows.next_row() {
            let address = row.address();
            if row.end_sequence() {
                let after = table.rows.len();
                if let Some(start) =
                    table.rows.get(first).map(|row| row.address).filter(|&start| start < address)
                {
                    table.sequences.push(Sequence { start, end: address, first, after });
                }
                first = after;
                continue;
            }
            let column = match row.column() {
                gimli::ColumnType::LeftEdge => 0,
                gimli::ColumnType::Column(column) => small(column.get()),
            };
            let line = row.line().map_or(0, |line| small(line.get()));
            let row = Row { address, file: small(row.file_index()), line, column };
            match table.rows.get_mut(first..).and_then(<[Row]>::last_mut) {
                // Of several rows for one address the last one counts: those before it cover no byte.
                Some(last) if last.address == address => *last = row,
                _ => table.rows.push(row),
            }
        }
        table.rows.shrink_to_fit();
        table.sequences.sort_by_key(|sequence| sequence.start);
        Some(table)
    }

    fn at(&self, address: u64) -> Option<&Row> {
        let (rows, _) = self.sequence(address)?;
        rows.get(rows.partition_point(|row| row.address <= address).checked_sub(1)?)
    }

    /// Where the rows of the address's line that follow one another begin, and where the next line begins.
    fn around(&self, address: u64) -> Option<(u64, u64)> {
        let (rows, end) = self.sequence(address)?;
        let (before, behind) = rows.split_at_checked(rows.partition_point(|row| row.address <= address))?;
        let here = before.last()?;
        let same = |row: &&Row| (row.file, row.line) == (here.file, here.line);
        let first = before.iter().rev().take_while(same).last()?;
        Some((first.address, behind.iter().find(|row| !same(row)).map_or(end, |row| row.address)))
    }

    /// The rows of the run that covers an address, and where it ends.
    fn sequence(&self, address: u64) -> Option<(&[Row], u64)> {
        /// Sequences of one unit do not overlap but for damage.
        const NEIGHBOURS: usize = 16;
        let end = self.sequences.partition_point(|sequence| sequence.start <= address);
        let mut before = self.sequences.get(..end)?.iter().rev().take(NEIGHBOURS);
        let sequence = before.find(|sequence| address < sequence.end)?;
        Some((self.rows.get(sequence.first..sequence.after)?, sequence.end))
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A unit's line program.
pub(super) fn line_program<'a>(
    dwarf: &Dwarf<'a>,
    info: &UnitInfo,
) -> Option<gimli::IncompleteLineProgram<Slice<'a>>> {
    let unit = info.unit(dwarf)?;
    let root = unit.entry(unit.header.root_offset()).ok()?;
    let text = |name| dwarf.attr_string(&unit, root.attr_value(name)?).ok();
    let (directory, name) = (text(dw::DW_AT_comp_dir), text(dw::DW_AT_name));
    dwarf.debug_line.program(info.line_program?, unit.header.address_size(), directory, name).ok()
}

/// Names of a unit's source files.
pub(super) struct Files<'a> {
    program: gimli::IncompleteLineProgram<Slice<'a>>,
    directory: Option<Slice<'a>>,
    unit: Unit<'a>,
}

impl<'a> Files<'a> {
    pub(super) fn of(dwarf: &Dwarf<'a>, info: &UnitInfo) -> Option<Self> {
        let program = line_program(dwarf, info)?;
        let unit = info.unit(dwarf)?;
        let root = unit.entry(unit.header.root_offset()).ok()?;
        let directory = root.attr_value(dw::DW_AT_comp_dir);
        let directory = directory.and_then(|value| dwarf.attr_string(&unit, value).ok());
        Some(Self { program, directory, unit })
    }

    /// The path of a file by its number: the file, under its directory, under the unit's, until one is absolute; and how
    /// much of it is the unit's.
    fn path(&self, dwarf: &Dwarf<'a>, file: u64) -> Option<(Box<str>, usize)> {
        let header = self.program.header();
        let file = header.file(file)?;
        let text = |value| dwarf.attr_string(&self.unit, value).ok();
        let mut path = text(file.path_name())?.slice().to_vec();
        // Directory 0 is the unit's own in all versions.
        let own = (file.directory_index() != 0).then(|| text(file.directory(header)?)).flatten();
        if let Some(own) = own.filter(|own| !own.is_empty() && !path.starts_with(b"/")) {
            path.splice(0..0, [own.slice(), b"/"].concat());
        }
        let mut unit = 0;
        if let Some(directory) = self.directory.filter(|unit| !unit.is_empty() && !path.starts_with(b"/")) {
            let directory = [directory.slice(), b"/"].concat();
            unit = safe_name(&directory).len();
            path.splice(0..0, directory);
        }
        Some((safe_name(&path), unit))
    }

    pub(super) fn source(&self, dwarf: &Dwarf<'a>, file: u64, line: u64, column: u64) -> Option<SourceLine> {
        let some = |number: u64| Some(small(number)).filter(|&number| number > 0);
        let (file, directory) = self.path(dwarf, file)?;
        Some(SourceLine { file, directory, line: some(line), column: some(column) })
    }
}

impl DwarfFile {
    /// The line that a code address belongs to. For the line of a call, give the address of the call, not that behind
    /// it: its last byte at `return address - 1` will do.
    #[must_use]
    pub fn line(&self, address: VirtAddr) -> Option<SourceLine> {
        let dwarf = self.sections.dwarf();
        let linked = self.sections.linked(address);
        let info = self.unit_at(&dwarf, linked)?;
        self.line_in(&dwarf, &info, &Files::of(&dwarf, &info)?, linked)
    }

    /// The line that a code address belongs to, and its code around there.
    #[must_use]
    pub fn line_range(&self, address: VirtAddr) -> Option<(SourceLine, Range<VirtAddr>)> {
        let line = self.line(address)?;
        let dwarf = self.sections.dwarf();
        let linked = self.sections.linked(address);
        let info = self.unit_at(&dwarf, linked)?;
        let (start, end) = info.rows.get()?.around(linked)?;
        let at = |place: u64| address.add(place.wrapping_sub(linked));
        Some((line, at(start)..at(end)))
    }

    pub(super) fn line_in<'a>(
        &self,
        dwarf: &Dwarf<'a>,
        info: &UnitInfo,
        files: &Files<'a>,
        address: u64,
    ) -> Option<SourceLine> {
        let rows = info.rows.get_or_init(|| Rows::read(dwarf, info).unwrap_or_default());
        let row = rows.at(address)?;
        files.source(dwarf, row.file.into(), row.line.into(), row.column.into())
    }
}
