//! Inspection: what a template declares and what comes of it, without looking into components.

use std::fmt;

use super::Template;
use super::inputs::Inputs;
use super::legacy::LegacyInspection;
use super::setting::Setting;
use crate::diagnostic::Diagnostics;
use crate::language::eval::Scope;
use crate::registry::Registry;
use crate::secrets::{REDACTED, Secrets};
use crate::value::Value;
use crate::value::print::print;
use crate::value::quote::quote;

/// What there is in a template. `Display` writes it as `packer inspect` does, with secrets replaced.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Variables and their values, by name; one without a value is unknown.
    pub variables: Vec<(String, Value)>,
    /// Locals and their values, by name; without those that fail and what needs them.
    pub locals: Vec<(String, Value)>,
    /// Build blocks, in order; without those of which it is not known what they are called or made from.
    pub builds: Vec<InspectedBuild>,
    /// What went wrong on the way; the rest is as good as it could be made.
    pub diagnostics: Diagnostics,
    /// Texts not to show.
    pub secrets: Secrets,
    /// What there is in a legacy JSON template, which has no build blocks; `None` for an HCL template.
    pub legacy: Option<LegacyInspection>,
}

/// A build block.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InspectedBuild {
    /// Its name; may be empty.
    pub name: String,
    /// Its description; may be empty.
    pub description: String,
    /// `TYPE.NAME` of each source, as the build calls it.
    pub sources: Vec<String>,
    /// `TYPE` or `TYPE.NAME` of each provisioner.
    pub provisioners: Vec<String>,
    /// `TYPE` or `TYPE.NAME` of each test.
    pub tests: Vec<String>,
    /// `TYPE` or `TYPE.NAME` of each post-processor of each sequence.
    pub post_processors: Vec<Vec<String>>,
}

impl Template {
    /// Says what is in the template. Data sources are read unless `inputs` says otherwise; mistakes on the way are in
    /// the result.
    ///
    /// # Errors
    /// Values that do not fit the variables they are given for.
    pub async fn inspect(&self, registry: &Registry, inputs: Inputs) -> Result<Inspection, Diagnostics> {
        if let Some(legacy) = &self.0.legacy {
            return Ok(legacy.inspect(&inputs));
        }
        self.look(registry, &inputs).await.map(|(inspection, _)| inspection)
    }

    /// What is in the template, and the scope of the console's expressions: all but data sources.
    pub(super) async fn look(
        &self,
        registry: &Registry,
        inputs: &Inputs,
    ) -> Result<(Inspection, Scope), Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let setting = Setting::new(inputs, &self.0.root);
        let values = self.collect_values(&setting, &mut diagnostics);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let evaluated = self.evaluate_blocks(&values, &setting, registry, &mut diagnostics).await;
        let pairs = |object: &Value| -> Vec<(String, Value)> {
            object.as_map().into_iter().flatten().map(|(name, v)| (name.to_string(), v.clone())).collect()
        };
        let step = |step: &super::builds::Step| match step.name.as_str() {
            "" => step.kind.to_string(),
            name => format!("{}.{name}", step.kind),
        };
        let sound = evaluated.builds.iter().filter(|(_, build)| build.sound);
        let builds = sound.map(|(_, build)| InspectedBuild {
            name: build.name.clone(),
            description: build.description.clone(),
            sources: build.sources.iter().map(|s| format!("{}.{}", s.source.kind, s.name)).collect(),
            provisioners: build.provisioners.iter().map(step).collect(),
            tests: build.tests.iter().map(step).collect(),
            post_processors: build.post_processors.iter().map(|s| s.iter().map(step).collect()).collect(),
        });
        diagnostics.scrub(&evaluated.secrets);
        let inspection = Inspection {
            variables: pairs(&evaluated.variables),
            locals: pairs(&evaluated.locals)
                .into_iter()
                .filter(|(name, _)| !evaluated.failed.contains(&**name))
                .collect(),
            builds: builds.collect(),
            diagnostics,
            secrets: evaluated.secrets.clone(),
            legacy: None,
        };
        let scope = setting.base_scope(evaluated.variables);
        Ok((inspection, scope.with_variables([("local", evaluated.locals)])))
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(legacy) = &self.legacy {
            return f.write_str(&self.secrets.scrub_prose(legacy.to_string()));
        }
        let mut text = format!("Packer Inspect: HCL2 mode\n\n{}> builds:\n", self.sections());
        for (i, build) in self.builds.iter().enumerate() {
            build.write(i, &mut text);
        }
        f.write_str(&self.secrets.scrub_prose(text))
    }
}

impl Inspection {
    /// Variables and locals alone, as the console's `variables` shows them.
    pub fn values(&self) -> String {
        if self.legacy.is_some() {
            let shown = |(name, value): &(String, Value)| match value.is_sensitive() {
                true => format!("{name}: {REDACTED},\n"),
                false => format!("{name}: {},\n", self.secrets.scrub(print(value))),
            };
            let text: String = self.variables.iter().map(shown).collect();
            return self.secrets.scrub_prose(format!("\n{text}")).into_owned();
        }
        self.secrets.scrub_prose(self.sections()).into_owned()
    }

    fn sections(&self) -> String {
        let mut text = String::new();
        for (title, root, values) in
            [("input-variables", "var", &self.variables), ("local-variables", "local", &self.locals)]
        {
            text.push_str(&format!("> {title}:\n\n"));
            for (name, value) in values {
                // Before it is quoted: a secret of several lines is not to be found afterwards.
                let shown = self.secrets.scrub(print(value));
                text.push_str(&format!("{root}.{name}: {}\n", quote(&shown)));
            }
            text.push('\n');
        }
        text
    }
}

impl InspectedBuild {
    fn write(&self, index: usize, text: &mut String) {
        let name = if self.name.is_empty() { format!("<unnamed build {index}>") } else { self.name.clone() };
        text.push_str(&format!("\n  > {name}:\n"));
        if !self.description.is_empty() {
            text.push_str(&format!("\n  > Description: {}\n", self.description));
        }
        text.push_str("\n    sources:\n");
        let none = ["<no source>".to_owned()];
        for source in if self.sources.is_empty() { &none[..] } else { &self.sources } {
            text.push_str(&format!("\n      {source}\n"));
        }
        text.push_str("\n    provisioners:\n\n");
        let none = ["<no provisioner>".to_owned()];
        for provisioner in if self.provisioners.is_empty() { &none[..] } else { &self.provisioners } {
            text.push_str(&format!("      {provisioner}\n"));
        }
        if !self.tests.is_empty() {
            text.push_str("\n    tests:\n\n");
            self.tests.iter().for_each(|test| text.push_str(&format!("      {test}\n")));
        }
        text.push_str("\n    post-processors:\n");
        if self.post_processors.is_empty() {
            text.push_str("\n      <no post-processor>\n");
        }
        for (i, sequence) in self.post_processors.iter().enumerate() {
            text.push_str(&format!("\n      {i}:\n"));
            for step in sequence {
                text.push_str(&format!("        {step}\n"));
            }
        }
    }
}
