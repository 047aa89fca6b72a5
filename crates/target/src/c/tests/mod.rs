//! Expressions over a world of a few types.

mod properties;
mod small;

use std::sync::LazyLock;

use kdive_base::Endian;

use self::small::{HANDLER, SECOND, START, Small};
use super::{Evaluated, Value, World, evaluate};

/// One world for all: what one expression makes, others know.
static WORLD: LazyLock<Small> = LazyLock::new(Small::new);

fn run(text: &str) -> Evaluated {
    evaluate(text, &*WORLD).unwrap_or_else(|error| panic!("{text}: {error}\n{}", error.pointed()))
}

fn number(text: &str) -> i128 {
    let found = run(text);
    found.value.integer(&*WORLD).unwrap_or_else(|lacks| panic!("{text}: {lacks}"))
}

fn type_of(text: &str) -> String {
    let found = run(text);
    found.types.name_of(found.value.of)
}

fn error(text: &str) -> String {
    match evaluate(text, &*WORLD) {
        Ok(found) => panic!("{text} has the value {:?}", found.value),
        Err(error) => error.to_string(),
    }
}

/// The part of the text that an error is about.
fn pointed(text: &str) -> String {
    let error = evaluate(text, &*WORLD).map(|found| found.value).unwrap_err();
    text[error.at].to_owned()
}

#[test]
fn constants_have_the_first_type_that_holds_them() {
    for (text, of) in [
        ("1", "int"),
        ("2147483648", "long"),
        ("0x80000000", "unsigned int"),
        ("0xffffffffffffffff", "unsigned long"),
        ("1u", "unsigned int"),
        ("1l", "long"),
        ("1ull", "unsigned long"),
        ("4294967296u", "unsigned long"),
        ("'a'", "char"),
        ("\"abc\"", "char [4]"),
        ("sizeof(int)", "unsigned long"),
        ("1 < 2", "int"),
        ("(unsigned char)1 + (unsigned char)1", "int"),
        ("1 ? 2 : 3l", "long"),
        ("1u + 1l", "long"),
        ("(unsigned __int128)1 + 1", "unsigned __int128"),
    ] {
        assert_eq!(type_of(text), of, "{text}");
    }
}

#[test]
fn arithmetic_is_that_of_c() {
    for (text, value) in [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-1 < 1u", 0),
        ("-1 < 1", 1),
        ("-1l < 1u", 1),
        ("(unsigned char)300", 44),
        ("(signed char)200", -56),
        ("(unsigned char)-1 >> 1", 127),
        ("-1 >> 1", -1),
        ("-1u >> 31", 1),
        ("1 << 31", -2_147_483_648),
        ("1ul << 63", 1 << 63),
        ("~0", -1),
        ("~0u", 0xffff_ffff),
        ("!5", 0),
        ("0x7fffffff + 1", -2_147_483_648),
        ("0xffffffff + 1", 0),
        ("5 & 3 | 8 ^ 1", 9),
        ("1 == 1 == 1", 1),
        ("2 > 1 && 1 > 2", 0),
        ("1 || 1 / 0", 1),
        ("0 && 1 / 0", 0),
        ("1 ? 2 : 1 / 0", 2),
        ("(1, 2)", 2),
        ("(_Bool)256", 1),
        ("(bool)0", 0),
        ("(unsigned __int128)1 << 100 >> 98", 4),
        ("(-0x7fffffffffffffffl - 1) / -1", -0x8000_0000_0000_0000),
        ("'a' + 1", 98),
        ("\"abc\"[1]", 98),
        ("010 + 0x10 + 0b10", 26),
    ] {
        assert_eq!(number(text), value, "{text}");
    }
}

#[test]
fn enumerators_are_numbers_with_names() {
    assert_eq!((type_of("KIND_B"), number("KIND_B")), ("enum kind".to_owned(), 5));
    assert_eq!(number("MINUS"), -1);
    assert_eq!(number("KIND_A - 1"), 0xffff_ffff, "an enum without negative values is unsigned");
    assert_eq!(number("(enum sign)3 == PLUS"), 1);
    assert_eq!(number("(enum sign)0xffffffff"), -1);
}

#[test]
fn members_are_found_through_pointers_and_anonymous_records() {
    assert_eq!(number("first.pid"), 42);
    assert_eq!(number("first.parent->pid"), -7);
    assert_eq!(number("first.parent.pid"), -7, "as gdb, either follows a pointer");
    assert_eq!(number("((struct task *)$task)->parent->parent->pid"), 42);
    assert_eq!(number("first.a"), 0x2_0000_0001);
    assert_eq!(number("first.high"), 2);
    assert_eq!(number("&first.high") as u64, START + 60);
    assert_eq!(number("first.vals[2]"), 3);
    assert_eq!(number("2[first.vals]"), 3);
    assert_eq!(number("*(first.vals + 3)"), 4);
    assert_eq!(number("first.vals[4]"), 5, "C does not check");
    assert_eq!(number("first.data[1]"), i128::from(b'a'));
    assert_eq!(type_of("first.data"), "char []");
    assert_eq!(type_of("first.comm[0]@4"), "char [4]");
    assert_eq!(type_of("first.vals[0]@1+2"), "int [3]");
    assert_eq!(number("local"), 42);
    assert_eq!(number("$ + 1"), 43);
    assert_eq!(number("{int} &second"), -7);
    assert_eq!(number("*&first.pid"), 42);
}

#[test]
fn bit_fields_are_cut_extended_and_promoted() {
    assert_eq!(number("first.flags"), 7);
    assert_eq!(number("first.level"), -3);
    assert_eq!(number("first.wide"), 0x12_3456_789a);
    assert_eq!(number("first.flags - 8"), -1, "what int can hold is an int");
    assert_eq!(type_of("first.flags + 0"), "int");
    assert_eq!(type_of("first.wide + 0"), "unsigned long");
    assert_eq!(error("&first.flags"), "a bit-field has no address");
    assert_eq!(error("sizeof first.flags"), "a bit-field has no size in bytes");
    // The same bits counted from the other end.
    let mut bytes = vec![0; 96];
    bytes[4] = 0b1011_1101;
    let big = Small::with_memory(bytes, Endian::Big);
    let value = |text: &str| evaluate(text, &big).unwrap().value.integer(&big).unwrap();
    assert_eq!((value("first.flags"), value("first.level")), (0b101, -3));
}

#[test]
fn pointers_move_by_elements() {
    assert_eq!(number("(struct task *)0x1000 + 2") as u64, 0x1000 + 2 * 96);
    assert_eq!(number("(struct task *)0x1000 - 1") as u64, 0x1000 - 96);
    assert_eq!(number("1 + (int *)0"), 4);
    assert_eq!(number("(void *)8 + 1"), 9);
    assert_eq!(number("&first.vals[3] - &first.vals[1]"), 2);
    assert_eq!(number("&first.vals[1] - &first.vals[3]"), -2);
    assert_eq!(type_of("&first.vals[3] - &first.vals[1]"), "long");
    assert_eq!(number("&second > &first"), 1);
    assert_eq!(number("first.parent == &second"), 1);
    assert_eq!(number("first.parent && !NULL"), 1);
    assert_eq!(number("&first == 0xffff888000001000"), 1);
    assert_eq!(type_of("first.vals + 1"), "int *");
    assert_eq!(type_of("&first.vals"), "int (*)[4]");
    assert_eq!(type_of("first.parent ? first.parent : 0"), "struct task *");
    assert!(error("&first - &first.pid").contains("have no distance"));
    assert!(error("&first + &first").starts_with("pointers have no operator +"));
    assert!(error("*(void *)8").starts_with("a void pointer does not say what it points to"));
    assert!(error("*8").starts_with("a number is no pointer"));
    assert!(error("first + 1").starts_with("a value of type struct task has no operator +"));
}

#[test]
fn functions_are_their_addresses() {
    assert_eq!(number("(unsigned long)handler") as u64, HANDLER);
    assert_eq!(number("&handler") as u64, HANDLER);
    assert_eq!(number("*handler == handler"), 1);
    assert_eq!(type_of("handler"), "int (int)");
    assert_eq!(type_of("&handler"), "int (*)(int)");
    assert_eq!(number("first.fn == handler"), 1);
    assert_eq!(error("handler(1)"), "functions cannot be called: the kernel of a dump does not run");
}

#[test]
fn sizes_and_offsets_need_no_memory() {
    for (text, value) in [
        ("sizeof(struct task)", 96),
        ("sizeof(task)", 96),
        ("sizeof(task_t)", 96),
        ("sizeof task_t", 96),
        ("sizeof(task *)", 8),
        ("sizeof(struct task[3])", 288),
        ("sizeof(int (*)[4])", 8),
        ("sizeof first.comm", 16),
        ("sizeof(first.comm) / sizeof(first.comm[0])", 16),
        ("sizeof ((struct task *)0)->parent->parent->comm", 16),
        ("sizeof (1 / 0)", 4),
        ("sizeof \"abc\"", 4),
        ("sizeof(void)", 1),
        ("sizeof(typeof(first.tasks))", 16),
        ("offsetof(struct task, tasks.prev)", 40),
        ("offsetof(struct task, vals[2])", 84),
        ("offsetof(task, high)", 60),
        ("__builtin_offsetof(task_t, data[5])", 101),
        ("(long)&((struct task *)0)->comm[3]", 19),
        ("_Alignof(struct task)", 8),
        ("sizeof(const volatile unsigned long int)", 8),
        ("sizeof(long long unsigned)", 8),
        ("sizeof(void (*)(struct task *, int, ...))", 8),
    ] {
        assert_eq!(number(text), value, "{text}");
    }
    assert_eq!(error("offsetof(struct task, flags)"), "a bit-field has no offset in bytes");
}

#[test]
fn container_of_goes_back_to_the_record() {
    assert_eq!(number("container_of(first.tasks.next, struct task, tasks)") as u64, SECOND);
    assert_eq!(number("container_of(first.tasks.next, task, tasks)->pid"), -7);
    assert_eq!(number("container_of(&first.vals[2], struct task, vals[2])->pid"), 42);
    assert_eq!(type_of("list_entry(first.tasks.next, task_t, tasks)"), "task_t *");
}

#[test]
fn types_are_named_in_all_of_cs_ways() {
    for (text, of) in [
        ("(struct task *)0", "struct task *"),
        ("(task *)0", "struct task *"),
        ("(task_t *)0", "task_t *"),
        ("(first *)0", "struct first *"),
        ("(const struct task *)0", "const struct task *"),
        ("(struct task const * const *)0", "const struct task * const *"),
        ("(unsigned long int)0", "unsigned long"),
        ("(long unsigned)0", "unsigned long"),
        ("(u64)0", "u64"),
        ("(int (*)(int, struct task *))0", "int (*)(int, struct task *)"),
        ("(char *(*(*)[3])(void))0", "char *(*(*)[3])(void)"),
        ("(void (*)(struct task *task, u64 flags))0", "void (*)(struct task *, u64)"),
        ("(typeof(first.tasks) *)0", "struct list_head *"),
        ("(struct task __user *)0", "struct task *"),
        ("(own *)0", "struct own *"),
    ] {
        assert_eq!(type_of(text), of, "{text}");
    }
    // `first` is a variable and a structure: alone it is the variable.
    assert_eq!(type_of("first"), "struct task");
}

#[test]
fn what_only_a_module_knows_is_found_after_the_kernels() {
    assert_eq!(number("((struct secret *)&first)->word"), 42);
    assert_eq!(number("sizeof(struct own)"), 4);
    let kernels = run("first.pid");
    assert!(
        kernels.types.modules().next().is_none(),
        "the modules' types are not asked for what the kernel knows"
    );
}

#[test]
fn several_definitions_are_listed_and_chosen() {
    assert_eq!(
        error("twice"),
        "twice has 2 definitions: 0xffff888000001000 a/one.c; 0xffff888000001100 b/two.c; 'a/one.c'::twice chooses one"
    );
    assert_eq!(number("'two.c'::twice.pid"), -7);
    assert!(error("sizeof(struct console)").starts_with("struct console has 2 different definitions"));
    assert_eq!(number("sizeof(((struct console *)0)->other)"), 4);
    assert_eq!(number("offsetof(struct console, flags)"), 0);
    assert_eq!(number("((console *)&first)->flags"), 42);
}

#[test]
fn per_processor_copies_are_reached() {
    assert_eq!(number("per_cpu(queue, 1).pid"), -7);
    assert_eq!(number("per_cpu_ptr(&queue, 0)->pid"), 42);
    assert_eq!(error("per_cpu(queue, 2)"), "no such CPU");
}

#[test]
fn an_unknown_type_is_guessed_and_said_to_be() {
    let found = run("untyped");
    assert_eq!(found.types.name_of(found.value.of), "unsigned int", "six bytes to the next symbol");
    assert!(found.guessed.unwrap().to_string().contains("guessed"));
    assert!(run("first").guessed.is_none());
}

#[test]
fn errors_point_and_suggest() {
    for (text, what, at) in [
        ("first.parent->sate", "no member 'sate' in struct task; did you mean '__state'?", "sate"),
        ("frist.pid", "no symbol, enumerator or variable is named frist; did you mean 'first'?", "frist"),
        (
            "ffff888000001000",
            "no symbol, enumerator or variable is named ffff888000001000; did you mean 0xffff888000001000?",
            "ffff888000001000",
        ),
        ("1 + 5 / (2 - 2)", "division by zero", "2 - 2"),
        ("1 << 40", "a shift by 40 of a int, which has 32 bits; 1UL has 64", "40"),
        ("first.pid = 1", "nothing can be assigned: a dump does not change; did you mean '=='?", "="),
        ("first.pid++", "nothing can be changed: a dump is read only", "++"),
        ("(struct tassk *)0", "no struct is named tassk; did you mean 'task'?", "struct tassk *"),
        ("struct task", "a type is no value", "struct task"),
        ("$tsk", "there is no variable $tsk; did you mean '$task'?", "$tsk"),
        ("first.pid.x", "a value of type int has no members", "x"),
        ("(1 + 2", ") is missing at the end", ""),
        ("1 2", "an operator is missing before 2", "2"),
        ("", "an expression is missing", ""),
        ("first.", "the name of a member is missing at the end", ""),
        ("*(int *)8", "address 0x8: excluded by the dump's filter level", "*(int *)8"),
    ] {
        // A value that is not read yet cannot fail: what is asked of it does.
        let text = if text.starts_with("*(int") { format!("1 + {text}") } else { text.to_owned() };
        assert_eq!(error(&text), what);
        assert_eq!(pointed(&text), at, "{text}");
    }
    let error = evaluate("1 +\t(5 / 0)", &*WORLD).map(|found| found.value).unwrap_err();
    assert_eq!(error.pointed(), "1 + (5 / 0)\n         ^");
}

#[test]
fn absurd_texts_are_refused() {
    for text in [
        "(".repeat(5000),
        "-".repeat(5000) + "1",
        "1".to_owned() + &"+1".repeat(5000),
        "1".repeat(20_000),
        "(".repeat(300) + "int" + &")".repeat(300),
        "sizeof(int".to_owned() + &"*".repeat(4000) + ")",
        "sizeof(".to_owned() + &"int (*)(".repeat(400),
        "first".to_owned() + &".parent".repeat(1000),
        "1 ? ".repeat(1000),
        "sizeof ".repeat(1000) + "1",
        "typeof(".repeat(500),
        "\"a\"[".repeat(500),
        "first.vals[0]@0".to_owned(),
        "first.vals[0]@-1".to_owned(),
    ] {
        let _ = error(&text);
    }
    // A value of absurd size is a value; reading it is what fails.
    let huge = run("first.vals[0]@0x7fffffffffff");
    assert!(huge.value.bytes(&*WORLD).is_err());
}

#[test]
fn values_are_walked_without_text() {
    let world = &*WORLD;
    let first = run("first").value;
    let second = first.member(world, "parent").unwrap().deref(world).unwrap();
    assert_eq!(second.address().unwrap().0, SECOND);
    let next: Value = first.member(world, "tasks.next").unwrap();
    assert_eq!(next.pointer(world).unwrap().0, SECOND + 32);
    assert_eq!(next.member(world, "prev").unwrap().pointer(world).unwrap().0, START + 32);
    assert_eq!(first.member(world, "vals").unwrap().index(world, 1).unwrap().integer(world), Ok(2));
    assert_eq!(first.member(world, "level").unwrap().integer(world), Ok(-3));
    assert_eq!(first.size(world), Ok(96));
    assert_eq!(&first.member(world, "comm").unwrap().bytes(world).unwrap()[..7], b"swapper");
    assert_eq!(first.member(world, "sate").unwrap_err().to_string(), "struct task has no member sate");
    assert!(first.deref(world).is_err());
    assert_eq!(world.types().name_of(first.of), "struct task");
}

#[test]
fn completion_offers_members_of_what_stands_before() {
    let offered = |text: &str| super::complete(text, text.len(), &*WORLD).candidates;
    assert_eq!(offered("first.pa"), ["parent"]);
    assert_eq!(offered("1 + first.parent->ta"), ["tasks"]);
    assert_eq!(offered("(first.vals[1] + second.parent->tasks.ne"), ["next"]);
    assert_eq!(offered("((struct task *)$task)->hi"), ["high"]);
    assert_eq!(offered("container_of(first.tasks.next, task, tasks)->pi"), ["pid"]);
    assert_eq!(offered("first.parent[0].co"), ["comm"]);
    assert_eq!(offered("*((task *)8)->co"), ["comm"]);
    assert_eq!(offered("((struct secret *)0)->"), ["word"]);
    assert_eq!(offered("task.le"), ["level"]);
    assert!(offered("first.").len() >= 12);
    assert_eq!(offered("fi"), ["first"]);
    assert_eq!(offered("(struct ta"), ["task"]);
    assert_eq!(offered("KIN"), ["KIND_A", "KIND_B"]);
    assert_eq!(offered("1 + $t"), ["$task"]);
    assert_eq!(offered("sizeo"), ["sizeof"]);
    for nothing in ["", "nothing.x", "1.", ")].x", "((((", "first.pid.x", "'"] {
        assert!(offered(nothing).is_empty(), "{nothing}");
    }
    assert_eq!(super::complete("first.pid + 1", 8, &*WORLD).start, 6);
}
