//! Parsing expressions.

use super::super::ast::{
    Arm, BinaryOp, Call, Expr, ExprKind, ForExpr, Name, ObjectExpr, ObjectItem, ObjectKey, Operand, Step,
    StepKind, UnaryOp,
};
use super::super::lexer::TokenKind as T;
use super::Parser;
use crate::diagnostic::Span;
use crate::value::{Number, Type, Value};

impl Parser<'_> {
    /// An expression. After a mistake that could not be contained, `failed` is set and the result is not used.
    pub(super) fn expr(&mut self) -> Expr {
        let start = self.here();
        if !self.enter() {
            self.leave();
            return Expr::invalid(start);
        }
        let expr = self.conditional();
        self.leave();
        expr
    }

    fn conditional(&mut self) -> Expr {
        let mut expr = self.operation();
        let mut arms = Vec::new();
        let start = expr.span;
        while !self.failed && self.peek() == T::Question {
            self.bump();
            let value = self.expr();
            if !self.failed && !self.eat(T::Colon) {
                self.error(
                    "Missing false expression in conditional",
                    "In condition ? a : b, a colon and the value for \"false\" must follow.",
                );
            }
            if self.failed {
                return Expr::invalid(start);
            }
            arms.push(Arm { condition: expr, value });
            expr = self.operation();
        }
        if arms.is_empty() {
            return expr;
        }
        let span = start.to(expr.span);
        Expr { kind: ExprKind::Conditional(arms, Box::new(expr)), span }
    }

    fn operation(&mut self) -> Expr {
        let first = self.term();
        self.operators(first, 0)
    }

    /// The operators of at least this level that follow `left`.
    fn operators(&mut self, mut left: Expr, min: u8) -> Expr {
        while let Some((op, level)) = binary_op(self.peek()).filter(|(_, level)| *level >= min) {
            if self.failed {
                break;
            }
            self.bump();
            let mut right = self.term();
            if binary_op(self.peek()).is_some_and(|(_, next)| next > level) {
                right = self.operators(right, level + 1);
            }
            let span = left.span.to(right.span);
            let operand = Operand { op, expr: right };
            match &mut left.kind {
                // Operands of one level stay in one list.
                ExprKind::Operation(_, rest) if rest.last().is_some_and(|o| level_of(o.op) == level) => {
                    rest.push(operand);
                    left.span = span;
                }
                _ => left = Expr { kind: ExprKind::Operation(Box::new(left), vec![operand]), span },
            }
        }
        left
    }

    /// An operand: a value with the steps after it, or an operator before one.
    fn term(&mut self) -> Expr {
        let op = match self.peek() {
            T::Minus => UnaryOp::Negate,
            T::Bang => UnaryOp::Not,
            _ => {
                let value = self.value();
                return self.steps_after(value);
            }
        };
        let start = self.bump().span;
        if !self.enter() {
            self.leave();
            return Expr::invalid(start);
        }
        let operand = self.term();
        self.leave();
        Expr { span: start.to(operand.span), kind: ExprKind::Unary(op, Box::new(operand)) }
    }

    fn value(&mut self) -> Expr {
        let span = self.here();
        let kind = match self.peek() {
            T::Ident if matches!(self.peek_second(), T::OpenParen | T::ColonColon) => return self.call(),
            T::Ident => match self.next_text() {
                "true" => self.literal(Value::bool(true)),
                "false" => self.literal(Value::bool(false)),
                "null" => self.literal(Value::null(Type::Dynamic)),
                _ => ExprKind::Variable(self.name().text),
            },
            T::Number => self.number(),
            T::OpenQuote => return self.quoted_template(),
            T::OpenHeredoc => return self.heredoc(),
            T::OpenParen => return self.parentheses(),
            T::OpenBracket => return self.tuple(),
            T::OpenBrace => return self.object(),
            T::End => {
                self.error("Missing expression", "The text ends where an expression must stand.");
                ExprKind::Invalid
            }
            T::Newline => {
                let end_of_line = Span::new(span.start, span.start);
                self.error_at(
                    end_of_line,
                    "Invalid expression",
                    "The line ends where an expression must stand.",
                );
                ExprKind::Invalid
            }
            _ => {
                self.error(
                    "Invalid expression",
                    "An expression must stand here, and this does not begin one.",
                );
                ExprKind::Invalid
            }
        };
        Expr { kind, span }
    }

    fn literal(&mut self, value: Value) -> ExprKind {
        self.bump();
        ExprKind::Literal(value)
    }

    fn number(&mut self) -> ExprKind {
        let text = self.next_text();
        match parse_number(text) {
            Some(number) => self.literal(Value::number(number)),
            None => {
                let span = self.bump().span;
                self.complain(span, "Invalid number literal", format!("{text} is not a number."));
                ExprKind::Invalid
            }
        }
    }

    fn parentheses(&mut self) -> Expr {
        let open = self.bump().span;
        let newlines = std::mem::replace(&mut self.newlines, false);
        let inner = self.expr();
        if !self.failed && self.peek() != T::CloseParen {
            self.error("Unbalanced parentheses", "A closing parenthesis must stand here.");
        }
        let span = self.close(open, T::CloseParen);
        self.newlines = newlines;
        Expr { kind: ExprKind::Parentheses(Box::new(inner)), span }
    }

    /// Takes the closing bracket, passing over what is left before it after a mistake.
    fn close(&mut self, open: Span, closer: T) -> Span {
        if self.failed {
            self.recover_to(closer);
        } else {
            self.bump();
        }
        open.to(Span::new(self.last_end(), self.last_end()))
    }

    fn tuple(&mut self) -> Expr {
        let open = self.bump().span;
        let newlines = std::mem::replace(&mut self.newlines, false);
        let kind = if self.at_word("for") {
            self.for_expr(T::CloseBracket)
        } else {
            let mut items = Vec::new();
            while !self.failed && self.peek() != T::CloseBracket {
                items.push(self.expr());
                if self.failed || self.eat(T::Comma) || self.peek() == T::CloseBracket {
                    continue;
                }
                if self.peek() == T::End {
                    let detail = "The text ends before the ] of this tuple.";
                    self.error_at(open, "Unterminated tuple constructor expression", detail);
                } else {
                    self.error(
                        "Missing item separator",
                        "A comma must separate this from the item before it.",
                    );
                }
            }
            ExprKind::Tuple(items)
        };
        let span = self.close(open, T::CloseBracket);
        self.newlines = newlines;
        Expr { kind, span }
    }

    fn at_word(&mut self, word: &str) -> bool {
        self.peek() == T::Ident && self.next_text() == word
    }

    fn object(&mut self) -> Expr {
        let open = self.bump().span;
        // Line ends separate items, but do not count before a `for`.
        let newlines = std::mem::replace(&mut self.newlines, true);
        let mut at = self.at;
        while self.tokens[at].kind == T::Newline {
            at += 1;
        }
        let kind = if self.tokens[at].kind == T::Ident && self.text_at(at) == "for" {
            self.newlines = false;
            self.for_expr(T::CloseBrace)
        } else {
            let mut items = Vec::new();
            while !self.failed {
                match self.peek() {
                    T::Newline => {
                        self.bump();
                    }
                    T::CloseBrace => break,
                    T::End => {
                        let detail = "The text ends before the } of this object.";
                        self.error_at(open, "Unterminated object constructor expression", detail);
                    }
                    _ => {
                        if let Some(item) = self.object_item() {
                            items.push(item);
                        }
                    }
                }
            }
            ExprKind::Object(ObjectExpr { items, distinct_keys: false })
        };
        let span = self.close(open, T::CloseBrace);
        self.newlines = newlines;
        Expr { kind, span }
    }

    /// `key = value` with its separator.
    fn object_item(&mut self) -> Option<ObjectItem> {
        let key = self.object_key()?;
        match self.peek() {
            T::Equal | T::Colon => {
                self.bump();
            }
            T::Newline | T::Comma => {
                self.error("Missing attribute value", "A key is followed by = and its value.");
            }
            T::Ident | T::OpenBrace | T::OpenQuote => self.error(
                "Missing key/value separator",
                "A key and its value are separated by =. (A block cannot be written inside an object.)",
            ),
            _ => self.error("Missing key/value separator", "A key and its value are separated by =."),
        }
        if self.failed {
            return None;
        }
        let value = self.expr();
        if self.failed {
            return None;
        }
        match self.peek() {
            T::Comma | T::Newline => {
                self.bump();
            }
            T::CloseBrace | T::End => {}
            _ => self.error(
                "Missing attribute separator",
                "A line end or a comma must separate this from the item before it.",
            ),
        }
        Some(ObjectItem { key, value })
    }

    fn object_key(&mut self) -> Option<ObjectKey> {
        if self.peek() == T::Ident && matches!(self.peek_second(), T::Equal | T::Colon) {
            return Some(ObjectKey::Name(self.name()));
        }
        let expr = self.expr();
        if self.failed {
            return None;
        }
        // A bare word is a name wherever it stands: `{ true = 1 }`.
        let is_path = match &expr.kind {
            ExprKind::Access(root, steps) => {
                matches!(root.kind, ExprKind::Variable(_)) && steps.iter().all(is_constant_step)
            }
            _ => false,
        };
        Some(if is_path { ObjectKey::Ambiguous(expr) } else { ObjectKey::Expr(expr) })
    }

    /// From the word `for` up to the closing bracket, which is left.
    fn for_expr(&mut self, closer: T) -> ExprKind {
        const SUMMARY: &str = "Invalid 'for' expression";
        self.bump();
        let Some((key_var, value_var)) = self.for_vars(SUMMARY) else { return ExprKind::Invalid };
        let collection = self.expr();
        if !self.failed && !self.eat(T::Colon) {
            self.error(SUMMARY, "A colon must follow the collection.");
        }
        if self.failed {
            return ExprKind::Invalid;
        }
        let mut value = self.expr();
        let mut key = None;
        if !self.failed && self.peek() == T::FatArrow {
            if closer == T::CloseBracket {
                self.error(
                    SUMMARY,
                    "A for expression in brackets [ ] makes a tuple, which has no keys: => cannot be used.",
                );
            } else {
                self.bump();
                key = Some(std::mem::replace(&mut value, Expr::invalid(Span::default())));
                value = self.expr();
            }
        } else if !self.failed && closer == T::CloseBrace {
            self.error(
                SUMMARY,
                "A for expression in braces { } makes an object: => and the value must follow the key.",
            );
        }
        let mut group = false;
        if !self.failed && self.peek() == T::Ellipsis {
            if key.is_none() {
                self.error(SUMMARY, "Values can be grouped with ... only by key, in an object.");
            } else {
                self.bump();
                group = true;
            }
        }
        let mut condition = None;
        if !self.failed && self.at_word("if") {
            self.bump();
            condition = Some(self.expr());
        }
        if !self.failed && self.peek() != closer {
            self.error(SUMMARY, "The expression is complete: its closing bracket must stand here.");
        }
        ExprKind::For(Box::new(ForExpr { key_var, value_var, collection, key, value, group, condition }))
    }

    /// `v in` or `k, v in`.
    pub(super) fn for_vars(&mut self, summary: &str) -> Option<(Option<Name>, Name)> {
        let mut key = None;
        if self.peek() != T::Ident {
            self.error(summary, "The name of a variable must follow the word \"for\".");
            return None;
        }
        let mut value = self.name();
        if self.eat(T::Comma) {
            if self.peek() != T::Ident {
                self.error(summary, "The name of a second variable must follow the comma.");
                return None;
            }
            key = Some(std::mem::replace(&mut value, self.name()));
        }
        if !self.at_word("in") {
            self.error(summary, "The word \"in\" must follow the names.");
            return None;
        }
        self.bump();
        Some((key, value))
    }

    fn call(&mut self) -> Expr {
        let first = self.name();
        let (mut name, mut text) = (first.clone(), String::new());
        while self.eat(T::ColonColon) {
            if self.peek() != T::Ident {
                self.error("Missing function name", "The name of a function must follow \"::\".");
                return Expr::invalid(first.span);
            }
            if text.is_empty() {
                text.push_str(&first.text);
            }
            let part = self.name();
            text.push_str("::");
            text.push_str(&part.text);
            name = Name { text: text.as_str().into(), span: first.span.to(part.span) };
        }
        if self.peek() != T::OpenParen {
            self.error(
                "Missing open parenthesis",
                "The arguments of the function must stand here, in parentheses.",
            );
            return Expr::invalid(first.span);
        }
        self.bump();
        let newlines = std::mem::replace(&mut self.newlines, false);
        let mut arguments = Vec::new();
        let mut expand_last = false;
        while !self.failed && self.peek() != T::CloseParen {
            arguments.push(self.expr());
            if self.failed || self.eat(T::Comma) || self.peek() == T::CloseParen {
                continue;
            }
            match self.peek() {
                T::Ellipsis => {
                    expand_last = true;
                    self.bump();
                    if self.peek() != T::CloseParen {
                        self.error(
                            "Missing closing parenthesis",
                            "Only the last argument can be spread with ...: a closing parenthesis must follow.",
                        );
                    }
                    break;
                }
                T::End => self.error_at(
                    first.span,
                    "Unterminated function call",
                    "The text ends before the closing parenthesis of this call.",
                ),
                _ => self.error(
                    "Missing argument separator",
                    "A comma must separate this from the argument before it.",
                ),
            }
        }
        let span = self.close(first.span, T::CloseParen);
        self.newlines = newlines;
        Expr { kind: ExprKind::Call(Box::new(Call { name, arguments, expand_last })), span }
    }

    /// `.name`, `[key]` and splats after a value.
    fn steps_after(&mut self, value: Expr) -> Expr {
        if self.failed || !matches!(self.peek(), T::Dot | T::OpenBracket) {
            return value;
        }
        let start = value.span;
        let steps = self.steps();
        let span = steps.last().map_or(start, |s| start.to(s.span));
        Expr { kind: ExprKind::Access(Box::new(value), steps), span }
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        while !self.failed {
            let step = match self.peek() {
                T::Dot => self.dot_step(false),
                T::OpenBracket => self.bracket_step(),
                _ => break,
            };
            steps.extend(step);
        }
        steps
    }

    fn dot_step(&mut self, in_splat: bool) -> Option<Step> {
        let dot = self.bump().span;
        let kind = match self.peek() {
            T::Ident => StepKind::Attribute(self.name().text),
            T::Number => {
                let text = self.next_text();
                let span = self.here();
                match parse_number(text) {
                    Some(number) if !text.contains('.') => {
                        let kind = self.literal(Value::number(number));
                        StepKind::Index(Expr { kind, span })
                    }
                    _ => {
                        self.error(
                            "Invalid legacy index syntax",
                            format!(
                                "An index is written in brackets; after a dot, {text} is no whole number."
                            ),
                        );
                        return None;
                    }
                }
            }
            T::Star if in_splat => {
                self.error(
                    "Nested splat expression not allowed",
                    "A splat with .* cannot hold another one; [*] can.",
                );
                return None;
            }
            T::Star => {
                let star = self.bump().span;
                let mut steps = Vec::new();
                while !self.failed && self.peek() == T::Dot {
                    steps.extend(self.dot_step(true));
                }
                let span = steps.last().map_or(dot.to(star), |s: &Step| dot.to(s.span));
                return Some(Step { kind: StepKind::AttributeSplat(steps), span });
            }
            _ => {
                self.error("Invalid attribute name", "The name of an attribute must follow a dot.");
                return None;
            }
        };
        Some(Step { kind, span: Span::new(dot.start, self.last_end()) })
    }

    fn bracket_step(&mut self) -> Option<Step> {
        let open = self.bump().span;
        if self.peek() == T::Star {
            self.bump();
            if self.peek() != T::CloseBracket {
                self.error("Missing close bracket on splat index", "The * of a splat is followed by ].");
                self.recover_to(T::CloseBracket);
                return None;
            }
            let close = self.bump().span;
            if !self.enter() {
                self.leave();
                return None;
            }
            let steps = self.steps();
            self.leave();
            let span = steps.last().map_or(open.to(close), |s| open.to(s.span));
            return Some(Step { kind: StepKind::Splat(steps), span });
        }
        let newlines = std::mem::replace(&mut self.newlines, false);
        let key = self.expr();
        if !self.failed && self.peek() != T::CloseBracket {
            self.error("Missing close bracket on index", "A ] must follow the index.");
        }
        let span = self.close(open, T::CloseBracket);
        self.newlines = newlines;
        Some(Step { kind: StepKind::Index(key), span })
    }
}

/// Whether the step is one a static path can have.
fn is_constant_step(step: &Step) -> bool {
    match &step.kind {
        StepKind::Attribute(_) => true,
        StepKind::Index(key) => matches!(key.kind, ExprKind::Literal(_)),
        StepKind::Splat(_) | StepKind::AttributeSplat(_) => false,
    }
}

fn binary_op(kind: T) -> Option<(BinaryOp, u8)> {
    let op = match kind {
        T::OrOr => BinaryOp::Or,
        T::AndAnd => BinaryOp::And,
        T::EqualEqual => BinaryOp::Equal,
        T::BangEqual => BinaryOp::NotEqual,
        T::Less => BinaryOp::Less,
        T::LessEqual => BinaryOp::LessOrEqual,
        T::Greater => BinaryOp::Greater,
        T::GreaterEqual => BinaryOp::GreaterOrEqual,
        T::Plus => BinaryOp::Add,
        T::Minus => BinaryOp::Subtract,
        T::Star => BinaryOp::Multiply,
        T::Slash => BinaryOp::Divide,
        T::Percent => BinaryOp::Modulo,
        _ => return None,
    };
    Some((op, level_of(op)))
}

fn level_of(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 0,
        BinaryOp::And => 1,
        BinaryOp::Equal | BinaryOp::NotEqual => 2,
        BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual => 3,
        BinaryOp::Add | BinaryOp::Subtract => 4,
        BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => 5,
    }
}

/// The value of digits with at most one fraction and one exponent.
fn parse_number(text: &str) -> Option<Number> {
    let mantissa = text.find(['e', 'E']).map_or(text, |e| &text[..e]);
    let exponent = text.get(mantissa.len() + 1..).unwrap_or_default();
    if mantissa.matches('.').count() > 1 || exponent.contains(['.', 'e', 'E']) {
        return None;
    }
    text.parse().ok()
}
