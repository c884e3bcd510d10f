//! The tokens of YAML that have a text: scalars, anchors, tags and directives.

use super::Result;
use super::tokens::{Token, Tokens};

/// The line ends within a scalar: the first one, and those of the empty lines behind it.
#[derive(Default)]
struct Breaks {
    first: String,
    more: String,
}

impl Breaks {
    /// Folds them: one line end becomes a space, of several the first one goes.
    fn fold_into(&mut self, text: &mut String) {
        match (self.first.as_str(), self.more.is_empty()) {
            ("\n", true) => text.push(' '),
            ("\n", false) => {}
            (first, _) => text.push_str(first),
        }
        text.push_str(&self.more);
        self.first.clear();
        self.more.clear();
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

impl Tokens<'_> {
    pub(super) fn plain_scalar(&mut self) -> Result<String> {
        let mut text = String::new();
        let (mut breaks, mut blanks) = (Breaks::default(), String::new());
        let mut broken = false;
        let indent = self.indent + 1;
        loop {
            if self.is_document_mark("---") || self.is_document_mark("...") || self.byte(0) == b'#' {
                break;
            }
            while !self.is_space(0) {
                let flow_end =
                    self.in_flow() && matches!(self.byte(0), b',' | b'?' | b'[' | b']' | b'{' | b'}');
                if flow_end || self.byte(0) == b':' && self.is_space(1) {
                    break;
                }
                if std::mem::take(&mut broken) {
                    breaks.fold_into(&mut text);
                }
                text.push_str(&std::mem::take(&mut blanks));
                text.push_str(self.skip());
            }
            if !self.is_blank(0) && self.line_end(0) == 0 {
                break;
            }
            while self.is_blank(0) || self.line_end(0) > 0 {
                if self.line_end(0) > 0 {
                    blanks.clear();
                    let line_end = self.skip_line();
                    if broken {
                        breaks.more.push_str(line_end)
                    } else {
                        breaks.first.push_str(line_end)
                    }
                    broken = true;
                } else if !broken {
                    blanks.push_str(self.skip());
                } else if self.byte(0) == b'\t' && (self.mark.column as isize) < indent {
                    return self.fault("found a tab character that violates indentation");
                } else {
                    self.skip();
                }
            }
            if !self.in_flow() && (self.mark.column as isize) < indent {
                break;
            }
        }
        self.key_allowed |= broken;
        Ok(text)
    }

    pub(super) fn quoted_scalar(&mut self) -> Result<String> {
        let quote = self.byte(0);
        let single = quote == b'\'';
        self.skip();
        let mut text = String::new();
        let (mut breaks, mut blanks) = (Breaks::default(), String::new());
        loop {
            if self.is_document_mark("---") || self.is_document_mark("...") {
                return self.fault("found unexpected document indicator");
            }
            if self.is_end() {
                return self.fault("found unexpected end of stream");
            }
            let mut broken = false;
            while !self.is_space(0) {
                match self.byte(0) {
                    b'\'' if single && self.byte(1) == b'\'' => {
                        self.skip();
                        text.push_str(self.skip());
                    }
                    b if b == quote => break,
                    b'\\' if !single && self.line_end(1) > 0 => {
                        self.skip();
                        self.skip_line();
                        broken = true;
                        break;
                    }
                    b'\\' if !single => self.escape(&mut text)?,
                    _ => text.push_str(self.skip()),
                }
            }
            if self.byte(0) == quote {
                break;
            }
            while self.is_blank(0) || self.line_end(0) > 0 {
                if self.line_end(0) > 0 {
                    blanks.clear();
                    let line_end = self.skip_line();
                    if broken {
                        breaks.more.push_str(line_end)
                    } else {
                        breaks.first.push_str(line_end)
                    }
                    broken = true;
                } else if !broken {
                    blanks.push_str(self.skip());
                } else {
                    self.skip();
                }
            }
            if broken {
                breaks.fold_into(&mut text);
            } else {
                text.push_str(&std::mem::take(&mut blanks));
            }
        }
        self.skip();
        Ok(text)
    }

    /// An escape in double quotes.
    fn escape(&mut self, text: &mut String) -> Result<()> {
        let digits = match self.byte(1) {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        let simple = match self.byte(1) {
            b'0' => '\0',
            b'a' => '\x07',
            b'b' => '\x08',
            b't' | b'\t' => '\t',
            b'n' => '\n',
            b'v' => '\x0b',
            b'f' => '\x0c',
            b'r' => '\r',
            b'e' => '\x1b',
            b'N' => '\u{85}',
            b'_' => '\u{a0}',
            b'L' => '\u{2028}',
            b'P' => '\u{2029}',
            b @ (b' ' | b'"' | b'\'' | b'\\') => char::from(b),
            _ if digits > 0 => '\0',
            _ => return self.fault("found unknown escape character"),
        };
        self.skip();
        self.skip();
        if digits == 0 {
            text.push(simple);
            return Ok(());
        }
        let hex =
            self.text.get(self.at..self.at + digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(hex) = hex else { return self.fault("did not find expected hexdecimal number") };
        match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
            Some(c) => text.push(c),
            None => return self.fault("found invalid Unicode character escape code"),
        }
        self.skip_all(digits);
        Ok(())
    }

    pub(super) fn block_scalar(&mut self) -> Result<String> {
        let literal = self.byte(0) == b'|';
        self.skip();
        let (mut keep, mut strip, mut increment) = (false, false, 0);
        // One of each, in either order.
        for _ in 0..2 {
            match self.byte(0) {
                b'+' | b'-' if !keep && !strip => {
                    keep = self.byte(0) == b'+';
                    strip = !keep;
                    self.skip();
                }
                b'0' if increment == 0 => return self.fault("found an indentation indicator equal to 0"),
                digit @ b'1'..=b'9' if increment == 0 => {
                    increment = isize::from(digit - b'0');
                    self.skip();
                }
                _ => break,
            }
        }
        self.skip_blanks();
        self.skip_comment();
        if !self.is_line_end(0) {
            return self.fault("did not find expected comment or line break");
        }
        if !self.is_end() {
            self.skip_line();
        }
        let mut indent = (increment > 0).then(|| self.indent.max(0) + increment);
        let mut text = String::new();
        let mut breaks = Breaks::default();
        let column = self.block_breaks(&mut indent, &mut breaks.more)?;
        let mut after_blank = false;
        while self.mark.column as isize == column && !self.is_end() {
            let blank = self.is_blank(0);
            if literal || after_blank || blank || breaks.first != "\n" {
                text.push_str(&breaks.first);
                text.push_str(&breaks.more);
                breaks = Breaks::default();
            } else {
                breaks.fold_into(&mut text);
            }
            after_blank = blank;
            while !self.is_line_end(0) {
                text.push_str(self.skip());
            }
            if !self.is_end() {
                breaks.first.push_str(self.skip_line());
            }
            self.block_breaks(&mut indent, &mut breaks.more)?;
        }
        if !strip {
            text.push_str(&breaks.first);
        }
        if keep {
            text.push_str(&breaks.more);
        }
        Ok(text)
    }

    /// Goes past indentation and empty lines; finds out how far the text is indented where that is not known yet, and
    /// gives it.
    fn block_breaks(&mut self, indent: &mut Option<isize>, breaks: &mut String) -> Result<isize> {
        let mut deepest = 0;
        loop {
            let within = |column: usize| indent.is_none_or(|indent| (column as isize) < indent);
            while within(self.mark.column) && self.byte(0) == b' ' {
                self.skip();
            }
            deepest = deepest.max(self.mark.column as isize);
            if within(self.mark.column) && self.byte(0) == b'\t' {
                return self.fault("found a tab character where an indentation space is expected");
            }
            if self.line_end(0) == 0 {
                break;
            }
            breaks.push_str(self.skip_line());
        }
        Ok(*indent.get_or_insert_with(|| deepest.max(self.indent + 1).max(1)))
    }

    /// `&name` or `*name`.
    pub(super) fn anchor(&mut self) -> Result<Token> {
        let alias = self.byte(0) == b'*';
        self.skip();
        let name = self.word();
        let ends =
            self.is_space(0) || matches!(self.byte(0), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`');
        if name.is_empty() || !ends {
            return self.fault("did not find expected alphabetic or numeric character");
        }
        Ok(if alias { Token::Alias(name) } else { Token::Anchor(name) })
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while is_word(self.byte(0)) {
            word.push_str(self.skip());
        }
        word
    }

    pub(super) fn tag(&mut self) -> Result<Token> {
        let (handle, suffix) = if self.byte(1) == b'<' {
            self.skip();
            self.skip();
            let suffix = self.tag_uri("")?;
            if self.byte(0) != b'>' {
                return self.fault("did not find the expected '>'");
            }
            self.skip();
            (String::new(), suffix)
        } else {
            let handle = self.tag_handle(false)?;
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.tag_uri("")?;
                (handle, suffix)
            } else {
                let suffix = self.tag_uri(&handle)?;
                // `!` alone is a tag that is written out.
                if suffix.is_empty() { (suffix, "!".to_owned()) } else { ("!".to_owned(), suffix) }
            }
        };
        if !self.is_space(0) {
            return self.fault("did not find expected whitespace or line break");
        }
        Ok(Token::Tag(handle, suffix))
    }

    /// `!`, `!!` or `!name!`; for a tag also the beginning of its name.
    fn tag_handle(&mut self, directive: bool) -> Result<String> {
        if self.byte(0) != b'!' {
            return self.fault("did not find expected '!'");
        }
        let mut handle = self.skip().to_owned();
        handle.push_str(&self.word());
        if self.byte(0) == b'!' {
            handle.push_str(self.skip());
        } else if directive && handle != "!" {
            return self.fault("did not find expected '!'");
        }
        Ok(handle)
    }

    /// The rest of a tag, of which `head` was read, with its `!`, for a part of the handle.
    fn tag_uri(&mut self, head: &str) -> Result<String> {
        let mut uri = head.as_bytes().get(1..).unwrap_or_default().to_vec();
        let mut any = !head.is_empty();
        loop {
            match self.byte(0) {
                b'%' => {
                    let digits = self
                        .text
                        .get(self.at + 1..self.at + 3)
                        .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                    let Some(octet) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                        return self.fault("did not find URI escaped octet");
                    };
                    uri.push(octet);
                    self.skip_all(3);
                }
                b if is_word(b) || b";/?:@&=+$,.!~*'()[]".contains(&b) && b != 0 => {
                    uri.extend(self.skip().bytes())
                }
                _ => break,
            }
            any = true;
        }
        match String::from_utf8(uri) {
            Ok(uri) if any => Ok(uri),
            Ok(_) => self.fault("did not find expected tag URI"),
            Err(_) => self.fault("found an incorrect UTF-8 octet in a tag"),
        }
    }

    /// `%YAML 1.1` or `%TAG !e! prefix`.
    pub(super) fn directive(&mut self) -> Result<Token> {
        self.skip();
        let name = self.word();
        if name.is_empty() || !self.is_space(0) {
            return self.fault("could not find expected directive name");
        }
        let token = match name.as_str() {
            "YAML" => {
                self.skip_blanks();
                let major = self.version_number()?;
                if self.byte(0) != b'.' {
                    return self.fault("did not find expected digit or '.' character");
                }
                self.skip();
                Token::Version(major, self.version_number()?)
            }
            "TAG" => {
                self.skip_blanks();
                let handle = self.tag_handle(true)?;
                if !self.is_blank(0) {
                    return self.fault("did not find expected whitespace");
                }
                self.skip_blanks();
                let prefix = self.tag_uri("")?;
                if !self.is_space(0) {
                    return self.fault("did not find expected whitespace or line break");
                }
                Token::TagDirective(handle, prefix)
            }
            _ => return self.fault("found unknown directive name"),
        };
        self.skip_blanks();
        self.skip_comment();
        if !self.is_line_end(0) {
            return self.fault("did not find expected comment or line break");
        }
        if !self.is_end() {
            self.skip_line();
        }
        Ok(token)
    }

    fn version_number(&mut self) -> Result<u8> {
        let digits = (0..3).take_while(|i| self.byte(*i).is_ascii_digit()).count();
        if digits == 0 || digits == 3 {
            return self.fault("did not find expected version number");
        }
        let number = self.text[self.at..self.at + digits].parse().unwrap_or_default(); // 99 at most
        self.skip_all(digits);
        Ok(number)
    }
}
