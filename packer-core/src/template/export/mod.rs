//! A pipeline written out as a template.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), packer_core::Diagnostics> {
//! # use packer_core::testing::FakeBuilder;
//! use packer_core::template::{Template, export};
//! use packer_core::{Build, Pipeline, Registry};
//! # let mut registry = Registry::new();
//! # registry.builder::<FakeBuilder>("fake");
//! # let build = Build::with_builder("web", "fake".into(), packer_core::Late::ready(std::sync::Arc::new(FakeBuilder::new("images"))));
//! let pipeline = Pipeline::of([build]);
//! let exported = export(&pipeline, &registry)?;
//! assert!(exported.text().contains("source \"fake\" \"web\""));
//! // Reads back to the same pipeline; the inputs hold the values of secrets.
//! let template = Template::from_texts([("web.pkr.hcl", exported.text())])?;
//! let again = template.evaluate(&registry, exported.inputs()).await?;
//! assert_eq!(again.builds[0].source, "fake.web");
//! # Ok(()) }
//! ```
//!
//! What comes out means the same where a template can say it; what it cannot say is an error that names it:
//!
//! - a component whose type is not registered, which does not tell its configuration, or which is made by code while the
//!   build runs;
//! - an order of builds without a reference to an artifact, and outputs: both are code;
//! - a text that is not in Unicode's normal form C, which the language brings all texts into.
//!
//! Builds are called `TYPE.NAME` in a template, so one that code called `web` is called `docker.web` afterwards;
//! [`Exported::names`] tells both. Texts that hold `${`, `%{` or `{{` come back as they were. Secrets become sensitive
//! variables without a default: their values are not in the text but in [`Exported::values`].

mod component;
mod text;

use std::collections::{BTreeMap, HashMap};

use hcl::{Body, Structure};

use super::builds::TEST;
use super::inputs::Inputs;
use crate::config::Schema;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use crate::duration::GoDuration;
use crate::language::syntax::is_identifier;
use crate::pipeline::{Build, Late, Pipeline, PostProcessStep, ProvisionStep, SourceFilter};
use crate::provisioner;
use crate::registry::{ComponentType, Registry};
use crate::value::Value;
use component::{attribute, block};
use text::Writer;
pub(super) use text::literal;

/// A pipeline as a template.
#[derive(Clone)]
pub struct Exported {
    body: Body,
    text: String,
    values: BTreeMap<String, Value>,
    names: Vec<(String, String)>,
}

impl Exported {
    /// The template in native syntax, in canonical layout.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same as data of the crate `hcl-rs`, to add to.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The values of the sensitive variables, by name: the secrets of the pipeline, in clear.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    /// Inputs with these values, to evaluate the template with.
    pub fn inputs(&self) -> Inputs {
        self.values.iter().fold(Inputs::new(), |inputs, (name, value)| inputs.value(name, value.clone()))
    }

    /// The display name of each build: in the pipeline, and in the template.
    pub fn names(&self) -> &[(String, String)] {
        &self.names
    }
}

/// Without the values: they are secrets.
impl std::fmt::Debug for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exported")
            .field("text", &self.text)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Writes a pipeline as a template; `registry` knows the components by the names that templates use.
///
/// # Errors
/// Everything that no template can say, each named.
pub fn export(pipeline: &Pipeline, registry: &Registry) -> Result<Exported, Diagnostics> {
    let mut exporter = Exporter { registry, out: Writer::new(&pipeline.secrets) };
    for output in &pipeline.outputs {
        exporter.out.refuse(&format!("the output {:?}", output.name), "it is made by code");
    }
    let builds: Vec<Parts> = pipeline.builds.iter().filter_map(|b| exporter.build(b)).collect();
    let names = builds.iter().map(|b| (b.called.clone(), b.display.clone())).collect();
    let Writer { variables, values, found, .. } = exporter.out;
    if found.has_errors() {
        return Err(found);
    }
    let body: Body = variables.into_iter().chain(assembled(builds)).collect();
    let text = hcl::format::to_string(&body).map_err(|e| Diagnostic::error(e.to_string()))?;
    let text = crate::language::fmt::format(&SourceFile::new("exported.pkr.hcl", text))?;
    Ok(Exported { body, text, values, names })
}

/// A build, ready to be written.
struct Parts {
    called: String,
    display: String,
    kind: String,
    name: String,
    /// What the build calls the source.
    local_name: String,
    source: Vec<Structure>,
    /// The build block without its sources.
    build: Vec<Structure>,
}

/// The source blocks, then the build blocks.
fn assembled(builds: Vec<Parts>) -> Vec<Structure> {
    // A source that several builds use is written once. Where they say different things of it, each build says its own.
    let mut sources: Vec<(&str, &str, Option<&[Structure]>)> = Vec::new();
    let mut index: HashMap<(&str, &str), usize> = HashMap::new();
    for build in &builds {
        let at = *index.entry((&build.kind, &build.name)).or_insert_with(|| {
            sources.push((&build.kind, &build.name, Some(&build.source)));
            sources.len() - 1
        });
        if sources[at].2.is_some_and(|common| common != build.source) {
            sources[at].2 = None;
        }
    }
    let mut all: Vec<Structure> = sources
        .iter()
        .map(|(kind, name, common)| block("source", &[kind, name], common.unwrap_or_default().to_vec()))
        .collect();
    for parts in &builds {
        let common = index.get(&(parts.kind.as_str(), parts.name.as_str())).and_then(|at| sources[*at].2);
        let reference = format!("{}.{}", parts.kind, parts.name);
        let mut own = Vec::new();
        if parts.local_name != parts.name {
            own.push(attribute("name", text::literal(&parts.local_name)));
        }
        own.extend(if common.is_none() { parts.source.clone() } else { Vec::new() });
        let plain = own.is_empty() && is_identifier(&parts.kind) && is_identifier(&parts.name);
        let used = match plain {
            true => attribute("sources", vec![text::literal(&format!("source.{reference}"))].into()),
            false => block("source", &[&reference], own),
        };
        // What is said of the build itself comes first, then what it is made from, then the steps.
        let (mut body, steps): (Vec<_>, Vec<_>) =
            parts.build.iter().cloned().partition(Structure::is_attribute);
        body.push(used);
        body.extend(steps);
        all.push(block("build", &[], body));
    }
    all
}

struct Exporter<'a> {
    registry: &'a Registry,
    out: Writer<'a>,
}

impl Exporter<'_> {
    fn build(&mut self, build: &Build) -> Option<Parts> {
        let who = format!("the build {:?}", build.name());
        let info = &build.info;
        let kind = info.builder_type.as_str();
        let Some(local_name) = build.source.strip_prefix(kind).and_then(|rest| rest.strip_prefix('.')) else {
            self.out.refuse(&who, &format!("its source {:?} is not called TYPE.NAME", build.source));
            return None;
        };
        for name in [kind, info.name.as_str()] {
            if let Some(why) = no_label(name) {
                self.out.refuse(&who, &format!("{name:?} cannot name a source: {why}"));
            }
        }
        for name in [local_name, info.build_block.as_str()] {
            self.out.check_name(name, &who);
        }
        for need in &build.needs {
            let why = format!("it waits for the build {need:?} without a reference to its artifact");
            self.out.refuse(&who, &why);
        }
        let source = self.component(
            self.registry.get_builder(kind),
            &build.builder,
            |b| b.config(),
            &format!("the builder {kind:?} of {who}"),
            &format!("{kind}_{}", info.name),
            &[],
        );
        let mut body = Vec::new();
        if !info.build_block.is_empty() {
            body.push(attribute("name", text::literal(&info.build_block)));
        }
        if !build.description.is_empty() {
            let text =
                self.out.late_text(&build.description, &format!("the description of {who}"), "description");
            body.push(attribute("description", text));
        }
        for step in &build.provisioners {
            body.extend(self.provisioner("provisioner", step, &who));
        }
        for step in &build.tests {
            body.extend(self.provisioner(TEST, step, &who));
        }
        for sequence in &build.post_processors {
            let mut steps: Vec<_> = sequence.iter().filter_map(|s| self.post_processor(s, &who)).collect();
            match steps.len() {
                0 => {}
                1 => body.append(&mut steps),
                _ => body.push(block("post-processors", &[], steps)),
            }
        }
        if let Some(step) = &build.error_cleanup {
            body.extend(self.provisioner("error-cleanup-provisioner", step, &who));
        }
        let display = match info.build_block.as_str() {
            "" => build.source.clone(),
            block => format!("{block}.{}", build.source),
        };
        Some(Parts {
            called: build.name().to_owned(),
            display,
            kind: kind.to_owned(),
            name: info.name.clone(),
            local_name: local_name.to_owned(),
            source: source?,
            build: body,
        })
    }

    fn provisioner(&mut self, block_type: &str, step: &ProvisionStep, build: &str) -> Option<Structure> {
        let who = format!("the {block_type} {} of {build}", called(&step.kind, &step.name));
        let mut body = self.common(&step.name, &step.filter, &who);
        let mut duration = |name: &str, wanted: std::time::Duration| {
            let written = GoDuration::from(wanted);
            if written.to_std() != wanted {
                self.out.refuse(&who, &format!("its {name} is too long"));
            }
            body.push(attribute(name, text::literal(&written.to_string())));
        };
        if !step.pause_before.is_zero() {
            duration("pause_before", step.pause_before);
        }
        match step.timeout {
            None => {}
            Some(limit) if limit.is_zero() => {
                self.out.refuse(&who, "a timeout of zero means none in a template")
            }
            Some(limit) => duration("timeout", limit),
        }
        if step.max_retries > 0 {
            body.push(attribute("max_retries", step.max_retries.into()));
        }
        if step.continue_on_error {
            body.push(attribute("continue_on_error", true.into()));
        }
        match &step.inputs {
            // No cache asks for them.
            _ if block_type == TEST => {}
            None => {}
            Some(provisioner::StepInputs::Volatile) => body.push(attribute("volatile", true.into())),
            Some(provisioner::StepInputs::Files(paths)) => {
                let mut list = Vec::new();
                for path in paths {
                    match path.to_str() {
                        Some(path) => list.push(self.out.late_text(path, &who, "inputs")),
                        None => self.out.refuse(&who, &format!("the path {} is no Unicode", path.display())),
                    }
                }
                body.push(attribute("inputs", list.into()));
            }
        }
        body.extend(self.component(
            self.registry.get_provisioner(&step.kind),
            &step.provisioner,
            |p| p.config(),
            &who,
            &step.kind,
            &[
                "name",
                "only",
                "except",
                "pause_before",
                "timeout",
                "max_retries",
                "override",
                "continue_on_error",
            ],
        )?);
        Some(block(block_type, &[&step.kind], body))
    }

    fn post_processor(&mut self, step: &PostProcessStep, build: &str) -> Option<Structure> {
        let who = format!("the post-processor {} of {build}", called(&step.kind, &step.name));
        let mut body = self.common(&step.name, &step.filter, &who);
        if let Some(keep) = step.keep_input_artifact {
            body.push(attribute("keep_input_artifact", keep.into()));
        }
        body.extend(self.component(
            self.registry.get_post_processor(&step.kind),
            &step.post_processor,
            |p| p.config(),
            &who,
            &step.kind,
            &["name", "only", "except", "keep_input_artifact"],
        )?);
        Some(block("post-processor", &[&step.kind], body))
    }

    /// The arguments that all steps have.
    fn common(&mut self, name: &str, filter: &SourceFilter, who: &str) -> Vec<Structure> {
        let mut body = Vec::new();
        self.out.check_name(name, who);
        if !name.is_empty() {
            body.push(attribute("name", text::literal(name)));
        }
        let (argument, sources) = match filter {
            SourceFilter::All => return body,
            SourceFilter::Only(sources) if sources.is_empty() => {
                self.out.refuse(who, "it runs in no build at all");
                return body;
            }
            SourceFilter::Only(sources) => ("only", sources),
            SourceFilter::Except(sources) => ("except", sources),
        };
        for source in sources {
            self.out.check_name(source, who);
        }
        let list: Vec<_> = sources.iter().map(|source| text::literal(source)).collect();
        body.push(attribute(argument, list.into()));
        body
    }

    /// The body of a component's block. `reserved` are the arguments that the loader takes for itself.
    fn component<T: ?Sized>(
        &mut self,
        kind: Option<&ComponentType<T>>,
        component: &Late<T>,
        config: impl Fn(&T) -> Option<Value>,
        who: &str,
        stem: &str,
        reserved: &[&str],
    ) -> Option<Vec<Structure>> {
        let Some(kind) = kind else {
            self.out.refuse(who, "its type is not registered, so that no template can name it");
            return None;
        };
        if component.is_deferred() {
            self.out.refuse(who, "it is made by code while the build runs");
            return None;
        }
        let Some(value) = config(component.preview()) else {
            self.out.refuse(who, "it does not tell its configuration");
            return None;
        };
        // What the component tells must be what it reads.
        match kind.decode(&value).map(|again| config(&again)) {
            Ok(again) if again.as_ref() == Some(&value) => {}
            Ok(_) => self.out.refuse(who, "the configuration it tells is read as another one"),
            Err(why) => self.out.refuse(who, &format!("the configuration it tells cannot be read: {why}")),
        }
        Some(self.body(&kind.schema, &value, who, stem, reserved))
    }

    fn body(
        &mut self,
        schema: &Schema,
        value: &Value,
        who: &str,
        stem: &str,
        reserved: &[&str],
    ) -> Vec<Structure> {
        if let Some(taken) = reserved.iter().find(|name| value.get(name).is_some()) {
            self.out.refuse(who, &format!("in a template its argument {taken:?} is one of every such block"));
        }
        self.out.fields(schema, value, who, stem)
    }
}

/// A step in messages.
fn called(kind: &str, name: &str) -> String {
    if name.is_empty() { format!("{kind:?}") } else { format!("{kind:?} {name:?}") }
}

/// Why a text cannot be the type or the name of a source.
fn no_label(name: &str) -> Option<&'static str> {
    match () {
        () if name.is_empty() => Some("it is empty"),
        () if name.contains('.') => Some("a dot parts type and name"),
        () if name.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) => {
            Some("it holds a quote, a backslash or a control character")
        }
        () if name.contains("${") || name.contains("%{") => Some("it looks like an interpolation"),
        () if &*crate::value::normalize(name) != name => Some(text::NOT_NORMAL),
        () => None,
    }
}
