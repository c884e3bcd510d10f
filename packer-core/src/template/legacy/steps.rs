//! Provisioners and post-processors of a legacy template: what the loader knows of them, and what is left for them.

use std::time::Duration;

use super::document::{Reader, wrong};
use super::object::{Item, Object, Text, kind};
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::duration::GoDuration;
use crate::language::syntax::{Node, NodeKind};

/// A provisioner as it is written.
#[derive(Debug, Clone)]
pub(super) struct Provisioner {
    pub(super) kind: Text,
    pub(super) filter: Filter,
    /// By the builder's name as it is written.
    pub(super) overrides: Vec<(Text, Object)>,
    /// What is wrong with other overrides, which matters only to who wants the builds.
    pub(super) unfit_overrides: Diagnostics,
    pub(super) pause_before: Duration,
    pub(super) timeout: Option<Duration>,
    /// May hold `{{ … }}`.
    pub(super) max_retries: Option<Text>,
    pub(super) config: Object,
    /// The type.
    pub(super) place: Location,
}

/// A post-processor as it is written.
#[derive(Debug, Clone)]
pub(super) struct PostProcessor {
    pub(super) kind: Text,
    /// Its type where it has no name.
    pub(super) name: Text,
    pub(super) filter: Filter,
    pub(super) keep_input_artifact: Option<bool>,
    pub(super) config: Object,
    /// The type.
    pub(super) place: Location,
}

/// `only` and `except`: names of builders as they are written.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) only: Vec<Text>,
    pub(super) except: Vec<Text>,
}

impl Filter {
    /// Whether a step is for the builder of a name.
    pub(super) fn admits(&self, builder: &str) -> bool {
        let has = |names: &[Text]| names.iter().any(|name| &*name.text == builder);
        match self.only.is_empty() {
            true => !has(&self.except),
            false => has(&self.only),
        }
    }

    /// All names, each with the setting it stands in.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        self.only.iter().map(|n| ("only", n)).chain(self.except.iter().map(|n| ("except", n)))
    }
}

impl Reader<'_> {
    /// Reads a provisioner, which is called `what` in messages. Its settings are taken as Packer takes them: one text
    /// for a list, a number for a text.
    pub(super) fn provisioner(&mut self, node: &Node, what: &str) -> Option<Provisioner> {
        let mut config = self.object(node, what)?;
        let kind = config.take("type");
        let place = kind.as_ref().map_or_else(|| config.place(), |item| item.place.clone());
        let kind = self.weak_text(kind).filter(|kind| !kind.text.is_empty());
        let (only, except) = (config.take("only"), config.take("except"));
        let filter = Filter { only: self.weak_texts(only), except: self.weak_texts(except) };
        let mut unfit_overrides = Diagnostics::new();
        let overrides = config.take("override");
        let overrides = overrides.map_or_else(Vec::new, |item| self.overrides(&item, &mut unfit_overrides));
        let (pause, limit) = (config.take("pause_before"), config.take("timeout"));
        let pause_before = self.duration(pause).unwrap_or_default();
        let timeout = self.duration(limit).filter(|limit| !limit.is_zero());
        let max_retries = config.take("max_retries");
        let max_retries = self.weak_text(max_retries).filter(|text| !text.text.is_empty());
        let Some(kind) = kind else {
            let d = Diagnostic::error(format!("{what}: Provisioner missing 'type'"))
                .detail("The type of a provisioner says what changes the machine: \"shell\", \"file\", …");
            self.found.push(d.at(place));
            return None;
        };
        // Packer has never limited a provisioner that waits before it starts, so templates that say both rely on that.
        let timeout = timeout.filter(|_| pause_before.is_zero());
        Some(Provisioner {
            kind,
            filter,
            overrides,
            unfit_overrides,
            pause_before,
            timeout,
            max_retries,
            config,
            place,
        })
    }

    /// Reads an item of `post-processors`: one post-processor or a sequence.
    pub(super) fn sequence(&mut self, number: usize, node: &Node) -> Option<Vec<PostProcessor>> {
        let nodes = match &node.kind {
            NodeKind::Array(nodes) => nodes,
            _ => std::slice::from_ref(node),
        };
        let each = |(i, node)| self.post_processor(node, &format!("post-processor {number}.{}", i + 1));
        Some(nodes.iter().enumerate().filter_map(each).collect())
    }

    fn post_processor(&mut self, node: &Node, what: &str) -> Option<PostProcessor> {
        let place = node.span.in_source(self.source);
        match &node.kind {
            NodeKind::String(text) => {
                let kind = Text { text: text.clone(), place: place.clone() };
                let (config, filter) = (Object::empty(self.source, node), Filter::default());
                return Some(PostProcessor {
                    name: kind.clone(),
                    kind,
                    filter,
                    keep_input_artifact: None,
                    config,
                    place,
                });
            }
            NodeKind::Array(_) => {
                let d = Diagnostic::error(format!("{what}: sequence not allowed to be nested in a sequence"))
                    .detail("A list of post-processors holds post-processors, or lists of them that hold no lists.");
                self.found.push(d.at(place));
                return None;
            }
            _ => {}
        }
        let mut config = self.object(node, what)?;
        let kind = config.take("type");
        let place = kind.as_ref().map_or_else(|| config.place(), |item| item.place.clone());
        let kind = self.text(kind).filter(|kind| !kind.text.is_empty());
        let name = config.take("name");
        let name = self.text(name).filter(|name| !name.text.is_empty());
        let (only, except) = (config.take("only"), config.take("except"));
        let filter = Filter { only: self.texts(only), except: self.texts(except) };
        let keep_input_artifact = config.take("keep_input_artifact").and_then(|item| self.keep(&item, what));
        let Some(kind) = kind else {
            let d = Diagnostic::error(format!("{what}: type is required"))
                .detail("The type of a post-processor says what becomes of the artifact: \"manifest\", …");
            self.found.push(d.at(place));
            return None;
        };
        let name = name.unwrap_or_else(|| kind.clone());
        Some(PostProcessor { kind, name, filter, keep_input_artifact, config, place })
    }

    fn keep(&mut self, item: &Item, what: &str) -> Option<bool> {
        match &item.node.kind {
            NodeKind::Bool(keep) => Some(*keep),
            NodeKind::Null => None,
            _ => {
                let d = Diagnostic::error(format!("{what}: 'keep_input_artifact' must be true or false"))
                    .detail(format!(
                        "This is {}. It is not rendered, so no variable can set it.",
                        kind(&item.node)
                    ));
                self.found.push(d.at(item.value_place.clone()));
                None
            }
        }
    }

    /// A list of texts, or one text for a list; numbers and bools as texts.
    fn weak_texts(&mut self, item: Option<Item>) -> Vec<Text> {
        let Some(item) = item else { return Vec::new() };
        match &item.node.kind {
            NodeKind::Array(nodes) => {
                let text = |node: &Node| {
                    let item = Item {
                        node: node.clone(),
                        value_place: node.span.in_source(self.source),
                        ..item.clone()
                    };
                    self.weak_text(Some(item))
                };
                nodes.iter().filter_map(text).collect()
            }
            NodeKind::String(text) if text.is_empty() => Vec::new(),
            _ => self.weak_text(Some(item)).into_iter().collect(),
        }
    }

    fn overrides(&mut self, item: &Item, unfit: &mut Diagnostics) -> Vec<(Text, Object)> {
        let Some(object) = Object::of(self.source, &item.node) else {
            self.wrong(item, "an object with an object for each builder");
            return Vec::new();
        };
        let each = |item: Item| {
            let Some(object) = Object::of(self.source, &item.node) else {
                unfit.push(wrong(&item, "an object with configuration for the builder"));
                return None;
            };
            Some((item.name, object))
        };
        object.items().filter_map(each).collect()
    }

    /// A duration in Go's form; a bare number is nanoseconds.
    fn duration(&mut self, item: Option<Item>) -> Option<Duration> {
        let item = item?;
        let nanos = match &item.node.kind {
            NodeKind::Null => return None,
            NodeKind::Bool(b) => GoDuration::from_nanos(i64::from(*b)),
            NodeKind::Number(number) => {
                let number = number.as_number().map(|n| n.trunc().to_i64().unwrap_or(i64::MAX));
                GoDuration::from_nanos(number.unwrap_or_default())
            }
            NodeKind::String(text) => match text.parse::<GoDuration>() {
                Ok(duration) => duration,
                Err(message) => {
                    let summary = format!("Failed to parse {} duration", item.name.text);
                    let d = Diagnostic::error(summary).detail(message).at(item.value_place);
                    self.found.push(d.help("write \"1m30s\" or \"500ms\""));
                    return None;
                }
            },
            NodeKind::Array(_) | NodeKind::Object(_) | NodeKind::Invalid => {
                self.wrong(&item, "a duration such as \"1m30s\"");
                return None;
            }
        };
        Some(nanos.to_std())
    }
}
