//! Templates: text with interpolations and directives.

use super::super::syntax::{TemplateFor, TemplateIf, TemplatePart};
use super::collections::loop_scope;
use super::{CONDITIONAL, Evaluator};
use crate::diagnostic::{Diagnostics, Span};
use crate::value::{Data, Type, Value, convert};

/// The text put together so far.
#[derive(Default)]
struct Text {
    text: String,
    unknown: bool,
    sensitive: bool,
    too_long: bool,
}

impl Text {
    fn push(&mut self, text: &str) {
        self.too_long |= self.text.len() + text.len() > Value::MAX_SIZE;
        if !self.too_long {
            self.text.push_str(text);
        }
    }
}

impl Evaluator<'_> {
    pub(super) fn template(&mut self, parts: &[TemplatePart], span: Span) -> Value {
        let mut text = Text::default();
        self.parts(parts, &mut text);
        if text.too_long {
            return self.too_large(span);
        }
        let value = if text.unknown { Value::unknown(Type::String) } else { Value::text(&text.text) };
        value.sensitive_if(text.sensitive)
    }

    fn parts(&mut self, parts: &[TemplatePart], text: &mut Text) {
        for part in parts {
            match part {
                TemplatePart::Literal(literal, _) => text.push(literal),
                TemplatePart::Interpolation(expr) => {
                    let value = self.value(expr);
                    text.sensitive |= value.contains_sensitive();
                    self.interpolate(&value, expr, text);
                }
                TemplatePart::If(inner) => self.if_directive(inner, text),
                TemplatePart::For(inner) => self.for_directive(inner, text),
            }
        }
    }

    fn interpolate(&mut self, value: &Value, expr: &super::super::syntax::Expr, text: &mut Text) {
        const SUMMARY: &str = "Invalid template interpolation value";
        if let Some(s) = value.as_str() {
            text.push(s);
            return;
        }
        if value.is_null() {
            let detail = "The expression is null, which cannot be part of a string.";
            self.error(expr.span, SUMMARY, detail, expr);
            text.unknown = true;
            return;
        }
        if !value.is_known() {
            text.unknown = true;
            return;
        }
        match convert(value, &Type::String) {
            Ok(converted) => match converted.data() {
                Data::String(s) => text.push(s),
                _ => text.unknown = true,
            },
            Err(e) => {
                let detail = format!("The value cannot be part of a string: {}.", e.about(value));
                self.error(expr.span, SUMMARY, detail, expr);
                text.unknown = true;
            }
        }
    }

    /// Only the chosen branch may be wrong, and both are strings, so the other one is not looked at.
    fn if_directive(&mut self, directive: &TemplateIf, text: &mut Text) {
        let condition = self.value(&directive.condition);
        text.sensitive |= condition.is_sensitive();
        let Some(chosen) = self.condition(&condition, &directive.condition, &CONDITIONAL) else {
            text.unknown = true;
            let mut ignored = Diagnostics::new();
            let mut inner = Evaluator {
                scope: self.scope,
                source: self.source,
                diagnostics: &mut ignored,
                fuel: self.fuel,
            };
            for parts in [&directive.then, &directive.otherwise] {
                let mut branch = Text::default();
                inner.parts(parts, &mut branch);
                text.sensitive |= branch.sensitive;
            }
            return;
        };
        self.parts(if chosen { &directive.then } else { &directive.otherwise }, text);
    }

    fn for_directive(&mut self, directive: &TemplateFor, text: &mut Text) {
        let collection = self.value(&directive.collection);
        text.sensitive |= collection.is_sensitive();
        let Some(elements) = self.elements(&collection, &directive.collection, "for directive") else {
            text.unknown = true;
            return;
        };
        let said = self.diagnostics.len();
        for (key, value) in elements {
            if text.too_long || !self.step(directive.span) {
                return;
            }
            let (key_var, value_var) = (directive.key_var.as_ref(), &directive.value_var);
            let scope = loop_scope(self.scope, key_var, value_var, key, value);
            let mut inner = Evaluator {
                scope: &scope,
                source: self.source,
                diagnostics: &mut *self.diagnostics,
                fuel: self.fuel,
            };
            inner.parts(&directive.parts, text);
            if self.diagnostics.len() > said {
                return;
            }
        }
    }
}
