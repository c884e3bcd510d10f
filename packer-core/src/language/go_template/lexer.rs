//! Cuts a Go template into tokens. Never fails: what cannot be cut ends the list as [`Kind::Error`].

use super::ast::Pos;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The message is in [`Tokens::error`].
    Error,
    Eof,
    Text,
    LeftDelimiter,
    RightDelimiter,
    Space,
    Assign,
    Declare,
    Pipe,
    LeftParen,
    RightParen,
    /// Any other printable ASCII character: a comma, for one.
    Char,
    Bool,
    Number,
    CharConstant,
    String,
    RawString,
    Dot,
    Field,
    Variable,
    Identifier,
    Nil,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

impl Kind {
    pub(super) fn is_keyword(self) -> bool {
        use Kind::{Block, Break, Continue, Define, Dot, Else, End, If, Nil, Range, Template, With};
        matches!(
            self,
            Dot | Nil | Block | Break | Continue | Define | Else | End | If | Range | Template | With
        )
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: Pos,
    pub(super) end: Pos,
}

#[derive(Debug)]
pub(super) struct Tokens {
    /// Ends with `Eof` or `Error`.
    pub(super) list: Vec<Token>,
    pub(super) error: String,
}

/// Cuts a text of less than 4 GiB.
pub(super) fn tokens(text: &str) -> Tokens {
    let mut lexer = Lexer { text, at: 0, start: 0, list: Vec::new() };
    let error = match lexer.run() {
        Ok(()) => {
            lexer.start = lexer.at;
            lexer.emit(Kind::Eof);
            String::new()
        }
        Err(message) => {
            lexer.emit(Kind::Error);
            message
        }
    };
    Tokens { list: lexer.list, error }
}

struct Lexer<'a> {
    text: &'a str,
    /// Next byte to look at; always on a character boundary.
    at: usize,
    /// First byte of the token being read.
    start: usize,
    list: Vec<Token>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// A character as `U+007D '}'`.
fn character(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}

type Step = Result<(), String>;

impl Lexer<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_while(&mut self, test: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&test) {
            self.next();
        }
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek().is_some_and(|c| set.contains(c));
        if found {
            self.next();
        }
        found
    }

    fn emit(&mut self, kind: Kind) {
        self.list.push(Token { kind, start: self.start as Pos, end: self.at as Pos });
        self.start = self.at;
    }

    fn run(&mut self) -> Step {
        loop {
            let Some(open) = self.rest().find("{{") else {
                self.at = self.text.len();
                if self.at > self.start {
                    self.emit(Kind::Text);
                }
                return Ok(());
            };
            let open = self.at + open;
            let after = &self.text[open + 2..];
            let trim = after.starts_with('-') && after[1..].starts_with(is_space);
            let before = &self.text[self.start..open];
            let kept = if trim { before.trim_end_matches(is_space) } else { before };
            self.at = self.start + kept.len();
            if !kept.is_empty() {
                self.emit(Kind::Text);
            }
            self.start = open;
            self.at = open + 2;
            if self.text[self.at + if trim { 2 } else { 0 }..].starts_with("/*") {
                self.comment(trim)?;
            } else {
                self.emit(Kind::LeftDelimiter);
                self.at += if trim { 2 } else { 0 };
                self.start = self.at;
                self.action()?;
            }
        }
    }

    fn comment(&mut self, trim: bool) -> Step {
        self.at += if trim { 4 } else { 2 };
        let Some(end) = self.rest().find("*/") else { return Err("unclosed comment".into()) };
        self.at += end + 2;
        let Some(trim) = self.right_delimiter() else {
            return Err("comment ends before closing delimiter".into());
        };
        self.close(trim);
        Ok(())
    }

    /// Whether a closing delimiter comes next, and then whether it has a trim marker.
    fn right_delimiter(&self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with(is_space) && rest[1..].starts_with("-}}") {
            return Some(true);
        }
        rest.starts_with("}}").then_some(false)
    }

    /// Steps behind the closing delimiter and the white space that its marker eats.
    fn close(&mut self, trim: bool) {
        self.at += if trim { 4 } else { 2 };
        if trim {
            self.skip_while(is_space);
        }
        self.start = self.at;
    }

    fn action(&mut self) -> Step {
        let mut parens = 0_usize;
        loop {
            if let Some(trim) = self.right_delimiter() {
                if parens > 0 {
                    return Err("unclosed left paren".into());
                }
                self.at += if trim { 4 } else { 2 };
                self.emit(Kind::RightDelimiter);
                if trim {
                    self.skip_while(is_space);
                }
                self.start = self.at;
                return Ok(());
            }
            let Some(c) = self.peek() else { return Err("unclosed action".into()) };
            match c {
                c if is_space(c) => {
                    // The last space may belong to a closing delimiter with its marker.
                    while self.peek().is_some_and(is_space) && self.right_delimiter().is_none() {
                        self.next();
                    }
                    self.emit(Kind::Space);
                }
                '0'..='9' | '+' | '-' => self.number()?,
                '.' if self.rest()[1..].chars().next().is_none_or(|c| c.is_ascii_digit()) => self.number()?,
                '.' => self.name(Kind::Field, Kind::Dot)?,
                '$' => self.name(Kind::Variable, Kind::Variable)?,
                '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant")?,
                '`' => {
                    self.next();
                    let Some(end) = self.rest().find('`') else {
                        return Err("unterminated raw quoted string".into());
                    };
                    self.at += end + 1;
                    self.emit(Kind::RawString);
                }
                c if is_word(c) => self.word()?,
                _ => {
                    self.next();
                    match c {
                        '=' => self.emit(Kind::Assign),
                        '|' => self.emit(Kind::Pipe),
                        ':' if self.accept("=") => self.emit(Kind::Declare),
                        ':' => return Err("expected :=".into()),
                        '(' => {
                            parens += 1;
                            self.emit(Kind::LeftParen);
                        }
                        ')' if parens == 0 => return Err("unexpected right paren".into()),
                        ')' => {
                            parens -= 1;
                            self.emit(Kind::RightParen);
                        }
                        c if c.is_ascii_graphic() => self.emit(Kind::Char),
                        c => return Err(format!("unrecognized character in action: {}", character(c))),
                    }
                }
            }
        }
    }

    fn at_terminator(&self) -> bool {
        self.rest().starts_with("}}")
            || self.peek().is_none_or(|c| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '('))
    }

    fn expect_terminator(&self) -> Step {
        match self.peek() {
            Some(c) if !self.at_terminator() => Err(format!("bad character {}", character(c))),
            _ => Ok(()),
        }
    }

    /// A dot or dollar sign and the name behind it, or alone.
    fn name(&mut self, named: Kind, alone: Kind) -> Step {
        self.next();
        if self.at_terminator() {
            self.emit(alone);
            return Ok(());
        }
        self.skip_while(is_word);
        self.expect_terminator()?;
        self.emit(named);
        Ok(())
    }

    fn word(&mut self) -> Step {
        self.skip_while(is_word);
        self.expect_terminator()?;
        self.emit(match &self.text[self.start..self.at] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            "block" => Kind::Block,
            "break" => Kind::Break,
            "continue" => Kind::Continue,
            "define" => Kind::Define,
            "else" => Kind::Else,
            "end" => Kind::End,
            "if" => Kind::If,
            "range" => Kind::Range,
            "template" => Kind::Template,
            "with" => Kind::With,
            _ => Kind::Identifier,
        });
        Ok(())
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Step {
        self.next();
        loop {
            match self.next() {
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => {
                    self.next();
                }
                None | Some('\n' | '\\') => return Err(unterminated.into()),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    /// Takes what looks like a number; whether it is one the parser finds out.
    fn number(&mut self) -> Step {
        let mut good = self.scan_number();
        // `1+2i` is one complex number.
        if good && matches!(self.peek(), Some('+' | '-')) {
            good = self.scan_number() && self.text[self.start..self.at].ends_with('i');
        }
        if !good {
            return Err(format!(
                "bad number syntax: {}",
                super::printf::quote(&self.text[self.start..self.at])
            ));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.skip_while(|c| digits.contains(c));
        if self.accept(".") {
            self.skip_while(|c| digits.contains(c));
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if !exponent.is_empty() && self.accept(exponent) {
            self.accept("+-");
            self.skip_while(|c| c.is_ascii_digit() || c == '_');
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}
