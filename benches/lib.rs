//! Inputs of the benchmarks in `benches/`; `compare` sets whole programs side by side, `hcl_go` parsers and evaluators.

#![expect(clippy::panic, reason = "a benchmark stops at the first surprise")]

use packer_core::Diagnostics;
use packer_core::language::eval::Scope;
use packer_core::language::functions::{Capabilities, Functions};
use packer_core::language::syntax::File;
use packer_core::value::Value;

/// A template of about `bytes` bytes that looks like what people write: variables, locals, sources, provisioners.
pub fn realistic_template(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 2048);
    let mut i = 0;
    while text.len() < bytes {
        text.push_str(&format!(
            r#"
# Image number {i}
variable "region_{i}" {{
  type        = string
  default     = "eu-west-{i}"
  description = "Where image {i} is built."
}}

locals {{
  name_{i} = "web-${{var.region_{i}}}-${{formatdate("YYYYMMDD", "2026-01-02T03:04:05Z")}}"
  tags_{i} = {{
    Name  = local.name_{i}
    Count = {i} + 1
    Ports = [for p in [80, 443, 8080] : p + {i} if p > 80]
    Role  = {i} % 2 == 0 ? "even" : "odd"
  }}
}}

source "null" "image_{i}" {{
  communicator = "none"
  ssh_host     = "${{local.name_{i}}}.example.com"
  ssh_username = upper("admin_{i}")
}}
"#
        ));
        i += 1;
    }
    let names: Vec<String> = (0..i).map(|n| format!("\"null.image_{n}\"")).collect();
    text.push_str(&format!("\nbuild {{\n  sources = [{}]\n", names.join(", ")));
    text.push_str(
        r#"
  provisioner "shell-local" {
    environment_vars = ["NAME=${local.name_0}", "SOURCE=${source.name}"]
    inline = [
      "echo building ${source.type}.${source.name}",
      "echo ${jsonencode(local.tags_0)}",
    ]
  }
}
"#,
    );
    text
}

/// A template with this many `null` sources that one build uses.
pub fn many_sources(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        text.push_str(&format!("source \"null\" \"s{i}\" {{\n  communicator = \"none\"\n}}\n"));
    }
    let names: Vec<String> = (0..count).map(|n| format!("\"null.s{n}\"")).collect();
    text.push_str(&format!("build {{\n  sources = [{}]\n}}\n", names.join(", ")));
    text
}

/// What the expressions of a [`realistic_template`] refer to, as JSON; also `string`, the one type in it.
pub fn variables_of(template: &str) -> String {
    let images = template.matches("# Image number").count();
    let object = |entry: &dyn Fn(usize) -> String| (0..images).map(entry).collect::<Vec<_>>().join(", ");
    let regions = object(&|i| format!(r#""region_{i}": "eu-west-{i}""#));
    let names = object(&|i| format!(r#""name_{i}": "web-eu-west-{i}-20260102""#));
    let tags = r#"{"Name": "web-eu-west-0-20260102", "Count": 1, "Ports": [443, 8080], "Role": "even"}"#;
    format!(
        r#"{{"var": {{{regions}}}, "local": {{{names}, "tags_0": {tags}}}, "source": {{"type": "null", "name": "image_0"}}, "string": "string"}}"#
    )
}

/// A scope with the attributes of an object as variables, and the functions of the language.
pub fn scope_of(variables: &Value) -> Scope {
    let variables =
        variables.as_map().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
    Scope::new().with_functions(Functions::standard(), Capabilities::none()).with_variables(variables)
}

/// Evaluates every attribute of every block of a file, each by itself.
pub fn evaluate_all(file: &File, scope: &Scope, see: &mut dyn FnMut(Value)) {
    let mut diagnostics = Diagnostics::new();
    for attribute in file.body.all_attributes() {
        see(attribute.evaluate(scope, &mut diagnostics));
    }
    if !diagnostics.is_empty() {
        panic!("{diagnostics}");
    }
}
