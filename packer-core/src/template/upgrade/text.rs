//! Texts with `{{ … }}` as texts of the template language, with `${ … }` where that says the same.
//!
//! Components render the `{{ … }}` in their texts whatever language the template is written in, so what has no
//! counterpart, such as `{{ .Vars }}`, stays as it is. What the template language does not offer there any more
//! (`user`, `build`, `template_dir`, `env`) never stays.

use std::collections::{BTreeMap, BTreeSet};

use super::names::unique_identifier;
use crate::language::go_template::{Command, Node, Operand, OperandKind, Pipe, parse_nodes};
use crate::language::syntax::is_identifier;
use crate::value::{normalize, quote::is_printable};

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the default of a variable that stays one.
    Variable,
    /// In the default of a variable that becomes a local.
    Local,
    /// In a source or a data source.
    Source,
    /// In a provisioner.
    Provisioner,
    /// In a post-processor.
    PostProcessor,
    /// In what a provisioner does for one source only, which is evaluated before there is a build.
    Override,
}

/// What the texts of a template may refer to, and what they turned out to use.
#[derive(Debug, Default)]
pub(super) struct References {
    /// By the name of a variable: `var.x` or `local.x`.
    pub(super) variables: BTreeMap<String, String>,
    /// Variables that are used and not declared, by the name they get.
    pub(super) undeclared: BTreeSet<String>,
    /// Variables for the environment, which locals cannot read: by the name of the environment variable.
    pub(super) environment: BTreeMap<String, String>,
    /// All names of variables.
    pub(super) taken: BTreeSet<String>,
    /// All names of locals.
    pub(super) taken_by_locals: BTreeSet<String>,
    /// The local that stands for `{{timestamp}}`, once something uses it.
    pub(super) timestamp: Option<String>,
    /// The name of the build matters to something.
    pub(super) build_name: bool,
    /// `{{build_name}}` never stays: it would be the name of the source, which is another one.
    pub(super) names_differ: bool,
    /// The types of builders, by what their builds are called.
    pub(super) kinds: BTreeMap<String, String>,
    /// The build that an override at hand is for.
    pub(super) overridden: String,
    /// What is told about the block at hand: what it holds that should be looked at.
    pub(super) notes: Vec<String>,
}

/// Every function of the first generation.
const FUNCTIONS: [&str; 23] = [
    "aws_secretsmanager",
    "aws_secretsmanager_raw",
    "build",
    "build_name",
    "build_type",
    "clean_resource_name",
    "consul_key",
    "env",
    "isotime",
    "lower",
    "packer_version",
    "pwd",
    "replace",
    "replace_all",
    "split",
    "strftime",
    "template_dir",
    "timestamp",
    "upper",
    "user",
    "uuid",
    "vault",
    "sed",
];

/// A value inside of `{{ … }}`.
enum Piece {
    /// A constant text.
    Text(String),
    /// A constant of another kind, as it is written.
    Constant(String),
    /// A text that is known beforehand.
    Said(String),
    /// An expression of the template language.
    Hcl(String),
    /// What stays between braces, as the inside of a quoted text of the template language.
    Kept(String),
}

/// Why a text cannot be taken apart.
type Unhandled = String;

/// What was used so far.
pub(super) struct Mark {
    notes: usize,
    timestamp: bool,
    build_name: bool,
}

impl References {
    pub(super) fn mark(&self) -> Mark {
        Mark { notes: self.notes.len(), timestamp: self.timestamp.is_some(), build_name: self.build_name }
    }

    /// Forgets what was used since, but for variables: those are used however a text is written.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.notes.truncate(mark.notes);
        self.build_name = mark.build_name;
        if !mark.timestamp
            && let Some(name) = self.timestamp.take()
        {
            self.taken_by_locals.remove(&name);
        }
    }

    /// The inside of a quoted text that says the same.
    ///
    /// # Errors
    /// What it holds that can only stay as it is.
    pub(super) fn converted(&mut self, text: &str, place: Place) -> Result<String, Unhandled> {
        let Some(nodes) = nodes(text)? else { return Ok(escape(text)) };
        let mut out = String::new();
        for node in &nodes {
            match node {
                Node::Text(text) => push_text(&mut out, text),
                Node::Action(pipe) => match self.pipe(pipe, place)? {
                    Piece::Hcl(expression) => push_interpolation(&mut out, &expression),
                    Piece::Said(text) => push_text(&mut out, &text),
                    Piece::Kept(inside) => push_kept(&mut out, &inside),
                    Piece::Text(text) => push_kept(&mut out, &escape(&go_text(&text))),
                    Piece::Constant(text) => push_kept(&mut out, &escape(&text)),
                },
                Node::If { .. } => return Err("{{if}} has no counterpart".into()),
                Node::With { .. } => return Err("{{with}} has no counterpart".into()),
                Node::Range { .. } | Node::Break | Node::Continue => {
                    return Err("{{range}} has no counterpart".into());
                }
                Node::Template { .. } => return Err("{{template}} has no counterpart".into()),
            }
        }
        Ok(out)
    }

    /// The inside of a quoted text that holds the text as it is, but for calls of what only the first generation knows:
    /// a text with those is converted, and where it cannot be their values are put in as constants.
    pub(super) fn kept(&mut self, text: &str, place: Place) -> String {
        if self.holds_what_is_gone(text) {
            let before = self.mark();
            match self.converted(text, place) {
                Ok(converted) => return converted,
                Err(_) => self.back_to(before),
            }
        }
        let mut calls: Vec<(usize, usize, Piece)> = Vec::new();
        if let Ok(Some(nodes)) = nodes(text) {
            for_each_command(&nodes, &mut |command| {
                let (start, end) = (command.pos as usize, end_of(command));
                if first_function(command).is_some_and(|name| self.is_gone(name)) {
                    calls.extend(self.command(command, None, place).ok().map(|piece| (start, end, piece)));
                }
                for operand in command.operands.iter().skip(1) {
                    let OperandKind::Function(name) = &operand.kind else { continue };
                    if self.is_gone(name) {
                        let (start, end) = (operand.pos as usize, operand.pos as usize + name.len());
                        calls
                            .extend(self.call(name, Vec::new(), place).ok().map(|piece| (start, end, piece)));
                    }
                }
            });
        }
        calls.sort_unstable_by_key(|(start, ..)| *start);
        let (mut out, mut at) = (String::new(), 0);
        for (start, end, piece) in calls {
            let constant = match &piece {
                // Defaults of variables call nothing but env.
                Piece::Hcl(expression) if place == Place::Variable => format!("`${{{expression}}}`"),
                Piece::Hcl(expression) => format!("${{jsonencode({expression})}}"),
                Piece::Said(text) => escape(&go_text(text)),
                Piece::Text(_) | Piece::Constant(_) | Piece::Kept(_) => continue,
            };
            if start >= at {
                out.push_str(&escape(text.get(at..start).unwrap_or_default()));
                out.push_str(&constant);
                at = end;
            }
        }
        out.push_str(&escape(text.get(at..).unwrap_or_default()));
        out
    }

    fn holds_what_is_gone(&mut self, text: &str) -> bool {
        let mut found = false;
        if let Ok(Some(nodes)) = nodes(text) {
            for_each_command(&nodes, &mut |command| {
                for operand in &command.operands {
                    found |= matches!(&operand.kind, OperandKind::Function(name) if self.is_gone(name));
                }
            });
        }
        found
    }

    /// Whether a function of the first generation does not mean the same between braces any more.
    fn is_gone(&mut self, name: &str) -> bool {
        self.build_name |= name == "build_name";
        match name {
            "build_name" => self.names_differ,
            "user" | "build" | "template_dir" | "env" | "vault" | "consul_key" => true,
            "aws_secretsmanager" | "aws_secretsmanager_raw" => true,
            _ => false,
        }
    }

    fn pipe(&mut self, pipe: &Pipe, place: Place) -> Result<Piece, Unhandled> {
        if !pipe.variables.is_empty() {
            return Err(format!("{{{{{pipe}}}}} sets a variable, which has no counterpart"));
        }
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, place)?);
        }
        value.ok_or_else(|| "nothing to show".into())
    }

    fn command(&mut self, command: &Command, piped: Option<Piece>, place: Place) -> Result<Piece, Unhandled> {
        let Some((first, rest)) = command.operands.split_first() else {
            return Err("nothing to show".into());
        };
        if let OperandKind::Function(name) = &first.kind {
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for operand in rest {
                arguments.push(self.operand(operand, place)?);
            }
            arguments.extend(piped);
            return self.call(name, arguments, place);
        }
        match (rest, piped) {
            ([], None) => self.operand(first, place),
            _ => Err(format!("{{{{{command}}}}} has no counterpart")),
        }
    }

    fn operand(&mut self, operand: &Operand, place: Place) -> Result<Piece, Unhandled> {
        match &operand.kind {
            OperandKind::String(text, _) => Ok(Piece::Text(text.to_string())),
            OperandKind::Number(_) | OperandKind::Bool(_) => Ok(Piece::Constant(operand.to_string())),
            OperandKind::Fields(_) => Ok(Piece::Kept(escape(&operand.to_string()))),
            OperandKind::Function(name) => self.call(name, Vec::new(), place),
            OperandKind::Pipe(pipe) => self.pipe(pipe, place),
            OperandKind::Dot | OperandKind::Nil | OperandKind::Variable(..) | OperandKind::Chain(..) => {
                Err(format!("{{{{{operand}}}}} has no counterpart"))
            }
        }
    }

    fn call(&mut self, name: &str, arguments: Vec<Piece>, place: Place) -> Result<Piece, Unhandled> {
        let texts: Option<Vec<&str>> = arguments
            .iter()
            .map(|argument| match argument {
                Piece::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let in_variables = matches!(place, Place::Variable | Place::Local);
        let expression = match (name, texts.as_deref()) {
            ("user", Some([name])) => self.variable(name),
            ("env", Some([name])) if place == Place::Variable => format!("env({})", quoted(name)),
            ("env", Some([name])) if place == Place::Local => self.environment(name),
            ("env", Some([name])) => {
                self.note("env(…) can only be used in the default of a variable.".into());
                format!("env({})", quoted(name))
            }
            ("build", Some([key]))
                if matches!(place, Place::Provisioner | Place::PostProcessor) && is_identifier(key) =>
            {
                format!("build.{key}")
            }
            ("timestamp", Some([])) => format!("local.{}", self.timestamp()),
            ("isotime", Some([])) => "timestamp()".into(),
            ("isotime", Some([layout])) => self.legacy_time("legacy_isotime", layout),
            ("strftime", Some([format])) => self.legacy_time("legacy_strftime", format),
            ("template_dir", Some([])) => "path.root".into(),
            ("pwd", Some([])) => "path.cwd".into(),
            ("packer_version", Some([])) => "packer.version".into(),
            ("uuid", Some([])) => "uuidv4()".into(),
            ("build_name", Some([])) if place == Place::Override => {
                self.build_name = true;
                return Ok(Piece::Said(self.overridden.clone()));
            }
            ("build_type", Some([])) if place == Place::Override => {
                let kind = self.kinds.get(&self.overridden);
                return kind.map(|kind| Piece::Said(kind.clone())).ok_or_else(|| "no such builder".into());
            }
            ("build_name", Some([])) if !in_variables => {
                self.build_name = true;
                "source.name".into()
            }
            ("build_type", Some([])) if !in_variables => "source.type".into(),
            ("consul_key" | "aws_secretsmanager_raw", Some([key])) if in_variables => {
                format!("{name}({})", quoted(key))
            }
            ("vault" | "aws_secretsmanager", Some([path, key])) if in_variables => {
                format!("{name}({}, {})", quoted(path), quoted(key))
            }
            ("aws_secretsmanager", Some([secret])) if in_variables => {
                format!("{name}({}, null)", quoted(secret))
            }
            ("upper" | "lower" | "split" | "replace" | "replace_all" | "clean_resource_name", _) => {
                let note = match name {
                    "upper" | "lower" => format!("`{name}(text)`"),
                    "split" => "`split(separator, text)[n]`".into(),
                    _ => "`replace(text, old, new)` or `regex_replace(text, pattern, new)`".into(),
                };
                self.note(format!("{{{{{name} …}}}} stays as it is; the template language has {note}."));
                let arguments: String =
                    arguments.iter().map(|argument| format!(" {}", argument.as_argument())).collect();
                return Ok(Piece::Kept(format!("{name}{arguments}")));
            }
            _ => return Err(format!("this call of {name} has no counterpart")),
        };
        Ok(Piece::Hcl(expression))
    }

    fn variable(&mut self, name: &str) -> String {
        if let Some(reference) = self.variables.get(name) {
            return reference.clone();
        }
        let identifier = unique_identifier(name, &mut self.taken);
        let reference = format!("var.{identifier}");
        self.variables.insert(name.to_owned(), reference.clone());
        self.undeclared.insert(identifier);
        reference
    }

    fn environment(&mut self, name: &str) -> String {
        let taken = &mut self.taken;
        let identifier = self
            .environment
            .entry(name.to_owned())
            .or_insert_with(|| unique_identifier(&format!("env_{name}"), taken));
        format!("var.{identifier}")
    }

    fn timestamp(&mut self) -> String {
        let taken = &mut self.taken_by_locals;
        self.timestamp.get_or_insert_with(|| unique_identifier("timestamp", taken)).clone()
    }

    fn legacy_time(&mut self, function: &str, layout: &str) -> String {
        self.note(format!("{function} is there for old templates; new ones use formatdate and timestamp."));
        format!("{function}({})", quoted(layout))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl Piece {
    /// As an argument of what stays, inside a quoted text of the template language.
    fn as_argument(&self) -> String {
        match self {
            Self::Text(text) | Self::Said(text) => escape(&go_text(text)),
            Self::Constant(text) => escape(text),
            Self::Hcl(expression) => format!("`${{{expression}}}`"),
            Self::Kept(inside) => format!("({inside})"),
        }
    }
}

/// Whether the default of a variable needs more than variables may use, which is the environment.
pub(super) fn is_computed(text: &str) -> bool {
    let mut computed = false;
    if let Ok(Some(nodes)) = nodes(text) {
        for_each_command(&nodes, &mut |command| {
            computed |= command
                .operands
                .iter()
                .any(|operand| matches!(&operand.kind, OperandKind::Function(name) if FUNCTIONS.contains(&&**name) && &**name != "env"));
        });
    }
    computed
}

/// The nodes of a text; `None` where there is nothing between braces.
fn nodes(text: &str) -> Result<Option<Vec<Node>>, Unhandled> {
    if !text.contains("{{") {
        return Ok(None);
    }
    match parse_nodes(text, &|name| FUNCTIONS.contains(&name)) {
        Ok(Some(nodes)) => Ok(Some(nodes)),
        Ok(None) => Err("{{define}} has no counterpart".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn first_function(command: &Command) -> Option<&str> {
    match &command.operands.first()?.kind {
        OperandKind::Function(name) => Some(name),
        _ => None,
    }
}

/// The byte behind a call whose arguments are constants.
fn end_of(command: &Command) -> usize {
    command.operands.last().map_or(0, |operand| operand.pos as usize + operand.to_string().len())
}

/// Calls `each` for every command of every pipeline, also those in parentheses. The parser bounds how deep they are.
fn for_each_command(nodes: &[Node], each: &mut dyn FnMut(&Command)) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Break | Node::Continue => {}
            Node::Action(pipe) => for_each_in(pipe, each),
            Node::If { branches, otherwise } | Node::With { branches, otherwise } => {
                for branch in branches {
                    for_each_in(&branch.pipe, each);
                    for_each_command(&branch.body, each);
                }
                for_each_command(otherwise.as_deref().unwrap_or_default(), each);
            }
            Node::Range { pipe, body, otherwise } => {
                for_each_in(pipe, each);
                for_each_command(body, each);
                for_each_command(otherwise.as_deref().unwrap_or_default(), each);
            }
            Node::Template { pipe, .. } => {
                if let Some(pipe) = pipe {
                    for_each_in(pipe, each);
                }
            }
        }
    }
}

fn for_each_in(pipe: &Pipe, each: &mut dyn FnMut(&Command)) {
    for command in &pipe.commands {
        each(command);
        for operand in &command.operands {
            let mut operand = operand;
            while let OperandKind::Chain(inner, _) = &operand.kind {
                operand = inner;
            }
            if let OperandKind::Pipe(pipe) = &operand.kind {
                for_each_in(pipe, each);
            }
        }
    }
}

/// Adds `${ … }` to the inside of a quoted text. What stands before it must not look like its escape.
fn push_interpolation(out: &mut String, expression: &str) {
    if out.ends_with('$') {
        out.pop();
        out.push_str("\\u0024");
    }
    out.push_str(&format!("${{{expression}}}"));
}

/// Adds a text to the inside of a quoted text. With what stands before it, it must not look like `${` or `%{`.
fn push_text(out: &mut String, text: &str) {
    let marks = out.split_off(out.trim_end_matches(['$', '%']).len());
    out.push_str(&escape(&format!("{marks}{text}")));
}

/// Adds `{{ … }}` to the inside of a quoted text.
fn push_kept(out: &mut String, inside: &str) {
    push_text(out, "{{ ");
    out.push_str(&format!("{inside} }}}}"));
}

/// A text as a constant of Go's templates.
fn go_text(text: &str) -> String {
    if text.contains(['`', '\r']) { serde_json::Value::from(text).to_string() } else { format!("`{text}`") }
}

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

/// The inside of a quoted text that means exactly this text, composed as all texts of the template language are.
pub(super) fn escape(text: &str) -> String {
    let text = normalize(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(c) = rest.chars().next() {
        let run =
            if matches!(c, '$' | '%') { rest.len() - rest.trim_start_matches(c).len() } else { c.len_utf8() };
        let (here, behind) = rest.split_at(run);
        match c {
            '$' | '%' if behind.starts_with('{') => {
                // `$${` is how `${` is written; what stands before it must not look like that.
                out.extend(std::iter::repeat_n(format!("\\u{:04x}", c as u32), run - 1));
                out.extend([c, c]);
            }
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push_str(here),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
        rest = behind;
    }
    out
}
