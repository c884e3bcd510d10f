//! The registry: the components that templates may name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::builder::Builder;
use crate::config;
use crate::data_source::DataSource;
use crate::post_processor::PostProcessor;
use crate::provisioner::Provisioner;
use crate::value::Value;

/// Names of components and how each is made from its block. A host fills it with what it wants templates to use:
/// ours (`packer_builders::register(&mut registry)`, …) and its own.
///
#[derive(Default, Clone)]
pub struct Registry {
    builders: BTreeMap<String, ComponentType<dyn Builder>>,
    provisioners: BTreeMap<String, ComponentType<dyn Provisioner>>,
    post_processors: BTreeMap<String, ComponentType<dyn PostProcessor>>,
    data_sources: BTreeMap<String, ComponentType<dyn DataSource>>,
    provided: BTreeSet<String>,
    name_cleaners: BTreeMap<String, NameCleaner>,
}

/// What a type of component makes of a text so that it can be a name.
pub type NameCleaner = fn(&str) -> String;

/// How components of one type are made.
pub struct ComponentType<T: ?Sized> {
    /// What its configuration may hold: names, types, docs and defaults of its fields.
    pub schema: Arc<config::Schema>,
    decode: fn(&Value) -> Result<Arc<T>, String>,
}

impl<T: ?Sized> ComponentType<T> {
    /// Makes a component of its configuration.
    ///
    /// # Errors
    /// Where the configuration does not fit.
    pub fn decode(&self, config: &Value) -> Result<Arc<T>, String> {
        (self.decode)(config)
    }
}

impl<T: ?Sized> Clone for ComponentType<T> {
    fn clone(&self) -> Self {
        Self { schema: self.schema.clone(), decode: self.decode }
    }
}

macro_rules! kind {
    ($trait:ident, $add:ident, $get:ident, $names:ident, $what:literal) => {
        #[doc = concat!("Registers a ", $what, " under the name that templates use. A later one of the same name replaces it.")]
        pub fn $add<C: $trait + DeserializeOwned + JsonSchema + 'static>(&mut self, name: impl Into<String>) -> &mut Self {
            let schema = Arc::new(config::Schema::of::<C>());
            let decode = |config: &Value| Ok(Arc::new(config::from_value::<C>(config)?) as Arc<dyn $trait>);
            self.$names.insert(name.into(), ComponentType { schema, decode });
            self
        }

        #[doc = concat!("The ", $what, " of a name.")]
        pub fn $get(&self, name: &str) -> Option<&ComponentType<dyn $trait>> {
            self.$names.get(name)
        }

        #[doc = concat!("The names of all ", $what, "s, in order.")]
        pub fn $names(&self) -> impl Iterator<Item = &str> {
            self.$names.keys().map(String::as_str)
        }
    };
}

impl Registry {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    kind!(Builder, builder, get_builder, builders, "builder");
    kind!(Provisioner, provisioner, get_provisioner, provisioners, "provisioner");
    kind!(PostProcessor, post_processor, get_post_processor, post_processors, "post-processor");
    kind!(DataSource, data_source, get_data_source, data_sources, "data source");

    /// Says that the components of a plugin are registered here, so that a template which requires it
    /// (`github.com/hashicorp/docker`) needs no plugin.
    pub fn provides(&mut self, source: impl Into<String>) -> &mut Self {
        self.provided.insert(source.into());
        self
    }

    /// Gives the components of a type the function `{{clean_resource_name "TEXT"}}` in legacy JSON templates; it replaces what
    /// their names may not hold.
    pub fn cleans_names(&mut self, kind: impl Into<String>, clean: NameCleaner) -> &mut Self {
        self.name_cleaners.insert(kind.into(), clean);
        self
    }

    /// What `{{clean_resource_name}}` does for the components of a type; `None` where they do not know it.
    pub fn name_cleaner(&self, kind: &str) -> Option<NameCleaner> {
        self.name_cleaners.get(kind).copied()
    }

    /// Whether the components of a plugin are registered here, whatever version a template asks for.
    pub fn is_provided(&self, source: &str) -> bool {
        self.provided.contains(source)
    }
}

impl<T: ?Sized> fmt::Debug for ComponentType<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComponentType({})", std::any::type_name::<T>())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("builders", &self.builders.keys())
            .field("provisioners", &self.provisioners.keys())
            .field("post_processors", &self.post_processors.keys())
            .field("data_sources", &self.data_sources.keys())
            .finish_non_exhaustive()
    }
}
