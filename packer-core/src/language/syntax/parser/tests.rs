//! Tests of the parser: what is refused and where, how it goes on, and that no text is too deep or too long.

use std::sync::Arc;

use super::super::{ExprKind, parse_expression, parse_native, parse_template};
use crate::diagnostic::{Diagnostics, SourceFile};

fn findings(diagnostics: &Diagnostics) -> Vec<String> {
    let line = |d: &crate::diagnostic::Diagnostic| d.location.as_ref().map_or(0, |l| l.start().line);
    diagnostics.iter().map(|d| format!("{}: {}", line(d), d.summary)).collect()
}

fn check(text: &str, expected: &[&str]) {
    let (_, diagnostics) = parse_native(&SourceFile::new("t.hcl", text));
    assert_eq!(findings(&diagnostics), expected, "{text}");
}

#[test]
fn one_mistake_is_told_once_and_the_rest_is_read() {
    check(
        "a = [1, 2\nb = 3 +\nc = \"x\nd = 1 $ 2\nblock \"x\" {\n  e = (1\n}\nf = 1;\ng = \"${x\"\nblock {\n h = {a b}\n i = 1 2\n}\n",
        &[
            "2: Missing item separator",
            "2: Invalid expression",
            "3: Invalid multi-line string",
            "4: Invalid character",
            "7: Unbalanced parentheses",
            "8: Invalid character",
            "9: Unclosed template interpolation sequence",
            "11: Missing key/value separator",
            "12: Missing newline after argument",
        ],
    );
    check("a = 1\nb = 2\na = 3\n", &["3: Attribute redefined"]);
    check("a {\n b = 1\n", &["1: Unclosed configuration block"]);
    check("a = \"%{ if x }\"", &["1: Unexpected end of template"]);
    check("a = \"\\q \\U00110000 \\u12\"", &["1: Invalid escape sequence"; 3]);
    check("a = \"\\ud83d\\ude00\"", &["1: Invalid escape sequence"; 2]);
    check("a = <<E\nx\r y\nE\n", &["2: Invalid character"]);
    check("a = 1 /* b\n", &["1: Invalid character"]);
}

#[test]
fn diagnostics_are_counted_out() {
    let text = "a = ;\n".repeat(100_000);
    let (_, diagnostics) = parse_native(&SourceFile::new("t.hcl", text));
    assert_eq!(diagnostics.len(), super::MAX_ERRORS + 1);
}

/// Runs on a thread with the stack that tokio's and test threads have.
fn on_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap()
}

#[test]
fn deep_text_is_refused_and_long_text_is_read() {
    on_small_stack(|| {
        let refused = [
            "x = ".to_owned() + &"[".repeat(100_000),
            "x = ".to_owned() + &"(".repeat(100_000) + &")".repeat(100_000),
            "x = ".to_owned() + &"-".repeat(100_000) + "1",
            "x = ".to_owned() + &"{a=".repeat(100_000),
            "x = ".to_owned() + &"a[".repeat(100_000),
            "x = a".to_owned() + &"[*]".repeat(100_000),
            "x = ".to_owned() + &"f(".repeat(100_000),
            "x = ".to_owned() + &"\"${".repeat(100_000),
            "x = ".to_owned() + &"a?".repeat(100_000),
            "x = ".to_owned() + &"[for a in ".repeat(100_000),
            "x = \"".to_owned() + &"%{ if a }".repeat(100_000) + &"%{ endif }".repeat(100_000) + "\"",
            "a {\n".repeat(100_000),
            "a {".repeat(100_000),
            "x = <<E\n${".repeat(100_000),
            "x = /*".repeat(100_000),
        ];
        for text in refused {
            let (_, diagnostics) = parse_native(&SourceFile::new("t.hcl", text.clone()));
            assert!(diagnostics.has_errors(), "{}", &text[..20]);
        }
        let read = [
            "x = 1".to_owned() + &"+1".repeat(100_000),
            "x = 1".to_owned() + &"+1*2&&3==4||5<6".repeat(100_000),
            "x = a".to_owned() + &" ? b : c".repeat(100_000),
            "x = a".to_owned() + &".b[0]".repeat(100_000),
            "x = a.*".to_owned() + &".b".repeat(100_000),
            "x = [".to_owned() + &"a,".repeat(100_000) + "]",
            "x = \"".to_owned() + &"${a}%{ if a }%{ endif }".repeat(100_000) + "\"",
        ];
        for text in read {
            let (_, diagnostics) = parse_native(&SourceFile::new("t.hcl", text.clone()));
            assert!(diagnostics.is_empty(), "{}: {diagnostics}", &text[..20]);
        }
    });
}

#[test]
fn the_deepest_text_that_is_read_fits_the_stack() {
    on_small_stack(|| {
        for (open, middle, close) in [
            ("a||b&&c==d<e+f*(", "1", ")"),
            ("a||b&&c==d<e+f*-[", "1", "]"),
            ("a ? 1 : f(\"${", "1", "}\")"),
            ("a.b[", "1", "]"),
            ("{a = ", "1", "}"),
            ("{for a in b : c => ", "1", "}"),
            ("\"%{ if ", "1", " }%{ endif }\""),
        ] {
            let deepest = (1..=super::MAX_DEPTH as usize).rev().find(|n| {
                let text = open.repeat(*n) + middle + &close.repeat(*n);
                let (expr, diagnostics) = parse_expression(&SourceFile::new("t", text));
                drop(expr.clone());
                diagnostics.is_empty()
            });
            assert!(deepest.is_some_and(|n| n >= 50), "{open} {deepest:?}");
        }
    });
}

#[test]
fn trees_keep_places() {
    let text = "a.b[0].c[*].d + f(x...)";
    let source = SourceFile::new("t", text);
    let (expr, diagnostics) = parse_expression(&source);
    assert!(diagnostics.is_empty());
    let ExprKind::Operation(first, rest) = &expr.kind else { panic!("{expr:?}") };
    assert_eq!(&text[first.span.range()], "a.b[0].c[*].d");
    assert_eq!(&text[rest[0].expr.span.range()], "f(x...)");
    assert_eq!(expr.span.range(), 0..text.len());
}

#[test]
fn flush_heredocs_and_markers() {
    let literal = |text: &str| {
        let (expr, diagnostics) = parse_expression(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics}");
        expr.as_literal_str().map(str::to_owned)
    };
    assert_eq!(literal("<<-E\n    a\n\n   \n      b\n  E\n").as_deref(), Some("a\n\n   \n  b\n"));
    assert_eq!(literal("<<E\n  a$${b} $$ %%{c}\nE\n").as_deref(), Some("  a${b} $$ %{c}\n"));
    assert_eq!(literal("\"a\\n\\u00e9\\t$$$${x}\"").as_deref(), Some("a\né\t$$${x}"));
    let (expr, _) = parse_template(&SourceFile::new("t", "${ x }"));
    assert!(matches!(expr.kind, ExprKind::Unwrapped(_)));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    /// Whatever stands in the text, there is a result, and every place lies in the text.
    #[test]
    fn no_text_makes_it_panic(text in r#"(a|b = |[0-9.eE]{1,3}|"|\$\{|%\{ ?|~?\}|if |for |in |else|end(if|for)|[\[\](){}]|<<-?E\n|\nE\n|[-+*/%!=<>?:.,&|]|\.\.\.|=>|\n| |\\|'|é|#|/\*|\*/)*"#) {
        let source = SourceFile::new("t", text.clone());
        let inside = |diagnostics: Diagnostics| {
            for d in &diagnostics {
                assert!(d.location.as_ref().is_some_and(|l| l.span().range().end <= text.len()));
            }
        };
        let files: [fn(&Arc<SourceFile>) -> Diagnostics; 4] = [
            |s| parse_native(s).1,
            |s| super::super::parse_json(s).1,
            |s| parse_expression(s).1,
            |s| parse_template(s).1,
        ];
        for parse in files {
            inside(parse(&source));
        }
    }
}
