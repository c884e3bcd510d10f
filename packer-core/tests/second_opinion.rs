//! Our parser and `hcl-edit`'s accept and refuse the same text. Where the two are known to differ (`hcl-edit` takes
//! line ends in quoted strings, words glued to each other and numbers such as `1.1.5`; it refuses repeated keys,
//! numbers beyond a double and deep nesting) nothing is generated.

use packer_core::SourceFile;
use packer_core::language::syntax::parse_native;
use proptest::prelude::*;

/// Expressions of every kind, well-formed.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-c]",
        "[0-9]{1,3}(\\.[0-9]{1,2})?",
        Just("true".to_owned()),
        Just("null".to_owned()),
        "\"[a-z $%é]{0,4}\"",
        Just("\"\\n\\u00e9\\\\\"".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (inner.clone(), "( \\+ | - |\\*|/|%|==|!=|<|>=| && | \\|\\| )", inner.clone())
                .prop_map(|(a, op, b)| format!("{a}{op}{b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("[{a}, {a}]")),
            inner.clone().prop_map(|a| format!("[\n{a},\n]")),
            two.clone().prop_map(|(a, b)| format!("{{x = {a}, \"y\" : {b}\n z = 1}}")),
            two.clone().prop_map(|(a, b)| format!("f({a}, {b})")),
            inner.clone().prop_map(|a| format!("f({a}...)")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            two.clone().prop_map(|(a, b)| format!("[for k, v in {a} : {b} if k]")),
            two.clone().prop_map(|(a, b)| format!("{{for v in {a} : v => {b}...}}")),
            inner.clone().prop_map(|a| format!("a.b[{a}].c[*].d")),
            inner.clone().prop_map(|a| format!("\"x ${{{a}}} y\"")),
            two.prop_map(|(a, b)| format!("\"%{{ if {a} ~}} ${{~ {b} }}%{{ endif }}\"")),
            inner.prop_map(|a| format!("(<<-EOT\n  x ${{{a}}}\n  EOT\n)")),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    let item = (expression(), 0..4u8).prop_map(|(e, kind)| match kind {
        0 => format!("NAME = {e}\n"),
        1 => format!("blk \"l\" m {{\n  NAME = {e}\n}}\n"),
        2 => "blk {}\n".to_owned(),
        _ => format!("# comment\nNAME = {e}\n"),
    });
    proptest::collection::vec(item, 0..4).prop_map(|items| {
        let named = items.iter().enumerate().map(|(i, item)| item.replace("NAME", &format!("n{i}")));
        named.collect()
    })
}

/// One place of the text changed: a character taken out, put in or exchanged.
fn damaged() -> impl Strategy<Value = String> {
    let piece = "[\\]\\[(){}=,:?.\"+*!<>-]";
    (body(), any::<prop::sample::Index>(), piece, 0..3u8).prop_map(|(text, index, piece, how)| {
        let mut chars: Vec<char> = text.chars().collect();
        if chars.is_empty() {
            return piece;
        }
        let at = index.index(chars.len());
        match how {
            // Spaces stay: without them words would be glued together.
            0 if chars[at] != ' ' => drop(chars.remove(at)),
            0 | 1 => chars.insert(at, piece.chars().next().unwrap_or('=')),
            _ => chars[at] = piece.chars().next().unwrap_or('='),
        }
        chars.into_iter().collect()
    })
}

fn ours(text: &str) -> bool {
    parse_native(&SourceFile::new("t.hcl", text)).1.is_empty()
}

fn theirs(text: &str) -> bool {
    hcl_edit::parser::parse_body(text).is_ok()
}

/// Whether the text holds what `hcl-edit` is known to take for right, or not to read alike.
fn is_known_difference(text: &str) -> bool {
    let bytes = text.as_bytes();
    let glued = bytes.windows(2).any(|w| w[0].is_ascii_digit() && w[1].is_ascii_alphabetic());
    let dots =
        text.split(|c: char| !c.is_ascii_digit() && c != '.').any(|word| word.matches('.').count() > 1);
    let quoted_line_end = text.lines().any(|line| line.matches('"').count() % 2 == 1);
    // `true.1.5` and `a.1.5`: a number with a fraction behind a dot.
    let fraction_after_dot = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .any(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.matches('.').count() > 1);
    let marker_not_alone = text.lines().any(|line| line.trim().starts_with("EOT") && line.trim() != "EOT");
    // A bare quote inside a directive's text.
    let directive = text.contains("%{");
    // `in-` is a name; `hcl-edit` reads a keyword and a minus.
    let keyword_dash = ["for", "in", "if"].iter().any(|word| text.contains(&format!("{word}-")));
    // A sign at a line's end within brackets is refused by `hcl-edit`, an operator at the start of a line after an
    // attribute is taken as going on with it.
    let sign_at_end = text.lines().any(|line| line.ends_with(['!', '-']));
    let operator_at_start =
        text.lines().any(|line| line.trim_start().starts_with(['*', '<', '>', '=', '+', '-', '?', '.']));
    let of_lines = quoted_line_end || marker_not_alone || sign_at_end || operator_at_start;
    glued || dots || fraction_after_dot || directive || keyword_dash || of_lines
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn well_formed_text_is_read_by_both(text in body()) {
        prop_assert!(ours(&text), "refused by us: {}", text);
        prop_assert!(theirs(&text), "refused by hcl-edit: {}", text);
    }

    #[test]
    fn damaged_text_is_judged_alike(text in damaged()) {
        if !is_known_difference(&text) {
            prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
        }
    }
}
