//! A JSON Schema of templates in JSON syntax, for editors and whoever writes templates by program.

use serde_json::{Map, Value, json};

use super::builds::TEST;
use super::for_each::FOR_EACH;
use crate::config::{Field, FieldKind, Kind, Schema};
use crate::registry::Registry;
use crate::value::Type;

/// A template of the language somewhere in a text.
const TEMPLATE: &str = r"[$%]\{";
/// How a duration is written; what holds templates of either language may become one.
const DURATION: &str = r"^$|[$%]\{|\{\{|^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// A JSON Schema (draft 2020-12) of `.pkr.json` templates: their blocks, and every component that is registered with its
/// fields, each with its doc, type and default. `$defs` holds each component on its own, under `builder.TYPE`,
/// `provisioner.TYPE`, `post-processor.TYPE` and `data.TYPE`.
///
/// It takes what the loader takes, and refuses what it can tell to be wrong without evaluating anything: names that there
/// are not, values of a type that no expression makes right. What a component demands is refused where it is missing,
/// but for builders, of whose settings some may be given where the source is used: there the mark `x-required` says so.
///
/// ```
/// let schema = packer_core::template::schema(&packer_core::Registry::new());
/// assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
/// ```
pub fn schema(registry: &Registry) -> Value {
    let mut defs = Map::new();
    let mut builders = Map::new();
    for name in registry.builders() {
        let Some(builder) = registry.get_builder(name) else { continue };
        let mut properties = source_settings();
        properties.extend(component_properties(&builder.schema));
        let body = body(properties, &[]);
        defs.insert(format!("builder.{name}"), body);
        builders.insert(name.into(), named(&blocks(&reference(&format!("builder.{name}")))));
    }
    let mut data = Map::new();
    for name in registry.data_sources() {
        let Some(source) = registry.get_data_source(name) else { continue };
        defs.insert(format!("data.{name}"), component(&source.schema, Map::new()));
        data.insert(name.into(), named(&blocks(&reference(&format!("data.{name}")))));
    }
    let mut provisioners = Map::new();
    for name in registry.provisioners() {
        let Some(provisioner) = registry.get_provisioner(name) else { continue };
        defs.insert(format!("provisioner.{name}"), component(&provisioner.schema, provisioner_settings()));
        provisioners.insert(name.into(), blocks(&reference(&format!("provisioner.{name}"))));
    }
    let mut post_processors = Map::new();
    for name in registry.post_processors() {
        let Some(post_processor) = registry.get_post_processor(name) else { continue };
        let def = component(&post_processor.schema, post_processor_settings());
        defs.insert(format!("post-processor.{name}"), def);
        post_processors.insert(name.into(), blocks(&reference(&format!("post-processor.{name}"))));
    }
    defs.insert("dynamic".into(), dynamic());
    defs.insert("build".into(), build(labelled(provisioners), labelled(post_processors)));
    defs.insert("template".into(), template(labelled(builders), labelled(data)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Packer template",
        "description": "A template in JSON syntax, *.pkr.json",
        "anyOf": [reference("template"), {"type": "array", "items": reference("template")}],
        "$defs": defs,
    })
}

fn reference(def: &str) -> Value {
    json!({"$ref": format!("#/$defs/{def}")})
}

/// A body with these properties and no others; `//` is a comment.
fn body(mut properties: Map<String, Value>, required: &[&str]) -> Value {
    properties.insert("//".into(), json!({"description": "A comment"}));
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// What stands for blocks: a body, an array with a body for each, or null for none.
fn blocks(body: &Value) -> Value {
    json!({"anyOf": [body, {"type": "array", "items": body}, {"type": "null"}]})
}

/// A level of labels, which an array of objects may stand for too.
fn level(object: Value) -> Value {
    json!({"anyOf": [object, {"type": "array", "items": object}]})
}

/// Labels from a list.
fn labelled(labels: Map<String, Value>) -> Value {
    level(json!({"type": "object", "properties": labels, "additionalProperties": false}))
}

/// Labels that may be anything.
fn named(inner: &Value) -> Value {
    level(json!({"type": "object", "additionalProperties": inner}))
}

fn described(mut schema: Value, doc: &str) -> Value {
    if let Value::Object(object) = &mut schema {
        object.insert("description".into(), doc.into());
    }
    schema
}

fn properties<const N: usize>(properties: [(&str, Value, &str); N]) -> Map<String, Value> {
    properties.into_iter().map(|(name, schema, doc)| (name.to_owned(), described(schema, doc))).collect()
}

fn template(sources: Value, data: Value) -> Value {
    let variable = properties([
        ("type", json!({"type": "string"}), "A type, such as string, number, bool or list(string)"),
        ("default", json!({}), "What holds where no value is given; without it one must be"),
        ("description", text(), "What the variable is for"),
        ("sensitive", kind(&Kind::Plain(Type::Bool)), "Whether the value is kept out of all output"),
        (
            "validation",
            blocks(&body(
                properties([
                    ("condition", json!({}), "What must be true of the value"),
                    ("error_message", json!({"type": "string"}), "What is said where it is not: a sentence"),
                ]),
                &["condition", "error_message"],
            )),
            "A rule that values must fulfil",
        ),
    ]);
    let local = properties([
        ("expression", json!({}), "The value"),
        ("sensitive", kind(&Kind::Plain(Type::Bool)), "Whether the value is kept out of all output"),
    ]);
    let packer = properties([
        ("required_version", text(), "Which versions of Packer will do: >= 1.7.0, < 2.0.0"),
        (
            "required_plugins",
            blocks(&json!({"type": "object", "additionalProperties": {
                "type": "object",
                "properties": {
                    "source": described(text(), "Where the plugin comes from: github.com/hashicorp/docker"),
                    "version": described(text(), "Which of its versions will do: ~> 1"),
                },
                "required": ["source", "version"],
                "additionalProperties": false,
            }})),
            "The plugins that the template's components belong to, by the name that the components begin with",
        ),
    ]);
    let output = properties([
        ("value", json!({}), "The value"),
        ("description", text(), "What the value is"),
        ("sensitive", kind(&Kind::Plain(Type::Bool)), "Whether the value is masked wherever it is shown"),
    ]);
    let anything = json!({"type": "object"});
    body(
        properties([
            ("packer", blocks(&body(packer, &[])), "What the template needs"),
            (
                "variable",
                named(&blocks(&body(variable, &[]))),
                "A value that is given from outside, by its name",
            ),
            ("variables", blocks(&anything), "Variables by name, each with its default"),
            ("locals", blocks(&anything), "Values by name"),
            ("local", named(&blocks(&body(local, &["expression"]))), "A value, by its name"),
            ("data", data, "Something to look up, by the type of data source and its name"),
            ("source", sources, "What a build starts from, by the type of builder and its name"),
            ("build", blocks(&reference("build")), "Sources, and the steps that are taken with each of them"),
            (
                "hcp_packer_registry",
                blocks(&anything),
                "A registry at HCP, which this library does not talk to",
            ),
            (
                "output",
                named(&blocks(&body(output, &["value"]))),
                "A value that a run gives back, by its name (an extension)",
            ),
            ("communicator", named(&named(&blocks(&anything))), "Of no effect"),
        ]),
        &[],
    )
}

fn build(provisioners: Value, post_processors: Value) -> Value {
    let sequence = properties([
        ("post-processor", post_processors.clone(), "A post-processor of the sequence, by its type"),
        ("dynamic", reference("dynamic"), "Blocks made from a collection"),
    ]);
    let list = kind(&Kind::List(Box::new(Kind::Plain(Type::String))));
    body(
        properties([
            (
                FOR_EACH,
                json!({}),
                "A collection: the block stands for a build for each element (an extension)",
            ),
            ("name", text(), "What the build is called"),
            ("description", text(), "What the build is for"),
            ("sources", list, "The sources to start from: TYPE.NAME"),
            (
                "source",
                named(&blocks(&json!({"type": "object"}))),
                "A source to start from, TYPE.NAME, with more settings",
            ),
            ("provisioner", provisioners.clone(), "A step that changes the machine, by its type"),
            (
                TEST,
                provisioners.clone(),
                "A step in a machine that is started from the artifact, by its type (an extension)",
            ),
            (
                "error-cleanup-provisioner",
                provisioners,
                "A step that is taken where another fails, by its type",
            ),
            ("post-processor", post_processors, "What becomes of the artifact, by its type"),
            (
                "post-processors",
                blocks(&body(sequence, &[])),
                "Post-processors, each with the artifact of the one before",
            ),
            (
                "hcp_packer_registry",
                blocks(&json!({"type": "object"})),
                "A registry at HCP, which this library does not talk to",
            ),
            ("from", named(&json!({})), "Of no effect"),
            ("dynamic", reference("dynamic"), "Blocks made from a collection"),
        ]),
        &[],
    )
}

fn dynamic() -> Value {
    named(&blocks(&body(
        properties([
            ("for_each", json!({}), "The collection: a block is made for each element"),
            (
                "iterator",
                json!({"type": "string"}),
                "What the element is called in content; otherwise as the block's type",
            ),
            ("labels", json!({}), "The labels of the block"),
            ("content", blocks(&json!({"type": "object"})), "The inside of the block"),
        ]),
        &["for_each", "content"],
    )))
}

fn source_settings() -> Map<String, Value> {
    properties([
        (FOR_EACH, json!({}), "A collection: the block stands for a source for each element (an extension)"),
        ("name", text(), "What each of them is called"),
    ])
}

fn provisioner_settings() -> Map<String, Value> {
    let mut settings = step_settings();
    settings.append(&mut properties([
        (
            "override",
            json!({"type": ["object", "string", "null"]}),
            "Other settings for some sources, by the source's name",
        ),
        ("pause_before", kind(&Kind::Duration), "How long to wait before the step: 10s, 1m30s"),
        ("timeout", kind(&Kind::Duration), "How long the step may take"),
        ("max_retries", kind(&Kind::Plain(Type::Number)), "How often the step is tried again where it fails"),
        (
            "continue_on_error",
            kind(&Kind::Plain(Type::Bool)),
            "Whether the build goes on where the step fails",
        ),
    ]));
    settings
}

fn post_processor_settings() -> Map<String, Value> {
    let mut settings = step_settings();
    let keep = kind(&Kind::Plain(Type::Bool));
    settings.append(&mut properties([(
        "keep_input_artifact",
        keep,
        "Whether the artifact that comes in stays; otherwise as the post-processor likes it",
    )]));
    settings
}

fn step_settings() -> Map<String, Value> {
    let list = || kind(&Kind::List(Box::new(Kind::Plain(Type::String))));
    properties([
        ("name", text(), "What the step is called"),
        ("only", list(), "The sources that the step is taken for: TYPE.NAME"),
        ("except", list(), "The sources that the step is not taken for"),
        ("when", kind(&Kind::Plain(Type::Bool)), "Whether the step is taken (an extension)"),
    ])
}

/// The body of a component, with settings that the engine reads. A field of the component goes before one of those.
fn component(schema: &Schema, settings: Map<String, Value>) -> Value {
    let mut properties = settings;
    properties.extend(component_properties(schema));
    body(properties, &required(schema))
}

fn required(schema: &Schema) -> Vec<&str> {
    // What has two names, or may come from a dynamic block, cannot be demanded under one.
    let demanded = |field: &Field| {
        field.required && field.aliases.is_empty() && matches!(field.kind, FieldKind::Attribute(_))
    };
    schema.fields.iter().filter(|(_, field)| demanded(field)).map(|(name, _)| &**name).collect()
}

/// The fields of a component, under each of their names.
fn component_properties(schema: &Schema) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut has_blocks = false;
    for (name, field) in &schema.fields {
        let shape = match &field.kind {
            FieldKind::Attribute(of) => kind(of),
            FieldKind::Block(inner) | FieldKind::Blocks(inner) => {
                has_blocks = true;
                blocks(&body(component_properties(inner), &required(inner)))
            }
        };
        for alias in &field.aliases {
            let mut old = described(shape.clone(), &format!("The old name of {name}"));
            old["deprecated"] = true.into();
            properties.insert(alias.clone(), old);
        }
        properties.insert(name.to_string(), annotated(shape, field));
    }
    if has_blocks {
        properties.insert("dynamic".into(), reference("dynamic"));
    }
    properties
}

/// A shape with what is known of the field beside.
fn annotated(shape: Value, field: &Field) -> Value {
    let mut schema = shape;
    if !field.doc.is_empty() {
        schema["description"] = field.doc.clone().into();
    }
    if let Some(default) = &field.default {
        schema["default"] = default.clone();
    }
    for (mark, holds) in
        [("deprecated", field.deprecated), ("x-required", field.required), ("x-late", field.late)]
    {
        if holds {
            schema[mark] = true.into();
        }
    }
    schema
}

fn text() -> Value {
    kind(&Kind::Plain(Type::String))
}

/// What may be written for an argument: what is of its type or becomes it, a text with an expression, or null for none.
fn kind(of: &Kind) -> Value {
    match of {
        Kind::Plain(Type::String) => json!({"type": ["string", "number", "boolean", "null"]}),
        Kind::Plain(Type::Bool) => {
            json!({"type": ["boolean", "string", "null"], "pattern": format!("^(true|false|1|0)$|{TEMPLATE}")})
        }
        Kind::Plain(Type::Number) => number(),
        Kind::Integer { min, max } => {
            let mut schema = number();
            // JSON has no larger numbers that every program reads alike.
            for (word, bound) in [("minimum", min), ("maximum", max)] {
                if let Ok(bound) = i64::try_from(*bound) {
                    schema[word] = bound.into();
                }
            }
            schema
        }
        Kind::Duration => json!({"type": ["string", "null"], "pattern": DURATION}),
        Kind::Plain(Type::List(element) | Type::Set(element)) => list(&Kind::Plain((**element).clone())),
        Kind::List(element) => list(element),
        Kind::Plain(Type::Map(element)) => map(&Kind::Plain((**element).clone())),
        Kind::Map(element) => map(element),
        Kind::Plain(_) => json!({}),
    }
}

fn number() -> Value {
    let pattern = format!(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$|{TEMPLATE}");
    json!({"type": ["number", "string", "null"], "pattern": pattern})
}

fn list(element: &Kind) -> Value {
    json!({"type": ["array", "string", "null"], "items": kind(element), "pattern": TEMPLATE})
}

fn map(element: &Kind) -> Value {
    json!({"type": ["object", "string", "null"], "additionalProperties": kind(element), "pattern": TEMPLATE})
}
