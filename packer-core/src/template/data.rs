//! Data sources: `data "TYPE" "NAME"` blocks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::NAME_RULE;
use super::component;
use super::component::PartBody;
use super::setting::Setting;
use crate::context::{Context, PrepareContext};
use crate::data_source::DataSource;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::Result;
use crate::language::eval::Scope;
use crate::language::syntax::{Block, is_identifier};
use crate::registry::Registry;
use crate::value::{Type, Value};

/// A declared data source.
#[derive(Debug, Clone)]
pub(super) struct DataBlock {
    pub(super) kind: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) block: Block,
}

/// How far a data source has come.
pub(super) enum Read {
    /// This is its value.
    Done(Value),
    /// It must be read.
    Pending(Arc<dyn DataSource>, Context),
}

/// The data sources of a template, each type and name once.
#[derive(Debug, Clone, Default)]
pub(super) struct DataBlocks {
    pub(super) list: Vec<DataBlock>,
    seen: BTreeMap<(Arc<str>, Arc<str>), usize>,
}

impl DataBlocks {
    pub(super) fn add(&mut self, block: &Block, diagnostics: &mut Diagnostics) {
        let [kind, name] = &*block.labels else { return };
        let mut valid = true;
        for (label, summary) in [(kind, "Invalid data source name"), (name, "Invalid data resource name")] {
            if !is_identifier(label.as_str()) {
                valid = false;
                diagnostics.push(
                    Diagnostic::error(summary).detail(NAME_RULE).at(label.span.in_source(block.source())),
                );
            }
        }
        let key = (kind.text.clone(), name.text.clone());
        if let Some(first) = self.seen.get(&key).and_then(|i| self.list.get(*i)) {
            diagnostics.push(
                Diagnostic::error("Duplicate data block")
                    .detail(format!("There are two data sources {kind}.{name}.", kind = key.0, name = key.1))
                    .at(block.location())
                    .related("the first", first.block.location()),
            );
            return;
        }
        if valid {
            self.list.push(DataBlock { kind: key.0.clone(), name: key.1.clone(), block: block.clone() });
            self.seen.insert(key, self.list.len() - 1);
        }
    }
}

impl DataBlock {
    /// Configures it. Where it is not to be read its value is unknown.
    pub(super) fn prepare(
        &self,
        scope: &Scope,
        setting: &Setting<'_>,
        registry: &Registry,
        read: bool,
        diagnostics: &mut Diagnostics,
    ) -> Read {
        let unknown = Read::Done(Value::unknown(Type::Dynamic));
        let place = self.block.location();
        let Some(kind) = registry.get_data_source(&self.kind) else {
            let what = format!("Unknown data type {}", self.kind);
            diagnostics.push(component::unknown(what, &self.kind, registry.data_sources()).at(place));
            return unknown;
        };
        let build = setting.data_build_info();
        let before = diagnostics.len();
        let part = PartBody { body: self.block.body.clone(), iterators: Vec::new(), unknown: false };
        let decoded =
            component::decode(kind, &[part], None, scope, &setting.interpolation(), &place, diagnostics);
        let Some(source) = decoded.map(|d| d.component) else { return unknown };
        diagnostics.append(
            source.prepare(&PrepareContext::new(build.clone(), setting.inputs.host.clone())).or_at(&place),
        );
        if diagnostics.iter().skip(before).any(Diagnostic::is_error) {
            return unknown;
        }
        if !read {
            return Read::Done(Value::unknown(source.output_type()));
        }
        Read::Pending(source, setting.data_context(build, &self.kind))
    }

    /// The value of a data source that was read.
    pub(super) fn outcome(&self, result: Result<Value>, diagnostics: &mut Diagnostics) -> Value {
        result.unwrap_or_else(|e| {
            diagnostics
                .push(Diagnostic::error(format!("Datasource.Execute failed: {e}")).at(self.block.location()));
            Value::unknown(Type::Dynamic)
        })
    }
}
