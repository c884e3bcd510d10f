//! Values out to serde.

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::{Data, Number, Value};

/// The plain data: objects and maps as maps, lists, sets and tuples as sequences. Whole numbers that fit are
/// integers, others the nearest double. A sensitive value is written like any other: whoever serializes asks
/// [`Value::contains_sensitive`] first. An unknown value, or infinity in a format without it, is an error.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_too_deep() {
            return Err(S::Error::custom("the value is nested too deeply"));
        }
        match self.data() {
            Data::Unknown(_) => Err(S::Error::custom("the value is not known yet")),
            Data::Null(_) => serializer.serialize_none(),
            Data::Bool(b) => serializer.serialize_bool(*b),
            Data::Number(n) => n.serialize(serializer),
            Data::String(s) => serializer.serialize_str(s),
            Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => serializer.collect_seq(v.iter()),
            Data::Map(_, m) | Data::Object(m) => serializer.collect_map(m.iter().map(|(k, v)| (&**k, v))),
        }
    }
}

/// An integer where it is whole and fits 64 bits, else the nearest double.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(i) = self.to_i64() {
            return serializer.serialize_i64(i);
        }
        match self.to_u64() {
            Some(u) => serializer.serialize_u64(u),
            None => serializer.serialize_f64(self.to_f64()),
        }
    }
}
