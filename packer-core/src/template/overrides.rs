//! What a template lays over a component for one source of its build, and where its arguments stand.

use std::sync::Arc;

use crate::config::{FieldKind, Schema};
use crate::diagnostic::{Location, Part, Span, parts};
use crate::language::syntax::{Attribute, Expr, ExprKind, ObjectExpr, ObjectKey};
use crate::value::Value;

/// The part of `override = { SOURCE = { … } }` that is for one source.
#[derive(Debug, Clone)]
pub(super) struct Override {
    /// All of it, for all sources.
    pub(super) attribute: Attribute,
    /// What the build calls the source.
    pub(super) source: Arc<str>,
    /// What is laid over for this one.
    pub(super) value: Value,
}

impl Override {
    /// The deepest place on a path that is written out, and whether the path may lead no further than that: what
    /// is not written out there, a variable say, may hold all the rest. `None` where the argument is not in it.
    pub(super) fn place_of(&self, schema: &Schema, path: &str) -> Option<(Location, bool)> {
        let path: Vec<Part<'_>> = parts(path).collect();
        let Some(Part::Name(argument)) = path.first() else { return None };
        self.value.as_map()?.keys().find(|key| same(Some(schema), key, argument))?;
        let whole = Some((self.attribute.location(), true));
        let ExprKind::Object(sources) = &self.attribute.expr.without_parentheses().kind else { return whole };
        let Some((mut span, mut expr)) = item(sources, |key| key == &*self.source) else { return whole };
        let (mut schema, mut rest, mut is_there) = (Some(schema), path.as_slice(), true);
        while let [part, behind @ ..] = rest {
            let inner = match (&expr.without_parentheses().kind, part) {
                (ExprKind::Object(object), Part::Name(name)) => item(object, |key| same(schema, key, name)),
                // One object may stand for a list of them, and a list of one for that.
                (ExprKind::Object(_), Part::Index(0)) => Some((span, expr)),
                (ExprKind::Tuple(items), Part::Name(_)) if !items.is_empty() => {
                    expr = &items[0];
                    continue;
                }
                (ExprKind::Tuple(items), Part::Index(index)) => {
                    items.get(*index).map(|item| (item.span, item))
                }
                (ExprKind::Object(_) | ExprKind::Tuple(_), _) => None,
                _ => break,
            };
            let Some(inner) = inner else {
                // The argument itself is there, under a name that is made when it is evaluated.
                is_there = rest.len() == path.len();
                break;
            };
            if let Part::Name(name) = part {
                schema = schema.and_then(|schema| match &schema.field(name)?.1.kind {
                    FieldKind::Block(inner) | FieldKind::Blocks(inner) => Some(inner),
                    FieldKind::Attribute(_) => None,
                });
            }
            ((span, expr), rest) = (inner, behind);
        }
        Some((span.in_source(&self.attribute.source), is_there))
    }
}

/// Whether a key of an override, which may be written in any case, means an argument.
fn same(schema: Option<&Schema>, key: &str, argument: &str) -> bool {
    let known = |name| schema.and_then(|schema| schema.field_ignoring_case(name)).map(|(name, _)| name);
    key == argument || known(key).is_some_and(|name| known(argument) == Some(name))
}

/// The last item of an object whose key, as it is written, is the one wanted; from its key on.
pub(super) fn item(object: &ObjectExpr, wanted: impl Fn(&str) -> bool) -> Option<(Span, &Expr)> {
    let is = |key: &ObjectKey| match key {
        ObjectKey::Name(key) => wanted(key.as_str()),
        ObjectKey::Expr(key) => key.as_literal_str().is_some_and(&wanted),
        ObjectKey::Ambiguous(_) => false,
    };
    let item = object.items.iter().rev().find(|item| is(&item.key))?;
    Some((item.key.span().to(item.value.span), &item.value))
}
