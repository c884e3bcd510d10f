//! Types written as expressions: `list(object({a = optional(string, "x")}))`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::syntax::{Call, Expr, ExprKind, ObjectItem, ObjectKey, parse_json_string};
use super::{Scope, evaluate};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span};
use crate::value::{Data, ObjectType, Type, Value, convert};

/// Where a type is written, which decides what `optional` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeUse {
    /// The `type` of a variable: attributes may be optional and have defaults.
    Variable,
    /// `convert(x, TYPE)`: `optional(T)` reads as `T`, and there are no defaults.
    Conversion,
}

/// A type together with the defaults of its optional attributes.
#[derive(Debug, Clone)]
pub struct TypeConstraint {
    /// The type.
    pub ty: Type,
    defaults: Option<Defaults>,
}

/// What is missing in a value of this shape.
#[derive(Debug, Clone)]
enum Defaults {
    /// Of every element of a list, set or map.
    Elements(Box<Self>),
    /// Of each element of a tuple.
    Tuple(Vec<Option<Self>>),
    /// Of the attributes of an object: the default itself, and what is missing inside the attribute.
    Object(BTreeMap<Arc<str>, (Option<Value>, Option<Self>)>),
}

impl TypeConstraint {
    /// A type without optional attributes.
    pub fn of(ty: Type) -> Self {
        Self { ty, defaults: None }
    }

    /// The value with the defaults of optional attributes, which it lacks or has as null, filled in. The result is
    /// ready to be converted to the type. Null and unknown values stay as they are.
    pub fn with_defaults(&self, value: &Value) -> Value {
        self.defaults.as_ref().map_or_else(|| value.clone(), |d| d.apply(value))
    }
}

impl Defaults {
    fn apply(&self, value: &Value) -> Value {
        let filled = match (self, value.data()) {
            (Self::Elements(inner), Data::List(..) | Data::Set(..) | Data::Tuple(_)) => {
                Value::tuple(value.children().map(|v| inner.apply(v)))
            }
            (Self::Elements(inner), Data::Map(_, m) | Data::Object(m)) => {
                Value::object(m.iter().map(|(k, v)| (k.clone(), inner.apply(v))))
            }
            (Self::Tuple(inner), Data::Tuple(items)) => {
                let inner = inner.iter().chain(std::iter::repeat(&None));
                Value::tuple(items.iter().zip(inner).map(|(v, d)| match d {
                    Some(d) => d.apply(v),
                    None => v.clone(),
                }))
            }
            (Self::Object(attributes), Data::Map(_, m) | Data::Object(m)) => {
                let mut m = (**m).clone();
                for (name, (default, inner)) in attributes {
                    let present = m.get(name).filter(|v| default.is_none() || !v.is_null());
                    let Some(v) = present.or(default.as_ref()) else { continue };
                    let v = inner.as_ref().map_or_else(|| v.clone(), |d| d.apply(v));
                    m.insert(name.clone(), v);
                }
                Value::object(m)
            }
            _ => value.clone(),
        };
        filled.with_marks_of(value)
    }
}

/// Reads a type; `None` after a complaint.
pub fn parse_type(
    expr: &Expr,
    source: &Arc<SourceFile>,
    used: TypeUse,
    diagnostics: &mut Diagnostics,
) -> Option<TypeConstraint> {
    if let ExprKind::JsonString(string) = &expr.kind {
        let (inner, problems) = parse_json_string(source, string, expr.span);
        let failed = problems.has_errors();
        diagnostics.append(problems);
        return if failed { None } else { parse_type(&inner, source, used, diagnostics) };
    }
    let mut reader = Reader { source, used, diagnostics };
    let (ty, defaults) = reader.ty(expr)?;
    Some(TypeConstraint { ty, defaults })
}

struct Reader<'a> {
    source: &'a Arc<SourceFile>,
    used: TypeUse,
    diagnostics: &'a mut Diagnostics,
}

type Typed = (Type, Option<Defaults>);

impl Reader<'_> {
    fn refuse<T>(&mut self, span: Span, detail: impl Into<String>) -> Option<T> {
        let d = Diagnostic::error("Invalid type specification").detail(detail);
        self.diagnostics.push(d.at(span.in_source(self.source)));
        None
    }

    fn ty(&mut self, expr: &Expr) -> Option<Typed> {
        match &expr.kind {
            ExprKind::Variable(name) => {
                let detail = match &**name {
                    "string" => return Some((Type::String, None)),
                    "number" => return Some((Type::Number, None)),
                    "bool" => return Some((Type::Bool, None)),
                    "any" => return Some((Type::Dynamic, None)),
                    "list" | "set" | "map" => {
                        format!("The type of the elements is missing: {name}(string), for example.")
                    }
                    "object" => {
                        "The attributes are missing: object({name = string}), for example.".to_owned()
                    }
                    "tuple" => "The types of the elements are missing: tuple([string, bool]), for example."
                        .to_owned(),
                    "optional" => {
                        "Only an attribute of an object type can be optional: object({a = optional(string)})."
                            .to_owned()
                    }
                    _ => format!(
                        "\"{name}\" is no type. Types are string, number, bool, any, list(…), set(…), map(…), object({{…}}) and tuple([…])."
                    ),
                };
                self.refuse(expr.span, detail)
            }
            ExprKind::Call(call) => self.constructor(expr, call),
            ExprKind::Literal(value) if value.as_str().is_some() => {
                let text = value.as_str().unwrap_or_default();
                self.refuse(expr.span, format!("A type is written without quotes: {text}."))
            }
            _ => self.refuse(
                expr.span,
                "A type is one of the words string, number, bool and any, or something like list(string).",
            ),
        }
    }

    fn constructor(&mut self, expr: &Expr, call: &Call) -> Option<Typed> {
        let name = &*call.name.text;
        match name {
            "string" | "number" | "bool" | "any" => {
                return self.refuse(expr.span, format!("The type {name} takes no arguments."));
            }
            "optional" => {
                return self.refuse(expr.span, "Only an attribute of an object type can be optional.");
            }
            "list" | "set" | "map" | "object" | "tuple" => {}
            _ => {
                let detail =
                    format!("\"{name}\" makes no type; list, set, map, object, tuple and optional do.");
                return self.refuse(call.name.span, detail);
            }
        }
        let ([argument], false) = (&call.arguments[..], call.expand_last) else {
            return self.refuse(expr.span, format!("{name} takes one argument, which says what is in it."));
        };
        match name {
            "object" => self.object(argument),
            "tuple" => self.tuple(argument),
            _ => {
                let (element, defaults) = self.ty(argument)?;
                let ty = match name {
                    "list" => Type::list(element),
                    "set" => Type::set(element),
                    _ => Type::map(element),
                };
                Some((ty, defaults.map(|d| Defaults::Elements(Box::new(d)))))
            }
        }
    }

    fn tuple(&mut self, argument: &Expr) -> Option<Typed> {
        let ExprKind::Tuple(items) = &argument.kind else {
            return self.refuse(
                argument.span,
                "tuple takes the types of its elements in brackets: tuple([string, bool]).",
            );
        };
        let typed: Vec<Option<Typed>> = items.iter().map(|item| self.ty(item)).collect();
        let (types, defaults): (Vec<Type>, Vec<_>) =
            typed.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
        let some = defaults.iter().any(Option::is_some);
        Some((Type::tuple(types), some.then_some(Defaults::Tuple(defaults))))
    }

    fn object(&mut self, argument: &Expr) -> Option<Typed> {
        let ExprKind::Object(object) = &argument.kind else {
            return self
                .refuse(argument.span, "object takes its attributes in braces: object({name = string}).");
        };
        let mut ty = ObjectType { attributes: BTreeMap::new(), optional: BTreeSet::new() };
        let mut defaults = BTreeMap::new();
        let mut good = true;
        for item in &object.items {
            good &= self.attribute(item, &mut ty, &mut defaults).is_some();
        }
        let defaults = (!defaults.is_empty()).then_some(Defaults::Object(defaults));
        good.then(|| (Type::Object(Arc::new(ty)), defaults))
    }

    fn attribute(
        &mut self,
        item: &ObjectItem,
        object: &mut ObjectType,
        all_defaults: &mut BTreeMap<Arc<str>, (Option<Value>, Option<Defaults>)>,
    ) -> Option<()> {
        let name = match &item.key {
            ObjectKey::Name(name) => name.text.clone(),
            ObjectKey::Expr(key) if key.as_literal_str().is_some() => {
                key.as_literal_str().unwrap_or_default().into()
            }
            key => return self.refuse(key.span(), "The name of an attribute must stand here."),
        };
        if object.attributes.contains_key(&name) {
            return self.refuse(item.key.span(), format!("There is an attribute \"{name}\" already."));
        }
        let (ty, default, defaults, optional) = match &item.value.kind {
            ExprKind::Call(call) if &*call.name.text == "optional" => self.optional(&item.value, call)?,
            _ => {
                let (ty, defaults) = self.ty(&item.value)?;
                (ty, None, defaults, false)
            }
        };
        if default.is_some() || defaults.is_some() {
            all_defaults.insert(name.clone(), (default, defaults));
        }
        if optional && self.used == TypeUse::Variable {
            object.optional.insert(name.clone());
        }
        object.attributes.insert(name, ty);
        Some(())
    }

    /// `optional(T)` or `optional(T, default)`.
    fn optional(
        &mut self,
        expr: &Expr,
        call: &Call,
    ) -> Option<(Type, Option<Value>, Option<Defaults>, bool)> {
        let most = if self.used == TypeUse::Variable { 2 } else { 1 };
        let (ty, default) = match &call.arguments[..] {
            [ty] => (ty, None),
            [ty, default] if most == 2 => (ty, Some(default)),
            _ if most == 1 => {
                return self.refuse(expr.span, "Here optional takes only the type of the attribute.");
            }
            _ => {
                return self.refuse(
                    expr.span,
                    "optional takes the type of the attribute and, if wanted, its default.",
                );
            }
        };
        let (ty, defaults) = self.ty(ty)?;
        let Some(default_expr) = default else { return Some((ty, None, defaults, true)) };
        let said = self.diagnostics.len();
        let value = evaluate(default_expr, &Scope::constant(), self.source, self.diagnostics);
        if self.diagnostics.len() > said {
            return None;
        }
        let value = defaults.as_ref().map_or_else(|| value.clone(), |d| d.apply(&value));
        match convert(&value, &ty) {
            Ok(value) => Some((ty, Some(value), defaults, true)),
            Err(e) => {
                let d = Diagnostic::error("Invalid default value for optional attribute")
                    .detail(format!("The default does not fit the type of the attribute: {e}."));
                self.diagnostics.push(d.at(default_expr.span.in_source(self.source)));
                None
            }
        }
    }
}
