//! The settings of a component as the body of a block: which are arguments, which are blocks, and how values are written.

use serde_json::Value;

use super::document::{Object, plain_number, sorted};
use super::text::{Place, References, escape, quoted};
use crate::config::{Field, FieldKind, Kind, Schema};
use crate::duration::GoDuration;
use crate::language::syntax::is_identifier;
use crate::value::Type;

/// Objects that are blocks although they hold nothing but constants.
const BLOCKS: [&str; 3] = ["linux_options", "network_interface", "shared_image_gallery"];

/// An argument that is written as it stands.
pub(super) type Raw = (&'static str, String);

/// Writes the inside of a block: its settings, and one argument more, in the order of their names.
///
/// Where one of the texts can only stay as it is, all of them do, and the reason is told as a note.
pub(super) fn write(
    config: &Object,
    raw: Option<Raw>,
    schema: Option<&Schema>,
    place: Place,
    references: &mut References,
) -> String {
    write_all(&[(config, schema)], raw.as_ref(), place, references).concat()
}

/// The same for blocks that are one as far as their texts go: those of all of them stay, or none.
pub(super) fn write_all(
    configs: &[(&Object, Option<&Schema>)],
    raw: Option<&Raw>,
    place: Place,
    references: &mut References,
) -> Vec<String> {
    let before = references.mark();
    let mut body = Body { place, references, keep: false, unhandled: None, out: String::new() };
    let write = |body: &mut Body<'_>| -> Vec<String> {
        let one = |(config, schema): &(&Object, Option<&Schema>)| {
            body.settings(config, raw.cloned(), *schema);
            std::mem::take(&mut body.out)
        };
        configs.iter().map(one).collect()
    };
    let converted = write(&mut body);
    let Some(unhandled) = body.unhandled.take() else { return converted };
    body.references.back_to(before);
    body.references.notes.push(format!("{unhandled}: the {{{{ … }}}} in this block stay as they are."));
    body.keep = true;
    write(&mut body)
}

/// A text on its own; what can only stay as it is does.
pub(super) fn text(text: &str, place: Place, references: &mut References) -> String {
    let inside = references.converted(text, place).unwrap_or_else(|unhandled| {
        references.notes.push(format!("{unhandled}: the {{{{ … }}}} in it stay as they are."));
        references.kept(text, place)
    });
    format!("\"{inside}\"")
}

struct Body<'a> {
    place: Place,
    references: &'a mut References,
    /// Texts stay as they are.
    keep: bool,
    /// Why the first text that cannot be converted cannot be.
    unhandled: Option<String>,
    out: String,
}

impl Body<'_> {
    /// It recurses no deeper than reading did.
    fn settings(&mut self, config: &Object, mut raw: Option<Raw>, schema: Option<&Schema>) {
        for (name, value) in sorted(config) {
            if let Some((name, value)) = raw.take_if(|(raw, _)| *raw < name.as_str()) {
                self.argument(name, &value);
            }
            let known = schema.and_then(|schema| schema.field_ignoring_case(name));
            let (name, field) = match known {
                Some((name, field)) => (&**name, Some(field)),
                None => (name.as_str(), None),
            };
            if !is_identifier(name) {
                self.references.notes.push(format!("{name:?} is left out: it is no name of an argument."));
                continue;
            }
            self.setting(name, value, field);
        }
        if let Some((name, value)) = raw {
            self.argument(name, &value);
        }
    }

    fn argument(&mut self, name: &str, value: &str) {
        self.out.push_str(&format!("{name} = {value}\n"));
    }

    fn setting(&mut self, name: &str, value: &Value, field: Option<&Field>) {
        let inner = match field.map(|field| &field.kind) {
            Some(FieldKind::Block(schema) | FieldKind::Blocks(schema)) => Some(schema),
            _ => None,
        };
        match value {
            Value::Array(items) if items.is_empty() && !differs_from_none(field) => {}
            // Neither true nor false, as in JSON.
            Value::String(text) if text.is_empty() && differs_from_none(field) && is_flag(field) => {}
            Value::Object(overrides)
                if name == "override" && self.place == Place::Provisioner && overrides.is_empty() => {}
            // Of a provisioner alone, and always an object of objects.
            Value::Object(overrides) if name == "override" && self.place == Place::Provisioner => {
                let value = self.overrides(overrides);
                self.argument(name, &value);
            }
            Value::Object(object) if is_block(name, object, field) => self.block(name, object, inner),
            Value::Array(items) if items.iter().all(Value::is_object) && !is_attribute(field) => {
                items.iter().filter_map(Value::as_object).for_each(|object| self.block(name, object, inner));
            }
            value => {
                let value = match field.map(|field| &field.kind) {
                    Some(FieldKind::Attribute(kind)) => self.fitted(value, kind),
                    _ => self.expression(value),
                };
                self.argument(name, &value);
            }
        }
    }

    fn overrides(&mut self, overrides: &Object) -> String {
        self.place = Place::Override;
        let mut out = "{\n".to_owned();
        for (name, settings) in sorted(overrides) {
            self.references.overridden.clone_from(name);
            let key = if is_identifier(name) { name.clone() } else { quoted(name) };
            out.push_str(&format!("{key} = {}\n", self.expression(settings)));
        }
        self.place = Place::Provisioner;
        out + "}"
    }

    fn block(&mut self, name: &str, object: &Object, schema: Option<&Schema>) {
        self.out.push_str(&format!("{name} {{\n"));
        self.settings(object, None, schema);
        self.out.push_str("}\n");
    }

    /// A value as the template language has to say it for what JSON made of it: there a text stood for a list, a bool
    /// for a text. What the template language takes for the same stays as it is.
    fn fitted(&mut self, value: &Value, kind: &Kind) -> String {
        match (kind, value) {
            (Kind::List(_), Value::String(text)) if text.is_empty() => "[]".into(),
            (Kind::List(element), Value::String(text)) if text.contains("{{") => {
                let text = self.text(text);
                let split = format!("split(\",\", {text})");
                if element.ty() == Type::String { split } else { format!("[for x in {split} : x]") }
            }
            (Kind::List(element), Value::String(text)) => {
                let items: Vec<String> =
                    text.split(',').map(|item| self.fitted(&Value::from(item), element)).collect();
                format!("[{}]", items.join(", "))
            }
            (Kind::List(element), Value::Bool(_) | Value::Number(_)) => {
                format!("[{}]", self.fitted(value, element))
            }
            (Kind::List(element), Value::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| self.fitted(item, element)).collect();
                format!("[{}]", items.join(", "))
            }
            (Kind::Plain(Type::String), Value::Bool(b)) => if *b { "\"1\"" } else { "\"0\"" }.into(),
            (Kind::Duration, Value::Number(nanos)) => {
                let nanos = nanos.as_i64().unwrap_or_else(|| nanos.as_f64().unwrap_or_default() as i64);
                format!("\"{}\"", GoDuration::from_nanos(nanos))
            }
            (Kind::Plain(Type::Number) | Kind::Integer { .. }, Value::String(text)) if text.is_empty() => {
                "0".into()
            }
            (Kind::Plain(Type::Bool), Value::String(text)) => match text.as_str() {
                "t" | "T" | "TRUE" | "True" => "true".into(),
                "" | "f" | "F" | "FALSE" | "False" => "false".into(),
                _ => self.text(text),
            },
            (Kind::Plain(Type::Bool), Value::Number(n)) => (n.as_f64() != Some(0.0)).to_string(),
            (Kind::Plain(Type::Number) | Kind::Integer { .. }, Value::Bool(b)) => u8::from(*b).to_string(),
            _ => self.expression(value),
        }
    }

    fn expression(&mut self, value: &Value) -> String {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.expression(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Object(object) if object.is_empty() => "{}".into(),
            Value::Object(object) => {
                let mut out = "{\n".to_owned();
                for (name, value) in sorted(object) {
                    let key = if is_identifier(name) { name.clone() } else { self.text(name) };
                    let value = self.expression(value);
                    out.push_str(&format!("{key} = {value}\n"));
                }
                out + "}"
            }
            Value::Number(number) => plain_number(number),
            Value::Bool(_) | Value::Null => value.to_string(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let inside = if self.keep {
            self.references.kept(text, self.place)
        } else {
            self.references.converted(text, self.place).unwrap_or_else(|unhandled| {
                self.unhandled.get_or_insert(unhandled);
                String::new()
            })
        };
        format!("\"{inside}\"")
    }
}

/// Whether an argument that is empty is another thing than one that is not given.
fn differs_from_none(field: Option<&Field>) -> bool {
    is_attribute(field) && field.is_some_and(|field| field.optional)
}

fn is_flag(field: Option<&Field>) -> bool {
    matches!(field.map(|field| &field.kind), Some(FieldKind::Attribute(Kind::Plain(Type::Bool))))
}

fn is_attribute(field: Option<&Field>) -> bool {
    matches!(field.map(|field| &field.kind), Some(FieldKind::Attribute(_)))
}

/// Whether an object is a block. Where the component is not known it is one as soon as it holds something that is no
/// constant: maps hold constants.
fn is_block(name: &str, object: &Object, field: Option<&Field>) -> bool {
    match field.map(|field| &field.kind) {
        Some(FieldKind::Attribute(_)) => false,
        Some(FieldKind::Block(_) | FieldKind::Blocks(_)) => true,
        None => {
            let is_constant = |v: &Value| matches!(v, Value::String(_) | Value::Number(_) | Value::Bool(_));
            object.is_empty() || BLOCKS.contains(&name) || !object.values().all(is_constant)
        }
    }
}

/// The head of a block.
pub(super) fn head(kind: &str, labels: &[&str]) -> String {
    let labels: String = labels.iter().map(|label| format!("\"{}\" ", escape(label))).collect();
    format!("{kind} {labels}{{\n")
}
