//! Where the arguments of a component stand: from the path that a finding names to the place in the template.

use std::sync::Arc;

use super::component::PartBody;
use super::overrides::{Override, item};
use crate::config::{FieldKind, Schema};
use crate::diagnostic::{Diagnostics, Location, Part, parts};
use crate::language::eval::{ExpandedBlock, Scope};
use crate::language::syntax::{Attribute, Body, BodySchema, Expr, ExprKind};
use crate::pipeline::Places;

/// The places of a component that is made of these bodies.
pub(super) fn of_bodies(schema: &Arc<Schema>, bodies: &[PartBody], scope: &Scope) -> Places {
    let (schema, bodies, scope) = (schema.clone(), bodies.to_vec(), scope.clone());
    Arc::new(move |path| {
        let bodies: Vec<(Body, Scope)> = bodies
            .iter()
            .map(|part| (part.body.clone(), scope.with_variables(part.iterators.clone())))
            .collect();
        find(&schema, bodies, &parts(path).collect::<Vec<_>>())
    })
}

/// The places of a component with something laid over it, and otherwise where they were.
pub(super) fn laid_over(over: Override, schema: &Arc<Schema>, places: Places) -> Places {
    let schema = schema.clone();
    Arc::new(move |path| match over.place_of(&schema, path) {
        Some((place, true)) => Some(place),
        // The item is one of those that the override leaves as they are.
        Some((place, false)) => places(path).or(Some(place)),
        None => places(path),
    })
}

/// The deepest place on a path that can be found.
fn find(schema: &Schema, mut bodies: Vec<(Body, Scope)>, path: &[Part<'_>]) -> Option<Location> {
    let (mut schema, mut path) = (schema, path);
    let mut found = None;
    while let [Part::Name(name), rest @ ..] = path {
        let Some((name, field)) = schema.field(name) else { break };
        let names: Vec<&str> =
            std::iter::once(&**name).chain(field.aliases.iter().map(String::as_str)).collect();
        let inner = match &field.kind {
            FieldKind::Attribute(_) => {
                let attribute = bodies.iter().find_map(|(body, _)| attribute(body, &names));
                return attribute.map(|a| in_attribute(&a, rest)).or(found);
            }
            FieldKind::Block(inner) | FieldKind::Blocks(inner) => inner,
        };
        let blocks = bodies.iter().flat_map(|(body, scope)| blocks(body, scope, &names));
        let (index, rest) = match rest {
            [Part::Index(index), rest @ ..] => (*index, rest),
            rest => (0, rest),
        };
        let Some(ExpandedBlock { block, scope, .. }) = blocks.into_iter().nth(index) else { break };
        found = Some(block.location());
        bodies = vec![(block.body, scope)];
        (schema, path) = (inner, rest);
    }
    found
}

/// What else is in a body was looked at when the component was made.
fn attribute(body: &Body, names: &[&str]) -> Option<Attribute> {
    let schema = names.iter().fold(BodySchema::new(), |schema, name| schema.optional((*name).to_owned()));
    let (content, _) = body.partial_content(&schema, &mut Diagnostics::new());
    content.attributes.into_iter().next()
}

fn blocks(body: &Body, scope: &Scope, names: &[&str]) -> Vec<ExpandedBlock> {
    let schema = names.iter().fold(BodySchema::new(), |schema, name| schema.block((*name).to_owned(), &[]));
    body.expand_partial(&schema, scope, &mut Diagnostics::new()).0.blocks
}

/// Follows a path into a value as far as it is written out.
fn in_attribute(attribute: &Attribute, path: &[Part<'_>]) -> Location {
    let mut expr: &Expr = &attribute.expr;
    let mut place = None;
    for part in path {
        let inner = match (&expr.without_parentheses().kind, part) {
            (ExprKind::Tuple(items), Part::Index(index)) => items.get(*index).map(|item| (item.span, item)),
            (ExprKind::Object(object), Part::Name(name)) => item(object, |key| key == *name),
            _ => None,
        };
        let Some((span, value)) = inner else { break };
        (place, expr) = (Some(span), value);
    }
    place.map_or_else(|| attribute.location(), |span| span.in_source(&attribute.source))
}
