//! The values that a failing expression refers to, as diagnostics list them.

use super::super::syntax::Expr;
use super::references::{Reference, ReferenceStep, first_references};
use super::scope::Scope;
use crate::value::quote::quote;
use crate::value::{Data, Value};

/// How many references are listed, and how many nodes are looked at for them: an expression of a megabyte
/// must not be walked for each of its mistakes.
const MOST: usize = 10;
const BUDGET: usize = 1000;

/// Of texts longer than this only the length is told.
const TEXT_LENGTH: usize = 100;

/// `var.x as "a"`, `local.l as list of string with 2 elements`, `var.y set to null`: known values only, and never
/// sensitive ones.
pub(super) fn values_in(expr: &Expr, scope: &Scope) -> Vec<String> {
    let mut values: Vec<String> = first_references(expr, BUDGET)
        .iter()
        .filter_map(|reference| {
            let value = resolve(reference, scope)?;
            describe(&path(reference), &value)
        })
        .collect();
    values.sort();
    values.dedup();
    values.truncate(MOST);
    values
}

fn resolve(reference: &Reference, scope: &Scope) -> Option<Value> {
    let mut value = scope.variable(&reference.root)?;
    for step in &reference.steps {
        if value.is_sensitive() {
            return None;
        }
        value = match step {
            ReferenceStep::Attribute(name) => value.get(name)?,
            ReferenceStep::Index(key) => match key.as_str() {
                Some(name) => value.get(name)?,
                None => value.as_slice()?.get(usize::try_from(key.as_i64()?).ok()?)?,
            },
        };
    }
    Some(value.clone())
}

fn path(reference: &Reference) -> String {
    let mut path = reference.root.to_string();
    for step in &reference.steps {
        match step {
            ReferenceStep::Attribute(name) => {
                path.push('.');
                path.push_str(name);
            }
            ReferenceStep::Index(key) => match key.as_str() {
                Some(name) => path.push_str(&format!("[{}]", quote(name))),
                None => path.push_str(&key.as_number().map(|n| format!("[{n}]")).unwrap_or_default()),
            },
        }
    }
    path
}

/// A value that something refers to, in a few words; nothing where it is not known or sensitive.
pub(crate) fn describe(path: &str, value: &Value) -> Option<String> {
    Some(format!("{path} {}", in_words(value)?))
}

fn in_words(value: &Value) -> Option<String> {
    if value.contains_sensitive() {
        return None;
    }
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    Some(match value.data() {
        Data::Unknown(_) => return None,
        Data::Null(_) => "set to null".to_owned(),
        Data::Bool(b) => format!("as {b}"),
        Data::Number(n) => format!("as {n}"),
        // Where a text is cut, a part of a secret might be left that nobody finds any more.
        Data::String(s) if s.chars().count() > TEXT_LENGTH => {
            format!("as string of {}", count(s.chars().count(), "character"))
        }
        Data::String(s) => format!("as {}", quote(s)),
        Data::List(..) | Data::Set(..) | Data::Map(..) | Data::Tuple(_) => {
            // The type of a tuple takes time to make and says no more than its name.
            let name = match value.data() {
                Data::Tuple(_) => "tuple".to_owned(),
                _ => value.ty().friendly_name(),
            };
            format!("as {name} with {}", count(value.len()?, "element"))
        }
        Data::Object(attributes) => match attributes.keys().next() {
            None => "as object with no attributes".to_owned(),
            Some(only) if attributes.len() == 1 => format!("as object with 1 attribute {}", quote(only)),
            Some(_) => format!("as object with {}", count(attributes.len(), "attribute")),
        },
    })
}
