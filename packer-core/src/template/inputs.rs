//! Inputs: what a host gives a template beside its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::files::Language;
use crate::clock::Clock;
use crate::context::Host;
use crate::event::EventSink;
use crate::language::functions::{Files, Functions, RealFiles, Services};
use crate::services::RealServices;
use crate::value::Value;

/// Values of variables, which builds are wanted, and what evaluation may use.
///
/// The library reads no environment variable: values of `PKR_VAR_…` are handed in with
/// [`env_var`](Self::env_var), and what `env("X")` shows is what [`host`](Self::host) lends.
///
/// ```
/// use packer_core::template::Inputs;
/// let inputs = Inputs::new().var("region", "eu-west-1").var_file("prod.pkrvars.hcl").only(["*.docker.web"]);
/// ```
#[derive(Clone)]
pub struct Inputs {
    pub(super) variables: Vec<(String, String)>,
    pub(super) values: Vec<(String, Value)>,
    pub(super) var_files: Vec<String>,
    pub(super) env_variables: BTreeMap<String, String>,
    pub(super) only: Vec<String>,
    pub(super) except: Vec<String>,
    pub(super) warn_on_undeclared: bool,
    pub(super) evaluate_data_sources: bool,
    pub(super) sequential: bool,
    pub(super) language: Language,
    pub(super) working_dir: Option<PathBuf>,
    pub(super) host: Host,
    pub(super) clock: Clock,
    pub(super) functions: Functions,
    pub(super) files: Arc<dyn Files>,
    pub(super) services: Arc<dyn Services>,
    pub(super) sinks: Vec<Arc<dyn EventSink>>,
    pub(super) cancel: CancellationToken,
}

impl Inputs {
    /// No values, all builds, data sources are read; nothing is lent but the system's clock.
    pub fn new() -> Self {
        Self {
            variables: Vec::new(),
            values: Vec::new(),
            var_files: Vec::new(),
            env_variables: BTreeMap::new(),
            only: Vec::new(),
            except: Vec::new(),
            warn_on_undeclared: false,
            evaluate_data_sources: true,
            sequential: false,
            language: Language::LegacyJson,
            working_dir: None,
            host: Host::new(),
            clock: Clock::system(),
            functions: Functions::standard(),
            files: Arc::new(RealFiles),
            services: Arc::new(RealServices),
            sinks: Vec::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// Sets a variable, as `-var NAME=TEXT` does: beats every other source; the last of one name counts. The text is
    /// taken as it is for strings and numbers, and read as an expression for all other types.
    #[must_use]
    pub fn var(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.variables.push((name.into(), text.into()));
        self
    }

    /// Sets a variable to a value of the host's own, of any type that converts to the variable's: beats even
    /// [`var`](Self::var). A sensitive value stays sensitive, whatever the template says of the variable.
    ///
    /// ```
    /// use packer_core::Value;
    /// use packer_core::template::Inputs;
    /// let ports = Value::from(vec![80, 443]);
    /// let inputs = Inputs::new().value("ports", ports).value("token", Value::from("hunter2").sensitive());
    /// ```
    #[must_use]
    pub fn value(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.push((name.into(), value.into()));
        self
    }

    /// Reads variables from a file whose name ends in `.hcl` or `.json`; later files beat earlier ones.
    #[must_use]
    pub fn var_file(mut self, path: impl Into<String>) -> Self {
        self.var_files.push(path.into());
        self
    }

    /// Sets a variable from the environment's `PKR_VAR_NAME`: beats only the default. Undeclared names are
    /// ignored. Legacy JSON templates have no such variables.
    #[must_use]
    pub fn env_var(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.env_variables.insert(name.into(), text.into());
        self
    }

    /// Keeps only the builds whose display name matches one of these globs.
    #[must_use]
    pub fn only<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.only.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Leaves out the builds whose display name, and the post-processors whose name or type, matches one of these
    /// globs.
    #[must_use]
    pub fn except<S: Into<String>>(mut self, patterns: impl IntoIterator<Item = S>) -> Self {
        self.except.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Whether a name in a variable file that no template declares is told as a warning. Off unless set.
    #[must_use]
    pub fn warn_on_undeclared(mut self, on: bool) -> Self {
        self.warn_on_undeclared = on;
        self
    }

    /// Whether data sources are read. On unless set; where they are not read their values are unknown.
    #[must_use]
    pub fn evaluate_data_sources(mut self, on: bool) -> Self {
        self.evaluate_data_sources = on;
        self
    }

    /// Whether all data sources are evaluated before all locals, as Packer before 1.12 did: data sources see no
    /// locals. Off unless set.
    #[must_use]
    pub fn sequential(mut self, on: bool) -> Self {
        self.sequential = on;
        self
    }

    /// What a template is read as whose path does not say it, as `-config-type` does: a legacy JSON template unless set.
    #[must_use]
    pub fn language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    /// The folder that relative paths start from. Unless set it is the folder of the process, and `path.cwd` shows that.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.working_dir = Some(path.into());
        self
    }

    /// What the host lends to functions and data sources: variables for `env`, folders.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The functions that expressions may call: [`Functions::standard`] unless set, which a host extends with its own.
    #[must_use]
    pub fn functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }

    /// What file functions may read: the file system of this machine unless set.
    #[must_use]
    pub fn files(mut self, files: impl Files + 'static) -> Self {
        self.files = Arc::new(files);
        self
    }

    /// Whom functions may ask outside of this machine: [`RealServices`], found through the variables of
    /// [`host`](Self::host), unless set; [`NoServices`](crate::language::functions::NoServices) refuses.
    #[must_use]
    pub fn services(mut self, services: impl Services + 'static) -> Self {
        self.services = Arc::new(services);
        self
    }

    /// Who hears what data sources tell.
    #[must_use]
    pub fn events(mut self, sink: impl EventSink + 'static) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// Ends the reading of data sources, and of what functions ask services for, when cancelled.
    #[must_use]
    pub fn cancelled_by(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// The language that a path is read in with these inputs.
    pub fn language_of(&self, path: &str) -> Language {
        Language::of(self.dir(), path, self.language)
    }

    /// The folder that relative paths start from, where the host set one.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.working_dir.as_deref()
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self::new()
    }
}

/// Names only: the values may be secret.
impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = self.variables.iter().map(|(name, _)| name.as_str());
        let names: Vec<&str> = texts.chain(self.values.iter().map(|(name, _)| name.as_str())).collect();
        f.debug_struct("Inputs")
            .field("variables", &names)
            .field("var_files", &self.var_files)
            .field("only", &self.only)
            .field("except", &self.except)
            .finish_non_exhaustive()
    }
}
