//! Input variables: their declarations, where their values come from, and the rules they must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decode;
use super::files;
use super::inputs::Inputs;
use super::setting::Setting;
use super::suggest::suggestion;
use crate::diagnostic::{Diagnostic, Diagnostics, Hide, Location, SourceFile, hidden};
use crate::language::eval::{Scope, TypeConstraint, TypeUse, describe, evaluate, parse_type, references};
use crate::language::syntax::{
    Attribute, Block, Body, BodySchema, is_identifier, parse_expression, parse_json, parse_native,
};
use crate::secrets::Secrets;
use crate::value::{Type, Value, convert};

/// A declared variable.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: Arc<str>,
    /// What values are converted to; found out from the default where none is declared.
    constraint: TypeConstraint,
    default: Option<Attribute>,
    pub(super) sensitive: bool,
    rules: Vec<Rule>,
    pub(super) location: Location,
}

/// A `validation` block.
#[derive(Debug, Clone)]
struct Rule {
    condition: Attribute,
    message: String,
    location: Location,
}

/// Where a value comes from, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Default,
    Environment,
    File,
    CommandLine,
}

impl Origin {
    fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "env",
            Self::File => "varfile",
            Self::CommandLine => "cmd",
        }
    }
}

#[derive(Debug, Clone)]
struct Assigned {
    value: Value,
    origin: Origin,
    /// Nothing where the text itself came from the environment or the command line.
    location: Option<Location>,
}

/// The declared variables of a template.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    list: Vec<Variable>,
    by_name: BTreeMap<Arc<str>, usize>,
}

impl Variables {
    /// The declarations, in the order written.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.list.iter()
    }

    fn get(&self, name: &str) -> Option<&Variable> {
        self.list.get(*self.by_name.get(name)?)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|n| &**n)
    }

    fn add(&mut self, variable: Variable, diagnostics: &mut Diagnostics) {
        if let Some(first) = self.get(&variable.name) {
            diagnostics.push(
                Diagnostic::error("Duplicate variable")
                    .detail(format!("The variable {:?} is declared twice.", variable.name))
                    .at(variable.location)
                    .related("first declared here", first.location.clone()),
            );
            return;
        }
        self.by_name.insert(variable.name.clone(), self.list.len());
        self.list.push(variable);
    }

    /// Adds what a `variables` block declares: names with the exact type of their defaults.
    pub(super) fn add_block(&mut self, block: &Block, scope: &Scope, diagnostics: &mut Diagnostics) {
        for attribute in block.body.attributes(diagnostics) {
            let value = attribute.evaluate(scope, diagnostics);
            let variable = Variable {
                name: attribute.name.text.clone(),
                constraint: TypeConstraint::of(inferred(&value)),
                location: attribute.name.span.in_source(&attribute.source),
                default: Some(attribute),
                sensitive: false,
                rules: Vec::new(),
            };
            self.add(variable, diagnostics);
        }
    }

    /// Adds what a `variable` block declares.
    pub(super) fn add_variable(&mut self, block: &Block, scope: &Scope, diagnostics: &mut Diagnostics) {
        let schema = BodySchema::new()
            .optional("description")
            .optional("default")
            .optional("type")
            .optional("sensitive")
            .block("validation", &[]);
        let content = block.body.content(&schema, diagnostics);
        let Some(label) = block.labels.first() else { return };
        if !is_identifier(label.as_str()) {
            diagnostics.push(
                Diagnostic::error("Invalid variable name")
                    .detail(super::NAME_RULE)
                    .at(label.span.in_source(block.source())),
            );
        }
        let constant = Scope::constant();
        if let Some(description) = content.attribute("description") {
            decode::text(description, &constant, diagnostics);
        }
        let sensitive = content
            .attribute("sensitive")
            .and_then(|a| decode::flag(a, &constant, diagnostics))
            .unwrap_or(false);
        let constraint = content
            .attribute("type")
            .and_then(|a| parse_type(&a.expr, &a.source, TypeUse::Variable, diagnostics));
        let mut constraint = constraint.unwrap_or_else(|| TypeConstraint::of(Type::Dynamic));
        let default = content.attribute("default").cloned();
        if let Some(default) = &default {
            let before = diagnostics.len();
            let value = default.evaluate(scope, diagnostics);
            if diagnostics.len() == before {
                if constraint.ty == Type::Dynamic {
                    constraint.ty = inferred(&value);
                } else if let Err(e) = convert(&constraint.with_defaults(&value), &constraint.ty) {
                    let why = e.about(&value.sensitive_if(sensitive));
                    diagnostics.push(default_does_not_fit(default, &why, sensitive));
                }
            }
        }
        let rules =
            content.blocks("validation").filter_map(|b| rule(b, label.as_str(), diagnostics)).collect();
        let variable = Variable {
            name: label.text.clone(),
            constraint,
            default,
            sensitive,
            rules,
            location: block.location(),
        };
        self.add(variable, diagnostics);
    }

    /// Gathers the values of all sources and keeps of each variable the strongest. Every value is converted, also
    /// those that another one beats.
    pub(super) fn collect(
        &self,
        inputs: &Inputs,
        auto_files: &[String],
        scope: &Scope,
        diagnostics: &mut Diagnostics,
    ) -> Values {
        let mut values = Values::default();
        for variable in &self.list {
            if let Some(default) = &variable.default
                && let Some(value) = variable.default_value(default, scope, diagnostics)
            {
                let assigned =
                    Assigned { value, origin: Origin::Default, location: Some(default.value_location()) };
                values.0.insert(variable.name.clone(), assigned);
            }
        }
        for (name, text) in &inputs.env_variables {
            if let Some(variable) = self.get(name) {
                values.assign(variable, variable.value_of_text(text, Origin::Environment, diagnostics));
            }
        }
        for path in auto_files.iter().chain(&inputs.var_files) {
            self.read_file(path, inputs, &mut values, diagnostics);
        }
        for (name, text) in &inputs.variables {
            match self.get(name) {
                Some(variable) => {
                    values.assign(variable, variable.value_of_text(text, Origin::CommandLine, diagnostics))
                }
                None => {
                    let finding = self.undefined(name, diagnostics);
                    diagnostics.push(finding);
                }
            }
        }
        for (name, value) in &inputs.values {
            match self.get(name) {
                Some(variable) => {
                    let assigned = variable.assigned(value, Origin::CommandLine, None, diagnostics);
                    values.assign(variable, assigned);
                }
                None => {
                    let finding = self.undefined(name, diagnostics);
                    diagnostics.push(finding);
                }
            }
        }
        values
    }

    fn read_file(&self, path: &str, inputs: &Inputs, values: &mut Values, diagnostics: &mut Diagnostics) {
        let json = match path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("hcl") => false,
            Some("json") => true,
            _ => {
                diagnostics.push(
                    Diagnostic::error(format!("Could not guess format of {path}"))
                        .detail("The name of a variable file ends in `.hcl` or `.json`."),
                );
                return;
            }
        };
        let before = diagnostics.len();
        let Some(source) = files::read(inputs.dir(), path, diagnostics) else {
            return diagnostics.hide_values(before, Hide::Values(&|name| self.get(name).is_some()));
        };
        let (file, found) = if json { parse_json(&source) } else { parse_native(&source) };
        let body = (!found.has_errors()).then_some(file.body);
        diagnostics.append(found);
        // Its lines are values, of which nobody knows yet whether they are secret. What is a name in one that can be read is
        // none.
        let names: BTreeSet<Arc<str>> = body
            .iter()
            .flat_map(Body::all_attributes)
            .map(|attribute| attribute.name.as_str().into())
            .collect();
        let is_name = |name: &str| names.contains(name) || self.get(name).is_some();
        let shown = hidden(&source, Hide::Values(&is_name));
        if let Some(body) = body {
            self.read_values(body, json, &shown, inputs, values, diagnostics);
        }
        diagnostics.show_instead(before, &source, &shown);
    }

    /// Reads the values of a variable file; `shown` is its text as it may be shown.
    fn read_values(
        &self,
        body: Body,
        json: bool,
        shown: &Arc<SourceFile>,
        inputs: &Inputs,
        values: &mut Values,
        diagnostics: &mut Diagnostics,
    ) {
        let (declared, rest) =
            body.partial_content(&BodySchema::new().block("variable", &["name"]), &mut Diagnostics::new());
        if !json && !declared.blocks.is_empty() {
            for block in &declared.blocks {
                diagnostics.push(
                    Diagnostic::error("Variable declaration in a .pkrvar file")
                        .detail(format!(
                            "A variable file gives values to variables that a template file declares. Write `{} = …` here, \
                             and put the declaration into a file such as variables.pkr.hcl.",
                            block.label(0)
                        ))
                        .at(block.location()),
                );
            }
            return;
        }
        let body = if json { body } else { rest };
        for attribute in body.attributes(diagnostics) {
            let name = attribute.name.as_str();
            let Some(variable) = self.get(name) else {
                if inputs.warn_on_undeclared {
                    let finding = self.undeclared(&attribute, diagnostics);
                    diagnostics.push(finding);
                }
                continue;
            };
            let before = diagnostics.len();
            let value = attribute.evaluate(&Scope::constant(), diagnostics);
            if diagnostics.len() > before {
                continue;
            }
            match variable.fit(&value) {
                Ok(value) => {
                    let location = Some(attribute.value_location().span().in_source(shown));
                    values.assign(variable, Some(Assigned { value, origin: Origin::File, location }));
                }
                Err(e) => diagnostics.push(
                    Diagnostic::error("Invalid value for variable")
                        .detail(format!("The value given for {name:?} does not fit its type: {e}."))
                        .at(attribute.value_location().span().in_source(shown))
                        .related("declared here", variable.location.clone()),
                ),
            }
        }
    }

    fn undefined(&self, name: &str, diagnostics: &Diagnostics) -> Diagnostic {
        let d = Diagnostic::error("Undefined -var variable")
            .detail(format!("A value was given for the variable {name:?}, which no template file declares."));
        match suggestion(name, self.names(), diagnostics) {
            Some(meant) => d.suggest(meant),
            None => d,
        }
    }

    fn undeclared(&self, attribute: &Attribute, diagnostics: &Diagnostics) -> Diagnostic {
        let name = attribute.name.as_str();
        let d = Diagnostic::warning("Undefined variable")
            .detail(format!("A value is given for {name:?}, which no template file declares as a variable."))
            .at(attribute.location());
        match suggestion(name, self.names(), diagnostics) {
            Some(meant) => d.suggest(meant),
            None => d.help(format!("declare it: `variable {name:?} {{}}`")),
        }
    }
}

/// The strongest value of each variable that has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Values(BTreeMap<Arc<str>, Assigned>);

impl Values {
    fn assign(&mut self, variable: &Variable, assigned: Option<Assigned>) {
        if let Some(assigned) = assigned {
            self.0.insert(variable.name.clone(), assigned);
        }
    }

    /// Checks that every variable has a value and keeps its rules, and gives the object that templates see as `var`.
    /// A variable without a value is unknown in it. Texts of sensitive ones become secrets.
    pub(super) fn check(
        &self,
        variables: &Variables,
        setting: &Setting,
        secrets: &Secrets,
        diagnostics: &mut Diagnostics,
    ) -> Value {
        let mut all = Vec::with_capacity(variables.list.len());
        let mut unset = Vec::new();
        for variable in &variables.list {
            let value = match self.0.get(&variable.name) {
                None => {
                    unset.push(variable);
                    Value::unknown(variable.constraint.ty.without_optional())
                }
                Some(assigned) => {
                    let value = assigned.value.clone().sensitive_if(variable.sensitive);
                    secrets.add_sensitive(&value);
                    for rule in &variable.rules {
                        rule.check(variable, &value, assigned, setting, diagnostics);
                    }
                    value
                }
            };
            all.push((variable.name.clone(), value));
        }
        diagnostics.extend(unset_variables(&unset));
        Value::object(all)
    }
}

/// What is said of the variables that have no value: all of them at once, with how to set each.
fn unset_variables(unset: &[&Variable]) -> Option<Diagnostic> {
    let (first, others) = unset.split_first()?;
    let quoted: Vec<String> = unset.iter().map(|v| format!("{:?}", v.name)).collect();
    let (summary, detail) = if others.is_empty() {
        (
            format!("Unset variable {}", quoted[0]),
            "A variable needs a value or a default, whether it is used or not.",
        )
    } else {
        let summary = format!("Unset variables {}", quoted.join(", "));
        (summary, "These variables need a value or a default each, whether they are used or not.")
    };
    let d = Diagnostic::error(summary).detail(detail).at(first.location.clone());
    let d =
        others.iter().fold(d, |d, v| d.related(format!("{:?} is declared here", v.name), v.location.clone()));
    let ways = unset.iter().map(|v| {
        format!("-var '{name}={}', or PKR_VAR_{name} in the environment", v.example(), name = v.name)
    });
    let (them, declared) = match others {
        [] => ("it a value", "it is"),
        _ => ("them values", "they are"),
    };
    let heading = format!(
        "give {them} on the command line, in a file with -var-file, or as \"default\" where {declared} declared:"
    );
    Some(d.help_list(&heading, ways))
}

impl Variable {
    /// What a text of the variable's type looks like.
    fn example(&self) -> &'static str {
        match self.constraint.ty {
            Type::Number => "1",
            Type::Bool => "true",
            Type::List(_) | Type::Set(_) | Type::Tuple(_) => "[…]",
            Type::Map(_) | Type::Object(_) => "{…}",
            Type::String | Type::Dynamic => "…",
        }
    }

    /// The default, converted.
    fn default_value(
        &self,
        default: &Attribute,
        scope: &Scope,
        diagnostics: &mut Diagnostics,
    ) -> Option<Value> {
        let before = diagnostics.len();
        let value = default.evaluate(scope, diagnostics);
        if diagnostics.len() > before {
            return None;
        }
        self.fit(&value).map_err(|e| diagnostics.push(default_does_not_fit(default, &e, self.sensitive))).ok()
    }

    /// The value as the variable's type has it.
    fn fit(&self, value: &Value) -> Result<Value, String> {
        let value = self.constraint.with_defaults(value);
        // What is wrong with a value tells it, unless that is a secret.
        convert(&value, &self.constraint.ty).map_err(|e| e.about(&value.sensitive_if(self.sensitive)))
    }

    /// The value that a text stands for: the text itself for strings and numbers, else an expression.
    fn value_of_text(&self, text: &str, origin: Origin, diagnostics: &mut Diagnostics) -> Option<Assigned> {
        let of = match origin {
            Origin::CommandLine => "arguments",
            _ => "env",
        };
        let (value, location) = match self.constraint.ty {
            Type::String | Type::Number | Type::Dynamic => (Value::text(text), None),
            _ => {
                let source = SourceFile::new(format!("<value for var.{} from {of}>", self.name), text);
                let before = diagnostics.len();
                let shown = hidden(&source, Hide::Values(&|_| false));
                let (expr, found) = parse_expression(&source);
                diagnostics.append(found);
                let value = match diagnostics.len() > before {
                    true => None,
                    false => Some(evaluate(&expr, &Scope::constant(), &source, diagnostics)),
                };
                if diagnostics.len() > before {
                    diagnostics.show_instead(before, &source, &shown);
                    return None;
                }
                (value?, Some(expr.span.in_source(&shown)))
            }
        };
        self.assigned(&value, origin, location, diagnostics)
    }

    /// A value that was given, as the variable has it.
    fn assigned(
        &self,
        value: &Value,
        origin: Origin,
        location: Option<Location>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Assigned> {
        match self.fit(value) {
            Ok(value) => Some(Assigned { value, origin, location }),
            Err(e) => {
                let mut d = match origin {
                    Origin::CommandLine => Diagnostic::error("Invalid argument value for -var variable"),
                    _ => Diagnostic::error("Invalid value for variable"),
                }
                .detail(format!("The value given for {:?} does not fit its type: {e}.", self.name))
                .related("declared here", self.location.clone());
                d.location = location;
                diagnostics.push(d);
                None
            }
        }
    }
}

fn default_does_not_fit(default: &Attribute, why: &str, sensitive: bool) -> Diagnostic {
    let place = default.value_location();
    Diagnostic::error("Invalid default value for variable")
        .detail(format!("The default does not fit the variable's type: {why}."))
        .at(if sensitive { place.hidden() } else { place })
}

/// The type of a variable without a declared one: exactly that of its default, but open where the default is empty
/// or null.
fn inferred(value: &Value) -> Type {
    match value.len() {
        Some(0) => Type::Dynamic,
        _ if value.is_null() => Type::Dynamic,
        _ => value.ty(),
    }
}

fn rule(block: &Block, variable: &str, diagnostics: &mut Diagnostics) -> Option<Rule> {
    let schema = BodySchema::new().required("condition").required("error_message");
    let content = block.body.content(&schema, diagnostics);
    let condition = content.attribute("condition").cloned();
    if let Some(condition) = &condition {
        check_references(condition, variable, diagnostics);
    }
    let message = content.attribute("error_message")?;
    let text = decode::text(message, &Scope::constant(), diagnostics)?;
    let wrong = match text.chars().next() {
        None => "A rule needs a message that says what is wrong.",
        Some(first) if first.is_alphabetic() && first.is_lowercase() => {
            "A message is a sentence: it starts with a capital letter."
        }
        _ if !text.ends_with(['.', '?', '!']) => {
            "A message is a sentence: it ends with a full stop, a question mark or an exclamation mark."
        }
        _ => return Some(Rule { condition: condition?, message: text, location: block.location() }),
    };
    diagnostics.push(
        Diagnostic::error("Invalid validation error message").detail(wrong).at(message.value_location()),
    );
    None
}

/// A rule is about its own variable and nothing else.
fn check_references(condition: &Attribute, variable: &str, diagnostics: &mut Diagnostics) {
    let mut mentioned = false;
    for reference in references(&condition.expr) {
        if &*reference.root == "var" && reference.name(0) == Some(variable) {
            mentioned = true;
            continue;
        }
        diagnostics.push(
            Diagnostic::error("Invalid reference in variable validation")
                .detail(format!("A rule of the variable {variable:?} can only refer to var.{variable}."))
                .at(reference.span.in_source(&condition.source)),
        );
        mentioned = true;
    }
    if !mentioned {
        diagnostics.push(
            Diagnostic::error("Invalid variable validation condition")
                .detail(format!("A rule of the variable {variable:?} must look at var.{variable}."))
                .at(condition.location()),
        );
    }
}

impl Rule {
    fn check(
        &self,
        variable: &Variable,
        value: &Value,
        assigned: &Assigned,
        setting: &Setting,
        diagnostics: &mut Diagnostics,
    ) {
        let scope = setting.rule_scope(&variable.name, value);
        let before = diagnostics.len();
        let result = self.condition.evaluate(&scope, diagnostics);
        if diagnostics.len() > before {
            return;
        }
        let wrong = match convert(&result, &Type::Bool) {
            Ok(kept) if !kept.is_known() || kept.as_bool() == Some(true) => return,
            Ok(broken) if broken.as_bool() == Some(false) => {
                let mut d =
                    Diagnostic::error(format!("Invalid value for {} variable", assigned.origin.label()))
                        .detail(self.message.clone())
                        .related("this rule", self.location.clone());
                d.location = assigned.location.clone();
                d.values.extend(describe(&format!("var.{}", variable.name), value));
                diagnostics.push(d);
                return;
            }
            Ok(_) => "the condition is null".to_owned(),
            Err(e) => e.about(&result),
        };
        diagnostics.push(
            Diagnostic::error("Invalid variable validation result")
                .detail(format!("A condition must be true or false: {wrong}."))
                .at(self.condition.value_location()),
        );
    }
}
