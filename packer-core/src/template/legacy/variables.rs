//! Variables of a legacy template: where their values come from, and how those are made of each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::document::{Document, Variable};
use super::object::{Text, kind};
use crate::diagnostic::{Diagnostic, Diagnostics, Hide, Location, hidden};
use crate::language::go_template::{Data, FunctionTable, Interpolation, Signature, render};
use crate::language::syntax::{NodeKind, read_plain};
use crate::secrets::Secrets;
use crate::template::files;
use crate::template::inputs::Inputs;
use crate::template::suggest::suggestion;

/// How often a value is rendered that inserts an expression which inserts another.
const MAX_PASSES: usize = 100;

/// How long all values together may be.
const MAX_LENGTH: usize = 256 << 20;

/// The value of a variable before it is rendered.
#[derive(Debug, Clone)]
pub(super) struct Given {
    text: Arc<str>,
    /// Nothing where the command line gives it.
    place: Option<Location>,
}

/// The values that the files and flags of `inputs` give: a flag beats a file, a later one an earlier one. Findings about a file
/// show of its lines no more than names that are known.
pub(super) fn given(
    inputs: &Inputs,
    is_name: &dyn Fn(&str) -> bool,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, Given> {
    let mut given = BTreeMap::new();
    for path in &inputs.var_files {
        let before = diagnostics.len();
        read_file(path, inputs, is_name, &mut given, diagnostics);
        diagnostics.hide_values(before, Hide::Values(is_name));
    }
    for (name, text) in &inputs.variables {
        given.insert(name.clone(), Given { text: text.as_str().into(), place: None });
    }
    given
}

/// A file is a JSON object of texts; null is the empty text.
fn read_file(
    path: &str,
    inputs: &Inputs,
    is_name: &dyn Fn(&str) -> bool,
    given: &mut BTreeMap<String, Given>,
    diagnostics: &mut Diagnostics,
) {
    let wrong = || Diagnostic::error(format!("Error reading variables in '{path}'"));
    let (source, warning) = match files::read_lossy(inputs.dir(), path) {
        Ok(read) => read,
        Err(found) => return diagnostics.append(found),
    };
    diagnostics.extend(warning);
    let (root, found) = read_plain(&source);
    if found.has_errors() {
        let hcl = path.ends_with(".hcl") || path.ends_with(".pkrvars");
        for finding in found {
            let detail = format!("{}: {}", finding.summary, finding.detail);
            let d = Diagnostic { summary: wrong().summary, ..finding }.detail(detail);
            diagnostics.push(match hcl {
                true => d.help("variable files of JSON templates are JSON as well"),
                false => d,
            });
        }
        return;
    }
    let items = match &root.kind {
        NodeKind::Object(items) => &**items,
        NodeKind::Null => &[],
        _ => {
            let detail = format!("A variable file holds an object; this is {}.", kind(&root));
            return diagnostics.push(wrong().detail(detail).at(root.span.in_source(&source)));
        }
    };
    let shown = hidden(&source, Hide::Values(is_name));
    for item in items {
        let place = item.value.span.in_source(&shown);
        let text = match &item.value.kind {
            NodeKind::String(text) => text.clone(),
            NodeKind::Null => "".into(),
            _ => {
                let detail =
                    format!("The value of {:?} must be a text, not {}.", item.name.text, kind(&item.value));
                let d = wrong().detail(detail).at(place);
                diagnostics.push(match &item.value.kind {
                    NodeKind::Number(_) | NodeKind::Bool(_) => d.help("put it in double quotes"),
                    _ => d,
                });
                continue;
            }
        };
        given.insert(item.name.text.to_string(), Given { text, place: Some(place) });
    }
}

/// Resolves all variables, those that only a file or a flag names included: `{{ … }}` in their values is rendered, in
/// which `user` gives the value of another, in whatever order they are declared. What is told of each is told once.
///
/// Values of sensitive variables become secrets. What could not be resolved is not in the result.
pub(super) fn resolve(
    document: &Document,
    given: BTreeMap<String, Given>,
    section: &Interpolation,
    secrets: &Secrets,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut values = given;
    for variable in &document.variables {
        let name = &*variable.name.text;
        match &variable.default {
            _ if values.contains_key(name) => {}
            Some(Text { text, place }) => {
                let given = Given { text: text.clone(), place: Some(place.clone()) };
                values.insert(name.to_owned(), given);
            }
            None => diagnostics.push(unset(variable)),
        }
    }
    let sensitive: BTreeSet<&str> = document.sensitive.iter().map(|name| &*name.text).collect();
    for (name, value) in &values {
        // What is rendered is a secret when it is known, what is not is one already.
        if sensitive.contains(name.as_str()) && !value.text.contains("{{") {
            secrets.add(&value.text);
        }
    }
    let mut resolver = Resolver {
        document,
        section,
        sensitive: &sensitive,
        given: values,
        known: RefCell::default(),
        waiting: HashMap::new(),
        length: 0,
        diagnostics,
    };
    resolver.run();
    let known = resolver.known.into_inner();
    for name in &sensitive {
        if let Some(value) = known.get(*name) {
            secrets.add(value);
        }
    }
    known
}

fn unset(variable: &Variable) -> Diagnostic {
    let name = &variable.name.text;
    Diagnostic::error(format!("required variable not set: {name}"))
        .detail("The variable has no default, so a value must be given.")
        .at(variable.name.place.clone())
        .help(format!("give one with -var '{name}=…', or in a JSON file with -var-file"))
}

struct Resolver<'a> {
    document: &'a Document,
    /// What the variables section may use.
    section: &'a Interpolation,
    sensitive: &'a BTreeSet<&'a str>,
    given: BTreeMap<String, Given>,
    known: RefCell<BTreeMap<String, String>>,
    /// By what is missing: who waits for it.
    waiting: HashMap<String, Vec<String>>,
    /// Of all known values.
    length: usize,
    diagnostics: &'a mut Diagnostics,
}

impl Resolver<'_> {
    fn run(&mut self) {
        let mut ready: VecDeque<String> = self.given.keys().cloned().collect();
        while let Some(name) = ready.pop_front() {
            match self.rendered(&name) {
                Ok(value) => {
                    self.length += value.len();
                    if self.length > MAX_LENGTH {
                        let d = Diagnostic::error("The values of the variables are too long");
                        let d = d.detail(format!("All together they may have {} MiB.", MAX_LENGTH >> 20));
                        return self.tell(&name, d);
                    }
                    self.known.borrow_mut().insert(name.clone(), value);
                    ready.extend(self.waiting.remove(&name).unwrap_or_default());
                }
                Err(Stop::Missing(other)) if self.given.contains_key(&other) => {
                    self.waiting.entry(other).or_default().push(name);
                }
                Err(Stop::Missing(other)) => self.missing(&name, &other),
                Err(Stop::Failed(message)) => {
                    let d = Diagnostic::error(format!("Failed to interpolate {name:?}"));
                    let d = d.detail(self.shown(&name, message));
                    self.tell(&name, d);
                }
            }
        }
        self.circles();
    }

    /// The value of a variable, where all that it is made of is known.
    fn rendered(&self, name: &str) -> Result<String, Stop> {
        let Some(given) = self.given.get(name) else {
            return Err(Stop::Failed("there is no such variable".into()));
        };
        let mut text = given.text.to_string();
        for _ in 0..MAX_PASSES {
            if !text.contains("{{") {
                return Ok(text);
            }
            let table = Table { section: self.section, known: &self.known, missing: RefCell::default() };
            let rendered = render(&kept(&text), &Data::Nil, &table);
            text = match (rendered, table.missing.into_inner()) {
                (Ok(rendered), _) => rendered,
                (Err(_), Some(missing)) => return Err(Stop::Missing(missing)),
                (Err(e), None) => return Err(Stop::Failed(e.to_string())),
            };
            if !is_unfinished(&text) {
                return Ok(text);
            }
        }
        Err(Stop::Failed(format!(
            "the text still refers to variables after it was rendered {MAX_PASSES} times"
        )))
    }

    /// A variable refers to one that nobody declares.
    fn missing(&mut self, name: &str, other: &str) {
        if self.document.variable(other).is_some() {
            // It is required and has no value, which has been told.
            return;
        }
        let d = Diagnostic::error(format!("Failed to interpolate {name:?}")).detail(format!(
            "variable not set: {other}. What a variable is made of must be declared or given."
        ));
        let known = self.given.keys().map(String::as_str).filter(|known| *known != name);
        let d = match suggestion(other, known, self.diagnostics) {
            Some(meant) => d.help(format!("did you mean {meant:?}?")),
            None => d,
        };
        self.tell(name, d);
    }

    /// What is left waits for what failed, which has been told, or goes round in a circle.
    fn circles(&mut self) {
        let mut needs: BTreeMap<String, String> = BTreeMap::new();
        for (other, names) in std::mem::take(&mut self.waiting) {
            needs.extend(names.into_iter().map(|name| (name, other.clone())));
        }
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut circles: Vec<Vec<&str>> = Vec::new();
        for start in needs.keys() {
            let mut path: Vec<&str> = Vec::new();
            let mut next = Some(start.as_str());
            while let Some(name) = next.filter(|name| seen.insert(name)) {
                path.push(name);
                next = needs.get(name).map(String::as_str);
            }
            if let Some(at) = next.and_then(|name| path.iter().position(|p| *p == name)) {
                circles.push(path.split_off(at));
            }
        }
        for circle in circles {
            let Some(first) = circle.first() else { continue };
            let path = circle.iter().chain([first]).copied().collect::<Vec<_>>().join(", which needs ");
            let mut d = Diagnostic::error(format!("Failed to interpolate {first:?}"))
                .detail(format!("variable not set: it is made of itself. {path}."));
            for name in circle.iter().skip(1) {
                if let Some(place) = self.given.get(*name).and_then(|given| given.place.clone()) {
                    d = d.related(format!("{name:?} is here"), place);
                }
            }
            self.tell(first, d);
        }
    }

    /// A message without the text of a secret.
    fn shown(&self, name: &str, message: String) -> String {
        match self.sensitive.contains(name) {
            true => "The (sensitive) text cannot be rendered.".into(),
            false => message,
        }
    }

    /// Tells of a variable, where its value stands.
    fn tell(&mut self, name: &str, d: Diagnostic) {
        let place = self.given.get(name).and_then(|given| given.place.clone());
        let declared = || self.document.variable(name).map(|v| v.name.place.clone());
        self.diagnostics.push(match (place, declared()) {
            (Some(place), _) => d.at(place),
            (None, Some(declared)) => d.related("a value for this variable was given", declared),
            (None, None) => d,
        });
    }
}

enum Stop {
    /// Another variable is not known yet.
    Missing(String),
    Failed(String),
}

/// The functions of the variables section, with what is known of the variables so far.
struct Table<'a> {
    section: &'a Interpolation,
    known: &'a RefCell<BTreeMap<String, String>>,
    missing: RefCell<Option<String>>,
}

impl FunctionTable for Table<'_> {
    fn signature(&self, name: &str) -> Option<Signature> {
        self.section.signature(name)
    }

    fn call(&self, name: &str, arguments: &[Data]) -> Result<Data, String> {
        let ("user", Some(wanted)) = (name, arguments.first().and_then(Data::as_str)) else {
            return self.section.call(name, arguments);
        };
        match self.known.borrow().get(wanted) {
            Some(value) => Ok(value.as_str().into()),
            None => {
                self.missing.borrow_mut().get_or_insert_with(|| wanted.to_owned());
                Err(format!("variable not set: {wanted}"))
            }
        }
    }
}

/// Whether a text still asks for a variable, as one does that another one's value or the environment put in.
fn is_unfinished(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        rest = &rest[at + 2..];
        if rest.trim_start().strip_prefix("user").is_some_and(|rest| rest.trim_start().starts_with('`')) {
            return true;
        }
    }
    false
}

/// The text with every action that begins with a dot made plain text: variables may hold `{{ .Name }}` for components
/// that render it later.
fn kept(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (before, action) = rest.split_at(at);
        kept.push_str(before);
        let end = action_end(action);
        if action[2..end].trim_start_matches([' ', '\t', '\r', '\n']).starts_with('.') {
            kept.push_str("{{\"{{\"}}");
            kept.push_str(&action[2..end]);
        } else {
            kept.push_str(&action[..end]);
        }
        rest = &action[end..];
    }
    kept.push_str(rest);
    kept
}

/// Where an action ends, which begins with `{{`: behind its `}}`, or at the end of the text.
fn action_end(action: &str) -> usize {
    let bytes = action.as_bytes();
    let inside = &action[2..];
    let trimmed = inside.strip_prefix("- ").unwrap_or(inside);
    if trimmed.starts_with("/*") {
        return inside
            .find("*/")
            .and_then(|end| inside[end..].find("}}").map(|close| 2 + end + close + 2))
            .unwrap_or(action.len());
    }
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return at + 2,
            quote @ (b'"' | b'\'' | b'`') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    action.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_kept() {
        for (text, expected) in [
            ("{{ .Name }} {{upper `z`}}", "{{\"{{\"}} .Name }} {{upper `z`}}"),
            ("{{`{{ .X }}`}}", "{{`{{ .X }}`}}"),
            ("{{\"}} {{.X}}\"}}", "{{\"}} {{.X}}\"}}"),
            ("{{/* {{.X}} */}}{{.Y}}", "{{/* {{.X}} */}}{{\"{{\"}}.Y}}"),
            ("{{ .X", "{{\"{{\"}} .X"),
            ("a {{", "a {{"),
            ("{{\"\\", "{{\"\\"),
            ("{{'é", "{{'é"),
            ("{{/* x", "{{/* x"),
            ("", ""),
        ] {
            assert_eq!(kept(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_is_unfinished_that_asks_for_a_variable() {
        for (text, unfinished) in [
            ("{{user `a`}}", true),
            ("x {{ .A }} {{ user  `a` | upper }}", true),
            ("{{user \"a\"}}", false),
            ("{{ .user }}", false),
            ("user `a`", false),
        ] {
            assert_eq!(is_unfinished(text), unfinished, "{text}");
        }
    }
}
