use kdive_base::{Endian, Missing, VirtualMemory, Why};
use kdive_debuginfo::Type;
use kdive_debuginfo::types::{Encoding, Enum, Member, Record, RecordKind, Tag, TypeUnit};

use super::*;

/// Memory of one page at 0x1000 that counts up, and nothing else.
struct OnePage;

impl VirtualMemory for OnePage {
    fn read(&self, at: VirtAddr, into: &mut [u8]) -> (usize, Option<Missing>) {
        for (index, byte) in into.iter_mut().enumerate() {
            let here = at.add(index as u64);
            if here.0 >> 12 != 1 {
                return (index, Some(Missing::new(here, Why::Excluded)));
            }
            *byte = here.0 as u8;
        }
        (into.len(), None)
    }

    fn endian(&self) -> Endian {
        Endian::Little
    }
}

/// A unit that is a list of types.
struct List(Vec<Type>);

impl TypeUnit for List {
    fn module(&self) -> Option<&str> {
        None
    }
    fn get(&self, index: u32) -> Option<Type> {
        self.0.get(index as usize).cloned()
    }
    fn named(&self, _: Tag, _: &str) -> Vec<TypeId> {
        Vec::new()
    }
    fn for_each_name(&self, _: Tag, _: &mut dyn FnMut(&str, TypeId)) {}
    fn enumerators(&self, _: &str) -> Vec<(TypeId, i128)> {
        Vec::new()
    }
}

const CHAR: u32 = 0;
const INT: u32 = 1;
const BOOL: u32 = 2;

fn types(more: impl Fn(fn(u32) -> TypeId) -> Vec<Type>) -> Types {
    let int = |name: &str, bytes, encoding| Type::Int { name: name.into(), bytes, encoding };
    let mut all = vec![
        int("char", 1, Encoding::Signed),
        int("int", 4, Encoding::Signed),
        int("_Bool", 1, Encoding::Bool),
    ];
    all.extend(more(id));
    Types::new(8).with(|_| List(all))
}

fn id(index: u32) -> TypeId {
    TypeId { unit: 0, index }
}

fn member(name: &str, of: TypeId, bit_offset: u64, bit_size: Option<u32>) -> Member {
    Member { name: Some(name.into()).filter(|_| !name.is_empty()), of, bit_offset, bit_size }
}

fn record(bytes: u64, members: Vec<Member>) -> Type {
    Type::Record(Record { kind: RecordKind::Struct, name: Some("s".into()), bytes, members })
}

fn shown(types: &Types, value: &Value, style: Style) -> Shown {
    let symbol = |at: VirtAddr| (at.0 == 0x1000).then(|| Place { text: "panic".to_owned(), vague: false });
    Printer { types, memory: &OnePage, symbol: &symbol, style }.value(value)
}

fn text(types: &Types, of: TypeId, bytes: &[u8], style: Style) -> String {
    shown(types, &Value { of, stored: Stored::Bytes(bytes.into()) }, style).text(&style)
}

#[test]
fn scalars_and_arrays_stand_as_in_c() {
    let types = types(|_| vec![]);
    let int = types.int(4, true);
    let line = |of, bytes: &[u8]| text(&types, of, bytes, Style::LINE);
    assert_eq!(line(int, &(-5_i32).to_le_bytes()), "-5");
    assert_eq!(line(types.int(4, false), &u32::MAX.to_le_bytes()), "4294967295");
    assert_eq!(line(types.int(16, true), &[0xff; 16]), "-1");
    assert_eq!(line(types.pointer_to(int), &0x1000_u64.to_le_bytes()), "(int *) 0x1000 <panic>");
    assert_eq!(line(types.pointer_to(int), &[0; 8]), "(int *) 0x0");
    assert_eq!(line(types.array_of(int, Some(3)), &[1, 0, 0, 0, 2, 0, 0, 0]), "{1, 2, ?}");
    assert_eq!(line(types.array_of(types.array_of(int, Some(2)), Some(1)), &[0; 8]), "{{...}}");
    assert_eq!(line(id(BOOL), &[1]), "true");
    assert_eq!(line(id(BOOL), &[3]), "3");
    assert_eq!(line(id(CHAR), b"'"), r"39 '\''");
    assert_eq!(line(types.int(1, false), &[200]), r"200 '\310'");
    let hexadecimal = Style { hexadecimal: true, ..Style::LINE };
    assert_eq!(text(&types, id(CHAR), &[0xff], hexadecimal), "0xff");
    assert_eq!(text(&types, id(BOOL), &[1], hexadecimal), "0x1");
}

#[test]
fn characters_are_escaped_in_octal_and_the_last_nul_is_left_out() {
    let types = types(|_| vec![]);
    let chars = |count| types.array_of(id(CHAR), Some(count));
    assert_eq!(text(&types, chars(5), b"a\"\n\0\0", Style::LINES), r#""a\"\n\000""#);
    assert_eq!(text(&types, chars(4), b"\x1b[1m", Style::LINES), r#""\033[1m""#);
    let short = Style { elements: 2, ..Style::LINES };
    assert_eq!(text(&types, chars(4), b"abc\0", short), r#""ab"..."#);
    let stop = Style { null_stop: true, ..Style::LINES };
    assert_eq!(text(&types, chars(4), b"a\0b\0", stop), r#""a""#);
}

#[test]
fn records_are_laid_out_over_lines_and_in_one() {
    let types = types(|id| {
        vec![
            record(8, vec![member("a", id(INT), 0, None), member("", id(4), 32, None)]),
            Type::Record(Record {
                kind: RecordKind::Union,
                name: None,
                bytes: 4,
                members: vec![member("b", id(INT), 0, None), member("c", id(INT), 4, Some(3))],
            }),
            record(0, vec![]),
            Type::Array { of: id(3), count: Some(2) },
        ]
    });
    let value = Value { of: id(3), stored: Stored::Bytes([1, 0, 0, 0, 0x70, 0, 0, 0][..].into()) };
    let shown_once = shown(&types, &value, Style::LINES);
    assert_eq!(shown_once.text(&Style::LINES), "{\n  a = 1,\n  {\n    b = 112,\n    c = -1\n  }\n}");
    let one = Style { depth: 8, ..Style::LINE };
    assert_eq!(shown_once.text(&one), "{a = 1, {b = 112, c = -1}}");
    assert_eq!(serde_json::to_string(&shown_once).unwrap(), r#"{"a":1,"b":112,"c":-1}"#);
    assert_eq!(text(&types, id(5), &[], Style::LINES), "{<No data fields>}");
    let pair = text(&types, id(6), &[0; 16], Style::LINES);
    assert_eq!(
        pair,
        "{{\n    a = 0,\n    {\n      b = 0,\n      c = 0\n    }\n  }, {\n    a = 0,\n    {\n      b = 0,\n      c = 0\n    }\n  }}"
    );
}

#[test]
fn enums_have_names_and_flags() {
    let of = |values: &[(&str, i128)]| {
        let values = values.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        Type::Enum(Enum { name: None, bytes: 4, signed: false, values })
    };
    let types = types(|_| vec![of(&[("A", 1), ("B", 2), ("C", 12)]), of(&[("X", 1), ("Y", 2), ("Z", 3)])]);
    let line = |index, value: u32| text(&types, id(index), &value.to_le_bytes(), Style::LINE);
    assert_eq!(line(3, 1), "A");
    assert_eq!(line(3, 3), "(A | B)");
    assert_eq!(line(3, 14), "(B | C)");
    assert_eq!(line(3, 17), "(A | unknown: 0x10)");
    assert_eq!(line(3, 16), "(unknown: 0x10)");
    assert_eq!(line(3, 0), "0");
    assert_eq!(line(4, 3), "Z");
    assert_eq!(line(4, 7), "7");
}

#[test]
fn what_is_missing_is_said_and_the_rest_shown() {
    let types = types(|id| {
        vec![
            record(8, vec![member("a", id(INT), 0, None), member("b", id(INT), 32, None)]),
            Type::Pointer { to: id(CHAR), bytes: 8 },
            Type::Array { of: id(CHAR), count: None },
        ]
    });
    let at = |at| shown(&types, &Value::object(id(3), VirtAddr(at)), Style::LINE);
    let half = at(0x1ffc);
    assert_eq!(half.text(&Style::LINE), "{a = -66052, b = <unavailable: excluded>}");
    assert_eq!(half.missing, [Missing::new(VirtAddr(0x2000), Why::Excluded)]);
    let json = serde_json::to_string(&half).unwrap();
    assert_eq!(json, r#"{"a":-66052,"b":{"unavailable":"excluded"}}"#);
    assert_eq!(at(0x5000).text(&Style::LINE), "<unavailable: excluded>");
    let pointer = text(&types, id(4), &0x5000_u64.to_le_bytes(), Style::LINE);
    assert_eq!(pointer, "0x5000 <unavailable: excluded>");
    let flexible = shown(&types, &Value::object(id(5), VirtAddr(0x1ffe)), Style::LINE);
    assert_eq!(flexible.text(&Style::LINE), r#"0x1ffe "\376\377""#);
}

#[test]
fn types_that_hold_themselves_end() {
    let types = types(|id| {
        vec![
            record(8, vec![member("a", id(3), 0, None), member("b", id(3), 0, None)]),
            Type::Array { of: id(4), count: Some(u64::MAX) },
        ]
    });
    let style = Style { length: 1000, ..Style::LINES };
    let value = shown(&types, &Value::object(id(3), VirtAddr(0x1000)), style);
    assert!(value.text(&style).len() < 1100);
    let _ = shown(&types, &Value::object(id(4), VirtAddr(0x1000)), style);
    // Found by fuzzing: without a bound the lines double with each level.
    assert!(declaration(&types, id(3)).len() < 20_000);
    assert!(offsets(&types, id(3)).len() < 20_000);
}

#[test]
fn text_is_bounded() {
    let types = types(|_| vec![]);
    let style = Style { length: 8, elements: usize::MAX, ..Style::LINE };
    let huge = types.array_of(types.int(4, false), Some(u64::MAX));
    assert_eq!(text(&types, huge, &[0; 64], style), "{0, 0, 0...");
}

#[test]
fn declarations_open_what_has_no_name() {
    let types = types(|id| {
        vec![
            record(
                16,
                vec![
                    member("a", id(INT), 0, None),
                    member("", id(4), 32, None),
                    member("flag", id(INT), 64, Some(3)),
                    member("link", id(6), 96, None),
                ],
            ),
            Type::Record(Record {
                kind: RecordKind::Union,
                name: None,
                bytes: 4,
                members: vec![member("b", id(INT), 0, None), member("c", id(5), 0, None)],
            }),
            Type::Record(Record {
                kind: RecordKind::Struct,
                name: None,
                bytes: 4,
                members: vec![member("d", id(INT), 0, None)],
            }),
            Type::Typedef { name: "link_t".into(), to: id(INT) },
        ]
    });
    let lines = declaration(&types, id(3));
    let text: Vec<_> = lines.iter().map(|line| format!("{}{}", "  ".repeat(line.level), line.text)).collect();
    let wanted = [
        "struct s {",
        "  int a;",
        "  union {",
        "    int b;",
        "    struct {",
        "      int d;",
        "    } c;",
        "  };",
        "  int flag : 3;",
        "  link_t link;",
        "}",
    ];
    assert_eq!(text, wanted);
    let offset = |index: usize| lines[index].member.as_ref().map(|member| member.bit_offset);
    assert_eq!([offset(1), offset(3), offset(6), offset(8)], [Some(0), Some(32), Some(32), Some(64)]);
    assert_eq!(declaration(&types, id(6))[0].text, "typedef int link_t;");
}

#[test]
fn holes_and_padding_are_marked() {
    let types = types(|id| {
        vec![record(
            16,
            vec![
                member("a", id(CHAR), 0, None),
                member("b", id(INT), 32, None),
                member("c", id(INT), 64, Some(3)),
            ],
        )]
    });
    let wanted = "\
/* offset      |    size */  type = struct s {
/*      0      |       1 */    char a;
/* XXX  3-byte hole      */
/*      4      |       4 */    int b;
/*      8: 0   |       4 */    int c : 3;
/* XXX  5-bit padding    */
/* XXX  7-byte padding   */

                               /* total size (bytes):   16 */
                             }";
    assert_eq!(offsets(&types, id(3)).join("\n"), wanted);
}

#[test]
fn formats_reach_every_number() {
    let types = types(|id| {
        vec![
            record(8, vec![member("a", id(INT), 0, None), member("p", id(4), 32, None)]),
            Type::Array { of: id(CHAR), count: Some(2) },
        ]
    });
    let style = Style { format: Format::of("x"), ..Style::LINE };
    assert_eq!(
        text(&types, id(3), &[255, 255, 255, 255, b'a', 0, 0, 0], style),
        "{a = 0xffffffff, p = {...}}"
    );
    let deep = Style { depth: 4, ..style };
    assert_eq!(text(&types, id(4), b"ab", deep), "{0x61, 0x62}");
}
