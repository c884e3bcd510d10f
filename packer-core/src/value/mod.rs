//! Values and types of the template language.
//!
//! A [`Value`] may be unknown (it exists only later) and may be marked sensitive; both travel through every
//! operation. Its semantics are those of HashiCorp's `cty`, so that templates mean here what they mean there:
//! [`convert`] and [`unify`] between types, [`Value::equals`], the order of sets, the text of numbers.

mod compare;
mod convert;
mod from;
mod json;
mod number;
pub mod print;
pub mod quote;
mod serialize;
mod ty;
mod unify;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use unicode_normalization::{UnicodeNormalization, is_nfc_quick};

pub(crate) use compare::identity;
pub use convert::{ConversionError, PathStep, convert};
pub(crate) use json::write_json_string;
pub use json::{JsonError, from_json_str};
pub use number::{ArithmeticError, Number, ParseNumberError};
pub use ty::{ObjectType, Type};
pub use unify::{convert_all, unify};

/// A value of the template language; cheap to clone.
///
/// The containers know whether anything in them is unknown or sensitive and how deep they nest, so asking costs
/// nothing. What reads templates or data refuses to nest deeper than [`MAX_DEPTH`](Self::MAX_DEPTH).
///
/// ```
/// use packer_core::value::{Type, Value, convert};
/// let tuple = Value::tuple([Value::from("a"), Value::from(1)]);
/// let list = convert(&tuple, &Type::list(Type::String)).unwrap();
/// assert_eq!(list, Value::list(Type::String, [Value::from("a"), Value::from("1")]));
/// ```
#[derive(Clone)]
pub struct Value {
    data: Data,
    sensitive: bool,
    contains_sensitive: bool,
    wholly_known: bool,
    depth: u16,
    /// About so many bytes if all that is shared were written out each time; `u32::MAX` for more.
    size: u32,
}

/// What a [`Value`] holds.
#[derive(Clone)]
#[non_exhaustive]
pub enum Data {
    /// Will be known later; the type may be known already.
    Unknown(Type),
    /// Absent, of a type (`Dynamic` for a bare `null`).
    Null(Type),
    /// A bool.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    String(Arc<str>),
    /// Elements of the given type.
    List(Type, Arc<Vec<Value>>),
    /// Distinct elements of the given type, sorted.
    Set(Type, Arc<Vec<Value>>),
    /// Elements of the given type by key.
    Map(Type, Arc<BTreeMap<Arc<str>, Value>>),
    /// Elements each of its own type.
    Tuple(Arc<Vec<Value>>),
    /// Attributes each of its own type.
    Object(Arc<BTreeMap<Arc<str>, Value>>),
}

impl Value {
    /// How deep values may nest that come from templates, files or function results. Operations on a value that
    /// a host nested deeper are safe, but see parts of it as unknown.
    pub const MAX_DEPTH: usize = 200;

    /// How large values may be that come from templates, files or function results: about so many bytes if everything
    /// in them that is shared were written out each time.
    pub const MAX_SIZE: usize = 64 << 20;

    /// How many values one value can hold at most within [`MAX_SIZE`](Self::MAX_SIZE).
    pub(crate) const MAX_NODES: usize = Self::MAX_SIZE / NODE_SIZE as usize;

    /// Text exactly as given. Text that enters the language from outside goes through [`text`](Self::text).
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::leaf(Data::String(text.into()))
    }

    /// Text in Unicode normalization form C, which the language keeps all text in: what the user's variables,
    /// files and JSON go through.
    pub fn text(text: &str) -> Self {
        Self::string(normalize(text))
    }

    /// A number.
    pub fn number(number: impl Into<Number>) -> Self {
        Self::leaf(Data::Number(number.into()))
    }

    /// A bool.
    pub fn bool(value: bool) -> Self {
        Self::leaf(Data::Bool(value))
    }

    /// An absent value of a type.
    pub fn null(ty: Type) -> Self {
        Self::leaf(Data::Null(ty))
    }

    /// A value of a type that is not known yet.
    pub fn unknown(ty: Type) -> Self {
        Self::leaf(Data::Unknown(ty))
    }

    /// A list; the elements must be of the type, which [`convert`] makes sure of.
    pub fn list(element: Type, values: impl IntoIterator<Item = Self>) -> Self {
        let values: Vec<Self> = values.into_iter().collect();
        let summary = Summary::of(&values);
        summary.value(Data::List(element, Arc::new(values)))
    }

    /// A set; sorts the elements and drops equal ones. The set is sensitive where an element is, because its
    /// order and size tell about them.
    pub fn set(element: Type, values: impl IntoIterator<Item = Self>) -> Self {
        let values = compare::sort_set(values.into_iter().collect());
        let summary = Summary::of(&values);
        let sensitive = summary.sensitive;
        let set = summary.value(Data::Set(element, Arc::new(values)));
        if sensitive { set.sensitive() } else { set }
    }

    /// A map; of equal keys the last wins.
    pub fn map<K: Into<Arc<str>>>(element: Type, values: impl IntoIterator<Item = (K, Self)>) -> Self {
        let values = entries(values.into_iter().map(|(k, v)| (k.into(), v)).collect());
        let summary = Summary::of_entries(&values);
        summary.value(Data::Map(element, Arc::new(values)))
    }

    /// A tuple.
    pub fn tuple(values: impl IntoIterator<Item = Self>) -> Self {
        let values: Vec<Self> = values.into_iter().collect();
        let summary = Summary::of(&values);
        summary.value(Data::Tuple(Arc::new(values)))
    }

    /// An object; of equal names the last wins.
    pub fn object<K: Into<Arc<str>>>(values: impl IntoIterator<Item = (K, Self)>) -> Self {
        let values = entries(values.into_iter().map(|(k, v)| (k.into(), v)).collect());
        let summary = Summary::of_entries(&values);
        summary.value(Data::Object(Arc::new(values)))
    }

    fn leaf(data: Data) -> Self {
        let wholly_known = !matches!(data, Data::Unknown(_));
        let text = match &data {
            Data::String(text) => u32::try_from(text.len()).unwrap_or(u32::MAX),
            Data::Number(number) => number.text_size(),
            _ => 0,
        };
        let size = NODE_SIZE.saturating_add(text);
        Self { data, sensitive: false, contains_sensitive: false, wholly_known, depth: 0, size }
    }

    /// What it holds.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Its type. Takes time linear in the tuples and objects of the value.
    pub fn ty(&self) -> Type {
        if self.is_too_deep() {
            return Type::Dynamic;
        }
        match &self.data {
            Data::Unknown(t) | Data::Null(t) => t.clone(),
            Data::Bool(_) => Type::Bool,
            Data::Number(_) => Type::Number,
            Data::String(_) => Type::String,
            Data::List(t, _) => Type::list(t.clone()),
            Data::Set(t, _) => Type::set(t.clone()),
            Data::Map(t, _) => Type::map(t.clone()),
            Data::Tuple(values) => Type::tuple(values.iter().map(Self::ty)),
            Data::Object(values) => Type::object(values.iter().map(|(k, v)| (k.clone(), v.ty()))),
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null(_))
    }

    /// Whether it is known itself; its elements may still be unknown.
    pub fn is_known(&self) -> bool {
        !matches!(self.data, Data::Unknown(_))
    }

    /// Whether it and everything in it is known.
    pub fn is_wholly_known(&self) -> bool {
        self.wholly_known
    }

    /// Whether this very value is marked sensitive.
    pub fn is_sensitive(&self) -> bool {
        self.sensitive
    }

    /// Whether it or anything in it is marked sensitive.
    pub fn contains_sensitive(&self) -> bool {
        self.contains_sensitive
    }

    /// Levels of containers: 0 for a string, 1 for an empty list.
    pub fn depth(&self) -> usize {
        self.depth.into()
    }

    /// Whether it nests deeper than [`MAX_DEPTH`](Self::MAX_DEPTH).
    pub fn is_too_deep(&self) -> bool {
        self.depth() > Self::MAX_DEPTH
    }

    /// About how many bytes it has if everything in it that is shared is written out each time; no more than
    /// 4 GiB.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Whether it is larger than [`MAX_SIZE`](Self::MAX_SIZE).
    pub fn is_too_large(&self) -> bool {
        self.size() > Self::MAX_SIZE
    }

    /// Marks it sensitive.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self.contains_sensitive = true;
        self
    }

    /// Marks it sensitive where `sensitive` says so.
    #[must_use]
    pub fn sensitive_if(self, sensitive: bool) -> Self {
        if sensitive { self.sensitive() } else { self }
    }

    /// Marks it sensitive where the other one is (by itself; what is deeper in the other one does not count).
    #[must_use]
    pub fn with_marks_of(self, other: &Self) -> Self {
        self.sensitive_if(other.sensitive)
    }

    /// Takes the mark off this very value (not off what is in it).
    #[must_use]
    pub fn without_mark(mut self) -> Self {
        if self.sensitive {
            self.sensitive = false;
            let inside = self.children().any(|v| v.contains_sensitive);
            self.contains_sensitive = inside;
        }
        self
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(s) => Some(s),
            _ => None,
        }
    }

    /// The bool.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.data {
            Data::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The number.
    pub fn as_number(&self) -> Option<&Number> {
        match &self.data {
            Data::Number(n) => Some(n),
            _ => None,
        }
    }

    /// The number as an integer, where it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.to_i64()
    }

    /// The elements of a list, set or tuple.
    pub fn as_slice(&self) -> Option<&[Self]> {
        match &self.data {
            Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => Some(v),
            _ => None,
        }
    }

    /// The elements of a map or the attributes of an object.
    pub fn as_map(&self) -> Option<&BTreeMap<Arc<str>, Self>> {
        match &self.data {
            Data::Map(_, m) | Data::Object(m) => Some(m),
            _ => None,
        }
    }

    /// The element of a map or the attribute of an object with this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.as_map()?.get(name)
    }

    /// How many elements a known collection has; `None` for anything else.
    #[expect(clippy::len_without_is_empty, reason = "a value that is no collection is neither empty nor not")]
    pub fn len(&self) -> Option<usize> {
        self.as_slice().map(<[_]>::len).or_else(|| self.as_map().map(BTreeMap::len))
    }

    /// Each value directly in this one.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let (slice, map) = (self.as_slice(), self.as_map());
        slice.into_iter().flatten().chain(map.into_iter().flat_map(BTreeMap::values))
    }
}

/// A map of its entries, of which the last of a key wins. Collected from a list, because what sorts the entries is compiled
/// anew for each kind of iterator otherwise.
pub(crate) fn entries<K: Ord, V>(list: Vec<(K, V)>) -> BTreeMap<K, V> {
    list.into_iter().collect()
}

/// Text in Unicode normalization form C; what already is costs one pass.
pub fn normalize(text: &str) -> Arc<str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == unicode_normalization::IsNormalized::Yes {
        return text.into();
    }
    text.nfc().collect::<String>().into()
}

/// What a value counts beside its text.
const NODE_SIZE: u32 = 64;

/// What a container has to know about its elements.
struct Summary {
    sensitive: bool,
    wholly_known: bool,
    depth: u16,
    size: u32,
}

impl Summary {
    fn of<'a>(values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut summary = Self { sensitive: false, wholly_known: true, depth: 0, size: NODE_SIZE };
        for v in values {
            summary.sensitive |= v.contains_sensitive;
            summary.wholly_known &= v.wholly_known;
            summary.depth = summary.depth.max(v.depth);
            summary.size = summary.size.saturating_add(v.size);
        }
        summary
    }

    fn of_entries(values: &BTreeMap<Arc<str>, Value>) -> Self {
        let mut summary = Self::of(values.values());
        for name in values.keys() {
            summary.size = summary.size.saturating_add(u32::try_from(name.len()).unwrap_or(u32::MAX));
        }
        summary
    }

    fn value(self, data: Data) -> Value {
        Value {
            data,
            sensitive: false,
            contains_sensitive: self.sensitive,
            wholly_known: self.wholly_known,
            depth: self.depth.saturating_add(1),
            size: self.size,
        }
    }
}

/// Values that nest so deep that dropping them one inside the other would use up the stack are taken apart
/// first.
impl Drop for Value {
    fn drop(&mut self) {
        if usize::from(self.depth) <= Self::MAX_DEPTH {
            return;
        }
        let mut pending = vec![std::mem::replace(&mut self.data, Data::Bool(false))];
        while let Some(data) = pending.pop() {
            let mut take = |mut v: Self| pending.push(std::mem::replace(&mut v.data, Data::Bool(false)));
            // A container that someone else holds too stays as it is.
            match data {
                Data::List(_, v) | Data::Set(_, v) | Data::Tuple(v) => {
                    Arc::into_inner(v).into_iter().flatten().for_each(&mut take);
                }
                Data::Map(_, m) | Data::Object(m) => {
                    Arc::into_inner(m).into_iter().flat_map(BTreeMap::into_values).for_each(&mut take);
                }
                _ => {}
            }
        }
    }
}

/// A sensitive value shows as `(sensitive)`, whatever is asked to print it for debugging.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive {
            return f.write_str("(sensitive)");
        }
        if self.is_too_deep() {
            return f.write_str("(nested too deeply)");
        }
        match &self.data {
            Data::Unknown(t) => write!(f, "unknown({t})"),
            Data::Null(t) => write!(f, "null({t})"),
            Data::Bool(b) => write!(f, "{b}"),
            Data::Number(n) => write!(f, "{n}"),
            Data::String(s) => f.write_str(&quote::quote(s)),
            Data::List(t, v) => {
                write!(f, "list({t})")?;
                f.debug_list().entries(v.iter()).finish()
            }
            Data::Set(t, v) => {
                write!(f, "set({t})")?;
                f.debug_list().entries(v.iter()).finish()
            }
            Data::Map(t, m) => {
                write!(f, "map({t})")?;
                f.debug_map().entries(m.iter()).finish()
            }
            Data::Tuple(v) => f.debug_list().entries(v.iter()).finish(),
            Data::Object(m) => f.debug_map().entries(m.iter()).finish(),
        }
    }
}

/// As [`Value`]'s: nothing sensitive shows.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Value::leaf(self.clone()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_know_their_elements() {
        let v = Value::tuple([Value::from("a"), Value::object([("k", Value::from("s").sensitive())])]);
        assert!(v.contains_sensitive() && !v.is_sensitive() && v.is_wholly_known());
        assert_eq!(v.depth(), 2);
        assert_eq!(format!("{v:?}"), r#"["a", {"k": (sensitive)}]"#);
        assert!(!Value::list(Type::Bool, [Value::unknown(Type::Bool)]).is_wholly_known());
        assert!(!v.clone().sensitive().without_mark().is_sensitive());
        assert!(v.sensitive().without_mark().contains_sensitive());
    }

    #[test]
    fn deep_values_are_safe() {
        let mut v = Value::from(1);
        for _ in 0..1_000_000 {
            v = Value::tuple([v]);
        }
        assert!(v.is_too_deep());
        let copy = v.clone();
        assert_eq!(format!("{v:?}"), "(nested too deeply)");
        assert_eq!(v.ty(), Type::Dynamic);
        assert_eq!(v, copy);
        assert!(!v.equals(&Value::tuple([copy])).is_known());
        assert!(v.to_json().is_err() && serde_json::to_string(&v).is_err());
        assert!(convert(&v, &Type::list(Type::String)).is_err());
        drop(v);
    }

    /// On the small stack of a test's thread.
    #[test]
    fn values_as_deep_as_allowed_can_be_used() {
        let nest = |leaf: Value, wrap: fn(Value) -> Value| {
            let mut v = leaf;
            for _ in 0..Value::MAX_DEPTH {
                v = wrap(v);
            }
            v
        };
        for wrap in [(|v| Value::tuple([v])) as fn(Value) -> Value, |v| Value::object([("k", v)])] {
            let v = nest(Value::from(1), wrap);
            let other = nest(Value::from("1"), wrap);
            assert_eq!(v.equals(&v.clone()).as_bool(), Some(true));
            assert_eq!(convert(&v, &other.ty()), Ok(other.clone()));
            assert_eq!(unify(&[v.ty(), other.ty()]), Some(other.ty()));
            assert_eq!(Value::set(v.ty(), [v.clone(), v.clone()]).len(), Some(1));
            let json = v.to_json_string().unwrap();
            assert_eq!(from_json_str(&json), Ok(v.clone()));
            assert_eq!(v.to_json().unwrap().to_string(), json);
            assert!(print::print(&v).contains('1') && format!("{v:?}").contains('1'));
            assert!(!v.ty().without_optional().to_string().is_empty());
        }
        let lists = nest(Value::from(1), |v| Value::list(v.ty(), [v]));
        assert!(convert(&lists, &Type::Dynamic).is_ok() && lists.ty().friendly_name().starts_with("list of"));
    }

    #[test]
    fn text_is_normalized() {
        assert_eq!(Value::text("e\u{301}").as_str(), Some("é"));
        assert_eq!(Value::string("e\u{301}").as_str(), Some("e\u{301}"));
    }
}
