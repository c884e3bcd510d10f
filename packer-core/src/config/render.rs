//! Renders the `{{ … }}` in the texts of a configuration.

use super::schema::{Field, FieldKind, Schema};
use crate::language::go_template::{Interpolation, TemplateError};
use crate::value::{Data, Value};

/// The value with all its texts rendered, names in maps included; what is rendered later is only parsed. `None` after
/// a complaint.
pub(super) fn field(
    name: &str,
    field: &Field,
    value: &Value,
    interpolation: &Interpolation,
    complain: &mut dyn FnMut(String),
) -> Option<Value> {
    let mut renderer = Renderer { name, interpolation, complain, sensitive: false, failed: false };
    let rendered = renderer.field(field, value);
    (!renderer.failed).then_some(rendered)
}

struct Renderer<'a> {
    name: &'a str,
    interpolation: &'a Interpolation,
    complain: &'a mut dyn FnMut(String),
    /// The text at hand is a secret: no message may hold it.
    sensitive: bool,
    failed: bool,
}

impl Renderer<'_> {
    fn field(&mut self, field: &Field, value: &Value) -> Value {
        match (&field.kind, value.data()) {
            (FieldKind::Block(schema), _) => self.block(schema, value),
            (FieldKind::Blocks(schema), Data::Tuple(items)) => {
                Value::tuple(items.iter().map(|item| self.block(schema, item))).with_marks_of(value)
            }
            _ => self.value(value, field.late),
        }
    }

    fn block(&mut self, schema: &Schema, value: &Value) -> Value {
        let Some(values) = value.as_map() else { return self.value(value, false) };
        let rendered = values.iter().map(|(name, value)| match schema.fields.get(name) {
            Some(field) => (name.clone(), self.field(field, value)),
            None => (name.clone(), self.value(value, false)),
        });
        Value::object(rendered).with_marks_of(value)
    }

    fn value(&mut self, value: &Value, late: bool) -> Value {
        let rendered = match value.data() {
            Data::String(text) if text.contains("{{") => {
                let sensitive = std::mem::replace(&mut self.sensitive, value.is_sensitive());
                let text = self.text(text, late);
                self.sensitive = sensitive;
                Value::string(text)
            }
            Data::List(ty, items) => Value::list(ty.clone(), items.iter().map(|v| self.value(v, late))),
            Data::Set(ty, items) => Value::set(ty.clone(), items.iter().map(|v| self.value(v, late))),
            Data::Tuple(items) => Value::tuple(items.iter().map(|v| self.value(v, late))),
            Data::Map(ty, items) => {
                Value::map(ty.clone(), items.iter().map(|(k, v)| (self.text(k, late), self.value(v, late))))
            }
            Data::Object(items) => {
                Value::object(items.iter().map(|(k, v)| (self.text(k, late), self.value(v, late))))
            }
            _ => return value.clone(),
        };
        rendered.with_marks_of(value)
    }

    fn text(&mut self, text: &str, late: bool) -> String {
        if !text.contains("{{") {
            return text.to_owned();
        }
        let checked = self.interpolation.check(text).map_err(|e| ("invalid", e));
        let rendered = checked.and_then(|()| {
            if late {
                Ok(text.to_owned())
            } else {
                self.interpolation.render(text).map_err(|e| ("render", e))
            }
        });
        rendered.unwrap_or_else(|(what, e): (&str, TemplateError)| {
            self.failed = true;
            (self.complain)(match self.sensitive {
                true => format!(
                    "{what} '{}': the (sensitive) text is no template that can be rendered",
                    self.name
                ),
                false => format!("{what} '{}': {e} in:\n\n{text}", self.name),
            });
            String::new()
        })
    }
}
