//! Evaluation of locals and data sources: in the order in which they need each other, each once, independent data
//! sources side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::data::{DataBlock, Read};
use super::graph::Graph;
use super::locals::Local;
use super::setting::Setting;
use super::suggest::{MANY, suggestion};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, SourceFile};
use crate::language::eval::{Reference, Scope, references};
use crate::registry::Registry;
use crate::value::{Type, Value};

/// What all locals and data sources are.
pub(super) struct Values {
    /// `local`.
    pub(super) locals: Value,
    /// Names of the locals that could not be evaluated; they are unknown.
    pub(super) failed: BTreeSet<Arc<str>>,
    /// `data`.
    pub(super) data: Value,
}

/// Evaluates all data sources and locals of a template. What fails is unknown for those that need it.
pub(super) async fn evaluate_all(
    blocks: &[DataBlock],
    locals: &[Local],
    base: &Scope,
    setting: &Setting<'_>,
    registry: &Registry,
    diagnostics: &mut Diagnostics,
) -> Values {
    let nodes = Nodes::new(blocks, locals);
    let before = diagnostics.len();
    let (graph, broken) = nodes.graph(setting.inputs.sequential, diagnostics);
    // Nothing is asked of the outside when the order is broken: the template cannot be used anyway.
    let read = setting.inputs.evaluate_data_sources && diagnostics.len() == before;
    let waiting = graph.waiting();
    let mut missing: Vec<usize> = (0..nodes.count()).map(|i| graph.needs(i).len()).collect();
    let mut ready: Vec<usize> = (0..nodes.count()).rev().filter(|i| missing[*i] == 0).collect();
    let mut results: Vec<Option<Value>> = vec![None; nodes.count()];
    let mut failed = vec![false; nodes.count()];
    let mut reading = JoinSet::new();
    loop {
        let (node, value) = match ready.pop() {
            Some(node) if broken[node] => {
                failed[node] = true;
                (node, Value::unknown(Type::Dynamic))
            }
            Some(node) => {
                let scope = nodes.scope_of(node, &graph, &results, base);
                match nodes.kind(node) {
                    Node::Local(local) => {
                        let value = evaluate_local(local, &scope, setting, diagnostics);
                        failed[node] = value.is_none() || graph.needs(node).iter().any(|need| failed[*need]);
                        (node, value.unwrap_or_else(|| Value::unknown(Type::Dynamic)))
                    }
                    Node::Data(block) => match block.prepare(&scope, setting, registry, read, diagnostics) {
                        Read::Done(value) => (node, value),
                        Read::Pending(source, cx) => {
                            reading.spawn(async move { (node, source.read(&cx).await) });
                            continue;
                        }
                    },
                }
            }
            None => match reading.join_next().await {
                None => break,
                Some(Ok((node, result))) => match nodes.kind(node) {
                    Node::Data(block) => (node, block.outcome(result, diagnostics)),
                    Node::Local(_) => continue,
                },
                Some(Err(e)) => {
                    diagnostics.push(Diagnostic::error("A data source failed").detail(e.to_string()));
                    continue;
                }
            },
        };
        results[node] = Some(value);
        for next in &waiting[node] {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                ready.push(*next);
            }
        }
    }
    setting.clean_up();
    nodes.all(results, &failed)
}

/// The value of a local; `None` where it has none.
fn evaluate_local(
    local: &Local,
    scope: &Scope,
    setting: &Setting<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    let before = diagnostics.len();
    let value = local.expression.evaluate(scope, diagnostics);
    if diagnostics.len() > before {
        return None;
    }
    let value = value.sensitive_if(local.sensitive);
    if local.sensitive {
        setting.secrets.add_sensitive(&value);
    }
    Some(value)
}

enum Node<'a> {
    Local(&'a Local),
    Data(&'a DataBlock),
}

/// Data sources first, then locals, each under a number.
struct Nodes<'a> {
    blocks: &'a [DataBlock],
    locals: &'a [Local],
    local_index: HashMap<&'a str, usize>,
    data_index: HashMap<&'a str, BTreeMap<&'a str, usize>>,
}

impl<'a> Nodes<'a> {
    fn new(blocks: &'a [DataBlock], locals: &'a [Local]) -> Self {
        let mut data_index: HashMap<&str, BTreeMap<&str, usize>> = HashMap::new();
        for (i, block) in blocks.iter().enumerate() {
            data_index.entry(&block.kind).or_default().insert(&block.name, i);
        }
        let local_index = locals.iter().enumerate().map(|(i, l)| (&*l.name, blocks.len() + i)).collect();
        Self { blocks, locals, local_index, data_index }
    }

    fn count(&self) -> usize {
        self.blocks.len() + self.locals.len()
    }

    fn kind(&self, node: usize) -> Node<'a> {
        match self.blocks.get(node) {
            Some(block) => Node::Data(block),
            None => Node::Local(&self.locals[node - self.blocks.len()]),
        }
    }

    fn name(&self, node: usize) -> String {
        match self.kind(node) {
            Node::Local(local) => format!("local.{}", local.name),
            Node::Data(block) => format!("data.{}.{}", block.kind, block.name),
        }
    }

    fn location(&self, node: usize) -> Location {
        match self.kind(node) {
            Node::Local(local) => local.location.clone(),
            Node::Data(block) => block.block.location(),
        }
    }

    /// Who needs whom, and which nodes cannot be evaluated: they are in a circle or refer to what does not exist.
    fn graph(&self, sequential: bool, diagnostics: &mut Diagnostics) -> (Graph, Vec<bool>) {
        let mut graph = Graph::new(self.count());
        let mut broken = vec![false; self.count()];
        for (node, broken) in broken.iter_mut().enumerate() {
            let is_data = node < self.blocks.len();
            let mut needed: Vec<usize> = Vec::new();
            let mut look = |reference: &Reference, source: &Arc<SourceFile>| {
                if sequential && is_data && &*reference.root == "local" {
                    return;
                }
                match self.target(reference) {
                    Target::Nodes(targets) => needed.extend(targets),
                    Target::Missing(name) if !sequential => {
                        *broken = true;
                        let finding = self.not_found(node, &name, reference, source, diagnostics);
                        diagnostics.push(finding);
                    }
                    Target::Missing(_) | Target::Nothing => {}
                }
            };
            match self.kind(node) {
                Node::Local(local) => {
                    for reference in references(&local.expression.expr) {
                        look(&reference, &local.expression.source);
                    }
                }
                Node::Data(block) => {
                    let source = block.block.source();
                    for reference in block.block.body.references() {
                        look(&reference, source);
                    }
                }
            }
            needed.sort_unstable();
            needed.dedup();
            for target in needed {
                graph.add(node, target);
            }
        }
        for circle in graph.circles() {
            diagnostics.push(self.circle(&circle, sequential));
            for member in circle {
                broken[member] = true;
                // It waits for nobody, so that those who wait for it are looked at.
                graph.clear(member);
            }
        }
        (graph, broken)
    }

    fn target(&self, reference: &Reference) -> Target {
        match (&*reference.root, reference.name(0), reference.name(1)) {
            ("local", Some(name), _) => match self.local_index.get(name) {
                Some(node) => Target::Nodes(vec![*node]),
                None => Target::Missing(format!("local.{name}")),
            },
            ("data", Some(kind), Some(name)) => match self.data_index.get(kind).and_then(|d| d.get(name)) {
                Some(node) => Target::Nodes(vec![*node]),
                None => Target::Missing(format!("data.{kind}.{name}")),
            },
            // All of a type.
            ("data", Some(kind), None) => match self.data_index.get(kind) {
                Some(of_kind) => Target::Nodes(of_kind.values().copied().collect()),
                None => Target::Missing(format!("data.{kind}")),
            },
            _ => Target::Nothing,
        }
    }

    fn not_found(
        &self,
        node: usize,
        name: &str,
        reference: &Reference,
        source: &Arc<SourceFile>,
        diagnostics: &Diagnostics,
    ) -> Diagnostic {
        let d = Diagnostic::error("failed to prepare execution graph")
            .detail(format!("{} refers to {name}, which no template file defines.", self.name(node)))
            .at(reference.span.in_source(source));
        let names = || (0..self.count()).map(|i| self.name(i)).collect::<Vec<String>>();
        let names = if diagnostics.len() > MANY { Vec::new() } else { names() };
        match suggestion(name, names.iter().map(String::as_str), diagnostics) {
            Some(meant) => d.suggest(meant),
            None => d,
        }
    }

    fn circle(&self, circle: &[usize], sequential: bool) -> Diagnostic {
        let summary = match (sequential, circle.iter().any(|n| *n < self.blocks.len())) {
            (false, _) => "failed to prepare execution graph",
            (true, true) => "Max datasource recursion depth exceeded.",
            (true, false) => "Max local recursion depth exceeded.",
        };
        let names: Vec<String> = circle.iter().map(|n| self.name(*n)).collect();
        let detail = match names.as_slice() {
            [one] => format!("{one} refers to itself."),
            _ => format!(
                "These refer to each other in a circle, so none can be evaluated first: {}.",
                names.join(", ")
            ),
        };
        let d = Diagnostic::error(summary).detail(detail);
        let d = match circle.first() {
            Some(first) => d.at(self.location(*first)),
            None => d,
        };
        circle.iter().skip(1).fold(d, |d, n| d.related(self.name(*n), self.location(*n)))
    }

    /// What a node may use: what it needs, and nothing else, so that what it sees does not depend on chance.
    fn scope_of(&self, node: usize, graph: &Graph, results: &[Option<Value>], base: &Scope) -> Scope {
        let mut locals = Vec::new();
        let mut data: BTreeMap<&str, Vec<(&str, Value)>> = BTreeMap::new();
        for need in graph.needs(node) {
            let value = results[*need].clone().unwrap_or_else(|| Value::unknown(Type::Dynamic));
            match self.kind(*need) {
                Node::Local(local) => locals.push((local.name.clone(), value)),
                Node::Data(block) => data.entry(&block.kind).or_default().push((&block.name, value)),
            }
        }
        let data = data.into_iter().map(|(kind, of_kind)| (kind, of_one_kind(of_kind)));
        base.with_variables([("local", Value::object(locals)), ("data", Value::object(data))])
    }

    fn all(&self, results: Vec<Option<Value>>, failed: &[bool]) -> Values {
        let mut results = results.into_iter().map(|v| v.unwrap_or_else(|| Value::unknown(Type::Dynamic)));
        let mut data: BTreeMap<&str, Vec<(&str, Value)>> = BTreeMap::new();
        for (block, value) in self.blocks.iter().zip(&mut results) {
            data.entry(&block.kind).or_default().push((&block.name, value));
        }
        let locals = Value::object(self.locals.iter().map(|l| l.name.clone()).zip(results));
        let data = Value::object(data.into_iter().map(|(kind, of_kind)| (kind, of_one_kind(of_kind))));
        let failed = self.locals.iter().zip(&failed[self.blocks.len()..]).filter(|(_, failed)| **failed);
        Values { locals, data, failed: failed.map(|(local, _)| local.name.clone()).collect() }
    }
}

/// The data sources of one type are a map; where their results are of several types, an object.
fn of_one_kind(values: Vec<(&str, Value)>) -> Value {
    let mut types = values.iter().map(|(_, v)| v.ty());
    let first = types.next().unwrap_or(Type::Dynamic);
    if first != Type::Dynamic && types.all(|t| t == first) {
        return Value::map(first, values);
    }
    Value::object(values)
}

enum Target {
    Nodes(Vec<usize>),
    Missing(String),
    Nothing,
}
