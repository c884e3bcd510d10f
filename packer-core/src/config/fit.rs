//! Makes values fit their fields the way Packer's components decode: a text that is a number for a number, one
//! value for a list, a text with commas for a list, and the like.

use std::sync::Arc;

use super::schema::{Field, FieldKind, Kind, Schema};
use crate::duration::GoDuration;
use crate::value::{Data, Number, Type, Value, convert};

/// The value as its field wants it. Each mistake in it is told; the result is only good without any.
pub(super) fn field(name: &str, field: &Field, value: &Value, complain: &mut dyn FnMut(String)) -> Value {
    Fitter { complain }.field(name, field, value)
}

/// Whether a number is given that is not the whole one that a field asks for.
pub(super) fn is_fraction(field: &Field, value: &Value) -> bool {
    let whole = matches!(&field.kind, FieldKind::Attribute(Kind::Integer { .. }));
    whole && matches!(value.data(), Data::Number(number) if number.trunc() != *number)
}

struct Fitter<'a> {
    complain: &'a mut dyn FnMut(String),
}

impl Fitter<'_> {
    fn field(&mut self, path: &str, field: &Field, value: &Value) -> Value {
        let fitted = match &field.kind {
            FieldKind::Attribute(_) if field.optional && value.as_str() == Some("") && !is_text(field) => {
                Value::null(Type::Dynamic)
            }
            FieldKind::Attribute(kind) => self.value(path, kind, value),
            FieldKind::Block(schema) => self.block(path, schema, value),
            FieldKind::Blocks(schema) => {
                let blocks = value.as_slice().unwrap_or(std::slice::from_ref(value)).iter().enumerate();
                let blocks: Vec<Value> =
                    blocks.map(|(i, block)| self.block(&format!("{path}[{i}]"), schema, block)).collect();
                Value::tuple(blocks)
            }
        };
        fitted.with_marks_of(value)
    }

    fn block(&mut self, path: &str, schema: &Schema, value: &Value) -> Value {
        let Some(values) = value.as_map() else {
            self.unfit(path, "a block", value);
            return value.clone();
        };
        let fitted: Vec<(Arc<str>, Value)> = values
            .iter()
            .filter(|(_, value)| !value.is_null())
            .filter_map(|(name, value)| {
                let field = schema.fields.get(name)?;
                Some((name.clone(), self.field(&format!("{path}.{name}"), field, value)))
            })
            .filter(|(_, value)| !value.is_null())
            .collect();
        Value::object(fitted)
    }

    fn value(&mut self, path: &str, kind: &Kind, value: &Value) -> Value {
        let fitted = match kind {
            _ if value.is_null() => {
                self.tell(path, "null value is not allowed");
                return value.clone();
            }
            Kind::Plain(Type::String) => self.text(path, value),
            Kind::Plain(Type::Bool) => self.flag(path, value),
            Kind::Plain(Type::Number) => self.number(path, value),
            Kind::Plain(Type::Dynamic) => return value.clone(),
            Kind::Plain(ty) => match convert(value, ty) {
                Ok(value) => value,
                Err(e) => {
                    self.tell(path, &e.to_string());
                    return value.clone();
                }
            },
            Kind::Integer { min, max } => self.integer(path, *min, *max, value),
            Kind::Duration => self.duration(path, value),
            Kind::List(element) => self.list(path, element, value),
            Kind::Map(element) => self.map(path, element, value),
        };
        fitted.with_marks_of(value)
    }

    fn text(&mut self, path: &str, value: &Value) -> Value {
        match value.data() {
            Data::String(_) => value.clone(),
            // A bool of a JSON template; HCL has made it a text before.
            Data::Bool(b) => Value::from(if *b { "1" } else { "0" }),
            Data::Number(n) => Value::from(n.to_string()),
            _ => {
                self.unfit(path, "a text", value);
                value.clone()
            }
        }
    }

    fn flag(&mut self, path: &str, value: &Value) -> Value {
        match value.data() {
            Data::Bool(_) => value.clone(),
            Data::Number(n) => Value::bool(!n.is_zero()),
            Data::String(text) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::bool(true),
                "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::bool(false),
                other => {
                    self.tell(path, &format!("{} is neither true nor false", shown(value, other)));
                    value.clone()
                }
            },
            _ => {
                self.unfit(path, "true or false", value);
                value.clone()
            }
        }
    }

    fn number(&mut self, path: &str, value: &Value) -> Value {
        match value.data() {
            Data::Number(_) => value.clone(),
            Data::Bool(b) => Value::from(i64::from(*b)),
            Data::String(text) if text.is_empty() => Value::from(0),
            Data::String(text) => match text.parse::<Number>() {
                Ok(number) => Value::number(number),
                Err(_) => {
                    self.tell(path, &format!("{} is no number", shown(value, text)));
                    value.clone()
                }
            },
            _ => {
                self.unfit(path, "a number", value);
                value.clone()
            }
        }
    }

    fn integer(&mut self, path: &str, min: i128, max: i128, value: &Value) -> Value {
        let number = match value.data() {
            // A fraction is cut off, as Go does.
            Data::Number(n) => n.trunc().to_bigint().and_then(|n| i128::try_from(n).ok()),
            Data::Bool(b) => Some(i128::from(*b)),
            Data::String(text) if text.is_empty() => Some(0),
            Data::String(text) => match crate::language::go_template::constants::integer(text) {
                Some(number) => Some(number),
                None => {
                    self.tell(path, &format!("{} is no whole number", shown(value, text)));
                    return value.clone();
                }
            },
            _ => {
                self.unfit(path, "a whole number", value);
                return value.clone();
            }
        };
        match number.filter(|n| (min..=max).contains(n)) {
            Some(n) => i64::try_from(n).map(Value::from).unwrap_or_else(|_| Value::from(n as u64)),
            None => {
                self.tell(path, &format!("the number must be between {min} and {max}"));
                value.clone()
            }
        }
    }

    fn duration(&mut self, path: &str, value: &Value) -> Value {
        match value.data() {
            Data::String(text) => {
                if let Err(message) = text.parse::<GoDuration>() {
                    let message =
                        if value.is_sensitive() { "the (sensitive) text is no duration" } else { &message };
                    self.tell(path, message);
                }
                value.clone()
            }
            Data::Number(n) => Value::from(n.trunc().to_i64().unwrap_or(i64::MAX)),
            _ => {
                self.unfit(path, "a duration", value);
                value.clone()
            }
        }
    }

    fn list(&mut self, path: &str, element: &Kind, value: &Value) -> Value {
        let items = match value.data() {
            Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => items.to_vec(),
            Data::String(text) if text.is_empty() => Vec::new(),
            Data::String(text) => text.split(',').map(Value::from).collect(),
            Data::Map(_, entries) | Data::Object(entries) if entries.is_empty() => Vec::new(),
            _ => vec![value.clone()],
        };
        let items =
            items.iter().enumerate().map(|(i, item)| self.value(&format!("{path}[{i}]"), element, item));
        Value::tuple(items)
    }

    fn map(&mut self, path: &str, element: &Kind, value: &Value) -> Value {
        let maps = match value.data() {
            Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => items.to_vec(),
            Data::String(text) if text.is_empty() => Vec::new(),
            _ => vec![value.clone()],
        };
        let mut fitted: Vec<(Arc<str>, Value)> = Vec::new();
        for map in &maps {
            let Some(entries) = map.as_map() else {
                self.unfit(path, "a map", value);
                return value.clone();
            };
            for (key, item) in entries {
                let item = self.value(&format!("{path}.{key}"), element, item).with_marks_of(map);
                fitted.push((key.clone(), item));
            }
        }
        Value::object(fitted)
    }

    fn unfit(&mut self, path: &str, wanted: &str, value: &Value) {
        self.tell(path, &format!("{wanted} is wanted, not a {}", value.ty().friendly_name()));
    }

    fn tell(&mut self, path: &str, message: &str) {
        (self.complain)(format!("error decoding '{path}': {message}"));
    }
}

/// The text in quotes, unless it is a secret.
fn shown(value: &Value, text: &str) -> String {
    if value.is_sensitive() { "the (sensitive) text".into() } else { format!("{text:?}") }
}

fn is_text(field: &Field) -> bool {
    matches!(&field.kind, FieldKind::Attribute(Kind::Plain(Type::String | Type::Dynamic)))
}
