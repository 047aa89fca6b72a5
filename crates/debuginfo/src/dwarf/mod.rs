//! DWARF: inline frames, lines, types and variables of a kernel or module.
