//! What evaluation has at hand: functions, scopes, and the context of data sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use uuid::Uuid;

use super::files::forward;
use super::inputs::Inputs;
use crate::context::{Context, RunContext};
use crate::event::Events;
use crate::facts::BuildInfo;
use crate::facts::Facts;
use crate::language::eval::Scope;
use crate::language::functions::{Capabilities, Function, Functions, Param};
use crate::language::go_template::Interpolation;
use crate::ledger::{Ledger, MemoryLedger};
use crate::secrets::Secrets;
use crate::value::{Type, Value};

/// What a component shows of a value that exists only later.
const PLACEHOLDER: &str = "<unknown>";

/// What one evaluation of a template has at hand.
pub(super) struct Setting<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) secrets: Secrets,
    /// `path.root`.
    root: &'a str,
    /// `path.cwd`.
    cwd: String,
    capabilities: Capabilities,
    ledger: Arc<MemoryLedger>,
    run: Arc<RunContext>,
}

impl<'a> Setting<'a> {
    pub(super) fn new(inputs: &'a Inputs, root: &'a str) -> Self {
        let cwd =
            inputs.dir().map(Path::to_path_buf).or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        let mut capabilities = Capabilities::none();
        capabilities.files = inputs.files.clone();
        capabilities.base_dir = root.into();
        capabilities.cwd = cwd.clone();
        capabilities.env = Arc::new(inputs.host.env.clone());
        capabilities.home = inputs.host.env.get("HOME").map(PathBuf::from);
        capabilities.services = inputs.services.clone();
        capabilities.cancel = inputs.cancel.clone();
        capabilities.clock = inputs.clock.clone();
        capabilities.started = inputs.clock.now();
        let secrets = Secrets::new();
        inputs.host.env.values().for_each(|value| secrets.add_url(value));
        capabilities.secrets = secrets.clone();
        let events = Events::new(inputs.clock.clone(), secrets.clone(), inputs.sinks.clone());
        let ledger = Arc::new(MemoryLedger::new());
        let id = Uuid::new_v4().to_string();
        let run = RunContext::new(
            id,
            events,
            ledger.clone(),
            secrets.clone(),
            inputs.clock.clone(),
            inputs.host.clone(),
        );
        Self {
            inputs,
            secrets,
            root,
            cwd: forward(&cwd.to_string_lossy()),
            capabilities,
            ledger,
            run: Arc::new(run),
        }
    }

    /// Where defaults of variables are evaluated: nothing but `env`.
    pub(super) fn default_scope(&self) -> Scope {
        Scope::new()
            .with_only_functions(Functions::none().with("env", env_function()), self.capabilities.clone())
    }

    /// Where a rule of a variable is evaluated: the variable alone.
    pub(super) fn rule_scope(&self, name: &Arc<str>, value: &Value) -> Scope {
        let variable = Value::object([(name.clone(), value.clone())]);
        let mut capabilities = self.capabilities.clone();
        capabilities.base_dir = PathBuf::new();
        Scope::new()
            .with_functions(self.inputs.functions.clone(), capabilities)
            .with_variables([("var", variable)])
    }

    /// What every expression of the template sees but constants: `local` and `data` are still missing.
    pub(super) fn base_scope(&self, variables: Value) -> Scope {
        let text = || Value::unknown(Type::String);
        let path =
            Value::object([("root", Value::text(&forward(self.root))), ("cwd", Value::text(&self.cwd))]);
        let packer = Value::object([
            ("version", Value::from(crate::VERSION)),
            ("iterationID", text()),
            ("versionFingerprint", text()),
        ]);
        let nothing: [(&str, Type); 0] = [];
        Scope::new().with_functions(self.inputs.functions.clone(), self.capabilities.clone()).with_variables(
            [
                ("var", variables),
                ("path", path),
                ("packer", packer),
                ("source", Value::object([("type", text()), ("name", text())])),
                ("build", Value::unknown(Type::object(nothing))),
            ],
        )
    }

    /// The names of the variables that are sensitive and everything else a data source may want to know of its
    /// surroundings.
    pub(super) fn data_build_info(&self) -> Arc<BuildInfo> {
        Arc::new(BuildInfo { core_version: crate::VERSION.to_owned(), ..BuildInfo::default() })
    }

    /// Removes the temporary files that data sources have left.
    pub(super) fn clean_up(&self) {
        for resource in self.ledger.outstanding().iter().rev().filter(|r| r.is_path()) {
            // What is gone already, or cannot be removed, is a temporary file of the system.
            let _ = match resource.kind.as_str() {
                "directory" => std::fs::remove_dir_all(&resource.name),
                _ => std::fs::remove_file(&resource.name),
            };
        }
    }

    /// What the `{{ … }}` of a data source knows.
    pub(super) fn interpolation(&self) -> Interpolation {
        let pwd = Some(PathBuf::from(&self.cwd));
        let secrets = self.secrets.clone();
        Interpolation { started: self.started(), pwd, secrets, ..Interpolation::default() }
    }

    /// The folder that relative paths start from.
    pub(super) fn working_dir(&self) -> &Path {
        &self.capabilities.cwd
    }

    /// What functions may reach.
    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// When the template was read: every function that shows a time without being asked for the present one shows this.
    pub(super) fn started(&self) -> Timestamp {
        self.capabilities.started
    }

    /// What a data source reads with.
    pub(super) fn data_context(&self, build: Arc<BuildInfo>, kind: &str) -> Context {
        Context::new(self.run.clone(), build, kind, self.inputs.cancel.clone())
    }
}

/// `source` as the body of a source and of its steps sees it.
pub(super) fn source_value(kind: &str, name: &str) -> Value {
    Value::object([("type", Value::text(kind)), ("name", Value::text(name))])
}

/// `build` as steps see it: what is known of the machine, and a placeholder for everything else that may be referred to.
pub(super) fn build_value(name: &str, own: &[String], facts: Option<&Facts>) -> Value {
    // What all builds have in common is made once: there may be thousands of them.
    static COMMON: LazyLock<BTreeMap<Arc<str>, Value>> = LazyLock::new(|| {
        Facts::COMMON.into_iter().map(|name| (name.into(), Value::from(PLACEHOLDER))).collect()
    });
    let mut all = COMMON.clone();
    all.extend(own.iter().map(|name| (name.as_str().into(), Value::from(PLACEHOLDER))));
    for (name, value) in facts.into_iter().flat_map(Facts::iter) {
        all.insert(name.as_str().into(), value.clone());
    }
    all.insert("name".into(), Value::text(name));
    Value::object(all)
}

/// `env("NAME")`: what the host lends; an empty text where the variable is not set.
fn env_function() -> Function {
    Function::new([Param::string("key")], Type::String, |args, capabilities| {
        let name = args.first().and_then(Value::as_str).unwrap_or_default();
        Ok(Value::text(capabilities.env.get(name).map_or("", String::as_str)))
    })
}

/// Where defaults of variables are checked before it is known what the environment says.
pub(super) fn unknown_env_scope() -> Scope {
    static ENV: LazyLock<Functions> = LazyLock::new(|| {
        let env =
            Function::new([Param::string("key")], Type::String, |_, _| Ok(Value::unknown(Type::String)));
        Functions::none().with("env", env)
    });
    Scope::new().with_only_functions(ENV.clone(), Capabilities::none())
}
