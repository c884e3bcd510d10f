//! Rendering of texts when a component runs: with what is known about the machine, and the component's own variables.

use crate::config::GoTemplate;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::language::go_template::{Data, Interpolation};

/// Renders `{{ … }}` in a text with the facts of the machine and `variables`, which win over facts of the same name;
/// again and again until nothing changes, so that templates inside inserted values are rendered too.
///
/// ```
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// use packer_core::kit;
/// let command = kit::render(cx, "convert {{.Input}} {{.Input}}.qcow2", &[("Input", "disk.img")])?;
/// assert_eq!(command, "convert disk.img disk.img.qcow2");
/// # Ok::<(), packer_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// What is wrong with the template; a text that never comes to rest.
pub fn render(cx: &Context, text: &str, variables: &[(&str, &str)]) -> Result<String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let facts = cx.facts().iter().map(|(name, value)| (name.as_str(), Data::from(value)));
    let own = variables.iter().map(|(name, value)| (*name, Data::from(*value)));
    with_data(cx, Data::map(facts.chain(own))).render_fixpoint(text).map_err(|e| Error::user(e.to_string()))
}

fn with_data(cx: &Context, data: Data) -> Interpolation {
    Interpolation::of_build(cx.build(), cx.started()).with_data(data)
}

/// Renders `{{ … }}` once, with `variables` and nothing else: for builders, whose machine is not there yet.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// # let bench = packer_core::testing::Bench::new();
/// # let cx = bench.context();
/// use packer_core::kit;
/// assert_eq!(kit::render_known(cx, "-name {{.Name}}", &[("Name", "vm")]).unwrap(), "-name vm");
/// assert!(kit::render_known(cx, "-name {{.Nmae}}", &[("Name", "vm")]).is_err());
/// # }
/// ```
///
/// # Errors
/// What is wrong with the template; a name that is none of the variables.
pub fn render_known(cx: &Context, text: &str, variables: &[(&str, &str)]) -> Result<String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let data = Data::map(variables.iter().map(|(name, value)| (*name, Data::from(*value))));
    known(cx, data, text)
}

/// The same with the facts as variables, which may be more than texts: `{{.SourceTags.Name}}`.
///
/// # Errors
/// What is wrong with the template; a name that is none of the facts.
pub fn render_facts(cx: &Context, text: &str, facts: &Facts) -> Result<String> {
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    known(cx, Data::map(facts.iter().map(|(name, value)| (name.as_str(), Data::from(value)))), text)
}

fn known(cx: &Context, data: Data, text: &str) -> Result<String> {
    let templates = Interpolation { fields_are_known: true, ..with_data(cx, data) };
    templates.render(text).map_err(|e| Error::user(e.to_string()))
}

impl GoTemplate {
    /// Renders it with what is known about the machine and `variables`, which come first; see
    /// [`render`].
    ///
    /// # Errors
    /// What is wrong with the template.
    pub fn render(&self, cx: &Context, variables: &[(&str, &str)]) -> Result<String> {
        render(cx, self.as_str(), variables)
    }
}
