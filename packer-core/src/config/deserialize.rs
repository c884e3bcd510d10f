//! Hands values to serde.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::value::{Data, Value};

/// Makes a component of its configuration.
///
/// Values are taken as they are: whatever a template may leave to the reader (texts for numbers and the like) is done
/// by [`Config::finish`](super::Config::finish) before.
///
/// # Errors
/// Where the configuration does not fit the struct: `error decoding 'NAME': …`. No error holds a sensitive value.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    if value.is_too_deep() {
        return Err("the configuration is nested too deeply".into());
    }
    T::deserialize(In(value)).map_err(|e| e.to_string())
}

/// A value being read.
#[derive(Clone, Copy)]
struct In<'a>(&'a Value);

#[derive(Debug)]
struct Error {
    /// Names on the way to the value, innermost first.
    path: Vec<String>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "error decoding '{}': ", path.join("."))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: Vec::new(), message: message.to_string() }
    }
}

impl In<'_> {
    /// Messages of serde quote the value: not where it is a secret.
    fn discreet<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        if !self.0.is_sensitive() {
            return result;
        }
        result.map_err(|e| Error { message: "the (sensitive) value does not fit".into(), ..e })
    }
}

impl<'de> IntoDeserializer<'de, Error> for In<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> de::Deserializer<'de> for In<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self.0.data() {
            Data::Unknown(_) => Err(de::Error::custom("the value is not known yet")),
            Data::Null(_) => visitor.visit_unit(),
            Data::Bool(b) => visitor.visit_bool(*b),
            Data::Number(n) => match (n.to_i64(), n.to_u64()) {
                (Some(n), _) => visitor.visit_i64(n),
                (_, Some(n)) => visitor.visit_u64(n),
                _ => visitor.visit_f64(n.to_f64()),
            },
            Data::String(text) => visitor.visit_borrowed_str(text),
            Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(In)))
            }
            Data::Map(_, entries) | Data::Object(entries) => {
                visitor.visit_map(Entries { rest: entries.iter(), value: None })
            }
        };
        self.discreet(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let result = match self.0.data() {
            Data::String(text) => {
                let text: StrDeserializer<'_, Error> = (&**text).into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            Data::Map(_, entries) | Data::Object(entries) => {
                let entries = entries.iter().map(|(name, value)| (&**name, In(value)));
                let map = MapDeserializer::new(entries);
                visitor.visit_enum(de::value::MapAccessDeserializer::new(map))
            }
            _ => Err(de::Error::custom(format!("one of {} is wanted", variants.join(", ")))),
        };
        self.discreet(result)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'a> {
    rest: std::collections::btree_map::Iter<'a, std::sync::Arc<str>, Value>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(de::value::BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (name, value) =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its name"))?;
        seed.deserialize(In(value)).map_err(|mut e: Error| {
            e.path.push(name.to_owned());
            e
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}
