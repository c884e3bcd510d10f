//! Tokens of YAML.
//!
//! A token is given out only when it is clear that none comes before it: a scalar may turn out to be the key of a mapping
//! when its colon is found, and the mapping begins before it.

use std::collections::VecDeque;

use super::{Fault, Mark, Result, Style};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    StreamEnd,
    /// `%YAML 1.1`.
    Version(u8, u8),
    /// `%TAG !e! tag:example.com:`.
    TagDirective(String, String),
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowSequenceEnd,
    FlowMappingStart,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    /// Handle and suffix; a tag that is written out has no handle.
    Tag(String, String),
    Scalar(String, Style),
}

/// A token that may be the key of a mapping.
struct SimpleKey {
    /// Nothing else can stand there.
    required: bool,
    /// The token's number, from the beginning of the text.
    number: usize,
    mark: Mark,
}

/// A key must have its colon on its line and within so many characters.
const LONGEST_KEY: usize = 1024;

pub(super) struct Tokens<'t> {
    pub(super) text: &'t str,
    /// Byte offset.
    pub(super) at: usize,
    pub(super) mark: Mark,
    queue: VecDeque<(Token, Mark)>,
    /// How many tokens were taken.
    taken: usize,
    /// One for each flow collection that is open, and one for what is outside.
    keys: Vec<Option<SimpleKey>>,
    /// Whether a key may stand here.
    pub(super) key_allowed: bool,
    /// The column of the innermost block collection; -1 outside.
    pub(super) indent: isize,
    indents: Vec<isize>,
    ended: bool,
}

impl<'t> Tokens<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            mark: Mark::default(),
            queue: VecDeque::new(),
            taken: 0,
            keys: vec![None],
            key_allowed: true,
            indent: -1,
            indents: Vec::new(),
            ended: false,
        }
    }

    /// The next token, and where it begins.
    pub(super) fn peek(&mut self) -> Result<(&Token, Mark)> {
        while !self.ended && self.needs_more()? {
            self.fetch()?;
        }
        // The end of the stream stays in the queue.
        Ok(self.queue.front().map_or((&Token::StreamEnd, self.mark), |(token, mark)| (token, *mark)))
    }

    /// Takes the token that was looked at.
    pub(super) fn take(&mut self) -> Token {
        if self.queue.len() == 1 && self.ended {
            return Token::StreamEnd;
        }
        self.taken += 1;
        self.queue.pop_front().map_or(Token::StreamEnd, |(token, _)| token)
    }

    fn needs_more(&mut self) -> Result<bool> {
        if self.queue.is_empty() {
            return Ok(true);
        }
        self.drop_stale_keys()?;
        Ok(self.keys.iter().flatten().any(|key| key.number == self.taken))
    }

    pub(super) fn fault<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Fault { mark: self.mark, message: message.into() })
    }

    pub(super) fn in_flow(&self) -> bool {
        self.keys.len() > 1
    }

    /// A byte of the text; 0 behind its end.
    pub(super) fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    pub(super) fn is_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub(super) fn is_blank(&self, ahead: usize) -> bool {
        matches!(self.byte(ahead), b' ' | b'\t')
    }

    /// How many bytes the line end has that stands here; 0 for none.
    pub(super) fn line_end(&self, ahead: usize) -> usize {
        match (self.byte(ahead), self.byte(ahead + 1), self.byte(ahead + 2)) {
            (b'\r', b'\n', _) => 2,
            (b'\r' | b'\n', ..) => 1,
            (0xc2, 0x85, _) => 2,
            (0xe2, 0x80, 0xa8 | 0xa9) => 3,
            _ => 0,
        }
    }

    /// Whether a line end stands here, or the end of the text.
    pub(super) fn is_line_end(&self, ahead: usize) -> bool {
        self.byte(ahead) == 0 || self.line_end(ahead) > 0
    }

    /// Whether white space stands here, or the end of the text.
    pub(super) fn is_space(&self, ahead: usize) -> bool {
        self.is_blank(ahead) || self.is_line_end(ahead)
    }

    /// Goes past a character and gives it.
    pub(super) fn skip(&mut self) -> &'t str {
        let width = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        let character = &self.text[self.at..self.at + width];
        self.at += width;
        self.mark.index += 1;
        self.mark.column += 1;
        character
    }

    /// Goes past so many characters.
    pub(super) fn skip_all(&mut self, count: usize) {
        for _ in 0..count {
            self.skip();
        }
    }

    /// Goes past a line end and gives what it stands for.
    pub(super) fn skip_line(&mut self) -> &'t str {
        let length = self.line_end(0);
        let own = &self.text[self.at..self.at + length];
        self.at += length;
        self.mark =
            Mark { line: self.mark.line + 1, column: 0, index: self.mark.index + own.chars().count() };
        // The separators of Unicode stay as they are.
        if length == 3 { own } else { "\n" }
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.is_blank(0) {
            self.skip();
        }
    }

    pub(super) fn skip_comment(&mut self) {
        if self.byte(0) == b'#' {
            while !self.is_line_end(0) {
                self.skip();
            }
        }
    }

    /// `---` or `...` at the beginning of a line.
    pub(super) fn is_document_mark(&self, mark: &str) -> bool {
        self.mark.column == 0 && self.text[self.at..].starts_with(mark) && self.is_space(3)
    }

    fn push(&mut self, token: Token, mark: Mark) {
        self.queue.push_back((token, mark));
    }

    /// Goes past so many characters, which are a token.
    fn push_mark(&mut self, token: Token, length: usize) {
        let mark = self.mark;
        self.skip_all(length);
        self.push(token, mark);
    }

    fn fetch(&mut self) -> Result<()> {
        self.skip_to_token();
        self.drop_stale_keys()?;
        self.unroll(self.mark.column as isize);
        if self.is_end() {
            return self.end();
        }
        let next_is_space = self.is_space(1);
        match self.byte(0) {
            b'%' if self.mark.column == 0 => {
                self.begin_document()?;
                let mark = self.mark;
                let token = self.directive()?;
                self.push(token, mark);
            }
            b'-' if self.is_document_mark("---") => {
                self.begin_document()?;
                self.push_mark(Token::DocumentStart, 3);
            }
            b'.' if self.is_document_mark("...") => {
                self.begin_document()?;
                self.push_mark(Token::DocumentEnd, 3);
            }
            b'[' => self.open_flow(Token::FlowSequenceStart)?,
            b'{' => self.open_flow(Token::FlowMappingStart)?,
            b']' => self.close_flow(Token::FlowSequenceEnd)?,
            b'}' => self.close_flow(Token::FlowMappingEnd)?,
            b',' => {
                self.forget_key()?;
                self.key_allowed = true;
                self.push_mark(Token::FlowEntry, 1);
            }
            b'-' if next_is_space => {
                if !self.in_flow() {
                    if !self.key_allowed {
                        return self.fault("block sequence entries are not allowed in this context");
                    }
                    self.roll(self.mark, None, Token::BlockSequenceStart);
                }
                self.forget_key()?;
                self.key_allowed = true;
                self.push_mark(Token::BlockEntry, 1);
            }
            b'?' if self.in_flow() || next_is_space => {
                if !self.in_flow() {
                    if !self.key_allowed {
                        return self.fault("mapping keys are not allowed in this context");
                    }
                    self.roll(self.mark, None, Token::BlockMappingStart);
                }
                self.forget_key()?;
                self.key_allowed = !self.in_flow();
                self.push_mark(Token::Key, 1);
            }
            b':' if self.in_flow() || next_is_space => self.value()?,
            b'*' | b'&' => {
                self.save_key()?;
                self.key_allowed = false;
                let mark = self.mark;
                let token = self.anchor()?;
                self.push(token, mark);
            }
            b'!' => {
                self.save_key()?;
                self.key_allowed = false;
                let mark = self.mark;
                let token = self.tag()?;
                self.push(token, mark);
            }
            b'|' | b'>' if !self.in_flow() => {
                self.forget_key()?;
                self.key_allowed = true;
                let mark = self.mark;
                let text = self.block_scalar()?;
                self.push(Token::Scalar(text, Style::Block), mark);
            }
            b'\'' | b'"' => {
                self.save_key()?;
                self.key_allowed = false;
                let mark = self.mark;
                let text = self.quoted_scalar()?;
                self.push(Token::Scalar(text, Style::Quoted), mark);
            }
            first => {
                let indicator = matches!(first, b'-' | b'?' | b':' | b'#' | b'|' | b'>' | b'%' | b'@' | b'`')
                    || self.is_space(0);
                let plain = match first {
                    b'-' => !self.is_blank(1),
                    b'?' | b':' => !self.in_flow() && !next_is_space,
                    _ => !indicator,
                };
                if !plain {
                    return self.fault("found character that cannot start any token");
                }
                self.save_key()?;
                self.key_allowed = false;
                let mark = self.mark;
                let text = self.plain_scalar()?;
                self.push(Token::Scalar(text, Style::Plain), mark);
            }
        }
        Ok(())
    }

    /// Goes past white space and comments. A tab does not stand where a key may begin a line.
    fn skip_to_token(&mut self) {
        if self.at == 0 && self.text.starts_with('\u{feff}') {
            self.skip();
        }
        loop {
            while self.byte(0) == b' ' || self.byte(0) == b'\t' && (self.in_flow() || !self.key_allowed) {
                self.skip();
            }
            self.skip_comment();
            if self.line_end(0) == 0 {
                return;
            }
            self.skip_line();
            self.key_allowed |= !self.in_flow();
        }
    }

    fn end(&mut self) -> Result<()> {
        if self.mark.column > 0 {
            self.mark = Mark { line: self.mark.line + 1, column: 0, ..self.mark };
        }
        self.begin_document()?;
        self.push(Token::StreamEnd, self.mark);
        self.ended = true;
        Ok(())
    }

    /// Ends all block collections.
    fn begin_document(&mut self) -> Result<()> {
        self.unroll(-1);
        self.forget_key()?;
        self.key_allowed = false;
        Ok(())
    }

    fn open_flow(&mut self, token: Token) -> Result<()> {
        self.save_key()?;
        self.keys.push(None);
        self.key_allowed = true;
        self.push_mark(token, 1);
        Ok(())
    }

    fn close_flow(&mut self, token: Token) -> Result<()> {
        self.forget_key()?;
        if self.in_flow() {
            self.keys.pop();
        }
        self.key_allowed = false;
        self.push_mark(token, 1);
        Ok(())
    }

    /// A colon: what stood before it was a key, if it could be one.
    fn value(&mut self) -> Result<()> {
        if let Some(key) = self.keys.last_mut().and_then(Option::take) {
            let at = key.number - self.taken;
            self.queue.insert(at, (Token::Key, key.mark));
            self.roll(key.mark, Some(at), Token::BlockMappingStart);
            self.key_allowed = false;
        } else {
            if !self.in_flow() {
                if !self.key_allowed {
                    return self.fault("mapping values are not allowed in this context");
                }
                self.roll(self.mark, None, Token::BlockMappingStart);
            }
            self.key_allowed = !self.in_flow();
        }
        self.push_mark(Token::Value, 1);
        Ok(())
    }

    /// Begins a block collection where one is indented more than what is around it.
    fn roll(&mut self, mark: Mark, at: Option<usize>, token: Token) {
        let column = mark.column as isize;
        if self.in_flow() || self.indent >= column {
            return;
        }
        self.indents.push(std::mem::replace(&mut self.indent, column));
        self.queue.insert(at.unwrap_or(self.queue.len()), (token, mark));
    }

    /// Ends the block collections that are indented more.
    fn unroll(&mut self, column: isize) {
        while !self.in_flow() && self.indent > column {
            self.push(Token::BlockEnd, self.mark);
            self.indent = self.indents.pop().unwrap_or(-1);
        }
    }

    fn save_key(&mut self) -> Result<()> {
        if !self.key_allowed {
            return Ok(());
        }
        let required = !self.in_flow() && self.indent == self.mark.column as isize;
        let key = SimpleKey { required, number: self.taken + self.queue.len(), mark: self.mark };
        self.forget_key()?;
        if let Some(slot) = self.keys.last_mut() {
            *slot = Some(key);
        }
        Ok(())
    }

    fn forget_key(&mut self) -> Result<()> {
        match self.keys.last_mut().and_then(Option::take) {
            Some(SimpleKey { required: true, mark, .. }) => Err(missing_colon(mark)),
            _ => Ok(()),
        }
    }

    fn drop_stale_keys(&mut self) -> Result<()> {
        let here = self.mark;
        for slot in &mut self.keys {
            let stale =
                |key: &mut SimpleKey| key.mark.line < here.line || key.mark.index + LONGEST_KEY < here.index;
            if let Some(SimpleKey { required: true, mark, .. }) = slot.take_if(stale) {
                return Err(missing_colon(mark));
            }
        }
        Ok(())
    }
}

fn missing_colon(mark: Mark) -> Fault {
    Fault { mark, message: "could not find expected ':'".to_owned() }
}
