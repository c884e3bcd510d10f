//! What the block of a component may hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde_json::Value as Json;

use crate::secrets::Secrets;
use crate::value::{Type, Value};

/// How deep blocks may nest; a schema that holds itself ends there.
const MAX_DEPTH: usize = 16;

/// The arguments and blocks of a component, by name.
///
/// It is plain data: [`Schema::of`] makes it of a Rust struct, and whoever knows a component otherwise (from a
/// plugin's answer) builds it field by field. Decoding needs nothing else to tell what fits and what does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    /// The fields, by the name that templates use.
    pub fields: BTreeMap<Arc<str>, Field>,
}

/// One argument or block type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Field {
    /// What may be written.
    pub kind: FieldKind,
    /// Whether the schema itself demands it. (Most components check that in their prepare, with words of their own.)
    pub required: bool,
    /// Whether it is rendered when the component runs, with variables of its own; decoding only checks its syntax.
    pub late: bool,
    /// Whether what it holds, or anything in it, is a secret: the type [`Secret`](crate::Secret), or `writeOnly` in a JSON
    /// Schema. Values of it are marked sensitive and registered, whatever they came from.
    pub secret: bool,
    /// Whether absent and empty differ: the field is an `Option`.
    pub optional: bool,
    /// Other names it was known by.
    pub aliases: Vec<String>,
    /// What it is for.
    pub doc: String,
    /// What holds where it is not given; `None` where that cannot be said.
    pub default: Option<Json>,
    /// Whether new templates should use something else.
    pub deprecated: bool,
}

/// What may be written for a field.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldKind {
    /// `name = value`.
    Attribute(Kind),
    /// `name { … }`, once.
    Block(Schema),
    /// `name { … }`, as often as wanted.
    Blocks(Schema),
}

/// The kind of an argument's value: its type, and what only looks like that type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Anything of the type.
    Plain(Type),
    /// A whole number in this range.
    Integer {
        /// The least.
        min: i128,
        /// The greatest.
        max: i128,
    },
    /// A text that is a duration in Go's form; a bare number in JSON is nanoseconds.
    Duration,
    /// Several of a kind.
    List(Box<Self>),
    /// Several of a kind by name.
    Map(Box<Self>),
}

impl Kind {
    /// The type that values are converted to.
    pub fn ty(&self) -> Type {
        match self {
            Self::Plain(ty) => ty.clone(),
            Self::Integer { .. } => Type::Number,
            Self::Duration => Type::String,
            Self::List(element) => Type::list(element.ty()),
            Self::Map(element) => Type::map(element.ty()),
        }
    }
}

impl Field {
    /// A field of a kind, not required, rendered at decode.
    pub fn new(kind: FieldKind) -> Self {
        Self {
            kind,
            required: false,
            late: false,
            secret: false,
            optional: false,
            aliases: Vec::new(),
            doc: String::new(),
            default: None,
            deprecated: false,
        }
    }

    /// An argument of a type.
    pub fn attribute(ty: Type) -> Self {
        Self::new(FieldKind::Attribute(Kind::Plain(ty)))
    }
}

impl Schema {
    /// The schema of a Rust struct.
    ///
    /// A struct is a nested block, a list of structs any number of blocks; everything else is an argument. A field
    /// without a default in serde's sense is required. Fields of a `#[serde(flatten)]`ed struct are fields of the
    /// whole. Marks that schemars' `extend` puts on a field: `"x-late" = true` for texts that are rendered when the
    /// component runs, `"writeOnly" = true` for secrets that are no [`Secret`](crate::Secret), `"x-attribute" = true` for a
    /// struct that is written as an object, `"x-aliases" = ["old"]`.
    pub fn of<T: JsonSchema>() -> Self {
        Self::from_json_schema(&schemars::SchemaGenerator::default().into_root_schema_for::<T>())
    }

    /// The schema of what a JSON Schema describes; empty where that is no object.
    pub fn from_json_schema(schema: &schemars::Schema) -> Self {
        let root = schema.as_value();
        Reader { root }.object(root, 0)
    }

    /// The field of a name, or of one it had.
    pub fn field(&self, name: &str) -> Option<(&Arc<str>, &Field)> {
        self.fields
            .get_key_value(name)
            .or_else(|| self.fields.iter().find(|(_, field)| field.aliases.iter().any(|a| a == name)))
    }

    /// Registers what an object that is to be read by this schema holds of secrets: texts of fields that are declared secret,
    /// and what is marked sensitive.
    pub fn register(&self, object: &Value, secrets: &Secrets) {
        if !object.is_too_deep() {
            super::secret::register_all(self, object, secrets);
        }
    }

    /// The field of a name in whatever case, as legacy JSON templates may write it.
    pub fn field_ignoring_case(&self, name: &str) -> Option<(&Arc<str>, &Field)> {
        let same = |known: &str| known.to_lowercase() == name.to_lowercase();
        self.field(name).or_else(|| {
            self.fields.iter().find(|(known, field)| same(known) || field.aliases.iter().any(|a| same(a)))
        })
    }
}

struct Reader<'a> {
    root: &'a Json,
}

impl Reader<'_> {
    fn object(&self, schema: &Json, depth: usize) -> Schema {
        let schema = self.resolved(schema);
        let required: Vec<&str> = list(schema, "required").filter_map(Json::as_str).collect();
        let properties = schema.get("properties").and_then(Json::as_object);
        let fields = properties.into_iter().flatten().map(|(name, property)| {
            let mut field = self.field(property, depth);
            field.required = required.contains(&name.as_str());
            (Arc::from(name.as_str()), field)
        });
        Schema { fields: fields.collect() }
    }

    fn field(&self, property: &Json, depth: usize) -> Field {
        let (schema, optional) = self.without_null(property);
        let marked = |mark: &str| flag(property, mark) || flag(schema, mark);
        let is_struct = |schema: &Json| schema.get("properties").is_some();
        let items = schema.get("items").map(|items| self.without_null(items).0);
        let kind = if depth < MAX_DEPTH && !marked("x-attribute") && is_struct(schema) {
            FieldKind::Block(self.object(schema, depth + 1))
        } else if let Some(items) =
            items.filter(|i| depth < MAX_DEPTH && !marked("x-attribute") && is_struct(i))
        {
            FieldKind::Blocks(self.object(items, depth + 1))
        } else {
            FieldKind::Attribute(self.kind(schema, depth))
        };
        let text = |name: &str| property.get(name).or_else(|| schema.get(name)).and_then(Json::as_str);
        Field {
            late: marked("x-late") || self.holds_late(schema, depth),
            secret: match &kind {
                FieldKind::Attribute(_) => flag(property, "writeOnly") || self.holds_secret(schema, depth),
                // Its fields have marks of their own.
                FieldKind::Block(_) | FieldKind::Blocks(_) => marked("writeOnly"),
            },
            optional,
            aliases: list(property, "x-aliases").filter_map(Json::as_str).map(Into::into).collect(),
            doc: text("description").unwrap_or_default().into(),
            default: property.get("default").cloned(),
            deprecated: marked("deprecated"),
            ..Field::new(kind)
        }
    }

    fn kind(&self, schema: &Json, depth: usize) -> Kind {
        if depth >= MAX_DEPTH {
            return Kind::Plain(Type::Dynamic);
        }
        let (schema, _) = self.without_null(schema);
        let ty = schema.get("type").and_then(|t| match t {
            Json::String(name) => Some(name.as_str()),
            Json::Array(names) => names.iter().filter_map(Json::as_str).find(|name| *name != "null"),
            _ => None,
        });
        match ty {
            Some("string") if schema.get("format").and_then(Json::as_str) == Some("go-duration") => {
                Kind::Duration
            }
            Some("string") => Kind::Plain(Type::String),
            Some("boolean") => Kind::Plain(Type::Bool),
            Some("number") => Kind::Plain(Type::Number),
            Some("integer") => integer(schema),
            Some("array") => {
                let element = schema.get("items").map(|items| self.kind(items, depth + 1));
                Kind::List(Box::new(element.unwrap_or(Kind::Plain(Type::Dynamic))))
            }
            Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
                (None, Some(element)) if *element != Json::Bool(false) => {
                    Kind::Map(Box::new(self.kind(element, depth + 1)))
                }
                _ => Kind::Plain(Type::Dynamic),
            },
            // An enum of names is a text.
            _ if self.only_texts(schema) => Kind::Plain(Type::String),
            _ => Kind::Plain(Type::Dynamic),
        }
    }

    fn only_texts(&self, schema: &Json) -> bool {
        let mut choices = list(schema, "oneOf").chain(list(schema, "anyOf")).peekable();
        let mut constants = list(schema, "enum").chain(schema.get("const")).peekable();
        if constants.peek().is_some() {
            return constants.all(Json::is_string);
        }
        choices.peek().is_some()
            && choices.all(|choice| {
                let choice = self.resolved(choice);
                choice.get("type").and_then(Json::as_str) == Some("string")
                    || choice.get("const").is_some_and(Json::is_string)
            })
    }

    /// Whether the items of a list or the values of a map are marked late.
    fn holds_late(&self, schema: &Json, depth: usize) -> bool {
        let inner = schema.get("items").or_else(|| schema.get("additionalProperties"));
        depth < MAX_DEPTH
            && inner.is_some_and(|inner| {
                let (inner, _) = self.without_null(inner);
                flag(inner, "x-late") || self.holds_late(inner, depth + 1)
            })
    }

    /// Whether it is marked as a secret, or anything in it is.
    fn holds_secret(&self, schema: &Json, depth: usize) -> bool {
        let (schema, _) = self.without_null(schema);
        let of_object = schema.get("properties").and_then(Json::as_object);
        let mut inner = of_object
            .into_iter()
            .flat_map(|all| all.values())
            .chain(["items", "additionalProperties"].into_iter().filter_map(|name| schema.get(name)))
            .chain(["oneOf", "anyOf", "allOf"].into_iter().flat_map(|name| list(schema, name)));
        flag(schema, "writeOnly") || (depth < MAX_DEPTH && inner.any(|s| self.holds_secret(s, depth + 1)))
    }

    /// The schema without the null that an `Option` adds, and whether there was one.
    fn without_null<'s>(&'s self, schema: &'s Json) -> (&'s Json, bool) {
        let schema = self.resolved(schema);
        if list(schema, "type").any(|t| t == "null") {
            return (schema, true);
        }
        let is_null = |s: &&Json| s.get("type").and_then(Json::as_str) == Some("null");
        let mut choices = list(schema, "anyOf").filter(|s| !is_null(s));
        match (choices.next(), choices.next(), list(schema, "anyOf").any(|s| is_null(&s))) {
            (Some(only), None, null) => (self.resolved(only), null),
            (_, _, null) => (schema, null),
        }
    }

    /// Follows references and single-element `allOf`s.
    fn resolved<'s>(&'s self, mut schema: &'s Json) -> &'s Json {
        for _ in 0..MAX_DEPTH {
            let target = match schema.get("$ref").and_then(Json::as_str) {
                Some(path) => self.root.pointer(path.trim_start_matches('#')),
                None => schema
                    .get("allOf")
                    .and_then(Json::as_array)
                    .filter(|all| all.len() == 1)
                    .and_then(|all| all.first()),
            };
            match target {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}

fn list<'s>(schema: &'s Json, name: &str) -> impl Iterator<Item = &'s Json> {
    schema.get(name).and_then(Json::as_array).into_iter().flatten()
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn integer(schema: &Json) -> Kind {
    let format = schema.get("format").and_then(Json::as_str).unwrap_or("int64");
    let (min, max) = match format {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint" | "uint64" => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    };
    let bound = |name: &str| schema.get(name).and_then(Json::as_i64).map(i128::from);
    Kind::Integer {
        min: bound("minimum").unwrap_or(min).max(min),
        max: bound("maximum").unwrap_or(max).min(max),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::{GoTemplate, OneOrMany};
    use crate::duration::GoDuration;

    #[derive(Deserialize, JsonSchema, Default)]
    #[serde(default)]
    struct Shared {
        /// How long.
        wait: GoDuration,
        port: Option<u16>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Disk {
        size: i64,
        inner: Option<Box<Self>>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Fast,
        /// With a doc.
        VerySlow,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Whole {
        #[serde(flatten)]
        shared: Shared,
        name: String,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        lines: Vec<String>,
        #[serde(default)]
        tags: BTreeMap<String, String>,
        #[serde(default)]
        command: GoTemplate,
        #[serde(default)]
        commands: Vec<GoTemplate>,
        #[serde(default)]
        #[schemars(extend("x-late" = true, "x-aliases" = ["old"]))]
        text: String,
        #[serde(default)]
        codes: OneOrMany<i32>,
        #[serde(default)]
        disks: Vec<Disk>,
        #[serde(default)]
        root: Option<Disk>,
        #[serde(default)]
        anything: serde_json::Value,
        #[serde(default)]
        rows: Vec<Vec<bool>>,
    }

    #[test]
    fn a_struct_says_what_its_block_holds() {
        let schema = Schema::of::<Whole>();
        let show = |name: &str| match &schema.fields[name].kind {
            FieldKind::Attribute(kind) => kind.ty().to_string(),
            FieldKind::Block(s) => format!("block {:?}", s.fields.keys().collect::<Vec<_>>()),
            FieldKind::Blocks(s) => format!("blocks {:?}", s.fields.keys().collect::<Vec<_>>()),
        };
        for (name, expected) in [
            ("wait", "string"),
            ("port", "number"),
            ("name", "string"),
            ("mode", "string"),
            ("lines", "list(string)"),
            ("tags", "map(string)"),
            ("command", "string"),
            ("commands", "list(string)"),
            ("codes", "list(number)"),
            ("disks", "blocks [\"inner\", \"size\"]"),
            ("root", "block [\"inner\", \"size\"]"),
            ("anything", "any"),
            ("rows", "list(list(bool))"),
        ] {
            assert_eq!(show(name).replace("dynamic", "any"), expected, "{name}");
        }
        let names = |test: fn(&Field) -> bool| {
            schema.fields.iter().filter(|(_, f)| test(f)).map(|(n, _)| &**n).collect::<Vec<_>>()
        };
        assert_eq!(names(|f| f.required), ["name"]);
        assert_eq!(names(|f| f.late), ["command", "commands", "text"]);
        assert_eq!(names(|f| f.optional), ["mode", "port", "root"]);
        assert_eq!(schema.fields["wait"].doc, "How long.");
        assert_eq!(schema.fields["port"].kind, FieldKind::Attribute(Kind::Integer { min: 0, max: 65535 }));
        assert_eq!(schema.field("old").map(|(name, _)| &**name), Some("text"));
        assert_eq!(schema.field_ignoring_case("OLD").map(|(name, _)| &**name), Some("text"));
    }
}
