//! Inspection of a legacy template: what it declares, as it is written.

use std::fmt;

use super::Legacy;
use super::plan::Known;
use crate::diagnostic::Diagnostics;
use crate::language::go_template::Interpolation;
use crate::secrets::{REDACTED, Secrets};
use crate::template::inputs::Inputs;
use crate::template::inspect::Inspection;
use crate::value::Value;

const NOTE: &str = "\nNote: If your build names contain user variables or template\nfunctions such as 'timestamp', these are \
                    processed at build time,\nand therefore only show in their raw form here.";

/// What there is in a legacy JSON template, as it is written. `Display` writes it as `packer inspect` does.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LegacyInspection {
    /// What the template says of itself; may be empty.
    pub description: String,
    /// Its variables, by name.
    pub variables: Vec<InspectedVariable>,
    /// Name and type of each builder, by name.
    pub builders: Vec<(String, String)>,
    /// The type of each provisioner, in order.
    pub provisioners: Vec<String>,
}

/// A declared variable.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InspectedVariable {
    /// Its name.
    pub name: String,
    /// Its default as it is written, `<sensitive>` where that must not be shown; `None` where a value must be given.
    pub default: Option<String>,
}

/// A part of an inspection as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InspectLine {
    /// A text for people.
    Say(String),
    /// A category and fields for programs, which come beside the texts.
    Tell(&'static str, Vec<String>),
}

impl Legacy {
    /// What the template declares, with the values of its variables as far as they can be resolved.
    pub(in super::super) fn inspect(&self, inputs: &Inputs) -> Inspection {
        self.look(inputs).0
    }

    /// The same, and what the console's expressions may use.
    pub(in super::super) fn console(&self, inputs: &Inputs) -> (Inspection, Interpolation) {
        let (inspection, known) = self.look(inputs);
        (Inspection { secrets: known.secrets, ..inspection }, known.interpolation)
    }

    fn look(&self, inputs: &Inputs) -> (Inspection, Known) {
        let document = &self.document;
        let mut diagnostics: Diagnostics = self.warnings.clone();
        let known = self.known(inputs, &mut diagnostics);
        let defaults = document.sensitive.iter().filter_map(|name| document.variable(&name.text));
        let defaults: Vec<&str> =
            defaults.map(|v| v.default.as_ref().map_or("", |default| &*default.text)).collect();
        let shown = |text: &str| match defaults.contains(&text) {
            true => REDACTED.to_owned(),
            false => known.secrets.scrub(text).into_owned(),
        };
        let variables = document.variables.iter().map(|v| InspectedVariable {
            name: v.name.text.to_string(),
            default: v.default.as_ref().map(|default| shown(&default.text)),
        });
        let mut builders: Vec<(String, String)> =
            document.builders.iter().map(|b| (b.name.text.to_string(), b.kind.text.to_string())).collect();
        builders.sort();
        let legacy = LegacyInspection {
            description: known.secrets.scrub_prose(document.description.as_str()).into_owned(),
            variables: variables.collect(),
            builders,
            provisioners: document.provisioners.iter().map(|p| p.kind.text.to_string()).collect(),
        };
        let sensitive = |name: &str| document.sensitive.iter().any(|s| &*s.text == name);
        let value = |(name, text): (&String, &String)| {
            (name.clone(), Value::from(text.as_str()).sensitive_if(sensitive(name)))
        };
        diagnostics.scrub(&known.secrets);
        let inspection = Inspection {
            variables: known.variables().iter().map(value).collect(),
            locals: Vec::new(),
            builds: Vec::new(),
            diagnostics,
            // Where variables are missing Packer knows no secrets, so that names which are equal to one are shown.
            secrets: if known.complete { known.secrets.clone() } else { Secrets::new() },
            legacy: Some(legacy),
        };
        (inspection, known)
    }
}

impl LegacyInspection {
    /// What is told of it, in order: for people and, beside that, for programs.
    pub fn lines(&self) -> Vec<InspectLine> {
        let mut lines = Lines(Vec::new());
        lines.say("Packer Inspect: JSON mode");
        if !self.description.is_empty() {
            lines.say("Description:\n");
            lines.say(format!("{}\n", self.description));
        }
        self.variable_lines(&mut lines);
        lines.say("");
        lines.say("Builders:\n");
        if self.builders.is_empty() {
            lines.say("  <No builders>");
        }
        let longest = self.builders.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, kind) in &self.builders {
            lines.tell("template-builder", [name, kind]);
            let padding = " ".repeat(longest - name.len());
            lines.say(match name == kind {
                true => format!("  {name}{padding}"),
                false => format!("  {name}{padding} ({kind})"),
            });
        }
        lines.say("");
        lines.say("Provisioners:\n");
        if self.provisioners.is_empty() {
            lines.say("  <No provisioners>");
        }
        for kind in &self.provisioners {
            lines.tell("template-provisioner", [kind]);
            lines.say(format!("  {kind}"));
        }
        lines.say(NOTE);
        lines.0
    }

    fn variable_lines(&self, lines: &mut Lines) {
        if self.variables.is_empty() {
            lines.say("Variables:\n");
            lines.say("  <No variables>");
            return;
        }
        let mut required = self.variables.iter().filter(|v| v.default.is_none()).peekable();
        if required.peek().is_some() {
            lines.say("Required variables:\n");
            for variable in required {
                lines.tell("template-variable", [&variable.name, "", "1"]);
                lines.say(format!("  {}", variable.name));
            }
            lines.say("");
        }
        lines.say("Optional variables and their defaults:\n");
        let longest = self.variables.iter().map(|v| v.name.len()).max().unwrap_or(0);
        for InspectedVariable { name, default } in &self.variables {
            let Some(default) = default else { continue };
            lines.tell("template-variable", [name, default, "0"]);
            lines.say(format!("  {name}{} = {default}", " ".repeat(longest - name.len())));
        }
    }
}

struct Lines(Vec<InspectLine>);

impl Lines {
    fn say(&mut self, text: impl Into<String>) {
        self.0.push(InspectLine::Say(text.into()));
    }

    fn tell<'a>(
        &mut self,
        category: &'static str,
        fields: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
    ) {
        self.0.push(InspectLine::Tell(category, fields.into_iter().map(|f| f.as_ref().to_owned()).collect()));
    }
}

impl fmt::Display for LegacyInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            if let InspectLine::Say(text) = line {
                writeln!(f, "{text}")?;
            }
        }
        Ok(())
    }
}
