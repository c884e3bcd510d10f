//! Rust values as values of the language.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Number, Type, Value};

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::string(text)
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::string(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::bool(value)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::number(number)
    }
}

macro_rules! from_integers {
    ($($t:ty)*) => {$(
        impl From<$t> for Value {
            fn from(value: $t) -> Self {
                Self::number(value)
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

/// A number; null for NaN, which the language does not have.
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Number::from_f64(value).map_or_else(|| Self::null(Type::Number), Self::number)
    }
}

/// A tuple, which converts to a list or set where one is asked for.
impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::tuple(values.into_iter().map(Into::into))
    }
}

/// An object, which converts to a map where one is asked for.
impl<K: Into<Arc<str>>, T: Into<Self>> From<BTreeMap<K, T>> for Value {
    fn from(values: BTreeMap<K, T>) -> Self {
        Self::object(values.into_iter().map(|(k, v)| (k, v.into())))
    }
}

/// The value, or a null without a type.
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| Self::null(Type::Dynamic), Into::into)
    }
}

/// Data of the host: objects, tuples and primitives; text is normalized as [`Value::text`] does.
impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::null(Type::Dynamic),
            serde_json::Value::Bool(b) => Self::bool(*b),
            // Every number of JSON is a number of the language.
            serde_json::Value::Number(n) => {
                n.to_string().parse::<Number>().map_or_else(|_| Self::null(Type::Number), Self::number)
            }
            serde_json::Value::String(s) => Self::text(s),
            serde_json::Value::Array(values) => Self::tuple(values.iter().map(Self::from)),
            serde_json::Value::Object(values) => {
                Self::object(values.iter().map(|(k, v)| (super::normalize(k), Self::from(v))))
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::from(&json)
    }
}
