//! The lexer: cuts native syntax into tokens that together are the whole text again.
//!
//! It never fails: what fits nowhere becomes an [`TokenKind::Invalid`] token, and the parser says what is
//! wrong with it. Templates nest through a stack of modes, so no input makes it recurse.

use crate::diagnostic::Span;

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is.
    pub span: Span,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "most are named after the character they are")]
pub enum TokenKind {
    /// A byte order mark at the very start.
    Bom,
    /// Spaces and tabs.
    Whitespace,
    /// `#` or `//` up to the end of the line, without the line end.
    LineComment,
    /// `/* … */`.
    BlockComment,
    /// A line end, LF or CRLF.
    Newline,
    Ident,
    Number,
    /// `"` at the start of a string.
    OpenQuote,
    /// `"` at its end.
    CloseQuote,
    /// Text in a quoted string, with escapes as written.
    QuotedText,
    /// `<<MARKER` or `<<-MARKER` with its line end.
    OpenHeredoc,
    /// The closing marker with what is before it on its line.
    CloseHeredoc,
    /// Text of a heredoc or a bare template; never more than one line.
    Text,
    /// `${` or `${~`.
    Interpolation,
    /// `%{` or `%{~`.
    Directive,
    /// `}` or `~}` that ends one of the two.
    SequenceEnd,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    OpenParen,
    CloseParen,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Equal,
    EqualEqual,
    Bang,
    BangEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    AndAnd,
    OrOr,
    Question,
    Colon,
    ColonColon,
    Comma,
    Dot,
    Ellipsis,
    FatArrow,
    /// An operator of other languages: `&`, `|`, `^`, `~`, `**`.
    Foreign,
    /// A character that is not used in the language.
    Invalid,
    /// The end of the text; empty.
    End,
}

impl TokenKind {
    /// Whether the parser passes over it.
    pub fn is_trivia(self) -> bool {
        matches!(self, Self::Bom | Self::Whitespace | Self::LineComment | Self::BlockComment)
    }
}

/// Cuts the text of a file: every byte is in exactly one token; the last token is [`TokenKind::End`].
pub fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    Lexer::new(text, Start::File).run(|t| tokens.push(t));
    tokens
}

/// What the text to cut is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Attributes and blocks, or an expression.
    File,
    /// A template without quotes around it.
    Template,
}

/// The tokens the parser looks at.
pub(super) fn lex_without_trivia(text: &str, start: Start) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 5 + 1);
    Lexer::new(text, start).run(|t| {
        if !t.kind.is_trivia() {
            tokens.push(t);
        }
    });
    tokens
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    modes: Vec<Mode<'a>>,
    /// A comment was found whose end is missing.
    comment_open: bool,
}

enum Mode<'a> {
    /// Expressions; `braces` are open ones since the mode began.
    Normal {
        braces: u32,
    },
    Quoted,
    Heredoc {
        marker: &'a str,
        line_start: bool,
    },
    Bare,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, start: Start) -> Self {
        let mode = match start {
            Start::File => Mode::Normal { braces: 0 },
            Start::Template => Mode::Bare,
        };
        Self { text, bytes: text.as_bytes(), at: 0, modes: vec![mode], comment_open: false }
    }

    fn run(mut self, mut push: impl FnMut(Token)) {
        if matches!(self.modes[..], [Mode::Normal { .. }]) && self.text.starts_with('\u{feff}') {
            self.at = 3;
            push(Token { kind: TokenKind::Bom, span: Span::new(0, 3) });
        }
        while self.at < self.bytes.len() {
            let start = self.at;
            let kind = match self.modes.last_mut() {
                Some(Mode::Normal { .. }) | None => self.normal(),
                Some(Mode::Quoted) => self.quoted(),
                Some(Mode::Heredoc { .. }) => self.heredoc(),
                Some(Mode::Bare) => self.bare(),
            };
            debug_assert!(self.at > start, "every token takes at least a byte");
            push(Token { kind, span: Span::new(start as u32, self.at as u32) });
        }
        let end = self.bytes.len() as u32;
        push(Token { kind: TokenKind::End, span: Span::new(end, end) });
    }

    fn peek(&self, ahead: usize) -> u8 {
        // NUL stands for the end: it is in no token that looks ahead.
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Takes `len` bytes as a token of this kind.
    fn take(&mut self, len: usize, kind: TokenKind) -> TokenKind {
        self.at += len;
        kind
    }

    fn normal(&mut self) -> TokenKind {
        use TokenKind as T;
        let next = self.peek(1);
        match self.bytes[self.at] {
            b' ' | b'\t' => {
                while matches!(self.peek(0), b' ' | b'\t') {
                    self.at += 1;
                }
                T::Whitespace
            }
            b'\n' => self.take(1, T::Newline),
            b'\r' if next == b'\n' => self.take(2, T::Newline),
            b'#' => self.line_comment(),
            b'/' if next == b'/' => self.line_comment(),
            b'/' if next == b'*' => {
                let rest = &self.text[self.at + 2..];
                // Where one comment has no end, none after it has: they are not searched again.
                let end = if self.comment_open { None } else { rest.find("*/") };
                self.comment_open = end.is_none();
                match end {
                    Some(i) => self.take(2 + i + 2, T::BlockComment),
                    None => self.take(2, T::Invalid),
                }
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.ident(),
            b'0'..=b'9' => self.number(),
            b'"' => {
                self.modes.push(Mode::Quoted);
                self.take(1, T::OpenQuote)
            }
            b'{' => {
                if let Some(Mode::Normal { braces }) = self.modes.last_mut() {
                    *braces += 1;
                }
                self.take(1, T::OpenBrace)
            }
            b'}' => self.close_brace(),
            b'~' if next == b'}' && self.ends_sequence() => {
                self.modes.pop();
                self.take(2, T::SequenceEnd)
            }
            b'[' => self.take(1, T::OpenBracket),
            b']' => self.take(1, T::CloseBracket),
            b'(' => self.take(1, T::OpenParen),
            b')' => self.take(1, T::CloseParen),
            b'+' => self.take(1, T::Plus),
            b'-' => self.take(1, T::Minus),
            b'*' if next == b'*' => self.take(2, T::Foreign),
            b'*' => self.take(1, T::Star),
            b'/' => self.take(1, T::Slash),
            b'%' => self.take(1, T::Percent),
            b'=' if next == b'=' => self.take(2, T::EqualEqual),
            b'=' if next == b'>' => self.take(2, T::FatArrow),
            b'=' => self.take(1, T::Equal),
            b'!' if next == b'=' => self.take(2, T::BangEqual),
            b'!' => self.take(1, T::Bang),
            b'<' if next == b'<' => match self.heredoc_start() {
                Some((len, marker)) => {
                    self.modes.push(Mode::Heredoc { marker, line_start: true });
                    self.take(len, T::OpenHeredoc)
                }
                None => self.take(1, T::Less),
            },
            b'<' if next == b'=' => self.take(2, T::LessEqual),
            b'<' => self.take(1, T::Less),
            b'>' if next == b'=' => self.take(2, T::GreaterEqual),
            b'>' => self.take(1, T::Greater),
            b'&' if next == b'&' => self.take(2, T::AndAnd),
            b'|' if next == b'|' => self.take(2, T::OrOr),
            b'?' => self.take(1, T::Question),
            b':' if next == b':' => self.take(2, T::ColonColon),
            b':' => self.take(1, T::Colon),
            b',' => self.take(1, T::Comma),
            b'.' if next == b'.' && self.peek(2) == b'.' => self.take(3, T::Ellipsis),
            b'.' => self.take(1, T::Dot),
            b'&' | b'|' | b'^' | b'~' => self.take(1, T::Foreign),
            0..0x80 => self.take(1, T::Invalid),
            _ => {
                let c = self.text[self.at..].chars().next().unwrap_or_default();
                if unicode_ident::is_xid_start(c) {
                    self.ident()
                } else {
                    self.take(c.len_utf8(), T::Invalid)
                }
            }
        }
    }

    fn line_comment(&mut self) -> TokenKind {
        let rest = &self.bytes[self.at..];
        let mut len = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        if len < rest.len() && rest[len - 1] == b'\r' {
            len -= 1;
        }
        self.take(len, TokenKind::LineComment)
    }

    fn ident(&mut self) -> TokenKind {
        self.at += ident_len(&self.text[self.at..]);
        TokenKind::Ident
    }

    /// Digits with any number of points and exponents, up to the last digit: what is too many of them is one wrong
    /// number rather than two right ones.
    fn number(&mut self) -> TokenKind {
        loop {
            let points = if self.peek(0) == b'.' { self.points() } else { 0 };
            match (self.peek(points), self.peek(points + 1), self.peek(points + 2)) {
                (b'0'..=b'9', ..) => self.at += points + 1,
                (b'e' | b'E', b'0'..=b'9', _) => self.at += points + 2,
                (b'e' | b'E', b'+' | b'-', b'0'..=b'9') => self.at += points + 3,
                _ => return TokenKind::Number,
            }
        }
    }

    /// How many points stand here.
    fn points(&self) -> usize {
        self.bytes[self.at..].iter().take_while(|b| **b == b'.').count()
    }

    fn ends_sequence(&self) -> bool {
        self.modes.len() > 1 && matches!(self.modes.last(), Some(Mode::Normal { braces: 0 }))
    }

    fn close_brace(&mut self) -> TokenKind {
        if self.ends_sequence() {
            self.modes.pop();
            return self.take(1, TokenKind::SequenceEnd);
        }
        if let Some(Mode::Normal { braces }) = self.modes.last_mut() {
            *braces = braces.saturating_sub(1);
        }
        self.take(1, TokenKind::CloseBrace)
    }

    /// Length and marker of `<<MARKER` with its line end, if that is what stands here.
    fn heredoc_start(&self) -> Option<(usize, &'a str)> {
        let start = self.at + if self.peek(2) == b'-' { 3 } else { 2 };
        let len = ident_len(&self.text[start..]);
        let end = start + len;
        let newline = match self.bytes.get(end..)? {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return None,
        };
        (len > 0).then(|| (end + newline - self.at, &self.text[start..end]))
    }

    /// A template sequence that starts here.
    fn sequence(&mut self) -> Option<TokenKind> {
        let kind = match (self.peek(0), self.peek(1)) {
            (b'$', b'{') => TokenKind::Interpolation,
            (b'%', b'{') => TokenKind::Directive,
            _ => return None,
        };
        if let Some(Mode::Heredoc { line_start, .. }) = self.modes.last_mut() {
            *line_start = false;
        }
        self.at += if self.peek(2) == b'~' { 3 } else { 2 };
        self.modes.push(Mode::Normal { braces: 0 });
        Some(kind)
    }

    /// Passes over a `$` or `%` that starts no sequence, together with the `${` or `%{` it may escape.
    /// False where a sequence starts.
    fn pass_sigil(&mut self) -> bool {
        let sigil = self.peek(0);
        match (self.peek(1), self.peek(2)) {
            (b'{', _) => return false,
            (next, b'{') if next == sigil => self.at += 3,
            _ => self.at += 1,
        }
        true
    }

    fn quoted(&mut self) -> TokenKind {
        if let Some(kind) = self.sequence() {
            return kind;
        }
        match self.peek(0) {
            b'"' => {
                self.modes.pop();
                return self.take(1, TokenKind::CloseQuote);
            }
            // A string ends with its line at the latest: that keeps the mistake in one place.
            b'\n' | b'\r' => {
                self.modes.pop();
                return self.normal();
            }
            _ => {}
        }
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'"' | b'\n' | b'\r' => break,
                b'\\' if !matches!(self.peek(1), b'\n' | b'\r') => {
                    self.at = (self.at + 2).min(self.bytes.len());
                }
                b'$' | b'%' => {
                    if !self.pass_sigil() {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        TokenKind::QuotedText
    }

    /// Text up to a sequence, or with the line end; whether it is the latter. A carriage return elsewhere is not
    /// allowed in a heredoc.
    fn line_of_text(&mut self, heredoc: bool) -> bool {
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\r' if heredoc && self.peek(1) != b'\n' => return false,
                b'\n' => {
                    self.at += 1;
                    return true;
                }
                b'$' | b'%' => {
                    if !self.pass_sigil() {
                        return false;
                    }
                }
                _ => self.at += 1,
            }
        }
        false
    }

    fn bare(&mut self) -> TokenKind {
        if let Some(kind) = self.sequence() {
            return kind;
        }
        self.line_of_text(false);
        TokenKind::Text
    }

    fn heredoc(&mut self) -> TokenKind {
        if let Some(kind) = self.sequence() {
            return kind;
        }
        if self.peek(0) == b'\r' && self.peek(1) != b'\n' {
            return self.take(1, TokenKind::Invalid);
        }
        let start = self.at;
        let whole_line = self.line_of_text(true);
        let Some(Mode::Heredoc { marker, line_start }) = self.modes.last_mut() else {
            return TokenKind::Text;
        };
        if whole_line && *line_start {
            let line = self.text[start..self.at].trim_end_matches('\n').trim_end_matches('\r');
            if line.trim() == *marker {
                self.at = start + line.len();
                self.modes.pop();
                return TokenKind::CloseHeredoc;
            }
        }
        *line_start = whole_line;
        TokenKind::Text
    }
}

/// How many bytes of the start of `text` are an identifier.
pub(super) fn ident_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    while let Some(b) = bytes.get(len) {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => len += 1,
            b'0'..=b'9' | b'-' if len > 0 => len += 1,
            0..0x80 => break,
            _ => {
                let c = text[len..].chars().next().unwrap_or_default();
                let fits =
                    if len == 0 { unicode_ident::is_xid_start(c) } else { unicode_ident::is_xid_continue(c) };
                if !fits {
                    break;
                }
                len += c.len_utf8();
            }
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(TokenKind, &str)> {
        let tokens = lex(text);
        let joined: String = tokens.iter().map(|t| &text[t.span.range()]).collect();
        assert_eq!(joined, text, "tokens are the whole text");
        tokens.iter().map(|t| (t.kind, &text[t.span.range()])).collect()
    }

    #[test]
    fn modes_nest() {
        use TokenKind as T;
        assert_eq!(
            kinds("x=\"a $${b} ${ {} ~} \\\"\""),
            [
                (T::Ident, "x"),
                (T::Equal, "="),
                (T::OpenQuote, "\""),
                (T::QuotedText, "a $${b} "),
                (T::Interpolation, "${"),
                (T::Whitespace, " "),
                (T::OpenBrace, "{"),
                (T::CloseBrace, "}"),
                (T::Whitespace, " "),
                (T::SequenceEnd, "~}"),
                (T::QuotedText, " \\\""),
                (T::CloseQuote, "\""),
                (T::End, ""),
            ]
        );
        assert_eq!(
            kinds("<<-EOT\r\n a${x}\n EOT2\n  EOT \r\n,"),
            [
                (T::OpenHeredoc, "<<-EOT\r\n"),
                (T::Text, " a"),
                (T::Interpolation, "${"),
                (T::Ident, "x"),
                (T::SequenceEnd, "}"),
                (T::Text, "\n"),
                (T::Text, " EOT2\n"),
                (T::CloseHeredoc, "  EOT "),
                (T::Newline, "\r\n"),
                (T::Comma, ","),
                (T::End, ""),
            ]
        );
    }

    #[test]
    fn numbers_and_sigils() {
        use TokenKind as T;
        assert_eq!(kinds("5.")[..2], [(T::Number, "5"), (T::Dot, ".")]);
        assert_eq!(kinds("1.1.5e+3")[0], (T::Number, "1.1.5e+3"));
        for text in ["1.E+2", "1.5.e+2", "1..2", "1.e5", "1e5e5"] {
            assert_eq!(kinds(text)[0], (T::Number, text));
        }
        assert_eq!(kinds("1..e+2+3")[..2], [(T::Number, "1..e+2"), (T::Plus, "+")]);
        assert_eq!(kinds("1.e-x")[..3], [(T::Number, "1"), (T::Dot, "."), (T::Ident, "e-x")]);
        assert_eq!(kinds("1...")[..2], [(T::Number, "1"), (T::Ellipsis, "...")]);
        assert_eq!(kinds("\"$$${a}%\"")[1], (T::QuotedText, "$$${a}%"));
        assert_eq!(kinds("\"%${a}\"")[1..3], [(T::QuotedText, "%"), (T::Interpolation, "${")]);
        assert_eq!(kinds("<<A.B\n")[..2], [(T::Less, "<"), (T::Less, "<")]);
        assert_eq!(kinds("żółć-1 = é")[0], (T::Ident, "żółć-1"));
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost(text in "([a-z_0-9 \t\r\n\"$%{}~<>=.,:()*/#\\\\é\u{feff}-]|<<-?E\n|E\n)*") {
            kinds(&text);
        }
    }
}
