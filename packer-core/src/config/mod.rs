//! From the block of a component to the struct that is the component.
//!
//! ```text
//! body of a block ─┐ names, types, unknowns      ┌ {{ … }} rendered        ┌ text, numbers, lists made to fit
//!                  ├──────────────── Config ─────┴─ overrides laid over it ─┴── Value ─── serde ── component
//! JSON object ─────┘
//! ```
//!
//! A component is a struct with `Deserialize` and `JsonSchema`. Its [`Schema`] knows every name before serde sees the
//! value, so that options which components share (a communicator's) can be a struct of their own with
//! `#[serde(flatten)]`: what serde forgets there, unknown names and places, was checked by then.
//!
//! ```
//! use packer_core::config::{self, Config, GoTemplate, Schema};
//! use packer_core::language::go_template::Interpolation;
//! use packer_core::{Diagnostics, Value};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Firecracker {
//!     /// The kernel to boot.
//!     kernel: String,
//!     #[serde(default)]
//!     vcpus: u8,
//!     /// Rendered when the machine starts, with `{{.Socket}}`.
//!     #[serde(default)]
//!     command: GoTemplate,
//! }
//!
//! let schema = Schema::of::<Firecracker>();
//! let block = Value::from(serde_json::json!({
//!     "kernel": "{{ upper `vmlinux` }}", "vcpus": "2", "command": "fc {{.Socket}}",
//! }));
//! let mut found = Diagnostics::new();
//! let config = Config::from_json(&schema, &block, &mut found).ok_or(found.clone())?;
//! let value = config.finish(&schema, None, &Interpolation::default(), &mut found).ok_or(found)?;
//! let firecracker: Firecracker = config::from_value(&value)?;
//! assert_eq!((firecracker.kernel.as_str(), firecracker.vcpus), ("VMLINUX", 2));
//! assert_eq!(firecracker.command.as_str(), "fc {{.Socket}}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod body;
mod deserialize;
mod fit;
mod json;
mod merge;
mod render;
mod schema;
mod secret;
mod serialize;
mod types;
mod unknown;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use body::Part;
pub use deserialize::from_value;
pub use schema::{Field, FieldKind, Kind, Schema};
pub use serialize::to_value;
pub use types::{GoTemplate, OneOrMany};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::language::go_template::Interpolation;
use crate::value::Value;

/// What a block says, field by field, before its `{{ … }}` is rendered.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The values by name; what is null or was not given is not here.
    values: BTreeMap<Arc<str>, Value>,
    /// Where each was given.
    places: BTreeMap<Arc<str>, Location>,
    /// Whether a fraction where a whole number is asked is an error, as in HCL; else it is cut off.
    exact: bool,
}

impl Config {
    /// Reads bodies that together are the configuration: the body of a `source` and what a build adds to it.
    ///
    /// Gives `None` where there are errors. An unknown value stays unknown here. Values of fields that the schema declares
    /// secret are marked sensitive; they, and what else is sensitive, are registered with the secrets that the scope's
    /// functions have, also where there are errors.
    pub fn from_bodies(schema: &Schema, parts: &[Part<'_>], diagnostics: &mut Diagnostics) -> Option<Self> {
        body::read(schema, parts, diagnostics)
    }

    /// Reads an object of a legacy JSON template. Names may be written in any case; `type` and `packer_…` are left
    /// to whoever calls. Values of fields that the schema declares secret are marked sensitive; [`Schema::register`] tells
    /// the secrets of the run of them.
    pub fn from_json(schema: &Schema, object: &Value, diagnostics: &mut Diagnostics) -> Option<Self> {
        json::read(schema, object, true, &|_| None, diagnostics)
    }

    /// The same, where it is known where the items of the object stand: `place` gives that for the name of an item, with
    /// the names of the blocks around it before it, parted by dots.
    pub fn from_json_at(
        schema: &Schema,
        object: &Value,
        place: &dyn Fn(&str) -> Option<Location>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        json::read(schema, object, true, place, diagnostics)
    }

    /// Reads an object that is laid over a configuration: it may lack what is required. `place` is as in
    /// [`from_json_at`](Self::from_json_at).
    pub fn overriding(
        schema: &Schema,
        object: &Value,
        place: &dyn Fn(&str) -> Option<Location>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        json::read(schema, object, false, place, diagnostics)
    }

    /// What a name was given as; `None` where it is null or was not given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Whether all is known: nothing in it waits for the build to run.
    pub fn is_known(&self) -> bool {
        self.values.values().all(Value::is_wholly_known)
    }

    /// Gives the whole as one object that [`from_value`] makes a component of: unknown values replaced by placeholders
    /// (`<unknown>`, 0, false, nothing), texts rendered, `overrides` laid over it (maps by key, lists by position),
    /// and everything made to fit its field. What is sensitive in it is registered with the secrets of `interpolation`.
    ///
    /// Errors have no place of their own: Packer shows them at the block, and so does whoever calls. The argument is
    /// a related place.
    pub fn finish(
        &self,
        schema: &Schema,
        overrides: Option<&Value>,
        interpolation: &Interpolation,
        diagnostics: &mut Diagnostics,
    ) -> Option<Value> {
        let overrides = match overrides {
            Some(object) => Self::overriding(schema, object, &|_| None, diagnostics)?,
            None => Self::default(),
        };
        self.finish_over(schema, &overrides, interpolation, diagnostics)
    }

    /// [`finish`](Self::finish) with overrides that have been read.
    pub fn finish_over(
        &self,
        schema: &Schema,
        overrides: &Self,
        interpolation: &Interpolation,
        diagnostics: &mut Diagnostics,
    ) -> Option<Value> {
        let before = diagnostics.len();
        let base = self.fitted(schema, interpolation, diagnostics);
        let over = overrides.fitted(schema, interpolation, diagnostics);
        let finished = merge::over(&Value::object(base), &Value::object(over));
        secret::register_all(schema, &finished, &interpolation.secrets);
        (diagnostics.len() == before).then_some(finished)
    }

    fn fitted(
        &self,
        schema: &Schema,
        interpolation: &Interpolation,
        diagnostics: &mut Diagnostics,
    ) -> BTreeMap<Arc<str>, Value> {
        let mut fitted = BTreeMap::new();
        for (name, value) in &self.values {
            let Some(field) = schema.fields.get(name) else { continue };
            let before = diagnostics.len();
            let mut complain = |message: String| {
                let mut d = Diagnostic::error(message);
                if let Some(place) = self.places.get(name) {
                    d = d.related("set here", place.clone());
                }
                diagnostics.push(d);
            };
            let value = render::field(name, field, &unknown::filled(value), interpolation, &mut complain);
            let Some(value) = value else { continue };
            if self.exact && fit::is_fraction(field, &value) {
                complain(format!(
                    "value must be a whole number, between {} and {}: [{{{{}} {name}}}]",
                    i64::MIN,
                    i64::MAX
                ));
                continue;
            }
            let value = fit::field(name, field, &value, &mut complain);
            if diagnostics.len() == before && !value.is_null() {
                fitted.insert(name.clone(), value);
            }
        }
        fitted
    }
}

#[cfg(test)]
mod tests;
