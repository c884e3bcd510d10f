//! Operators and conditionals.

use super::super::syntax::{Arm, BinaryOp, Expr, Operand, UnaryOp};
use super::{CONDITIONAL, Evaluator};
use crate::diagnostic::{Diagnostics, Span};
use crate::value::{ArithmeticError, Data, Number, Type, Value, convert, unify};

impl Evaluator<'_> {
    pub(super) fn unary(&mut self, op: UnaryOp, operand: &Expr, whole: &Expr) -> Value {
        let value = self.value(operand);
        let ty = match op {
            UnaryOp::Negate => Type::Number,
            UnaryOp::Not => Type::Bool,
        };
        let Some(value) = self.operand(value, &ty, "unary", operand.span, whole) else {
            return Value::unknown(ty);
        };
        let result = match (op, value.data()) {
            (UnaryOp::Negate, Data::Number(n)) => Value::number(n.neg()),
            (UnaryOp::Not, Data::Bool(b)) => Value::bool(!b),
            _ => Value::unknown(ty),
        };
        result.with_marks_of(&value)
    }

    /// An operand in the type that its operator takes; `None` after a complaint.
    fn operand(&mut self, value: Value, ty: &Type, side: &str, span: Span, whole: &Expr) -> Option<Value> {
        let converted = match convert(&value, ty) {
            Ok(converted) => converted,
            Err(e) => {
                let detail = format!("The {side} operand does not fit: {}.", e.about(&value));
                self.error(span, "Invalid operand", detail, whole);
                return None;
            }
        };
        if converted.is_null() {
            let detail = format!("The {side} operand is null; argument must not be null.");
            self.error(span, "Operation failed", detail, whole);
            return None;
        }
        Some(converted)
    }

    pub(super) fn operation(&mut self, whole: &Expr, first: &Expr, rest: &[Operand]) -> Value {
        if rest.first().is_some_and(|o| matches!(o.op, BinaryOp::And | BinaryOp::Or)) {
            return self.logic(whole, first, rest);
        }
        let mut left = self.value(first);
        let mut span = first.span;
        for operand in rest {
            let right = self.value(&operand.expr);
            left = match operand.op {
                BinaryOp::Equal => left.equals(&right),
                BinaryOp::NotEqual => not(left.equals(&right)),
                op => self.arithmetic(op, (left, span), (right, operand.expr.span), whole),
            };
            // Everything up to here is the left side of the next operator.
            span = span.to(operand.expr.span);
        }
        left
    }

    fn arithmetic(&mut self, op: BinaryOp, left: (Value, Span), right: (Value, Span), whole: &Expr) -> Value {
        let ordering = matches!(
            op,
            BinaryOp::Less | BinaryOp::LessOrEqual | BinaryOp::Greater | BinaryOp::GreaterOrEqual
        );
        let result_type = if ordering { Type::Bool } else { Type::Number };
        let sensitive = left.0.is_sensitive() || right.0.is_sensitive();
        let span = left.1.to(right.1);
        let left = self.operand(left.0, &Type::Number, "left", left.1, whole);
        let right = self.operand(right.0, &Type::Number, "right", right.1, whole);
        let numbers = match (left.as_ref().map(Value::data), right.as_ref().map(Value::data)) {
            (Some(Data::Number(a)), Some(Data::Number(b))) => Some((a, b)),
            _ => None,
        };
        let result = match numbers {
            None => Value::unknown(result_type),
            Some((a, b)) => match compute(op, a, b) {
                Ok(value) => value,
                Err(e) => {
                    self.error(span, "Operation failed", format!("The operation has no result: {e}."), whole);
                    Value::unknown(result_type)
                }
            },
        };
        result.sensitive_if(sensitive)
    }

    /// `&&` and `||`: both sides are evaluated, but where one of them decides alone the other may be wrong.
    fn logic(&mut self, whole: &Expr, first: &Expr, rest: &[Operand]) -> Value {
        let (mut left, mut left_diagnostics) = self.value_apart(first);
        let mut left_span = first.span;
        for operand in rest {
            let (right, right_diagnostics) = self.value_apart(&operand.expr);
            let spans = (left_span, operand.expr.span);
            left_span = left_span.to(operand.expr.span);
            let sensitive = left.is_sensitive() || right.is_sensitive();
            let sides = [left, right];
            let mut apart = Diagnostics::new();
            let mut inner = Evaluator {
                scope: self.scope,
                source: self.source,
                diagnostics: &mut apart,
                fuel: self.fuel,
            };
            let converted = inner.bools(&sides, spans, whole);
            let Some([a, b]) = converted else {
                left_diagnostics.append(right_diagnostics);
                left_diagnostics.append(apart);
                left = Value::unknown(Type::Bool);
                continue;
            };
            // What decides alone: true for ||, false for &&. A null is as good as false.
            let deciding = operand.op == BinaryOp::Or;
            let decides = |v: &Value| v.is_known() && v.as_bool().unwrap_or(false) == deciding;
            let failed = |d: &Diagnostics| d.has_errors();
            left = if decides(&a) || (!a.is_known() && !b.is_known() && !failed(&left_diagnostics)) {
                if a.is_known() { Value::bool(deciding) } else { Value::unknown(Type::Bool) }
            } else if decides(&b) {
                left_diagnostics = right_diagnostics;
                Value::bool(deciding)
            } else if !a.is_known() && b.is_known() {
                Value::unknown(Type::Bool)
            } else if a.is_known() && !b.is_known() {
                left_diagnostics = right_diagnostics;
                Value::unknown(Type::Bool)
            } else {
                left_diagnostics.append(right_diagnostics);
                if a.is_null() || b.is_null() {
                    let mut apart = Diagnostics::new();
                    let mut inner = Evaluator {
                        scope: self.scope,
                        source: self.source,
                        diagnostics: &mut apart,
                        fuel: self.fuel,
                    };
                    let detail = "An operand is null; argument must not be null.";
                    inner.error(left_span, "Operation failed", detail, whole);
                    left_diagnostics.append(apart);
                }
                if failed(&left_diagnostics) { Value::unknown(Type::Bool) } else { Value::bool(!deciding) }
            }
            .sensitive_if(sensitive);
        }
        self.diagnostics.append(left_diagnostics);
        left
    }

    /// Both sides as bools; `None` after complaints.
    fn bools(&mut self, sides: &[Value; 2], spans: (Span, Span), whole: &Expr) -> Option<[Value; 2]> {
        let mut side = |value: &Value, name: &str, span: Span| match convert(value, &Type::Bool) {
            Ok(converted) => Some(converted),
            Err(e) => {
                let detail = format!("The {name} operand does not fit: {}.", e.about(value));
                self.error(span, "Invalid operand", detail, whole);
                None
            }
        };
        let (a, b) = (side(&sides[0], "left", spans.0), side(&sides[1], "right", spans.1));
        Some([a?, b?])
    }

    pub(super) fn conditional(&mut self, whole: &Expr, arms: &[Arm], otherwise: &Expr) -> Value {
        // `a ? b : c ? d : e` is `a ? b : (c ? d : e)`: the last is put together first.
        let (mut result, mut diagnostics) = self.value_apart(otherwise);
        for arm in arms.iter().rev() {
            let (value, value_diagnostics) = self.value_apart(&arm.value);
            let mut apart = Diagnostics::new();
            let mut inner = Evaluator {
                scope: self.scope,
                source: self.source,
                diagnostics: &mut apart,
                fuel: self.fuel,
            };
            let before = (value, value_diagnostics, result, diagnostics);
            result = inner.choose(whole, &arm.condition, before);
            diagnostics = apart;
        }
        self.diagnostics.append(diagnostics);
        result
    }

    /// The value of the branch that the condition chooses, with its diagnostics alone, in the type that both
    /// branches have in common.
    fn choose(
        &mut self,
        whole: &Expr,
        condition: &Expr,
        (value, value_diagnostics, otherwise, otherwise_diagnostics): (
            Value,
            Diagnostics,
            Value,
            Diagnostics,
        ),
    ) -> Value {
        let types = [value.ty(), otherwise.ty()];
        let untyped_null = |v: &Value| matches!(v.data(), Data::Null(Type::Dynamic));
        let common = if untyped_null(&value) {
            Some(types[1].clone())
        } else if untyped_null(&otherwise) || types[0] == types[1] {
            Some(types[0].clone())
        } else if types.contains(&Type::Dynamic) {
            // The other one stays as it is.
            Some(Type::Dynamic)
        } else {
            unify(&types)
        };
        let Some(common) = common else {
            let detail = format!(
                "Both results of a conditional must have one type, but one is {} and the other is {}.",
                types[0].friendly_name(),
                types[1].friendly_name()
            );
            self.diagnostics.append(value_diagnostics);
            self.diagnostics.append(otherwise_diagnostics);
            return self.error(whole.span, "Inconsistent conditional result types", detail, whole);
        };
        let decision = self.value(condition);
        let chosen = match self.condition(&decision, condition, &CONDITIONAL) {
            Some(true) => {
                self.diagnostics.append(value_diagnostics);
                value
            }
            Some(false) => {
                self.diagnostics.append(otherwise_diagnostics);
                otherwise
            }
            None => {
                let unknown = Value::unknown(common);
                return unknown.sensitive_if(
                    decision.is_sensitive() || value.contains_sensitive() || otherwise.contains_sensitive(),
                );
            }
        };
        let chosen = match convert(&chosen, &common) {
            Ok(converted) => converted,
            Err(e) => {
                let detail =
                    format!("The result cannot be given the type that both results have in common: {e}.");
                self.error(whole.span, "Inconsistent conditional result types", detail, whole)
            }
        };
        chosen.with_marks_of(&decision)
    }
}

fn not(value: Value) -> Value {
    match value.as_bool() {
        Some(b) => Value::bool(!b).with_marks_of(&value),
        None => value,
    }
}

fn compute(op: BinaryOp, a: &Number, b: &Number) -> Result<Value, ArithmeticError> {
    Ok(match op {
        BinaryOp::Less => Value::bool(a < b),
        BinaryOp::LessOrEqual => Value::bool(a <= b),
        BinaryOp::Greater => Value::bool(a > b),
        BinaryOp::GreaterOrEqual => Value::bool(a >= b),
        BinaryOp::Add => Value::number(a.add(b)?),
        BinaryOp::Subtract => Value::number(a.sub(b)?),
        BinaryOp::Multiply => Value::number(a.mul(b)?),
        BinaryOp::Divide => Value::number(a.div(b)?),
        BinaryOp::Modulo => Value::number(a.rem(b)?),
        // The caller has taken care of these.
        BinaryOp::Or | BinaryOp::And | BinaryOp::Equal | BinaryOp::NotEqual => Value::unknown(Type::Bool),
    })
}
