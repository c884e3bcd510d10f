//! Rendering of texts when a component runs: with what is known about the machine, and the component's own variables.

use regex::{Captures, Regex};

use crate::context::Context;
use crate::error::{Error, Result};

/// Renders `{{ … }}` in a text with the facts of the machine and `variables`, which win over facts of the same name;
/// again and again until nothing changes, so that templates inside inserted values are rendered too.
///
/// # Errors
/// What is wrong with the template; a text that never comes to rest.
pub fn render(cx: &Context, text: &str, variables: &[(&str, &str)]) -> Result<String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let name = Regex::new(r"\{\{\s*\.(\w+)\s*\}\}").map_err(|e| Error::internal(e.to_string()))?;
    let value = |found: &Captures<'_>| {
        let name = &found[1];
        let own = variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        own.or_else(|| cx.facts().text(name)).unwrap_or_else(|| "<no value>".to_owned())
    };
    let mut text = text.to_owned();
    for _ in 0..100 {
        let rendered = name.replace_all(&text, value);
        if rendered == text {
            return Ok(text);
        }
        text = rendered.into_owned();
    }
    Err(Error::user(format!("the template never comes to rest: {text}")))
}
