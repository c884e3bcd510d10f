//! Parsing templates: quoted strings, heredocs and template files.
//!
//! First the pieces are read one after another, which is where strip markers and the indentation of `<<-`
//! heredocs work; then the directives among them are put in each other.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;

use super::super::ast::{Expr, ExprKind, Name, TemplateFor, TemplateIf, TemplatePart};
use super::super::lexer::TokenKind as T;
use super::{MAX_DEPTH, Parser};
use crate::diagnostic::{Diagnostic, Span};
use crate::value::{Value, normalize};

/// A piece of a template as it is read.
enum Piece<'a> {
    Text(Cow<'a, str>, Span),
    Interpolation(Expr),
    If(Expr, Span),
    Else(Span),
    EndIf(Span),
    For(Option<Name>, Name, Expr, Span),
    EndFor(Span),
}

impl<'a> Parser<'a> {
    /// A string in quotes.
    pub(super) fn quoted_template(&mut self) -> Expr {
        let open = self.bump().span;
        // Most strings are plain text.
        let kind = |n: usize, p: &Self| p.tokens.get(p.at + n).map_or(T::End, |t| t.kind);
        if kind(0, self) == T::QuotedText && kind(1, self) == T::CloseQuote {
            let text = self.quoted_text(self.at);
            self.at += 2;
            return string_literal(&text, Span::new(open.start, self.last_end()));
        }
        let newlines = self.newlines;
        let pieces = self.pieces(T::CloseQuote, open);
        self.newlines = newlines;
        if self.failed {
            return Expr::invalid(open);
        }
        self.tree(pieces, Span::new(open.start, self.last_end()))
    }

    pub(super) fn heredoc(&mut self) -> Expr {
        let flush = self.next_text().starts_with("<<-");
        let open = self.bump().span;
        let newlines = self.newlines;
        let mut pieces = self.pieces(T::CloseHeredoc, open);
        self.newlines = newlines;
        if self.failed {
            return Expr::invalid(open);
        }
        if flush {
            remove_indentation(&mut pieces);
        }
        self.tree(pieces, Span::new(open.start, self.last_end()))
    }

    /// A whole text as a template.
    pub(super) fn bare_template(&mut self) -> Expr {
        let start = self.tokens[0].span;
        let pieces = self.pieces(T::End, start);
        let span = Span::new(start.start, self.tokens[self.tokens.len() - 1].span.end);
        if self.failed {
            return Expr::invalid(span);
        }
        self.tree(pieces, span)
    }

    /// Everything up to and with the closing token.
    fn pieces(&mut self, end: T, open: Span) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let mut trim_next = false;
        loop {
            let trim_this = std::mem::take(&mut trim_next);
            // Not `peek`: line ends count here, whatever is around.
            let kind = self.tokens[self.at].kind;
            match kind {
                T::Text | T::QuotedText => {
                    let span = self.tokens[self.at].span;
                    let mut text = if kind == T::Text {
                        heredoc_text(self.text_at(self.at))
                    } else {
                        self.quoted_text(self.at)
                    };
                    if trim_this {
                        text = trim_start(text);
                    }
                    pieces.push(Piece::Text(text, span));
                    self.at += 1;
                }
                T::Interpolation | T::Directive => {
                    let sequence = self.tokens[self.at].span;
                    if self.text_at(self.at).ends_with('~')
                        && let Some(Piece::Text(text, _)) = pieces.last_mut()
                    {
                        *text = trim_end(std::mem::take(text));
                    }
                    self.at += 1;
                    self.newlines = false;
                    let piece = if kind == T::Interpolation {
                        self.interpolation(sequence)
                    } else {
                        self.directive(sequence)
                    };
                    if self.failed {
                        self.recover_sequence(end);
                        if self.failed {
                            return pieces;
                        }
                    } else {
                        trim_next = self.text_at(self.at).starts_with('~');
                        self.at += 1;
                    }
                    pieces.extend(piece);
                }
                _ if kind == end => {
                    if end != T::End {
                        self.at += 1;
                    }
                    return pieces;
                }
                _ => {
                    self.unterminated_string(open);
                    return pieces;
                }
            }
        }
    }

    /// Complains that a string does not end.
    pub(super) fn unterminated_string(&mut self, open: Span) {
        let end = self.tokens[self.at].span;
        if self.tokens[self.at].kind == T::Newline {
            self.error_at(
                Span::new(open.start, end.start),
                "Invalid multi-line string",
                "A string in quotes ends on its line. A line end inside is written \\n; a text of several lines as a heredoc (<<EOT).",
            );
        } else {
            self.ran_out = end.start == end.end;
            let opening = self.source.text().get(open.range()).unwrap_or_default().trim_end();
            let begins = Span::new(open.start, open.start + opening.len() as u32);
            let closing = match opening.strip_prefix("<<") {
                Some(marker) => format!("a line with {} alone", marker.trim_start_matches('-')),
                None => "the quote".to_owned(),
            };
            let detail = format!("The text ends before {closing} that would close this string.");
            // What is wrong with a foreign token is told where that is.
            let foreign = matches!(self.tokens[self.at].kind, T::Foreign | T::Invalid);
            if !self.failed && !foreign {
                let d = Diagnostic::error("Unterminated template string").detail(detail);
                let d = d.at(end.in_source(self.source));
                self.add(end, d.related("the string begins here", begins.in_source(self.source)));
            }
            self.failed = true;
        }
    }

    fn interpolation(&mut self, start: Span) -> Option<Piece<'a>> {
        let expr = self.expr();
        if self.failed {
            return None;
        }
        match self.peek() {
            T::SequenceEnd => return Some(Piece::Interpolation(expr)),
            T::End | T::OpenQuote => self.error_at(
                start,
                "Unclosed template interpolation sequence",
                "The } of this ${ sequence is missing.",
            ),
            _ => self.error(
                "Extra characters after interpolation expression",
                "The expression is complete: the } of the ${ sequence must stand here.",
            ),
        }
        None
    }

    /// What is between `%{` and its end, which is left.
    fn directive(&mut self, start: Span) -> Option<Piece<'a>> {
        if self.peek() != T::Ident {
            self.error(
                "Invalid template directive",
                "One of if, else, endif, for and endfor must follow %{.",
            );
            return None;
        }
        let word = self.next_text();
        let word_span = self.bump().span;
        let piece = match word {
            "if" => Piece::If(self.expr(), start),
            "else" => Piece::Else(start),
            "endif" => Piece::EndIf(start),
            "for" => {
                let (key, value) = self.for_vars("Invalid 'for' directive")?;
                Piece::For(key, value, self.expr(), start)
            }
            "endfor" => Piece::EndFor(start),
            _ => {
                self.error_at(
                    word_span,
                    "Invalid template control keyword",
                    format!("\"{word}\" is none of if, else, endif, for and endfor."),
                );
                return None;
            }
        };
        if !self.failed && self.peek() != T::SequenceEnd {
            self.error(
                "Extra characters in template directive",
                format!("The \"{word}\" directive is complete: its }} must stand here."),
            );
        }
        let end = self.here().end;
        Some(match piece {
            Piece::If(e, s) => Piece::If(e, Span::new(s.start, end)),
            Piece::Else(s) => Piece::Else(Span::new(s.start, end)),
            Piece::EndIf(s) => Piece::EndIf(Span::new(s.start, end)),
            Piece::For(k, v, e, s) => Piece::For(k, v, e, Span::new(s.start, end)),
            Piece::EndFor(s) => Piece::EndFor(Span::new(s.start, end)),
            other => other,
        })
    }

    /// The expression that the pieces make.
    fn tree(&mut self, mut pieces: Vec<Piece<'a>>, span: Span) -> Expr {
        if pieces.is_empty() {
            return string_literal("", span);
        }
        if let [Piece::Interpolation(_)] = pieces[..]
            && let Some(Piece::Interpolation(inner)) = pieces.pop()
        {
            return Expr { kind: ExprKind::Unwrapped(Box::new(inner)), span };
        }
        if pieces.iter().all(|p| matches!(p, Piece::Text(..))) {
            let mut all = String::new();
            for piece in &pieces {
                if let Piece::Text(text, _) = piece {
                    all.push_str(text);
                }
            }
            return string_literal(&all, span);
        }
        match self.nest(pieces, span) {
            Some(parts) => Expr { kind: ExprKind::Template(parts), span },
            None => Expr::invalid(span),
        }
    }

    /// Puts what is between directives into them.
    fn nest(&mut self, pieces: Vec<Piece<'a>>, span: Span) -> Option<Vec<TemplatePart>> {
        let mut stack: Vec<Open> = Vec::new();
        let mut parts = Vec::new();
        for piece in pieces {
            let (at, wrong) = match piece {
                Piece::Text(text, span) => {
                    push_text(&mut parts, &text, span);
                    continue;
                }
                Piece::Interpolation(expr) => {
                    parts.push(TemplatePart::Interpolation(expr));
                    continue;
                }
                Piece::If(condition, start) => {
                    stack.push(Open {
                        before: std::mem::take(&mut parts),
                        start,
                        kind: OpenKind::If(condition, None),
                    });
                    if self.depth + stack.len() as u32 > MAX_DEPTH {
                        (start, "Nesting too deep")
                    } else {
                        continue;
                    }
                }
                Piece::For(key_var, value_var, collection, start) => {
                    stack.push(Open {
                        before: std::mem::take(&mut parts),
                        start,
                        kind: OpenKind::For(key_var, value_var, collection),
                    });
                    if self.depth + stack.len() as u32 > MAX_DEPTH {
                        (start, "Nesting too deep")
                    } else {
                        continue;
                    }
                }
                Piece::Else(at) => match stack.last_mut() {
                    Some(Open { kind: OpenKind::If(_, then @ None), .. }) => {
                        *then = Some(std::mem::take(&mut parts));
                        continue;
                    }
                    _ => (at, "Unexpected else directive"),
                },
                Piece::EndIf(at) => match stack.pop() {
                    Some(Open { before, start, kind: OpenKind::If(condition, then) }) => {
                        let last = std::mem::replace(&mut parts, before);
                        let (then, otherwise) = match then {
                            Some(then) => (then, last),
                            None => (last, Vec::new()),
                        };
                        let span = start.to(at);
                        parts.push(TemplatePart::If(Box::new(TemplateIf {
                            condition,
                            then,
                            otherwise,
                            span,
                        })));
                        continue;
                    }
                    _ => (at, "Unexpected endif directive"),
                },
                Piece::EndFor(at) => match stack.pop() {
                    Some(Open { before, start, kind: OpenKind::For(key_var, value_var, collection) }) => {
                        let parts_of = std::mem::replace(&mut parts, before);
                        let span = start.to(at);
                        parts.push(TemplatePart::For(Box::new(TemplateFor {
                            key_var,
                            value_var,
                            collection,
                            parts: parts_of,
                            span,
                        })));
                        continue;
                    }
                    _ => (at, "Unexpected endfor directive"),
                },
            };
            self.complain(at, wrong, "There is no directive before it that it could belong to.");
            return None;
        }
        let Some(Open { start, kind, .. }) = stack.pop() else { return Some(parts) };
        let (word, end) = match kind {
            OpenKind::If(..) => ("if", "endif"),
            OpenKind::For(..) => ("for", "endfor"),
        };
        let start = start.in_source(self.source);
        let end_of_template = Span::new(span.end.saturating_sub(1), span.end);
        let d = Diagnostic::error("Unexpected end of template")
            .detail(format!("The \"{word}\" directive at {start} has no {end}."))
            .at(end_of_template.in_source(self.source))
            .related(format!("the \"{word}\" directive"), start);
        self.add(end_of_template, d);
        None
    }

    /// The text of a token of a quoted string, with its escapes resolved.
    pub(super) fn quoted_text(&mut self, index: usize) -> Cow<'a, str> {
        let raw = self.text_at(index);
        if !raw.contains('\\') {
            return heredoc_text(raw);
        }
        let start = self.tokens[index].span.start;
        let mut text = String::with_capacity(raw.len());
        let mut at = 0;
        while let Some(c) = raw[at..].chars().next() {
            let rest = &raw[at..];
            if c != '\\' {
                at += push_unescaped_sigil(&mut text, rest, c);
                continue;
            }
            let (len, decoded) = escape(rest);
            match decoded {
                Some(c) => text.push(c),
                None => {
                    let span = Span::new(start + at as u32, start + (at + len) as u32);
                    self.complain(
                        span,
                        "Invalid escape sequence",
                        format!(
                            "{} stands for no character. There are \\n \\r \\t \\\" \\\\ \\uNNNN and \\UNNNNNNNN; a backslash itself is written \\\\.",
                            &rest[..len]
                        ),
                    );
                }
            }
            at += len;
        }
        text.into()
    }
}

/// A directive whose end has not come yet.
struct Open {
    /// The parts before it.
    before: Vec<TemplatePart>,
    start: Span,
    kind: OpenKind,
}

enum OpenKind {
    /// The condition, and the parts before `else` once that has come.
    If(Expr, Option<Vec<TemplatePart>>),
    For(Option<Name>, Name, Expr),
}

fn push_text(parts: &mut Vec<TemplatePart>, text: &str, span: Span) {
    if !text.is_empty() {
        parts.push(TemplatePart::Literal(normalize(text), span));
    }
}

fn string_literal(text: &str, span: Span) -> Expr {
    Expr { kind: ExprKind::Literal(Value::text(text)), span }
}

/// Takes the first character of `rest`, or the `$${` that stands for `${`; gives the number of bytes.
fn push_unescaped_sigil(text: &mut String, rest: &str, first: char) -> usize {
    for (escaped, plain) in [("$${", "${"), ("%%{", "%{")] {
        if rest.starts_with(escaped) {
            text.push_str(plain);
            return escaped.len();
        }
    }
    text.push(first);
    first.len_utf8()
}

/// The text of a token of a heredoc: only `$${` and `%%{` are escapes.
fn heredoc_text(raw: &str) -> Cow<'_, str> {
    if !raw.contains("$${") && !raw.contains("%%{") {
        return raw.into();
    }
    let mut text = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(c) = raw[at..].chars().next() {
        at += push_unescaped_sigil(&mut text, &raw[at..], c);
    }
    text.into()
}

/// The length of the escape sequence that `rest` begins with, and what it stands for.
fn escape(rest: &str) -> (usize, Option<char>) {
    let Some(selector) = rest[1..].chars().next() else { return (1, None) };
    let digits = match selector {
        'n' => return (2, Some('\n')),
        'r' => return (2, Some('\r')),
        't' => return (2, Some('\t')),
        '"' => return (2, Some('"')),
        '\\' => return (2, Some('\\')),
        'u' => 4,
        'U' => 8,
        other => return (1 + other.len_utf8(), None),
    };
    match rest.get(2..2 + digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
        Some(hex) => {
            let code = u32::from_str_radix(hex, 16).unwrap_or(u32::MAX);
            // Half of a surrogate pair is no character, and two of them are not put together.
            (2 + digits, char::from_u32(code))
        }
        None => (2, None),
    }
}

fn trim_start(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(s) => s.trim_start().into(),
        Cow::Owned(s) => s.trim_start().to_owned().into(),
    }
}

fn trim_end(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(s) => s.trim_end().into(),
        Cow::Owned(s) => s.trim_end().to_owned().into(),
    }
}

/// Takes the indentation that all lines have in common from each. Lines of white space alone are left as they
/// are and do not count; a line that begins with a sequence has none.
fn remove_indentation(pieces: &mut [Piece<'_>]) {
    let mut common = usize::MAX;
    let mut first_on_line = Vec::new();
    let mut line_start = true;
    for (i, piece) in pieces.iter().enumerate() {
        let text = match piece {
            Piece::Text(text, _) => &**text,
            _ => "",
        };
        if line_start {
            let trimmed = text.trim_start();
            if !(trimmed.is_empty() && text.ends_with('\n')) {
                let indent = text[..text.len() - trimmed.len()].graphemes(true).count();
                common = common.min(indent);
                first_on_line.push(i);
            }
        }
        line_start = text.ends_with('\n');
    }
    for i in first_on_line {
        if let Piece::Text(text, _) = &mut pieces[i] {
            let cut = text.graphemes(true).take(common).map(str::len).sum::<usize>();
            *text = text[cut..].to_owned().into();
        }
    }
}
