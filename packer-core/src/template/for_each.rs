//! `for_each` on `source` and `build` blocks: one block that stands for several.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::eval::{Element, Scope, elements_of};
use crate::language::syntax::Attribute;
use crate::value::{Type, Value, convert};

/// The argument, and the name under which expressions see the element.
pub(super) const FOR_EACH: &str = "for_each";
pub(super) const EACH: &str = "each";

/// One of the blocks that a block with `for_each` stands for.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    /// The key as text: part of the instance's name where it is not given one.
    pub(super) key: Arc<str>,
    /// `each`.
    pub(super) each: Value,
}

impl Instance {
    /// `each` as a variable of a scope.
    pub(super) fn variable(&self) -> (Arc<str>, Value) {
        (EACH.into(), self.each.clone())
    }

    /// The scope of what is inside the block.
    pub(super) fn scope(&self, outer: &Scope) -> Scope {
        outer.with_variables([self.variable()])
    }
}

/// What a `for_each` says.
pub(super) enum ForEach {
    /// The instances, in the order of the collection.
    Known(Vec<Instance>),
    /// That is known only once data sources are read. The instance stands for any: all of `each` is unknown in it.
    Unknown(Instance),
    /// It is wrong, which has been told.
    Wrong,
}

/// Evaluates a `for_each`. `strict` is whether it must be known: all that could be read has been read.
pub(super) fn evaluate(
    attribute: &Attribute,
    scope: &Scope,
    strict: bool,
    diagnostics: &mut Diagnostics,
) -> ForEach {
    let before = diagnostics.len();
    let collection = attribute.evaluate(scope, diagnostics);
    if diagnostics.len() > before {
        return ForEach::Wrong;
    }
    let mut wrong = |detail: String| {
        diagnostics
            .push(Diagnostic::error("Invalid for_each value").detail(detail).at(attribute.value_location()));
        ForEach::Wrong
    };
    if collection.is_sensitive() {
        return wrong("The value is sensitive, and its keys become parts of names, which are shown.".into());
    }
    let elements = match elements_of(&collection) {
        Ok(Some(elements)) => elements,
        Ok(None) if strict => return wrong("The value is not known before the builds run.".into()),
        Ok(None) => return ForEach::Unknown(stand_in()),
        Err(why) => return wrong(why),
    };
    let mut seen = BTreeSet::new();
    let mut instances = Vec::with_capacity(elements.len());
    for Element { key, value } in elements {
        if key.is_sensitive() {
            return wrong("A key is sensitive, and keys become parts of names, which are shown.".into());
        }
        let text = match convert(&key, &Type::String) {
            Ok(text) if text.is_known() && !text.is_null() => text.as_str().map(Arc::<str>::from),
            Ok(text) if !text.is_known() && !strict => return ForEach::Unknown(stand_in()),
            _ => None,
        };
        let Some(text) = text else {
            return wrong(
                "The elements of a set become keys, so they must be known texts, numbers or bools.".into(),
            );
        };
        if !seen.insert(text.clone()) {
            return wrong(format!("The key {text:?} is there twice."));
        }
        let each = Value::object([("key", key), ("value", value)]);
        instances.push(Instance { key: text, each });
    }
    ForEach::Known(instances)
}

fn stand_in() -> Instance {
    let any = || Value::unknown(Type::Dynamic);
    Instance {
        key: "".into(),
        each: Value::object([("key", Value::unknown(Type::String)), ("value", any())]),
    }
}
