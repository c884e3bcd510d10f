//! Components that are made when the values they are made from are known.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::artifact::Artifact;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::facts::Facts;
use crate::value::Value;

/// A component that exists now, or is made when values are known that exist only while the build runs.
///
/// Templates refer to such values (`build.ID`, another build's artifact). They are checked early with the
/// values unknown, which gives the preview, and decoded again when the values are known.
pub struct Late<T: ?Sized> {
    preview: Arc<T>,
    /// What the preview was decoded from.
    config: Option<Value>,
    make: Option<Arc<Make<T>>>,
    reads: Option<Arc<[String]>>,
    /// Where its arguments stand.
    places: Option<Places>,
}

/// Finds where an argument of a component stands, by the path that a finding [is about](Diagnostic::about).
pub(crate) type Places = Arc<dyn Fn(&str) -> Option<Location> + Send + Sync>;

type Make<T> = dyn Fn(&RunValues) -> Result<Decoded<T>, Diagnostics> + Send + Sync;

/// A component, and the configuration it was decoded from where a template gave one: what sensitive values it was
/// made of is still marked there.
pub(crate) struct Decoded<T: ?Sized> {
    pub(crate) component: Arc<T>,
    pub(crate) config: Option<Value>,
}

impl<T: ?Sized> Late<T> {
    /// A component that is what it will be.
    pub fn ready(component: Arc<T>) -> Self {
        Self { preview: component, config: None, make: None, reads: None, places: None }
    }

    /// A component that is made again just before it is used.
    pub fn deferred(
        preview: Arc<T>,
        make: impl Fn(&RunValues) -> Result<Arc<T>, Diagnostics> + Send + Sync + 'static,
    ) -> Self {
        let preview = Decoded { component: preview, config: None };
        Self::decoded(preview, move |values| Ok(Decoded { component: make(values)?, config: None }))
    }

    /// A component of a template that is made again just before it is used.
    pub(crate) fn decoded(
        preview: Decoded<T>,
        make: impl Fn(&RunValues) -> Result<Decoded<T>, Diagnostics> + Send + Sync + 'static,
    ) -> Self {
        let Decoded { component, config } = preview;
        Self { preview: component, config, make: Some(Arc::new(make)), reads: None, places: None }
    }

    /// The same with places that findings about its arguments get.
    #[must_use]
    pub(crate) fn placed(mut self, places: Places) -> Self {
        self.places = Some(places);
        self
    }

    /// Findings of the component with the places of the arguments that they are about; what has one keeps it.
    pub(crate) fn locate(&self, found: Diagnostics) -> Diagnostics {
        let Some(places) = &self.places else { return found };
        let located = |finding: Diagnostic| match finding.about.as_deref().and_then(|path| places(path)) {
            Some(place) => finding.or_at(&place),
            None => finding,
        };
        found.into_iter().map(located).collect()
    }

    /// The same with what its preview was decoded from.
    #[must_use]
    pub(crate) fn configured(mut self, config: Option<Value>) -> Self {
        self.config = config;
        self
    }

    /// Says which values of the run (`build.ID`) a deferred component is made of. One that is made of none can be made, and
    /// its step taken from a cache, before the machine runs; unless this is called, it may be made of any.
    #[must_use]
    pub fn reading(mut self, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.reads = Some(values.into_iter().map(Into::into).collect());
        self
    }

    /// The values of the run that it is made of; `None` where that is not known.
    pub fn reads(&self) -> Option<&[String]> {
        match &self.make {
            Some(_) => self.reads.as_deref(),
            None => Some(&[]),
        }
    }

    /// The component as far as it is known before the build runs.
    pub fn preview(&self) -> &Arc<T> {
        &self.preview
    }

    /// The configuration that the preview was decoded from, where a template gave it.
    pub(crate) fn preview_config(&self) -> Option<&Value> {
        self.config.as_ref()
    }

    /// Whether it is made again before it is used.
    pub fn is_deferred(&self) -> bool {
        self.make.is_some()
    }

    /// The component with everything known.
    ///
    /// # Errors
    /// What is wrong with its configuration now that the values are known.
    pub fn make(&self, values: &RunValues) -> Result<Arc<T>, Diagnostics> {
        self.make_decoded(values).map(|made| made.component)
    }

    /// The same with what it was decoded from.
    pub(crate) fn make_decoded(&self, values: &RunValues) -> Result<Decoded<T>, Diagnostics> {
        match &self.make {
            Some(make) => make(values),
            None => Ok(Decoded { component: self.preview.clone(), config: self.config.clone() }),
        }
    }
}

impl<T: ?Sized> Clone for Late<T> {
    fn clone(&self) -> Self {
        Self {
            preview: self.preview.clone(),
            config: self.config.clone(),
            make: self.make.clone(),
            reads: self.reads.clone(),
            places: self.places.clone(),
        }
    }
}

impl<T: ?Sized> fmt::Debug for Late<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.make.is_some() { "Late(deferred)" } else { "Late(ready)" })
    }
}

/// What is known only while a build runs.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RunValues {
    /// What is known about the machine: `build.*`.
    pub facts: Facts,
    /// The artifacts of the builds in `needs`, by display name.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
}

impl RunValues {
    /// Only what is known about the machine.
    pub fn new(facts: Facts) -> Self {
        Self { facts, artifacts: BTreeMap::new() }
    }
}
