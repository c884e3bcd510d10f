//! The values that a Go template computes with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::value::Value;

/// A value inside a Go template. Containers are shared: a clone is cheap.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Data {
    /// No value: prints `<no value>`, is false, and any field of it is nil again.
    #[default]
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A byte of a text.
    Byte(u8),
    /// A number with a fraction.
    Float(f64),
    /// A complex number: its real and its imaginary part.
    Complex(f64, f64),
    /// A text.
    String(Arc<str>),
    /// Values in order.
    List(Arc<[Self]>),
    /// Values by name; ranged over in the order of the names.
    Map(Arc<BTreeMap<Arc<str>, Self>>),
}

impl Data {
    /// A text.
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// A map of its entries; a later entry replaces an earlier one of the same name.
    pub fn map<K: Into<Arc<str>>, V: Into<Self>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(Arc::new(crate::value::entries(
            entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        )))
    }

    /// A list of its items.
    pub fn list<V: Into<Self>>(items: impl IntoIterator<Item = V>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// What `if` takes it for: nil, false, zero and everything empty are false.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Byte(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
            Self::String(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }

    /// The text, where it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// A whole number of either kind.
    pub(super) fn whole(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Byte(n) => Some((*n).into()),
            _ => None,
        }
    }

    /// The name of its type as messages and `%T` show it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Byte(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::String(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }
}

/// The text that an action prints, except that [`Data::Nil`] inside a container is `<nil>`.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            other => f.write_str(&super::printf::print(other)),
        }
    }
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Arc<str>> for Data {
    fn from(text: Arc<str>) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Data {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Data {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<u16> for Data {
    fn from(n: u16) -> Self {
        Self::Int(n.into())
    }
}

impl From<f64> for Data {
    fn from(n: f64) -> Self {
        Self::Float(n)
    }
}

impl<T: Into<Self>> From<Option<T>> for Data {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

/// Unknown is nil; a number is whole where it has no fraction and fits 64 bits, else a float. Marks are lost: whoever
/// inserts a secret registers it.
impl From<&Value> for Data {
    fn from(value: &Value) -> Self {
        use crate::value::Data as Inner;
        if value.is_too_deep() {
            return Self::Nil;
        }
        match value.data() {
            Inner::Bool(b) => Self::Bool(*b),
            Inner::Number(n) => n.to_i64().map_or_else(|| Self::Float(n.to_f64()), Self::Int),
            Inner::String(text) => Self::String(text.clone()),
            Inner::List(_, items) | Inner::Set(_, items) | Inner::Tuple(items) => Self::list(items.iter()),
            Inner::Map(_, entries) | Inner::Object(entries) => {
                Self::map(entries.iter().map(|(k, v)| (k.clone(), v)))
            }
            Inner::Unknown(_) | Inner::Null(_) => Self::Nil,
        }
    }
}

/// Whole numbers stay whole; what does not fit 64 bits becomes a float.
impl From<&serde_json::Value> for Data {
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Nil,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => {
                n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::INFINITY)), Self::Int)
            }
            Value::String(s) => Self::string(s.as_str()),
            Value::Array(items) => Self::list(items),
            Value::Object(entries) => Self::map(entries.iter().map(|(k, v)| (k.as_str(), v))),
        }
    }
}
