//! The documents that are made of the help pages.
//!
//! `KDIVE_BLESS=1 cargo test -p kdive --test documents` writes them anew.
// Helpers of tests may fail loudly, as tests do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The commands that crash has, or that stand for one of its options.
const OF_CRASH: &[&str] = &[
    "*", "alias", "ascii", "bpf", "bt", "btop", "dev", "dis", "eval", "exit", "files", "foreach", "fuser",
    "gdb", "help", "ipcs", "irq", "kmem", "list", "log", "mach", "mod", "mount", "net", "p", "ps", "pte",
    "ptob", "ptov", "rd", "repeat", "runq", "rustfilt", "sbitmapq", "search", "set", "sig", "struct", "swap",
    "sym", "sys", "task", "timer", "tree", "union", "vm", "vtop", "waitq", "whatis", "wr",
];

/// gdb's own commands, which crash hands on to it.
const OF_GDB: &[&str] = &["disassemble", "down", "frame", "ptype", "up", "x"];

const HEAD: &str = "\
# Beyond crash

What people ask of a dead machine and have answered with private scripts until now. Each command prints text, `--json`
prints its records (docs/records.schema.json). These are the help pages, as `help COMMAND` shows them.
";

#[test]
fn commands_that_crash_never_had_are_in_their_document() {
    let mut document = HEAD.to_owned();
    for command in kdive_commands::COMMANDS {
        let name = command.name();
        if OF_CRASH.contains(&name) || OF_GDB.contains(&name) {
            continue;
        }
        write!(document, "\n## {name}: {}\n\n{}", command.summary, command.help.trim_end()).unwrap();
        document.push('\n');
        if !command.options.is_empty() {
            document.push_str("\n| option | |\n|---|---|\n");
        }
        for option in command.options {
            let value = option.value.map(|name| format!(" {name}")).unwrap_or_default();
            writeln!(document, "| `{}{value}` | {} |", option.name, option.help).unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/beyond-crash.md");
    if std::env::var_os("KDIVE_BLESS").is_some() {
        fs::write(path, document).unwrap();
        return;
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == document,
        "docs/beyond-crash.md is not as the help pages are: KDIVE_BLESS=1 writes it"
    );
}
