//! Runs a parsed Go template.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::{Branch, Command, Node, Number, Operand, OperandKind, Pipe, Pos, TemplateAction};
use super::builtins::{self, Builtin};
use super::data::Data;
use super::parser::Trees;
use super::{FunctionTable, Kind, ROOT, Signature, TemplateError, printf};

/// How deep templates, blocks and parentheses may be entered; recursive templates end here.
const MAX_DEPTH: usize = 400;

/// What one rendering may do: a step costs [`STEP`], and each byte that is read or made costs one.
const BUDGET: u64 = 128 << 20;
const STEP: u64 = 128;

/// The largest result.
const MAX_OUTPUT: usize = 64 << 20;

pub(super) fn execute(
    text: &str,
    trees: &Trees,
    data: &Data,
    functions: &dyn FunctionTable,
) -> Result<String, TemplateError> {
    let Some(root) = trees.get(ROOT) else {
        return Ok(String::new());
    };
    let mut state = State {
        text,
        trees,
        functions,
        template: ROOT,
        at: At::Start,
        variables: vec![("$".into(), data.clone())],
        out: String::new(),
        budget: BUDGET,
        depth: 0,
    };
    match state.walk(root, data)? {
        Flow::Next => Ok(state.out),
        // The parser refuses both outside a range.
        Flow::Break | Flow::Continue => state.error("jump outside {{range}}"),
    }
}

type Result<T, E = TemplateError> = std::result::Result<T, E>;

struct State<'a> {
    text: &'a str,
    trees: &'a Trees,
    functions: &'a dyn FunctionTable,
    /// The template that runs.
    template: &'a str,
    /// What is being evaluated, for errors.
    at: At<'a>,
    variables: Vec<(Arc<str>, Data)>,
    out: String,
    budget: u64,
    depth: usize,
}

#[derive(Clone, Copy)]
enum At<'a> {
    Start,
    Pipe(&'a Pipe),
    Command(&'a Command),
    Operand(&'a Operand),
    Template(Pos, &'a str, Option<&'a Pipe>),
}

enum Flow {
    Next,
    Break,
    Continue,
}

/// The value of the command before, in a pipeline.
type Final = Option<Data>;

impl<'a> State<'a> {
    fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        let (pos, context) = match self.at {
            At::Start => return Err(TemplateError::new(format!("template: {}: {message}", self.template))),
            At::Pipe(pipe) => (pipe.pos, pipe.to_string()),
            At::Command(command) => (command.pos, command.to_string()),
            At::Operand(operand) => (operand.pos, operand.to_string()),
            At::Template(pos, name, pipe) => (pos, TemplateAction(name, pipe).to_string()),
        };
        let before = self.text.get(..pos as usize).unwrap_or_default();
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |n| n + 1);
        let name = printf::quote(self.template);
        Err(TemplateError::new(format!(
            "template: {ROOT}:{line}:{column}: executing {name} at <{context}>: {message}"
        )))
    }

    /// Takes from what the rendering may still do.
    fn spend(&mut self, cost: u64) -> Result<()> {
        match self.budget.checked_sub(cost) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => self.error("the template does too much work: does it loop?"),
        }
    }

    fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return self.error(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.spend(text.len() as u64)?;
        if self.out.len() + text.len() > MAX_OUTPUT {
            return self.error(format!("the result is larger than {} MiB", MAX_OUTPUT >> 20));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn walk(&mut self, nodes: &'a [Node], dot: &Data) -> Result<Flow> {
        for node in nodes {
            self.spend(STEP)?;
            let flow = match node {
                Node::Text(text) => {
                    self.write(text)?;
                    Flow::Next
                }
                Node::Action(pipe) => {
                    let value = self.pipeline(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        match value {
                            Data::String(text) => self.write(&text)?,
                            Data::Nil => self.write("<no value>")?,
                            value => self.write(&printf::print(&value))?,
                        }
                    }
                    Flow::Next
                }
                Node::If { branches, otherwise } => self.branches(branches, otherwise, dot, false)?,
                Node::With { branches, otherwise } => self.branches(branches, otherwise, dot, true)?,
                Node::Range { pipe, body, otherwise } => self.range(pipe, body, otherwise, dot)?,
                Node::Template { pos, name, pipe } => {
                    self.template(*pos, name, pipe.as_ref(), dot)?;
                    Flow::Next
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if !matches!(flow, Flow::Next) {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn branches(
        &mut self,
        branches: &'a [Branch],
        otherwise: &'a Option<Vec<Node>>,
        dot: &Data,
        with: bool,
    ) -> Result<Flow> {
        let outside = self.variables.len();
        let flow = self.nested(|state| {
            for branch in branches {
                state.spend(STEP)?;
                let value = state.pipeline(dot, &branch.pipe)?;
                if value.truth() {
                    return state.walk(&branch.body, if with { &value } else { dot });
                }
            }
            otherwise.as_ref().map_or(Ok(Flow::Next), |nodes| state.walk(nodes, dot))
        });
        self.variables.truncate(outside);
        flow
    }

    fn range(
        &mut self,
        pipe: &'a Pipe,
        body: &'a [Node],
        otherwise: &'a Option<Vec<Node>>,
        dot: &Data,
    ) -> Result<Flow> {
        let outside = self.variables.len();
        let flow = self.nested(|state| {
            let over = state.pipeline(dot, pipe)?;
            let inside = state.variables.len();
            if over.whole().is_some() && pipe.variables.len() > 1 {
                let value = printf::print(&over);
                return state.error(format!("can't use {value} to iterate over more than one variable"));
            }
            let mut ran = false;
            let mut once = |key: Data, element: &Data| {
                ran = true;
                state.spend(STEP)?;
                state.set_range_variables(pipe, inside, key, element)?;
                let flow = state.walk(body, element);
                state.variables.truncate(inside);
                flow.map(|flow| !matches!(flow, Flow::Break))
            };
            match &over {
                Data::Nil => {}
                Data::Int(n) => {
                    for i in 0..*n {
                        if !once(Data::Int(i), &Data::Int(i))? {
                            break;
                        }
                    }
                }
                Data::Byte(n) => {
                    for i in 0..*n {
                        if !once(Data::Byte(i), &Data::Byte(i))? {
                            break;
                        }
                    }
                }
                Data::List(items) => {
                    for (i, item) in items.iter().enumerate() {
                        if !once(Data::Int(i as i64), item)? {
                            break;
                        }
                    }
                }
                Data::Map(entries) => {
                    for (key, value) in entries.iter() {
                        if !once(Data::String(key.clone()), value)? {
                            break;
                        }
                    }
                }
                other => {
                    let value = printf::print(other);
                    return state.error(format!("range can't iterate over {value}"));
                }
            }
            match otherwise {
                Some(nodes) if !ran => state.walk(nodes, dot),
                _ => Ok(Flow::Next),
            }
        });
        self.variables.truncate(outside);
        flow
    }

    /// With two variables the first is the key; with one it is the element.
    fn set_range_variables(&mut self, pipe: &Pipe, top: usize, key: Data, element: &Data) -> Result<()> {
        let values = match pipe.variables.as_slice() {
            [_] => vec![element.clone()],
            [_, _] => vec![key, element.clone()],
            _ => return Ok(()),
        };
        for (i, value) in values.into_iter().enumerate() {
            if pipe.assign {
                self.set_variable(&pipe.variables[i], value)?;
            } else if let Some(slot) =
                (top + i).checked_sub(pipe.variables.len()).and_then(|at| self.variables.get_mut(at))
            {
                slot.1 = value;
            }
        }
        Ok(())
    }

    fn set_variable(&mut self, name: &str, value: Data) -> Result<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| **known == *name) {
            Some(slot) => {
                slot.1 = value;
                Ok(())
            }
            None => self.error(format!("undefined variable: {name}")),
        }
    }

    fn template(&mut self, pos: Pos, name: &'a str, pipe: Option<&'a Pipe>, dot: &Data) -> Result<()> {
        self.at = At::Template(pos, name, pipe);
        let Some(nodes) = self.trees.get(name) else {
            return self.error(format!("template {} not defined", printf::quote(name)));
        };
        self.nested(|state| {
            let dot = match pipe {
                Some(pipe) => state.pipeline(dot, pipe)?,
                None => Data::Nil,
            };
            let variables = std::mem::replace(&mut state.variables, vec![("$".into(), dot.clone())]);
            let caller = std::mem::replace(&mut state.template, name);
            state.walk(nodes, &dot)?;
            state.variables = variables;
            state.template = caller;
            Ok(())
        })
    }

    fn pipeline(&mut self, dot: &Data, pipe: &'a Pipe) -> Result<Data> {
        self.nested(|state| {
            state.at = At::Pipe(pipe);
            let mut value: Final = None;
            for command in &pipe.commands {
                state.spend(STEP)?;
                value = Some(state.command(dot, command, value)?);
            }
            let value = value.unwrap_or_default();
            for variable in &pipe.variables {
                if pipe.assign {
                    state.set_variable(variable, value.clone())?;
                } else {
                    state.variables.push((variable.clone(), value.clone()));
                }
            }
            Ok(value)
        })
    }

    fn command(&mut self, dot: &Data, command: &'a Command, piped: Final) -> Result<Data> {
        let Some((first, arguments)) = command.operands.split_first() else { return Ok(Data::Nil) };
        let given = !arguments.is_empty() || piped.is_some();
        match &first.kind {
            OperandKind::Function(name) => {
                return self.function(dot, At::Command(command), first, name, arguments, piped);
            }
            OperandKind::Fields(_) | OperandKind::Chain(..) => return self.fields(dot, first, given),
            OperandKind::Variable(..) => return self.fields(dot, first, given),
            _ => {}
        }
        self.at = At::Operand(first);
        if given {
            return self.error(format!("can't give argument to non-function {first}"));
        }
        match &first.kind {
            OperandKind::Nil => self.error("nil is not a command"),
            _ => self.operand(dot, first, Kind::Any),
        }
    }

    /// The value of an argument of some kind.
    fn operand(&mut self, dot: &Data, operand: &'a Operand, kind: Kind) -> Result<Data> {
        self.spend(STEP)?;
        self.at = At::Operand(operand);
        let value = match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil if kind == Kind::Any => Data::Nil,
            OperandKind::Nil => return self.error(format!("cannot assign nil to {}", kind.name())),
            OperandKind::Bool(_) | OperandKind::Number(_) | OperandKind::String(..) => {
                return self.constant(operand, kind);
            }
            OperandKind::Function(name) => {
                self.function(dot, At::Operand(operand), operand, name, &[], None)?
            }
            OperandKind::Fields(_) | OperandKind::Variable(..) | OperandKind::Chain(..) => {
                self.fields(dot, operand, false)?
            }
            OperandKind::Pipe(pipe) => self.pipeline(dot, pipe)?,
        };
        self.checked(value, kind)
    }

    fn constant(&mut self, operand: &'a Operand, kind: Kind) -> Result<Data> {
        match (&operand.kind, kind) {
            (OperandKind::Bool(b), Kind::Any) => Ok(Data::Bool(*b)),
            (OperandKind::String(text, _), Kind::Any | Kind::String) => Ok(Data::String(text.clone())),
            (OperandKind::Number(Number { int: Some(n), .. }), Kind::Int) => Ok(Data::Int(*n)),
            (OperandKind::Number(n), Kind::Any) => match n {
                Number { complex: Some((real, imaginary)), .. } => Ok(Data::Complex(*real, *imaginary)),
                Number { float: Some(float), fractional: true, .. } => Ok(Data::Float(*float)),
                Number { int: Some(int), .. } => Ok(Data::Int(*int)),
                n => self.error(format!("{} overflows int", n.text)),
            },
            (_, Kind::Int) => self.error(format!("expected integer; found {operand}")),
            _ => self.error(format!("expected string; found {operand}")),
        }
    }

    fn checked(&self, value: Data, kind: Kind) -> Result<Data> {
        match (kind, &value) {
            (Kind::Any, _) | (Kind::String, Data::String(_)) | (Kind::Int, Data::Int(_)) => Ok(value),
            (_, Data::Nil) => self.error(format!("invalid value; expected {}", kind.name())),
            _ => self.error(format!(
                "wrong type for value; expected {}; got {}",
                kind.name(),
                value.type_name()
            )),
        }
    }

    /// A field of dot, a variable or a field of it, or a field of what an operand gives.
    fn fields(&mut self, dot: &Data, operand: &'a Operand, given: bool) -> Result<Data> {
        self.at = At::Operand(operand);
        let (mut value, names) = match &operand.kind {
            OperandKind::Fields(names) => (dot.clone(), names),
            OperandKind::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                match found {
                    Some((_, value)) => (value.clone(), names),
                    None => return self.error(format!("undefined variable: {name}")),
                }
            }
            OperandKind::Chain(inner, names) => {
                if matches!(inner.kind, OperandKind::Nil) {
                    return self.error(format!("indirection through explicit nil in {operand}"));
                }
                (self.operand(dot, inner, Kind::Any)?, names)
            }
            _ => return self.operand(dot, operand, Kind::Any),
        };
        if names.is_empty() && given {
            return self.error(format!("can't give argument to non-function {operand}"));
        }
        for (i, name) in names.iter().enumerate() {
            let last = i + 1 == names.len();
            value = match value {
                Data::Nil => Data::Nil,
                Data::Map(_) if last && given => {
                    return self.error(format!("{name} is not a method but has arguments"));
                }
                Data::Map(entries) => match entries.get(name) {
                    Some(value) => value.clone(),
                    None if self.is_dot_of_known_fields(&entries) => {
                        return self.error(format!("can't evaluate field {name}"));
                    }
                    None => Data::Nil,
                },
                other => {
                    let kind = if i > 0 { "interface {}" } else { other.type_name() };
                    return self.error(format!("can't evaluate field {name} in type {kind}"));
                }
            };
        }
        Ok(value)
    }

    /// Whether these are the data of the template itself, and all that it may name.
    fn is_dot_of_known_fields(&self, entries: &Arc<BTreeMap<Arc<str>, Data>>) -> bool {
        let dot = self.variables.first().map(|(_, data)| data);
        self.functions.fields_are_known() && matches!(dot, Some(Data::Map(dot)) if Arc::ptr_eq(dot, entries))
    }

    /// Calls a function; `whole` is what errors of the call itself point at.
    fn function(
        &mut self,
        dot: &Data,
        whole: At<'a>,
        operand: &'a Operand,
        name: &'a str,
        arguments: &'a [Operand],
        piped: Final,
    ) -> Result<Data> {
        self.at = At::Operand(operand);
        let (signature, builtin) = match self.functions.signature(name) {
            Some(signature) => (signature, None),
            None => match builtins::find(name) {
                Some(builtin) => (builtin.signature, Some(builtin)),
                None => return self.error(format!("{} is not a defined function", printf::quote(name))),
            },
        };
        self.check_count(name, signature, arguments.len() + usize::from(piped.is_some()))?;
        if builtin.is_some() && matches!(name, "and" | "or") {
            return self.short_circuit(dot, name == "or", arguments, piped);
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for (i, argument) in arguments.iter().enumerate() {
            values.push(self.operand(dot, argument, signature.kind(i))?);
        }
        if let Some(piped) = piped {
            values.push(self.checked(piped, signature.kind(arguments.len()))?);
        }
        let size: usize = values.iter().map(weight).sum();
        self.spend(STEP + size as u64)?;
        let result = match builtin {
            Some(Builtin { call, .. }) => call(&values),
            None => self.functions.call(name, &values),
        };
        match result {
            Ok(value) => {
                self.spend(weight(&value) as u64)?;
                Ok(value)
            }
            Err(mut message) => {
                self.at = whole;
                if let ("call", Some(argument)) = (name, arguments.first()) {
                    message = message.replacen("non-function", &format!("non-function {argument}"), 1);
                }
                self.error(format!("error calling {name}: {message}"))
            }
        }
    }

    fn check_count(&self, name: &str, signature: Signature, got: usize) -> Result<()> {
        let want = signature.fixed.len();
        if signature.variadic.is_some() && got < want {
            return self.error(format!("wrong number of args for {name}: want at least {want} got {got}"));
        }
        if signature.variadic.is_none() && got != want {
            return self.error(format!("wrong number of args for {name}: want {want} got {got}"));
        }
        Ok(())
    }

    /// `and` and `or` evaluate no further than they must.
    fn short_circuit(
        &mut self,
        dot: &Data,
        stop_at: bool,
        arguments: &'a [Operand],
        piped: Final,
    ) -> Result<Data> {
        let mut value = Data::Nil;
        for argument in arguments {
            value = self.operand(dot, argument, Kind::Any)?;
            if value.truth() == stop_at {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Int => "int",
            Self::String => "string",
        }
    }
}

impl Signature {
    /// The kind of the n-th argument.
    fn kind(&self, n: usize) -> Kind {
        self.fixed.get(n).copied().or(self.variadic).unwrap_or(Kind::Any)
    }
}

/// What handling a value costs: about its size in bytes, containers at their first level.
fn weight(value: &Data) -> usize {
    match value {
        Data::String(text) => text.len(),
        Data::List(items) => {
            items.len() * 16 + items.iter().map(|i| i.as_str().map_or(0, str::len)).sum::<usize>()
        }
        Data::Map(entries) => {
            entries.iter().map(|(k, v)| 16 + k.len() + v.as_str().map_or(0, str::len)).sum::<usize>()
        }
        _ => 0,
    }
}
