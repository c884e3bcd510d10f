//! Function calls, and the functions that decide themselves when their arguments are evaluated.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::functions::{CallError, Function, FunctionError, LAZY};
use super::super::syntax::{Call, Expr, is_identifier, parse_template};
use super::scope::FunctionScope;
use super::type_expr::{TypeUse, parse_type};
use super::{Evaluator, Reference, Scope, references};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceFile, Span, did_you_mean};
use crate::value::{Data, Type, Value, convert};

/// An argument of a lazy function.
enum Argument<'e> {
    Expr(&'e Expr),
    /// An element of a list spread with `...`.
    Value(Value),
}

impl Evaluator<'_> {
    pub(super) fn call(&mut self, whole: &Expr, call: &Call) -> Value {
        let name = &*call.name.text;
        let Some(functions) = self.scope.functions() else {
            let d = Diagnostic::error("Function calls not allowed")
                .detail(format!("Only constants can be used here; \"{name}\" is a function."));
            self.diagnostics.push(d.at(call.name.span.in_source(self.source)));
            return Value::unknown(Type::Dynamic);
        };
        let functions = functions.clone();
        // A host's own function of such a name comes first.
        let Some(function) = functions.table.get(name) else {
            if !functions.lazy || !LAZY.contains(&name) {
                return self.unknown_function(call, &functions);
            }
            let Some(arguments) = self.lazy_arguments(call) else { return Value::unknown(Type::Dynamic) };
            return match name {
                "try" => self.try_call(whole, &arguments),
                "can" => self.can_call(&arguments),
                "convert" => self.convert_call(whole, &arguments),
                _ => self.template_file_call(whole, &arguments, &functions),
            };
        };
        let told = self.diagnostics.len();
        let Some(arguments) = self.arguments(call) else { return Value::unknown(Type::Dynamic) };
        if self.failed_since(told) {
            return Value::unknown(Type::Dynamic);
        }
        let given = arguments.len();
        match function.call(arguments, &functions.capabilities) {
            Ok(value) => self.bounded(value, whole.span),
            Err(CallError::Failed(e)) => self.function_error(whole, call, function, &e),
            Err(CallError::NotEnough(param)) => {
                let least = if function.variadic_param().is_some() { "at least " } else { "" };
                self.not_enough(call, least, function.params().len(), param)
            }
            Err(CallError::TooMany(most)) => self.too_many(call, most, given),
        }
    }

    fn unknown_function(&mut self, call: &Call, functions: &FunctionScope) -> Value {
        let name = &*call.name.text;
        let d = Diagnostic::error("Call to unknown function");
        let d = match name.rsplit_once("::") {
            Some((namespace, _)) => {
                d.detail(format!("There are no functions in a namespace \"{namespace}::\"."))
            }
            None => {
                let lazy = LAZY.iter().copied().filter(|_| functions.lazy);
                let names = functions.table.names().chain(lazy);
                let d = d.detail(format!("There is no function named \"{name}\"."));
                match did_you_mean(name, names) {
                    Some(meant) => d.suggest(meant),
                    None => d,
                }
            }
        };
        self.diagnostics.push(d.at(call.name.span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }

    /// The values of the arguments; `None` where a spread one is unknown or cannot be spread.
    fn arguments(&mut self, call: &Call) -> Option<Vec<Value>> {
        let (spread, plain) = match call.arguments.split_last() {
            Some((last, plain)) if call.expand_last => (Some(last), plain),
            _ => (None, &call.arguments[..]),
        };
        let mut values: Vec<Value> = plain.iter().map(|argument| self.value(argument)).collect();
        if let Some(last) = spread {
            values.extend(self.spread(last)?);
        }
        Some(values)
    }

    fn spread(&mut self, argument: &Expr) -> Option<Vec<Value>> {
        let value = self.value(argument);
        if let Some(items) = value.as_slice() {
            return Some(items.iter().map(|item| item.clone().with_marks_of(&value)).collect());
        }
        let spreadable =
            |t: &Type| matches!(t, Type::Dynamic | Type::List(_) | Type::Set(_) | Type::Tuple(_));
        if matches!(value.data(), Data::Unknown(t) if spreadable(t)) {
            return None;
        }
        let detail = if value.is_null() {
            "The argument spread with ... is null; it must be a list, set or tuple.".to_owned()
        } else {
            format!("A {} cannot be spread with ...; a list, set or tuple can.", value.ty().friendly_name())
        };
        self.error(argument.span, "Invalid expanding argument value", detail, argument);
        None
    }

    fn not_enough(&mut self, call: &Call, least: &str, wanted: usize, param: &str) -> Value {
        let detail = format!(
            "\"{}\" takes {least}{}; there is none for \"{param}\".",
            call.name.text,
            plural(wanted, "argument")
        );
        let d = Diagnostic::error("Not enough function arguments").detail(detail);
        self.diagnostics.push(d.at(call.name.span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }

    fn too_many(&mut self, call: &Call, most: usize, given: usize) -> Value {
        let detail = format!("\"{}\" takes {}, not {given}.", call.name.text, plural(most, "argument"));
        let first_extra = call.arguments.get(most).or(call.arguments.last());
        let span = first_extra.map_or(call.name.span, |e| e.span);
        let d = Diagnostic::error("Too many function arguments").detail(detail);
        self.diagnostics.push(d.at(span.in_source(self.source)));
        Value::unknown(Type::Dynamic)
    }

    fn function_error(&mut self, whole: &Expr, call: &Call, function: &Function, e: &FunctionError) -> Value {
        let Some(index) = e.argument else {
            return self.failed(whole, &call.name.text, &e.message);
        };
        let param = function.param(index).map_or("", |p| p.name);
        // Behind the last argument written are the elements of the one that is spread.
        let span = call.arguments.get(index).or(call.arguments.last()).map_or(whole.span, |a| a.span);
        self.wrong_argument(whole, span, param, &e.message)
    }

    fn wrong_argument(&mut self, whole: &Expr, span: Span, param: &str, message: &str) -> Value {
        let detail = format!("Invalid value for \"{param}\" parameter: {message}.");
        self.error(span, "Invalid function argument", detail, whole)
    }

    fn failed(&mut self, whole: &Expr, name: &str, message: &str) -> Value {
        let message = message.trim_end_matches('.');
        let detail = format!("Call to function \"{name}\" failed: {message}.");
        self.error(whole.span, "Error in function call", detail, whole)
    }

    fn lazy_arguments<'e>(&mut self, call: &'e Call) -> Option<Vec<Argument<'e>>> {
        let (spread, plain) = match call.arguments.split_last() {
            Some((last, plain)) if call.expand_last => (Some(last), plain),
            _ => (None, &call.arguments[..]),
        };
        let mut arguments: Vec<Argument<'e>> = plain.iter().map(Argument::Expr).collect();
        if let Some(last) = spread {
            arguments.extend(self.spread(last)?.into_iter().map(Argument::Value));
        }
        let name = &*call.name.text;
        let (params, variadic): (&[&str], bool) = match name {
            "can" => (&["expression"], false),
            "convert" => (&["value", "type"], false),
            "templatefile" => (&["path", "vars"], false),
            _ => (&[], true),
        };
        if let Some(missing) = params.get(arguments.len()) {
            self.not_enough(call, "", params.len(), missing);
            return None;
        }
        if arguments.len() > params.len() && !variadic {
            self.too_many(call, params.len(), arguments.len());
            return None;
        }
        Some(arguments)
    }

    fn argument(&mut self, argument: &Argument<'_>) -> (Value, Diagnostics) {
        match argument {
            Argument::Expr(expr) => self.value_apart(expr),
            Argument::Value(value) => (value.clone(), Diagnostics::new()),
        }
    }

    /// The first expression that succeeds.
    fn try_call(&mut self, whole: &Expr, arguments: &[Argument<'_>]) -> Value {
        if arguments.is_empty() {
            return self.failed(whole, "try", "at least one argument is required");
        }
        let mut failures = String::from("no expression succeeded:");
        for argument in arguments {
            let (value, diagnostics) = self.argument(argument);
            if !diagnostics.has_errors() {
                // What is unknown now may fail once it is known: the result may then be another one.
                let sensitive = value.contains_sensitive();
                return if value.is_wholly_known() {
                    value
                } else {
                    Value::unknown(Type::Dynamic).sensitive_if(sensitive)
                };
            }
            for d in diagnostics.iter().filter(|d| d.is_error()) {
                failures.push_str(&format!("\n- {d}"));
            }
        }
        failures.push_str("\n\nAt least one expression must succeed");
        self.failed(whole, "try", &failures)
    }

    /// Whether the expression succeeds.
    fn can_call(&mut self, arguments: &[Argument<'_>]) -> Value {
        let Some(argument) = arguments.first() else { return Value::unknown(Type::Bool) };
        let (value, diagnostics) = self.argument(argument);
        if diagnostics.has_errors() {
            Value::bool(false)
        } else if value.is_wholly_known() {
            Value::bool(true)
        } else {
            Value::unknown(Type::Bool)
        }
    }

    fn convert_call(&mut self, whole: &Expr, arguments: &[Argument<'_>]) -> Value {
        let [value, ty] = arguments else { return Value::unknown(Type::Dynamic) };
        let (value, diagnostics) = self.argument(value);
        let failed = diagnostics.has_errors();
        self.diagnostics.append(diagnostics);
        let Argument::Expr(ty) = ty else {
            return self.wrong_argument(whole, whole.span, "type", "a type must be written here");
        };
        let Some(constraint) = parse_type(ty, self.source, TypeUse::Conversion, self.diagnostics) else {
            return Value::unknown(Type::Dynamic);
        };
        if failed {
            return Value::unknown(Type::Dynamic);
        }
        match convert(&value, &constraint.ty) {
            Ok(converted) => converted,
            Err(e) => {
                let span = match arguments.first() {
                    Some(Argument::Expr(expr)) => expr.span,
                    _ => whole.span,
                };
                self.wrong_argument(whole, span, "value", &e.about(&value))
            }
        }
    }

    fn template_file_call(
        &mut self,
        whole: &Expr,
        arguments: &[Argument<'_>],
        functions: &FunctionScope,
    ) -> Value {
        const NAME: &str = "templatefile";
        let [path, vars] = arguments else { return Value::unknown(Type::Dynamic) };
        let span_of = |argument: &Argument<'_>| match argument {
            Argument::Expr(expr) => expr.span,
            Argument::Value(_) => whole.span,
        };
        let (path_span, vars_span) = (span_of(path), span_of(vars));
        let ((path, path_diagnostics), (vars, vars_diagnostics)) = (self.argument(path), self.argument(vars));
        let failed = path_diagnostics.has_errors() || vars_diagnostics.has_errors();
        self.diagnostics.append(path_diagnostics);
        self.diagnostics.append(vars_diagnostics);
        if failed {
            return Value::unknown(Type::Dynamic);
        }
        for (value, span, param) in [(&path, path_span, "path"), (&vars, vars_span, "vars")] {
            if value.is_null() {
                return self.wrong_argument(whole, span, param, "argument must not be null");
            }
        }
        let path = match convert(&path, &Type::String) {
            Ok(path) => path,
            Err(e) => return self.wrong_argument(whole, path_span, "path", &e.to_string()),
        };
        let sensitive = path.is_sensitive() || vars.is_sensitive();
        let unknown = Value::unknown(Type::Dynamic).sensitive_if(sensitive || vars.contains_sensitive());
        let Some(path) = path.as_str() else { return unknown };
        if !vars.is_known() && matches!(vars.ty(), Type::Dynamic | Type::Map(_) | Type::Object(_)) {
            return unknown;
        }
        let Some(variables) = vars.as_map() else {
            return self.wrong_argument(whole, vars_span, "vars", "invalid vars value: must be a map");
        };
        if self.scope.is_in_template_file() {
            let message = "cannot recursively call templatefile from inside templatefile call";
            return self.failed(whole, NAME, message);
        }
        if let Some(bad) = variables.keys().find(|name| !is_identifier(name)) {
            let message = format!(
                "invalid template variable name {bad:?}: must start with a letter, followed by zero or more letters, digits, and underscores"
            );
            return self.wrong_argument(whole, vars_span, "vars", &message);
        }
        // The file is read as `file` reads it.
        let Some(file) = functions.table.get("file") else {
            return self.failed(whole, NAME, "this host has no access to files");
        };
        let text = match file.call(vec![Value::string(path)], &functions.capabilities) {
            Ok(text) => text,
            Err(CallError::Failed(FunctionError { argument: None, message })) => {
                return self.failed(whole, NAME, &message);
            }
            Err(CallError::Failed(e)) => return self.wrong_argument(whole, path_span, "path", &e.message),
            Err(_) => return self.failed(whole, NAME, "the function \"file\" cannot be called with a path"),
        };
        let Some(text) = text.as_str() else { return unknown };
        let source = SourceFile::new(path, text);
        let (template, diagnostics) = parse_template(&source);
        if diagnostics.has_errors() {
            return self.failed_inside(whole, &diagnostics);
        }
        // Checked before anything is evaluated: also what stands in a branch not taken must exist.
        let missing = references(&template).into_iter().find(|r| !variables.contains_key(&r.root));
        if let Some(missing) = missing {
            return self.missing_key(vars_span, &missing, variables, &source);
        }
        let scope: Scope = self.scope.of_template_file(variables);
        let mut diagnostics = Diagnostics::new();
        let value =
            Evaluator { scope: &scope, source: &source, diagnostics: &mut diagnostics, fuel: self.fuel }
                .value(&template);
        if diagnostics.has_errors() {
            return self.failed_inside(whole, &diagnostics);
        }
        self.bounded(value, whole.span).sensitive_if(sensitive)
    }

    /// Reports that a template file uses a name that it is not given.
    fn missing_key(
        &mut self,
        span: Span,
        missing: &Reference,
        variables: &BTreeMap<Arc<str>, Value>,
        file: &Arc<SourceFile>,
    ) -> Value {
        let (name, place) = (&*missing.root, missing.span.in_source(file));
        let d = Diagnostic::error("Invalid function argument")
            .detail(format!(
                "Invalid value for \"vars\" parameter: vars map does not contain key \"{name}\", referenced at {place}."
            ))
            .at(span.in_source(self.source))
            .related("used in the template file", place);
        self.diagnostics.push(match did_you_mean(name, variables.keys().map(|k| &**k)) {
            Some(meant) => d.suggest(meant),
            None => d,
        });
        Value::unknown(Type::Dynamic)
    }

    /// Reports what went wrong inside a template file at the call.
    fn failed_inside(&mut self, whole: &Expr, diagnostics: &Diagnostics) -> Value {
        let Some(first) = diagnostics.iter().find(|d| d.is_error()) else {
            return Value::unknown(Type::Dynamic);
        };
        let mut d = Diagnostic::error("Error in function call")
            .detail(format!(
                "Call to function \"templatefile\" failed: {}.",
                first.to_string().trim_end_matches('.')
            ))
            .at(whole.span.in_source(self.source));
        let told = diagnostics.iter().filter(|d| d.is_error());
        for (place, inner) in told.filter_map(|d| Some((d.location.clone()?, d))) {
            d = d.related(format!("in the template file: {}", inner.summary), place);
        }
        d.help.clone_from(&first.help);
        d.suggestions.clone_from(&first.suggestions);
        d.values.clone_from(&first.values);
        self.diagnostics.push(d);
        Value::unknown(Type::Dynamic)
    }
}

fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
