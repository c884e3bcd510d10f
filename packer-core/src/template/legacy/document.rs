//! What a legacy template says: from JSON to its variables, builders and steps.

use std::collections::HashMap;
use std::sync::Arc;

use super::object::{Item, Object, Text, kind};
use super::steps::{PostProcessor, Provisioner};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, SourceFile};
use crate::language::syntax::{Node, NodeKind};
use crate::template::suggest::suggestion;

/// The keys that the root may have. `push` and `comments` mean nothing any more.
const ROOT_KEYS: [&str; 10] = [
    "min_packer_version",
    "description",
    "variables",
    "sensitive-variables",
    "builders",
    "provisioners",
    "error-cleanup-provisioner",
    "post-processors",
    "push",
    "comments",
];

/// A template, read.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// The beginning of the file.
    pub(super) place: Location,
    pub(super) min_version: Option<Text>,
    pub(super) description: String,
    /// In the order of their names.
    pub(super) variables: Vec<Variable>,
    pub(super) sensitive: Vec<Text>,
    /// In the order written.
    pub(super) builders: Vec<Builder>,
    pub(super) provisioners: Vec<Provisioner>,
    pub(super) error_cleanup: Option<Provisioner>,
    /// Sequences.
    pub(super) post_processors: Vec<Vec<PostProcessor>>,
}

/// A declared variable.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: Text,
    /// `None` where a value must be given.
    pub(super) default: Option<Text>,
}

/// A builder as it is written.
#[derive(Debug, Clone)]
pub(super) struct Builder {
    pub(super) kind: Text,
    /// Its type where it has no name. It may hold `{{ … }}`; steps refer to it as it is written.
    pub(super) name: Text,
    pub(super) config: Object,
    /// The type, or where the builder begins.
    pub(super) place: Location,
}

impl Document {
    /// Reads a template out of JSON.
    ///
    /// # Errors
    /// All that is not as a template must be.
    pub(super) fn read(source: &Arc<SourceFile>, root: &Node) -> Result<Self, Diagnostics> {
        let mut reader = Reader { source, found: Diagnostics::new() };
        let document = reader.document(root);
        let Reader { found, .. } = reader;
        document.filter(|_| !found.has_errors()).ok_or(found)
    }

    /// The declared variable of a name.
    pub(super) fn variable(&self, name: &str) -> Option<&Variable> {
        let at = self.variables.binary_search_by(|v| (*v.name.text).cmp(name)).ok()?;
        self.variables.get(at)
    }
}

/// Reads parts of a document and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Arc<SourceFile>,
    pub(super) found: Diagnostics,
}

impl Reader<'_> {
    fn document(&mut self, node: &Node) -> Option<Document> {
        let whole = node.span.in_source(self.source);
        let Some(mut root) = Object::of(self.source, node).filter(|_| !matches!(node.kind, NodeKind::Null))
        else {
            let d = Diagnostic::error("A template must be a JSON object")
                .detail(format!("This is {}.", kind(node)));
            self.found.push(d.at(whole));
            return None;
        };
        let place = root.place();
        let mut items: HashMap<&str, Item> =
            ROOT_KEYS.iter().filter_map(|key| Some((*key, root.take(key)?))).collect();
        self.check_others(&root);
        self.check_ignored(&items);
        let min_version = self.text(items.remove("min_packer_version"));
        let description = self.text(items.remove("description"));
        let variables = self.variables(items.remove("variables"));
        let sensitive = self.texts(items.remove("sensitive-variables"));
        let builders = self.list(items.remove("builders"), |reader, number, node| {
            Some((number, reader.builder(number, node)?))
        });
        self.check_builder_names(&builders);
        let builders = builders.into_iter().map(|(_, builder)| builder).collect();
        let provisioners = self.list(items.remove("provisioners"), |reader, number, node| {
            reader.provisioner(node, &format!("provisioner {number}"))
        });
        let error_cleanup = items.remove("error-cleanup-provisioner");
        let error_cleanup = error_cleanup.filter(|item| !matches!(item.node.kind, NodeKind::Null));
        let error_cleanup =
            error_cleanup.and_then(|item| self.provisioner(&item.node, "error-cleanup-provisioner"));
        let post_processors = self.list(items.remove("post-processors"), Self::sequence);
        Some(Document {
            place,
            min_version,
            description: description.map_or_else(String::new, |text| text.text.to_string()),
            variables,
            sensitive,
            builders,
            provisioners,
            error_cleanup,
            post_processors,
        })
    }

    /// Items of the root that mean nothing: those that begin with `_` are comments.
    fn check_others(&mut self, root: &Object) {
        for item in root.items() {
            let name = &*item.name.text;
            if name.starts_with('_') {
                if !matches!(item.node.kind, NodeKind::String(_)) {
                    self.found.push(
                        Diagnostic::error(format!("The comment {name:?} is not a text"))
                            .detail(format!(
                                "Items of the template whose names begin with `_` are comments, which are texts; this is {}.",
                                kind(&item.node)
                            ))
                            .at(item.value_place),
                    );
                }
                continue;
            }
            let d = Diagnostic::error(format!("Unknown root level key in template: '{name}'"))
                .at(item.name.place);
            self.found.push(match suggestion(name, ROOT_KEYS, &self.found) {
                Some(meant) => d.help(format!("did you mean {meant:?}?")),
                None => d.help("a comment has a name that begins with `_`"),
            });
        }
    }

    fn check_ignored(&mut self, items: &HashMap<&str, Item>) {
        if let Some(item) = items.get("push")
            && !matches!(item.node.kind, NodeKind::Object(_) | NodeKind::Null)
        {
            self.wrong(item, "an object");
        }
        if let Some(item) = items.get("comments")
            && !matches!(item.node.kind, NodeKind::Array(_) | NodeKind::Null)
        {
            self.wrong(item, "a list");
        }
    }

    /// A text and nothing else; null is none.
    pub(super) fn text(&mut self, item: Option<Item>) -> Option<Text> {
        let item = item?;
        match &item.node.kind {
            NodeKind::String(text) => Some(Text { text: text.clone(), place: item.value_place }),
            NodeKind::Null => None,
            _ => {
                self.wrong(&item, "a text");
                None
            }
        }
    }

    /// A list of texts and nothing else; null is none.
    pub(super) fn texts(&mut self, item: Option<Item>) -> Vec<Text> {
        let Some(item) = item else { return Vec::new() };
        match &item.node.kind {
            NodeKind::Null => Vec::new(),
            NodeKind::Array(nodes) => nodes.iter().filter_map(|node| self.list_text(&item, node)).collect(),
            _ => {
                self.wrong(&item, "a list of texts");
                Vec::new()
            }
        }
    }

    fn list_text(&mut self, item: &Item, node: &Node) -> Option<Text> {
        let place = node.span.in_source(self.source);
        if let NodeKind::String(text) = &node.kind {
            return Some(Text { text: text.clone(), place });
        }
        let detail = format!("{:?} must be a list of texts; this is {}.", item.name.text, kind(node));
        self.found.push(Diagnostic::error("Wrong kind of value").detail(detail).at(place));
        None
    }

    /// Says that an item should be something else.
    pub(super) fn wrong(&mut self, item: &Item, wanted: &str) {
        self.found.push(wrong(item, wanted));
    }

    /// The items of a list, each with its number from 1; null is no list.
    fn list<T>(
        &mut self,
        item: Option<Item>,
        mut each: impl FnMut(&mut Self, usize, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(item) = item else { return Vec::new() };
        match &item.node.kind {
            NodeKind::Array(nodes) => {
                nodes.iter().enumerate().filter_map(|(i, node)| each(self, i + 1, node)).collect()
            }
            NodeKind::Null => Vec::new(),
            _ => {
                self.wrong(&item, "a list");
                Vec::new()
            }
        }
    }

    fn variables(&mut self, item: Option<Item>) -> Vec<Variable> {
        let Some(item) = item else { return Vec::new() };
        let Some(object) = Object::of(self.source, &item.node) else {
            self.wrong(&item, "an object");
            return Vec::new();
        };
        let mut variables: Vec<Variable> = Vec::new();
        for item in object.items() {
            match &item.node.kind {
                NodeKind::Null => variables.push(Variable { name: item.name, default: None }),
                NodeKind::String(text) => {
                    let default = Some(Text { text: text.clone(), place: item.value_place });
                    variables.push(Variable { name: item.name, default });
                }
                _ => {
                    let name = &item.name.text;
                    let detail = format!(
                        "The default of a variable is a text, or null where a value must be given; this is {}.",
                        kind(&item.node)
                    );
                    let d = Diagnostic::error(format!("variable {name}: the default must be a text"))
                        .detail(detail)
                        .at(item.value_place);
                    self.found.push(match &item.node.kind {
                        NodeKind::Number(_) | NodeKind::Bool(_) => d.help("put it in double quotes"),
                        _ => d,
                    });
                }
            }
        }
        variables.sort_by(|a, b| a.name.text.cmp(&b.name.text));
        variables
    }

    fn builder(&mut self, number: usize, node: &Node) -> Option<Builder> {
        let mut config = self.object(node, &format!("builder {number}"))?;
        let begin = config.place();
        let (kind, name) = (config.take("type"), config.take("name"));
        let place = kind.as_ref().map_or_else(|| begin.clone(), |item| item.place.clone());
        let kind = self.weak_text(kind).filter(|kind| !kind.text.is_empty());
        let name = self.weak_text(name).filter(|name| !name.text.is_empty());
        let Some(kind) = kind else {
            self.found.push(
                Diagnostic::error(format!("builder {number}: missing 'type'"))
                    .detail("The type of a builder says what makes its machine: \"null\", \"docker\", …")
                    .at(place),
            );
            return None;
        };
        let name = name.unwrap_or_else(|| kind.clone());
        Some(Builder { kind, name, config, place })
    }

    /// Builders have the numbers that they have in the list.
    fn check_builder_names(&mut self, builders: &[(usize, Builder)]) {
        let mut seen: HashMap<&str, &Builder> = HashMap::with_capacity(builders.len());
        for (number, builder) in builders {
            let Some(first) = seen.insert(&builder.name.text, builder) else { continue };
            self.found.push(
                Diagnostic::error(format!(
                    "builder {number}: builder with name '{}' already exists",
                    builder.name.text
                ))
                .detail(
                    "A builder without a name is called as its type; of several at most one can go without.",
                )
                .at(builder.name.place.clone())
                .related("the first", first.name.place.clone()),
            );
        }
    }

    /// The object that a component is written as.
    pub(super) fn object(&mut self, node: &Node, what: &str) -> Option<Object> {
        let object = Object::of(self.source, node);
        if object.is_none() {
            let d = Diagnostic::error(format!("{what} must be an object"))
                .detail(format!("This is {}.", kind(node)));
            self.found.push(d.at(node.span.in_source(self.source)));
        }
        object
    }

    /// A text, a number or a bool as text; null is none.
    pub(super) fn weak_text(&mut self, item: Option<Item>) -> Option<Text> {
        let item = item?;
        let text: Arc<str> = match &item.node.kind {
            NodeKind::Null => return None,
            NodeKind::String(text) => text.clone(),
            NodeKind::Bool(b) => if *b { "1" } else { "0" }.into(),
            NodeKind::Number(number) => {
                number.as_number().map_or_else(String::new, ToString::to_string).into()
            }
            NodeKind::Array(_) | NodeKind::Object(_) | NodeKind::Invalid => {
                self.wrong(&item, "a text");
                return None;
            }
        };
        Some(Text { text, place: item.value_place })
    }
}

/// What is said of an item that should be something else.
pub(super) fn wrong(item: &Item, wanted: &str) -> Diagnostic {
    let detail = format!("{:?} must be {wanted}, not {}.", item.name.text, kind(&item.node));
    Diagnostic::error("Wrong kind of value").detail(detail).at(item.value_place.clone())
}
