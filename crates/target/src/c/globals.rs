//! Types of the kernel's global variables, for kernels without DWARF.

/// `name type`, a line each, sorted by name: see the file's own head.
const TABLE: &str = include_str!("globals.txt");

/// The C type of a variable, as its declaration in the kernel's source has it.
pub(super) fn type_of(name: &str) -> Option<&'static str> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).find(|(known, _)| *known == name).map(|(_, of)| of)
}
