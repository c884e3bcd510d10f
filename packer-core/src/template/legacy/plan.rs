//! From a legacy template and its inputs to a pipeline.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::Builder as BuilderItem;
use super::object::{Object, Text};
use super::steps::{PostProcessor as PostProcessorItem, Provisioner as ProvisionerItem};
use super::{Legacy, capped, checks};
use crate::builder::Builder;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Diagnostics, Location, Part, parts};
use crate::facts::BuildInfo;
use crate::facts::Facts;
use crate::language::go_template::{Interpolation, placeholders};
use crate::pipeline::{Build, Late, Pipeline, Places, PostProcessStep, ProvisionStep};
use crate::registry::{ComponentType, Registry};
use crate::secrets::Secrets;
use crate::template::component::unknown;
use crate::template::inputs::Inputs;
use crate::template::plan::Rejected;

/// What findings of a build's preparation are told under.
const PREPARE: &str = "Failed to prepare build";
/// What the engine tells findings of a step under.
const STEP: &str = "Failed preparing ";
/// What is told where a component is not known.
const INITIALIZE: &str = "Failed to initialize build";

impl Legacy {
    /// The pipeline of the template: its builds by name, as Packer runs them.
    pub(in super::super) fn evaluate(
        &self,
        registry: &Registry,
        inputs: &Inputs,
    ) -> Result<Pipeline, Diagnostics> {
        checks::version(&self.document)?;
        let mut diagnostics = self.warnings.clone();
        checks::names(&self.document, &mut diagnostics);
        let known = self.known(inputs, &mut diagnostics);
        // Without their variables builders and steps would be told mistakes that they do not have.
        let names = match known.complete {
            true => self.builder_names(&known.interpolation, &mut diagnostics),
            false => BTreeMap::new(),
        };
        let mut told = Diagnostics::new();
        let mut builds = Vec::new();
        for (name, builder) in &names {
            let wanted = inputs.only.is_empty() || inputs.only.iter().any(|only| only == name);
            if !wanted || inputs.except.iter().any(|except| except == name) {
                continue;
            }
            let planner = Planner { legacy: self, registry, inputs, known: &known };
            builds.push(planner.build(name, builder, &mut told));
        }
        if diagnostics.has_errors() {
            diagnostics.append(told);
            diagnostics.scrub(&known.secrets);
            return Err(diagnostics);
        }
        // Errors come from preparing the builds that have them.
        diagnostics.extend(told.into_iter().filter(|d| !d.is_error()));
        diagnostics.scrub(&known.secrets);
        let mut pipeline = Pipeline::of(builds);
        pipeline.secrets = known.secrets;
        pipeline.notes = diagnostics;
        Ok(pipeline)
    }

    /// Builders by their rendered names.
    fn builder_names(
        &self,
        interpolation: &Interpolation,
        diagnostics: &mut Diagnostics,
    ) -> BTreeMap<String, &BuilderItem> {
        let mut names: BTreeMap<String, &BuilderItem> = BTreeMap::new();
        for builder in &self.document.builders {
            let Text { text, place } = &builder.name;
            let name = match interpolation.render_fixpoint(text) {
                Ok(name) => name,
                Err(e) => {
                    let d =
                        Diagnostic::error(format!("Failed to interpolate the name of the builder {text:?}"));
                    diagnostics.push(d.detail(e.to_string()).at(place.clone()));
                    continue;
                }
            };
            if let Some(first) = names.get(&name) {
                diagnostics.push(
                    Diagnostic::error(format!("builder with name '{name}' already exists"))
                        .detail("Two builders have the same name when their variables are put in.")
                        .at(place.clone())
                        .related("the first", first.name.place.clone()),
                );
                continue;
            }
            names.insert(name, builder);
        }
        names
    }
}

/// What is known when components are made.
pub(super) struct Known {
    /// Of no build in particular.
    pub(super) interpolation: Interpolation,
    pub(super) secrets: Secrets,
    /// Whether every variable has a value.
    pub(super) complete: bool,
}

impl Known {
    /// All variables and their values.
    pub(super) fn variables(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.interpolation.user_variables.as_deref().unwrap_or(&NONE)
    }
}

struct Planner<'a> {
    legacy: &'a Legacy,
    registry: &'a Registry,
    inputs: &'a Inputs,
    known: &'a Known,
}

impl Planner<'_> {
    /// One build. What is wrong with its components becomes what preparing it finds.
    fn build(&self, name: &str, builder: &BuilderItem, told: &mut Diagnostics) -> Build {
        let kind = &*builder.kind.text;
        let display_name = if name == kind { kind.to_owned() } else { format!("{kind}.{name}") };
        let document = &self.legacy.document;
        let template_path = self.known.interpolation.template_path.as_deref();
        let info = BuildInfo {
            display_name: display_name.as_str().into(),
            name: name.to_owned(),
            builder_type: kind.to_owned(),
            core_version: crate::VERSION.to_owned(),
            template_path: template_path.map_or_else(String::new, |path| path.display().to_string()),
            started: Some(self.known.interpolation.started),
            user_variables: self.known.variables().clone(),
            sensitive_variables: document.sensitive.iter().map(|text| text.text.to_string()).collect(),
            clean_resource_name: self.registry.name_cleaner(kind),
            ..BuildInfo::default()
        };
        let mut interpolation = self.known.interpolation.clone();
        interpolation.build_name = Some(info.name.clone());
        interpolation.build_type = Some(info.builder_type.clone());

        let mut found = Diagnostics::new();
        let made = self.builder(builder, &interpolation, &mut found);
        let places = places(&builder.config, None);
        let own = made.as_ref().map_or_else(Vec::new, |b| b.variables());
        let names = Facts::COMMON.into_iter().chain(own.iter().map(Cow::as_ref));
        let steps = Steps {
            registry: self.registry,
            builder: &builder.name.text,
            interpolation: interpolation.with_data(placeholders(names)),
        };
        let provisioners = document.provisioners.iter().filter(|step| step.filter.admits(&builder.name.text));
        let provisioners = provisioners.filter_map(|step| steps.provisioner(step, &mut found)).collect();
        let error_cleanup =
            document.error_cleanup.as_ref().and_then(|step| steps.provisioner(step, &mut found));
        let sequences = document.post_processors.iter().map(|steps| self.wanted(steps, &builder.name.text));
        let post_processors: Vec<Vec<PostProcessStep>> = sequences
            .map(|wanted| wanted.filter_map(|step| steps.post_processor(step, &mut found)).collect())
            .collect();

        let found = capped(found);
        let made = match made {
            Some(made) if !found.has_errors() => made,
            _ => Arc::new(Rejected(found.clone())) as Arc<dyn Builder>,
        };
        told.extend(found.into_iter().map(|finding| rephrase(&info, finding)));
        let mut build = Build::with_builder(display_name, kind.to_owned(), Late::ready(made).placed(places));
        build.info = Arc::new(info);
        build.source = format!("{kind}.{name}");
        build.description.clone_from(&document.description);
        build.provisioners = provisioners;
        build.error_cleanup = error_cleanup;
        build.post_processors = post_processors.into_iter().filter(|sequence| !sequence.is_empty()).collect();
        build.location = Some(builder.place.clone());
        build.rephrase = Some(rephrase);
        build
    }

    fn builder(
        &self,
        builder: &BuilderItem,
        interpolation: &Interpolation,
        found: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let Some(kind) = self.registry.get_builder(&builder.kind.text) else {
            found.push(not_there("builder", &builder.kind, self.registry.builders()));
            return None;
        };
        let interpolation = knowing_names(self.registry, &builder.kind.text, interpolation);
        decode(kind, &builder.config, None, &interpolation, &builder.place, found)
    }

    /// The steps of a sequence that are wanted: one that `-except` names ends it.
    fn wanted<'s>(
        &self,
        steps: &'s [PostProcessorItem],
        builder: &str,
    ) -> impl Iterator<Item = &'s PostProcessorItem> {
        let left_out =
            |step: &PostProcessorItem| self.inputs.except.iter().any(|name| **name == *step.name.text);
        let admitted: Vec<&PostProcessorItem> =
            steps.iter().filter(|step| step.filter.admits(builder)).collect();
        let end = admitted.iter().position(|step| left_out(step)).unwrap_or(admitted.len());
        admitted.into_iter().take(end)
    }
}

/// What the steps of one build share.
struct Steps<'a> {
    registry: &'a Registry,
    /// The name of the builder as it is written.
    builder: &'a str,
    /// With a text in the place of everything that is known only when the machine runs.
    interpolation: Interpolation,
}

impl Steps<'_> {
    fn provisioner(&self, step: &ProvisionerItem, found: &mut Diagnostics) -> Option<ProvisionStep> {
        let kind = &*step.kind.text;
        let max_retries = self.max_retries(step, found);
        let Some(known) = self.registry.get_provisioner(kind) else {
            found.push(not_there("provisioner", &step.kind, self.registry.provisioners()));
            return None;
        };
        let over =
            step.overrides.iter().find(|(name, _)| &*name.text == self.builder).map(|(_, object)| object);
        let provisioner = decode(known, &step.config, over, &self.interpolation, &step.place, found)?;
        let mut made = ProvisionStep::with_provisioner(
            kind,
            Late::ready(provisioner).placed(places(&step.config, over)),
        );
        made.pause_before = step.pause_before;
        made.timeout = step.timeout;
        made.max_retries = max_retries;
        made.location = Some(step.place.clone());
        Some(made)
    }

    /// How often a provisioner is tried again; none where that is not said or negative.
    fn max_retries(&self, step: &ProvisionerItem, found: &mut Diagnostics) -> u32 {
        let Some(Text { text, place }) = &step.max_retries else { return 0 };
        let rendered = match self.interpolation.render(text) {
            Ok(rendered) => rendered,
            Err(e) => {
                found.push(Diagnostic::error(format!("render 'max_retries': {e}")).at(place.clone()));
                return 0;
            }
        };
        match rendered.parse::<i64>() {
            Ok(retries) => u32::try_from(retries.max(0)).unwrap_or(u32::MAX),
            Err(_) => {
                let d = Diagnostic::error(format!("'max_retries': {rendered:?} is no whole number"));
                found.push(d.at(place.clone()));
                0
            }
        }
    }

    fn post_processor(&self, step: &PostProcessorItem, found: &mut Diagnostics) -> Option<PostProcessStep> {
        let kind = &*step.kind.text;
        let Some(known) = self.registry.get_post_processor(kind) else {
            found.push(not_there("post-processor", &step.kind, self.registry.post_processors()));
            return None;
        };
        let interpolation = knowing_names(self.registry, kind, &self.interpolation);
        let post_processor = decode(known, &step.config, None, &interpolation, &step.place, found)?;
        let late = Late::ready(post_processor).placed(places(&step.config, None));
        let made = PostProcessStep::with_post_processor(kind, late);
        let mut made = made.named(&*step.name.text);
        made.keep_input_artifact = step.keep_input_artifact;
        made.location = Some(step.place.clone());
        Some(made)
    }
}

/// Where the arguments of a component stand: in what is laid over its object, or in the object.
fn places(object: &Object, over: Option<&Object>) -> Places {
    let objects: Vec<Object> = over.into_iter().chain([object]).cloned().collect();
    Arc::new(move |path| {
        let path: Vec<Part<'_>> = parts(path).collect();
        objects.iter().find_map(|object| object.place_of(&path))
    })
}

/// With the function that cleans names, where components of this type have one.
fn knowing_names(registry: &Registry, kind: &str, interpolation: &Interpolation) -> Interpolation {
    Interpolation { clean_resource_name: registry.name_cleaner(kind), ..interpolation.clone() }
}

/// Makes a component of its object, with another one laid over it.
fn decode<T: ?Sized>(
    kind: &ComponentType<T>,
    object: &Object,
    over: Option<&Object>,
    interpolation: &Interpolation,
    place: &Location,
    found: &mut Diagnostics,
) -> Option<Arc<T>> {
    let mut own = Diagnostics::new();
    for object in [Some(object), over].into_iter().flatten() {
        kind.schema.register(&object.value(), &interpolation.secrets);
    }
    let places = object.places();
    let config = Config::from_json_at(&kind.schema, &object.value(), &|path| places.of(path), &mut own);
    let over = match over {
        Some(object) => {
            let places = object.places();
            let place = |path: &str| places.of(path).or_else(|| Some(object.place()));
            Config::overriding(&kind.schema, &object.value(), &place, &mut own)
        }
        None => Some(Config::default()),
    };
    let value = config
        .zip(over)
        .and_then(|(config, over)| config.finish_over(&kind.schema, &over, interpolation, &mut own));
    let component =
        value.and_then(|value| kind.decode(&value).map_err(|e| own.push(Diagnostic::error(e))).ok());
    found.extend(own.into_iter().map(|finding| at_its_item(finding).or_at(place)));
    component
}

/// The finding at the item it is about, where that is known as a related place.
fn at_its_item(mut finding: Diagnostic) -> Diagnostic {
    if finding.location.is_none() && !finding.related.is_empty() {
        finding.location = Some(finding.related.remove(0).1);
    }
    finding
}

fn not_there<'a>(what: &str, kind: &Text, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let finding = unknown(String::new(), &kind.text, known).at(kind.place.clone());
    let detail = format!("Unknown {what} type {:?}. {}", kind.text, finding.detail);
    Diagnostic { summary: INITIALIZE.into(), ..finding }.detail(detail)
}

/// A finding of a build's preparation as Packer tells it: under the name of the build, with the component's own words as
/// detail. A warning is of the build as a whole.
fn rephrase(info: &BuildInfo, mut finding: Diagnostic) -> Diagnostic {
    let own = std::mem::take(&mut finding.summary);
    let summary = match own.as_str() {
        INITIALIZE => return Diagnostic { summary: format!("{INITIALIZE} {:?}", info.name), ..finding },
        _ if finding.is_error() => format!("{PREPARE}: {:?}", info.name),
        _ => {
            finding.location = None;
            format!("Warning when preparing build: {:?}", info.name)
        }
    };
    // The engine has put the words of a step there already.
    if !own.starts_with(STEP) {
        finding.detail = match finding.detail.as_str() {
            "" => own,
            detail => format!("{own}: {detail}"),
        };
    }
    Diagnostic { summary, ..finding }
}
