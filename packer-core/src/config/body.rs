//! Reads the body of a block by the component's schema.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Config;
use super::schema::{Field, FieldKind, Schema};
use super::secret;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::eval::{Expanded, ExpandedBlock, Scope};
use crate::language::syntax::{Attribute, Body, Expected};
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
    let expected = Fields { schema, whole: parts.len() == 1 };
    let mut config = Config { exact: true, ..Config::default() };
    let mut blocks: BTreeMap<Arc<str>, Vec<ExpandedBlock>> = BTreeMap::new();
    for part in parts {
        let Expanded { attributes, blocks: found, .. } =
            part.body.expand_of(&expected, part.scope, diagnostics);
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
    if errors(diagnostics) > before {
        for part in parts {
            if let Some(secrets) = part.scope.secrets() {
                secret::register_misnamed(schema, part.body, part.scope, secrets);
            }
        }
    }
    config.values.retain(|_, value| !value.is_null());
    (errors(diagnostics) == before).then_some(config)
}

fn errors(diagnostics: &Diagnostics) -> usize {
    diagnostics.iter().filter(|d| d.is_error()).count()
}

/// The fields of a schema, as what a body may hold.
struct Fields<'s> {
    schema: &'s Schema,
    /// Whether the body is all there is: then what is required must be in it.
    whole: bool,
}

impl Fields<'_> {
    fn is_needed(&self, field: &Field) -> bool {
        self.whole && field.required && field.aliases.is_empty()
    }

    fn names(&self, are_attributes: bool) -> impl Iterator<Item = (&str, &Field)> {
        let fields = self.schema.fields.iter();
        let fields = fields.filter(move |(_, f)| matches!(f.kind, FieldKind::Attribute(_)) == are_attributes);
        fields.flat_map(|(name, f)| {
            let aliases = f.aliases.iter().map(String::as_str);
            std::iter::once(&**name).chain(aliases).map(move |name| (name, f))
        })
    }
}

impl Expected for Fields<'_> {
    fn attribute(&self, name: &str) -> Option<bool> {
        let (_, field) = self.schema.field(name)?;
        matches!(field.kind, FieldKind::Attribute(_)).then_some(self.is_needed(field))
    }

    fn block(&self, kind: &str) -> Option<&[Cow<'static, str>]> {
        let (_, field) = self.schema.field(kind)?;
        (!matches!(field.kind, FieldKind::Attribute(_))).then_some(&[])
    }

    fn attributes(&self) -> Box<dyn Iterator<Item = (&str, bool)> + '_> {
        Box::new(self.names(true).map(|(name, f)| (name, self.is_needed(f))))
    }

    fn blocks(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.names(false).map(|(name, _)| name))
    }
}

fn read_attribute(
    schema: &Schema,
    part: &Part<'_>,
    attribute: &Attribute,
    config: &mut Config,
    diagnostics: &mut Diagnostics,
) {
    let Some((name, field)) = schema.field(&attribute.name.text) else { return };
    let FieldKind::Attribute(kind) = &field.kind else { return };
    let value_of = |diagnostics: &mut Diagnostics| {
        let value = secret::marked(field, attribute.evaluate(part.scope, diagnostics));
        if let Some(secrets) = part.scope.secrets() {
            secret::register(field, &value, secrets);
        }
        value
    };
    if let Some(first) = config.places.get(name) {
        // What is said of it shows the line.
        value_of(&mut Diagnostics::new());
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
    let mut value = value_of(diagnostics);
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
    let value = value.map(|value| secret::marked(field, value));
    // What is in it was registered with it, but for what only the whole declares.
    if let (true, Some(secrets), Some(value)) = (field.secret, first.scope.secrets(), &value) {
        secret::register(field, value, secrets);
    }
    config.values.extend(value.map(|value| (name.clone(), value)));
}

fn missing(name: &str, place: Location) -> Diagnostic {
    Diagnostic::error("Missing required argument")
        .detail(format!("The argument \"{name}\" is required, but it is not set."))
        .at(place)
}
