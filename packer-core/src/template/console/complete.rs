//! Which names can complete a line.

use super::COMMANDS;
use crate::language::eval::Scope;
use crate::language::syntax::{Token, TokenKind, is_identifier, lex};
use crate::value::Value;

/// The constants that look like names.
const WORDS: [&str; 3] = ["false", "null", "true"];

/// What can complete a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Completion {
    /// The byte at which the candidates begin: what is from here to the cursor is the beginning of each.
    pub start: usize,
    /// What can stand there, in order. A function ends in its parenthesis.
    pub candidates: Vec<String>,
}

/// What can complete `before`; `evaluate` gives the value of a path of constant steps.
pub(super) fn complete(
    before: &str,
    scope: &Scope,
    evaluate: impl FnOnce(&str) -> Option<Value>,
) -> Completion {
    let mut tokens = lex(before);
    tokens.retain(|t| t.kind != TokenKind::End);
    let at_start = tokens.iter().all(|t| t.kind == TokenKind::Whitespace || t.kind == TokenKind::Ident)
        && tokens.iter().filter(|t| t.kind == TokenKind::Ident).count() <= 1;
    let partial = match tokens.last() {
        Some(last) if last.kind == TokenKind::Ident => tokens.pop().map(|t| t.span.start as usize),
        Some(last) if is_text(last.kind) => {
            return Completion { start: before.len(), ..Completion::default() };
        }
        _ => None,
    };
    let start = partial.unwrap_or(before.len());
    let typed = &before[start..];
    let mut candidates: Vec<String> = if tokens.last().is_some_and(|t| t.kind == TokenKind::Dot) {
        tokens.pop();
        let value = path_at_end(before, &tokens).and_then(evaluate);
        let names = value.as_ref().and_then(Value::as_map).into_iter().flat_map(|map| map.keys());
        names.filter(|name| is_identifier(name)).map(|name| name.to_string()).collect()
    } else {
        let commands = if at_start { &COMMANDS[..] } else { &[] };
        let words = commands.iter().chain(&WORDS).map(|word| (*word).to_owned());
        let functions = scope.function_names().map(|name| format!("{name}("));
        words.chain(functions).chain(scope.variable_names().map(str::to_owned)).collect()
    };
    candidates.retain(|c| c.starts_with(typed));
    candidates.sort_unstable();
    candidates.dedup();
    Completion { start, candidates }
}

/// The functions of `{{ … }}` that a console can call.
const LEGACY_FUNCTIONS: [&str; 29] = [
    "and",
    "eq",
    "ge",
    "gt",
    "html",
    "index",
    "isotime",
    "js",
    "le",
    "len",
    "lower",
    "lt",
    "ne",
    "not",
    "or",
    "packer_version",
    "print",
    "printf",
    "println",
    "pwd",
    "replace",
    "replace_all",
    "slice",
    "split",
    "strftime",
    "template_dir",
    "timestamp",
    "upper",
    "user",
];

/// What can complete a text with `{{ … }}`: functions, and names of variables behind `user` and a quote.
pub(super) fn complete_legacy<'a>(before: &str, variables: impl Iterator<Item = &'a str>) -> Completion {
    let letters = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let start = before.trim_end_matches(letters).len();
    let (left, typed) = before.split_at(start);
    let inside = match (left.rfind("{{"), left.rfind("}}")) {
        (Some(open), close) => close.is_none_or(|close| close < open),
        (None, _) => false,
    };
    let quoted = left.strip_suffix(['`', '"']).is_some_and(|l| l.trim_end().ends_with("user"));
    let mut candidates: Vec<String> = match (inside, quoted) {
        (true, true) => variables.map(str::to_owned).collect(),
        (true, false) if left.ends_with(['`', '"', '.']) => Vec::new(),
        (true, false) => LEGACY_FUNCTIONS.map(str::to_owned).to_vec(),
        (false, _) if left.is_empty() => COMMANDS.map(str::to_owned).to_vec(),
        (false, _) => Vec::new(),
    };
    candidates.retain(|c| c.starts_with(typed));
    candidates.sort_unstable();
    Completion { start, candidates }
}

/// Whether the cursor behind it is inside of a string or a comment.
fn is_text(kind: TokenKind) -> bool {
    use TokenKind::*;
    matches!(kind, OpenQuote | QuotedText | OpenHeredoc | Text | LineComment)
}

/// The text of `name.name[0]["key"]` that the tokens end in: such a path has no effect when it is evaluated.
fn path_at_end<'t>(text: &'t str, tokens: &[Token]) -> Option<&'t str> {
    use TokenKind::*;
    let end = tokens.last()?.span.end as usize;
    let mut rest = tokens;
    loop {
        let kinds: Vec<TokenKind> = rest.iter().rev().take(5).map(|t| t.kind).collect();
        let step = match *kinds.as_slice() {
            [Ident, Dot, ..] | [Number, Dot, ..] => 2,
            [CloseBracket, Number, OpenBracket, ..] => 3,
            [CloseBracket, CloseQuote, QuotedText, OpenQuote, OpenBracket] => 5,
            [Ident, ..] => {
                let start = rest.last()?.span.start as usize;
                return text.get(start..end);
            }
            _ => return None,
        };
        rest = &rest[..rest.len() - step];
    }
}

/// Whether a bracket or a heredoc is still open at the end. A string ends with its line, closed or not.
pub(super) fn is_open(text: &str) -> bool {
    use TokenKind::*;
    let mut open = Vec::new();
    for token in lex(text) {
        match token.kind {
            OpenBrace | OpenBracket | OpenParen | Interpolation | Directive | OpenQuote | OpenHeredoc => {
                open.push(token.kind);
            }
            CloseBrace | CloseBracket | CloseParen | SequenceEnd | CloseQuote | CloseHeredoc => {
                open.pop();
            }
            _ => {}
        }
    }
    open.last().is_some_and(|kind| *kind != OpenQuote)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::{Diagnostics, SourceFile};
    use crate::language::eval::evaluate;
    use crate::language::functions::{Capabilities, Functions};
    use crate::language::syntax::parse_expression;

    fn completed(before: &str) -> (usize, String) {
        let text = |t: &str| Value::from(t);
        let region = Value::object([("name", text("north")), ("nr", text("1")), ("a b", text("2"))]);
        let local = Value::object([("list", Value::tuple([region.clone()])), ("region", region)]);
        let scope = Scope::new()
            .with_functions(Functions::standard(), Capabilities::none())
            .with_variables([("local", local), ("var", Value::object::<Arc<str>>([]))]);
        let value = |path: &str| {
            let source = SourceFile::new("t", path);
            let (parsed, mut found) = parse_expression(&source);
            let value = evaluate(&parsed, &scope, &source, &mut found);
            Diagnostics::into_result(found, value).ok()
        };
        let Completion { start, candidates } = complete(before, &scope, value);
        (start, candidates.join(" "))
    }

    #[test]
    fn names_that_fit() {
        for (before, start, expected) in [
            ("loc", 0, "local"),
            ("local.", 6, "list region"),
            ("1 + local.r", 10, "region"),
            ("local.region.n", 13, "name nr"),
            ("local.list[0].na", 14, "name"),
            ("local.list.0.na", 13, "name"),
            ("local[\"region\"].na", 16, "name"),
            ("local.nope.", 11, ""),
            ("uppe", 0, "upper("),
            ("try", 0, "try("),
            ("vari", 0, "variables"),
            ("upper(vari", 6, ""),
            ("tru", 0, "true"),
            ("\"loc", 4, ""),
            ("\"${loc", 3, "local"),
            ("\"a ${local.region.", 18, "name nr"),
            ("upper(\"x\").", 11, ""),
            ("# loc", 5, ""),
            ("größ", 0, ""),
        ] {
            let (at, candidates) = completed(before);
            assert_eq!(candidates, expected, "{before}");
            if !expected.is_empty() {
                assert_eq!(at, start, "{before}");
            }
        }
        let (_, all) = completed("");
        assert!(["exit", "local", "upper(", "can(", "null"].iter().all(|name| all.contains(name)), "{all}");
        assert!(!completed("1 + ").1.contains("exit"));
    }

    #[test]
    fn names_of_legacy_templates() {
        for (before, expected) in [
            ("exi", "exit"),
            ("{{ upp", "upper"),
            ("{{ user `re", "region"),
            ("{{user \"", "other region"),
            ("{{ upper `re", ""),
            ("{{ .Na", ""),
            ("{{ upper `a` }} re", ""),
            ("plain re", ""),
        ] {
            let Completion { candidates, .. } = complete_legacy(before, ["region", "other"].into_iter());
            assert_eq!(candidates.join(" "), expected, "{before}");
        }
    }

    #[test]
    fn what_goes_on_in_the_next_line() {
        for (text, open) in [
            ("[1,", true),
            ("[1]", false),
            ("{ a = (", true),
            ("\"abc", false),
            ("\"${[", true),
            ("<<EOT\na", true),
            ("<<EOT\na\nEOT\n", false),
            ("])", false),
            ("", false),
        ] {
            assert_eq!(is_open(text), open, "{text}");
        }
    }
}
