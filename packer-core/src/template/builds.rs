//! Build blocks: which sources they are made from, and their steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::component;
use super::component::PartBody;
use super::decode;
use super::for_each::{self, EACH, FOR_EACH, ForEach, Instance};
use super::hcp;
use super::overrides::Override;
use super::sources::{SourceRef, Sources};
use crate::config::Schema;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::duration::GoDuration;
use crate::language::eval::{Expanded, ExpandedBlock, Scope};
use crate::language::syntax::{Attribute, Block, Body, BodySchema, Content};
use crate::pipeline::SourceFilter;
use crate::registry::Registry;
use crate::value::Value;

/// The arguments of steps that Packer does not know. Post-processors, and what runs after an error, have the first alone.
pub(super) const STEP_EXTENSIONS: [&str; 3] = ["when", "inputs", "volatile"];

/// The block that holds a test of a build. Packer does not know it.
pub(super) const TEST: &str = "test";

/// A `build` block.
#[derive(Debug)]
pub(super) struct BuildBlock {
    pub(super) name: String,
    pub(super) description: String,
    /// Which of the builds that a block with `for_each` stands for.
    pub(super) instance: Option<Instance>,
    pub(super) sources: Vec<SourceUse>,
    pub(super) provisioners: Vec<Step>,
    pub(super) error_cleanup: Option<Step>,
    pub(super) tests: Vec<Step>,
    pub(super) post_processors: Vec<Vec<Step>>,
    /// Whether what it is called and made from is right; if not, it is as if it were not there for who only looks.
    pub(super) sound: bool,
}

/// A source that a build uses.
#[derive(Debug)]
pub(super) struct SourceUse {
    pub(super) source: SourceRef,
    /// What the build calls it; the source's own name where it says nothing.
    pub(super) name: Arc<str>,
    /// What the build adds to the source.
    pub(super) body: Option<PartBody>,
    /// Where the build names it.
    place: Location,
}

/// A provisioner or post-processor block: what the loader knows of it. The rest of its body is the component's.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) kind: Arc<str>,
    pub(super) name: String,
    pub(super) body: PartBody,
    pub(super) filter: SourceFilter,
    pub(super) location: Location,
    pub(super) pause_before: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) max_retries: u32,
    pub(super) continue_on_error: bool,
    pub(super) keep_input_artifact: Option<bool>,
    /// By what the build calls its source.
    pub(super) overrides: BTreeMap<Arc<str>, Override>,
    pub(super) extensions: StepExtensions,
}

/// Arguments of a step that Packer does not know: evaluated for each build, in the step's own scope.
#[derive(Debug, Default)]
pub(super) struct StepExtensions {
    /// Whether the build has the step.
    pub(super) when: Option<Attribute>,
    /// The files that the outcome depends on.
    pub(super) inputs: Option<Attribute>,
    /// Whether the outcome depends on more than can be known.
    pub(super) volatile: Option<Attribute>,
}

/// What reading of build blocks needs.
pub(super) struct Reader<'a> {
    pub(super) registry: &'a Registry,
    pub(super) sources: &'a Sources<'a>,
    /// Everything but what only a step or a source sees.
    pub(super) scope: &'a Scope,
    /// Whether everything that `for_each` may say must be known.
    pub(super) strict: bool,
}

impl Reader<'_> {
    /// Reads a build block, or all builds that one with `for_each` stands for; what is wrong in it is left out of the
    /// result.
    pub(super) fn read(&self, block: &Block, diagnostics: &mut Diagnostics) -> Vec<BuildBlock> {
        if !block.body.has_attribute(FOR_EACH) {
            return vec![self.read_one(block, &block.body, None, diagnostics)];
        }
        let (content, body) = block.body.partial_content(&BodySchema::new().optional(FOR_EACH), diagnostics);
        let Some(collection) = content.attribute(FOR_EACH) else { return Vec::new() };
        match for_each::evaluate(collection, self.scope, self.strict, diagnostics) {
            ForEach::Known(instances) => instances
                .into_iter()
                .map(|instance| {
                    let scope = instance.scope(self.scope);
                    Reader { scope: &scope, ..*self }.read_one(block, &body, Some(instance), diagnostics)
                })
                .collect(),
            ForEach::Unknown(_) => {
                diagnostics.push(
                    Diagnostic::warning("Builds not checked")
                        .detail(
                            "How many builds this block stands for is known only when data sources are read.",
                        )
                        .at(collection.value_location()),
                );
                Vec::new()
            }
            ForEach::Wrong => Vec::new(),
        }
    }

    fn read_one(
        &self,
        block: &Block,
        body: &Body,
        instance: Option<Instance>,
        diagnostics: &mut Diagnostics,
    ) -> BuildBlock {
        let schema = BodySchema::new()
            .optional("name")
            .optional("description")
            .optional("sources")
            .block("source", &["reference"])
            .block("provisioner", &["type"])
            .block("error-cleanup-provisioner", &["type"])
            .block(TEST, &["type"])
            .block("post-processor", &["type"])
            .block("post-processors", &[])
            .block("hcp_packer_registry", &[])
            .block("from", &["type"]);
        let content = body.expand(&schema, self.scope, diagnostics);
        let text = |name: &str, diagnostics: &mut Diagnostics| {
            content.attribute(name).and_then(|a| decode::text(a, self.scope, diagnostics))
        };
        let key = || instance.as_ref().map(|i| i.key.to_string());
        let mut found = Diagnostics::new();
        let name = text("name", &mut found).or_else(key).unwrap_or_default();
        let description = text("description", &mut found).unwrap_or_default();
        let registries: Vec<&Block> = content.blocks("hcp_packer_registry").map(|b| &b.block).collect();
        hcp::check_in_build(&registries, self.scope, diagnostics);
        let sources = self.uses(block, &content, &mut found);
        let sound = !found.has_errors();
        diagnostics.append(found);
        for used in &sources {
            self.check_use(used, block, diagnostics);
        }
        let build = Value::object([("name", Value::text(&name))]);
        let steps = Steps { registry: self.registry, scope: self.scope.with_variables([("build", build)]) };
        let blocks: Vec<Made> =
            content.blocks.iter().map(|b| Made::new(b, self.scope, &steps.scope, &[])).collect();
        let (provisioners, tests, post_processors) = steps.read(&blocks, diagnostics);
        let error_cleanup = steps.error_cleanup(&blocks, diagnostics);
        BuildBlock {
            name,
            description,
            instance,
            sources,
            provisioners,
            error_cleanup,
            tests,
            post_processors,
            sound,
        }
    }

    /// The sources of `sources`, then those of `source` blocks.
    fn uses(&self, block: &Block, content: &Expanded, diagnostics: &mut Diagnostics) -> Vec<SourceUse> {
        let before = diagnostics.len();
        // A block with `for_each` may stand for no source at all.
        let (mut uses, mut referred) = (Vec::new(), false);
        if let Some(list) = content.attribute("sources") {
            let texts = decode::texts(list, self.scope, diagnostics).unwrap_or_default();
            for (i, text) in texts.iter().enumerate() {
                let place = place_of_item(list, i, texts.len());
                match SourceRef::parse_strict(text) {
                    Some(source) => {
                        referred = true;
                        let one = |source: SourceRef| SourceUse {
                            name: source.name.clone(),
                            source,
                            body: None,
                            place: place.clone(),
                        };
                        uses.extend(self.sources.named(source).into_iter().map(one));
                    }
                    None => {
                        diagnostics.push(reference_form(text).at(block.location()).related("here", place))
                    }
                }
            }
        }
        for inner in content.blocks("source") {
            referred = true;
            uses.extend(self.use_block(inner, diagnostics));
        }
        if !referred && diagnostics.len() == before {
            diagnostics.push(
                Diagnostic::error("missing source reference")
                    .detail("A build needs at least one source to be made from.")
                    .at(block.location()),
            );
        }
        uses
    }

    /// The sources that a `source` block in a build means.
    fn use_block(&self, expanded: &ExpandedBlock, diagnostics: &mut Diagnostics) -> Vec<SourceUse> {
        let block = &expanded.block;
        let Some(source) = SourceRef::parse(block.label(0)) else {
            diagnostics.push(reference_form(block.label(0)).at(block.location()));
            return Vec::new();
        };
        let (content, body) = block.body.partial_content(&BodySchema::new().optional("name"), diagnostics);
        let iterators = expanded.scope.variables_within(self.scope);
        let mut uses = Vec::new();
        for source in self.sources.named(source) {
            let name = match content.attribute("name") {
                Some(name) if expanded.unknown => {
                    diagnostics.push(decode::unsuitable(name, "value must be known"));
                    continue;
                }
                Some(name) => {
                    let scope = self.name_scope(&source, &iterators);
                    match decode::text(name, &scope, diagnostics) {
                        Some(name) => name.into(),
                        None => continue,
                    }
                }
                None => source.name.clone(),
            };
            let body =
                PartBody { body: body.clone(), iterators: iterators.clone(), unknown: expanded.unknown };
            uses.push(SourceUse { source, name, body: Some(body), place: block.location() });
        }
        uses
    }

    /// What the name of a source in a build may use: the iterator of a dynamic block, and `each`.
    fn name_scope(&self, source: &SourceRef, iterators: &[(Arc<str>, Value)]) -> Scope {
        let each = self.scope.variable(EACH).map(|each| (EACH.into(), each.clone()));
        let of_source = || self.sources.get(source)?.instance.as_ref().map(Instance::variable);
        let variables: Vec<_> =
            each.or_else(of_source).into_iter().chain(iterators.iter().cloned()).collect();
        match variables.is_empty() {
            true => Scope::constant(),
            false => Scope::new().with_variables(variables),
        }
    }

    fn check_use(&self, used: &SourceUse, block: &Block, diagnostics: &mut Diagnostics) {
        let source = &used.source;
        if self.sources.get(source).is_none() {
            let finding = self.sources.not_found(source, diagnostics);
            diagnostics.push(finding.at(block.location()).related("here", used.place.clone()));
        } else if self.registry.get_builder(&source.kind).is_none() {
            let what = format!("Unknown source type {}", source.kind);
            let d = component::unknown(what, &source.kind, self.registry.builders()).at(block.location());
            diagnostics.push(d.related("here", used.place.clone()));
        }
    }
}

/// Where an item of a list stands; the whole list where it is not written out item by item.
fn place_of_item(list: &Attribute, index: usize, count: usize) -> Location {
    let items = list.expr.as_tuple().filter(|items| items.len() == count);
    let span = items.and_then(|items| items.get(index)).map_or(list.expr.span, |item| item.span);
    span.in_source(&list.source)
}

/// Where the type of a step is written. In JSON, and where a dynamic block says it, what matters is where the block is.
fn place_of_type(block: &Block) -> Location {
    match block.labels.first() {
        Some(label) if !block.body.is_json() && label.span.end <= block.header.end => {
            label.span.in_source(block.source())
        }
        _ => block.kind_location(),
    }
}

fn reference_form(text: &str) -> Diagnostic {
    Diagnostic::error("Invalid source reference").detail(format!(
        "{text:?} names no source: write \"TYPE.NAME\" or \"source.TYPE.NAME\"; type and name start with a letter or `_` and \
         hold letters, digits, `_` and `-`."
    ))
}

/// A block of a step, written as such or made by a `dynamic` block.
struct Made {
    block: Block,
    /// Of arguments that the loader reads.
    scope: Scope,
    iterators: Vec<(Arc<str>, Value)>,
    unknown: bool,
}

impl Made {
    /// A block that was written out in the scope `outer` and is read in `scope`; `iterators` are those of the blocks
    /// around it.
    fn new(expanded: &ExpandedBlock, outer: &Scope, scope: &Scope, iterators: &[(Arc<str>, Value)]) -> Self {
        let own = expanded.scope.variables_within(outer);
        let iterators: Vec<_> = iterators.iter().cloned().chain(own).collect();
        let scope =
            if iterators.is_empty() { scope.clone() } else { scope.with_variables(iterators.clone()) };
        Self { block: expanded.block.clone(), scope, iterators, unknown: expanded.unknown }
    }
}

/// Reading of the steps of a build.
struct Steps<'a> {
    registry: &'a Registry,
    /// Of arguments that the loader reads: with `build.name`.
    scope: Scope,
}

impl Steps<'_> {
    /// Provisioners, tests, and sequences of post-processors, in the order written.
    fn read(&self, blocks: &[Made], diagnostics: &mut Diagnostics) -> (Vec<Step>, Vec<Step>, Vec<Vec<Step>>) {
        let (mut provisioners, mut tests, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        for made in blocks {
            match made.block.kind.as_str() {
                "provisioner" => provisioners.push(self.provisioner(made, diagnostics)),
                TEST => tests.push(self.provisioner(made, diagnostics)),
                "post-processor" => sequences.push(vec![self.post_processor(made, diagnostics)]),
                "post-processors" => {
                    let schema = BodySchema::new().block("post-processor", &["type"]);
                    let content = made.block.body.expand(&schema, &made.scope, diagnostics);
                    let inner = |b| Made::new(b, &made.scope, &self.scope, &made.iterators);
                    let steps: Vec<Step> =
                        content.blocks.iter().map(|b| self.post_processor(&inner(b), diagnostics)).collect();
                    if !steps.is_empty() {
                        sequences.push(steps);
                    }
                }
                _ => {}
            }
        }
        (provisioners, tests, sequences)
    }

    fn error_cleanup(&self, blocks: &[Made], diagnostics: &mut Diagnostics) -> Option<Step> {
        let mut blocks = blocks.iter().filter(|m| m.block.kind.as_str() == "error-cleanup-provisioner");
        let first = blocks.next()?;
        for more in blocks {
            diagnostics.push(
                Diagnostic::error("Only one error-cleanup-provisioner is allowed")
                    .at(more.block.location())
                    .related("the first", first.block.location()),
            );
        }
        Some(self.provisioner(first, diagnostics))
    }

    fn provisioner(&self, made: &Made, diagnostics: &mut Diagnostics) -> Step {
        let block = &made.block;
        if self.registry.get_provisioner(block.label(0)).is_none() {
            let what = format!("Unknown {} type {:?}", block.kind.as_str(), block.label(0));
            let unknown = component::unknown(what, block.label(0), self.registry.provisioners());
            diagnostics.push(unknown.at(place_of_type(block)));
        }
        let own = self.registry.get_provisioner(block.label(0)).map(|kind| &*kind.schema);
        // What never comes from a cache depends on nothing.
        let is_cached = block.kind.as_str() == "provisioner";
        let offered = if !is_cached { &STEP_EXTENSIONS[..1] } else { &STEP_EXTENSIONS[..] };
        let schema = common_schema(own, offered)
            .optional("pause_before")
            .optional("timeout")
            .optional("max_retries")
            .optional("override")
            .optional("continue_on_error");
        let (mut step, content) = step(made, &schema, diagnostics);
        step.pause_before = duration(made, &content, "pause_before", diagnostics).unwrap_or_default();
        step.timeout = duration(made, &content, "timeout", diagnostics).filter(|limit| !limit.is_zero());
        if let Some(retries) = content.attribute("max_retries") {
            step.max_retries = decode::count(retries, &made.scope, diagnostics).unwrap_or(0);
        }
        if let Some(flag) = content.attribute("continue_on_error") {
            step.continue_on_error = decode::flag(flag, &made.scope, diagnostics).unwrap_or(false);
        }
        if let Some(value) = content.attribute("override") {
            step.overrides = overrides(made, value, diagnostics);
        }
        step
    }

    fn post_processor(&self, made: &Made, diagnostics: &mut Diagnostics) -> Step {
        let block = &made.block;
        if self.registry.get_post_processor(block.label(0)).is_none() {
            let what = format!("Unknown post-processor type {:?}", block.label(0));
            let unknown = component::unknown(what, block.label(0), self.registry.post_processors());
            diagnostics.push(unknown.at(place_of_type(block)));
        }
        let own = self.registry.get_post_processor(block.label(0)).map(|kind| &*kind.schema);
        let schema = common_schema(own, &STEP_EXTENSIONS[..1]).optional("keep_input_artifact");
        let (mut step, content) = step(made, &schema, diagnostics);
        if let Some(keep) = content.attribute("keep_input_artifact") {
            step.keep_input_artifact = decode::optional_flag(keep, &made.scope, diagnostics);
        }
        step
    }
}

/// What all steps may say to the loader. An argument of the component's own with the name of an extension is the
/// component's.
fn common_schema(own: Option<&Schema>, extensions: &[&'static str]) -> BodySchema {
    let schema = BodySchema::new().optional("name").optional("only").optional("except");
    let is_free = |name: &&&str| own.is_none_or(|own| own.field(name).is_none());
    extensions.iter().filter(is_free).fold(schema, |schema, name| schema.optional(*name))
}

/// What all kinds of steps have in common, and the arguments that the loader reads.
fn step(made: &Made, schema: &BodySchema, diagnostics: &mut Diagnostics) -> (Step, Content) {
    // Dynamic blocks in here are the component's; what the loader reads are attributes.
    let (mut content, body) = made.block.body.partial_content(schema, diagnostics);
    let mut extension = |name: &str| {
        let at = content.attributes.iter().position(|a| a.name.as_str() == name)?;
        // What depends on an unknown number of blocks is decided when that is known.
        Some(content.attributes.remove(at)).filter(|_| !made.unknown)
    };
    let [when, inputs, volatile] = STEP_EXTENSIONS.map(&mut extension);
    let extensions = StepExtensions { when, inputs, volatile };
    if made.unknown {
        diagnostics
            .extend(content.attributes.drain(..).map(|a| decode::unsuitable(&a, "value must be known")));
    }
    let texts = |name: &str, diagnostics: &mut Diagnostics| {
        content.attribute(name).and_then(|a| decode::texts(a, &made.scope, diagnostics)).unwrap_or_default()
    };
    let (only, except) = (texts("only", diagnostics), texts("except", diagnostics));
    let filter = match (only.is_empty(), except.is_empty()) {
        (true, true) => SourceFilter::All,
        (false, true) => SourceFilter::Only(only),
        (true, false) => SourceFilter::Except(except),
        (false, false) => {
            diagnostics.push(
                Diagnostic::error("only one of 'only' or 'except' may be specified")
                    .at(made.block.location()),
            );
            SourceFilter::All
        }
    };
    let name = content.attribute("name").and_then(|a| decode::text(a, &made.scope, diagnostics));
    let step = Step {
        kind: made.block.labels.first().map_or_else(|| "".into(), |label| label.text.clone()),
        name: name.unwrap_or_default(),
        body: PartBody { body, iterators: made.iterators.clone(), unknown: made.unknown },
        filter,
        location: made.block.location(),
        pause_before: Duration::ZERO,
        timeout: None,
        max_retries: 0,
        continue_on_error: false,
        keep_input_artifact: None,
        overrides: BTreeMap::new(),
        extensions,
    };
    (step, content)
}

/// A duration; none for an empty text.
fn duration(made: &Made, content: &Content, name: &str, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let attribute = content.attribute(name)?;
    let text = decode::text(attribute, &made.scope, diagnostics).filter(|text| !text.is_empty())?;
    match text.parse::<GoDuration>() {
        Ok(duration) => Some(duration.to_std()),
        Err(e) => {
            diagnostics.push(
                Diagnostic::error(format!("Failed to parse {name} duration"))
                    .detail(e)
                    .help("write a number and a unit: \"10s\", \"1m30s\"")
                    .at(made.block.location())
                    .related("this value", attribute.value_location()),
            );
            None
        }
    }
}

fn overrides(
    made: &Made,
    attribute: &Attribute,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<Arc<str>, Override> {
    let before = diagnostics.len();
    let value = attribute.evaluate(&made.scope, diagnostics);
    if diagnostics.len() > before || value.is_null() {
        return BTreeMap::new();
    }
    let mut wrong = |summary: String| {
        diagnostics.push(
            Diagnostic::error(summary)
                .detail("What is overridden is written `override = { SOURCE_NAME = { argument = … } }`.")
                .at(made.block.location())
                .related("this value", attribute.value_location()),
        );
    };
    let Some(by_source) = value.as_map() else {
        wrong("provisioner's override block must be an HCL object".into());
        return BTreeMap::new();
    };
    let mut overrides = BTreeMap::new();
    for (name, arguments) in by_source {
        if arguments.as_map().is_none() {
            wrong(format!("provisioner's override.'{name}' block must be an HCL object"));
            continue;
        }
        let over = Override {
            attribute: attribute.clone(),
            source: name.clone(),
            value: arguments.clone().with_marks_of(&value),
        };
        overrides.insert(name.clone(), over);
    }
    overrides
}
