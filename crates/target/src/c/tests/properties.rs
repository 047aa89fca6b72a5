//! What holds for any expression.

use proptest::prelude::*;

use super::small::Small;
use crate::c::ast::{Base, Binary, Derived, Expr, Node, Step, TypeName, Unary};
use crate::c::parser;
use crate::c::resolve::Known;
use crate::c::{World, evaluate};

/// The expression in parentheses wherever C allows them.
fn printed(node: &Node) -> String {
    match &*node.kind {
        Expr::Number(number) => {
            let suffix =
                format!("{}{}", if number.unsigned { "u" } else { "" }, if number.long { "l" } else { "" });
            if number.decimal {
                format!("{}{suffix}", number.value)
            } else {
                format!("{:#x}{suffix}", number.value)
            }
        }
        Expr::Char(byte) => format!("'\\x{byte:x}'"),
        Expr::Text(text) => {
            let bytes: String = text.iter().map(|byte| format!("\\{byte:03o}")).collect();
            format!("\"{bytes}\"")
        }
        Expr::Name(name) | Expr::Variable(name) => name.clone(),
        Expr::Scoped { scope, name } => format!("'{scope}'::{name}"),
        Expr::Unary(operator, of) => {
            let operator = match operator {
                Unary::Plus => "+",
                Unary::Minus => "-",
                Unary::Not => "!",
                Unary::Complement => "~",
                Unary::Dereference => "*",
                Unary::AddressOf => "&",
            };
            format!("{operator}({})", printed(of))
        }
        Expr::Binary(operator, a, b) => format!("({}) {} ({})", printed(a), operator.text(), printed(b)),
        Expr::Conditional(a, b, c) => format!("({}) ? ({}) : ({})", printed(a), printed(b), printed(c)),
        Expr::Cast(of, value) => format!("({})({})", type_name(of), printed(value)),
        Expr::At(of, value) => format!("{{{}}}({})", type_name(of), printed(value)),
        Expr::Member { of, name, .. } => format!("({}).{name}", printed(of)),
        Expr::Index(a, b) => format!("({})[{}]", printed(a), printed(b)),
        Expr::SizeOf(of) => format!("sizeof ({})", printed(of)),
        Expr::SizeOfType(of) => format!("sizeof({})", type_name(of)),
        Expr::AlignOfType(of) => format!("_Alignof({})", type_name(of)),
        Expr::OffsetOf(of, at) => format!("offsetof({}, {})", type_name(of), path(&at.steps)),
        Expr::ContainerOf { pointer, of, path: at } => {
            format!("container_of(({}), {}, {})", printed(pointer), type_name(of), path(&at.steps))
        }
        Expr::PerCpu(a, b) => format!("per_cpu(({}), ({}))", printed(a), printed(b)),
        Expr::PerCpuPointer(a, b) => format!("per_cpu_ptr(({}), ({}))", printed(a), printed(b)),
    }
}

fn path(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Member(name, _) if text.is_empty() => text.push_str(name),
            Step::Member(name, _) => text.push_str(&format!(".{name}")),
            Step::Index(index) => text.push_str(&format!("[{}]", printed(index))),
        }
    }
    text
}

fn type_name(of: &TypeName) -> String {
    let base = match &of.base {
        Base::Words(name) | Base::Named(name) => name.clone(),
        Base::Tagged(tag, name) => format!("{tag} {name}"),
        Base::TypeOf(node) => format!("typeof({})", printed(node)),
        Base::TypeOfType(of) => format!("typeof({})", type_name(of)),
    };
    let mut declarator = String::new();
    for derived in of.derived.iter().rev() {
        declarator = match derived {
            Derived::Pointer(qualifiers) => {
                let word = if qualifiers.constant { " const " } else { "" };
                format!("(*{word}{declarator})")
            }
            Derived::Array(None) => format!("{declarator}[]"),
            Derived::Array(Some(count)) => format!("{declarator}[{}]", printed(count)),
            Derived::Function { params, variadic } => {
                let mut params: Vec<_> = params.iter().map(type_name).collect();
                if *variadic {
                    params.push("...".to_owned());
                }
                let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
                format!("{declarator}({params})")
            }
        };
    }
    let (constant, volatile) = (of.qualifiers.constant, of.qualifiers.volatile);
    format!(
        "{}{}{base} {declarator}",
        if constant { "const " } else { "" },
        if volatile { "volatile " } else { "" }
    )
}

/// Types that the small world has.
fn any_type() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "int",
            "unsigned long",
            "struct task",
            "struct task *",
            "const char *",
            "u64",
            "int (*)[4]",
            "int (*)(int, struct task *)",
            "void (*const)(void)",
            "task_t **",
            "typeof(first.comm)",
            "enum kind",
            "_Bool",
            "char[3]",
            "unsigned __int128",
        ][..],
    )
    .prop_map(str::to_owned)
}

/// Well-formed expressions, most of which have a value.
fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| format!("{number:#x}")),
        prop::sample::select(
            &[
                "first",
                "second",
                "handler",
                "$task",
                "local",
                "KIND_B",
                "MINUS",
                "\"text\"",
                "'a'",
                "untyped",
                "'two.c'::twice"
            ][..]
        )
        .prop_map(str::to_owned),
        any_type().prop_map(|of| format!("sizeof({of})")),
        Just("offsetof(struct task, vals[1 + 1])".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let operator = (0..Binary::ALL.len()).prop_map(|index| Binary::ALL[index].text());
        let unary = prop::sample::select(&["-", "+", "!", "~", "*", "&"][..]);
        let member =
            prop::sample::select(&["pid", "flags", "level", "parent", "vals", "comm", "tasks", "none"][..]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (unary, inner.clone()).prop_map(|(op, a)| format!("{op} {a}")),
            // `sizeof (int) 0` is no C: what follows is a unary expression, so no cast (C11 6.5.3).
            inner.clone().prop_map(|a| format!("sizeof ({a})")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), member.clone()).prop_map(|(a, m)| format!("({a}).{m}")),
            (inner.clone(), member).prop_map(|(a, m)| format!("({a})->{m}")),
            (any_type(), inner.clone()).prop_map(|(of, a)| format!("({of}) {a}")),
            (any_type(), inner.clone()).prop_map(|(of, a)| format!("{{{of}}} {a}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            // In parentheses, since an argument of a macro is no comma expression.
            inner.prop_map(|a| format!("container_of(({a}), struct task, tasks)")),
        ]
    })
}

/// A sum of products and the like with its value by Rust's wrapping arithmetic: text, `i32`.
fn any_sum() -> impl Strategy<Value = (String, i32)> {
    let leaf = (0..=i32::MAX).prop_map(|number| (number.to_string(), number));
    leaf.prop_recursive(6, 32, 2, |inner| {
        let operator =
            prop::sample::select(&["+", "-", "*", "/", "%", "&", "|", "^", "<", "==", "<<", ">>"][..]);
        prop_oneof![
            inner.clone().prop_map(|(text, value)| (format!("-({text})"), value.wrapping_neg())),
            inner.clone().prop_map(|(text, value)| (format!("~({text})"), !value)),
            (inner.clone(), operator, inner).prop_map(|((a, x), operator, (b, y))| {
                let value = match operator {
                    "+" => x.wrapping_add(y),
                    "-" => x.wrapping_sub(y),
                    "*" => x.wrapping_mul(y),
                    "/" if y != 0 => x.wrapping_div(y),
                    "%" if y != 0 => x.wrapping_rem(y),
                    "&" => x & y,
                    "|" => x | y,
                    "^" => x ^ y,
                    "<" => i32::from(x < y),
                    "==" => i32::from(x == y),
                    "<<" => return (format!("(({a}) << (({b}) & 31))"), x.wrapping_shl(y as u32 & 31)),
                    ">>" => return (format!("(({a}) >> (({b}) & 31))"), x.wrapping_shr(y as u32 & 31)),
                    _ => return (a, x),
                };
                (format!("(({a}) {operator} ({b}))"), value)
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~]{0,60}", mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let world = Small::new();
        let _ = evaluate(&text, &world).map_err(|error| error.pointed());
        bytes.truncate(299);
        let other = Small::with_memory(bytes, kdive_base::Endian::Big);
        let _ = evaluate(&text, &other);
    }

    #[test]
    fn no_expression_panics(text in any_expression(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let world = Small::with_memory(bytes, kdive_base::Endian::Little);
        match evaluate(&text, &world) {
            Ok(found) => {
                let _ = (found.value.integer(&world), found.value.pointer(&world), found.value.deref(&world));
                let _ = found.value.member(&world, "pid");
                prop_assert!(!found.types.name_of(found.value.of).contains("damaged"));
            }
            Err(error) => {
                prop_assert!(error.at.end <= text.len(), "{}", error);
                let _ = error.pointed();
            }
        }
    }

    #[test]
    fn what_is_printed_parses_back(text in any_expression()) {
        let world = Small::new();
        let names = Known { world: &world as &dyn World };
        let node = parser::expression(&text, &names).unwrap();
        let once = printed(&node);
        let again = parser::expression(&once, &names).unwrap();
        prop_assert_eq!(printed(&again), once);
    }

    #[test]
    fn arithmetic_agrees_with_the_machine((text, value) in any_sum()) {
        prop_assert_eq!(super::number(&text), i128::from(value), "{}", text);
    }

    #[test]
    fn casts_and_mixed_comparisons_agree_with_the_machine(a in any::<i64>(), b in any::<u32>()) {
        let text = |of: &str| format!("({of})({a}l)");
        // The smallest number of a type has no constant.
        prop_assume!(a != i64::MIN);
        prop_assert_eq!(super::number(&text("unsigned char")), i128::from(a as u8));
        prop_assert_eq!(super::number(&text("short")), i128::from(a as i16));
        prop_assert_eq!(super::number(&text("unsigned")), i128::from(a as u32));
        prop_assert_eq!(super::number(&text("unsigned long")), i128::from(a as u64));
        prop_assert_eq!(super::number(&text("_Bool")), i128::from(a != 0));
        let (int, uint) = (a as i32, b);
        let compared = format!("(int)({a}l) < {uint}u");
        prop_assert_eq!(super::number(&compared), i128::from((int as u32) < uint));
        let compared = format!("({a}l) < {uint}u");
        prop_assert_eq!(super::number(&compared), i128::from(a < i64::from(uint)));
    }
}
