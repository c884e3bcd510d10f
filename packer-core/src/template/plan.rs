//! From a template and its inputs to a pipeline.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::artifacts::{self, Need};
use super::builds::{BuildBlock, Reader, SourceUse, Step, TEST};
use super::component::PartBody;
use super::filters::Patterns;
use super::for_each::Instance;
use super::inputs::Inputs;
use super::overrides::Override;
use super::setting::{Setting, build_value, source_value};
use super::sources::{Definer, Definition, SourceRef, Sources};
use super::{Template, component, decode, files, hcp, nodes, packer_block, places};
use crate::builder::{Builder, Machine, Prepared};
use crate::context::{Context, PrepareContext};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::error::{Error, Result};
use crate::facts::BuildInfo;
use crate::language::eval::{Reference, Scope};
use crate::language::go_template::{Data, Interpolation};
use crate::language::syntax::{Block, Body, BodySchema};
use crate::ledger::Resource;
use crate::pipeline::Output;
use crate::pipeline::{
    Build, Decoded, Late, Pipeline, PostProcessStep, ProvisionStep, RunValues, SourceFilter,
};
use crate::provisioner::StepInputs;
use crate::registry::{ComponentType, Registry};
use crate::secrets::Secrets;
use crate::value::{Type, Value};

/// What evaluation of everything but the components gives.
pub(super) struct Evaluated<'t> {
    /// What everything but constants sees.
    pub(super) scope: Scope,
    pub(super) variables: Value,
    pub(super) locals: Value,
    /// Names of locals that could not be evaluated.
    pub(super) failed: BTreeSet<Arc<str>>,
    pub(super) sources: Sources<'t>,
    /// Each build block, or each of those that one with `for_each` stands for.
    pub(super) builds: Vec<(&'t Block, BuildBlock)>,
    pub(super) secrets: Secrets,
    /// What the `{{ … }}` of all components knows.
    pub(super) interpolation: Interpolation,
}

impl Template {
    /// Evaluates the template: values of variables, locals and data sources, then the builds and their components.
    ///
    /// A build whose configuration is wrong is in the pipeline all the same: preparing it gives what was found, so that
    /// [`Engine::prepare`](crate::Engine::prepare) tells the mistakes of all builds at once, and a run
    /// rejects only those builds. Warnings are in [`Pipeline::notes`].
    ///
    /// # Errors
    /// What is wrong with the template itself: values of variables, locals, data sources, build blocks, unknown components.
    pub async fn evaluate(
        &self,
        registry: &Registry,
        inputs: Inputs,
    ) -> std::result::Result<Pipeline, Diagnostics> {
        if let Some(legacy) = &self.0.legacy {
            return legacy.evaluate(registry, &inputs).map_err(|found| self.in_order(found));
        }
        let mut diagnostics = Diagnostics::new();
        let setting = Setting::new(&inputs, &self.0.root);
        let values = self.collect_values(&setting, &mut diagnostics);
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        diagnostics.append(self.check_plugins(registry));
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let evaluated = self.evaluate_blocks(&values, &setting, registry, &mut diagnostics).await;
        let secrets = evaluated.secrets.clone();
        // Where something is wrong already, components are looked at all the same: one run names every mistake.
        let mut told = Diagnostics::new();
        let planned = Planner::new(&evaluated, registry, &inputs, self)
            .and_then(|planner| planner.plan(&mut diagnostics, &mut told));
        let (builds, outputs) = match planned {
            Ok(planned) if !diagnostics.has_errors() => planned,
            planned => {
                diagnostics.append(planned.err().unwrap_or_default());
                diagnostics.append(told);
                let mut diagnostics = self.in_order(diagnostics);
                diagnostics.scrub(&secrets);
                return Err(diagnostics);
            }
        };
        // Errors come from preparing the builds that have them.
        diagnostics.extend(told.into_iter().filter(|d| !d.is_error()));
        diagnostics.scrub(&secrets);
        let mut pipeline = Pipeline::of(builds);
        pipeline.outputs = outputs;
        pipeline.secrets = secrets;
        pipeline.notes = diagnostics;
        pipeline.provided = self.0.plugins.iter().map(packer_block::RequiredPlugin::provided).collect();
        Ok(pipeline)
    }

    /// Evaluates everything but the components' configurations.
    pub(super) async fn evaluate_blocks<'t>(
        &'t self,
        values: &super::variables::Values,
        setting: &Setting<'_>,
        registry: &Registry,
        diagnostics: &mut Diagnostics,
    ) -> Evaluated<'t> {
        let inner = &*self.0;
        let variables = values.check(&inner.variables, setting, &setting.secrets, diagnostics);
        let base = setting.base_scope(variables.clone());
        let found =
            nodes::evaluate_all(&inner.data.list, &inner.locals, &base, setting, registry, diagnostics).await;
        let scope = base.with_variables([("local", found.locals.clone()), ("data", found.data)]);
        let strict = setting.inputs.evaluate_data_sources;
        let definer = Definer { registry, scope: &scope, strict };
        let sources = Sources::new(&inner.sources, &definer, diagnostics);
        hcp::check_top_level(&inner.registries, &scope, diagnostics);
        let reader = Reader { registry, sources: &sources, scope: &scope, strict };
        let mut builds = Vec::with_capacity(inner.builds.len());
        for block in &inner.builds {
            builds.extend(reader.read(block, diagnostics).into_iter().map(|build| (block, build)));
        }
        let in_build = inner.builds.iter().any(hcp::is_in);
        hcp::check_both(&inner.registries, in_build, diagnostics);
        Evaluated {
            scope,
            variables,
            locals: found.locals,
            failed: found.failed,
            sources,
            builds,
            secrets: setting.secrets.clone(),
            interpolation: setting.interpolation(),
        }
    }

    /// What keeps the plugins that the template asks for from being there: those whose components are not registered, all
    /// in one finding, and names that are given twice.
    pub fn check_plugins(&self, registry: &Registry) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        packer_block::check_plugins(&self.0.plugins, &self.component_types(), registry, &mut diagnostics);
        diagnostics
    }

    /// The types of all components that the template names outright.
    fn component_types(&self) -> BTreeSet<String> {
        let mut types: BTreeSet<String> = self.0.sources.iter().map(|b| b.label(0).to_owned()).collect();
        types.extend(self.0.data.list.iter().map(|d| d.kind.to_string()));
        let steps = BodySchema::new()
            .block("provisioner", &["type"])
            .block("error-cleanup-provisioner", &["type"])
            .block(TEST, &["type"])
            .block("post-processor", &["type"])
            .block("post-processors", &[]);
        let mut pending: Vec<Block> = self.0.builds.clone();
        while let Some(block) = pending.pop() {
            // What else is in there is not looked at here.
            let (content, _) = block.body.partial_content(&steps, &mut Diagnostics::new());
            for inner in content.blocks {
                match inner.labels.first() {
                    Some(label) => drop(types.insert(label.as_str().to_owned())),
                    None => pending.push(inner),
                }
            }
        }
        types
    }
}

/// Makes builds of what was evaluated.
struct Planner<'p> {
    evaluated: &'p Evaluated<'p>,
    registry: &'p Registry,
    only: Patterns,
    except: Patterns,
    sensitive: Vec<String>,
    inputs: &'p Inputs,
    template: &'p Template,
}

/// How often the patterns of `-only` and `-except` matched.
#[derive(Default)]
struct Matches {
    only: usize,
    except: usize,
}

impl<'p> Planner<'p> {
    fn new(
        evaluated: &'p Evaluated<'p>,
        registry: &'p Registry,
        inputs: &'p Inputs,
        template: &'p Template,
    ) -> std::result::Result<Self, Diagnostics> {
        let sensitive =
            template.0.variables.iter().filter(|v| v.sensitive).map(|v| v.name.to_string()).collect();
        let only = Patterns::parse("only", &inputs.only)?;
        let except = Patterns::parse("except", &inputs.except)?;
        Ok(Self { evaluated, registry, only, except, sensitive, inputs, template })
    }

    /// The builds that are wanted, in the order of the files, the build blocks and their sources, and the outputs.
    fn plan(
        &self,
        diagnostics: &mut Diagnostics,
        told: &mut Diagnostics,
    ) -> std::result::Result<(Vec<Build>, Vec<Output>), Diagnostics> {
        if self.template.0.builds.is_empty() {
            return Err(Diagnostic::error("Missing build block")
                .detail(
                    "A template needs a build block with at least one source before anything can be built.",
                )
                .into());
        }
        let (mut builds, mut names, mut matches) = (Vec::new(), Vec::new(), Matches::default());
        let mut needs = Vec::new();
        for (block, build) in &self.evaluated.builds {
            for used in &build.sources {
                let name = display_name(build, used);
                names.push(name.clone());
                if !self.only.is_empty() {
                    if !self.only.matches(&name) {
                        continue;
                    }
                    matches.only += 1;
                }
                if self.except.matches(&name) {
                    matches.except += 1;
                    continue;
                }
                let (made, needed) = self.build(name, block, build, used, &mut matches, told);
                needs.extend(needed.into_iter().map(|need| (made.info.display_name.clone(), need)));
                builds.push(made);
            }
        }
        self.check_needs(&needs, &builds, &names, diagnostics);
        self.warn_of_patterns(&names, &matches, diagnostics);
        let outputs = self.template.0.outputs.iter();
        let outputs = outputs.map(|o| o.plan(&self.evaluated.scope, &names, diagnostics)).collect();
        Ok((builds, outputs))
    }

    fn warn_of_patterns(&self, names: &[String], matches: &Matches, diagnostics: &mut Diagnostics) {
        let mut warn = |summary: &str| {
            diagnostics.push(Diagnostic::warning(summary).detail(format!(
                "Possible build names: [{}].\nThese could also be matched with a glob pattern like: 'happycloud.*'",
                names.join(" ")
            )));
        };
        if self.only.len() > matches.only {
            warn("an 'only' option was passed, but not all matches were found for the given build.");
        }
        if self.except.len() > matches.except {
            warn("an 'except' option was passed, but did not match any build.");
        }
    }

    /// Says where a build refers to the artifact of one that is not there.
    fn check_needs(
        &self,
        needs: &[(Arc<str>, Need)],
        builds: &[Build],
        names: &[String],
        diagnostics: &mut Diagnostics,
    ) {
        let chosen: HashSet<&str> = builds.iter().map(Build::name).collect();
        for (build, need) in needs.iter().filter(|(_, need)| !chosen.contains(need.build.as_str())) {
            let d = artifacts::no_such_build(need, names, diagnostics);
            let wanted = &need.build;
            diagnostics.push(if names.contains(wanted) {
                d.detail(format!(
                    "{build} is made from the artifact of {wanted}, which -only or -except leave out."
                ))
            } else {
                d.detail(format!("{build} refers to the artifact of {wanted}, but there is no such build."))
            });
        }
    }

    /// One build. What is wrong with its components becomes what preparing it finds.
    fn build(
        &self,
        name: String,
        block: &Block,
        build: &BuildBlock,
        used: &SourceUse,
        matches: &mut Matches,
        told: &mut Diagnostics,
    ) -> (Build, Vec<Need>) {
        let mut found = Diagnostics::new();
        let definition = self.evaluated.sources.get(&used.source);
        let place = definition.map_or_else(|| block.location(), |d| d.block.location());
        let source = source_value(&used.source.kind, &used.name);
        // Each of the build; where that is none, of the source.
        let of_source = || definition.and_then(|d| d.instance.as_ref());
        let each = build.instance.as_ref().or_else(of_source).map(Instance::variable);
        let scope = self.evaluated.scope.with_variables([("source".into(), source)].into_iter().chain(each));
        let info = BuildInfo {
            display_name: name.as_str().into(),
            name: used.source.name.to_string(),
            builder_type: used.source.kind.to_string(),
            build_block: build.name.clone(),
            core_version: crate::VERSION.to_owned(),
            started: Some(self.evaluated.interpolation.started),
            sensitive_variables: self.sensitive.clone(),
            ..BuildInfo::default()
        };
        let mut interpolation = self.evaluated.interpolation.clone();
        interpolation.build_name = Some(info.name.clone());
        interpolation.build_type = Some(info.builder_type.clone());
        let (builder, needs) = self.builder(definition, used, &scope, &interpolation, &place, &mut found);
        let own: Arc<[String]> = builder
            .as_ref()
            .map_or_else(Vec::new, |b| b.preview().variables())
            .into_iter()
            .map(Cow::into_owned)
            .collect();
        // What a builder that could not be made would add to `build` is not known.
        let build_variable = match &builder {
            Some(_) => build_value(&build.name, &own, None),
            None => Value::unknown(Type::Dynamic),
        };
        let early = Value::object([("name", Value::text(&build.name))]);
        let steps = Steps {
            planner: self,
            extension_scope: scope.with_variables([("build", early)]),
            scope: scope.with_variables([("build", build_variable)]),
            build_name: build.name.as_str().into(),
            own,
            source: format!("{}.{}", used.source.kind, used.name),
            local_name: used.name.clone(),
            // A step may ask for values of the build, but in HCL there are none: `build.ID` is the way.
            interpolation: interpolation.with_data(Data::map::<&str, &str>([])),
        };
        let provisioners =
            build.provisioners.iter().filter_map(|s| steps.provisioner(s, &mut found)).collect();
        let error_cleanup = build.error_cleanup.as_ref().and_then(|s| steps.provisioner(s, &mut found));
        let tests = build.tests.iter().filter_map(|s| steps.provisioner(s, &mut found)).collect();
        let post_processors = build
            .post_processors
            .iter()
            .map(|s| self.sequence(&steps, s, matches, &mut found))
            .filter(|s| !s.is_empty())
            .collect();
        let builder = match builder {
            Some(builder) if !found.has_errors() => builder,
            _ => Late::ready(Arc::new(Rejected(found.clone())) as Arc<dyn Builder>),
        };
        told.append(found);
        let mut made = Build::with_builder(name, used.source.kind.to_string(), builder);
        made.info = Arc::new(info);
        made.description = build.description.clone();
        made.source = steps.source;
        made.needs = needs.iter().map(|need| need.build.clone()).collect();
        made.provisioners = provisioners;
        made.error_cleanup = error_cleanup;
        made.tests = tests;
        made.post_processors = post_processors;
        made.location = Some(place);
        (made, needs)
    }

    /// The builder, and the builds whose artifacts it is made from.
    fn builder(
        &self,
        definition: Option<&Definition<'_>>,
        used: &SourceUse,
        scope: &Scope,
        interpolation: &Interpolation,
        place: &Location,
        found: &mut Diagnostics,
    ) -> (Option<Late<dyn Builder>>, Vec<Need>) {
        let (Some(definition), Some(kind)) = (definition, self.registry.get_builder(&used.source.kind))
        else {
            // Both were told when the build block was read.
            return (None, Vec::new());
        };
        let mut parts = vec![definition.part.clone()];
        parts.extend(used.body.clone());
        let needs = artifacts::needed_by(parts.iter().map(|p| &p.body), found);
        if needs.is_empty() {
            let builder = component::decode(kind, &parts, None, scope, interpolation, place, found);
            let places = places::of_bodies(&kind.schema, &parts, scope);
            return (builder.map(|b| Late::ready(b.component).configured(b.config).placed(places)), needs);
        }
        let names: Vec<String> = needs.iter().map(|need| need.build.clone()).collect();
        let early = scope.with_variables([artifacts::unknown(&names)]);
        let preview = component::decode(kind, &parts, None, &early, interpolation, place, found);
        let places = places::of_bodies(&kind.schema, &parts, &early);
        let (kind, scope, place) = (kind.clone(), scope.clone(), place.clone());
        let interpolation = interpolation.clone();
        let make = move |values: &RunValues| {
            let scope = scope.with_variables([artifacts::known(&names, &values.artifacts)]);
            again(&kind, &parts, None, &scope, &interpolation, &place)
        };
        (preview.map(|preview| Late::decoded(preview, make).placed(places)), needs)
    }

    /// A sequence of post-processors: one that `-except` matches ends it.
    fn sequence(
        &self,
        steps: &Steps,
        sequence: &[Step],
        matches: &mut Matches,
        found: &mut Diagnostics,
    ) -> Vec<PostProcessStep> {
        let mut made = Vec::new();
        for step in sequence.iter().filter(|s| s.filter.admits(&steps.source)) {
            if !steps.is_wanted(step, found) {
                continue;
            }
            let name = if step.name.is_empty() { &*step.kind } else { &step.name };
            if self.except.matches(name) {
                matches.except += 1;
                break;
            }
            made.extend(steps.post_processor(step, found));
        }
        made
    }
}

/// `[BUILD.]TYPE.NAME`.
fn display_name(build: &BuildBlock, used: &SourceUse) -> String {
    let SourceRef { kind, .. } = &used.source;
    match build.name.as_str() {
        "" => format!("{kind}.{}", used.name),
        build => format!("{build}.{kind}.{}", used.name),
    }
}

/// What the steps of one build share.
struct Steps<'p> {
    planner: &'p Planner<'p>,
    /// Of the arguments that Packer does not know: of `build` only its name is known.
    extension_scope: Scope,
    /// With placeholders for what is known only when the machine runs.
    scope: Scope,
    build_name: Arc<str>,
    /// Names that the builder adds to `build`.
    own: Arc<[String]>,
    source: String,
    local_name: Arc<str>,
    interpolation: Interpolation,
}

impl Steps<'_> {
    fn provisioner(&self, step: &Step, found: &mut Diagnostics) -> Option<ProvisionStep> {
        if !step.filter.admits(&self.source) || !self.is_wanted(step, found) {
            return None;
        }
        let late = self.late(self.planner.registry.get_provisioner(&step.kind)?, step, found)?;
        let mut made = ProvisionStep::with_provisioner(&*step.kind, late).named(step.name.as_str());
        made.pause_before = step.pause_before;
        made.timeout = step.timeout;
        made.max_retries = step.max_retries;
        made.continue_on_error = step.continue_on_error;
        made.inputs = self.inputs(step, found);
        made.filter = SourceFilter::clone(&step.filter);
        made.location = Some(step.location.clone());
        Some(made)
    }

    /// Whether the step's `when` keeps it in this build. What is not known yet keeps it, so that it is checked.
    fn is_wanted(&self, step: &Step, found: &mut Diagnostics) -> bool {
        let Some(when) = &step.extensions.when else { return true };
        let scope = self.extension_scope.with_variables(step.body.iterators.clone());
        let known = self.planner.inputs.evaluate_data_sources;
        decode::condition(when, &scope, known, found).unwrap_or(true)
    }

    /// What the step's outcome depends on, where the block says so.
    fn inputs(&self, step: &Step, found: &mut Diagnostics) -> Option<StepInputs> {
        let scope = self.extension_scope.with_variables(step.body.iterators.clone());
        let known = self.planner.inputs.evaluate_data_sources;
        let volatile = step.extensions.volatile.as_ref();
        let is_volatile = volatile.and_then(|v| decode::condition(v, &scope, known, found)) == Some(true);
        let Some(inputs) = &step.extensions.inputs else {
            return is_volatile.then_some(StepInputs::Volatile);
        };
        if let (true, Some(volatile)) = (is_volatile, volatile) {
            found.push(
                Diagnostic::error("only one of 'inputs' or 'volatile' may be specified")
                    .detail("A volatile step is run whatever its inputs are.")
                    .at(volatile.location())
                    .related("the inputs", inputs.location()),
            );
            return Some(StepInputs::Volatile);
        }
        let paths = decode::known_texts(inputs, &scope, known, found)?;
        let root = &self.planner.template.0.root;
        let path = |p: String| files::in_template(self.planner.inputs.dir(), root, &p);
        Some(StepInputs::Files(paths.into_iter().map(path).collect()))
    }

    fn post_processor(&self, step: &Step, found: &mut Diagnostics) -> Option<PostProcessStep> {
        let late = self.late(self.planner.registry.get_post_processor(&step.kind)?, step, found)?;
        let mut made = PostProcessStep::with_post_processor(&*step.kind, late).named(step.name.as_str());
        made.keep_input_artifact = step.keep_input_artifact;
        made.filter = SourceFilter::clone(&step.filter);
        made.location = Some(step.location.clone());
        Some(made)
    }

    /// The component as far as it can be made now, and how it is made again just before it is used.
    fn late<T: ?Sized + 'static>(
        &self,
        kind: &ComponentType<T>,
        step: &Step,
        found: &mut Diagnostics,
    ) -> Option<Late<T>> {
        let overrides = step.overrides.get(&self.local_name).cloned();
        let parts = vec![step.body.clone()];
        let preview = component::decode(
            kind,
            &parts,
            overrides.as_ref(),
            &self.scope,
            &self.interpolation,
            &step.location,
            found,
        )?;
        let mut places = places::of_bodies(&kind.schema, &parts, &self.scope);
        if let Some(over) = &overrides {
            places = places::laid_over(over.clone(), &kind.schema, places);
        }
        let interpolation = self.interpolation.clone();
        let (kind, scope, place) = (kind.clone(), self.scope.clone(), step.location.clone());
        let (build_name, own) = (self.build_name.clone(), self.own.clone());
        let reads = values_read(&step.body.body);
        let late = Late::decoded(preview, move |values: &RunValues| {
            let build = build_value(&build_name, &own, Some(&values.facts));
            let scope = scope.with_variables([("build", build)]);
            again(&kind, &parts, overrides.as_ref(), &scope, &interpolation, &place)
        });
        Some(late.reading(reads).placed(places))
    }
}

/// The values of the run that a step refers to; the name of the build is known before.
fn values_read(body: &Body) -> BTreeSet<String> {
    let of_build = |r: &Reference| match r.name(0) {
        _ if &*r.root != "build" => None,
        Some("name") => None,
        Some(name) => Some(format!("build.{name}")),
        None => Some("build".to_owned()),
    };
    body.references().iter().filter_map(of_build).collect()
}

/// Makes a component when everything is known.
fn again<T: ?Sized>(
    kind: &ComponentType<T>,
    parts: &[PartBody],
    overrides: Option<&Override>,
    scope: &Scope,
    interpolation: &Interpolation,
    place: &Location,
) -> std::result::Result<Decoded<T>, Diagnostics> {
    let mut found = Diagnostics::new();
    match component::decode(kind, parts, overrides, scope, interpolation, place, &mut found) {
        Some(component) if !found.has_errors() => Ok(component),
        _ => Err(found),
    }
}

/// Stands for the builder of a build whose configuration is wrong.
pub(super) struct Rejected(pub(super) Diagnostics);

#[async_trait]
impl Builder for Rejected {
    async fn prepare(&self, _: &PrepareContext) -> std::result::Result<Prepared, Diagnostics> {
        Err(self.0.clone())
    }

    async fn launch(&self, _: &Context) -> Result<Box<dyn Machine>> {
        Err(Error::user(self.0.to_string()))
    }

    async fn release(&self, _: &Context, resource: &Resource) -> Result<()> {
        Err(Error::user(format!("{resource} cannot be released: the configuration of its builder is wrong")))
    }
}
