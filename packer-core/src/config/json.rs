//! Reads an object by the component's schema: a component of a legacy JSON template, or what an override holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Config;
use super::schema::{Field, FieldKind, Schema};
use super::secret;
use crate::diagnostic::{Diagnostic, Diagnostics, Location, did_you_mean};
use crate::value::{Data, Value};

/// Names that `packer fix` replaces. A component that has one of them as a field of its own takes it all the same.
const FIXED: [&str; 27] = [
    "access_key",
    "clone_from_vmxc_path",
    "cpu",
    "enhanced_networking",
    "exlude_from_latest",
    "filename",
    "galaxycommand",
    "guest_additions_attach",
    "guest_os_distribution",
    "iso_checksum_type",
    "iso_checksum_url",
    "iso_md5",
    "login_email",
    "networkCard",
    "network_card",
    "parallels_tools_host_path",
    "ram_size",
    "shutdown_behaviour",
    "spot_price_auto_product",
    "ssh_disable_agent",
    "ssh_host_port_max",
    "ssh_host_port_min",
    "ssh_key_path",
    "ssh_private_ip",
    "ssh_skip_nat_mapping",
    "ssh_wait_timeout",
    "vhd_temp_path",
];

/// So many unknown names that nobody reads what each of them probably meant.
const MANY: usize = 50;

/// Reads an object; with `whole` what is required must be there. `place` gives the place of an item's path.
pub(super) fn read(
    schema: &Schema,
    object: &Value,
    whole: bool,
    place: &dyn Fn(&str) -> Option<Location>,
    diagnostics: &mut Diagnostics,
) -> Option<Config> {
    if object.is_too_deep() {
        diagnostics.push(Diagnostic::error("the configuration is nested too deeply"));
        return None;
    }
    let before = diagnostics.len();
    let reader = Reader { whole, place };
    let values = reader.fields(schema, object, "", diagnostics)?;
    let places = values.keys().filter_map(|name| Some((name.clone(), place(name)?))).collect();
    (diagnostics.len() == before).then_some(Config { values, places, exact: false })
}

struct Reader<'a> {
    /// What is required must be there.
    whole: bool,
    place: &'a dyn Fn(&str) -> Option<Location>,
}

impl Reader<'_> {
    /// The values of an object under the names of the schema; `inside` is the block it is, for messages.
    fn fields(
        &self,
        schema: &Schema,
        object: &Value,
        inside: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<BTreeMap<Arc<str>, Value>> {
        let Some(given) = object.as_map() else {
            let what = if inside.is_empty() { "the configuration".into() } else { format!("'{inside}'") };
            let d =
                Diagnostic::error(format!("{what} must be an object, not a {}", object.ty().friendly_name()));
            diagnostics.push(self.placed(d, inside));
            return None;
        };
        let mut values: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        for (key, value) in given {
            let Some((name, field)) = schema.field_ignoring_case(key) else {
                if !inside.is_empty() || !(&**key == "type" || key.starts_with("packer_")) {
                    let d = unknown_key(schema, inside, key, diagnostics.len() < MANY);
                    diagnostics.push(self.placed(d, &join(inside, key)));
                }
                continue;
            };
            // The exact name comes before one in another case.
            if value.is_null() || (**key != **name && values.contains_key(name)) {
                continue;
            }
            if let Some(value) = self.renamed(field, value, &join(inside, name), diagnostics) {
                values.insert(name.clone(), value);
            }
        }
        for (name, field) in &schema.fields {
            if self.whole && field.required && !values.contains_key(name) {
                let name = join(inside, name);
                let d = Diagnostic::error("Missing required argument")
                    .detail(format!("The argument \"{name}\" is required, but it is not set."));
                diagnostics.push(self.placed(d, inside));
            }
        }
        Some(values)
    }

    /// The value of a field, with the names of the schema in blocks.
    fn renamed(
        &self,
        field: &Field,
        value: &Value,
        path: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Value> {
        let (FieldKind::Block(schema) | FieldKind::Blocks(schema)) = &field.kind else {
            return Some(secret::marked(field, value.clone()));
        };
        let items = match value.data() {
            Data::List(_, items) | Data::Set(_, items) | Data::Tuple(items) => items.as_slice(),
            _ => std::slice::from_ref(value),
        };
        let objects: Option<Vec<Value>> = items
            .iter()
            .map(|item| self.fields(schema, item, path, diagnostics).map(Value::object))
            .collect();
        let objects = objects?;
        let read = match &field.kind {
            FieldKind::Blocks(_) => Some(Value::tuple(objects)),
            _ if objects.len() > 1 => {
                let d = Diagnostic::error(format!("'{path}' may be given only once"));
                diagnostics.push(self.placed(d, path));
                None
            }
            _ => objects.into_iter().next(),
        };
        read.map(|value| secret::marked(field, value))
    }

    fn placed(&self, d: Diagnostic, path: &str) -> Diagnostic {
        match (self.place)(path) {
            Some(place) => d.at(place),
            None => d,
        }
    }
}

fn unknown_key(schema: &Schema, inside: &str, key: &str, suggest: bool) -> Diagnostic {
    let path = join(inside, key);
    if FIXED.contains(&key) {
        return Diagnostic::error(format!("Deprecated configuration key: '{path}'"))
            .detail("`packer fix` brings a template up to date: call it on yours.");
    }
    let d = Diagnostic::error(format!("unknown configuration key: '\"{path}\"'"));
    match did_you_mean(key, schema.fields.keys().map(|name| &**name).filter(|_| suggest)) {
        Some(meant) => d.suggest(meant),
        None => d,
    }
}

fn join(inside: &str, name: &str) -> String {
    if inside.is_empty() { name.to_owned() } else { format!("{inside}.{name}") }
}
