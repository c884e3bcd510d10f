//! Tests of what the recorded expressions do not show: unknown values, marks, diagnostics, depth.

use std::sync::Arc;

use super::{Scope, TypeUse, evaluate, parse_type};
use crate::diagnostic::{Diagnostics, SourceFile};
use crate::language::functions::{Capabilities, Functions};
use crate::language::syntax::{BodySchema, parse_expression, parse_json, parse_native};
use crate::value::{Type, Value, convert};

fn scope() -> Scope {
    let object = Value::object([("name", Value::from("web")), ("port", Value::from(80))]);
    Scope::new().with_functions(Functions::standard(), Capabilities::none()).with_variables([
        ("var", object),
        ("us", Value::unknown(Type::String)),
        ("ul", Value::unknown(Type::list(Type::String))),
        ("ud", Value::unknown(Type::Dynamic)),
        ("secret", Value::from("hunter2").sensitive()),
        ("secrets", Value::tuple([Value::from("hunter2").sensitive(), Value::from("b")])),
        ("list", Value::list(Type::Number, [Value::from(1), Value::from(2)])),
    ])
}

fn run_in(text: &str, scope: &Scope) -> (Value, Diagnostics) {
    let source = SourceFile::new("t", text);
    let (expr, mut diagnostics) = parse_expression(&source);
    let value = evaluate(&expr, scope, &source, &mut diagnostics);
    (value, diagnostics)
}

fn run(text: &str) -> (Value, Diagnostics) {
    run_in(text, &scope())
}

fn good(text: &str) -> Value {
    let (value, diagnostics) = run(text);
    assert!(diagnostics.is_empty(), "{text}: {diagnostics}");
    value
}

#[test]
fn unknown_values_keep_their_type() {
    for (text, ty) in [
        ("us == \"a\"", Type::Bool),
        ("\"x${us}\"", Type::String),
        ("ul[0]", Type::String),
        ("ul[*]", Type::list(Type::String)),
        ("[for v in ul : v]", Type::Dynamic),
        ("us == \"a\" ? 1 : 2", Type::Number),
        ("us == \"a\" ? 1 : \"b\"", Type::String),
        ("length(ud) + 1", Type::Number),
        ("us[*]", Type::Dynamic),
        ("{(us) = 1}", Type::Dynamic),
        ("can(ud.x)", Type::Bool),
        ("try(ud.x, 1)", Type::Dynamic),
        ("us == \"a\" || var.nope", Type::Bool),
    ] {
        let value = good(text);
        assert!(!value.is_known() && value.ty() == ty, "{text}: {value:?}");
    }
    assert_eq!(good("[for k, v in {a = us} : k]"), Value::tuple([Value::from("a")]));
}

#[test]
fn of_equal_names_the_last_counts() {
    assert_eq!(good("[for x, x in [\"a\"] : x]"), Value::tuple([Value::from("a")]));
    let last = [("a", Value::from(3)), ("b", Value::from(2))];
    assert_eq!(good("{b = 2, a = 1, \"a\" = 3}"), Value::object(last.clone()));
    let inner = scope().with_variables([("z", Value::from(1)), ("a", Value::from(2)), ("z", Value::from(3))]);
    assert_eq!(run_in("[a, z, list[0]]", &inner).0, Value::tuple([2, 3, 1].map(Value::from)));
    let names: Vec<&str> = inner.variable_names().take(2).collect();
    assert_eq!(names, ["a", "z"]);
    let map = last.map(|(k, v)| format!("{k} = {v:?}")).join(", ");
    assert_eq!(
        good(&format!("[for k, v in {{{map}}} : \"${{k}}${{v}}\"]")),
        Value::tuple(["a3", "b2"].map(Value::from))
    );
}

#[test]
fn secrets_stay_marked() {
    for text in [
        "secret",
        "\"a${secret}b\"",
        "secret == \"a\"",
        "secret == \"a\" ? 1 : 2",
        "\"%{ if secret == \"a\" }x%{ endif }\"",
        "{(secret) = 1}",
        "[for s in secrets : s if s == \"b\"]",
        "{for s in secrets : s => 1}",
        "upper(secret)",
        "secrets[0]",
        "list[secret == \"a\" ? 0 : 1]",
        "secret == \"a\" && true",
        "!(secret == \"a\")",
        "\"%{ for s in secrets }${s}%{ endfor }\"",
        "convert(secret, string)",
        "try(secret.x, secret)",
    ] {
        assert!(good(text).is_sensitive(), "{text}");
    }
    assert!(!good("secrets[1]").is_sensitive());
    let (_, diagnostics) = run("secret + var.port + var.name + length(secrets)");
    let d = diagnostics.iter().next().unwrap();
    assert_eq!(d.values, ["var.name as \"web\"", "var.port as 80"]);
    assert!(!format!("{diagnostics:?}").contains("hunter2"));
}

#[test]
fn diagnostics_say_what_came_and_what_was_wanted() {
    for (text, expected) in [
        (
            "vat.name",
            "t:1,1-4: Unknown variable; There is no variable named \"vat\" here. (did you mean \"var\"?)",
        ),
        (
            "var.nmae",
            "t:1,4-9: Unsupported attribute; This object has no attribute named \"nmae\". (did you mean \"name\"?)",
        ),
        (
            "uper(\"a\")",
            "t:1,1-5: Call to unknown function; There is no function named \"uper\". (did you mean \"upper\"?)",
        ),
        (
            "1 + 2 * \"x\"",
            "t:1,9-12: Invalid operand; The right operand does not fit: a number is required, not the string \"x\".",
        ),
        ("list[2]", "t:1,5-8: Invalid index; This list of number has no element 2: its last index is 1."),
        (
            "upper([\"a\"])",
            "t:1,7-12: Invalid function argument; Invalid value for \"str\" parameter: string required, not a tuple.",
        ),
        (
            "upper()",
            "t:1,1-6: Not enough function arguments; \"upper\" takes 1 argument; there is none for \"str\".",
        ),
        ("upper(1, 2)", "t:1,10-11: Too many function arguments; \"upper\" takes 1 argument, not 2."),
        (
            "can()",
            "t:1,1-4: Not enough function arguments; \"can\" takes 1 argument; there is none for \"expression\".",
        ),
    ] {
        let (_, diagnostics) = run(text);
        assert_eq!(diagnostics.to_string(), expected, "{text}");
    }
    for text in ["var.a", "upper(\"a\")"] {
        let (_, diagnostics) = run_in(text, &Scope::constant());
        let summary = &diagnostics.iter().next().unwrap().summary;
        assert!(summary.ends_with("not allowed"), "{summary}");
    }
}

#[test]
fn long_and_deep_expressions_are_evaluated() {
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(|| {
            let sum = good(&("1".to_owned() + &"+1".repeat(100_000)));
            assert_eq!(sum.as_i64(), Some(100_001));
            assert_eq!(good(&("false".to_owned() + &"||false".repeat(50_000))).as_bool(), Some(false));
            let chain = "false ? 1 : ".repeat(20_000) + "2";
            assert_eq!(good(&chain).as_i64(), Some(2));
            for (open, close) in [
                ("(", ")"),
                ("[", "]"),
                ("{a = ", "}"),
                ("true && (1 + 1 == 2 && !", ")"),
                ("\"x${", "}\""),
                ("try(true ? ", " : 1)"),
                ("coalesce(", ")"),
                ("[for x in [1] : ", "][0]"),
                ("\"%{ for x in [1] }%{ if true }${", "}%{ endif }%{ endfor }\""),
            ] {
                // The deepest that is read: what is deeper, the parser has refused.
                let deepest = (1..=200).rev().find(|n| {
                    let text = open.repeat(*n) + "true" + &close.repeat(*n);
                    !run(&text).1.iter().any(|d| d.summary == "Nesting too deep")
                });
                assert!(deepest.is_some_and(|n| n >= 40), "{open}: {deepest:?}");
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn types_with_defaults() {
    let text = r#"list(object({a = string, b = optional(number, 5), c = optional(object({d = optional(string, "x")}), {}), e = optional(bool)}))"#;
    let source = SourceFile::new("t", text);
    let (expr, mut diagnostics) = parse_expression(&source);
    let constraint = parse_type(&expr, &source, TypeUse::Variable, &mut diagnostics).unwrap();
    let value = constraint.with_defaults(&good("[{a = 1}, {a = 2, b = null, c = {d = \"y\"}, e = true}]"));
    let value = convert(&value, &constraint.ty).unwrap();
    assert_eq!(
        value.to_json_string().unwrap(),
        r#"[{"a":"1","b":5,"c":{"d":"x"},"e":null},{"a":"2","b":5,"c":{"d":"y"},"e":true}]"#
    );
    for wrong in [
        "list",
        "text",
        "\"string\"",
        "list(string, bool)",
        "object({a = string, a = bool})",
        "optional(string)",
        "object([])",
        "tuple({})",
        "string()",
        "foo(bar)",
        "object({(1) = string})",
        "1 + 2",
        "list(...)",
    ] {
        let source = SourceFile::new("t", wrong);
        let (expr, _) = parse_expression(&source);
        let mut diagnostics = Diagnostics::new();
        assert!(parse_type(&expr, &source, TypeUse::Variable, &mut diagnostics).is_none(), "{wrong}");
        if wrong != "list(...)" {
            assert_eq!(diagnostics.iter().next().unwrap().summary, "Invalid type specification", "{wrong}");
        }
    }
}

/// Each block as `kind.label: x = VALUE`, and the summaries of what is wrong.
fn expand(source: &Arc<SourceFile>) -> (Vec<String>, Vec<String>) {
    let (file, mut diagnostics) =
        if source.name().ends_with("json") { parse_json(source) } else { parse_native(source) };
    let schema = BodySchema::new().optional("a").block("tag", &["name"]).block("plain", &[]);
    let expanded = file.body.expand(&schema, &scope(), &mut diagnostics);
    let inner = BodySchema::new().optional("x");
    let blocks = expanded
        .blocks
        .iter()
        .map(|b| {
            let content = b.block.body.content(&inner, &mut diagnostics);
            let x = content.attribute("x").map(|x| x.evaluate(&b.scope, &mut diagnostics));
            format!(
                "{}.{}: {x:?}{}",
                b.block.kind.text,
                b.block.label(0),
                if b.unknown { " unknown" } else { "" }
            )
        })
        .collect();
    (blocks, diagnostics.iter().map(|d| d.summary.clone()).collect())
}

#[test]
fn dynamic_blocks_are_written_out_in_place() {
    let native = r#"
plain { x = 1 }
dynamic "tag" {
  for_each = list
  iterator = it
  labels   = ["l${it.key}"]
  content { x = it.value * 10 }
}
dynamic "plain" {
  for_each = ul
  content { x = plain.value }
}
plain { x = 2 }
"#;
    let json = r#"{"plain": {"x": 1}, "dynamic": {"tag": {"for_each": "${list}", "iterator": "it", "labels": ["l${it.key}"],
        "content": {"x": "${it.value * 10}"}}, "plain": {"for_each": "${ul}", "content": {"x": "${plain.value}"}}},
        "//": 0}"#;
    let expected = [
        "plain.: Some(1)",
        "tag.l0: Some(10)",
        "tag.l1: Some(20)",
        "plain.: Some(unknown(any)) unknown",
        "plain.: Some(2)",
    ];
    assert_eq!(expand(&SourceFile::new("t.hcl", native)), (expected.map(str::to_owned).to_vec(), vec![]));
    assert_eq!(
        expand(&SourceFile::new("t.json", json)),
        (expected[..4].iter().map(|s| (*s).to_owned()).collect(), vec![])
    );
    for (text, summary) in [
        ("dynamic \"tag\" {\n for_each = list\n content {}\n}", "Insufficient dynamic block labels"),
        (
            "dynamic \"plain\" {\n for_each = list\n labels = [\"a\"]\n content {}\n}",
            "Extraneous dynamic block label",
        ),
        (
            "dynamic \"tag\" {\n for_each = list\n labels = [us]\n content {}\n}",
            "Invalid dynamic block label",
        ),
        ("dynamic \"plain\" {\n for_each = null\n content {}\n}", "Invalid dynamic for_each value"),
        ("dynamic \"plain\" {\n for_each = 1\n content {}\n}", "Invalid dynamic for_each value"),
        ("dynamic \"plain\" {\n for_each = list\n}", "Missing dynamic content block"),
        (
            "dynamic \"plain\" {\n for_each = list\n content {}\n content {}\n}",
            "Extraneous dynamic content block",
        ),
        (
            "dynamic \"plain\" {\n for_each = list\n iterator = \"a\"\n content {}\n}",
            "Invalid dynamic iterator name",
        ),
        ("dynamic \"plain\" {\n content {}\n}", "Missing required argument"),
        ("dynamic \"other\" {\n for_each = list\n content {}\n}", "Unsupported block type"),
    ] {
        assert_eq!(expand(&SourceFile::new("t.hcl", text)).1, [summary], "{text}");
    }
}

#[test]
fn rest_of_a_body_keeps_its_dynamic_blocks() {
    let source = SourceFile::new(
        "t.hcl",
        "a = 1\nb = 2\ndynamic \"plain\" {\n for_each = list\n content {}\n}\ndynamic \"tag\" {\n for_each = list\n labels = [\"x\"]\n content {}\n}\n",
    );
    let (file, mut diagnostics) = parse_native(&source);
    let first = BodySchema::new().optional("a").block("plain", &[]);
    let (taken, rest) = file.body.expand_partial(&first, &scope(), &mut diagnostics);
    assert_eq!((taken.attributes.len(), taken.blocks.len()), (1, 2));
    let second = BodySchema::new().optional("b").block("tag", &["name"]);
    let taken = rest.expand(&second, &scope(), &mut diagnostics);
    assert_eq!((taken.attributes.len(), taken.blocks.len()), (1, 2));
    assert!(diagnostics.is_empty(), "{diagnostics}");
}

#[test]
fn json_strings_are_templates_where_expressions_are_allowed() {
    let text = r#"{"a": "\u0041 ${var.name}\n${list[0]}", "b": ["$${x}", 1.50, null], "c": {"k${var.port}": true, "//": 1},
"d": "${list}", "e": {"x": 1, "x": 2}, "f": "x \"${nope}"}"#;
    let source = SourceFile::new("t.json", text);
    let (file, mut diagnostics) = parse_json(&source);
    let attributes = file.body.attributes(&mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics}");
    let show = |i: usize, scope: &Scope| {
        let mut diagnostics = Diagnostics::new();
        let value = attributes[i].evaluate(scope, &mut diagnostics);
        (format!("{value:?}"), diagnostics.to_string())
    };
    assert_eq!(show(0, &scope()), ("\"A web\\n1\"".into(), String::new()));
    assert_eq!(show(0, &Scope::constant()), ("\"A ${var.name}\\n${list[0]}\"".into(), String::new()));
    assert_eq!(show(1, &scope()).0, "[\"${x}\", 1.5, null(any)]");
    assert_eq!(show(2, &scope()).0, "{\"//\": 1, \"k80\": true}");
    assert_eq!(show(3, &scope()).0, "list(number)[1, 2]");
    assert!(show(4, &scope()).1.starts_with("t.json:2,31-34: Duplicate object attribute"));
    assert!(show(5, &scope()).1.starts_with("t.json:2,52-56: Unknown variable"), "{}", show(5, &scope()).1);
}
