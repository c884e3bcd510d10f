//! From the body of a block to the component it configures.

use std::sync::Arc;

use super::overrides::Override;
use crate::config::{Config, Part, Schema};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, did_you_mean};
use crate::language::eval::Scope;
use crate::language::go_template::Interpolation;
use crate::language::syntax::Body;
use crate::pipeline::Decoded;
use crate::registry::ComponentType;
use crate::value::Value;

/// The part of a block's body that a component reads.
#[derive(Debug, Clone)]
pub(super) struct PartBody {
    pub(super) body: Body,
    /// Iterators of the dynamic block that made it.
    pub(super) iterators: Vec<(Arc<str>, Value)>,
    /// Whether it stands for a number of blocks that is not known: everything in it is unknown.
    pub(super) unknown: bool,
}

/// What is said of a component type that nobody registered.
pub(super) fn unknown<'a>(summary: String, kind: &str, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let d = Diagnostic::error(summary);
    let known: Vec<&str> = known.collect();
    if let Some(meant) = did_you_mean(kind, known.iter().copied()) {
        return d.detail("Nothing of this type is built in here.").suggest(meant);
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    d.detail(format!("Nothing of this type is built in here. There is: {known}."))
}

/// Makes a component of one or several bodies, which together are its configuration. `overrides` are laid over it.
///
/// Findings without a place of their own get `place`; those about an override too, as Packer shows them.
pub(super) fn decode<T: ?Sized>(
    kind: &ComponentType<T>,
    parts: &[PartBody],
    overrides: Option<&Override>,
    scope: &Scope,
    interpolation: &Interpolation,
    place: &Location,
    diagnostics: &mut Diagnostics,
) -> Option<Decoded<T>> {
    let scopes: Vec<Scope> = parts.iter().map(|part| scope.with_variables(part.iterators.clone())).collect();
    let parts: Vec<Part<'_>> = parts
        .iter()
        .zip(&scopes)
        .map(|(part, scope)| Part { body: &part.body, scope, unknown: part.unknown })
        .collect();
    let mut found = Diagnostics::new();
    let value = Config::from_bodies(&kind.schema, &parts, &mut found).and_then(|config| {
        let over = match overrides {
            Some(over) => overriding(&kind.schema, over, &mut found)?,
            None => Config::default(),
        };
        config.finish_over(&kind.schema, &over, interpolation, &mut found)
    });
    let decoded = value.and_then(|value| match kind.decode(&value) {
        Ok(component) => Some(Decoded { component, config: Some(value) }),
        Err(e) => {
            found.push(Diagnostic::error(e));
            None
        }
    });
    diagnostics.append(found.or_at(place));
    decoded
}

fn overriding(schema: &Schema, over: &Override, diagnostics: &mut Diagnostics) -> Option<Config> {
    let place = |path: &str| over.place_of(schema, path).map(|(place, _)| place);
    let mut found = Diagnostics::new();
    let config = Config::overriding(schema, &over.value, &place, &mut found);
    diagnostics.extend(found.into_iter().map(|mut finding| match finding.location.take() {
        Some(place) => finding.related("set here", place),
        None => finding,
    }));
    config
}
