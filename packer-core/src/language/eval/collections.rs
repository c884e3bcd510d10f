//! Tuples, objects and `for` expressions.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::super::syntax::{Expr, ForExpr, ObjectExpr, ObjectKey};
use super::{Evaluator, FOR_CONDITION, Scope, is_untyped_unknown};
use crate::diagnostic::{Diagnostic, Span};
use crate::value::{Data, Type, Value, convert, normalize};

impl Evaluator<'_> {
    pub(super) fn tuple(&mut self, items: &[Expr], span: Span) -> Value {
        let items: Vec<Value> = items.iter().map(|item| self.value(item)).collect();
        self.bounded(Value::tuple(items), span)
    }

    pub(super) fn object(&mut self, object: &ObjectExpr, span: Span) -> Value {
        // Sorted once at the end; of equal keys the last wins then.
        let mut entries: Vec<(Arc<str>, Value)> = Vec::with_capacity(object.items.len());
        let mut first_keys: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        let (mut known, mut sensitive) = (true, false);
        for item in &object.items {
            let key = match &item.key {
                ObjectKey::Name(name) if name.text.is_ascii() => Some(name.text.clone()),
                ObjectKey::Name(name) => Some(normalize(&name.text)),
                ObjectKey::Expr(key) => {
                    let value = self.value(key);
                    sensitive |= value.is_sensitive();
                    self.object_key(&value, key, object.distinct_keys)
                }
                ObjectKey::Ambiguous(key) => {
                    let detail = "This could be a reference or a name: a reference stands in parentheses, a name with a dot in quotes.";
                    self.error(key.span, "Ambiguous attribute key", detail, key);
                    None
                }
            };
            let value = self.value(&item.value);
            let Some(key) = key else {
                known = false;
                continue;
            };
            if object.distinct_keys {
                let span = item.key.span();
                if let Some(first) = first_keys.get(&key) {
                    let first = first.in_source(self.source);
                    self.diagnostics.push(
                        Diagnostic::error("Duplicate object attribute")
                            .detail(format!("There is an attribute \"{key}\" already, at {first}."))
                            .at(span.in_source(self.source))
                            .related("the first one", first),
                    );
                    continue;
                }
                first_keys.insert(key.clone(), span);
            }
            entries.push((key, value));
        }
        if !known {
            return Value::unknown(Type::Dynamic).sensitive_if(sensitive);
        }
        self.bounded(Value::object(entries), span).sensitive_if(sensitive)
    }

    /// A key as text; `None` where it is unknown or wrong.
    fn object_key(&mut self, value: &Value, key: &Expr, json: bool) -> Option<Arc<str>> {
        if value.is_null() {
            let summary = if json { "Invalid object key expression" } else { "Null value as key" };
            self.error(key.span, summary, "The key is null; null cannot be a key.", key);
            return None;
        }
        match convert(value, &Type::String) {
            Ok(text) => match text.data() {
                Data::String(text) => Some(text.clone()),
                _ => None,
            },
            Err(e) => {
                let summary = if json { "Invalid object key expression" } else { "Incorrect key type" };
                self.error(key.span, summary, format!("The key must be a string: {}.", e.about(value)), key);
                None
            }
        }
    }

    pub(super) fn for_expr(&mut self, expr: &ForExpr, whole: &Expr) -> Value {
        let collection = self.value(&expr.collection);
        let unknown = Value::unknown(Type::Dynamic).with_marks_of(&collection);
        if is_untyped_unknown(&collection) {
            return unknown;
        }
        let said = errors(self);
        let elements = self.elements(&collection, &expr.collection, "for expression");
        if errors(self) > said || !self.check_condition(expr) {
            return unknown;
        }
        let Some(elements) = elements else { return unknown };
        let mut result = ForResult { sensitive: collection.is_sensitive(), ..ForResult::default() };
        let said = errors(self);
        for (key, value) in elements {
            if !self.step(whole.span) {
                return unknown;
            }
            let scope = loop_scope(self.scope, expr.key_var.as_ref(), &expr.value_var, key, value);
            let mut inner = Evaluator {
                scope: &scope,
                source: self.source,
                diagnostics: &mut *self.diagnostics,
                fuel: self.fuel,
            };
            inner.for_element(expr, whole, &mut result);
            if result.size > Value::MAX_SIZE {
                return self.too_large(whole.span);
            }
            // What is wrong with one element is mostly wrong with all: once is enough.
            if errors(self) > said {
                return unknown;
            }
        }
        result.finish(self, expr, whole)
    }

    /// Key and value of each element of a collection; `None` where it is unknown or nothing to iterate over.
    pub(super) fn elements(
        &mut self,
        collection: &Value,
        expr: &Expr,
        place: &str,
    ) -> Option<Vec<(Value, Value)>> {
        if collection.is_null() {
            let detail = format!("The collection of this {place} is null.");
            self.error(expr.span, "Iteration over null value", detail, expr);
            return None;
        }
        if is_untyped_unknown(collection) {
            return None;
        }
        let elements = match collection.data() {
            Data::List(_, items) | Data::Tuple(items) => {
                let pair = |(i, v): (usize, &Value)| (Value::from(i as i64), v.clone());
                items.iter().enumerate().map(pair).collect::<Vec<_>>()
            }
            Data::Set(_, items) => items.iter().map(|v| (v.clone(), v.clone())).collect(),
            Data::Map(_, items) | Data::Object(items) => {
                items.iter().map(|(k, v)| (Value::string(k.clone()), v.clone())).collect()
            }
            Data::Unknown(Type::List(_) | Type::Set(_) | Type::Map(_) | Type::Tuple(_) | Type::Object(_)) => {
                return None;
            }
            _ => {
                let ty = collection.ty();
                let detail = format!("A {} cannot be the collection of a {place}.", ty.friendly_name());
                self.error(expr.span, "Iteration over non-iterable value", detail, expr);
                return None;
            }
        };
        if !collection.is_sensitive() {
            return Some(elements);
        }
        Some(elements.into_iter().map(|(k, v)| (k.sensitive(), v.sensitive())).collect())
    }

    /// Evaluates the `if` once with unknown elements: a mistake in it shows even where there is no element.
    fn check_condition(&mut self, expr: &ForExpr) -> bool {
        let Some(condition) = &expr.condition else { return true };
        let any = Value::unknown(Type::Dynamic);
        let scope = loop_scope(self.scope, expr.key_var.as_ref(), &expr.value_var, any.clone(), any);
        let said = errors(self);
        let mut inner = Evaluator {
            scope: &scope,
            source: self.source,
            diagnostics: &mut *self.diagnostics,
            fuel: self.fuel,
        };
        let value = inner.value(condition);
        if errors(self) == said {
            self.condition(&value, condition, &FOR_CONDITION);
        }
        errors(self) == said
    }

    fn for_element(&mut self, expr: &ForExpr, whole: &Expr, result: &mut ForResult) {
        if let Some(condition) = &expr.condition {
            let value = self.value(condition);
            result.sensitive |= value.is_sensitive();
            match self.condition(&value, condition, &FOR_CONDITION) {
                Some(true) => {}
                Some(false) => return,
                None => {
                    result.unknown = true;
                    return;
                }
            }
        }
        let Some(key_expr) = &expr.key else {
            let value = self.value(&expr.value);
            result.size += value.size();
            result.values.push(value);
            return;
        };
        let key = self.value(key_expr);
        result.sensitive |= key.is_sensitive();
        let text = self.for_key(&key, key_expr);
        let value = self.value(&expr.value);
        result.size += value.size();
        let Some(text) = text else {
            result.unknown = true;
            return;
        };
        if expr.group {
            result.groups.entry(text).or_default().push(value);
            return;
        }
        match result.entries.entry(text) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(entry) => {
                let detail = format!(
                    "Two elements give the key \"{}\". With ... behind the value, the values of one key are collected in a tuple.",
                    entry.key()
                );
                self.error(key_expr.span, "Duplicate object key", detail, whole);
            }
        }
    }

    fn for_key(&mut self, key: &Value, expr: &Expr) -> Option<Arc<str>> {
        const SUMMARY: &str = "Invalid object key";
        if key.is_null() {
            self.error(expr.span, SUMMARY, "The key is null; null cannot be a key.", expr);
            return None;
        }
        if !key.is_known() {
            return None;
        }
        match convert(key, &Type::String) {
            Ok(text) => match text.data() {
                Data::String(text) => Some(text.clone()),
                _ => None,
            },
            Err(e) => {
                self.error(expr.span, SUMMARY, format!("The key must be a string: {}.", e.about(key)), expr);
                None
            }
        }
    }
}

/// What a `for` expression has gathered.
#[derive(Default)]
struct ForResult {
    values: Vec<Value>,
    entries: BTreeMap<Arc<str>, Value>,
    groups: BTreeMap<Arc<str>, Vec<Value>>,
    unknown: bool,
    sensitive: bool,
    /// Of all values.
    size: usize,
}

impl ForResult {
    fn finish(self, evaluator: &mut Evaluator<'_>, expr: &ForExpr, whole: &Expr) -> Value {
        let value = if self.unknown {
            Value::unknown(Type::Dynamic)
        } else if expr.key.is_none() {
            Value::tuple(self.values)
        } else if expr.group {
            Value::object(self.groups.into_iter().map(|(k, v)| (k, Value::tuple(v))))
        } else {
            Value::object(self.entries)
        };
        evaluator.bounded(value, whole.span).sensitive_if(self.sensitive)
    }
}

/// The scope of one element.
pub(super) fn loop_scope(
    outer: &Scope,
    key_var: Option<&super::super::syntax::Name>,
    value_var: &super::super::syntax::Name,
    key: Value,
    value: Value,
) -> Scope {
    let key = key_var.map(|name| (name.text.clone(), key));
    outer.with_variables(key.into_iter().chain([(value_var.text.clone(), value)]))
}

fn errors(evaluator: &Evaluator<'_>) -> usize {
    evaluator.diagnostics.len()
}
