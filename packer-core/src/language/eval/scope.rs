//! Scopes: the names an expression may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::functions::{Capabilities, Functions, LAZY};
use crate::secrets::Secrets;
use crate::value::Value;

/// The variables and functions that expressions see. Scopes nest; inner names hide outer ones. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scope(Arc<Level>);

#[derive(Debug)]
struct Level {
    parent: Option<Scope>,
    /// Without any on the way out, a variable is not unknown but not allowed.
    variables: Option<Variables>,
    functions: Option<Arc<FunctionScope>>,
    constant: bool,
    in_template_file: bool,
}

/// Variables in the order of their names, each name once. A list, because loops make one for each element.
#[derive(Debug)]
struct Variables(Vec<(Arc<str>, Value)>);

impl Variables {
    /// Of equal names the last counts.
    fn new(mut all: Vec<(Arc<str>, Value)>) -> Self {
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(all)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }
}

/// The functions of a scope and what they may reach.
#[derive(Debug)]
pub(super) struct FunctionScope {
    pub(super) table: Functions,
    pub(super) capabilities: Capabilities,
    /// Whether `can`, `convert`, `templatefile` and `try`, which are in no table, can be called as well.
    pub(super) lazy: bool,
}

impl Scope {
    /// A place where only constants are allowed: no variables, no functions, and strings in JSON files are taken
    /// as they are.
    pub fn constant() -> Self {
        Self(Arc::new(Level { constant: true, ..Level::inside(None) }))
    }

    /// A place with neither variables nor functions yet.
    pub fn new() -> Self {
        Self(Arc::new(Level::inside(None)))
    }

    /// A scope inside this one with these functions, and with `can`, `convert`, `templatefile` and `try`.
    #[must_use]
    pub fn with_functions(&self, functions: Functions, capabilities: Capabilities) -> Self {
        self.functions_level(FunctionScope { table: functions, capabilities, lazy: true })
    }

    /// A scope inside this one with these functions and no others: the default of a variable can call `env` alone.
    #[must_use]
    pub fn with_only_functions(&self, functions: Functions, capabilities: Capabilities) -> Self {
        self.functions_level(FunctionScope { table: functions, capabilities, lazy: false })
    }

    fn functions_level(&self, functions: FunctionScope) -> Self {
        Self(Arc::new(Level { functions: Some(Arc::new(functions)), ..Level::inside(Some(self)) }))
    }

    /// A scope inside this one with these variables.
    #[must_use]
    pub fn with_variables<K: Into<Arc<str>>>(&self, variables: impl IntoIterator<Item = (K, Value)>) -> Self {
        let variables = Variables::new(variables.into_iter().map(|(k, v)| (k.into(), v)).collect());
        Self(Arc::new(Level { variables: Some(variables), ..Level::inside(Some(self)) }))
    }

    /// The scope of a file that `templatefile` reads: the functions of this one and the given variables alone.
    pub(super) fn of_template_file(&self, variables: &BTreeMap<Arc<str>, Value>) -> Self {
        Self(Arc::new(Level {
            variables: Some(Variables(variables.iter().map(|(k, v)| (k.clone(), v.clone())).collect())),
            functions: self.functions().cloned(),
            in_template_file: true,
            ..Level::inside(None)
        }))
    }

    /// The variables of the levels between this scope and one around it, outer ones first.
    pub(crate) fn variables_within(&self, outer: &Self) -> Vec<(Arc<str>, Value)> {
        let inside: Vec<&Level> =
            self.levels().take_while(|level| !std::ptr::eq(*level, &*outer.0)).collect();
        let variables = inside.into_iter().rev().filter_map(|level| level.variables.as_ref());
        variables.flat_map(|v| v.0.iter().cloned()).collect()
    }

    /// The value of a name.
    pub fn variable(&self, name: &str) -> Option<&Value> {
        self.levels().find_map(|level| level.variables.as_ref()?.get(name))
    }

    /// Every name, innermost first.
    pub fn variable_names(&self) -> impl Iterator<Item = &str> {
        self.levels().filter_map(|level| level.variables.as_ref()).flat_map(|v| v.0.iter().map(|(k, _)| &**k))
    }

    /// The names of the functions that can be called.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        let functions = self.functions();
        let lazy = functions.filter(|f| f.lazy).map_or(&[][..], |_| &LAZY);
        functions.into_iter().flat_map(|f| f.table.names()).chain(lazy.iter().copied())
    }

    /// The root through which a name can be reached that is none itself: `var` for the name of a variable.
    pub(super) fn holder_of(&self, name: &str) -> Option<&'static str> {
        ["var", "local"].into_iter().find(|root| self.variable(root).is_some_and(|v| v.get(name).is_some()))
    }

    /// Where secrets are registered that are read with this scope; `None` for one without functions.
    pub(crate) fn secrets(&self) -> Option<&Secrets> {
        self.functions().map(|functions| &functions.capabilities.secrets)
    }

    pub(super) fn functions(&self) -> Option<&Arc<FunctionScope>> {
        self.levels().find_map(|level| level.functions.as_ref())
    }

    pub(super) fn allows_variables(&self) -> bool {
        self.levels().any(|level| level.variables.is_some())
    }

    pub(super) fn is_constant(&self) -> bool {
        self.0.constant
    }

    pub(super) fn is_in_template_file(&self) -> bool {
        self.levels().any(|level| level.in_template_file)
    }

    fn levels(&self) -> impl Iterator<Item = &Level> {
        std::iter::successors(Some(&*self.0), |level| level.parent.as_ref().map(|scope| &*scope.0))
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Level {
    fn inside(parent: Option<&Scope>) -> Self {
        Self {
            parent: parent.cloned(),
            variables: None,
            functions: None,
            constant: false,
            in_template_file: false,
        }
    }
}
