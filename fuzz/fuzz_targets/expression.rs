//! Evaluates a text over a few types and arbitrary memory, and walks what comes out.
#![no_main]

use kdive_base::Endian;
use kdive_target::c::{World, complete, evaluate};
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/target/src/c/tests/small.rs"]
#[allow(dead_code)]
mod small;

/// What arbitrary bytes seldom spell.
const WORDS: [&str; 48] = [
    "first",
    "second",
    "handler",
    "twice",
    "untyped",
    "queue",
    "$task",
    "local",
    "KIND_B",
    "MINUS",
    "pid",
    "flags",
    "wide",
    "parent",
    "vals",
    "comm",
    "tasks",
    "next",
    "high",
    "data",
    "struct task",
    "(task_t *)",
    "(int (*)(int, u64))",
    "(unsigned __int128)",
    "sizeof ",
    "sizeof(",
    "typeof(",
    "offsetof(struct task, ",
    "container_of(",
    "per_cpu(",
    "_Alignof(",
    "'two.c'::",
    "secret",
    "console",
    "->",
    ".",
    "[",
    "]",
    "(",
    ")",
    "@",
    "<<",
    ">>",
    "&&",
    "?",
    ":",
    ",",
    "0xffffffffffffffff",
];

fuzz_target!(|input: (Vec<(u8, char)>, u16, Vec<u8>, bool)| {
    let (pieces, cursor, memory, big) = input;
    let mut text = String::new();
    for (number, letter) in pieces {
        match WORDS.get(usize::from(number)) {
            Some(word) => text.push_str(word),
            None => text.push(letter),
        }
    }
    let world = small::Small::with_memory(memory, if big { Endian::Big } else { Endian::Little });
    match evaluate(&text, &world) {
        Ok(found) => {
            let _ = found.types.name_of(found.value.of);
            let _ = (found.value.integer(&world), found.value.pointer(&world), found.value.index(&world, -1));
            let _ = found.value.member(&world, "parent");
            let _ = world.all_types().size_of(found.value.of);
        }
        Err(error) => {
            let _ = (error.to_string(), error.pointed());
        }
    }
    let _ = complete(&text, usize::from(cursor), &world);
});
