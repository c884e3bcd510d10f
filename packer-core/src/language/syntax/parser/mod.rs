//! The parser's cursor over the tokens: looking ahead, complaining, and finding the way back after a mistake.
//!
//! A mistake sets `failed`; everything up to the next bracket or line that can be trusted is then passed
//! over, so that one run names every mistake and no mistake is named twice.

mod body;
mod expr;
mod name_hash;
mod template;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Expr, Name};
use super::lexer::{Start, Token, TokenKind, lex_without_trivia};
use super::native::NativeBody;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};
use name_hash::NameHash;

/// How deep brackets, blocks and template sequences may nest. Deeper text is refused with a diagnostic: it
/// is no one's template, and every walk over the tree may then recurse.
pub(super) const MAX_DEPTH: u32 = 200;

/// How many mistakes of one text are told; behind that lies a text of another kind.
const MAX_ERRORS: usize = 100;

pub(super) fn parse_body(source: &Arc<SourceFile>) -> (NativeBody, Diagnostics) {
    let text = source.text();
    if text.len() > u32::MAX as usize {
        let d = Diagnostic::error("File too large")
            .detail(format!("{} has more than 4 GiB; a template cannot be that large.", source.name()));
        return (NativeBody::default(), d.into());
    }
    let mut parser = Parser::new(source, text, Start::File);
    let body = parser.file();
    (body, parser.finish())
}

/// A whole text that is one expression.
pub(super) fn parse_expression(source: &Arc<SourceFile>) -> (Expr, Diagnostics) {
    let mut parser = Parser::new(source, source.text(), Start::File);
    parser.newlines = false;
    let expr = parser.expr();
    if !parser.failed && parser.peek() != TokenKind::End {
        parser.error(
            "Extra characters after expression",
            "An expression has ended before this; what follows does not belong to it.",
        );
    }
    (expr, parser.finish())
}

/// Text that is one template, without quotes around it and without escapes by backslash.
pub(super) fn parse_template(source: &Arc<SourceFile>) -> (Expr, Diagnostics) {
    let mut parser = Parser::new(source, source.text(), Start::Template);
    let expr = parser.bare_template();
    (expr, parser.finish())
}

/// A text cut out of `source` in which offsets differ from those in the file: `place` gives the latter.
pub(super) fn parse_embedded(
    source: &Arc<SourceFile>,
    text: &str,
    start: Start,
    place: impl Fn(u32) -> u32,
) -> (Expr, Diagnostics) {
    let mut parser = Parser::new(source, text, start);
    parser.ranges = Some(parser.tokens.iter().map(|t| t.span).collect());
    for token in &mut parser.tokens {
        token.span = Span::new(place(token.span.start), place(token.span.end));
    }
    let expr = match start {
        Start::Template => parser.bare_template(),
        Start::File => {
            parser.newlines = false;
            let expr = parser.expr();
            if !parser.failed && parser.peek() != TokenKind::End {
                parser.error("Extra characters after expression", "The expression ends before this.");
            }
            expr
        }
    };
    (expr, parser.finish())
}

struct Parser<'a> {
    source: &'a Arc<SourceFile>,
    text: &'a str,
    /// Without trivia; the last one is `End`.
    tokens: Vec<Token>,
    /// Where the tokens are in `text`, if their spans tell where they are in a file around it.
    ranges: Option<Vec<Span>>,
    /// Index of the next token; never behind `End`.
    at: usize,
    /// Whether line ends count; inside most brackets they do not.
    newlines: bool,
    depth: u32,
    failed: bool,
    /// Whether a string was open at the end of the text: that blocks are open there too follows from it.
    ran_out: bool,
    diagnostics: Vec<(u32, Diagnostic)>,
    /// Every name once.
    names: HashMap<&'a str, Arc<str>, NameHash>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Arc<SourceFile>, text: &'a str, start: Start) -> Self {
        let tokens = lex_without_trivia(text, start);
        Self {
            source,
            text,
            tokens,
            ranges: None,
            at: 0,
            newlines: true,
            depth: 0,
            failed: false,
            ran_out: false,
            diagnostics: Vec::new(),
            names: HashMap::default(),
        }
    }

    fn finish(mut self) -> Diagnostics {
        self.refuse_foreign_tokens();
        self.diagnostics.sort_by_key(|(start, _)| *start);
        let more = self.diagnostics.len().saturating_sub(MAX_ERRORS);
        self.diagnostics.truncate(MAX_ERRORS);
        let mut all: Diagnostics = self.diagnostics.into_iter().map(|(_, d)| d).collect();
        if more > 0 {
            all.push(
                Diagnostic::error("Too many errors")
                    .detail(format!("{} has further mistakes that are not shown.", self.source.name())),
            );
        }
        all
    }

    /// The kind of the next token.
    fn peek(&mut self) -> TokenKind {
        if !self.newlines {
            while self.tokens[self.at].kind == TokenKind::Newline {
                self.at += 1;
            }
        }
        self.tokens[self.at].kind
    }

    /// The kind of the token after the next.
    fn peek_second(&mut self) -> TokenKind {
        self.peek();
        let mut rest = self.tokens.iter().skip(self.at + 1).map(|t| t.kind);
        rest.find(|kind| self.newlines || *kind != TokenKind::Newline).unwrap_or(TokenKind::End)
    }

    /// Takes the next token.
    fn bump(&mut self) -> Token {
        self.peek();
        let token = self.tokens[self.at];
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    /// Takes the next token if it is of this kind.
    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.peek() == kind;
        if found {
            self.bump();
        }
        found
    }

    /// The place of the next token.
    fn here(&mut self) -> Span {
        self.peek();
        self.tokens[self.at].span
    }

    /// Where the last token taken ends.
    fn last_end(&self) -> u32 {
        self.at.checked_sub(1).map_or(0, |i| self.tokens[i].span.end)
    }

    /// The text of the next token.
    fn next_text(&mut self) -> &'a str {
        self.peek();
        self.text_at(self.at)
    }

    fn text_at(&self, index: usize) -> &'a str {
        let span = self.ranges.as_ref().map_or(self.tokens[index].span, |r| r[index]);
        &self.text[span.range()]
    }

    /// Takes the next token, an identifier, as a name.
    fn name(&mut self) -> Name {
        let text = self.next_text();
        let text = self.intern(text);
        Name { text, span: self.bump().span }
    }

    fn intern(&mut self, text: &'a str) -> Arc<str> {
        self.names.entry(text).or_insert_with(|| Arc::from(text)).clone()
    }

    /// Complains about the next token, unless there is a complaint already that this one follows from.
    fn error(&mut self, summary: &str, detail: impl Into<Cow<'static, str>>) {
        let span = self.here();
        self.error_at(span, summary, detail);
    }

    fn error_at(&mut self, span: Span, summary: &str, detail: impl Into<Cow<'static, str>>) {
        // What is wrong with a foreign token is told by `refuse_foreign_tokens`.
        let foreign = matches!(self.peek(), TokenKind::Foreign | TokenKind::Invalid);
        if !self.failed && !foreign {
            self.complain(span, summary, detail);
        }
        self.failed = true;
    }

    fn has_complained(&self) -> bool {
        !self.diagnostics.is_empty()
    }

    /// Complains about something that does not confuse the parser.
    fn complain(&mut self, span: Span, summary: &str, detail: impl Into<Cow<'static, str>>) {
        let d = Diagnostic::error(summary).detail(detail.into()).at(span.in_source(self.source));
        self.add(span, d);
    }

    fn add(&mut self, span: Span, diagnostic: Diagnostic) {
        // Twice the number that is shown, so that the first ones by place are among them.
        if self.diagnostics.len() < 2 * MAX_ERRORS {
            self.diagnostics.push((span.start, diagnostic));
        }
    }

    /// Goes one level deeper; false, with a complaint, where that is too deep. `leave` undoes it.
    fn enter(&mut self) -> bool {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.error("Nesting too deep", format!("Brackets and blocks may nest {MAX_DEPTH} levels deep."));
            return false;
        }
        true
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// After a mistake inside brackets: passes over what is left of them and takes `closer`. Stops earlier,
    /// still failed, at what belongs to something around the brackets.
    fn recover_to(&mut self, closer: TokenKind) {
        let mut open = Vec::new();
        loop {
            let kind = self.tokens[self.at].kind;
            if self.skip_ends(kind, &open) {
                return;
            }
            if open.is_empty() && is_closer(kind) {
                if kind == closer {
                    self.at += 1;
                    self.failed = false;
                }
                return;
            }
            self.skip_one(kind, &mut open);
        }
    }

    /// After a mistake in a template sequence: goes behind its end. In a string in quotes it is looked for on this
    /// line only; in other templates to the end.
    fn recover_sequence(&mut self, template_end: TokenKind) {
        if template_end == TokenKind::CloseQuote {
            let rest = self.tokens[self.at..].iter().map(|t| t.kind);
            let mut line = rest.take_while(|k| !matches!(k, TokenKind::Newline | TokenKind::End));
            if !line.any(|k| k == TokenKind::SequenceEnd) {
                return;
            }
        }
        self.recover_to(TokenKind::SequenceEnd);
    }

    /// After a mistake in an attribute or block: goes to the next line outside brackets, or to the brace that
    /// ends the body.
    fn recover_item(&mut self, in_block: bool) {
        let mut open = Vec::new();
        loop {
            let kind = self.tokens[self.at].kind;
            if self.skip_ends(kind, &open)
                || (open.is_empty()
                    && (kind == TokenKind::Newline || in_block && kind == TokenKind::CloseBrace))
            {
                self.failed = false;
                return;
            }
            self.skip_one(kind, &mut open);
        }
    }

    /// Whether passing over must end here whatever is open: at the end, and at an attribute or block that begins
    /// in the first column, where brackets were probably left open.
    fn skip_ends(&self, kind: TokenKind, open: &[TokenKind]) -> bool {
        use TokenKind as T;
        if kind != T::Ident || self.at == 0 || self.ranges.is_some() {
            return kind == T::End;
        }
        let before = self.tokens[self.at - 1];
        let after = self.tokens.get(self.at + 1).map_or(T::End, |t| t.kind);
        before.kind == T::Newline
            && before.span.end == self.tokens[self.at].span.start
            && matches!(after, T::Equal | T::OpenBrace | T::OpenQuote)
            && !open.contains(&T::OpenHeredoc)
    }

    fn skip_one(&mut self, kind: TokenKind, open: &mut Vec<TokenKind>) {
        use TokenKind as T;
        match kind {
            T::OpenBrace | T::OpenBracket | T::OpenParen | T::OpenQuote | T::OpenHeredoc => open.push(kind),
            T::Interpolation | T::Directive => open.push(kind),
            // A string left open ends with its line.
            T::Newline if open.last() == Some(&T::OpenQuote) => {
                open.pop();
            }
            _ if is_closer(kind) => {
                open.pop();
            }
            _ => {}
        }
        self.at += 1;
    }

    /// Names the operators and characters that other languages have and this one has not.
    fn refuse_foreign_tokens(&mut self) {
        if !self.tokens.iter().any(|t| matches!(t.kind, TokenKind::Foreign | TokenKind::Invalid)) {
            return;
        }
        // One single quote rarely comes alone: a line with some is told once.
        let mut quoted_line = false;
        for i in 0..self.tokens.len() {
            let Token { kind, span } = self.tokens[i];
            let single_quote = kind == TokenKind::Invalid && self.text_at(i) == "'";
            match kind {
                TokenKind::Newline => quoted_line = false,
                _ if single_quote && std::mem::replace(&mut quoted_line, true) => continue,
                _ => {}
            }
            let (summary, detail): (_, Cow<'static, str>) = match (kind, self.text_at(i)) {
                (TokenKind::Foreign, "&") => (
                    "Unsupported operator",
                    "There are no bitwise operators; the logical \"and\" is &&.".into(),
                ),
                (TokenKind::Foreign, "|") => (
                    "Unsupported operator",
                    "There are no bitwise operators; the logical \"or\" is ||.".into(),
                ),
                (TokenKind::Foreign, "~") => (
                    "Unsupported operator",
                    "There are no bitwise operators; the logical \"not\" is !.".into(),
                ),
                (TokenKind::Foreign, "**") => {
                    ("Unsupported operator", "There is no ** operator; pow(x, y) raises to a power.".into())
                }
                (TokenKind::Foreign, _) => ("Unsupported operator", "There are no bitwise operators.".into()),
                (TokenKind::Invalid, "'") => {
                    ("Invalid character", "Strings are written in double quotes, not in single ones.".into())
                }
                (TokenKind::Invalid, "`") => (
                    "Invalid character",
                    "Backticks do not quote. A text of several lines is written as a heredoc (<<EOT).".into(),
                ),
                (TokenKind::Invalid, ";") => (
                    "Invalid character",
                    "A line end, not a semicolon, separates arguments and blocks; a comma separates items."
                        .into(),
                ),
                (TokenKind::Invalid, "/*") => {
                    ("Invalid character", "This comment is not closed: */ is missing.".into())
                }
                (TokenKind::Invalid, c) => {
                    ("Invalid character", format!("The character {c:?} has no use in this language.").into())
                }
                _ => continue,
            };
            self.complain(span, summary, detail);
        }
    }
}

fn is_closer(kind: TokenKind) -> bool {
    use TokenKind as T;
    matches!(
        kind,
        T::CloseBrace | T::CloseBracket | T::CloseParen | T::CloseQuote | T::CloseHeredoc | T::SequenceEnd
    )
}
