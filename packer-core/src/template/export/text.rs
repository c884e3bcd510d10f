//! Texts that read back as they were, and secrets as variables.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use hcl::expr::{TemplateExpr, Traversal};
use hcl::{Expression, Structure};

use super::component::{attribute, block};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::go_template::Interpolation;
use crate::secrets::{Piece, Secrets};
use crate::value::{Type, Value, normalize};

pub(super) const NOT_NORMAL: &str =
    "it is not in Unicode's normal form C, which the template language brings all texts into";

/// What has been written beside the blocks.
pub(super) struct Writer<'a> {
    secrets: &'a Secrets,
    /// Blocks that declare the variables of secrets.
    pub(super) variables: Vec<Structure>,
    pub(super) values: BTreeMap<String, Value>,
    /// The variable of each secret text.
    known: HashMap<String, String>,
    /// What cannot be said.
    pub(super) found: Diagnostics,
}

impl<'a> Writer<'a> {
    pub(super) fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            variables: Vec::new(),
            values: BTreeMap::new(),
            known: HashMap::new(),
            found: Diagnostics::new(),
        }
    }

    /// Says what cannot be said in a template.
    pub(super) fn refuse(&mut self, what: &str, why: &str) {
        let what = self.secrets.scrub_prose(what);
        let why = self.secrets.scrub_prose(why);
        self.found
            .push(Diagnostic::error(format!("No template can say {what}")).detail(format!("Why: {why}.")));
    }

    /// A name is written as it is: it may be no secret, and it must come back.
    pub(super) fn check_name(&mut self, name: &str, who: &str) {
        if matches!(self.secrets.scrub_prose(name), std::borrow::Cow::Owned(_)) {
            self.refuse(who, "there is a secret in a name of it");
        }
        if &*normalize(name) != name {
            self.refuse(who, NOT_NORMAL);
        }
    }

    /// A text of which `{{` must survive the rendering that every configuration goes through.
    pub(super) fn text(&mut self, text: &str, who: &str, stem: &str) -> Expression {
        self.pieces(text, true, who, stem)
    }

    /// A text that is rendered when the component runs, or never: its `{{` stay.
    pub(super) fn late_text(&mut self, text: &str, who: &str, stem: &str) -> Expression {
        self.pieces(text, false, who, stem)
    }

    /// A text that is a secret as a whole.
    pub(super) fn secret_text(&mut self, text: &str, late: bool, who: &str, stem: &str) -> Expression {
        if text.is_empty() {
            return literal("");
        }
        self.check_text(text, late, who);
        let variable = self.variable(text, stem);
        match !late && text.contains("{{") {
            true => TemplateExpr::from(format!("${{{}}}", without_braces(&variable))).into(),
            false => reference(&variable),
        }
    }

    /// A bool or a number that is a secret.
    pub(super) fn secret(&mut self, value: &Value, stem: &str) -> Expression {
        let name = self.free_name(stem);
        self.declare(&name, value);
        reference(&name)
    }

    fn check_text(&mut self, text: &str, late: bool, who: &str) {
        if &*normalize(text) != text {
            self.refuse(who, NOT_NORMAL);
        }
        if late && text.contains("{{") && Interpolation::default().check(text).is_err() {
            self.refuse(who, "it is rendered when the component runs, but is no template that can be");
        }
    }

    fn pieces(&mut self, text: &str, escape_go: bool, who: &str, stem: &str) -> Expression {
        self.check_text(text, !escape_go, who);
        let escape_go = escape_go && text.contains("{{");
        let secrets = self.secrets;
        let mut written = String::new();
        let pieces = secrets.pieces(text);
        for (nth, piece) in pieces.iter().enumerate() {
            let last = nth + 1 == pieces.len();
            match piece {
                Piece::Plain(plain) => write_plain(&mut written, plain, escape_go, last),
                Piece::Secret(secret) => {
                    let variable = self.variable(secret, stem);
                    if pieces.len() == 1 && !escape_go {
                        return reference(&variable);
                    }
                    let expression = match escape_go && secret.contains('{') {
                        true => without_braces(&variable),
                        false => format!("var.{variable}"),
                    };
                    written.push_str(&format!("${{{expression}}}"));
                }
            }
        }
        TemplateExpr::from(written).into()
    }

    /// The name of the variable of a secret.
    fn variable(&mut self, secret: &str, stem: &str) -> String {
        if let Some(name) = self.known.get(secret) {
            return name.clone();
        }
        let name = self.free_name(stem);
        self.declare(&name, &Value::from(secret));
        self.known.insert(secret.to_owned(), name.clone());
        name
    }

    /// A name that no variable has yet.
    fn free_name(&self, stem: &str) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let mut stem: String = stem.chars().map(letter).collect();
        if !stem.starts_with(|c: char| c.is_ascii_alphabetic()) {
            stem.insert_str(0, "secret_");
        }
        let mut name = stem.clone();
        let mut number = 2_u32;
        while self.values.contains_key(&name) {
            name = format!("{stem}_{number}");
            number += 1;
        }
        name
    }

    fn declare(&mut self, name: &str, value: &Value) {
        let ty = match value.ty() {
            Type::Bool => "bool",
            Type::Number => "number",
            _ => "string",
        };
        let ty = Expression::Variable(hcl::expr::Variable::sanitized(ty));
        let body = vec![attribute("type", ty), attribute("sensitive", true.into())];
        self.variables.push(block("variable", &[name], body));
        self.values.insert(name.to_owned(), value.clone().sensitive());
    }
}

/// `var.NAME`.
fn reference(name: &str) -> Expression {
    let root = Expression::Variable(hcl::expr::Variable::sanitized("var"));
    Traversal::builder(root).attr(hcl::Identifier::sanitized(name)).build().into()
}

/// The expression of a variable whose value is rendered: each brace of it as an action that gives a brace.
fn without_braces(variable: &str) -> String {
    format!("replace(var.{variable}, \"{{\", \"{{{{`{{`}}}}\")")
}

/// A text that has no `{{` to care for.
pub(in crate::template) fn literal(text: &str) -> Expression {
    let mut written = String::new();
    write_plain(&mut written, text, false, true);
    TemplateExpr::from(written).into()
}

/// Writes a text between the quotes of a string. `last`: the closing quote follows, not an interpolation.
fn write_plain(out: &mut String, text: &str, escape_go: bool, last: bool) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if escape_go && (rest.starts_with("{{") || (rest == "{" && !last)) {
            let braces = if rest.starts_with("{{") { "{{" } else { "{" };
            // An action whose value is a raw string.
            let _ = write!(out, "{{{{`{braces}`}}}}");
            rest = &rest[braces.len()..];
            continue;
        }
        if c == '$' || c == '%' {
            // Both at once: a `$` left before an interpolation of ours would make an escape of it.
            let next = rest.trim_start_matches(['$', '%']);
            let run = &rest[..rest.len() - next.len()];
            let ambiguous = next.starts_with('{') || (next.is_empty() && !last);
            match (ambiguous, run.len()) {
                (false, _) => out.push_str(run),
                (true, 1) if !next.is_empty() => out.extend([c, c]),
                // An interpolation that gives the characters: behind them something else begins.
                _ => {
                    let _ = write!(out, "${{\"{run}\"}}");
                }
            }
            rest = next;
            continue;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || c == '\u{feff}' || c == '\u{2028}' || c == '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
}
