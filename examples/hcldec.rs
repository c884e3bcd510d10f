//! `hcldec`: decodes a file of the template language by a specification and prints the result as JSON.
//!
//! It shows how a host reads configuration of its own with the parser and the evaluator alone, and it is what the
//! public test suite of HCL asks an implementation for (`.ci/specsuite` runs that suite). Of the specification language
//! it knows what the suite uses: `object`, `array`, `attr`, `block`, `block_list`, `block_set`, `block_map`,
//! `literal`, `default` and `variables`.
//!
//! `cargo run --example hcldec -- --spec=FILE.hcldec [--with-type] [--keep-nulls] [--var-refs] [--diags=json] FILE.hcl`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use packer_core::language::eval::{Reference, ReferenceStep, Scope, TypeUse, parse_type, references};
use packer_core::language::syntax::{Attribute, Block, Body, BodySchema, Content, parse_file, parse_native};
use packer_core::value::{Data, Type, Value, convert, unify};
use packer_core::{Diagnostic, Diagnostics, Location, Severity, SourceFile, Span};
use serde_json::{Value as Json, json};

/// What a part of a file is decoded to.
enum Spec {
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
    Attribute {
        name: String,
        ty: Type,
        required: bool,
    },
    Block {
        kind: String,
        required: bool,
        nested: Box<Self>,
    },
    /// Blocks as a list, or as a set.
    Blocks {
        kind: String,
        fewest: usize,
        most: Option<usize>,
        set: bool,
        nested: Box<Self>,
    },
    /// Blocks by their labels.
    BlockMap {
        kind: String,
        labels: usize,
        nested: Box<Self>,
    },
    Literal(Value),
    /// The first that is not null.
    Default(Vec<Self>),
}

/// Labels of blocks in a body's schema: of these only the number counts here.
const LABELS: [&str; 16] = ["label"; 16];

const LEAVES: [&str; 2] = ["attr", "literal"];
const BRANCHES: [&str; 7] = ["object", "array", "block", "block_list", "block_set", "block_map", "default"];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!(
                "{wrong}\nUsage: hcldec --spec=FILE [--with-type] [--keep-nulls] [--var-refs] [--diags=json] [FILE]"
            );
            return ExitCode::from(2);
        }
    };
    let mut diagnostics = Diagnostics::new();
    let result = run(&options, &mut diagnostics);
    match result {
        Some(text) if !diagnostics.has_errors() => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        _ => {
            options.show(&diagnostics);
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Options {
    spec: String,
    input: Option<String>,
    with_type: bool,
    keep_nulls: bool,
    var_refs: bool,
    json: bool,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        for arg in args {
            match arg.as_str() {
                "--with-type" => options.with_type = true,
                "--keep-nulls" => options.keep_nulls = true,
                "--var-refs" => options.var_refs = true,
                "--diags=json" => options.json = true,
                _ => match arg.strip_prefix("--spec=") {
                    Some(spec) => options.spec = spec.to_owned(),
                    None if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
                    None if options.input.is_some() => return Err("only one file can be decoded".into()),
                    None => options.input = Some(arg),
                },
            }
        }
        if options.spec.is_empty() { Err("the option --spec is needed".into()) } else { Ok(options) }
    }

    fn show(&self, diagnostics: &Diagnostics) {
        if !self.json {
            eprint!("{}", packer_core::diagnostic::packer_layout_all(diagnostics));
            return;
        }
        let all: Vec<Json> = diagnostics.iter().map(diagnostic_json).collect();
        eprintln!("{}", json!({ "diagnostics": all }));
    }
}

/// The JSON to print; `None` where something is wrong.
fn run(options: &Options, diagnostics: &mut Diagnostics) -> Option<String> {
    let (file, found) = parse_native(&read(&options.spec, diagnostics)?);
    diagnostics.append(found);
    if diagnostics.has_errors() {
        return None;
    }
    let (variables, spec) = specification(&file.body, diagnostics)?;
    let source = match &options.input {
        Some(path) => read(path, diagnostics)?,
        None => SourceFile::new("<empty>", ""),
    };
    let (file, found) = parse_file(&source);
    diagnostics.append(found);
    if diagnostics.has_errors() {
        return None;
    }
    if options.var_refs {
        let mut found = Vec::new();
        spec.references(&file.body, &mut found);
        return Some(Json::from(found).to_string());
    }
    let scope = Scope::new().with_variables(variables);
    let value = spec.decode(&file.body, &scope, diagnostics);
    if diagnostics.has_errors() {
        return None;
    }
    let shown = if options.keep_nulls { value.clone() } else { without_nulls(&value) };
    // Written by the library: numbers have as many digits as they have.
    let text = shown.to_json_string().map_err(|e| diagnostics.push(Diagnostic::error(e.to_string()))).ok()?;
    Some(match options.with_type {
        true => format!(r#"{{"value":{text},"type":{}}}"#, type_json(&value.ty())),
        false => text,
    })
}

fn read(path: &str, diagnostics: &mut Diagnostics) -> Option<Arc<SourceFile>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(SourceFile::new(path, text)),
        Err(e) => {
            diagnostics.push(Diagnostic::error("Failed to read file").detail(format!("{path}: {e}")));
            None
        }
    }
}

/// The variables that a specification file sets, and its one specification.
fn specification(body: &Body, diagnostics: &mut Diagnostics) -> Option<(BTreeMap<Arc<str>, Value>, Spec)> {
    let content = body.content(&spec_schema(0).block("variables", &[]), diagnostics);
    let mut variables = BTreeMap::new();
    for block in content.blocks("variables") {
        for attribute in block.body.attributes(diagnostics) {
            let value = attribute.evaluate(&Scope::constant(), diagnostics);
            variables.insert(attribute.name.text.clone(), value);
        }
    }
    let mut specs = content.blocks.iter().filter(|b| b.kind.as_str() != "variables");
    let (Some(first), None) = (specs.next(), specs.next()) else {
        diagnostics.push(
            Diagnostic::error("Invalid specification")
                .detail("A specification file has one specification block at its top level.")
                .at(body.span().in_source(body.source())),
        );
        return None;
    };
    Some((variables, Spec::read(first, None, diagnostics)?))
}

/// Every kind of specification, each with so many labels.
fn spec_schema(labels: usize) -> BodySchema {
    let kinds = LEAVES.into_iter().chain(BRANCHES);
    kinds.fold(BodySchema::new(), |schema, kind| schema.block(kind, &LABELS[..labels]))
}

/// Reads the arguments of a specification block.
struct Arguments<'a> {
    content: Content,
    block: &'a Block,
    /// What the specification around it calls it.
    name: Option<&'a str>,
}

impl Arguments<'_> {
    fn value(&self, name: &str, ty: &Type, diagnostics: &mut Diagnostics) -> Option<Value> {
        let attribute = self.content.attribute(name)?;
        let value = attribute.evaluate(&Scope::new().with_variables::<&str>([]), diagnostics);
        convert(&value, ty)
            .map_err(|e| diagnostics.push(Diagnostic::error(e.to_string()).at(attribute.value_location())))
            .ok()
    }

    fn flag(&self, name: &str, diagnostics: &mut Diagnostics) -> bool {
        self.value(name, &Type::Bool, diagnostics).and_then(|v| v.as_bool()).unwrap_or(false)
    }

    fn count(&self, name: &str, diagnostics: &mut Diagnostics) -> Option<usize> {
        let count = self.value(name, &Type::Number, diagnostics)?.as_i64()?;
        usize::try_from(count).ok()
    }

    /// A name: the argument, or what the specification around it calls it.
    fn name(&self, argument: &str, diagnostics: &mut Diagnostics) -> Option<String> {
        let given = self.value(argument, &Type::String, diagnostics);
        let name = given.as_ref().and_then(Value::as_str).or(self.name).map(str::to_owned);
        if name.is_none() {
            let detail = format!("The argument {argument:?} is needed here.");
            diagnostics.push(
                Diagnostic::error("Missing name in specification").detail(detail).at(self.block.location()),
            );
        }
        name
    }

    /// The one specification inside.
    fn nested(&self, diagnostics: &mut Diagnostics) -> Option<Box<Spec>> {
        let [nested] = self.content.blocks.as_slice() else {
            let detail = "Exactly one specification must stand in this block.";
            diagnostics
                .push(Diagnostic::error("Invalid specification").detail(detail).at(self.block.location()));
            return None;
        };
        Some(Box::new(Spec::read(nested, None, diagnostics)?))
    }
}

impl Spec {
    fn read(block: &Block, name: Option<&str>, diagnostics: &mut Diagnostics) -> Option<Self> {
        let kind = block.kind.as_str();
        let nested = match kind {
            "object" => spec_schema(1),
            "attr" | "literal" => BodySchema::new(),
            _ => spec_schema(0),
        };
        let schema = match kind {
            "attr" => nested.optional("name").optional("type").optional("required"),
            "block" => nested.optional("block_type").optional("required"),
            "block_list" | "block_set" => {
                nested.optional("block_type").optional("min_items").optional("max_items")
            }
            "block_map" => nested.optional("block_type").required("labels"),
            "literal" => nested.required("value"),
            _ => nested,
        };
        let content = block.body.content(&schema, diagnostics);
        let arguments = Arguments { content, block, name };
        let all = |diagnostics: &mut Diagnostics| -> Option<Vec<Self>> {
            arguments.content.blocks.iter().map(|b| Self::read(b, None, diagnostics)).collect()
        };
        Some(match kind {
            "object" => {
                let property = |b: &Block| {
                    let name = b.label(0);
                    Some((name.to_owned(), Self::read(b, Some(name), diagnostics)?))
                };
                Self::Object(arguments.content.blocks.iter().map(property).collect::<Option<_>>()?)
            }
            "array" => Self::Array(all(diagnostics)?),
            "default" => Self::Default(all(diagnostics)?),
            "attr" => {
                let ty = match arguments.content.attribute("type") {
                    Some(a) => parse_type(&a.expr, &a.source, TypeUse::Variable, diagnostics)?.ty,
                    None => Type::Dynamic,
                };
                let required = arguments.flag("required", diagnostics);
                Self::Attribute { name: arguments.name("name", diagnostics)?, ty, required }
            }
            "literal" => Self::Literal(arguments.value("value", &Type::Dynamic, diagnostics)?),
            "block" => Self::Block {
                kind: arguments.name("block_type", diagnostics)?,
                required: arguments.flag("required", diagnostics),
                nested: arguments.nested(diagnostics)?,
            },
            "block_map" => {
                let labels = arguments.value("labels", &Type::list(Type::String), diagnostics)?;
                Self::BlockMap {
                    kind: arguments.name("block_type", diagnostics)?,
                    labels: labels.len().unwrap_or(0).min(LABELS.len()),
                    nested: arguments.nested(diagnostics)?,
                }
            }
            _ => Self::Blocks {
                kind: arguments.name("block_type", diagnostics)?,
                fewest: arguments.count("min_items", diagnostics).unwrap_or(0),
                most: arguments.count("max_items", diagnostics).filter(|most| *most > 0),
                set: kind == "block_set",
                nested: arguments.nested(diagnostics)?,
            },
        })
    }

    /// What a body decoded by this may hold: each name once.
    fn schema(&self) -> BodySchema {
        let (mut attributes, mut blocks) = (BTreeMap::new(), BTreeMap::new());
        self.names(&mut attributes, &mut blocks);
        let mut schema = BodySchema::new();
        for (name, required) in attributes {
            schema = if required { schema.required(name) } else { schema.optional(name) };
        }
        blocks.into_iter().fold(schema, |schema, (kind, labels)| schema.block(kind, &LABELS[..labels]))
    }

    fn names(&self, attributes: &mut BTreeMap<String, bool>, blocks: &mut BTreeMap<String, usize>) {
        match self {
            Self::Object(properties) => properties.iter().for_each(|(_, s)| s.names(attributes, blocks)),
            Self::Array(specs) => specs.iter().for_each(|s| s.names(attributes, blocks)),
            // Only the first may demand something.
            Self::Default(specs) => {
                for (i, spec) in specs.iter().enumerate() {
                    let mut own = BTreeMap::new();
                    spec.names(&mut own, blocks);
                    own.into_iter().for_each(|(name, required)| {
                        *attributes.entry(name).or_default() |= required && i == 0;
                    });
                }
            }
            Self::Attribute { name, required, .. } => {
                *attributes.entry(name.clone()).or_default() |= required
            }
            Self::Block { kind, .. } | Self::Blocks { kind, .. } => drop(blocks.insert(kind.clone(), 0)),
            Self::BlockMap { kind, labels, .. } => drop(blocks.insert(kind.clone(), *labels)),
            Self::Literal(_) => {}
        }
    }

    fn decode(&self, body: &Body, scope: &Scope, diagnostics: &mut Diagnostics) -> Value {
        let content = body.content(&self.schema(), diagnostics);
        self.value(body, &content, scope, diagnostics)
    }

    fn value(&self, body: &Body, content: &Content, scope: &Scope, diagnostics: &mut Diagnostics) -> Value {
        match self {
            Self::Object(properties) => Value::object(
                properties
                    .iter()
                    .map(|(name, s)| (name.as_str(), s.value(body, content, scope, diagnostics))),
            ),
            Self::Array(specs) => {
                Value::tuple(specs.iter().map(|s| s.value(body, content, scope, diagnostics)))
            }
            Self::Default(specs) => {
                let mut values = specs.iter().map(|s| s.value(body, content, scope, diagnostics));
                values.find(|v| !v.is_null()).unwrap_or_else(|| Value::null(Type::Dynamic))
            }
            Self::Literal(value) => value.clone(),
            Self::Attribute { name, ty, .. } => match content.attribute(name) {
                Some(attribute) => attribute_value(attribute, ty, scope, diagnostics),
                None => Value::null(ty.clone()),
            },
            Self::Block { kind, required, nested } => {
                let blocks: Vec<&Block> = content.blocks(kind).collect();
                if let [_, second, ..] = blocks[..] {
                    let d = Diagnostic::error(format!("Duplicate {kind} block"));
                    diagnostics.push(d.at(second.location()));
                }
                match blocks.first() {
                    Some(block) => nested.decode(&block.body, scope, diagnostics),
                    None => {
                        if *required {
                            let d = Diagnostic::error(format!("Missing {kind} block"));
                            diagnostics.push(d.at(missing_place(body)));
                        }
                        Value::null(Type::Dynamic)
                    }
                }
            }
            Self::Blocks { kind, fewest, most, set, nested } => {
                let values: Vec<Value> =
                    content.blocks(kind).map(|b| nested.decode(&b.body, scope, diagnostics)).collect();
                if values.len() < *fewest {
                    let d = Diagnostic::error(format!("Insufficient {kind} blocks"));
                    diagnostics.push(d.at(missing_place(body)));
                }
                if let Some(extra) = most.and_then(|most| content.blocks(kind).nth(most)) {
                    diagnostics
                        .push(Diagnostic::error(format!("Too many {kind} blocks")).at(extra.location()));
                }
                let (ty, values) = unified(values);
                if *set { Value::set(ty, values) } else { Value::list(ty, values) }
            }
            Self::BlockMap { kind, labels, nested } => {
                let blocks: Vec<&Block> = content.blocks(kind).collect();
                let decode = |b: &Block, d: &mut Diagnostics| nested.decode(&b.body, scope, d);
                by_labels(&blocks, 0, *labels, &decode, diagnostics)
            }
        }
    }

    /// The variables that what this reads in a body refers to.
    fn references(&self, body: &Body, found: &mut Vec<Json>) {
        let content = body.content(&self.schema(), &mut Diagnostics::new());
        for attribute in &content.attributes {
            let all = references(&attribute.expr);
            found.extend(all.iter().map(|r| reference_json(r, &attribute.source)));
        }
        self.nested_references(&content, found);
    }

    fn nested_references(&self, content: &Content, found: &mut Vec<Json>) {
        match self {
            Self::Object(properties) => {
                properties.iter().for_each(|(_, s)| s.nested_references(content, found))
            }
            Self::Array(specs) | Self::Default(specs) => {
                specs.iter().for_each(|s| s.nested_references(content, found));
            }
            Self::Block { kind, nested, .. }
            | Self::Blocks { kind, nested, .. }
            | Self::BlockMap { kind, nested, .. } => {
                content.blocks(kind).for_each(|b| nested.references(&b.body, found));
            }
            Self::Attribute { .. } | Self::Literal(_) => {}
        }
    }
}

fn attribute_value(attribute: &Attribute, ty: &Type, scope: &Scope, diagnostics: &mut Diagnostics) -> Value {
    let value = attribute.evaluate(scope, diagnostics);
    convert(&value, ty).unwrap_or_else(|e| {
        let name = attribute.name.as_str();
        diagnostics.push(
            Diagnostic::error("Incorrect attribute value type")
                .detail(format!("Inappropriate value for attribute {name:?}: {e}."))
                .at(attribute.value_location()),
        );
        Value::unknown(ty.clone())
    })
}

/// Blocks as maps in maps, one level for each label.
fn by_labels(
    blocks: &[&Block],
    level: usize,
    levels: usize,
    decode: &dyn Fn(&Block, &mut Diagnostics) -> Value,
    diagnostics: &mut Diagnostics,
) -> Value {
    let mut groups: BTreeMap<&str, Vec<&Block>> = BTreeMap::new();
    for block in blocks {
        groups.entry(block.label(level)).or_default().push(block);
    }
    let mut values = Vec::with_capacity(groups.len());
    for group in groups.values() {
        if level + 1 < levels {
            values.push(by_labels(group, level + 1, levels, decode, diagnostics));
            continue;
        }
        if let [_, second, ..] = group[..] {
            diagnostics.push(Diagnostic::error("Duplicate block").at(second.location()));
        }
        values.extend(group.first().map(|block| decode(block, diagnostics)));
    }
    let (ty, values) = unified(values);
    Value::map(ty, groups.into_keys().zip(values))
}

/// The values in the type they have in common.
fn unified(values: Vec<Value>) -> (Type, Vec<Value>) {
    let types: Vec<Type> = values.iter().map(Value::ty).collect();
    let ty = unify(&types).unwrap_or(Type::Dynamic);
    let values = values.iter().map(|v| convert(v, &ty).unwrap_or_else(|_| v.clone())).collect();
    (ty, values)
}

/// Where something is missing in a body.
fn missing_place(body: &Body) -> Location {
    let at = body.span().start;
    Span::new(at, at).in_source(body.source())
}

/// The value without what is null in its objects and maps. It recurses no deeper than values may nest.
fn without_nulls(value: &Value) -> Value {
    match value.data() {
        Data::Map(_, entries) | Data::Object(entries) => Value::object(
            entries.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))),
        ),
        Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => {
            Value::tuple(items.iter().map(without_nulls))
        }
        _ => value.clone(),
    }
}

fn type_json(ty: &Type) -> Json {
    match ty {
        Type::Dynamic => "dynamic".into(),
        Type::String => "string".into(),
        Type::Number => "number".into(),
        Type::Bool => "bool".into(),
        Type::List(t) => json!(["list", type_json(t)]),
        Type::Set(t) => json!(["set", type_json(t)]),
        Type::Map(t) => json!(["map", type_json(t)]),
        Type::Tuple(types) => json!(["tuple", types.iter().map(type_json).collect::<Vec<_>>()]),
        Type::Object(object) => {
            let attributes: serde_json::Map<String, Json> =
                object.attributes.iter().map(|(name, t)| (name.to_string(), type_json(t))).collect();
            json!(["object", attributes])
        }
    }
}

fn diagnostic_json(diagnostic: &Diagnostic) -> Json {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut json = json!({"severity": severity, "summary": diagnostic.summary, "detail": diagnostic.detail});
    if let Some(location) = &diagnostic.location {
        json["subject"] = range_json(location);
    }
    json
}

fn range_json(location: &Location) -> Json {
    json!({"filename": location.file(), "start": location.start(), "end": location.end()})
}

fn reference_json(reference: &Reference, source: &Arc<SourceFile>) -> Json {
    let root = Span::new(reference.span.start, reference.span.start + reference.root.len() as u32);
    let mut steps = vec![json!({
        "kind": "root", "name": &*reference.root, "range": range_json(&root.in_source(source)),
    })];
    for (step, span) in reference.steps.iter().zip(&reference.step_spans) {
        let range = range_json(&span.in_source(source));
        steps.push(match step {
            ReferenceStep::Attribute(name) => json!({"kind": "attr", "name": &**name, "range": range}),
            ReferenceStep::Index(key) => json!({"kind": "index", "key": key_json(key), "range": range}),
        });
    }
    json!({"root_name": &*reference.root, "steps": steps, "range": range_json(&reference.span.in_source(source))})
}

fn key_json(key: &Value) -> Json {
    match key.data() {
        Data::String(text) => (&**text).into(),
        _ => serde_json::to_value(key).unwrap_or_default(),
    }
}
