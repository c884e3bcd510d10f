//! The pipeline: builds, what they are made from, and what happens to their artifacts. The one input of the engine,
//! whether a template or code composed it.

mod ext;
mod late;
mod output;

pub use ext::{PostProcessorExt, ProvisionerExt};
pub(crate) use late::{Decoded, Places};
pub use late::{Late, RunValues};
pub use output::{Output, Outputs};

use std::sync::Arc;
use std::time::Duration;

use crate::builder::Builder;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::facts::BuildInfo;
use crate::post_processor::PostProcessor;
use crate::provisioner::{Provisioner, StepInputs};
use crate::secrets::Secrets;

/// Builds to run, in the order in which they are listed and, where the host limits how many run at once, started.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Pipeline {
    /// The builds. Display names should differ; builds with the same name all run.
    pub builds: Vec<Build>,
    /// Values to make of the artifacts when the builds are done; [`Report::outputs`](crate::Report::outputs) has them.
    pub outputs: Vec<Output>,
    /// Texts to scrub from everything the run tells.
    pub secrets: Secrets,
    /// Findings of whoever composed the pipeline that are no errors; told as events when it runs.
    pub notes: Diagnostics,
    /// Plugins that a template requires and whose components are built in; told as events when it runs.
    pub provided: Vec<ProvidedPlugin>,
}

/// A plugin that a template requires and that is not needed: its components are registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvidedPlugin {
    /// What the plugin's components are called after.
    pub name: String,
    /// Where the plugin comes from: `github.com/hashicorp/docker`.
    pub source: String,
    /// The versions that the template asks for. They are those of the plugin; what is built in has one of its own.
    pub version: String,
}

impl Pipeline {
    /// A pipeline of these builds.
    pub fn of(builds: impl IntoIterator<Item = Build>) -> Self {
        Self { builds: builds.into_iter().collect(), ..Self::default() }
    }

    /// Adds a value that the run gives back.
    #[must_use]
    pub fn output(mut self, output: Output) -> Self {
        self.outputs.push(output);
        self
    }
}

/// One build: a builder, the steps that change its machine, and what becomes of its artifact.
///
/// ```
/// use packer_core::{Build, Builder, Pipeline, Provisioner, ProvisionerExt};
/// fn pipeline(base: impl Builder + 'static, web: impl Builder + 'static, nginx: impl Provisioner + 'static) -> Pipeline {
///     let base = Build::new("base", base);
///     let web = Build::new("web", web).provision(nginx.max_retries(2)).after("base");
///     Pipeline::of([base, web])
/// }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Build {
    /// What is known about it before it runs; `display_name` names it in output, in reports and in `needs` of other
    /// builds.
    pub info: Arc<BuildInfo>,
    /// Says what the build is for.
    pub description: String,
    /// What `only` and `except` of steps compare with: `TYPE.NAME` of the source.
    pub source: String,
    /// Starts the machine.
    pub builder: Late<dyn Builder>,
    /// Display names of builds that must have succeeded first; their artifacts are in [`RunValues::artifacts`] when the
    /// builder is made.
    pub needs: Vec<String>,
    /// Change the machine, in order.
    pub provisioners: Vec<ProvisionStep>,
    /// Runs when provisioning failed, before the machine goes.
    pub error_cleanup: Option<ProvisionStep>,
    /// Look at a machine that is started from the artifact, in order, before the post-processors run. What the machine
    /// changes is thrown away.
    pub tests: Vec<ProvisionStep>,
    /// Sequences of post-processors; each starts from the builder's artifact.
    pub post_processors: Vec<Vec<PostProcessStep>>,
    /// The block it comes from.
    pub location: Option<Location>,
    /// Says what its preparation found in the words of the template's language; `None` leaves the findings as they are.
    pub rephrase: Option<fn(&BuildInfo, Diagnostic) -> Diagnostic>,
}

impl Build {
    /// A build with a name and a builder.
    pub fn new(name: impl Into<String>, builder: impl Builder + 'static) -> Self {
        Self::with_builder(
            name,
            builder.type_name().into_owned(),
            Late::ready(Arc::new(builder) as Arc<dyn Builder>),
        )
    }

    /// A build whose builder is made from the artifacts of other builds: `make` is called when they have succeeded.
    ///
    /// `preview` is what `prepare` checks before anything runs.
    pub fn made_from<B: Builder + 'static>(
        name: impl Into<String>,
        needs: impl IntoIterator<Item = impl Into<String>>,
        preview: B,
        make: impl Fn(&RunValues) -> Result<B, Diagnostics> + Send + Sync + 'static,
    ) -> Self {
        let kind = preview.type_name().into_owned();
        let builder: Late<dyn Builder> =
            Late::deferred(Arc::new(preview), move |values| Ok(Arc::new(make(values)?) as Arc<dyn Builder>));
        let mut build = Self::with_builder(name, kind, builder);
        build.needs = needs.into_iter().map(Into::into).collect();
        build
    }

    /// A build from parts: its name, the type of its builder, the builder.
    pub fn with_builder(name: impl Into<String>, builder_type: String, builder: Late<dyn Builder>) -> Self {
        let name = name.into();
        let info = BuildInfo {
            display_name: name.as_str().into(),
            name: name.clone(),
            builder_type: builder_type.clone(),
            core_version: crate::VERSION.to_owned(),
            ..BuildInfo::default()
        };
        Self {
            source: format!("{builder_type}.{name}"),
            info: Arc::new(info),
            description: String::new(),
            builder,
            needs: Vec::new(),
            provisioners: Vec::new(),
            error_cleanup: None,
            tests: Vec::new(),
            post_processors: Vec::new(),
            location: None,
            rephrase: None,
        }
    }

    /// The name in output, in reports and in `needs` of other builds.
    pub fn name(&self) -> &str {
        &self.info.display_name
    }

    /// Adds a step that changes the machine.
    #[must_use]
    pub fn provision(mut self, step: impl Into<ProvisionStep>) -> Self {
        self.provisioners.push(step.into());
        self
    }

    /// Sets what runs when provisioning failed, before the machine goes.
    #[must_use]
    pub fn on_error(mut self, step: impl Into<ProvisionStep>) -> Self {
        self.error_cleanup = Some(step.into());
        self
    }

    /// Adds a test: a step that runs in a machine which is started from the finished artifact, before any post-processor.
    /// Where it fails the build fails, no post-processor runs, and the artifact is kept under a name that says so. What the
    /// machine changes is thrown away.
    ///
    /// ```
    /// use packer_core::{Build, Builder, Provisioner, ProvisionerExt};
    /// fn build(vm: impl Builder + 'static, nginx: impl Provisioner + 'static, answers: impl Provisioner + 'static) -> Build {
    ///     Build::new("web", vm).provision(nginx).test(answers.max_retries(2).named("it answers"))
    /// }
    /// ```
    #[must_use]
    pub fn test(mut self, step: impl Into<ProvisionStep>) -> Self {
        self.tests.push(step.into());
        self
    }

    /// Adds a post-processor as a sequence of its own.
    #[must_use]
    pub fn post_process(self, step: impl Into<PostProcessStep>) -> Self {
        self.post_process_chain([step.into()])
    }

    /// Adds a sequence of post-processors: each works on the artifact of the one before.
    #[must_use]
    pub fn post_process_chain(mut self, steps: impl IntoIterator<Item = PostProcessStep>) -> Self {
        self.post_processors.push(steps.into_iter().collect());
        self
    }

    /// Starts only when the build of this name has succeeded.
    #[must_use]
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.needs.push(name.into());
        self
    }
}

/// A provisioner and how the engine runs it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProvisionStep {
    /// The provisioner's type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
    /// The provisioner.
    pub provisioner: Late<dyn Provisioner>,
    /// Wait before each try. Not counted by `timeout`.
    pub pause_before: Duration,
    /// Limit of each try; each gets the whole of it.
    pub timeout: Option<Duration>,
    /// How often it is tried again after a failure.
    pub max_retries: u32,
    /// Whether the build goes on when the step fails.
    pub continue_on_error: bool,
    /// What its outcome depends on, where the user knows better than the provisioner.
    pub inputs: Option<StepInputs>,
    /// Where the step runs.
    pub filter: SourceFilter,
    /// The block it comes from.
    pub location: Option<Location>,
}

impl ProvisionStep {
    /// A step from a provisioner that exists.
    pub fn new(provisioner: impl Provisioner + 'static) -> Self {
        let kind = provisioner.type_name().into_owned();
        Self::with_provisioner(kind, Late::ready(Arc::new(provisioner) as Arc<dyn Provisioner>))
    }

    /// A step from parts: the provisioner's type and the provisioner.
    pub fn with_provisioner(kind: impl Into<String>, provisioner: Late<dyn Provisioner>) -> Self {
        Self {
            kind: kind.into(),
            name: String::new(),
            provisioner,
            pause_before: Duration::ZERO,
            timeout: None,
            max_retries: 0,
            continue_on_error: false,
            inputs: None,
            filter: SourceFilter::All,
            location: None,
        }
    }

    /// Names the step.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Waits before each try.
    #[must_use]
    pub fn pause_before(mut self, pause: Duration) -> Self {
        self.pause_before = pause;
        self
    }

    /// Limits each try.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Tries this many times more after a failure.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Lets the build go on when the step fails.
    #[must_use]
    pub fn continue_on_error(mut self) -> Self {
        self.continue_on_error = true;
        self
    }

    /// Says what the step's outcome depends on, in place of what the provisioner says.
    #[must_use]
    pub fn inputs(mut self, inputs: StepInputs) -> Self {
        self.inputs = Some(inputs);
        self
    }

    /// Runs the step only in builds made from these sources (`TYPE.NAME`).
    #[must_use]
    pub fn only<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Self {
        self.filter = SourceFilter::Only(sources.into_iter().map(Into::into).collect());
        self
    }

    /// Leaves the step out in builds made from these sources (`TYPE.NAME`).
    #[must_use]
    pub fn except<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Self {
        self.filter = SourceFilter::Except(sources.into_iter().map(Into::into).collect());
        self
    }
}

impl<P: Provisioner + 'static> From<P> for ProvisionStep {
    fn from(provisioner: P) -> Self {
        Self::new(provisioner)
    }
}

/// A post-processor and how the engine runs it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostProcessStep {
    /// The post-processor's type.
    pub kind: String,
    /// Its name; may be empty.
    pub name: String,
    /// The post-processor.
    pub post_processor: Late<dyn PostProcessor>,
    /// Whether its input stays; `None` leaves that to the post-processor.
    pub keep_input_artifact: Option<bool>,
    /// Where the step runs.
    pub filter: SourceFilter,
    /// The block it comes from.
    pub location: Option<Location>,
}

impl PostProcessStep {
    /// A step from a post-processor that exists.
    pub fn new(post_processor: impl PostProcessor + 'static) -> Self {
        let kind = post_processor.type_name().into_owned();
        Self::with_post_processor(kind, Late::ready(Arc::new(post_processor) as Arc<dyn PostProcessor>))
    }

    /// A step from parts: the post-processor's type and the post-processor.
    pub fn with_post_processor(kind: impl Into<String>, post_processor: Late<dyn PostProcessor>) -> Self {
        Self {
            kind: kind.into(),
            name: String::new(),
            post_processor,
            keep_input_artifact: None,
            filter: SourceFilter::All,
            location: None,
        }
    }

    /// Names the step.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says whether the step's input stays.
    #[must_use]
    pub fn keep_input_artifact(mut self, keep: bool) -> Self {
        self.keep_input_artifact = Some(keep);
        self
    }
}

impl<P: PostProcessor + 'static> From<P> for PostProcessStep {
    fn from(post_processor: P) -> Self {
        Self::new(post_processor)
    }
}

/// In which builds a step runs: the source's `TYPE.NAME`, compared exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SourceFilter {
    /// In all.
    #[default]
    All,
    /// In those made from one of these.
    Only(Vec<String>),
    /// In those made from none of these.
    Except(Vec<String>),
}

impl SourceFilter {
    /// Whether a step with this filter runs in a build made from `source`.
    pub fn admits(&self, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(sources) => sources.iter().any(|s| s == source),
            Self::Except(sources) => sources.iter().all(|s| s != source),
        }
    }
}
