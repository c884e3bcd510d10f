//! Reads the body of a block by the component's schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Config;
use super::schema::{Field, FieldKind, Schema};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::template::eval::{Expanded, ExpandedBlock, Scope};
use crate::template::syntax::{Attribute, Body, BodySchema};
use crate::value::{Type, Value, convert};

/// A body and the names that its expressions may use.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The body.
    pub body: &'a Body,
    /// Its scope.
    pub scope: &'a Scope,
    /// Whether it stands for a number of blocks that is not known yet: every argument in it is unknown.
    pub unknown: bool,
}

pub(super) fn read(schema: &Schema, parts: &[Part<'_>], diagnostics: &mut Diagnostics) -> Option<Config> {
    let before = errors(diagnostics);
    let body_schema = body_schema(schema, parts.len() == 1);
    let mut config = Config::default();
    let mut blocks: BTreeMap<Arc<str>, Vec<ExpandedBlock>> = BTreeMap::new();
    for part in parts {
        let Expanded { attributes, blocks: found, .. } =
            part.body.expand(&body_schema, part.scope, diagnostics);
        for attribute in attributes {
            read_attribute(schema, part, &attribute, &mut config, diagnostics);
        }
        for block in found {
            let Some((name, _)) = schema.field(&block.block.kind.text) else { continue };
            let block = ExpandedBlock { unknown: block.unknown || part.unknown, ..block };
            blocks.entry(name.clone()).or_default().push(block);
        }
    }
    for (name, blocks) in blocks {
        read_blocks(schema, &name, &blocks, &mut config, diagnostics);
    }
    if let [.., last] = parts
        && parts.len() > 1
    {
        let place = last.body.span().in_source(last.body.source());
        for (name, field) in &schema.fields {
            if field.required && !config.places.contains_key(name) {
                diagnostics.push(missing(name, place.clone()));
            }
        }
    }
    config.values.retain(|_, value| !value.is_null());
    (errors(diagnostics) == before).then_some(config)
}

fn errors(diagnostics: &Diagnostics) -> usize {
    diagnostics.iter().filter(|d| d.is_error()).count()
}

fn body_schema(schema: &Schema, whole: bool) -> BodySchema {
    let mut result = BodySchema::new();
    for (name, field) in &schema.fields {
        for name in std::iter::once(&**name).chain(field.aliases.iter().map(String::as_str)) {
            let name = name.to_owned();
            result = match field.kind {
                FieldKind::Attribute(_) if whole && field.required && field.aliases.is_empty() => {
                    result.required(name)
                }
                FieldKind::Attribute(_) => result.optional(name),
                FieldKind::Block(_) | FieldKind::Blocks(_) => result.block(name, &[]),
            };
        }
    }
    result
}

fn read_attribute(
    schema: &Schema,
    part: &Part<'_>,
    attribute: &Attribute,
    config: &mut Config,
    diagnostics: &mut Diagnostics,
) {
    let Some((name, Field { kind: FieldKind::Attribute(kind), .. })) = schema.field(&attribute.name.text)
    else {
        return;
    };
    if let Some(first) = config.places.get(name) {
        diagnostics.push(
            Diagnostic::error("Duplicate argument")
                .detail(format!(
                    "The argument \"{name}\" is set already; a build can add arguments to those of a source, not \
                     replace them."
                ))
                .at(attribute.location())
                .related("set here", first.clone()),
        );
        return;
    }
    config.places.insert(name.clone(), attribute.location());
    // Evaluated even where the result is dropped: what is wrong with it is wrong in any case.
    let mut value = attribute.evaluate(part.scope, diagnostics);
    if part.unknown {
        value = Value::unknown(Type::Dynamic);
    }
    match convert(&value, &kind.ty()) {
        Ok(value) => drop(config.values.insert(name.clone(), value)),
        Err(e) => diagnostics.push(
            Diagnostic::error("Incorrect attribute value type")
                .detail(format!("Inappropriate value for attribute \"{name}\": {}.", e.about(&value)))
                .at(attribute.value_location()),
        ),
    }
}

fn read_blocks(
    schema: &Schema,
    name: &Arc<str>,
    blocks: &[ExpandedBlock],
    config: &mut Config,
    diagnostics: &mut Diagnostics,
) {
    let (Some(field), [first, others @ ..]) = (schema.fields.get(name), blocks) else { return };
    let inner = match &field.kind {
        FieldKind::Attribute(_) => return,
        FieldKind::Blocks(inner) => inner,
        FieldKind::Block(inner) => {
            for other in others {
                diagnostics.push(
                    Diagnostic::error(format!("Duplicate {name} block"))
                        .detail(format!("Only one \"{name}\" block is allowed."))
                        .at(other.block.location())
                        .related("the first one", first.block.location()),
                );
            }
            inner
        }
    };
    let objects: Vec<Value> = blocks
        .iter()
        .filter_map(|block| {
            let part = Part { body: &block.block.body, scope: &block.scope, unknown: block.unknown };
            let config = read(inner, &[part], diagnostics)?;
            Some(Value::object(config.values))
        })
        .collect();
    config.places.insert(name.clone(), first.block.location());
    let value = match &field.kind {
        FieldKind::Block(_) => objects.into_iter().next(),
        _ => Some(Value::tuple(objects)),
    };
    config.values.extend(value.map(|value| (name.clone(), value)));
}

fn missing(name: &str, place: Location) -> Diagnostic {
    Diagnostic::error("Missing required argument")
        .detail(format!("The argument \"{name}\" is required, but it is not set."))
        .at(place)
}
