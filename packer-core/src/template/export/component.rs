//! The configuration of a component as arguments and blocks.

use hcl::{Attribute, Block, Expression, Structure};

use super::text::Writer;
use crate::config::{FieldKind, Schema};
use crate::language::syntax::is_identifier;
use crate::value::{Data, Number, Value};

/// `name = value`. The name is one of ours, or was checked.
pub(super) fn attribute(name: &str, value: Expression) -> Structure {
    Attribute::new(hcl::Identifier::sanitized(name), value).into()
}

/// `kind "label" { … }`.
pub(super) fn block(kind: &str, labels: &[&str], body: Vec<Structure>) -> Structure {
    let mut block = Block::builder(hcl::Identifier::sanitized(kind));
    for label in labels {
        block = block.add_label(hcl::BlockLabel::String((*label).to_owned()));
    }
    block.add_structures(body).build().into()
}

impl Writer<'_> {
    /// The fields of an object, by the schema: arguments first. `stem` begins the names of the variables for secrets.
    pub(super) fn fields(&mut self, schema: &Schema, value: &Value, who: &str, stem: &str) -> Vec<Structure> {
        let (mut arguments, mut blocks) = (Vec::new(), Vec::new());
        for (name, given) in value.as_map().into_iter().flatten() {
            let who = format!("the argument {name:?} of {who}");
            let stem = format!("{stem}_{name}");
            let field = match schema.field(name) {
                Some((_, field)) if is_identifier(name) => field,
                _ => {
                    self.refuse(&who, "the component tells it but does not read it");
                    continue;
                }
            };
            // A secret object is written as an object of secrets.
            let given = given.clone().with_marks_of(value);
            match &field.kind {
                _ if given.is_null() => {}
                FieldKind::Attribute(_) => {
                    let value = self.value(&given, field.late, &who, &stem);
                    arguments.push(attribute(name, value));
                }
                FieldKind::Block(inner) => {
                    let body = self.fields(inner, &given, &who, &stem);
                    blocks.push(block(name, &[], body));
                }
                FieldKind::Blocks(inner) => {
                    for item in given.as_slice().unwrap_or_default() {
                        let item = item.clone().with_marks_of(&given);
                        let body = self.fields(inner, &item, &who, &stem);
                        blocks.push(block(name, &[], body));
                    }
                }
            }
        }
        arguments.append(&mut blocks);
        arguments
    }

    /// A value as an expression.
    fn value(&mut self, value: &Value, late: bool, who: &str, stem: &str) -> Expression {
        let secret = value.is_sensitive();
        match value.data() {
            Data::Unknown(_) => {
                self.refuse(who, "its value is not known yet");
                Expression::Null
            }
            Data::Null(_) => Expression::Null,
            Data::Bool(_) | Data::Number(_) if secret => self.secret(value, stem),
            Data::Bool(on) => (*on).into(),
            Data::Number(number) => self.number(number, who),
            Data::String(text) if secret => self.secret_text(text, late, who, stem),
            Data::String(text) if late => self.late_text(text, who, stem),
            Data::String(text) => self.text(text, who, stem),
            Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => {
                let item = |item: &Value| self.value(&item.clone().with_marks_of(value), late, who, stem);
                items.iter().map(item).collect::<Vec<_>>().into()
            }
            Data::Map(_, entries) | Data::Object(entries) => {
                let mut object = hcl::expr::Object::new();
                for (name, given) in entries.iter() {
                    self.check_name(name, who);
                    let given = given.clone().with_marks_of(value);
                    let given = self.value(&given, late, who, &format!("{stem}_{name}"));
                    // Names in maps are rendered as values are.
                    let key = if late { self.late_text(name, who, stem) } else { self.text(name, who, stem) };
                    object.insert(hcl::ObjectKey::Expression(key), given);
                }
                Expression::Object(object)
            }
        }
    }

    fn number(&mut self, number: &Number, who: &str) -> Expression {
        if let Some(whole) = number.to_i64() {
            return whole.into();
        }
        if let Some(whole) = number.to_u64() {
            return whole.into();
        }
        match hcl::Number::from_f64(number.to_f64()) {
            Some(number) => Expression::Number(number),
            None => {
                self.refuse(who, "a template cannot write an infinite number");
                Expression::Null
            }
        }
    }
}
