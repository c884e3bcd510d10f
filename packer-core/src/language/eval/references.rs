//! Which variables an expression refers to, without evaluating it.

use std::sync::Arc;

use super::super::syntax::{
    Body, Expr, ExprKind, ForExpr, ObjectKey, Step, StepKind, TemplateFor, TemplatePart,
};
use crate::diagnostic::Span;
use crate::value::Value;

/// A use of a variable: `var.x[0].name` is root `var` and the steps `x`, `0`, `name`.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The root name.
    pub root: Arc<str>,
    /// The steps as far as they are constant: a computed index or a splat ends them.
    pub steps: Vec<ReferenceStep>,
    /// Where each of these steps stands, from its dot or bracket on.
    pub step_spans: Vec<Span>,
    /// From the root name to the last of these steps.
    pub span: Span,
}

/// A constant step.
#[derive(Debug, Clone)]
pub enum ReferenceStep {
    /// `.name`.
    Attribute(Arc<str>),
    /// `[key]` with a literal key, or `.0`.
    Index(Value),
}

impl Reference {
    /// The name in step `index`, whether written `.name` or `["name"]`.
    pub fn name(&self, index: usize) -> Option<&str> {
        match self.steps.get(index)? {
            ReferenceStep::Attribute(name) => Some(name),
            ReferenceStep::Index(key) => key.as_str(),
        }
    }
}

/// Every use of a variable in the expression, in the order written. Variables of `for` do not count.
pub fn references(expr: &Expr) -> Vec<Reference> {
    let mut visitor = Visitor { found: Vec::new(), bound: Vec::new(), budget: usize::MAX };
    visitor.expr(expr);
    visitor.found
}

impl Body {
    /// Every use of a variable in the body's attributes and in those of the blocks in it.
    pub fn references(&self) -> Vec<Reference> {
        self.all_attributes().iter().flat_map(|a| references(&a.expr)).collect()
    }
}

/// As [`references`], but gives up after so many nodes.
pub(super) fn first_references(expr: &Expr, budget: usize) -> Vec<Reference> {
    let mut visitor = Visitor { found: Vec::new(), bound: Vec::new(), budget };
    visitor.expr(expr);
    visitor.found
}

struct Visitor<'e> {
    found: Vec<Reference>,
    /// Names that `for` has bound around here.
    bound: Vec<&'e str>,
    budget: usize,
}

impl<'e> Visitor<'e> {
    fn expr(&mut self, expr: &'e Expr) {
        let Some(budget) = self.budget.checked_sub(1) else { return };
        self.budget = budget;
        match &expr.kind {
            ExprKind::Literal(_) | ExprKind::Invalid => {}
            ExprKind::Variable(name) => self.variable(name, &[], expr.span),
            ExprKind::Access(root, steps) => {
                match &root.kind {
                    ExprKind::Variable(name) => self.variable(name, steps, root.span),
                    _ => self.expr(root),
                }
                self.steps(steps);
            }
            ExprKind::Template(parts) => self.parts(parts),
            ExprKind::Unwrapped(inner) | ExprKind::Parentheses(inner) | ExprKind::Unary(_, inner) => {
                self.expr(inner)
            }
            ExprKind::JsonString(string) => self.expr(&string.template),
            ExprKind::Call(call) => {
                // The second argument of `convert` is a type.
                let values = if &*call.name.text == "convert" { 1 } else { call.arguments.len() };
                for argument in call.arguments.iter().take(values) {
                    self.expr(argument);
                }
            }
            ExprKind::Operation(first, rest) => {
                self.expr(first);
                for operand in rest {
                    self.expr(&operand.expr);
                }
            }
            ExprKind::Conditional(arms, otherwise) => {
                for arm in arms {
                    self.expr(&arm.condition);
                    self.expr(&arm.value);
                }
                self.expr(otherwise);
            }
            ExprKind::Tuple(items) => {
                for item in items {
                    self.expr(item);
                }
            }
            ExprKind::Object(object) => {
                for item in &object.items {
                    if let ObjectKey::Expr(key) = &item.key {
                        self.expr(key);
                    }
                    self.expr(&item.value);
                }
            }
            ExprKind::For(inner) => self.for_expr(inner),
        }
    }

    fn variable(&mut self, root: &'e Arc<str>, steps: &'e [Step], span: Span) {
        if self.bound.contains(&&**root) {
            return;
        }
        let mut reference = Reference { root: root.clone(), steps: Vec::new(), step_spans: Vec::new(), span };
        for step in steps {
            reference.steps.push(match &step.kind {
                StepKind::Attribute(name) => ReferenceStep::Attribute(name.clone()),
                StepKind::Index(Expr { kind: ExprKind::Literal(key), .. }) => {
                    ReferenceStep::Index(key.clone())
                }
                _ => break,
            });
            reference.step_spans.push(step.span);
            reference.span = reference.span.to(step.span);
        }
        self.found.push(reference);
    }

    fn steps(&mut self, steps: &'e [Step]) {
        for step in steps {
            match &step.kind {
                StepKind::Attribute(_) => {}
                StepKind::Index(key) => self.expr(key),
                StepKind::Splat(inner) | StepKind::AttributeSplat(inner) => self.steps(inner),
            }
        }
    }

    fn for_expr(&mut self, expr: &'e ForExpr) {
        self.expr(&expr.collection);
        let outer = self.bound.len();
        self.bound.extend(expr.key_var.iter().map(|n| &*n.text));
        self.bound.push(&expr.value_var.text);
        for part in expr.key.iter().chain([&expr.value]).chain(&expr.condition) {
            self.expr(part);
        }
        self.bound.truncate(outer);
    }

    fn parts(&mut self, parts: &'e [TemplatePart]) {
        for part in parts {
            match part {
                TemplatePart::Literal(..) => {}
                TemplatePart::Interpolation(expr) => self.expr(expr),
                TemplatePart::If(directive) => {
                    self.expr(&directive.condition);
                    self.parts(&directive.then);
                    self.parts(&directive.otherwise);
                }
                TemplatePart::For(directive) => self.for_directive(directive),
            }
        }
    }

    fn for_directive(&mut self, directive: &'e TemplateFor) {
        self.expr(&directive.collection);
        let outer = self.bound.len();
        self.bound.extend(directive.key_var.iter().map(|n| &*n.text));
        self.bound.push(&directive.value_var.text);
        self.parts(&directive.parts);
        self.bound.truncate(outer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceFile;
    use crate::language::syntax::parse_expression;

    #[test]
    fn references_are_listed_with_their_constant_steps() {
        let text = r#"[for k, v in var.m["a"].b : "${v.x} ${local.c[var.i].d} %{ for q in data.t.n }${q}${k}%{ endfor }"] == convert(d.*.e, list(string)) ? {f = g, (h) = 1} : i[0]"#;
        let (expr, diagnostics) = parse_expression(&SourceFile::new("t", text));
        assert!(diagnostics.is_empty(), "{diagnostics}");
        let found: Vec<&str> = references(&expr).iter().map(|r| &text[r.span.range()]).collect();
        let expected = ["var.m[\"a\"].b", "local.c", "var.i", "data.t.n", "d", "g", "h", "i[0]"];
        assert_eq!(found, expected);
        assert_eq!(references(&expr)[0].name(1), Some("a"));
    }
}
