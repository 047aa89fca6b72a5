//! Reads a case out of text: a console log, `dmesg`, `vmcore-dmesg.txt`, a pasted session of crash.
