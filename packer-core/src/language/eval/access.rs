//! Steps into values: attributes, indices and splats.

use super::super::syntax::{Expr, ExprKind, Step, StepKind};
use super::{Evaluator, is_untyped_unknown};
use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::value::{Data, Type, Value, convert, unify};

impl Evaluator<'_> {
    pub(super) fn access(&mut self, whole: &Expr, root: &Expr, steps: &[Step]) -> Value {
        let ExprKind::Variable(name) = &root.kind else {
            let told = self.diagnostics.len();
            let mut value = self.value(root);
            let splat = |step: &Step| matches!(step.kind, StepKind::Splat(_) | StepKind::AttributeSplat(_));
            if self.failed_since(told) && steps.iter().any(splat) {
                value = Value::unknown(Type::Dynamic);
            }
            return self.steps(value, steps, whole);
        };
        let Some(mut value) = self.scope.variable(name) else {
            return self.unknown_variable(name, root.span);
        };
        // Most references are attributes of objects: nothing on the way is copied.
        let mut sensitive = false;
        let mut rest = steps;
        while let [Step { kind: StepKind::Attribute(name), .. }, after @ ..] = rest {
            let Some(next) = value.get(name) else { break };
            sensitive |= value.is_sensitive();
            value = next;
            rest = after;
        }
        let value = value.clone().sensitive_if(sensitive);
        self.steps(value, rest, whole)
    }

    fn steps(&mut self, mut value: Value, steps: &[Step], whole: &Expr) -> Value {
        for step in steps {
            value = match &step.kind {
                StepKind::Attribute(name) => self.attribute(value, name, step.span, whole),
                StepKind::Index(key) => {
                    let key_value = self.value(key);
                    self.index(&value, &key_value, step.span, whole)
                }
                StepKind::Splat(inner) | StepKind::AttributeSplat(inner) => {
                    self.splat(value, inner, step.span, whole)
                }
            };
        }
        value
    }

    fn attribute(&mut self, value: Value, name: &str, span: Span, whole: &Expr) -> Value {
        if let Some(found) = value.get(name) {
            return found.clone().with_marks_of(&value);
        }
        if value.is_null() {
            let summary = "Attempt to get attribute from null value";
            return self.error(
                span,
                summary,
                format!("The value is null: it has no attribute \"{name}\"."),
                whole,
            );
        }
        let ty = value.ty();
        let result = match &ty {
            Type::Dynamic => Value::unknown(Type::Dynamic),
            Type::Object(object) => match object.attributes.get(name) {
                Some(ty) => Value::unknown(ty.clone()),
                None => {
                    let names = object.attributes.keys().map(|k| &**k);
                    let d = Diagnostic::error("Unsupported attribute")
                        .detail(format!("This object has no attribute named \"{name}\"."));
                    return self.missing(d, name, names, span, whole);
                }
            },
            Type::Map(element) if !value.is_known() => Value::unknown((**element).clone()),
            Type::Map(_) => {
                let names = value.as_map().into_iter().flat_map(|m| m.keys().map(|k| &**k));
                let d = Diagnostic::error("Missing map element")
                    .detail(format!("This map has no element with the key \"{name}\"."));
                return self.missing(d, name, names, span, whole);
            }
            _ => {
                let of_objects = match &ty {
                    Type::List(t) | Type::Set(t) => matches!(**t, Type::Object(_) | Type::Map(_)),
                    Type::Tuple(types) => types.iter().any(|t| matches!(t, Type::Object(_) | Type::Map(_))),
                    _ => false,
                };
                let detail = if of_objects {
                    format!(
                        "The value is a {}, which has no attributes itself; its elements have. [*].{name} takes the attribute of each, [0].{name} that of the first.",
                        ty.friendly_name()
                    )
                } else {
                    format!("A {} has no attributes.", ty.friendly_name())
                };
                return self.error(span, "Unsupported attribute", detail, whole);
            }
        };
        result.with_marks_of(&value)
    }

    fn missing<'n>(
        &mut self,
        d: Diagnostic,
        name: &str,
        names: impl Iterator<Item = &'n str>,
        span: Span,
        whole: &Expr,
    ) -> Value {
        let mut d = match did_you_mean(name, names) {
            Some(meant) => d.suggest(meant),
            None => d,
        };
        d.values = super::describe::values_in(whole, self.scope);
        self.diagnostics.push(d.at(span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }

    pub(super) fn index(&mut self, value: &Value, key: &Value, span: Span, whole: &Expr) -> Value {
        let result = self.element(value, key, span, whole);
        result.sensitive_if(value.is_sensitive() || key.is_sensitive())
    }

    fn element(&mut self, value: &Value, key: &Value, span: Span, whole: &Expr) -> Value {
        const SUMMARY: &str = "Invalid index";
        if value.is_null() {
            return self.error(
                span,
                "Attempt to index null value",
                "The value is null: it has no elements.",
                whole,
            );
        }
        if key.is_null() {
            return self.error(span, SUMMARY, "The key is null; null cannot be an index.", whole);
        }
        if is_untyped_unknown(value) || is_untyped_unknown(key) {
            return Value::unknown(Type::Dynamic);
        }
        // The type of a tuple or object takes time to make: elements that exist are found without it.
        let wanted = match value.data() {
            Data::List(..) | Data::Tuple(_) | Data::Unknown(Type::List(_) | Type::Tuple(_)) => Type::Number,
            Data::Map(..) | Data::Object(_) | Data::Unknown(Type::Map(_) | Type::Object(_)) => Type::String,
            _ => {
                let detail =
                    format!("A {} has no elements that can be taken by index.", value.ty().friendly_name());
                return self.error(span, SUMMARY, detail, whole);
            }
        };
        let key = match convert(key, &wanted) {
            Ok(key) => key,
            Err(e) => {
                let what = value.ty().friendly_name();
                let detail = format!("The key of a {what} must be a {}: {e}.", wanted.friendly_name());
                return self.error(span, SUMMARY, detail, whole);
            }
        };
        match (value.data(), key.data()) {
            (Data::List(t, _) | Data::Map(t, _), Data::Unknown(_)) => Value::unknown(t.clone()),
            (Data::Unknown(Type::List(t) | Type::Map(t)), Data::Unknown(_)) => Value::unknown((**t).clone()),
            (_, Data::Unknown(_)) => Value::unknown(Type::Dynamic),
            (Data::Unknown(Type::Map(t)), Data::String(_)) => Value::unknown((**t).clone()),
            (Data::Unknown(Type::Object(object)), Data::String(name)) => match object.attributes.get(name) {
                Some(t) => Value::unknown(t.clone()),
                None => {
                    let d = Diagnostic::error(SUMMARY)
                        .detail(format!("This object has no attribute with the key \"{name}\"."));
                    self.missing(d, name, object.attributes.keys().map(|k| &**k), span, whole)
                }
            },
            (_, Data::String(name)) => match value.get(name) {
                Some(found) => found.clone(),
                None => {
                    let what = if matches!(value.data(), Data::Map(..)) { "map" } else { "object" };
                    let d = Diagnostic::error(SUMMARY)
                        .detail(format!("This {what} has no element with the key \"{name}\"."));
                    let names = value.as_map().into_iter().flat_map(|m| m.keys().map(|k| &**k));
                    self.missing(d, name, names, span, whole)
                }
            },
            (data, Data::Number(number)) => {
                let position = number.to_usize();
                let (found, len) = match data {
                    // How long it is shows later.
                    Data::Unknown(Type::List(t)) => (Some(Value::unknown((**t).clone())), None),
                    Data::Unknown(Type::Tuple(types)) => {
                        (position.and_then(|i| types.get(i)).cloned().map(Value::unknown), Some(types.len()))
                    }
                    _ => {
                        let items = value.as_slice().unwrap_or_default();
                        (position.and_then(|i| items.get(i)).cloned(), Some(items.len()))
                    }
                };
                found.unwrap_or_else(|| {
                    let why = if number.signum() < 0 {
                        "a negative number is not a valid index".to_owned()
                    } else if !number.is_integer() {
                        "an index is a whole number".to_owned()
                    } else {
                        match len {
                            Some(0) => "it is empty".to_owned(),
                            Some(len) => format!("its last index is {}", len - 1),
                            None => "there is none".to_owned(),
                        }
                    };
                    let what = value.ty().friendly_name();
                    self.error(span, SUMMARY, format!("This {what} has no element {number}: {why}."), whole)
                })
            }
            _ => Value::unknown(Type::Dynamic),
        }
    }

    fn splat(&mut self, value: Value, steps: &[Step], span: Span, whole: &Expr) -> Value {
        if let Some(items) = value.as_slice() {
            let (mut results, mut size) = (Vec::with_capacity(items.len()), 0);
            for item in items {
                if !self.step(span) {
                    return Value::unknown(Type::Dynamic);
                }
                let result = self.steps(item.clone(), steps, whole).with_marks_of(&value);
                size += result.size();
                if size > Value::MAX_SIZE {
                    return self.too_large(span);
                }
                results.push(result);
            }
            let result = if matches!(value.data(), Data::Tuple(_)) {
                Value::tuple(results)
            } else {
                self.list_of(results, &value, steps, whole)
            };
            return self.bounded(result, span).with_marks_of(&value);
        }
        let ty = value.ty();
        let is_sequence = matches!(ty, Type::List(_) | Type::Set(_) | Type::Tuple(_));
        let result = match value.data() {
            Data::Null(_) if is_sequence => {
                let detail = "The value is null: there are no elements that * could stand for.";
                self.error(span, "Splat of null value", detail, whole)
            }
            Data::Null(_) => Value::tuple([]),
            Data::Unknown(_) => match &ty {
                Type::List(element) | Type::Set(element) => {
                    let each = self.steps(Value::unknown((**element).clone()), steps, whole);
                    Value::unknown(Type::list(each.ty()))
                }
                Type::Tuple(types) => {
                    let each = types.iter().map(|t| self.steps(Value::unknown(t.clone()), steps, whole).ty());
                    Value::unknown(Type::tuple(each.collect::<Vec<_>>()))
                }
                // It may turn out to be null, and then there is no element.
                _ => {
                    self.steps(value.clone(), steps, whole);
                    Value::unknown(Type::Dynamic)
                }
            },
            _ => {
                let each = self.steps(value.clone(), steps, whole);
                self.bounded(Value::tuple([each]), span)
            }
        };
        result.with_marks_of(&value)
    }

    /// A list of what came of the elements of a list or set.
    fn list_of(&mut self, results: Vec<Value>, from: &Value, steps: &[Step], whole: &Expr) -> Value {
        let Some(first) = results.first() else {
            let element = match from.data() {
                Data::List(t, _) | Data::Set(t, _) => t.clone(),
                _ => Type::Dynamic,
            };
            // The type is the one an element would have given.
            let element = self.steps(Value::unknown(element), steps, whole).ty();
            return Value::list(element, []);
        };
        let first = first.ty();
        if results.iter().all(|r| r.ty() == first) {
            return Value::list(first, results);
        }
        let types: Vec<Type> = results.iter().map(Value::ty).collect();
        let tuple = Value::tuple(results);
        match unify(&types).map(|t| convert(&tuple, &Type::list(t))) {
            Some(Ok(list)) => list,
            _ => tuple,
        }
    }
}
