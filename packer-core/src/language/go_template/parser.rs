//! Makes a tree of a Go template.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::{Branch, Command, Node, Operand, OperandKind, Pipe, Pos};
use super::lexer::{Kind, Token, Tokens, tokens};
use super::{ROOT, TemplateError, constants, printf};

/// How deep blocks and parentheses may nest.
const MAX_DEPTH: usize = 100;

/// How many variables may be in scope; looking one up takes as many steps.
const MAX_VARIABLES: usize = 1000;

/// The templates of a text: the one it is, under [`ROOT`], and those it defines.
pub(super) type Trees = BTreeMap<Arc<str>, Vec<Node>>;

/// Parses a text; `is_function` knows the functions it may call.
pub(super) fn parse(text: &str, is_function: &dyn Fn(&str) -> bool) -> Result<Trees, TemplateError> {
    if u32::try_from(text.len()).is_err() {
        return Err(TemplateError::new(format!("template: {ROOT}: the text is longer than 4 GiB")));
    }
    let tokens = tokens(text);
    let mut parser = Parser {
        text,
        tokens: &tokens,
        next: 0,
        seen: 0,
        is_function,
        variables: vec!["$".into()],
        trees: Trees::new(),
        action: None,
        ranges: 0,
        depth: 0,
    };
    let root = parser.document()?;
    parser.add(ROOT.into(), root)?;
    Ok(parser.trees)
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a Tokens,
    next: usize,
    /// How many tokens were looked at: the last of them says which line an error is on.
    seen: usize,
    is_function: &'a dyn Fn(&str) -> bool,
    variables: Vec<Arc<str>>,
    trees: Trees,
    /// Where the action being parsed began.
    action: Option<Pos>,
    /// How many `range` bodies are open.
    ranges: usize,
    depth: usize,
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

/// How a list of nodes ended.
enum End {
    End,
    Else,
}

impl Parser<'_> {
    fn peek(&mut self) -> Token {
        self.seen = self.seen.max(self.next + 1);
        let end = Token { kind: Kind::Eof, start: self.text.len() as Pos, end: self.text.len() as Pos };
        // Past the last token there is only more of it.
        self.tokens.list.get(self.next).or(self.tokens.list.last()).copied().unwrap_or(end)
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn peek_non_space(&mut self) -> Token {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        self.peek()
    }

    fn take_non_space(&mut self) -> Token {
        self.peek_non_space();
        self.take()
    }

    fn text(&self, token: Token) -> &str {
        self.text.get(token.start as usize..token.end as usize).unwrap_or_default()
    }

    fn line(&self, pos: Pos) -> usize {
        let before = self.text.as_bytes().get(..pos as usize).unwrap_or_default();
        1 + before.iter().filter(|b| **b == b'\n').count()
    }

    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        let last = self.tokens.list.get(self.seen.saturating_sub(1)).or(self.tokens.list.last());
        let line = self.line(last.map_or(0, |t| t.start));
        Err(TemplateError::new(format!("template: {ROOT}:{line}: {message}")))
    }

    fn unexpected<T>(&self, token: Token, context: &str) -> Result<T> {
        if token.kind == Kind::Error {
            let mut extra = String::new();
            let started = self.action.map(|pos| self.line(pos));
            if let Some(line) = started.filter(|line| *line != self.line(token.start)) {
                let what = if self.tokens.error.ends_with(" action") { "" } else { " in action" };
                extra = format!("{what} started at {ROOT}:{line}");
            }
            return self.error(format!("{}{extra}", self.tokens.error));
        }
        self.error(format!("unexpected {} in {context}", self.describe(token)))
    }

    fn describe(&self, token: Token) -> String {
        let text = self.text(token);
        match token.kind {
            Kind::Eof => "EOF".into(),
            kind if kind.is_keyword() => format!("<{text}>"),
            _ if text.len() > 10 => {
                let start: String = text.chars().take(10).collect();
                format!("{}...", printf::quote(&start))
            }
            _ => printf::quote(text),
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token> {
        let token = self.take_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(token, context) }
    }

    /// Runs a part of the grammar that may hold itself.
    fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return self.error(format!("blocks and parentheses nest deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    fn document(&mut self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        while self.peek().kind != Kind::Eof {
            let start = self.next;
            if self.take().kind == Kind::LeftDelimiter && self.take_non_space().kind == Kind::Define {
                self.definition()?;
                continue;
            }
            self.next = start;
            match self.node(&mut nodes)? {
                None => {}
                Some(End::Else) => return self.error("unexpected {{else}}"),
                Some(End::End) => return self.error("unexpected {{end}}"),
            }
        }
        Ok(nodes)
    }

    /// `{{define "name"}}…{{end}}`, from behind the word.
    fn definition(&mut self) -> Result<()> {
        const CONTEXT: &str = "define clause";
        let name = self.template_name(CONTEXT)?;
        self.expect(Kind::RightDelimiter, CONTEXT)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (body, end) = self.list()?;
        self.variables = variables;
        self.ranges = ranges;
        match end {
            End::End => self.add(name, body),
            _ => self.error(format!("unexpected {{{{else}}}} in {CONTEXT}")),
        }
    }

    /// A later definition replaces an earlier one only where that is blank.
    fn add(&mut self, name: Arc<str>, body: Vec<Node>) -> Result<()> {
        let blank = |nodes: &[Node]| {
            nodes.iter().all(|n| matches!(n, Node::Text(text) if text.chars().all(char::is_whitespace)))
        };
        match self.trees.get(&name) {
            Some(old) if !blank(old) => {
                if !blank(&body) {
                    return self.error(format!(
                        "template: multiple definition of template {}",
                        printf::quote(&name)
                    ));
                }
            }
            _ => {
                self.trees.insert(name, body);
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(Vec<Node>, End)> {
        self.nested(|p| {
            let mut nodes = Vec::new();
            while p.peek_non_space().kind != Kind::Eof {
                match p.node(&mut nodes)? {
                    None => {}
                    Some(end) => return Ok((nodes, end)),
                }
            }
            p.error("unexpected EOF")
        })
    }

    /// Adds a text or an action; says so where it was `end` or `else`.
    fn node(&mut self, nodes: &mut Vec<Node>) -> Result<Option<End>> {
        let token = self.take_non_space();
        match token.kind {
            Kind::Text => nodes.push(Node::Text(self.text(token).into())),
            Kind::LeftDelimiter => {
                self.action = Some(token.start);
                let end = self.action(nodes)?;
                self.action = None;
                return Ok(end);
            }
            _ => return self.unexpected(token, "input"),
        }
        Ok(None)
    }

    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<End>> {
        let token = self.peek_non_space();
        self.next += 1;
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break => self.jump("break", Node::Break)?,
            Kind::Continue => self.jump("continue", Node::Continue)?,
            Kind::Else => {
                // `else if` stays unread for the `if` it belongs to.
                if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
                    self.expect(Kind::RightDelimiter, "else")?;
                }
                return Ok(Some(End::Else));
            }
            Kind::End => {
                self.expect(Kind::RightDelimiter, "end")?;
                return Ok(Some(End::End));
            }
            Kind::If => {
                let (branches, otherwise) = self.branches("if", Kind::If)?;
                Node::If { branches, otherwise }
            }
            Kind::With => {
                let (branches, otherwise) = self.branches("with", Kind::With)?;
                Node::With { branches, otherwise }
            }
            Kind::Range => self.range()?,
            Kind::Template => self.template()?,
            _ => {
                self.next -= 1;
                Node::Action(self.pipeline("command", Kind::RightDelimiter)?)
            }
        };
        nodes.push(node);
        Ok(None)
    }

    fn jump(&mut self, word: &str, node: Node) -> Result<Node> {
        let token = self.take_non_space();
        if token.kind != Kind::RightDelimiter {
            return self.unexpected(token, &format!("{{{{{word}}}}}"));
        }
        if self.ranges == 0 {
            return self.error(format!("{{{{{word}}}}} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    /// A chain of `if … else if … else … end`, from behind the first word; the same with `with`.
    fn branches(&mut self, context: &str, word: Kind) -> Result<(Vec<Branch>, Option<Vec<Node>>)> {
        let outside = self.variables.len();
        let mut branches = Vec::new();
        loop {
            let pipe = self.pipeline(context, Kind::RightDelimiter)?;
            let (body, end) = self.list()?;
            branches.push(Branch { pipe, body });
            let otherwise = match end {
                End::Else if self.peek().kind == word => {
                    self.next += 1;
                    continue;
                }
                End::Else => Some(self.otherwise()?),
                End::End => None,
            };
            self.variables.truncate(outside);
            return Ok((branches, otherwise));
        }
    }

    /// What stands behind `{{else}}`.
    fn otherwise(&mut self) -> Result<Vec<Node>> {
        match self.list()? {
            (nodes, End::End) => Ok(nodes),
            _ => self.error("expected end; found {{else}}"),
        }
    }

    fn range(&mut self) -> Result<Node> {
        let outside = self.variables.len();
        let pipe = self.pipeline("range", Kind::RightDelimiter)?;
        self.ranges += 1;
        let (body, end) = self.list()?;
        self.ranges -= 1;
        let otherwise = match end {
            End::Else => Some(self.otherwise()?),
            End::End => None,
        };
        self.variables.truncate(outside);
        Ok(Node::Range { pipe, body, otherwise })
    }

    fn block(&mut self) -> Result<Node> {
        const CONTEXT: &str = "block clause";
        let pos = self.peek_non_space().start;
        let name = self.template_name(CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelimiter)?;
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (body, end) = self.list()?;
        self.variables = variables;
        self.ranges = ranges;
        if !matches!(end, End::End) {
            return self.error(format!("unexpected {{{{else}}}} in {CONTEXT}"));
        }
        self.add(name.clone(), body)?;
        Ok(Node::Template { pos, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Result<Node> {
        const CONTEXT: &str = "template clause";
        let pos = self.peek_non_space().start;
        let name = self.template_name(CONTEXT)?;
        let pipe = if self.peek_non_space().kind == Kind::RightDelimiter {
            self.next += 1;
            None
        } else {
            Some(self.pipeline(CONTEXT, Kind::RightDelimiter)?)
        };
        Ok(Node::Template { pos, name, pipe })
    }

    fn template_name(&mut self, context: &str) -> Result<Arc<str>> {
        let token = self.take_non_space();
        match token.kind {
            Kind::String | Kind::RawString => self.string(token),
            _ => self.unexpected(token, context),
        }
    }

    fn string(&self, token: Token) -> Result<Arc<str>> {
        let text = self.text(token);
        if token.kind == Kind::RawString {
            // Go drops carriage returns from raw text.
            return Ok(text.trim_matches('`').replace('\r', "").into());
        }
        match constants::unquote(text) {
            Some(text) => Ok(text.into()),
            None => self.error("invalid syntax"),
        }
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Result<Pipe> {
        let pos = self.peek_non_space().start;
        let mut pipe = Pipe { pos, variables: Vec::new(), assign: false, commands: Vec::new() };
        self.declarations(context, &mut pipe)?;
        loop {
            let token = self.peek_non_space();
            match token.kind {
                kind if kind == end => {
                    self.next += 1;
                    break;
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => pipe.commands.push(self.command()?),
                _ => return self.unexpected(token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            use OperandKind::{Bool, Dot, Nil, Number, String};
            if let Some(Operand { kind: Bool(_) | Dot | Nil | Number(_) | String(..), .. }) =
                command.operands.first()
            {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =` or, for a range, `$i, $x :=`, where they come next.
    fn declarations(&mut self, context: &str, pipe: &mut Pipe) -> Result<()> {
        loop {
            let variable = self.peek_non_space();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            let start = self.next;
            self.next += 1;
            let operator = self.peek_non_space();
            let name: Arc<str> = self.text(variable).into();
            match operator.kind {
                Kind::Assign | Kind::Declare => {
                    self.next += 1;
                    pipe.assign = operator.kind == Kind::Assign;
                    pipe.variables.push(name.clone());
                    return self.declare(name);
                }
                Kind::Char if self.text(operator) == "," => {
                    self.next += 1;
                    pipe.variables.push(name.clone());
                    self.declare(name)?;
                    if context != "range" || pipe.variables.len() >= 2 {
                        return self.error(format!("too many declarations in {context}"));
                    }
                    if !matches!(
                        self.peek_non_space().kind,
                        Kind::Variable | Kind::RightDelimiter | Kind::RightParen
                    ) {
                        return self.error("range can only initialize variables");
                    }
                }
                _ => {
                    self.next = start;
                    return Ok(());
                }
            }
        }
    }

    fn declare(&mut self, name: Arc<str>) -> Result<()> {
        if self.variables.len() > MAX_VARIABLES {
            return self.error(format!("more than {MAX_VARIABLES} variables in one block"));
        }
        self.variables.push(name);
        Ok(())
    }

    fn known_variable(&self, name: &str) -> Result<()> {
        if self.variables.iter().any(|known| **known == *name) {
            return Ok(());
        }
        self.error(format!("undefined variable {}", printf::quote(name)))
    }

    fn command(&mut self) -> Result<Command> {
        let pos = self.peek_non_space().start;
        let mut operands = Vec::new();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let token = self.take();
            match token.kind {
                Kind::Space => {}
                Kind::RightDelimiter | Kind::RightParen => {
                    self.next -= 1;
                    break;
                }
                Kind::Pipe => break,
                _ => return self.unexpected(token, "operand"),
            }
        }
        if operands.is_empty() {
            return self.error("empty command");
        }
        Ok(Command { pos, operands })
    }

    fn operand(&mut self) -> Result<Option<Operand>> {
        let Some(Operand { pos, kind }) = self.term()? else { return Ok(None) };
        let chain = self.peek();
        if chain.kind != Kind::Field {
            return Ok(Some(Operand { pos, kind }));
        }
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            let token = self.take();
            names.push(self.text(token)[1..].into());
        }
        let kind = match kind {
            OperandKind::Fields(mut fields) => {
                fields.append(&mut names);
                OperandKind::Fields(fields)
            }
            OperandKind::Variable(name, mut fields) => {
                fields.append(&mut names);
                OperandKind::Variable(name, fields)
            }
            OperandKind::Bool(_)
            | OperandKind::String(..)
            | OperandKind::Number(_)
            | OperandKind::Nil
            | OperandKind::Dot => {
                let term = Operand { pos, kind }.to_string();
                return self.error(format!("unexpected . after term {}", printf::quote(&term)));
            }
            kind => OperandKind::Chain(Box::new(Operand { pos, kind }), names),
        };
        Ok(Some(Operand { pos: chain.start, kind }))
    }

    fn term(&mut self) -> Result<Option<Operand>> {
        let token = self.peek_non_space();
        self.next += 1;
        let text = self.text(token);
        let kind = match token.kind {
            Kind::Identifier => {
                if !(self.is_function)(text) {
                    return self.error(format!("function {} not defined", printf::quote(text)));
                }
                OperandKind::Function(text.into())
            }
            Kind::Dot => OperandKind::Dot,
            Kind::Nil => OperandKind::Nil,
            Kind::Variable => {
                self.known_variable(text)?;
                OperandKind::Variable(text.into(), Vec::new())
            }
            Kind::Field => OperandKind::Fields(vec![text[1..].into()]),
            Kind::Bool => OperandKind::Bool(text == "true"),
            Kind::Number | Kind::CharConstant => {
                let number = if token.kind == Kind::Number {
                    constants::number(text)
                } else {
                    constants::character(text)
                };
                match number {
                    Ok(number) => OperandKind::Number(number),
                    Err(message) => return self.error(message),
                }
            }
            Kind::LeftParen => {
                OperandKind::Pipe(self.nested(|p| p.pipeline("parenthesized pipeline", Kind::RightParen))?)
            }
            Kind::String | Kind::RawString => OperandKind::String(self.string(token)?, text.into()),
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Operand { pos: token.start, kind }))
    }
}
