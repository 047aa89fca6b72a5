//! Types, against sizes and offsets that the compiled program prints.

use super::*;
use crate::dwarf::{DwarfTypes, Names};
use crate::types::{Encoding, Qualifier, Tag, Type, TypeId, Types};

const VERSIONS: [&str; 4] = ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5"];

fn types(file: &Arc<DwarfFile>, names: Names) -> Types {
    let pointer_bytes = size_of::<*const u8>() as u64;
    Types::new(pointer_bytes).with(|unit| DwarfTypes::new(Arc::clone(file), unit, None, names))
}

/// A type by its C name: `struct plain`, `word_t`.
fn named(types: &Types, name: &str) -> TypeId {
    let (tag, name) = match name.split_once(' ') {
        Some(("struct", name)) => (Tag::Struct, name),
        Some(("union", name)) => (Tag::Union, name),
        Some(("enum", name)) => (Tag::Enum, name),
        _ => (Tag::Typedef, name),
    };
    types.find(tag, name).unwrap_or_else(|error| panic!("{error}"))
}

fn each_version(check: impl Fn(&Fixture, &Types)) {
    for version in VERSIONS {
        // Strict versions have no forms of later ones: `-gdwarf-3` writes offsets of bit-fields in the old way.
        let fixture = Fixture::new(&["-g", version, "-gstrict-dwarf", "-O0"]);
        check(&fixture, &types(&fixture.dwarf(), Names::All));
    }
}

#[test]
fn sizes_and_offsets_are_the_compilers() {
    each_version(|fixture, types| {
        for told in fixture.printed.lines().filter_map(|line| line.strip_prefix("size ")) {
            let (name, bytes) = told.rsplit_once(' ').unwrap();
            assert_eq!(types.size_of(named(types, name)), bytes.parse().ok(), "{name}");
        }
        for told in fixture.told("member") {
            let record = named(types, &format!("struct {}", told[0]));
            let member = types.member(record, told[1]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(member.byte_offset().to_string(), told[2], "{told:?}");
        }
    });
}

#[test]
#[cfg(target_endian = "little")]
fn bit_fields_are_where_the_compiler_puts_them() {
    each_version(|fixture, types| {
        let record = named(types, "struct bits");
        for told in fixture.told("bits") {
            let member = types.member(record, told[0]).unwrap();
            assert_eq!(member.bit_offset.to_string(), told[1], "{told:?}");
            assert_eq!(member.bit_size.map(|bits| bits.to_string()).as_deref(), Some(told[2]), "{told:?}");
        }
    });
}

#[test]
fn variables_have_their_whole_types() {
    each_version(|_, types| {
        let of = |name| types.name_of(types.find(Tag::Variable, name).unwrap());
        assert_eq!(of("the_plain"), "struct plain *");
        assert_eq!(of("the_handler"), "handler_t");
        assert_eq!(of("sink"), "volatile int");
        // Declared without, defined with its length.
        assert_eq!(of("the_array"), "long [4]");
        assert_eq!(of("the_names"), "const char *[2][3]");
    });
}

#[test]
fn shapes_are_those_of_c() {
    each_version(|_, types| {
        let member = |record: &str, path: &str| types.member(named(types, record), path).unwrap().of;
        let Some(Type::Array { of, count: Some(3) }) =
            types.get(member("struct plain", "grid")).as_deref().cloned()
        else {
            panic!("grid is no array of three")
        };
        let Some(Type::Array { count: Some(5), .. }) = types.get(of).as_deref().cloned() else {
            panic!("its rows are not of five")
        };
        let tail = types.get(member("struct plain", "tail"));
        assert!(matches!(tail.as_deref(), Some(Type::Array { count: None, .. })));
        let Some(Type::Pointer { to, .. }) = types.get(member("struct nested", "hidden")).as_deref().cloned()
        else {
            panic!("hidden is no pointer")
        };
        let hidden = Type::Declaration { tag: Tag::Struct, name: "never_defined".into() };
        assert_eq!(types.get(to).as_deref(), Some(&hidden));
        let flag = types.stripped(member("struct bits", "e"));
        assert!(matches!(flag.as_deref(), Some(Type::Int { encoding: Encoding::Bool, bytes: 1, .. })));
        let real = types.stripped(member("union either", "real"));
        assert!(matches!(real.as_deref(), Some(Type::Float { bytes: 8, .. })));
        assert_eq!(types.name_of(member("struct nested", "restrict_me")), "volatile const char * const");
    });
}

#[test]
fn functions_have_their_parameters() {
    each_version(|_, types| {
        let Some(Type::Function(outermost)) =
            types.find(Tag::Function, "outermost").ok().and_then(|id| types.get(id)).as_deref().cloned()
        else {
            panic!("outermost is no function")
        };
        let params: Vec<_> = outermost
            .params
            .iter()
            .map(|param| (param.name.as_deref().unwrap(), types.name_of(param.of)))
            .collect();
        assert_eq!(params, [("argument", "int".to_owned()), ("pointer", "struct plain *".to_owned())]);
        assert_eq!(types.name_of(outermost.returns), "int");
        assert!(!outermost.variadic);
        let handler = types.target_of(named(types, "handler_t")).and_then(|id| types.get(id));
        assert!(
            matches!(handler.as_deref(), Some(Type::Function(of)) if of.variadic && of.params.len() == 2)
        );
        // Declared by stdio.h, defined elsewhere.
        assert!(types.find(Tag::Function, "printf").is_err());
    });
}

#[test]
fn enumerators_keep_their_signs() {
    each_version(|_, types| {
        let value = |name| types.enumerator(name).unwrap().1;
        assert_eq!((value("GREEN"), value("BLUE")), (7, -3));
        assert_eq!((value("LOW"), value("HIGH")), (1, 0x8000_0000));
        assert_eq!(value("NAMELESS"), 42);
        let signed =
            |name| matches!(types.get(named(types, name)).as_deref(), Some(Type::Enum(of)) if of.signed);
        assert!(signed("enum color"));
        assert!(!signed("enum mask"));
    });
}

#[test]
fn only_what_a_unit_answers_for_is_indexed() {
    let fixture = Fixture::new(&["-g", "-O0"]);
    let types = types(&fixture.dwarf(), Names::Variables);
    assert!(types.find(Tag::Struct, "plain").is_err());
    assert!(types.enumerator("GREEN").is_err());
    let variable = types.find(Tag::Variable, "the_nested").unwrap();
    assert_eq!(types.member(variable, "point.x").map(|member| types.name_of(member.of)).unwrap(), "int");
}

#[test]
fn atomic_is_a_qualifier() {
    let fixture = Fixture::new(&["-g", "-gdwarf-5", "-O0"]);
    let types = types(&fixture.dwarf(), Names::All);
    let counter = types.get(types.find(Tag::Variable, "the_counter").unwrap());
    assert!(matches!(counter.as_deref(), Some(Type::Qualified { qualifier: Qualifier::Atomic, .. })));
}

/// A program of two source files.
fn compiled(directory: &tempfile::TempDir, sources: [&str; 2]) -> Arc<DwarfFile> {
    let compiled = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-g", "-O0"])
        .args(sources)
        .args(["-o", "both"])
        .current_dir(directory.path())
        .status();
    assert!(compiled.unwrap().success());
    let bytes = std::fs::read(directory.path().join("both")).unwrap();
    DwarfFile::open(ElfFile::parse(bytes.into()).unwrap(), Placement::Slid(0)).unwrap()
}

#[test]
fn copies_in_several_units_are_one_type_and_others_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write(
        "shared.h",
        "struct shared { int a, b; };\nenum way { UP, DOWN };\nstatic inline int in(void) { return 1; }\n",
    );
    write(
        "one.c",
        "#include \"shared.h\"\nstruct mine { int x; };\nstruct shared one; struct mine two; enum way way1;\nstatic int local; int *p = &local; int main(void) { return in(); }\n",
    );
    write(
        "two.c",
        "#include \"shared.h\"\nstruct mine { long x; };\nstruct shared three; struct mine four; enum way way2;\nstatic char local; char *q = &local; int other(void) { return in(); }\n",
    );
    let types = types(&compiled(&directory, ["one.c", "two.c"]), Names::All);
    assert!(types.find(Tag::Struct, "shared").is_ok());
    assert!(types.find(Tag::Function, "in").is_ok());
    assert_eq!(types.enumerator("DOWN").unwrap().1, 1);
    for (tag, name) in [(Tag::Struct, "mine"), (Tag::Variable, "local")] {
        let Err(crate::types::Lookup::Ambiguous { candidates, .. }) = types.find(tag, name) else {
            panic!("{tag} {name} has two meanings")
        };
        assert_eq!(candidates.len(), 2);
    }
    let mut count = 0;
    types.for_each_name(Tag::Struct, |name, _| count += usize::from(name == "shared"));
    assert_eq!(count, 1, "copies are kept");
}

#[test]
fn a_source_file_that_another_one_includes_has_its_own_meaning_there() {
    // As the kernel's compat_binfmt_elf.c includes binfmt_elf.c.
    const PLAIN: &str = "
        #ifndef KIND
        #define KIND long
        #define NAME main
        #endif
        struct info { KIND *x; };
        int NAME(void) { struct info i = { 0 }; return i.x != 0; }
    ";
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("plain.c", PLAIN);
    write("compat.c", "#define KIND int\n#define NAME other\n#include \"plain.c\"\n");
    let found = types(&compiled(&directory, ["plain.c", "compat.c"]), Names::All).find(Tag::Struct, "info");
    assert!(matches!(found, Err(crate::types::Lookup::Ambiguous { .. })), "{found:?}");
}
