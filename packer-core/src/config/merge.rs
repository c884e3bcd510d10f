//! Lays one configuration over another.

use std::collections::BTreeMap;

use crate::value::Value;

/// `over` laid over `base`: objects and maps by name, lists by position, so that a shorter list leaves the rest of
/// the longer one; anything else is replaced. What is null in `over` says nothing.
pub(super) fn over(base: &Value, over: &Value) -> Value {
    if over.is_null() {
        return base.clone();
    }
    let merged = match (base.as_map(), over.as_map(), base.as_slice(), over.as_slice()) {
        (Some(old), Some(new), ..) => {
            let mut merged: BTreeMap<_, _> = old.clone();
            for (name, value) in new {
                let value = match old.get(name) {
                    Some(old) => self::over(old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::object(merged)
        }
        (.., Some(old), Some(new)) => {
            let longest = old.len().max(new.len());
            Value::tuple((0..longest).map(|i| match (old.get(i), new.get(i)) {
                (Some(old), Some(new)) => self::over(old, new),
                (old, new) => new.or(old).cloned().unwrap_or_else(|| base.clone()),
            }))
        }
        _ => return over.clone(),
    };
    merged.with_marks_of(base).with_marks_of(over)
}
