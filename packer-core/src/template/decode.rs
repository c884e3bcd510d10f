//! Attributes whose type the loader knows: constants, texts, numbers, lists of texts.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::eval::Scope;
use crate::language::syntax::Attribute;
use crate::value::{Type, Value, convert};

/// A text, which may be neither null nor unknown.
pub(super) fn text(attribute: &Attribute, scope: &Scope, diagnostics: &mut Diagnostics) -> Option<String> {
    Some(needed(attribute, scope, &Type::String, diagnostics)?.as_str()?.to_owned())
}

/// A bool, which may be neither null nor unknown.
pub(super) fn flag(attribute: &Attribute, scope: &Scope, diagnostics: &mut Diagnostics) -> Option<bool> {
    needed(attribute, scope, &Type::Bool, diagnostics)?.as_bool()
}

/// A bool, which may not be null. Where it need not be `known`, an unknown one is `None`.
pub(super) fn condition(
    attribute: &Attribute,
    scope: &Scope,
    known: bool,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    waiting(attribute, scope, &Type::Bool, known, diagnostics)?;
    flag(attribute, scope, diagnostics)
}

/// A list of texts. Where it need not be `known`, one that is not is `None`.
pub(super) fn known_texts(
    attribute: &Attribute,
    scope: &Scope,
    known: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<String>> {
    waiting(attribute, scope, &Type::list(Type::String), known, diagnostics)?;
    texts(attribute, scope, diagnostics)
}

/// `None` for a value that may fit once it is known, where it need not be known yet.
fn waiting(
    attribute: &Attribute,
    scope: &Scope,
    ty: &Type,
    known: bool,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    if known {
        return Some(());
    }
    let mut found = Diagnostics::new();
    let value = attribute.evaluate(scope, &mut found);
    if found.has_errors() {
        diagnostics.append(found);
        return None;
    }
    (value.is_wholly_known() || convert(&value, ty).is_err()).then_some(())
}

/// A bool, or `None` for null.
pub(super) fn optional_flag(
    attribute: &Attribute,
    scope: &Scope,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    typed(attribute, scope, &Type::Bool, diagnostics)?.as_bool()
}

/// A whole number from 0 on, which may be neither null nor unknown.
pub(super) fn count(attribute: &Attribute, scope: &Scope, diagnostics: &mut Diagnostics) -> Option<u32> {
    let value = needed(attribute, scope, &Type::Number, diagnostics)?;
    // Packer takes a negative number for none.
    let count = value.as_i64().map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    if count.is_none() {
        diagnostics.push(unsuitable(attribute, "a whole number is required"));
    }
    count
}

/// A list of texts; `None` for null.
pub(super) fn texts(
    attribute: &Attribute,
    scope: &Scope,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<String>> {
    let value = typed(attribute, scope, &Type::list(Type::String), diagnostics)?;
    let items = value.as_slice()?;
    let texts: Option<Vec<String>> = items.iter().map(|v| v.as_str().map(str::to_owned)).collect();
    if texts.is_none() {
        diagnostics.push(unsuitable(attribute, "null value is not allowed"));
    }
    texts
}

/// A value of a type, which may not be null.
fn needed(attribute: &Attribute, scope: &Scope, ty: &Type, diagnostics: &mut Diagnostics) -> Option<Value> {
    let value = typed(attribute, scope, ty, diagnostics)?;
    if value.is_null() {
        diagnostics.push(unsuitable(attribute, "null value is not allowed"));
        return None;
    }
    Some(value)
}

/// A value of a type, wholly known.
fn typed(attribute: &Attribute, scope: &Scope, ty: &Type, diagnostics: &mut Diagnostics) -> Option<Value> {
    let before = diagnostics.len();
    let value = attribute.evaluate(scope, diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    match convert(&value, ty) {
        Err(e) => diagnostics.push(unsuitable(attribute, &e.about(&value))),
        Ok(value) if !value.is_wholly_known() => {
            diagnostics.push(unsuitable(attribute, "value must be known"));
        }
        Ok(value) => return Some(value),
    }
    None
}

/// What is said of a value that does not fit.
pub(super) fn unsuitable(attribute: &Attribute, why: &str) -> Diagnostic {
    Diagnostic::error("Unsuitable value type")
        .detail(format!("The value of {:?} does not fit: {why}.", attribute.name.as_str()))
        .at(attribute.value_location())
}
