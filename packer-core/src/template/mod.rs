//! Templates: from text to a pipeline.
//!
//! A [`Template`] is what its files say; [`Inputs`] are what the host adds: values of variables, which builds are
//! wanted, what evaluation may use. Together they make a [`Pipeline`](crate::Pipeline), the one input of the engine.
//!
//! ```no_run
//! # async fn run(registry: packer_core::Registry) -> Result<(), Box<dyn std::error::Error>> {
//! use packer_core::template::{Inputs, Template};
//! let template = Template::load("image.pkr.hcl")?;
//! let pipeline = template.evaluate(&registry, Inputs::new().var("region", "eu-west-1")).await?;
//! # Ok(())
//! # }
//! ```

mod artifacts;
#[cfg(feature = "hcl")]
pub mod export;
pub mod fmt;
#[cfg(feature = "upgrade")]
pub mod upgrade;

mod builds;
mod component;
mod console;
mod data;
mod decode;
pub mod extensions;
mod files;
mod filters;
mod for_each;
mod graph;
#[cfg(feature = "hcl")]
mod hcl_data;
mod hcp;
mod inputs;
mod inspect;
mod legacy;
mod locals;
mod nodes;
mod outputs;
mod overrides;
mod packer_block;
mod places;
mod plan;
mod schema;
mod setting;
mod sources;
mod suggest;
mod validate;
mod variables;
mod version;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

pub use console::{Completion, Console, Response};
#[cfg(feature = "hcl")]
pub use export::{Exported, export};
pub use files::{LARGEST_FILE, Language};
pub use inputs::Inputs;
pub use inspect::{InspectedBuild, Inspection};
pub use legacy::{InspectLine, InspectedVariable, LegacyInspection};
pub use packer_block::{RequiredPlugin, check_plugin_source};
pub use schema::schema;
pub use version::VersionConstraint;

use data::DataBlocks;
use legacy::Legacy;
use locals::Local;
use outputs::OutputBlock;
use setting::Setting;
use variables::Variables;

use crate::diagnostic::{Diagnostic, Diagnostics, Hide, Location, SourceFile};
use crate::language::syntax::{Block, BodySchema, Content, File, parse_file};

/// What is said of a name that is none.
const NAME_RULE: &str = "A name starts with a letter or `_` and holds only letters, digits, `_` and `-`.";

/// A template as its files say it: read, and checked as far as that needs neither values nor components. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template(Arc<Parsed>);

#[derive(Debug, Default)]
struct Parsed {
    /// `path.root`.
    root: String,
    /// The names of the files, in the order in which they are read.
    files: Vec<String>,
    auto_vars: Vec<String>,
    plugins: Vec<RequiredPlugin>,
    variables: Variables,
    data: DataBlocks,
    locals: Vec<Local>,
    sources: Vec<Block>,
    builds: Vec<Block>,
    outputs: Vec<OutputBlock>,
    registries: Vec<Block>,
    /// What a template of the first generation says; then all else is empty.
    legacy: Option<Legacy>,
}

impl Template {
    /// Reads the files of a template: one file, or all of a folder. A file whose name ends in neither `.pkr.hcl` nor
    /// `.pkr.json` is a legacy JSON template.
    ///
    /// # Errors
    /// Everything wrong in all files at once: syntax first; where that is right, blocks, names, types and required
    /// versions.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Diagnostics> {
        Self::read(None, &path.as_ref().to_string_lossy(), Language::LegacyJson)
    }

    /// Reads the files of a template, and checks the values of variables in `inputs` with it: all that can be said
    /// without components. The path is relative to the inputs' working folder. What a file is read as whose name
    /// does not say it, is for the [`Inputs::language`].
    ///
    /// # Errors
    /// As [`load`](Self::load), and values that fit no variable.
    pub fn load_for(path: &str, inputs: &Inputs) -> Result<Self, Diagnostics> {
        let template = Self::read(inputs.dir(), path, inputs.language)?;
        template.check(inputs).into_result(template)
    }

    /// Reads a text as a legacy JSON template, one from standard input for example. `path` is where it would be:
    /// messages show it, and `{{template_dir}}` is its folder.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_legacy(path: &str, text: impl Into<Vec<u8>>) -> Result<Self, Diagnostics> {
        Legacy::from_bytes(path, text.into()).map(Self::of_legacy)
    }

    fn of_legacy(legacy: Legacy) -> Self {
        let files = vec![legacy.path().to_owned()];
        Self(Arc::new(Parsed { files, legacy: Some(legacy), ..Parsed::default() }))
    }

    /// The language it is written in.
    pub fn language(&self) -> Language {
        if self.0.legacy.is_some() { Language::LegacyJson } else { Language::Hcl }
    }

    /// Checks the values of variables in `inputs`: that they fit the variables' types and that the variables are
    /// declared. Rules, and variables without a value, are for [`evaluate`](Self::evaluate).
    ///
    /// Of a legacy JSON template only the files of variables are checked: it takes whatever names there are.
    pub fn check(&self, inputs: &Inputs) -> Diagnostics {
        if self.0.legacy.is_some() {
            return Legacy::check(inputs);
        }
        let mut diagnostics = Diagnostics::new();
        let setting = Setting::new(inputs, &self.0.root);
        self.collect_values(&setting, &mut diagnostics);
        diagnostics
    }

    /// Makes a template of texts with the names that messages show for them; `path.root` is the working folder.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_texts<N: Into<String>, T: Into<String>>(
        texts: impl IntoIterator<Item = (N, T)>,
    ) -> Result<Self, Diagnostics> {
        let sources = texts.into_iter().map(|(name, text)| SourceFile::new(name, text)).collect();
        Self::parse(sources, Parsed { root: ".".into(), ..Parsed::default() }, Diagnostics::new())
    }

    /// The plugins that the template asks for.
    pub fn required_plugins(&self) -> &[RequiredPlugin] {
        &self.0.plugins
    }

    /// Where the template asks for an HCP Packer registry, which this library does not talk to.
    pub fn registry_block(&self) -> Option<Location> {
        let in_build = || self.0.builds.iter().find(|b| hcp::is_in(b));
        self.0.registries.first().or_else(in_build).map(Block::location)
    }

    fn read(working_dir: Option<&Path>, path: &str, otherwise: Language) -> Result<Self, Diagnostics> {
        if Language::of(working_dir, path, otherwise) == Language::LegacyJson {
            return Legacy::load(working_dir, path).map(Self::of_legacy);
        }
        Self::read_with(working_dir, path, Vec::new())
    }

    /// Reads files in HCL, and adds to them what is no file.
    fn read_with(
        working_dir: Option<&Path>,
        path: &str,
        more: Vec<Arc<SourceFile>>,
    ) -> Result<Self, Diagnostics> {
        let found = files::collect(working_dir, path)?;
        let mut diagnostics = Diagnostics::new();
        let sources = found.files.iter().filter_map(|name| files::read(working_dir, name, &mut diagnostics));
        let sources = sources.chain(more).collect();
        let parsed = Parsed { root: found.root, auto_vars: found.auto_vars, ..Parsed::default() };
        Self::parse(sources, parsed, diagnostics)
    }

    fn parse(
        sources: Vec<Arc<SourceFile>>,
        parsed: Parsed,
        diagnostics: Diagnostics,
    ) -> Result<Self, Diagnostics> {
        let read = Self::declared(sources, parsed, diagnostics);
        read.map_err(|mut diagnostics| {
            // Nobody knows yet what of it is secret.
            diagnostics.hide_values(0, Hide::Telling);
            diagnostics
        })
    }

    fn declared(
        sources: Vec<Arc<SourceFile>>,
        mut parsed: Parsed,
        mut diagnostics: Diagnostics,
    ) -> Result<Self, Diagnostics> {
        let mut files = Vec::with_capacity(sources.len());
        for source in &sources {
            let (file, found) = parse_file(source);
            diagnostics.append(found);
            files.push(file);
        }
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        check_core_version(&files)?;
        let contents: Vec<Content> =
            files.iter().map(|file| file.body.content(&top_level(), &mut diagnostics)).collect();
        parsed.declare(&contents, &mut diagnostics);
        parsed.files = sources.iter().map(|s| s.name().to_owned()).collect();
        let template = Self(Arc::new(parsed));
        template.in_order(diagnostics).into_result(template)
    }

    /// Findings in the order of the files and of the places in them, each once; those without a place last.
    fn in_order(&self, diagnostics: Diagnostics) -> Diagnostics {
        let order: HashMap<&str, usize> =
            self.0.files.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let mut all: Vec<Diagnostic> = diagnostics.into_iter().collect();
        all.sort_by_cached_key(|d| match &d.location {
            Some(place) => (order.get(place.file()).copied().unwrap_or(order.len()), place.span().start),
            None => (usize::MAX, 0),
        });
        // What is wrong with a step is wrong in each build that has it.
        let mut told = HashSet::new();
        all.retain(|d| told.insert(d.to_string()));
        all.into_iter().collect()
    }

    /// The values of variables from all sources.
    fn collect_values(&self, setting: &Setting<'_>, diagnostics: &mut Diagnostics) -> variables::Values {
        let inner = &*self.0;
        inner.variables.collect(setting.inputs, &inner.auto_vars, &setting.default_scope(), diagnostics)
    }
}

/// The blocks of a file. `communicator` is from before Packer 1 and means nothing.
fn top_level() -> BodySchema {
    BodySchema::new()
        .block("packer", &[])
        .block("source", &["type", "name"])
        .block("variables", &[])
        .block("variable", &["name"])
        .block("locals", &[])
        .block("local", &["name"])
        .block("data", &["type", "name"])
        .block("build", &[])
        .block("hcp_packer_registry", &[])
        .block("output", &["name"])
        .block("communicator", &["type", "name"])
}

/// A template for another version may hold what this one does not know, so this is looked at before anything else.
fn check_core_version(files: &[File]) -> Result<(), Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let schema = BodySchema::new().block("packer", &[]);
    for file in files {
        let (content, _) = file.body.partial_content(&schema, &mut Diagnostics::new());
        for block in &content.blocks {
            packer_block::check_core_version(block, &mut diagnostics);
        }
    }
    diagnostics.into_result(())
}

impl Parsed {
    /// Adds what the files declare.
    fn declare(&mut self, contents: &[Content], diagnostics: &mut Diagnostics) {
        // What the environment says is not known yet.
        let scope = setting::unknown_env_scope();
        for block in contents.iter().flat_map(|c| &c.blocks) {
            match block.kind.as_str() {
                "packer" => self.plugins.extend(packer_block::decode_block(block, diagnostics)),
                "variables" => self.variables.add_block(block, &scope, diagnostics),
                "variable" => self.variables.add_variable(block, &scope, diagnostics),
                "locals" => self.locals.extend(locals::decode_locals(block, diagnostics)),
                "local" => self.locals.extend(locals::decode_local(block, diagnostics)),
                "data" => self.data.add(block, diagnostics),
                "source" => self.sources.push(block.clone()),
                "build" => self.builds.push(block.clone()),
                "output" => self.outputs.extend(outputs::decode(block, diagnostics)),
                "hcp_packer_registry" => self.registries.push(block.clone()),
                _ => {}
            }
        }
        locals::check_duplicates(&self.locals, diagnostics);
        outputs::check_duplicates(&self.outputs, diagnostics);
    }
}

#[cfg(test)]
mod tests;
