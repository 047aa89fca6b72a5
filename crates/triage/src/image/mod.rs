//! Reads a case out of a memory image.
