//! What a YAML text consists of, in order: scalars, and where collections begin and end.

use super::tokens::{Token, Tokens};
use super::{Fault, Mark, Result, Style};

/// What stands before a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct Node {
    /// The whole tag; empty for none.
    pub(in super::super) tag: String,
    pub(in super::super) anchor: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Event {
    DocumentStart,
    DocumentEnd,
    StreamEnd,
    Scalar(Node, String, Style),
    Alias(String),
    SequenceStart(Node),
    SequenceEnd,
    MappingStart(Node),
    MappingEnd,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum State {
    DocumentStart {
        first: bool,
    },
    DocumentContent,
    DocumentEnd,
    BlockNode,
    BlockSequence {
        first: bool,
    },
    /// A sequence that is a value and not indented more than its key.
    FlatSequence,
    BlockKey {
        first: bool,
    },
    BlockValue,
    FlowSequence {
        first: bool,
    },
    /// The key of a mapping of one pair without braces.
    PairKey,
    PairValue,
    PairEnd,
    FlowKey {
        first: bool,
    },
    FlowValue,
    /// A key in braces that has no value.
    FlowNoValue,
    End,
}

pub(in super::super) struct Events<'t> {
    tokens: Tokens<'t>,
    state: State,
    /// Where to go on when what is being read ends.
    after: Vec<State>,
    /// Handles of tags and what they stand for.
    handles: Vec<(String, String)>,
}

const NAMES: [(&str, &str); 2] = [("!", "!"), ("!!", "tag:yaml.org,2002:")];

impl<'t> Events<'t> {
    /// The events of a text.
    pub(in super::super) fn of(text: &'t str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
        if let Some(at) = text.find(|c| !allowed(c)) {
            let before = &text[..at];
            let line = before.matches('\n').count();
            let column = before[before.rfind('\n').map_or(0, |end| end + 1)..].chars().count();
            let mark = Mark { line, column, index: 0 };
            return Err(Fault { mark, message: "control characters are not allowed".to_owned() });
        }
        let state = State::DocumentStart { first: true };
        Ok(Self { tokens: Tokens::of(text), state, after: Vec::new(), handles: Vec::new() })
    }

    /// The next event, and where it is.
    pub(in super::super) fn next(&mut self) -> Result<(Event, Mark)> {
        let mark = self.tokens.peek()?.1;
        let event = match self.state {
            State::DocumentStart { first } => self.document_start(first),
            State::DocumentContent => match self.peek()? {
                Token::Version(..)
                | Token::TagDirective(..)
                | Token::DocumentStart
                | Token::DocumentEnd
                | Token::StreamEnd => self.done(empty()),
                _ => self.node(true, false),
            },
            State::DocumentEnd => {
                if matches!(self.peek()?, Token::DocumentEnd) {
                    self.tokens.take();
                }
                self.handles.clear();
                self.go(State::DocumentStart { first: false }, Event::DocumentEnd)
            }
            State::BlockNode => self.node(true, false),
            State::BlockSequence { first } => self.block_sequence(first),
            State::FlatSequence => self.flat_sequence(),
            State::BlockKey { first } => self.block_key(first),
            State::BlockValue => self.block_value(),
            State::FlowSequence { first } => self.flow_sequence(first),
            State::PairKey => match self.peek()? {
                Token::Value | Token::FlowEntry | Token::FlowSequenceEnd => {
                    self.tokens.take();
                    self.go(State::PairValue, empty())
                }
                _ => self.node_then(State::PairValue, false, false),
            },
            State::PairValue => self.flow_value(State::PairEnd, &Token::FlowSequenceEnd),
            State::PairEnd => self.go(State::FlowSequence { first: false }, Event::MappingEnd),
            State::FlowKey { first } => self.flow_key(first),
            State::FlowValue => self.flow_value(State::FlowKey { first: false }, &Token::FlowMappingEnd),
            State::FlowNoValue => self.go(State::FlowKey { first: false }, empty()),
            State::End => Ok(Event::StreamEnd),
        };
        Ok((event?, mark))
    }

    fn peek(&mut self) -> Result<&Token> {
        Ok(self.tokens.peek()?.0)
    }

    fn fault<T>(&mut self, message: &str) -> Result<T> {
        Err(Fault { mark: self.tokens.peek()?.1, message: message.to_owned() })
    }

    fn go(&mut self, state: State, event: Event) -> Result<Event> {
        self.state = state;
        Ok(event)
    }

    /// Goes on with what is around.
    fn done(&mut self, event: Event) -> Result<Event> {
        self.state = self.after.pop().unwrap_or(State::End);
        Ok(event)
    }

    fn node_then(&mut self, then: State, block: bool, flat: bool) -> Result<Event> {
        self.after.push(then);
        self.node(block, flat)
    }

    fn document_start(&mut self, first: bool) -> Result<Event> {
        while !first && matches!(self.peek()?, Token::DocumentEnd) {
            self.tokens.take();
        }
        match self.peek()? {
            Token::StreamEnd => self.go(State::End, Event::StreamEnd),
            Token::Version(..) | Token::TagDirective(..) | Token::DocumentStart => {
                self.directives()?;
                if !matches!(self.peek()?, Token::DocumentStart) {
                    return self.fault("did not find expected <document start>");
                }
                self.tokens.take();
                self.after.push(State::DocumentEnd);
                self.go(State::DocumentContent, Event::DocumentStart)
            }
            _ if first => {
                self.directives()?;
                self.after.push(State::DocumentEnd);
                self.go(State::BlockNode, Event::DocumentStart)
            }
            _ => self.fault("did not find expected <document start>"),
        }
    }

    fn directives(&mut self) -> Result<()> {
        let mut version = false;
        loop {
            match self.peek()? {
                Token::Version(..) if version => return self.fault("found duplicate %YAML directive"),
                Token::Version(1, 1) => version = true,
                Token::Version(..) => return self.fault("found incompatible YAML document"),
                Token::TagDirective(handle, prefix) => {
                    let new = (handle.clone(), prefix.clone());
                    if self.handles.iter().any(|(known, _)| *known == new.0) {
                        return self.fault("found duplicate %TAG directive");
                    }
                    self.handles.push(new);
                }
                _ => break,
            }
            self.tokens.take();
        }
        for (handle, prefix) in NAMES {
            if !self.handles.iter().any(|(known, _)| known == handle) {
                self.handles.push((handle.to_owned(), prefix.to_owned()));
            }
        }
        Ok(())
    }

    /// A node. In `block` context it may be a block collection; `flat` says that a sequence need not be indented.
    fn node(&mut self, block: bool, flat: bool) -> Result<Event> {
        if matches!(self.peek()?, Token::Alias(_))
            && let Token::Alias(name) = self.tokens.take()
        {
            return self.done(Event::Alias(name));
        }
        let node = self.properties()?;
        let bare = node == Node::default();
        match self.peek()? {
            Token::BlockEntry if flat => self.go(State::FlatSequence, Event::SequenceStart(node)),
            Token::Scalar(..) => match self.tokens.take() {
                Token::Scalar(text, style) => self.done(Event::Scalar(node, text, style)),
                _ => self.done(empty()),
            },
            Token::FlowSequenceStart => {
                self.go(State::FlowSequence { first: true }, Event::SequenceStart(node))
            }
            Token::FlowMappingStart => self.go(State::FlowKey { first: true }, Event::MappingStart(node)),
            Token::BlockSequenceStart if block => {
                self.go(State::BlockSequence { first: true }, Event::SequenceStart(node))
            }
            Token::BlockMappingStart if block => {
                self.go(State::BlockKey { first: true }, Event::MappingStart(node))
            }
            _ if !bare => self.done(Event::Scalar(node, String::new(), Style::Plain)),
            _ => self.fault("did not find expected node content"),
        }
    }

    /// An anchor and a tag, in either order.
    fn properties(&mut self) -> Result<Node> {
        let mut anchor = None;
        let mut tag = None;
        loop {
            let one_more = match self.peek()? {
                Token::Anchor(_) => anchor.is_none(),
                Token::Tag(..) => tag.is_none(),
                _ => false,
            };
            if !one_more {
                break;
            }
            let mark = self.tokens.peek()?.1;
            match self.tokens.take() {
                Token::Anchor(name) => anchor = Some(name),
                Token::Tag(handle, suffix) => tag = Some((handle, suffix, mark)),
                _ => {}
            }
        }
        let tag = match tag {
            None => String::new(),
            Some((handle, suffix, _)) if handle.is_empty() => suffix,
            Some((handle, suffix, mark)) => match self.handles.iter().find(|(known, _)| *known == handle) {
                Some((_, prefix)) => format!("{prefix}{suffix}"),
                None => return Err(Fault { mark, message: "found undefined tag handle".to_owned() }),
            },
        };
        Ok(Node { tag, anchor })
    }

    fn block_sequence(&mut self, first: bool) -> Result<Event> {
        if first {
            self.tokens.take();
        }
        let state = State::BlockSequence { first: false };
        match self.peek()? {
            Token::BlockEntry => {
                self.tokens.take();
                match self.peek()? {
                    Token::BlockEntry | Token::BlockEnd => self.go(state, empty()),
                    _ => self.node_then(state, true, false),
                }
            }
            Token::BlockEnd => {
                self.tokens.take();
                self.done(Event::SequenceEnd)
            }
            _ => self.fault("did not find expected '-' indicator"),
        }
    }

    fn flat_sequence(&mut self) -> Result<Event> {
        if !matches!(self.peek()?, Token::BlockEntry) {
            return self.done(Event::SequenceEnd);
        }
        self.tokens.take();
        match self.peek()? {
            Token::BlockEntry | Token::Key | Token::Value | Token::BlockEnd => {
                self.go(State::FlatSequence, empty())
            }
            _ => self.node_then(State::FlatSequence, true, false),
        }
    }

    fn block_key(&mut self, first: bool) -> Result<Event> {
        if first {
            self.tokens.take();
        }
        match self.peek()? {
            Token::Key => {
                self.tokens.take();
                match self.peek()? {
                    Token::Key | Token::Value | Token::BlockEnd => self.go(State::BlockValue, empty()),
                    _ => self.node_then(State::BlockValue, true, true),
                }
            }
            Token::BlockEnd => {
                self.tokens.take();
                self.done(Event::MappingEnd)
            }
            _ => self.fault("did not find expected key"),
        }
    }

    fn block_value(&mut self) -> Result<Event> {
        let state = State::BlockKey { first: false };
        if !matches!(self.peek()?, Token::Value) {
            return self.go(state, empty());
        }
        self.tokens.take();
        match self.peek()? {
            Token::Key | Token::Value | Token::BlockEnd => self.go(state, empty()),
            _ => self.node_then(state, true, true),
        }
    }

    /// Goes past the comma before an item of a flow collection; says whether the collection ends instead.
    fn next_item(&mut self, first: bool, end: &Token, message: &str) -> Result<bool> {
        if first {
            self.tokens.take();
        }
        if self.peek()? == end {
            return Ok(true);
        }
        if !first {
            if !matches!(self.peek()?, Token::FlowEntry) {
                return self.fault(message);
            }
            self.tokens.take();
        }
        Ok(self.peek()? == end)
    }

    fn flow_sequence(&mut self, first: bool) -> Result<Event> {
        if self.next_item(first, &Token::FlowSequenceEnd, "did not find expected ',' or ']'")? {
            self.tokens.take();
            return self.done(Event::SequenceEnd);
        }
        if matches!(self.peek()?, Token::Key) {
            self.tokens.take();
            return self.go(State::PairKey, Event::MappingStart(Node::default()));
        }
        self.node_then(State::FlowSequence { first: false }, false, false)
    }

    fn flow_key(&mut self, first: bool) -> Result<Event> {
        if self.next_item(first, &Token::FlowMappingEnd, "did not find expected ',' or '}'")? {
            self.tokens.take();
            return self.done(Event::MappingEnd);
        }
        if !matches!(self.peek()?, Token::Key) {
            return self.node_then(State::FlowNoValue, false, false);
        }
        self.tokens.take();
        match self.peek()? {
            Token::Value | Token::FlowEntry | Token::FlowMappingEnd => self.go(State::FlowValue, empty()),
            _ => self.node_then(State::FlowValue, false, false),
        }
    }

    fn flow_value(&mut self, then: State, end: &Token) -> Result<Event> {
        if !matches!(self.peek()?, Token::Value) {
            return self.go(then, empty());
        }
        self.tokens.take();
        let next = self.peek()?;
        if matches!(next, Token::FlowEntry) || next == end {
            return self.go(then, empty());
        }
        self.node_then(then, false, false)
    }
}

/// What stands for a node that is not there.
fn empty() -> Event {
    Event::Scalar(Node::default(), String::new(), Style::Plain)
}
