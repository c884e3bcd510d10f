//! Formatting: native syntax in its canonical layout.
//!
//! Only white space changes: the indentation of lines, the spaces between tokens, and the columns in which the
//! `=` and the trailing comments of neighbouring lines stand. Texts, comments and line ends stay as they are.

use std::sync::Arc;

use unicode_segmentation::UnicodeSegmentation;

use super::syntax::{Token, TokenKind as T, lex, parse_native};
use crate::diagnostic::{Diagnostics, SourceFile};

/// The text in canonical layout; without its byte order mark, if it has one.
///
/// # Errors
/// What is wrong with the text: only what can be read is formatted.
pub fn format(source: &Arc<SourceFile>) -> Result<String, Diagnostics> {
    let (_, diagnostics) = parse_native(source);
    diagnostics.into_result(())?;
    Ok(format_tokens(source.text(), &lex(source.text())))
}

/// Layout needs no more than tokens: what is between brackets, and what is on which line.
fn format_tokens(text: &str, tokens: &[Token]) -> String {
    let pieces: Vec<Piece<'_>> = tokens
        .iter()
        .filter(|t| !matches!(t.kind, T::Whitespace | T::Bom | T::End))
        .map(|t| Piece { kind: t.kind, text: &text[t.span.range()], spaces: 0 })
        .collect();
    let mut lines = lines(pieces);
    indent(&mut lines);
    for line in &mut lines {
        for cell in [&mut line.lead, &mut line.assign] {
            space(cell);
        }
    }
    align_assignments(&mut lines);
    align_comments(&mut lines);
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for piece in lines.iter().flat_map(Line::pieces) {
        out.extend(std::iter::repeat_n(' ', piece.spaces));
        out.push_str(piece.text);
    }
    // White space behind the last line end stays as wide as it was.
    if let [.., Token { kind: T::Whitespace, span }, _] = tokens {
        out.extend(std::iter::repeat_n(' ', span.range().len()));
    }
    out
}

/// A token and the spaces before it.
struct Piece<'a> {
    kind: T,
    text: &'a str,
    spaces: usize,
}

/// A line with its line end, in the cells that stand below each other. A line ends where a line-end token does: text
/// of several lines, such as a heredoc, is within one.
#[derive(Default)]
struct Line<'a> {
    lead: Vec<Piece<'a>>,
    /// From the `=`, if what is right of it is complete on this line.
    assign: Vec<Piece<'a>>,
    /// A comment up to the end of the line, and the line end.
    comment: Vec<Piece<'a>>,
}

impl<'a> Line<'a> {
    fn pieces(&self) -> impl Iterator<Item = &Piece<'a>> {
        self.lead.iter().chain(&self.assign).chain(&self.comment)
    }

    fn first(&mut self) -> Option<&mut Piece<'a>> {
        self.lead.first_mut().or(self.comment.first_mut())
    }
}

fn lines(pieces: Vec<Piece<'_>>) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut line = Line::default();
    for piece in pieces {
        let end = piece.kind == T::Newline;
        line.lead.push(piece);
        if end {
            lines.push(split_cells(std::mem::take(&mut line.lead)));
        }
    }
    if !line.lead.is_empty() {
        lines.push(split_cells(line.lead));
    }
    lines
}

fn split_cells(mut lead: Vec<Piece<'_>>) -> Line<'_> {
    let comment = match lead.iter().position(|p| p.kind == T::LineComment) {
        Some(at) => lead.split_off(at),
        None => Vec::new(),
    };
    let mut assign = Vec::new();
    if let Some(at) = lead.iter().position(|p| p.kind == T::Equal).filter(|at| *at > 0)
        && net_brackets(&lead[at..]) == 0
    {
        assign = lead.split_off(at);
    }
    Line { lead, assign, comment }
}

fn net_brackets(pieces: &[Piece<'_>]) -> isize {
    pieces.iter().map(|p| bracket(p.kind)).sum()
}

fn bracket(kind: T) -> isize {
    match kind {
        T::OpenBrace | T::OpenBracket | T::OpenParen | T::Interpolation | T::Directive => 1,
        T::CloseBrace | T::CloseBracket | T::CloseParen | T::SequenceEnd => -1,
        _ => 0,
    }
}

/// Two spaces for each line before that opened more brackets than it closed and is not closed yet. A line that closes
/// more than it opens is itself outdented.
fn indent(lines: &mut [Line<'_>]) {
    let mut open: Vec<isize> = Vec::new();
    for line in lines {
        // What a heredoc leaves open on its first line does not count. (What is right of an `=` is balanced.)
        let counted = line.lead.iter().position(|p| p.kind == T::OpenHeredoc).unwrap_or(line.lead.len());
        let net = net_brackets(&line.lead[..counted]);
        let mut closed = -net;
        while closed > 0
            && let Some(top) = open.last_mut()
        {
            if closed < *top {
                *top -= closed;
                break;
            }
            closed -= *top;
            open.pop();
        }
        let level = open.len();
        if net > 0 {
            open.push(net);
        }
        if let Some(first) = line.first().filter(|p| p.kind != T::Newline) {
            first.spaces = 2 * level;
        }
    }
}

/// One space between two tokens, or none.
fn space(cell: &mut [Piece<'_>]) {
    let mut before = None;
    for i in 1..cell.len() {
        let (kind, next) = (cell[i - 1].kind, cell[i].kind);
        // `for x in [1]` is no index.
        let word_in = cell[i - 1].text == "in" && next == T::OpenBracket && before == Some(T::Ident);
        cell[i].spaces = usize::from(word_in || space_between(before, kind, next));
        before = Some(kind);
    }
}

fn space_between(before: Option<T>, kind: T, next: T) -> bool {
    let is_text = |k: T| matches!(k, T::QuotedText | T::Text);
    match (kind, next) {
        (_, T::Newline) => false,
        // Nothing is added to the text of a template.
        (k, n) if is_text(k) || is_text(n) => false,
        (T::OpenQuote | T::OpenHeredoc, _) | (_, T::CloseQuote | T::CloseHeredoc) => false,
        (T::Interpolation, T::OpenBrace) => true,
        (T::Interpolation | T::Directive, _) | (_, T::Interpolation | T::Directive) => false,
        (k, T::SequenceEnd) => k == T::CloseBrace,
        (T::SequenceEnd, _) => false,
        (T::Ident, T::OpenParen) => false,
        (T::Dot, _) | (_, T::Dot | T::Comma | T::Ellipsis) => false,
        (T::Comma, _) => true,
        (T::OpenParen | T::OpenBracket, _) | (_, T::CloseParen | T::CloseBracket) => false,
        (T::OpenBrace, T::CloseBrace) => false,
        (T::Ident | T::CloseBracket | T::CloseParen | T::CloseBrace | T::Number, T::OpenBracket) => false,
        (T::ColonColon, _) | (_, T::ColonColon) => false,
        (T::Bang, _) => false,
        (T::Minus, _) => !before.is_none_or(begins_operand),
        _ => true,
    }
}

/// Whether a minus after this token is a sign rather than a subtraction.
fn begins_operand(before: T) -> bool {
    matches!(
        before,
        T::OpenParen
            | T::OpenBracket
            | T::OpenBrace
            | T::Equal
            | T::Colon
            | T::Comma
            | T::Question
            | T::Plus
            | T::Minus
            | T::Star
            | T::Slash
            | T::Percent
            | T::Bang
            | T::AndAnd
            | T::OrOr
            | T::EqualEqual
            | T::BangEqual
            | T::Less
            | T::LessEqual
            | T::Greater
            | T::GreaterEqual
    )
}

fn columns(pieces: &[Piece<'_>]) -> usize {
    pieces.iter().map(|p| p.spaces + p.text.graphemes(true).count()).sum()
}

/// Puts the `=` of neighbouring lines below each other.
fn align_assignments(lines: &mut [Line<'_>]) {
    for run in lines.chunk_by_mut(|a, b| !a.assign.is_empty() && !b.assign.is_empty()) {
        let widest = run.iter().map(|line| columns(&line.lead)).max().unwrap_or(0);
        for line in run {
            let width = columns(&line.lead);
            if let Some(equal) = line.assign.first_mut() {
                equal.spaces = widest - width + 1;
            }
        }
    }
}

/// Puts the trailing comments of neighbouring lines below each other.
fn align_comments(lines: &mut [Line<'_>]) {
    let trails = |line: &Line<'_>| !line.comment.is_empty() && !line.lead.is_empty();
    for run in lines.chunk_by_mut(|a, b| trails(a) && trails(b)) {
        let width = |line: &Line<'_>| columns(&line.lead) + columns(&line.assign);
        let widest = run.iter().map(width).max().unwrap_or(0);
        for line in run.iter_mut().filter(|line| trails(line)) {
            let spaces = widest - width(line) + 1;
            if let Some(comment) = line.comment.first_mut() {
                comment.spaces = spaces;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        format(&SourceFile::new("t.hcl", text)).unwrap()
    }

    #[test]
    fn layout() {
        for (text, expected) in [
            ("a=1\nbbb = 22 # x\n\nc=[\n1,\n]#y\n", "a   = 1\nbbb = 22 # x\n\nc = [\n  1,\n] #y\n"),
            ("b \"x\"{\nc=\"${ a+b }${ {} }\"\n}", "b \"x\" {\n  c = \"${a + b}${ {} }\"\n}"),
            ("x = [for v in[-1]:- v if f (v) - 1 ]\n", "x = [for v in [-1] : -v if f(v) - 1]\n"),
            ("x = <<-E\n   a  ${ b }\n  E\n", "x = <<-E\n   a  ${b}\n  E\n"),
            ("x = 1   ", "x = 1   "),
        ] {
            assert_eq!(formatted(text), expected);
        }
        assert!(format(&SourceFile::new("t.hcl", "a = ")).is_err());
    }

    proptest::proptest! {
        /// Nothing but white space changes, and the second time nothing at all.
        #[test]
        fn only_white_space_changes(text in "((a|bb|\"c d\") ?= ?( ?[-+(\\[]? ?(1|x|\"y\\$\\{ z \\}\")[)\\]]?,?){1,3}( # c)?\n){0,5}") {
            if let Ok(once) = format(&SourceFile::new("t.hcl", text.as_str())) {
                let solid = |t: &str| t.split_whitespace().collect::<String>();
                assert_eq!(solid(&once), solid(&text));
                assert_eq!(formatted(&once), once);
            }
        }
    }
}
