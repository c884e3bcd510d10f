//! Types of values, and how they are named in messages and written in templates.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::quote;

/// The type of a value; cheap to clone.
///
/// `Display` writes the type as templates do: `list(string)`, `object({name=string})`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// Not known yet, or (as a type asked for) anything: `any`.
    Dynamic,
    /// Text.
    String,
    /// A [`Number`](super::Number).
    Number,
    /// `true` or `false`.
    Bool,
    /// Elements of one type, in order.
    List(Arc<Self>),
    /// Distinct elements of one type, sorted.
    Set(Arc<Self>),
    /// Elements of one type under string keys.
    Map(Arc<Self>),
    /// A fixed number of elements, each with its type.
    Tuple(Arc<[Self]>),
    /// Named attributes, each with its type.
    Object(Arc<ObjectType>),
}

/// The attributes of an object type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ObjectType {
    /// Name and type of each attribute.
    pub attributes: BTreeMap<Arc<str>, Type>,
    /// The attributes that a value converted to this type may lack; it then has a null there.
    pub optional: BTreeSet<Arc<str>>,
}

impl Type {
    /// `list(element)`.
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    /// `set(element)`.
    pub fn set(element: Self) -> Self {
        Self::Set(Arc::new(element))
    }

    /// `map(element)`.
    pub fn map(element: Self) -> Self {
        Self::Map(Arc::new(element))
    }

    /// `tuple([…])`.
    pub fn tuple(elements: impl IntoIterator<Item = Self>) -> Self {
        Self::Tuple(elements.into_iter().collect())
    }

    /// `object({…})`, every attribute required.
    pub fn object<K: Into<Arc<str>>>(attributes: impl IntoIterator<Item = (K, Self)>) -> Self {
        let attributes = super::entries(attributes.into_iter().map(|(k, t)| (k.into(), t)).collect());
        Self::Object(Arc::new(ObjectType { attributes, optional: BTreeSet::new() }))
    }

    /// Whether it is a string, a number or a bool.
    pub fn is_primitive(&self) -> bool {
        matches!(self, Self::String | Self::Number | Self::Bool)
    }

    /// The element type of a list, set or map.
    pub fn element(&self) -> Option<&Self> {
        match self {
            Self::List(t) | Self::Set(t) | Self::Map(t) => Some(t),
            _ => None,
        }
    }

    /// Whether `any` occurs anywhere in it.
    pub fn has_dynamic(&self) -> bool {
        match self {
            Self::Dynamic => true,
            Self::String | Self::Number | Self::Bool => false,
            Self::List(t) | Self::Set(t) | Self::Map(t) => t.has_dynamic(),
            Self::Tuple(elements) => elements.iter().any(Self::has_dynamic),
            Self::Object(o) => o.attributes.values().any(Self::has_dynamic),
        }
    }

    /// The type with every attribute required: what a value of it has.
    #[must_use]
    pub fn without_optional(&self) -> Self {
        match self {
            Self::Dynamic | Self::String | Self::Number | Self::Bool => self.clone(),
            Self::List(t) => Self::list(t.without_optional()),
            Self::Set(t) => Self::set(t.without_optional()),
            Self::Map(t) => Self::map(t.without_optional()),
            Self::Tuple(elements) => Self::tuple(elements.iter().map(Self::without_optional)),
            Self::Object(o) => {
                Self::object(o.attributes.iter().map(|(k, t)| (k.clone(), t.without_optional())))
            }
        }
    }

    /// The name for messages: `list of string`, `object`, `dynamic`.
    pub fn friendly_name(&self) -> String {
        self.name(false)
    }

    /// The name of a type that is asked for: as [`friendly_name`](Self::friendly_name), but `any` says
    /// `any type` and its collections `list of any single type`.
    pub fn friendly_name_wanted(&self) -> String {
        self.name(true)
    }

    fn name(&self, wanted: bool) -> String {
        let of = |kind: &str, t: &Self| match t {
            Self::Dynamic if wanted => format!("{kind} of any single type"),
            t => format!("{kind} of {}", t.name(wanted)),
        };
        match self {
            Self::Dynamic if wanted => "any type".to_owned(),
            Self::Dynamic => "dynamic".to_owned(),
            Self::String => "string".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::List(t) => of("list", t),
            Self::Set(t) => of("set", t),
            Self::Map(t) => of("map", t),
            Self::Tuple(_) => "tuple".to_owned(),
            Self::Object(_) => "object".to_owned(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamic => f.write_str("any"),
            Self::String => f.write_str("string"),
            Self::Number => f.write_str("number"),
            Self::Bool => f.write_str("bool"),
            Self::List(t) => write!(f, "list({t})"),
            Self::Set(t) => write!(f, "set({t})"),
            Self::Map(t) => write!(f, "map({t})"),
            Self::Tuple(elements) => {
                f.write_str("tuple([")?;
                for (i, t) in elements.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    write!(f, "{t}")?;
                }
                f.write_str("])")
            }
            Self::Object(o) => {
                f.write_str("object({")?;
                for (i, (name, t)) in o.attributes.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    if quote::is_identifier(name) {
                        f.write_str(name)?;
                    } else {
                        f.write_str(&quote::quote(name))?;
                    }
                    if o.optional.contains(name) {
                        write!(f, "=optional({t})")?;
                    } else {
                        write!(f, "={t}")?;
                    }
                }
                f.write_str("})")
            }
        }
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let t = Type::list(Type::map(Type::String));
        assert_eq!(t.friendly_name(), "list of map of string");
        assert_eq!(Type::set(Type::Dynamic).friendly_name_wanted(), "set of any single type");
        let o = Type::object([("b", Type::Bool), ("a c", Type::tuple([Type::Number, Type::Dynamic]))]);
        assert_eq!(o.to_string(), r#"object({"a c"=tuple([number, any]), b=bool})"#);
        assert_eq!(o.friendly_name(), "object");
    }
}
